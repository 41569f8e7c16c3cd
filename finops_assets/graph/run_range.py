"""Running the graph for a range of days from the command line, into the history that the UI shows."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator
from dagster._core.utils import make_new_run_id
from filelock import FileLock, Timeout

from finops_assets.base.errors import FinopsError, WaitedTooLong
from finops_assets.base.period import consecutive
from finops_assets.base.processes import holding_open, name_of
from finops_assets.base.waiting import PATIENCE_MINUTES, Wait, tell
from finops_assets.graph.day_verdicts import AWAITED, HELD_BEFORE
from finops_assets.graph.dead_runs import end_dead_runs, owner_tags
from finops_assets.graph.failures import why, why_step_failed
from finops_assets.graph.history import events_of
from finops_assets.graph.keys import BUILD_STEP, CONVERTED, FACTS, ROLLUP
from finops_assets.graph.sqlite_history import together
from finops_assets.graph.standing import BY_TAG, COPY_TAG, copy_of, made_by
from finops_assets.platform import Platform

DAYS_PER_RUN = 31
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def open_instance() -> dg.DagsterInstance:
    """Dagster's instance: $DAGSTER_HOME, else the dagster.yaml of the current folder, as `dagster dev` has it.

    Raises:
        FinopsError: neither is there.
    """
    home = os.environ.get("DAGSTER_HOME")
    if not home and not Path("dagster.yaml").is_file():
        raise FinopsError(
            f"no dagster.yaml in {Path.cwd()} and no DAGSTER_HOME; run this in the project's folder, or copy the"
            " project's dagster.yaml here"
        )
    # Two that make the history's tables at once leave them in a state that Dagster cannot open again.
    with _locked(Path(home or Path.cwd()) / ".finops-history.lock"):
        if home:
            return dg.DagsterInstance.get()
        return dg.DagsterInstance.from_config(str(Path.cwd()), "dagster.yaml")


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    lock, wait = FileLock(file), Wait(PATIENCE_MINUTES * 60)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            wait.goes_on(partial(_opening, file))
    try:
        yield
    finally:
        lock.release()


def _opening(lock: Path) -> str:
    who = (
        ", ".join(f"process {pid} ({name_of(pid)})" for pid in holding_open(lock))
        or "a process that is not seen from here"
    )
    return f"Dagster's history: {who} is opening it and holds {lock}"


def heed_signals() -> None:
    """End in order when told to, by SIGINT or SIGTERM, and let what Dagster starts end.

    A script's background job is started with SIGINT ignored. Dagster takes the handler of SIGINT for SIGTERM, too, and its
    helpers inherit that: the `tail` of each step's log would not end, and the run wait half a minute for it, each time.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@dataclass
class Outcome:
    """What running a range came to."""

    built: list[date] = field(default_factory=list)
    """Also those that are built without a source that is held or awaited."""
    held: dict[date, list[str]] = field(default_factory=dict)
    """Days of which a gate holds everything, and why; a day that is built too is held for its converted figures only."""
    without: dict[date, list[str]] = field(default_factory=dict)
    """Days that are built without a source that a gate holds, and why."""
    awaited: dict[date, list[str]] = field(default_factory=dict)
    """Days that are not built because nothing of them is due yet."""
    errors: list[str] = field(default_factory=list)
    warned: dict[str, list[tuple[date, str]]] = field(default_factory=dict)
    """By asset and check that did not pass and holds nothing back: the days, and what each said."""


def steps_of(defs: dg.Definitions, job: str) -> int:
    """How many steps a run of a job has."""
    return len(defs.resolve_job_def(job).graph.node_dict)


