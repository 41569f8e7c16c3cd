"""The figures of a month's page, out of the warehouse or its published copy.

Amounts are Decimal as the warehouse has them; rounding is the rendering's. Currencies are never added: everything
but the days is by currency. A table that is not there is None here, one without rows is empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any, Literal

import duckdb

from finops_assets.base.period import Period, next_month, period_of
from finops_assets.cost.accrual import REPORTED_ACCRUALS, accrued_rollup
from finops_assets.cost.restatements import REPORTED_NOW, restatements
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.anomalies.history import ANOMALY_HISTORY
from finops_assets.evaluate.budgets.evaluate import BUDGET_EVALUATIONS, CLOSING_DAYS
from finops_assets.evaluate.budgets.versions import BUDGETS_TABLE
from finops_assets.evaluate.comparison import Comparison, NoFigures, compare, latest_month, require_figures
from finops_assets.evaluate.forecast.period import FORECAST
from finops_assets.evaluate.governance.policy import RECENT_DAYS
from finops_assets.evaluate.reports import EXACT, SERVICES_BY, TEAMS_BY, cost_by, untagged_by
from finops_assets.evaluate.unit_costs.figures import COLUMNS as UNIT_COLUMNS
from finops_assets.evaluate.unit_costs.figures import UNIT_COSTS, whose
from finops_assets.focus.money import percent
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.ddl import selected
from finops_assets.tables.declarations import DIMENSIONS

COVERAGE, DEBT = "tag_coverage", "tag_debt"
MOST_TEAMS, MOST_FORECASTS, MOST_ANOMALIES, MOST_RESTATEMENTS, MOST_DEBTORS = 25, 12, 20, 20, 25
SPARK_BEFORE, SPARK_AFTER = timedelta(days=27), timedelta(days=7)


@dataclass(frozen=True)
class Spend:
    """Effective and billed cost of a team or service in the period, beside effective cost of the period before.

    `compared` is what was spent on the days that are compared, `before` on their likes in the period before; both are
    None where there are none.
    """

    name: tuple[str, ...]
    spent: Decimal
    billed: Decimal
    compared: Decimal | None
    before: Decimal | None
    share_percent: float
    """Of the currency's positive effective cost; NaN where that is none."""

    @property
    def change(self) -> Decimal | None:
        """Over like days; None where there are none."""
        if self.compared is None or self.before is None:
            return None
        with localcontext(prec=EXACT):
            return self.compared - self.before

    @property
    def change_percent(self) -> float:
        """NaN where there was no cost before, or nothing is known of it."""
        return float("nan") if self.change is None or self.before is None else percent(self.change, self.before)


@dataclass(frozen=True)
class Day:
    """Effective cost of a day and of its like in the period before; None: it has none, or its cost is not known."""

    day: date
    spent: Decimal
    before: Decimal | None


@dataclass(frozen=True)
class BudgetLine:
    """A budget as it was judged last in the month, see `budgets.evaluate.Evaluation`."""

    owner: tuple[str, ...]
    basis: str
    period: Period
    amount: Decimal
    spent: Decimal
    forecast: Decimal | None
    low80: Decimal | None
    high80: Decimal | None
    low95: Decimal | None
    high95: Decimal | None
    severity: str | None
    reason: str
    problem: str | None
    through: date
    days_missing: int
    """Days of the period without figures, which are not in what is spent."""


@dataclass(frozen=True)
class ForecastLine:
    """What the month will have cost at its end, accrued; amounts are None where `refused` says why."""

    kind: str
    name: str
    spent: Decimal
    forecast: Decimal | None
    low80: Decimal | None
    high80: Decimal | None
    low95: Decimal | None
    high95: Decimal | None
    days_missing: int
    refused: str | None


@dataclass(frozen=True)
class Week:
    """Cost of a week (its Monday) without a dimension, in percent of positive effective cost."""

    week: date
    without: Decimal
    percent: float
    target: float | None


