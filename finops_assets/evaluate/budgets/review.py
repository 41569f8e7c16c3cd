"""Which budgets no longer fit what their owners spend: the list for the quarterly review."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_UP, Decimal, localcontext

import duckdb

from finops_assets.base.period import Period
from finops_assets.base.sql import identifier
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.budgets.evaluate import BUDGET_EVALUATIONS, CLOSING_DAYS
from finops_assets.evaluate.budgets.plan import Budget
from finops_assets.evaluate.budgets.versions import in_force
from finops_assets.evaluate.comparison import missing_days
from finops_assets.evaluate.reports import EXACT, can_group_by, days_collapsed, days_without
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.rows import Rows

MONTHS = 3
TOO_HIGH = Decimal("0.60")
"""A budget of which less is used in each month cannot warn: its owner may spend two thirds more, and nobody is told."""
LEAST_DAYS = 14
WARNED_NIGHTS = 15
GONE_DAYS = 30
COLUMNS = ("budget", "currency", "amount", "month_1", "month_2", "month_3", "suggested_amount", "why")


@dataclass(frozen=True)
class _Month:
    """A month's cost of a day on the days that were reported, as a budget's period would cost at that rate."""

    period: Period
    at_this_rate: Decimal | None


def review(connection: duckdb.DuckDBPyConnection) -> Rows:
    """The budgets that do not fit, in COLUMNS: month_1 to month_3 are the last whole months, the newest last, each as
    the budget's whole period at that month's cost a day. A day without figures counts neither as cost nor as a day.
    """
    row = connection.execute(f"SELECT max(charge_date) FROM {ROLLUP_TABLE}").fetchone()
    if row is None or row[0] is None:
        return Rows(COLUMNS, ())
    newest: date = row[0]
    months = _whole_months(newest)
    reported = {m: _reported(connection, m) for m in months}
    budgets = in_force(connection)
    spent = _Spent.read(connection, months, {tuple(held.budget.conditions) for held in budgets})
    nights = _warned_nights(connection, newest)
    rows = []
    for held in budgets:
        budget = held.budget
        period = budget.on(newest + timedelta(days=1)) or budget.on(newest)
        if period is None:
            ended = budget.certain
            if ended and ended.end + timedelta(days=CLOSING_DAYS) <= newest:
                rows.append(_row(budget, [], None, f"its period ended on {ended.end - timedelta(days=1)}"))
            continue
        rates = [
            _Month(m, _rate(spent, budget, m, reported[m] - _unknown(connection, budget, m), period)) for m in months
        ]
        last = spent.last.get((_owner(budget), budget.currency))
        gone = last is None or last <= newest - timedelta(days=GONE_DAYS)
        why = _why(budget, rates, nights.get((budget.name, held.since_version), 0), gone)
        if why:
            rows.append(_row(budget, rates, _suggested(rates), why))
    return Rows(COLUMNS, rows)


def months_compared(connection: duckdb.DuckDBPyConnection) -> list[Period]:
    """The whole months that budgets are held against: those of the last three with enough reported days."""
    row = connection.execute(f"SELECT max(charge_date) FROM {ROLLUP_TABLE}").fetchone()
    months = _whole_months(row[0]) if row and row[0] else []
    return [month for month in months if _reported(connection, month) >= LEAST_DAYS]


def _reported(connection: duckdb.DuckDBPyConnection, month: Period) -> int:
    return (month.end - month.first).days - len(missing_days(connection, month))


def _unknown(connection: duckdb.DuckDBPyConnection, budget: Budget, month: Period) -> int:
    """The days of a month whose cost by the budget's other dimensions nobody knows."""
    sides = (days_without(connection, month, budget.others), days_collapsed(connection, month, budget.others))
    return len({day for side in sides for days in side.values() for day in days})


def _row(budget: Budget, rates: Sequence[_Month], suggested: Decimal | None, why: str) -> tuple[object, ...]:
    shown = [None] * (MONTHS - len(rates)) + [m.at_this_rate for m in rates]
    return (budget.name, budget.currency, budget.amount, *shown, suggested, why)


