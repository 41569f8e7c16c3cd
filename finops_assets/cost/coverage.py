"""What every answer is made of: by day and source whether its cost is in the figures, and if not, since when and why.

Three words, everywhere the same. *built*: the source's gates passed and its day is in the rollup, also when it cost
nothing. *awaited*: its bill for the day is not due yet. *held*: a gate holds it; what the rollup has of it, if
anything, is the last good version. The table `coverage` changes in one transaction with the rollup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

import duckdb

from finops_assets.storage.lake import Key
from finops_assets.tables import ddl, declarations, values

COVERAGE_TABLE = "coverage"
State = Literal["built", "awaited", "held"]
BUILT, AWAITED, HELD = "built", "awaited", "held"
CURRENT, PREVIOUS, NOTHING = "current", "previous", "nothing"


@dataclass(frozen=True)
class Covered:
    """How a (source, day) was judged; `stamp`: what was judged, as `facts.facts_stamp` says it."""

    state: State
    reason: str
    stamp: str


@dataclass(frozen=True)
class Coverage:
    """A row of the table."""

    day: date
    source: str
    state: State
    since: datetime
    """UTC: from when it has been in this state."""
    reason: str
    shown: Literal["current", "previous", "nothing"]
    """What the rollup has of it: what was judged, the last good version, or nothing."""
    stamp: str


def enter_coverage(
    connection: duckdb.DuckDBPyConnection,
    covered: Mapping[Key, Covered],
    there: Iterable[Key],
    at: datetime | None = None,
) -> None:
    """Within a transaction: how these (source, day)s were judged; `there` are those that the rollup has rows' facts of.

    A state that was there before keeps its beginning.
    """
    ddl.create(connection, COVERAGE_TABLE)
    if not covered:
        return
    moment = (at or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None)
    rolled = set(there)
    days = sorted({day for _, day in covered})
    before = {
        (source, day): (state, since)
        for day, source, state, since in connection.execute(
            f"SELECT charge_date, source, state, since FROM {COVERAGE_TABLE} WHERE list_contains(?, charge_date)",
            [days],
        ).fetchall()
    }
    rows = []
    for (source, day), judged in sorted(covered.items(), key=lambda item: (item[0][1], item[0][0])):
        state, since = before.get((source, day), (None, moment))
        shown = CURRENT if judged.state == BUILT else PREVIOUS if (source, day) in rolled else NOTHING
        rows.append(
            {
                "charge_date": day,
                "source": source,
                "state": judged.state,
                "since": since if state == judged.state else moment,
                "reason": judged.reason,
                "shown": shown,
                "stamp": judged.stamp,
            }
        )
    connection.register("coverage_now", values.arrow_records(rows, declarations.table(COVERAGE_TABLE)))
    connection.execute(
        f"DELETE FROM {COVERAGE_TABLE} AS c USING coverage_now n"
        " WHERE c.charge_date = n.charge_date AND c.source = n.source"
    )
    connection.execute(f"INSERT INTO {COVERAGE_TABLE} BY NAME SELECT * FROM coverage_now")
    connection.unregister("coverage_now")


def forget_others(connection: duckdb.DuckDBPyConnection, days: Iterable[date], sources: Iterable[str]) -> None:
    """Within a transaction: these days are made of these sources; of one that was taken out nothing is awaited or held."""
    connection.execute(
        f"DELETE FROM {COVERAGE_TABLE} WHERE list_contains(?, charge_date) AND NOT list_contains(?, source)",
        [list(days), list(sources)],
    )


def coverage_of(
    connection: duckdb.DuckDBPyConnection, first: date | None = None, end: date | None = None
) -> list[Coverage]:
    """By day and source, of days from `first` to before `end`; empty where a copy was made before there was such a table."""
    if not has_coverage(connection):
        return []
    return [
        Coverage(*row)
        for row in connection.execute(
            f"""
            SELECT charge_date, source, state, since, reason, shown, stamp FROM {COVERAGE_TABLE}
            WHERE charge_date >= coalesce($first, charge_date)
                AND charge_date < coalesce($end, charge_date + INTERVAL 1 DAY)
            ORDER BY charge_date, source
            """,
            {"first": first, "end": end},
        ).fetchall()
    ]


def has_coverage(connection: duckdb.DuckDBPyConnection) -> bool:
    """Does this warehouse or copy say what its days are made of? One of an earlier version does not."""
    return ddl.has(connection, COVERAGE_TABLE)
