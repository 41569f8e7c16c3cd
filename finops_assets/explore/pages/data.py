"""Data: what every figure is made of. Coverage by source and day, what is held or awaited and what to do, deliveries, moves."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd

from finops_assets.cost.coverage import BUILT, HELD, PREVIOUS
from finops_assets.cost.restatements import restatements, taken_out, taken_out_told
from finops_assets.explore import charts
from finops_assets.explore.asking import Question, finops
from finops_assets.explore.listing import Listing
from finops_assets.explore.pages.page import Chart, Page, address
from finops_assets.tables.rows import Rows

MOST_DAYS = 120


def data(question: Question) -> Page:
    view = question.view
    covered = question.coverage
    open_days = [c for c in covered if c.state != BUILT]
    with question.made(finops("status", "--format", "csv")) as made:
        rows = pd.DataFrame(
            [
                (c.day, c.source, c.state, c.since, c.shown, c.reason)
                for c in sorted(open_days, key=lambda c: (c.state != HELD, c.source, c.day))
            ],
            columns=["charge_date", "source", "state", "since", "shown", "reason"],
        )
    sources = sorted({c.source for c in covered})
    counts = pd.DataFrame(
        [
            (
                source,
                max((c.day for c in covered if c.source == source and c.state == BUILT), default=None),
                *(
                    sum(c.source == source and c.state == state for c in covered)
                    for state in ("built", "awaited", "held")
                ),
                sum(c.source == source and c.shown == PREVIOUS for c in covered),
            )
            for source in sources
        ],
        columns=["source", "last_day", "built", "awaited", "held", "outdated"],
        dtype="object",
    )
    listings = [
        Listing("open", "Held and awaited days", rows, tuple(rows.columns), made[0],
                empty="Every day of these that was run is built, with all sources."),
        Listing("sources", "Sources in these days", counts, tuple(counts.columns), made[0],
                note="Outdated: a gate holds a newer version, the last good one is shown.",
                headings={"last_day": "newest day built"}),
        *_taken_out(question),
        _reported(question, "deliveries", "Deliveries", "reports.delivery_ledger",
                  ("source", "scope", "state", "verified", "seen_at", "files", "rows", "repairs", "days_changed", "reason"),
                  finops("deliveries"), "seen_at DESC, source, scope"),
        _restated(question),
        _reported(question, "repairs", "Values repaired on the way in", "reports.repairs",
                  ("source", "scope", "rule", "column", "rows", "example", "largest_drift"),
                  finops("repairs"), "ALL"),
    ]  # fmt: skip
    shown = [c for c in covered if (view.end - c.day).days <= MOST_DAYS]
    return Page(
        listings,
        {
            "states": Chart(
                "How each source's days stand",
                charts.states(shown, lambda c: address("data", view.changed(first=c.day, end=c.day + timedelta(days=1)))),
                "A square a day and source. The days that are not built are listed below with their reasons.",
            )
        } if shown else {},
        {"without": len(question.period.days) - len({c.day for c in covered})},
    )  # fmt: skip


def _taken_out(question: Question) -> list[Listing]:
    """The sources whose cost stands, though finops.yaml has them no more; no listing where there is none."""
    with question.made(finops("status")) as made:
        stands = taken_out(question.connection, [source.name for source in question.settings.counted])
    rows = [
        (source, min(days), max(days), len(days), text)
        for (source, days), text in zip(sorted(stands.items()), taken_out_told(stands, stands))
    ]
    if not rows:
        return []
    columns = ("source", "first_day", "last_day", "days", "reason")
    return [Listing("taken_out", "Sources that finops.yaml has no more", pd.DataFrame(rows, columns=columns), columns, made[0],
                    note="Their cost stands on these days, in these and in all figures, until the days are run again.")]  # fmt: skip


def _restated(question: Question) -> Listing:
    view = question.view
    with question.made(finops("restatements")) as made:
        table = restatements(question.connection).frame()
    kept = [
        view.first <= day < view.end and c == question.currency
        for day, c in zip(table["charge_date"], table["currency"])
    ]
    return Listing(
        "restatements", "Restated days", table[kept],
        ("restated_at", "charge_date", "source", "department", "team", "effective_cost_before", "effective_cost_after", "moved"),
        made[0], empty="No day of these was restated since it was first reported.",
    )  # fmt: skip


def _reported(
    question: Question, name: str, title: str, table: str, shown: tuple[str, ...], command: str, order: str
) -> Listing:
    """A report as it was published."""
    with question.made(command) as made:
        there = question.has(table.rpartition(".")[2])
        query = f"SELECT * FROM {table} ORDER BY {order}"
        rows = Rows.asked(question.connection, query).frame() if there else pd.DataFrame()
    columns = shown or tuple(str(c) for c in rows.columns)
    return Listing(name, title, rows, columns if there else (), made[0])
