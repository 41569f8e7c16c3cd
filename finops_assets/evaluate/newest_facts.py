"""The facts of the newest days, for what looks at single charges anew every night: those alone whose cost is in the rollup."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import duckdb

from finops_assets.base.period import Period
from finops_assets.base.sql import identifier, literal
from finops_assets.cost.coverage import BUILT, PREVIOUS, coverage_of, has_coverage
from finops_assets.cost.rollup import missing
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.duck import insert_pairs
from finops_assets.storage.lake import Key, Lake, source_and_day
from finops_assets.storage.warehouse import ROLLED_UP, Warehouse
from finops_assets.tables.rows import Rows


def known_days(connection: duckdb.DuckDBPyConnection) -> set[Key]:
    """The (source, day)s whose cost is in the rollup: whole, or as their last good version."""
    if has_coverage(connection):
        return {(c.source, c.day) for c in coverage_of(connection) if c.state == BUILT or c.shown == PREVIOUS}
    if not Warehouse.has(connection, ROLLED_UP):
        return set()
    return set(connection.execute(f"SELECT source, charge_date FROM {ROLLED_UP}").fetchall())


def newest_facts(lake: Lake, known: Iterable[Key], days: int) -> tuple[str | None, date | None]:
    """The facts of the last days that are known, as a relation, and the newest of these days; None where there are none."""
    wanted = set(known)
    through = max((day for _, day in wanted), default=None)
    if through is None:
        return None, None
    first = through - timedelta(days=days - 1)
    sources = sorted({source for source, _ in wanted})
    span = [first + timedelta(days=n) for n in range(days)]
    files = [file for file in lake.day_files("facts", sources, span) if source_and_day(file) in wanted]
    return (facts_relation(files, of_any_rules=True) if files else None), through


def last_days(table: Rows, days: int) -> Period | None:
    """The days that a table made from the newest facts looks back at, by its column `through`; None where it has no rows."""
    if not len(table):
        return None
    through = max(table["through"])
    return Period(through - timedelta(days=days - 1), through + timedelta(days=1))


def enter_known(connection: duckdb.DuckDBPyConnection, known: Iterable[Key]) -> None:
    """The (source, day)s that count, as the table `known` of the connection."""
    connection.execute("CREATE OR REPLACE TEMP TABLE known (source VARCHAR, day DATE)")
    insert_pairs(connection, "known", sorted(known))


def owner_columns(connection: duckdb.DuckDBPyConnection, facts: str) -> str:
    """SQL: department and team of a row of a relation of facts, as the rollup has them, whatever dimensions it was made with."""
    held = {name for name, *_ in connection.execute(f"DESCRIBE SELECT * FROM {facts}").fetchall()}
    return ", ".join(
        f"{f'coalesce({identifier(d)}, {literal(missing(d))})' if d in held else literal(missing(d))} AS {d}"
        for d in ("department", "team")
    )
