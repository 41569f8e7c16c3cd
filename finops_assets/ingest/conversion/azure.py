"""Azure's actual and amortised cost: two sets of one scope, made one without counting anything twice.

Source of the rules: Microsoft, finops toolkit, "Convert Cost Management data to FOCUS". The actual set holds what is
invoiced, with the purchases of commitments; the amortised set spreads those purchases over the usage that they
cover and what stays unused. All else stands in both, and is taken from the actual set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import duckdb

from finops_assets.base.sql import literal
from finops_assets.focus.money import decimal_from_text
from finops_assets.ingest.conversion.mapping import Dialect
from finops_assets.ingest.conversion.named_sql import NamedSql
from finops_assets.ingest.conversion.source_columns import SourceColumns
from finops_assets.ingest.layouts.azure_exports import ACTUAL, AMORTIZED
from finops_assets.ingest.reading.relation import SOURCE_FILE, ExportTable
from finops_assets.ingest.reading.spelling import ASSUMED, SLASHED, date_orders
from finops_assets.storage.repair import Repair

_DATES = {
    "ChargePeriodStart": "Date|UsageDateTime|UsageDate",
    "BillingPeriodStart": "BillingPeriodStartDate|BillingPeriodStart",
    "BillingPeriodEnd": "BillingPeriodEndDate|BillingPeriodEnd",
}
NOT_AMORTIZED, HELD_BY_THE_OTHER = "no_amortized_set", "held_by_the_other_set"


class SetsDiffer(ValueError):
    """The two sets do not hold the same cost where they must."""


def given(
    connection: duckdb.DuckDBPyConnection,
    export: ExportTable,
    source: SourceColumns,
    dialect: Dialect,
    datasets: Mapping[str, str],
) -> NamedSql:
    """`datasets`: file -> ActualCost or AmortizedCost, where a delivery holds both.

    Raises:
        SetsDiffer: a row that would be left out has cost that the other set does not hold.
    """
    day_first, dates = _day_first(connection, export, source)
    dialect = replace(dialect, named={**dialect.named, "day_first": day_first})
    commitment, purchase = (source.filled(f"{{@{name}}}", dialect.named) for name in ("commitment", "purchase"))
    cost, currency = (source.filled(f"{{@{name}}}", dialect.named) for name in ("cost", "currency"))
    amortized = [file for file, dataset in datasets.items() if dataset == AMORTIZED]
    part = f"CASE WHEN {commitment} AND {purchase} THEN 'purchase' WHEN {commitment} THEN 'covered' ELSE 'other' END"
    if not amortized or len(amortized) == len(datasets):
        # One set alone: it is the amortised one if usage that is covered by a commitment costs anything.
        found = connection.execute(
            f"SELECT file, count(*) FILTER (WHERE part = 'covered' AND cost <> 0),"
            f" count(*) FILTER (WHERE part = 'purchase')"
            f" FROM (SELECT e.{SOURCE_FILE} AS file, {part} AS part, {decimal_from_text(cost)} AS cost"
            f" FROM ({export.sql}) e) GROUP BY 1 ORDER BY 1"
        ).fetchall()
        spread = bool(amortized) or any(costs for _, costs, _ in found)
        whole = [Repair(file, NOT_AMORTIZED, "EffectiveCost", purchases) for file, _, purchases in found if purchases]
        return NamedSql(
            {"spread": str(spread).lower(), "day_first": day_first}, counted=(*dates, *(() if spread else whole))
        )
    is_amortized = f"e.{SOURCE_FILE} IN ({', '.join(literal(file) for file in amortized)})"
    sums: dict[tuple[bool, str, str], tuple[object, int, int]] = {
        (second, what, code or ""): (amount, rows, with_cost)
        for second, what, code, amount, rows, with_cost in connection.execute(
            f"""
            SELECT second, part, currency, coalesce(sum(cost), 0), count(*), count(*) FILTER (WHERE cost <> 0)
            FROM (SELECT {is_amortized} AS second, {part} AS part, {currency} AS currency,
                    {decimal_from_text(cost)} AS cost FROM ({export.sql}) e)
            GROUP BY 1, 2, 3
            """
        ).fetchall()
    }
    left = 0
    for code in sorted({key[2] for key in sums}):
        none = (0, 0, 0)
        actual, spread_other = sums.get((False, "other", code), none), sums.get((True, "other", code), none)
        if actual[0] != spread_other[0]:
            raise SetsDiffer(
                f"outside of commitments {ACTUAL} holds {actual[0]} {code} in {actual[1]} rows and {AMORTIZED}"
                f" {spread_other[0]} {code} in {spread_other[1]}; they are the same charges, so the two runs saw"
                " different days: run both exports again, one after the other"
            )
        covered, bought = sums.get((False, "covered", code), none), sums.get((True, "purchase", code), none)
        for rows, set_name, what in ((covered, ACTUAL, "usage under"), (bought, AMORTIZED, "purchases of")):
            if rows[2]:
                raise SetsDiffer(
                    f"{set_name} holds {rows[2]} rows of {what} a commitment with cost, {rows[0]} {code} in all; there"
                    f" it must be 0, so the file is not of type {set_name}: look at the type of the two exports"
                )
        left += covered[1] + spread_other[1] + bought[1]
    return NamedSql(
        {"spread": "true", "day_first": day_first},
        where=f"CASE {part} WHEN 'covered' THEN {is_amortized} ELSE NOT {is_amortized} END",
        left_out=left,
        counted=(*dates, *_left_out(connection, export, part, is_amortized)),
    )


def _day_first(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, source: SourceColumns
) -> tuple[str, tuple[Repair, ...]]:
    """SQL: does a row's file write the day before the month? And the files in which that is so, or is assumed not to be.

    Microsoft documents month/day/year; an export in another locale proves itself by its own dates. NULL where they
    contradict each other: then none of them is read.
    """
    times = {name: source.text(columns) for name, columns in _DATES.items() if source.has(columns)}
    orders = date_orders(connection, export, times)
    by_file: dict[str, set[str | None]] = {}
    for of_column in orders.values():
        for file, order in of_column.items():
            by_file.setdefault(file, set()).add(order)
    whens, odd = [], {}
    for file, found in sorted(by_file.items()):
        known = found - {"assumed"}
        # A column alone whose dates are the same either way proves nothing against the others.
        day_first = "true" if known == {"DMY"} else "NULL" if None in known or len(known) > 1 else "false"
        whens.append(f"WHEN {literal(file)} THEN {day_first}")
        if day_first != "false" or not known:
            odd[file] = SLASHED if known else ASSUMED
    counted = (
        [
            Repair(file, odd[file], "ChargePeriodStart", rows, example)
            for file, rows, example in connection.execute(
                f"SELECT e.{SOURCE_FILE}, count(*), min({times['ChargePeriodStart']}) FROM ({export.sql}) e GROUP BY 1 ORDER BY 1"
            ).fetchall()
            if file in odd
        ]
        if odd
        else []
    )
    sql = f"CASE e.{SOURCE_FILE} {' '.join(whens)} ELSE false END" if whens else "false"
    return sql, tuple(counted)


def _left_out(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, part: str, is_amortized: str
) -> tuple[Repair, ...]:
    return tuple(
        Repair(file, HELD_BY_THE_OTHER, "", rows)
        for file, rows in connection.execute(
            f"SELECT e.{SOURCE_FILE}, count(*) FROM ({export.sql}) e"
            f" WHERE CASE {part} WHEN 'covered' THEN NOT {is_amortized} ELSE {is_amortized} END GROUP BY 1 ORDER BY 1"
        ).fetchall()
    )
