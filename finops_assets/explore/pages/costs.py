"""Cost as more than one page shows it: split and added up, by day, and after shared cost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pandas as pd

from finops_assets.evaluate.allocation.balance import ALLOCATED_COST
from finops_assets.evaluate.allocation.report import allocation, borne_by_day
from finops_assets.evaluate.reports import TEAMS_BY
from finops_assets.explore import charts
from finops_assets.explore.address import REPORTING, ViewError
from finops_assets.explore.asking import Made, Question, add, finops
from finops_assets.explore.listing import Listing, heading
from finops_assets.explore.pages.page import Chart, address
from finops_assets.tables.rows import Rows


def costs_by(
    name: str,
    question: Question,
    by: tuple[str, ...],
    costs: pd.DataFrame,
    made: Made,
    narrower: Callable[[dict[str, Any]], str],
) -> Listing:
    """Cost by some columns, each row a way to what is within it."""
    return Listing(
        name, f"Cost by {', '.join(map(heading, by))}", costs,
        (*by, "cost", "compared", "before", "change_percent", "days", "row_count"), made,
        links={by[-1]: narrower} if by else {}, bar="cost", total=True, unnamed=True,
        amounts=("cost", "compared", "before"), export=question.exported(costs),
    )  # fmt: skip


def total(costs: pd.DataFrame) -> tuple[Any, Any, Any]:
    """The exact sums of cost, of its compared part and of what that is compared with; None where nothing is compared."""
    known = [value for value in costs["compared"].tolist() if value is not None]
    before = [value for value in costs["before"].tolist() if value is not None]
    return add(costs["cost"].tolist()), add(known) if known else None, add(before) if before else None


def by_day(costs: pd.DataFrame) -> list[tuple[date, Decimal, Decimal | None]]:
    """Of cost by day and something else: each day's cost, and that of its like before; None where nothing is compared."""
    found: dict[date, tuple[list[Any], list[Any]]] = {}
    for day, cost, before in zip(costs["charge_date"].tolist(), costs["cost"].tolist(), costs["before"].tolist()):
        spent, likes = found.setdefault(day, ([], []))
        spent.append(cost)
        if before is not None:
            likes.append(before)
    return [(day, add(spent), add(likes) if likes else None) for day, (spent, likes) in sorted(found.items())]


def allocated(question: Question, ask: Callable[..., Rows], *options: str) -> tuple[pd.DataFrame, Made]:
    """What a function of the report on allocation says of the view's days, in its currency; `options`: the command's.

    Raises:
        ViewError: there is nothing yet.
    """
    view = question.view
    if not question.has(ALLOCATED_COST):
        raise ViewError("nothing was allocated yet; set `shared_cost` in finops.yaml and run days")
    command = finops(
        "report", "allocation", "--from", str(view.first), "--to", str(view.end), "--basis", view.basis, *options
    )
    with question.made(command, question.compared.notes) as made:
        table = ask(question.connection, view.period, view.basis).frame()
    table = table[table["currency"] == question.currency]
    if {"department", "team"} <= set(table.columns):
        # Of those who bear what a team gave, no more is known here than that.
        table = table[[question.reach.sees(*owner) for owner in zip(table["department"], table["team"])]]
    return table, made[0]


def after_shared_cost(question: Question) -> tuple[Listing, Chart]:
    """What each team bears after shared cost, in all and by day.

    Raises:
        ViewError: it is not known in this cost, currency or with these filters.
    """
    view = question.view
    if view.basis == "accrued" or view.currency == REPORTING or not set(view.only) <= set(TEAMS_BY):
        raise ViewError(
            "after shared cost is known by department and team, in effective or billed cost and in the currencies of the"
            " bills; take the other filters away, or choose before shared cost"
        )
    table, made = allocated(question, allocation)
    by_days = borne_by_day(question.opened, view.period, view.basis).frame()
    by_days = by_days[by_days["currency"] == question.currency]
    by_days = by_days[[question.reach.sees(*owner) for owner in zip(by_days["department"], by_days["team"])]]
    for column, values in view.only.items():
        table, by_days = table[table[column].isin(values)], by_days[by_days[column].isin(values)]
    split = "team" if "department" in view.only else "department"

    def own(row: dict[str, Any]) -> str:
        narrowed = view.narrowed(("department", str(row["department"])), ("team", str(row["team"])))
        return address("teams", narrowed.changed(shared="before", by=("ServiceCategory",)))

    listing = Listing(
        "allocation", "What each team bears after shared cost", table,
        ("department", "team", "showback", "given", "received", "chargeback", "change_percent"), made,
        links={"team": own}, bar="chargeback", total=True, headings={"showback": "own", "chargeback": "borne"},
        note="A click on a team leads to its own cost, before shared cost.",
    )  # fmt: skip
    chart = Chart(
        f"Borne by day and {split}",
        charts.by_day(
            by_days.rename(columns={"chargeback": "cost"}), split, question.currency, question.touched,
            href=lambda name, day: address("teams", view.narrowed((split, str(name)))),
        ),
        "Bars are days, after shared cost; shaded days with a mark have a source that is held or awaited.",
    )  # fmt: skip
    return listing, chart
