"""cloud_cost_facts: every raw row of a day, once, with its dimensions and the tag key that gave each."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.attribution.rules import Rules
from finops_assets.attribution.tag_sets import attribution
from finops_assets.engine import connect, identifier, literal
from finops_assets.lake import Lake, LakeChanged
from finops_assets.ledger import Ledger
from finops_assets.settings import Engine
from finops_assets.sources.reading import SOURCE_FILE, SOURCE_ROW, all_columns

# Two days are written at a time by several threads; larger row groups of 80 columns would not fit the engine's memory.
ROW_GROUP_ROWS = 30_720


@dataclass(frozen=True)
class FactsDay:
    """What building one (day, source) came to; `written` is false where the file already was what it would be."""

    source: str
    day: date
    written: bool


def build_facts(
    lake: Lake,
    engine: Engine,
    rules: Rules,
    sources: Iterable[str],
    days: Iterable[date],
    shadows: Iterable[str] = (),
) -> list[FactsDay]:
    """Attribute the raw files of these days, one facts file per (day, source), replaced as a whole.

    `shadows` are sources whose cost does not count: what they have in the facts of these days, from when it
    did, is removed.

    A file is left alone when the raw day and the rules are those that it was built from.
    A source that has no raw file for a day (a new one, not required) has no facts file for it either.
    """
    sources, wanted = list(sources), sorted(days)
    for file in [lake.day_file("facts", shadow, day) for shadow in shadows for day in wanted]:
        if lake.holds(file):
            lake.remove(file)
    # In this order: facts may be newer than their stamp says, and are then built again, but never older.
    everything = [(s, d) for d in wanted for s in sources]
    there = set(lake.day_files("facts", sources, wanted))
    built = {key: _stamp_of(file) if (file := lake.day_file("facts", *key)) in there else None for key in everything}
    stamps = {(s, d): facts_stamp(lake, rules, s, d) for s, d in everything}
    work = [key for key in everything if lake.holds(lake.day_file("raw", *key))]
    stale = [key for key in work if built[key] != stamps[key]]
    if stale:
        lake.fetch([lake.day_file("raw", *key) for key in stale])
        resolved = attribution(lake, rules, sorted({s for s, _ in stale}))
        with lake.workspace() as workspace, connect(engine, workspace / "spill") as connection:
            _load(connection, resolved)

            def build(key: tuple[str, date]) -> None:
                with connection.cursor() as cursor:
                    _build_day(cursor, lake, rules, *key, stamps[key])

            # Small days are bound by latency, not by the processor: two at a time fill it.
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(build, stale))
    return [FactsDay(s, d, (s, d) in set(stale)) for s, d in work]


def facts_stamp(lake: Lake, rules: Rules, source: str, day: date) -> str:
    """What a facts file is built from: the content of the raw day and the version of the rules."""
    totals = Ledger(lake, source).day_totals(day)
    return f"{rules.version} {totals.fingerprint if totals else 'unknown'}"


def facts_rules(file: Path) -> str | None:
    """The version of the rules that a facts file was attributed with."""
    stamp = _stamp_of(file)
    return stamp.partition(" ")[0] if stamp else None


def _stamp_of(file: Path) -> str | None:
    stamp = (pq.read_metadata(file).metadata or {}).get(b"finops_stamp")
    return stamp.decode() if stamp else None


def _load(connection: duckdb.DuckDBPyConnection, resolved: pa.Table) -> None:
    connection.register("resolved_arrow", resolved)
    connection.execute("CREATE OR REPLACE TABLE attribution AS SELECT * FROM resolved_arrow")
    connection.unregister("resolved_arrow")


def facts_query(rules: Rules, raw: str, attribution_table: str) -> str:
    """SQL: raw rows joined to the dimension of their tag sets. One row out for each row in."""
    focus = ", ".join(f"r.{column.name}" for column in all_columns())
    dimensions = ", ".join(f"a.{identifier(d)}, a.{identifier(f'{d}_key')}" for d in rules.dimensions)
    return f"""
        SELECT {focus}, {dimensions}, r.tag_set_id, r.{SOURCE_FILE}, r.{SOURCE_ROW}
        FROM {raw} AS r
        LEFT JOIN {attribution_table} AS a ON r.tag_set_id = a.tag_set_id
    """


def _build_day(cursor: duckdb.DuckDBPyConnection, lake: Lake, rules: Rules, source: str, day: date, stamp: str) -> None:
    raw = f"read_parquet({literal(str(lake.day_file('raw', source, day)))}, hive_partitioning = false)"
    target = lake.day_file("facts", source, day)
    try:
        with lake.replacing(target) as temporary:
            cursor.execute(
                f"COPY ({facts_query(rules, raw, 'attribution')}) TO {literal(str(temporary))}"
                f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS}, KV_METADATA {{finops_stamp: {literal(stamp)}}})"
            )
    except LakeChanged:
        # Another machine that built the same day from the same rows and rules has done the work.
        if [_stamp_of(file) for file in lake.anew().fetch([target])] != [stamp]:
            raise


def facts_relation(files: list[Path]) -> str:
    """SQL: facts files as one relation with source and charge_date from their folders."""
    return _hive(files)


def raw_relation(files: list[Path]) -> str:
    """SQL: raw files as one relation with source and charge_date from their folders."""
    return _hive(files, union_by_name=True)


def _hive(files: list[Path], union_by_name: bool = False) -> str:
    listed = ", ".join(literal(str(f)) for f in files)
    union = ", union_by_name = true" if union_by_name else ""
    return (
        f"read_parquet([{listed}], hive_partitioning = true,"
        f" hive_types = {{'source': VARCHAR, 'charge_date': DATE}}{union})"
    )
