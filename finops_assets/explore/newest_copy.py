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
from finops_assets.cost.reach import ALL, WHOLE, Reach, narrow
from finops_assets.explore.remembering import Memory, Remembering
from finops_assets.settings.model import Settings
from finops_assets.storage.published_copy import ANEW, Copy, OlderCopy, columns_held, lacks_told, open_copy
from finops_assets.storage.warehouse import facts_folder

Identity = tuple[int, int, int]
NOT_WHOLE = (duckdb.BinderException, duckdb.CatalogException, duckdb.IOException, duckdb.PermissionException)
"""A column or a table of it is not there, or its facts are not, or not beside it."""


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
        self._copy: Copy | None = None
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
            assert self._copy is not None
            copy, memory = self._copy, self._memory
            cursor = copy.connection.cursor()
            self._readers += 1
        try:
            with copy.told():
                yield Opened(Remembering(cursor, memory), datetime.fromtimestamp(identity[1] / 1e9, UTC), self.reach)
        except OlderCopy as error:
            raise NoCopy(str(error)) from error
        except NOT_WHOLE as error:
            said = str(error).partition("\n")[0]
            raise NoCopy(f"published copy {self.path} is not whole, or another version's ({said}); {ANEW}") from error
        finally:
            cursor.close()
            with self._free:
                self._readers -= 1
                self._free.notify_all()

    def close(self) -> None:
        with self._free:
            if self._copy is not None:
                self._copy.connection.close()
            self._copy = self._identity = None

    def _newest(self) -> Identity:
        try:
            found = self.path.stat()
        except OSError as error:
            raise NoCopy(
                f"{self.path} is not there yet ({error.strerror}); run days first (`finops run FROM TO`), or {ANEW}"
            ) from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _open(self, identity: Identity) -> None:
        if self._copy is not None:
            self._copy.connection.close()
            self._copy = self._identity = None
        try:
            memory_limit = "SET memory_limit = ?", [self._engine.memory_limit.replace(" ", "")]
            if self.reach.whole:
                copy = open_copy(self.path)
                copy.connection.execute(*memory_limit)
            else:
                connection = duckdb.connect()
                connection.execute("SET timezone = 'UTC'")
                connection.execute(*memory_limit)
                narrow(connection, self.path, self.reach, facts_of_its_own=False)
                copy = Copy(connection, lacks_told(self.path, columns_held(connection, WHOLE)))
        except duckdb.Error as error:
            raise NoCopy(f"published copy {self.path} cannot be opened ({error}); {ANEW}") from error
        # Nothing but the copy and its facts can be read, whatever a query says.
        copy.connection.execute("SET allowed_directories = ?", [[str(facts_folder(self.path))]])
        copy.connection.execute("SET enable_external_access = false")
        copy.connection.execute("SET lock_configuration = true")
        self._copy, self._identity, self._memory = copy, identity, Memory()


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
