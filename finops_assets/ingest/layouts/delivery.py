"""A delivery: what a provider handed over for one scope, and whether all of it is there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from finops_assets.ingest.layouts.listing import ListedStore, json_of, may_be_a_name
from finops_assets.ingest.layouts.metadata import Schema
from finops_assets.storage.scope import Sector, generation_identity, scope_month
from finops_assets.storage.stores.store import LocalStore, Store, StoredFile

# From this many files of one folder on, a listing of the folder is cheaper than a request for each.
LIST_FROM = 4


@dataclass(frozen=True)
class Delivery:
    """One generation of one scope (a billing period "YYYY-MM", or a file where the layout knows no period).

    A delivery replaces the one before it in the same scope as a whole. `problems` lists what is not as
    the manifest says; a delivery with problems is never landed. `export` names the export that it belongs
    to, `superseded` the manifests (key, etag) that it was preferred to. An `unchanged` delivery was not
    read again: it is known by its generation, its files are not listed.
    """

    scope: str
    generation: str
    files: tuple[StoredFile, ...]
    delivered_at: datetime | None = None
    manifest: str | None = None
    focus_version: str | None = None
    expected_rows: int | None = None
    problems: tuple[str, ...] = ()
    sectors: tuple[Sector, ...] = ()
    schemas: tuple[Schema, ...] = ()
    """What FOCUS metadata beside the data says of versions."""
    manifest_etag: str | None = None
    export: str | None = None
    verified: bool = True
    """Did the provider say what belongs to it? Without a manifest nobody did."""
    unchanged: bool = False
    superseded: tuple[tuple[str, str], ...] = ()
    datasets: tuple[tuple[str, str], ...] = ()
    """(file, data set) where a delivery holds two sets that are read together: Azure's actual and amortised cost."""
    not_read: tuple[str, ...] = ()
    """Files beside it that look like data and are not read, because of what they end in."""
    companions: tuple[tuple[str, str], ...] = ()
    """Further manifests (key, etag) of this delivery, besides `manifest`."""

    @property
    def month(self) -> str | None:
        """The billing period "YYYY-MM", if the scope is one."""
        return scope_month(self.scope)

    @property
    def identity(self) -> str:
        """The generation with its files: a generation id alone does not prove that the files are the same."""
        return generation_identity(self.generation, self.files)


def named_files(
    store: Store, keys: Iterable[str], sizes: dict[str, int] | None = None
) -> tuple[tuple[StoredFile, ...], tuple[str, ...]]:
    """The files that a manifest names, and what is wrong with them: missing, or not of the stated size."""
    named = list(dict.fromkeys(keys))
    wanted = [key for key in named if may_be_a_name(key)]
    folders = Counter(key.rpartition("/")[0] for key in wanted if not outside(key))
    listed: dict[str, StoredFile] = {}
    for folder, count in folders.items():
        # Size and etag come from the listing, never the decision which files belong to the delivery.
        if count >= LIST_FROM:
            listed |= {f.key: f for f in store.list(f"{folder}/" if folder else "")}
    files: list[StoredFile] = []
    problems = [
        f"file {key[:80]!r}{'…' if len(key) > 80 else ''} is named in the manifest, and no file can have that name"
        for key in named
        if not may_be_a_name(key)
    ]
    for key in wanted:
        if outside(key) or leads_outside(store, key):
            problems.append(f"file {key} is named in the manifest but lies outside the source's folder")
            continue
        found = listed.get(key) or store.stat(key)
        if found is None:
            problems.append(f"file {key} is named in the manifest but is not there")
            continue
        stated = (sizes or {}).get(key)
        if stated is not None and stated != found.size:
            problems.append(f"file {key} has {found.size} bytes, the manifest says {stated}")
        files.append(found)
    return tuple(files), tuple(problems)


def outside(key: str) -> bool:
    """Does a key that a manifest names leave the source's folder?"""
    return key.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", key) or "\0" in key


def leads_outside(store: Store, key: str) -> bool:
    """Is a file of this machine a link that leads out of the source's folder?

    A folder that a person linked below it is part of it; who may write a manifest may not choose files by links.
    """
    place = store.store if isinstance(store, ListedStore) else store
    if not isinstance(place, LocalStore):
        return False
    file = place.root / key
    return file.is_symlink() and place.root.resolve() not in file.resolve().parents


def not_still(files: Iterable[StoredFile], minutes: int, now: datetime) -> tuple[str, ...]:
    """The problem that a file was written less than some minutes ago: more may follow."""
    since = now - timedelta(minutes=minutes)
    fresh = [f for f in files if minutes and f.modified is not None and f.modified > since]
    if not fresh:
        return ()
    last = max(fresh, key=lambda f: f.modified or since)
    return (
        f"file {last.key} was written at {last.modified:%Y-%m-%d %H:%M:%S} UTC, less than quiet_minutes: {minutes} ago;"
        " it is taken when nothing has changed for that long",
    )


def read_manifest(store: Store, key: str) -> dict[str, Any]:
    """A manifest's JSON object.

    Raises:
        ValueError: if it is not one.
    """
    try:
        parsed = json_of(store.read(key))
    except (ValueError, OSError) as error:
        raise ValueError(f"manifest {key} cannot be read: {error}") from error
    if not isinstance(parsed, dict):
        raise ValueError(f"manifest {key} is not a JSON object")
    return parsed


def unreadable(scope: str, manifest: str, problem: str) -> Delivery:
    """A delivery that stands for a manifest that cannot be used: visible, never landed."""
    return Delivery(scope=scope, generation="unreadable", files=(), manifest=manifest, problems=(problem,))


MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError)
"""What comes of a manifest that is JSON, and holds something else than its provider writes there."""


def utc(text: object) -> datetime | None:
    """An ISO time of a manifest as UTC; a time without a zone is taken as UTC. What is none is None."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.strip().replace("z", "Z"))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def incomplete_sectors(sectors: Iterable[Sector], day: date) -> list[Sector]:
    """The sectors that touch a UTC day and are not complete."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = start.timestamp() + 86400
    return [s for s in sectors if not s.complete and s.start.timestamp() < end and s.end > start]
