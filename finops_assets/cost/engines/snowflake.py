"""Snowflake: tables clustered by day and source; the lake's days are copied from its bucket by an external stage.

Never run against the service: docs/guides/engines.md says what stood in its place.
"""

from __future__ import annotations

import atexit
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pyarrow as pa

from finops_assets.base.errors import FinopsError
from finops_assets.cost.engines.mirror import DAYS, DAYS_COLUMNS, Kind, by_source
from finops_assets.storage.lake import Key, Lake, Layer

_TYPES: dict[Kind, str] = {
    "decimal": "NUMBER(38, 18)",
    "datetime": "TIMESTAMP_NTZ(6)",
    "text": "VARCHAR",
    "count": "NUMBER(38, 0)",
}
_PLACE = {"source": "VARCHAR", "charge_date": "DATE"}
_VIEW = "view_"
STATEMENT_SECONDS = 3600
"""Longer than this no statement runs, and bills: Snowflake's own bound is two days."""


class Snowflake:
    """`Tables` of a connection of snowflake-connector-python, in its database, schema and warehouse.

    `stage` is an external stage on the lake's folder in its bucket, by name: `finops.public.lake`.
    """

    dialect = "snowflake"
    at_once = 400
    """Each (day, source) is a statement of its own where days are copied."""

    def __init__(self, connection: Any, stage: str) -> None:
        self.connection, self.stage = connection, stage

    @property
    def name(self) -> str:
        """Its version."""
        [version] = self.table("SELECT CURRENT_VERSION() AS V")["V"].to_pylist()
        return f"Snowflake {version}"

    def query(self, statement: str) -> None:
        """Run a statement whose answer nobody needs."""
        with _explaining(), self.connection.cursor() as cursor:
            cursor.execute(statement)

    def table(self, query: str) -> pa.Table:
        """What a rendered statement gives."""
        with _explaining(), self.connection.cursor() as cursor:
            cursor.execute(query)
            return _counts_as_such(cursor.fetch_arrow_all(force_return_table=True))

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The same, a part of the answer at a time."""
        with _explaining(), self.connection.cursor() as cursor:
            cursor.execute(query)
            for part in cursor.fetch_arrow_batches():
                yield from _counts_as_such(part).to_batches()

    def put(self, table: pa.Table) -> str:
        """By bound rows, which the connector sends in batches."""
        relation = f"given_{uuid.uuid4().hex}"
        columns = dict.fromkeys(table.column_names, _TYPES["text"])
        self.query(f"CREATE TEMPORARY TABLE {_name(relation)} ({_declared(columns)})")
        self._insert(relation, table)
        return relation

    def forget(self, relation: str) -> None:
        """Drop the table or view."""
        kind = "VIEW" if relation.startswith(_VIEW) else "TABLE"
        self.query(f"DROP {kind} IF EXISTS {_name(relation)}")

    def note(self, table: pa.Table) -> None:
        """By bound rows, too."""
        self._insert(DAYS, table)

    def have(self, table: str, columns: Mapping[str, Kind]) -> None:
        """Columns that came since, as those of new dimensions, are added."""
        texts = _declared(dict.fromkeys(DAYS_COLUMNS, _TYPES["text"]))
        self.query(f"CREATE TABLE IF NOT EXISTS {_name(DAYS)} ({texts})")
        kinds = {name: _TYPES[kind] for name, kind in columns.items()}
        self.query(
            f"CREATE TABLE IF NOT EXISTS {_name(table)} ({_declared(kinds | _PLACE)})"
            f" CLUSTER BY ({_name('charge_date')}, {_name('source')})"
        )
        there = set(self.table(f"SELECT * FROM {_name(table)} WHERE 1 = 0").column_names)
        for name in kinds.keys() - there:
            self.query(f"ALTER TABLE {_name(table)} ADD COLUMN IF NOT EXISTS {_name(name)} {kinds[name]}")

    def view(self, table: str, keys: Sequence[Key]) -> str:
        """For this connection only."""
        relation = f"{_VIEW}{uuid.uuid4().hex}"
        of_keys = f"SELECT * FROM {_name(table)} WHERE {self.of_keys(keys)}"
        self.query(f"CREATE TEMPORARY VIEW {_name(relation)} AS {of_keys}")
        return relation

    def replace(self, table: str, keys: Sequence[Key], columns: Sequence[str], query: str) -> None:
        """One transaction takes the days' rows out and puts the new ones in: all of it happens or nothing."""
        names = ", ".join(map(_name, [*columns, *_PLACE]))
        self.query("BEGIN")
        try:
            self.query(f"DELETE FROM {_name(table)} WHERE {self.of_keys(keys)}")
            self.query(f"INSERT INTO {_name(table)} ({names}) SELECT {names} FROM ({query}) AS {_name('built')}")
            self.query("COMMIT")
        except BaseException:
            self.query("ROLLBACK")
            raise

    def take(self, table: str, keys: Sequence[Key], columns: Sequence[str], other: str) -> None:
        """By the same statement."""
        names = ", ".join(map(_name, [*columns, "source", "charge_date"]))
        self.replace(table, keys, columns, f"SELECT {names} FROM {_name(other)} WHERE {self.of_keys(keys)}")

    def load(self, table: str, lake: Lake, layer: Layer, keys: Sequence[Key], columns: Mapping[str, Kind]) -> None:
        """Copied from the stage into a temporary table, from which they take the days' place."""
        beside = f"loaded_{uuid.uuid4().hex}"
        kinds = {name: _TYPES[kind] for name, kind in columns.items()}
        self.query(f"CREATE TEMPORARY TABLE {_name(beside)} ({_declared(kinds | _PLACE)})")
        # By name: a file has a source's own x_ columns besides, and an order of its own.
        read = ", ".join(f"$1:{_name(name)}::{kind}" for name, kind in kinds.items())
        names = ", ".join(map(_name, [*kinds, *_PLACE]))
        try:
            for source, day in keys:
                self.query(
                    f"COPY INTO {_name(beside)} ({names}) FROM (SELECT {read}, {_text(source)}, '{day}'::DATE"
                    f" FROM @{self.stage}/{layer}/source={source}/charge_date={day}/data.parquet)"
                    " FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE) ON_ERROR = ABORT_STATEMENT"
                )
            self.replace(table, keys, list(columns), f"SELECT {names} FROM {_name(beside)}")
        finally:
            self.forget(beside)

    def quoted(self, name: str) -> str:
        """In double quotes: unquoted names would be taken in upper case."""
        return _name(name)

    def of_keys(self, keys: Iterable[Key]) -> str:
        """By source, and of each its days."""
        of_source = {source: [f"CAST('{day}' AS DATE)" for day in days] for source, days in by_source(keys).items()}
        each = (
            f"{_name('source')} = {_text(source)} AND {_name('charge_date')} IN ({', '.join(days)})"
            for source, days in of_source.items()
        )
        return f"({' OR '.join(f'({condition})' for condition in each)})"

    def _insert(self, relation: str, table: pa.Table) -> None:
        if table.num_rows:
            values = ", ".join("%s" for _ in table.column_names)
            with _explaining(), self.connection.cursor() as cursor:
                rows = [tuple(row.values()) for row in table.to_pylist()]
                cursor.executemany(f"INSERT INTO {_name(relation)} VALUES ({values})", rows)


