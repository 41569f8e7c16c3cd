"""What a delivery is of: its scope, which charge time it holds whole, and which files it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from finops_assets.storage.stores.store import StoredFile


@dataclass(frozen=True)
class Sector:
    """A stretch of charge time that the provider calls complete or not (FOCUS 1.3, Recency). UTC, end exclusive."""

    start: datetime
    end: datetime
    complete: bool


def scope_month(scope: str) -> str | None:
    """The billing period "YYYY-MM" that a scope is, if it is one."""
    return scope if len(scope) == 7 and scope[4] == "-" else None


def scope_days(scope: str) -> tuple[date, date] | None:
    """The first and the last day that a scope names: of a month, or "YYYY-MM-DD..YYYY-MM-DD"; None of any other."""
    first, _, last = scope.partition("..")
    try:
        if last:
            return date.fromisoformat(first), date.fromisoformat(last)
        start = date.fromisoformat(f"{scope_month(scope) or ''}-01")
    except ValueError:
        return None
    return start, (start + timedelta(days=32)).replace(day=1) - timedelta(days=1)


def generation_identity(generation: str, files: Iterable[StoredFile]) -> str:
    """A generation id together with a hash of its files."""
    return f"{generation}-{file_set_hash(files)}"


def file_set_hash(files: Iterable[StoredFile]) -> str:
    """A generation id for deliveries without one: a hash of names, sizes and etags."""
    listed = sorted((f.key, f.size, f.etag) for f in files)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]
