"""What deliveries cost: a look at which nothing is new, a restated month, a year's backfill.

`python -m benchmarks.deliveries`. Prints a table and writes JSON. The machine may be busy: compare ratios.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.table import Table

from benchmarks.attribution import describe_machine
from finops_assets.days import changed_days, compose_days
from finops_assets.definitions import build_definitions
from finops_assets.engine import days_between
from finops_assets.estate import Estate, EstateSpec
from finops_assets.facts import build_facts
from finops_assets.landing import land_source, unknown_deliveries
from finops_assets.platform import Platform
from finops_assets.rollup import build_rollup
from finops_assets.runs import run_range
from finops_assets.settings import parse_settings

LAYOUTS = {"aws": "aws-data-exports", "azure": "azure-exports", "gcp": "gcs-export"}


def platform_at(folder: Path, first_day: date, sources: tuple[str, ...] = tuple(LAYOUTS)) -> Platform:
    listed = "".join(f"  - {{name: {s}, uri: estate/{s}, layout: {LAYOUTS[s]}}}\n" for s in sources)
    text = (
        f"first_day: {first_day}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nsources:\n{listed}"
        "dimensions:\n  department: {keys: [department, dept, business_unit]}\n  team: {keys: [team, squad, owner_team]}\n"
        "  environment: {keys: [environment, env, stage]}\n"
    )
    return Platform(parse_settings(text, folder / "finops.yaml"))


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Wall and CPU seconds of this process for a piece of work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def nothing_new(folder: Path, months: int = 24) -> dict[str, float]:
    """A tick over so many months of three sources, all of them landed."""
    first = date(2024, 9, 1)
    last = (first + timedelta(days=31 * months)).replace(day=1) - timedelta(days=1)
    Estate(EstateSpec(first, last, 20 * (last - first).days), folder / "estate").deliver_all()
    platform = platform_at(folder, first)
    settings = platform.settings

    def look() -> None:
        for source in settings.sources:
            assert not unknown_deliveries(platform.lake, source, first)
            changed_days(platform.lake, source.name, first, datetime.now(UTC).date())

    for source in settings.sources:
        land_source(platform.lake, settings.engine, source, first)
        compose_days(platform.lake, settings.engine, source, days_between(first, last + timedelta(days=1)))
    first_look = timed(look)
    return {"first_look_s": first_look["wall_s"], **timed(look), "months": months, "sources": 3}


def restated(folder: Path, rows: int) -> dict[str, float]:
    """A month delivered again with three days restated, against loading it anew."""
    first, last = date(2026, 9, 1), date(2026, 9, 30)
    estate = Estate(EstateSpec(first, last, rows * 10 // 4), folder / "estate")  # aws has 40 % of an estate's rows
    platform = platform_at(folder, first, ("aws",))
    [source], settings = platform.settings.sources, platform.settings

    def land() -> None:
        land_source(platform.lake, settings.engine, source, first)

    def days(which: list[date]) -> None:
        compose_days(platform.lake, settings.engine, source, which)
        build_facts(platform.lake, settings.engine, platform.rules, ["aws"], which)
        build_rollup(platform.lake, platform.warehouse, platform.rules, settings, which)

    estate.deliver("aws", "2026-09")
    whole = timed(land), timed(lambda: days(days_between(first, last + timedelta(days=1))))
    restate = {date(2026, 9, d): Decimal("1.1") for d in (5, 12, 20)}
    estate.deliver("aws", "2026-09", generation=2, restate=restate)
    again = timed(land)
    changed = changed_days(platform.lake, "aws", first, date(2026, 10, 1))
    assert changed == sorted(restate)
    three = timed(lambda: days(changed))
    return {
        "rows": rows,
        "landing_cpu_s": whole[0]["cpu_s"],
        "all_days_cpu_s": whole[1]["cpu_s"],
        "landing_again_cpu_s": again["cpu_s"],
        "three_days_cpu_s": three["cpu_s"],
        "days_ratio": three["cpu_s"] / whole[1]["cpu_s"],
        "all_ratio": (again["cpu_s"] + three["cpu_s"]) / (whole[0]["cpu_s"] + whole[1]["cpu_s"]),
    }


def year(folder: Path, rows_a_day: int, days: int) -> dict[str, float]:
    """A backfill of a year through Dagster, in runs of a month; what it takes without Dagster beside it."""
    first = date(2025, 10, 1)
    end = first + timedelta(days=days)
    Estate(EstateSpec(first, end - timedelta(days=1), rows_a_day * days), folder / "estate").deliver_all()
    platform = platform_at(folder, first)
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        defs = build_definitions(platform.settings)
        through = timed(lambda: run_range(defs, instance, days_between(first, end)))
        log = sum(f.stat().st_size for f in (folder / "history").rglob("*.db"))
    shutil.rmtree(folder / "lake")
    Path(folder / "w.duckdb").unlink()
    wanted, settings = days_between(first, end), platform.settings

    def own() -> None:
        for source in settings.sources:
            land_source(platform.lake, settings.engine, source, first)
            compose_days(platform.lake, settings.engine, source, wanted)
        build_facts(platform.lake, settings.engine, platform.rules, platform.source_names, wanted)
        build_rollup(platform.lake, platform.warehouse, platform.rules, settings, wanted)

    alone = timed(own)
    return {
        "days": days,
        "rows_a_day": rows_a_day,
        "wall_s": through["wall_s"],
        "s_a_day": through["wall_s"] / days,
        "share_outside_percent": 100 * (1 - alone["wall_s"] / through["wall_s"]),
        "event_log_mb": log / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the restated month")
    parser.add_argument("--rows-a-day", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "deliveries.json")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": describe_machine()}
    for name, work in (
        ("nothing new", nothing_new),
        ("restated", lambda folder: restated(folder, options.rows)),
        ("a year", lambda folder: year(folder, options.rows_a_day, options.days)),
    ):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            results[name] = work(Path(folder))
        table = Table("figure", "value", title=name)
        for figure, value in results[name].items():
            table.add_row(figure, f"{value:,.3f}" if isinstance(value, float) else f"{value:,}")
        Console().print(table)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
