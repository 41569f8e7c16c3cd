"""Every sensor of a configuration."""

from __future__ import annotations

import dagster as dg

from finops_assets.graph.jobs import Jobs
from finops_assets.graph.keys import CONVERTED, FACTS, ROLLUP
from finops_assets.graph.sensors.alerts import alerts_sensor
from finops_assets.graph.sensors.dead_runs import dead_runs_sensor
from finops_assets.graph.sensors.deliveries import source_sensor, usage_sensor
from finops_assets.graph.sensors.follow import follow_sensor
from finops_assets.graph.sensors.owners import accepted_owners_sensor
from finops_assets.graph.sensors.rates import rates_sensor
from finops_assets.graph.sensors.retention import retention_sensor
from finops_assets.graph.stages import Stages
from finops_assets.platform import Platform


def sensors_of(platform: Platform, stages: Stages, jobs: Jobs) -> list[dg.SensorDefinition]:
    """One a source for what is delivered, one that follows it, and those that keep the house."""
    settings = platform.settings
    seconds = settings.night.watch_seconds
    by_day = [FACTS, ROLLUP, *([CONVERTED] if settings.currency else [])]
    rates = [rates_sensor(settings.currency, jobs.convert, seconds)] if settings.currency and jobs.convert else []
    return [
        *(source_sensor(source, jobs.landing[source.name], seconds) for source in settings.sources),
        *(usage_sensor(cluster, jobs.landing[cluster.name], seconds) for cluster in settings.clusters),
        follow_sensor(jobs.daily, jobs.following, stages.followers, by_day, seconds),
        *rates,
        alerts_sensor(platform),
        accepted_owners_sensor(seconds),
        retention_sensor(settings.keep_runs_days),
        dead_runs_sensor(),
    ]
