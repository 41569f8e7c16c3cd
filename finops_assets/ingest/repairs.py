"""What was repaired on the way in: by delivery, file, rule and column, with the first value of each and how many rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

import duckdb

from finops_assets.base.sql import literal
from finops_assets.focus.money import LARGEST_DRIFT, largest_drift
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.storage.duck import one_file
from finops_assets.storage.lake import Lake
from finops_assets.storage.ledger import Ledger
from finops_assets.storage.repair import Repair
from finops_assets.tables.rows import Rows

REPAIR_COLUMNS = [
    "source", "scope", "generation", "file", "rule", "column", "rows", "example", "first_row",
    "largest_drift", "drift_bound",
]  # fmt: skip
ITEMS = '[{"rule": "VARCHAR", "column": "VARCHAR", "found": "VARCHAR"}]'


def row_repairs(connection: duckdb.DuckDBPyConnection, folder: Path) -> list[Repair]:
    """What the rows below a folder of slices say of themselves (`repairs`)."""
    rows = connection.execute(
        f"""
        SELECT {SOURCE_FILE}, item.rule, item."column", count(*), arg_min(item.found, {SOURCE_ROW}), min({SOURCE_ROW}),
            {largest_drift("CASE WHEN item.rule = 'rounded' THEN item.found END")}
        FROM (
            SELECT {SOURCE_FILE}, {SOURCE_ROW}, unnest(from_json(repairs, {literal(ITEMS)})) AS item
            FROM read_parquet({literal(f"{one_file(folder)}/charge_date=*/*.parquet")}, union_by_name = true,
                hive_partitioning = false)
            WHERE repairs IS NOT NULL
        )
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """
    ).fetchall()
    return [
        # A number that was written for people gives no drift of its own: then the bound is said.
        Repair(file, rule, column, count, found, first, (drift or LARGEST_DRIFT) if rule == "rounded" else None)
        for file, rule, column, count, found, first, drift in rows
    ]


def condensed(repairs: Iterable[Repair], most: int = 500) -> tuple[Repair, ...]:
    """As they are, or, of a delivery of very many files, by rule and column alone: the ledger is read often."""
    whole = tuple(repairs)
    if len(whole) <= most:
        return whole
    together: dict[tuple[str, str], list[Repair]] = {}
    for repair in whole:
        together.setdefault((repair.rule, repair.column), []).append(repair)
    return tuple(
        same[0]._replace(
            file=same[0].file if len(same) == 1 else f"{same[0].file} and {len(same) - 1} more",
            rows=sum(r.rows for r in same),
            largest_drift=max((r.largest_drift for r in same if r.largest_drift is not None), default=None),
        )
        for same in together.values()
    )


def counts(repairs: Iterable[Repair]) -> dict[str, int]:
    """Rows by "rule column"."""
    result: dict[str, int] = {}
    for repair in repairs:
        name = f"{repair.rule} {repair.column}".strip()
        result[name] = result.get(name, 0) + repair.rows
    return result


def of_counts(counted: Mapping[str, int]) -> list[Repair]:
    """What is known by "rule column" alone."""
    return [Repair("", *_rule_and_column(name), rows) for name, rows in counted.items()]


def _rule_and_column(name: str) -> tuple[str, str]:
    rule, _, column = name.partition(" ")
    return rule, column


def repairs_table(
    lake: Lake,
    sources: Iterable[str],
    scope: str | None = None,
    first: date | None = None,
    end: date | None = None,
) -> Rows:
    """The repairs of every live delivery, most rows first: of one scope, or of those that hold any day of a span.

    Columns: REPAIR_COLUMNS. `example` is what the first row (`first_row`) said, as written. For the rule `rounded`,
    `largest_drift` is the furthest that one value was moved and `drift_bound` (rows x 0.5e-18) what the sum of the
    column can have moved at most, both Decimal. A delivery that was landed before files were told apart has file "".
    """
    rows = []
    for source in sources:
        for generation in Ledger(lake, source).all_live():
            if scope is not None and generation.scope != scope:
                continue
            if not any((first is None or first <= day) and (end is None or day < end) for day in generation.days):
                continue
            for r in generation.repaired or of_counts(generation.repairs):
                known = (r.file, r.rule, r.column, r.rows, r.example, r.first_row, r.largest_drift, r.drift_bound)
                rows.append((source, generation.scope, generation.generation, *known))
    rows.sort(key=lambda row: (row[0], row[1], -row[6], row[3:6]))
    return Rows(REPAIR_COLUMNS, rows)
