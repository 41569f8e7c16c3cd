"""A bad day is held and its neighbours flow, in every way a run can start (docs/guides/gates.md); here with `release: whole_day`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.loader import LoadingContextForTest

from finops_assets.demo import Estate, Incident
from finops_assets.graph.run_range import QUIET
from finops_assets.settings.model import Settings
from finops_assets.settings.tag_policy import TagPolicy, Threshold
from finops_assets_tests.running import Graph, Run, after_a_run, persistent_instance, settings_for, small_estate

FIRST, BAD, LAST = date(2026, 9, 1), date(2026, 9, 3), date(2026, 9, 5)
DAYS = [date(2026, 9, d) for d in range(1, 6)]
GOOD = [d for d in DAYS if d != BAD]
SOURCES = ("azure", "gcp")
RAW = [["raw", s] for s in SOURCES]
Ran = Callable[..., tuple[Graph, Run]]
FACTS, ROLLUP = "cloud_cost_facts", "daily_cost_by_team"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with persistent_instance(tmp_path / "dagster") as instance:
        yield instance


def graph_with(
    tmp_path: Path, instance: dg.DagsterInstance, *incidents: Incident, **kwargs: Any
) -> tuple[Graph, Estate]:
    estate = small_estate(tmp_path, FIRST, LAST, incidents=incidents)
    return Graph(settings_of(tmp_path, **kwargs), instance), estate


def settings_of(tmp_path: Path, extra: str = "", not_required: Iterable[str] = ()) -> Settings:
    """Of two sources: the one with the incident, and one that is held with it."""
    settings = settings_for(tmp_path, FIRST, extra, not_required)
    sources = tuple(source for source in settings.sources if source.name in SOURCES)
    return settings.model_copy(update={"release": "whole_day", "sources": sources})


@pytest.fixture
def ran(tmp_path: Path) -> Iterator[Ran]:
    """Opens a platform, of whose bills these incidents are, after a run over all days."""
    with ExitStack() as stack:
        yield lambda *incidents: stack.enter_context(after_a_run(tmp_path, settings_of, FIRST, LAST, incidents))


INCOMPLETE = Incident("gcp", BAD, "incomplete")
UNTAGGED = Incident("azure", BAD, "untagged")


@pytest.mark.long
def test_a_run_that_is_only_planned_takes_nothing_from_the_verdict_there_is(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """One of the daemon's that is queued behind a run over the same days, or one that was killed before it began."""
    graph, _ = graph_with(tmp_path, instance, INCOMPLETE)
    graph.run(FIRST, BAD, RAW)
    tags = {
        "dagster/asset_partition_range_start": FIRST.isoformat(),
        "dagster/asset_partition_range_end": LAST.isoformat(),
    }
    instance.create_run_for_job(graph.defs.resolve_job_def("daily"), tags=tags)
    built = graph.run(FIRST, LAST, [FACTS, ROLLUP])
    assert built.materialized(ROLLUP) == [FIRST, date(2026, 9, 2)]
    assert f"{BAD}: raw/gcp:complete failed" in built.failure()
    assert f"{LAST}: raw/azure:complete is not finished (planned)" in built.failure()


