"""Charges longer than a day, accrued by day: an adjustment of the rollup, booked with the day that booked the charge.

Facts and rollup keep the native grain: a yearly licence is one row on its first day. For each such charge
`reported_accruals` takes its whole effective cost from that day (one negative entry) and gives it to the UTC
days that its period touches, by time. Entries of a booked day sum to nothing; that is a gate. They have a
history as the rollup has: a day that is built again changes its own entries and no others.

BilledCost stays whole on its day: cash is not accrued.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import duckdb

from finops_assets.base.sql import identifier
from finops_assets.cost.restatements import as_of_relation
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.focus.money import DECIMAL, in_units, of_units
from finops_assets.storage.duck import columns_of
from finops_assets.tables.ddl import dimensions_of
from finops_assets.tables.declarations import key
from finops_assets.tables.rows import Rows

REPORTED_ACCRUALS = "reported_accruals"
ADJUSTMENTS, ACCRUED, COMMITTED = "accrual_adjustments", "daily_accrued_cost", "committed_cost"
# Not the view of it: views that stand on tables alone can be made again in any order in the published copy.
_NOW = f"(SELECT * FROM {REPORTED_ACCRUALS} WHERE reported_to IS NULL)"

# A period of more than ten years is no term that anyone sells but a placeholder, such as the year 9999:
# such a charge stays whole on its day, and the gate counts it.
LONGEST = "INTERVAL 3660 DAY"
LONG = "ChargePeriodEnd > ChargePeriodStart + INTERVAL 1 DAY"
APPORTIONED = f"({LONG} AND ChargePeriodEnd <= ChargePeriodStart + {LONGEST})"


def parts_query(charges: str) -> str:
    """SQL: a relation with starts, ends (UTC, exclusive) and cost, a row for each UTC day touched: accrual_date, part.

    With `total` in units of the 18th place and `length` in microseconds, the days up to a moment have
    trunc(total * elapsed / length); a day has what its end has more than its start. So the parts sum to the
    cost exactly, none is off by a unit, a refund mirrors its charge, and no rounding drifts. The product is
    taken of quotient and remainder apart and therefore fits 128 bits whatever the amount.
    """
    upto = "quotient * {0} + (remainder * {0}) // length"
    return f"""
        SELECT * EXCLUDE (starts, ends, cost, length, units, quotient, remainder, day_start, day_end),
            {of_units(f"{upto.format('day_end')} - ({upto.format('day_start')})")} AS part
        FROM (
            SELECT *,
                CAST(greatest(epoch_us(CAST(accrual_date AS TIMESTAMP)) - epoch_us(starts), 0) AS HUGEINT) AS day_start,
                CAST(least(epoch_us(CAST(accrual_date + 1 AS TIMESTAMP)) - epoch_us(starts), length) AS HUGEINT) AS day_end
            FROM (
                SELECT *, units // length AS quotient, units % length AS remainder,
                    CAST(unnest(generate_series(CAST(starts AS DATE), CAST(ends - INTERVAL 1 MICROSECOND AS DATE),
                        INTERVAL 1 DAY)) AS DATE) AS accrual_date
                FROM (
                    SELECT *, {in_units("cost")} AS units, CAST(epoch_us(ends) - epoch_us(starts) AS HUGEINT) AS length
                    FROM {charges}
                )
            )
        )
    """


def charges_query(key: str, facts: str) -> str:
    """SQL: the charges of a relation of facts that are apportioned, a row each, by the rollup's key (see `key_of`)."""
    return f"""
        SELECT {key}, source, ChargePeriodStart AS starts, ChargePeriodEnd AS ends,
            CAST({EFFECTIVE} AS {DECIMAL}) AS cost
        FROM {facts} WHERE {APPORTIONED}
    """


def adjustments_query(charges: str, key: Iterable[str]) -> str:
    """SQL: the entries of a relation like `charges_query`, by the rollup's key, source and accrual_date.

    is_apportioned is false for what is taken from the booked day, true for the parts.
    """
    keys = columns_of((*key, "source"))
    return f"""
        SELECT {keys}, accrual_date, is_apportioned, CAST(sum(part) AS {DECIMAL}) AS effective_cost,
            CAST(sum(positive) AS {DECIMAL}) AS positive_effective_cost
        FROM (
            SELECT {keys}, accrual_date, true AS is_apportioned, part, greatest(part, 0) AS positive
            FROM ({parts_query(charges)})
            UNION ALL
            SELECT {keys}, charge_date, false, -cost, -greatest(cost, 0) FROM {charges}
        ) GROUP BY ALL
    """


