"""What is spent and expected of each budget, and how serious that is. Kept night by night in `budget_evaluations`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb

from finops_assets.alerts.alert import RANK
from finops_assets.base.period import Period
from finops_assets.evaluate.budgets.plan import Basis, Budget, owner_of
from finops_assets.evaluate.budgets.versions import BUDGETS_TABLE, InForce, others_text
from finops_assets.evaluate.reports import can_group_by, days_collapsed, days_without
from finops_assets.focus.money import percent
from finops_assets.settings.alerts import Severity
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables import ddl, declarations, values
from finops_assets.tables.ddl import selected
from finops_assets.tables.rows import Row, Rows

if TYPE_CHECKING:
    from finops_assets.evaluate.forecast.series import DailySeries

BUDGET_EVALUATIONS, STATUS = "budget_evaluations", "budget_status"
# Late bills and restatements still come after a period's end, so it is judged for a week more.
CLOSING_DAYS = 7
# Where the budget lies in the forecast's intervals. What became of such forecasts is measured: docs/guides/budgets.md.
CHANCES = ("almost certainly over", "probably over", "more likely over", "more likely within", "probably within",
           "almost certainly within")  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """One budget in one period, by the figures reported up to and with `through`.

    Amounts are exact as spent and budgeted, and rounded to cents where expected (None: not forecast). `severity` is
    None while all is well, and where `problem` says why nothing can be judged.
    """

    budget: Budget
    since_version: int
    version: int
    period: Period
    through: date
    spent: Decimal
    forecast: Decimal | None
    low80: Decimal | None
    high80: Decimal | None
    low95: Decimal | None
    high95: Decimal | None
    days_missing: int
    history_days: int
    severity: Severity | None
    reason: str
    problem: str | None = None

    @property
    def over(self) -> bool:
        """Is the period at its end?"""
        return self.through + timedelta(days=1) >= self.period.end

    @property
    def chance(self) -> str | None:
        """Where the budget lies in the forecast's intervals, in words; None without a forecast, once all is spent, or at
        the end."""
        ends = (self.low95, self.low80, self.forecast, self.high80, self.high95)
        if self.over or self.spent > self.budget.amount or any(end is None for end in ends):
            return None
        return CHANCES[sum(end <= self.budget.amount for end in ends if end is not None)]


def evaluate(
    connection: duckdb.DuckDBPyConnection, budgets: Sequence[InForce], version: int
) -> tuple[date, list[Evaluation]] | None:
    """Every budget in the period that runs, and in one that ended less than CLOSING_DAYS ago, in the budgets' order.

    Also returned is the newest reported day. None: no day was reported yet. A held day, or one that was not run, is
    a gap: it is expected to cost what its weekday does, and counted in days_missing. Days before the first that was
    ever reported are no gaps: the reason says how many of the period they are.
    """
    row = connection.execute("SELECT min(charge_date), max(charge_date) FROM daily_cost_by_team").fetchone()
    if row is None or row[0] is None:
        return None
    first: date = row[0]
    through: date = row[1]
    from finops_assets.evaluate.forecast.series import (
        daily_series,  # needs numpy, and who reads what is evaluated does not
    )

    due = {held.budget.name: _due(held.budget, [h.budget for h in budgets], through) for held in budgets}
    kinds: dict[tuple[Columns, Basis], set[Period]] = {}
    for held in budgets:
        kinds.setdefault((_columns(held.budget), held.budget.basis), set()).update(due[held.budget.name])
    known = can_group_by(connection)
    figures: dict[tuple[Columns, str, Period], Mapping[tuple[Columns, str], Any]] = {}
    for (columns, basis), periods in kinds.items():
        # A dimension that no day was built with yet has no cost of any name.
        series = daily_series(connection, columns, basis) if periods and set(columns) <= {*known} else None
        for period in periods:
            if series is not None:
                figures[columns, basis, period] = _figures(columns, series, period)
    result = []
    for held in budgets:
        budget = held.budget
        for period in due[budget.name]:
            found = figures.get((_columns(budget), budget.basis, period), {})
            lacking = _lacking(connection, budget, Period(max(first, period.first), max(first, period.end)))
            result.append(_evaluated(held, version, period, first, through, found, lacking))
    return through, result


Columns = tuple[str, ...]


def _columns(budget: Budget) -> Columns:
    return tuple(budget.conditions)


def _key(budget: Budget) -> tuple[str, ...]:
    return tuple(budget.conditions.values())


def _lacking(connection: duckdb.DuckDBPyConnection, budget: Budget, period: Period) -> list[str]:
    """Why days of a period are in no figure of a budget that names other dimensions: a sentence a dimension."""
    found = [
        f"{len(days)} days were built before finops.yaml had {name}: they are expected as usual until they are run again"
        for name, days in days_without(connection, period, budget.others).items()
    ]
    found += [
        f"on {len(days)} days {name} has too many values to be summed by: they are expected as usual"
        for name, days in days_collapsed(connection, period, budget.others).items()
    ]
    return found


def _due(budget: Budget, all_budgets: Sequence[Budget], through: date) -> list[Period]:
    """The periods to judge: the one of the day after the newest, and before it the one that is closing."""
    next_day = through + timedelta(days=1)
    days = (next_day - timedelta(days=CLOSING_DAYS), next_day)
    found = {period: None for day in days if (period := budget.on(day))}
    if budget.certain is None:
        # A certain month takes the place of `month`.
        taken = [
            certain
            for other in all_budgets
            if other.scope == budget.scope and other.grain == budget.grain and (certain := other.certain)
        ]
        return [period for period in found if period not in taken]
    return list(found)


def _figures(columns: Columns, series: DailySeries, period: Period) -> Mapping[tuple[Columns, str], Row]:
    from finops_assets.evaluate.forecast.period import period_table

    table = period_table(", ".join(columns), series, period)
    return {(series.keys[i], series.currencies[i]): row for i, row in enumerate(table)}


def _evaluated(
    held: InForce,
    version: int,
    period: Period,
    first: date,
    through: date,
    found: Mapping[tuple[Columns, str], Row],
    lacking: Sequence[str] = (),
) -> Evaluation:
    budget = held.budget
    row = found.get((_key(budget), budget.currency))
    if row is None:
        problem = unknown_owner(budget, found)
        return Evaluation(budget, held.since_version, version, period, through, Decimal(0), None, None, None,
                          None, None, 0, 0, None, problem, problem)  # fmt: skip
    spent, forecast, low95 = row["actual_to_date"], row["forecast"], row["low95"]
    severity, reason = judge(budget, spent, forecast, low95, row["refused"])
    if period.first < first:
        reason += f"; {(first - period.first).days} days of the period, before {first}, were never reported: not in it"
    reason = "; ".join([reason, *lacking])
    return Evaluation(
        budget, held.since_version, version, period, through, spent, forecast, row["low80"],
        row["high80"], low95, row["high95"], row["days_missing"], row["history_days"], severity, reason,
    )  # fmt: skip


def judge(
    budget: Budget, spent: Decimal, forecast: Decimal | None, low95: Decimal | None, refused: str | None = None
) -> tuple[Severity | None, str]:
    """How serious it is, and why; docs/guides/budgets.md tells the reasons of the limits.

    >>> b = Budget("mobile", "ios", "month", "effective", "EUR", Decimal(100))
    >>> judge(b, Decimal(50), Decimal(95), Decimal(90))
    ('INFO', '95.0 % of the budget are expected, told from 80 % on')
    """
    amount = budget.amount
    if spent > amount:
        return "CRITICAL", f"{percent(spent, amount):.1f} % of the budget are spent"
    if forecast is None or low95 is None:
        share = percent(spent, amount)
        why = f"{share:.1f} % of the budget are spent; not forecast: {refused}"
        return ("INFO" if spent >= amount * budget.threshold / 100 else None), why
    expected = percent(forecast, amount)
    if low95 > amount:
        return (
            "CRITICAL",
            f"{expected:.1f} % of the budget are expected, and the least of the 95 % interval is above it",
        )
    if forecast > amount:
        return "WARNING", f"{expected:.1f} % of the budget are expected"
    if forecast >= amount * budget.threshold / 100:
        return "INFO", f"{expected:.1f} % of the budget are expected, told from {budget.threshold.normalize():f} % on"
    return None, f"{expected:.1f} % of the budget are expected"


def unknown_owner(budget: Budget, found: Iterable[tuple[tuple[str, ...], str]]) -> str:
    """Why a budget has nothing to be compared with: no such owner, or it bills in another currency."""
    billed: dict[tuple[str, ...], set[str]] = {}
    for key, currency in found:
        billed.setdefault(key, set()).add(currency)
    here = billed.get(_key(budget))
    if here:
        return f"{budget.owner} has no cost in {budget.currency}; it is billed in {', '.join(sorted(here))}"
    names = [owner_of_key(budget, key) for key in billed]
    close = difflib.get_close_matches(budget.owner, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{budget.owner} has no cost in the last 420 days{hint}"


def owner_of_key(budget: Budget, key: tuple[str, ...]) -> str:
    """Another owner of the kind that a budget is of, as text."""
    of = dict(zip(_columns(budget), key, strict=True))
    return owner_of(of.pop("department", None), of.pop("team", None), of)


COLUMNS = tuple(c.name for c in declarations.table(BUDGET_EVALUATIONS).columns)
# A budget that was taken out of the file is judged no more, and what was judged of it last is no status.
_LAST_NIGHT = (
    f"evaluated_at = (SELECT max(evaluated_at) FROM {BUDGET_EVALUATIONS})"
    f" AND budget IN (SELECT budget FROM {BUDGETS_TABLE})"
)


def keep(
    connection: duckdb.DuckDBPyConnection, through: date, evaluations: Sequence[Evaluation], now: datetime
) -> None:
    """Enter a night's evaluations in the place of an earlier try of the same night. To be called within a transaction."""
    at = now.astimezone(UTC).replace(tzinfo=None)
    incoming = values.arrow_records([_record(e, at) for e in evaluations], declarations.table(BUDGET_EVALUATIONS))
    connection.register("incoming_evaluations", incoming)
    try:
        ddl.create(connection, BUDGET_EVALUATIONS)
        connection.execute(f"DELETE FROM {BUDGET_EVALUATIONS} WHERE through = ?", [through])
        connection.execute(f"INSERT INTO {BUDGET_EVALUATIONS} BY NAME SELECT * FROM incoming_evaluations")
    finally:
        connection.unregister("incoming_evaluations")
    connection.execute(f"CREATE OR REPLACE VIEW {STATUS} AS SELECT * FROM {BUDGET_EVALUATIONS} WHERE {_LAST_NIGHT}")


