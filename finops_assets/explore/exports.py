"""What a page shows, as a file: every row and every digit."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow.parquet as pq
import xlsxwriter

from finops_assets.explore.listing import Listing
from finops_assets.tables.rows import Rows
from finops_assets.tables.spreadsheet import csv_text
from finops_assets.tables.values import arrow, typed

FORMATS: Mapping[str, str] = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
WIDEST, ROWS_OF_A_SHEET = 60, 1_000_000


def written(listing: Listing, format: str, about: Mapping[str, str]) -> bytes:
    """A listing in one of FORMATS; amounts are DECIMAL(38, 18) where the format has decimals, and text with every digit in CSV.

    A workbook has doubles: an amount of more than 15 digits is rounded there, and the sheet `about` says so.
    """
    rows = Rows.of(listing.exported)
    match format:
        case "csv":
            return csv_text(rows).encode()
        case "parquet":
            made = io.BytesIO()
            pq.write_table(arrow(rows), made, compression="zstd")
            return made.getvalue()
        case "xlsx":
            return _workbook(typed(rows), about)
        case _:
            raise LookupError(f"found format {format!r}; allowed: {', '.join(FORMATS)}")


def _workbook(rows: Rows, about: Mapping[str, str]) -> bytes:
    made = io.BytesIO()
    # Text is text: neither formulas nor links are made of it.
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(made, options) as book:
        bold, money = book.add_format({"bold": True}), book.add_format({"num_format": "#,##0.00"})
        day, time = book.add_format({"num_format": "yyyy-mm-dd"}), book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        sheet = book.add_worksheet("figures")
        for place, name in enumerate(rows.columns):
            sheet.write_string(0, place, name, bold)
            sheet.set_column(place, place, max(10, min(WIDEST, len(name) + 2)))
        sheet.freeze_panes(1, 0)
        for number, row in enumerate(rows.values[:ROWS_OF_A_SHEET], 1):
            for place, value in enumerate(row):
                _write(sheet, number, place, value, money, day, time)
        notes = book.add_worksheet("about")
        notes.set_column(0, 0, 18)
        notes.set_column(1, 1, 110)
        told = {**about, "digits": "a workbook keeps 15 digits of a number; CSV and Parquet keep all"}
        for number, (name, text) in enumerate(told.items()):
            notes.write_string(number, 0, name, bold)
            notes.write_string(number, 1, text)
    return made.getvalue()


def _write(sheet: Any, row: int, place: int, value: object, money: Any, day: Any, time: Any) -> None:
    match value:
        case None:
            return
        case bool():
            sheet.write_boolean(row, place, value)
        case Decimal():
            sheet.write_number(row, place, float(value), money)
        case int() | float():
            sheet.write_number(row, place, value)
        case datetime():
            sheet.write_datetime(row, place, value, time)
        case date():
            sheet.write_datetime(row, place, datetime(value.year, value.month, value.day), day)  # noqa: DTZ001
        case _:
            sheet.write_string(row, place, str(value)[:32_000])
