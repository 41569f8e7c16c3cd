"""Anomalies: what was found in these days; of one of them its days, cause and drivers, and the verdict in place."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pandas as pd

from finops_assets.cost.accrual import REPORTED_ACCRUALS
from finops_assets.evaluate.anomalies.history import ENDED, Anomaly, AnomalyHistory, history_table
from finops_assets.evaluate.anomalies.key import CAUSES
from finops_assets.explore import charts
from finops_assets.explore.address import View
from finops_assets.explore.asking import Question, finops
from finops_assets.explore.listing import Listing
from finops_assets.explore.pages.page import Chart, Page, address

DAYS_BEFORE, DAYS_AFTER = 28, 7


def anomalies(question: Question) -> Page:
    """Those of the file that verdicts go to, as `finops anomalies list` shows them: no copy is older than a verdict."""
    view = question.view
    found = sorted(found_in(question), key=lambda a: (a.first_day, abs(a.excess)), reverse=True)
    for column in ("department", "team", "ServiceCategory"):
        wanted = view.only.get(column)
        found = [a for a in found if wanted is None or str(getattr(a.key, column)) in wanted]
    table = history_table(found).frame()
    listing = Listing(
        "found", "Anomalies in these days", table.assign(state=[_state(a) for a in found]),
        ("id", "first_day", "days", "department", "team", "ServiceCategory", "ResourceId", "excess", "percent", "score", "cause", "state"),
        question.told_by(finops("anomalies", "list", "--since", str(view.first))),
        links={"id": lambda row: address("anomalies", view.changed(id=str(row["id"])))},
        note="Excess: what its days cost above (or below, −) what was expected; accrued cost. The newest first.",
        empty="No anomaly touches these days, in this currency and with these filters.", form="verdict",
        headings={"score": "sigmas", "percent": "excess %"}, export=table,
    )  # fmt: skip
    if not view.id:
        return Page([listing], {}, {"one": None})
    one = _history(question).find(view.id)
    drivers = pd.DataFrame(
        [
            {n: d[n] if n in ("facet", "name") else Decimal(d[n]) for n in ("facet", "name", "before", "now", "change")}
            for d in one.drivers
        ],
        columns=["facet", "name", "before", "now", "change"],
        dtype="object",
    )  # fmt: skip
    moved = Listing(
        "drivers", "What moved most, a day", drivers, tuple(drivers.columns), question.told_by(finops("anomalies", "show", one.id)),
        amounts=("before", "now", "change"), empty="Nothing is known to have moved.",
    )  # fmt: skip
    parts = {
        "one": one, "cause": CAUSES[one.cause], "state": _state(one), "evidence": one.evidence,
        "ended": ENDED[one.ended] if one.ended else "",
        "charges": address("teams", _around(question, one, 0).changed(id="", by=("ServiceName",) if question.has_charges else ())),
    }  # fmt: skip
    return Page([moved, listing], _series(question, one), parts)


def found_in(question: Question) -> list[Anomaly]:
    """The anomalies that touch the view's days, in its currency."""
    found = _history(question).all(question.view.first)
    return [a for a in found if a.first_day < question.view.end and a.key.currency == question.currency]


def _history(question: Question) -> AnomalyHistory:
    """The file that verdicts go to, as the reader may see it."""
    return AnomalyHistory.beside(question.settings.warehouse, question.reach.sees)


def _state(anomaly: Anomaly) -> str:
    ended = ENDED[anomaly.ended].partition(":")[0] if anomaly.ended else "open"
    return f"{ended}, {anomaly.verdict}" if anomaly.verdict else ended


def _around(question: Question, one: Anomaly, days: int) -> View:
    """The view of its series on its days, and so many before and after."""
    view = question.view.changed(
        first=one.first_day - timedelta(days=days), end=one.last_day + timedelta(days=1 + min(days, DAYS_AFTER)),
        basis="effective", currency=one.key.currency, where=(), by=(),
    )  # fmt: skip
    filters = [("department", one.key.department), ("team", one.key.team)]
    if not one.key.ResourceId:
        filters.append(("ServiceCategory", one.key.ServiceCategory))
    elif question.has_charges:
        filters += [("source", str(one.key.source)), ("ResourceId", one.key.ResourceId)]
    return view.narrowed(*((column, value) for column, value in filters if value))


def _series(question: Question, one: Anomaly) -> dict[str, Chart]:
    """Its series' days around it, in the cost that it was found in; of a resource's series no accrued cost is kept."""
    if one.key.ResourceId or not question.has(REPORTED_ACCRUALS):
        return {}
    view = _around(question, one, DAYS_BEFORE).changed(basis="accrued")
    around = Question(question.settings, question.copy, view)
    costs = around.days("team")
    if costs.empty:
        return {}
    spec = charts.by_day(costs, "team", one.key.currency, around.touched, span=(one.first_day, one.last_day))
    return {
        "series": Chart("Its days, and four weeks before", spec, "Accrued cost; the days of the anomaly are framed.")
    }
