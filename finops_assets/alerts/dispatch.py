"""From what was seen to who is told: filters, each alert once, reminders, resolved notices, retries.

First what was seen and the notices that follow from it are written in one transaction; then the outbox is
sent. A channel that fails keeps its notices there for a later tick. So a notice is never lost, and may
arrive twice where a channel took it without saying so (at-least-once); its id tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from finops_assets.alerts.alert import RANK, Alert, Observation
from finops_assets.alerts.channels import ChannelError, name_of, send
from finops_assets.alerts.history import AlertHistory, LastNotice, OpenHistory, Pending
from finops_assets.settings.alerts import Alerts, Channel

FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)
GIVE_UP_AFTER = timedelta(days=7)
FAILURES_A_TICK = 2
"""One refused notice may be the notice's fault; two in a row are the channel's, and it rests until the next tick."""
SENDING_SECONDS = 30.0
"""Time for sending in one tick; with one more timeout it stays below the 60 s that Dagster gives a sensor."""

Log = Callable[[str], None]


@dataclass
class Dispatched:
    """What a tick did: channel -> notices sent, and the errors of those that failed."""

    sent: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        sent = ", ".join(f"{count} to {name}" for name, count in sorted(self.sent.items())) or "none"
        failed = "".join(f"; {name} fails: {error}" for name, error in sorted(self.errors.items()))
        return f"notices sent: {sent}{failed}"


def wants(channel: Channel, alert: Alert) -> bool:
    """Do the channel's filters let this alert through? An alert without a source or department is nobody's own."""
    return (
        channel.alerts
        and RANK[alert.severity] >= RANK[channel.min_severity]
        and (not channel.sources or alert.source in channel.sources)
        and (not channel.departments or alert.department in channel.departments)
    )


def dispatch(
    history: AlertHistory,
    settings: Alerts,
    observations: Iterable[Observation],
    now: datetime,
    environment: Mapping[str, str],
    log_error: Log = lambda _: None,
) -> Dispatched:
    """Enter what was seen and send what follows from it, and what earlier ticks could not send.

    Raises:
        HistoryError: the history cannot be written; then nothing was entered.
    """
    with history.opened() as opened:
        with opened.writing():
            resolved = opened.enter(observations)
            _clear(opened, settings.channels, now, log_error)
            _queue(opened, settings, resolved, now)
        return _send_due(opened, settings.channels, now, environment, log_error)


def close(history: AlertHistory, key: str, note: str, now: datetime) -> bool:
    """Resolve an alert by hand; the next tick tells those who were told of it. False: none of that key is open."""
    with history.opened() as opened, opened.writing():
        resolved = opened.enter([Observation(key, now, note=note)])
        _queue_resolved(opened, resolved, now)
    return bool(resolved)


def _queue(history: OpenHistory, settings: Alerts, resolved: Iterable[int], now: datetime) -> None:
    """Put into the outbox what each channel should know and was not told."""
    told = history.told()
    for alert_id, opened in history.open_alerts().items():
        for channel in settings.channels:
            if not wants(channel, opened.alert):
                continue
            last = told.get((alert_id, name_of(channel)))
            if last is None or _risen(opened.alert, last):
                history.queue(alert_id, name_of(channel), "open", opened.alert.severity, now)
            elif (window := _window(opened.alert, settings)) and not last.pending and now - last.queued_at >= window:
                history.queue(alert_id, name_of(channel), "reminder", opened.alert.severity, now)
    _queue_resolved(history, resolved, now)


def _window(alert: Alert, settings: Alerts) -> timedelta | None:
    """After how long an alert that is still open is told again; None: never."""
    match alert.reminders:
        case "weekly":
            return timedelta(days=7)
        case "never":
            return None
        case "setting":
            return timedelta(hours=settings.re_alert_hours) if settings.re_alert_hours else None


def _queue_resolved(history: OpenHistory, resolved: Iterable[int], now: datetime) -> None:
    for alert_id in sorted(resolved):
        # Whoever was told of the problem is told of its end, whatever the filters say by now.
        for name in history.channels_told(alert_id):
            history.queue(alert_id, name, "resolved", "INFO", now)


def _risen(alert: Alert, last: LastNotice) -> bool:
    return RANK[alert.severity] > RANK[last.severity] and not last.pending


def _clear(history: OpenHistory, channels: Sequence[Channel], now: datetime, log_error: Log) -> None:
    """Give up what can never be sent: for a channel that is gone, or that failed for a week."""
    names = {name_of(channel) for channel in channels}
    for name in history.pending_channels():
        if name in names:
            count = history.give_up(name, now - GIVE_UP_AFTER, now, f"given up after {GIVE_UP_AFTER.days} days")
        else:
            count = history.give_up(name, None, now, "given up: no such channel in finops.yaml any more")
        if count:
            log_error(f"alerts: channel {name}: {count} notices given up; alert_history says which")


def _send_due(
    history: OpenHistory,
    channels: Sequence[Channel],
    now: datetime,
    environment: Mapping[str, str],
    log_error: Log,
) -> Dispatched:
    done = Dispatched()
    failing = history.failing()
    until = time.monotonic() + SENDING_SECONDS
    # Channels that work come first: those that time out must not take the tick's time from them.
    for channel in sorted(channels, key=lambda c: failing.get(name_of(c), 0)):
        name, failures = name_of(channel), 0
        for pending in _in_turn(history, name, now):
            if failures == FAILURES_A_TICK or time.monotonic() > until:
                break
            try:
                remark = send(channel, pending.notice, environment)
            except ChannelError as error:
                failures += 1
                done.errors[name] = str(error)
                again = now + _wait(pending.attempts)
                history.failed(pending.notice_id, again, str(error))
                log_error(
                    f"alerts: channel {name}: {error} (attempt {pending.attempts + 1} at"
                    f" {pending.notice.alert.key!r}; tried again after {again:%H:%M:%S} UTC)"
                )
            else:
                failures = 0
                done.sent[name] = done.sent.get(name, 0) + 1
                history.sent(pending.notice_id, now, remark)
                if remark:
                    log_error(f"alerts: channel {name}: {remark}")
    return done


def _in_turn(history: OpenHistory, channel: str, now: datetime) -> Iterable[Pending]:
    """The due notices; when those are through, the ones that had to wait for them (an alert's end after the alert)."""
    tried: set[int] = set()
    while turn := [p for p in history.due(channel, now) if p.notice_id not in tried]:
        tried |= {p.notice_id for p in turn}
        yield from turn


def _wait(attempts: int) -> timedelta:
    """How long after a failure the next attempt comes, after so many attempts before: 1, 2, 4 … 60 minutes.

    >>> [int(_wait(n).total_seconds() // 60) for n in (0, 1, 2, 5, 6, 1000)]
    [1, 2, 4, 32, 60, 60]
    """
    return min(LONGEST_WAIT, FIRST_WAIT * (1 << min(attempts, 10)))
