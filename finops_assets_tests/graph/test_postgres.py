"""Dagster's history in a real PostgreSQL, and two hosts that share it and a lake on S3."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from finops_assets.base.errors import WarehouseError
from finops_assets.cost.rollup import rollup_totals
from finops_assets.demo import Incident
from finops_assets.graph.assets.report_tables import POOL
from finops_assets.graph.days_to_run import days_to_run, held_by_gates
from finops_assets.graph.retention import prune
from finops_assets.graph.run_range import run_range
from finops_assets.ingest.landing import land_source
from finops_assets.judge.warehouse_behind import require_none_missing
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.ledger import Ledger
from finops_assets_tests.emulators import Place, s3_endpoint, s3_place  # noqa: F401
from finops_assets_tests.host import RUN_KEY_TAG
from finops_assets_tests.places import PROJECT
from finops_assets_tests.postgres import PASSWORD, postgres  # noqa: F401
from finops_assets_tests.running import (
    DIMENSIONS,
    LAYOUTS,
    PROVIDERS,
    Graph,
    settings_for,
    small_estate,
)

SHIPPED = PROJECT / "deploy" / "postgres" / "dagster.yaml"
# Near the month's end: each of its days that costs nothing is judged, too.
FIRST, BAD, LAST = date(2026, 9, 25), date(2026, 9, 26), date(2026, 9, 27)
DAYS = [FIRST, BAD, LAST]
SHARED = ("aws", "gcp")
ROLLED = ("billed_cost", "effective_cost", "row_count")
FAILURES = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
PATIENCE_SECONDS = 300


@pytest.fixture
def home(tmp_path: Path, postgres: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A $DAGSTER_HOME with the dagster.yaml of the docs; the history it names is empty."""
    import psycopg2

    for name, value in postgres.items():
        monkeypatch.setenv(name, value)
    database = f"test_{tmp_path.name}".lower()
    connection = psycopg2.connect(
        host="127.0.0.1", port=postgres["DAGSTER_PG_PORT"], user=postgres["DAGSTER_PG_USER"], password=PASSWORD,
        dbname="postgres",
    )  # fmt: skip
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{database}"')
    finally:
        connection.close()
    monkeypatch.setenv("DAGSTER_PG_DB", database)
    return made_home(tmp_path / "home", monkeypatch)


def made_home(folder: Path, monkeypatch: pytest.MonkeyPatch | None = None) -> Path:
    folder.mkdir()
    shutil.copyfile(SHIPPED, folder / "dagster.yaml")
    if monkeypatch:
        monkeypatch.setenv("DAGSTER_HOME", str(folder))
    return folder


@contextmanager
def history(folder: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(folder), "dagster.yaml") as instance:
        yield instance


@pytest.mark.long
def test_days_are_built_bad_ones_held_and_old_runs_pruned(tmp_path: Path, home: Path) -> None:
    small_estate(tmp_path, FIRST, LAST, incidents=[Incident("aws", BAD, "incomplete")])
    with history(home) as instance:
        assert "Postgres" in type(instance.event_log_storage).__name__
        graph = Graph(settings_for(tmp_path, FIRST, "release: whole_day\n"), instance)
        first = graph.run(FIRST, LAST)
        assert not first.success
        assert str(BAD) in first.failure()
        assert graph.built() == graph.built("cloud_cost_facts") == {FIRST, LAST}
        assert graph.built("raw/aws") == {FIRST, BAD, LAST}
        judged = first.verdicts("raw/aws:complete")
        assert {day: verdict.passed for day, verdict in judged.items()} == {FIRST: True, BAD: False, LAST: True}
        assert {row[0] for row in graph.rollup("charge_date")} == {FIRST, LAST}
        assert days_to_run(graph.platform, instance, FIRST, LAST + timedelta(days=1)) == []

        assert graph.run(LAST).success
        again = graph.run(LAST)
        assert again.success
        checks = list(graph.defs.resolve_asset_graph().asset_check_keys)
        before = graph.built(), statuses(instance, checks)
        done = prune(instance, checks, datetime.now(UTC) + timedelta(days=1))
        assert (done.deleted, done.kept) == (1, 2)
        assert {r.run_id for r in instance.get_runs()} == {first.result.run_id, again.result.run_id}
        assert (graph.built(), statuses(instance, checks)) == before
        assert graph.run(FIRST).success
    assert not list(home.rglob("*.db")), "nothing of the history lies on the host"


def statuses(instance: dg.DagsterInstance, checks: list[dg.AssetCheckKey]) -> set[tuple[str, str | None, str]]:
    return {
        (info.check_key.to_user_string(), info.partition_key, info.latest_execution_status.value)
        for info in instance.event_log_storage.get_asset_check_partition_info(checks)
    }


