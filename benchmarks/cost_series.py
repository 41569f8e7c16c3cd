"""Synthetic daily cost series of the shapes that cloud bills have, seeded; for the backtests of forecast and anomalies."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np

from finops_assets.forecast.expect import Matrix

FIRST = date(2025, 9, 1)
KINDS = (
    "steady", "weekday", "growing", "falling", "month start", "month end", "spikes", "level shift", "sparse",
    "noisy", "seasonal swing", "everything",
)  # fmt: skip


def cost_series(days: int, each: int, seed: int = 6) -> tuple[list[str], Matrix]:
    """`each` series of every kind, from FIRST on: the kind of each row, and a row a series."""
    random = np.random.default_rng(seed)
    kinds = [kind for kind in KINDS for _ in range(each)]
    return kinds, np.vstack([_one(kind, days, random) for kind in kinds])


def _one(kind: str, days: int, random: np.random.Generator) -> Matrix:
    level = 10 ** random.uniform(1, 4)
    t = np.arange(days)
    calendar = [FIRST + timedelta(days=int(i)) for i in t]
    cost = np.ones(days)
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
    if kind == "sparse":
        cost *= random.random(days) < random.uniform(0.15, 0.6)
    return np.asarray(cost * level, dtype=np.float64)
