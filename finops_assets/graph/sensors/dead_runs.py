"""Runs whose process is gone are ended, and their slots given back, whether or not somebody waits for them."""

import dagster as dg

from finops_assets.graph.dead_runs import end_dead_runs

SECONDS = 30


def dead_runs_sensor() -> dg.SensorDefinition:
    """The sensor that ends dead runs; what they did not finish the other sensors ask for again."""

    @dg.sensor(
        name="end_dead_runs",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends runs whose process is gone (killed, out of memory, rebooted), and frees their slots.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        ended = end_dead_runs(context.instance)
        for line in ended:
            context.log.warning(line)
        return dg.SkipReason("; ".join(ended) or "the process of every run is there")

    return watch
