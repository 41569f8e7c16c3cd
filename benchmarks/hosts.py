"""What two hosts gain over one where a night's bills are landed: `python -m benchmarks.hosts`.

A host is a process that has one core of this machine and its own scratch; all share the lake's folder, as on a network
file system, and each lands and composes the sources that it was given (docs/guides/deployment.md). Facts and rollup, which
Dagster's pool lets one host at a time build, are one host's work. Two machines would have two disks' caches and two memories besides; what this
shows is what dividing by sources leaves to wait for. Needs two idle cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.attribution import describe_machine
from benchmarks.child import Measured, measure
from benchmarks.platform import DAYS, FIRST_DAY, PERIOD, configuration
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.facts import build_facts
from finops_assets.demo import Estate, EstateSpec
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.platform import Platform
from finops_assets.settings.sources import Source
from tools.results import write_results

RESULTS = Path(__file__).parent / "results" / "hosts.json"
SOURCES = ("aws", "azure", "gcp")
DIVIDED = (("azure",), ("aws", "gcp"))
"""By host: text packed by gzip costs several times what Parquet costs."""


def deliver(folder: str, rows: str) -> dict[str, int]:
    """One billing period of three sources."""
    with Estate(EstateSpec(FIRST_DAY, DAYS[-1], int(rows)), Path(folder) / "estate") as estate:
        for source in SOURCES:
            estate.deliver(source, PERIOD)
        return {source: totals[0] for source, totals in estate.totals().items()}


def platform_of(folder: Path, name: str) -> Platform:
    """The repository's own configuration with the three sources, its state in `folder/name`."""
    estate, settings = folder / "estate", configuration()
    sources = (
        Source(name="aws", uri=str(estate / "aws"), layout="aws-data-exports", provider="AWS"),
        Source(name="azure", uri=str(estate / "azure"), layout="azure-exports", provider="Microsoft"),
        Source(name="gcp", uri=str(estate / "gcp"), layout="gcs-export", provider="Google Cloud"),
    )
    places = {"lake": folder / name / "lake", "warehouse": folder / name / "warehouse.duckdb"}
    changes = {"first_day": FIRST_DAY, "sources": sources, "published": folder / name / "published.duckdb", **places}
    return Platform(settings.model_copy(update=changes))


def host(folder: str, name: str, core: str, sources: str) -> dict[str, Any]:
    """Land and compose these sources on one core."""
    os.sched_setaffinity(0, {int(core)})
    p = platform_of(Path(folder), name)
    bounds = p.settings.engine.model_copy(update={"threads": 1})
    for source in (s for s in p.settings.sources if s.name in sources.split(",")):
        [entry] = land_source(p.lake, bounds, source, FIRST_DAY)
        if entry.state != "live":
            raise RuntimeError(f"not landed: {entry.reason}")
        compose_days(p.lake, bounds, source, DAYS)
    return {}


def build(folder: str, name: str, core: str) -> dict[str, Any]:
    """Facts and rollup of all sources on one core; what they came to, to be compared."""
    os.sched_setaffinity(0, {int(core)})
    p = platform_of(Path(folder), name)
    settings = p.settings.model_copy(update={"engine": p.settings.engine.model_copy(update={"threads": 1})})
    build_facts(p.lake, settings.engine, p.rules, p.source_names, DAYS)
    build_rollup(p.lake, p.warehouse, p.rules, settings, DAYS)
    with p.warehouse.reading() as connection:
        found = connection.execute(
            "SELECT CAST(sum(row_count) AS BIGINT), CAST(sum(effective_cost) AS VARCHAR), CAST(sum(hash(daily_cost_by_team)) AS VARCHAR)"
            " FROM daily_cost_by_team"
        ).fetchone()
    return {"found": [str(value) for value in found or ()]}


def run(console: Console, folder: Path, name: str, divided: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    """A night with the sources divided so among hosts, each with a core of its own."""
    with console.status(f"{len(divided)} host(s)"):
        begun = time.perf_counter()
        with ThreadPoolExecutor(len(divided)) as pool:
            hosts: list[Measured] = list(
                pool.map(
                    lambda at: measure("hosts:host", str(folder), name, at[0], ",".join(at[1])), enumerate(divided)
                )
            )
        landed = time.perf_counter() - begun
        built = measure("hosts:build", str(folder), name, 0)
    return {
        "hosts": [{"sources": list(sources), **taken.as_json()} for sources, taken in zip(divided, hosts)],
        "landed_wall_s": landed,
        "built_wall_s": built.wall,
        "wall_s": landed + built.wall,
        "cpu_s": sum(taken.cpu for taken in (*hosts, built)),
        "found": built.result["found"],
    }


def main() -> None:
    """Run, print, write the results file."""
    parser = argparse.ArgumentParser(prog="benchmarks.hosts", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of all three sources together")
    parser.add_argument("--folder", type=Path, help="where to work; removed afterwards")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the results file")
    options = parser.parse_args()
    console = Console(width=max(100, Console().width))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="finops-bench-", dir=options.folder)))
        with console.status("writing the exports"):
            rows = measure("hosts:deliver", str(folder), options.rows).result
        # Once before, unmeasured: the first reads the exports from the disk.
        run(console, folder, "warm", DIVIDED)
        shutil.rmtree(folder / "warm")
        one = run(console, folder, "one", (tuple(s for sources in DIVIDED for s in sources),))
        two = run(console, folder, "two", DIVIDED)
    if one["found"] != two["found"]:
        raise RuntimeError(f"one host and two differ: {one['found']}, {two['found']}")
    gains = {"landing": "landed_wall_s", "with facts and rollup": "wall_s"}
    found = {
        "machine": describe_machine(),
        "rows": rows,
        "one": one,
        "two": two,
        "gains": {name: one[unit] / two[unit] for name, unit in gains.items()},
    }
    write_results(options.output, found)
    for name, gain in found["gains"].items():
        console.print(f"two hosts over one, {name}: {gain:.2f} times")
    console.print(f"CPU: {one['cpu_s']:.1f} s on one, {two['cpu_s']:.1f} s on two")


if __name__ == "__main__":
    main()
