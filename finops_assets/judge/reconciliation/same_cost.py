"""Two records of the same cost against each other: two sources, or a FOCUS export and the provider's native bill.

Billed and effective cost are judged apart and never added to one another; nor are currencies. A cell (unit,
service, account, currency) agrees when its difference is within the tolerance, a unit (a charge day, a billing
period) when its total and all its cells do, so that what one service gains another one cannot lose unseen.

FOCUS has no row key, so the rows behind a difference are paired by what identifies a charge in both records;
rows are counted as often as they are there, and none is paired twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import duckdb
import pandas as pd

from finops_assets.base.sql import identifier, literal
from finops_assets.base.text import money
from finops_assets.focus.money import DECIMAL
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.judge.reconciliation.tolerance import Tolerance, same_cost_default

Basis = Literal["billed", "effective"]
BASES: Mapping[Basis, str] = {"billed": "BilledCost", "effective": "EffectiveCost"}

Unit = date | str
"""A charge day, or a billing period "YYYY-MM"."""

CURRENCY = "BillingCurrency"
KEY = ("ResourceId", "SkuId", "ChargePeriodStart", "ChargeCategory", "ChargeDescription")
PLACE = (CURRENCY, "SubAccountId", "ServiceName")
PLACE_KINDS = dict(zip(PLACE, ("other currency", "other account", "other service")))

AGREES = "agrees"

_Figures = dict[str, Any]
"""A row of a result: column -> value."""


@dataclass(frozen=True)
class Side:
    """One of the two records: its name, and SQL that selects its canonical rows with a column `unit`."""

    name: str
    rows: str


@dataclass(frozen=True)
class Comparison:
    """What comparing came to. Amounts are Decimal; a difference is b less a.

    units: unit, BillingCurrency, rows_a, rows_b, and for each basis <basis>_a, <basis>_b, <basis>_difference;
        allowed, cells_differing and the unit's verdict. A row per unit and currency.
    cells: the same figures for each differing unit, grain… and BillingCurrency; the largest difference first.
    kinds: kind, BillingCurrency, row_count, and for each basis its difference. They add up to the differences of
        the units that do not agree, exactly.
    rows: the rows or pairs of rows behind the differences, the largest first: kind, unit, what the charge is, the
        amounts of both sides, and where each row lies (file and row).
    key: the columns that rows were paired by.
    """

    a: str
    b: str
    units: pd.DataFrame
    cells: pd.DataFrame
    kinds: pd.DataFrame
    rows: pd.DataFrame
    key: tuple[str, ...]
    verdicts: Mapping[Unit, str]

    @property
    def validated(self) -> list[Unit]:
        """The units that agree."""
        return [unit for unit, verdict in self.verdicts.items() if verdict == AGREES]

    @property
    def reconciles(self) -> bool:
        """Does every unit agree?"""
        return len(self.validated) == len(self.verdicts)


def compare_cost(
    connection: duckdb.DuckDBPyConnection,
    a: Side,
    b: Side,
    units: Sequence[Unit],
    *,
    missing: Mapping[Unit, str] | None = None,
    without_rows: str = "no rows on either side",
    grain: Sequence[str] = ("ServiceName", "SubAccountId"),
    bases: Sequence[Basis] = ("billed", "effective"),
    tolerance: Tolerance | None = None,
    most_rows: int = 100,
) -> Comparison:
    """Compare two records of the same cost over some units.

    `missing` says of units that cannot be compared what is missing: they do not agree. `without_rows` is the verdict
    on a unit of which neither side has rows. `grain` are the FOCUS
    columns of a cell besides the currency. Without a tolerance, half a subunit of the currency is allowed.
    """
    limits, absent = tolerance or Tolerance(), missing or {}
    wanted = [unit for unit in units if unit not in absent]
    cells = _judged(_sums(connection, a, b, wanted, (*grain, CURRENCY)), bases, limits)
    totals = _judged(_sums(connection, a, b, wanted, (CURRENCY,)), bases, limits)
    differing = sorted(
        (c for c in cells if not c["agrees"]), key=lambda c: -max(abs(c[f"{x}_difference"]) for x in bases)
    )
    verdicts = {
        unit: absent.get(unit)
        or _verdict([t for t in totals if t["unit"] == unit], [c for c in differing if c["unit"] == unit], bases)
        or without_rows
        for unit in units
    }
    key = _load(connection, a, b, [unit for unit in wanted if verdicts[unit] != AGREES])
    _pair(connection, key)
    figures = [f"{basis}_{side}" for basis in bases for side in ("a", "b", "difference")]
    return Comparison(
        a=a.name,
        b=b.name,
        units=pd.DataFrame(
            _with_verdicts(totals, differing, verdicts),
            columns=["unit", CURRENCY, "rows_a", "rows_b", *figures, "allowed", "cells_differing", "verdict"],
        ),
        cells=pd.DataFrame(differing, columns=["unit", *grain, CURRENCY, "rows_a", "rows_b", *figures, "allowed"]),
        kinds=_kinds(connection, bases),
        rows=_rows(connection, bases, most_rows),
        key=key,
        verdicts=verdicts,
    )


def _sums(
    connection: duckdb.DuckDBPyConnection, a: Side, b: Side, units: Sequence[Unit], by: Sequence[str]
) -> list[_Figures]:
    """Rows and both costs of either side by unit and `by`."""
    columns = ", ".join(identifier(column) for column in by)
    found = connection.execute(
        f"""
        SELECT unit, {columns},
            count(*) FILTER (side = 'a'), count(*) FILTER (side = 'b'),
            {", ".join(_sum(cost, side) for cost in BASES.values() for side in "ab")}
        FROM (
            SELECT 'a' AS side, unit, {columns}, BilledCost, EffectiveCost FROM ({a.rows})
            UNION ALL
            SELECT 'b' AS side, unit, {columns}, BilledCost, EffectiveCost FROM ({b.rows})
        )
        WHERE list_contains($units, unit)
        GROUP BY ALL ORDER BY ALL
        """,
        {"units": list(units)},
    ).fetchall()
    names = ("unit", *by, "rows_a", "rows_b", *(f"{basis}_{side}" for basis in BASES for side in "ab"))
    return [dict(zip(names, row)) for row in found]


def _sum(cost: str, side: str) -> str:
    return f"CAST(coalesce(sum({cost}) FILTER (side = '{side}'), 0) AS {DECIMAL})"


def _judged(sums: list[_Figures], bases: Sequence[Basis], limits: Tolerance) -> list[_Figures]:
    """Sums with their differences, what is allowed, and whether every basis is within it."""
    for row in sums:
        default = same_cost_default(row[CURRENCY] or "")
        # A percentage allows billed and effective cost different amounts: the smaller one counts for both.
        row["allowed"] = min(limits.allowed(row[f"{basis}_a"], default) for basis in bases)
        for basis in BASES:
            row[f"{basis}_difference"] = row[f"{basis}_b"] - row[f"{basis}_a"]
        row["agrees"] = all(abs(row[f"{basis}_difference"]) <= row["allowed"] for basis in bases)
    return sums


def _verdict(totals: list[_Figures], cells: list[_Figures], bases: Sequence[Basis]) -> str:
    """Empty for a unit without rows."""
    if not totals:
        return ""
    problems = [
        f"{basis} {signed(row[f'{basis}_difference'])} {row[CURRENCY]}"
        for row in totals
        for basis in bases
        if abs(row[f"{basis}_difference"]) > row["allowed"]
    ]
    if cells:
        problems.append(f"{len(cells)} cells differ" if len(cells) > 1 else "1 cell differs")
    return ", ".join(problems) or AGREES


def _with_verdicts(
    totals: list[_Figures], differing: list[_Figures], verdicts: Mapping[Unit, str]
) -> Iterator[_Figures]:
    """The totals by unit with verdicts; a unit that has no rows has a line of zeros, so that it is not missing."""
    nothing: _Figures = {CURRENCY: "", "rows_a": 0, "rows_b": 0, "allowed": Decimal(0)}
    nothing |= {f"{basis}_{side}": Decimal(0) for basis in BASES for side in ("a", "b", "difference")}
    for unit, verdict in verdicts.items():
        for row in [total for total in totals if total["unit"] == unit] or [{**nothing, "unit": unit}]:
            count = sum(1 for cell in differing if (cell["unit"], cell[CURRENCY]) == (unit, row[CURRENCY]))
            yield {**row, "cells_differing": count, "verdict": verdict}


def signed(difference: Decimal) -> str:
    """An exact difference with its sign and without trailing zeros.

    >>> signed(Decimal("2.500")), signed(Decimal("-1"))
    ('+2.5', '-1')
    """
    return f"{'+' if difference > 0 else ''}{money(difference)}"


_KEPT = ("ChargeClass", SOURCE_FILE, SOURCE_ROW, "BilledCost", "EffectiveCost")


def _load(connection: duckdb.DuckDBPyConnection, a: Side, b: Side, units: Sequence[Unit]) -> tuple[str, ...]:
    """Both sides' rows of these units as the table `left_over`; returns the key columns that both fill alike."""
    columns = ", ".join(("unit", *PLACE, *KEY, *_KEPT))
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE left_over AS
        SELECT *, false AS twin FROM (
            SELECT 'a' AS side, {columns} FROM ({a.rows}) UNION ALL SELECT 'b' AS side, {columns} FROM ({b.rows})
        ) WHERE list_contains($units, unit)
        """,
        {"units": list(units)},
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE explained AS"
        " SELECT CAST(NULL AS VARCHAR) AS kind, CAST(NULL AS BIGINT) AS pair, * EXCLUDE (twin) FROM left_over LIMIT 0"
    )

    def common(column: str) -> bool:
        found = connection.execute(
            f"SELECT {column} FROM left_over WHERE side = 'a' AND {column} IS NOT NULL"
            f" INTERSECT SELECT {column} FROM left_over WHERE side = 'b' LIMIT 1"
        ).fetchone()
        return found is not None

    # A column that the two never fill with the same value, such as texts of different wording, identifies nothing.
    return tuple(column for column in KEY if common(column))


def _pair(connection: duckdb.DuckDBPyConnection, key: Sequence[str]) -> None:
    """Take pairs out of `left_over` step by step; what is not equal goes to `explained` with its kind."""
    cost = tuple(BASES.values())
    _take_pairs(connection, ("unit", *PLACE, *key, *cost), None)
    moved = " ".join(
        f"WHEN min(coalesce({column}, '')) OVER pairing <> max(coalesce({column}, '')) OVER pairing THEN {literal(kind)}"
        for column, kind in PLACE_KINDS.items()
    )
    _take_pairs(connection, ("unit", *key, *cost), f"CASE {moved} ELSE 'other account' END")
    _take_pairs(connection, (*PLACE, *(c for c in key if c != "ChargePeriodStart"), *cost), "'other time'")
    _take_pairs(connection, ("unit", *PLACE, *key), "'other amount'")
    connection.execute(
        """
        INSERT INTO explained BY NAME
        SELECT CASE WHEN twin THEN 'repeated in ' WHEN ChargeClass = 'Correction' THEN 'correction only in '
            ELSE 'only in ' END || side AS kind, * EXCLUDE (twin)
        FROM left_over
        """
    )


def _take_pairs(connection: duckdb.DuckDBPyConnection, alike: Sequence[str], kind: str | None) -> None:
    """Pair the n-th row of a with the n-th row of b among those alike. `kind` is SQL, over the window `pairing`, for
    pairs that are to be told of; None: they are equal in all that counts, and what is left of them is repeated.
    """
    columns = ", ".join(alike)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE numbered AS
        SELECT *, count(*) OVER (PARTITION BY {columns}, n) = 2 AS paired
        FROM (
            SELECT *, row_number() OVER (PARTITION BY side, {columns} ORDER BY {SOURCE_FILE}, {SOURCE_ROW}) AS n,
                min(side) OVER (PARTITION BY {columns}) <> max(side) OVER (PARTITION BY {columns}) AS on_both
            FROM left_over
        )
        """
    )
    if kind is not None:
        connection.execute(
            f"""
            INSERT INTO explained BY NAME
            SELECT {kind} AS kind, dense_rank() OVER (ORDER BY {columns}, n) + (SELECT coalesce(max(pair), 0) FROM explained) AS pair,
                * EXCLUDE (n, paired, on_both, twin)
            FROM numbered WHERE paired WINDOW pairing AS (PARTITION BY {columns}, n)
            """
        )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE left_over AS SELECT * EXCLUDE (n, paired, on_both, twin),"
        f" {'twin' if kind else 'on_both'} AS twin FROM numbered WHERE NOT paired"
    )


