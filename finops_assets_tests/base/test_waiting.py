"""Whoever waits says for what and for whom, gives up after a while, and takes its turn. With real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from typer.testing import CliRunner

from finops_assets.base import waiting
from finops_assets.base.errors import WaitedTooLong
from finops_assets.base.waiting import Wait, telling
from finops_assets.cli.program import app
from finops_assets.definitions import build_definitions
from finops_assets.graph.assets.report_tables import POOL
from finops_assets.graph.dead_runs import IDENTITY_TAG, Work, owner_tags
from finops_assets.graph.keys import BUILD_STEP
from finops_assets.graph.run_range import open_instance, run_range, steps_of
from finops_assets.graph.turns import TURN_TAG, WAITS, WORKS, days_of, wait_for_others
from finops_assets.graph.turns import _before as before_it
from finops_assets.settings.load import load_settings
from finops_assets_tests.places import PROJECT
from finops_assets_tests.running import DIMENSIONS, LAYOUTS, persistent_instance, small_estate

SHIPPED = PROJECT
FINOPS = Path(sys.executable).parent / "finops"
FIRST, LAST, END = date(2026, 9, 1), date(2026, 9, 3), "2026-09-04"
DAYS = [date(2026, 9, d) for d in (1, 2, 3)]
PATIENCE_SECONDS = 240


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder with three days of a cloud, in which nothing has run yet."""
    root = tmp_path_factory.mktemp("project")
    small_estate(root, FIRST, LAST)
    source = f"{{name: gcp, uri: estate/gcp, layout: {LAYOUTS['gcp']}}}"
    (root / "finops.yaml").write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nsources: [{source}]\n{DIMENSIONS}",
        encoding="utf-8",
    )
    (root / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("DAGSTER_HOME", raising=False)
        yield root


@contextmanager
def finops(project: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command of ours, as a process of its own."""
    with subprocess.Popen(
        [str(FINOPS), *words], cwd=project, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until_it_works_on(instance: dg.DagsterInstance, process: subprocess.Popen[str], step: str) -> dg.DagsterRun:
    """Wait until a run of this process is in a step."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            if f'"pid": {process.pid},' in run.tags[IDENTITY_TAG]:
                steps = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_START).records
                if any(record.event_log_entry.step_key == step for record in steps):
                    return run
        time.sleep(0.02)
    pytest.fail(f"it never came to {step}: {process.communicate()[0]}")


def costs(project: Path) -> list[tuple[date, Decimal]]:
    with duckdb.connect(str(project / "p.duckdb"), read_only=True) as connection:
        return connection.execute(
            "SELECT charge_date, sum(effective_cost) FROM daily_cost_by_team GROUP BY ALL ORDER BY ALL"
        ).fetchall()


def claimed(instance: dg.DagsterInstance) -> set[str]:
    storage = instance.event_log_storage
    infos = storage.get_concurrency_infos(sorted(storage.get_concurrency_keys())).values()
    return {slot.run_id for info in infos for slot in info.claimed_slots}


@pytest.mark.long
def test_a_run_killed_and_one_interrupted_leave_nothing_that_the_next_waits_for(project: Path) -> None:
    with open_instance() as instance:
        with finops(project, "run", str(FIRST), END) as process:
            killed = until_it_works_on(instance, process, BUILD_STEP)
            process.kill()
            process.wait()
        assert claimed(instance) == {killed.run_id}
        with finops(project, "run", str(FIRST), END) as process:
            stopped = until_it_works_on(instance, process, BUILD_STEP)
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 128 + signal.SIGTERM
        assert f"run {killed.run_id[:8]} of process" in said
        assert "which is gone, was ended" in said
        assert f"Go on with: finops backfill {FIRST} {END}" in said
        for word in ("Traceback", "terminate called"):
            assert word not in said
        ended = {run.run_id: run.status for run in instance.get_runs()}
        assert ended[killed.run_id] is dg.DagsterRunStatus.FAILURE
        assert ended[stopped.run_id] is dg.DagsterRunStatus.CANCELED
        assert claimed(instance) == set()
        result = CliRunner().invoke(app, ["backfill", str(FIRST), END])
        assert result.exit_code == 0, result.output
        assert "0 held back" in result.output
        assert claimed(instance) == set()
    assert [day for day, _ in costs(project)] == DAYS


@pytest.mark.long
def test_runs_over_common_days_go_one_after_the_other(project: Path) -> None:
    # Where this test runs alone nothing is built yet.
    assert CliRunner().invoke(app, ["backfill", str(FIRST), END]).exit_code == 0
    costs_before = costs(project)
    assert [day for day, _ in costs_before] == DAYS
    with finops(project, "run", str(FIRST), END) as one, finops(project, "run", str(DAYS[1]), END) as other:
        said = [process.communicate(timeout=PATIENCE_SECONDS)[0] for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    assert "3 days built, 0 held back" in said[0]
    assert "2 days built, 0 held back" in said[1]
    assert costs(project) == costs_before


@contextmanager
def somebody_who_has_it_open(file: Path) -> Iterator[int]:
    program = f"import duckdb, sys; c = duckdb.connect({str(file)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.mark.long
def test_a_warehouse_that_somebody_has_open_is_waited_for_with_words_and_an_end(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "FIRST_WORD_SECONDS", 0.1)
    config = (project / "finops.yaml").read_text(encoding="utf-8")
    (project / "short.yaml").write_text(f"{config}wait_minutes: 0.01\n", encoding="utf-8")
    with somebody_who_has_it_open(project / "w.duckdb") as pid:
        result = CliRunner().invoke(app, ["publish", "-c", "short.yaml"])
        name = Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
    assert result.exit_code == 4, result.output
    assert f"process {pid} ({name}) has it open; close it, or point it at p.duckdb" in result.output
    with open_instance() as instance:
        assert claimed(instance) == set()
        [newest] = instance.get_runs(limit=1)
        assert newest.status is dg.DagsterRunStatus.FAILURE


@pytest.mark.long
def test_progress_tells_of_every_step(project: Path) -> None:
    defs, told = build_definitions(load_settings(None)), list[str]()
    with open_instance() as instance:
        assert run_range(defs, instance, DAYS[:1], told.append).built == DAYS[:1]
    assert BUILD_STEP in told
    assert len(told) == len(set(told)) == steps_of(defs, "daily")


def test_words_come_after_two_seconds_and_every_thirty_and_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [1000.0], list[tuple[float, str]]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    wait = Wait(100.0)
    with telling(lambda text: said.append((now[0] - 1000, text))):
        for _ in range(99):
            wait.goes_on(lambda: "the bus: process 7 has it")
            now[0] += 1
        assert said == [(s, "waiting for the bus: process 7 has it") for s in (2, 32, 62, 92)]
        now[0] += 1
        with pytest.raises(WaitedTooLong, match="100 seconds in vain for the bus: process 7 has it"):
            wait.goes_on(lambda: "the bus: process 7 has it")


@pytest.fixture
def history(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with persistent_instance(tmp_path / "history") as instance:
        yield instance


def a_run(instance: dg.DagsterInstance, days: tuple[str, str] | None, turn: str) -> dg.DagsterRun:
    """A run of this process over days, or over the tables."""

    @dg.op
    def nothing() -> None: ...

    @dg.job
    def work() -> None:
        nothing()

    run = instance.create_run_for_job(work)
    tags = {**owner_tags(run.run_id), TURN_TAG: f"{run.run_id} {turn}"}
    if days:
        tags |= {"dagster/asset_partition_range_start": days[0], "dagster/asset_partition_range_end": days[1]}
    Work(instance, run).tag(tags)
    return run


def test_a_turn_is_for_common_days_and_for_the_tables(history: dg.DagsterInstance) -> None:
    works = a_run(history, ("2026-09-01", "2026-09-03"), WORKS)
    waits = a_run(history, ("2026-09-03", "2026-09-05"), WAITS)
    tables = a_run(history, None, WORKS)
    newest = a_run(history, ("2026-09-05", "2026-09-06"), WAITS)

    def before(days: tuple[date, date] | None, run: dg.DagsterRun | None = None) -> set[str]:
        return {found.run_id for found in before_it(history, days, run.run_id if run else None)}

    def september(first: int, last: int) -> tuple[date, date]:
        return date(2026, 9, first), date(2026, 9, last)

    assert before(september(3, 5), waits) == {works.run_id}
    assert before(september(5, 6), newest) == {waits.run_id}  # first come, first served
    assert before(september(1, 3), works) == set()
    assert before(september(7, 8)) == set()
    assert before(None, a_run(history, None, WAITS)) == {tables.run_id}
    history.report_run_canceled(works)
    assert before(september(3, 5), waits) == set()
    history.add_run_tags(waits.run_id, {TURN_TAG: f"{waits.run_id} {WORKS}"})
    with pytest.raises(WaitedTooLong, match=f"in vain for its turn: run {waits.run_id[:8]} work of 2026-09-03 to"):
        wait_for_others(history, [date(2026, 9, 4)], patience=0.0)


def test_days_of_a_run_are_those_of_its_partition_or_range(history: dg.DagsterInstance) -> None:
    run = a_run(history, ("2026-09-01", "2026-09-03"), WORKS)
    assert days_of(history.get_runs()[0]) == (DAYS[0], DAYS[2])
    assert days_of(run.with_tags({"dagster/partition": "2026-09-02"})) == (DAYS[1], DAYS[1])
    assert days_of(run.with_tags({"dagster/partition": "aws"})) is None
    assert days_of(run.with_tags({})) is None


def test_a_slot_that_dagster_gave_to_nobody_is_given_to_whoever_waits(history: dg.DagsterInstance) -> None:
    """Freed between a waiter's look and its place in the queue: Dagster then leaves it there for ever."""
    storage = history.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    storage.set_concurrency_slots("pool", 1)
    run = a_run(history, None, WAITS)
    storage.add_pending_step("pool", run.run_id, "nothing", should_assign=False)
    assert not storage.claim_concurrency_slot("pool", run.run_id, "nothing").is_claimed

    from finops_assets.graph.executor import _Slots

    let_go: list[str] = []
    with _Slots(history, run, 1.0, lambda: let_go.append("warehouse")) as slots:
        assert not slots.claim("pool", "nothing")
        assert let_go, "who has the slot may wait for the warehouse"
        assert storage.claim_concurrency_slot("pool", run.run_id, "nothing").is_claimed


def test_the_slot_of_the_warehouse_is_handed_from_step_to_step_and_given_away_after_a_while(
    history: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finops_assets.graph import executor

    storage = history.event_log_storage
    for pool in (POOL, "landing"):
        storage.set_concurrency_slots(pool, 1)
    run = a_run(history, None, WAITS)
    asked: list[str] = []
    claim = storage.claim_concurrency_slot

    def counted(key: str, run_id: str, step: str, priority: int | None = None) -> object:
        asked.append(step)
        return claim(key, run_id, step, priority)

    monkeypatch.setattr(storage, "claim_concurrency_slot", counted)
    with executor._Slots(history, run, 1.0, lambda: None) as slots:
        for step in ("one", "two"):
            assert slots.claim(POOL, step)
            slots.free_step(step)
            assert claimed(history) == {run.run_id}
        assert asked == ["one"]
        assert slots.claim("landing", "three")
        assert [i.claimed_slots for i in storage.get_concurrency_infos([POOL]).values()] == [[]], (
            "not held while waiting"
        )
        slots.free_step("three")
        assert claimed(history) == set()
        assert slots.claim(POOL, "four")
        slots.free_step("four")
        monkeypatch.setattr(executor, "KEPT_SECONDS", 0.0)
        assert slots.claim(POOL, "five")
        assert asked == ["one", "three", "four"]
        slots.free_step("five")
        assert claimed(history) == set(), "whoever waits has his turn"
        assert slots.claim(POOL, "six")
    assert claimed(history) == set()
