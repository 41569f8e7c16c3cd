"""Where two sources meet: a file that both read is counted twice."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from finops_assets.storage.stores.store import bucket_place, local_place


@dataclass(frozen=True)
class Place:
    """A folder of this machine or of a store, by its parts, and the glob or file below it ("" for the whole folder)."""

    parts: tuple[str, ...]
    pattern: str

    def holds(self, other: Place) -> bool:
        """Does all that lies at the other place lie at this one, too? Of two globs nothing is said."""
        if self.pattern:
            return self == other
        return other.parts[: len(self.parts)] == self.parts


def place_of(uri: str, base: Path) -> Place:
    """The place of a source's URI; a relative one is relative to `base`. Links are followed.

    Raises:
        ValueError: it is empty, cannot be understood, or its scheme is not supported.
    """
    if not uri.strip():
        raise ValueError("is empty; a source is a folder, a file or a glob, local or of a store")
    scheme, _, rest = uri.partition("://")
    if rest and scheme != "file":
        bucket = bucket_place(uri)
        host = (bucket.account_url or scheme).casefold()
        return Place((host, bucket.bucket, *(p for p in bucket.prefix.split("/") if p)), bucket.pattern)
    if "://" in uri and not rest:
        raise ValueError(f"found {uri!r}, which names no folder")
    root, pattern = local_place(str(base / (rest or uri)))
    return Place(("file", *Path(os.path.realpath(root)).parts), pattern)
