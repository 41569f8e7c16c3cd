"""alert_history: every alert, when it was seen, sent and resolved; and the outbox of what is still to be sent.

It is a small SQLite file beside the warehouse, because the sensor writes it in Dagster's daemon while runs
hold the warehouse (DuckDB lets one process in, and a night's run may hold it for minutes), people list it
meanwhile, and "seen" and "to be sent" must be written both or neither. Records of the lake are single files:
no two of them change together. People query the copy that `copy_to` puts into the warehouse when it is published.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from finops_assets.alerts.alert import RANK, Alert, Event, Notice, Observation, OpenAlert
from finops_assets.base import state_file
from finops_assets.base.errors import FinopsError
from finops_assets.base.state_file import Form
from finops_assets.base.timestamps import stamp, unstamp
from finops_assets.settings.alerts import Severity
from finops_assets.tables import ddl, declarations, values

ALERT_HISTORY = "alert_history"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (alert_key TEXT PRIMARY KEY, at TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alerts (
    alert_id INTEGER PRIMARY KEY,
    alert_key TEXT NOT NULL,
    severity TEXT NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    source TEXT,
    department TEXT,
    day TEXT,
    figures TEXT NOT NULL,
    link TEXT,
    detected_at TEXT NOT NULL,
    last_seen_at TEXT NOT NULL,
    resolved_at TEXT,
    note TEXT NOT NULL DEFAULT '',
    reminders TEXT NOT NULL DEFAULT 'setting'
);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_alert_per_key ON alerts (alert_key) WHERE resolved_at IS NULL;
CREATE TABLE IF NOT EXISTS notices (
    notice_id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL,
    alert_id INTEGER NOT NULL REFERENCES alerts,
    channel TEXT NOT NULL,
    event TEXT NOT NULL,
    severity TEXT NOT NULL,
    queued_at TEXT NOT NULL,
    next_attempt_at TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    sent_at TEXT,
    given_up_at TEXT,
    last_error TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS notices_of_alerts ON notices (alert_id, channel);
CREATE INDEX IF NOT EXISTS outbox ON notices (channel, notice_id) WHERE sent_at IS NULL AND given_up_at IS NULL;
"""
_PENDING = "sent_at IS NULL AND given_up_at IS NULL"


_NEXT = (
    "check space and permissions of its folder; if the file is damaged, move it away: a new one is begun. It knows"
    " nothing of the runs before it until their checks run again"
)


class HistoryError(FinopsError):
    """The alert history cannot be opened or written."""


_FORM = Form(
    "alert history",
    _SCHEMA,
    _NEXT,
    HistoryError,
    version=2,
    upgrades={1: "ALTER TABLE alerts ADD COLUMN reminders TEXT NOT NULL DEFAULT 'setting'"},
)


@dataclass(frozen=True)
class Pending:
    """A notice in the outbox."""

    notice_id: int
    attempts: int
    queued_at: datetime
    notice: Notice


@dataclass(frozen=True)
class LastNotice:
    """The newest notice about an open problem (not that it is resolved) that a channel has, sent or not."""

    severity: Severity
    queued_at: datetime
    pending: bool


@dataclass(frozen=True)
class Row:
    """A row of alert_history. Times are UTC; `deliveries` is by channel."""

    alert: Alert
    detected_at: datetime
    last_seen_at: datetime
    last_sent_at: datetime | None
    resolved_at: datetime | None
    note: str
    deliveries: Mapping[str, Mapping[str, Any]]


class AlertHistory:
    """The file, opened for each use: the sensor, the command line and the publish step share it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def beside(cls, warehouse: Path) -> AlertHistory:
        """The history of the platform that has this warehouse."""
        return cls(warehouse.with_name(f"{warehouse.stem}.alerts.sqlite"))

    @contextmanager
    def opened(self) -> Iterator[OpenHistory]:
        """The history, for reading and writing.

        Raises:
            HistoryError: no space, no permission, damaged, or written by a newer version.
        """
        with state_file.opened(self.path, _FORM) as connection:
            yield OpenHistory(connection)

    def copy_to(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Replace the table alert_history of the warehouse by the history as it is now; returns its rows."""
        with self.opened() as history:
            rows = history.rows()
        declared = declarations.table(ALERT_HISTORY)
        ddl.replace_all(connection, declared, values.arrow_records([_as_record(row) for row in rows], declared))
        return len(rows)


def _as_record(row: Row) -> dict[str, Any]:
    """A row of the published table: times in UTC without zone, as any tool reads them; figures and deliveries as JSON."""
    alert = row.alert
    times = {n: getattr(row, n) for n in ("detected_at", "last_seen_at", "last_sent_at", "resolved_at")}
    return {
        "alert_key": alert.key,
        "severity": alert.severity,
        "source": alert.source,
        "department": alert.department,
        "day": alert.day,
        "title": alert.title,
        "text": alert.text,
        "figures": json.dumps(alert.figures),
        "link": alert.link,
        **{name: at.astimezone(UTC).replace(tzinfo=None) if at else None for name, at in times.items()},
        "note": row.note,
        "deliveries": json.dumps(row.deliveries),
    }


