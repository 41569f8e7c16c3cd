"""What answers tell, as charges: checked, added up where pages cut a day in two, and with the tokens that they were for."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from decimal import Decimal, localcontext

from finops_assets.ingest.vendors.asking import FetchRefused, Page, said
from finops_assets.ingest.vendors.shares import parts
from finops_assets.ingest.vendors.vendor import DIGITS, Endpoint, Row, UnlikeReference, VendorApi
from finops_assets.settings.sources import Source

_SURE = Decimal("1E-12")
"""What of a sum of binary numbers does not depend on the order in which they were added."""
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
Key = tuple[str, ...]
"""What tokens and the cost that they were for have in common: the values of the vendor's `of_tokens`."""


def rows_of(source: Source, api: VendorApi, of: Endpoint, pages: list[Page]) -> list[Row]:
    what = "cost" if of is api.costs else "usage"
    try:
        rows = [row for answer in pages for row in of.rows(answer)]
        for row in rows:
            if not (of.may_lack_price and row["amount"] is None):
                _check(row, "amount" if of is api.costs else "tokens")
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise FetchRefused(
            f"source {source.name!r}: an answer of {api.name} has no {what} as it is described:"
            f" {said(error)}; it may have changed its API"
        ) from None
    return _added_up(rows, of.added) if of.added else rows


def _added_up(rows: list[Row], added: tuple[str, ...]) -> list[Row]:
    """
    >>> _added_up([{"day": "1", "n": "0.1"}, {"day": "2", "n": "3"}, {"day": "1", "n": "0.20000000000000001"}], ("n",))
    [{'day': '1', 'n': '0.3'}, {'day': '2', 'n': '3'}]
    """
    sums: dict[tuple[tuple[str, str | None], ...], dict[str, Decimal]] = {}
    with localcontext(prec=DIGITS):
        for row in rows:
            of = sums.setdefault(tuple((name, value) for name, value in row.items() if name not in added), {})
            for name in added:
                if row.get(name) is not None:
                    of[name] = of.get(name, Decimal(0)) + Decimal(str(row[name]))
        return [
            dict(same) | {name: format(number.quantize(_SURE).normalize(), "f") for name, number in of.items()}
            for same, of in sums.items()
        ]


def _check(row: Row, number: str) -> None:
    """
    >>> _check({"date": "2026-10-05", "amount": "tell me"}, "amount")
    Traceback (most recent call last):
    finops_assets.ingest.vendors.vendor.UnlikeReference: `amount` of 2026-10-05 is text of 7 characters, and no number
    """
    try:
        day = date.fromisoformat(row["date"] or "")
    except ValueError:
        raise UnlikeReference(f"`date` is text of {len(row['date'] or '')} characters, and no day") from None
    found = row[number] or ""
    if not _NUMBER.fullmatch(found):
        raise UnlikeReference(f"`{number}` of {day} is text of {len(found)} characters, and no number")


def with_tokens(api: VendorApi, costs: list[Row], usage: list[Row]) -> tuple[list[Row], dict[Key, int]]:
    """Costs with the tokens that they were for, and the tokens that are of no charge, or of one of several.

    None is counted twice or lost; a cost whose tokens are not known has none, not zero.
    """

    def of(row: Row, names: tuple[str, ...]) -> Key:
        return tuple(row.get(name) or "" for name in names)

    tokens: dict[Key, Counter[Key]] = {}
    for row in usage:
        tokens.setdefault(of(row, api.of_tokens), Counter())[of(row, api.shared_by)] += int(row["tokens"] or 0)
    charges = Counter(of(row, api.of_tokens) for row in costs if row.get("direction"))
    placed: list[Row] = []
    for row in costs:
        key = of(row, api.of_tokens)
        placed += _shared(row, api.shared_by, tokens[key]) if charges[key] == 1 and key in tokens else [row]
    apart = {key: whose.total() for key, whose in sorted(tokens.items()) if charges[key] != 1}
    return placed, {key: count for key, count in apart.items() if count}


def _shared(row: Row, names: tuple[str, ...], whose: Counter[Key]) -> list[Row]:
    """A charge by whose tokens it was for, to the last digit.

    >>> [(r["amount"], r["key"], r["tokens"]) for r in _shared({"amount": "3"}, ("key",), Counter({("a",): 2, ("b",): 1}))]
    [('2.0000000000000000', 'a', '2'), ('1.0000000000000000', 'b', '1')]
    """
    found = [(key, count) for key, count in sorted(whose.items()) if count]
    if not found:
        return [{**row, "tokens": "0"}]
    amounts = parts(row["amount"] or "0", [count for _, count in found])
    return [
        {**row, **dict(zip(names, key)), "amount": amount, "tokens": str(count)}
        for amount, (key, count) in zip(amounts, found)
    ]
