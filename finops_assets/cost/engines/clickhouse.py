"""ClickHouse: tables partitioned by day and source, a day replaced by its partition. Through ClickHouse's own client.

The server needs nothing of the lake: a day's rows are sent to it, what it attributes is fetched.
"""

from __future__ import annotations

import atexit
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import pyarrow as pa
import pyarrow.parquet as pq
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from finops_assets.base.errors import FinopsError
from finops_assets.cost.engines.mirror import DAYS, DAYS_COLUMNS, ROWS_AT_ONCE, Kind
from finops_assets.storage.lake import Key, Lake, Layer

SETTINGS = {
    # Without it what finds no tag set gets '' from a column that is not declared Nullable: untagged rows count as
    # tagged, and nothing fails. The table made here declares them so; one that somebody else made may not.
    "join_use_nulls": "1",
    # Without it `coalesce(team, …) AS team` stands for the column `team` in all of the statement: no row is untagged.
    "prefer_column_name_to_alias": "1",
    "count_distinct_implementation": "uniqExact",
    "decimal_check_overflow": "1",
    "session_timezone": "UTC",
}
PASSWORD_ENV = "FINOPS_CLICKHOUSE_PASSWORD"
_TYPES: dict[Kind, str] = {
    "decimal": "Nullable(Decimal(38, 18))",
    "datetime": "Nullable(DateTime64(6, 'UTC'))",
    "text": "Nullable(String)",
    "count": "Nullable(Int64)",
}
_PLACE = {"source": "String", "charge_date": "Date"}


