"""The asset graph on a Spark cluster of a master and two workers: as on DuckDB, also where a worker dies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import duckdb
import pytest

from finops_assets.base.errors import FinopsError, LakeError
from finops_assets.demo.story import write_estate
from finops_assets.storage.day_files import facts_relation
from finops_assets_tests.cost.engines.conftest import facts_rows, ordered
from finops_assets_tests.cost.engines.spark_cluster import FOR_TESTS, Cluster, spark_cluster, spark_configured
from finops_assets_tests.emulators import free_port
from finops_assets_tests.running import SOURCES, Graph, Run, persistent_instance, settings_for

if not os.environ.get("FINOPS_TEST_ENGINES"):
    pytest.skip("slow: make test-engines", allow_module_level=True)
if not shutil.which("java"):
    pytest.skip("needs Java 17", allow_module_level=True)
pytest.importorskip("pyspark", reason="needs the extra spark: make test-engines")

from finops_assets.cost.engines import spark

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # pyspark leaves the sockets open that it reads rows from

# Of the demonstration; Azure lost its tags on the 14th.
FIRST, LAST, UNTAGGED = date(2026, 10, 12), date(2026, 10, 15), date(2026, 10, 14)
DAYS = [date(2026, 10, d) for d in range(12, 16)]
TABLES = ("daily_cost_by_team", "reported_cost", "reported_accruals", "daily_commitments", "daily_corrections")
WHEN = ("reported_from", "reported_to")


@dataclass(frozen=True)
class Site:
    """Where the demonstration's estate lies, and what DuckDB makes of it."""

    folder: Path
    duckdb: Graph
    run: Run

    def graph(self, name: str, instance: dg.DagsterInstance, run_on: str | None = None) -> Graph:
        """A platform of its own on the estate."""
        root = self.folder / name
        root.mkdir()
        (root / "estate").symlink_to(self.folder / "estate")
        return Graph(settings_for(root, FIRST, f"engine: {{run_on: '{run_on}'}}" if run_on else ""), instance)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with persistent_instance(tmp_path_factory.mktemp("history") / "duckdb") as instance:
        yield instance


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Site:
    folder = tmp_path_factory.mktemp("site")
    write_estate(folder / "estate")
    site = Site(folder, None, None)  # type: ignore[arg-type]
    graph = site.graph("duckdb", instance)
    return Site(folder, graph, graph.run(FIRST, LAST))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with spark_configured(folder, **FOR_TESTS), spark_cluster(folder) as cluster:
        yield cluster


