"""Tables for spreadsheets: every digit as it is, and nothing in a name that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

from finops_assets.base.text import no_formula
from finops_assets.tables.rows import Rows
from finops_assets.tables.values import typed


def csv_text(rows: Rows) -> str:
    """Rows as CSV under the names of their columns, with the types that `tables` declares; what is not known is empty."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(rows.columns)
    writer.writerows([csv_cell(value) for value in row] for row in typed(rows).values)
    return made.getvalue()


def csv_cell(value: object) -> object:
    """A value for a CSV that people may open in a spreadsheet."""
    match value:
        case Decimal():
            # Plain digits: a spreadsheet reads Python's 1E-18 as a double.
            return f"{value:f}"
        case str():
            return no_formula(value)
        case _:
            return value
