"""The warehouse: one DuckDB file that the pipeline writes, and a published copy that people read.

DuckDB lets one process write a file, and no other open it meanwhile. So people and BI tools open the
published copy: it is written beside and renamed over, and whoever holds the old one keeps reading it.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.engine import identifier, literal
from finops_assets.errors import WarehouseError
from finops_assets.facts import stamp_of
from finops_assets.lake import Lake, source_and_day

# The oldest storage that the tools of people who are still on DuckDB 1.x can open.
PUBLISHED_STORAGE = "v1.0.0"
LOCK_PATIENCE_SECONDS = 120.0
FOOTERS, ROLLED_UP = "facts_footers", "rolled_up_facts"


class Warehouse:
    """The pipeline's file and its published copy."""

    def __init__(self, path: Path, published: Path) -> None:
        self.path = path
        self.published = published

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The warehouse, for this process alone. Waits for another writer instead of failing at once.

        Raises:
            WarehouseError: another process holds the file for too long, or it cannot be opened.
        """
        connection = self._connect()
        try:
            yield connection
        finally:
            connection.close()

    reading = writing

    def _connect(self) -> duckdb.DuckDBPyConnection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                connection = duckdb.connect(str(self.path))
            except duckdb.IOException as error:
                if "lock" not in str(error).lower() or time.monotonic() > deadline:
                    raise WarehouseError(
                        f"warehouse {self.path}: cannot be opened: {error}. Only the pipeline writes this file;"
                        f" people read {self.published}"
                    ) from error
                time.sleep(random.uniform(0.05, 0.3))
            else:
                connection.execute("SET timezone = 'UTC'")
                connection.execute("SET enable_progress_bar = false")
                return connection

    @contextmanager
    def transaction(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """All of the block or nothing of it."""
        connection.execute("BEGIN")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def replace_days(
        self, connection: duckdb.DuckDBPyConnection, table: str, days: Iterable[date], query: str | None
    ) -> None:
        """Replace these days of a table (by charge_date), within a transaction; no query: they become empty.

        A column that the table does not have yet is added; days from before it have NULL there.
        """
        name = identifier(table)
        if query is not None:
            connection.execute(f"CREATE TABLE IF NOT EXISTS {name} AS {query} LIMIT 0")
            for column, kind, *_ in connection.execute(f"DESCRIBE {query}").fetchall():
                connection.execute(f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {identifier(column)} {kind}")
        if self.has(connection, table):
            connection.execute(f"DELETE FROM {name} WHERE list_contains(?, charge_date)", [list(days)])
        if query is not None:
            connection.execute(f"INSERT INTO {name} BY NAME {query}")

    @staticmethod
    def has(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
        """Is there such a table? Before the first good day there is none."""
        return bool(connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [table]).fetchall())

    def is_published(self) -> bool:
        """Is the published copy as new as what the pipeline wrote?"""
        if not self.published.is_file() or not self.path.is_file():
            return False
        return self.published.stat().st_mtime_ns >= self.path.stat().st_mtime_ns

    def publish(self, lake: Lake) -> Path:
        """Copy every table and view into a new published file with a view over the facts, and put it in place at once."""
        self.published.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.published.with_name(f".tmp-{uuid.uuid4().hex}-{self.published.name}")
        try:
            with self.writing() as connection:
                connection.execute(
                    f"ATTACH {literal(str(temporary))} AS published (STORAGE_VERSION {literal(PUBLISHED_STORAGE)})"
                )
                facts = self._facts(connection, lake)
                for schema, table in connection.execute(
                    "SELECT schema_name, table_name FROM duckdb_tables()"
                    " WHERE database_name <> 'published' AND table_name NOT IN (?, ?) ORDER BY ALL",
                    [FOOTERS, ROLLED_UP],
                ).fetchall():
                    connection.execute(f"CREATE SCHEMA IF NOT EXISTS published.{identifier(schema)}")
                    target = f"published.{identifier(schema)}.{identifier(table)}"
                    connection.execute(f"CREATE TABLE {target} AS FROM {identifier(schema)}.{identifier(table)}")
                views = "SELECT sql FROM duckdb_views() WHERE NOT internal AND database_name <> 'published'"
                # Their texts name no database: in the copy they read the copy's tables.
                [own] = connection.execute("SELECT current_database()").fetchone() or [""]
                connection.execute("USE published")
                for (text,) in connection.execute(views).fetchall():
                    connection.execute(text)
                connection.execute(f"USE {identifier(own)}")
                if facts:
                    connection.execute(f"CREATE VIEW published.main.cloud_cost_facts AS SELECT * FROM {facts}")
                connection.execute("DETACH published")
            os.utime(temporary)
            os.replace(temporary, self.published)
        finally:
            temporary.unlink(missing_ok=True)
            Path(f"{temporary}.wal").unlink(missing_ok=True)
        return self.published

    def _facts(self, connection: duckdb.DuckDBPyConnection, lake: Lake) -> str | None:
        """SQL: all facts as one relation; None where there are none. On a lake on a store they are fetched first.

        Files attributed under other dimensions have other columns: then a query has to open every file before it knows
        its columns, which for three years of days takes seconds. Where all have the same it opens those that it reads.
        """
        files = lake.files(lake.root / "facts", "*/*/data.parquet")
        if not files:
            return None
        footers = self._footers(connection, files)
        everything = literal(str(lake.root.absolute() / "facts" / "*" / "*" / "data.parquet"))
        union = ", union_by_name = true" if len({columns for columns, _ in footers.values()}) > 1 else ""
        facts = (
            f"read_parquet({everything}, hive_partitioning = true{union},"
            " hive_types = {'source': VARCHAR, 'charge_date': DATE})"
        )
        held = self._not_rolled_up(connection, {file: stamp for file, (_, stamp) in footers.items()})
        if not held:
            return facts
        listed = ", ".join(f"({literal(source)}, DATE {literal(str(day))})" for source, day in held)
        return f"{facts} WHERE (source, charge_date) NOT IN ({listed})"

    def _not_rolled_up(
        self, connection: duckdb.DuckDBPyConnection, stamps: dict[Path, str | None]
    ) -> list[tuple[str, date]]:
        """(source, day) of the facts that the rollup is not built from: a gate holds them.

        Days that were rolled up before that was recorded are taken as they are.
        """
        if not self.has(connection, ROLLED_UP):
            return []
        found = connection.execute(f"SELECT source, charge_date, stamp FROM {ROLLED_UP}").fetchall()
        built = {(source, day): stamp for source, day, stamp in found}
        recorded = {day for _, day in built}
        unrecorded = {
            day
            for (day,) in connection.execute("SELECT DISTINCT charge_date FROM daily_cost_by_team").fetchall()
            if day not in recorded
        }
        keys = {file: source_and_day(file) for file in stamps}
        return sorted(
            key for file, key in keys.items() if key[1] not in unrecorded and built.get(key, "") != stamps[file]
        )

    @staticmethod
    def _footers(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> dict[Path, tuple[str, str | None]]:
        """Columns with types, and stamp, of each facts file; a footer that was read before is not read again."""
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {FOOTERS} (path VARCHAR, modified BIGINT, columns VARCHAR, stamp VARCHAR)"
        )
        held = connection.execute(f"SELECT path, modified, columns, stamp FROM {FOOTERS}").fetchall()
        known = {(path, at): (columns, stamp) for path, at, columns, stamp in held}
        now = {}
        for file in files:
            key = (str(file), file.stat().st_mtime_ns)
            now[key] = known.get(key) or (
                "; ".join(sorted(f"{c.name} {c.type}" for c in pq.read_schema(file))),
                stamp_of(file),
            )
        if now != known:
            rows = [(*key, *footer) for key, footer in now.items()]
            kinds = {"path": pa.string(), "modified": pa.int64(), "columns": pa.string(), "stamp": pa.string()}
            arrays = [pa.array(column, kind) for column, kind in zip(zip(*rows), kinds.values())]
            connection.register("footers_read", pa.table(arrays, names=list(kinds)))
            connection.execute(f"CREATE OR REPLACE TABLE {FOOTERS} AS FROM footers_read")
            connection.unregister("footers_read")
            # What is left for the end would make the pipeline's file newer than its copy.
            connection.execute("CHECKPOINT")
        return {Path(path): footer for (path, _), footer in now.items()}
