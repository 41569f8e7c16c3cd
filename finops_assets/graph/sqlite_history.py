"""Dagster's history in SQLite, in the files in which Dagster has it, without what costs most of writing it.

Dagster's own storage makes an engine for each event, so that SQLAlchemy compiles every statement anew; each event is
up to five transactions, each forced to the disk by itself; for each it looks whether its tables are there and which
columns they have; and of each file that it opens or makes it asks Alembic, which reads all its migrations for that.
Here what is known of a file is kept, and what was read of an asset until somebody writes of it; a run's file is a copy of an empty one, an event (or as many as stand `together`) is
a transaction a file, and a commit waits for no disk: after a kill all that was committed is there; after a loss of power
the last events may be missing, never a file broken. Money does not depend on them: what is built and published is known by the lake and the warehouse.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status
from dagster._core.storage.event_log.base import AssetRecord
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetKeyTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import create_db_conn_string
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, bindparam, create_engine, event

from finops_assets.base.files import replacing
from finops_assets.base.scratch import beside

BUSY_SECONDS = 60
_OF_ALL_RUNS = ASSET_EVENTS | ASSET_CHECK_EVENTS | EVENT_TYPE_TO_PIPELINE_RUN_STATUS.keys()
"""The events that stand in the index, besides in their run's file."""
_CHECKS = AssetCheckExecutionsTable
_EVENT = SqlEventLogStorageTable.insert()
_OF_ASSET = AssetKeyTable.update().where(AssetKeyTable.c.asset_key == bindparam("of_asset_key"))
_VERDICT = _CHECKS.update().where(
    _CHECKS.c.asset_key == bindparam("of_asset_key"),
    _CHECKS.c.check_name == bindparam("of_check_name"),
    _CHECKS.c.run_id == bindparam("of_run_id"),
    _CHECKS.c.partition.is_not_distinct_from(bindparam("of_partition")),
)
KEPT_FILES = 64  # a run has a file of its own
Opened = TypeVar("Opened", SqliteRunStorage, SqliteScheduleStorage)


