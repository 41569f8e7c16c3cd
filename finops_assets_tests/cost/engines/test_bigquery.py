"""The adapter for BigQuery against a fake of its API: what is asked of the service, and that it says what it should."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from finops_assets.base.errors import FinopsError
from finops_assets.cost.attribution.tag_sets import attribution
from finops_assets.cost.engines.elsewhere import write_facts
from finops_assets.cost.engines.mirror import Mirror
from finops_assets.platform import Platform
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.lake import Lake
from finops_assets_tests.cost.engines.conftest import DAYS, Expected, facts_rows, ordered

pytest.importorskip("google.cloud.bigquery", reason="needs the extra bigquery")
resources = pytest.importorskip("dagster_gcp", reason="needs the extra bigquery")
from finops_assets.cost.engines.bigquery import BigQuery, connected_to  # noqa: E402
from finops_assets_tests.cost.engines.bigquery_fake import BILLED, Service, bigquery_service  # noqa: E402

pytestmark = pytest.mark.slow  # by its time, not by what it needs

BUCKET = "gs://company-finops/lake"


class InBucket(Lake):
    """A local folder that is called a bucket."""

    name = BUCKET


@pytest.fixture
def platform(expected: Expected, tmp_path: Path) -> Platform:
    return expected.copied_to(tmp_path / "platform")


@pytest.fixture
def service(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    from google.auth import credentials

    anyone = credentials.AnonymousCredentials()
    monkeypatch.setattr("google.auth.default", lambda **_: (anyone, "p"))
    with bigquery_service({BUCKET: platform.lake.root}) as (url, service):
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        yield service
    connected_to.cache_clear()


@contextmanager
def tables_by_dagster(most_bytes: int = BILLED) -> Iterator[BigQuery]:
    with resources.BigQueryResource(project="p").get_client() as client:
        yield BigQuery(client, "p.finops", most_bytes)


@pytest.mark.long
def test_what_is_asked_of_bigquery_gives_what_duckdb_gives(
    service: Service, expected: Expected, platform: Platform
) -> None:
    lake = InBucket(platform.lake.root)
    tables = connected_to("bigquery://p/finops", BILLED)
    engine = Mirror(tables, lake)
    expected.reached_by(engine, platform)
    view = engine.show("facts", expected.keys)
    names = sorted(engine.table(f"SELECT * FROM `{view}` LIMIT 0").column_names)
    found = engine.table(f"SELECT {', '.join(f'`{name}`' for name in names)} FROM `{view}`").to_pylist()
    engine.forget(view)
    assert ordered(tuple(row.values()) for row in found) == expected.facts
    with duckdb.connect() as connection:
        files = platform.lake.day_files("facts", platform.source_names, DAYS)
        assert facts_rows(connection, facts_relation(files)) == expected.facts, "they came back to the lake, too"
    left = service.database.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
    lasting = ["cloud_cost_facts", "cloud_cost_facts_waiting", "days_held", "raw_charges"]
    assert [name for (name,) in left] == lasting, "nothing is left of what was given and shown"

    queries = [job["query"] for job in service.jobs if "query" in job]
    assert {q["maximumBytesBilled"] for q in queries} == {str(BILLED)}, "no query without a limit"
    trees = [sqlglot.parse_one(q["query"], read="bigquery") for q in queries]
    [facts, *_] = [t for t in trees if isinstance(t, exp.Create) and t.this.this.name == "cloud_cost_facts"]
    text = facts.sql("bigquery")
    assert "PARTITION BY `charge_date`" in text
    assert "CLUSTER BY `source`" in text
    assert "`BilledCost` BIGNUMERIC" in text
    for tree in trees:
        if isinstance(tree, exp.Create):
            name = tree.find(exp.Table)
            assert name is not None
            assert name.name in lasting or "expiration_timestamp" in tree.sql("bigquery")
    merges = [t for t in trees if isinstance(t, exp.Merge)]
    assert len(merges) >= 2
    loads = [job["load"] for job in service.jobs if "load" in job and "sourceUris" in job["load"]]
    assert {uri for load in loads for uri in load["sourceUris"]} == {
        f"{BUCKET}/raw/source={source}/charge_date={day}/data.parquet" for source, day in expected.keys
    }


def test_a_day_that_fails_keeps_its_facts(service: Service, platform: Platform) -> None:
    p, key = platform, ("aws", DAYS[0])
    held = "SELECT count(*), sum(BilledCost) FROM cloud_cost_facts_waiting"
    with tables_by_dagster() as tables:
        engine = Mirror(tables, InBucket(p.lake.root))
        write_facts(engine, p.lake, p.rules, attribution(p.lake, p.rules, p.source_names), {key: "stamp"})
        before = service.database.execute(held).fetchall()
        with pytest.raises(FinopsError, match=r"BigQuery, p\.finops: .*no_such_table"):
            engine.replace_facts({key: "stamp"}, p.rules, "SELECT * FROM no_such_table")
    assert before[0][0]
    assert service.database.execute(held).fetchall() == before


def test_a_statement_that_would_cost_too_much_is_not_run_and_it_is_said(service: Service) -> None:
    tables = connected_to("bigquery://p/finops", BILLED - 1)
    with pytest.raises(
        FinopsError,
        match=r"would bill more than 10,485,759 bytes, so it was not run.*raise engine.maximum_bytes_billed",
    ):
        tables.table("SELECT 1 AS x")


def test_a_lake_elsewhere_is_refused(service: Service, platform: Platform) -> None:
    engine = Mirror(connected_to("bigquery://p/finops", BILLED), platform.lake)
    with pytest.raises(FinopsError, match=r"loads days from Google Cloud Storage only; set `lake:`"):
        engine.show("raw", [("aws", DAYS[0])])
