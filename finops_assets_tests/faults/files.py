"""Mutated files and manifests: landed with exactly the sums of an independent reader, or refused with a sentence.

A child lands many, one after another, and tells of each; this process watches it, and goes on behind what hangs.
"""

from __future__ import annotations

import json
import math
import os
import queue
import random
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
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from finops_assets.base.errors import FinopsError
from finops_assets.ingest.landing import land_source
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets_tests.faults.manifests import OUTSIDE, mutate_manifest, outside
from finops_assets_tests.faults.mutations import Mutant, fault, land, mutant
from finops_assets_tests.faults.project import Fault
from finops_assets_tests.faults.table import Row
from finops_assets_tests.running import LAYOUTS, small_estate

HANG_SECONDS = 60.0
MOST_MEMORY = 2 << 30
BATCH = 100
"""Cases of one child."""
LEAST_SENTENCE = 20
"""Characters that a reason has at least."""
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
        for trial, found in row.faults:
            say(f"    {found.kind}: {trial}: {found.what}")
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

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    row, what = rows["files"], "start"
    try:
        while True:
            try:
                # Before the first case the child loads everything, on a machine that may be busy.
                line = lines.get(timeout=HANG_SECONDS if what != "start" else 10 * HANG_SECONDS)
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
        reader.join()
        if child.stdout:
            child.stdout.close()
        log.close()


# ---- the child ----


def _child(folder: Path, seed: int, first: int, end: int) -> None:
    beside = outside(folder / "beside")
    estates = _estates(folder / "estates")
    for case in range(first, end):
        place = folder / f"case-{case}"
        told: dict[str, Any] = {
            "row": "manifests" if case % MANIFEST_SHARE == 0 else "files",
            "case": case,
            "what": "?",
        }
        print(json.dumps(told), flush=True)
        if told["row"] == "manifests":
            told["what"], layout = _manifest_case(place, seed, case, estates, beside)
            print(json.dumps(told), flush=True)
            outcome, faults = _of_manifest(place, layout)
        else:
            made = mutant(seed, case)
            told["what"] = made.name
            print(json.dumps(told), flush=True)
            outcome, faults = _of_file(made, place)
        shutil.rmtree(place)
        told["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(told | {"outcome": outcome, "faults": [asdict(f) for f in faults]}), flush=True)


def _of_file(made: Mutant, place: Path) -> tuple[str, list[Fault]]:
    """What became of a mutated file, and what is wrong with that."""
    place.mkdir()
    try:
        landed = land(made, place)
    except FinopsError as error:
        return "refused", [] if len(str(error)) > LEAST_SENTENCE else [Fault("unclear", f"no sentence: {error}")]
    except Exception:
        return "traceback", [Fault("unclear", traceback.format_exc()[-900:])]
    found = fault(made, landed)
    states = {entry.state for entry in landed}
    return ("landed" if states == {"live"} else "refused"), [Fault("silent", found)] if found else []


def _estates(folder: Path) -> dict[str, Path]:
    """An export with manifests for each layout that has them."""
    small_estate(folder, date(2026, 9, 1), date(2026, 9, 2))
    return {layout: folder / "estate" / source for source, layout in LAYOUTS.items()}


def _manifest_case(
    place: Path, seed: int, case: int, estates: dict[str, Path], beside: tuple[Path, Path]
) -> tuple[str, str]:
    chance = random.Random(f"{seed} manifest {case}")
    layout = chance.choice(sorted(estates))
    shutil.copytree(estates[layout], place / "exports")
    return f"{layout}: {mutate_manifest(place / 'exports', chance, beside)}", layout


def _of_manifest(place: Path, layout: str) -> tuple[str, list[Fault]]:
    """What became of a delivery with a mutated manifest: whole, or refused; nothing from outside, nothing twice."""
    platform = Platform(
        parse_settings(
            "first_day: 2026-01-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
            f"sources: [{{name: one, uri: exports, layout: {layout}}}]\ndimensions: {{team: {{keys: [team]}}}}\n",
            place / "finops.yaml",
        )
    )
    settings = platform.settings
    try:
        entries = land_source(platform.lake, settings.engine, settings.source("one"), settings.first_day)
    except FinopsError as error:
        return "refused", [] if len(str(error)) > LEAST_SENTENCE else [Fault("unclear", f"no sentence: {error}")]
    except Exception:
        return "traceback", [Fault("unclear", traceback.format_exc()[-900:])]
    faults = []
    for entry in entries:
        if entry.state != "live" and len(entry.reason or "") < LEAST_SENTENCE:
            faults.append(Fault("unclear", f"no sentence: {entry.reason!r}"))
    landed = platform.lake.root / "landing"
    rows, strange, repeated = _rows_below(landed)
    if strange:
        faults.append(Fault("silent", f"{strange} rows from outside of the source's place"))
    if repeated:
        faults.append(Fault("doubled", f"{repeated} of {rows} rows are there twice"))
    if any(entry.state == "live" for entry in entries) and not rows:
        faults.append(Fault("lost", "a delivery is live and has no rows"))
    return ("landed" if all(entry.state == "live" for entry in entries) else "refused"), faults


def _rows_below(folder: Path) -> tuple[int, int, int]:
    """Rows of landed slices: all, those from outside of the source's place, those whose file and row stand twice."""
    slices = [str(path) for path in folder.rglob("*.parquet")]
    if not slices:
        return 0, 0, 0
    with duckdb.connect() as connection:
        [(rows, strange, distinct)] = connection.execute(
            "SELECT count(*), count(*) FILTER (BillingAccountId = ?), count(DISTINCT (source_file, source_row))"
            " FROM read_parquet(?, hive_partitioning = false, union_by_name = true)",
            [OUTSIDE, slices],
        ).fetchall()
    return rows, strange, rows - distinct


if __name__ == "__main__":
    _child(Path(sys.argv[1]), *(int(a) for a in sys.argv[2:5]))
