"""What was seen: in the runs that Dagster finished, in the ledger of deliveries, and by the clock.

Every function here only reads. What it returns may be entered any number of times (see `OpenHistory.enter`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from finops_assets.alerts.alert import RANK, Alert, Figure, Observation, OpenAlert, key_of
from finops_assets.base.errors import FinopsError
from finops_assets.base.secrets import without_secrets
from finops_assets.base.timestamps import minute
from finops_assets.graph.assets.daily import BUILD_STEP, ROLLUP
from finops_assets.graph.checks.raw import FACTS
from finops_assets.graph.day_verdicts import AWAITED, HELD_BEFORE, OF_DAYS, OF_SOURCES, only_held
from finops_assets.graph.failures import why_step_failed
from finops_assets.ingest.cadence import MISSING, Calendar
from finops_assets.ingest.layouts.delivery import incomplete_sectors
from finops_assets.judge.gates.raw import ONLY_PENDING
from finops_assets.platform import Platform
from finops_assets.settings.model import Settings
from finops_assets.settings.sources import Source
from finops_assets.storage.ledger import Generation, Ledger, concerns
from finops_assets.storage.scope import scope_days

FINISHED = (
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELED,
)
RUNS_A_TICK = 200
SETTINGS = "settings"
"""The key of the alert that finops.yaml was changed and the asset graph was not loaded anew."""
TEXT_MOST = 2_000


@dataclass(frozen=True)
class FinishedRun:
    """A run that came to its end, well or not."""

    run_id: str
    at: datetime
    ended: dg.DagsterEventType
    message: str


def finished_runs(instance: dg.DagsterInstance, after: int) -> tuple[list[FinishedRun], int]:
    """The runs that ended after a place in Dagster's history, in order, and the place after the last of them."""
    records: list[dg.EventLogRecord] = []
    reach: list[int] = []
    for kind in FINISHED:
        page = instance.fetch_run_status_changes(
            dg.RunStatusChangeRecordsFilter(event_type=kind, after_storage_id=after),  # type: ignore[arg-type]
            limit=RUNS_A_TICK,
            ascending=True,
        )
        records += page.records
        if page.has_more and page.records:
            reach.append(page.records[-1].storage_id)
    # Beyond the end of a cut page the other kinds may hold runs that come later than what was cut off.
    records = sorted((r for r in records if not reach or r.storage_id <= min(reach)), key=lambda r: r.storage_id)
    runs = [
        FinishedRun(
            entry.run_id,
            _at(entry.timestamp),
            entry.dagster_event.event_type if entry.dagster_event else FINISHED[0],
            (entry.dagster_event.message if entry.dagster_event else None) or "",
        )
        for entry in (record.event_log_entry for record in records)
    ]
    return runs, records[-1].storage_id if records else after


def run_observations(
    instance: dg.DagsterInstance,
    platform: Platform,
    run: FinishedRun,
    open_alerts: Collection[OpenAlert],
    told: Collection[str] = (),
) -> Iterator[Observation]:
    """What one run showed: its checks, failed and passed, and steps that failed for another reason than a gate.

    A day that only a delivery holds is told of by that delivery's alert, if its key is among those `told`.
    """
    ui = platform.settings.alerts.ui
    link = f"{ui.rstrip('/')}/runs/{run.run_id}" if ui else None
    record = instance.get_run_by_id(run.run_id)
    if record is None:
        return
    about = _About(record.job_name, _run_days(record.tags), link)
    explained = failed_steps = 0
    for entry in _entries(instance, run.run_id):
        event, at = entry.dagster_event, _at(entry.timestamp)
        if event is None:
            continue
        match event.event_type:
            case dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                evaluation = event.asset_check_evaluation_data
                if HELD_BEFORE not in evaluation.metadata and OF_DAYS not in evaluation.metadata:
                    yield from _of_check(evaluation, at, link, platform.source_names, told)
                    yield from _of_no_day(evaluation, at, open_alerts)
            case dg.DagsterEventType.STEP_FAILURE:
                failed_steps += 1
                step = event.step_key or ""
                if only_held(event.step_failure_data):
                    explained += 1
                    yield from about.recovered(f"step {step}", at, open_alerts)
                else:
                    source = _source_of(step, platform)
                    cause = _cause(event)
                    if source and step.startswith("raw_"):
                        cause += (
                            f". So {FACTS.to_user_string()} and {ROLLUP.to_user_string()} did not run for these days"
                        )
                    yield about.failed(f"step {step}", at, cause, source)
            case dg.DagsterEventType.STEP_SUCCESS:
                yield from about.recovered(f"step {event.step_key}", at, open_alerts)
    if run.ended is dg.DagsterEventType.RUN_FAILURE and not failed_steps:
        yield about.failed(f"job {record.job_name}", run.at, run.message or "the run failed before its first step")
    elif run.ended is dg.DagsterEventType.RUN_SUCCESS or (failed_steps and explained == failed_steps):
        yield from about.recovered(f"job {record.job_name}", run.at, open_alerts)


