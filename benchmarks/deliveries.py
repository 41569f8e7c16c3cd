"""What deliveries cost: a look at which nothing is new, a restated month, a year's backfill.

`python -m benchmarks.deliveries`. Prints a table and writes JSON. The machine may be busy: compare ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
from rich.console import Console
from rich.table import Table

from benchmarks.attribution import describe_machine
from finops_assets.base.period import days_between
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.facts import build_facts
from finops_assets.definitions import build_definitions
from finops_assets.demo import Estate, EstateSpec
from finops_assets.graph.run_range import run_range
from finops_assets.ingest.landing import land_source, unknown_deliveries
from finops_assets.ingest.layouts import layouts
from finops_assets.ingest.raw_days import changed_days, compose_days
from finops_assets.platform import Platform
from finops_assets.settings.lake import LakeStore
from finops_assets.settings.load import parse_settings
from finops_assets.storage.remote_lake import RemoteLake, open_lake
from finops_assets.storage.stores.open import open_store
from finops_assets.storage.stores.store import Store
from finops_assets_tests.emulators import (
    Place,
    Unavailable,
    azure_place,
    azure_server,
    gcs_place,
    gcs_server,
    s3_place,
    s3_server,
)
from tools.results import write_results

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


def _span(months: int) -> tuple[date, date]:
    """The first and last day of so many months."""
    first = date(2024, 9, 1)
    number = first.month - 1 + months
    return first, date(first.year + number // 12, number % 12 + 1, 1) - timedelta(days=1)


def nothing_new(folder: Path, months: int = 24) -> dict[str, float]:
    """A tick over so many months of three sources, all of them landed."""
    first, last = _span(months)
    Estate(EstateSpec(first, last, 20 * (last - first).days), folder / "estate").deliver_all()
    platform = platform_at(folder, first)
    settings = platform.settings

    def look() -> None:
        for source in settings.sources:
            assert not unknown_deliveries(platform.lake, source, first)
            changed_days(platform.lake, source, first, datetime.now(UTC).date())

    for source in settings.sources:
        land_source(platform.lake, settings.engine, source, first)
        compose_days(platform.lake, settings.engine, source, days_between(first, last + timedelta(days=1)))
    first_look = timed(look)
    return {"first_look_s": first_look["wall_s"], **timed(look), "months": months, "sources": 3}


def requests(folder: Path, months: int = 24) -> dict[str, float | str]:
    """Requests of a look with nothing new, of three sources on each cloud's store; why, where one cannot be started."""
    first, last = _span(months)
    estate = folder / "estate"
    Estate(EstateSpec(first, last, 20 * (last - first).days), estate).deliver_all()
    results: dict[str, float | str] = {"months": months, "sources": 3}
    azurite = folder / "azurite"
    starts: dict[str, tuple[Callable[[], AbstractContextManager[str]], Callable[[str], Place]]] = {
        "s3": (s3_server, s3_place),
        "azure": (lambda: azure_server(azurite), azure_place),
        "gcs": (gcs_server, gcs_place),
    }
    for kind, (start, make) in starts.items():
        with ExitStack() as stack:
            try:
                place = make(stack.enter_context(start()))
            except Unavailable as reason:
                results[f"{kind} skipped"] = str(reason)
                continue
            stack.enter_context(patch.dict(os.environ, place.environment))
            place.put_folder(estate)
            results |= {f"{kind} {figure}": value for figure, value in _look_at(folder / kind, place, first).items()}
    return results


