"""Quantities that cost is split by: a day, a team, how much it used."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb

from finops_assets.base.errors import FinopsError, Mistake
from finops_assets.base.sql import identifier
from finops_assets.evaluate.allocation.split import Owner
from finops_assets.focus.normal import normal_value
from finops_assets.settings.shared_cost import SharedMetric

HEADER = ("date", "department", "team", "quantity")
MISTAKES_SHOWN = 20
QUANTITY = re.compile(r"^\d{1,20}(\.\d{1,18})?$")

Quantities = dict[date, dict[Owner, Decimal]]


class MetricError(FinopsError):
    """Quantities cannot be used: the file or table, the line, what was found, what is allowed."""

    def __init__(self, place: str, mistakes: Sequence[Mistake]) -> None:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        more = [f"  … and {len(mistakes) - MISTAKES_SHOWN} more"] if len(mistakes) > MISTAKES_SHOWN else []
        super().__init__(
            "\n".join([f"metric {place}: {count}", *(f"  - {m}" for m in mistakes[:MISTAKES_SHOWN]), *more])
        )


def read_metric(connection: duckdb.DuckDBPyConnection, metric: SharedMetric) -> Quantities:
    """By day and owner, how much.

    Raises:
        MetricError: with every mistake.
    """
    return read_quantities(metric.file) if metric.file else _from_table(connection, metric.table or "")


def read_quantities(file: Path) -> Quantities:
    """The CSV of a metric.

    Raises:
        MetricError: with every mistake.
    """
    lines = lines_of(file)
    _, names = next(lines, (1, []))
    header = [name.strip().lower() for name in names]
    if sorted(header) != sorted(HEADER):
        raise MetricError(
            str(file), [Mistake("(header)", f"found {','.join(header)!r}; allowed: {','.join(HEADER)}", 1)]
        )
    result: Quantities = {}
    mistakes: list[Mistake] = []
    for line, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        row = {n: c.strip() for n, c in zip(header, cells, strict=False)}
        before = len(mistakes)
        try:
            day = date.fromisoformat(row.get("date", ""))
        except ValueError:
            mistakes.append(Mistake("date", f"found {row.get('date', '')!r}; allowed: a UTC day as 2026-10-15", line))
        if not QUANTITY.match(row.get("quantity", "")):
            found = row.get("quantity", "")
            mistakes.append(Mistake("quantity", f"found {found!r}; allowed: 0 or more, digits with a point", line))
        owner = (normal_value(row.get("department", "")), normal_value(row.get("team", "")))
        if not all(owner):
            mistakes.append(Mistake("team", f"found {'/'.join(owner)!r}; allowed: a department and a team", line))
        if len(mistakes) > before:
            continue
        if owner in result.setdefault(day, {}):
            mistakes.append(Mistake("team", f"found {'/'.join(owner)} of {day} again; keep one", line))
        result[day][owner] = Decimal(row["quantity"])
    if mistakes:
        raise MetricError(str(file), mistakes)
    return result


def lines_of(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV, each with its number in the file.

    Raises:
        MetricError: it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MetricError(str(file), [Mistake("(file)", f"cannot be read: {error}")]) from error
    reader = csv.reader(io.StringIO(text))
    for cells in reader:
        yield reader.line_num, cells


def columns_of(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[str, list[str]]:
    """A table of the warehouse as SQL names it, and its columns.

    Raises:
        MetricError: it is not there.
    """
    name = ".".join(identifier(part) for part in table.split("."))
    try:
        return name, [str(row[0]) for row in connection.execute(f"DESCRIBE {name}").fetchall()]
    except duckdb.Error as error:
        raise MetricError(
            table, [Mistake("(table)", "is not in the warehouse; materialise its asset first")]
        ) from error


def _from_table(connection: duckdb.DuckDBPyConnection, table: str) -> Quantities:
    name, columns = columns_of(connection, table)
    day = "charge_date" if "charge_date" in columns else "date"
    if missing := {day, "department", "team", "quantity"} - set(columns):
        raise MetricError(table, [Mistake("(columns)", f"has no {', '.join(sorted(missing))}")])
    result: Quantities = {}
    for at, department, team, quantity in connection.execute(
        f"SELECT CAST({day} AS DATE), department, team, sum(CAST(quantity AS DECIMAL(38, 18))) FROM {name} GROUP BY ALL"
    ).fetchall():
        if quantity is None or quantity < 0:
            place = f"{at}, {department}/{team}"
            raise MetricError(table, [Mistake("quantity", f"found {quantity} ({place}); allowed: 0 or more")])
        result.setdefault(at, {})[normal_value(department), normal_value(team)] = quantity
    return result
