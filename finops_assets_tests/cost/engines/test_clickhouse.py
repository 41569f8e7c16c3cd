"""The work on ClickHouse: the real engine, chDB, behind the server's HTTP interface and ClickHouse's real client."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from finops_assets.base.errors import FinopsError
from finops_assets.cost.attribution.tag_sets import attribution, attribution_schema
from finops_assets.cost.engines.dialects import rendered
from finops_assets.cost.engines.elsewhere import PLACED, rows_of, shown, write_facts
from finops_assets.cost.engines.mirror import Mirror
from finops_assets.cost.facts import build_facts, facts_stamp
from finops_assets.cost.facts_query import facts_query
from finops_assets.platform import Platform
from finops_assets.storage.day_files import facts_relation, stamp_of
from finops_assets.storage.lake import Key
from finops_assets_tests.cost.engines.clickhouse_front import Front, front
from finops_assets_tests.cost.engines.conftest import (
    DAYS,
    FIRST,
    LAST,
    OF_DEMO,
    UNTAGGED,
    Demonstration,
    Expected,
    facts_rows,
    held,
    judged,
    ordered,
    statements,
)
from finops_assets_tests.emulators import free_port
from finops_assets_tests.running import SOURCES

if not os.environ.get("FINOPS_TEST_ENGINES"):
    pytest.skip("slow: make test-engines", allow_module_level=True)
chdb = pytest.importorskip("chdb.session", reason="needs chdb: make test-engines")
pytest.importorskip("clickhouse_connect", reason="needs the extra clickhouse: make test-engines")
from finops_assets.cost.engines.clickhouse import PASSWORD_ENV, SETTINGS, ClickHouse, connected_to  # noqa: E402

WORD = "correct-horse"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    session = chdb.Session(str(tmp_path / "clickhouse"))
    session.query("CREATE DATABASE finops")
    monkeypatch.setenv(PASSWORD_ENV, WORD)
    with front(session, WORD) as found:
        yield found
    connected_to.cache_clear()
    session.close()


def place(server: Front) -> str:
    return f"clickhouse://127.0.0.1:{server.port}/finops"


@pytest.fixture
def tables(server: Front) -> ClickHouse:
    return connected_to(place(server))


@pytest.fixture
def platform(expected: Expected, tmp_path: Path) -> Platform:
    return expected.copied_to(tmp_path / "platform")


def names_of(tables: ClickHouse) -> set[str]:
    return set(tables.table("SHOW TABLES")["name"].to_pylist())


def test_clickhouse_gives_what_duckdb_gives(
    server: Front, tables: ClickHouse, expected: Expected, platform: Platform
) -> None:
    before = len(server.seen)
    engine = Mirror(tables, platform.lake)
    assert engine.name.startswith("ClickHouse 2")
    expected.reached_by(engine, platform)
    asked = server.seen[before:]
    assert asked
    assert all(SETTINGS.items() <= of_request.items() for of_request in asked), "a session may be gone at any time"

    # A person finds them there, and whoever reads the lake finds them in its files.
    [columns] = [tables.table("SELECT * FROM cloud_cost_facts LIMIT 0").column_names]
    listed = ", ".join(f"`{name}`" for name in sorted(columns))
    found = tables.table(f"SELECT {listed} FROM cloud_cost_facts").to_pylist()
    naive = [tuple(v.replace(tzinfo=None) if hasattr(v, "tzinfo") else v for v in row.values()) for row in found]
    assert ordered(naive) == expected.facts
    files = platform.lake.day_files("facts", platform.source_names, DAYS)
    with duckdb.connect() as connection:
        assert facts_rows(connection, facts_relation(files)) == expected.facts
    assert not any(
        d.written
        for d in build_facts(platform.lake, platform.settings.engine, platform.rules, platform.source_names, DAYS)
    ), "they carry what they were built from: nobody builds them again"
    waiting = tables.table("SELECT count(*) AS n FROM cloud_cost_facts_waiting")
    assert waiting["n"].to_pylist() == [0], "what has passed does not wait"
    copied = [s for s in server.statements if re.match(r"INSERT INTO cloud_cost_facts_[0-9a-f]{32}", s)]
    assert copied == [], "what was built there and has passed is not written again"
    lasting = {"raw_charges", "cloud_cost_facts", "cloud_cost_facts_waiting", "days_held"}
    assert names_of(tables) == lasting, "nothing is left of what was given and shown"


def built(engine: Mirror, p: Platform, keys: list[Key]) -> None:
    resolved = attribution(p.lake, p.rules, p.source_names)
    write_facts(engine, p.lake, p.rules, resolved, {key: facts_stamp(p.lake, p.rules, *key) for key in keys})


def untagged(engine: Mirror, p: Platform, key: Key, attribution_table: str) -> tuple[int, int]:
    """(rows, untagged rows) by the rollup, of a day whose tag sets nobody uploaded."""
    with shown(engine, "raw", [key]) as raw:
        query = rendered(facts_query(p.rules, raw, attribution_table, also=PLACED), "clickhouse")
        engine.replace_facts({key: "stamp"}, p.rules, query)
    _, rollup = statements(p.rules)["daily_cost_by_team"]
    found = rows_of(engine, "unreleased", [key], rollup)
    return sum(row[-3] for row in found), sum(row[-2] for row in found)


def test_without_join_use_nulls_untagged_rows_would_be_wrong(
    tables: ClickHouse, expected: Expected, platform: Platform
) -> None:
    """Nothing fails, and that is why the setting is set."""
    engine = Mirror(tables, platform.lake)
    columns = ", ".join(f"`{name}` String" for name in attribution_schema(platform.rules).names)
    tables.query(f"CREATE TABLE attribution ({columns}) ENGINE = MergeTree ORDER BY tag_set_id")
    rows, right = untagged(engine, platform, expected.keys[0], "attribution")
    assert rows == right > 0
    tables.client.set_client_setting("join_use_nulls", "0")
    assert untagged(engine, platform, expected.keys[0], "attribution") == (rows, 0)


def test_without_column_names_first_untagged_rows_would_be_wrong(
    tables: ClickHouse, expected: Expected, platform: Platform
) -> None:
    engine = Mirror(tables, platform.lake)
    nothing = engine.put(attribution_schema(platform.rules).empty_table())
    rows, right = untagged(engine, platform, expected.keys[0], nothing)
    assert rows == right > 0
    tables.client.set_client_setting("prefer_column_name_to_alias", "0")
    assert untagged(engine, platform, expected.keys[0], nothing) == (rows, 0)


def test_a_day_that_has_become_empty_is_replaced_too(tables: ClickHouse, platform: Platform) -> None:
    engine = Mirror(tables, platform.lake)
    keys: list[Key] = [("aws", day) for day in DAYS]
    built(engine, platform, keys)
    nothing = engine.put(attribution_schema(platform.rules).empty_table())
    with shown(engine, "raw", keys[:1]) as raw:
        query = rendered(facts_query(platform.rules, raw, nothing, also=PLACED) + " WHERE 1 = 0", "clickhouse")
        engine.replace_facts({keys[0]: "stamp"}, platform.rules, query)
    left = tables.table("SELECT DISTINCT charge_date FROM cloud_cost_facts_waiting ORDER BY 1")
    assert left["charge_date"].to_pylist() == DAYS[1:]
    with duckdb.connect() as connection:
        file = platform.lake.day_file("unreleased", *keys[0])
        assert connection.execute(f"SELECT count(*) FROM {facts_relation([file])}").fetchall() == [(0,)]
        assert stamp_of(file) == "stamp"


def test_a_day_that_fails_keeps_its_facts(tables: ClickHouse, platform: Platform) -> None:
    engine = Mirror(tables, platform.lake)
    key: Key = ("aws", DAYS[0])
    built(engine, platform, [key])
    file = platform.lake.day_file("unreleased", *key)
    before = tables.table("SELECT count(*) AS n, sum(BilledCost) AS cost FROM cloud_cost_facts_waiting").to_pylist()
    content, lasting = file.read_bytes(), names_of(tables)
    with pytest.raises(FinopsError, match=r"ClickHouse 2.*no_such_table.*Nothing was replaced by halves"):
        engine.replace_facts({key: "stamp"}, platform.rules, "SELECT * FROM no_such_table")
    assert before[0]["n"]
    after = tables.table("SELECT count(*) AS n, sum(BilledCost) AS cost FROM cloud_cost_facts_waiting").to_pylist()
    assert after == before
    assert file.read_bytes() == content
    assert names_of(tables) == lasting, "nothing is left of what was given and shown"


def test_rows_that_get_lost_on_the_way_back_are_no_day(
    tables: ClickHouse, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gates ask the engine, which has them all."""
    engine = Mirror(tables, platform.lake)
    whole = tables.batches
    monkeypatch.setattr(tables, "batches", lambda query: (batch.slice(1) for batch in whole(query)))
    with pytest.raises(FinopsError, match=r"aws 2026-09-01: \d+ rows of facts were built there and \d+ came back"):
        built(engine, platform, [("aws", DAYS[0])])
    assert not platform.lake.day_file("unreleased", "aws", DAYS[0]).exists()


