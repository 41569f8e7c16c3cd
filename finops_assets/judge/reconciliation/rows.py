"""The rows that a comparison reads, as SQL relations over the lake: raw days, or what was delivered for a billing period."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path

from finops_assets.base.errors import FinopsError
from finops_assets.base.sql import literal
from finops_assets.ingest.landing import slice_folder
from finops_assets.ingest.reading.export_table import all_columns, canonical_type
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.settings.model import Settings
from finops_assets.storage.day_files import raw_relation
from finops_assets.storage.duck import by_day, file_list
from finops_assets.storage.lake import Lake
from finops_assets.storage.ledger import Generation, Ledger

BILLING_PERIOD = "strftime(BillingPeriodStart, '%Y-%m')"
"""SQL: the month (UTC) that a row is billed in, "YYYY-MM". Google's bounds are 07:00 or 08:00 of the first day."""

NAMES_INVOICES = "names_invoices"
"""Does the delivery that a row came in have the column InvoiceId at all? Where it has, null is: not invoiced yet."""


def raw_days(lake: Lake, source: str, days: Iterable[date]) -> str:
    """SQL: the raw rows of these days of a source, with source and charge_date; days without a file have none."""
    files = lake.day_files("raw", [source], days)
    return f"SELECT * FROM {raw_relation(files)}" if files else _nothing()


def delivered(lake: Lake, sources: Iterable[str]) -> str:
    """SQL: every row of the live deliveries of these sources, whatever its charge day, with source and names_invoices.

    What the lake's raw days leave out is in it, too: charges of days before the platform's first day.
    """
    parts = [
        f"SELECT {_COLUMNS}, charge_date, {literal(source)} AS source, {str(named).lower()} AS {NAMES_INVOICES}"
        f" FROM {by_day(file_list(files))}"
        for source in sources
        for named in (True, False)
        if (files := _slices(lake, source, named))
    ]
    return " UNION ALL ".join(parts) or f"SELECT *, false AS {NAMES_INVOICES} FROM ({_nothing()})"


def known_source(settings: Settings, name: str) -> str:
    """The name of a source of finops.yaml.

    Raises:
        FinopsError: there is none of that name.
    """
    try:
        return settings.source(name).name
    except KeyError as error:
        raise FinopsError(str(error.args[0])) from error


_COLUMNS = ", ".join([*(column.name for column in all_columns()), SOURCE_FILE, SOURCE_ROW])


def _slices(lake: Lake, source: str, named: bool) -> list[Path]:
    def names_invoices(generation: Generation) -> bool:
        return "invoiceid" in {column.casefold() for column in generation.columns}

    folders = [
        slice_folder(lake, source, generation)
        for generation in Ledger(lake, source).all_live()
        if names_invoices(generation) is named
    ]
    return [file for folder in folders for file in lake.files(folder, "charge_date=*/*.parquet")]


def _nothing() -> str:
    empty = [f"CAST(NULL AS {canonical_type(column)}) AS {column.name}" for column in all_columns()]
    empty += [f"CAST(NULL AS VARCHAR) AS {SOURCE_FILE}", f"CAST(NULL AS BIGINT) AS {SOURCE_ROW}"]
    return f"SELECT {', '.join(empty)}, CAST(NULL AS DATE) AS charge_date, CAST(NULL AS VARCHAR) AS source WHERE false"
