"""Times in UTC as text: for files, and for the eye."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(at: datetime) -> str:
    """A time in UTC as text that sorts as it passes.

    >>> stamp(datetime(2026, 11, 1, 8, tzinfo=UTC))
    '2026-11-01T08:00:00.000000Z'
    """
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def unstamp(text: str) -> datetime:
    """The time that `stamp` wrote."""
    return datetime.fromisoformat(text)


def minute(at: datetime | None) -> str:
    """A time for the eye."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if at else ""