@dataclass(frozen=True)
class Untagged:
    """Of a provider's positive effective cost in the period: what has no department, team and environment."""

    provider: str
    positive: Decimal
    shares: tuple[tuple[str, Decimal, float, float], ...]
    """Dimension, cost without it, its percentage, and that of the period before (NaN: none)."""


@dataclass(frozen=True)
class AnomalyLine:
    """An anomaly that touched the month. `days`: accrued cost of its series around it; empty for a resource's, and for a
    series that other dimensions tell apart, which stand after department and team in `owner`."""

    id: str
    owner: tuple[str, ...]
    service: str
    resource: str | None
    state: str
    first_day: date
    last_day: date
    kind: str
    observed: Decimal
    expected: Decimal
    excess: Decimal
    cause: str
    evidence: str
    spans: int
    """Days of it that have figures."""
    days: tuple[tuple[date, Decimal], ...] = ()

    @property
    def of_team(self) -> bool:
        """Is it of all cost of a team's service?"""
        return self.resource is None and len(self.owner) == 2


@dataclass(frozen=True)
class Restated:
    """What one restatement of a source moved in days of the month."""

    at: datetime
    source: str
    first_day: date
    last_day: date
    days: int
    up: Decimal
    down: Decimal
    billed_moved: Decimal
    teams: tuple[tuple[tuple[str, ...], Decimal], ...]
    """Those that moved most."""

    @property
    def moved(self) -> Decimal:
        with localcontext(prec=EXACT):
            return self.up + self.down


@dataclass(frozen=True)
class Debt:
    """What a champion's department owes in tags, over the last 30 days: cost by dimension, missing and not canonical.

    A row that misses two dimensions is in both, so they are not to be added.
    """

    champion: str
    department: str
    missing: dict[str, Decimal]
    outside: dict[str, Decimal]


@dataclass(frozen=True)
class UnitLine:
    """What one of something cost in the month, beside the month before, by week and by day; None where it is not known."""

    name: str
    of: str
    """Whose it is, in words; empty: of all."""
    metric: str
    quantity: Decimal | None
    cost: Decimal | None
    one: Decimal | None
    before: Decimal | None
    """Of one in the month before."""
    most: Decimal | None
    most_percent: float | None
    days: int
    not_counted: int
    """Days without a quantity."""
    without_cost: int
    """Days of which a source's cost is missing."""
    weeks: tuple[tuple[date, Decimal | None], ...] = ()
    """By Monday, each with a day of the month."""
    by_day: tuple[tuple[date, Decimal | None], ...] = ()
    unusual: tuple[tuple[date, Decimal, Decimal, str], ...] = ()
    """Day, of one, what was usual, rise or fall."""

    @property
    def is_over(self) -> bool:
        """Does one cost more than it may?"""
        return self.one is not None and self.most is not None and self.one > self.most


@dataclass(frozen=True)
class Lacking:
    """Days of the period whose figures a source is not in, or only as of its last good version."""

    source: str
    days: tuple[date, ...]
    outdated: bool


