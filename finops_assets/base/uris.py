"""Addresses of files, on this machine or in an object store: what each part names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DATA_SUFFIXES = (".parquet", ".csv", ".csv.gz")
"""What data files end in, in any case."""


@dataclass(frozen=True)
class BucketPlace:
    """What the URI of an object store names; `prefix` is "" or ends in a slash, `pattern` is a glob or a file below it."""

    bucket: str
    prefix: str
    pattern: str
    account_url: str | None = None


def bucket_place(uri: str) -> BucketPlace:
    """The parts of an object store's URI.

    Raises:
        ValueError: for a URI that cannot be understood or a scheme that is not supported.
    """
    scheme, _, rest = uri.partition("://")
    match scheme:
        case "s3" | "gs" | "az":
            return BucketPlace(*_bucket_and_prefix(rest))
        case "https" if ".blob." in rest.partition("/")[0]:
            if "?" in rest:
                raise ValueError(
                    "a SAS token does not belong into finops.yaml; remove all from '?' on and give the credentials"
                    " by AZURE_STORAGE_CONNECTION_STRING, or by an identity with the role Storage Blob Data Reader"
                )
            host, _, path = rest.partition("/")
            return BucketPlace(*_bucket_and_prefix(path), f"https://{host}")
    raise ValueError(
        f"found {scheme}://; allowed: a local path, file://, s3://bucket/folder, gs://bucket/folder,"
        " az://container/folder, https://<account>.blob.core.windows.net/container/folder"
    )


def local_place(path: str) -> tuple[Path, str]:
    """The folder that a local path names, and the glob or the one file below it ('' for the whole folder)."""
    parts = Path(path).parts
    # What is there under its very name is no pattern: folders and files may have brackets.
    globs = (i for i, part in enumerate(parts) if any(c in part for c in "*?["))
    fixed = next((i for i in globs if not Path(*parts[: i + 1]).exists()), len(parts))
    root = Path(*parts[:fixed])
    if fixed < len(parts):
        return root, "/".join(parts[fixed:])
    return (root.parent, root.name) if root.is_file() else (root, "")


def _bucket_and_prefix(rest: str) -> tuple[str, str, str]:
    """Bucket, prefix ("" or ending in a slash) and glob of what follows the scheme."""
    bucket, _, path = rest.partition("/")
    if not bucket or any(c in bucket for c in "*?[@"):
        # What stands before an @ is a user and a password.
        shown = bucket.rpartition("@")[2]
        raise ValueError(f"names no bucket or container; found {shown!r} where its name is due")
    parts = [part for part in path.split("/") if part]
    fixed = next((i for i, part in enumerate(parts) if any(c in part for c in "*?[")), len(parts))
    # Whether a name is a file or a folder cannot be told without a request; exports are files of these kinds.
    if fixed == len(parts) and parts and is_data(parts[-1]):
        fixed -= 1
    prefix = "".join(f"{part}/" for part in parts[:fixed])
    return bucket, prefix, "/".join(parts[fixed:])


def is_data(key: str) -> bool:
    """Does a name end as data files do, in any case?"""
    return key.lower().endswith(DATA_SUFFIXES)


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
