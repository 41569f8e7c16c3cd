"""A run whose process is gone is ended by whoever comes next, and one that lives never is. With real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import dagster as dg
import pytest

from finops_assets.base import processes
from finops_assets.base.processes import Process, state, this_process
from finops_assets.graph.dead_runs import (
    GONE_AFTER_SECONDS,
    IDENTITY_TAG,
    SEEN_TAG,
    describe,
    end_dead_runs,
    is_dead,
    owner,
    owner_tags,
)
from finops_assets_tests.running import persistent_instance

POOL = "warehouse"


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """Another process, which says who it is and goes on until it is ended."""
    program = "import json, sys, dataclasses; from finops_assets.base.processes import this_process;"
    program += "print(json.dumps(dataclasses.asdict(this_process())), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def who(process: subprocess.Popen[str]) -> Process:
    assert process.stdout is not None
    return Process(**json.loads(process.stdout.readline()))


def test_a_process_is_alive_until_it_ends_also_while_nobody_has_collected_it(other: subprocess.Popen[str]) -> None:
    told = who(other)
    assert (told.pid, told.host) == (other.pid, this_process().host)
    assert state(told) == "alive"
    other.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # ended, and left as it is: a zombie
    assert state(told) == "gone"
    other.wait()
    assert state(told) == "gone"


def test_a_number_given_again_is_not_taken_for_the_process_that_had_it() -> None:
    assert state(this_process()) == "alive"
    assert state(replace(this_process(), started="1")) == "gone"


def test_a_process_that_the_system_hides_is_not_taken_for_gone(
    other: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = who(other)
    this_process()
    monkeypatch.setattr(processes, "PROC", tmp_path)  # hidepid: the folders of other users' processes are not there
    assert state(told) == "elsewhere"
    other.kill()
    other.wait()
    assert state(told) == "gone"


def test_without_a_proc_the_moment_of_the_start_comes_from_ps(
    other: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = who(other).pid
    this_process()
    monkeypatch.setattr(processes, "PROC", tmp_path / "none")
    told = replace(this_process(), pid=pid, started=processes._started_by_ps(pid))
    assert state(told) == "alive"
    assert state(replace(told, started="Mon Jan  1 00:00:00 2024")) == "gone"
    other.kill()
    other.wait()
    assert state(told) == "gone"


def test_another_boot_of_this_machine_is_gone_and_what_is_not_seen_is_elsewhere() -> None:
    here = this_process()
    rebooted = replace(here, boot="another boot")
    assert state(rebooted) == ("gone" if here.machine else "elsewhere")
    for unseen in (
        replace(here, boot="another boot", host="another host"),
        replace(here, boot="another boot", machine="another machine"),  # two hosts of one name
        replace(here, boot="another boot", machine=""),
        replace(here, table="pid:[1]"),  # a container of this very kernel
    ):
        assert state(unseen) == "elsewhere"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with persistent_instance(tmp_path / "history") as instance:
        instance.event_log_storage.set_concurrency_slots(POOL, 1)
        yield instance


def a_run(instance: dg.DagsterInstance, process: Process | None = None, seen_ago: float | None = 0.0) -> dg.DagsterRun:
    """A run that has begun, has the pool's slot, and that this process works on."""

    @dg.op
    def nothing() -> None: ...

    @dg.job
    def work() -> None:
        nothing()

    run = instance.create_run_for_job(work)
    tags = owner_tags(run.run_id) if process else {}
    if process:
        tags[IDENTITY_TAG] = json.dumps({"run": run.run_id, **asdict(process)})
    if seen_ago is None:
        tags.pop(SEEN_TAG, None)
    elif process:
        tags[SEEN_TAG] = str(time.time() - seen_ago)
    instance.add_run_tags(run.run_id, tags)
    instance.report_dagster_event(dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, "work"), run.run_id)
    instance.event_log_storage.claim_concurrency_slot(POOL, run.run_id, "nothing")
    return again(instance, run)


def again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def holders(instance: dg.DagsterInstance) -> list[str]:
    return [slot.run_id for slot in instance.event_log_storage.get_concurrency_info(POOL).claimed_slots]


def test_a_dead_run_is_ended_with_a_word_and_its_slot_freed(
    instance: dg.DagsterInstance, other: subprocess.Popen[str]
) -> None:
    process = who(other)
    run = a_run(instance, process)
    assert owner(run) == process
    assert end_dead_runs(instance) == []
    assert again(instance, run).status is dg.DagsterRunStatus.STARTED
    assert holders(instance) == [run.run_id]
    other.kill()
    other.wait()
    [line] = end_dead_runs(instance)
    assert line.startswith(f"run {run.run_id[:8]} of process {process.pid} on {process.host}, which is gone, was ended")
    assert again(instance, run).status is dg.DagsterRunStatus.FAILURE
    told = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert [entry.dagster_event.message for entry in told if entry.dagster_event] == [line]
    assert holders(instance) == []
    assert end_dead_runs(instance) == []


def test_a_run_elsewhere_is_ended_only_when_it_has_not_been_heard_of_for_long(instance: dg.DagsterInstance) -> None:
    there = replace(this_process(), host="elsewhere", machine="m", boot="b", table="t")
    assert not is_dead(a_run(instance, there, seen_ago=None))
    assert not is_dead(a_run(instance, there, seen_ago=GONE_AFTER_SECONDS - 60))
    assert is_dead(a_run(instance, there, seen_ago=GONE_AFTER_SECONDS + 60))


def test_whose_run_it_is_nobody_knows_is_left_alone_also_with_tags_copied_from_a_dead_run(
    instance: dg.DagsterInstance,
) -> None:
    dead = a_run(instance, replace(this_process(), started="1"))
    unknown = a_run(instance)
    instance.add_run_tags(unknown.run_id, dict(dead.tags))
    assert is_dead(dead)
    assert not is_dead(again(instance, unknown))
    assert "terminate it in the UI" in describe(again(instance, unknown))


def test_a_slot_of_a_run_that_dagster_ended_already_is_freed_once_its_process_is_gone(
    instance: dg.DagsterInstance,
) -> None:
    alive = a_run(instance, this_process())
    instance.report_run_failed(alive)
    end_dead_runs(instance)
    assert holders(instance) == [alive.run_id]
    instance.add_run_tags(
        alive.run_id,
        {IDENTITY_TAG: json.dumps({"run": alive.run_id, **asdict(replace(this_process(), started="1"))})},
    )
    end_dead_runs(instance)
    assert holders(instance) == []
