"""Dagster's history in SQLite, in the files in which Dagster has it, without what costs most of writing it.

Dagster's own storage makes an engine for each event, so that SQLAlchemy compiles every statement anew, and each event is
forced to the disk by itself. Here what SQLAlchemy knows of a file is kept, and a commit waits for no disk: after a kill all
that was committed is there; after a loss of power the last events may be missing, never a file broken. Money does not
depend on them: what is built and published is known by the lake and the warehouse.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event

BUSY_SECONDS = 60
KEPT_FILES = 64  # a run has a file of its own


class SqliteHistory(DagsterSqliteStorage):
    """Dagster's own three storages below `base_dir`; named in dagster.yaml."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]  # its own would make three storages, too
        self.base_dir, self._inst_data = base_dir, inst_data
        history = Path(base_dir, "history")
        self._run_storage = _Runs.from_local(str(history))
        self._event_log_storage = _Events(str(history / "runs"))
        self._schedule_storage = _Schedules.from_local(str(Path(base_dir, "schedules")))

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> SqliteHistory:
        return cls.from_local(inst_data=inst_data, **config_value)


class _Events(SqliteEventLogStorage):
    @contextmanager
    def _connect(self, shard: str) -> Generator[Connection, None, None]:
        with self._db_lock:
            engine = _engine(self.conn_string_for_shard(shard), os.getpid())
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
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


@lru_cache(KEPT_FILES)
def _engine(address: str, _process: int) -> Engine:
    """What SQLAlchemy knows of a file in this process, and a connection: whoever closes the last one writes all to the disk."""
    engine = create_engine(address, pool_size=1, max_overflow=-1, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _wait_for_no_disk(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine
