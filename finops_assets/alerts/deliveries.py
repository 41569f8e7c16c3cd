"""What is wrong with deliveries: refused, waiting for their missing files, late by the clock. Read from the ledger alone.

Usage of clusters is told of beside: it is no bill, and holds none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

from finops_assets.alerts.alert import QUOTED_MOST, RANK, Alert, Figure, Observation, OpenAlert, key_of
from finops_assets.base.errors import FinopsError
from finops_assets.base.period import span_of
from finops_assets.base.secrets import without_secrets
from finops_assets.base.timestamps import minute
from finops_assets.ingest.cadence import MISSING, Calendar
from finops_assets.ingest.layouts.delivery import incomplete_sectors
from finops_assets.ingest.usage.landing import landed_usage
from finops_assets.platform import Platform
from finops_assets.settings.model import Settings
from finops_assets.settings.sources import Source
from finops_assets.storage.ledger import Generation, Ledger, concerns
from finops_assets.storage.scope import scope_days


def delivery_observations(platform: Platform, now: datetime, open_alerts: Iterable[OpenAlert]) -> Iterator[Observation]:
    """Deliveries that are refused or wait for their missing files, and that those told of before are no more."""
    opened = {o.alert.key: o for o in open_alerts if o.alert.key.startswith("delivery ")}
    for source in platform.settings.sources:
        current: dict[str, Alert] = {}
        try:
            ledger = Ledger(platform.lake, source.name)
            for scope in ledger.scopes():
                latest = ledger.latest(scope)
                key = key_of(f"delivery {source.name} {scope}")
                if latest is not None and latest.state in ("refused", "waiting"):
                    since = opened[key].detected_at if key in opened else latest.seen_at
                    limit = timedelta(hours=platform.settings.alerts.waiting_hours)
                    held = _held_by(ledger, latest)
                    current[key] = _of_delivery(key, source, latest, since, held, too_long=now - since > limit)
        except FinopsError as error:
            # One damaged record must not keep every other alert back.
            key = f"delivery {source.name} (ledger)"
            current = {
                key: Alert(key, "CRITICAL", f"the ledger of {source.name} cannot be read", str(error), source.name)
            }
        for key, alert in current.items():
            yield Observation(key, now, alert)
        for key in opened.keys() - current.keys():
            if opened[key].alert.source == source.name:
                yield Observation(key, now, note="The delivery was landed or withdrawn.")


def usage_observations(platform: Platform, now: datetime, open_alerts: Iterable[OpenAlert]) -> Iterator[Observation]:
    """Files of clusters' usage that are refused, and those told of before that are no more. They hold no bill."""
    told: dict[str, Alert] = {}
    for cluster in platform.settings.clusters:
        try:
            refused = [file for file in landed_usage(platform.lake, cluster.name).values() if file.reason]
        except FinopsError as error:
            key = f"usage {cluster.name} (records)"
            told[key] = Alert(key, "WARNING", f"the records of usage of {cluster.name} cannot be read", str(error))
            continue
        for file in refused:
            key = key_of(f"usage {cluster.name} {file.key}")
            reason = without_secrets(file.reason or "")[:QUOTED_MOST].rstrip(".")
            text = (
                f"{reason}. What the file gave before counts on; charges of nodes without usage stay with the nodes'"
                " owners. Next: have it exported again (docs/guides/clusters.md)."
            )
            told[key] = Alert(key, "WARNING", f"usage of {cluster.name} refused: {file.key}", text)
    for key, alert in told.items():
        yield Observation(key, now, alert)
    for opened in open_alerts:
        if opened.alert.key.startswith("usage ") and opened.alert.key not in told:
            yield Observation(
                opened.alert.key, now, note="The file was landed, or its cluster is in finops.yaml no more."
            )


