"""The five figures of the platform's health: each counted right, by week, and on one page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from typer.testing import CliRunner

from finops_assets.cli.program import app
from finops_assets.evaluate.anomalies.history import Anomaly, AnomalyHistory
from finops_assets.evaluate.anomalies.key import Key
from finops_assets.evaluate.health.figures import COLUMNS, Decided, StepOutcome, health, page
from finops_assets.graph.assets.health import health_asset, step_outcomes
from finops_assets.graph.assets.report_tables import IO_MANAGER, ReportTables
from finops_assets.graph.day_verdicts import held_back
from finops_assets_tests.conftest import Site, focus_row

NOW = datetime(2026, 11, 4, 9, tzinfo=UTC)  # a Wednesday
THIS, BEFORE = date(2026, 11, 2), date(2026, 10, 26)


@pytest.fixture
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE daily_cost_by_team (charge_date DATE, provider VARCHAR, department VARCHAR, team VARCHAR,"
            " BillingCurrency VARCHAR, positive_effective_cost DECIMAL(38, 18))"
        )
        connection.execute(
            "CREATE TABLE sparse_groups (charge_date DATE, department VARCHAR, team VARCHAR, resources BIGINT,"
            " min_resources BIGINT, sparse BOOLEAN)"
        )
        yield connection


def figures(connection: duckdb.DuckDBPyConnection, **given: object) -> dict[tuple[str, str, date], tuple[object, ...]]:
    known = {"outcomes": [], "anomalies": [], "decided": []} | given
    table = health(connection, now=NOW, **known).frame()  # type: ignore[arg-type]
    assert list(table.columns) == list(COLUMNS)
    rows: list[Any] = [*table.itertuples()]
    return {(r.figure, r.of, r.week): (r.percent, r.part, r.whole, r.note) for r in rows}


def test_nothing_to_count_is_no_row_and_no_error(warehouse: duckdb.DuckDBPyConnection) -> None:
    assert figures(warehouse) == {}
    table = page(health(warehouse, [], [], [], NOW)).frame()
    assert set(table["counted"]) == {"nothing to count yet"}
    with duckdb.connect() as empty:
        assert figures(empty) == {}


def test_untagged_is_by_provider_and_currency_and_never_adds_currencies(warehouse: duckdb.DuckDBPyConnection) -> None:
    for day, provider, team, currency, cost in (
        (THIS, "AWS", "web", "USD", "75"),
        (THIS, "AWS", "__untagged__", "USD", "25"),
        (THIS, "AWS", "__untagged__", "EUR", "1000"),
        (BEFORE, "AWS", "web", "USD", "10"),
        (BEFORE, "GCP", "web", "EUR", "0"),
        (THIS - timedelta(weeks=8), "AWS", "web", "USD", "10"),
    ):
        warehouse.execute(
            "INSERT INTO daily_cost_by_team VALUES (?, ?, 'shop', ?, ?, ?)", [day, provider, team, currency, cost]
        )
    found = figures(warehouse)
    assert found["untagged", "AWS, USD", THIS] == (25.0, Decimal(25), Decimal(100), "1 days")
    assert found["untagged", "AWS, EUR", THIS][0] == 100
    assert found["untagged", "AWS, USD", BEFORE][0] == 0
    # Nothing positive has no share; what is older than the trend is left out.
    assert len(found) == 3
    counted = page(health(warehouse, [], [], [], NOW)).frame().set_index("of")["counted"]
    assert counted["AWS, USD"].endswith("; 2 of 14 days")


def test_a_gate_that_holds_is_no_failure_of_the_pipeline(warehouse: duckdb.DuckDBPyConnection) -> None:
    ended = ("success", "success", "success", "held", "failed")
    found = figures(warehouse, outcomes=[StepOutcome("rollup", NOW, e) for e in ended])  # type: ignore[arg-type]
    assert found == {("pipeline", "rollup", THIS): (75.0, Decimal(3), Decimal(4), "1 held by gates")}


def test_sparse_groups_are_those_of_the_weeks_newest_day(warehouse: duckdb.DuckDBPyConnection) -> None:
    for day, team, sparse in ((BEFORE, "a", True), (THIS, "a", True), (THIS + timedelta(1), "a", False)):
        warehouse.execute("INSERT INTO sparse_groups VALUES (?, 'd', ?, 1, 2, ?)", [day, team, sparse])
        warehouse.execute("INSERT INTO sparse_groups VALUES (?, 'd', 'b', 1, 2, true)", [day])
    found = figures(warehouse)
    assert found["sparse groups", "all", BEFORE][:3] == (100, Decimal(2), Decimal(2))
    assert found["sparse groups", "all", THIS] == (50, Decimal(1), Decimal(2), "on 2026-11-03")


def anomaly(number: int, team: str, verdict: str | None) -> Anomaly:
    day = date(2026, 10, 20) + timedelta(days=number)
    made = Anomaly(
        Key("shop", team, "Compute", "USD"), 1, "spike", day, day, day, 1, Decimal(3), Decimal(1), 3.0, NOW, NOW
    )
    return replace(made, verdict=verdict, judged_at=NOW if verdict else None)  # type: ignore[arg-type]


def test_false_alarms_are_of_what_was_judged(warehouse: duckdb.DuckDBPyConnection) -> None:
    known = [
        anomaly(0, "a", "false"),
        anomaly(1, "a", "confirmed"),
        anomaly(2, "b", "confirmed"),
        anomaly(3, "b", None),
    ]
    found = figures(warehouse, anomalies=known)
    assert {of: row[:3] for (_, of, _), row in found.items()} == {
        "all": (pytest.approx(33.33), Decimal(1), Decimal(3)),
        "shop/a": (50, Decimal(1), Decimal(2)),
        "shop/b": (0, Decimal(0), Decimal(1)),
    }


def test_the_page_pools_four_weeks_and_draws_eight(warehouse: duckdb.DuckDBPyConnection) -> None:
    decided = [Decided(NOW, True), Decided(NOW, False), Decided(NOW - timedelta(weeks=1), True)]
    decided += [Decided(NOW - timedelta(weeks=5), False)]
    shown = page(health(warehouse, [], [], decided, NOW)).frame().set_index("figure")
    line = shown.loc["accepted suggestions"]
    assert (line["now"], line["before"], line["counted"]) == (pytest.approx(66.67, abs=0.01), 0, "2 of 3")
    assert line["weeks"] == "··▁···█▅"


def test_outcomes_come_from_dagsters_event_log() -> None:
    @dg.asset(key=["raw", "aws"])
    def good() -> None:
        pass

    @dg.asset(key=["raw", "gcp"])
    def bad() -> None:
        raise ValueError("a broken file")

    @dg.asset(key="daily_cost_by_team")
    def holding() -> None:
        raise held_back({date(2026, 9, 1): ["raw/aws:complete failed"]})

    @dg.asset(key=["raw", "azure"])
    def prose() -> None:
        raise dg.Failure("the words alone, 1 day is held back by a gate, are no mark")

    @dg.asset
    def other() -> None:
        pass

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([good, bad, holding, prose, other], instance=instance, raise_on_error=False)
        found = sorted((o.stage, o.ended) for o in step_outcomes(instance, datetime.now(UTC) - timedelta(days=1)))
        assert found == [("ingestion", "failed"), ("ingestion", "failed"), ("ingestion", "success"), ("rollup", "held")]
        assert list(step_outcomes(instance, datetime.now(UTC) + timedelta(days=1))) == []


def test_asset_and_command(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.put_csv("all.csv", focus_row("2026-09-01", Tags='{"team": "web", "dept": "shop"}'), focus_row("2026-09-01"))
    site.run_all("2026-09-01")
    settings = site.platform.settings
    AnomalyHistory.beside(settings.warehouse).put([replace(anomaly(0, "web", "false"), judged_at=datetime.now(UTC))])
    resources = {"platform": site.platform, IO_MANAGER: ReportTables(database=str(settings.warehouse))}
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([health_asset(settings.owner)], instance=instance, resources=resources).success
    site.platform.warehouse.publish(site.platform.lake)
    config = tmp_path / "finops.yaml"
    config.write_text(
        "first_day: 2026-01-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        "sources: [{name: bill, uri: exports, layout: files}]\ndimensions:\n  team: {keys: [team]}\n"
    )
    told = CliRunner().invoke(app, ["health", "-c", str(config)])
    assert told.exit_code == 0, told.output
    lines = {line.split("  ")[0]: line for line in told.output.splitlines()}
    assert "50.0" in lines["untagged"]
    assert "100.0" in lines["false alarms"]
    assert "nothing to count yet" in lines["sparse groups"]
    exact = CliRunner().invoke(app, ["health", "-f", "csv", "-c", str(config)])
    assert 'untagged,"Cloud, USD",2026-08-31' in exact.output
