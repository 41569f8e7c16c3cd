"""The query engine of this machine: DuckDB in memory, bounded, in UTC."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb

from finops_assets.focus import money
from finops_assets.settings import Engine

# Several threads write at a time; larger row groups of 80 columns, or of text, would not fit the engine's memory.
ROW_GROUP_ROWS = 30_720


def connect(engine: Engine, spill: Path) -> duckdb.DuckDBPyConnection:
    """A private in-memory connection that keeps to its memory budget and spills below `spill`."""
    connection = duckdb.connect()
    money.register(connection)
    # The zone cannot be given at connect time: it needs an extension that loads after it.
    connection.execute("SET timezone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET memory_limit = ?", [engine.memory_limit.replace(" ", "")])
    if engine.threads is not None:
        connection.execute("SET threads = ?", [engine.threads])
    connection.execute("SET temp_directory = ?", [str(spill)])
    # Order within a day's file means nothing; giving it up lets a write stream instead of buffering.
    connection.execute("SET preserve_insertion_order = false")
    return connection


def threads(connection: duckdb.DuckDBPyConnection) -> int:
    """How many threads a connection works with."""
    row = connection.execute("SELECT current_setting('threads')").fetchone()
    return int(row[0]) if row else 1


def identifier(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted SQL string, for the places (COPY targets, table functions in views) that take no bound value."""
    return "'" + text.replace("'", "''") + "'"


def days_between(first: date, end: date) -> list[date]:
    """The UTC days from `first` up to but not including `end`."""
    return [date.fromordinal(n) for n in range(first.toordinal(), end.toordinal())]
