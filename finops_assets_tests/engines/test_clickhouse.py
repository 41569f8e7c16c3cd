"""The same statements on ClickHouse, by chDB: the real engine in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from finops_assets.attribution.tag_sets import attribution_schema
from finops_assets.engines.dialects import rendered
from finops_assets.engines.transformation import build_facts, rollup
from finops_assets.facts import facts_query
from finops_assets_tests.engines.conftest import DAYS, Expected, ordered
from finops_assets_tests.running import PROVIDERS

if not os.environ.get("FINOPS_TEST_ENGINES"):
    pytest.skip("slow: make test-engines", allow_module_level=True)
chdb = pytest.importorskip("chdb.session", reason="needs the extra clickhouse: make test-engines")
from finops_assets.engines.clickhouse import ClickHouse  # noqa: E402


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Any]:
    session = chdb.Session(str(tmp_path / "clickhouse"))
    yield session
    session.close()


def test_clickhouse_gives_what_duckdb_gives(session: Any, expected: Expected) -> None:
    engine = ClickHouse(session, expected.platform.lake)
    expected.reached_by(engine)
    view = engine.show_facts(expected.keys)
    columns = [f"`{c}`" for c in engine.table(f"SELECT * FROM {view} LIMIT 0").column_names]
    found = engine.table(f"SELECT {', '.join(columns)} FROM {view}").to_pylist()
    naive = [tuple(v.replace(tzinfo=None) if hasattr(v, "tzinfo") else v for v in row.values()) for row in found]
    by_duckdb = [(*row[:-2], row[-1], row[-2]) for row in expected.facts]  # charge_date before source there
    assert ordered(naive) == ordered(by_duckdb)


def untagged(engine: ClickHouse, expected: Expected) -> tuple[int, int]:
    """(rows, untagged rows) by the rollup, of a day whose tag sets nobody uploaded."""
    p, key = expected.platform, expected.keys[0]
    engine.show_raw([key])
    engine.replace_facts(key, p.rules, rendered(facts_query(p.rules, "raw", "attribution"), "clickhouse"))
    found = rollup(engine, p.rules, PROVIDERS, [key])
    return sum(found["row_count"].to_pylist()), sum(found["untagged_rows"].to_pylist())


def test_without_join_use_nulls_untagged_rows_would_be_wrong(session: Any, expected: Expected) -> None:
    """Nothing fails, and that is why the setting is set."""
    engine = ClickHouse(session, expected.platform.lake)
    columns = ", ".join(f"`{name}` String" for name in attribution_schema(expected.platform.rules).names)
    engine.query(f"CREATE TABLE attribution ({columns}) ENGINE = MergeTree ORDER BY tag_set_id")
    rows, right = untagged(engine, expected)
    assert rows == right > 0
    engine.query("SET join_use_nulls = 0")
    assert untagged(engine, expected) == (rows, 0)


def test_without_column_names_first_untagged_rows_would_be_wrong(session: Any, expected: Expected) -> None:
    engine = ClickHouse(session, expected.platform.lake)
    engine.put_attribution(attribution_schema(expected.platform.rules).empty_table())
    rows, right = untagged(engine, expected)
    assert rows == right > 0
    engine.query("SET prefer_column_name_to_alias = 0")
    assert untagged(engine, expected) == (rows, 0)


def test_a_day_that_has_become_empty_is_replaced_too(session: Any, expected: Expected) -> None:
    p = expected.platform
    engine = ClickHouse(session, p.lake)
    build_facts(engine, p.lake, p.rules, ["aws"], DAYS)
    query = rendered(facts_query(p.rules, "raw", "attribution") + " WHERE 1 = 0", "clickhouse")
    engine.show_raw([("aws", DAYS[0])])
    engine.replace_facts(("aws", DAYS[0]), p.rules, query)
    left = engine.table("SELECT DISTINCT charge_date FROM facts ORDER BY 1")
    assert left["charge_date"].to_pylist() == DAYS[1:]


def test_a_day_that_fails_keeps_its_facts(session: Any, expected: Expected) -> None:
    p = expected.platform
    engine = ClickHouse(session, p.lake)
    key = ("aws", DAYS[0])
    build_facts(engine, p.lake, p.rules, ["aws"], [DAYS[0]])
    before = engine.table("SELECT count(*) AS n, sum(BilledCost) AS cost FROM facts").to_pylist()
    with pytest.raises(Exception, match="no_such_table"):
        engine.replace_facts(key, p.rules, "SELECT * FROM no_such_table")
    assert engine.table("SELECT count(*) AS n, sum(BilledCost) AS cost FROM facts").to_pylist() == before
    assert engine.table("SHOW TABLES LIKE 'facts_%'").num_rows == 0


def test_a_sum_beyond_the_largest_amount_fails_aloud(session: Any, expected: Expected) -> None:
    engine = ClickHouse(session, expected.platform.lake)
    engine.query("CREATE TABLE large (x Nullable(Decimal(38, 18))) ENGINE = Memory")
    engine.query(
        "INSERT INTO large SELECT arrayJoin([60000000000000000000, 60000000000000000000, 60000000000000000000])"
    )
    plain = engine.table("SELECT sum(x) AS x FROM large")["x"].to_pylist()
    assert plain[0] is not None
    assert plain[0] < Decimal(0), "wraps around in silence"
    with pytest.raises(Exception, match="DECIMAL_OVERFLOW"):
        engine.table(rendered("SELECT CAST(sum(x) AS DECIMAL(38, 18)) AS x FROM large", "clickhouse"))


def test_lower_case_reaches_beyond_ascii(session: Any, expected: Expected) -> None:
    engine = ClickHouse(session, expected.platform.lake)
    found = engine.table(rendered("SELECT lower('ÄRZTE') AS x", "clickhouse"))
    assert found["x"].to_pylist() == ["ärzte"]
    assert engine.table("SELECT lower('ÄRZTE') AS x")["x"].to_pylist() == ["Ärzte"]
