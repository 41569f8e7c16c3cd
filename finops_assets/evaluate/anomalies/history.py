"""anomaly_history: every anomaly that was found, once; when it was seen and ended, and what people said of it.

A small SQLite file beside the warehouse, as the alert history is: people give verdicts at the command line while runs
hold the warehouse, and the alerts' sensor reads it. The asset `anomaly_history` copies it into the warehouse.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter

from finops_assets.base import state_file
from finops_assets.base.errors import FinopsError
from finops_assets.base.state_file import Form
from finops_assets.base.timestamps import stamp, unstamp
from finops_assets.evaluate.anomalies.key import Key, Kind
from finops_assets.tables.rows import Rows

ANOMALY_HISTORY = "anomaly_history"
Verdict = Literal["confirmed", "false"]
Ended = Literal["normal", "level", "restated", "limits", "verdict"]
ENDED: Mapping[Ended, str] = {
    "normal": "back to normal",
    "level": "the new level",
    "restated": "restated: the days cost something else now",
    "limits": "within the limits that are configured now",
    "verdict": "judged",
}
Amount = Annotated[Decimal, PlainSerializer("{:f}".format)]
Moment = Annotated[datetime, BeforeValidator(unstamp), PlainSerializer(stamp)]
# Two episodes that are this near are one that was seen in two pieces.
NEAR = timedelta(days=2)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS anomalies (
    id TEXT PRIMARY KEY,
    department TEXT NOT NULL,
    team TEXT NOT NULL,
    ServiceCategory TEXT NOT NULL,
    currency TEXT NOT NULL,
    source TEXT,
    ResourceId TEXT,
    direction INTEGER NOT NULL,
    kind TEXT NOT NULL,
    first_day TEXT NOT NULL,
    last_day TEXT NOT NULL,
    surest_day TEXT NOT NULL,
    days INTEGER NOT NULL,
    observed TEXT NOT NULL,
    expected TEXT NOT NULL,
    score REAL NOT NULL,
    cause TEXT NOT NULL,
    evidence TEXT NOT NULL,
    drivers TEXT NOT NULL,
    old INTEGER NOT NULL,
    detected_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    resolved_at TEXT,
    ended TEXT,
    verdict TEXT CHECK (verdict IN ('confirmed', 'false')),
    judged_at TEXT,
    judged_by TEXT,
    note TEXT NOT NULL DEFAULT '',
    dimensions TEXT
);
CREATE INDEX IF NOT EXISTS anomalies_by_day ON anomalies (last_day);
"""


class AnomalyError(FinopsError):
    """The file of anomalies cannot be read or written, or there is no such anomaly."""


_FORM = Form(
    "anomalies",
    _SCHEMA,
    "check space and permissions of its folder; it is the only record of verdicts: restore it from a backup",
    AnomalyError,
    version=2,
    upgrades={1: "ALTER TABLE anomalies ADD COLUMN dimensions TEXT"},
)


# What a series without other dimensions is known by: an id is made of these, in this order.
_KEY = tuple(f.name for f in fields(Key) if f.name != "others")


@dataclass(frozen=True)
class Anomaly:
    """An anomaly of a series; days are UTC, `last_day` is inclusive.

    `observed` is what `days` days from first_day to last_day cost, to the last digit; `expected` is an estimate in
    cents. `score`: sigmas of the day surest_day. `drivers`: what moved most, by facet (see `drivers.Driver`).
    `old`: its days were long past when it was found, so nobody is alerted. `resolved_at`: None while it lasts.
    """

    key: Key
    direction: int
    kind: Kind
    first_day: date
    last_day: date
    surest_day: date
    days: int
    observed: Amount
    expected: Amount
    score: float
    detected_at: Moment
    updated_at: Moment
    cause: str = "unclear"
    evidence: str = ""
    drivers: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    old: bool = False
    resolved_at: Moment | None = None
    ended: Ended | None = None
    verdict: Verdict | None = None
    judged_at: Moment | None = None
    judged_by: str | None = None
    note: str = ""
    given_id: str = ""

    @property
    def id(self) -> str:
        """The same wherever and whenever it is found."""
        if self.given_id:
            return self.given_id
        parts = [str(getattr(self.key, name)) for name in _KEY]
        parts += [f"{dimension}={value}" for dimension, value in self.key.others]
        return hashlib.sha256("\n".join([*parts, str(self.direction), str(self.first_day)]).encode()).hexdigest()[:10]

    @property
    def excess(self) -> Decimal:
        """What its days cost beyond what was expected, in cents; negative for a fall."""
        return (self.observed - self.expected).quantize(Decimal("0.01"))

    @property
    def percent(self) -> float | None:
        """The excess in percent of what was expected; None where nothing was."""
        return float(self.excess / self.expected * 100) if self.expected > 0 else None


