"""Synthetic daily cost series of the shapes that cloud bills have, seeded; for the backtests of forecast and anomalies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from finops_assets.evaluate.forecast.expect import Matrix

FIRST = date(2025, 9, 1)
KINDS = (
    "steady", "weekday", "growing", "falling", "month start", "month end", "spikes", "level shift", "sparse",
    "noisy", "seasonal swing", "everything",
)  # fmt: skip


def cost_series(days: int, each: int, seed: int = 6) -> tuple[list[str], Matrix]:
    """`each` series of every kind, from FIRST on: the kind of each row, and a row a series."""
    kinds, costs, _ = told_series(days, each, seed)
    return kinds, costs


def told_series(days: int, each: int, seed: int = 6) -> tuple[list[str], Matrix, list[list[int]]]:
    """The same, and of each row the days (their columns) on which something of its own happens: spike or shift."""
    random = np.random.default_rng(seed)
    kinds = [kind for kind in KINDS for _ in range(each)]
    made = [_one(kind, days, random) for kind in kinds]
    return kinds, np.vstack([cost for cost, _ in made]), [own for _, own in made]


@dataclass(frozen=True)
class Injected:
    """An anomaly put into a series: from column `day` on its cost is `1 + size` of what it was."""

    row: int
    kind: str
    size: float
    day: int


# Days that an injected anomaly lasts; a drift grows over so many days and stays, a shift stays.
LASTS = {"spike": 1, "burst": 3, "drop": 1, "shift up": None, "shift down": None, "drift": 14}
SIZES = {
    "spike": (0.3, 0.5, 1.0, 3.0),
    "burst": (0.3, 0.5, 1.0, 3.0),
    "drop": (-0.3, -0.5, -0.9),
    "shift up": (0.3, 0.5, 1.0),
    "shift down": (-0.3, -0.5, -0.9),
    "drift": (0.3, 0.6, 1.0),
}


def inject(costs: Matrix, first: int, last: int, seed: int) -> tuple[Matrix, list[Injected]]:
    """One anomaly in every row, its kind and size in turn, on a random day of [first, last] that costs something."""
    random = np.random.default_rng(seed)
    menu = [(kind, size) for kind, sizes in SIZES.items() for size in sizes]
    changed, put = costs.copy(), []
    for place, row in enumerate(random.permutation(len(costs))):
        kind, size = menu[place % len(menu)]
        days = [d for d in range(first, last + 1) if costs[row, d] > 0]
        day = int(random.choice(days))
        lasts = LASTS[kind]
        factor = np.ones(costs.shape[1] - day)
        if kind == "drift" and lasts:
            factor += size * np.minimum(np.arange(1, len(factor) + 1) / lasts, 1)
        else:
            factor[:lasts] += size
        changed[row, day:] *= factor
        put.append(Injected(int(row), kind, size, day))
    return changed, put


def _one(kind: str, days: int, random: np.random.Generator) -> tuple[Matrix, list[int]]:
    level = 10 ** random.uniform(1, 4)
    t = np.arange(days)
    calendar = [FIRST + timedelta(days=int(i)) for i in t]
    cost = np.ones(days)
    own: list[int] = []
    everything = kind == "everything"
    if kind in ("weekday", "noisy", "spikes", "level shift", "growing") or everything:
        weekend = random.uniform(0.3, 0.95)
        cost *= np.array([weekend if d.weekday() >= 5 else 1.0 for d in calendar])
    if kind == "growing" or everything:
        cost *= np.exp(random.uniform(0.0005, 0.004) * t)
    if kind == "falling":
        cost *= np.exp(-random.uniform(0.0005, 0.003) * t)
    if kind == "seasonal swing":
        cost *= 1 + random.uniform(0.1, 0.4) * np.sin(2 * np.pi * t / random.uniform(90, 200) + random.uniform(0, 6))
    if kind == "level shift" or everything:
        for at in random.choice(np.arange(20, days - 10), 3, replace=False):
            own.append(int(at))
            cost[at:] *= random.choice([random.uniform(0.5, 0.8), random.uniform(1.25, 1.9)])
    # Noise with memory: a busy day is rarely alone.
    shock = random.normal(0, {"noisy": 0.2, "steady": 0.015}.get(kind, random.uniform(0.02, 0.08)), days)
    wander = np.empty(days)
    wander[0] = shock[0]
    for i in range(1, days):
        wander[i] = 0.5 * wander[i - 1] + shock[i]
    cost *= np.exp(wander)
    if kind == "month start" or everything:
        cost += np.array([d.day == 1 for d in calendar]) * random.uniform(2, 12)
    if kind == "month end":
        cost += np.array([(d + timedelta(days=2)).day <= 2 for d in calendar]) * random.uniform(0.5, 2.5)
    if kind == "spikes" or everything:
        hit = random.random(days) < 0.02
        cost += hit * random.uniform(1, 10, days)
        own += [int(at) for at in np.flatnonzero(hit)]
    if kind == "sparse":
        cost *= random.random(days) < random.uniform(0.15, 0.6)
    return np.asarray(cost * level, dtype=np.float64), own
