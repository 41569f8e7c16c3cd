"""What to generate: the span, the size, the seed and what goes wrong on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

SOURCES: tuple[str, ...] = ("aws", "azure", "gcp")
INCIDENT_KINDS: tuple[str, ...] = ("incomplete", "untagged", "no_rows", "surge")

# Each source's share of the rows. Near to equal, so that even a small estate has enough rows per source and
# day for its tag coverage to be steady.
ROW_SHARE: dict[str, float] = {"aws": 0.40, "azure": 0.30, "gcp": 0.30}

MIN_ROWS_PER_DAY = 12


@dataclass(frozen=True)
class Incident:
    """Something wrong on purpose, on one charge day (UTC) of one source.

    ``incomplete``: some rows of the day, never its first, carry x_DatasetCompletionStatus = 'Incomplete'.
    ``untagged``: every row of the day has lost all its tags.
    ``no_rows``: the day has no rows at all, corrections that would land on it included.
    ``surge``: one tagged resource (`plan.SURGING`) uses far more than it ever did, in one charge.
    An incident changes nothing but its own day: an estate of the same specification without it is the same
    estate, healed.
    """

    source: str
    day: date
    kind: str

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"incident source {self.source!r} is unknown; allowed: {', '.join(SOURCES)}")
        if self.kind not in INCIDENT_KINDS:
            raise ValueError(f"incident kind {self.kind!r} is unknown; allowed: {', '.join(INCIDENT_KINDS)}")


@dataclass(frozen=True)
class EstateSpec:
    """One estate. Both days are UTC charge days and inclusive; no row is charged outside of them.

    ``rows``: about this many charge rows in all, over the three sources (within 5 %, before ``no_rows``).
    ``tag_sets``: about this many distinct tag sets over the three sources, never fewer than ten per source;
    by default every resource has its own.
    ``waste``: resources are planted that nobody uses (`demo.waste`), some rows a day more; all others stay as they are.
    """

    first_day: date
    last_day: date
    rows: int
    seed: int = 7
    tag_sets: int | None = None
    incidents: tuple[Incident, ...] = ()
    waste: bool = False

    def __post_init__(self) -> None:
        if self.last_day < self.first_day:
            raise ValueError(f"last_day {self.last_day} is before first_day {self.first_day}; allowed: on or after it")
        least = MIN_ROWS_PER_DAY * self.days
        if self.rows < least:
            raise ValueError(
                f"rows {self.rows} is too few for {self.days} days; "
                f"allowed: at least {least} ({MIN_ROWS_PER_DAY} a day)"
            )
        if self.tag_sets is not None and self.tag_sets < 1:
            raise ValueError(f"tag_sets {self.tag_sets} is not positive; allowed: 1 or more, or None")
        for incident in self.incidents:
            if not self.first_day <= incident.day <= self.last_day:
                raise ValueError(
                    f"incident day {incident.day} is outside the estate; allowed: {self.first_day} to {self.last_day}"
                )

    @property
    def days(self) -> int:
        """Number of charge days, both ends included."""
        return (self.last_day - self.first_day).days + 1

    def periods(self) -> list[str]:
        """The billing periods (calendar months, UTC) the estate touches, as ``YYYY-MM``, in order."""
        months = {f"{day:%Y-%m}": None for day in days_between(self.first_day, self.last_day)}
        return list(months)

    def incident_days(self, source: str, kind: str) -> frozenset[date]:
        """The days on which ``source`` has an incident of ``kind``."""
        return frozenset(i.day for i in self.incidents if i.source == source and i.kind == kind)


def days_between(first: date, last: date) -> Iterator[date]:
    """Every day from ``first`` to ``last``, both included."""
    for offset in range((last - first).days + 1):
        yield first + timedelta(days=offset)


def period_start(period: str) -> date:
    """First day of the billing period ``YYYY-MM``."""
    try:
        if len(period) != 7:
            raise ValueError(period)
        return date.fromisoformat(f"{period}-01")
    except ValueError:
        raise ValueError(f"billing period {period!r} is malformed; allowed: YYYY-MM, such as 2026-09") from None


def period_end(period: str) -> date:
    """First day after the billing period ``YYYY-MM`` (exclusive end)."""
    start = period_start(period)
    return date(start.year + start.month // 12, start.month % 12 + 1, 1)
