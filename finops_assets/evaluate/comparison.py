"""A period beside the period before it: only like days of like sources are compared.

What a source has no figures for is unknown, not zero: a day that a gate holds or that nobody ran, a bill that is
late, and all that was before the source's first bill. Such days are in no sum, so they must not stand in the sum
that it is compared with either. Days are UTC, ends exclusive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import duckdb

from finops_assets.base.errors import FinopsError
from finops_assets.base.period import Period, days_between
from finops_assets.cost.coverage import BUILT, HELD, NOTHING, PREVIOUS, Coverage, coverage_of
from finops_assets.cost.restatements import REPORTED_NOW
from finops_assets.cost.rollup import ROLLUP_TABLE

# A source without any row for longer than this cost nothing meanwhile; for less its bill is late.
LATE_DAYS = 7
UNTAGGED_DAYS = 30
DAYS_SHOWN = 6


def latest_month(connection: duckdb.DuckDBPyConnection, rollup: str = ROLLUP_TABLE) -> Period | None:
    """The month of the newest day in the rollup, up to and with that day; None where the rollup is empty."""
    last = _last_day(connection, rollup)
    return Period(last.replace(day=1), last + timedelta(days=1)) if last else None


def latest_days(
    connection: duckdb.DuckDBPyConnection, days: int = UNTAGGED_DAYS, rollup: str = ROLLUP_TABLE
) -> Period | None:
    """The last `days` days up to and with the newest day in the rollup."""
    last = _last_day(connection, rollup)
    return Period(last - timedelta(days=days - 1), last + timedelta(days=1)) if last else None


def _last_day(connection: duckdb.DuckDBPyConnection, rollup: str) -> date | None:
    row = connection.execute(f"SELECT max(charge_date) FROM {rollup}").fetchone()
    return row[0] if row else None


def reported_days(
    connection: duckdb.DuckDBPyConnection, first: date, end: date, rollup: str = ROLLUP_TABLE
) -> set[date]:
    """The days that the rollup has figures for, and those that are built and cost nothing."""
    found = {
        day
        for (day,) in connection.execute(
            f"SELECT DISTINCT charge_date FROM {rollup} WHERE charge_date >= $first AND charge_date < $end",
            {"first": first, "end": end},
        ).fetchall()
    }
    if rollup in (ROLLUP_TABLE, REPORTED_NOW):
        found |= {c.day for c in coverage_of(connection, first, end) if c.state == BUILT}
    return found


def missing_days(connection: duckdb.DuckDBPyConnection, period: Period, rollup: str = ROLLUP_TABLE) -> list[date]:
    """The days of a period that the rollup has no figures for: held by a gate, or not run."""
    found = reported_days(connection, period.first, period.end, rollup)
    return [day for day in period.days if day not in found]


class NoFigures(FinopsError):
    """There is nothing to show of the days that were asked for."""


def require_figures(
    connection: duckdb.DuckDBPyConnection, period: Period, rollup: str = ROLLUP_TABLE, name: str = ""
) -> None:
    """A period without any figure has no answer, not the answer 0. `name`: what people call the period.

    Raises:
        NoFigures: no day of it is in the rollup.
    """
    if reported_days(connection, period.first, period.end, rollup):
        return
    [(first, last)] = connection.execute(f"SELECT min(charge_date), max(charge_date) FROM {rollup}").fetchall()
    if first is None:
        raise NoFigures("nothing was reported: no day had passed its gates")
    raise NoFigures(
        f"no day of {name or period} was reported; there are figures from {first} to {last}. Run these days first"
        f" (`finops run {period.first} {period.end}`), or ask for days that have figures"
    )


@dataclass(frozen=True)
class Comparison:
    """What is known of a period and of the one before it, and which days are compared.

    `known` and `compared` are by provider, as the rollup groups: the days of the period that have figures of every
    source that bills under it, and those of them whose like in the period before has, too. `missing` and
    `missing_before` are days that nothing is known of; `late` are by source the days of both periods that others
    have figures for, and it has not.
    """

    period: Period
    known: Mapping[str, frozenset[date]]
    compared: Mapping[str, frozenset[date]]
    missing: list[date]
    missing_before: list[date]
    late: Mapping[str, list[date]]
    outdated: Mapping[str, list[date]] = field(default_factory=dict)
    """By source, days of both periods that show its last good version, because a gate holds a newer one."""
    begins: Mapping[str, date] = field(default_factory=dict)
    """By source whose provider had no charge before it: the day of its first one, within the two periods."""

    @property
    def days(self) -> int:
        """Days of the period with figures."""
        return self.known_days(self.known)

    @property
    def days_before(self) -> int:
        """Like days that are compared."""
        return self.compared_days(self.compared)

    @property
    def unpaired(self) -> list[date]:
        """Days with figures at the end of the longer period that the other one has no like of."""
        like = self.period.like_days
        both = {*like, *like.values(), *self.missing, *self.missing_before}
        return [day for day in (*self.period.days, *self.period.before.days) if day not in both]

    def known_days(self, providers: Iterable[str], day: date | None = None) -> int:
        """Days of the period with figures of any of these providers; of one day: 1 or 0."""
        return _count(self.known, providers, day)

    def compared_days(self, providers: Iterable[str], day: date | None = None) -> int:
        """Like days that are compared of any of these providers; of one day: 1 or 0."""
        return _count(self.compared, providers, day)

    def __str__(self) -> str:
        """
        >>> day = date(2026, 10, 1)
        >>> str(Comparison(Period(day, date(2026, 10, 3)), {"AWS": frozenset([day])}, {}, [], [], {}))
        '1 of 2 days; nothing to compare with'
        """
        whole, days, like = len(self.period.days), self.days, self.days_before
        known = f"{days} of {whole} days" if days < whole else _many(days)
        return f"{known}; {f'compared over {like} like days' if like else 'nothing to compare with'}"

    @property
    def notes(self) -> list[str]:
        """What is missing, a sentence each, for people: which days are in no sum, and which are not compared."""
        before = self.period.before
        found = []
        for name, span, gaps in (
            ("this period", self.period, self.missing),
            ("the period before", before, self.missing_before),
        ):
            if gaps:
                found.append(no_figures(name, span, gaps))
        found += _of_sources(self.late, self.outdated)
        found += [f"{source} begins on {day}: days before it are not compared" for source, day in self.begins.items()]
        if unpaired := self.unpaired:
            found.append(f"not compared, as the other month has no such day: {_listed(unpaired)}")
        return found

    @property
    def notes_of_period(self) -> list[str]:
        """The same for an answer that compares nothing: what is not in the figures of the period itself."""
        found = [no_figures("the period", self.period, self.missing)] if self.missing else []
        return found + _of_sources(self._within(self.late), self._within(self.outdated))

    def _within(self, of: Mapping[str, list[date]]) -> dict[str, list[date]]:
        everyday = set(self.period.days)
        return {source: kept for source, days in of.items() if (kept := [day for day in days if day in everyday])}

    @property
    def coverage(self) -> dict[str, Any]:
        """The same for programs: which days of the period are in its figures, and which of which source are not."""
        lacking = {"late": self._within(self.late), "outdated": self._within(self.outdated)}
        return {
            "whole": not self.missing and not lacking["late"] and not lacking["outdated"],
            "days": self.days,
            "days_in_period": len(self.period.days),
            "days_compared": self.days_before,
            "days_missing": list(self.missing),
            "sources_late": lacking["late"],
            "sources_outdated": lacking["outdated"],
            "notes": self.notes,
        }


def _of_sources(late: Mapping[str, list[date]], outdated: Mapping[str, list[date]]) -> list[str]:
    """Which source is not in the figures, and which is as of before, a sentence each."""
    return [
        *(f"{source} has no figures for {_many(len(days))}: {_listed(days)}" for source, days in late.items()),
        *(
            f"{source} shows its last good version on {_many(len(days))}, a newer one is held by a gate: {_listed(days)}"
            for source, days in outdated.items()
        ),
    ]


def no_figures(name: str, period: Period, gaps: list[date]) -> str:
    """Which days of a period are in no sum, in a sentence."""
    return f"{len(gaps)} of {len(period.days)} days of {name} have no figures (held by a gate, or not run): {_listed(gaps)}"


def _count(of: Mapping[str, frozenset[date]], providers: Iterable[str], day: date | None) -> int:
    days = frozenset[date]().union(*(of.get(provider, frozenset()) for provider in providers))
    return len(days) if day is None else int(day in days)


def _many(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"


def _listed(days: list[date]) -> str:
    return ", ".join(map(str, days[:DAYS_SHOWN])) + (", …" if len(days) > DAYS_SHOWN else "")


def compare(
    connection: duckdb.DuckDBPyConnection,
    period: Period,
    reported: str = REPORTED_NOW,
    rollup: str | None = None,
) -> Comparison:
    """Which days of a period are compared with which of the period before.

    `reported` is SQL of what was reported by source (now, or as of a day). `rollup`: SQL of a relation whose days alone
    count, where it may have fewer, as the converted one has. The rollup itself has those of what is reported now.
    """
    before = period.before
    # All that is to be known of what was reported in one look through it: it is as long as the rollup.
    charged = connection.execute(f"SELECT DISTINCT provider, source, charge_date FROM {reported}").fetchall()
    covered = coverage_of(connection, before.first, period.end) if reported == REPORTED_NOW else []
    days = {day for *_, day in charged if before.first <= day < period.end}
    days.update(c.day for c in covered if c.state == BUILT)
    if rollup not in (None, ROLLUP_TABLE, reported):
        days &= reported_days(connection, before.first, period.end, rollup)
    begun, unknown = _by_source(before.first, period.end, days, {(source, day) for _, source, day in charged}, covered)
    of_provider: dict[str, set[str]] = {}
    for provider, source, _ in charged:
        of_provider.setdefault(provider, set()).add(source)
    known, late = {}, {source: set[date]() for source in begun}
    built = {(c.source, c.day) for c in covered if c.state == BUILT}
    begins: dict[str, date] = {}
    for provider, sources in of_provider.items():
        # Another source of a provider may take over from one, or be added to it: its beginning is no gap.
        first = min(begun[source] for source in sources)
        gaps = {day for day in days if day < first}.union(*(unknown[source] for source in sources))
        known[provider] = frozenset(days - gaps)
        for source in sources:
            # Of days before its first charge coverage may know that it costs nothing: they are no gap, and not compared.
            early = {day for day in gaps if day < begun[source]}
            late[source] |= unknown[source].union(day for day in early if (source, day) not in built)
            if begun[source] == first < period.end and any((source, day) in built for day in early):
                begins[source] = first
    named = {source for sources in of_provider.values() for source in sources}
    for source in begun.keys() - named:
        late[source] |= unknown[source]  # of whom nothing was ever reported
    like = period.like_days.items()
    everyday = set(period.days)
    return Comparison(
        period,
        {provider: there & everyday for provider, there in known.items()},
        {p: frozenset(d for d, other in like if d in there and other in there) for p, there in known.items()},
        [day for day in period.days if day not in days],
        [day for day in before.days if day not in days],
        {source: sorted(gaps) for source, gaps in sorted(late.items()) if gaps},
        _outdated(covered),
        dict(sorted(begins.items())),
    )


def everything(connection: duckdb.DuckDBPyConnection) -> Period | None:
    """All days from the first reported one to the newest; None where there is none."""
    [(first, last)] = connection.execute(f"SELECT min(charge_date), max(charge_date) FROM {ROLLUP_TABLE}").fetchall()
    return Period(first, last + timedelta(days=1)) if first else None


def recent_days(connection: duckdb.DuckDBPyConnection, days: int = UNTAGGED_DAYS) -> Period | None:
    """The last `days` days, not before the first that was reported."""
    latest = latest_days(connection, days)
    return reported_within(connection, latest.first, latest.end) if latest else None


def reported_within(connection: duckdb.DuckDBPyConnection, first: date, end: date) -> Period | None:
    """Of [first, end) what lies between the first reported day and the newest; the newest month where nothing does."""
    known = everything(connection)
    if known is None or max(first, known.first) >= min(end, known.end):
        return latest_month(connection)
    return Period(max(first, known.first), min(end, known.end))


def _outdated(covered: Iterable[Coverage]) -> dict[str, list[date]]:
    found: dict[str, list[date]] = {}
    for c in covered:
        if c.state == HELD and c.shown == PREVIOUS:
            found.setdefault(c.source, []).append(c.day)
    return dict(sorted(found.items()))


def covered_days(
    connection: duckdb.DuckDBPyConnection, first: date, end: date
) -> tuple[dict[str, set[date]], dict[str, set[date]]]:
    """By provider, of [first, end): the days that `coverage` knows whole, also such that cost nothing, and those it does
    not, because a source that bills under the provider is awaited or held and nothing of it is shown."""
    states: dict[tuple[str, date], bool] = {
        (c.source, c.day): c.state == BUILT or c.shown != NOTHING for c in coverage_of(connection, first, end)
    }
    days = {day for _, day in states}
    known: dict[str, set[date]] = {}
    unknown: dict[str, set[date]] = {}
    for provider, sources in sources_of_providers(connection).items() if days else ():
        for day in days:
            found = [states.get((source, day)) for source in sources]
            if False in found:
                unknown.setdefault(provider, set()).add(day)
            elif all(found):
                known.setdefault(provider, set()).add(day)
    return known, unknown


def sources_of_providers(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """The sources that bill under each provider's name."""
    found: dict[str, list[str]] = {}
    for provider, source in connection.execute(f"SELECT DISTINCT provider, source FROM {REPORTED_NOW}").fetchall():
        found.setdefault(provider, []).append(source)
    return found