def _look_at(folder: Path, place: Place, first: date) -> dict[str, float]:
    """Land all three sources from a store, then look at them again."""
    platform = platform_at(folder, first)
    sources = [
        s.model_copy(update={"uri": f"{place.uri}/{s.name}", "endpoint_url": place.endpoint_url})
        for s in platform.settings.sources
    ]
    for source in sources:
        landed = land_source(platform.lake, platform.settings.engine, source, first)
        assert {g.state for g in landed} == {"live"}
    opened: list[Store] = []

    def counting(uri: str, endpoint_url: str | None = None) -> tuple[Store, str]:
        store, pattern = open_store(uri, endpoint_url)
        opened.append(store)
        return store, pattern

    def look() -> None:
        opened.clear()
        for source in sources:
            assert not unknown_deliveries(platform.lake, source, first)

    with patch.object(layouts, "open_store", counting):
        look()
        first_look = sum(store.requests for store in opened)
        wall = timed(look)["wall_s"]
    return {
        "requests a look": sum(store.requests for store in opened),
        **{f"requests a look, {s.name}": store.requests for s, store in zip(sources, opened)},
        "requests of the first look": first_look,
        "wall_s": wall,
    }


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
    changed = changed_days(platform.lake, source, first, date(2026, 10, 1))
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


def cold_start(folder: Path, rows_a_day: int, days: int) -> dict[str, float]:
    """A machine that has nothing yet on a year's lake in S3: its first look, its rollup and its first publishing."""
    first = date(2025, 10, 1)
    wanted = days_between(first, first + timedelta(days=days))
    Estate(EstateSpec(first, wanted[-1], rows_a_day * days), folder / "estate").deliver_all()
    made = platform_at(folder, first)
    settings = made.settings
    for source in settings.sources:
        land_source(made.lake, settings.engine, source, first)
        compose_days(made.lake, settings.engine, source, wanted)
    build_facts(made.lake, settings.engine, made.rules, made.source_names, wanted)
    with ExitStack() as stack:
        place = s3_place(stack.enter_context(s3_server()))
        stack.enter_context(patch.dict(os.environ, place.environment))
        place.put_folder(made.lake.root)
        shutil.rmtree(made.lake.root)
        lake = LakeStore(uri=place.uri, endpoint_url=place.endpoint_url)
        cold = Platform(settings.model_copy(update={"lake": lake, "warehouse": folder / "cold" / "w.duckdb"}))
        store = open_lake(lake, folder / "cold")
        assert isinstance(store, RemoteLake)
        results: dict[str, float] = {"days": days, "sources": len(settings.sources), "rows_a_day": rows_a_day}
        steps: tuple[tuple[str, Callable[[], Any]], ...] = (
            (
                "the first look",
                lambda: [unknown_deliveries(store.anew(), source, first) for source in settings.sources],
            ),
            ("rollup", lambda: build_rollup(store.anew(), cold.warehouse, cold.rules, cold.settings, wanted)),
            ("publishing", lambda: cold.warehouse.publish(store.anew(), cold.settings.dimensions)),
            ("publishing again", lambda: cold.warehouse.publish(store.anew(), cold.settings.dimensions)),
        )
        for name, work in steps:
            before = store.store.requests
            took = timed(work)
            results |= {f"{name}, requests": store.store.requests - before, f"{name}, cpu_s": took["cpu_s"]}
            results[f"{name}, wall_s"] = took["wall_s"]
        copied = sum(f.stat().st_size for f in store.root.rglob("*.parquet"))
        results["mb_fetched"] = copied / 1e6
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the restated month")
    parser.add_argument("--rows-a-day", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--only", help="one of the measurements; the others keep the figures that they have")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "deliveries.json")
    options = parser.parse_args()
    before = json.loads(options.output.read_text(encoding="utf-8")) if options.only and options.output.is_file() else {}
    results: dict[str, Any] = before | {"machine": describe_machine()}
    for name, work in (
        ("nothing new", nothing_new),
        ("nothing new on object stores", requests),
        ("restated", lambda folder: restated(folder, options.rows)),
        ("a year", lambda folder: year(folder, options.rows_a_day, options.days)),
        ("cold start", lambda folder: cold_start(folder, options.rows_a_day, options.days)),
    ):
        if options.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            results[name] = work(Path(folder))
        table = Table("figure", "value", title=name)
        for figure, value in results[name].items():
            table.add_row(
                figure,
                f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value,
            )
        Console().print(table)
        write_results(options.output, results)


if __name__ == "__main__":
    main()
