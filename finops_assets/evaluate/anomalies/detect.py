"""Which days of many daily series are out of the ordinary: every day judged by the days before it alone.

Matrices are those of `forecast.expect`: a row a series, a column a UTC day, NaN a gap. Floats are right here: whether
a day is unusual has no exact value; the amounts that people see come from the warehouse as decimals.

An anomaly is an episode: it opens on the first day that is out of the ordinary and lasts until two days are not, or,
where the cost stays where it went, until that is the new level. While it lasts nothing is learned from its days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt

from finops_assets.evaluate.anomalies.key import Kind
from finops_assets.evaluate.forecast.expect import (
    MAD_TO_SIGMA,
    MONTH_SIGMAS,
    MONTHS_KEPT,
    WEEK,
    WEEKS,
    WINDOW,
    Matrix,
    above_weekday,
    filled,
    month_place,
    regular_charge,
)

Flags = npt.NDArray[np.bool_]
Ended = Literal["normal", "level"]

LEAST_DAYS = 14
LEVEL_DAYS = 28
WEEKS_TOLD = 2
CALM_DAYS = 2
# From its fourth day on a deviation is a shift of the level, as in the forecast; after two weeks it is the level.
SHIFT_FROM, LEVEL_FROM = 4, 14
# The surprises of the last week are not learned from yet: a drift would make itself usual.
LEARN_AFTER = 7
# Half of the limits keep an episode open that they opened.
STAYS = 0.5
# Surprises are logarithms of (cost + a tenth of the level): a fall to 0 is finite, and a quiet weekend no wonder.
OFFSET = 0.1
LEAST_SIGMA = 0.02
FEW = 3.0
SPARSE_SHARE = 0.1
# Of the normal distribution 95 % lie within so many sigmas.
SIGMAS_OF_95 = 1.96
HIGHEST_SCORE = 99.0
SERIES_AT_ONCE = 2_500


@dataclass(frozen=True)
class Limits:
    """What a day of each series must exceed to be an anomaly; a value a series.

    `sigma`: standard deviations of the series' usual surprise. `amount`: the deviation of a day in the currency.
    `share`: the deviation of a day, of what was expected.
    """

    sigma: Matrix
    amount: Matrix
    share: Matrix

    @classmethod
    def same(cls, series: int, sigma: float = 2.5, amount: float = 10.0, share: float = 0.25) -> Limits:
        """The same for all."""
        return cls(np.full(series, sigma), np.full(series, amount), np.full(series, share))


@dataclass(frozen=True)
class Episode:
    """An anomaly of the series `place`. Columns are places of days; `last` is its last unusual day, inclusive.

    `seen_over` is the day that showed its end, `ended` how it did: back to normal, or the new level; None while it
    lasts. `score` is the largest number of sigmas of its days, `surest` the day of it. `expected` is the sum over the
    `days` from `first` to `last` that are no gaps.
    """

    place: int
    direction: int
    first: int
    last: int
    surest: int
    score: float
    expected: float
    days: int
    seen_over: int | None
    ended: Ended | None

    @property
    def kind(self) -> Kind:
        return "shift" if self.last - self.first + 1 >= SHIFT_FROM else "spike"


def episodes(costs: Matrix, first: date, limits: Limits) -> list[Episode]:
    """The anomalies of every row of `costs`, by the day they began. `first` is the UTC day of the first column.

    Nothing is judged before a series has LEAST_DAYS days. A series in which a tenth of the days cost nothing, or
    that is negative, is compared with its largest deviation of eight weeks and has no falls.
    """
    found: list[Episode] = []
    for low in range(0, len(costs), SERIES_AT_ONCE):
        part = slice(low, low + SERIES_AT_ONCE)
        of_part = Limits(limits.sigma[part], limits.amount[part], limits.share[part])
        found += _Scan(costs[part], first, of_part, low).run()
    return sorted(found, key=lambda e: (e.first, e.place))


class _Scan:
    """One pass over the days; what is known of every series is a row of each array."""

    def __init__(self, costs: Matrix, first: date, limits: Limits, offset: int) -> None:
        self.costs, self.limits, self.offset = costs, limits, offset
        self.series, self.days = costs.shape
        self.places = [month_place(first + timedelta(days=i)) for i in range(self.days)]
        self.seen: Flags = np.isfinite(costs)
        self.whole = filled(costs)
        self.above = np.where(self.seen, above_weekday(self.whole), np.nan)
        # A cost against the middle of its week, for the weekday's effect; the cost without that effect.
        self.ratio = np.full(costs.shape, np.nan)
        self.plain = np.full(costs.shape, np.nan)
        self.surprise = np.full(costs.shape, np.nan)
        self.levels = _Ring(self.series, LEVEL_DAYS)
        self.surprises = _Ring(self.series, WINDOW)
        self.month_limit = np.full(self.series, np.inf)
        n = self.series
        self.open: Flags = np.zeros(n, dtype=bool)
        self.direction = np.zeros(n, dtype=np.int64)
        self.began, self.last, self.surest = (np.zeros(n, dtype=np.int64) for _ in range(3))
        self.calm, self.count = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.score, self.expected = np.zeros(n), np.zeros(n)
        # Of calm days within an episode, which count if it goes on after them.
        self.pending_days, self.pending = np.zeros(n, dtype=np.int64), np.zeros(n)
        self.found: list[Episode] = []

    def run(self) -> list[Episode]:
        for day in range(self.days):
            self._day(day)
        self._close(self.open, None, None)
        return self.found

    def _day(self, t: int) -> None:
        x, seen = self.whole[:, t], self.seen[:, t]
        (effect, told), sparse = self._weekday_effect(t), self._sparse(t)
        month, month_share = self._month_charge(t)
        informative = effect > OFFSET / 2
        ordered, count = self.levels.ordered()
        level = np.where(count > 0, _quantile(ordered, count, 0.5), 0.0)
        of_weekday = level * effect
        # A charge of the month is an amount, or a share of a cost that moves: the one that is nearer explains the day.
        whole, part = of_weekday + month, of_weekday * (1 + month_share)
        usual = np.where(np.abs(x - whole) <= np.abs(x - part), whole, part)
        plain = (x - (usual - of_weekday)) / np.where(informative, effect, 1.0)
        self.plain[:, t] = np.where(seen & (informative | sparse), np.where(sparse, x, plain), np.nan)
        sparse |= ~(level > 0)
        around = OFFSET * np.abs(level)
        known = seen & (count >= LEAST_DAYS) & (told | sparse)
        with np.errstate(divide="ignore", invalid="ignore"):
            surprise = np.log(np.maximum(x + around, 1e-9 * around) / (usual + around))
            surprise = np.where(sparse | (usual + around <= 0) | ~np.isfinite(surprise), np.nan, surprise)
            trend, sigma, learned = self._usual_surprise()
            # A trend may go on or end: what is explained by either is no surprise.
            trend = np.where(np.abs(surprise - trend) < np.abs(surprise), trend, 0.0)
            score = np.abs(surprise - trend) / sigma
        usual = np.where(np.isfinite(surprise), (usual + around) * np.exp(trend) - around, usual)
        apart = x - usual
        # Nothing is known of the usual surprise yet where a week of them was not learned.
        score = np.where(learned >= WEEK, score, 0.0)
        rows = np.flatnonzero(sparse & known)
        if len(rows):
            usual[rows], score[rows] = self._plainly(rows, t, x[rows])
            apart[rows] = x[rows] - usual[rows]
        score = np.where(known & ~np.isnan(score), np.minimum(score, HIGHEST_SCORE), 0.0)
        size, base = np.abs(apart), np.maximum(np.abs(usual), around)
        limits = self.limits
        strange = (score >= limits.sigma) & (size >= limits.amount) & (size >= limits.share * base)
        still = (
            (score >= STAYS * limits.sigma) & (size >= STAYS * limits.amount) & (size >= STAYS * limits.share * base)
        )
        self._follow(
            t, np.sign(np.nan_to_num(apart)).astype(np.int64), strange & known, still & known, known, usual, score
        )
        self.levels.push(seen & ~self.open & np.isfinite(self.plain[:, t]), self.plain[:, t])
        # Of an anomaly's first days as much is learned as would just have been none: without its own outliers
        # every series would seem calmer than it is.
        most = limits.sigma * sigma
        clipped = np.clip(surprise, trend - most, trend + most)
        fresh = seen & (count >= WEEK) & (~self.open | (self.count < SHIFT_FROM))
        # A young series learns at once; it has nothing else to judge by.
        young = fresh & np.isfinite(clipped) & (learned < LEVEL_DAYS)
        self.surprises.push(young, clipped)
        self.surprise[:, t] = np.where(fresh & ~young, clipped, np.nan)
        if t >= LEARN_AFTER:
            old = self.surprise[:, t - LEARN_AFTER]
            self.surprises.push(np.isfinite(old) & ~(self.open & (self.count >= SHIFT_FROM)), old)

    def _usual_surprise(self) -> tuple[Matrix, Matrix, npt.NDArray[np.int64]]:
        """The trend (the median surprise), the standard deviation around it, and from how many days they are learned."""
        ordered, count = self.surprises.ordered()
        trend = _quantile(ordered, count, 0.5)
        trend = np.where(count >= LEVEL_DAYS, trend, 0.0)
        around = np.sort(np.abs(ordered - trend[:, None]), axis=1)
        sigma = np.maximum(_quantile(around, count, 0.5) * MAD_TO_SIGMA, _quantile(around, count, 0.95) / SIGMAS_OF_95)
        # Few surprises tell too little of the large ones.
        sigma *= 1 + FEW / np.maximum(count, 1)
        return trend, np.where(count > 0, np.maximum(sigma, LEAST_SIGMA), np.inf), count

    def _weekday_effect(self, t: int) -> tuple[Matrix, Flags]:
        """What the weekday costs, of the level of its week: the median of eight weeks; and whether two weeks told it."""
        c = t - WEEK
        if c >= 3:
            middle = np.median(self.whole[:, c - 3 : c + 4], axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = self.whole[:, c] / middle
            self.ratio[:, c] = np.where((middle > 0) & self.seen[:, c], ratio, np.nan)
        lags = [t - WEEK * k for k in range(1, WEEKS + 1) if t - WEEK * k >= 3]
        if len(lags) < WEEKS_TOLD:
            return np.ones(self.series), np.zeros(self.series, dtype=bool)
        ordered = np.sort(self.ratio[:, lags], axis=1)
        count = np.isfinite(ordered).sum(axis=1)
        # Weeks whose middle day costs nothing have no ratio: of a series with many such weeks no weekday is usual.
        effect = _quantile(ordered, count, 0.5)
        # Of two weeks the more usual one counts: the other may have been a spike.
        nearer = np.where(np.abs(ordered[:, 0] - 1) <= np.abs(ordered[:, 1] - 1), ordered[:, 0], ordered[:, 1])
        effect = np.where(count == WEEKS_TOLD, nearer, effect)
        told = count >= WEEKS_TOLD
        return np.where(told & (count * 2 > len(lags)), np.maximum(effect, 0.0), 1.0), told

    def _month_charge(self, t: int) -> tuple[Matrix, Matrix]:
        """What the place of the month costs above the weekday: as an amount, and as a share of it."""
        if t % WEEK == 0 and t >= 2 * LEVEL_DAYS:
            ordered = np.sort(np.abs(self.above[:, max(0, t - WINDOW) : t]), axis=1)
            sigma = MAD_TO_SIGMA * _quantile(ordered, np.isfinite(ordered).sum(axis=1), 0.5)
            least = 0.02 * np.abs(np.median(self.whole[:, t - LEVEL_DAYS : t], axis=1))
            self.month_limit = MONTH_SIGMAS * np.maximum(np.where(np.isfinite(sigma), sigma, np.inf), least)
        columns = [c for c in range(LEVEL_DAYS, t) if self.places[c] == self.places[t]][-MONTHS_KEPT:]
        charge = regular_charge(self.above[:, columns], self.month_limit)
        share = np.zeros(self.series)
        rows = np.flatnonzero(charge)
        if len(rows):
            above = self.above[rows][:, columns]
            before = self.whole[rows][:, columns] - above
            with np.errstate(divide="ignore", invalid="ignore"):
                shares = above / np.where(before > 0, before, np.nan)
            ordered = np.sort(shares, axis=1)
            middle = _quantile(ordered, np.isfinite(ordered).sum(axis=1), 0.5)
            share[rows] = np.where(np.isfinite(middle), middle, 0.0)
        return charge, share

    def _sparse(self, t: int) -> Flags:
        """Days that cost nothing and are no rule of their weekday, on more than a tenth of eight weeks."""
        weeks = min(t // WEEK, WEEKS)
        if not weeks:
            return np.zeros(self.series, dtype=bool)
        nothing = (self.whole[:, t - weeks * WEEK : t] <= 0).reshape(self.series, weeks, WEEK).sum(axis=1)
        mixed = np.minimum(nothing, weeks - nothing).sum(axis=1)
        return np.asarray(mixed > SPARSE_SHARE * weeks * WEEK, dtype=bool)

    def _plainly(self, rows: npt.NDArray[np.int64], t: int, x: Matrix) -> tuple[Matrix, Matrix]:
        """Of sparse series: what is usual, and a rise against the largest deviation of eight weeks, which counts as
        two sigmas."""
        window = self.costs[rows, max(0, t - WINDOW) : t]
        before = np.where(np.isfinite(window), window, 0.0)
        usual = np.median(before, axis=1)
        largest = np.abs(before - usual[:, None]).max(axis=1)
        apart = x - usual
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.where(largest > 0, np.abs(apart) * SIGMAS_OF_95 / largest, np.inf)
        falls = (apart < 0) & ~(before < 0).any(axis=1)
        return usual, np.where((apart == 0) | falls, 0.0, score)

    def _follow(
        self,
        t: int,
        side: npt.NDArray[np.int64],
        strange: Flags,
        still: Flags,
        known: Flags,
        usual: Matrix,
        score: Matrix,
    ) -> None:
        """Open, keep and close episodes by what the day showed."""
        other = self.open & strange & (side != self.direction)
        self._close(other, t, "normal")
        keeps = self.open & still & (side == self.direction)
        fades = self.open & known & ~keeps
        self.calm = np.where(keeps, 0, np.where(fades, self.calm + 1, self.calm))
        self._close(fades & (self.calm >= CALM_DAYS), t, "normal")
        waits = fades & self.open
        self.pending_days[waits] += 1
        self.pending[waits] += usual[waits]
        opens = strange & ~self.open
        if opens.any():
            self.open |= opens
            self.direction[opens], self.began[opens] = side[opens], t
            for totals in (self.calm, self.count, self.pending_days, self.score, self.expected, self.pending):
                totals[opens] = 0
        going = opens | keeps
        if not going.any():
            return
        self.surest = np.where(going & (score > self.score), t, self.surest)
        self.score = np.where(going, np.maximum(self.score, score), self.score)
        self.last[going] = t
        self.count[going] += 1 + self.pending_days[going]
        self.expected[going] += usual[going] + self.pending[going]
        self.pending_days[going] = self.pending[going] = 0
        settled = going & (self.count >= LEVEL_FROM)
        for row in np.flatnonzero(settled):
            self.levels.begin(int(row), self.plain[row, self.began[row] : t + 1])
        self._close(settled, t, "level")

    def _close(self, which: Flags, t: int | None, how: Ended | None) -> None:
        for row in np.flatnonzero(which):
            self.found.append(
                Episode(
                    int(row) + self.offset,
                    int(self.direction[row]),
                    int(self.began[row]),
                    int(self.last[row]),
                    int(self.surest[row]),
                    float(self.score[row]),
                    float(self.expected[row]),
                    int(self.count[row]),
                    t,
                    how,
                )
            )
        self.open &= ~which


class _Ring:
    """The last values that were learned of each series; NaN where there are not as many yet."""

    def __init__(self, series: int, size: int) -> None:
        self.values = np.full((series, size), np.nan)
        self.next = np.zeros(series, dtype=np.int64)

    def push(self, which: Flags, values: Matrix) -> None:
        rows = np.flatnonzero(which)
        self.values[rows, self.next[rows]] = values[rows]
        self.next[rows] = (self.next[rows] + 1) % self.values.shape[1]

    def begin(self, row: int, values: Matrix) -> None:
        """Forget what was learned of a series; learn these."""
        size = self.values.shape[1]
        kept = values[np.isfinite(values)][-size:]
        if not len(kept):
            return
        self.values[row] = np.nan
        self.values[row, : len(kept)] = kept
        self.next[row] = len(kept) % size

    def ordered(self) -> tuple[Matrix, npt.NDArray[np.int64]]:
        """The values of each series in their order, NaN at the end, and how many there are."""
        ordered = np.sort(self.values, axis=1)
        return ordered, np.asarray(np.isfinite(ordered).sum(axis=1), dtype=np.int64)


def _quantile(ordered: Matrix, count: npt.NDArray[np.int64], share: float) -> Matrix:
    """Of sorted rows with NaN at their ends; NaN where there is nothing."""
    at = share * np.maximum(count - 1, 0)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    below = np.take_along_axis(ordered, low[:, None], axis=1)[:, 0]
    above = np.take_along_axis(ordered, high[:, None], axis=1)[:, 0]
    return np.where(count > 0, below + (at - low) * (above - below), np.nan)