def _kinds(connection: duckdb.DuckDBPyConnection, bases: Sequence[Basis]) -> pd.DataFrame:
    sums = ", ".join(
        f"CAST(coalesce(sum(CASE side WHEN 'b' THEN {BASES[b]} ELSE -{BASES[b]} END), 0) AS {DECIMAL})" for b in bases
    )
    found = connection.execute(
        f"SELECT kind, {CURRENCY}, count(*), {sums} FROM explained GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
    ).fetchall()
    return pd.DataFrame(found, columns=["kind", CURRENCY, "row_count", *(f"{b}_difference" for b in bases)])


def _rows(connection: duckdb.DuckDBPyConnection, bases: Sequence[Basis], most: int) -> pd.DataFrame:
    """A row for each pair or single row; `from_a` is null where only b has it, and the other way round."""
    told = ("unit", *PLACE, "ChargeCategory", "ResourceId", "SkuId", "ChargeDescription", "ChargePeriodStart")
    of_a = ", ".join(
        f"coalesce(any_value({c}) FILTER (side = 'a'), any_value({c}) FILTER (side = 'b')) AS {c}" for c in told
    )
    costs = ", ".join(
        f"CAST(sum({BASES[b]}) FILTER (side = '{side}') AS {DECIMAL}) AS {b}_{side}" for b in bases for side in "ab"
    )
    place = f"any_value({SOURCE_FILE} || ', row ' || {SOURCE_ROW})"
    moved = " OR ".join(f"count(DISTINCT {c}) > 1" for c in (*PLACE, "unit", "ChargePeriodStart"))
    there = ", ".join(f"any_value({c}) FILTER (side = 'b')" for c in (*PLACE, "ChargePeriodStart"))
    size = ", ".join(
        f"abs(coalesce({b}_b, 0) - coalesce({b}_a, 0)), CASE WHEN {b}_a = {b}_b THEN abs({b}_a) ELSE 0 END"
        for b in bases
    )
    found = connection.execute(
        f"""
        SELECT * EXCLUDE (one) FROM (
            SELECT kind, {of_a}, {costs},
                CASE WHEN count(*) = 2 AND ({moved}) THEN concat_ws(', ', {there}) END AS in_b,
                {place} FILTER (side = 'a') AS from_a, {place} FILTER (side = 'b') AS from_b, one
            FROM (SELECT *, coalesce(pair, -row_number() OVER (ORDER BY side, {SOURCE_FILE}, {SOURCE_ROW})) AS one FROM explained)
            GROUP BY kind, one
        ) ORDER BY greatest({size}) DESC, kind, unit, from_a, from_b LIMIT $most
        """,
        {"most": most},
    )
    return pd.DataFrame(found.fetchall(), columns=[column[0] for column in found.description or ()])