Seen = Callable[[str, str], bool]


class AnomalyHistory:
    """The file, opened for each use. `seen` says of a department and team whether their anomalies are to be read and judged;
    by default all are."""

    def __init__(self, path: Path, seen: Seen | None = None) -> None:
        self.path = path
        self._seen = seen

    @classmethod
    def beside(cls, warehouse: Path, seen: Seen | None = None) -> AnomalyHistory:
        """The history of the platform that has this warehouse."""
        return cls(warehouse.with_name(f"{warehouse.stem}.anomalies.sqlite"), seen)

    def all(self, since: date | None = None) -> list[Anomaly]:
        """Every anomaly that lasted until `since` or longer, the newest first."""
        if not self.path.is_file():
            return []
        with state_file.opened(self.path, _FORM) as connection:
            rows = connection.execute(
                "SELECT * FROM anomalies WHERE last_day >= ? ORDER BY first_day DESC, id",
                [since.isoformat() if since else ""],
            ).fetchall()
        found = [_anomaly(row) for row in rows]
        return found if self._seen is None else [a for a in found if self._seen(a.key.department, a.key.team)]

    def put(self, anomalies: Iterable[Anomaly]) -> int:
        """Enter or replace anomalies by their id, all or none; a verdict that was given meanwhile stays."""
        rows = [_row(a) for a in anomalies]
        if not rows:
            return 0
        names = list(rows[0])
        kept = {"id", "detected_at", "verdict", "judged_at", "judged_by", "note"}
        update = ", ".join(f"{n} = excluded.{n}" for n in names if n not in kept | {"resolved_at", "ended"})
        # Who judged an anomaly has ended it.
        update += "".join(
            f", {n} = CASE WHEN verdict IS NULL THEN excluded.{n} ELSE {n} END" for n in ("resolved_at", "ended")
        )
        with state_file.opened(self.path, _FORM) as connection, state_file.writing(connection):
            connection.executemany(
                f"INSERT INTO anomalies ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
                f" ON CONFLICT (id) DO UPDATE SET {update}",
                [list(row.values()) for row in rows],
            )
        return len(rows)

    def find(self, prefix: str) -> Anomaly:
        """The anomaly whose id begins so.

        Raises:
            AnomalyError: none does, or several do.
        """
        found = [a for a in self.all() if a.id.startswith(prefix)] if prefix else []
        if len(found) != 1:
            which = ", ".join(a.id for a in found[:5]) or "none"
            raise AnomalyError(f"found {prefix!r}; one anomaly's id, or its beginning, is needed; these match: {which}")
        return found[0]

    def judge(self, prefix: str, verdict: Verdict, now: datetime, by: str | None = None, note: str = "") -> Anomaly:
        """Take a verdict; one that was given before is replaced. It ends the anomaly."""
        judged = self.find(prefix)
        with state_file.opened(self.path, _FORM) as connection:
            connection.execute(
                "UPDATE anomalies SET verdict = ?, judged_at = ?, judged_by = ?, note = ?, updated_at = ?,"
                " ended = CASE WHEN resolved_at IS NULL THEN 'verdict' ELSE ended END,"
                " resolved_at = coalesce(resolved_at, ?) WHERE id = ?",
                [verdict, stamp(now), by, note, stamp(now), stamp(now), judged.id],
            )
        return self.find(judged.id)