class ClickHouse:
    """`Tables` of a database, by clickhouse-connect's client."""

    dialect = "clickhouse"
    at_once = 100
    """A partition each: more than 100 in one insert are refused (max_partitions_per_insert_block)."""

    def __init__(self, client: Client) -> None:
        self.client = client
        # With every request: what SET says is gone with the session, which a server drops after a minute of silence.
        for name, value in SETTINGS.items():
            client.set_client_setting(name, value)

    @property
    def name(self) -> str:
        """Its version."""
        return f"ClickHouse {self.client.server_version}"

    def query(self, statement: str) -> None:
        """Run a statement whose answer nobody needs."""
        with _explaining(self.name):
            self.client.command(statement)

    def table(self, query: str) -> pa.Table:
        """What a rendered statement gives."""
        with _explaining(self.name):
            found: pa.Table = self.client.query_arrow(query, use_strings=True)
        return found

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The same, a block of the server's at a time."""
        with _explaining(self.name), self.client.query_arrow_stream(query, use_strings=True) as stream:
            yield from stream

    def put(self, table: pa.Table) -> str:
        """A table of its own."""
        relation = f"given_{uuid.uuid4().hex}"
        declared = _declared(dict.fromkeys(table.column_names, _TYPES["text"]))
        self.query(f"CREATE TABLE {relation} ({declared}) ENGINE = MergeTree ORDER BY tuple()")
        self._insert(relation, table)
        return relation

    def forget(self, relation: str) -> None:
        """Drop the table or view."""
        self.query(f"DROP TABLE {relation}")

    def note(self, table: pa.Table) -> None:
        """In a table of which ClickHouse forgets lines that later ones have replaced."""
        self._insert(DAYS, table)

    def have(self, table: str, columns: Mapping[str, Kind]) -> None:
        """Columns that came since, as those of new dimensions, are added."""
        texts = _declared(dict.fromkeys(DAYS_COLUMNS, "String"))
        last = "at DateTime64(6, 'UTC') MATERIALIZED parseDateTime64BestEffort(entered, 6)"
        order = ", ".join(DAYS_COLUMNS[:3])
        self.query(
            f"CREATE TABLE IF NOT EXISTS {DAYS} ({texts}, {last}) ENGINE = ReplacingMergeTree(at) ORDER BY ({order})"
        )
        kinds = {name: _TYPES[kind] for name, kind in columns.items()}
        # What is added later stands last, as it would have stood in a table made later: so `take` needs no copy.
        self.query(
            f"CREATE TABLE IF NOT EXISTS {_name(table)} ({_declared(_PLACE | kinds)})"
            " ENGINE = MergeTree PARTITION BY (charge_date, source) ORDER BY tuple()"
        )
        added = ", ".join(f"ADD COLUMN IF NOT EXISTS {_name(c)} {kind}" for c, kind in kinds.items())
        self.query(f"ALTER TABLE {_name(table)} {added}")

    def view(self, table: str, keys: Sequence[Key]) -> str:
        """Over the days' partitions."""
        relation = f"shown_{uuid.uuid4().hex}"
        self.query(f"CREATE VIEW {relation} AS SELECT * FROM {_name(table)} WHERE {self.of_keys(keys)}")
        return relation

    def replace(self, table: str, keys: Sequence[Key], columns: Sequence[str], query: str) -> None:
        """Built in a table beside it, whose partitions then take the place of the old ones."""
        names = ", ".join(map(_name, [*columns, *_PLACE]))
        with self._beside(table, keys) as beside:
            self.query(f"INSERT INTO {beside} ({names}) SELECT {names} FROM ({query})")

    def take(self, table: str, keys: Sequence[Key], columns: Sequence[str], other: str) -> None:
        """By its partitions, of which no row is written again; where the tables' columns differ in their order, row by row."""
        first, second = (self.table(f"SELECT * FROM {_name(name)} LIMIT 0").column_names for name in (table, other))
        names = ", ".join(map(_name, [*columns, *_PLACE]))
        if first != second:
            self.replace(table, keys, columns, f"SELECT {names} FROM {_name(other)} WHERE {self.of_keys(keys)}")
            return
        self._take(table, keys, other)

    def load(self, table: str, lake: Lake, layer: Layer, keys: Sequence[Key], columns: Mapping[str, Kind]) -> None:
        """Sent from here, some row groups at a time."""
        with self._beside(table, keys) as beside:
            for source, day in keys:
                for file in lake.fetch([lake.day_file(layer, source, day)]):
                    with pq.ParquetFile(file) as opened:
                        there = [name for name in opened.schema_arrow.names if name in columns]
                        for batch in opened.iter_batches(ROWS_AT_ONCE, columns=there):
                            rows = pa.table(batch)
                            for name, value in (("source", pa.scalar(source)), ("charge_date", pa.scalar(day))):
                                rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
                            self._insert(beside, rows)

    def quoted(self, name: str) -> str:
        """In backquotes."""
        return _name(name)

    def of_keys(self, keys: Iterable[Key]) -> str:
        """By pairs, of which ClickHouse finds the partitions."""
        wanted = ", ".join(f"(toDate('{day}'), {_text(source)})" for source, day in keys)
        return f"(charge_date, source) IN ({wanted})"

    def _insert(self, relation: str, rows: pa.Table) -> None:
        with _explaining(self.name):
            self.client.insert_arrow(relation, rows)

    @contextmanager
    def _beside(self, table: str, keys: Sequence[Key]) -> Iterator[str]:
        """A table of the same form to fill; what it then has takes the place of these days, partition by partition."""
        beside = f"{table}_{uuid.uuid4().hex}"
        self.query(f"CREATE TABLE {beside} AS {_name(table)}")
        try:
            yield beside
            self._take(table, keys, beside)
        finally:
            self.query(f"DROP TABLE {beside}")

    def _take(self, table: str, keys: Sequence[Key], other: str) -> None:
        built = self.table(f"SELECT DISTINCT source, charge_date FROM {_name(other)} WHERE {self.of_keys(keys)}")
        filled = set(zip(built["source"].to_pylist(), built["charge_date"].to_pylist()))
        for source, day in keys:
            partition = f"PARTITION (toDate('{day}'), {_text(source)})"
            if (source, day) in filled:
                self.query(f"ALTER TABLE {_name(table)} REPLACE {partition} FROM {_name(other)}")
            else:
                self.query(f"ALTER TABLE {_name(table)} DROP {partition}")  # nothing cannot take something's place


@cache
def connected_to(place: str) -> ClickHouse:
    """This process's tables at `clickhouse://user@host:port/database`, with `?secure=true` through TLS.

    The password is that of `PASSWORD_ENV`.

    Raises:
        FinopsError: nobody answers there, or refuses.
    """
    url = urlsplit(place)
    with _explaining(f"engine.run_on in finops.yaml is {place}"):
        client = clickhouse_connect.get_client(
            host=url.hostname,
            port=url.port,
            username=unquote(url.username or "default"),
            password=os.environ.get(PASSWORD_ENV, ""),
            database=url.path.strip("/"),
            secure=url.query == "secure=true",
            autogenerate_session_id=False,  # several threads ask at once
        )
    atexit.register(client.close)
    return ClickHouse(client)


@contextmanager
def _explaining(what: str) -> Iterator[None]:
    try:
        yield
    except ClickHouseError as error:
        told = " ".join(str(error).split())[:600]
        raise FinopsError(
            f"{what}: {told}. Nothing was replaced by halves; look at the server, then run the days again; without"
            " engine.run_on DuckDB on this machine does the work"
        ) from error


def _declared(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{_name(name)} {kind}" for name, kind in columns.items())


def _name(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
