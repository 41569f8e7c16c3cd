"""Mutated files and manifests: landed with exactly the sums of an independent reader, or refused with a sentence.

A child lands many, one after another, and tells of each; this process watches it, and goes on behind what hangs.
"""

from __future__ import annotations

import json
import math
import os
import queue
import resource
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from finops_assets_tests.faults.project import Fault
from finops_assets_tests.faults.table import Row

HANG_SECONDS = 60.0
MOST_MEMORY = 2 << 30
BATCH = 100
"""Cases of one child."""
MANIFEST_SHARE = 5
"""One case in so many is a manifest."""


def files(
    scratch: Path,
    seed: int,
    number: int,
    say: Callable[[str], None] = print,
    first: int = 0,
    until: float = math.inf,
) -> list[Row]:
    """So many cases, or as many as fit until a moment of the monotonic clock; a row for data files, one for manifests."""
    rows = {"files": Row("mutated CSV, CSV.gz and Parquet files, hostile names"), "manifests": Row("mutated manifests")}
    outcomes: Counter[str] = Counter()
    at, end = first, first + number
    while at < end and time.monotonic() < until:
        at = _watch(scratch, seed, at, min(end, at + BATCH), rows, outcomes)
    for name, row in rows.items():
        row.figures = {k.partition(" ")[2]: n for k, n in sorted(outcomes.items()) if k.startswith(name)}
        say(f"{row.name}: {row.tried:,} tried, {len(row.faults)} found; {row.figures}")
        for trial, fault in row.faults:
            say(f"    {fault.kind}: {trial}: {fault.what}")
    return list(rows.values())


