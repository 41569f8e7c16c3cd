"""Days, months and periods: UTC days, ends exclusive."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeVar


def next_month(day: date) -> date:
    """The first day of the month after a day's."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def days_between(first: date, end: date) -> list[date]:
    """The UTC days from `first` up to but not including `end`."""
    return [date.fromordinal(n) for n in range(first.toordinal(), end.toordinal())]


@dataclass(frozen=True)
class Period:
    """UTC days from `first` up to but not including `end`."""

    first: date
    end: date

    @property
    def before(self) -> Period:
        """The same days of the period before: of the month before for a month or its first days, else as many days."""
        if self.first.day == 1 and self.end <= next_month(self.first):
            month = (self.first - timedelta(days=1)).replace(day=1)
            end = self.first if self.end == next_month(self.first) else month + (self.end - self.first)
            return Period(month, min(end, self.first))
        return Period(self.first - (self.end - self.first), self.first)

    @property
    def days(self) -> list[date]:
        """Every day of it."""
        return days_between(self.first, self.end)

    @property
    def like_days(self) -> dict[date, date]:
        """Each day and its like in the period before: the first and the first, and so on, while both have one."""
        return dict(zip(self.days, self.before.days))

    def __str__(self) -> str:
        return f"{self.first} to {self.end - timedelta(days=1)}"


def consecutive(days: list[date], most: int) -> Iterator[list[date]]:
    """Days in runs without gaps, none longer than `most`."""
    chunk: list[date] = []
    for day in sorted(days):
        if chunk and (len(chunk) == most or day.toordinal() != chunk[-1].toordinal() + 1):
            yield chunk
            chunk = []
        chunk.append(day)
    if chunk:
        yield chunk


What = TypeVar("What")


def in_a_row(told: Iterable[tuple[date, What]]) -> list[tuple[list[date], What]]:
    """Days that follow each other and of which the same is told, together, in the order given.

    >>> days = [date(2026, 10, n) for n in (1, 2, 3, 5)]
    >>> [(len(alike), what) for alike, what in in_a_row(zip(days, "aabb"))]
    [(2, 'a'), (1, 'b'), (1, 'b')]
    """
    spans: list[tuple[list[date], What]] = []
    for day, what in told:
        if spans and spans[-1][1] == what and day - spans[-1][0][-1] == timedelta(days=1):
            spans[-1][0].append(day)
        else:
            spans.append(([day], what))
    return spans


def span_of(first: str, last: str) -> str:
    return first if first == last else f"{first}..{last}"


def period_of(text: str) -> Period:
    """A month (2026-11), quarter (2026-Q4) or year (2026).

    Raises:
        ValueError: another text.
    """
    found = re.fullmatch(r"(\d{4})(?:-(?:(\d{2})|[Qq]([1-4])))?", text)
    if not found or (found[2] and not 1 <= int(found[2]) <= 12) or not int(found[1]):
        raise ValueError(f"found {text}; a period is a month (2026-11), a quarter (2026-Q4) or a year (2026)")
    month = int(found[2]) if found[2] else 3 * int(found[3]) - 2 if found[3] else 1
    months = 1 if found[2] else 3 if found[3] else 12
    first = date(int(found[1]), month, 1)
    following = first.year * 12 + first.month - 1 + months
    return Period(first, date(following // 12, following % 12 + 1, 1))
