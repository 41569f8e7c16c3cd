"""Where export files lie. The one seam between the layouts and the place: list, read, open as a local file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class StoredFile:
    """A file as listed: `key` is relative to the store's root, `etag` changes whenever the content does."""

    key: str
    size: int
    etag: str


class Store(Protocol):
    """What a layout needs of a place that holds export files."""

    def list(self, prefix: str = "", suffix: str = "") -> list[StoredFile]: ...

    def stat(self, key: str) -> StoredFile | None: ...

    def read(self, key: str) -> bytes: ...

    def local_root(self, keys: Iterable[str]) -> AbstractContextManager[Path]: ...


class LocalStore:
    """Files below a folder of this machine, or one file."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def list(self, prefix: str = "", suffix: str = "") -> list[StoredFile]:
        """Every file below the root whose key starts and ends so, sorted; hidden and temporary ones are not listed."""
        start = self.root / prefix
        top = start if start.is_dir() else start.parent
        found = []
        for folder, folders, names in os.walk(top):
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(self.root).as_posix()
                if key.startswith(prefix) and key.endswith(suffix) and not name.startswith("."):
                    found.append(self._stored(key, path.stat()))
        return sorted(found, key=lambda f: f.key)

    def stat(self, key: str) -> StoredFile | None:
        try:
            return self._stored(key, (self.root / key).stat())
        except FileNotFoundError:
            return None

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    @contextmanager
    def local_root(self, keys: Iterable[str]) -> Iterator[Path]:
        """A folder of this machine below which the keys can be opened for as long as the block lasts."""
        yield self.root

    @staticmethod
    def _stored(key: str, stat: os.stat_result) -> StoredFile:
        return StoredFile(key, stat.st_size, f"{stat.st_size:x}-{stat.st_mtime_ns:x}-{stat.st_ino:x}")


def open_store(uri: str) -> tuple[Store, str]:
    """The store of a source's URI, and the glob below it where the URI names one ('' for the whole folder).

    Raises:
        ValueError: for a scheme that is not supported.
    """
    if "://" in uri and not uri.startswith("file://"):
        raise ValueError(f"found {uri.split('://')[0]}://; allowed: a local path or file://")
    path = Path(uri.removeprefix("file://"))
    parts = path.parts
    fixed = next((i for i, part in enumerate(parts) if any(c in part for c in "*?[")), len(parts))
    root = Path(*parts[:fixed])
    if fixed < len(parts):
        return LocalStore(root), "/".join(parts[fixed:])
    if root.is_file():
        return LocalStore(root.parent), root.name
    return LocalStore(root), ""


def matches(key: str, pattern: str) -> bool:
    """Does a key match a glob? `*` stays within a folder, `**` crosses folders; '' matches all."""
    if not pattern:
        return True
    return _match(key.split("/"), pattern.split("/"))


def _match(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_match(parts[i:], patterns[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _match(parts[1:], patterns[1:])
