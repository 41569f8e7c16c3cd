"""Once a day, what Dagster keeps of old runs is deleted where later runs have superseded it; it starts no run."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from finops_assets.graph.retention import prune

DAY_SECONDS = 86_400


def retention_sensor(keep_days: int) -> dg.SensorDefinition:
    """The sensor that keeps Dagster's history from growing without bound."""

    @dg.sensor(
        name="prune_history",
        minimum_interval_seconds=DAY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Deletes runs of more than {keep_days} days ago that hold the newest word on nothing.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        assert context.repository_def is not None
        checks = context.repository_def.asset_graph.asset_check_keys
        done = prune(context.instance, checks, datetime.now(UTC) - timedelta(days=keep_days))
        return dg.SkipReason(
            f"{done.deleted} superseded runs deleted, {done.kept} older ones still hold what is newest"
        )

    return watch
