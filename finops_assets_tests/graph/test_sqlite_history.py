"""The history in SQLite: Dagster's files and Dagster's content, kept by our storage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
import pytest
import yaml
from sqlalchemy import Connection, Engine, event, text

from finops_assets.graph import sqlite_history
from finops_assets_tests.places import PROJECT

OURS = {"custom": {"module": "finops_assets.graph.sqlite_history", "class": "SqliteHistory"}}
WRITE_AND_DIE = """
import os, sys
import dagster as dg
with dg.DagsterInstance.from_config(sys.argv[1], "dagster.yaml") as instance:
    instance.report_runless_asset_event(dg.AssetMaterialization("facts", partition="2026-09-01"))
    os.kill(os.getpid(), 9)
"""


def _home(folder: Path, ours: bool) -> str:
    base = {"base_dir": str(folder / "state")}
    storage = {"custom": {**OURS["custom"], "config": base}} if ours else {"sqlite": base}
    (folder / "dagster.yaml").write_text(yaml.safe_dump({"storage": storage, "telemetry": {"enabled": False}}))
    return str(folder)


def _days(instance: dg.DagsterInstance) -> set[str]:
    return instance.get_materialized_partitions(dg.AssetKey("facts"))


def _build(day: str, instance: dg.DagsterInstance) -> None:
    @dg.asset(name="facts", partitions_def=dg.DailyPartitionsDefinition("2026-09-01"))
    def facts() -> None: ...

    assert dg.materialize([facts], partition_key=day, instance=instance).success


def test_a_history_of_dagsters_own_storage_is_carried_on_and_can_go_back(tmp_path: Path) -> None:
    for ours, day in ((False, "2026-09-01"), (True, "2026-09-02"), (False, "2026-09-03")):
        with dg.DagsterInstance.from_config(_home(tmp_path, ours), "dagster.yaml") as instance:
            _build(day, instance)
    with dg.DagsterInstance.from_config(_home(tmp_path, True), "dagster.yaml") as instance:
        assert _days(instance) == {"2026-09-01", "2026-09-02", "2026-09-03"}
        runs = instance.get_runs()
        assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 3
        assert all(instance.all_logs(run.run_id) for run in runs)


def _rows(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """What stands in the index, table by table, but for when it was written."""
    told = {
        "event_logs": "run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition",
        "asset_keys": "asset_key, last_materialization, last_run_id, last_materialization_timestamp",
        "asset_event_tags": "event_id, asset_key, key, value, event_timestamp",
        "asset_check_executions": "asset_key, check_name, partition, run_id, execution_status, evaluation_event,"
        " evaluation_event_timestamp, evaluation_event_storage_id, materialization_event_storage_id",
    }
    with closing(sqlite3.connect(folder / "state" / "history" / "runs" / "index.db")) as index:
        return {table: index.execute(f"SELECT {columns} FROM {table}").fetchall() for table, columns in told.items()}


def test_events_are_written_as_dagsters_own_storage_writes_them(tmp_path: Path) -> None:
    days = dg.DailyPartitionsDefinition("2026-09-01")
    whole = dg.AssetCheckSpec("whole", asset="facts")
    of_day = dg.AssetCheckSpec("of_day", asset="facts", partitions_def=days)
    verdicts = iter([True, False, True])

    @dg.asset(name="facts", partitions_def=days, check_specs=[whole, of_day])
    def facts():  # type: ignore[no-untyped-def]  # Dagster reads it, and not as text
        passed = next(verdicts)
        return dg.MaterializeResult(
            tags={"team": "a"},
            data_version=dg.DataVersion("1"),
            check_results=[dg.AssetCheckResult(check_name=name, passed=passed) for name in ("whole", "of_day")],
        )

    folders = {ours: tmp_path / str(ours) for ours in (False, True)}
    for folder in folders.values():
        folder.mkdir()
    with dg.DagsterInstance.from_config(_home(folders[False], False), "dagster.yaml") as own:
        for day in ("2026-09-01", "2026-09-02", "2026-09-02"):
            assert dg.materialize([facts], partition_key=day, instance=own).success
        own.report_runless_asset_event(dg.AssetObservation("facts", tags={"a": "b"}))
        for passed in (True, False):
            own.report_runless_asset_event(
                dg.AssetCheckEvaluation(asset_key=dg.AssetKey("facts"), check_name="whole", passed=passed)
            )
        runs = [run.run_id for run in reversed(own.get_runs())]
        told = [entry for run_id in ["", *runs] for entry in own.all_logs(run_id)]
    with dg.DagsterInstance.from_config(_home(folders[True], True), "dagster.yaml") as instance:
        for entry in sorted(told, key=lambda entry: entry.timestamp):
            instance.event_log_storage.store_event(entry)
        assert [entry for run_id in ["", *runs] for entry in instance.all_logs(run_id)] == told
    written, expected = _rows(folders[True]), _rows(folders[False])
    assert {row[4] for row in expected["asset_check_executions"]} >= {"SUCCEEDED", "FAILED"}
    assert written == expected


@pytest.mark.long
def test_what_was_committed_outlives_a_kill(tmp_path: Path) -> None:
    home = _home(tmp_path, True)
    died = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, home], check=False, timeout=120)
    assert died.returncode == -9
    with dg.DagsterInstance.from_config(home, "dagster.yaml") as instance:
        assert _days(instance) == {"2026-09-01"}


def test_threads_write_one_history(tmp_path: Path) -> None:
    days = [f"2026-09-{day:02}" for day in range(1, 21)]
    with dg.DagsterInstance.from_config(_home(tmp_path, True), "dagster.yaml") as instance:

        def report(day: str) -> None:
            instance.report_runless_asset_event(dg.AssetMaterialization("facts", partition=day))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(report, days))
        assert _days(instance) == set(days)


def test_what_is_known_of_a_file_is_kept_and_a_commit_waits_for_no_disk(tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(_home(tmp_path, True), "dagster.yaml") as instance:
        _build("2026-09-01", instance)
        made = sqlite_history._engine.cache_info().misses
        for _ in range(3):
            instance.get_runs()
            assert _days(instance) == {"2026-09-01"}
        assert sqlite_history._engine.cache_info().misses == made
        with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
            assert connection.execute(text("PRAGMA synchronous")).scalar() == 1
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"


@contextmanager
def _counted(instance: dg.DagsterInstance) -> Iterator[list[str]]:
    """The files of the history to which something is committed, in order."""
    committed: list[str] = []

    def note(connection: Connection) -> None:
        committed.append(Path(str(connection.engine.url.database)).stem)

    event.listen(Engine, "commit", note)
    try:
        yield committed
    finally:
        event.remove(Engine, "commit", note)


def test_an_event_is_a_transaction_a_file_and_those_together_are_one(tmp_path: Path) -> None:
    def report(day: str) -> None:
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=dg.AssetKey("facts"), check_name="conserved", passed=True, partition=day)
        )
        instance.report_runless_asset_event(
            dg.AssetMaterialization("facts", partition=day, tags={"dagster/data_version": "1"})
        )

    with dg.DagsterInstance.from_config(_home(tmp_path, True), "dagster.yaml") as instance:
        report("2026-09-01")  # what is known of the files is known
        with _counted(instance) as committed:
            report("2026-09-02")
        assert committed.count("index") == 2, "one for each event"
        with _counted(instance) as committed, sqlite_history.together(instance):
            for day in range(3, 13):
                report(f"2026-09-{day:02}")
            assert len(_days(instance)) == 12, "who is within sees it"
        assert committed.count("index") == 1

        def half_of_it() -> None:
            with sqlite_history.together(instance):
                report("2026-09-20")
                raise ValueError("half way")

        with pytest.raises(ValueError, match="half way"):
            half_of_it()
        assert "2026-09-20" not in _days(instance)
        assert len(_days(instance)) == 12
        report("2026-09-20")
        [newest] = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("facts"), "conserved"), limit=1
        )
        assert newest.evaluation is not None
        assert newest.evaluation.partition == "2026-09-20"


def test_what_was_read_of_an_asset_is_remembered_until_anybody_writes_of_it(tmp_path: Path) -> None:
    facts, other = dg.AssetKey("facts"), dg.AssetKey("other")

    def report(instance: dg.DagsterInstance, key: dg.AssetKey, version: str) -> None:
        tags = {"dagster/data_version": version}
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="2026-09-01", tags=tags))

    def seen(instance: dg.DagsterInstance) -> tuple[str | None, ...]:
        """The version of facts by each of the ways to ask for it."""
        kind, name = dg.DagsterEventType.ASSET_MATERIALIZATION, "dagster/data_version"
        storage = instance.event_log_storage
        [record] = storage.get_asset_records([facts, dg.AssetKey("never made")])
        newest = storage.get_latest_materialization_events([facts])[facts]
        made = [record.asset_entry.last_materialization, newest and newest.asset_materialization]
        tagged = storage.get_latest_tags_by_partition(facts, kind, [name])["2026-09-01"]
        return (*((m.tags or {})[name] for m in made if m), tagged[name])

    home = _home(tmp_path, True)
    with (
        dg.DagsterInstance.from_config(home, "dagster.yaml") as one,
        dg.DagsterInstance.from_config(home, "dagster.yaml") as another,
    ):
        for instance in (one, another):  # of one process they write by one connection
            report(instance, facts, "1")
            assert seen(one) == seen(another) == ("1",) * 3
            report(instance, facts, "2")
            assert seen(one) == seen(another) == ("2",) * 3
        asked: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            asked.append(statement)

        event.listen(Engine, "before_cursor_execute", note)
        try:
            assert seen(one) == ("2",) * 3
            report(one, other, "1")
            before = len(asked)
            assert seen(one) == ("2",) * 3
            assert len(asked) == before, "of facts nobody wrote"
        finally:
            event.remove(Engine, "before_cursor_execute", note)

        def half_of_it() -> None:
            with sqlite_history.together(one):
                report(one, facts, "3")
                assert seen(one) == ("3",) * 3
                raise ValueError("half way")

        with pytest.raises(ValueError, match="half way"):
            half_of_it()
        assert seen(one) == ("2",) * 3
        with closing(sqlite3.connect(tmp_path / "state" / "history" / "runs" / "index.db")) as elsewhere:
            elsewhere.execute("UPDATE asset_event_tags SET value = '4'")
            elsewhere.commit()
        assert seen(one)[2] == "4"
        one.wipe_assets([facts])
        assert one.event_log_storage.get_asset_records([facts]) == []


def test_others_wait_while_events_are_written_together(tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(_home(tmp_path, True), "dagster.yaml") as instance:

        def report(first: int) -> None:
            with sqlite_history.together(instance):
                for day in range(first, first + 5):
                    instance.report_runless_asset_event(dg.AssetMaterialization("facts", partition=f"2026-09-{day:02}"))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(report, (1, 6, 11, 16)))
        assert len(_days(instance)) == 20


def _schema(file: Path) -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        made = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        return {*made, *connection.execute("SELECT version_num FROM alembic_version").fetchall()}


def test_a_runs_file_is_a_copy_of_one_as_dagster_makes_it(tmp_path: Path) -> None:
    made = {}
    for ours in (False, True):
        folder = tmp_path / str(ours)
        folder.mkdir()
        with dg.DagsterInstance.from_config(_home(folder, ours), "dagster.yaml") as instance:
            for day in ("2026-09-01", "2026-09-02"):
                _build(day, instance)
            files = [folder / "state" / "history" / "runs" / f"{run.run_id}.db" for run in instance.get_runs()]
        made[ours] = [_schema(file) for file in files]
    assert made[True] == made[False]
    assert not list((tmp_path / "True" / "state" / "history" / "runs").glob("*.tmp*")), "nothing is left beside them"
    [empty] = (tmp_path / "True" / "state" / "history").glob("empty_run-*.sqlite")
    with closing(sqlite3.connect(empty)) as connection:
        assert connection.execute("SELECT count(*) FROM event_logs").fetchone() == (0,)


def test_it_lies_beside_dagster_yaml_wherever_a_command_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    (home / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        _build("2026-09-01", instance)
    assert list(elsewhere.iterdir()) == []
    assert sorted(path.name for path in (home / ".dagster").iterdir()) == ["history", "logs", "schedules"]
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.chdir(home)
    with dg.DagsterInstance.from_config(str(home), "dagster.yaml") as instance:
        assert _days(instance) == {"2026-09-01"}


def test_the_project_has_it() -> None:
    storage = yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))["storage"]
    assert storage == {"custom": {**OURS["custom"], "config": {"base_dir": ".dagster"}}}


def test_alembic_is_imported_where_a_database_is_migrated_and_not_before(tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(_home(tmp_path, True), "dagster.yaml") as instance:
        _build("2026-09-01", instance)
    asks = (
        "import sys, dagster as dg, finops_assets.definitions\n"
        "with dg.DagsterInstance.from_config(sys.argv[1], 'dagster.yaml') as instance:\n"
        "    print(len(instance.get_runs()), 'alembic' in sys.modules)\n"
        "    instance.upgrade(print_fn=lambda text: None)\n"
        "    print(len(instance.get_runs()), 'alembic.command' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", asks, str(tmp_path)], check=True, capture_output=True, text=True)
    told = done.stdout.splitlines()
    assert (told[0], told[-1]) == ("1 False", "1 True")
