"""Tokens: what a million of them costs, by model, type and whose they are, and how that went day by day."""

from __future__ import annotations

from typing import Any

from finops_assets.evaluate.tokens import OWN_COLUMNS, TOKENS_BY, tokens_by
from finops_assets.explore import charts
from finops_assets.explore.address import ViewError
from finops_assets.explore.asking import CHARGES, Question, finops
from finops_assets.explore.listing import Listing
from finops_assets.explore.pages.page import Chart, Page, address

NOT_COUNTED = "tokens are counted on single charges, which this copy, or accrued cost, does not have"
SHOWN = (
    "tokens", "effective_cost", "effective_per_million", "billed_cost", "billed_per_million", "cost_without_tokens", "row_count",
)  # fmt: skip
HEADINGS = {
    "effective_per_million": "effective a million", "billed_per_million": "billed a million", "token_type": "type",
    "cost_without_tokens": "cost without a count",
}  # fmt: skip
EMPTY = "No bill counts tokens in these days, in this currency and with these filters."


def tokens(question: Question) -> Page:
    if not question.has_charges:
        raise ViewError(NOT_COUNTED)
    view, providers = question.view, question.settings.providers
    by = view.by if view.by and view.by != (CHARGES,) else TOKENS_BY
    listings = []
    for name, title, columns in (
        ("tokens", "What a million tokens cost", by), ("days", "Day by day", ("charge_date", *OWN_COLUMNS)),
    ):  # fmt: skip
        with question.made(command(question, columns), question.compared.notes_of_period) as made:
            rows = tokens_by(question.connection, view.period, providers, columns, view.only).frame()
        rows = rows[rows["currency"] == question.currency]
        if name == "days":
            rows = rows.sort_values(["charge_date"], kind="stable")
        listings.append(
            Listing(
                name, title, rows, (*columns, *SHOWN), made[0], empty=EMPTY, headings=HEADINGS, unnamed=True,
                bar="effective_cost", links={column: _narrower(question, column) for column in columns if column != "charge_date"},
                note="A price is of the charges that say how many tokens; what others cost stands beside it.",
            )
        )  # fmt: skip
    drawn = Chart(
        "What a million tokens of each model cost", charts.prices(listings[1].rows, question.currency),
        "A line a model and type, the costliest; effective cost of a day by its tokens. Days without tokens are gaps.",
    )  # fmt: skip
    return Page(listings, {"prices": drawn} if len(listings[1].rows) else {})


def command(question: Question, by: tuple[str, ...], *options: str) -> str:
    """The command that prints the same figures."""
    view = question.view
    only = [word for column, values in view.only.items() for v in values for word in ("--where", f"{column}={v}")]
    days = ("--from", str(view.first), "--to", str(view.end))
    return finops("report", "tokens", *days, "--by", ",".join(by), *only, *options)


def _narrower(question: Question, column: str) -> Any:
    return lambda row: address("tokens", question.view.narrowed((column, str(row[column]))))
