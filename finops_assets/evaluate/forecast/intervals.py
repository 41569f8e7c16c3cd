"""How far the expectation was off before: weights of the candidates and intervals, by a rolling-origin backtest.

Conformal: the errors of past forecasts, each divided by the usual error of its series without that forecast, are
pooled over all series; their quantiles are the half widths. A series with few past forecasts borrows from the
others by its noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from finops_assets.evaluate.forecast.expect import CANDIDATES, Matrix, expected, filled, noise

LEAST_DAYS = 14
BACKTEST_HORIZON = 28
ORIGINS, ORIGIN_STEP = 16, 7
BORROWED = 2.0
LEVELS = (0.80, 0.95)
# Half widths before anything can be backtested: those of the normal distribution, doubled.
UNTESTED = {0.80: 2.56, 0.95: 3.92}
SERIES_AT_ONCE = 2_000


@dataclass(frozen=True)
class Outlook:
    """Days expected after the last one, and how sure that is; a row a series.

    `days` has shape (series, horizon). `half[level]` is the half width of the interval of the sum of `days`.
    `weights` has shape (series, candidates); `tested` says how many past forecasts a series was judged by.
    """

    days: Matrix
    half: dict[float, Matrix]
    weights: Matrix
    tested: npt.NDArray[np.int64]


def outlook(costs: Matrix, first: date, horizon: int) -> Outlook:
    """Expectation and intervals of the sum of the next `horizon` days, for every row of `costs` (see `expect`).

    Every row needs LEAST_DAYS days that are no gaps for its figures to mean something; who calls refuses the rest.
    """
    series, days = costs.shape
    tested_on = max(0, min(horizon, BACKTEST_HORIZON, days - LEAST_DAYS))
    origins = [o for k in range(ORIGINS) if (o := days - tested_on - ORIGIN_STEP * k) >= LEAST_DAYS and tested_on]
    ahead = np.empty((len(CANDIDATES), series, horizon))
    totals = np.full((len(CANDIDATES), series, len(origins)), np.nan)
    actual = np.full((series, len(origins)), np.nan)
    sigma = np.empty(series)
    size = np.empty(series)
    for low in range(0, series, SERIES_AT_ONCE):
        part = slice(low, low + SERIES_AT_ONCE)
        rows = costs[part]
        whole = filled(rows)
        ahead[:, part] = expected(rows, first, horizon)
        sigma[part] = noise(whole)
        size[part] = np.abs(whole[:, -BACKTEST_HORIZON:]).mean(axis=1)
        for k, origin in enumerate(origins):
            known = np.isfinite(rows[:, :origin]).sum(axis=1) >= LEAST_DAYS
            past = expected(rows[:, :origin], first, tested_on)
            then = rows[:, origin : origin + tested_on]
            seen = np.isfinite(then)
            # Days that are gaps count on neither side; a forecast half of whose days are gaps judges nothing.
            judged = known & (seen.sum(axis=1) * 2 > tested_on)
            share = np.where(judged, tested_on / np.maximum(seen.sum(axis=1), 1), np.nan)
            totals[:, part, k] = np.where(seen[None], past, 0.0).sum(axis=2) * share
            actual[part, k] = np.where(seen, then, 0.0).sum(axis=1) * share
    errors = actual[None] - totals
    weights, combined = _weights(errors)
    days_ahead = np.einsum("sc,csh->sh", weights, ahead)
    reach = np.sqrt(max(tested_on, 1))
    prior = sigma * reach + 1e-3 * size * max(tested_on, 1)
    half = _half_widths(combined, prior, tested_on)
    # Beyond what was backtested the error is taken to grow with the days, as that of a wrong level does.
    grow = horizon / tested_on if tested_on else float(np.sqrt(horizon) * np.sqrt(1 + horizon / LEAST_DAYS))
    return Outlook(
        days_ahead,
        {level: width * grow for level, width in half.items()},
        weights,
        np.asarray(np.isfinite(actual).sum(axis=1), dtype=np.int64),
    )


def _weights(errors: Matrix) -> tuple[Matrix, Matrix]:
    """Weights of the candidates (series, candidates), and the errors (series, origins) of the weighted forecasts.

    A weight is the inverse of the mean squared error, half borrowed from all series. The error of an origin is that
    with the weights of the other origins, so that it is as honest as one made then.
    """
    candidates, series, origins = errors.shape
    if not origins or not np.isfinite(errors).any():
        return np.full((series, candidates), 1 / candidates), np.full((series, origins), np.nan)
    squared = errors**2
    there = np.isfinite(squared)
    squared = np.where(there, squared, 0.0)
    own = squared.mean(axis=0, keepdims=True).sum(axis=2, keepdims=True)
    pooled = (squared / np.where(own > 0, own, 1.0)).sum(axis=(1, 2)) + 1e-12
    pooled = pooled / pooled.mean()

    def of(total: Matrix, count: Matrix) -> Matrix:
        usual = total.mean(axis=0)
        mean = (total + BORROWED * pooled[:, None] * usual / np.maximum(count, 1)) / (count + BORROWED)
        inverse = 1 / np.maximum(mean, 1e-6 * np.maximum(mean.max(axis=0), 1e-12))
        return np.asarray((inverse / inverse.sum(axis=0)).T, dtype=np.float64)

    total, count = squared.sum(axis=2), there[0].sum(axis=1).astype(np.float64)
    combined = np.full((series, origins), np.nan)
    for k in range(origins):
        others = of(total - squared[:, :, k], count - there[0, :, k])
        combined[:, k] = np.einsum("sc,cs->s", others, errors[:, :, k])
    return of(total, count), combined


def _half_widths(errors: Matrix, prior: Matrix, tested_on: int) -> dict[float, Matrix]:
    size = np.abs(errors)
    there = np.isfinite(size)
    if not tested_on or not there.any():
        return {level: UNTESTED[level] * prior for level in LEVELS}
    safe = np.where(prior > 0, prior, np.nan)
    relative = np.where(there, size / safe[:, None], np.nan)
    borrow = float(np.nanmedian(relative)) if np.isfinite(relative).any() else 0.0
    usual = borrow * prior
    total, count = np.where(there, size, 0.0).sum(axis=1), there.sum(axis=1)
    without = (total[:, None] - np.where(there, size, 0.0) + BORROWED * usual[:, None]) / (
        np.maximum(count - 1, 0)[:, None] + BORROWED
    )
    scores = np.sort((size / np.where(without > 0, without, np.nan))[there])
    scores = scores[np.isfinite(scores)]
    own = (total + BORROWED * usual) / (count + BORROWED)
    if not len(scores):
        return {level: np.zeros_like(own) for level in LEVELS}
    # The conformal rank: of n scores the one at (n + 1) * level, the largest where n is too small for it.
    half = {level: own * scores[min(len(scores) - 1, int(np.ceil((len(scores) + 1) * level)) - 1)] for level in LEVELS}
    if np.ceil((len(scores) + 1) * LEVELS[-1]) > len(scores):
        # Too few for a quantile so far out: as much wider as the normal distribution is there.
        half[LEVELS[-1]] = np.maximum(half[LEVELS[-1]], half[LEVELS[0]] * UNTESTED[LEVELS[-1]] / UNTESTED[LEVELS[0]])
    # The pool knows nothing of a series with rare large errors: the wide interval holds all that it was off by itself.
    half[LEVELS[-1]] = np.maximum(half[LEVELS[-1]], np.where(there, size, 0.0).max(axis=1))
    return half
