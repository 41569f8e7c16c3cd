"""Untagged: which share of cost has no owner, who owes it, and who probably owns it, to accept or reject in place."""

from __future__ import annotations

import pandas as pd

from finops_assets.cost.attribution.owner_decisions import OwnerDecisions, undecided
from finops_assets.cost.rollup import ROLLUP_TABLE, missing
from finops_assets.evaluate.page.gather import DEBT
from finops_assets.evaluate.reports import untagged_by
from finops_assets.explore import charts
from finops_assets.explore.asking import Question, finops
from finops_assets.explore.decisions import SUGGESTIONS, suggestions
from finops_assets.explore.listing import Listing
from finops_assets.explore.pages.page import Chart, Page, address
from finops_assets.tables.ddl import dimensions_of
from finops_assets.tables.rows import Rows


def untagged(question: Question) -> Page:
    view = question.view
    dimensions = dimensions_of(question.opened, ROLLUP_TABLE)
    command = finops("report", "untagged", "--from", str(view.first), "--to", str(view.end), "--by", "provider")
    with question.made(command, question.compared.notes) as made:
        shares = untagged_by(question.connection, view.period).frame()
    shares = shares[shares["currency"] == question.currency]
    shown = (
        "provider",
        "positive_effective_cost",
        *(f"untagged_{d}_percent{end}" for d in dimensions[:2] for end in ("", "_before")),
    )
    headings = {
        f"untagged_{d}_percent{end}": f"no {d} %{' before' if end else ''}"
        for d in dimensions
        for end in ("", "_before")
    }
    of = [d for d in dimensions if d in ("department", "team")]
    everything = Question(question.settings, question.copy, view.changed(where=()))
    days = everything.days("team", {"team": [missing("team")]})
    listings = [
        Listing(
            "shares", "Without an owner, by provider", shares, shown, made[0], headings=headings,
            note="Shares are of positive effective cost as billed, whatever cost and filters are chosen above.",
            links={"provider": lambda row: address("teams", view.narrowed(
                ("provider", str(row["provider"])), ("team", missing("team"))).changed(by=("SubAccountName",) if question.has_charges else ("ServiceCategory",)))},
        ),
        _suggested(question),
        _debt(question),
    ]  # fmt: skip
    return Page(
        listings,
        {
            "days": Chart(
                f"{view.basis.capitalize()} cost without a team, by day",
                charts.by_day(days, "team", question.currency, everything.touched),
                "Shaded days with a mark have a source that is held or awaited.",
            )
        },
        {"of": of},
    )


def _debt(question: Question) -> Listing:
    """Who owes tags, over the last 30 days, as the last night counted it."""
    with question.made(finops("tags", "debt")) as made:
        rows = (
            Rows.asked(
                question.connection,
                f"SELECT * FROM {DEBT} ORDER BY positive_effective_cost DESC, department, dimension, account",
            ).frame()
            if question.has(DEBT)
            else pd.DataFrame(columns=["currency"])
        )
    return Listing(
        "debt", "Who owes it", rows[rows["currency"] == question.currency],
        ("champion", "department", "known_by", "account", "dimension", "problem", "positive_effective_cost", "row_count") if len(rows) else (),
        made[0], note="Over the last 30 days. A row that lacks two dimensions is in both: they are not to be added.",
        empty="Nobody owes a tag in this currency.",
    )  # fmt: skip


def _suggested(question: Question) -> Listing:
    with question.made(finops("owners", "suggest")) as made:
        table = suggestions(question.connection)
    left = undecided(table, OwnerDecisions.beside(question.settings.warehouse).all()) if len(table) else table
    first = left[(left["rank"] == 1) & (left["BillingCurrency"] == question.currency)]
    return Listing(
        SUGGESTIONS, "Who probably owns it", first,
        ("name", "dimension", "value", "confidence", "effective_cost", "account_name", "service", "evidence"), made[0],
        note="The costliest first. A decision is recorded with your name and holds from the next run of the days.",
        empty="Nothing is suggested, or everything is decided: `finops owners suggest` looks anew.",
        form="suggestion", headings={"name": "resource", "effective_cost": "cost in 30 days"},
    )  # fmt: skip