def test_a_day_of_which_another_version_came_is_brought_before_anybody_is_answered(
    tables: ClickHouse, expected: Expected, platform: Platform
) -> None:
    engine = Mirror(tables, platform.lake)
    _, query = statements(platform.rules)["facts totals"]
    before = rows_of(engine, "facts", expected.keys, query)
    assert ordered(before) == expected.found["facts totals"], "facts that DuckDB made"
    # Rules changed since, and DuckDB has built a day under them.
    other = replace(platform.rules, values={**platform.rules.values, "team": {"payments": "money"}})
    key: Key = ("aws", DAYS[0])
    build_facts(platform.lake, platform.settings.engine, other, ["aws"], [DAYS[0]])
    assert stamp_of(platform.lake.day_file("facts", *key)) == facts_stamp(platform.lake, other, *key)
    assert ordered(rows_of(engine, "facts", expected.keys, query)) == ordered(before)
    teams = tables.table(
        "SELECT DISTINCT team FROM cloud_cost_facts WHERE source = 'aws' AND charge_date = '2026-09-01'"
    )
    with duckdb.connect() as connection:
        files = facts_relation([platform.lake.day_file("facts", *key)])
        there = {team for (team,) in connection.execute(f"SELECT DISTINCT team FROM {files}").fetchall()}
    assert set(teams["team"].to_pylist()) == there