def _held_by(ledger: Ledger, pending: Generation) -> list[date]:
    """The days that were run while a delivery that concerns them waited or was refused: its gate holds them."""
    live = list(ledger.all_live())
    run = (date.fromisoformat(name) for name in ledger.lake.records(ledger.source, "days"))
    return [
        day
        for day in run
        if concerns(pending, day, live)
        and (ledger.lake.read_record(ledger.source, "days", day.isoformat()) or {}).get("pending")
    ]


def _of_delivery(
    key: str, source: Source, latest: Generation, since: datetime, held: list[date], *, too_long: bool
) -> Alert:
    figures: dict[str, Figure] = {"scope": latest.scope, "generation": latest.generation, "files": len(latest.files)}
    reason = without_secrets(latest.reason or "no reason was recorded")[:QUOTED_MOST].rstrip(".")
    if held:
        days = "1 day" if len(held) == 1 else f"{len(held)} days"
        figures["days_held"] = len(held)
        reason += f". It holds {days} ({span_of(str(min(held)), str(max(held)))})"
    if latest.state == "refused":
        return Alert(
            key,
            "CRITICAL" if source.required else "WARNING",
            f"delivery {latest.scope} of {source.name} refused",
            f"{reason}. What was landed before stands. Next: have it delivered again; then run its days again.",
            source.name,
            figures=figures,
        )
    return Alert(
        key,
        ("CRITICAL" if source.required else "WARNING") if held else "WARNING" if too_long else "INFO",
        f"delivery {latest.scope} of {source.name} is not all there",
        f"source {source.name}, delivery {latest.scope} waits since {minute(since)}: {reason}."
        " Next: if it does not come by itself, have it delivered again.",
        source.name,
        figures=figures,
    )


def late_sources(platform: Platform, now: datetime) -> list[Alert]:
    """The sources whose deadline has passed and whose deliveries do not hold the UTC day before it, whole.

    Late by more than one day, a required source is critical: its days are held, and reports stand still.
    """
    late = []
    for source in platform.settings.sources:
        deadline = platform.settings.deadline(source)
        due = _due_day(deadline, now)
        if due < platform.settings.first_day:
            continue
        try:
            live = list(Ledger(platform.lake, source.name).all_live())
        except FinopsError:
            continue  # delivery_observations tells of a ledger that cannot be read
        newest = _newest_whole_day(live)
        if newest is not None and newest >= due:
            continue
        if not _missing(Calendar(live, source.cadence, deadline), newest or due - timedelta(days=1), due, now):
            continue
        days = (due - newest).days if newest else None
        late.append(
            Alert(
                key=f"late {source.name}",
                severity="CRITICAL" if source.required and (days is None or days > 1) else "WARNING",
                title=f"{source.name} is late: {due} was due by {deadline} UTC",
                text=f"source {source.name}: no delivery holds {due} whole, which was due by {deadline} UTC the day"
                f" after; the newest whole day is {newest or 'none'}. Next: look whether the provider has exported"
                f" to {without_secrets(source.uri)}; then run the day.",
                source=source.name,
                day=due,
                figures={"deadline": deadline, "newest_day": str(newest or "none")}
                | ({"days_late": days} if days else {}),
            )
        )
    return late


def _due_day(deadline: str, now: datetime) -> date:
    """The last UTC day that should be here: yesterday once the deadline has passed, else the day before it.

    >>> _due_day("08:00", datetime(2026, 11, 2, 8, tzinfo=UTC))
    datetime.date(2026, 11, 1)
    >>> _due_day("08:00", datetime(2026, 11, 2, 7, 59, tzinfo=UTC))
    datetime.date(2026, 10, 31)
    """
    now = now.astimezone(UTC)
    passed = now.time() >= time.fromisoformat(deadline)
    return now.date() - timedelta(days=1 if passed else 2)


def _missing(calendar: Calendar, newest: date, due: date, now: datetime) -> bool:
    """Is a day after the newest whole one, up to the one due, not there as it should be? That none was due is no lateness."""
    held = set(calendar.charged)
    days = (newest + timedelta(days=n + 1) for n in range((due - newest).days))
    return any(day in held or calendar.of(day, now).meaning == MISSING for day in days)


