"""Showback and chargeback side by side: what each team's own cost is, and what it bears after the rules."""

from __future__ import annotations

from typing import Literal

import duckdb

from finops_assets.base.period import Period
from finops_assets.base.sql import identifier
from finops_assets.evaluate.allocation.balance import ALLOCATED_COST
from finops_assets.evaluate.allocation.split import POOL
from finops_assets.focus.money import percent
from finops_assets.tables.rows import Rows

BY = ("department", "team")
COLUMNS = ("department", "team", "currency", "showback", "given", "received", "chargeback", "change_percent")
MOVES = ("rule", "method", "origin", "bearer", "currency", "amount", "days", "note")


def allocation(
    connection: duckdb.DuckDBPyConnection, period: Period, basis: Literal["effective", "billed"] = "effective"
) -> Rows:
    """By department and team in COLUMNS: showback (as attributed), less what it gave, and what it received: chargeback.

    Amounts are Decimal, per currency; showback and chargeback have the same sum. change_percent is of the showback.
    """
    cost = f"{basis}_cost"
    own = "department = origin_department AND team = origin_team"
    rows = connection.execute(
        f"""
        WITH borne AS (
            SELECT department, team, BillingCurrency AS currency, sum(before), sum(gave), sum(got), sum(after) AS bears
            FROM (
                SELECT origin_department AS department, origin_team AS team, BillingCurrency, {cost} AS before,
                    CASE WHEN {own} THEN 0 ELSE {cost} END AS gave, 0 AS got, 0 AS after
                FROM {ALLOCATED_COST} WHERE charge_date >= $first AND charge_date < $end
                UNION ALL
                SELECT department, team, BillingCurrency, 0, 0, CASE WHEN {own} THEN 0 ELSE {cost} END, {cost}
                FROM {ALLOCATED_COST} WHERE charge_date >= $first AND charge_date < $end
            ) WHERE department <> '{POOL}' GROUP BY ALL
        )
        FROM borne ORDER BY sum(bears) OVER (PARTITION BY currency) DESC, currency, bears DESC, department, team
        """,
        {"first": period.first, "end": period.end},
    ).fetchall()
    return Rows(COLUMNS, [(*row, percent(row[6] - row[3], row[3])) for row in rows])


def borne_by_day(
    connection: duckdb.DuckDBPyConnection, period: Period, basis: Literal["effective", "billed"] = "effective"
) -> Rows:
    """What each team bears after the rules, by day: charge_date, department, team, currency, chargeback (Decimal)."""
    rows = connection.execute(
        f"""
        SELECT charge_date, department, team, BillingCurrency AS currency, sum({identifier(f"{basis}_cost")}) AS chargeback
        FROM {ALLOCATED_COST} WHERE charge_date >= $first AND charge_date < $end AND department <> '{POOL}'
        GROUP BY ALL ORDER BY ALL
        """,
        {"first": period.first, "end": period.end},
    ).fetchall()
    return Rows(["charge_date", *BY, "currency", "chargeback"], rows)


def moves(
    connection: duckdb.DuckDBPyConnection, period: Period, basis: Literal["effective", "billed"] = "effective"
) -> Rows:
    """What each rule moved from whom to whom, in MOVES; method kept: what it could not split, and why (note)."""
    rows = connection.execute(
        f"""
        SELECT rule, method, origin_department || '/' || origin_team AS origin, department || '/' || team AS bearer,
            BillingCurrency AS currency, sum({identifier(f"{basis}_cost")}) AS amount, count(DISTINCT charge_date), note
        FROM {ALLOCATED_COST} WHERE rule IS NOT NULL AND charge_date >= $first AND charge_date < $end
        GROUP BY ALL ORDER BY rule, origin, currency, amount DESC, bearer
        """,
        {"first": period.first, "end": period.end},
    ).fetchall()
    return Rows(MOVES, rows)


def kept(connection: duckdb.DuckDBPyConnection, period: Period) -> list[str]:
    """What rules could not split, in a line each: rule, why, whose cost, on how many days, how much."""
    return [
        f"rule {rule}: {amount:,.2f} {currency} of {origin} stayed there, {'1 day' if days == 1 else f'{days} days'}: {note}"
        for rule, origin, currency, note, days, amount in connection.execute(
            f"SELECT rule, origin_department || '/' || origin_team, BillingCurrency, note, count(DISTINCT charge_date),"
            f" sum(effective_cost) FROM {ALLOCATED_COST} WHERE method = 'kept' AND charge_date >= $first AND charge_date < $end"
            " GROUP BY ALL ORDER BY ALL",
            {"first": period.first, "end": period.end},
        ).fetchall()
    ]
