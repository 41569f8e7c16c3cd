"""Is what came out of the split what went in? By day, currency and whose cost it was, to the last digit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import duckdb

from finops_assets.cost.rollup import ROLLUP_TABLE

ALLOCATED_COST = "daily_cost_allocated"
CONSERVED = "conserved"


@dataclass(frozen=True)
class Unbalanced:
    """Cost of one owner, day and currency that is not what the rollup has."""

    day: date
    currency: str
    owner: str
    what: str
    rollup: Decimal
    allocated: Decimal

    def __str__(self) -> str:
        return (
            f"{self.day}, {self.owner}, {self.what} cost in {self.currency}: rollup {self.rollup}, allocated"
            f" {self.allocated}"
        )


def unbalanced(connection: duckdb.DuckDBPyConnection, days: Sequence[date] | None = None) -> list[Unbalanced]:
    """Where the allocated cost, by its origin, differs from the rollup; of these days, or of all."""
    of_days = "" if days is None else "WHERE list_contains($days, charge_date)"
    rows = connection.execute(
        f"""
        WITH before AS (
            SELECT charge_date, BillingCurrency, department, team, sum(billed_cost) AS billed,
                sum(effective_cost) AS effective
            FROM {ROLLUP_TABLE} {of_days} GROUP BY ALL
        ), after AS (
            SELECT charge_date, BillingCurrency, origin_department AS department, origin_team AS team,
                sum(billed_cost) AS billed, sum(effective_cost) AS effective
            FROM {ALLOCATED_COST} {of_days} GROUP BY ALL
        )
        SELECT charge_date, BillingCurrency, department || '/' || team, coalesce(before.billed, 0),
            coalesce(after.billed, 0), coalesce(before.effective, 0), coalesce(after.effective, 0)
        FROM before FULL JOIN after USING (charge_date, BillingCurrency, department, team)
        WHERE coalesce(before.billed, 0) <> coalesce(after.billed, 0)
            OR coalesce(before.effective, 0) <> coalesce(after.effective, 0)
        ORDER BY ALL
        """,
        {} if days is None else {"days": list(days)},
    ).fetchall()
    return [
        Unbalanced(day, currency, owner, what, x, y)
        for day, currency, owner, *costs in rows
        for what, x, y in (("billed", *costs[:2]), ("effective", *costs[2:]))
        if x != y
    ]