def _newest_whole_day(live: list[Generation]) -> date | None:
    """The newest day that live deliveries hold with rows, and that their provider does not call incomplete."""
    for day in sorted({d for g in live for d, totals in g.days.items() if totals.rows}, reverse=True):
        if not incomplete_sectors([s for g in live if day in g.days for s in g.recency()], day):
            return day
    return None


def told_once(
    platform: Platform, deliveries: Iterable[Observation], late: Iterable[Alert], open_alerts: Iterable[OpenAlert] = ()
) -> tuple[list[Observation], list[Alert], dict[str, str]]:
    """A source that is late because its delivery waits or was refused is one matter, told by the delivery's alert.

    So is one of which a day was judged since its deadline: the alert of its gate tells of it.

    Returns the deliveries with what lateness adds to them, the late sources that remain, and of those that do
    not (their key) the key that tells of them.
    """
    told = {o.key: o for o in deliveries}
    remaining: list[Alert] = []
    because: dict[str, str] = {}
    of_gates = [o.alert for o in open_alerts if o.alert.figures.get("empty") == MISSING]
    for alert in late:
        newest = str(alert.figures["newest_day"])
        held = [a for a in of_gates if a.source == alert.source and a.day and (newest == "none" or str(a.day) > newest)]
        if held:
            because[alert.key] = min(held, key=lambda a: str(a.day)).key
            continue
        found = _delivery_due(platform, alert, [o.alert for o in told.values() if o.alert])
        if found is None:
            remaining.append(alert)
            continue
        because[alert.key] = found.key
        severity = max(found.severity, alert.severity, key=RANK.__getitem__)
        text = f"{found.text} The source is late by it: {alert.figures['newest_day']} is its newest whole day,"
        text += f" {alert.day} was due by {alert.figures['deadline']} UTC the day after."
        told[found.key] = replace(told[found.key], alert=replace(found, severity=severity, text=text, day=alert.day))
    return list(told.values()), remaining, because


def _delivery_due(platform: Platform, late: Alert, deliveries: Iterable[Alert]) -> Alert | None:
    """The delivery, waiting or refused, that should have brought the day that a source is late with."""
    candidates = [d for d in deliveries if d.source == late.source and "scope" in d.figures]
    if not candidates or late.source is None or late.day is None:
        return None
    ledger = Ledger(platform.lake, late.source)
    live = list(ledger.all_live())
    for delivery in candidates:
        latest = ledger.latest(str(delivery.figures["scope"]))
        # Of its period, though it need not hold the day: until it is right, nothing of the period comes.
        named = scope_days(latest.scope) if latest is not None else None
        if latest is not None and (concerns(latest, late.day, live) or (named and named[0] <= late.day <= named[1])):
            return delivery
    return None


def of_department(settings: Settings, seen: Observation) -> Observation:
    """What was seen of a source that is one department's bill is that department's."""
    alert = seen.alert
    if alert is None or alert.department or alert.source not in {s.name for s in settings.sources}:
        return seen
    return replace(seen, alert=replace(alert, department=settings.source(alert.source).department))


def late_observations(
    late: Iterable[Alert], now: datetime, open_alerts: Iterable[OpenAlert], because: Mapping[str, str] | None = None
) -> Iterator[Observation]:
    """The late sources, and that those told of before are late no more; or are, and another alert tells of it."""
    current = {alert.key: alert for alert in late}
    for key, alert in current.items():
        yield Observation(key, now, alert)
    for opened in open_alerts:
        key = opened.alert.key
        if key.startswith("late ") and key not in current:
            other = (because or {}).get(key)
            note = f"Told by the alert {other}." if other else "The day that was due has been delivered."
            yield Observation(key, now, note=note)
