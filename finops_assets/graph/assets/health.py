"""reports/health: the five figures that say whether the platform is well, by week."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pandas as pd

from finops_assets.cost.attribution.owner_decisions import OwnerDecisions
from finops_assets.cost.sparse import SPARSE_GROUPS
from finops_assets.evaluate.anomalies.history import ANOMALY_HISTORY, AnomalyHistory
from finops_assets.evaluate.health.figures import HEALTH_TABLE, WEEKS, Decided, Stage, StepOutcome, health, page
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.owners import DECISIONS
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.assets.reports import require_rolled_up
from finops_assets.graph.day_verdicts import only_held
from finops_assets.graph.history import events_of
from finops_assets.graph.keys import BUILD_STEP, FACTS, ROLLUP
from finops_assets.platform import Platform

STEPS = (dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE)
RUNS_AT_ONCE = 200


def health_asset(owner: str) -> dg.AssetsDefinition:
    """The table `reports.health` of the warehouse."""

    @warehouse_table(
        ["reports", HEALTH_TABLE],
        deps=[ROLLUP, ANOMALY_HISTORY, SPARSE_GROUPS, DECISIONS],
        group="reports",
        owner=owner,
        description=(
            "Is the platform well? Untagged cost by provider, pipeline success, false alarms by team, sparse groups and"
            " accepted suggestions, by week. `finops health` shows it on one page. docs/guides/health.md"
        ),
    )
    def health_report(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        now = datetime.now(UTC)
        warehouse = platform.settings.warehouse
        outcomes = list(step_outcomes(context.instance, now - timedelta(weeks=WEEKS)))
        decided = [
            Decided(d.decided_at, d.verdict == "accepted" and d.value == d.suggested)
            for d in OwnerDecisions.beside(warehouse).all()
            if d.suggested is not None
        ]
        with platform.warehouse.reading() as connection:
            require_rolled_up(connection)
            table = health(connection, outcomes, AnomalyHistory.beside(warehouse).all(), decided, now)
        context.add_output_metadata(
            {
                "dagster/row_count": len(table),
                "steps counted": len(outcomes),
                "page": shown(page(table).frame()),
            }
        )
        return table.frame()

    return health_report


def step_outcomes(instance: dg.DagsterInstance, since: datetime) -> Iterator[StepOutcome]:
    """How the steps of ingestion and rollup ended, in the runs that ended since then, by Dagster's own event log.

    A step that was tried again counts once, by its last try. Runs that failed before any step count as failures of
    the stages that they were for.
    """
    cursor: str | None = None
    while True:
        records = instance.get_run_records(
            dg.RunsFilter(updated_after=since), limit=RUNS_AT_ONCE, cursor=cursor, order_by="id"
        )
        for record in records:
            if record.dagster_run.is_finished and _concerns(record.dagster_run):
                yield from _of_run(instance, record)
        if len(records) < RUNS_AT_ONCE:
            return
        cursor = records[-1].dagster_run.run_id


def _concerns(run: dg.DagsterRun) -> bool:
    """Could it have a step of a stage? The events of the many other runs are not read."""
    selected = run.asset_selection
    return not selected or FACTS in selected or any(_stage("__".join(key.path)) for key in selected)


def _of_run(instance: dg.DagsterInstance, record: dg.RunRecord) -> Iterator[StepOutcome]:
    run = record.dagster_run
    found = 0
    for entry in events_of(instance, run.run_id, *STEPS):
        event = entry.get_dagster_event()
        stage = _stage(event.step_key or "")
        if stage is None:
            continue
        found += 1
        at = datetime.fromtimestamp(entry.timestamp, UTC)
        if event.event_type is dg.DagsterEventType.STEP_SUCCESS:
            yield StepOutcome(stage, at, "success")
        else:
            yield StepOutcome(stage, at, "held" if only_held(event.step_failure_data) else "failed")
    if not found and run.status is dg.DagsterRunStatus.FAILURE and record.end_time:
        for stage in sorted({s for key in run.asset_selection or () if (s := _stage("__".join(key.path)))}):
            yield StepOutcome(stage, datetime.fromtimestamp(record.end_time, UTC), "failed")


def _stage(step: str) -> Stage | None:
    """
    >>> _stage("raw__aws"), _stage("attribute_and_roll_up"), _stage("reports__health"), _stage("raw_aws_gates")
    ('ingestion', 'rollup', None, None)
    """
    if step.startswith(("deliveries__", "raw__")):
        return "ingestion"
    return "rollup" if step in (BUILD_STEP, "__".join(ROLLUP.path)) else None
