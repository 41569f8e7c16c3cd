"""Dagster's history: superseded runs go, and with them goes nothing that anybody still asks for."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus

from finops_assets.graph.retention import prune
from finops_assets_tests.places import PROJECT
from finops_assets_tests.running import Graph, persistent_instance, settings_for, small_estate

FIRST, LAST = date(2026, 9, 1), date(2026, 9, 2)


@pytest.mark.long
def test_superseded_runs_go_and_days_and_verdicts_stay(tmp_path: Path) -> None:
    small_estate(tmp_path, FIRST, LAST)
    with persistent_instance(tmp_path / "dagster") as instance:
        graph = Graph(settings_for(tmp_path, FIRST), instance)
        first = graph.run(FIRST, LAST)
        graph.run(LAST)  # leaves the first run the newest word on FIRST only
        again = graph.run(LAST)
        assert first.success
        assert again.success
        checks = graph.defs.resolve_asset_graph().asset_check_keys
        raw = dg.AssetKey(["raw", "aws"])
        before = graph.built(), graph.built("raw/aws"), _judged(instance, list(checks))

        assert prune(instance, checks, datetime.now(UTC) - timedelta(days=1)).deleted == 0, "not old yet"
        done = prune(instance, checks, datetime.now(UTC) + timedelta(days=1))

        kept = {run.run_id for run in instance.get_runs()}
        assert {first.result.run_id, again.result.run_id} <= kept
        assert (done.deleted, done.kept, len(kept)) == (1, 2, 2)
        assert (graph.built(), graph.built("raw/aws"), _judged(instance, list(checks))) == before
        newest = instance.get_latest_materialization_event(raw)
        assert newest is not None
        assert newest.run_id == again.result.run_id
        assert graph.run(FIRST).success, "the graph runs on with what is left"


def _judged(instance: dg.DagsterInstance, checks: list[dg.AssetCheckKey]) -> set[tuple[str, str | None, str]]:
    return {
        (info.check_key.to_user_string(), info.partition_key, info.latest_execution_status.value)
        for info in instance.event_log_storage.get_asset_check_partition_info(checks)
    }


def test_the_shipped_dagster_yaml_bounds_what_sensors_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = PROJECT / "dagster.yaml"
    (tmp_path / "dagster.yaml").write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path), "dagster.yaml") as instance:
        for kind in (InstigatorType.SENSOR, InstigatorType.SCHEDULE):
            days = instance.get_tick_retention_settings(kind)
            assert all(days[ended] > 0 for ended in (TickStatus.SKIPPED, TickStatus.FAILURE, TickStatus.SUCCESS))
