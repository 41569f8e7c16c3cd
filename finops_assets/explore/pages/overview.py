"""Overview: what was spent, beside the period before, budgets and forecast; what changed most, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from finops_assets.base.period import Period
from finops_assets.cost.reach import Reach
from finops_assets.evaluate.anomalies.history import Anomaly
from finops_assets.evaluate.budgets.evaluate import evaluations, most_serious_first
from finops_assets.evaluate.forecast.period import FORECAST
from finops_assets.evaluate.reports import TEAMS_BY
from finops_assets.explore import charts
from finops_assets.explore.asking import CHARGES, Question, finops, less
from finops_assets.explore.listing import Listing, heading
from finops_assets.explore.pages.anomalies import found_in
from finops_assets.explore.pages.costs import after_shared_cost, by_day, costs_by, total
from finops_assets.explore.pages.page import Chart, Page, address
from finops_assets.focus.money import percent

MOST_CHANGES, MOST_BUDGETS, MOST_ANOMALIES = 10, 5, 5


def overview(question: Question) -> Page:
    view, currency = question.view, question.currency
    by = view.by if view.by != (CHARGES,) else ()
    by = by or ("provider",)
    with question.made(question.report(by), question.compared.notes) as made:
        groups = question.costs(by)
    days = question.days(by[0])
    likes = by_day(days)
    borne = after_shared_cost(question) if view.shared == "after" else None
    spent, compared, before = total(groups)
    unusual = sorted(found_in(question), key=lambda a: -abs(a.excess))
    moved = changes(question, unusual)
    forecast = _forecast(question)
    running = forecast is not None and Period(forecast["period_start"], forecast["period_end"]).first <= view.last

    def narrower(row: dict[str, Any]) -> str:
        return address("overview", view.narrowed(*((b, str(row[b])) for b in by)))

    listings = [
        borne[0] if borne else costs_by("groups", question, by, groups, made[0], narrower),
        moved,
        _budgets(question),
        _anomalies(question, unusual),
    ]  # fmt: skip
    series = [(day, cost) for day, cost, _ in likes]
    found = {
        "days": borne[1] if borne else Chart(
            f"{view.basis.capitalize()} cost by day and {heading(by[0])}",
            charts.by_day(
                days, by[0], currency, question.touched,
                {day: before for day, _, before in likes},
                lambda name, day: address("overview", view.narrowed((by[0], str(name)))),
            ),
            "Bars are days; ticks are the like days before; shaded days with a mark have a source that is held or awaited.",
        ),
        "run": Chart(
            "Spent to date" + (" and expected" if running else ""),
            charts.cumulated(series, currency, forecast["period_end"] if running and forecast else view.end, forecast if running else None),
            "The line adds up the days." + (" The diamond is the forecast of accrued cost with its 80 % and 95 % bands." if running else ""),
        ),
    }  # fmt: skip
    change = less(compared, before)
    parts = {
        "spent": spent, "compared": compared, "before": before, "change": change,
        "change_percent": percent(change, before) if change is not None and before else None,
        "made": made[0], "forecast": forecast,
    }  # fmt: skip
    return Page(listings, found, parts)


def changes(question: Question, anomalies: Sequence[Anomaly]) -> Listing:
    """The teams' services whose cost changed most over like days, and the anomalies that speak of them."""
    by = (*TEAMS_BY, "ServiceCategory")
    view = question.view
    with question.made(question.report(by), question.compared.notes) as made:
        costs = question.costs(by)
    told = {(a.key.department, a.key.team, a.key.ServiceCategory): a for a in anomalies if not a.key.ResourceId}
    rows: list[dict[str, Any]] = []
    for row in costs.to_dict("records"):
        named = {str(column): value for column, value in row.items()}
        a = told.get(tuple(str(row[b]) for b in by))  # type: ignore[arg-type]
        change = less(row["compared"], row["before"])
        if change:
            rows.append({**named, "change": change, "why": f"{a.first_day}: {a.cause}" if a else None})
    rows.sort(key=lambda row: -abs(row["change"]))
    costs = pd.DataFrame(rows, columns=[*costs.columns, "change", "why"], dtype="object")
    finer = ("ServiceName",) if question.has_charges else ("environment",)
    return Listing(
        "changes", "What changed most", costs, (*by, "compared", "before", "change", "change_percent", "why"), made[0],
        note="Over like days. Why: the anomaly that was found there, if one was.",
        empty="Nothing changed, or nothing can be compared.", amounts=("compared", "before", "change"), unnamed=True,
        links={by[-1]: lambda row: address("teams", view.narrowed(*((b, str(row[b])) for b in by)).changed(by=finer))},
        export=question.exported(costs.drop(columns=["change", "why"])), most=MOST_CHANGES,
    )  # fmt: skip


def _anomalies(question: Question, largest: Sequence[Anomaly]) -> Listing:
    view = question.view
    rows = pd.DataFrame(
        [
            {
                "id": a.id, "first_day": a.first_day, "department": a.key.department, "team": a.key.team,
                "what": a.key.ResourceId or a.key.ServiceCategory, "excess": a.excess, "cause": a.cause,
                "verdict": a.verdict,
            }
            for a in largest[:MOST_ANOMALIES]
        ],
        columns=["id", "first_day", "department", "team", "what", "excess", "cause", "verdict"], dtype="object",
    )  # fmt: skip
    return Listing(
        "anomalies", "Anomalies in these days", rows, tuple(rows.columns),
        question.told_by(finops("anomalies", "list", "--since", str(view.first))),
        links={"id": lambda row: address("anomalies", view.changed(id=str(row["id"])))},
        empty="No anomaly touches these days.",
    )  # fmt: skip


def _budgets(question: Question) -> Listing:
    with question.made(finops("budgets", "status")) as made:
        table = most_serious_first(evaluations(question.connection)).frame()
    table = table[table["currency"] == question.currency]
    return Listing(
        "budgets", "Budgets, the most serious first", table.head(MOST_BUDGETS),
        ("budget", "period_start", "period_end", "amount", "spent", "spent_percent", "forecast", "severity"), made[0],
        note="As of the last evaluation; a budget's own basis and period count, not those chosen above.",
        links={"budget": lambda row: address("budgets", question.view)},
        empty="No budget is in this currency.",
    )  # fmt: skip


def _forecast(question: Question) -> dict[str, Any] | None:
    """Of all that the reader may see in this currency, as the last night made it; None where there is none."""
    series = _forecast_series(question.reach)
    if series is None or not question.has(FORECAST):
        return None
    rows = question.connection.execute(
        f"""
        SELECT period_start, period_end, actual_to_date, forecast, low80, high80, low95, high95, days_missing, refused
        FROM {FORECAST} WHERE series = $series AND key = $key AND currency = $currency
        """,
        {"series": series[0], "key": series[1], "currency": question.currency},
    ).fetchall()
    names = (
        "period_start", "period_end", "actual_to_date", "forecast", "low80", "high80", "low95", "high95", "days_missing",
        "refused",
    )  # fmt: skip
    if not rows:
        return None
    return dict(zip(names, rows[0]))


def _forecast_series(reach: Reach) -> tuple[str, str] | None:
    """Series and key of the forecast of all that is in reach; None where no one series is that."""
    if reach.owners is None:
        return "total", "total"
    if len(reach.owners) != 1:
        return None
    [(department, team)] = reach.owners
    return ("department", department) if team is None else ("team", f"{department} / {team}")
