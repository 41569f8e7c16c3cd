"""Where export files lie. The one seam between the layouts and the place: list, read, open as local files."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import stat
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from finops_assets.base.errors import FinopsError, install
from finops_assets.base.uris import DATA_SUFFIXES, is_data

LOOKS_LIKE_DATA = (
    ".zip", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".snappy", ".xlsx", ".xls", ".xlsb", ".ods", ".tsv",
    ".txt", ".dat", ".json", ".jsonl", ".ndjson", ".avro", ".orc", ".pqt", ".parq", ".feather", ".arrow", ".pq", ".psv",
)  # fmt: skip
"""Endings that a bill may come in and that are not read."""
_OF_A_WRITER = frozenset({"_temporary", "_spark_metadata", "__macosx"})
"""Folders in which programs keep what is being written, and notes of their own: nothing in them is a bill."""
# Of a table of many versions only its log says which files count: Delta's commits, Iceberg's metadata.
_DELTA_LOG = "_delta_log"
_LOGS = (_DELTA_LOG, "metadata")
_ICEBERG_LOG = re.compile(r"(?P<table>.*?)/?\bmetadata/[^/]+\.metadata\.json(\.gz)?")
# What providers, and FOCUS, put beside the data.
_BESIDE_DATA = ("manifest", "_manifest", "metadata", "schema", "recency", "readme")
PARALLEL_DOWNLOADS = 4
CHUNK = 1 << 20
# An export's own bytes, the workspace of the split and the written days lie on one disk for a while.
SPARE_SPACE = 64 << 20
ANY = "*"
"""For `put`: replace whatever is there. No etag is this."""


class StoreError(FinopsError):
    """A place cannot be listed or read: no package, no credentials, no permission, no such bucket, no network."""


class StoreRefused(StoreError):
    """Asking again changes nothing: no package, no credentials, no permission, no such bucket."""


class FileChanged(StoreError):
    """A file is no longer the one that was listed; nothing of it was used."""

    def __init__(self, key: str, how: str = "") -> None:
        self.key = key
        super().__init__(f"file {key} changed while being read{f' ({how})' if how else ''}; it is read again next time")


@dataclass(frozen=True)
class StoredFile:
    """A file as listed: `key` is relative to the store's root, `etag` changes whenever the content does."""

    key: str
    size: int
    etag: str
    modified: datetime | None = field(default=None, compare=False)
    """When it was last written, if the place tells. It is no part of what the file is."""
    problem: str | None = None
    """Why it cannot be read although it is there."""


@dataclass(frozen=True)
class Level:
    """One level of a place: its folders ("name/", below the root) and its files."""

    folders: tuple[str, ...]
    files: tuple[StoredFile, ...]


class Store(Protocol):
    """What a layout needs of a place that holds export files.

    `requests` counts the requests made, `pins` says that `local_root` gives exactly the bytes that were
    listed or raises FileChanged. `list` and `level` leave out hidden files (a part of the key starts with a dot, or is a
    folder of a program's own).
    """

    requests: int
    pins: bool

    def list(self, prefix: str = "", suffix: str = "") -> list[StoredFile]: ...

    def level(self, prefix: str = "") -> Level: ...

    def stat(self, key: str) -> StoredFile | None: ...

    def read(self, key: str, first: int | None = None) -> bytes: ...

    def local_root(self, files: Iterable[StoredFile], scratch: Path | None = None) -> AbstractContextManager[Path]: ...


@runtime_checkable
class WritableStore(Store, Protocol):
    """A store that a lake can lie on.

    `put` writes a file whole or not at all, and only over what it is told to: the etag that must be there, None
    for nothing, ANY; else it raises FileChanged. `delete` leaves nothing there, whether or not something was.
    """

    def put(self, key: str, file: Path, over: str | None = ANY) -> StoredFile: ...

    def delete(self, key: str) -> None: ...


