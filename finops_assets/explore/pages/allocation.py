"""Allocation: who gave what to whom by the rules of shared cost, and what could not be given."""

from __future__ import annotations

from finops_assets.evaluate.allocation.report import allocation, kept, moves
from finops_assets.explore.address import REPORTING, ViewError
from finops_assets.explore.asking import Question
from finops_assets.explore.listing import Listing
from finops_assets.explore.pages.costs import allocated
from finops_assets.explore.pages.page import Page, address


def allocation_page(question: Question) -> Page:
    view = question.view
    if view.basis == "accrued" or view.currency == REPORTING:
        raise ViewError(
            "shared cost is given in effective or billed cost, in the currencies of the bills; choose one of these"
        )
    borne, made = allocated(question, allocation)
    moved, made_moves = allocated(question, moves, "--by-rule")
    listings = [
        Listing(
            "borne", "What each team bears", borne,
            ("department", "team", "showback", "given", "received", "chargeback", "change_percent"), made,
            total=True, bar="chargeback", headings={"showback": "own", "chargeback": "borne"},
            links={"team": lambda row: address("teams", view.narrowed(("department", str(row["department"])), ("team", str(row["team"]))))},
        ),
        Listing(
            "moves", "Who gave what to whom", moved, ("rule", "method", "origin", "bearer", "amount", "days", "note"),
            made_moves, total=True, empty="No rule moved anything in these days.",
        ),
    ]  # fmt: skip
    return Page(
        listings, {}, {"kept": kept(question.connection, view.period), "borne": listings[0].sum_of("chargeback")}
    )
