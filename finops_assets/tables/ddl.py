"""The declared tables in a database: made, brought up to date, filled and commented."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import duckdb

from finops_assets.base.sql import identifier, literal
from finops_assets.tables.declarations import Table, grouped, table

if TYPE_CHECKING:
    import pyarrow as pa


def has(connection: duckdb.DuckDBPyConnection, name: str, schema: str = "main") -> bool:
    """Is there such a table or view? To look through the list of all tables takes four times as long."""
    try:
        connection.table(f"{identifier(schema)}.{identifier(name)}")
    except duckdb.CatalogException:
        return False
    return True


def dimensions_of(connection: duckdb.DuckDBPyConnection, name: str = "daily_cost_by_team") -> tuple[str, ...]:
    """The dimensions that the rollup of a warehouse or its copy is grouped by, or another table or view that is as it is."""
    declared = {c.name for c in table(name).columns}
    try:
        # The list of all columns of a database takes ten times as long.
        held = connection.execute(f"DESCRIBE main.{identifier(name)}").fetchall()
    except duckdb.CatalogException:
        return ()
    return grouped(column_name for column_name, *_ in held if column_name not in declared)


def create(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    schema: str = "main",
    database: str = "",
    dimensions: Iterable[str] = (),
) -> Table:
    """Have an empty table, or the one that is there with the columns and types that are declared: of an earlier version
    of this product, or with other dimensions, it may have had others. Returns what is declared."""
    declared = table(name, schema, dimensions)
    make(connection, declared, database)
    return declared


def make(connection: duckdb.DuckDBPyConnection, declared: Table, database: str = "") -> None:
    """As `create`, of a table as it is declared for some dimensions."""
    where = f"{identifier(database)}." if database else ""
    full = where + declared.full_name
    _create_schema(connection, f"{where}{identifier(declared.schema)}")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {full} ({_kinds(declared)})")
    held = {row[0]: row[1] for row in connection.execute(f"DESCRIBE {full}").fetchall()}
    for each in declared.columns:
        column_name = identifier(each.name)
        if each.name not in held:
            connection.execute(f"ALTER TABLE {full} ADD COLUMN {column_name} {each.kind}")
        elif held[each.name].replace(" ", "") != each.kind.replace(" ", ""):
            connection.execute(f"ALTER TABLE {full} ALTER COLUMN {column_name} SET DATA TYPE {each.kind}")


def _create_schema(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    if not name.endswith(identifier("main")):  # every database has it
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")


def _kinds(declared: Table) -> str:
    return ", ".join(f"{identifier(c.name)} {c.kind}" for c in declared.columns)


def selected(connection: duckdb.DuckDBPyConnection, name: str, columns: Iterable[str]) -> str:
    """SQL: columns of a table to select; NULL for one that a copy which an earlier version published does not have."""
    held = {row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()}
    return ", ".join(c if c in held else f"NULL AS {c}" for c in columns)


def replace_all(connection: duckdb.DuckDBPyConnection, declared: Table, rows: pa.Table) -> None:
    """Make the table anew from rows that are typed as it is declared."""
    _create_schema(connection, identifier(declared.schema))
    connection.execute(f"CREATE OR REPLACE TABLE {declared.full_name} ({_kinds(declared)})")
    connection.register("rows_of_table", rows)
    try:
        connection.execute(f"INSERT INTO {declared.full_name} BY NAME FROM rows_of_table")
    finally:
        connection.unregister("rows_of_table")


def comment(connection: duckdb.DuckDBPyConnection, declared: Table, database: str) -> None:
    """Say in the database what a table or view and each of its columns mean."""
    full = f"{identifier(database)}.{declared.full_name}"
    kind = "VIEW" if declared.view else "TABLE"
    there = {row[0] for row in connection.execute(f"DESCRIBE {full}").fetchall()}
    # In one go: asked one by one, some hundred take longer than the rows that they are about.
    connection.execute(
        f"COMMENT ON {kind} {full} IS {literal(declared.meaning)};"
        + "".join(
            f"COMMENT ON COLUMN {full}.{identifier(each.name)} IS {literal(each.comment)};"
            for each in declared.columns
            if each.name in there
        )
    )