@dataclass(frozen=True)
class Money:
    """Everything of the page that is in one currency."""

    currency: str
    total: Spend
    days: list[Day]
    teams: list[Spend]
    other_teams: tuple[int, Spend] | None
    """How many teams are not listed, and their sum."""
    movers: list[Spend]
    """The teams whose cost changed most, of all."""
    services: list[Spend]
    budgets: list[BudgetLine] | None
    accrued: list[tuple[date, Decimal]]
    """Accrued cost by day, of this month and the whole month before."""
    forecast: list[ForecastLine] | None
    weeks: dict[str, list[Week]] | None
    """By required dimension."""
    untagged: list[Untagged]
    anomalies: list[AnomalyLine] | None
    more_anomalies: int
    restated: list[Restated]
    more_restated: int
    debts: list[Debt] | None
    more_debtors: int
    debt_dimensions: tuple[str, ...] = ()
    lacking: tuple[Lacking, ...] = ()
    units: list[UnitLine] | None = None
    """What one of something costs; None where nobody made such a table."""

    @property
    def whole_forecast(self) -> ForecastLine | None:
        """Of everything in this currency; None where it is not forecast."""
        return next((f for f in self.forecast or () if f.kind == "total" and f.forecast is not None), None)

    @property
    def budget_of_all(self) -> BudgetLine | None:
        """The budget of everybody for this month, in effective cost; None where there is none."""
        for budget in self.budgets or ():
            if not budget.owner and budget.basis == "effective" and _is_month(budget.period):
                return budget
        return None

    @property
    def has_team_budgets(self) -> bool:
        return any(self.budget_of(team.name) for team in self.teams)

    def untagged_share(self, dimension: str) -> tuple[Decimal, float]:
        """Cost without a dimension, and its percentage of positive effective cost."""
        without = _add(cost for line in self.untagged for d, cost, *_ in line.shares if d == dimension)
        return without, percent(without, _add(line.positive for line in self.untagged))

    def owes(self, dimension: str, problem: Literal["missing", "outside"]) -> bool:
        """Is there such a debt at all?"""
        return any(dimension in (d.missing if problem == "missing" else d.outside) for d in self.debts or ())

    def budget_of(self, team: Sequence[str]) -> BudgetLine | None:
        """A team's budget for this month, in effective cost."""
        for budget in self.budgets or ():
            if budget.owner == tuple(team) and budget.basis == "effective" and _is_month(budget.period):
                return budget
        return None


@dataclass(frozen=True)
class MonthFigures:
    """A month's page. `period` ends with the newest reported day, where the month is not over."""

    month: Period
    period: Period
    compared: Comparison
    """Which days have figures, and which are compared."""
    made_at: datetime
    debt_days: int = RECENT_DAYS
    money: list[Money] = field(default_factory=list)

    @property
    def gaps(self) -> list[date]:
        """Days of the period without figures: held by a gate, or not run."""
        return self.compared.missing

    @property
    def last(self) -> date:
        """The newest reported day of the month."""
        return self.period.end - timedelta(days=1)

    @property
    def still_to_come(self) -> list[date]:
        """Days of the month after the newest reported one."""
        return [self.period.end + timedelta(days=n) for n in range((self.month.end - self.period.end).days)]


def gather(
    connection: duckdb.DuckDBPyConnection, month: str | None = None, now: datetime | None = None
) -> MonthFigures:
    """The figures of a month (2026-10), by default of the newest reported day's.

    Raises:
        NoFigures: nothing is reported, or nothing of that month; or the text is no month.
    """
    newest = latest_month(connection) if Warehouse.has(connection, ROLLUP_TABLE) else None
    if newest is None:
        raise NoFigures("nothing was reported: no day had passed its gates")
    whole = _month(month or f"{newest.first:%Y-%m}")
    period = Period(whole.first, min(whole.end, newest.end))
    require_figures(connection, whole, name=f"{whole.first:%Y-%m}")
    compared = compare(connection, period)
    teams = _spends(connection, period, TEAMS_BY)
    services = _spends(connection, period, SERVICES_BY)
    days = _days(connection, compared)
    budgets = _budgets(connection, whole, newest.end)
    forecast = _forecast(connection, whole)
    weeks = _weeks(connection, whole)
    untagged = _untagged(connection, period)
    anomalies = _anomalies(connection, period)
    moved = _restated(connection, whole)
    debts = _debts(connection)
    units = _units(connection, whole)
    accrued = _accrued(connection, whole, period.end)
    lacking, bills_in = _lacking(compared), _currencies(connection)
    money = []
    for currency, spends in teams.items():
        found = None if anomalies is None else anomalies.get(currency, [])
        shown = None if found is None else _with_days(connection, currency, found[:MOST_ANOMALIES], newest.end)
        owed = None if debts is None else debts.get(currency, [])
        listed, rest = spends[:MOST_TEAMS], spends[MOST_TEAMS:]
        money.append(
            Money(
                currency,
                _sum(spends, ("all",)),
                days.get(currency, []),
                listed,
                (len(rest), _sum(rest, ("others",))) if rest else None,
                sorted((s for s in spends if s.change), key=lambda s: abs(s.change or Decimal(0)), reverse=True),
                services.get(currency, []),
                None if budgets is None else budgets.get(currency, []),
                accrued.get(currency, []),
                None if forecast is None else forecast.get(currency, []),
                None if weeks is None else weeks.get(currency, {}),
                untagged.get(currency, []),
                shown,
                max(0, len(found or ()) - MOST_ANOMALIES),
                moved.get(currency, [])[:MOST_RESTATEMENTS],
                max(0, len(moved.get(currency, [])) - MOST_RESTATEMENTS),
                None if owed is None else owed[:MOST_DEBTORS],
                max(0, len(owed or ()) - MOST_DEBTORS),
                tuple(sorted({d for debt in owed or () for d in (*debt.missing, *debt.outside)}, key=_dimension_order)),
                tuple(each for each in lacking if currency in bills_in.get(each.source, {currency})),
                None if units is None else units.get(currency, []),
            )
        )
    return MonthFigures(
        whole,
        period,
        compared,
        (now or datetime.now(UTC)).astimezone(UTC),
        money=money,
    )


