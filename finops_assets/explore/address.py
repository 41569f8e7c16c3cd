"""What a page shows, as its address has it: whoever opens the same address sees the same.

`from` and `to` (exclusive) are UTC days; `last` (inclusive) stands for `to` where a person fills a form. `is.COLUMN=VALUE`
is a filter; of one column twice, either value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Literal, get_args
from urllib.parse import urlencode

from finops_assets.base.errors import FinopsError
from finops_assets.base.period import Period
from finops_assets.evaluate.reports import Basis

Shared = Literal["before", "after"]
REPORTING = "reporting"
"""Stands where a currency does: all amounts converted into the reporting currency of finops.yaml."""
MOST_DAYS = 3_700


class ViewError(FinopsError):
    """An address that says something that cannot be shown."""


@dataclass(frozen=True)
class View:
    """Which days, which cost, in which currency, split by what, and of what alone."""

    first: date
    end: date
    currency: str
    basis: Basis = "effective"
    shared: Shared = "before"
    by: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()
    id: str = ""
    """The one thing that a page shows in full, as an anomaly."""

    @property
    def period(self) -> Period:
        return Period(self.first, self.end)

    @property
    def last(self) -> date:
        """The last day, inclusive."""
        return self.end - timedelta(days=1)

    @property
    def only(self) -> dict[str, list[str]]:
        """The filters, as reports take them."""
        found: dict[str, list[str]] = {}
        for column, value in self.where:
            found.setdefault(column, []).append(value)
        return found

    def changed(self, **changes: Any) -> View:
        return replace(self, **changes)

    def narrowed(self, *filters: tuple[str, str]) -> View:
        """With these filters instead of those of the same columns."""
        columns = {column for column, _ in filters}
        kept = tuple(f for f in self.where if f[0] not in columns)
        return replace(self, where=(*kept, *filters), id="")

    def without(self, column: str, value: str) -> View:
        """With one filter less."""
        return replace(self, where=tuple(f for f in self.where if f != (column, value)))

    @property
    def query(self) -> str:
        """The whole of it as a query string."""
        pairs = [("from", str(self.first)), ("to", str(self.end)), ("basis", self.basis), ("currency", self.currency)]
        if self.shared != "before":
            pairs.append(("shared", self.shared))
        if self.by:
            pairs.append(("by", ",".join(self.by)))
        if self.id:
            pairs.append(("id", self.id))
        return urlencode([*pairs, *((f"is.{column}", value) for column, value in self.where)])


def read_view(parameters: Iterable[tuple[str, str]], default: View) -> View:
    """The view that an address asks for; what it leaves out is as in `default`.

    Raises:
        ViewError: says which part cannot be understood, and what is allowed.
    """
    found = default
    for name, value in parameters:
        text = value.strip()
        if name.startswith("is."):
            column = name.removeprefix("is.")
            if (column, value) not in found.where:
                found = replace(found, where=(*found.where, (column, value)))
        elif not text:
            continue
        elif name == "from":
            found = replace(found, first=_day(name, text))
        elif name == "to":
            found = replace(found, end=_day(name, text))
        elif name == "last":
            found = replace(found, end=_day(name, text) + timedelta(days=1))
        elif name == "basis":
            found = replace(found, basis=_one_of(name, text, get_args(Basis)))
        elif name == "shared":
            found = replace(found, shared=_one_of(name, text, get_args(Shared)))
        elif name == "currency":
            found = replace(found, currency=text)
        elif name == "by":
            found = replace(found, by=tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())))
        elif name == "id":
            found = replace(found, id=text)
    if found.end <= found.first:
        raise ViewError(f"the days {found.first} to {found.last} are none: the last day is before the first")
    if (found.end - found.first).days > MOST_DAYS:
        raise ViewError(f"found {(found.end - found.first).days} days; at most {MOST_DAYS} are shown at once")
    return found


def _day(name: str, text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise ViewError(f"{name}: found {text!r}; a day is needed, as 2026-10-01") from None
    # There is a day before and after each, and a period before each range.
    if not 1990 <= found.year <= 2200:
        raise ViewError(f"{name}: found {text}; a day from 1990 to 2200 is needed")
    return found


def _one_of(name: str, text: str, allowed: Sequence[str]) -> Any:
    if text not in allowed:
        raise ViewError(f"{name}: found {text!r}; allowed: {', '.join(allowed)}")
    return text
