"""The published copy as it is now: opened read only, and opened anew once a newer one has taken its place."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from finops_assets.base.errors import FinopsError
from finops_assets.cost.reach import ALL, Reach, narrow
from finops_assets.explore.remembering import Memory, Remembering
from finops_assets.settings.model import Settings
from finops_assets.storage.warehouse import facts_folder

ANEW = "`finops publish` makes it anew from the warehouse"
Identity = tuple[int, int, int]


class NoCopy(FinopsError):
    """There is nothing to show: the published copy is not there, is damaged, or another version's."""


@dataclass(frozen=True)
class Opened:
    """A way to ask one copy, which stays that copy while it is used."""

    connection: Remembering
    published_at: datetime
    reach: Reach = ALL
    """Whose cost is in it: nothing else can be asked of the connection."""


class NewestCopy:
    """One open copy for all requests of one reach. Whoever reads keeps what he reads; who comes after a newer copy reads
    that one."""

    def __init__(self, settings: Settings, reach: Reach = ALL) -> None:
        self.path = settings.published
        self.reach = reach
        self._engine = settings.engine
        self._free = threading.Condition()
        self._readers = 0
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._identity: Identity | None = None
        self._memory = Memory()

    @contextmanager
    def reading(self) -> Iterator[Opened]:
        """
        Raises:
            NoCopy: it is not there, or cannot be opened.
        """
        with self._free:
            identity = self._newest()
            if identity != self._identity:
                # DuckDB has a file open once in a process: the old one must be let go of first.
                self._free.wait_for(lambda: self._readers == 0 or self._newest() == self._identity)
                identity = self._newest()
                if identity != self._identity:
                    self._open(identity)
            assert self._connection is not None
            cursor, memory = self._connection.cursor(), self._memory
            self._readers += 1
        try:
            yield Opened(Remembering(cursor, memory), datetime.fromtimestamp(identity[1] / 1e9, UTC), self.reach)
        except (duckdb.CatalogException, duckdb.IOException) as error:
            raise NoCopy(f"published copy {self.path} is not whole, or another version's ({error}); {ANEW}") from error
        finally:
            cursor.close()
            with self._free:
                self._readers -= 1
                self._free.notify_all()

    def close(self) -> None:
        with self._free:
            if self._connection is not None:
                self._connection.close()
            self._connection = self._identity = None

    def _newest(self) -> Identity:
        try:
            found = self.path.stat()
        except OSError as error:
            raise NoCopy(
                f"{self.path} is not there yet ({error.strerror}); run days first (`finops run FROM TO`), or {ANEW}"
            ) from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _open(self, identity: Identity) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = self._identity = None
        try:
            connection = duckdb.connect(str(self.path), read_only=True) if self.reach.whole else duckdb.connect()
            connection.execute("SET timezone = 'UTC'")
            connection.execute("SET memory_limit = ?", [self._engine.memory_limit.replace(" ", "")])
            if not self.reach.whole:
                narrow(connection, self.path, self.reach, facts_of_its_own=False)
        except duckdb.Error as error:
            raise NoCopy(f"published copy {self.path} cannot be opened ({error}); {ANEW}") from error
        # Nothing but the copy and its facts can be read, whatever a query says.
        connection.execute("SET allowed_directories = ?", [[str(facts_folder(self.path))]])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        self._connection, self._identity, self._memory = connection, identity, Memory()


MOST_COPIES = 32


class Copies:
    """A copy for each reach; those that were asked longest ago are let go of."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._copies: OrderedDict[Reach, NewestCopy] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, reach: Reach) -> NewestCopy:
        with self._lock:
            found = self._copies.get(reach)
            if found is None:
                found = self._copies[reach] = NewestCopy(self._settings, reach)
            self._copies.move_to_end(reach)
            while len(self._copies) > MOST_COPIES:
                self._copies.popitem(last=False)
            return found
