"""A published copy, opened to be read: also one that an earlier version of this product published.

Such a copy lacks columns that are declared by now. Whoever reads it finds them null, not an error, until the next run or
`finops publish` makes it anew. A table that it lacks is not made up: nobody knows what would be in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from finops_assets.base.errors import FinopsError
from finops_assets.base.sql import identifier, literal
from finops_assets.storage.warehouse import FACTS
from finops_assets.tables import declarations
from finops_assets.tables.declarations import Table

ANEW = "`finops publish` makes it anew from the warehouse"
MOST_NAMED = 6
OLD = "as_published"
"""What the copy is called behind the views that complete it."""


class OlderCopy(FinopsError):
    """Something cannot be told without a column that a copy of another version does not have."""


@dataclass(frozen=True)
class Copy:
    """A published copy with every column that is declared."""

    connection: duckdb.DuckDBPyConnection
    lacks: str
    """Which of them it does not have, and what to do, as a sentence; empty: it has all."""

    @contextmanager
    def told(self) -> Iterator[None]:
        """Within the block what fails on a copy that lacks columns is told as that.

        Raises:
            OlderCopy: something failed as it does where a value is not known that always is.
        """
        try:
            yield
        except (duckdb.Error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            if not self.lacks or isinstance(error, duckdb.InterruptException):
                raise
            raise OlderCopy(self.lacks) from error


@contextmanager
def read_copy(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A published copy, for a moment.

    Raises:
        duckdb.Error: it cannot be opened.
        OlderCopy: what was asked cannot be told without a column that it lacks.
    """
    copy = open_copy(path)
    try:
        with copy.told():
            yield copy.connection
    finally:
        copy.connection.close()


def open_copy(path: Path) -> Copy:
    """A published copy, for as long as its connection is open.

    Raises:
        duckdb.Error: it cannot be opened.
    """
    connection = duckdb.connect(str(path), read_only=True)
    try:
        held = columns_held(connection)
        lacks = lacks_told(path, held)
        if lacks:
            connection.close()
            connection = duckdb.connect()
            connection.execute(f"ATTACH {literal(str(path))} AS {OLD} (READ_ONLY)")
            _complete(connection, held)
        connection.execute("SET timezone = 'UTC'")
    except BaseException:
        connection.close()
        raise
    return Copy(connection, lacks)


def lacks_told(path: Path, held: Mapping[Table, Collection[str]]) -> str:
    """The sentence of `Copy.lacks`, of what a copy has."""
    lacks = [
        f"{table.shown_name}.{column.name}" for table, columns in held.items() for column in lacking(table, columns)
    ]
    named = f"{', '.join(lacks[:MOST_NAMED])}{', …' if len(lacks) > MOST_NAMED else ''}"
    return f"{path} was published by another version and lacks {named}; {ANEW}" if lacks else ""


def columns_held(connection: duckdb.DuckDBPyConnection, database: str | None = None) -> dict[Table, list[str]]:
    """The columns of each declared table and view of a copy, and of its facts. `database`: by what name it is attached."""
    held = {}
    for schema, name, columns in connection.execute(
        "SELECT schema_name, table_name, list(column_name ORDER BY column_index) FROM duckdb_columns()"
        " WHERE database_name = coalesce(?, current_database()) AND NOT internal GROUP BY ALL ORDER BY ALL",
        [database],
    ).fetchall():
        declared = declarations.facts_table(()) if name == FACTS else declarations.TABLES.get((schema, name))
        if declared is not None:
            held[declared] = columns
    return held


def lacking(declared: Table, held: Collection[str]) -> list[declarations.Column]:
    """The declared columns that a table does not have."""
    return [column for column in declared.columns if column.name not in held]


def completed(declared: Table, held: Collection[str], database: str) -> str:
    """SQL: a table of a database with every declared column."""
    nulls = "".join(f", CAST(NULL AS {c.kind}) AS {identifier(c.name)}" for c in lacking(declared, held))
    return f"(SELECT *{nulls} FROM {identifier(database)}.{declared.full_name})"


def _complete(connection: duckdb.DuckDBPyConnection, held: Mapping[Table, Collection[str]]) -> None:
    """Each table of the copy by its name, and with every declared column."""
    for declared, columns in held.items():
        # What has a day's cost by every dimension is long. Of the others some are read in the order that they were written in.
        kind = "VIEW" if declared.view or declared.by_dimensions else "TABLE"
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(declared.schema)}")
        connection.execute(f"CREATE {kind} {declared.full_name} AS FROM {completed(declared, columns, OLD)}")
