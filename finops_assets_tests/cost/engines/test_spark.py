"""The same statements on Apache Spark, in this process with two threads. Half a minute: only with make test-engines."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from finops_assets.base.errors import FinopsError, LakeError
from finops_assets.cost.attribution.tag_sets import attribution
from finops_assets.cost.engines.dialects import rendered
from finops_assets.cost.engines.elsewhere import write_facts
from finops_assets.cost.facts import build_facts, facts_stamp, release
from finops_assets.storage.day_files import facts_relation
from finops_assets_tests.cost.engines.conftest import DAYS, Expected, facts_rows
from finops_assets_tests.cost.engines.spark_cluster import FOR_TESTS, spark_configured

if not os.environ.get("FINOPS_TEST_ENGINES"):
    pytest.skip("slow: make test-engines", allow_module_level=True)
if not shutil.which("java"):
    pytest.skip("needs Java 17", allow_module_level=True)
pytest.importorskip("pyspark", reason="needs the extra spark: make test-engines")

from finops_assets.cost.engines import spark
from finops_assets.cost.engines.spark import Spark, session_on

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # pyspark leaves the sockets open that it reads rows from


@pytest.fixture(scope="module")
def engine(expected: Expected, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    with spark_configured(tmp_path_factory.mktemp("spark"), **FOR_TESTS):
        yield Spark(session_on("local[2]"), expected.platform.lake)


def test_spark_gives_what_duckdb_gives(engine: Spark, expected: Expected) -> None:
    p = expected.platform
    expected.reached_by(engine, p)
    # The files are the lake's own: DuckDB reads them as it reads those that it wrote.
    files = p.lake.day_files("facts", p.source_names, DAYS)
    with duckdb.connect() as connection:
        assert facts_rows(connection, facts_relation(files)) == expected.facts
    assert all(b"parquet-mr" in file.read_bytes()[-4096:] for file in files)
    # They carry what they were built from: nobody builds them again.
    assert not any(d.written for d in build_facts(p.lake, p.settings.engine, p.rules, p.source_names, DAYS))
    assert engine.session.catalog.listTables() == [], "nothing is left of what was given and shown"


def test_a_day_that_has_become_empty_has_an_empty_file(engine: Spark, expected: Expected) -> None:
    p = expected.platform
    key = ("gcp", DAYS[2])
    file, raw = p.lake.day_file("facts", *key), p.lake.day_file("raw", *key)
    before, whole = file.read_bytes(), raw.read_bytes()
    with pytest.raises(Exception, match="no_such_table"):
        engine.replace_facts({key: "stamp"}, p.rules, "SELECT * FROM no_such_table")
    assert file.read_bytes() == before
    try:
        with duckdb.connect() as connection:
            connection.execute(
                f"COPY (FROM read_parquet('{raw}', hive_partitioning = false) LIMIT 0) TO '{raw}.new' (FORMAT parquet)"
            )
            Path(f"{raw}.new").replace(raw)
            resolved = attribution(p.lake, p.rules, p.source_names)
            write_facts(engine, p.lake, p.rules, resolved, {key: "stamp", ("gcp", DAYS[1]): "stamp"})
            assert file.read_bytes() == before, "it waits for its gates"
            release(p.lake, [key, ("gcp", DAYS[1])])
            names = [name for name, *_ in connection.execute(f"DESCRIBE FROM {facts_relation([file])}").fetchall()]
            assert connection.execute(f"SELECT count(*) FROM {facts_relation([file])}").fetchall() == [(0,)]
            assert {"team", "team_key", "BilledCost"} <= set(names)
    finally:
        raw.write_bytes(whole)
        build_facts(p.lake, p.settings.engine, p.rules, p.source_names, DAYS)


def test_tag_sets_too_many_to_send_to_every_worker_are_joined_by_sorting(
    engine: Spark, expected: Expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = expected.platform
    monkeypatch.setattr(spark, "BROADCAST_BYTES", 0)
    sorting = Spark(engine.session, p.lake)
    resolved = attribution(p.lake, p.rules, p.source_names)
    write_facts(sorting, p.lake, p.rules, resolved, {key: facts_stamp(p.lake, p.rules, *key) for key in expected.keys})
    release(p.lake, expected.keys)
    with duckdb.connect() as connection:
        files = p.lake.day_files("facts", p.source_names, DAYS)
        assert len(files) == len(expected.keys)
        assert facts_rows(connection, facts_relation(files)) == expected.facts


def test_an_amount_too_large_fails_aloud(engine: Spark) -> None:
    engine.session.sql(
        "CREATE OR REPLACE TEMP VIEW large AS SELECT CAST(x AS DECIMAL(38, 18)) AS x"
        " FROM VALUES ('60000000000000000000'), ('60000000000000000000') AS t(x)"
    )
    with pytest.raises(Exception, match=r"ARITHMETIC_OVERFLOW|NUMERIC_VALUE_OUT_OF_RANGE"):
        engine.table(rendered("SELECT CAST(sum(x) AS DECIMAL(38, 18)) AS x FROM large", "spark"))
    engine.forget("large")


def test_a_column_that_a_file_lacks_is_not_taken_for_missing_values(engine: Spark, expected: Expected) -> None:
    """Spark itself would call every row of such a day untagged."""
    p = expected.platform
    [second] = p.lake.day_files("facts", ["aws"], [DAYS[1]])
    whole = second.read_bytes()
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * EXCLUDE (team) FROM read_parquet('{second}', hive_partitioning = false)) TO '{second}.new' (FORMAT parquet)"
        )
    Path(f"{second}.new").replace(second)
    try:
        with pytest.raises(
            LakeError, match=r"charge_date=2026-09-02/data.parquet has no column team; .* run the day's"
        ):
            engine.show("facts", [("aws", DAYS[0]), ("aws", DAYS[1])])
    finally:
        second.write_bytes(whole)


def test_an_application_that_was_ended_is_told_of_and_the_next_one_works(engine: Spark) -> None:
    context: Any = engine.session.sparkContext
    context._jsc.sc().stop()
    with pytest.raises(FinopsError, match=r"the application ended while it worked .* then run the days again"):
        engine.table("SELECT 1 AS x")
    again = Spark(session_on("local[2]"), engine.lake)
    assert again.table("SELECT 1 AS x")["x"].to_pylist() == [1]
