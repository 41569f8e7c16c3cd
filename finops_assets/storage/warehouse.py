"""The warehouse: one DuckDB file that the pipeline writes, and a published copy that people read.

DuckDB lets one process write a file, and no other open it meanwhile. So people and BI tools open the
published copy: it is written beside and renamed over, and whoever holds the old one keeps reading it.
The facts of that copy lie beside it, see `published_facts`.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import duckdb

from finops_assets.base.content import version_of
from finops_assets.base.errors import WarehouseError
from finops_assets.base.files import replacing
from finops_assets.base.interrupts import stopped_by_signals
from finops_assets.base.processes import holding_open, is_ours, name_of
from finops_assets.base.sql import identifier, literal
from finops_assets.base.waiting import PATIENCE_MINUTES, Wait
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.duck import file_list
from finops_assets.storage.lake import Lake
from finops_assets.storage.published_facts import PublishedFacts, same_columns
from finops_assets.tables import ddl, declarations

# The oldest storage that the tools of people who are still on DuckDB 1.x can open.
PUBLISHED_STORAGE = "v1.0.0"
ROLLED_UP, FACTS = "rolled_up_facts", "cloud_cost_facts"
MADE_AS = "finops_made_as"
"""A macro of the published copy: by what its tables and views were made."""
FOOTERS = "facts_footers"
"""A table of earlier versions: what stood in the footers of the lake's facts."""


_KEPT: list[dict[Path, duckdb.DuckDBPyConnection]] = []


