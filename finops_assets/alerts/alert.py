"""What an alert is, what is sent of it, and what was seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from finops_assets.base.secrets import without_secrets
from finops_assets.base.text import one_line, visible
from finops_assets.base.timestamps import minute, stamp
from finops_assets.settings.alerts import Severity

Event = Literal["open", "reminder", "resolved", "test"]
Reminders = Literal["setting", "weekly", "never"]
"""How often an alert that stays open is told again: as `re_alert_hours` says, or as its kind needs it."""
Figure = int | float | str

RANK: Mapping[Severity, int] = {"INFO": 0, "WARNING": 1, "CRITICAL": 2}
VERSION = 1
"""Of the webhook's JSON: raised when a field changes its meaning or goes."""


TITLE_MOST, TEXT_MOST, KEY_MOST = 200, 4_000, 500
"""Characters. Names in bills and of files can be of any length."""
QUOTED_MOST = 2_000
"""Of what an alert's text quotes: there is room for what to do next behind it."""


@dataclass(frozen=True)
class Alert:
    """Something that a person should know. `key` says what it is about: two alerts of one key are the same.

    Names in it are others': whoever wrote them must not reach a header, a terminal or a reader's eye unseen.
    """

    key: str
    severity: Severity
    title: str
    text: str
    source: str | None = None
    department: str | None = None
    day: date | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    link: str | None = None
    reminders: Reminders = "setting"

    def __post_init__(self) -> None:
        text = visible(without_secrets(self.text))
        harmless = {
            "key": key_of(self.key),
            "title": one_line(without_secrets(self.title), TITLE_MOST),
            "text": text if len(text) <= TEXT_MOST else f"{text[: TEXT_MOST - 1]}…",
            "link": self.link and without_secrets(self.link),
        }
        for name, value in harmless.items():
            object.__setattr__(self, name, value)


def key_of(text: str) -> str:
    """A key as it is kept: a line of visible characters; of a longer one its beginning and a hash of the whole."""
    line = visible(text).replace("\n", "\\n").replace("\t", "\\t")
    if len(line) <= KEY_MOST:
        return line
    return f"{line[: KEY_MOST - 17]} {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


@dataclass(frozen=True)
class Observation:
    """What was seen of one thing at one time: an alert, or, without one, that it is fine (`note` says how)."""

    key: str
    at: datetime
    alert: Alert | None = None
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", key_of(self.key))
        object.__setattr__(self, "note", visible(without_secrets(self.note)))


@dataclass(frozen=True)
class OpenAlert:
    """An alert that nothing has resolved yet."""

    alert: Alert
    detected_at: datetime


@dataclass(frozen=True)
class Notice:
    """One message about an alert to one channel. Its id stays the same when it is sent again after a failure."""

    id: str
    event: Event
    alert: Alert
    detected_at: datetime
    resolved_at: datetime | None = None
    note: str = ""


def headline(notice: Notice) -> str:
    """One line, as it stands in a mail's subject.

    >>> from datetime import UTC
    >>> alert = Alert("check raw/gcp:complete 2026-10-31", "CRITICAL", "raw/gcp:complete failed, 2026-10-31", "…")
    >>> headline(Notice("1", "resolved", alert, datetime(2026, 11, 1, tzinfo=UTC)))
    'RESOLVED: raw/gcp:complete failed, 2026-10-31'
    """
    word = {
        "open": notice.alert.severity,
        "reminder": f"{notice.alert.severity}, still open",
        "resolved": "RESOLVED",
        "test": "TEST",
    }[notice.event]
    return " ".join(f"{word}: {notice.alert.title}".split())


def body(notice: Notice) -> str:
    """The text for people: what is wrong, what to do, since when."""
    alert = notice.alert
    lines = [alert.text.strip(), ""]
    if notice.event == "resolved":
        lines = [f"Resolved {minute(notice.resolved_at)}. {notice.note}".strip(), "", "It was:", *lines]
    facts = {
        "severity": alert.severity,
        "source": alert.source,
        "department": alert.department,
        "day": alert.day,
        "detected": minute(notice.detected_at),
        "link": alert.link,
    }
    return "\n".join([*lines, *(f"{name}: {value}" for name, value in facts.items() if value is not None)]) + "\n"


PAYLOAD: Mapping[str, str] = {
    "version": "raised when a field changes its meaning or goes. New fields may come without",
    "id": "of this notice; the same if it is sent again after a failure: ignore an id that you have",
    "event": "what this notice tells of the alert",
    "key": "what it is about; `resolved` ends the `open` of the same key",
    "severity": "how serious it is",
    "title": "one line",
    "text": "what is wrong and what to do next",
    "source": "of finops.yaml, or null",
    "department": "whose cost or bill it is about, or null",
    "day": "UTC charge day, or null",
    "figures": "name -> number or text, as in the check's metadata",
    "link": "the run in Dagster's UI if `alerts.ui` is set, or null",
    "detected_at": "UTC, when the check or step failed",
    "resolved_at": "UTC, or null",
    "note": "how it was resolved, or empty",
}
"""What each field of the webhook's JSON means."""


def as_json(notice: Notice) -> dict[str, Any]:
    """The webhook's JSON, as docs/reference/alerts.md documents it. Times are UTC."""
    alert = notice.alert
    return {
        "version": VERSION,
        "id": notice.id,
        "event": notice.event,
        "key": alert.key,
        "severity": alert.severity,
        "title": alert.title,
        "text": alert.text,
        "source": alert.source,
        "department": alert.department,
        "day": alert.day.isoformat() if alert.day else None,
        "figures": {visible(n): visible(f) if isinstance(f, str) else f for n, f in alert.figures.items()},
        "link": alert.link,
        "detected_at": stamp(notice.detected_at),
        "resolved_at": stamp(notice.resolved_at) if notice.resolved_at else None,
        "note": notice.note,
    }
