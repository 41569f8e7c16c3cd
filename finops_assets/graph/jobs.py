"""The jobs, by which the UI, sensors and the command line start a stage, and the schedules of the night."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from finops_assets.graph.assets.deliveries import deliveries_key
from finops_assets.graph.digests import digest_job, digest_schedule
from finops_assets.graph.keys import CONVERTED, PUBLISHED, usage_key
from finops_assets.graph.sensors.deliveries import landing_job
from finops_assets.graph.sensors.follow import following_job
from finops_assets.graph.sensors.rates import conversion_job
from finops_assets.graph.stages import Stages
from finops_assets.settings.digests import Digest
from finops_assets.settings.model import Settings


@dataclass(frozen=True)
class Jobs:
    """Every job; `landing` by source and cluster, `convert` where there is a reporting currency."""

    daily: UnresolvedAssetJobDefinition
    following: UnresolvedAssetJobDefinition
    publish: UnresolvedAssetJobDefinition
    owners: UnresolvedAssetJobDefinition
    land_all: UnresolvedAssetJobDefinition
    convert: UnresolvedAssetJobDefinition | None
    landing: Mapping[str, UnresolvedAssetJobDefinition]
    digests: Mapping[Digest, dg.JobDefinition]

    @property
    def all(self) -> list[UnresolvedAssetJobDefinition | dg.JobDefinition]:
        """As Dagster lists them."""
        first = [self.daily, self.following, self.publish, self.owners, self.land_all]
        return [*first, *([self.convert] if self.convert else []), *self.landing.values(), *self.digests.values()]


def jobs_of(settings: Settings, stages: Stages) -> Jobs:
    """The jobs over a configuration's stages."""
    return Jobs(
        daily=_job("daily", "Days, from export to rollup.", *stages.raw, stages.daily),
        following=following_job(stages.followers),
        publish=_job("publish", "Reports and the published copy.", stages.ledger, *stages.evaluation, *stages.reports),
        owners=_job(
            "owners",
            "Owner suggestions, decisions on them, and the published copy.",
            *stages.correlation,
            PUBLISHED,
        ),
        land_all=_job("export_check", "Land what is new of every source.", *stages.deliveries, *stages.usage),
        convert=conversion_job(CONVERTED) if settings.currency else None,
        landing={
            **{source.name: landing_job(source.name, deliveries_key(source.name)) for source in settings.sources},
            **{cluster.name: landing_job(cluster.name, usage_key(cluster.name)) for cluster in settings.clusters},
        },
        digests={digest: digest_job(digest) for digest in settings.digests},
    )


def schedules_of(settings: Settings, jobs: Jobs) -> list[dg.ScheduleDefinition]:
    """The night's looks at every source, and the digests."""
    crons = {"export_check": settings.night.export_check, "last_export_check": settings.night.last_check}
    return [
        dg.ScheduleDefinition(
            name=name,
            job=jobs.land_all,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="The night's export check; the days that changed follow by the sensor `follow`.",
        )
        for name, cron in crons.items()
    ] + [digest_schedule(digest, job) for digest, job in jobs.digests.items()]


def _job(name: str, description: str, *assets: dg.AssetsDefinition | dg.AssetKey) -> UnresolvedAssetJobDefinition:
    return dg.define_asset_job(name, selection=dg.AssetSelection.assets(*assets), description=description)
