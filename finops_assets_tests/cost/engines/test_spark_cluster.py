"""The asset graph on a Spark cluster of a master and two workers: as on DuckDB, also where a worker dies."""

from __future__ import annotations

import os
import shutil
import venv
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import duckdb
import pyarrow.parquet as pq
import pytest

from finops_assets.base.errors import FinopsError, LakeError
from finops_assets.base.spread import Spread
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.storage.day_files import raw_relation
from finops_assets_tests.conftest import Site
from finops_assets_tests.cost.engines.conftest import FIRST, LAST, OF_DEMO, UNTAGGED, Demonstration, held, judged
from finops_assets_tests.cost.engines.spark_cluster import FOR_TESTS, Cluster, spark_cluster, spark_configured
from finops_assets_tests.emulators import free_port
from finops_assets_tests.ingest.test_slices import BY_MONTH, charges, in_types
from finops_assets_tests.ingest.test_slices import DAYS as OF_SLICES
from finops_assets_tests.running import SOURCES, Graph, Run

if not os.environ.get("FINOPS_TEST_ENGINES"):
    pytest.skip("slow: make test-engines", allow_module_level=True)
if not shutil.which("java"):
    pytest.skip("needs Java 17", allow_module_level=True)
pytest.importorskip("pyspark", reason="needs the extra spark: make test-engines")

from finops_assets.cost.engines import spark

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # pyspark leaves the sockets open that it reads rows from


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with spark_configured(folder, **FOR_TESTS), spark_cluster(folder) as cluster:
        yield cluster


def no_halves(graph: Graph) -> None:
    """Nothing in the lake but whole files in their places."""
    lake = graph.platform.lake.root
    assert [p for p in lake.rglob("*") if p.name.startswith((".tmp-", "part-", "_")) or p.name.endswith(".crc")] == []
    assert list((lake / ".work").iterdir()) == []


def test_one_line_in_the_settings_and_the_graph_runs_on_the_cluster(
    demonstration: Demonstration, cluster: Cluster, other_history: dg.DagsterInstance
) -> None:
    graph = demonstration.graph("cluster", other_history, cluster.master)
    run = graph.run(FIRST, LAST)
    assert run.materialized("cloud_cost_facts") == OF_DEMO
    assert run.materialized("daily_cost_by_team") == demonstration.run.materialized("daily_cost_by_team")
    kept_out = graph.platform.lake.day_file("facts", "azure", UNTAGGED)
    assert not kept_out.exists(), "the same source's part of the same day is held"
    assert graph.platform.lake.day_file("unreleased", "azure", UNTAGGED).exists()
    assert judged(run) == judged(demonstration.run)
    assert held(graph) == held(demonstration.duckdb)
    files = graph.platform.lake.day_files("facts", SOURCES, OF_DEMO)
    assert all(b"parquet-mr" in file.read_bytes()[-4096:] for file in files), "by Spark, not by DuckDB"
    for check in ("cloud_cost_facts:conserved", "cloud_cost_facts:untagged_within_threshold"):
        said = {str(e.metadata["engine"].value) for e in run.verdicts(check).values()}
        assert said == {f"Spark 4.0.5, {cluster.master}"}
    for check in ("daily_cost_by_team:conserved", "daily_cost_by_team:accrual_conserved"):
        told = run.verdicts(check)
        assert {str(told[day].metadata["engine"].value) for day in OF_DEMO if day != UNTAGGED} == {
            f"Spark 4.0.5, {cluster.master}"
        }
    no_halves(graph)

    # What is there and up to date is left alone, whoever wrote it.
    before = [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files]
    graph.run(FIRST, LAST)
    back = Graph(graph.settings.model_copy(update={"engine": demonstration.duckdb.settings.engine}), other_history)
    back.run(FIRST, LAST)
    assert [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files] == before
    assert held(back) == held(demonstration.duckdb)


