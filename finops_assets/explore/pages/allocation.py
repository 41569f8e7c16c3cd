"""Allocation: who gave what to whom by the rules of shared cost, and what could not be given."""

from __future__ import annotations

from finops_assets.evaluate.allocation.balance import ALLOCATED_COST
from finops_assets.evaluate.allocation.report import allocation, kept, moves
from finops_assets.explore.address import REPORTING, ViewError
from finops_assets.explore.asking import Question, finops
from finops_assets.explore.listing import Listing
from finops_assets.explore.pages.page import Page, address


def allocation_page(question: Question) -> Page:
    view = question.view
    if view.basis == "accrued" or view.currency == REPORTING:
        raise ViewError(
            "shared cost is given in effective or billed cost, in the currencies of the bills; choose one of these"
        )
    if not question.has(ALLOCATED_COST):
        raise ViewError("nothing was allocated yet; set `shared_cost` in finops.yaml and run days")
    days = ("--from", str(view.first), "--to", str(view.end), "--basis", view.basis)
    with question.made(finops("report", "allocation", *days), question.compared.notes) as made:
        borne = allocation(question.connection, view.period, view.basis)
    with question.made(finops("report", "allocation", *days, "--by-rule"), question.compared.notes) as by_rule:
        moved = moves(question.connection, view.period, view.basis)
    borne, moved = borne[borne["currency"] == question.currency], moved[moved["currency"] == question.currency]
    listings = [
        Listing(
            "borne", "What each team bears", borne,
            ("department", "team", "showback", "given", "received", "chargeback", "change_percent"), made[0],
            total=True, bar="chargeback", headings={"showback": "own", "chargeback": "borne"},
            links={"team": lambda row: address("teams", view.narrowed(("department", str(row["department"])), ("team", str(row["team"]))))},
        ),
        Listing(
            "moves", "Who gave what to whom", moved, ("rule", "method", "origin", "bearer", "amount", "days", "note"),
            by_rule[0], total=True, empty="No rule moved anything in these days.",
        ),
    ]  # fmt: skip
    return Page(
        listings, {}, {"kept": kept(question.connection, view.period), "borne": listings[0].sum_of("chargeback")}
    )