def _whole_months(newest: date) -> list[Period]:
    """The last MONTHS calendar months that are over, the newest last."""
    end = (newest + timedelta(days=1)).replace(day=1)
    months: list[Period] = []
    while len(months) < MONTHS:
        first = (end - timedelta(days=1)).replace(day=1)
        months.insert(0, Period(first, end))
        end = first
    return months


@dataclass(frozen=True)
class _Spent:
    """What owners (by some columns of the rollup: column, name pairs) were charged by month, basis and currency, and when
    they were last."""

    amounts: dict[tuple[_Owner, str, str, date], Decimal]
    last: dict[tuple[_Owner, str], date]

    @classmethod
    def read(
        cls, connection: duckdb.DuckDBPyConnection, months: Sequence[Period], kinds: Iterable[tuple[str, ...]]
    ) -> _Spent:
        found = cls({}, {})
        known = can_group_by(connection)
        for columns in kinds:
            if not set(columns) <= {*known}:
                continue
            for *names, currency, month, effective, billed, last in connection.execute(
                f"""
                SELECT {"".join(f"{identifier(c)}, " for c in columns)}BillingCurrency,
                    CAST(date_trunc('month', charge_date) AS DATE) AS month, sum(effective_cost), sum(billed_cost),
                    max(charge_date)
                FROM {ROLLUP_TABLE} WHERE charge_date >= $first GROUP BY ALL
                """,
                {"first": months[0].first},
            ).fetchall():
                owner = tuple(zip(columns, names))
                found.last[owner, currency] = max(last, found.last.get((owner, currency), last))
                found.amounts[owner, "effective", currency, month] = effective
                found.amounts[owner, "billed", currency, month] = billed
        return found


_Owner = tuple[tuple[str, str], ...]


def _owner(budget: Budget) -> _Owner:
    return tuple(budget.conditions.items())


def _rate(spent: _Spent, budget: Budget, month: Period, reported: int, period: Period) -> Decimal | None:
    if reported < LEAST_DAYS:
        return None
    amount = spent.amounts.get((_owner(budget), budget.basis, budget.currency, month.first), Decimal(0))
    with localcontext(prec=EXACT):
        return (amount * (period.end - period.first).days / reported).quantize(Decimal("0.01"))


def _warned_nights(connection: duckdb.DuckDBPyConnection, newest: date) -> dict[tuple[str, int], int]:
    """By budget and version: in how many of the last 30 nights it was above its limit."""
    if not Warehouse.has(connection, BUDGET_EVALUATIONS):
        return {}
    return {
        (name, since): nights
        for name, since, nights in connection.execute(
            f"SELECT budget, since_version, count(DISTINCT through) FROM {BUDGET_EVALUATIONS}"
            " WHERE severity IN ('WARNING', 'CRITICAL') AND through > $since GROUP BY ALL",
            {"since": newest - timedelta(days=30)},
        ).fetchall()
    }


def _why(budget: Budget, rates: Sequence[_Month], warned: int, gone: bool) -> str | None:
    if gone:
        return f"{budget.owner} has had no cost in {budget.currency} for {GONE_DAYS} days"
    known = [m.at_this_rate for m in rates if m.at_this_rate is not None]
    if known and len(known) >= 2 and all(rate > budget.amount for rate in known):
        return f"too low: each of the last {len(known)} months is above it"
    if known and len(known) >= 2 and all(rate < budget.amount * TOO_HIGH for rate in known):
        return f"too high: none of the last {len(known)} months used {TOO_HIGH:.0%} of it, so it cannot warn in time"
    if warned >= WARNED_NIGHTS:
        return f"warned in {warned} of the last 30 nights, and nothing was changed"
    return None


def _suggested(rates: Sequence[_Month]) -> Decimal | None:
    """The dearest of the last months and a tenth more, in three digits: a proposal to talk about."""
    known = [m.at_this_rate for m in rates if m.at_this_rate]
    if not known or max(known) <= 0:
        return None
    wanted = max(known) * Decimal("1.1")
    return wanted.quantize(Decimal(1).scaleb(wanted.adjusted() - 2), ROUND_UP)