@pytest.fixture
def other_history(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with persistent_instance(tmp_path / "history") as instance:
        yield instance


def held(graph: Graph) -> dict[str, list[tuple[Any, ...]]]:
    """Every table that a day of facts leads to, without the time at which it was written; and the facts."""
    found = {}
    with graph.platform.warehouse.reading() as connection:
        for table in TABLES:
            columns = [name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall() if name not in WHEN]
            rows = connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
            found[table] = ordered(rows)
            kinds = connection.execute(f"DESCRIBE {table}").fetchall()
            found[f"{table}, types"] = [row[:2] for row in kinds]
    with duckdb.connect() as connection:
        files = graph.platform.lake.day_files("facts", SOURCES, DAYS)
        found["facts"] = facts_rows(connection, facts_relation(files))
    return found


def judged(run: Run) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    """Every verdict but for who computed it."""
    records = run.graph.instance.get_records_for_run(
        run.result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION, limit=1000
    ).records
    events = [r.event_log_entry.dagster_event for r in records]
    return {
        (e.asset_key.to_user_string(), e.check_name, str(e.partition)): (
            e.passed,
            e.description,
            {name: value for name, value in e.metadata.items() if name != "engine"},
        )
        for event in events
        if event
        for e in [event.asset_check_evaluation_data]
    }


def no_halves(graph: Graph) -> None:
    """Nothing in the lake but whole files in their places."""
    lake = graph.platform.lake.root
    assert [p for p in lake.rglob("*") if p.name.startswith((".tmp-", "part-", "_")) or p.name.endswith(".crc")] == []
    assert list((lake / ".work").iterdir()) == []


def test_one_line_in_the_settings_and_the_graph_runs_on_the_cluster(
    site: Site, cluster: Cluster, other_history: dg.DagsterInstance
) -> None:
    graph = site.graph("cluster", other_history, cluster.master)
    run = graph.run(FIRST, LAST)
    assert run.materialized("cloud_cost_facts") == DAYS
    assert run.materialized("daily_cost_by_team") == site.run.materialized("daily_cost_by_team")
    kept_out = graph.platform.lake.day_file("facts", "azure", UNTAGGED)
    assert not kept_out.exists(), "the same source's part of the same day is held"
    assert graph.platform.lake.day_file("unreleased", "azure", UNTAGGED).exists()
    assert judged(run) == judged(site.run)
    assert held(graph) == held(site.duckdb)
    files = graph.platform.lake.day_files("facts", SOURCES, DAYS)
    assert all(b"parquet-mr" in file.read_bytes()[-4096:] for file in files), "by Spark, not by DuckDB"
    for check in ("cloud_cost_facts:conserved", "cloud_cost_facts:untagged_within_threshold"):
        said = {str(e.metadata["engine"].value) for e in run.verdicts(check).values()}
        assert said == {f"Spark 4.0.5, {cluster.master}"}
    for check in ("daily_cost_by_team:conserved", "daily_cost_by_team:accrual_conserved"):
        told = run.verdicts(check)
        assert {str(told[day].metadata["engine"].value) for day in DAYS if day != UNTAGGED} == {
            f"Spark 4.0.5, {cluster.master}"
        }
    no_halves(graph)

    # What is there and up to date is left alone, whoever wrote it.
    before = [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files]
    graph.run(FIRST, LAST)
    back = Graph(graph.settings.model_copy(update={"engine": site.duckdb.settings.engine}), other_history)
    back.run(FIRST, LAST)
    assert [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files] == before
    assert held(back) == held(site.duckdb)


def test_workers_that_do_not_see_the_lake_are_told_of(site: Site, cluster: Cluster) -> None:
    """Here by a file that is gone once the statement was planned, to a worker the same as a path that is not mounted."""
    lake = site.duckdb.platform.lake
    engine = spark.Spark(spark.session_on(cluster.master), lake)
    file = lake.day_file("raw", "aws", FIRST)
    relation = engine.show("raw", [("aws", FIRST)])
    file.rename(file.with_name("away"))
    try:
        with pytest.raises(
            LakeError, match=r"Spark's workers do not see .* as this machine does .*Mount the lake on every"
        ):
            engine.table(f"SELECT count(BilledCost) AS n FROM {relation}")
    finally:
        file.with_name("away").rename(file)
        engine.forget(relation)


def test_a_worker_is_killed_in_the_middle_and_the_result_is_right(
    site: Site, cluster: Cluster, other_history: dg.DagsterInstance
) -> None:
    graph = site.graph("killed", other_history, cluster.master)
    lake = graph.platform.lake
    runs: list[Run] = []
    work = Thread(target=lambda: runs.append(graph.run(FIRST, LAST)))
    work.start()
    # Each task has a folder for its attempt; a file that is done leaves it.
    while not list(lake.root.glob(".work/*/facts/_temporary/*/_temporary/*/*/*/part-*.parquet")) and work.is_alive():
        work.join(0.01)
    cluster.kill(0)
    assert not lake.day_files("facts", SOURCES, DAYS), "it was killed while facts were written"
    work.join()
    assert cluster.workers[0].poll() is not None
    assert judged(runs[0]) == judged(site.run)
    assert held(graph) == held(site.duckdb)
    no_halves(graph)


def test_a_cluster_without_workers_is_told_of(
    site: Site, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, other_history: dg.DagsterInstance
) -> None:
    cluster.kill(1)
    spark.stop_session()
    monkeypatch.setattr(spark, "WORKER_PATIENCE_SECONDS", 2.0)
    with pytest.raises(FinopsError, match=r"master answers, but no worker took the application within 2 s: none is"):
        spark.session_on(cluster.master)
    graph = site.graph("no workers", other_history, cluster.master)
    run = graph.run(FIRST)
    assert "no worker took the application" in run.failure()
    assert run.materialized("raw/aws") == [FIRST]
    assert run.materialized("cloud_cost_facts") == []


def test_a_master_that_does_not_answer_is_told_of() -> None:
    place = f"127.0.0.1:{free_port()}"
    with pytest.raises(FinopsError, match=rf"is spark://{place}, but no master answers there \({place}: .*refused\)"):
        spark.session_on(f"spark://{place}")
