"""Days on which one of something cost unusually much or little, by the limits of `anomalies:` in finops.yaml.

Judged as the cost of a team is (`anomalies.detect`): each day by the days before it alone. What a day must be apart in money is
what its units cost more or less than as many at the usual cost of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np

from finops_assets.evaluate.anomalies.detect import Limits, episodes
from finops_assets.settings.anomalies import Anomalies

_ESTIMATED = Decimal("0.000001")
Row = dict[str, Any]


def mark_unusual(rows: Sequence[Row], settings: Anomalies) -> None:
    """Say of rows of days of the table `unit_costs`, in place, which are unusual, and what was to be expected of them."""
    series: dict[tuple[object, ...], dict[date, Row]] = {}
    for row in rows:
        if row["effective_per_unit"] is not None:
            of = row["unit_cost"], row["dimensions"], row["currency"]
            series.setdefault(of, {})[row["period_start"]] = row
    if not series:
        return
    first, last = (extreme(day for days in series.values() for day in days) for extreme in (min, max))
    costs = np.full((len(series), (last - first).days + 1), np.nan)
    by_place = list(series.values())
    for place, days in enumerate(by_place):
        for day, row in days.items():
            costs[place, (day - first).days] = float(row["effective_per_unit"])
    # Of one of something any amount may be much; in money the day is asked below.
    limits = Limits.same(len(series), settings.sigma, 0.0, settings.min_percent / 100)
    for episode in episodes(costs, first, limits):
        usual = episode.expected / episode.days
        for day, row in by_place[episode.place].items():
            within = episode.first <= (day - first).days <= episode.last
            apart = abs(float(row["effective_cost"]) - usual * float(row["quantity"]))
            if within and apart >= settings.min_amount:
                row["unusual"] = "rise" if episode.direction > 0 else "fall"
                row["usual_per_unit"] = Decimal(repr(usual)).quantize(_ESTIMATED, ROUND_HALF_EVEN)