@cache
def connected_to(place: str) -> Snowflake:
    """This process's tables at `snowflake://connection/stage`: a connection by its name in Snowflake's connections.toml.

    Raises:
        FinopsError: there is no connection of this name, or Snowflake refuses it.
    """
    import snowflake.connector

    name, _, stage = place.removeprefix("snowflake://").partition("/")
    try:
        connection = snowflake.connector.connect(
            connection_name=name,
            session_parameters={"STATEMENT_TIMEOUT_IN_SECONDS": STATEMENT_SECONDS, "TIMEZONE": "UTC"},
        )
    except snowflake.connector.errors.Error as error:
        raise FinopsError(
            f"engine.run_on in finops.yaml is {place}: {error}. The connection {name} stands in Snowflake's own"
            " connections.toml, or in SNOWFLAKE_CONNECTIONS_… of the environment"
        ) from error
    atexit.register(connection.close)
    return Snowflake(connection, stage)


@contextmanager
def _explaining() -> Iterator[None]:
    """The connector's complaints as ours; it is imported by whoever connects."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("snowflake."):
            raise
        raise FinopsError(
            f"Snowflake: {' '.join(str(error).split())[:600]}. Nothing was replaced by halves; see the query's page there, then"
            " run the days again; without engine.run_on DuckDB on this machine does the work"
        ) from error


def _counts_as_such(found: pa.Table) -> pa.Table:
    """Snowflake gives whole numbers as decimals without places."""
    whole = [pa.types.is_decimal(field.type) and field.type.scale == 0 for field in found.schema]
    kinds = [pa.int64() if counted else field.type for counted, field in zip(whole, found.schema)]
    return found.cast(pa.schema([field.with_type(kind) for field, kind in zip(found.schema, kinds)]))


def _declared(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{_name(name)} {kind}" for name, kind in columns.items())


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