def _watch(scratch: Path, seed: int, at: int, end: int, rows: dict[str, Row], outcomes: Counter[str]) -> int:
    """One child over cases from `at`; returns where the next one begins."""
    shutil.rmtree(scratch / "files", ignore_errors=True)
    (scratch / "files").mkdir(parents=True)
    log = (scratch / "files.log").open("w+")
    child = subprocess.Popen(
        [sys.executable, "-m", "finops_assets_tests.faults.files", str(scratch / "files"), str(seed), str(at), str(end)],
        stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert child.stdout
        for line in child.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    row, what = rows["files"], "start"
    try:
        while True:
            try:
                line = lines.get(timeout=HANG_SECONDS)
            except queue.Empty:
                row.add(f"case {at}, seed {seed}: {what}", [Fault("hung", f"nothing for {HANG_SECONDS:.0f} s")])
                return at + 1
            if line is None:
                if at < end:
                    log.seek(0)
                    if what == "start":
                        raise RuntimeError(f"no case could be tried: {log.read()[-2000:]}")
                    died = f"the process died with {child.wait()}: {log.read()[-600:]}"
                    row.add(f"case {at}, seed {seed}: {what}", [Fault("unclear", died)])
                    return at + 1
                return at
            told = json.loads(line)
            row, what = rows[told["row"]], told["what"]
            if "outcome" not in told:
                continue
            row.add(f"case {told['case']}, seed {seed}: {what}", [Fault(**f) for f in told["faults"]])
            outcomes[f"{told['row']} {told['outcome']}"] += 1
            at = told["case"] + 1
            if told["memory"] > MOST_MEMORY:
                row.faults.append((f"case {told['case']}", Fault("unclear", f"{told['memory'] >> 20} MB of memory")))
                return at
    finally:
        child.kill()
        child.wait()
        log.close()


# ---- the child ----


def _child(folder: Path, seed: int, first: int, end: int) -> None:
    from finops_assets_tests.faults import mutated

    beside = mutated.outside(folder / "beside")
    estates = _estates(folder / "estates") if end - first >= MANIFEST_SHARE else {}
    for case in range(first, end):
        manifest = bool(estates) and case % MANIFEST_SHARE == 0
        row = "manifests" if manifest else "files"
        place = folder / f"case-{case}"
        print(json.dumps({"row": row, "case": case, "what": "being made"}), flush=True)
        if manifest:
            what, layout, allowed = _manifest_case(place, seed, case, estates, beside)
        else:
            made = mutated.plain_case(place / "exports", seed, case)
            what, layout, allowed = made.what, "files", made.sums
        print(json.dumps({"row": row, "case": case, "what": what}), flush=True)
        outcome, faults = _land(place, layout, allowed)
        shutil.rmtree(place)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(
            json.dumps({"row": row, "case": case, "what": what, "outcome": outcome, "memory": memory,
                        "faults": [asdict(f) for f in faults]}),
            flush=True,
        )  # fmt: skip


def _estates(folder: Path) -> dict[str, Path]:
    """An export with manifests for each layout that has them."""
    from finops_assets_tests.running import LAYOUTS, small_estate

    small_estate(folder, date(2026, 9, 1), date(2026, 9, 2))
    return {layout: folder / "estate" / source for source, layout in LAYOUTS.items()}


def _manifest_case(
    place: Path, seed: int, case: int, estates: dict[str, Path], beside: tuple[Path, Path]
) -> tuple[str, str, None]:
    import random

    from finops_assets_tests.faults.mutated import mutate_manifest

    chance = random.Random(f"{seed} manifest {case}")
    layout = chance.choice(sorted(estates))
    shutil.copytree(estates[layout], place / "exports")
    return f"{layout}: {mutate_manifest(place / 'exports', chance, beside)}", layout, None


def _land(place: Path, layout: str, wanted: dict[date, tuple[int, Decimal, Decimal]] | None) -> tuple[str, list[Fault]]:
    """Land, compose and judge; what became of it, and what is wrong with that."""
    import duckdb

    from finops_assets.days import compose_days
    from finops_assets.engine import literal
    from finops_assets.errors import FinopsError
    from finops_assets.gates.raw import judge_raw
    from finops_assets.landing import land_source
    from finops_assets.platform import Platform
    from finops_assets.settings import parse_settings
    from finops_assets_tests.faults.mutated import OUTSIDE

    days = [date(2026, 9, 1) + timedelta(days=n) for n in range(4)]
    text = (
        f"first_day: 2026-01-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nengine: {{threads: 1}}\n"
        f"sources: [{{name: one, uri: exports, layout: {layout}}}]\ndimensions: {{team: {{keys: [team]}}}}\n"
    )
    platform = Platform(parse_settings(text, place / "finops.yaml"))
    source = platform.settings.source("one")
    try:
        entries = land_source(platform.lake, platform.settings.engine, source, platform.settings.first_day)
        compose_days(platform.lake, platform.settings.engine, source, days)
        verdicts = [v for v in judge_raw(platform, source, days) if v.holds]
    except FinopsError as error:
        said = str(error)
        return "refused", [] if len(said) > 20 else [Fault("unclear", f"no sentence: {said!r}")]
    except Exception:
        return "traceback", [Fault("unclear", traceback.format_exc()[-900:])]
    faults = [
        Fault("unclear", f"no sentence: {entry.reason!r}")
        for entry in entries
        if entry.state != "live" and len(entry.reason or "") < 20
    ]
    found: dict[date, tuple[int, Decimal, Decimal]] = {}
    for day in days:
        file = platform.lake.day_file("raw", "one", day)
        if not file.is_file():
            continue
        with duckdb.connect() as connection:
            query = (
                "SELECT count(*), coalesce(sum(BilledCost), 0), coalesce(sum(coalesce(EffectiveCost, BilledCost)), 0),"
                f" count(*) FILTER (BillingAccountId = '{OUTSIDE}')"
                f" FROM read_parquet({literal(str(file))}, hive_partitioning = false)"
            )
            [(rows, billed, effective, strange)] = connection.execute(query).fetchall()
        if strange:
            faults.append(Fault("silent", f"{strange} rows from outside of the source's place"))
        if rows:
            found[day] = (rows, Decimal(billed), Decimal(effective))
    held = {verdict.day for verdict in verdicts}
    states = {entry.state for entry in entries}
    if not entries:
        # Nothing that a reader could find may be passed over without a word.
        if wanted:
            faults.append(Fault("lost", "a file that can be read is not seen at all"))
        return "not seen", faults
    if states & {"refused", "waiting"}:
        if wanted and layout == "files" and all(e.state != "live" for e in entries):
            return "refused although readable", faults
        return "refused", faults
    if layout != "files":
        return ("held" if held else "landed"), faults
    if wanted is None:
        return ("landed and held" if held else "landed, not to be judged"), faults
    for day in days:
        if day in held and day in wanted:
            continue
        if found.get(day) != wanted.get(day):
            rows, true = found.get(day, (0,))[0], wanted.get(day, (0,))[0]
            kind = "lost" if rows < true else "doubled" if rows > true else "silent"
            faults.append(Fault(kind, f"{day}: landed {found.get(day)}, an independent reader has {wanted.get(day)}"))
    return ("landed and held" if held & set(wanted) else "landed exactly"), faults


if __name__ == "__main__":
    _child(Path(sys.argv[1]), *(int(a) for a in sys.argv[2:5]))