class OpenHistory:
    """The history while it is open. What belongs together is written in one `writing()`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @contextmanager
    def writing(self) -> Iterator[None]:
        """All of the block or nothing."""
        with state_file.writing(self._connection):
            yield

    def enter(self, observations: Iterable[Observation]) -> set[int]:
        """Enter what was seen; returns the alerts that this resolved.

        What was seen of a key before something newer that is known already changes nothing: so runs that end
        in another order than they judged, and observations that are entered twice, do no harm.
        """
        resolved: set[int] = set()
        for seen in sorted(observations, key=lambda o: o.at):
            at = stamp(seen.at)
            newer = self._connection.execute(
                "INSERT INTO seen VALUES (?, ?) ON CONFLICT (alert_key) DO UPDATE SET at = excluded.at"
                " WHERE excluded.at > seen.at",
                [seen.key, at],
            ).rowcount
            if not newer:
                continue
            if seen.alert is None:
                found = self._connection.execute(
                    "UPDATE alerts SET resolved_at = ?, note = ? WHERE alert_key = ? AND resolved_at IS NULL"
                    " RETURNING alert_id",
                    [at, seen.note, seen.key],
                ).fetchall()
                resolved |= {row["alert_id"] for row in found}
            else:
                self._raise(seen.alert, at)
        return resolved

    def _raise(self, alert: Alert, at: str) -> None:
        self._connection.execute(
            """
            INSERT INTO alerts (alert_key, severity, title, text, source, department, day, figures, link,
                reminders, detected_at, last_seen_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (alert_key) WHERE resolved_at IS NULL DO UPDATE SET severity = excluded.severity,
                title = excluded.title, text = excluded.text, source = excluded.source,
                department = excluded.department, day = excluded.day, figures = excluded.figures,
                link = excluded.link, reminders = excluded.reminders, last_seen_at = excluded.last_seen_at
            """,
            [
                alert.key,
                alert.severity,
                alert.title,
                alert.text,
                alert.source,
                alert.department,
                alert.day.isoformat() if alert.day else None,
                json.dumps(alert.figures),
                alert.link,
                alert.reminders,
                at,
                at,
            ],
        )

    def open_alerts(self) -> dict[int, OpenAlert]:
        """The alerts that nothing has resolved, oldest first."""
        found = self._connection.execute(
            "SELECT * FROM alerts WHERE resolved_at IS NULL ORDER BY detected_at, alert_id"
        )
        return {row["alert_id"]: OpenAlert(_alert(row), unstamp(row["detected_at"])) for row in found}

    def seen_of(self, what: str) -> dict[str, datetime]:
        """The keys that say `what` and something behind it, as days, and when each was seen last, good or bad."""
        found = self._connection.execute(
            # What begins with `what` and a space: "!" is the character behind it.
            "SELECT alert_key, at FROM seen WHERE alert_key > ? AND alert_key < ?",
            [f"{what} ", f"{what}!"],
        )
        return {row["alert_key"]: unstamp(row["at"]) for row in found}

    def has_seen(self) -> bool:
        """Was anything ever entered, good or bad? If not, no sensor has looked at anything yet."""
        return self._connection.execute("SELECT 1 FROM seen LIMIT 1").fetchone() is not None

    def told(self) -> dict[tuple[int, str], LastNotice]:
        """What each channel was last told of each open alert."""
        found = self._connection.execute(
            f"""
            SELECT alert_id, channel, severity, queued_at, {_PENDING} AS pending
            FROM notices JOIN (
                SELECT max(n.notice_id) AS notice_id FROM notices n JOIN alerts a USING (alert_id)
                WHERE a.resolved_at IS NULL AND n.event <> 'resolved' GROUP BY n.alert_id, n.channel
            ) USING (notice_id)
            """
        )
        return {
            (r["alert_id"], r["channel"]): LastNotice(r["severity"], unstamp(r["queued_at"]), bool(r["pending"]))
            for r in found
        }

    def channels_told(self, alert_id: int) -> list[str]:
        """The channels that have, or will have, a notice about an alert."""
        found = self._connection.execute(
            "SELECT DISTINCT channel FROM notices WHERE alert_id = ? ORDER BY 1", [alert_id]
        )
        return [row["channel"] for row in found]

    def queue(self, alert_id: int, channel: str, event: Event, severity: Severity, now: datetime) -> None:
        """Put a notice into the outbox."""
        self._connection.execute(
            "INSERT INTO notices (uuid, alert_id, channel, event, severity, queued_at, next_attempt_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [uuid.uuid4().hex, alert_id, channel, event, severity, stamp(now), stamp(now)],
        )

    def due(self, channel: str, now: datetime) -> list[Pending]:
        """The notices that a channel should get now, in order; of one alert only the first."""
        found = self._connection.execute(
            """
            SELECT n.notice_id, n.uuid, n.event, n.attempts, n.queued_at, a.*
            FROM notices n JOIN alerts a USING (alert_id)
            WHERE n.channel = ? AND n.sent_at IS NULL AND n.given_up_at IS NULL AND n.next_attempt_at <= ? AND NOT EXISTS (
                SELECT 1 FROM notices b WHERE b.alert_id = n.alert_id AND b.channel = n.channel
                    AND b.notice_id < n.notice_id AND b.sent_at IS NULL AND b.given_up_at IS NULL
            )
            ORDER BY n.notice_id
            """,
            [channel, stamp(now)],
        )
        return [Pending(r["notice_id"], r["attempts"], unstamp(r["queued_at"]), _notice(r)) for r in found]

    def failing(self) -> dict[str, int]:
        """Channel -> notices that it has refused at least once and still has to take."""
        found = self._connection.execute(
            f"SELECT channel, count(*) AS notices FROM notices WHERE {_PENDING} AND attempts > 0 GROUP BY 1"
        )
        return {row["channel"]: row["notices"] for row in found}

    def pending_channels(self) -> list[str]:
        """The channels that have something in the outbox."""
        found = self._connection.execute(f"SELECT DISTINCT channel FROM notices WHERE {_PENDING} ORDER BY 1")
        return [row["channel"] for row in found]

    def sent(self, notice_id: int, now: datetime, remark: str) -> None:
        self._connection.execute(
            "UPDATE notices SET sent_at = ?, attempts = attempts + 1, last_error = ? WHERE notice_id = ?",
            [stamp(now), remark, notice_id],
        )

    def failed(self, notice_id: int, next_attempt_at: datetime, error: str) -> None:
        self._connection.execute(
            "UPDATE notices SET next_attempt_at = ?, attempts = attempts + 1, last_error = ? WHERE notice_id = ?",
            [stamp(next_attempt_at), error, notice_id],
        )

    def give_up(self, channel: str, queued_before: datetime | None, now: datetime, reason: str) -> int:
        """Take a channel's notices out of the outbox, all or those queued before a time; returns how many."""
        return self._connection.execute(
            f"UPDATE notices SET given_up_at = ?, last_error = ? || last_error"
            f" WHERE channel = ? AND {_PENDING} AND queued_at < ?",
            [stamp(now), f"{reason}. ", channel, stamp(queued_before) if queued_before else "9999"],
        ).rowcount

    def rows(self, only_open: bool = False, since: datetime | None = None) -> list[Row]:
        """alert_history, newest first; `since` keeps what was detected then or later."""
        notices: dict[int, list[sqlite3.Row]] = {}
        for row in self._connection.execute("SELECT * FROM notices ORDER BY notice_id"):
            notices.setdefault(row["alert_id"], []).append(row)
        found = self._connection.execute(
            "SELECT * FROM alerts WHERE (NOT ? OR resolved_at IS NULL) AND detected_at >= ?"
            " ORDER BY detected_at DESC, alert_id DESC",
            [only_open, stamp(since) if since else ""],
        )
        return [_row(row, notices.get(row["alert_id"], [])) for row in found.fetchall()]


def _alert(row: sqlite3.Row) -> Alert:
    severity: Severity = row["severity"]
    assert severity in RANK
    return Alert(
        key=row["alert_key"],
        severity=severity,
        title=row["title"],
        text=row["text"],
        source=row["source"],
        department=row["department"],
        day=date.fromisoformat(row["day"]) if row["day"] else None,
        figures=json.loads(row["figures"]),
        link=row["link"],
        reminders=row["reminders"],
    )


def _notice(row: sqlite3.Row) -> Notice:
    return Notice(
        id=row["uuid"],
        event=row["event"],
        alert=_alert(row),
        detected_at=unstamp(row["detected_at"]),
        resolved_at=unstamp(row["resolved_at"]) if row["resolved_at"] and row["event"] == "resolved" else None,
        note=row["note"] if row["event"] == "resolved" else "",
    )


def _row(row: sqlite3.Row, notices: list[sqlite3.Row]) -> Row:
    deliveries: dict[str, dict[str, Any]] = {}
    for notice in notices:
        entry = deliveries.setdefault(
            notice["channel"], {"ok": True, "sent": 0, "attempts": 0, "last_sent_at": None, "last_error": ""}
        )
        entry["ok"] = notice["sent_at"] is not None
        entry["sent"] += notice["sent_at"] is not None
        entry["attempts"] += notice["attempts"]
        entry["last_sent_at"] = notice["sent_at"] or entry["last_sent_at"]
        entry["last_error"] = notice["last_error"] or entry["last_error"]
    times = [n["sent_at"] for n in notices if n["sent_at"]]
    return Row(
        alert=_alert(row),
        detected_at=unstamp(row["detected_at"]),
        last_seen_at=unstamp(row["last_seen_at"]),
        last_sent_at=unstamp(max(times)) if times else None,
        resolved_at=unstamp(row["resolved_at"]) if row["resolved_at"] else None,
        note=row["note"],
        deliveries=deliveries,
    )
