"""Commitments: what of each was used, what was not and whose that is, and what they saved."""

from __future__ import annotations

from decimal import Decimal

from finops_assets.cost.commitments import COMMITMENTS, commitments, unused_by_owner
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.commitment_use import COMMITMENT_USE, commitment_use_of
from finops_assets.evaluate.reports import TEAMS_BY, savings_by
from finops_assets.explore import charts
from finops_assets.explore.address import ViewError
from finops_assets.explore.asking import Question, add, finops
from finops_assets.explore.listing import Listing
from finops_assets.explore.pages.page import Chart, Page, address
from finops_assets.focus.money import percent

MOST = 15
LOOKS_BACK = 30
USE_HEADINGS = {
    "CommitmentDiscountType": "kind", "eligible_cost": "eligible", "coverage_percent": "covered %", "rate_percent": "rate %",
    "one_more_saved": "it saved", "one_more_wasted": "it wasted",
}  # fmt: skip


def commitment_page(question: Question) -> Page:
    if not question.has(COMMITMENTS):
        raise ViewError("no day was built yet (`finops run FROM TO`)")
    view = question.view
    with question.made(finops("report", "commitments")) as made:
        every = commitments(question.connection).frame()
    table = every[every["currency"] == question.currency]
    with question.made(finops("report", "commitments", "--unused")) as made_unused:
        unused = unused_by_owner(question.connection).frame()
    unused = unused[unused["currency"] == question.currency]
    days = ("--from", str(view.first), "--to", str(view.end), "--by", ",".join(TEAMS_BY))
    with question.made(finops("report", "savings", *days), question.compared.notes) as made_savings:
        savings = savings_by(question.connection, view.period, TEAMS_BY).frame()
    savings = savings[savings["currency"] == question.currency]
    used, left = add(table["used_cost"].tolist()), add(table["unused_cost"].tolist())
    saved = [value for value in table["saved_against_list"].tolist() if value is not None]
    parts = {
        "used": used, "unused": left, "utilisation": percent(used, add([used, left])) if add([used, left]) else None,
        "saved": add(saved) if saved and len(saved) == len(table) else None,
        "covered": _covered(question),
    }  # fmt: skip
    listings = [
        Listing(
            "commitments", "Commitments, over all days held", table,
            ("name", "type", "provider", "purchase_billed_cost", "used_cost", "unused_cost", "utilisation_percent", "difference", "saved_against_list", "first_day", "last_day", "term_held"),
            made[0], bar="used_cost", empty="No commitment is in this currency.",
            note="Difference: what was paid less what was amortised of it; 0 once the whole term is held.",
        ),
        Listing(
            "unused", "Unused, by whom it is attributed to", unused,
            ("name", "provider", "department", "team", "unused_cost", "share_percent", "first_day", "last_day"),
            made_unused[0], total=True, empty="Nothing is unused.",
        ),
        Listing(
            "savings", "List and contracted cost beside what was billed, in these days", savings,
            ("department", "team", "list_cost", "contracted_cost", "billed_cost", "negotiated", "saved", "saved_percent"),
            made_savings[0], total=True, bar="saved",
            links={"team": lambda row: address("teams", view.narrowed(("department", str(row["department"])), ("team", str(row["team"]))))},
        ),
    ]  # fmt: skip
    if question.has(COMMITMENT_USE):
        listings.insert(1, _by_team(question))
    chart = Chart(
        "Used and unused", charts.used_of(table.head(MOST), question.currency), "Amortised cost of each commitment.",
    )  # fmt: skip
    return Page(listings, {"used": chart} if len(table) else {}, parts)


def _by_team(question: Question) -> Listing:
    with question.made(finops("report", "commitments", "--by", "team", "--days", str(LOOKS_BACK))) as made:
        use = commitment_use_of(question.connection, LOOKS_BACK, "team").frame()
    return Listing(
        "by_team", f"By team, over the newest {LOOKS_BACK} days", use[use["currency"] == question.currency],
        (
            "department", "team", "ServiceName", "CommitmentDiscountType", "eligible_cost", "coverage_percent", "utilisation_percent",
            "unused_cost", "rate_percent", "one_more", "one_more_saved", "one_more_wasted",
        ),
        made[0], bar="eligible_cost", empty="No commitment was at work in this currency.", headings=USE_HEADINGS,
        note="Eligible: usage of the SKUs that the bill shows such a commitment to cover, at its price without. One more would have"
        " saved and wasted so much in these days.",
    )  # fmt: skip


def _covered(question: Question) -> float | None:
    """Of the rows of these days in this currency those under a commitment, in percent of effective usage cost."""
    rows = question.connection.execute(
        f"""
        SELECT (
            SELECT sum(used_cost) FROM {COMMITMENTS}
            WHERE BillingCurrency = $currency AND charge_date >= $first AND charge_date < $end
        ), (
            SELECT sum(positive_effective_cost) FROM {ROLLUP_TABLE}
            WHERE BillingCurrency = $currency AND charge_date >= $first AND charge_date < $end
        )
        """,
        {"currency": question.currency, "first": question.view.first, "end": question.view.end},
    ).fetchall()
    [(used, whole)] = rows
    return percent(used or Decimal(0), whole) if whole else None
