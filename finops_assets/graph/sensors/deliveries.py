"""One sensor per source, and per cluster: lands what is new. It lists manifests and reads the ledger, never data.

The days that changed by it are asked for by the sensor `follow`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from finops_assets.graph.settings_in_force import SettingsChanged, in_force
from finops_assets.ingest.landing import unknown_deliveries
from finops_assets.ingest.usage.landing import new_usage
from finops_assets.platform import Platform
from finops_assets.settings.clusters import Cluster
from finops_assets.settings.sources import Source
from finops_assets.storage.ledger import Ledger

REQUEST_TAG = "finops/request"
ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=6)


def landing_job(name: str, lands: dg.AssetKey) -> UnresolvedAssetJobDefinition:
    """The job that the sensor of a source, or of a cluster's usage, asks for."""
    return dg.define_asset_job(
        f"land_{name}",
        selection=dg.AssetSelection.assets(lands),
        description=f"Land new deliveries of {name}.",
    )


def source_sensor(source: Source, job: UnresolvedAssetJobDefinition, seconds: int) -> dg.SensorDefinition:
    """The sensor of one source."""
    return _landing_sensor(source.name, "manifests", job, seconds, lambda platform: _unknown(platform, source))


def usage_sensor(cluster: Cluster, job: UnresolvedAssetJobDefinition, seconds: int) -> dg.SensorDefinition:
    """The sensor of one cluster's usage."""

    def seen(platform: Platform) -> Sequence[object]:
        return [(file.key, file.etag) for file in new_usage(platform.lake, cluster)]

    return _landing_sensor(cluster.name, "usage files", job, seconds, seen)


def _landing_sensor(
    name: str,
    listed: str,
    job: UnresolvedAssetJobDefinition,
    seconds: int,
    new: Callable[[Platform], Sequence[object]],
) -> dg.SensorDefinition:
    """Asks for a landing where there is anything new, which `new` tells so that the same is asked for once."""

    @dg.sensor(
        name=f"watch_{name}",
        job=job,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Lists the {listed} of {name} and lands what is new; the days and reports follow.",
    )
    def watch(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
        try:
            platform = in_force(platform)
        except SettingsChanged as changed:
            return dg.SensorResult(skip_reason=str(changed))
        seen = new(platform)
        key = f"land {name} {digest(seen)}"
        requests = list(asked(context.instance, key, f"land_{name}", {}, datetime.now(UTC))) if seen else []
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else f"nothing new of {name}")

    return watch


def _unknown(platform: Platform, source: Source) -> Sequence[object]:
    unknown = unknown_deliveries(platform.lake, source, platform.settings.first_day)
    ledger = Ledger(platform.lake, source.name)
    return sorted(
        (d.scope, d.generation, [(f.key, f.etag) for f in d.files], d.problems, ledger.accepted(d.scope) or "")
        for d in unknown
    )


def asked(
    instance: dg.DagsterInstance,
    key: str,
    job: str,
    tags: dict[str, str],
    now: datetime,
    assets: Sequence[dg.AssetKey] | None = None,
    checks: Sequence[dg.AssetCheckKey] | None = None,
) -> Iterator[dg.RunRequest]:
    """Ask once; again only when the run before ended without committing, after a wait that doubles.

    `assets` and `checks` are those of the job that are wanted; None: all.
    """
    request = digest(key)
    before = instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: request}))
    if any(record.dagster_run.status in ACTIVE for record in before):
        return
    if before:
        ended = max((r.end_time or r.create_timestamp.timestamp()) for r in before)
        wait = min(FIRST_WAIT * 2 ** (len(before) - 1), LONGEST_WAIT)
        if now.timestamp() < ended + wait.total_seconds():
            return
    yield dg.RunRequest(
        run_key=f"{key} attempt {len(before) + 1}",
        job_name=job,
        tags={**tags, REQUEST_TAG: request},
        asset_selection=assets,
        asset_check_keys=checks,
    )


def digest(value: object) -> str:
    """A short hash of anything that prints."""
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]
