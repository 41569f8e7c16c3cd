"""What a day without charges means: it costs nothing, its charges are awaited, or they are missing.

A day costs nothing where a delivery that holds its time whole has no charge on it, or where none is due by the source's
cadence. Any other is awaited until its deadline, and missing from then on. docs/guides/gates.md, "Days without charges".
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from statistics import median_low
from typing import Final, Literal

from finops_assets.base.period import next_month
from finops_assets.ingest.layouts.delivery import incomplete_sectors
from finops_assets.settings.sources import Cadence
from finops_assets.storage.ledger import Generation
from finops_assets.storage.scope import Sector, scope_days

Meaning = Literal["costs nothing", "awaited", "missing"]
COSTS_NOTHING: Final = "costs nothing"
AWAITED: Final = "awaited"
MISSING: Final = "missing"
DEADLINE = "08:00"
"""Where none is given: `night.deadline` as it is by default."""

# How much of its history a cadence is learnt from, and how much there must be of it.
LEARNT_FROM = timedelta(days=120)
LEAST_DAYS, LEAST_MONTHS = 28, 3
LEAST_WORKDAYS = 10
"""Two weeks of work, none of their days left out, tell of a vendor that rests on the weekend between them."""
DAILY_SHARE, WEEKDAYS_SHARE, IRREGULAR_SHARE = 0.9, 0.75, 1 / 3
MONTHLY_TOLERANCE = 3
"""Days by which the day of a monthly charge may move."""
MONTHLY_DEADLINE = timedelta(days=10)
"""After its month's end: a vendor's bill of a month comes with the next one."""
USAGE_SETTLES = timedelta(days=2)
"""After a month's end: a daily source may still deliver the last days' usage, so that none of it says nothing yet."""

_DAY_IN_NAME = re.compile(r"(?<!\d)(\d{4})([-_./]?)(\d{2})\2(\d{2})(?!\d)")
_ONE = timedelta(days=1)


@dataclass(frozen=True)
class Emptiness:
    """What it means that a source has no charge on a day."""

    meaning: Meaning
    why: str


@dataclass(frozen=True)
class Rhythm:
    """On which days a source charges. `cadence` None: not known, and then every day counts as due."""

    cadence: Cadence | None
    why: str
    usual_day: int = 1
    """Of the month, for `monthly`."""


@dataclass(frozen=True)
class _Claim:
    """A stretch of charge days, end exclusive, that a delivery holds whole once it was made at or after `closed_at`."""

    scope: str
    start: date
    end: date
    last_charged: date | None
    delivered_at: datetime


class Calendar:
    """The charge days of a source by its live deliveries, and what a day without any means.

    `cadence` is the one of finops.yaml; where it is None it is learnt. `deadline` is the time of day ("HH:MM", UTC) by
    which the day before must have been delivered, `pending` the newest deliveries that wait or were refused.
    """

    def __init__(
        self,
        live: Iterable[Generation],
        cadence: Cadence | None = None,
        deadline: str = DEADLINE,
        pending: Iterable[Generation] = (),
    ) -> None:
        self.live = [*live]
        self.deadline = deadline
        self.charged = sorted({day for g in self.live for day, totals in g.days.items() if totals.rows})
        self.rhythm = (
            Rhythm(cadence, f"cadence: {cadence} in finops.yaml", _usual_day(self.charged))
            if cadence
            else learnt(self.charged, all(g.month_long for g in self.live if g.days))
        )
        self._sectors = list(dict.fromkeys(s for g in self.live for s in g.recency()))
        self._claims = [*_claims(self.live, [*pending])]

    def of(self, day: date, now: datetime) -> Emptiness:
        """What it means that no delivery has a charge on this day."""
        why = self.costs_nothing(day, now)
        if why:
            return Emptiness(COSTS_NOTHING, why)
        until = self.due_by(day)
        newest = self.charged[-1] if self.charged else None
        since = f"the newest charge is of {newest}" if newest else "nothing was delivered yet"
        if incomplete_sectors(self._sectors, day):
            since += ", and the provider's recency metadata calls the day not complete"
        if now < until:
            return Emptiness(AWAITED, f"{since}; awaited since {day + _ONE}, until {until:%Y-%m-%d %H:%M} UTC")
        # The same words for each of several days: whoever lists them says them once.
        due = (
            f"{until:%Y-%m-%d %H:%M} UTC" if self.rhythm.cadence == "monthly" else f"{self.deadline} UTC the day after"
        )
        return Emptiness(MISSING, f"{since}; a charge was due by {due} ({self.rhythm.why})")

    def costs_nothing(self, day: date, now: datetime) -> str:
        """Why a day without charges costs nothing; empty where it may still have some."""
        if incomplete_sectors(self._sectors, day):
            return ""
        if self._complete_by_recency(day, now):
            return "the provider's recency metadata calls the day complete"
        if self.charged and day < self.charged[0]:
            return f"the source's first charge is of {self.charged[0]}"
        for claim in self._claims:
            if not claim.start <= day < claim.end:
                continue
            if claim.last_charged and day < claim.last_charged:
                later = self.charged[bisect_right(self.charged, day)]
                return f"delivery {claim.scope} holds later charges, of {later}"
            if min(claim.delivered_at, now) >= _start(claim.end) + (USAGE_SETTLES if self._daily else _NONE):
                return f"delivery {claim.scope} was made on {claim.delivered_at:%Y-%m-%d}, after its period's end"
        return self._not_due(day)

    @property
    def _daily(self) -> bool:
        """Does the source charge on nearly every day?"""
        last_week = self.charged and self.charged[bisect_right(self.charged, self.charged[-1] - timedelta(days=7)) :]
        return self.rhythm.cadence == "daily" or (self.rhythm.cadence is None and len(last_week) >= 6)

    def due_by(self, day: date) -> datetime:
        """When a day that has no charge is missing."""
        last = day + _ONE
        if self.rhythm.cadence == "monthly":
            last = next_month(day) + MONTHLY_DEADLINE
        return datetime.combine(last, time.fromisoformat(self.deadline), UTC)

    def _not_due(self, day: date) -> str:
        match self.rhythm.cadence:
            case "weekdays" if day.weekday() >= 5:
                return f"no charge is due on a {day:%A} ({self.rhythm.why})"
            case "irregular":
                return f"no charge is due on any one day ({self.rhythm.why})"
            case "monthly":
                first, end = day.replace(day=1), next_month(day)
                usual = min(self.rhythm.usual_day, (end - _ONE).day)
                held = bisect_left(self.charged, first) < bisect_left(self.charged, end)
                if held or day.day != usual:
                    return f"its month's charge is of another day ({self.rhythm.why})"
        return ""

    def _complete_by_recency(self, day: date, now: datetime) -> bool:
        """Do sectors that are complete cover the whole of a day that is over?"""
        reached, end = _start(day), _start(day + _ONE)
        if now < end:
            return False
        for sector in sorted((s for s in self._sectors if s.complete), key=_sector_start):
            if sector.start <= reached < sector.end:
                reached = sector.end
        return reached >= end


def learnt(charged: Sequence[date], month_long: bool = False) -> Rhythm:
    """The cadence of a source by its charged days (sorted); None where there are too few, or no cadence fits.

    `month_long`: each of its charges is of a month or longer, so one a month is all there is.
    """
    if charged and month_long:
        return Rhythm("monthly", "learnt: each of its charges is of a month or longer", _usual_day(charged))
    recent = [day for day in charged if day > charged[-1] - LEARNT_FROM]
    span = (recent[-1] - recent[0]).days + 1 if recent else 0
    months: dict[str, list[date]] = {}
    for day in recent:
        months.setdefault(f"{day:%Y-%m}", []).append(day)
    usual = _usual_day(recent)
    if (
        len(months) >= LEAST_MONTHS
        and _without_gap([days[0] for days in months.values()])
        and all(len(days) == 1 and abs(days[0].day - usual) <= MONTHLY_TOLERANCE for days in months.values())
    ):
        return Rhythm("monthly", f"learnt: one charged day in each of {len(months)} months", usual)
    weekdays = sum((recent[0] + timedelta(days=n)).weekday() < 5 for n in range(span))
    rests = all(day.weekday() < 5 for day in recent)
    if rests and len(recent) == weekdays >= LEAST_WORKDAYS:
        return Rhythm("weekdays", f"learnt: charges on each of {weekdays} working days, none on a weekend")
    if span < LEAST_DAYS:
        return Rhythm(None, f"cadence not known: charges of {len(charged)} days so far, each day counts as due")
    said = f"charges on {len(recent)} of {span} days to {recent[-1]}"
    if len(recent) >= DAILY_SHARE * span:
        return Rhythm("daily", f"learnt: {said}")
    if rests and len(recent) >= WEEKDAYS_SHARE * weekdays:
        return Rhythm("weekdays", f"learnt: {said}, none on a weekend")
    if len(recent) <= IRREGULAR_SHARE * span:
        return Rhythm("irregular", f"learnt: {said}")
    return Rhythm(None, f"cadence not known: {said}, each day counts as due")


_NONE = timedelta(0)


def _usual_day(charged: Sequence[date]) -> int:
    return median_low(day.day for day in charged) if charged else 1


def _without_gap(days: Sequence[date]) -> bool:
    return all(next_month(a) == b.replace(day=1) for a, b in pairwise(days))


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _sector_start(sector: Sector) -> datetime:
    return sector.start


def _claims(live: Sequence[Generation], pending: Sequence[Generation]) -> Iterable[_Claim]:
    """What each delivery holds whole: the days that its scope names, or from its first charge to its last, or its period.

    A file whose name says no period stands for its billing period where it is the period's only one, or lies over the
    same days as the others: files of a day each are pieces, and one of them that is missing is not a day without cost.
    Nor is it the whole beside a file of which nobody knows the days.
    """
    of_period: dict[tuple[date, date], list[Generation]] = {}
    for g in live:
        delivered = g.delivered_at or g.seen_at
        charged = sorted(day for day, totals in g.days.items() if totals.rows)
        last = charged[-1] if charged else None
        if named := scope_days(g.scope):
            yield _Claim(g.scope, named[0], named[1] + _ONE, last, delivered)
        elif (day := _day_named(g.scope)) and {*charged} <= {day}:
            yield _Claim(g.scope, day, day + _ONE, last, delivered)
        elif charged:
            yield _Claim(g.scope, charged[0], charged[-1] + _ONE, last, delivered)
            for period in g.periods:
                of_period.setdefault(period, []).append(g)
    unknown = any(not g.days and not scope_days(g.scope) and not _day_named(g.scope) for g in live)
    if unknown or any(not scope_days(g.scope) for g in pending):
        return
    for (start, end), pieces in of_period.items():
        if max(min(g.days) for g in pieces) > min(max(g.days) for g in pieces):
            continue
        newest = max(pieces, key=lambda g: g.delivered_at or g.seen_at)
        last = max(max(g.days) for g in pieces)
        yield _Claim(newest.scope, start, end, last, newest.delivered_at or newest.seen_at)


def _day_named(scope: str) -> date | None:
    """The day that a file's name says it is of."""
    found = _DAY_IN_NAME.search(scope.rsplit("/", 1)[-1])
    try:
        return date(int(found[1]), int(found[3]), int(found[4])) if found else None
    except ValueError:
        return None
