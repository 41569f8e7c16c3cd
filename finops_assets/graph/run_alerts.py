"""What was seen: in the runs that Dagster finished, in the ledger of deliveries, and by the clock.

Every function here only reads. What it returns may be entered any number of times (see `OpenHistory.enter`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg

from finops_assets.alerts.alert import QUOTED_MOST, Alert, Figure, Observation, OpenAlert, key_of
from finops_assets.base.period import span_of
from finops_assets.base.secrets import without_secrets
from finops_assets.cost.restatements import TakenOut, taken_out, taken_out_told
from finops_assets.graph.day_verdicts import AWAITED, HELD_BEFORE, OF_DAYS, OF_SOURCES, only_held
from finops_assets.graph.failures import why_step_failed
from finops_assets.graph.history import events_of
from finops_assets.graph.keys import BUILD_STEP, FACTS, ROLLUP
from finops_assets.judge.gates.raw import ONLY_PENDING
from finops_assets.platform import Platform
from finops_assets.settings.model import Settings
from finops_assets.storage.published_copy import read_copy

TOLD_OF = (
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_SUCCESS,
)
FINISHED = (
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELED,
)
RUNS_A_TICK = 200
TAKEN_OUT = "taken out"
"""What keys begin with of alerts of sources whose cost stands, though finops.yaml has them no more."""
SETTINGS = "settings"
"""The key of the alert that finops.yaml was changed and the asset graph was not loaded anew."""


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
    for entry in events_of(instance, run.run_id, *TOLD_OF):
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
    text = without_secrets(evaluation.description or "")[:QUOTED_MOST]
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
            text=without_secrets(said)[:QUOTED_MOST],
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
        span = f" {span_of(*self.days)}" if self.days else ""
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
        note = f"{what} ran through{f' for {span_of(*self.days)}' if self.days else ''}."
        keys = {f"{what} {span_of(*self.days)}" if self.days else what}
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
        text = without_secrets(changed)[:QUOTED_MOST]
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
    steps: Collection[str] = (),
) -> Iterator[Observation]:
    """The end of alerts that nothing could ever end: of what finops.yaml does not have any more.

    `sources` are all there are, `checks` the names of all checks by asset; of other assets than these nothing is said.
    `steps` are the names of all steps; without any nothing is said of steps.
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
        elif steps and alert.key.startswith("step ") and (step := _node_of(alert.key)) not in steps:
            yield Observation(alert.key, now, note=f"There is no step {step} any more.")


def _node_of(key: str) -> str:
    """The name of the step that an alert is of; one within a graph, or one of many, is told by what it is part of."""
    return re.split(r"[.\[]", key.split(" ")[1])[0]


def taken_out_observations(
    published: Path, sources: Collection[str], now: datetime, open_alerts: Iterable[OpenAlert]
) -> Iterator[Observation]:
    """Sources that finops.yaml has no more and whose cost still stands in the published copy, and the end of it."""
    stands: TakenOut = {}
    if published.is_file():
        with read_copy(published) as connection:
            stands = taken_out(connection, sources)
    current = {f"{TAKEN_OUT} {source}": source for source in stands}
    for key, source in current.items():
        [text] = taken_out_told({source: stands[source]}, stands)
        title = f"{source} was taken out of finops.yaml, and cost of it still stands"
        yield Observation(key, now, Alert(key, "WARNING", title, f"{text}.", source, reminders="weekly"))
    for opened in open_alerts:
        key = opened.alert.key
        if key.startswith(f"{TAKEN_OUT} ") and key not in current:
            yield Observation(key, now, note="Its cost has left, or it is in finops.yaml again.")


def _cause(event: dg.DagsterEvent) -> str:
    """Why a step failed, in the words of the error that our code raised."""
    text = why_step_failed(event.step_failure_data) or "no reason was recorded; see the run's log"
    return without_secrets(" ".join(text.split()))[:QUOTED_MOST].rstrip(".")


def _at(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