def _entries(instance: dg.DagsterInstance, run_id: str) -> Iterator[dg.EventLogEntry]:
    kinds = {
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.STEP_SUCCESS,
    }
    cursor: str | None = None
    while True:
        page = instance.get_records_for_run(run_id, cursor=cursor, of_type=kinds)
        yield from (record.event_log_entry for record in page.records)
        if not page.has_more:
            return
        cursor = page.cursor


def _of_check(
    evaluation: dg.AssetCheckEvaluation,
    at: datetime,
    link: str | None,
    sources: Collection[str],
    told: Collection[str],
) -> Iterator[Observation]:
    """One verdict; or, of a gate over all sources that names the faulty ones, one of each source."""
    name = f"{evaluation.asset_key.to_user_string()}:{evaluation.check_name}"
    key = f"check {name} {evaluation.partition}" if evaluation.partition else f"check {name}"
    text = without_secrets(evaluation.description or "")[:TEXT_MOST]
    of_sources = _of_sources(evaluation) if not evaluation.passed else {}
    if evaluation.asset_key == FACTS:
        for known in {*sources} - of_sources.keys():
            yield Observation(f"{key} {known}", at, note=text if evaluation.passed else "Passed for this source.")
    if evaluation.passed or AWAITED in evaluation.metadata:
        yield Observation(key, at, note=text)
        return
    figures = {n: f for n, value in evaluation.metadata.items() if (f := _figure(value)) is not None}
    source = str(figures.pop("source", "")) or _source_in(evaluation.asset_key)
    pending = [key_of(f"delivery {source} {scope}") for scope in str(figures.get(ONLY_PENDING, "")).split(", ")]
    for told_elsewhere in ("day", "next_step", "engine", ONLY_PENDING):
        figures.pop(told_elsewhere, None)
    if found := [k for k in pending if k in told]:
        yield Observation(key, at, note=f"Told by the alert {found[0]}.")
        return
    blocks = evaluation.blocking or evaluation.severity is dg.AssetCheckSeverity.ERROR
    alert = Alert(
        key=key,
        severity="CRITICAL" if blocks else "WARNING",
        title=f"{name} failed" + (f", {evaluation.partition}" if evaluation.partition else ""),
        text=text or f"{name} failed; it says no more",
        source=source,
        day=_day(evaluation.partition),
        figures=figures,
        link=link,
    )
    if not of_sources:
        yield Observation(key, at, alert)
        return
    yield Observation(key, at, note="Told by source.")
    for name, (said, holds) in of_sources.items():
        own = replace(
            alert,
            key=f"{key} {name}",
            severity="CRITICAL" if holds else "WARNING",
            title=f"{alert.title}, {name}",
            text=without_secrets(said)[:TEXT_MOST],
            source=name,
            figures={n: figure for n, figure in figures.items() if name in n.split()},
        )
        yield Observation(own.key, at, own)