class LocalStore:
    """Files below a folder of this machine, or one file.

    Linked folders are followed and linked files read, but each folder and file once: a link to what is listed below the
    root under its own name is left out, so that nothing counts twice. A link that leads nowhere is listed with what is
    wrong with it. With a `pattern`, the glob of a URI, only what matches it is asked for: what lies below folders that it
    does not reach is not listed, and a link to what it leaves out is no second name of anything.
    """

    pins = False

    def __init__(self, root: str | Path, pattern: str = "") -> None:
        self.root = Path(root)
        self.pattern = pattern
        self.requests = 0

    def list(self, prefix: str = "", suffix: str = "") -> list[StoredFile]:
        """Every file below the root whose key starts and ends so, sorted; hidden and temporary ones are not listed."""
        start = prefix if not prefix or prefix.endswith("/") else f"{prefix.rpartition('/')[0]}/".lstrip("/")
        found: list[StoredFile] = []
        folders, walked = [start], set()
        while folders:
            folder = folders.pop()
            real = os.path.realpath(self.root / folder)
            if real in walked:
                continue
            walked.add(real)
            level = self.level(folder)
            folders += [
                below
                for below in level.folders
                if (below.startswith(prefix) or prefix.startswith(below))
                and (reaches(below, self.pattern) or below.split("/")[-2] in _LOGS)
            ]
            found += [file for file in level.files if file.key.startswith(prefix) and file.key.endswith(suffix)]
        return sorted(found, key=lambda f: f.key)

    def level(self, prefix: str = "") -> Level:
        """The folders and files directly below a folder of the root."""
        self.requests += 1
        folders, files = [], []
        try:
            with os.scandir(self.root / prefix) as entries:
                for entry in entries:
                    key = f"{prefix}{entry.name}"
                    if hidden(entry.name) or (entry.is_symlink() and self._listed_itself(Path(entry.path), key)):
                        continue
                    try:
                        found = entry.stat()
                    except OSError as error:
                        if entry.is_symlink():
                            files.append(self._leads_nowhere(key, error))
                        elif not isinstance(error, FileNotFoundError):
                            raise
                        continue  # gone since it was listed
                    if stat.S_ISDIR(found.st_mode):
                        folders.append(f"{key}/")
                    elif stat.S_ISREG(found.st_mode) and not hidden(key):
                        files.append(self._stored(key, found))
        except (FileNotFoundError, NotADirectoryError):
            return Level((), ())
        return Level(tuple(sorted(folders)), tuple(sorted(files, key=lambda f: f.key)))

    def _listed_itself(self, link: Path, key: str) -> bool:
        """Does a link lead to what is listed under its own name: below the root, not hidden, and asked for like the link?"""
        target, root = Path(os.path.realpath(link)), Path(os.path.realpath(self.root))
        if target == root or root not in target.parents:
            return target == root
        own = target.relative_to(root).as_posix()
        if not target.exists() or hidden(own):
            return False
        if target.is_dir():
            return reaches(f"{own}/", self.pattern)
        return matches(own, self.pattern) and (is_data(own) or not is_data(key))

    def _leads_nowhere(self, key: str, error: OSError) -> StoredFile:
        target = os.readlink(self.root / key)
        said = f"{key} is a link to {target}, which cannot be opened ({error.strerror}); restore it or remove the link"
        return StoredFile(key, 0, "", problem=said)

    def stat(self, key: str) -> StoredFile | None:
        self.requests += 1
        try:
            found = (self.root / key).stat()
            return self._stored(key, found) if stat.S_ISREG(found.st_mode) else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, key: str, first: int | None = None) -> bytes:
        """A file's bytes, or only its first ones."""
        self.requests += 1
        with (self.root / key).open("rb") as file:
            return file.read() if first is None else file.read(first)

    @contextmanager
    def local_root(self, files: Iterable[StoredFile], scratch: Path | None = None) -> Iterator[Path]:
        """A folder of this machine below which the files can be opened for as long as the block lasts."""
        yield self.root

    @staticmethod
    def _stored(key: str, found: os.stat_result) -> StoredFile:
        problem = None
        try:
            key.encode()
        except UnicodeEncodeError:
            # Bytes that are no UTF-8 come as surrogates, which no record, table or page can hold.
            key = os.fsencode(key).decode("utf-8", "backslashreplace")
            problem = f"{key} has a name that is no UTF-8; rename it"
        return StoredFile(
            key,
            found.st_size,
            f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}",
            datetime.fromtimestamp(found.st_mtime, UTC),
            problem,
        )


def not_read(files: Iterable[StoredFile]) -> tuple[str, ...]:
    """The keys that look like data and are not read, because of what they end in."""
    keys = [f.key for f in files if not is_data(f.key) and _looks_like_data(f.key.lower()) and not table_of_log(f.key)]
    return tuple(key for key in keys if not key.rpartition("/")[2].lower().startswith(_BESIDE_DATA))


def _looks_like_data(key: str) -> bool:
    """By its ending; by one that something was left behind, as in "bill.csv "; or as Spark names parts without any."""
    name = key.rpartition("/")[2]
    return key.endswith(LOOKS_LIKE_DATA) or is_data(key.rstrip()) or (name.startswith("part-") and "." not in name)


def hidden(key: str) -> bool:
    """Is a file hidden, a program's own, or the empty object that some consoles put in place of a folder?

    Of the log of a Delta table its commits are not: without them the files that it no longer counts look like a bill.
    """
    parts = key.split("/")
    of_a_log = _DELTA_LOG in parts[:-1] and not key.endswith(".json")
    return key.endswith("/") or not key or of_a_log or any(_is_hidden(part) for part in parts)


