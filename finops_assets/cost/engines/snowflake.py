"""Snowflake: facts as a table clustered by day and source; raw days copied from the lake's bucket by an external stage.

Never run against the service: docs/guides/engines.md says what stood in its place.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from finops_assets.cost.attribution.rules import Rules
from finops_assets.ingest.reading.export_table import all_columns
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.storage.lake import Key, Lake, Layer

_TYPES = {"decimal": "NUMBER(38, 18)", "datetime": "TIMESTAMP_NTZ(6)"}
_TEXT = "VARCHAR"
_OWN = {"tag_set_id": _TEXT, SOURCE_FILE: _TEXT, SOURCE_ROW: "NUMBER(38, 0)"}
_PLACE = {"source": _TEXT, "charge_date": "DATE"}
_VIEW = "view_"
FACTS = "facts"
"""The table."""


class Snowflake:
    """An `Engine` on a connection of snowflake-connector-python, in its database, schema and warehouse.

    `stage` is an external stage on the lake's folder in its bucket, by name: `finops.public.lake`.
    """

    dialect = "snowflake"
    at_once = 400
    """Each (day, source) is a statement of its own where raw days are copied."""

    def __init__(self, connection: Any, lake: Lake, stage: str) -> None:
        self.connection, self.lake, self.stage = connection, lake, stage

    @property
    def name(self) -> str:
        """Its version."""
        [version] = self.table("SELECT CURRENT_VERSION() AS V")["V"].to_pylist()
        return f"Snowflake {version}"

    def query(self, statement: str) -> None:
        """Run a statement whose answer nobody needs."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement)

    def table(self, query: str) -> pa.Table:
        """What a rendered statement gives."""
        with self.connection.cursor() as cursor:
            cursor.execute(query)
            found: pa.Table = cursor.fetch_arrow_all(force_return_table=True)
        whole = [pa.types.is_decimal(field.type) and field.type.scale == 0 for field in found.schema]
        kinds = [pa.int64() if counted else field.type for counted, field in zip(whole, found.schema)]
        return found.cast(pa.schema([field.with_type(kind) for field, kind in zip(found.schema, kinds)]))

    def put(self, table: pa.Table) -> str:
        """By bound rows, which the connector sends in batches."""
        relation = f"given_{uuid.uuid4().hex}"
        columns = dict.fromkeys(table.column_names, _TEXT)
        self.query(f"CREATE TEMPORARY TABLE {_name(relation)} ({_declared(columns)})")
        if table.num_rows:
            values = ", ".join("%s" for _ in columns)
            with self.connection.cursor() as cursor:
                rows = [tuple(row.values()) for row in table.to_pylist()]
                cursor.executemany(f"INSERT INTO {_name(relation)} VALUES ({values})", rows)
        return relation

    def show(self, layer: Layer, keys: list[Key]) -> str:
        """Raw days are copied from the stage; of facts it is a view."""
        if layer == "facts":
            relation = f"{_VIEW}{uuid.uuid4().hex}"
            self.query(f"CREATE TEMPORARY VIEW {_name(relation)} AS SELECT * FROM {_name(FACTS)} WHERE {_of(keys)}")
            return relation
        relation = f"shown_{uuid.uuid4().hex}"
        columns = _focus() | _OWN
        self.query(f"CREATE TEMPORARY TABLE {_name(relation)} ({_declared(columns | _PLACE)})")
        # By name: a file has a source's own x_ columns besides, and an order of its own.
        read = ", ".join(f"$1:{_name(name)}::{kind}" for name, kind in columns.items())
        names = ", ".join(map(_name, [*columns, *_PLACE]))
        for source, day in keys:
            self.query(
                f"COPY INTO {_name(relation)} ({names}) FROM (SELECT {read}, {_text(source)}, '{day}'::DATE"
                f" FROM @{self.stage}/raw/source={source}/charge_date={day}/data.parquet)"
                " FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE) ON_ERROR = ABORT_STATEMENT"
            )
        return relation

    def forget(self, relation: str) -> None:
        """Drop the table or view."""
        kind = "VIEW" if relation.startswith(_VIEW) else "TABLE"
        self.query(f"DROP {kind} IF EXISTS {_name(relation)}")

    def replace_facts(self, stamps: Mapping[Key, str], rules: Rules, query: str) -> None:
        """One transaction takes the days' rows out and puts the new ones in: all of it happens or nothing.

        The stamps are not kept: nothing asks this engine yet what it holds.
        """
        dimensions = {name: _TEXT for d in rules.dimensions for name in (d, f"{d}_key")}
        columns = _focus() | dimensions | _OWN | _PLACE
        self.query(
            f"CREATE TABLE IF NOT EXISTS {_name(FACTS)} ({_declared(columns)})"
            f" CLUSTER BY ({_name('charge_date')}, {_name('source')})"
        )
        for name in dimensions:  # they may have come since
            self.query(f"ALTER TABLE {_name(FACTS)} ADD COLUMN IF NOT EXISTS {_name(name)} {_TEXT}")
        names = ", ".join(map(_name, columns))
        self.query("BEGIN")
        try:
            self.query(f"DELETE FROM {_name(FACTS)} WHERE {_of(stamps)}")
            self.query(f"INSERT INTO {_name(FACTS)} ({names}) SELECT {names} FROM ({query}) AS {_name('built')}")
            self.query("COMMIT")
        except BaseException:
            self.query("ROLLBACK")
            raise


def _focus() -> dict[str, str]:
    return {column.name: _TYPES.get(column.type, _TEXT) for column in all_columns()}


def _of(keys: Mapping[Key, str] | list[Key]) -> str:
    by_source: dict[str, list[str]] = {}
    for source, day in keys:
        by_source.setdefault(source, []).append(f"CAST('{day}' AS DATE)")
    each = (
        f"{_name('source')} = {_text(source)} AND {_name('charge_date')} IN ({', '.join(days)})"
        for source, days in by_source.items()
    )
    return " OR ".join(f"({condition})" for condition in each)


def _declared(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{_name(name)} {kind}" for name, kind in columns.items())


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
