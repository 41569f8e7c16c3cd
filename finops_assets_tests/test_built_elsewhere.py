"""A host with a warehouse of its own, in a history that another host wrote: told, not published, and caught up."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import dagster as dg

from finops_assets.built_elsewhere import differing
from finops_assets.estate import Incident
from finops_assets.runs import days_to_run, publish
from finops_assets_tests.running import Graph, persistent_instance, settings_for, small_estate

FIRST, HELD, LAST = date(2026, 9, 1), date(2026, 9, 2), date(2026, 9, 3)
GOOD = [FIRST, LAST]


def test_what_another_warehouse_holds_is_not_passed_over(tmp_path: Path) -> None:
    small_estate(tmp_path, FIRST, LAST, incidents=[Incident("aws", HELD, "incomplete")])
    with persistent_instance(tmp_path / "dagster") as instance:
        one = Graph(settings_for(tmp_path, FIRST), instance)
        one.run(FIRST, LAST)
        assert one.built() == set(GOOD)
        assert behind(one) == [], "the held day is not asked for again"
        files = {"warehouse": tmp_path / "two.duckdb", "published": tmp_path / "two published.duckdb"}
        two = Graph(one.settings.model_copy(update=files), instance)
        assert behind(two) == differing(two.platform, GOOD) == GOOD

        two.run(FIRST)
        assert behind(two) == [LAST]
        [problem] = [text for text in publish(two.defs, instance)[0] if text.startswith("published_warehouse")]
        assert "lacks days that Dagster's history calls built (2026-09-03)" in problem
        assert "finops backfill 2026-09-03 2026-09-04" in problem
        assert not files["published"].exists()

        two.run(LAST)
        assert behind(two) == []
        assert publish(two.defs, instance)[0] == []
        assert two.rollup() == one.rollup()
        assert files["published"].exists()


def behind(graph: Graph) -> list[date]:
    instance: dg.DagsterInstance = graph.instance
    return days_to_run(graph.platform, instance, FIRST, LAST + timedelta(days=1))
