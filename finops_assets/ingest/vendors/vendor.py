"""What a vendor's module says of its API: costs, and the tokens that they were for, if any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

Parameters = list[tuple[str, str]]
DIGITS = 100
"""No number of an answer, and no product of two, needs more."""
Row = Mapping[str, str | None]


class Ask(Protocol):
    """Asks a vendor one question, again where that may help; gives the answer's JSON."""

    def __call__(self, path: str, parameters: Parameters = [], body: Mapping[str, Any] | None = None) -> Any: ...  # noqa: B006


class UnlikeReference(ValueError):
    """An answer is not as the vendor's reference says. Its text is shown, so that it quotes numbers alone."""


@dataclass(frozen=True)
class Endpoint:
    """How something of some days is asked for, and what an answer holds. Days are UTC, ends exclusive.

    `rows` gives of an answer (JSON whose numbers are Decimal) a row for each result, its values as text.
    """

    path: str
    """`{account}` in it is that of `fetch`."""
    rows: Callable[[Mapping[str, Any]], Iterator[Row]]
    columns: tuple[str, ...]
    """Of the rows, in the order of the file."""
    asked: Callable[[date, date], Parameters] = lambda first, end: []
    """The parameters that ask for [first, end)."""
    following: Callable[[Mapping[str, Any]], Parameters | None] = lambda answer: None
    """Those that, besides, ask for what follows an answer; None: it was the last."""
    steps: Callable[[Ask, Callable[[float], None], str, tuple[date, date], str], Iterator[Mapping[str, Any]]] | None = (
        None
    )
    """Instead of `asked` and `following`, where one question is not enough: all answers, by whatever is to be asked: given the
    way to ask, to wait, `path`, days and the name of a warehouse."""
    kept: tuple[str, ...] = ()
    """The fields of an answer that are kept and that `rows` sees, by their paths: `data.results.amount.value`. Of all others
    nothing is kept: nobody knows whether a prompt stands in them."""
    listed: str = "data"
    """What an answer calls the list that it has to have."""
    may_lack_price: bool = False
    """Rows without an amount are what was used and has no price: they stand apart, and are told."""
    added: tuple[str, ...] = ()
    """Numbers that are added up where all else of two rows is the same: of a vendor whose pages cut a day in two, anywhere,
    and who adds up binary numbers: 12 places are kept."""


@dataclass(frozen=True)
class VendorApi:
    """A vendor. Rows of `costs` have at least `date` and `amount`, as the vendor wrote it, to the last digit.

    Rows of `usage` have `tokens`. Tokens are of the one cost whose values of `of_tokens` are theirs; a cost that is not for
    tokens has no `direction`.
    """

    name: str
    url: str
    """The vendor's own, without a slash at the end; empty where everybody has their own."""
    headers: Callable[..., Mapping[str, str]]
    """Of a key; and of an application key, where the vendor wants one."""
    costs: Endpoint
    usage: Endpoint | None = None
    """None: it bills no tokens."""
    of_tokens: tuple[str, ...] = ()
    seats: Endpoint | None = None
    """Who has a seat now."""
    by_seat: Callable[[Row, list[Row]], list[Row]] | None = None
    """A charge and the seats of its day: the charge, or in parts."""
    shared_by: tuple[str, ...] = ()
    """Of usage: whose tokens of one charge they were. A charge is shared by them: its tokens have one price."""


INPUT, CACHED, OUTPUT = "Input tokens", "Cached input tokens", "Output tokens"
CACHE_WRITE = "Cache write tokens"


def text(value: object) -> str | None:
    """A value of JSON as text; None where there is none."""
    return None if value is None else format(value, "f") if hasattr(value, "as_tuple") else str(value)


def page_after(answer: Mapping[str, Any]) -> Parameters | None:
    """As both vendors say it: the page that follows, or that none does."""
    return [("page", str(answer["next_page"]))] if answer.get("has_more") else None