def accrued(dimensions: Iterable[str] = (), rollup: str = ROLLUP_TABLE, adjustments: str = _NOW) -> str:
    """SQL: effective cost by the day that it accrued, and billed cost whole on its day, by these dimensions of finops.yaml.

    Only days that are reached, up to the newest that the rollup reports, are actuals. is_apportioned tells
    the parts of long charges from the rest. row_count counts facts on the day that booked them.
    """
    own = _own(dimensions)
    return f"""
        SELECT accrual_date, {own}, is_apportioned, sum(billed_cost) AS billed_cost, sum(effective_cost) AS accrued_cost,
            sum(positive_effective_cost) AS positive_accrued_cost, CAST(sum(row_count) AS BIGINT) AS row_count
        FROM (
            SELECT charge_date AS accrual_date, {own}, false AS is_apportioned, billed_cost, effective_cost,
                positive_effective_cost, row_count
            FROM {rollup}
            UNION ALL
            SELECT accrual_date, {own}, is_apportioned, 0, effective_cost, positive_effective_cost, 0
            FROM {adjustments} WHERE accrual_date <= (SELECT max(charge_date) FROM {rollup})
        ) GROUP BY ALL
    """


def _own(dimensions: Iterable[str]) -> str:
    """SQL: the rollup's key without the day."""
    return columns_of(key(dimensions)[1:])


def accrued_rollup(as_of: date | None = None, dimensions: Iterable[str] = ()) -> str:
    """SQL: the accrual as a relation with the rollup's columns, by these dimensions, for reports; now, or as it was reported."""
    dimensions = tuple(dimensions)
    rows = f"FROM {ACCRUED}"
    if as_of:
        rows = accrued(dimensions, as_of_relation(as_of), as_of_relation(as_of, REPORTED_ACCRUALS))
    return (
        f"(SELECT accrual_date AS charge_date, {_own(dimensions)}, is_apportioned, billed_cost,"
        f" accrued_cost AS effective_cost, positive_accrued_cost AS positive_effective_cost, row_count FROM ({rows}))"
    )


def create_views(connection: duckdb.DuckDBPyConnection, dimensions: Iterable[str] = ()) -> None:
    """The views that people read: entries as they stand, the accrual, and what is not yet reached."""
    dimensions = tuple(dimensions)
    own = _own(dimensions)
    connection.execute(
        f"CREATE OR REPLACE VIEW {ADJUSTMENTS} AS SELECT charge_date, accrual_date, source, {own}, is_apportioned,"
        f" effective_cost, positive_effective_cost FROM {_NOW}"
    )
    connection.execute(f"CREATE OR REPLACE VIEW {ACCRUED} AS {accrued(dimensions)}")
    connection.execute(
        f"CREATE OR REPLACE VIEW {COMMITTED} AS SELECT accrual_date, charge_date AS booked_on, source, {own},"
        f" effective_cost AS committed_cost FROM {_NOW}"
        f" WHERE is_apportioned AND accrual_date > (SELECT max(charge_date) FROM {ROLLUP_TABLE})"
    )


def committed(connection: duckdb.DuckDBPyConnection, by: tuple[str, ...] = ("department", "team")) -> Rows:
    """What is paid or booked but not yet reached, by month, some of the rollup's columns and currency.

    Columns: month (its first day), by…, currency, committed_cost (Decimal).

    Raises:
        ValueError: a column that the rollup is not grouped by.
    """
    allowed = key(dimensions_of(connection))[1:-1]
    unknown = [b for b in by if b not in allowed]
    if unknown:
        raise ValueError(f"found {', '.join(unknown)}; allowed: {', '.join(allowed)}")
    keys = "".join(f"{identifier(b)}, " for b in by)
    rows = connection.execute(
        f"SELECT CAST(date_trunc('month', accrual_date) AS DATE) AS month, {keys}BillingCurrency, sum(committed_cost) AS cost"
        f" FROM {COMMITTED} GROUP BY ALL ORDER BY month, BillingCurrency, cost DESC, {keys}month"
    ).fetchall()
    return Rows(["month", *by, "currency", "committed_cost"], rows)
