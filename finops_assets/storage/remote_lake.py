"""A lake on an object store: S3, Azure Blob Storage or Google Cloud Storage.

The store is the truth; a working copy on this machine is what the engine reads and may be deleted whenever
nothing runs. A file is uploaded whole before it takes its place in the working copy, and only over what this
process saw in the store: of two machines that write one file the later is told so, and nothing is lost.

A lake is looked at once: each part of it (`raw/source=aws/`, `ledger/aws/` …) is listed when it is first asked
for, and is that listing from then on. Which is listed first matters to whoever reads one and writes another.
"""

from __future__ import annotations

import filecmp
import os
import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import duckdb

from finops_assets.base.errors import LakeError
from finops_assets.base.sql import literal
from finops_assets.base.text import bytes_of
from finops_assets.settings.lake import LakeStore
from finops_assets.storage.duck import one_file
from finops_assets.storage.lake import Lake, LakeChanged
from finops_assets.storage.stores.open import open_store
from finops_assets.storage.stores.store import (
    ANY,
    PARALLEL_DOWNLOADS,
    FileChanged,
    StoredFile,
    StoreError,
    WritableStore,
    matches,
)

COPIES = ".copies.sqlite"
PROBE = ".conditions"
HERE_ALONE = ("unreleased/", "split/")
"""What stays on the machine that made it: the store gets facts when they have passed their gates."""
EVICTED_AFTER = timedelta(hours=2)
"""How long a copy stays after somebody asked for it, whatever `working_copy_limit` says: a piece of work may have it open."""
_EVICTED = ("landing/", "raw/")
"""The layers whose copies go. Facts stay: the published copy's are the same files under another name."""
ABANDONED_AFTER = timedelta(days=1)
"""How old a generation that nobody entered must be before it is removed: a landing that runs is younger."""

S = TypeVar("S")
T = TypeVar("T")
LOOKS = 3


