"""The delivery ledger: which generation of each scope was seen, what it held by day, what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

from finops_assets.lake import Lake

State = Literal["live", "superseded", "waiting", "refused"]


@dataclass(frozen=True)
class DayTotals:
    """What a scope, or a whole day, holds for one charge day."""

    rows: int
    billed: Mapping[str, Decimal]
    effective: Mapping[str, Decimal]
    fingerprint: str

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "billed": {c: str(v) for c, v in self.billed.items()},
            "effective": {c: str(v) for c, v in self.effective.items()},
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> DayTotals:
        return cls(
            rows=body["rows"],
            billed={c: Decimal(v) for c, v in body["billed"].items()},
            effective={c: Decimal(v) for c, v in body["effective"].items()},
            fingerprint=body["fingerprint"],
        )


@dataclass(frozen=True)
class Generation:
    """One delivery of a scope, as the ledger remembers it."""

    scope: str
    generation: str
    state: State
    seen_at: datetime
    delivered_at: datetime | None = None
    manifest: str | None = None
    files: tuple[tuple[str, int, str], ...] = ()
    reason: str | None = None
    rows: int = 0
    focus_version: str = ""
    columns: tuple[str, ...] = ()
    repairs: Mapping[str, int] = field(default_factory=dict)
    sectors: tuple[tuple[str, str, bool], ...] = ()
    days: Mapping[date, DayTotals] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "scope": self.scope,
            "generation": self.generation,
            "state": self.state,
            "seen_at": self.seen_at.isoformat(),
            "delivered_at": self.delivered_at.isoformat() if self.delivered_at else None,
            "manifest": self.manifest,
            "files": [list(f) for f in self.files],
            "reason": self.reason,
            "rows": self.rows,
            "focus_version": self.focus_version,
            "columns": list(self.columns),
            "repairs": dict(self.repairs),
            "sectors": [list(s) for s in self.sectors],
            "days": {d.isoformat(): t.as_json() for d, t in self.days.items()},
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Generation:
        return cls(
            scope=body["scope"],
            generation=body["generation"],
            state=body["state"],
            seen_at=datetime.fromisoformat(body["seen_at"]),
            delivered_at=datetime.fromisoformat(body["delivered_at"]) if body["delivered_at"] else None,
            manifest=body["manifest"],
            files=tuple((name, size, etag) for name, size, etag in body["files"]),
            reason=body["reason"],
            rows=body["rows"],
            focus_version=body["focus_version"],
            columns=tuple(body["columns"]),
            repairs=body["repairs"],
            sectors=tuple((a, b, c) for a, b, c in body["sectors"]),
            days={date.fromisoformat(d): DayTotals.from_json(t) for d, t in body["days"].items()},
        )


class Ledger:
    """The generations of one source, newest last. One record per scope, replaced as a whole: that is the commit."""

    def __init__(self, lake: Lake, source: str) -> None:
        self.lake = lake
        self.source = source

    def scopes(self) -> list[str]:
        return self.lake.records(self.source, "scopes")

    def generations(self, scope: str) -> list[Generation]:
        body = self.lake.read_record(self.source, "scopes", scope)
        return [Generation.from_json(g) for g in body["generations"]] if body else []

    def latest(self, scope: str) -> Generation | None:
        """The last generation seen, whatever became of it."""
        return next(reversed(self.generations(scope)), None)

    def live(self, scope: str) -> Generation | None:
        """The generation whose rows count."""
        return next((g for g in reversed(self.generations(scope)) if g.state == "live"), None)

    def all_live(self) -> Iterator[Generation]:
        for scope in self.scopes():
            live = self.live(scope)
            if live is not None:
                yield live

    def enter(self, generation: Generation) -> None:
        """Enter what became of a delivery. A live one supersedes the live one before it."""
        entries = self.generations(generation.scope)
        if generation.state == "live":
            entries = [superseded(g) if g.state == "live" else g for g in entries]
        # A delivery that waits or is refused is looked at again and again: its entry is renewed, not repeated.
        pending = ("waiting", "refused")
        if entries and entries[-1].generation == generation.generation and entries[-1].state in pending:
            entries.pop()
        entries.append(generation)
        self.lake.write_record({"generations": [g.as_json() for g in entries]}, self.source, "scopes", generation.scope)


def superseded(generation: Generation) -> Generation:
    return Generation.from_json({**generation.as_json(), "state": "superseded"})


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