def reconcile(
    found: Iterable[Anomaly],
    known: Iterable[Anomaly],
    cost_now: Mapping[str, Decimal],
    since: date,
    now: datetime,
) -> list[Anomaly]:
    """What is new or has changed, to be put into the history; nothing where this was all known.

    What is found again, on nearly the same days, is the same anomaly: it keeps its id and when it was detected.
    A known one that is not found any more and began on `since` or later was restated, if its days cost something
    else now (`cost_now`, by id); or it is within other limits, if it was open.
    """
    by_key: dict[tuple[Key, int], list[Anomaly]] = {}
    for anomaly in known:
        by_key.setdefault((anomaly.key, anomaly.direction), []).append(anomaly)
    changed: list[Anomaly] = []
    matched: set[str] = set()
    for new in found:
        candidates = by_key.get((new.key, new.direction), ())
        same = next((k for k in candidates if k.id not in matched and _overlap(k, new)), None)
        if same is None:
            changed.append(new)
            matched.add(new.id)
            continue
        matched.add(same.id)
        again = replace(
            new,
            given_id=same.id,
            detected_at=same.detected_at,
            updated_at=same.updated_at,
            old=same.old,
            cause=same.cause,
            evidence=same.evidence,
            drivers=same.drivers,
            verdict=same.verdict,
            judged_at=same.judged_at,
            judged_by=same.judged_by,
            note=same.note,
            resolved_at=same.resolved_at if same.ended == new.ended or same.verdict else new.resolved_at,
            ended=same.ended if same.verdict else new.ended,
        )
        if replace(again, given_id=same.given_id) != same:
            changed.append(replace(again, updated_at=now))
    for anomaly in known:
        if anomaly.id in matched or anomaly.first_day < since or anomaly.verdict:
            continue
        moved = anomaly.id in cost_now and cost_now[anomaly.id] != anomaly.observed
        if moved and anomaly.ended != "restated":
            changed.append(replace(anomaly, resolved_at=now, updated_at=now, ended="restated"))
        elif anomaly.resolved_at is None:
            changed.append(replace(anomaly, resolved_at=now, updated_at=now, ended="limits"))
    return changed


def _overlap(known: Anomaly, new: Anomaly) -> bool:
    return known.first_day - NEAR <= new.last_day and new.first_day <= known.last_day + NEAR


_ANOMALY = TypeAdapter(Anomaly)


def _row(anomaly: Anomaly) -> dict[str, Any]:
    body = _ANOMALY.dump_python(anomaly, mode="json", exclude={"key", "given_id"})
    key = {name: getattr(anomaly.key, name) for name in _KEY}
    others = json.dumps(dict(anomaly.key.others), ensure_ascii=False) if anomaly.key.others else None
    return {"id": anomaly.id, **key, **body, "drivers": json.dumps(body["drivers"]), "dimensions": others}


def _anomaly(row: sqlite3.Row) -> Anomaly:
    body = dict(row)
    others = tuple(json.loads(row["dimensions"]).items()) if row["dimensions"] else ()
    body["key"] = {**{name: body[name] for name in _KEY}, "others": others}
    return _ANOMALY.validate_python(body | {"given_id": row["id"], "drivers": tuple(json.loads(row["drivers"]))})


COLUMNS = (
    "id", "department", "team", "dimensions", "ServiceCategory", "source", "ResourceId", "currency", "direction", "kind",
    "first_day", "last_day", "days", "observed", "expected", "excess", "percent", "score", "cause", "evidence",
    "drivers", "detected_at", "resolved_at", "ended", "verdict", "judged_at", "judged_by", "note",
)  # fmt: skip


def history_table(anomalies: Iterable[Anomaly]) -> Rows:
    """The history by COLUMNS. Amounts are Decimal; times UTC without zone."""
    rows = []
    for a in anomalies:
        row = _row(a)
        times = {n: getattr(a, n) for n in ("detected_at", "resolved_at", "judged_at")}
        row |= {n: at.astimezone(UTC).replace(tzinfo=None) if at else None for n, at in times.items()}
        row |= {"direction": "rise" if a.direction > 0 else "fall", "first_day": a.first_day, "last_day": a.last_day}
        row |= {"observed": a.observed, "expected": a.expected, "excess": a.excess, "percent": a.percent}
        rows.append(row)
    return Rows(COLUMNS, [tuple(row[name] for name in COLUMNS) for row in rows])
