"""Charges that a later bill brought to a day: corrections by their class, and late ones by their billing period.

They are actuals of the day that they correct, and are in the rollup there. This table shows them apart.
"""

from __future__ import annotations

from datetime import date

import duckdb

from finops_assets.focus.measures import EFFECTIVE
from finops_assets.focus.money import DECIMAL
from finops_assets.tables.rows import Rows

CORRECTIONS = "daily_corrections"


def daily_query(key: str, facts: str) -> str:
    """SQL: a relation of facts' corrections by day, source, billing period, class, team and currency.

    FOCUS calls a charge a Correction (ChargeClass) only where the period that it belongs to was closed; a
    provider that does not is recognised by a billing period that begins after the day.
    """
    by = "charge_date, source, provider, department, team, BillingCurrency, billing_period, ChargeClass"
    return f"""
        SELECT {by},
            CAST(sum(billed) AS {DECIMAL}) AS billed_cost, CAST(sum(effective) AS {DECIMAL}) AS effective_cost,
            count(*) AS row_count
        FROM (
            SELECT {key}, source, CAST(BillingPeriodStart AS DATE) AS billing_period, coalesce(ChargeClass, '') AS ChargeClass,
                coalesce(BilledCost, 0) AS billed, {EFFECTIVE} AS effective
            FROM {facts}
            WHERE ChargeClass = 'Correction' OR CAST(BillingPeriodStart AS DATE) > charge_date
        ) AS corrected GROUP BY {by}
    """


def corrections(connection: duckdb.DuckDBPyConnection, first: date | None = None, end: date | None = None) -> Rows:
    """What later bills brought to the days from `first` to before `end`, newest day first.

    Columns: charge_date, source, billing_period (its first day), ChargeClass ('' for a late charge that the
    provider does not call a Correction), department, team, currency, billed_cost, effective_cost (Decimal), row_count.
    """
    rows = connection.execute(
        f"""
        SELECT charge_date, source, billing_period, ChargeClass, department, team, BillingCurrency, sum(billed_cost),
            sum(effective_cost), CAST(sum(row_count) AS BIGINT)
        FROM {CORRECTIONS} WHERE ($first IS NULL OR charge_date >= $first) AND ($end IS NULL OR charge_date < $end)
        GROUP BY ALL ORDER BY charge_date DESC, source, billing_period, abs(sum(effective_cost)) DESC, department, team, BillingCurrency, ChargeClass
        """,
        {"first": first, "end": end},
    ).fetchall()
    return Rows(
        [
            "charge_date", "source", "billing_period", "ChargeClass", "department", "team", "currency",
            "billed_cost", "effective_cost", "row_count",
        ],
        rows,
    )  # fmt: skip
