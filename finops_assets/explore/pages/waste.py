"""Waste: charges that the bill itself shows to be for nothing, by kind and by resource."""

from __future__ import annotations

from decimal import Decimal

import pandas as pd

from finops_assets.evaluate.waste.find import WASTE, waste_of
from finops_assets.explore.address import ViewError
from finops_assets.explore.asking import Question, add, finops
from finops_assets.explore.listing import Listing, plain
from finops_assets.explore.pages.page import Page, address

SHOWN = (
    "kind",
    "department",
    "team",
    "name",
    "first_day",
    "cost_a_month",
    "could_save",
    "row_count",
    "certainty",
    "why",
)
BY_KIND = ("kind", "certainty", "resources", "cost_a_month", "could_save", "row_count")
HEADINGS = {"first_day": "since", "cost_a_month": "a month", "could_save": "could save"}


def waste(question: Question) -> Page:
    """All findings in the currency; the newest night's, whatever days are chosen."""
    if not question.has(WASTE):
        raise ViewError("waste was not looked for yet; run days (`finops run FROM TO`)")
    with question.made(finops("report", "waste")) as made:
        every = waste_of(question.connection).frame()
    table = every[every["currency"] == question.currency]
    view = question.view
    kinds = Listing(
        "kinds", "By kind and certainty", _by_kind(table), BY_KIND, made[0], bar="cost_a_month", headings=HEADINGS,
        empty="The bills show none in this currency.",
        note="Could save: empty where the bill does not show it. A month is 30 days at the rate of the newest.",
    )  # fmt: skip
    findings = Listing(
        "findings", "Findings, the costliest first", table.assign(name=table["name"].fillna(table["ResourceId"])), SHOWN, made[0],
        headings=HEADINGS, export=table,
        empty="The bills show none in this currency.",
        links={"team": lambda row: address("teams", view.narrowed(("department", str(row["department"])), ("team", str(row["team"]))))},
    )  # fmt: skip
    return Page([kinds, findings])


def _by_kind(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (kind, certainty), found in table.groupby(["kind", "certainty"], sort=True):
        saved = [plain(value) for value in found["could_save"].tolist()]
        rows.append(
            (
                kind, certainty, len(found), add(found["cost_a_month"].tolist()),
                None if any(value is None for value in saved) else add(saved), int(found["row_count"].sum()),
            )
        )  # fmt: skip
    rows.sort(key=lambda row: (-Decimal(row[3]), row[0], row[1]))
    return pd.DataFrame(rows, columns=list(BY_KIND), dtype="object")
