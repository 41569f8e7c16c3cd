"""Budgets: what is planned, spent and expected, as the last night judged it; and what was changed when."""

from __future__ import annotations

from typing import Any

import pandas as pd

from finops_assets.evaluate.budgets.evaluate import evaluations, most_serious_first
from finops_assets.evaluate.budgets.versions import CHANGES, changes
from finops_assets.explore import charts
from finops_assets.explore.asking import Question, finops
from finops_assets.explore.listing import Listing, plain
from finops_assets.explore.pages.page import Chart, Page, address


def budgets(question: Question) -> Page:
    with question.made(finops("budgets", "status")) as made:
        table = most_serious_first(evaluations(question.connection)).frame()
    table = table[table["currency"] == question.currency]
    with question.made(finops("budgets", "history")) as changed:
        history = changes(question.connection).frame() if question.has(CHANGES) else pd.DataFrame()

    def spent_on(row: dict[str, Any]) -> str:
        """What the budget counts: its period, basis and owner."""
        view = question.view
        first, through = row["period_start"], row["through"]
        narrowed = [(column, str(row[column])) for column in ("department", "team") if plain(row[column])]
        end = min(row["period_end"], through + pd.Timedelta(days=1).to_pytimedelta())
        if end <= first:
            return address("teams", view.changed(where=()).narrowed(*narrowed))
        of_budget = view.changed(first=first, end=end, basis=row["basis"], by=(), where=(), shared="before")
        return address("teams", of_budget.narrowed(*narrowed))

    gaps = max((int(days) for days in table["days_missing"].tolist() if plain(days)), default=0)
    listings = [
        Listing(
            "status", "Budgets, the most serious first", table,
            ("budget", "period_start", "period_end", "amount", "spent", "spent_percent", "forecast", "low80", "high80", "severity", "reason", "problem"),
            made[0], links={"budget": spent_on},
            note="As of the last evaluation, each in its own basis and period; the days chosen above are for the other pages."
            + (f" Days of a period that are held or late (up to {gaps}) are expected as usual, not as 0." if gaps else ""),
            empty="No budget in this currency is for a period that runs; see `finops budgets check`.",
        ),
        Listing(
            "history", "What was changed when", history,
            ("changed_at", "change", "budget", "amount", "amount_before", "threshold_percent", "version") if len(history) else (),
            changed[0], empty="No budget was changed yet.",
        ),
    ]  # fmt: skip
    chart = Chart(
        "Spent and expected of each budget", charts.budgets(table, question.currency),
        "Bars are spent, diamonds expected at the period's end; the line is the budget.",
    )  # fmt: skip
    return Page(listings, {"budgets": chart} if len(table) else {})
