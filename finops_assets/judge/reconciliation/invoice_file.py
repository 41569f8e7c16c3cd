"""Invoices as a file: a small CSV that anyone can write, or the InvoiceDetail data set of FOCUS 1.4 (CSV, Parquet)."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.base.errors import FinopsError

# FOCUS 1.4 InvoiceDetail names, and the shorter ones that a person may give a column. Case does not matter.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "InvoiceId": ("invoice",),
    "InvoiceIssuerName": ("issuer",),
    "BillingPeriodStart": ("period",),
    "BillingCurrency": ("currency",),
    "BilledCost": ("amount",),
    "SubAccountId": ("account",),
    "ServiceName": ("service",),
    "ChargeCategory": ("category",),
    "InvoiceIssueStatus": ("status",),
    "InvoiceDetailGrain": (),
}
NEEDED = ("InvoiceId", "BillingPeriodStart", "BillingCurrency", "BilledCost")
LINE_COLUMNS = ("SubAccountId", "ServiceName", "ChargeCategory")
"""What an invoice's lines may say of themselves, and a difference is broken down by."""

NULLS = {"", "null", "n/a", "none"}
VOIDED = "voided"


@dataclass(frozen=True)
class InvoiceLine:
    """One line of an invoice, or all of it. `what` holds those of LINE_COLUMNS that the line names."""

    period: str
    issuer: str | None
    invoice: str
    currency: str
    amount: Decimal
    what: Mapping[str, str]


@dataclass(frozen=True)
class InvoiceFile:
    """The lines that count; how many were left out because the invoice is voided, or is of another period."""

    lines: tuple[InvoiceLine, ...]
    voided: int
    of_other_periods: int


def read_invoices(path: Path, period: str | None = None) -> InvoiceFile:
    """The invoice lines of a file, those of one billing period "YYYY-MM" only if one is given.

    A file without a column of the period is of the period that is given.

    Raises:
        FinopsError: the file cannot be read, lacks a column, or a value is not what it should be, with its row.
    """
    rows = list(_rows(path))
    if not rows:
        raise FinopsError(f"{path}: has no rows")
    named = _named(path, [name for name in rows[0] if name is not None], period)
    lines, voided, other = [], 0, 0
    for number, raw in enumerate(rows, start=2):
        row = {focus: _text(raw.get(name)) for focus, name in named.items()}
        if not any(row.values()):
            continue
        if (row.get("InvoiceIssueStatus") or "").lower() == VOIDED:
            voided += 1
            continue
        line = _line(path, number, row, period)
        if period is not None and line.period != period:
            other += 1
            continue
        lines.append(line)
    if not lines:
        what = f"no invoice of {period}" if period else "no invoice"
        raise FinopsError(f"{path}: has {what} that counts ({voided} lines voided, {other} of other periods)")
    return InvoiceFile(tuple(lines), voided, other)


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        if path.suffix == ".parquet":
            return list(pq.read_table(path).to_pylist())
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowInvalid) as error:
        raise FinopsError(f"{path}: cannot be read as an invoice file: {error}") from error


def _named(path: Path, names: list[str], period: str | None) -> dict[str, str]:
    """FOCUS name -> the column as written."""
    folded = {name.strip().casefold(): name for name in names}
    found = {
        focus: folded[spelled]
        for focus, short in COLUMNS.items()
        for spelled in reversed((focus.casefold(), *short))
        if spelled in folded
    }
    missing = [
        f"{name} (or {COLUMNS[name][0]})"
        for name in NEEDED
        if name not in found and not (name == "BillingPeriodStart" and period)
    ]
    if missing:
        hint = "; or say which period it is of: --period YYYY-MM" if "BillingPeriodStart" not in found else ""
        raise FinopsError(f"{path}: lacks the column {', '.join(missing)}; it has {', '.join(names)}{hint}")
    return found


def _line(path: Path, number: int, row: Mapping[str, str | None], period: str | None) -> InvoiceLine:
    def needed(column: str) -> str:
        value = row.get(column)
        if value is None:
            raise FinopsError(f"{path}, row {number}: {column} is empty")
        return value

    amount = needed("BilledCost")
    try:
        value = Decimal(amount)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise FinopsError(
            f"{path}, row {number}: BilledCost is {amount!r}; write a plain number with a point and no separators, as 1234.56"
        )
    what = {column: text for column in LINE_COLUMNS if (text := row.get(column))}
    what |= _grain(path, number, row.get("InvoiceDetailGrain"))
    return InvoiceLine(
        period=_period(path, number, needed("BillingPeriodStart")) if "BillingPeriodStart" in row else str(period),
        issuer=row.get("InvoiceIssuerName"),
        invoice=needed("InvoiceId"),
        currency=needed("BillingCurrency").upper(),
        amount=value,
        what=what,
    )


def _period(path: Path, number: int, text: str) -> str:
    found = re.match(r"(\d{4})-(0[1-9]|1[0-2])(?:$|-\d\d)", text)
    if found is None:
        raise FinopsError(f"{path}, row {number}: the billing period is {text!r}; write 2026-09 or 2026-09-01")
    return f"{found[1]}-{found[2]}"


def _grain(path: Path, number: int, text: str | None) -> dict[str, str]:
    """What InvoiceDetailGrain says of a line: a JSON object of FOCUS columns and their values."""
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FinopsError(f"{path}, row {number}: InvoiceDetailGrain is {text!r}, which is no JSON object")
    return {column: str(found[column]) for column in LINE_COLUMNS if found.get(column) is not None}


def _text(value: object) -> str | None:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, dict):
        return json.dumps(value)
    text = "" if value is None else (value if isinstance(value, str) else str(value)).strip()
    return None if text.casefold() in NULLS else text
