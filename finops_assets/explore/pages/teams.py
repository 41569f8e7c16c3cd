"""Teams: any split of cost, a click narrower each time: team, category, service, resource, single charges."""

from __future__ import annotations

from typing import Any

from finops_assets.evaluate.charges import CHARGE_COLUMNS, charges
from finops_assets.evaluate.reports import TEAMS_BY
from finops_assets.explore import charts
from finops_assets.explore.address import View, ViewError
from finops_assets.explore.asking import CHARGES, Question, finops
from finops_assets.explore.listing import SHOWN_ROWS, Listing, heading
from finops_assets.explore.pages.costs import after_shared_cost, by_day, costs_by, total
from finops_assets.explore.pages.page import Chart, Page, address

MOST_CHARGES = 10_000
STEPS = ("ServiceCategory", "ServiceName", "ResourceName", CHARGES)


def next_split(question: Question, view: View) -> tuple[str, ...]:
    """What a click on a row leads to: the next finer split that is not yet narrowed to one value."""
    known = question.groups
    for step in STEPS:
        if step not in view.only and (step in known or (step == CHARGES and question.has_charges)):
            return (step,)
    return ()


def teams(question: Question) -> Page:
    view = question.view
    if view.shared == "after":
        return _after(question)
    if view.by == (CHARGES,):
        return _charges(question)
    by = view.by or TEAMS_BY
    with question.made(question.report(by), question.compared.notes) as made:
        costs = question.costs(by)
    spent, compared, before = total(costs)

    def narrower(row: dict[str, Any]) -> str:
        narrowed = view.narrowed(*((b, str(row[b])) for b in by))
        return address("teams", narrowed.changed(by=next_split(question, narrowed)))

    main = by[0] if len(by) == 1 else by[-1]
    split = question.days(main)
    listing = costs_by("costs", question, by, costs, made[0], narrower)
    return Page(
        [listing],
        {
            "groups": Chart(
                f"The largest by {', '.join(map(heading, by))}", charts.compared_bars(costs, by, question.currency, narrower),
                "A bar each; the tick is the cost of the like days before. The same rows stand in the table below.",
            ),
            "days": Chart(
                f"By day and {heading(main)}",
                charts.by_day(
                    split, main, question.currency, question.touched,
                    {day: like for day, _, like in by_day(split)},
                    lambda name, day: address("teams", view.narrowed((main, str(name)))),
                ),
                "Bars are days; ticks are the like days before; shaded days with a mark have a source that is held or awaited.",
            ),
        },
        {"spent": spent, "compared": compared, "before": before, "made": made[0], "by": by},
    )  # fmt: skip


def _after(question: Question) -> Page:
    listing, chart = after_shared_cost(question)
    parts = {"spent": listing.sum_of("chargeback"), "made": listing.made, "by": TEAMS_BY}
    return Page([listing], {"days": chart}, parts)


def _charges(question: Question) -> Page:
    view = question.view
    if not question.has_charges:
        raise ViewError("this copy, basis or currency has no single charges; choose effective or billed cost as billed")
    arguments = ["report", "charges", "--from", str(view.first), "--to", str(view.end), "--most", str(MOST_CHARGES)]
    for column, value in view.where:
        arguments += ["--where", f"{column}={value}"]
    with question.made(finops(*arguments), question.compared.notes) as made:
        table = charges(
            question.connection, view.period, question.settings.providers, view.only, question.currency,
            MOST_CHARGES if question.whole else SHOWN_ROWS,
        ).frame()  # fmt: skip
    costs = question.costs(())
    spent, compared, before = total(costs)
    count = int(costs["row_count"].sum())
    listing = Listing(
        "charges", "Single charges, the largest first", table[list(CHARGE_COLUMNS)],
        ("charge_date", "ServiceName", "ChargeCategory", "ChargeDescription", "ResourceName", f"{_cost(view)}_cost",
         "source", "source_file", "source_row"), made[0],
        note=f"{count:,} charges in all" + (f"; the largest {MOST_CHARGES:,} are listed and exported" if count > MOST_CHARGES else "")
        + ". File and row are those of the bill as it was delivered.", count=min(count, MOST_CHARGES),
    )  # fmt: skip
    return Page([listing], {}, {"spent": spent, "compared": compared, "before": before, "made": made[0], "by": ()})


def _cost(view: View) -> str:
    return "billed" if view.basis == "billed" else "effective"
