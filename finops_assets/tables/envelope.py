"""How an answer leaves as JSON: the rows, and what they are made of. The same from every command and from the API.

`docs/reference/json.md` describes it. Keys are snake_case, columns are called as in docs/reference/tables.md. Amounts are text with every
digit; times have their zone; what is not known is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from finops_assets.base.period import Period
from finops_assets.tables.rows import Rows
from finops_assets.tables.values import typed

SCHEMA_VERSION = 1
"""Grows when a key changes its meaning or goes; a new key is no new version."""


@dataclass(frozen=True)
class About:
    """What rows are made of; None: that does not apply to them, or is not known."""

    period: Period | None = None
    basis: str | None = None
    """effective, billed or accrued: which cost."""
    currency: str | None = None
    """The one that all amounts are in; None: each row says its own."""
    coverage: Mapping[str, Any] | None = None
    """Which days are in the figures, as `coverage` of a comparison tells it."""
    published_at: datetime | None = None
    """When the copy was published that was asked."""
    command: str | None = None
    """Prints the same."""


NOTHING_SAID = About()


def envelope(rows: Rows, about: About = NOTHING_SAID) -> dict[str, Any]:
    """Rows as a value that JSON can say; with the types that `tables` declares."""
    period = about.period
    return {
        "schema_version": SCHEMA_VERSION,
        "period": {"from": str(period.first), "to": str(period.end)} if period else None,
        "basis": about.basis,
        "currency": about.currency,
        "coverage": plain(about.coverage),
        "published_at": plain(about.published_at),
        "command": about.command,
        "rows": plain(list(typed(rows))),
    }


def plain(value: Any) -> Any:
    """A value, or what stands within a list or mapping, as JSON says it.

    >>> plain({"cost": Decimal("1.50"), "at": datetime(2026, 10, 1), "day": [date(2026, 10, 1)], "unknown": None})
    {'cost': '1.50', 'at': '2026-10-01T00:00:00Z', 'day': ['2026-10-01'], 'unknown': None}
    """
    match value:
        case Decimal():
            return f"{value:f}"
        case datetime():
            at = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            return f"{at.isoformat()}Z"
        case date():
            return value.isoformat()
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case _:
            return value