def test_a_source_that_counts_no_more_leaves_the_table(
    tables: ClickHouse, expected: Expected, platform: Platform
) -> None:
    engine = Mirror(tables, platform.lake)
    engine.forget(engine.show("facts", expected.keys))
    kept = [key for key in expected.keys if key[0] != "saas"]
    assert len(kept) < len(expected.keys)
    engine.keep_only(kept, DAYS)
    left = tables.table("SELECT DISTINCT source FROM cloud_cost_facts")
    assert set(left["source"].to_pylist()) == {source for source, _ in kept}


def test_a_sum_beyond_the_largest_amount_fails_aloud(tables: ClickHouse) -> None:
    tables.query("CREATE TABLE large (x Nullable(Decimal(38, 18))) ENGINE = Memory")
    tables.query(
        "INSERT INTO large SELECT arrayJoin([60000000000000000000, 60000000000000000000, 60000000000000000000])"
    )
    plain = tables.table("SELECT sum(x) AS x FROM large")["x"].to_pylist()
    assert plain[0] is not None
    assert plain[0] < Decimal(0), "wraps around in silence"
    with pytest.raises(FinopsError, match="DECIMAL_OVERFLOW"):
        tables.table(rendered("SELECT CAST(sum(x) AS DECIMAL(38, 18)) AS x FROM large", "clickhouse"))


