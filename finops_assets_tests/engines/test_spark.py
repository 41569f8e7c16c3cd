"""The same statements on Apache Spark, in this process with two threads. Half a minute: only with make test-engines."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from finops_assets.attribution.tag_sets import attribution
from finops_assets.engines.dialects import rendered
from finops_assets.facts import build_facts, facts_query, facts_relation
from finops_assets_tests.engines.conftest import DAYS, Expected, ordered

if not os.environ.get("FINOPS_TEST_ENGINES"):
    pytest.skip("slow: make test-engines", allow_module_level=True)
if not shutil.which("java"):
    pytest.skip("needs Java 17", allow_module_level=True)
pytest.importorskip("pyspark", reason="needs the extra spark: make test-engines")
from pyspark.sql import SparkSession

from finops_assets.engines.spark import Spark

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # pyspark leaves the sockets open that it reads rows from


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master(os.environ.get("FINOPS_TEST_SPARK", "local[2]"))
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.shuffle.partitions", "4")
        .getOrCreate()
    )
    yield session
    session.stop()


def test_spark_gives_what_duckdb_gives(session: Any, expected: Expected) -> None:
    p = expected.platform
    expected.reached_by(Spark(session, p.lake))
    # The files are the lake's own: DuckDB reads them as it reads those that it wrote.
    files = p.lake.day_files("facts", p.source_names, DAYS)
    with duckdb.connect() as connection:
        assert ordered(connection.execute(f"FROM {facts_relation(files)}").fetchall()) == expected.facts
    # They carry no stamp, so its own build takes them for stale instead of trusting them.
    assert all(d.written for d in build_facts(p.lake, p.settings.engine, p.rules, p.source_names, DAYS))


def test_a_day_that_has_become_empty_has_an_empty_file(session: Any, expected: Expected) -> None:
    p = expected.platform
    engine = Spark(session, p.lake)
    key = ("gcp", DAYS[2])
    engine.put_attribution(attribution(p.lake, p.rules, p.source_names))
    engine.show_raw([key])
    file = p.lake.day_file("facts", *key)
    before = file.read_bytes()
    with pytest.raises(Exception, match="no_such_table"):
        engine.replace_facts(key, p.rules, "SELECT * FROM no_such_table")
    assert file.read_bytes() == before
    engine.replace_facts(key, p.rules, rendered(facts_query(p.rules, "raw", "attribution") + " WHERE 1 = 0", "spark"))
    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT count(*) FROM {facts_relation([file])}").fetchall() == [(0,)]
    build_facts(p.lake, p.settings.engine, p.rules, p.source_names, DAYS)


def test_an_amount_too_large_fails_aloud(session: Any, expected: Expected) -> None:
    Spark(session, expected.platform.lake)
    session.sql(
        "CREATE OR REPLACE TEMP VIEW large AS SELECT CAST(x AS DECIMAL(38, 18)) AS x"
        " FROM VALUES ('60000000000000000000'), ('60000000000000000000') AS t(x)"
    )
    with pytest.raises(Exception, match=r"ARITHMETIC_OVERFLOW|NUMERIC_VALUE_OUT_OF_RANGE"):
        session.sql(rendered("SELECT CAST(sum(x) AS DECIMAL(38, 18)) AS x FROM large", "spark")).collect()