@pytest.mark.long
def test_two_hosts_do_the_daemons_work_on_one_lake_and_one_history(
    tmp_path: Path,
    home: Path,
    s3_endpoint: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = s3_place(s3_endpoint)
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    estate = small_estate(tmp_path, FIRST, LAST)
    # Each begins with another source, and has a warehouse and a working copy of its own.
    hosts = [a_host(tmp_path / name, order, bucket) for name, order in (("a", SHARED), ("b", SHARED[::-1]))]
    with history(home) as instance:
        # As docs/guides/deployment.md says: of two runs that meet the pool first Dagster would let one fail on PostgreSQL.
        instance.event_log_storage.set_concurrency_slots(POOL, 1)
    asked = at_work(hosts)
    assert all(asked), "both had something to do"
    platforms = [Platform(load_settings(host / "finops.yaml")) for host in hosts]
    with duckdb.connect() as connection:
        connection.register("truth", estate.truth())
        truth = totals(connection, f"(FROM truth WHERE source IN {SHARED})", *ROLLED)

    # The lake is as one host alone would have made it, and exact.
    alone = Platform(settings_for(tmp_path, FIRST))
    for source in SHARED:
        land_source(alone.lake, alone.settings.engine, alone.settings.source(source), FIRST)
        ledger, expected = (Ledger(p.lake, source) for p in (platforms[0], alone))
        assert entries(ledger) == entries(expected), source
    for platform in platforms:
        with duckdb.connect() as connection:
            facts = facts_relation(platform.lake.day_files("facts", SHARED, DAYS))
            assert totals(connection, facts, "BilledCost", "EffectiveCost", "1") == truth

    with history(home) as instance:
        # What both asked for was run by one, or came to the same; no run is left, every day is judged and free.
        keys = Counter(run.tags[RUN_KEY_TAG] for run in instance.get_runs())
        assert sum(keys.values()) == len(asked[0]) + len(asked[1])
        graphs = [Graph(platform.settings, instance) for platform in platforms]
        # Those after the last charge cost nothing: the month was delivered after its end.
        month = {date(2026, 9, day) for day in range(25, 31)}
        assert graphs[0].built() == month > set(DAYS), failures(instance)
        assert held_by_gates(platforms[0], instance, DAYS) == {}
        # A warehouse of a host's own holds what it built: it publishes only when it has caught up.
        for graph in graphs:
            end = LAST + timedelta(days=1)
            missing = [day for day in DAYS if not rollup_totals(graph.platform.warehouse, [day])]
            if missing:
                with pytest.raises(WarehouseError, match=rf"{missing[0]}.*finops backfill {missing[0]}"):
                    require_none_missing(graph.platform, graph.built())
            behind = days_to_run(graph.platform, instance, FIRST, end)
            assert set(missing) <= set(behind)
            assert not run_range(graph.defs, instance, behind).errors
            assert days_to_run(graph.platform, instance, FIRST, end) == []
            require_none_missing(graph.platform, graph.built())
            with graph.platform.warehouse.reading() as connection:
                assert totals(connection, "daily_cost_by_team", *ROLLED) == truth


def failures(instance: dg.DagsterInstance) -> str:
    """Each run in its order, and why it failed."""
    told = []
    for run in reversed(instance.get_runs()):
        records = instance.get_records_for_run(run.run_id, of_type=FAILURES).records
        events = [e for record in records if (e := record.event_log_entry.dagster_event)]
        told.append(f"{run.job_name} {run.status.value} {run.tags[RUN_KEY_TAG]}")
        told += [f"  {e.step_key}: {getattr(e.event_specific_data, 'error', None) or e.message}" for e in events]
    return "\n".join(told)


def a_host(folder: Path, sources: Sequence[str], bucket: Place) -> Path:
    folder.mkdir()
    shutil.copyfile(SHIPPED, folder / "dagster.yaml")
    listed = "".join(
        f"  - {{name: {s}, provider: {PROVIDERS[s]}, uri: {folder.parent}/estate/{s}, layout: {LAYOUTS[s]}}}\n"
        for s in sources
    )
    (folder / "finops.yaml").write_text(
        f"first_day: {FIRST}\nlake: {{uri: '{bucket.uri}/lake', endpoint_url: '{bucket.endpoint_url}'}}\n"
        f"warehouse: w.duckdb\npublished: p.duckdb\nsources:\n{listed}{DIMENSIONS}",
        encoding="utf-8",
    )
    return folder


def at_work(hosts: list[Path]) -> list[list[str]]:
    """Each as a process, at the same time; the run keys of what each ran."""
    processes = []
    try:
        for host in hosts:
            command = [sys.executable, "-m", "finops_assets_tests.host", str(host)]
            with (host / "log").open("w") as log:
                environment = os.environ | {"DAGSTER_HOME": str(host)}
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
        wait_for(lambda: all((host / "ready").exists() for host in hosts), processes, hosts)
        for host in hosts:
            (host / "go").touch()
        wait_for(lambda: all(process.poll() is not None for process in processes), processes, hosts)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [json.loads((host / "asked").read_text(encoding="utf-8")) for host in hosts]


def wait_for(come: Callable[[], bool], processes: list[subprocess.Popen[bytes]], hosts: list[Path]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not come():
        if time.monotonic() > deadline or any(process.poll() for process in processes):
            pytest.fail("\n".join((host / "log").read_text(encoding="utf-8")[-3000:] for host in hosts))
        time.sleep(0.05)


def entries(ledger: Ledger) -> list[tuple[str, str, str]]:
    return [(scope, g.generation, g.state) for scope in ledger.scopes() for g in ledger.generations(scope)]


def totals(connection: duckdb.DuckDBPyConnection, relation: str, billed: str, effective: str, rows: str) -> list[Any]:
    """Cost and rows by day, team and currency, of facts, of a rollup, or of the truth."""
    return connection.execute(
        f"SELECT charge_date, coalesce(team, '__untagged__'), BillingCurrency, sum({billed}), sum({effective}), sum({rows})"
        f" FROM {relation} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
