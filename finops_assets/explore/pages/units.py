"""Units: what an order, a customer, a request costs, and on how many days that is known."""

from __future__ import annotations

from finops_assets.evaluate.unit_costs.figures import UNIT_COSTS, Grain, units_of, whose
from finops_assets.explore import charts
from finops_assets.explore.address import ViewError
from finops_assets.explore.asking import Question, finops
from finops_assets.explore.listing import Listing
from finops_assets.explore.pages.page import Chart, Page

SHOWN = (
    "unit_cost", "of", "metric", "period_start", "quantity", "effective_cost", "effective_per_unit", "billed_per_unit", "days",
    "days_without_quantity", "days_without_cost", "most_per_unit", "most_percent", "usual_per_unit", "unusual",
)  # fmt: skip
HEADINGS = {
    "unit_cost": "cost", "period_start": "from", "effective_per_unit": "effective of one", "billed_per_unit": "billed of one",
    "days_without_quantity": "not counted", "days_without_cost": "cost missing", "most_per_unit": "at most", "most_percent": "% of it", "usual_per_unit": "usual",
}  # fmt: skip
MOST_CHARTS = 6
BY_WEEK_FROM = 62


def units(question: Question) -> Page:
    """By day; by week where the days are many; and by month all that there is."""
    if not question.has(UNIT_COSTS):
        raise ViewError("no unit cost is known: set unit_metrics and unit_costs in finops.yaml, and run days")
    view = question.view
    grain: Grain = "week" if (view.end - view.first).days > BY_WEEK_FROM else "day"
    days = ("--from", str(view.first), "--to", str(view.end))
    with question.made(finops("report", "units", "--grain", "month")) as made_months:
        months = units_of(question.connection, "month").frame()
    with question.made(finops("report", "units", "--grain", grain, *days)) as made:
        rows = units_of(question.connection, grain, view.first, view.end).frame()
    listings: list[Listing] = []
    drawn: dict[str, Chart] = {}
    for name, title, table, how in (
        ("months", "By month, all of them", months, made_months), ("periods", f"By {grain}, in these days", rows, made),
    ):  # fmt: skip
        exported = table[table["currency"] == question.currency]
        table = exported.assign(of=exported["dimensions"].map(whose))
        empty = "No unit cost is in this currency."
        listings.append(Listing(name, title, table, SHOWN, how[0], empty=empty, export=exported, headings=HEADINGS))
        if name == "periods":
            for (unit_cost, of), series in list(table.groupby(["unit_cost", "of"], sort=True))[:MOST_CHARTS]:
                says = f"Effective cost of one, by {grain}; days without a quantity, or without every source's cost, are gaps."
                spec = charts.per_unit(series, grain, question.currency)
                drawn[f"unit-{len(drawn)}"] = Chart(f"{unit_cost}{f', {of}' if of else ''}", spec, says)
    return Page(listings, drawn)