def _lacking(compared: Comparison) -> list[Lacking]:
    """What is not in the figures of days that others have figures of, by source."""
    within = set(compared.period.days)
    return [
        Lacking(source, kept, outdated)
        for outdated, of in ((False, compared.late), (True, compared.outdated))
        for source, days in of.items()
        if (kept := tuple(day for day in days if day in within))
    ]


def _currencies(connection: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    """The currencies that each source has billed in; of one that is not named nothing was ever reported."""
    found: dict[str, set[str]] = {}
    query = f"SELECT DISTINCT source, coalesce(BillingCurrency, '') FROM {REPORTED_NOW}"
    for source, currency in connection.execute(query).fetchall():
        found.setdefault(source, set()).add(currency)
    return found


def open_months(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The month of the newest reported day and, for a week after its end, the one before: late bills still change it.

    Raises:
        NoFigures: nothing is reported.
    """
    newest = latest_month(connection) if Warehouse.has(connection, ROLLUP_TABLE) else None
    if newest is None:
        raise NoFigures("nothing was reported: no day had passed its gates")
    rows = connection.execute(
        f"SELECT DISTINCT strftime(charge_date, '%Y-%m') FROM {ROLLUP_TABLE} WHERE charge_date >= ? ORDER BY 1 DESC",
        [(newest.end - timedelta(days=CLOSING_DAYS + 1)).replace(day=1)],
    ).fetchall()
    return [month for (month,) in rows]


def _month(text: str) -> Period:
    try:
        found = period_of(text)
    except ValueError as error:
        raise NoFigures(f"--month: {error}") from error
    if not _is_month(found):
        raise NoFigures(f"--month: found {text}; a month is needed, as 2026-10")
    return found


def _is_month(period: Period) -> bool:
    return period.first.day == 1 and period.end == next_month(period.first)


def _dimension_order(dimension: str) -> tuple[int, str]:
    known = list(DIMENSIONS)
    return (known.index(dimension) if dimension in known else len(known), dimension)


def _add(amounts: Iterable[Decimal]) -> Decimal:
    """Exact: Python's own 28 digits would round what the warehouse holds."""
    with localcontext(prec=EXACT):
        return sum(amounts, Decimal(0))


def _known(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """The sum of those that are known; None where none is."""
    known = [amount for amount in amounts if amount is not None]
    return _add(known) if known else None


def _sum(spends: Sequence[Spend], name: tuple[str, ...]) -> Spend:
    shares = [s.share_percent for s in spends]
    return Spend(
        name,
        _add(s.spent for s in spends),
        _add(s.billed for s in spends),
        _known(s.compared for s in spends),
        _known(s.before for s in spends),
        sum(shares),
    )


def _spends(connection: duckdb.DuckDBPyConnection, period: Period, by: tuple[str, ...]) -> dict[str, list[Spend]]:
    """By currency, the largest first."""
    found: dict[str, list[Spend]] = {}
    table = cost_by(connection, period, by)
    for row in table:
        found.setdefault(row["currency"] or "", []).append(
            Spend(
                tuple(str(row[b]) for b in by),
                row["effective_cost"],
                row["billed_cost"],
                row["effective_cost_compared"],
                row["effective_cost_before"],
                row["share_percent"],
            )
        )
    return found


def _days(connection: duckdb.DuckDBPyConnection, compared: Comparison) -> dict[str, list[Day]]:
    """Every day of the period with figures, beside its like where both are known; a currency without rows cost 0."""
    found: dict[str, dict[date, Day]] = {}
    for row in cost_by(connection, compared.period, ("charge_date",)):
        day = Day(row["charge_date"], row["effective_cost"], row["effective_cost_before"])
        found.setdefault(row["currency"] or "", {})[day.day] = day
    known = sorted(frozenset[date]().union(*compared.known.values()))
    return {
        currency: [of_day.get(day, Day(day, Decimal(0), None)) for day in known] for currency, of_day in found.items()
    }


def _budgets(
    connection: duckdb.DuckDBPyConnection, month: Period, newest_end: date
) -> dict[str, list[BudgetLine]] | None:
    """The last evaluation of each budget and period that shares days with the month; the most serious first.

    A period that reaches beyond the month is shown as it was judged within it. A budget that was taken out of the file
    is not shown while its period runs.
    """
    if not Warehouse.has(connection, BUDGET_EVALUATIONS):
        return None
    held = f"budget IN (SELECT budget FROM {BUDGETS_TABLE})" if Warehouse.has(connection, BUDGETS_TABLE) else "true"
    rows = connection.execute(
        f"""
        SELECT currency, department, team, {selected(connection, BUDGET_EVALUATIONS, ["dimensions"])}, basis, period_start, period_end, amount, spent, forecast, low80, high80,
            low95, high95, severity, reason, problem, through, days_missing
        FROM {BUDGET_EVALUATIONS}
        WHERE period_start < $end AND period_end > $first AND (period_end <= $end OR through < $end)
            AND (period_end <= $newest_end OR {held})
        QUALIFY row_number() OVER (PARTITION BY budget, period_start ORDER BY through DESC, evaluated_at DESC) = 1
        ORDER BY currency, CASE severity WHEN 'CRITICAL' THEN 0 WHEN 'WARNING' THEN 1 WHEN 'INFO' THEN 2 ELSE 3 END,
            forecast / nullif(amount, 0) DESC NULLS LAST, budget, period_start
        """,
        {"first": month.first, "end": month.end, "newest_end": newest_end},
    ).fetchall()
    found: dict[str, list[BudgetLine]] = {}
    for currency, department, team, others, basis, start, end, *rest in rows:
        owner = (*(part for part in (department, team) if part), *_written(others))
        found.setdefault(currency, []).append(BudgetLine(owner, basis, Period(start, end), *rest))
    return found


def _forecast(connection: duckdb.DuckDBPyConnection, month: Period) -> dict[str, list[ForecastLine]] | None:
    """Of the month, if it is the one that the newest forecast is of: the total, departments and the largest teams."""
    if not Warehouse.has(connection, FORECAST):
        return None
    rows = connection.execute(
        f"""
        SELECT currency, series, key, actual_to_date, forecast, low80, high80, low95, high95, days_missing, refused
        FROM {FORECAST} WHERE period_start = $first AND series IN ('total', 'department', 'team')
        QUALIFY row_number() OVER (
            PARTITION BY currency, series ORDER BY coalesce(forecast, actual_to_date) DESC, key
        ) <= CASE series WHEN 'total' THEN 1 ELSE $most END
        ORDER BY currency, series <> 'total', series, coalesce(forecast, actual_to_date) DESC, key
        """,
        {"first": month.first, "most": MOST_FORECASTS},
    ).fetchall()
    found: dict[str, list[ForecastLine]] = {}
    for currency, *line in rows:
        found.setdefault(currency, []).append(ForecastLine(*line))
    return found


def _accrued(connection: duckdb.DuckDBPyConnection, month: Period, end: date) -> dict[str, list[tuple[date, Decimal]]]:
    """Accrued cost by day, of the month up to `end` and of the whole month before."""
    if not Warehouse.has(connection, REPORTED_ACCRUALS):
        return {}
    rows = connection.execute(
        f"""
        SELECT BillingCurrency, charge_date, sum(effective_cost) FROM {accrued_rollup()}
        WHERE charge_date >= $first AND charge_date < $end GROUP BY ALL ORDER BY ALL
        """,
        {"first": month.before.first, "end": end},
    ).fetchall()
    found: dict[str, list[tuple[date, Decimal]]] = {}
    for currency, day, cost in rows:
        found.setdefault(currency or "", []).append((day, cost))
    return found


def _written(others: str | None) -> list[str]:
    """Other dimensions as parts of an owner's name."""
    return [f"{dimension}={value}" for dimension, value in (json.loads(others) if others else {}).items()]


def _rows_of(connection: duckdb.DuckDBPyConnection, table: str, query: str, values: dict[str, Any]) -> list[Any] | None:
    """The rows of a query on a report's table. None without the table; none at all where it is empty: it has no types."""
    if not Warehouse.has(connection, table):
        return None
    if not connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall():
        return []
    return connection.execute(query, values).fetchall()


def _weeks(connection: duckdb.DuckDBPyConnection, month: Period) -> dict[str, dict[str, list[Week]]] | None:
    """By currency and required dimension, up to the last week that begins in the month."""
    rows = _rows_of(
        connection,
        COVERAGE,
        f"""
        SELECT currency, dimension, CAST(week AS DATE), without_cost, without_percent, target_percent
        FROM {COVERAGE} WHERE scope = 'all' AND week < $end AND positive_effective_cost > 0 ORDER BY ALL
        """,
        {"end": month.end},
    )
    if rows is None:
        return None
    found: dict[str, dict[str, list[Week]]] = {}
    for currency, dimension, *week in sorted(rows, key=lambda r: (r[0], _dimension_order(r[1]), r[2])):
        found.setdefault(currency, {}).setdefault(dimension, []).append(Week(*week))
    return found


def _untagged(connection: duckdb.DuckDBPyConnection, period: Period) -> dict[str, list[Untagged]]:
    found: dict[str, list[Untagged]] = {}
    table = untagged_by(connection, period)
    before = "_percent_before"
    names = [c.removeprefix("untagged_").removesuffix(before) for c in table.columns if c.endswith(before)]
    for row in table:
        shares = tuple(
            (d, row[f"untagged_{d}"], row[f"untagged_{d}_percent"], row[f"untagged_{d}_percent_before"]) for d in names
        )
        found.setdefault(row["currency"] or "", []).append(
            Untagged(row["provider"], row["positive_effective_cost"], shares)
        )
    for lines in found.values():
        lines.sort(key=lambda line: -line.positive)
    return found


def _anomalies(connection: duckdb.DuckDBPyConnection, period: Period) -> dict[str, list[AnomalyLine]] | None:
    """What touched the period, the furthest from expected first."""
    if not Warehouse.has(connection, ANOMALY_HISTORY):
        return None
    rows = _rows_of(
        connection,
        ANOMALY_HISTORY,
        f"""
        SELECT currency, ended, verdict, id, department, team, {selected(connection, ANOMALY_HISTORY, ["dimensions"])},
            ServiceCategory, ResourceId, CAST(first_day AS DATE), CAST(last_day AS DATE), kind, observed, expected, excess, cause, evidence, days
        FROM {ANOMALY_HISTORY} WHERE CAST(last_day AS DATE) >= $first AND CAST(first_day AS DATE) < $end
        ORDER BY currency, abs(excess) DESC, id
        """,
        {"first": period.first, "end": period.end},
    )
    if rows is None:
        return None
    found: dict[str, list[AnomalyLine]] = {}
    for currency, ended, verdict, ident, department, team, others, service, resource, *figures in rows:
        state = f"judged {verdict}" if verdict else STATES.get(ended or "", ended)
        found.setdefault(currency, []).append(
            AnomalyLine(ident, (department, team, *_written(others)), service, resource, state, *figures)
        )
    return found


# In few words what anomalies.history.ENDED says of an end; without one it lasts.
STATES = {"": "open", "normal": "over", "level": "the new level", "restated": "restated", "limits": "within new limits"}


def _with_days(
    connection: duckdb.DuckDBPyConnection, currency: str, anomalies: Sequence[AnomalyLine], end: date
) -> list[AnomalyLine]:
    """The anomalies of teams with the accrued cost of their days, from four weeks before to a week after."""
    wanted = [a for a in anomalies if a.of_team]
    if not wanted or not Warehouse.has(connection, REPORTED_ACCRUALS):
        return list(anomalies)
    rows = connection.execute(
        f"""
        SELECT department, team, ServiceCategory, charge_date, sum(effective_cost) FROM {accrued_rollup()}
        WHERE charge_date >= $first AND charge_date < $end AND BillingCurrency = $currency
            AND list_contains($names, struct_pack(department := department, team := team, service := ServiceCategory))
        GROUP BY ALL
        """,
        {
            "first": min(a.first_day for a in wanted) - SPARK_BEFORE,
            "end": min(max(a.last_day for a in wanted) + SPARK_AFTER + timedelta(days=1), end),
            "currency": currency,
            "names": [{"department": a.owner[0], "team": a.owner[1], "service": a.service} for a in wanted],
        },
    ).fetchall()
    costs: dict[tuple[str, ...], dict[date, Decimal]] = {}
    for department, team, service, day, cost in rows:
        costs.setdefault((department, team, service), {})[day] = cost
    reported = {
        day
        for (day,) in connection.execute(
            f"SELECT DISTINCT charge_date FROM {ROLLUP_TABLE} WHERE charge_date < ?", [end]
        ).fetchall()
    }
    return [
        a if not a.of_team else replace(a, days=_around(a, costs.get((*a.owner, a.service), {}), reported))
        for a in anomalies
    ]


def _around(anomaly: AnomalyLine, costs: dict[date, Decimal], reported: set[date]) -> tuple[tuple[date, Decimal], ...]:
    """The reported days around an anomaly; one without a row of the series cost nothing."""
    first, last = anomaly.first_day - SPARK_BEFORE, anomaly.last_day + SPARK_AFTER
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return tuple((day, costs.get(day, Decimal(0))) for day in days if day in reported)


def _restated(connection: duckdb.DuckDBPyConnection, month: Period) -> dict[str, list[Restated]]:
    """Of days of the month, the newest first: one line a source and restatement."""
    table = restatements(connection, month.first)
    groups: dict[tuple[str, datetime, str], list[dict[Any, Any]]] = {}
    for row in table.where(lambda row: month.first <= row["charge_date"] < month.end):
        # Days of one run are restated within moments of each other: the minute is told.
        at = row["restated_at"].replace(second=0, microsecond=0)
        groups.setdefault((row["currency"] or "", at, row["source"]), []).append(row)
    found: dict[str, list[Restated]] = {}
    for (currency, at, source), rows in sorted(groups.items(), key=lambda g: g[0], reverse=True):
        teams: dict[tuple[str, ...], list[Decimal]] = {}
        for row in rows:
            teams.setdefault((row["department"], row["team"]), []).append(row["moved"])
        moved = {team: _add(amounts) for team, amounts in teams.items()}
        found.setdefault(currency, []).append(
            Restated(
                at,
                source,
                min(row["charge_date"] for row in rows),
                max(row["charge_date"] for row in rows),
                len({row["charge_date"] for row in rows}),
                _add(m for m in moved.values() if m > 0),
                _add(m for m in moved.values() if m < 0),
                _add(row["billed_moved"] for row in rows),
                tuple(sorted(((t, m) for t, m in moved.items() if m), key=lambda tm: -abs(tm[1]))[:3]),
            )
        )
    return found


def _debts(connection: duckdb.DuckDBPyConnection) -> dict[str, list[Debt]] | None:
    """By currency; the departments with the largest single debt first."""
    rows = _rows_of(
        connection,
        DEBT,
        f"""
        SELECT currency, coalesce(champion, ''), department, dimension, problem, sum(positive_effective_cost)
        FROM {DEBT} GROUP BY ALL ORDER BY ALL
        """,
        {},
    )
    if rows is None:
        return None
    found: dict[str, dict[tuple[str, str], Debt]] = {}
    for currency, champion, department, dimension, problem, cost in rows:
        debt = found.setdefault(currency, {}).setdefault((champion, department), Debt(champion, department, {}, {}))
        (debt.missing if problem == "missing" else debt.outside)[dimension] = cost
    return {
        currency: sorted(debts.values(), key=lambda d: (-max((*d.missing.values(), *d.outside.values())), d.department))
        for currency, debts in found.items()
    }


def _units(connection: duckdb.DuckDBPyConnection, month: Period) -> dict[str, list[UnitLine]] | None:
    """By currency, by name: the month as the table `unit_costs` has it, its weeks and its days."""
    rows = _rows_of(
        connection,
        UNIT_COSTS,
        f"""
        SELECT {selected(connection, UNIT_COSTS, UNIT_COLUMNS)} FROM {UNIT_COSTS}
        WHERE period_end > $before AND period_start < $end ORDER BY currency, unit_cost, dimensions NULLS FIRST, period_start
        """,
        {"before": month.before.first, "end": month.end},
    ) if Warehouse.has(connection, UNIT_COSTS) else None  # fmt: skip
    if rows is None:
        return None
    series: dict[tuple[str, str, str | None], dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        told = dict(zip(UNIT_COLUMNS, row))
        by_grain = series.setdefault((told["currency"], told["unit_cost"], told["dimensions"]), {})
        by_grain.setdefault(told["grain"], []).append(told)
    found: dict[str, list[UnitLine]] = {}
    for (currency, name, dimensions), grains in series.items():
        by_month = {told["period_start"]: told for told in grains.get("month", ())}
        now, then = by_month.get(month.first), by_month.get(month.before.first)
        if now is None:
            continue
        days = [told for told in grains.get("day", ()) if told["period_start"] >= month.first]
        found.setdefault(currency, []).append(
            UnitLine(
                name, whose(dimensions), now["metric"], now["quantity"], now["effective_cost"], now["effective_per_unit"],
                then["effective_per_unit"] if then else None, now["most_per_unit"], now["most_percent"], now["days"],
                now["days_without_quantity"], now["days_without_cost"],
                tuple(
                    (told["period_start"], told["effective_per_unit"])
                    for told in grains.get("week", ()) if told["period_end"] > month.first
                ),
                tuple((told["period_start"], told["effective_per_unit"]) for told in days),
                tuple(
                    (told["period_start"], told["effective_per_unit"], told["usual_per_unit"], told["unusual"])
                    for told in days if told["unusual"]
                ),
            )
        )  # fmt: skip
    return found
