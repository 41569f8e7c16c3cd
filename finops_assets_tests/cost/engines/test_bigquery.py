"""The adapter for BigQuery against a fake of its API: what is asked of the service, and that it says what it should."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from finops_assets.base.errors import FinopsError
from finops_assets.cost.attribution.tag_sets import attribution
from finops_assets.cost.engines.elsewhere import write_facts
from finops_assets.storage.lake import Lake
from finops_assets_tests.cost.engines.conftest import DAYS, Expected, ordered

pytest.importorskip("google.cloud.bigquery", reason="needs the extra bigquery")
resources = pytest.importorskip("dagster_gcp", reason="needs the extra bigquery")
from finops_assets.cost.engines.bigquery import BigQuery  # noqa: E402
from finops_assets_tests.cost.engines.bigquery_fake import BILLED, Service, bigquery_service  # noqa: E402

pytestmark = pytest.mark.slow  # by its time, not by what it needs

BUCKET = "gs://company-finops/lake"


class InBucket(Lake):
    """A local folder that is called a bucket."""

    name = BUCKET


@pytest.fixture
def service(expected: Expected, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    from google.auth import credentials

    anyone = credentials.AnonymousCredentials()
    monkeypatch.setattr("google.auth.default", lambda **_: (anyone, "p"))
    with bigquery_service({BUCKET: expected.platform.lake.root}) as (url, service):
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        yield service


@contextmanager
def engine_of(expected: Expected, most_bytes: int = BILLED) -> Iterator[BigQuery]:
    with resources.BigQueryResource(project="p").get_client() as client:
        yield BigQuery(client, "p.finops", InBucket(expected.platform.lake.root), most_bytes)


@pytest.mark.long
def test_what_is_asked_of_bigquery_gives_what_duckdb_gives(service: Service, expected: Expected) -> None:
    with engine_of(expected) as engine:
        expected.reached_by(engine)
        view = engine.show("facts", expected.keys)
        names = sorted(engine.table(f"SELECT * FROM `{view}` LIMIT 0").column_names)
        found = engine.table(f"SELECT {', '.join(f'`{name}`' for name in names)} FROM `{view}`").to_pylist()
        engine.forget(view)
    assert ordered(tuple(row.values()) for row in found) == expected.facts
    left = service.database.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    assert left == [("facts",)], "nothing is left of what was given and shown"

    queries = [job["query"] for job in service.jobs if "query" in job]
    assert {q["maximumBytesBilled"] for q in queries} == {str(BILLED)}, "no query without a limit"
    trees = [sqlglot.parse_one(q["query"], read="bigquery") for q in queries]
    [facts, *_] = [t for t in trees if isinstance(t, exp.Create) and t.this.this.name == "facts"]
    text = facts.sql("bigquery")
    assert "PARTITION BY `charge_date`" in text
    assert "CLUSTER BY `source`" in text
    assert "`BilledCost` BIGNUMERIC" in text
    for tree in trees:
        if isinstance(tree, exp.Create) and tree is not facts:
            name = tree.find(exp.Table)
            assert name is not None
            assert name.name == "facts" or "expiration_timestamp" in tree.sql("bigquery")
    merges = [t for t in trees if isinstance(t, exp.Merge)]
    assert len(merges) >= 2
    loads = [job["load"] for job in service.jobs if "load" in job and "sourceUris" in job["load"]]
    assert {uri for load in loads for uri in load["sourceUris"]} == {
        f"{BUCKET}/raw/source={source}/charge_date={day}/data.parquet" for source, day in expected.keys
    }


def test_a_day_that_fails_keeps_its_facts(service: Service, expected: Expected) -> None:
    p, key = expected.platform, ("aws", DAYS[0])
    with engine_of(expected) as engine:
        write_facts(engine, p.lake, p.rules, attribution(p.lake, p.rules, p.source_names), {key: "stamp"})
        before = service.database.execute("SELECT count(*), sum(BilledCost) FROM facts").fetchall()
        with pytest.raises(FinopsError, match=r"BigQuery, p\.finops: .*no_such_table"):
            engine.replace_facts({key: "stamp"}, p.rules, "SELECT * FROM no_such_table")
    assert before[0][0]
    assert service.database.execute("SELECT count(*), sum(BilledCost) FROM facts").fetchall() == before


def test_a_statement_that_would_cost_too_much_is_not_run_and_it_is_said(service: Service, expected: Expected) -> None:
    with (
        engine_of(expected, most_bytes=BILLED - 1) as engine,
        pytest.raises(FinopsError, match=r"would bill more than 10,485,759 bytes, so it was not run.*fewer days"),
    ):
        engine.table("SELECT 1 AS x")


def test_a_lake_elsewhere_is_refused(tmp_path: Path) -> None:
    client: Any = None
    with pytest.raises(FinopsError, match=r"loads raw days from Google Cloud Storage only; set `lake:`"):
        BigQuery(client, "p.finops", Lake(tmp_path), 1)