def _record(e: Evaluation, at: datetime) -> dict[str, object]:
    budget = e.budget
    return {
        "budget": budget.name, "department": budget.department, "team": budget.team,
        "dimensions": others_text(budget), "basis": budget.basis, "currency": budget.currency, "period": budget.period, "period_start": e.period.first,
        "period_end": e.period.end, "through": e.through, "amount": budget.amount,
        "threshold_percent": budget.threshold, "spent": e.spent, "spent_percent": percent(e.spent, budget.amount),
        "forecast": e.forecast,
        "forecast_percent": None if e.forecast is None else percent(e.forecast, budget.amount),
        "low80": e.low80, "high80": e.high80, "low95": e.low95, "high95": e.high95, "chance": e.chance,
        "severity": e.severity, "reason": e.reason, "days_missing": e.days_missing, "history_days": e.history_days,
        "problem": e.problem, "since_version": e.since_version, "budgets_version": e.version, "evaluated_at": at,
    }  # fmt: skip


def evaluations(connection: duckdb.DuckDBPyConnection, only_last: bool = True) -> Rows:
    """The evaluations of the last night, or of all nights, in COLUMNS; amounts are Decimal."""
    if not Warehouse.has(connection, BUDGET_EVALUATIONS):
        return Rows(COLUMNS, ())
    rows = connection.execute(
        f"SELECT {selected(connection, BUDGET_EVALUATIONS, COLUMNS)} FROM {BUDGET_EVALUATIONS} {f'WHERE {_LAST_NIGHT}' if only_last else ''} ORDER BY through, rowid"
    ).fetchall()
    return Rows(COLUMNS, rows)


def most_serious_first(found: Rows) -> Rows:
    """Evaluations by severity, of one severity in their order; those that nobody could judge are last."""
    ranks = [-RANK.get(severity, -1) for severity in found["severity"]]
    return Rows(found.columns, [values for _, values in sorted(zip(ranks, found.values), key=lambda each: each[0])])
