"""How much of what there was: a day, a metric, a quantity, and whose it was, by any dimensions of finops.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb

from finops_assets.base.errors import Mistake
from finops_assets.base.sql import identifier
from finops_assets.evaluate.allocation.metric import QUANTITY, MetricError, columns_of, lines_of
from finops_assets.focus.normal import normal_value
from finops_assets.settings.unit_costs import UnitMetrics

NEEDED = ("date", "metric", "quantity")

Of = tuple[tuple[str, str], ...]
"""Dimension and value, each, in the order of finops.yaml."""


@dataclass(frozen=True)
class Quantity:
    """How much of a metric there was on a UTC day, of all or of what these dimensions say."""

    day: date
    metric: str
    of: Of
    amount: Decimal


def read_quantities(
    connection: duckdb.DuckDBPyConnection,
    metrics: UnitMetrics,
    dimensions: Sequence[str],
    values: Mapping[str, Mapping[str, str]],
) -> list[Quantity]:
    """Every quantity. `values` unifies the names of dimensions as it does those in tags (dimension -> value -> name).

    Raises:
        MetricError: with every mistake, its line, what was found and what is allowed.
    """
    place = str(metrics.file or metrics.table)
    if metrics.file:
        header, rows = _of_file(metrics.file)
    else:
        header, rows = _of_table(connection, metrics.table or "", dimensions)
    mistakes = [
        Mistake(name or "(no name)", f"is not a known column (allowed: {', '.join((*NEEDED, *dimensions))})", 1)
        for name in header
        if name not in (*NEEDED, *dimensions)
    ]
    mistakes += [Mistake(name, "is missing and has no default", 1) for name in NEEDED if name not in header]
    if mistakes:
        raise MetricError(place, mistakes)
    found: dict[tuple[date, str, Of], Decimal] = {}
    for line, row in rows:
        read = _quantity(line, row, dimensions, values, mistakes)
        if read is None:
            continue
        key = read.day, read.metric, read.of
        if key in found:
            of = ", ".join(f"{name} {value}" for name, value in read.of) or "all"
            mistakes.append(Mistake("metric", f"found {read.metric} of {of} on {read.day} again; keep one", line))
        found[key] = read.amount
    if mistakes:
        raise MetricError(place, mistakes)
    return [Quantity(*key, amount) for key, amount in found.items()]


def _of_file(file: Path) -> tuple[list[str], list[tuple[int | None, dict[str, str]]]]:
    lines = lines_of(file)
    _, names = next(lines, (1, []))
    header = [name.strip() for name in names]
    rows: list[tuple[int | None, dict[str, str]]] = []
    for line, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise MetricError(str(file), [Mistake("(line)", f"has {len(cells)} cells, the header {len(header)}", line)])
        rows.append((line, {n: cell.strip() for n, cell in zip(header, cells)}))
    return header, rows


def _of_table(
    connection: duckdb.DuckDBPyConnection, table: str, dimensions: Sequence[str]
) -> tuple[list[str], list[tuple[int | None, dict[str, str]]]]:
    name, held = columns_of(connection, table)
    header = [column for column in held if column in (*NEEDED, *dimensions)]
    if not header:
        return header, []
    listed = ", ".join(f"CAST({identifier(column)} AS VARCHAR)" for column in header)
    rows = connection.execute(f"SELECT {listed} FROM {name}").fetchall()
    return header, [(None, {n: value or "" for n, value in zip(header, row)}) for row in rows]


def _quantity(
    line: int | None,
    row: Mapping[str, str],
    dimensions: Iterable[str],
    values: Mapping[str, Mapping[str, str]],
    mistakes: list[Mistake],
) -> Quantity | None:
    before, day = len(mistakes), None
    try:
        day = date.fromisoformat(row["date"])
    except ValueError:
        mistakes.append(Mistake("date", f"found {row['date']!r}; allowed: a UTC day as 2026-10-15", line))
    if not row["metric"]:
        mistakes.append(Mistake("metric", "is empty", line))
    if not QUANTITY.match(row["quantity"]):
        found = row["quantity"]
        said = f"found {found!r}; allowed: 0 or more, digits with a point; where it is not known, leave out the row"
        mistakes.append(Mistake("quantity", said, line))
    if day is None or len(mistakes) > before:
        return None
    of = []
    for name in dimensions:
        if written := normal_value(row.get(name, "")):
            of.append((name, values.get(name, {}).get(written, written)))
    return Quantity(day, row["metric"], tuple(of), Decimal(row["quantity"]))
