"""The European Central Bank's reference rates (eurofxref): one line a day, units of each currency for 1 EUR.

    Date,USD,JPY,…
    2026-09-01,1.0834,158.2,N/A,…

https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from finops_assets.base.errors import RatesError
from finops_assets.base.files import replacing
from finops_assets.cost.currency.rates import HEADER, Rate, RateTable, decimal_rate, rate_table, read_rates

SOURCE, BASE = "ecb", "EUR"
NO_RATE = {"", "N/A"}


@dataclass(frozen=True)
class Imported:
    """What an import came to."""

    table: RateTable
    rates: int
    added: int
    changed: int


def read_ecb(file: Path, since: date | None = None) -> list[Rate]:
    """The rates of the bank's CSV, its history or a single day; `since` leaves out what is older.

    Raises:
        RatesError: the file cannot be read, has no column Date, or has a cell that is no rate.
    """
    rates = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            rows = csv.reader(text)
            header = [name.strip() for name in next(rows, [])]
            if not header or header[0] != "Date":
                raise RatesError(f"{file}: begins with {header[:1]}, not with Date: it is no eurofxref CSV of the ECB")
            for row in rows:
                if not any(cell.strip() for cell in row):
                    continue
                day = _day(row[0].strip())
                if day is None:
                    raise RatesError(
                        f"{file}, line {rows.line_num}: found {row[0]!r}; a date as 2026-09-01 was expected"
                    )
                if since and day < since:
                    continue
                for currency, cell in zip(header[1:], row[1:]):
                    if not currency or cell.strip() in NO_RATE:
                        continue
                    rate = decimal_rate(cell.strip())
                    if rate is None:
                        raise RatesError(f"{file}, line {rows.line_num}, {currency}: found {cell!r}, which is no rate")
                    rates.append(Rate(day, BASE, currency, rate, SOURCE))
    except OSError as error:
        raise RatesError(f"{file}: cannot be read ({error.strerror})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise RatesError(f"{file}: is no CSV ({error}); unpack the bank's zip file first") from error
    return rates


def _day(text: str) -> date | None:
    """The history has 2026-09-01, the file of a single day has 1 September 2026."""
    for form in ("%Y-%m-%d", "%d %B %Y"):
        try:
            return datetime.strptime(text, form).date()  # noqa: DTZ007  # a day has no zone
        except ValueError:
            continue
    return None


def import_ecb(file: Path, target: Path, since: date | None = None) -> Imported:
    """Enter the bank's rates into a rate table, which is made if there is none. Rates of other sources stay.

    Raises:
        RatesError: one of the files cannot be used; the table is as it was.
    """
    new = read_ecb(file, since)
    kept = dict(_all(read_rates(target))) if target.is_file() else {}
    added = sum(_key(rate) not in kept for rate in new)
    changed = sum((old := kept.get(_key(rate))) is not None and old.rate != rate.rate for rate in new)
    kept.update((_key(rate), rate) for rate in new)
    write_rates(kept.values(), target)
    return Imported(rate_table(kept.values(), target), len(new), added, changed)


def _key(rate: Rate) -> tuple[date, str, str]:
    return rate.day, rate.base, rate.currency


def _all(table: RateTable) -> Iterable[tuple[tuple[date, str, str], Rate]]:
    return ((_key(rate), rate) for rates in table.by_day.values() for rate in rates.values())


def write_rates(rates: Iterable[Rate], target: Path) -> None:
    """A rate table, sorted, in place at once."""
    try:
        with replacing(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as text:
            out = csv.writer(text, lineterminator="\n")
            out.writerow(HEADER)
            for r in sorted(rates, key=_key):
                out.writerow((r.day.isoformat(), r.base, r.currency, f"{r.rate:f}", r.source))
    except OSError as error:
        raise RatesError(f"rates {target}: cannot be written ({error.strerror})") from error