class SqliteHistory(DagsterSqliteStorage):
    """Dagster's own three storages below `base_dir`; named in dagster.yaml."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]  # its own would make three storages, too
        self.base_dir, self._inst_data = base_dir, inst_data
        history = Path(base_dir, "history")
        self._run_storage = _opened(_Runs, history, "runs")
        self._event_log_storage = _Events(str(history / "runs"))
        self._schedule_storage = _opened(_Schedules, Path(base_dir, "schedules"), "schedules")

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> SqliteHistory:
        return cls.from_local(inst_data=inst_data, base_dir=beside_dagster_yaml(config_value["base_dir"]))


def beside_dagster_yaml(folder: str) -> str:
    """A folder that dagster.yaml names, from where that file lies: $DAGSTER_HOME, else the current folder.

    Dagster's own classes take it from the current folder always: a command that is started elsewhere has a history of its own.
    """
    return str(Path(os.environ.get("DAGSTER_HOME") or "", folder))


@contextmanager
def together(instance: dg.DagsterInstance) -> Iterator[None]:
    """The events of the block that go to a history of ours are one transaction a file: all of them or none.

    Others who want to write wait meanwhile: it is for some dozens of events that are there at once.
    """
    storage = instance.event_log_storage
    if isinstance(storage, _Events):
        with storage.together():
            yield
    else:
        yield


class _Events(SqliteEventLogStorage):
    _as_of: tuple[object, ...] | None
    """The state of the index that what is remembered is of; None: nothing is."""
    _records: dict[dg.AssetKey, AssetRecord | None]
    _tags: dict[tuple[object, ...], Mapping[str, Mapping[str, str]]]

    def __init__(self, base_dir: str) -> None:
        self._there: set[str] = set()
        self._held: dict[str, Connection] | None = None
        self._forget(None)
        super().__init__(base_dir)
        # Whoever has the history of this process to itself asks it again.
        self._db_lock = threading.RLock()  # type: ignore[assignment]  # what it does is the same

    @contextmanager
    def together(self) -> Iterator[None]:
        """As above."""
        with self._db_lock:
            if self._held is not None:
                yield
                return
            with ExitStack() as self._open:
                self._held = {}
                try:
                    yield
                except BaseException:
                    self._forget(None)  # what was read within has not happened
                    raise
                finally:
                    self._held = None

    def store_event(self, event: dg.EventLogEntry) -> None:
        """As Dagster's own does, but that the event is made text once, and by statements that are compiled once."""
        row = self._event_to_row(event)
        kind = event.dagster_event_type if event.is_dagster_event else None
        with self.together():
            with self.run_connection(event.run_id) as run:
                run.execute(_EVENT, row)
            if kind not in _OF_ALL_RUNS:
                return
            with self.index_connection() as index:
                remembered = self._as_of == _state_of(index)
                event_id = index.execute(_EVENT, row).inserted_primary_key[0]  # type: ignore[index]  # a row has one
                if kind in ASSET_EVENTS:
                    self._store_asset_event_tags(index, [event], [event_id])
                    self._store_asset_event(index, event, event_id)
                elif kind in ASSET_CHECK_EVENTS:
                    self._store_check_event(index, event, event_id, row)
                if remembered:
                    key = event.get_dagster_event().asset_key
                    self._records = {k: record for k, record in self._records.items() if k != key}
                    self._tags = {asked: tags for asked, tags in self._tags.items() if asked[0] != key}
                    self._as_of = _state_of(index)

    def get_asset_records(self, asset_keys: Sequence[dg.AssetKey] | None = None) -> Sequence[AssetRecord]:
        """Of assets that are named, as remembered. Each step of a run asks for those of its inputs, twice."""
        if asset_keys is None:
            return super().get_asset_records()
        with self._db_lock:
            self._forget_what_changed()
            asked = list(dict.fromkeys(asset_keys))
            unknown = [key for key in asked if key not in self._records]
            if unknown:
                found = {record.asset_entry.asset_key: record for record in super().get_asset_records(unknown)}
                self._records |= {key: found.get(key) for key in unknown}
            return [record for key in asked if (record := self._records[key])]

    def get_latest_materialization_events(
        self, asset_keys: Iterable[dg.AssetKey]
    ) -> Mapping[dg.AssetKey, dg.EventLogEntry | None]:
        made = {
            record.asset_entry.asset_key: record.asset_entry.last_materialization_record
            for record in self.get_asset_records(list(asset_keys))
        }
        return {key: record and record.event_log_entry for key, record in made.items()}

    def get_latest_tags_by_partition(
        self,
        asset_key: dg.AssetKey,
        event_type: dg.DagsterEventType,
        tag_keys: Sequence[str],
        asset_partitions: Sequence[str] | None = None,
        before_cursor: int | None = None,
        after_cursor: int | None = None,
    ) -> Mapping[str, Mapping[str, str]]:
        """As remembered."""
        days = asset_partitions and tuple(asset_partitions)
        with self._db_lock:
            self._forget_what_changed()
            asked = (asset_key, event_type, tuple(tag_keys), days, before_cursor, after_cursor)
            if asked not in self._tags:
                self._tags[asked] = super().get_latest_tags_by_partition(
                    asset_key, event_type, tag_keys, asset_partitions, before_cursor, after_cursor
                )
            return self._tags[asked]

    def _forget_what_changed(self) -> None:
        """Remember nothing of before anybody wrote to the index, but for events of ours, which say of which asset they are."""
        with self.index_connection() as index:
            now = _state_of(index)
        if now != self._as_of:
            self._forget(now)

    def _forget(self, now: tuple[object, ...] | None) -> None:
        self._as_of = now
        self._records, self._tags = {}, {}

    def _store_asset_event(self, conn: Connection, event: dg.EventLogEntry, event_id: int) -> None:
        key = event.get_dagster_event().asset_key
        values = key and self._get_asset_entry_values(
            event, event_id, self._has_asset_key_index_cols_on_connection(conn)
        )
        if key and values and not conn.execute(_OF_ASSET, {"of_asset_key": key.to_string(), **values}).rowcount:
            conn.execute(AssetKeyTable.insert(), {"asset_key": key.to_string(), **values})

    def _store_check_event(
        self, index: Connection, event: dg.EventLogEntry, event_id: int, row: dict[str, Any]
    ) -> None:
        """The check's place for a run and a day: planned, or with its verdict."""
        about = event.get_dagster_event().event_specific_data
        assert isinstance(about, AssetCheckEvaluationPlanned | dg.AssetCheckEvaluation)
        values: dict[str, Any] = {
            "asset_key": about.asset_key.to_string(),
            "check_name": about.check_name,
            "run_id": row["run_id"],
            "evaluation_event": row["event"],
            "evaluation_event_timestamp": row["timestamp"],
            "evaluation_event_storage_id": event_id,
        }
        if isinstance(about, AssetCheckEvaluationPlanned):
            values["execution_status"] = Status.PLANNED.value
            days = about.partitions_subset.get_partition_keys() if about.partitions_subset else [None]
            index.execute(_CHECKS.insert(), [{**values, "partition": day} for day in days])
            return
        judged = about.target_materialization_data
        values |= {
            "execution_status": (Status.SUCCEEDED if about.passed else Status.FAILED).value,
            "materialization_event_storage_id": judged and judged.storage_id,
            "partition": about.partition,
        }
        of = {f"of_{name}": values[name] for name in ("asset_key", "check_name", "run_id", "partition")}
        # What is judged outside a run was never planned: it is another verdict, not the last one anew.
        if not row["run_id"] or not index.execute(_VERDICT, {**of, **values}).rowcount:
            index.execute(_CHECKS.insert(), values)

    def has_table(self, table_name: str) -> bool:
        # What is there stays there. Dagster asks for each event, by an engine of its own.
        if table_name not in self._there and super().has_table(table_name):
            self._there.add(table_name)
        return table_name in self._there

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        known = f"column {column_name}"
        if known not in self._there and super()._has_asset_key_col_on_connection(conn, column_name):
            self._there.add(known)
        return known in self._there

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:
        """The tables of a file, which is one run's or, `for_index_shard` or already there, the index of all."""
        file = Path(str(engine.url.database))
        if not for_index_shard and not file.exists():
            self._copy_of_empty(file)
        if not _has_version(file):
            super()._initdb(engine, for_index_shard)

    def _copy_of_empty(self, file: Path) -> None:
        """Have a run's file as Dagster makes one, if no other process has made it meanwhile."""
        empty = Path(self._base_dir).parent / f"empty_run-{dg.__version__}.sqlite"
        if not empty.exists():
            with replacing(empty) as temporary:
                engine = create_engine(f"sqlite:///{temporary}")
                super()._initdb(engine)
                engine.dispose()
        temporary = beside(file)
        try:
            shutil.copyfile(empty, temporary)
            with suppress(FileExistsError):
                os.link(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _connect(self, shard: str) -> Generator[Connection, None, None]:
        with self._db_lock:
            if self._held is not None and shard in self._held:
                yield self._held[shard]
                return
            engine = _engine(self.conn_string_for_shard(shard), os.getpid())
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            if self._held is not None:
                self._held[shard] = self._open.enter_context(engine.begin())
                yield self._held[shard]
                return
            with engine.begin() as connection:
                yield connection


class _Runs(SqliteRunStorage):
    @contextmanager
    def connect(self) -> Generator[Connection, None, None]:
        with _engine(self._conn_string, os.getpid()).begin() as connection:
            yield connection


class _Schedules(SqliteScheduleStorage):
    @contextmanager
    def connect(self) -> Generator[Connection, None, None]:
        with _engine(self._conn_string, os.getpid()).begin() as connection:
            yield connection


def _state_of(index: Connection) -> tuple[object, ...]:
    """What is another after each change of the file: of this connection, or of any other, in whatever process."""
    own: Any = index.connection.driver_connection
    return own, own.execute("PRAGMA data_version").fetchone()[0], own.total_changes


def _opened(kind: type[Opened], folder: Path, name: str) -> Opened:
    """A storage of one file, made by Dagster if it is not there."""
    if _has_version(folder / f"{name}.db"):
        return kind(create_db_conn_string(str(folder), name))
    return kind.from_local(str(folder))


def _has_version(file: Path) -> bool:
    """Has Alembic noted a version in this file? More Dagster does not ask, either."""
    if not file.exists():
        return False
    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as connection, suppress(sqlite3.OperationalError):
        return bool(connection.execute("SELECT version_num FROM alembic_version").fetchone())
    return False


@lru_cache(KEPT_FILES)
def _engine(address: str, _process: int) -> Engine:
    """What SQLAlchemy knows of a file in this process, and a connection: whoever closes the last one writes all to the disk."""
    engine = create_engine(address, pool_size=1, max_overflow=-1, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _wait_for_no_disk(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine
