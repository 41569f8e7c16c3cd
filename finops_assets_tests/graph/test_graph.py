"""The graph on the synthetic estate: figures equal the estate's own truth, to the last digit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from finops_assets.demo import Estate
from finops_assets.ingest import landing
from finops_assets.ingest.reading.export_table import open_export
from finops_assets_tests.running import SOURCES, Graph, persistent_instance, settings_for, small_estate

FIRST, LAST = date(2026, 8, 28), date(2026, 9, 4)


REPORTS = ("reports/cost_by_team", "reports/restatements")
LINE = ["given", "deliveries", "raw", "facts", "rollup", "evaluation", "reports"]
"""The groups from left to right."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Graph, Estate]]:
    """Two billing periods, with corrections that land on days of the earlier one, run as one range."""
    root = tmp_path_factory.mktemp("graph")
    estate = small_estate(root, FIRST, LAST, rows=4_000)
    with persistent_instance(root / "dagster") as instance:
        graph = Graph(settings_for(root, FIRST), instance)
        run = graph.run(FIRST, LAST)
        assert run.success, run.failure()
        graph.publish("reports/cost_by_team", "reports/untagged_by_provider")
        yield graph, estate


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with persistent_instance(tmp_path / "dagster") as instance:
        yield instance


def truth(estate: Estate) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    connection = duckdb.connect()
    connection.register("truth", estate.truth())
    rows = connection.execute(
        """
        SELECT charge_date, CASE source WHEN 'aws' THEN 'AWS' WHEN 'azure' THEN 'Microsoft' ELSE 'Google Cloud' END,
            coalesce(department, '__untagged__'), coalesce(team, '__untagged__'), coalesce(environment, '__unknown__'),
            ServiceCategory, BillingCurrency, sum(billed_cost), sum(effective_cost), sum(row_count)
        FROM truth GROUP BY 1, 2, 3, 4, 5, 6, 7
        """
    ).fetchall()
    return {row[:7]: row[7:] for row in rows}


def test_rollup_equals_the_truth(ran: tuple[Graph, Estate]) -> None:
    graph, estate = ran
    columns = (
        "charge_date, provider, department, team, environment, ServiceCategory, BillingCurrency,"
        " billed_cost, effective_cost, row_count"
    )
    found = {row[:7]: row[7:] for row in graph.rollup(columns)}
    assert found == truth(estate)


def test_every_raw_row_is_one_fact_with_source_and_position(ran: tuple[Graph, Estate]) -> None:
    graph, estate = ran
    with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
        rows = connection.execute(
            "SELECT source, count(*), count(DISTINCT (source_file, source_row)), sum(BilledCost), sum(EffectiveCost)"
            " FROM cloud_cost_facts GROUP BY 1"
        ).fetchall()
    totals = estate.totals()
    assert {source: (n, billed, effective) for source, n, _, billed, effective in rows} == totals
    assert all(n == distinct for _, n, distinct, _, _ in rows)


def test_facts_say_which_key_gave_each_dimension(ran: tuple[Graph, Estate]) -> None:
    graph, _ = ran
    with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
        unexplained = connection.execute(
            "SELECT count(*) FROM cloud_cost_facts WHERE (team IS NULL) <> (team_key IS NULL)"
            " OR (team_key IS NOT NULL AND NOT contains(Tags, '\"' || team_key || '\":'))"
        ).fetchone()
        keys = {k for (k,) in connection.execute("SELECT DISTINCT team_key FROM cloud_cost_facts").fetchall()}
    assert unexplained == (0,)
    assert {"user:team", "squad"} <= {k.lower() for k in keys if k}


def test_facts_keep_decimals_and_utc_times(ran: tuple[Graph, Estate]) -> None:
    graph, _ = ran
    with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
        types = {
            name: kind for name, kind, *_ in connection.execute("DESCRIBE SELECT * FROM cloud_cost_facts").fetchall()
        }
        outside = connection.execute(
            "SELECT count(*) FROM cloud_cost_facts WHERE CAST(ChargePeriodStart AS DATE) <> charge_date"
        ).fetchone()
    assert types["BilledCost"] == types["ListUnitPrice"] == "DECIMAL(38,18)"
    assert types["ChargePeriodStart"] == "TIMESTAMP"
    assert types["charge_date"] == "DATE"
    assert outside == (0,)


def test_raw_keeps_extension_columns(ran: tuple[Graph, Estate]) -> None:
    graph, _ = ran
    for source, column in {"aws": "x_ServiceCode", "azure": "x_DatasetLastUpdated", "gcp": "x_ExportTime"}.items():
        file = graph.platform.lake.day_file("raw", source, date(2026, 9, 2))
        names = [r[0] for r in duckdb.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(file)]).fetchall()]
        assert column in names


