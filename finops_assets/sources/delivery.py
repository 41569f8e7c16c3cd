"""A delivery: what a provider handed over for one scope, and whether all of it is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from finops_assets.sources.store import Store, StoredFile


@dataclass(frozen=True)
class Sector:
    """A stretch of charge time that the provider calls complete or not (FOCUS 1.3, Recency). UTC, end exclusive."""

    start: datetime
    end: datetime
    complete: bool


@dataclass(frozen=True)
class Delivery:
    """One generation of one scope (a billing period "YYYY-MM", or a file where the layout knows no period).

    A delivery replaces the one before it in the same scope as a whole. `problems` lists what is not as
    the manifest says; a delivery with problems is never landed.
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

    @property
    def month(self) -> str | None:
        """The billing period "YYYY-MM", if the scope is one."""
        return self.scope if len(self.scope) == 7 and self.scope[4] == "-" else None


def named_files(
    store: Store, keys: Iterable[str], sizes: dict[str, int] | None = None
) -> tuple[tuple[StoredFile, ...], tuple[str, ...]]:
    """The files that a manifest names, and what is wrong with them: missing, or not of the stated size."""
    files: list[StoredFile] = []
    problems: list[str] = []
    for key in keys:
        found = store.stat(key)
        if found is None:
            problems.append(f"file {key} is named in the manifest but is not there")
            continue
        stated = (sizes or {}).get(key)
        if stated is not None and stated != found.size:
            problems.append(f"file {key} has {found.size} bytes, the manifest says {stated}")
        files.append(found)
    return tuple(files), tuple(problems)


def file_set_hash(files: Iterable[StoredFile]) -> str:
    """A generation id for deliveries without one: a hash of names, sizes and etags."""
    listed = sorted((f.key, f.size, f.etag) for f in files)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def read_manifest(store: Store, key: str) -> dict[str, Any]:
    """A manifest's JSON object.

    Raises:
        ValueError: if it is not one.
    """
    try:
        parsed = json.loads(store.read(key).decode("utf-8-sig"))
    except (ValueError, OSError) as error:
        raise ValueError(f"manifest {key} cannot be read: {error}") from error
    if not isinstance(parsed, dict):
        raise ValueError(f"manifest {key} is not a JSON object")
    return parsed


def unreadable(scope: str, manifest: str, problem: str) -> Delivery:
    """A delivery that stands for a manifest that cannot be used: visible, never landed."""
    return Delivery(scope=scope, generation="unreadable", files=(), manifest=manifest, problems=(problem,))


def utc(text: str | None) -> datetime | None:
    """An ISO time of a manifest as UTC; a time without a zone is taken as UTC."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.strip().replace("z", "Z"))
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def incomplete_sectors(sectors: Iterable[Sector], day: date) -> list[Sector]:
    """The sectors that touch a UTC day and are not complete."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = start.timestamp() + 86400
    return [s for s in sectors if not s.complete and s.start.timestamp() < end and s.end > start]
