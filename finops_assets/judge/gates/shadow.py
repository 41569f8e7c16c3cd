"""What is said of a shadow: does its raw day hold the same cost as that of the source it shadows? Advice, never a hold."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from finops_assets.judge.gates.verdict import Verdict
from finops_assets.judge.reconciliation.overlap import compare_sources
from finops_assets.judge.reconciliation.same_cost import AGREES
from finops_assets.platform import Platform
from finops_assets.settings.sources import Source

GATE = "agrees"


def judge_shadow(platform: Platform, shadow: Source, days: Iterable[date]) -> list[Verdict]:
    """A verdict a day on a source with `shadow_of`, as `finops reconcile sources` gives it."""
    other = str(shadow.shadow_of)
    wanted = sorted(days)
    found = compare_sources(platform, other, shadow.name, wanted, most_rows=0)
    sums = found.units.to_dict("records")
    verdicts = []
    for day in wanted:
        of_day = [row for row in sums if row["unit"] == day and row["BillingCurrency"]]
        agrees = found.verdicts[day] == AGREES
        verdicts.append(
            Verdict(
                GATE,
                day,
                agrees,
                f"holds the same cost as {other}" if agrees else f"against {other}: {found.verdicts[day]}",
                blocking=False,
                source=shadow.name,
                figures={
                    "rows": sum(row["rows_b"] for row in of_day),
                    f"rows of {other}": sum(row["rows_a"] for row in of_day),
                    "cells_differing": sum(row["cells_differing"] for row in of_day),
                    **{
                        f"{basis} difference {row['BillingCurrency']}": row[f"{basis}_difference"]
                        for row in of_day
                        for basis in ("billed", "effective")
                    },
                },
                next_step=""
                if agrees
                else f"finops reconcile sources {other} {shadow.name} --from {day} --to {date.fromordinal(day.toordinal() + 1)}",
            )
        )
    return verdicts
