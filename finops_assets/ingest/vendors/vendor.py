"""What a vendor's module says of its API of costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

Parameters = list[tuple[str, str]]


@dataclass(frozen=True)
class VendorApi:
    """How costs of some days are asked for, and what an answer holds. Days are UTC, ends exclusive.

    `rows` gives of an answer (JSON whose numbers are Decimal) a row for each cost, its values as text, with at least `date` and
    `amount`; an amount is as the vendor wrote it, to the last digit.
    """

    name: str
    url: str
    """The vendor's own, without a slash at the end."""
    path: str
    headers: Callable[[str], Mapping[str, str]]
    """Of a key."""
    asked: Callable[[date, date], Parameters]
    """The parameters that ask for the costs of [first, end)."""
    following: Callable[[Mapping[str, Any]], Parameters | None]
    """Those that, besides, ask for what follows an answer; None: it was the last."""
    rows: Callable[[Mapping[str, Any]], Iterator[Mapping[str, str | None]]]
    columns: tuple[str, ...]
    """Of the rows, in the order of the file."""


def text(value: object) -> str | None:
    """A value of JSON as text; None where there is none."""
    return None if value is None else format(value, "f") if hasattr(value, "as_tuple") else str(value)
