"""Is the tag policy's target reached? Judged over the recent days in total, by dimension and currency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import pandas as pd

from finops_assets.cost.rollup import UNTAGGED
from finops_assets.evaluate.governance.policy import Policy
from finops_assets.focus.money import percent

SHOWN = 5


@dataclass(frozen=True)
class TargetVerdict:
    """`passed`: the date has not come, or everything is below. `message` says what is above, and who can mend it."""

    passed: bool
    message: str
    figures: dict[str, float]


def judge_target(
    policy: Policy, coverage: pd.DataFrame, debt: pd.DataFrame, recent: Sequence[date], today: date
) -> TargetVerdict:
    """Hold the newest weeks of `coverage` (scope all, those that `recent` days lie in) against the target.

    Weeks are judged whole, so that the figure is that of the table.
    """
    target = policy.target
    if target is None:
        return TargetVerdict(True, "no target is set (tag_policy.target)", {})
    weeks = {pd.Timestamp(date.fromordinal(day.toordinal() - day.weekday())) for day in recent}
    mine = coverage[(coverage["scope"] == "all") & coverage["week"].isin(list(weeks))]
    figures: dict[str, float] = {}
    above: list[str] = []
    for (dimension, currency), rows in mine.groupby(["dimension", "currency"], sort=True):
        cost = sum(rows["positive_effective_cost"], Decimal(0))
        without = sum(rows["without_cost"], Decimal(0))
        share = percent(without, cost)
        figures[f"without {dimension} {currency} %"] = round(share, 2)
        if without * 100 >= Decimal(str(target.untagged_below)) * cost:
            above.append(f"{share:.1f} % of {currency} cost has no {dimension}")
    aim = f"the target is below {target.untagged_below:g} % by {target.by}"
    if not above:
        return TargetVerdict(True, f"reached: {aim}", figures)
    said = f"{'; '.join(above)}; {aim}"
    if today <= target.by:
        return TargetVerdict(True, f"{said}, in {(target.by - today).days} days. {_who(debt)}", figures)
    return TargetVerdict(False, f"{said}, which has passed. {_who(debt)}", figures)


def _who(debt: pd.DataFrame) -> str:
    """Whose the most of it is: by department, with its champion, and the dimension that is missing."""
    missing = debt[debt["problem"] == "missing"]
    if missing.empty:
        return ""
    sums: dict[tuple[str, str, str, str], Decimal] = {}
    for row in missing.itertuples():
        # By dimension: one row may miss several, and its cost must not count twice.
        key = (str(row.department), str(row.champion), str(row.dimension), str(row.currency))
        sums[key] = sums.get(key, Decimal(0)) + Decimal(str(row.positive_effective_cost))
    largest = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    texts = [
        f"{'no department' if department == UNTAGGED else department}"
        f"{f' ({champion})' if champion else ''} {amount:,.2f} {currency} without {dimension}"
        for (department, champion, dimension, currency), amount in largest
    ]
    return f"Most of it: {', '.join(texts)}; all of it in tag_debt"