def test_workers_that_do_not_see_the_lake_are_told_of(demonstration: Demonstration, cluster: Cluster) -> None:
    """Here by a file that is gone once the statement was planned, to a worker the same as a path that is not mounted."""
    lake = demonstration.duckdb.platform.lake
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
    demonstration: Demonstration, cluster: Cluster, other_history: dg.DagsterInstance
) -> None:
    graph = demonstration.graph("killed", other_history, cluster.master)
    lake = graph.platform.lake
    runs: list[Run] = []
    work = Thread(target=lambda: runs.append(graph.run(FIRST, LAST)))
    work.start()
    # Each task has a folder for its attempt; a file that is done leaves it.
    while not list(lake.root.glob(".work/*/facts/_temporary/*/_temporary/*/*/*/part-*.parquet")) and work.is_alive():
        work.join(0.01)
    cluster.kill(0)
    assert not lake.day_files("facts", SOURCES, OF_DEMO), "it was killed while facts were written"
    work.join()
    assert cluster.workers[0].poll() is not None
    assert judged(runs[0]) == judged(demonstration.run)
    assert held(graph) == held(demonstration.duckdb)
    no_halves(graph)


def large_delivery(folder: Path) -> None:
    """Four Parquet files of a month, days in no order."""
    (folder / "exports" / "2026-09").mkdir(parents=True)
    rows = charges(4 * 20_000)
    for number in range(4):
        table = in_types(rows[20_000 * number : 20_000 * (number + 1)], number)
        pq.write_table(table, folder / "exports" / "2026-09" / f"part-{number}.parquet")


def landed(folder: Path, spread: Spread | None) -> tuple[Any, list[tuple[Any, ...]]]:
    """What the ledger says of the delivery, and every row of its raw days."""
    site = Site(folder, layout=BY_MONTH)
    p, days = site.platform, [date.fromisoformat(day) for day in OF_SLICES]
    [entry] = land_source(p.lake, p.settings.engine, site.source, p.settings.first_day, spread=spread)
    assert entry.state == "live", entry.reason
    compose_days(p.lake, p.settings.engine, site.source, days, spread=spread)
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        relation = raw_relation(p.lake.day_files("raw", ["bill"], days))
        rows = connection.execute(f"FROM {relation} ORDER BY source_file, source_row").fetchall()
    assert list((p.lake.root / ".work").iterdir()) == []
    return (entry.rows, entry.days, entry.repairs, entry.columns), rows


def test_workers_whose_python_lacks_the_project_are_told_of(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spark.SparkSpread, "least_bytes", 0)
    large_delivery(tmp_path)
    spark.stop_session()
    plain = tmp_path / "python"
    venv.create(plain)
    monkeypatch.setenv("PYSPARK_PYTHON", str(plain / "bin" / "python"))
    with pytest.raises(
        FinopsError, match=r"workers' Python cannot land deliveries \(ModuleNotFoundError.*spark.pyspark"
    ):
        landed(tmp_path, spark.SparkSpread(cluster.master))
    spark.stop_session()


def test_a_large_delivery_is_landed_by_the_workers_also_where_one_is_killed_meanwhile(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spark.SparkSpread, "least_bytes", 0)
    for name in ("here", "there"):
        large_delivery(tmp_path / name)
    expected = landed(tmp_path / "here", None)
    assert len(expected[1]) == 80_000
    cluster.complete()
    found: list[Any] = []
    work = Thread(target=lambda: found.append(landed(tmp_path / "there", spark.SparkSpread(cluster.master))))
    work.start()
    # A file's days, in a folder of their own until all are done.
    while not list((tmp_path / "there" / "lake").glob(".work/*/days.*/charge_date=*/*.parquet")) and work.is_alive():
        work.join(0.01)
    assert work.is_alive(), "it was killed while slices were written"
    cluster.kill(1)
    work.join()
    assert found == [expected]


def test_a_cluster_without_workers_is_told_of(
    demonstration: Demonstration, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, other_history: dg.DagsterInstance
) -> None:
    for number, worker in enumerate(cluster.workers):
        if worker.poll() is None:
            cluster.kill(number)
    spark.stop_session()
    monkeypatch.setattr(spark, "WORKER_PATIENCE_SECONDS", 2.0)
    with pytest.raises(FinopsError, match=r"master answers, but no worker took the application within 2 s: none is"):
        spark.session_on(cluster.master)
    graph = demonstration.graph("no workers", other_history, cluster.master)
    run = graph.run(FIRST)
    assert "no worker took the application" in run.failure()
    assert run.materialized("raw/aws") == [FIRST]
    assert run.materialized("cloud_cost_facts") == []


def test_a_master_that_does_not_answer_is_told_of() -> None:
    place = f"127.0.0.1:{free_port()}"
    with pytest.raises(FinopsError, match=rf"is spark://{place}, but no master answers there \({place}: .*refused\)"):
        spark.session_on(f"spark://{place}")
