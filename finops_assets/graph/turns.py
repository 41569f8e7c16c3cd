"""Runs over common days one after another, and those that write the tables of reports: the later one waits.

Two that build a day at the same time would take each other's unfinished gates for verdicts, and hold it; two that publish
would hand the warehouse to each other at every step. The turns stand in the tags of the runs, so they hold across processes
and hosts, and end with the run, dead ones included.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import date

import dagster as dg
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._utils.interrupts import pop_captured_interrupt

from finops_assets.base.waiting import Wait, tell
from finops_assets.graph.assets.report_tables import POOL
from finops_assets.graph.dead_runs import RANGE, UNDER_WAY, Work, describe, end_dead_runs

TURN_TAG = "finops/turn"
"""`RUN waits` or `RUN works`, with the run's own id: somebody who runs a run again in the UI copies its tags."""
WAITS, WORKS = "waits", "works"
LOOK_SECONDS = 0.5


def days_of(run: dg.DagsterRun) -> tuple[date, date] | None:
    """The first and the last day that a run is about; None: it is about no days."""
    day = run.tags.get("dagster/partition")
    first, last = (run.tags.get(tag, day) for tag in RANGE)
    try:
        return (date.fromisoformat(first), date.fromisoformat(last)) if first and last else None
    except ValueError:  # partitioned by something else
        return None


def take_turn(work: Work, run: dg.DagsterRun, plan: ExecutionPlan, patience: float) -> None:
    """Wait until no other run works on any of the run's days, or on the tables, and say that this one does.

    Raises:
        WaitedTooLong: another has worked on them for longer than `patience` (seconds).
        KeyboardInterrupt: it was told to end.
    """
    days = days_of(run)
    if days is None and not any(step.pool == POOL for step in plan.get_steps_to_execute_in_topo_order()):
        return
    wait = Wait(patience)
    work.tag({TURN_TAG: f"{run.run_id} {WAITS}"})
    while True:
        before = _before(work.instance, days, run.run_id)
        if not before:
            work.tag({TURN_TAG: f"{run.run_id} {WORKS}"})
            before = _before(work.instance, days, run.run_id)
            if not before:
                return
            # Both looked before either had said so: whose run is older goes first.
            work.tag({TURN_TAG: f"{run.run_id} {WAITS}"})
        if pop_captured_interrupt():
            raise KeyboardInterrupt
        _wait_for(before, wait)


def wait_for_others(instance: dg.DagsterInstance, days: Iterable[date], patience: float) -> None:
    """Wait until no run works on any of these days, so that what is left of them can be told. Dead runs are ended first.

    All of them: a command that then finds nothing to do is the last that would come by.

    Raises:
        WaitedTooLong: one has worked on them for longer than `patience` (seconds).
    """
    for line in end_dead_runs(instance):
        tell(line)
    wanted = sorted(days)
    wait = Wait(patience)
    while wanted and (before := _before(instance, (wanted[0], wanted[-1]), None)):
        _wait_for(before, wait)


def _wait_for(before: list[dg.DagsterRun], wait: Wait) -> None:
    names = ", ".join(map(describe, before))
    wait.goes_on(lambda: f"its turn: {names} is at work on the same")
    time.sleep(LOOK_SECONDS)


def _before(instance: dg.DagsterInstance, days: tuple[date, date] | None, run_id: str | None) -> list[dg.DagsterRun]:
    """The other runs over the same that are at work, or were made before this one and wait; dead ones were ended."""
    found, own_place = [], None
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNDER_WAY)):
        other = record.dagster_run
        turn = other.tags.get(TURN_TAG)
        if other.run_id == run_id:
            own_place = record.storage_id
        elif turn in (f"{other.run_id} {WAITS}", f"{other.run_id} {WORKS}") and _common(days, days_of(other)):
            found.append((record.storage_id, other, turn.endswith(WORKS)))
    before = [other for place, other, works in found if works or (own_place is not None and place < own_place)]
    ended = end_dead_runs(instance, [run.run_id for run in before]) if before else []
    for line in ended:
        tell(line)
    return _before(instance, days, run_id) if ended else before


def _common(one: tuple[date, date] | None, other: tuple[date, date] | None) -> bool:
    """None stands for the tables, of which there is one set."""
    if one is None or other is None:
        return one is other
    return one[0] <= other[1] and other[0] <= one[1]
