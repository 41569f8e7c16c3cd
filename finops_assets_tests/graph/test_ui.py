"""What the daemon asks for, counted, and every button of the UI, on a real `dagster dev`.

The tests of this file share one project and stand in order: each leaves it at rest.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import dagster as dg
import duckdb
import pytest

from finops_assets.demo import Estate, Incident
from finops_assets_tests.browser import chromium
from finops_assets_tests.dev import PUBLISHED, Dev, dagster_dev, project_of
from finops_assets_tests.running import SOURCES, small_estate

pytestmark = pytest.mark.long

# Near the month's end: each of its days that costs nothing is judged, too.
FIRST, LAST = date(2026, 9, 24), date(2026, 9, 27)
HELD = "2026-09-27"
GOOD = ["2026-09-24", "2026-09-25", "2026-09-26"]
PAGE = dg.AssetKey(["reports", "month_page"])
FACTS, ROLLUP = "cloud_cost_facts", "daily_cost_by_team"
DAILY = [*(f"raw/{source}" for source in SOURCES), FACTS, ROLLUP]
SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Estate:
    """Four days of three clouds; the newest day is not whole."""
    return small_estate(tmp_path_factory.mktemp("ui"), FIRST, LAST, incidents=[Incident("gcp", LAST, "incomplete")])


@pytest.fixture(scope="module")
def dev(estate: Estate) -> Iterator[Dev]:
    with dagster_dev(project_of(estate.root.parent, FIRST)) as dev:
        dev.settle(time.time())
        yield dev


def built(dev: Dev) -> set[str]:
    with dev.instance() as instance:
        return set(instance.get_materialized_partitions(dg.AssetKey(ROLLUP)))


def test_a_delivery_is_published_and_only_the_run_that_holds_a_day_fails(dev: Dev) -> None:
    assert built(dev) == set(GOOD)
    assert dev.materializations(PUBLISHED) == 1
    failed = {run.job_name for run in dev.runs() if run.status is not SUCCESS}
    assert failed == {"daily"}, "owners wait while the newest day is held"
    [tick, *_] = dev.ticks("follow")
    assert "owners are not suggested" in str(tick.skip_reason)


def test_one_change_is_one_run_of_each_stage(dev: Dev, estate: Estate) -> None:
    before, published, pages = dev.runs(), dev.materializations(PUBLISHED), dev.materializations(PAGE)
    moved = {date(2026, 9, 24): Decimal("1.5"), date(2026, 9, 26): Decimal("1.5")}
    estate.deliver("aws", "2026-09", generation=2, restate=moved)
    dev.settle(time.time())
    # Dagster knows one range as what a run is about: days apart are a run each.
    assert dev.counted(before) == {"land_aws": 1, "daily": 2, "follow": 1}, dev.told(before)
    assert dev.materializations(PUBLISHED) == published + 1
    assert dev.materializations(PAGE) == pages + 1
    with duckdb.connect(str(dev.project / "p.duckdb"), read_only=True) as connection:
        days = connection.execute("SELECT DISTINCT charge_date FROM reports.restatements ORDER BY 1").fetchall()
    assert days == [(day,) for day in moved]


def test_a_backfill_with_the_same_result_publishes_nothing(dev: Dev) -> None:
    before, published = dev.runs(), dev.materializations(PUBLISHED)
    # A range, all of it in one run.
    dev.backfill(DAILY, GOOD)
    dev.settle(time.time())
    assert dev.counted(before) == {"__ASSET_JOB": 1}, dev.told(before)
    assert dev.materializations(PUBLISHED) == published


def test_one_partition_some_and_assets_without_any(dev: Dev) -> None:
    before, published = dev.runs(), dev.materializations(PUBLISHED)
    one = dev.launch([ROLLUP], tags={"dagster/partition": GOOD[0]})
    span = {"dagster/asset_partition_range_start": GOOD[0], "dagster/asset_partition_range_end": GOOD[1]}
    some = dev.launch([FACTS, ROLLUP], tags=span)
    held = dev.launch([ROLLUP], tags={"dagster/partition": HELD})
    raw = dev.launch(["raw/aws"], tags={"dagster/partition": GOOD[2]})
    report = dev.launch(["reports/cost_by_team"])
    owners = dev.launch(["owner_suggestions", "owner_decisions", "owner_acceptance"])
    for run in (one, some, report, owners, raw):
        assert dev.ended(run) is SUCCESS, dev.failures(run)
    assert dev.ended(held) is FAILURE
    assert "raw/gcp:complete failed" in dev.failures(held)
    # The raw day alone is newer than its facts: built again, it is what it was.
    assert dev.ended(dev.launch([FACTS, ROLLUP], tags={"dagster/partition": GOOD[2]})) is SUCCESS
    dev.settle(time.time())
    counted = dev.counted(before)
    assert counted.pop("__ASSET_JOB") == 7
    # A report and tables of owners that were made by hand are newer than what follows them: at most one run of it.
    assert counted in ({}, {"follow": 1}), dev.told(before)
    assert dev.materializations(PUBLISHED) <= published + 1


def test_checks_one_all_of_a_day_and_of_many(dev: Dev) -> None:
    before = dev.runs()
    one = dev.launch(checks=[("raw/aws", "complete")])
    everything = dev.launch(checks=[("raw/gcp", gate) for gate in ("complete", "conforms", "plausible")])
    facts = dev.launch(
        checks=[(FACTS, gate) for gate in ("conserved", "untagged_within_threshold", "untagged_below_warning")]
    )
    rollup = dev.launch(checks=[(ROLLUP, gate) for gate in ("conserved", "unique_key", "accrual_conserved")])
    of_day = dev.launch(checks=[("raw/gcp", "complete")], tags={"dagster/partition": GOOD[0]})
    with_assets = dev.launch(["tag_coverage", "tag_values_outside_canon", "tag_keys_unmapped", "tag_debt"])
    for run in (one, facts, rollup, of_day, with_assets):
        assert dev.ended(run) is SUCCESS, dev.failures(run)
    # What holds a day fails the run that judged it, and nothing else.
    assert dev.ended(everything) is FAILURE
    assert "1 day is held back by a gate (all others passed)" in dev.failures(everything)
    passed: dict[str | None, bool | None] = dict.fromkeys([None, HELD, *GOOD], True)
    assert dev.verdicts("raw/gcp", "complete") == {**passed, None: False, HELD: False}
    assert dev.verdicts("raw/gcp", "conforms") == passed
    assert dev.verdicts(FACTS, "conserved")[None] is True
    dev.settle(time.time())
    assert dev.counted(before) == {"__ASSET_JOB": 6}, dev.told(before)
    # Told of by day, as ever; of the runs that named no day nothing is left open.
    dev.wait_for(lambda: open_alerts(dev) == {f"check raw/gcp:complete {HELD}"}, f"open alerts: {open_alerts(dev)}")


def open_alerts(dev: Dev) -> set[str]:
    from finops_assets.alerts.history import AlertHistory

    with AlertHistory.beside(dev.project / "w.duckdb").opened() as history:
        return {o.alert.key for o in history.open_alerts().values() if o.alert.key.startswith(("check", "step", "job"))}


def test_the_buttons_in_a_browser(dev: Dev) -> None:
    with chromium() as browser:

        def clicked(page: str, *buttons: str) -> dg.DagsterRun:
            """The run that comes of clicking these buttons of a page, one after the other."""
            known = {run.run_id for run in dev.runs()}
            browser.go(f"{dev.url}/assets/{page}")
            for button in buttons:
                browser.click(button.rstrip("*"), exact=not button.endswith("*"))
            new: list[dg.DagsterRun] = dev.wait_for(
                lambda: [run for run in dev.runs() if run.run_id not in known], f"{buttons} of {page} start nothing"
            )
            [run] = new
            dev.ended(run.run_id)
            return next(r for r in dev.runs() if r.run_id == run.run_id)

        report = clicked("reports/cost_by_team", "Materialize")
        assert (report.status, report.asset_selection) == (SUCCESS, {dg.AssetKey(["reports", "cost_by_team"])})
        checks = clicked(f"{FACTS}?view=checks", "Execute all")
        assert checks.status is SUCCESS, dev.failures(checks.run_id)
        assert not checks.asset_selection
        assert len(checks.asset_check_selection or ()) == 4
        held = clicked(f"{ROLLUP}", "Materialize…", "Failed", "Launch*")
        assert held.status is FAILURE
        assert "raw/gcp:complete failed" in dev.failures(held.run_id)
    dev.settle(time.time())


def test_execute_again_from_failure_and_terminate(dev: Dev) -> None:
    failed = next(run for run in dev.runs() if run.job_name == "daily" and run.status is FAILURE)
    answer = dev.ask(
        "mutation Again($params: ReexecutionParams!) { launchPipelineReexecution(reexecutionParams: $params) {"
        " __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
        params={"parentRunId": failed.run_id, "strategy": "FROM_FAILURE"},
    )
    assert answer["__typename"] == "LaunchRunSuccess", answer
    again = answer["run"]["runId"]
    assert dev.ended(again) is FAILURE
    assert "raw/gcp:complete failed" in dev.failures(again)
    stopped = dev.launch(DAILY, tags={"dagster/partition": GOOD[0]})
    answer = dev.ask(
        "mutation Stop($id: String!) { terminateRun(runId: $id) { __typename ... on TerminateRunFailure { message }"
        " ... on PythonError { message } } }",
        id=stopped,
    )
    assert answer["__typename"] in ("TerminateRunSuccess", "TerminateRunFailure"), answer
    dev.ended(stopped)
    # It leaves nothing behind that another would wait for.
    assert dev.ended(dev.launch(DAILY, tags={"dagster/partition": GOOD[0]})) is SUCCESS
    dev.settle(time.time())
    assert built(dev) == set(GOOD)


def test_a_changed_finops_yaml_is_followed_in_place_or_told(dev: Dev) -> None:
    file = dev.project / "finops.yaml"
    was = file.read_text(encoding="utf-8")
    before = dev.runs()
    # Another limit shapes no graph: nobody stands still.
    file.write_text(was.replace("block_above: 40", "block_above: 41"), encoding="utf-8")
    dev.settle(time.time())
    # Another source does.
    file.write_text(was.replace("sources:\n  - {name: aws", "sources:\n  - {name: amazon"), encoding="utf-8")
    changed = time.time()

    def told() -> bool:
        newest = dev.ticks("follow")[0]
        return newest.timestamp > changed and "finops.yaml was changed (sources)" in str(newest.skip_reason)

    dev.wait_for(told, "nobody says that finops.yaml was changed")
    dev.wait_for(lambda: "settings" in all_alerts(dev), "nobody is alerted")
    file.write_text(was, encoding="utf-8")
    dev.settle(time.time())
    dev.wait_for(lambda: "settings" not in all_alerts(dev), "the alert does not end")
    assert dev.counted(before) == Counter(), dev.told(before)


def all_alerts(dev: Dev) -> set[str]:
    from finops_assets.alerts.history import AlertHistory

    with AlertHistory.beside(dev.project / "w.duckdb").opened() as history:
        return {o.alert.key for o in history.open_alerts().values()}


def test_a_changed_source_is_worked_by_once_the_location_is_reloaded(dev: Dev, estate: Estate) -> None:
    file = dev.project / "finops.yaml"
    was = file.read_text(encoding="utf-8")
    file.write_text(was.replace("name: aws", "name: amazon"), encoding="utf-8")
    answer = dev.ask(
        "mutation Reload($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }",
        name=dev.location,
    )
    assert answer["__typename"] == "WorkspaceLocationEntry"
    dev.wait_for(lambda: dev.counted()["land_amazon"], "nobody asks for the new source")