class Warehouse:
    """The pipeline's file and its published copy."""

    def __init__(self, path: Path, published: Path, wait_minutes: float = PATIENCE_MINUTES) -> None:
        self.path = path
        self.published = published
        self.wait_minutes = wait_minutes

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The warehouse, for this process alone. While another has it this one waits, and says for whom.

        Raises:
            WaitedTooLong: another process has had it open for longer than `wait_minutes`.
            WarehouseError: it cannot be opened.
        """
        connection = self._connect()
        try:
            if _KEPT and self.path not in _KEPT[-1]:
                _KEPT[-1][self.path] = duckdb.connect(str(self.path))
            yield connection
        finally:
            connection.close()

    reading = writing

    def _connect(self) -> duckdb.DuckDBPyConnection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        wait = Wait(self.wait_minutes * 60)
        while True:
            try:
                connection = stopped_by_signals(duckdb.connect(str(self.path)))
            except duckdb.IOException as error:
                if "lock" not in str(error).lower():
                    raise WarehouseError(
                        f"warehouse {self.path}: cannot be opened: {error}. Only the pipeline writes this file;"
                        f" people read {self.published}"
                    ) from error
                wait.goes_on(partial(self._held_by, str(error)))
                time.sleep(random.uniform(0.05, 0.3))
            else:
                connection.execute("SET timezone = 'UTC'")
                connection.execute("SET enable_progress_bar = false")
                return connection

    def _held_by(self, complaint: str) -> str:
        """For whom one waits; DuckDB's complaint names the process where it knows it."""
        named = re.search(r"held in (.+?) \(PID (\d+)\)", complaint)
        pids = [int(named[2])] if named else holding_open(self.path)
        if not pids:
            return (
                f"the warehouse {self.path}: a process of another machine or container has it open; close it there, or"
                f" point it at {self.published.name}"
            )
        pid = pids[0]
        name = name_of(pid) or (Path(named[1]).name if named else "of another user")
        if is_ours(pid):
            return f"the warehouse: process {pid} ({name}) of this platform is at work on it"
        return f"the warehouse: process {pid} ({name}) has it open; close it, or point it at {self.published.name}"

    @contextmanager
    def transaction(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """All of the block or nothing of it."""
        connection.execute("BEGIN")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            # A commit that failed has ended the transaction itself; what is told is why.
            with suppress(duckdb.TransactionException):
                connection.execute("ROLLBACK")
            raise

    def replace_days(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        days: Iterable[date],
        query: str | None,
        dimensions: Iterable[str] = (),
    ) -> None:
        """Replace these days of a table (by charge_date), within a transaction; no query: they become empty.

        A column that the table does not have yet is added; days from before it have NULL there. `dimensions` are those of
        finops.yaml: a column of one that is there no more stays until no day has it.

        Raises:
            LookupError: the table is not declared (`tables`).
        """
        name = identifier(table)
        if query is not None:
            ddl.create(connection, table, dimensions=dimensions)
        if self.has(connection, table):
            connection.execute(f"DELETE FROM {name} WHERE list_contains(?, charge_date)", [list(days)])
        if query is not None:
            connection.execute(f"INSERT INTO {name} BY NAME {query}")
            declared = declarations.table(table, dimensions=dimensions)
            for gone in ddl.dimensions_of(connection, table) if declared.by_dimensions else ():
                column = identifier(gone)
                if (
                    gone not in {c.name for c in declared.columns}
                    and not connection.execute(f"SELECT 1 FROM {name} WHERE {column} IS NOT NULL LIMIT 1").fetchall()
                ):
                    connection.execute(f"ALTER TABLE {name} DROP COLUMN {column}")

    @staticmethod
    def has(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
        """Is there such a table? Before the first good day there is none."""
        schemas = [schema for schema, name in declarations.TABLES if name == table] or ["main"]
        return any(ddl.has(connection, table, schema) for schema in schemas)

    def is_published(self) -> bool:
        """Is the published copy as new as what the pipeline wrote?"""
        if not self.published.is_file() or not self.path.is_file():
            return False
        return self.published.stat().st_mtime_ns >= self.path.stat().st_mtime_ns

    def publish(self, lake: Lake, dimensions: Iterable[str] = ()) -> Path:
        """Copy every table and view into a new published file with a view over the facts, and put it in place at once.

        All of it is of one moment, and stays so: the view names facts files that nothing changes (`PublishedFacts`). A
        process that is killed leaves the copy of before, whole.
        """
        facts, now = PublishedFacts(facts_folder(self.published)), datetime.now(UTC)
        # To the end within the lock: of two that publish at once the one that saw more comes last.
        with self.writing() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {FOOTERS}")
            # What is left for the end would make the pipeline's file newer than its copy.
            connection.execute("CHECKPOINT")
            files = facts.pin(lake, *self._rolled_up(connection))
            with replacing(self.published) as temporary:
                try:
                    self._write_copy(connection, temporary, facts_view(files), dimensions)
                finally:
                    Path(f"{temporary}.wal").unlink(missing_ok=True)
                note = facts.enter(files, now)
                os.utime(temporary)
            facts.let_go(note, now)
        return self.published

    def _write_copy(
        self, connection: duckdb.DuckDBPyConnection, target: Path, facts: str | None, dimensions: Iterable[str]
    ) -> None:
        """Write a new file with every declared table, every view, and a view over these facts."""
        [own] = connection.execute("SELECT current_database()").fetchone() or [""]
        tables, views = _to_publish(connection, own, dimensions)
        connection.execute(f"ATTACH {literal(str(target))} AS published (STORAGE_VERSION {literal(PUBLISHED_STORAGE)})")
        try:
            empty = self._empty_as_before(connection, version_of(tables, views))
            # Each of some hundred statements would otherwise be forced to the disk by itself.
            with self.transaction(connection):
                if not empty:
                    _make_empty(connection, own, tables, views)
                for each in tables:
                    if each.view:
                        continue
                    held = {row[0] for row in connection.execute(f"DESCRIBE {each.full_name}").fetchall()}
                    listed = ", ".join(identifier(c.name) for c in each.columns if c.name in held)
                    connection.execute(
                        f"INSERT INTO published.{each.full_name} BY NAME SELECT {listed} FROM {each.full_name}"
                    )
                if facts:
                    connection.execute(f"CREATE VIEW published.main.{FACTS} AS SELECT * FROM {facts}")
                    ddl.comment(connection, declarations.facts_table(dimensions), "published")
        finally:
            connection.execute(f"USE {identifier(own)}")
            connection.execute("DETACH published")

    def _empty_as_before(self, connection: duckdb.DuckDBPyConnection, wanted: str) -> bool:
        """Have the tables and views of the copy of before, empty, if nothing is wanted otherwise (`_made_as`).

        To make them anew, with their hundreds of comments, takes as long as all rows of a small copy.
        """
        try:
            connection.execute(f"ATTACH {literal(str(self.published))} AS before (READ_ONLY)")
        except duckdb.Error:  # there is none, or none that can be read
            return False
        try:
            [(made_as,)] = connection.execute(f"SELECT before.main.{MADE_AS}()").fetchall()
            if made_as != _made_as(connection, "before", wanted):
                return False
            connection.execute("COPY FROM DATABASE before TO published (SCHEMA)")
            connection.execute(f"DROP VIEW IF EXISTS published.main.{FACTS}")
        except duckdb.Error:  # of an earlier version of this product
            return False
        finally:
            connection.execute("DETACH before")
        return True

    def _rolled_up(
        self, connection: duckdb.DuckDBPyConnection
    ) -> tuple[dict[tuple[str, date], str | None], list[date]]:
        """The stamp of the facts that the rollup is built from, by (source, day); and the days rolled up before that
        was recorded."""
        if not self.has(connection, "daily_cost_by_team"):
            return {}, []
        rolled = connection.execute("SELECT DISTINCT charge_date FROM daily_cost_by_team").fetchall()
        if not self.has(connection, ROLLED_UP):
            return {}, [day for (day,) in rolled]
        found = connection.execute(f"SELECT source, charge_date, stamp FROM {ROLLED_UP}").fetchall()
        recorded = {day for _, day, _ in found}
        return {(source, day): stamp for source, day, stamp in found}, [d for (d,) in rolled if d not in recorded]


def _to_publish(
    connection: duckdb.DuckDBPyConnection, own: str, dimensions: Iterable[str]
) -> tuple[list[declarations.Table], dict[tuple[str, str], str]]:
    """The tables and views of the warehouse that are declared, and the texts of all views.

    What is not declared was left by an earlier version, or made by somebody else: then it is nothing to rely on.
    """
    views = {
        (schema, name): text
        for schema, name, text in connection.execute(
            "SELECT schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal AND database_name = ?", [own]
        ).fetchall()
    }
    found = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY ALL", [own]
    ).fetchall()
    tables = []
    for key in [*found, *views]:
        known = declarations.TABLES.get(key)
        if known is not None and known.published:
            # Those of finops.yaml, and those that are there no more but that some days are by: views may name them.
            of_days = (
                ddl.dimensions_of(connection, known.name) if known.by_dimensions and known.schema == "main" else ()
            )
            tables.append(declarations.with_dimensions(known, [*dimensions, *of_days]))
    return tables, views


def _make_empty(
    connection: duckdb.DuckDBPyConnection,
    own: str,
    tables: list[declarations.Table],
    views: dict[tuple[str, str], str],
) -> None:
    """Make the tables and views of a copy, with what they mean."""
    for each in tables:
        if not each.view:
            ddl.make(connection, each, "published")
    # Their texts name no database: in the copy they read the copy's tables.
    connection.execute("USE published")
    for text in views.values():
        connection.execute(text)
    connection.execute(f"USE {identifier(own)}")
    for each in tables:
        ddl.comment(connection, each, "published")
    made_as = _made_as(connection, "published", version_of(tables, views))
    connection.execute(f"CREATE MACRO published.main.{MADE_AS}() AS {literal(made_as)}")


def _made_as(connection: duckdb.DuckDBPyConnection, copy: str, wanted: str) -> str:
    """What was wanted of a copy's tables and views, and what there is of them: somebody may have had a hand in it."""
    there = connection.execute(
        "SELECT schema_name, table_name, sql, comment FROM duckdb_tables() WHERE database_name = $copy UNION ALL"
        # The text of a view gains and loses parentheses from file to file; who makes it anew takes what is said of it.
        " SELECT schema_name, view_name, NULL, comment FROM duckdb_views() WHERE database_name = $copy AND NOT internal"
        " AND view_name <> $facts ORDER BY ALL",
        {"copy": copy, "facts": FACTS},
    ).fetchall()
    return version_of(wanted, there)


@contextmanager
def kept_open() -> Iterator[Callable[[], None]]:
    """Within the block a warehouse that was opened stays open in this process, until what is yielded is called or the
    block ends: to open it again then costs a fiftieth. Whoever waits for another process lets go before.
    """
    kept: dict[Path, duckdb.DuckDBPyConnection] = {}

    def let_go() -> None:
        while kept:
            kept.popitem()[1].close()

    _KEPT.append(kept)
    try:
        yield let_go
    finally:
        # By what it is: two that hold nothing are equal.
        _KEPT[:] = [each for each in _KEPT if each is not kept]
        let_go()


def facts_folder(published: Path) -> Path:
    """Where the facts of a published copy lie: beside it."""
    return published.with_name(f"{published.name}.facts").absolute()


def facts_view(files: list[Path]) -> str | None:
    """SQL: facts files as one relation that DuckDB 1.0 and later read; None where there are none.

    Files attributed under other dimensions have other columns: then a query has to open every file before it knows
    its columns, which for three years of days takes seconds. Where all have the same it opens those that it reads.
    """
    if not files:
        return None
    union = not same_columns(files)
    if any("=" in part for part in files[0].parts[:-3]):
        # Every `name=value` above would be a column, too. DuckDB 1.0 cannot read this, 1.x opens every file for it.
        return facts_relation(files, of_any_rules=union)
    return (
        f"read_parquet({file_list(files)}, hive_partitioning = true{', union_by_name = true' if union else ''},"
        " hive_types = {'source': VARCHAR, 'charge_date': DATE})"
    )