def _of_no_day(
    evaluation: dg.AssetCheckEvaluation, at: datetime, open_alerts: Collection[OpenAlert]
) -> Iterator[Observation]:
    """A check that judges by day and has passed on one ends what was told of it without a day."""
    if not evaluation.passed or not evaluation.partition:
        return
    key = f"check {evaluation.asset_key.to_user_string()}:{evaluation.check_name}"
    for alert in (o.alert for o in open_alerts):
        if alert.day is None and (alert.key == key or alert.key.startswith(f"{key} ")):
            yield Observation(alert.key, at, note=f"It judges by day, and passed on {evaluation.partition}.")


def _of_sources(evaluation: dg.AssetCheckEvaluation) -> dict[str, tuple[str, bool]]:
    """Source -> what a gate over all sources found wrong with it, and whether that holds the day."""
    found = evaluation.metadata.get(OF_SOURCES)
    parts = found.value if isinstance(found, dg.JsonMetadataValue) else None
    return {source: (part["text"], part["blocks"]) for source, part in parts.items()} if isinstance(parts, dict) else {}


def _figure(value: dg.MetadataValue) -> Figure | None:
    found = value.value
    return found if isinstance(found, int | float | str) else None


def _source_in(asset: dg.AssetKey) -> str | None:
    return asset.path[1] if len(asset.path) == 2 and asset.path[0] in ("deliveries", "raw") else None


def _source_of(step: str, platform: Platform) -> str | None:
    """The source that a step is about, if it is about one."""
    return next((s for s in platform.landed_names if step in (f"deliveries__{s}", f"raw__{s}", f"raw_{s}_gates")), None)


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


