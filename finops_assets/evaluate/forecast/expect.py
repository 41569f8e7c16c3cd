"""What the coming days are expected to cost, for many daily series at once.

A matrix of float64 has a row a series and a column a UTC day, the oldest first. NaN is a gap: a day that is held or
was not run, or one before the series began; a gap is never read as a fall. Floats are right here: an expectation
has no exact value. What was spent stays Decimal and never passes through this module.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

WEEK = 7
WEEKS = 8
WINDOW = WEEK * WEEKS
LEVEL_DAYS = 28
HALF_LIFE_DAYS = 5.0
# A spike of up to three days is no majority of a week; a shift of the level is one from its fourth day on.
SPIKE_SIGMAS = 3.0
MAD_TO_SIGMA = 1.4826
DAMPING = 0.97
# A series with so many days without cost is sparse: no day of it is usual, so all eight weeks are taken as they are.
SPARSE_SHARE = 0.3
CANDIDATES = ("mean", "recent", "trend")
# A charge that comes each month: seen at least so often, always to the same side, and out of the noise.
MONTHS_SEEN, MONTHS_KEPT, MONTH_SIGMAS = 2, 6, 4.0
# The four weeks that a day's weekday is compared with.
MONTH_BACK = WEEK * 4


def filled(costs: Matrix) -> Matrix:
    """The gaps given the cost of the same weekday of the week before (or after, at the beginning). All NaN: 0."""
    result = costs.copy()
    days = result.shape[1]
    for day in range(WEEK, days):
        column = result[:, day]
        gap = np.isnan(column)
        column[gap] = result[gap, day - WEEK]
    for day in range(days - WEEK - 1, -1, -1):
        column = result[:, day]
        gap = np.isnan(column)
        column[gap] = result[gap, day + WEEK]
    result[np.isnan(result)] = 0.0
    return result


def noise(whole: Matrix) -> Matrix:
    """The usual distance, as a standard deviation, of a day from the same weekday of the weeks before; a row a series."""
    days = whole[:, -3 * LEVEL_DAYS :]
    if days.shape[1] <= WEEK:
        return np.zeros(len(whole))
    apart = days[:, WEEK:] - days[:, :-WEEK]
    # The difference of two noisy days has sqrt(2) of the noise of one.
    sigma = MAD_TO_SIGMA / np.sqrt(2) * np.median(np.abs(apart), axis=1)
    return np.asarray(sigma, dtype=np.float64)


def expected(costs: Matrix, first: date, horizon: int) -> Matrix:
    """The expected cost of the `horizon` days after the last column: shape (3 candidates, series, horizon).

    `first` is the UTC day of the first column. The candidates share what is cleaned away (spikes) and what comes
    back (weekdays, charges of a day of the month); they differ in the level: the mean of four weeks, the recent
    days weighted by a half-life, and these with a damped trend. Which to believe is told by the backtest.
    """
    whole = filled(costs)
    window, seen = _last(whole, np.isfinite(costs))
    series = len(window)
    weeks = window.reshape(series, WEEKS, WEEK)
    week_level = np.median(weeks, axis=2)
    by_ratio: npt.NDArray[np.bool_] = np.all(week_level > 0, axis=1)
    safe = np.where(by_ratio[:, None], week_level, 1.0)
    ratio = np.median(weeks / safe[:, :, None], axis=1)
    apart = np.median(weeks - week_level[:, :, None], axis=1)
    effect = np.where(
        by_ratio[:, None, None], (ratio[:, None, :] - 1) * week_level[:, :, None], apart[:, None, :]
    ).reshape(series, WINDOW)
    level_of_day = winsorised(window - effect)

    mean = _weighted(level_of_day[:, -LEVEL_DAYS:], seen[:, -LEVEL_DAYS:].astype(np.float64))
    decay = 0.5 ** (np.arange(WINDOW - 1, -1, -1) / HALF_LIFE_DAYS)
    recent = _weighted(level_of_day, seen * decay)
    slope = _slope(level_of_day, seen)
    sparse: npt.NDArray[np.bool_] = ((window == 0) & seen).sum(axis=1) >= SPARSE_SHARE * np.maximum(seen.sum(axis=1), 1)
    plain = _weighted(window, seen.astype(np.float64))
    mean, recent = np.where(sparse, plain, mean), np.where(sparse, plain, recent)
    slope, apart = np.where(sparse, 0.0, slope), np.where(sparse[:, None], 0.0, apart)
    by_ratio &= ~sparse
    ahead = np.cumsum(DAMPING ** np.arange(1, horizon + 1))
    levels = np.stack(
        [
            np.repeat(mean[:, None], horizon, axis=1),
            np.repeat(recent[:, None], horizon, axis=1),
            recent[:, None] + slope[:, None] * ahead,
        ]
    )
    weekday = np.arange(horizon) % WEEK
    result = np.where(by_ratio[None, :, None], levels * ratio[None, :, weekday], levels + apart[None, :, weekday])
    result = result + _month_charges(whole, np.isfinite(costs), first, horizon)[None]
    # A cost that never was negative is not forecast to be.
    never_negative = ~np.any(costs < 0, axis=1)
    return np.where(never_negative[None, :, None], np.maximum(result, 0.0), result)


def winsorised(levels: Matrix) -> Matrix:
    """Spikes cut to three sigmas (median absolute deviation of 28 days) around the running median of a week.

    The running median follows a shift of the level from its fourth day on, so a shift is not cut away.
    """
    padded = np.pad(levels, ((0, 0), (3, 3)), mode="reflect")
    centre = np.median(np.lib.stride_tricks.sliding_window_view(padded, WEEK, axis=1), axis=2)
    centre[:, -3:] = np.median(levels[:, -WEEK:], axis=1)[:, None]
    distance = np.abs(levels - centre)
    mad = np.median(distance[:, -LEVEL_DAYS:], axis=1)
    limit = SPIKE_SIGMAS * MAD_TO_SIGMA * mad
    return np.clip(levels, centre - limit[:, None], centre + limit[:, None])


def _last(whole: Matrix, seen: npt.NDArray[np.bool_]) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    """The last eight weeks; where there are fewer days the first week stands for what was before, unseen."""
    missing = WINDOW - whole.shape[1]
    if missing <= 0:
        return whole[:, -WINDOW:], seen[:, -WINDOW:]
    first_week = whole[:, np.arange(-missing, 0) % WEEK]
    return np.hstack([first_week, whole]), np.pad(seen, ((0, 0), (missing, 0)))


def _weighted(values: Matrix, weights: Matrix) -> Matrix:
    total = weights.sum(axis=1)
    means = (values * weights).sum(axis=1) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, means, np.median(values, axis=1))


def _slope(levels: Matrix, seen: npt.NDArray[np.bool_]) -> Matrix:
    """Cost a day that the level moves: the median of the slopes between any two weeks; 0 below four weeks seen."""
    weeks = levels.reshape(len(levels), WEEKS, WEEK).mean(axis=2)
    later, earlier = np.tril_indices(WEEKS, -1)
    slopes = np.median((weeks[:, later] - weeks[:, earlier]) / ((later - earlier) * WEEK), axis=1)
    enough = seen.sum(axis=1) >= LEVEL_DAYS
    return np.where(enough, slopes, 0.0)


def _month_charges(whole: Matrix, seen: npt.NDArray[np.bool_], first: date, horizon: int) -> Matrix:
    """What certain days of the month cost above their weekday: (series, horizon), 0 where history does not show it."""
    series, days = whole.shape
    result = np.zeros((series, horizon))
    if days <= MONTH_BACK + LEVEL_DAYS:
        return result
    apart = above_weekday(whole)
    sigma = MAD_TO_SIGMA * np.median(np.abs(apart[:, MONTH_BACK:]), axis=1)
    above = np.where(seen, apart, np.nan)
    sigma = np.maximum(sigma, 0.02 * np.abs(np.median(whole[:, -LEVEL_DAYS:], axis=1)))
    months = _columns_by_place(first, days)
    for i in range(horizon):
        columns = months.get(month_place(first + timedelta(days=days + i)), ())
        result[:, i] = regular_charge(above[:, columns[-MONTHS_KEPT:]], MONTH_SIGMAS * sigma)
    return result


# A forecast and its backtests ask the same for every kind of series.
@lru_cache(maxsize=64)
def _columns_by_place(first: date, days: int) -> Mapping[int, Sequence[int]]:
    """The columns, ascending, of the days at each place of the month, from the first whose weekday is known."""
    found: dict[int, list[int]] = {}
    for column in range(MONTH_BACK, days):
        found.setdefault(month_place(first + timedelta(days=column)), []).append(column)
    return found


def above_weekday(whole: Matrix) -> Matrix:
    """What each day cost above the median of its weekday in the four weeks before it; NaN where there are no such weeks."""
    days = whole.shape[1]
    above = np.full(whole.shape, np.nan)
    if days > MONTH_BACK:
        before = [whole[:, MONTH_BACK - WEEK * k : days - WEEK * k] for k in range(1, 5)]
        above[:, MONTH_BACK:] = whole[:, MONTH_BACK:] - np.median(np.stack(before), axis=0)
    return above


def regular_charge(above: Matrix, limit: Matrix) -> Matrix:
    """What a place of the month costs above its weekday, by what it did in past months (a column each); 0: nothing
    that comes back: seen too rarely, not always to the same side, or not beyond `limit`, a value a series."""
    charge = np.zeros(len(above))
    known = np.isfinite(above)
    if above.shape[1] < MONTHS_SEEN:
        return charge
    least = np.where(known, above, np.inf).min(axis=1)
    most = np.where(known, above, -np.inf).max(axis=1)
    regular = (known.sum(axis=1) >= MONTHS_SEEN) & ((least > limit) | (most < -limit))
    if regular.any():
        charge[regular] = np.nanmedian(above[regular], axis=1)
    return charge


def month_place(day: date) -> int:
    """The day of the month counted from its beginning, in the last week from its end: 1 to 24, -6 to 0."""
    last = monthrange(day.year, day.month)[1]
    return day.day if day.day <= 24 else max(day.day - last, -6)