def test_lower_case_reaches_beyond_ascii(tables: ClickHouse) -> None:
    found = tables.table(rendered("SELECT lower('ÄRZTE') AS x", "clickhouse"))
    assert found["x"].to_pylist() == ["ärzte"]
    assert tables.table("SELECT lower('ÄRZTE') AS x")["x"].to_pylist() == ["Ärzte"]


def test_one_line_in_the_settings_and_the_graph_runs_on_clickhouse(
    server: Front, tables: ClickHouse, demonstration: Demonstration, other_history: dg.DagsterInstance
) -> None:
    graph = demonstration.graph("clickhouse", other_history, place(server))
    run = graph.run(FIRST, LAST)
    assert run.materialized("cloud_cost_facts") == OF_DEMO
    assert run.materialized("daily_cost_by_team") == demonstration.run.materialized("daily_cost_by_team")
    assert judged(run) == judged(demonstration.run)
    assert held(graph) == held(demonstration.duckdb)
    for check in ("cloud_cost_facts:conserved", "daily_cost_by_team:conserved"):
        said = {str(e.metadata["engine"].value) for day, e in run.verdicts(check).items() if day != UNTAGGED}
        assert said == {tables.name}
    days = tables.table("SELECT DISTINCT source, charge_date FROM cloud_cost_facts")
    shown_there = set(zip(days["source"].to_pylist(), days["charge_date"].to_pylist()))
    lake = graph.platform.lake
    assert shown_there == {(s, d) for s in SOURCES for d in OF_DEMO} - {("azure", UNTAGGED)}, (
        "what is held is not there"
    )

    # What is there and up to date is left alone, whoever wrote it.
    files = lake.day_files("facts", SOURCES, OF_DEMO)
    before = [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files]
    server.seen.clear()
    graph.run(FIRST, LAST)
    assert [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files] == before
    # Days that DuckDB built are brought where the line is put back.
    back = type(graph)(
        graph.settings.model_copy(update={"engine": demonstration.duckdb.settings.engine}), other_history
    )
    back.run(FIRST, LAST)
    assert [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files] == before


def test_a_server_that_goes_down_in_the_middle_leaves_the_last_good_day(
    server: Front, tables: ClickHouse, demonstration: Demonstration, other_history: dg.DagsterInstance
) -> None:
    graph = demonstration.graph("down", other_history, place(server))
    server.fails_at = "REPLACE PARTITION (toDate('2026-10-13')"
    run = graph.run(FIRST, LAST)
    assert "Remote end closed connection" in run.failure()
    with pytest.raises(FinopsError, match=r"^ClickHouse 2.*look at the server, then run the days again"):
        tables.query("SELECT 1")
    assert run.materialized("daily_cost_by_team") == []
    assert graph.platform.lake.day_files("unreleased", SOURCES, OF_DEMO) == []
    server.fails_at, server.down = None, False
    again = graph.run(FIRST, LAST)
    assert held(graph) == held(demonstration.duckdb)
    assert {name: v for name, v in judged(again).items() if "cost" in name[0]} == {
        name: v for name, v in judged(demonstration.run).items() if "cost" in name[0]
    }


def test_who_does_not_answer_or_does_not_let_in_is_told_of(server: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = f"clickhouse://127.0.0.1:{free_port()}/finops"
    with pytest.raises(FinopsError, match=rf"^engine.run_on in finops.yaml is {nobody}: .*refused"):
        connected_to(nobody)
    monkeypatch.setenv(PASSWORD_ENV, "wrong-word")
    with pytest.raises(FinopsError, match=r"AUTHENTICATION_FAILED") as caught:
        connected_to(place(server))
    assert "wrong-word" not in str(caught.value)
