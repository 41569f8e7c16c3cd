"""A host with a warehouse of its own, in a history that another host wrote: told, not published, and caught up."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from finops_assets.cost.accrual import create_views
from finops_assets.cost.sparse import create_view
from finops_assets.demo import Incident
from finops_assets.graph.days_to_run import days_to_run
from finops_assets.graph.run_range import publish
from finops_assets.judge.warehouse_behind import differing
from finops_assets.tables.declarations import TABLES
from finops_assets_tests.running import Graph, persistent_instance, settings_for, small_estate

FIRST, HELD, LAST = date(2026, 9, 1), date(2026, 9, 2), date(2026, 9, 3)
GOOD = [FIRST, LAST]


@pytest.mark.long
@pytest.mark.parametrize(
    ("release", "built"), [("whole_day", GOOD), ("by_source", [FIRST, HELD, LAST])], ids=["whole day", "by source"]
)
def test_what_another_warehouse_holds_is_not_passed_over(tmp_path: Path, release: str, built: list[date]) -> None:
    small_estate(tmp_path, FIRST, LAST, incidents=[Incident("aws", HELD, "incomplete")])
    with persistent_instance(tmp_path / "dagster") as instance:
        one = Graph(settings_for(tmp_path, FIRST, f"release: {release}\n"), instance)
        one.run(FIRST, LAST)
        assert one.built() == set(built)
        assert behind(one) == [], "the held day is not asked for again"
        files = {"warehouse": tmp_path / "two.duckdb", "published": tmp_path / "two published.duckdb"}
        two = Graph(one.settings.model_copy(update=files), instance)
        assert behind(two) == differing(two.platform, built) == built

        two.run(FIRST, HELD if release == "by_source" else None)
        assert behind(two) == [LAST]
        [problem] = [
            text for text in publish(two.defs, instance, two.platform)[0] if text.startswith("published_warehouse")
        ]
        assert "lacks days that Dagster's history calls built (2026-09-03)" in problem
        assert "finops backfill 2026-09-03 2026-09-04" in problem
        assert not files["published"].exists()

        two.run(LAST)
        assert behind(two) == []
        assert publish(two.defs, instance, two.platform)[0] == []
        assert two.rollup() == one.rollup()
        assert files["published"].exists()


def behind(graph: Graph) -> list[date]:
    instance: dg.DagsterInstance = graph.instance
    return days_to_run(graph.platform, instance, FIRST, LAST + timedelta(days=1))


@pytest.mark.long
def test_a_warehouse_of_three_dimensions_is_read_and_its_days_are_asked_for(tmp_path: Path) -> None:
    """As the version before this one left it: its tables knew department, team and environment alone."""
    small_estate(tmp_path, FIRST, FIRST)
    with persistent_instance(tmp_path / "dagster") as instance:
        graph = Graph(settings_for(tmp_path, FIRST), instance)
        graph.run(FIRST)
        graph.publish()
        whole = graph.rollup()
        with graph.platform.warehouse.writing() as connection:
            for table, declared in ((t, TABLES["main", t]) for t in tables_of(connection)):
                if declared.by_dimensions and not declared.view:
                    connection.execute(f"ALTER TABLE {table} DROP COLUMN cost_center")
            create_views(connection)
            create_view(connection)
        graph.publish()
        assert days_to_run(graph.platform, instance, FIRST, HELD) == [FIRST]
        assert graph.run(FIRST).success
        assert days_to_run(graph.platform, instance, FIRST, HELD) == []
        assert sorted(map(repr, graph.rollup("* EXCLUDE (cost_center), cost_center"))) == sorted(
            repr((*row[:5], *row[6:], row[5])) for row in whole
        )
        graph.publish()


def tables_of(connection: duckdb.DuckDBPyConnection) -> list[str]:
    found = connection.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'").fetchall()
    return [name for (name,) in found]
