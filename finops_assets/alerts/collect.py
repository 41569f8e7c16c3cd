"""What was seen: in the runs that Dagster finished, in the ledger of deliveries, and by the clock.

Every function here only reads. What it returns may be entered any number of times (see `OpenHistory.enter`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from finops_assets.alerts.alert import Alert, Figure, Observation, OpenAlert, minute
from finops_assets.errors import FinopsError
from finops_assets.ledger import Generation, Ledger
from finops_assets.platform import Platform
from finops_assets.settings import Source, without_secrets
from finops_assets.sources.delivery import incomplete_sectors

FINISHED = (
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELED,
)
RUNS_A_TICK = 200
TEXT_MOST = 2_000
HELD_BY_GATES = "held back by a gate"
"""In the failure of a step that held days back: `explain_held` says so, and the checks' own alerts tell the cause."""
DAGSTERS_OWN = ("Dagster", "RetryRequested")
"""How the names of the errors begin that Dagster wraps around ours."""
REPEATS_THE_CAUSE = "held_before"
"""Metadata of a verdict "not judged, held by …"."""


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
    instance: dg.DagsterInstance, platform: Platform, run: FinishedRun, open_alerts: Collection[OpenAlert]
) -> Iterator[Observation]:
    """What one run showed: its checks, failed and passed, and steps that failed for another reason than a gate."""
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
                if REPEATS_THE_CAUSE not in evaluation.metadata:
                    yield _of_check(evaluation, at, link)
            case dg.DagsterEventType.STEP_FAILURE:
                failed_steps += 1
                step = event.step_key or ""
                failure = event.step_failure_data
                if failure.user_failure_data and HELD_BY_GATES in (failure.user_failure_data.description or ""):
                    explained += 1
                    yield from about.recovered(f"step {step}", at, open_alerts)
                else:
                    yield about.failed(f"step {step}", at, _cause(event), _source_of(step, platform))
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


def _of_check(evaluation: dg.AssetCheckEvaluation, at: datetime, link: str | None) -> Observation:
    name = f"{evaluation.asset_key.to_user_string()}:{evaluation.check_name}"
    key = f"check {name} {evaluation.partition}" if evaluation.partition else f"check {name}"
    text = without_secrets(evaluation.description or "")[:TEXT_MOST]
    if evaluation.passed:
        return Observation(key, at, note=text)
    figures = {n: f for n, value in evaluation.metadata.items() if (f := _figure(value)) is not None}
    source = figures.pop("source", None)
    for told_elsewhere in ("day", "next_step"):
        figures.pop(told_elsewhere, None)
    blocks = evaluation.blocking or evaluation.severity is dg.AssetCheckSeverity.ERROR
    alert = Alert(
        key=key,
        severity="CRITICAL" if blocks else "WARNING",
        title=f"{name} failed" + (f", {evaluation.partition}" if evaluation.partition else ""),
        text=text or f"{name} failed; it says no more",
        source=str(source) if source is not None else _source_in(evaluation.asset_key),
        day=_day(evaluation.partition),
        figures=figures,
        link=link,
    )
    return Observation(key, at, alert)


def _figure(value: dg.MetadataValue) -> Figure | None:
    found = value.value
    return found if isinstance(found, int | float | str) else None


def _source_in(asset: dg.AssetKey) -> str | None:
    return asset.path[1] if len(asset.path) == 2 and asset.path[0] in ("deliveries", "raw") else None


def _source_of(step: str, platform: Platform) -> str | None:
    """The source that a step is about, if it is about one."""
    return next((s for s in platform.source_names if step in (f"deliveries__{s}", f"raw__{s}", f"raw_{s}_gates")), None)


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
        """A success ends the failure of the same days, and those of days within them."""
        note = f"{what} ran through{f' for {_span(*self.days)}' if self.days else ''}."
        keys = {f"{what} {_span(*self.days)}" if self.days else what}
        for opened in open_alerts:
            first, last = opened.alert.figures.get("first_day"), opened.alert.figures.get("last_day")
            if (
                self.days
                and opened.alert.key.startswith(f"{what} ")
                and self.days[0] <= str(first)
                and str(last) <= self.days[1]
            ):
                keys.add(opened.alert.key)
        for key in sorted(keys):
            yield Observation(key, at, note=note)


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first}..{last}"


def _cause(event: dg.DagsterEvent) -> str:
    """Why a step failed, in the words of the error that our code raised."""
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return without_secrets(" ".join(str(failure.user_failure_data.description).split()))[:TEXT_MOST]
    error = failure.error
    # Dagster wraps the error; what ours was raised from says less than ours.
    while error is not None and error.cause is not None and (error.cls_name or "").startswith(DAGSTERS_OWN):
        error = error.cause
    text = error.message if error else "no reason was recorded; see the run's log"
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
                key = f"delivery {source.name} {scope}"
                if latest is not None and latest.state in ("refused", "waiting"):
                    since = opened[key].detected_at if key in opened else latest.seen_at
                    limit = timedelta(hours=platform.settings.alerts.waiting_hours)
                    current[key] = _of_delivery(key, source, latest, since, too_long=now - since > limit)
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


def _of_delivery(key: str, source: Source, latest: Generation, since: datetime, *, too_long: bool) -> Alert:
    figures: dict[str, Figure] = {"scope": latest.scope, "generation": latest.generation, "files": len(latest.files)}
    reason = without_secrets(latest.reason or "no reason was recorded")[:TEXT_MOST]
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
        "WARNING" if too_long else "INFO",
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
            newest = _newest_whole_day(platform, source)
        except FinopsError:
            continue  # delivery_observations tells of a ledger that cannot be read
        if newest is not None and newest >= due:
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


def _newest_whole_day(platform: Platform, source: Source) -> date | None:
    """The newest day that live deliveries hold with rows, and that their provider does not call incomplete."""
    live = list(Ledger(platform.lake, source.name).all_live())
    for day in sorted({d for g in live for d, totals in g.days.items() if totals.rows}, reverse=True):
        if not incomplete_sectors([s for g in live if day in g.days for s in g.recency()], day):
            return day
    return None


def late_observations(late: Iterable[Alert], now: datetime, open_alerts: Iterable[OpenAlert]) -> Iterator[Observation]:
    """The late sources, and that those told of before are late no more."""
    current = {alert.key: alert for alert in late}
    for key, alert in current.items():
        yield Observation(key, now, alert)
    for opened in open_alerts:
        key = opened.alert.key
        if key.startswith("late ") and key not in current:
            yield Observation(key, now, note="The day that was due has been delivered.")