def test_single_day_run_stops_at_the_gate(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    graph, _ = graph_with(tmp_path, instance, INCOMPLETE)
    bad = graph.run(BAD)
    assert not bad.success
    assert bad.materialized("raw/gcp") == [BAD]
    assert bad.materialized(FACTS) == bad.materialized(ROLLUP) == []
    verdict = bad.verdicts("raw/gcp:complete")[BAD]
    assert not verdict.passed
    assert verdict.severity is dg.AssetCheckSeverity.ERROR
    assert "gcp" in verdict.description
    assert "2026-09-03" in verdict.description
    assert "Incomplete" in verdict.description
    assert "Next:" in verdict.description
    assert "raw/gcp:complete failed" in bad.failure()
    good = graph.run(FIRST)
    assert good.success
    assert good.materialized(ROLLUP) == [FIRST]


def test_range_run_holds_the_bad_day_only(ran: Ran) -> None:
    graph, run = ran(INCOMPLETE)
    assert not run.success
    assert run.materialized("raw/gcp") == DAYS
    assert run.materialized(FACTS) == run.materialized(ROLLUP) == GOOD
    assert {d: v.passed for d, v in run.verdicts("raw/gcp:complete").items()} == {d: d != BAD for d in DAYS}
    held = run.verdicts(f"{FACTS}:conserved")[BAD]
    assert not held.passed
    assert "held before it" in held.description
    status = graph.instance.get_status_by_partition(
        dg.AssetKey(ROLLUP), [d.isoformat() for d in DAYS], _partitions(graph)
    )
    assert status is not None
    assert {day: s.value for day, s in status.items() if s} == {
        d.isoformat(): "FAILED" if d == BAD else "MATERIALIZED" for d in DAYS
    }


@pytest.mark.long
def test_a_bad_facts_day_keeps_its_facts_and_is_not_rolled_up(ran: Ran) -> None:
    graph, run = ran(UNTAGGED)
    assert run.materialized(FACTS) == DAYS
    assert run.materialized(ROLLUP) == GOOD
    verdict = run.verdicts(f"{FACTS}:untagged_within_threshold")[BAD]
    assert not verdict.passed
    for word in ("azure", "100.0 %", "limit 40 %", "accounts:", "no team"):
        assert word in verdict.description
    assert {row[0] for row in graph.rollup("charge_date")} == set(GOOD)

    # What people open shows the same days in both: the facts that were held are in the lake alone.
    def published() -> set[date]:
        graph.platform.warehouse.publish(graph.platform.lake)
        with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
            facts, rollup = (
                connection.execute(f"SELECT charge_date, sum({cost}) FROM {table} GROUP BY 1").fetchall()
                for table, cost in ((FACTS, "coalesce(EffectiveCost, BilledCost)"), (ROLLUP, "effective_cost"))
            )
        assert set(facts) == set(rollup)
        return {day for day, _ in facts}

    assert published() == set(GOOD)
    # A day that was rolled up before that was recorded stays; one that never was does not come.
    with graph.platform.warehouse.writing() as connection:
        connection.execute("DELETE FROM rolled_up_facts WHERE charge_date = ?", [FIRST])
    assert published() == set(GOOD)
    released = Graph(graph.settings.model_copy(update={"tag_policy": _lenient(graph.settings)}), graph.instance)
    released.run(BAD)
    assert published() == set(DAYS)


def _lenient(settings: Settings) -> TagPolicy:
    everything = Threshold(warn_above=100, block_above=100)
    return TagPolicy(required=("department", "team"), thresholds=dict.fromkeys(settings.dimensions, everything))


@pytest.mark.long
@pytest.mark.parametrize("incident", [INCOMPLETE, UNTAGGED], ids=["raw gate", "facts gate"])
def test_separate_runs_by_hand_do_not_slip_past(
    tmp_path: Path, instance: dg.DagsterInstance, incident: Incident
) -> None:
    graph, _ = graph_with(tmp_path, instance, incident)
    raw = graph.run(FIRST, LAST, RAW)
    assert raw.success is (incident is UNTAGGED)
    facts = graph.run(BAD, None, [FACTS])
    assert facts.materialized(FACTS) == ([BAD] if incident is UNTAGGED else [])
    rollup = graph.run(BAD, None, [ROLLUP])
    assert not rollup.success
    assert rollup.materialized(ROLLUP) == []
    assert "2026-09-03" in rollup.failure()
    assert graph.run(FIRST, LAST, [FACTS]).materialized(FACTS) == (DAYS if incident is UNTAGGED else GOOD)
    assert graph.run(FIRST, LAST, [ROLLUP]).materialized(ROLLUP) == GOOD


def test_a_day_never_judged_is_held(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    graph, _ = graph_with(tmp_path, instance)
    run = graph.run(FIRST, None, [FACTS])
    assert not run.success
    assert "has never judged this day" in run.failure()


@pytest.mark.long
def test_raw_without_its_checks_leaves_an_old_verdict_that_does_not_count(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    graph, _ = graph_with(tmp_path, instance)
    assert graph.run(FIRST).success
    unjudged = dg.define_asset_job(
        "unjudged", selection=dg.AssetSelection.assets(dg.AssetKey(["raw", "azure"])).without_checks()
    )
    defs = dg.Definitions.merge(graph.defs, dg.Definitions(jobs=[unjudged]))
    defs.resolve_job_def("unjudged").execute_in_process(instance=instance, partition_key=FIRST.isoformat())
    run = graph.run(FIRST, None, [FACTS])
    assert not run.success
    assert "judged an older version" in run.failure()


@pytest.mark.long
def test_the_check_alone_releases_a_day_after_its_limit_was_changed(tmp_path: Path, ran: Ran) -> None:
    graph, _ = ran(UNTAGGED)
    extra = "  sources:\n    azure:\n      department: {warn_above: 100, block_above: 100}\n      team: {warn_above: 100, block_above: 100}\n"
    lenient = Graph(settings_of(tmp_path, extra), graph.instance)
    checks = dg.define_asset_job(
        "checks", selection=dg.AssetSelection.checks_for_assets(dg.AssetKey(FACTS)), partitions_def=None
    )
    defs = dg.Definitions.merge(lenient.defs, dg.Definitions(jobs=[checks]))
    result = defs.resolve_job_def("checks").execute_in_process(
        instance=graph.instance, tags={"dagster/partition": BAD.isoformat()}, raise_on_error=False
    )
    assert result.success
    assert lenient.run(BAD, None, [ROLLUP]).materialized(ROLLUP) == [BAD]


def execute_checks(graph: Graph, asset: str | list[str]) -> dg.ExecuteInProcessResult:
    """All checks of an asset without a day, as the UI's "Execute all" starts them."""
    selection = dg.AssetSelection.checks_for_assets(dg.AssetKey(asset))
    defs = dg.Definitions.merge(graph.defs, dg.Definitions(jobs=[dg.define_asset_job("checks", selection=selection)]))
    return defs.resolve_job_def("checks").execute_in_process(
        instance=graph.instance, run_config=QUIET, raise_on_error=False
    )


def whole(graph: Graph, asset: str | list[str], check: str) -> dg.AssetCheckEvaluation:
    """What a check says without a day, last."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), check)
    [record] = graph.instance.event_log_storage.get_asset_check_execution_history(
        key, 1, partition_filter=PartitionKeyFilter(key=None)
    )
    assert record.event is not None
    assert record.event.dagster_event is not None
    return record.event.dagster_event.asset_check_evaluation_data


@pytest.mark.long
def test_checks_executed_without_a_day_judge_the_newest_and_all_that_are_held(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finops_assets.graph.run_days.NEWEST_JUDGED", 1)
    graph, _ = graph_with(tmp_path, instance, UNTAGGED)
    assert execute_checks(graph, ["raw", "azure"]).success, "no day is there yet"
    assert "no day has been materialised yet" in str(whole(graph, ["raw", "azure"], "complete").description)
    graph.run(FIRST, LAST)
    strict = Run(graph, execute_checks(graph, FACTS))
    assert not strict.success
    assert "1 day is held back by a gate (all others passed)" in strict.failure()
    judged = strict.verdicts(f"{FACTS}:untagged_within_threshold")
    assert {day: verdict.passed for day, verdict in judged.items()} == {BAD: False, LAST: True}
    said = whole(graph, FACTS, "untagged_within_threshold")
    assert not said.passed
    assert "2 days judged, 2026-09-03 to 2026-09-05; not passed: 2026-09-03" in str(said.description)
    # Under another limit the same click releases the day, and nothing else is touched.
    lenient = Graph(graph.settings.model_copy(update={"tag_policy": _lenient(graph.settings)}), instance)
    released = Run(lenient, execute_checks(lenient, FACTS))
    assert released.success, released.failure()
    assert released.materialized(FACTS) == []
    assert whole(graph, FACTS, "untagged_within_threshold").passed
    assert execute_checks(lenient, ["raw", "gcp"]).success
    assert lenient.run(BAD, None, [ROLLUP]).materialized(ROLLUP) == [BAD]
    assert execute_checks(lenient, ROLLUP).success


def test_a_run_without_a_day_builds_nothing_and_says_so(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    graph, _ = graph_with(tmp_path, instance)
    result = graph.defs.resolve_job_def("daily").execute_in_process(
        instance=instance, run_config=QUIET, raise_on_error=False
    )
    run = Run(graph, result)
    assert not run.success
    assert "this run says of no day that it is to be built" in run.failure()
    assert run.materialized("raw/azure") == []


@pytest.mark.long
def test_a_source_that_is_not_required_warns_and_the_day_flows(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    graph, _ = graph_with(tmp_path, instance, INCOMPLETE, not_required=["gcp"])
    run = graph.run(FIRST, LAST)
    assert run.success
    assert run.materialized(ROLLUP) == DAYS
    verdict = run.verdicts("raw/gcp:complete")[BAD]
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_a_held_day_flows_once_it_is_delivered_whole(tmp_path: Path, ran: Ran) -> None:
    graph, _ = ran(INCOMPLETE)
    healed = small_estate(tmp_path, FIRST, LAST, deliver=False)
    healed.deliver("gcp", "2026-09", generation=2)
    run = graph.run(BAD)
    assert run.success
    assert graph.built() == set(DAYS)


@pytest.mark.long
def test_a_held_restatement_leaves_the_good_version_standing(tmp_path: Path, ran: Ran) -> None:
    graph, _ = ran()
    before = graph.rollup()
    broken = small_estate(tmp_path, FIRST, LAST, incidents=[INCOMPLETE], deliver=False)
    broken.deliver("gcp", "2026-09", generation=2)
    run = graph.run(FIRST, LAST)
    assert run.materialized(ROLLUP) == GOOD
    assert graph.rollup() == before


@pytest.mark.long
def test_running_twice_changes_nothing(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    graph, _ = graph_with(tmp_path, instance)
    graph.run(FIRST, LAST)
    before = graph.rollup()
    files = {f: f.stat().st_mtime_ns for f in (tmp_path / "lake").rglob("data.parquet")}
    again = graph.run(FIRST, LAST)
    assert again.success
    assert graph.rollup() == before
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "lake").rglob("data.parquet")} == files


@pytest.mark.long
def test_dagster_calls_days_out_of_date_when_rules_or_raw_changed(tmp_path: Path, ran: Ran) -> None:
    graph, _ = ran()
    assert stale_causes(graph, FIRST) == []
    changed = settings_of(tmp_path)
    dimensions = {**changed.dimensions, "team": changed.dimensions["team"].model_copy(update={"keys": ("squad",)})}
    rules = Graph(changed.model_copy(update={"dimensions": dimensions}), graph.instance)
    assert stale_causes(rules, FIRST) == ["has a new code version"]
    assert rules.run(FIRST, None, [FACTS]).materialized(FACTS) == [FIRST]
    assert stale_causes(rules, FIRST) == []
    graph.run(LAST, None, RAW)
    assert stale_causes(graph, LAST) == ["has a new dependency materialization"] * len(SOURCES)


def stale_causes(graph: Graph, day: date) -> list[str]:
    resolver = CachingStaleStatusResolver(
        graph.instance, graph.defs.get_repository_def().asset_graph, LoadingContextForTest(graph.instance)
    )
    return [c.reason for c in resolver.get_stale_causes(dg.AssetKey(FACTS), day.isoformat())]


def _partitions(graph: Graph) -> dg.PartitionsDefinition[str]:
    partitions = graph.defs.resolve_assets_def(ROLLUP).partitions_def
    assert partitions is not None
    return partitions


@pytest.mark.long
def test_a_backfill_of_scattered_days_holds_the_bad_one_in_its_own_run(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """A UI backfill of days with gaps becomes several runs; each gates its own days."""
    graph, _ = graph_with(tmp_path, instance, INCOMPLETE)
    runs = [graph.run(FIRST, date(2026, 9, 2)), graph.run(BAD, date(2026, 9, 4)), graph.run(LAST)]
    assert [r.success for r in runs] == [True, False, True]
    assert graph.built() == set(GOOD)
