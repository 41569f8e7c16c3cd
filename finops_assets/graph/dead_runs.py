"""Which process works on a run, and ending the runs whose process is gone.

A killed process leaves its run started for ever in Dagster's history, with its slots of the pools claimed: whoever comes
after would wait for it for ever. So a run says which process works on it, and that it still does. Whoever wants something
that a dead run holds ends it. A run that lives is never ended: where its process cannot be seen, on another machine or in
another container, it counts as dead only when it has not been heard of for GONE_AFTER_SECONDS.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import dagster as dg

from finops_assets.base.processes import Process, state, this_process

PROCESS_TAG = "finops/process"
"""For people: "4711 on build-7"."""
IDENTITY_TAG = ".dagster/finops_process"
"""The process and the run it works on, as JSON: somebody who runs a run again in the UI copies its tags."""
SEEN_TAG = ".dagster/finops_seen"
"""When the process was last heard of, in seconds since 1970."""
LOOK_SECONDS, SEEN_EVERY_SECONDS = 5.0, 20.0
GONE_AFTER_SECONDS = 300.0

UNDER_WAY = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
RANGE = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def owner_tags(run_id: str) -> dict[str, str]:
    """The tags by which a run says that this process works on it."""
    me = this_process()
    return {
        PROCESS_TAG: f"{me.pid} on {me.host}",
        IDENTITY_TAG: json.dumps({"run": run_id, **asdict(me)}),
        SEEN_TAG: f"{time.time():.0f}",
    }


def owner(run: dg.DagsterRun) -> Process | None:
    """The process that works on a run; None: it has not said so."""
    try:
        told: dict[str, Any] = json.loads(run.tags[IDENTITY_TAG])
        return Process(**told) if told.pop("run") == run.run_id else None
    except (KeyError, ValueError, TypeError):
        return None


def is_dead(run: dg.DagsterRun) -> bool:
    """Is the process gone that works on this run? False where nobody knows."""
    process = owner(run)
    if process is None:
        return False
    match state(process):
        case "alive":
            return False
        case "gone":
            return True
        case "elsewhere":
            return _unheard_seconds(run) > GONE_AFTER_SECONDS


def _unheard_seconds(run: dg.DagsterRun) -> float:
    try:
        return time.time() - float(run.tags[SEEN_TAG])
    except (KeyError, ValueError):
        return 0.0


def describe(run: dg.DagsterRun) -> str:
    """A run for the eye: which, of what days, and who works on it."""
    first, last = (run.tags.get(tag) for tag in RANGE)
    days = (
        f" of {first} to {last}"
        if first and last
        else f" of {day}"
        if (day := run.tags.get("dagster/partition"))
        else ""
    )
    process = owner(run)
    who = (
        f" ({process})"
        if process
        else " (of a process that does not say which it is; if it is dead, terminate it in the UI)"
    )
    return f"run {run.run_id[:8]} {run.job_name}{days}{who}"


def end_dead_runs(instance: dg.DagsterInstance, among: Iterable[str] | None = None) -> list[str]:
    """End the runs whose process is gone, and free the slots that they and other ended runs hold; a line for each ended.

    `among` limits it to these run ids.
    """
    ids = None if among is None else list(among)
    if ids == []:
        return []
    lines = []
    for record in instance.get_run_records(dg.RunsFilter(run_ids=ids, statuses=UNDER_WAY)):
        run = record.dagster_run
        if not is_dead(run):
            continue
        # Somebody else may have been faster.
        now = instance.get_run_by_id(run.run_id)
        if now is not None and not now.is_finished:
            line = (
                f"run {run.run_id[:8]} of {owner(run)}, which is gone, was ended; what it did not finish is run again"
            )
            if now.status is dg.DagsterRunStatus.CANCELING:
                instance.report_run_canceled(now, line)
            else:
                instance.report_run_failed(now, line)
            lines.append(line)
    _free_slots(instance, ids)
    return lines


def _free_slots(instance: dg.DagsterInstance, among: list[str] | None) -> None:
    """Free the slots of runs that have ended and whose process is gone, and of runs that were deleted.

    A run that was ended from outside may still be at work: then its process frees them. Of a run that does not say whose it
    is nobody knows; Dagster's run monitoring frees them after a while (dagster.yaml).
    """
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    infos = storage.get_concurrency_infos(sorted(storage.get_concurrency_keys())).values()
    holding = {slot.run_id for info in infos for slot in info.claimed_slots}
    holding |= {step.run_id for info in infos for step in info.pending_steps}
    for run_id in holding if among is None else holding.intersection(among):
        run = instance.get_run_by_id(run_id)
        if run is None or (run.is_finished and is_dead(run)):
            storage.free_concurrency_slots_for_run(run_id)


class Work:
    """The work of this process on a run. The history is told that it is under way, until it ends."""

    def __init__(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
        self.instance = instance
        self.run_id = run.run_id
        # The daemon's workers are told by Dagster itself to end a run that is canceled; a command's process is not.
        self._ended = [*ENDED, *([] if run.remote_job_origin else [dg.DagsterRunStatus.CANCELING])]
        self._writes = threading.Lock()

    def tag(self, tags: dict[str, str]) -> None:
        """Add tags to the run. Dagster writes all of a run's tags at once, so two threads must not do it together."""
        with self._writes:
            self.instance.add_run_tags(self.run_id, tags)

    def beat(self, over: threading.Event) -> None:
        """Say that it goes on; interrupt it where the run was ended from outside."""
        seen = time.monotonic()
        while not over.wait(LOOK_SECONDS):
            # A history that cannot be reached for a moment is no reason to end: the next look may find it.
            with suppress(Exception):
                run = self.instance.get_run_by_id(self.run_id)
                if (run is None or run.status in self._ended) and not over.is_set():
                    os.kill(os.getpid(), signal.SIGINT)
                    return
                if time.monotonic() - seen >= SEEN_EVERY_SECONDS:
                    self.tag({SEEN_TAG: f"{time.time():.0f}"})
                    seen = time.monotonic()


@contextmanager
def worked_on(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[Work]:
    """Within the block the history says that this process works on the run, and that it still does; slots end with it.

    A run that is ended from outside meanwhile, by a person in the UI or by whoever took it for dead, is interrupted here.
    """
    work = Work(instance, run)
    work.tag(owner_tags(run.run_id))
    over = threading.Event()
    thread = threading.Thread(target=work.beat, args=(over,), name="finops-beat", daemon=True)
    thread.start()
    try:
        yield work
    finally:
        over.set()
        thread.join()
        # All steps are in this process: whatever is still claimed is claimed by nobody.
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