@dataclass(frozen=True)
class LoggedTable:
    """A table of many versions: which of its files count stands in its log alone."""

    folder: str
    """Its key, "" for the root."""
    kind: str


def table_of_log(key: str) -> LoggedTable | None:
    """The table whose log a file is part of."""
    folder, found, _ = f"/{key}".rpartition(f"/{_DELTA_LOG}/")
    if found:
        return LoggedTable(folder.strip("/"), "Delta")
    iceberg = _ICEBERG_LOG.fullmatch(key)
    return LoggedTable(iceberg["table"], "Iceberg") if iceberg else None


def _is_hidden(part: str) -> bool:
    return part.startswith(".") or part.lower() in _OF_A_WRITER


def sdk(module: str, extra: str) -> Any:
    """A provider's package, imported when it is first needed.

    Raises:
        StoreRefused: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise StoreRefused(
            f"the Python package of {module} is not installed ({error}); run: {install(extra)}"
        ) from error


@contextmanager
def downloaded(
    files: Iterable[StoredFile], scratch: Path | None, fetch: Callable[[StoredFile, Path], None]
) -> Iterator[Path]:
    """A folder that holds the files under their keys, fetched a few at a time; it goes with the block.

    Raises:
        FileChanged: `fetch` found another file, or its size is not the one that was listed.
        StoreError: there is no space for the files.
    """
    wanted = list(files)
    with tempfile.TemporaryDirectory(prefix="export-", dir=scratch) as name:
        root = Path(name).resolve()
        needed, free = sum(f.size for f in wanted) + SPARE_SPACE, shutil.disk_usage(root).free
        if needed > free:
            raise StoreError(
                f"{len(wanted)} files need {needed / 1e9:.1f} GB on the disk of {scratch or root},"
                f" {free / 1e9:.1f} GB are free; free space or move `lake:` in finops.yaml (`warehouse:` if the lake"
                " lies on a store)"
            )
        for file in wanted:
            path = (root / file.key).resolve()
            if root not in path.parents:
                raise StoreError(f"file {file.key!r} lies outside the source's folder; a manifest must not name such")
            path.parent.mkdir(parents=True, exist_ok=True)

        def get(file: StoredFile) -> None:
            fetch(file, root / file.key)
            size = (root / file.key).stat().st_size
            if size != file.size:
                raise FileChanged(file.key, f"{file.size} bytes were listed, {size} came")

        with ThreadPoolExecutor(PARALLEL_DOWNLOADS, thread_name_prefix="download") as pool:
            futures = [pool.submit(get, file) for file in wanted]
            _, waiting = wait(futures, return_when=FIRST_EXCEPTION)
            for future in waiting:
                future.cancel()
        for future in futures:
            if not future.cancelled():
                future.result()
        yield root


class ObjectStore(ABC):
    """What the stores of the clouds have in common: files are fetched as they were listed, requests are counted."""

    pins = True

    def __init__(self) -> None:
        self.requests = 0

    def local_root(self, files: Iterable[StoredFile], scratch: Path | None = None) -> AbstractContextManager[Path]:
        """A scratch folder that holds exactly the listed bytes of these files, for as long as the block lasts."""
        wanted = list(files)
        self.requests += len(wanted)
        return downloaded(wanted, scratch, self._fetch)

    @abstractmethod
    def _fetch(self, file: StoredFile, path: Path) -> None:
        """Write the bytes that were listed to a path.

        Raises:
            FileChanged: they are not there any more.
        """


class EmptyRange(Exception):
    """The first bytes of a file that has none."""


def matches(key: str, pattern: str) -> bool:
    """Does a key match a glob? `*` stays within a folder, `**` crosses folders; '' matches all.

    `*.csv` names `b.CSV`, too: what data files end in is read in any case. A name without `*`, `?` or `[` is that name.
    """
    if not pattern:
        return True
    last = pattern.rpartition("/")[2]
    if is_data(key) and any(c in last for c in "*?["):
        key, pattern = _with_small_ending(key), _with_small_ending(pattern)
    return _match(key.split("/"), pattern.split("/"))


def _with_small_ending(name: str) -> str:
    ending = next((suffix for suffix in reversed(DATA_SUFFIXES) if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(ending)] + ending


def reaches(folder: str, pattern: str) -> bool:
    """Can a key below a folder ("a/b/") match a glob?"""
    return not pattern or _reach(folder.rstrip("/").split("/"), pattern.split("/"))


def _reach(parts: list[str], patterns: list[str]) -> bool:
    if not parts or patterns[0] == "**":
        return True
    return len(patterns) > 1 and fnmatchcase(parts[0], patterns[0]) and _reach(parts[1:], patterns[1:])


def _match(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_match(parts[i:], patterns[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _match(parts[1:], patterns[1:])
