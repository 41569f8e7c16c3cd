"""The same statements on ClickHouse, by chDB: the real engine in this process, also behind ClickHouse's real client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from finops_assets.cost.attribution.tag_sets import attribution, attribution_schema
from finops_assets.cost.engines.dialects import rendered
from finops_assets.cost.engines.elsewhere import PLACED, rows_of, shown, write_facts
from finops_assets.cost.facts_query import facts_query
from finops_assets.storage.lake import Key
from finops_assets_tests.cost.engines.clickhouse_front import front
from finops_assets_tests.cost.engines.conftest import DAYS, Expected, ordered, statements

if not os.environ.get("FINOPS_TEST_ENGINES"):
    pytest.skip("slow: make test-engines", allow_module_level=True)
chdb = pytest.importorskip("chdb.session", reason="needs the extra clickhouse: make test-engines")
from finops_assets.cost.engines.clickhouse import SETTINGS, ClickHouse, Server  # noqa: E402


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Any]:
    session = chdb.Session(str(tmp_path / "clickhouse"))
    yield session
    session.close()


def test_clickhouse_gives_what_duckdb_gives(session: Any, expected: Expected) -> None:
    reached(ClickHouse(session, expected.platform.lake), expected)


def test_so_it_does_behind_its_client(session: Any, expected: Expected) -> None:
    connect = pytest.importorskip("clickhouse_connect", reason="needs the extra clickhouse: make test-engines")
    with front(session) as (port, settings):
        client = connect.get_client(host="127.0.0.1", port=port, compress=False)
        before = len(settings)
        engine = ClickHouse(Server(client), expected.platform.lake)
        reached(engine, expected)
        asked = settings[before:]
        assert asked
        assert all(SETTINGS.items() <= of_request.items() for of_request in asked), "a session may be gone at any time"
        assert engine.name.startswith("ClickHouse 2")
        with pytest.raises(connect.driver.exceptions.DatabaseError, match="no_such_table"):
            engine.replace_facts({expected.keys[0]: "s"}, expected.platform.rules, "SELECT * FROM no_such_table")
        assert engine.table("SHOW TABLES").to_pylist() == [{"name": "facts"}]
        client.close()


def reached(engine: ClickHouse, expected: Expected) -> None:
    """The statements' results and the facts themselves are DuckDB's."""
    expected.reached_by(engine)
    view = engine.show("facts", expected.keys)
    names = sorted(engine.table(f"SELECT * FROM {view} LIMIT 0").column_names)
    found = engine.table(f"SELECT {', '.join(f'`{name}`' for name in names)} FROM {view}").to_pylist()
    naive = [tuple(v.replace(tzinfo=None) if hasattr(v, "tzinfo") else v for v in row.values()) for row in found]
    assert ordered(naive) == expected.facts
    engine.forget(view)


def built(engine: ClickHouse, expected: Expected, keys: list[Key]) -> None:
    p = expected.platform
    write_facts(engine, p.lake, p.rules, attribution(p.lake, p.rules, p.source_names), dict.fromkeys(keys, "stamp"))


def untagged(engine: ClickHouse, expected: Expected, attribution_table: str) -> tuple[int, int]:
    """(rows, untagged rows) by the rollup, of a day whose tag sets nobody uploaded."""
    p, key = expected.platform, expected.keys[0]
    with shown(engine, "raw", [key]) as raw:
        query = rendered(facts_query(p.rules, raw, attribution_table, also=PLACED), "clickhouse")
        engine.replace_facts({key: "stamp"}, p.rules, query)
    layer, rollup = statements(p.rules)["daily_cost_by_team"]
    found = rows_of(engine, layer, [key], rollup)
    return sum(row[-3] for row in found), sum(row[-2] for row in found)


def test_without_join_use_nulls_untagged_rows_would_be_wrong(session: Any, expected: Expected) -> None:
    """Nothing fails, and that is why the setting is set."""
    engine = ClickHouse(session, expected.platform.lake)
    columns = ", ".join(f"`{name}` String" for name in attribution_schema(expected.platform.rules).names)
    engine.query(f"CREATE TABLE attribution ({columns}) ENGINE = MergeTree ORDER BY tag_set_id")
    rows, right = untagged(engine, expected, "attribution")
    assert rows == right > 0
    engine.query("SET join_use_nulls = 0")
    assert untagged(engine, expected, "attribution") == (rows, 0)


def test_without_column_names_first_untagged_rows_would_be_wrong(session: Any, expected: Expected) -> None:
    engine = ClickHouse(session, expected.platform.lake)
    nothing = engine.put(attribution_schema(expected.platform.rules).empty_table())
    rows, right = untagged(engine, expected, nothing)
    assert rows == right > 0
    engine.query("SET prefer_column_name_to_alias = 0")
    assert untagged(engine, expected, nothing) == (rows, 0)


def test_a_day_that_has_become_empty_is_replaced_too(session: Any, expected: Expected) -> None:
    p = expected.platform
    engine = ClickHouse(session, p.lake)
    built(engine, expected, [("aws", day) for day in DAYS])
    nothing = engine.put(attribution_schema(p.rules).empty_table())
    with shown(engine, "raw", [("aws", DAYS[0])]) as raw:
        query = rendered(facts_query(p.rules, raw, nothing, also=PLACED) + " WHERE 1 = 0", "clickhouse")
        engine.replace_facts({("aws", DAYS[0]): "stamp"}, p.rules, query)
    left = engine.table("SELECT DISTINCT charge_date FROM facts ORDER BY 1")
    assert left["charge_date"].to_pylist() == DAYS[1:]


def test_a_day_that_fails_keeps_its_facts(session: Any, expected: Expected) -> None:
    engine = ClickHouse(session, expected.platform.lake)
    key = ("aws", DAYS[0])
    built(engine, expected, [key])
    before = engine.table("SELECT count(*) AS n, sum(BilledCost) AS cost FROM facts").to_pylist()
    with pytest.raises(Exception, match="no_such_table"):
        engine.replace_facts({key: "stamp"}, expected.platform.rules, "SELECT * FROM no_such_table")
    assert engine.table("SELECT count(*) AS n, sum(BilledCost) AS cost FROM facts").to_pylist() == before
    assert engine.table("SHOW TABLES").to_pylist() == [{"name": "facts"}], "nothing is left of what was given and shown"


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