def _run_days(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """The first and last partition that a run is about."""
    one = tags.get("dagster/partition")
    first = tags.get("dagster/asset_partition_range_start", one)
    last = tags.get("dagster/asset_partition_range_end", one)
    return (first, last) if first and last else None


@dataclass(frozen=True)
class _About:
    """Failures of a run's steps, and of the run itself: keyed by what failed and the days that it was to make."""

    job: str
    days: tuple[str, str] | None
    link: str | None

    def failed(self, what: str, at: datetime, text: str, source: str | None = None) -> Observation:
        span = f" {_span(*self.days)}" if self.days else ""
        figures = {"first_day": self.days[0], "last_day": self.days[1]} if self.days else {}
        alert = Alert(
            key=f"{what}{span}",
            severity="CRITICAL",
            title=f"{what} failed{',' if span else ''}{span}",
            text=f"{what} of job {self.job} failed{' for' if span else ''}{span}: {text}. Next: mend the cause, then run"
            " the same days again; what was there before stands.",
            source=source,
            day=_day(self.days[0]) if self.days and self.days[0] == self.days[1] else None,
            figures={"job": self.job, **figures},
            link=self.link,
        )
        return Observation(alert.key, at, alert)

    def recovered(self, what: str, at: datetime, open_alerts: Collection[OpenAlert]) -> Iterator[Observation]:
        """A success ends the failure of the same days, those of days within them, and one that was of no day at all."""
        note = f"{what} ran through{f' for {_span(*self.days)}' if self.days else ''}."
        keys = {f"{what} {_span(*self.days)}" if self.days else what}
        for opened in open_alerts:
            first, last = opened.alert.figures.get("first_day"), opened.alert.figures.get("last_day")
            if self.days and opened.alert.key == what:
                keys.add(what)
            if (
                self.days
                and first
                and opened.alert.key.startswith(f"{what} ")
                and self.days[0] <= str(first)
                and str(last) <= self.days[1]
            ):
                keys.add(opened.alert.key)
        for key in sorted(keys):
            yield Observation(key, at, note=note)


def in_pieces(
    open_alerts: Iterable[OpenAlert], seen_of: Callable[[str], Mapping[str, datetime]], now: Iterable[Observation]
) -> Iterator[Observation]:
    """The end of failures whose days were all run again since, in whatever pieces.

    A piece that failed again counts as well: it has an alert of its own. What a whole run failed of before its first step
    is over where facts and rollup were built for its days since, by a run of any job. `seen_of` tells what was seen
    before (see `OpenHistory.seen_of`), `now` what is seen at this look.
    """
    looked = [(o.key, o.at) for o in now]
    for opened in open_alerts:
        alert = opened.alert
        first, last = _day(str(alert.figures.get("first_day"))), _day(str(alert.figures.get("last_day")))
        what = alert.key.rpartition(" ")[0]
        if first is None or last is None or not what.startswith(("step ", "job ")):
            continue
        also = [f"step {BUILD_STEP}"] if what.startswith("job ") else []
        seen = [each for begin in (what, *also) for each in seen_of(begin).items()]
        seen += [(key, at) for key, at in looked if key.startswith((f"{what} ", *(f"{a} " for a in also)))]
        failed_at = max((at for key, at in seen if key == alert.key), default=opened.detected_at)
        left, until = {first + timedelta(days=n) for n in range((last - first).days + 1)}, failed_at
        for key, at in sorted(seen, key=lambda each: each[1]):
            if at > failed_at and left:
                begin, _, end = key.rpartition(" ")[2].partition("..")
                left -= {d for d in left if begin <= str(d) <= (end or begin)}
                until = at
        if not left:
            yield Observation(alert.key, until, note="Its days were run again since, in other pieces.")


def settings_observations(
    changed: str | None, now: datetime, open_alerts: Collection[OpenAlert]
) -> Iterator[Observation]:
    """That finops.yaml is not what Dagster has loaded, so that nothing is asked for; and the end of it."""
    if changed:
        text = without_secrets(changed)[:TEXT_MOST]
        yield Observation(
            SETTINGS, now, Alert(SETTINGS, "CRITICAL", "finops.yaml is not what Dagster has loaded", text)
        )
    elif any(o.alert.key == SETTINGS for o in open_alerts):
        yield Observation(SETTINGS, now, note="Dagster works by finops.yaml as it is now.")


def out_of_reach(
    settings: Settings,
    sources: Collection[str],
    now: datetime,
    open_alerts: Iterable[OpenAlert],
    checks: Mapping[str, Collection[str]],
) -> Iterator[Observation]:
    """The end of alerts that nothing could ever end: of what finops.yaml does not have any more.

    `sources` are all there are, `checks` the names of all checks by asset; of other assets than these nothing is said.
    """
    for alert in (o.alert for o in open_alerts):
        if alert.key.startswith("budget") and settings.budgets is None:
            yield Observation(alert.key, now, note="finops.yaml has no budgets any more.")
        if not alert.key.startswith(("check ", "step ", "job ", "delivery ", "late ")):
            continue
        asset, _, check = alert.key.removeprefix("check ").partition(" ")[0].rpartition(":")
        if alert.source is not None and alert.source not in sources:
            yield Observation(alert.key, now, note=f"finops.yaml has no source {alert.source} any more.")
        elif alert.day is not None and alert.day < settings.first_day:
            yield Observation(alert.key, now, note=f"{alert.day} is before first_day ({settings.first_day}) now.")
        elif asset in checks and check not in checks[asset]:
            yield Observation(alert.key, now, note=f"{asset} has no check {check} any more.")


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first}..{last}"


def _cause(event: dg.DagsterEvent) -> str:
    """Why a step failed, in the words of the error that our code raised."""
    text = why_step_failed(event.step_failure_data) or "no reason was recorded; see the run's log"
    return without_secrets(" ".join(text.split()))[:TEXT_MOST].rstrip(".")


def _at(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


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
    reason = without_secrets(latest.reason or "no reason was recorded")[:TEXT_MOST].rstrip(".")
    if held:
        days = "1 day" if len(held) == 1 else f"{len(held)} days"
        figures["days_held"] = len(held)
        reason += f". It holds {days} ({_span(str(min(held)), str(max(held)))})"
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
    platform: Platform, deliveries: Iterable[Observation], late: Iterable[Alert]
) -> tuple[list[Observation], list[Alert], dict[str, str]]:
    """A source that is late because its delivery waits or was refused is one matter, told by the delivery's alert.

    Returns the deliveries with what lateness adds to them, the late sources that remain, and of those that do
    not (their key) the key that tells of them.
    """
    told = {o.key: o for o in deliveries}
    remaining: list[Alert] = []
    because: dict[str, str] = {}
    for alert in late:
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
