"""The version of a result: a short hash of what it says, the same for an identical one whenever it was made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import date

import duckdb


def version_of(*parts: object) -> str:
    """A short hash of data frames, by their rows and columns in order, and of whatever else has an exact `repr`."""
    made = hashlib.sha256()
    for part in parts:
        text = part.to_csv(index=False) if hasattr(part, "to_csv") else repr(part)
        made.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return made.hexdigest()[:16]


def versions_by_day(
    connection: duckdb.DuckDBPyConnection, relations: Iterable[str], days: Iterable[date]
) -> dict[date, str]:
    """By day a hash of its rows, in whatever order, in relations (SQL) that have a charge_date.

    The engine's own hash may change with its version: then a day counts as changed once more.
    """
    found: dict[date, list[object]] = {day: [] for day in days}
    for relation in relations:
        rows = connection.execute(
            f"SELECT charge_date, count(*), sum(hash(t)) FROM {relation} AS t WHERE list_contains(?, charge_date)"
            " GROUP BY 1",
            [list(found)],
        ).fetchall()
        for day, *hashed in rows:
            found[day].append((relation, hashed))
    return {day: version_of(parts) for day, parts in found.items()}


def version_of_table(connection: duckdb.DuckDBPyConnection, relation: str) -> str:
    """A hash of all rows of a relation (SQL), in whatever order."""
    return version_of(connection.execute(f"SELECT count(*), sum(hash(t)) FROM {relation} AS t").fetchall())