def open_lake(place: Path | LakeStore, state: Path) -> Lake:
    """The lake of a setting; `state` is the folder below which the working copy of a remote one lies.

    Raises:
        LakeError: the store's package is not installed or finds no credentials.
    """
    if isinstance(place, Path):
        return Lake(place)
    try:
        store, _ = open_store(place.uri, place.endpoint_url)
    except (StoreError, ValueError) as error:
        raise LakeError(f"lake {place.uri}: {error}") from error
    if not isinstance(store, WritableStore):
        raise LakeError(f"lake {place.uri}: cannot be written; check `lake:` in finops.yaml")
    # Two lakes must never share a working copy, nor one name on two endpoints.
    mark = sha256(f"{place.uri} {place.endpoint_url or ''}".encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", place.uri).strip("-")
    limit = bytes_of(place.working_copy_limit) if place.working_copy_limit else None
    return RemoteLake(place.uri, store, (state / "lake-copy" / f"{name}-{mark}").absolute(), limit)


class RemoteLake(Lake):
    """One look at a lake on a store, through its working copy `root`."""

    setting = "warehouse:"

    def __init__(self, uri: str, store: WritableStore, root: Path, limit: int | None = None) -> None:
        """`limit`: the bytes that its working copy may hold of raw days and deliveries; None: any number."""
        super().__init__(root)
        self.uri = uri
        self.store = store
        self.limit = limit
        self._copies = _Copies(root)
        self._parts: dict[str, dict[str, StoredFile]] = {}
        self._seen: dict[str, _Row] = {}
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        return self.uri

    def anew(self) -> RemoteLake:
        return RemoteLake(self.uri, self.store, self.root, self.limit)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """As of a local lake; what the working copy holds above its limit goes before."""
        if self.limit is not None:
            self._copies.evict(self.limit, datetime.now(UTC))
        with super().workspace() as folder:
            yield folder

    # ---- reading ----

    def holds(self, file: Path) -> bool:
        key = self._key(file)
        return file.is_file() if key.startswith(HERE_ALONE) else key in self._part(key)

    def fetch(self, files: Iterable[Path]) -> list[Path]:
        files = list(files)
        if all(self._key(file).startswith(HERE_ALONE) for file in files):
            return super().fetch(files)
        keys = {file: key for file in files if (key := self._key(file)) in self._part(key)}
        self._download([self._part(key)[key] for key in keys.values()])
        return list(keys)

    def _names(self, folder: Path, pattern: str) -> list[Path]:
        below = f"{self._key(folder)}/"
        if below.count("/") == 1:
            self._list_layer(below)
            listed = [key for part in self._parts.values() for key in part]
        else:
            listed = list(self._part(below))
        wanted = (k for k in listed if k.startswith(below) and matches(k[len(below) :], pattern))
        return [self.root / key for key in sorted(wanted)]

    def _read(self, file: Path) -> str:
        if not self.fetch([file]):
            raise FileNotFoundError(file)
        return super()._read(file)

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _part(self, key: str) -> dict[str, StoredFile]:
        """The listing of the part that a key belongs to."""
        prefix = _prefix(key)
        with self._lock:
            if prefix not in self._parts:
                self._parts[prefix] = self._ledger(prefix) if prefix.startswith("ledger/") else self._listed(prefix)
            return self._parts[prefix]

    def _ledger(self, prefix: str) -> dict[str, StoredFile]:
        """A source's ledger, and its records. They are read as a whole: a few at a time, not one after another."""
        for _ in range(LOOKS - 1):
            listed = self._listed(prefix)
            try:
                self._download(list(listed.values()))
            except LakeChanged:
                continue  # nothing was read of it yet: look again
            return listed
        listed = self._listed(prefix)
        self._download(list(listed.values()))
        return listed

    def _list_layer(self, prefix: str) -> None:
        """List all parts of a layer at once."""
        parts: dict[str, dict[str, StoredFile]] = {}
        for key, file in self._listed(prefix).items():
            parts.setdefault(_prefix(key), {})[key] = file
        with self._lock:
            self._parts = parts | self._parts

    def _listed(self, prefix: str) -> dict[str, StoredFile]:
        """What the store holds below a prefix. What the working copy alone still holds goes from it."""
        before = self._copies.below(prefix)
        with self._asking():
            found = {file.key: file for file in self.store.list(prefix)}
        for key in before.keys() - found.keys():
            self._copies.drop(key, before[key])
        return found

    def _download(self, wanted: list[StoredFile]) -> None:
        """Have these versions in the working copy. What was seen there is only looked at again if it was replaced."""
        unseen = [f for f in wanted if self._seen.get(f.key) != (f.etag, _stat(self.root / f.key))]
        if not unseen:
            return
        keys = [file.key for file in unseen]
        rows = self._copies.of(keys) if self.limit is None else self._copies.asked_for(keys, datetime.now(UTC))
        missing = [file for file in unseen if not self._copies.is_here(file, rows.get(file.key))]
        if missing:
            self._get(missing, rows)
            rows |= self._copies.of([file.key for file in missing])
        for file in unseen:
            # Another process of this machine may have been faster; most often with the same version.
            if (row := rows.get(file.key)) is None or row[0] != file.etag:
                raise self._changed(file.key)
            self._seen[file.key] = row

    def _get(self, missing: list[StoredFile], before: Mapping[str, _Row]) -> None:
        scratch = self.root / ".work"
        with self.explaining(scratch):
            scratch.mkdir(parents=True, exist_ok=True)
            with self._asking(), self.store.local_root(missing, scratch) as folder:
                for file in missing:
                    self._copies.place(file.key, file.etag, folder / file.key, before.get(file.key))

    # ---- writing ----

    def _put(self, temporary: Path, target: Path, blind: bool) -> None:
        key = self._key(target)
        if key.startswith(HERE_ALONE):
            super()._put(temporary, target, blind)
            return
        part = self._part(key)
        seen = part.get(key)
        if not blind and not self._copies.noted("conditions"):
            self._require_conditions()
        before = self._copies.of([key]).get(key)
        with self._asking():
            try:
                part[key] = self.store.put(key, temporary, ANY if blind else seen.etag if seen else None)
            except FileChanged as error:
                same = self._same_there(key, temporary)
                if same is None:
                    raise self._changed(key) from error
                part[key] = same
        # Where another process of this machine was faster its copy stands, and is found to be another one.
        self._copies.place(key, part[key].etag, temporary, before)

    def _same_there(self, key: str, file: Path) -> StoredFile | None:
        """What the store holds, if it is what was to be written: an answer got lost, or another did the same work."""
        there = self.store.stat(key)
        if there is None or there.size != file.stat().st_size:
            return None
        with super().workspace() as scratch, self.store.local_root([there], scratch) as folder:
            return there if filecmp.cmp(folder / key, file, shallow=False) else None

    def adopt(self, folder: Path, target: Path) -> None:
        """As of a local lake; two machines that land one delivery write the same object for each day, never a mixture."""
        for day in folder.iterdir():
            _in_one_file(day)
        names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        part = self._part(self._key(target / "x"))

        def put(name: Path) -> StoredFile:
            return self.store.put(self._key(target / name), folder / name)

        with self.explaining(target), self._asking():
            stored = _several(put, names)
        super().adopt(folder, target)
        for file in stored:
            part[file.key] = file
            self._copies.enter(file)

    def remove(self, path: Path) -> None:
        key = self._key(path)
        if key.startswith(HERE_ALONE):
            super().remove(path)
            return
        part = self._part(f"{key}/")
        self._delete([k for k in part if k == key or k.startswith(f"{key}/")])
        super().remove(path)

    def drop_abandoned(self, kept: Path) -> None:
        scope, live = f"{self._key(kept.parent)}/", f"{self._key(kept)}/"
        young = datetime.now(UTC) - ABANDONED_AFTER
        others: dict[str, list[StoredFile]] = {}
        for key, file in self._part(scope).items():
            if key.startswith(scope) and not key.startswith(live):
                others.setdefault(key[len(scope) :].partition("/")[0], []).append(file)
        for files in others.values():
            if all(file.modified is not None and file.modified < young for file in files):
                self._delete([file.key for file in files])

    def _delete(self, keys: list[str]) -> None:
        copies = self._copies.of(keys)
        with self._asking():
            for key in keys:
                # Stores that delete on a condition are few, so an entry is looked at just before.
                if key.startswith("ledger/") and self.store.stat(key) != self._part(key)[key]:
                    raise self._changed(key)
            _several(self.store.delete, keys)
        for key in keys:
            self._part(key).pop(key, None)
            if key in copies:
                self._copies.drop(key, copies[key])

    def _require_conditions(self) -> None:
        """Ask once whether the store takes conditions at all: one that does not would lose entries in silence."""
        with self.workspace() as workspace, self._asking():
            file = workspace / PROBE
            file.write_text(uuid.uuid4().hex)
            first = self.store.put(PROBE, file)
            file.write_text(uuid.uuid4().hex)
            self.store.put(PROBE, file)
            for over in (first.etag, None):
                try:
                    self.store.put(PROBE, file, over)
                except FileChanged:
                    continue
                raise LakeError(
                    f"lake {self.uri}: the store takes no notice of {'If-Match' if over else 'If-None-Match'} in PUT"
                    " requests, so two machines could overwrite each other's entries; use a store or version that does,"
                    " or a local folder as `lake:` in finops.yaml"
                )
        self._copies.note("conditions")

    # ---- errors ----

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The store's complaints as ours."""
        try:
            yield
        except FileChanged as error:
            raise self._changed(error.key) from error
        except StoreError as error:
            raise LakeError(f"lake: {error}") from error
        except FileNotFoundError as error:
            raise LakeError(f"lake {self.uri}: {error}; another process removed it meanwhile, run again") from error

    def _changed(self, key: str) -> LakeChanged:
        return LakeChanged(
            f"lake {self.uri}: another process changed {key} meanwhile; what it wrote stands and nothing was replaced."
            " Run again: it begins with what is there now"
        )


_Stat = tuple[int, int, int]
"""Inode, size and mtime (ns)."""
_Row = tuple[str, _Stat]
"""The etag of a copy, and the very file that it is of."""


class _Copies:
    """Which version of an object each file of the working copy is. Safe for several processes of a machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        file = self.root / COPIES
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as database:
                database.execute("PRAGMA synchronous = NORMAL")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS copies (key TEXT PRIMARY KEY, etag TEXT, inode INT, size INT, mtime INT,"
                    " used INT NOT NULL DEFAULT 0) WITHOUT ROWID"
                )
                self._with_use(database)
                yield database
        except (sqlite3.Error, OSError) as error:
            raise LakeError(
                f"lake: the working copy {self.root} cannot be used ({error}). Check its disk and owner; or delete the"
                " folder while nothing runs: it is fetched again from the store"
            ) from error

    @staticmethod
    def _with_use(database: sqlite3.Connection) -> None:
        """A working copy of an earlier version does not know when its files were asked for."""
        if "used" not in {column for _, column, *_ in database.execute("PRAGMA table_info(copies)")}:
            # Another process may be faster.
            with suppress(sqlite3.OperationalError):
                database.execute("ALTER TABLE copies ADD COLUMN used INT NOT NULL DEFAULT 0")

    def below(self, prefix: str) -> dict[str, _Row]:
        with self._database() as database:
            found = database.execute(
                f"SELECT key, etag, inode, size, mtime FROM copies WHERE {_BELOW}", [prefix, _after(prefix)]
            )
            return {key: (etag, (inode, size, mtime)) for key, etag, inode, size, mtime in found}

    def of(self, keys: list[str]) -> dict[str, _Row]:
        with self._database() as database:
            rows = ((key, _row(database, key)) for key in keys)
            return {key: row for key, row in rows if row}

    def asked_for(self, keys: list[str], at: datetime) -> dict[str, _Row]:
        """As `of`; none of them goes for a while (`evict`)."""
        # Said before they are looked for: whoever evicts sees it, or what it took is missed here. Once in a while is enough.
        used, old = at.timestamp(), (at - EVICTED_AFTER / 10).timestamp()
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany(
                "UPDATE copies SET used = ? WHERE key = ? AND used < ?", [(used, key, old) for key in keys]
            )
            database.execute("COMMIT")
        return self.of(keys)

    def evict(self, limit: int, at: datetime) -> None:
        """Remove copies of raw days and deliveries, the longest unused first, until they have no more than `limit` bytes."""
        bounds = [bound for prefix in _EVICTED for bound in (prefix, _after(prefix))]
        of_layers = f"({' OR '.join([_BELOW] * len(_EVICTED))})"
        old = (at - EVICTED_AFTER).timestamp()
        with self._database() as database:
            kept, inodes = 0, set()
            listed = database.execute(
                f"SELECT key, inode, size, used FROM copies WHERE {of_layers} ORDER BY used DESC, key DESC", bounds
            ).fetchall()
            gone = []
            for key, inode, size, used in listed:
                # A raw day of one delivery is its slice under another name.
                kept += 0 if inode in inodes else size
                inodes.add(inode)
                if kept > limit and used < old:
                    gone.append(key)
            for key in gone:
                database.execute("BEGIN IMMEDIATE")
                if database.execute("DELETE FROM copies WHERE key = ? AND used < ?", [key, old]).rowcount:
                    (self.root / key).unlink(missing_ok=True)
                database.execute("COMMIT")

    def is_here(self, file: StoredFile, row: _Row | None) -> bool:
        """Is the copy of this row the file as listed?"""
        return row is not None and row == (file.etag, _stat(self.root / file.key))

    def place(self, key: str, etag: str, file: Path, before: _Row | None) -> bool:
        """Put a file in place as the copy of a version, unless another process put one there since `before`."""
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            if _row(database, key) != before:
                return False
            os.replace(file, target)
            _enter(database, key, etag, target)
            database.execute("COMMIT")
        return True

    def enter(self, file: StoredFile) -> None:
        """Enter a file that is in place."""
        with self._database() as database:
            _enter(database, file.key, file.etag, self.root / file.key)

    def drop(self, key: str, before: _Row) -> None:
        """Remove a copy, unless another process put one there since `before`."""
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            if _row(database, key) == before:
                (self.root / key).unlink(missing_ok=True)
                database.execute("DELETE FROM copies WHERE key = ?", [key])
            database.execute("COMMIT")

    def noted(self, what: str) -> bool:
        with self._database() as database:
            return _row(database, f".{what}") is not None

    def note(self, what: str) -> None:
        with self._database() as database:
            _note(database, f".{what}", "", (0, 0, 0))


def _row(database: sqlite3.Connection, key: str) -> _Row | None:
    row = database.execute("SELECT etag, inode, size, mtime FROM copies WHERE key = ?", [key]).fetchone()
    return (row[0], (row[1], row[2], row[3])) if row else None


def _enter(database: sqlite3.Connection, key: str, etag: str, file: Path) -> None:
    _note(database, key, etag, _stat(file) or (0, 0, 0))


def _note(database: sqlite3.Connection, key: str, etag: str, stat: _Stat) -> None:
    used = datetime.now(UTC).timestamp()
    database.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, ?, ?)", [key, etag, *stat, used])


_BELOW = "(key >= ? AND key < ?)"


def _after(prefix: str) -> str:
    """The least text behind every one that begins so."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _stat(file: Path) -> _Stat | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _prefix(key: str) -> str:
    """The part of a lake that a key belongs to: its layer and source."""
    return "".join(f"{folder}/" for folder in key.split("/")[:2])


def _in_one_file(day: Path) -> None:
    """The engine gives a day of a very long delivery several files; in a store it is one object, so that it is never mixed."""
    files = sorted(day.glob("*.parquet"))
    if len(files) < 2:
        return
    whole = day / ".whole"
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (FROM read_parquet({literal(f'{one_file(day)}/*.parquet')}, hive_partitioning = false))"
            f" TO {literal(str(whole))} (FORMAT parquet, COMPRESSION zstd)"
        )
    for file in files:
        file.unlink()
    os.replace(whole, files[0])


def _several(call: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Call for each item, a few at a time."""
    with ThreadPoolExecutor(PARALLEL_DOWNLOADS, thread_name_prefix="lake") as pool:
        return list(pool.map(call, items))
