"""The platform's own steps, each on the state that the step before left, and the floor under them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from pathlib import Path

# DuckDB imports pandas when a table is first registered; here, so that it counts as start-up, not as work.
import pandas  # noqa: F401

from benchmarks.platform import DAYS, platform_at
from finops_assets.base.sql import literal
from finops_assets.cost.attribution.tag_sets import attribution
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.engines.duckdb_here import DuckDBHere
from finops_assets.cost.facts import build_facts
from finops_assets.cost.rollup import ROLLUP_TABLE, rollup_query
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.ingest.reading.export_table import all_columns
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.judge.gates.facts import judge_facts
from finops_assets.judge.gates.raw import judge_raw
from finops_assets.judge.gates.rollup import judge_rollup
from finops_assets.judge.gates.verdict import Verdict
from finops_assets.platform import Platform
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.duck import ROW_GROUP_ROWS, connect
from finops_assets.storage.lake import Lake


def raw(folder: str, name: str = "ours") -> None:
    """Landing: the export split into raw days."""
    _raw(platform_at(Path(folder), name))


def facts(folder: str, name: str = "ours") -> None:
    """Facts of every day, tag sets resolved for the first time."""
    _facts(platform_at(Path(folder), name))


def rollup(folder: str, name: str = "ours") -> None:
    """The rollup of every day."""
    _rollup(platform_at(Path(folder), name))


def gates(folder: str, name: str = "ours") -> None:
    """All gates on all three."""
    platform = platform_at(Path(folder), name)
    _passed(judge_raw(platform, platform.settings.sources[0], DAYS))
    _passed(judge_facts(platform, platform.keys(DAYS)))
    _passed(judge_rollup(platform, DAYS))


def everything(folder: str, name: str = "ours") -> None:
    """A whole run in one process, gates between the steps as in the asset graph."""
    platform = platform_at(Path(folder), name)
    _raw(platform)
    _passed(judge_raw(platform, platform.settings.sources[0], DAYS))
    _facts(platform)
    _passed(judge_facts(platform, platform.keys(DAYS)))
    _rollup(platform)
    _passed(judge_rollup(platform, DAYS))


def floor(folder: str) -> None:
    """Read the raw days and write facts files without attribution: what no way of attributing can go below."""
    base = Path(folder)
    platform = platform_at(base)
    _copy_days(platform.settings.engine, platform.lake, base / "floor")


def late_facts(folder: str) -> None:
    """Facts with tag_set_id only: the tag sets are resolved, the dimensions stay outside."""
    base = Path(folder)
    platform = platform_at(base)
    attribution(platform.lake, platform.rules, platform.source_names)
    _copy_days(platform.settings.engine, platform.lake, base / "late")


def late_rollup(folder: str) -> None:
    """The rollup of facts that carry tag_set_id only, joined to their dimensions as it is queried."""
    _late_rollup(Path(folder), platform_at(Path(folder)))


def stored_rule_change(folder: str, alias: str) -> None:
    """New rules where dimensions are stored: resolve, write the facts anew, roll up."""
    platform = platform_at(Path(folder), extra_alias=alias)
    _facts(platform)
    _rollup(platform)


def late_rule_change(folder: str, alias: str) -> None:
    """New rules where dimensions are joined late: resolve, roll up."""
    _late_rollup(Path(folder), platform_at(Path(folder), extra_alias=alias))


def prepare_double(folder: str) -> None:
    """A second lake with the same raw days, money as DOUBLE."""
    base = Path(folder)
    ours, double = platform_at(base), platform_at(base, "double")
    money = [c.name for c in all_columns() if c.type == "decimal"]
    replaced = ", ".join(f"CAST({name} AS DOUBLE) AS {name}" for name in money)
    shutil.copytree(ours.lake.root / "ledger", double.lake.root / "ledger")
    shutil.copytree(
        ours.lake.root / "tag_sets", double.lake.root / "tag_sets", ignore=shutil.ignore_patterns("rules=*")
    )
    with ours.lake.workspace() as spill, connect(ours.settings.engine, spill) as connection:
        for day in DAYS:
            target = double.lake.day_file("raw", "aws", day)
            target.parent.mkdir(parents=True)
            source = literal(str(ours.lake.day_file("raw", "aws", day)))
            connection.execute(
                f"COPY (SELECT * REPLACE ({replaced}) FROM read_parquet({source}, hive_partitioning = false))"
                f" TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
            )


def totals(folder: str, name: str = "ours") -> dict[str, int | str]:
    """What the rollup sums to."""
    with platform_at(Path(folder), name).warehouse.reading() as connection:
        [(rows, billed, effective, untagged, resources, groups)] = connection.execute(
            "SELECT sum(row_count), sum(billed_cost), sum(effective_cost), sum(untagged_rows), sum(resource_count),"
            f" count(*) FROM {ROLLUP_TABLE}"
        ).fetchall()
    return {
        "rows": int(rows),
        "billed": str(Decimal(billed)),
        "effective": str(Decimal(effective)),
        "untagged_rows": int(untagged),
        "resources": int(resources),
        "groups": int(groups),
    }


def tag_sets(folder: str) -> int:
    """How many distinct tag sets the register holds."""
    platform = platform_at(Path(folder))
    return int(attribution(platform.lake, platform.rules, platform.source_names).num_rows)


def _raw(platform: Platform) -> None:
    settings, source = platform.settings, platform.settings.sources[0]
    for generation in land_source(platform.lake, settings.engine, source, settings.first_day):
        if generation.state != "live":
            raise RuntimeError(f"not landed: {generation.reason}")
    compose_days(platform.lake, settings.engine, source, DAYS)


def _facts(platform: Platform) -> None:
    built = build_facts(platform.lake, platform.settings.engine, platform.rules, platform.source_names, DAYS)
    if [day.written for day in built] != [True] * len(DAYS):
        raise RuntimeError(f"not every day was written: {built}")


def _rollup(platform: Platform) -> None:
    build_rollup(platform.lake, platform.warehouse, platform.rules, platform.settings, DAYS)


def _passed(verdicts: list[Verdict]) -> None:
    failed = [f"{v.day} {v.gate}: {v.message}" for v in verdicts if v.holds]
    if failed or not verdicts:
        raise RuntimeError(f"gates that do not pass: {failed[:3]}")


def _copy_days(engine: EngineSettings, lake: Lake, target: Path) -> None:
    """The raw days' FOCUS columns, tag_set_id and origin, two days at a time as build_facts does it."""
    columns = ", ".join([*(c.name for c in all_columns()), "tag_set_id", SOURCE_FILE, SOURCE_ROW])
    with lake.workspace() as spill, connect(engine, spill) as connection:

        def copy(day: date) -> None:
            file = _day(target, day)
            file.parent.mkdir(parents=True)
            raw_day = literal(str(lake.day_file("raw", "aws", day)))
            with connection.cursor() as cursor:
                cursor.execute(
                    f"COPY (SELECT {columns} FROM read_parquet({raw_day}, hive_partitioning = false))"
                    f" TO {literal(str(file))} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
                )

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(copy, DAYS))