@pytest.mark.long
def test_a_delivery_is_read_once_whatever_days_are_run(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One day's run lands whole months; the runs of the other days read no export file again."""
    estate = small_estate(tmp_path, FIRST, LAST)
    graph = Graph(settings_for(tmp_path, FIRST), instance)
    read: list[str] = []

    def counting(connection: Any, source: str, scope: str, *rest: Any, **named: Any) -> Any:
        read.append(f"{source} {scope}")
        return open_export(connection, source, scope, *rest, **named)

    monkeypatch.setattr(landing, "open_export", counting)
    assert graph.run(FIRST).success
    assert sorted(read) == [f"{s} {p}" for s in SOURCES for p in ("2026-08", "2026-09")]
    assert graph.run(FIRST + timedelta(days=1), LAST).success
    assert len(read) == 6
    assert sum(r[0] for r in graph.rollup("row_count")) == sum(n for n, _, _ in estate.totals().values())


@pytest.mark.long
def test_only_new_tag_sets_are_resolved_and_rules_reach_back_without_the_exports(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    small_estate(tmp_path, FIRST, LAST)
    graph = Graph(settings_for(tmp_path, FIRST), instance)
    assert graph.run(FIRST, LAST).success
    total = sum(row[0] for row in graph.rollup("billed_cost"))
    for source in SOURCES:
        shutil.rmtree(tmp_path / "estate" / source)
    changed = settings_for(tmp_path, FIRST)
    team = changed.dimensions["team"].model_copy(update={"values": {"ios": "apple"}})
    late = Graph(changed.model_copy(update={"dimensions": {**changed.dimensions, "team": team}}), graph.instance)
    run = late.run(FIRST, LAST, ["cloud_cost_facts", "daily_cost_by_team"])
    assert run.success, run.failure()
    teams = {row[0] for row in late.rollup("team")}
    assert "apple" in teams
    assert "ios" not in teams
    assert sum(row[0] for row in late.rollup("billed_cost")) == total


def test_definitions_are_described_owned_and_loadable(ran: tuple[Graph, Estate]) -> None:
    graph, _ = ran
    dg.Definitions.validate_loadable(graph.defs)
    for spec in graph.defs.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.owners == ["team:finops"], spec.key
        assert spec.group_name in LINE
    facts = next(s for s in graph.defs.resolve_all_asset_specs() if s.key == dg.AssetKey("cloud_cost_facts"))
    schema = facts.metadata["dagster/column_schema"]
    file = graph.platform.lake.day_file("facts", "aws", date(2026, 9, 2))
    in_file = {r[0] for r in duckdb.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(file)]).fetchall()}
    assert {c.name for c in schema.columns} == in_file | {"charge_date", "source"}


def test_the_collapsed_graph_reads_in_one_line(ran: tuple[Graph, Estate]) -> None:
    """No group lies both before and after another."""
    graph, _ = ran
    group = {spec.key: str(spec.group_name) for spec in graph.defs.resolve_all_asset_specs()}
    edges = {
        (group[dep.asset_key], group[spec.key])
        for spec in graph.defs.resolve_all_asset_specs()
        for dep in spec.deps
        if group[dep.asset_key] != group[spec.key]
    }
    assert {LINE.index(before) < LINE.index(after) for before, after in edges} == {True}
    assert {("given", "facts"), *pairwise(LINE[1:])} <= edges


def test_whoever_lands_materialises_the_delivery(ran: tuple[Graph, Estate]) -> None:
    graph, _ = ran
    for source in SOURCES:
        record = graph.instance.get_latest_materialization_event(dg.AssetKey(["deliveries", source]))
        assert record is not None
        assert record.asset_materialization is not None
        assert int(str(record.asset_materialization.metadata["rows"].value)) > 0
        assert "generation" in str(record.asset_materialization.metadata["ledger"].value)


def test_reports_are_tables_in_the_warehouse(ran: tuple[Graph, Estate]) -> None:
    graph, estate = ran
    with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
        found = connection.execute(
            "SELECT currency, sum(effective_cost) FROM reports.cost_by_team GROUP BY 1 ORDER BY 1"
        ).fetchall()
        untagged = connection.execute(
            "SELECT max(untagged_team_percent), min(untagged_team_percent) FROM reports.untagged_by_provider"
        ).fetchone()
    expected: dict[str, Decimal] = {}
    for key, (_, effective, _) in truth(estate).items():
        if key[0] >= date(2026, 9, 1):
            expected[key[6]] = expected.get(key[6], Decimal(0)) + effective
    assert dict(found) == expected
    assert untagged is not None
    assert 0 < untagged[1] <= untagged[0] < 100


@pytest.mark.long
def test_reports_take_figures_larger_than_their_first(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """The I/O manager keeps the types of a table's first figures; a later month is larger."""
    estate = small_estate(tmp_path, FIRST, LAST)
    graph = Graph(settings_for(tmp_path, FIRST), instance)
    assert graph.run(FIRST).success
    graph.publish(*REPORTS)
    assert graph.run(FIRST, LAST).success
    graph.publish(*REPORTS)
    estate.deliver("aws", "2026-09", generation=2, restate={date(2026, 9, 2): Decimal("9.5")})
    assert graph.run(date(2026, 9, 2)).success
    graph.publish(*REPORTS)
    with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
        found = connection.execute("SELECT sum(billed_cost) FROM reports.cost_by_team").fetchone()
        rollup = "SELECT sum(billed_cost) FROM daily_cost_by_team WHERE charge_date >= '2026-09-01'"
        assert found == connection.execute(rollup).fetchone()
        assert connection.execute("SELECT count(DISTINCT charge_date) FROM reports.restatements").fetchone() == (1,)
    assert graph.platform.warehouse.is_published()
