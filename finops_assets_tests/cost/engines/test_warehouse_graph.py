"""The asset graph on BigQuery's fake and on fakesnow: every verdict and every table as on DuckDB. No service is behind them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from finops_assets.cost.engines import bigquery, snowflake
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.lake import Lake
from finops_assets_tests.cost.engines.bigquery_fake import Service, bigquery_service
from finops_assets_tests.cost.engines.conftest import FIRST, LAST, OF_DEMO, UNTAGGED, Demonstration, held, judged
from finops_assets_tests.cost.engines.test_snowflake import Connection
from finops_assets_tests.running import SOURCES, Graph

if not os.environ.get("FINOPS_TEST_ENGINES"):
    pytest.skip("slow: make test-engines", allow_module_level=True)

BUCKET = "gs://company-finops/lake"
SHOWN = {(source, day) for source in SOURCES for day in OF_DEMO} - {("azure", UNTAGGED)}


def on(demonstration: Demonstration, run_on: str, history: dg.DagsterInstance) -> Graph:
    """A platform of its own there. Its lake is a folder, which the fakes take for a bucket's."""
    here = demonstration.graph(run_on.partition(":")[0], history)
    engine = EngineSettings(run_on=run_on, maximum_bytes_billed="1GB")
    return Graph(here.settings.model_copy(update={"engine": engine}), history)


def runs_as_on_duckdb(graph: Graph, demonstration: Demonstration, engine: str) -> None:
    run = graph.run(FIRST, LAST)
    assert judged(run) == judged(demonstration.run)
    assert held(graph) == held(demonstration.duckdb)
    said = {str(e.metadata["engine"].value) for e in run.verdicts("cloud_cost_facts:conserved").values()}
    assert said == {engine}


@pytest.fixture
def service(demonstration: Demonstration, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    from google.auth import credentials

    anyone = credentials.AnonymousCredentials()
    monkeypatch.setattr("google.auth.default", lambda **_: (anyone, "p"))
    monkeypatch.setattr(Lake, "name", BUCKET)
    with bigquery_service({BUCKET: demonstration.folder / "bigquery" / "lake"}) as (url, service):
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        yield service
    bigquery.connected_to.cache_clear()


def test_on_bigquery(service: Service, demonstration: Demonstration, other_history: dg.DagsterInstance) -> None:
    graph = on(demonstration, "bigquery://p/finops", other_history)
    runs_as_on_duckdb(graph, demonstration, "BigQuery, p.finops")
    there = service.database.execute("SELECT DISTINCT source, charge_date FROM cloud_cost_facts").fetchall()
    assert set(there) == SHOWN, "what is held is not there"
    limits = {job["query"]["maximumBytesBilled"] for job in service.jobs if "query" in job}
    assert limits == {str(10**9)}, "no query without a limit"


def test_on_snowflake(
    demonstration: Demonstration,
    other_history: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Connection(demonstration.folder / "snowflake" / "lake", tmp_path / "answer.arrow")
    tables = snowflake.Snowflake(connection, "lake")
    monkeypatch.setattr(snowflake, "connected_to", lambda _: tables)
    monkeypatch.setattr("finops_assets.cost.engines.choose.NEEDED", {})  # its connector is the fake's
    graph = on(demonstration, "snowflake://finops/lake", other_history)
    runs_as_on_duckdb(graph, demonstration, tables.name)
    there = tables.table('SELECT DISTINCT "source", "charge_date" FROM "cloud_cost_facts"').to_pylist()
    assert {(row["source"], row["charge_date"]) for row in there} == SHOWN, "what is held is not there"
    connection.close()
