"""Exchange rates as people keep them: a CSV of dated rates, and which of them is in force on a day.

    date,from,to,rate,source
    2026-09-01,EUR,USD,1.0834,ecb

says that 1 EUR was 1.0834 USD. A pair may be given in either direction, or each half against a third currency.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Literal

from finops_assets.base.errors import RatesError
from finops_assets.focus.money import SCALE

HEADER = ("date", "from", "to", "rate", "source")
Per = Literal["day", "month"]

# Central banks publish on working days. The longest gap of the ECB, Christmas or Easter with a weekend, is 5 days;
# a rate that is older than this is a file that nobody updates.
MAX_AGE_DAYS = 7
MISTAKES_SHOWN = 10
_CODE = re.compile(r"^[A-Z]{3}$")
_WIDE = Context(prec=80)
_LARGEST = 10**38


@dataclass(frozen=True)
class Rate:
    """1 `base` is `rate` of `currency` on a day, and who says so."""

    day: date
    base: str
    currency: str
    rate: Decimal
    source: str


@dataclass(frozen=True)
class Conversion:
    """What an amount is multiplied with and divided by; the rates as published, so nothing is rounded before the end."""

    multiply: tuple[Decimal, ...]
    divide: tuple[Decimal, ...]
    day: date
    source: str

    @property
    def factor(self) -> Fraction:
        result = Fraction(1)
        for rate in self.multiply:
            result *= Fraction(rate)
        for rate in self.divide:
            result /= Fraction(rate)
        return result

    @property
    def exact(self) -> str:
        """The factor as it is computed, such as "0.85 / 1.0834"."""
        return " / ".join([" * ".join(f"{m:f}" for m in self.multiply) or "1", *(f"{d:f}" for d in self.divide)])

    @property
    def rate(self) -> Decimal:
        """The factor at 18 places, to be shown; amounts are converted with the exact one."""
        return convert(Decimal(1), self.factor)


@dataclass(frozen=True)
class RateTable:
    """Rates by day and pair (base, currency)."""

    by_day: Mapping[date, Mapping[tuple[str, str], Rate]]
    file: Path | None = None
    _found: dict[tuple[date, str, str], Conversion | None] = field(default_factory=dict, compare=False, repr=False)

    def on(self, day: date, original: str, target: str) -> Conversion | None:
        """The conversion by the rates of exactly this day: direct, inverse, or over a third currency."""
        key = (day, original, target)
        if key not in self._found:
            self._found[key] = self._convert(*key)
        return self._found[key]

    def _convert(self, day: date, original: str, target: str) -> Conversion | None:
        rates = self.by_day.get(day)
        if not rates:
            return None
        if leg := _leg(rates, original, target):
            return leg
        for base in sorted({currency for pair in rates for currency in pair}):
            first, second = _leg(rates, original, base), _leg(rates, base, target)
            if first and second:
                sources = dict.fromkeys((first.source, second.source))
                return Conversion(
                    first.multiply + second.multiply, first.divide + second.divide, day, " and ".join(sources)
                )
        return None

    def in_force(self, day: date, original: str, target: str, per: Per) -> Conversion | str:
        """The conversion of a day's amounts, or why there is none.

        per day: the newest rate published on the day or up to MAX_AGE_DAYS before it (weekends and holidays
        have none). per month: the newest published before the month began: it is known on the month's first
        day, so no day waits for it, and it is the same for all of them.
        """
        if original == target:
            return Conversion((), (), day, "same currency")
        if not original:
            return "rows have no BillingCurrency"
        last = day if per == "day" else day.replace(day=1) - timedelta(days=1)
        for age in range(MAX_AGE_DAYS + 1):
            if found := self.on(last - timedelta(days=age), original, target):
                return found
        older = [d for d in self.by_day if d <= last and self.on(d, original, target)]
        newest = f"the newest before is of {max(older)}" if older else "there is none before"
        return f"no rate from {original} to {target} on {last} or the {MAX_AGE_DAYS} days before it ({newest})"


def _leg(rates: Mapping[tuple[str, str], Rate], original: str, target: str) -> Conversion | None:
    if (rate := rates.get((original, target))) is not None:
        return Conversion((rate.rate,), (), rate.day, rate.source)
    if (rate := rates.get((target, original))) is not None:
        return Conversion((), (rate.rate,), rate.day, rate.source)
    return None


def convert(amount: Decimal, factor: Fraction) -> Decimal:
    """An amount times a factor, rounded once, half to even, at 18 places.

    >>> convert(Decimal("1"), Fraction(1, 3))
    Decimal('0.333333333333333333')

    Raises:
        RatesError: the result has more than 20 digits before the point.
    """
    units = round(Fraction(amount) * factor * 10**SCALE)  # Fraction rounds half to even
    if abs(units) >= _LARGEST:
        raise RatesError(f"{amount} times {float(factor)} does not fit DECIMAL(38, 18); look at the rate")
    return Decimal(units).scaleb(-SCALE, _WIDE)


def read_rates(file: Path) -> RateTable:
    """Read a rate table, every mistake at once.

    Raises:
        RatesError: the file is missing or not such a table: line, what was found, what is allowed.
    """
    try:
        state = file.stat()
    except OSError as error:
        raise RatesError(
            f"rates {file}: cannot be read ({error.strerror}); make it with `finops rates import-ecb FILE`, or see"
            " docs/guides/money.md for its columns"
        ) from error
    return _read(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _read(file: Path, _changed: int, _size: int) -> RateTable:
    mistakes: list[str] = []
    rates: list[Rate] = []
    seen: dict[tuple[date, str, str], int] = {}
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text)
        missing = [name for name in HEADER if name not in (rows.fieldnames or ())]
        if missing:
            found = ", ".join(rows.fieldnames or ()) or "nothing"
            raise RatesError(
                f"rates {file}: has no column {', '.join(missing)} (found {found}; needed {', '.join(HEADER)})"
            )
        for row in rows:
            rate = _rate(row)
            if isinstance(rate, str):
                mistakes.append(f"line {rows.line_num}: {rate}")
                continue
            before = seen.setdefault((rate.day, rate.base, rate.currency), rows.line_num)
            if before != rows.line_num:
                mistakes.append(
                    f"line {rows.line_num}: {rate.base} to {rate.currency} of {rate.day} stands already in line {before}; keep one"
                )
            rates.append(rate)
    if mistakes:
        more = len(mistakes) - MISTAKES_SHOWN
        shown = [*mistakes[:MISTAKES_SHOWN], *([f"… and {more} more"] if more > 0 else [])]
        raise RatesError("\n  - ".join([f"rates {file}: cannot be used", *shown]))
    return rate_table(rates, file)


def rate_table(rates: Iterable[Rate], file: Path | None = None) -> RateTable:
    """Rates by day."""
    by_day: dict[date, dict[tuple[str, str], Rate]] = {}
    for rate in rates:
        by_day.setdefault(rate.day, {})[rate.base, rate.currency] = rate
    return RateTable(by_day, file)


def _rate(row: Mapping[str, str | None]) -> Rate | str:
    text = {name: (row[name] or "").strip() for name in HEADER}
    try:
        day = date.fromisoformat(text["date"])
    except ValueError:
        return f"date: found {text['date']!r}; allowed: a day as 2026-09-01"
    for name in ("from", "to"):
        if not _CODE.match(text[name]):
            return f"{name}: found {text[name]!r}; allowed: three capital letters, as EUR"
    if text["from"] == text["to"]:
        return f"from and to are both {text['to']}; a currency needs no rate to itself"
    value = decimal_rate(text["rate"])
    if value is None:
        return f"rate: found {text['rate']!r}; allowed: a number above 0 with at most 18 decimal places, as 1.0834"
    if not text["source"]:
        return "source: is empty; say who published the rate, as ecb"
    return Rate(day, text["from"], text["to"], value, text["source"])


def decimal_rate(text: str) -> Decimal | None:
    """A published rate; None if it is no positive number that DECIMAL(38, 18) holds."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if not value.is_finite() or value <= 0 or "_" in text or value >= Decimal(10) ** 20:
        return None
    places = value.as_tuple().exponent
    return value if isinstance(places, int) and places >= -SCALE else None