def _by_source(
    first: date,
    end: date,
    days: set[date],
    charged: Collection[tuple[str, date]],
    covered: Iterable[Coverage],
) -> tuple[dict[str, date], dict[str, set[date]]]:
    """By source: its first day with rows, and those of these reported days of [first, end) on which its bill is late.
    `charged` are the days with rows.

    The only place that says when a source is late: where `coverage` says that it is awaited or held and nothing of it is
    shown. Of days that it does not speak of (of an earlier version, or as they were reported once): on days without
    rows between others that are no more than LATE_DAYS; after its last rows the newest reported day ends such a span.
    """
    around = timedelta(days=LATE_DAYS + 1)
    found: dict[str, list[date]] = {}
    begun: dict[str, date] = {}
    for source, day in sorted(charged):
        begun.setdefault(source, day)
        if first - around <= day < end + around:
            found.setdefault(source, []).append(day)
    newest = max((day for _, day in charged), default=end)
    late: dict[str, set[date]] = {source: set() for source in begun}
    for source, there in found.items():
        for last, following in pairwise([*there, newest + timedelta(days=1)]):
            if (following - last).days <= LATE_DAYS + 1:
                late[source].update(day for day in days_between(last + timedelta(days=1), following) if day in days)
    for c in covered:
        gaps = late.setdefault(c.source, set())
        if c.state != BUILT and c.shown == NOTHING and c.day in days:
            gaps.add(c.day)
        else:
            gaps.discard(c.day)
        begun.setdefault(c.source, c.day)
    return begun, late