def run_range(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    days: list[date],
    on_step: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Materialise raw, facts and rollup for these days, at most DAYS_PER_RUN consecutive days a run."""
    outcome = Outcome()
    job = defs.resolve_job_def("daily")
    for chunk in consecutive(days, DAYS_PER_RUN):
        tags = {
            "dagster/asset_partition_range_start": chunk[0].isoformat(),
            "dagster/asset_partition_range_end": chunk[-1].isoformat(),
        }
        result = _execute(job, instance, tags, on_step)
        # From the history, not from the result: what a step logs before it fails is only there.
        built = {
            date.fromisoformat(m.partition)
            for entry in events_of(instance, result.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
            if (m := entry.get_dagster_event().step_materialization_data.materialization).asset_key == ROLLUP
            and m.partition
        }
        evaluations = _evaluations(instance, result.run_id)
        failed = {day: reasons for day in chunk if (reasons := [_text(e) for e in evaluations if _holds(e, day)])}
        waiting = {day: reasons for day in chunk if (reasons := [_text(e) for e in evaluations if _waits(e, day)])}
        # What was built and then failed its gate is held, but for converted figures: they hold no rollup.
        bad = {day for day in failed if any(_holds(e, day) for e in evaluations if e.asset_key == ROLLUP)}
        unconverted = {day for day in failed if any(_holds(e, day) for e in evaluations if e.asset_key == CONVERTED)}
        outcome.built += sorted(built - bad)
        for day, reasons in failed.items():
            partly = day in built and day not in bad and day not in unconverted
            (outcome.without if partly else outcome.held)[day] = reasons
        outcome.awaited |= {day: reasons for day, reasons in waiting.items() if day not in built and day not in failed}
        for each in evaluations:
            if (
                not each.passed
                and not each.blocking
                and each.partition
                and not {HELD_BEFORE, AWAITED} & each.metadata.keys()
            ):
                name = f"{each.asset_key.to_user_string()} {each.check_name}"
                told = date.fromisoformat(each.partition), each.description or "did not pass"
                outcome.warned.setdefault(name, []).append(told)
        unexplained = [d for d in chunk if d not in built and d not in failed and d not in waiting]
        if unexplained:
            outcome.errors += _failures(result)
            if not any(e.is_step_start and e.step_key == BUILD_STEP for e in result.events):
                # Dagster's own line names steps, and stands in the run's log only.
                outcome.errors.append(
                    f"{FACTS.to_user_string()} and {ROLLUP.to_user_string()} did not run for {chunk[0]} to {chunk[-1]},"
                    " because what they are built from failed (see above). What was there before stands; mend the cause,"
                    " then run these days again"
                )
    return outcome


def publish(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    platform: Platform,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[list[str], list[str]]:
    """Make the reports and the published copy; returns what went wrong, and what checks of theirs warn of."""
    by = made_by(platform)
    result = _execute(defs.resolve_job_def("publish"), instance, {}, on_step)
    if result.success:
        instance.add_run_tags(result.run_id, {BY_TAG: by, COPY_TAG: copy_of(platform)})
    return ([] if result.success else _failures(result)), warned_of(instance, result.run_id)


def warned_of(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """What checks warned of in a run that published."""
    return [
        f"{e.asset_key.to_user_string()} {e.check_name}: {e.description or 'did not pass'}"
        for e in _evaluations(instance, run_id)
        if not e.passed and not e.blocking
    ]


def run_owners(defs: dg.Definitions, instance: dg.DagsterInstance) -> list[str]:
    """Suggest owners and publish them; returns what went wrong."""
    result = _execute(defs.resolve_job_def("owners"), instance, {}, lambda _: None)
    return [] if result.success else _failures(result)


@dataclass(frozen=True)
class Execution:
    """A run that has ended."""

    run_id: str
    events: list[dg.DagsterEvent]
    success: bool


def _execute(
    job: dg.JobDefinition, instance: dg.DagsterInstance, tags: dict[str, str], on_step: Callable[[str], None]
) -> Execution:
    """Run a job here, in this thread, where signals arrive, telling of each step that starts.

    Raises:
        KeyboardInterrupt: it was told to end, and has: the run is canceled.
        WaitedTooLong: somebody else has what it needs; the run has ended.
    """
    heed_signals()
    for line in end_dead_runs(instance):
        tell(line)
    run_id = make_new_run_id()
    with together(instance):
        run = instance.create_run_for_job(
            job, run_id=run_id, run_config=QUIET, tags={**job.run_tags, **tags, **owner_tags(run_id)}
        )
    events = []
    for event in execute_run_iterator(InMemoryJob(job), run, instance):
        events.append(event)
        if event.is_step_start and event.step_key:
            on_step(event.step_key)
    if any(event.event_type is dg.DagsterEventType.RUN_CANCELED for event in events):
        raise KeyboardInterrupt
    vain = next((text for event in events if (text := _waited_in_vain(event))), None)
    if vain:
        raise WaitedTooLong(vain)
    return Execution(run_id, events, any(e.event_type is dg.DagsterEventType.RUN_SUCCESS for e in events))


def _waited_in_vain(event: dg.DagsterEvent) -> str | None:
    """What a step or a run waited for until its patience ended."""
    error = None
    if event.is_step_failure:
        error = event.step_failure_data.error
    elif event.event_type is dg.DagsterEventType.RUN_FAILURE:
        error = event.job_failure_data.error
    while error is not None and error.cls_name != WaitedTooLong.__name__:
        error = error.cause
    # Dagster puts the class before the text.
    return error.message.partition(": ")[2].strip() if error else None


def _evaluations(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetCheckEvaluation]:
    entries = events_of(instance, run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    return [entry.get_dagster_event().asset_check_evaluation_data for entry in entries]


def _holds(evaluation: dg.AssetCheckEvaluation, day: date) -> bool:
    return bool(
        evaluation.blocking
        and not evaluation.passed
        and evaluation.partition == day.isoformat()
        and HELD_BEFORE not in evaluation.metadata
        and AWAITED not in evaluation.metadata
    )


def _waits(evaluation: dg.AssetCheckEvaluation, day: date) -> bool:
    return (
        evaluation.partition == day.isoformat()
        and AWAITED in evaluation.metadata
        and HELD_BEFORE not in evaluation.metadata
    )


def _text(evaluation: dg.AssetCheckEvaluation) -> str:
    return f"{evaluation.check_name}: {evaluation.description}"


def _failures(result: Execution) -> list[str]:
    texts = []
    for event in result.events:
        if event.is_step_failure:
            texts.append(f"{event.step_key}: {why_step_failed(event.step_failure_data) or 'failed'}")
        elif event.event_type is dg.DagsterEventType.RUN_FAILURE and not texts:
            said = why(event.job_failure_data.error) or event.message
            texts.append(said or "the run failed; see it in the UI")
    return texts or ["the run failed; see it in the UI"]
