"""One look at a source: what was listed once is not asked for again, what was read before is not read again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from finops_assets.storage.stores.store import Level, Store, StoredFile

Known = Mapping[str, Sequence[str]]
"""Manifest key -> (etag, generation, scope) when its delivery was last seen whole.

A generation "" stands for a manifest that was read and need not be again: an older run, another dataset.
"""


class ListedStore:
    """A store for one look at a source, with the memory of the looks before."""

    def __init__(self, store: Store, known: Known | None = None) -> None:
        self.store = store
        self.known: Known = known or {}
        self.pins = store.pins
        self.seen: dict[str, StoredFile] = {}
        self._listed: list[str] = []
        self._levels: dict[str, Level] = {}

    @property
    def requests(self) -> int:
        return self.store.requests

    @requests.setter
    def requests(self, value: int) -> None:
        self.store.requests = value

    def stat(self, key: str) -> StoredFile | None:
        # A file that is not in the listing may have come since: only what is there is taken from it.
        return self.seen.get(key) or (self.store.stat(key) if may_be_a_name(key) else None)

    def read(self, key: str, first: int | None = None) -> bytes:
        return self.store.read(key, first)

    def local_root(self, files: Iterable[StoredFile], scratch: Path | None = None) -> AbstractContextManager[Path]:
        return self.store.local_root(files, scratch)

    def level(self, prefix: str = "") -> Level:
        if prefix not in self._levels:
            level = self._levels[prefix] = self.store.level(prefix)
            self.seen |= {f.key: f for f in level.files}
        return self._levels[prefix]

    def unchanged(self, manifest: StoredFile) -> Sequence[str] | None:
        """(etag, generation, scope) of a manifest that has not changed since it was read."""
        before = self.known.get(manifest.key)
        return before if before and len(before) == 3 and before[0] == manifest.etag else None

    def to_read(
        self, manifests: Iterable[StoredFile], theirs: Callable[[str], bool] = lambda _: True
    ) -> tuple[tuple[StoredFile, ...], tuple[StoredFile, ...]]:
        """Manifests that compete for the same scopes: those to read, and those to leave alone.

        If none has changed, none is read. If one has, it is compared with the ones that counted until now;
        if one is gone (`theirs` tells whose a known key is), all are: an older one may count again.
        """
        listed = tuple(manifests)
        if {key for key in self.known if theirs(key)} - {m.key for m in listed}:
            return listed, ()
        resting = tuple(m for m in listed if self.unchanged(m))
        if len(resting) == len(listed):
            return (), resting
        older = tuple(m for m in resting if not (self.unchanged(m) or ("", ""))[1])
        return tuple(m for m in listed if m not in older), older

    def list(self, prefix: str = "", suffix: str = "") -> list[StoredFile]:
        if not any(prefix.startswith(listed) for listed in self._listed):
            self.seen |= {f.key: f for f in self.store.list(prefix)}
            self._listed.append(prefix)
        return [f for key, f in sorted(self.seen.items()) if key.startswith(prefix) and key.endswith(suffix)]


def may_be_a_name(key: str) -> bool:
    """Is a key text, and within what file systems (a part of 255 bytes) and stores (1,024 bytes) take?"""
    try:
        written = key.encode()
    except UnicodeEncodeError:
        return False
    return len(written) <= 1_024 and all(len(part) <= 255 for part in written.split(b"/"))


def json_of(content: bytes) -> Any:
    """What a JSON file of a provider holds.

    Raises:
        ValueError: it is not JSON, or so deep that it is none that a provider writes.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