def _late_rollup(base: Path, platform: Platform) -> None:
    rules, engine = platform.rules, platform.settings.engine
    resolved = attribution(platform.lake, rules, platform.source_names)
    warehouse = platform_at(base, "late").warehouse
    with warehouse.writing() as connection:
        connection.execute("SET memory_limit = ?", [engine.memory_limit.replace(" ", "")])
        connection.register("resolved", resolved)
        connection.execute("CREATE TEMP TABLE attribution AS SELECT * FROM resolved")
        for days in _chunks(base):
            relation = facts_relation([_day(base / "late", day) for day in days])
            joined = f"(SELECT * FROM {relation} LEFT JOIN attribution USING (tag_set_id))"
            warehouse.replace_days(
                connection, ROLLUP_TABLE, days, rollup_query(rules, joined, {"aws": "AWS"}), rules.dimensions
            )


def _chunks(base: Path) -> Iterator[list[date]]:
    """Days in runs of about as many rows as build_rollup takes at once."""
    lake = platform_at(base).lake
    records = [lake.read_record("aws", "days", day.isoformat()) for day in DAYS]
    rows = sum(record["totals"]["rows"] for record in records if record)
    step = max(1, len(DAYS) * DuckDBHere.rows_at_once // max(rows, 1))
    for start in range(0, len(DAYS), step):
        yield DAYS[start : start + step]


def _day(root: Path, day: date) -> Path:
    return root / "source=aws" / f"charge_date={day}" / "data.parquet"
