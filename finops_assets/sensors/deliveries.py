"""One sensor per source: lands what is new, then asks for exactly the days that changed.

It lists manifests and reads the ledger, never data. What is asked for follows from what was *committed*
to the lake, not from what was seen: a run that failed before it committed is asked for again, later and
later. A day that a gate holds was committed; it is not asked for again until its data changes.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from finops_assets.assets.deliveries import deliveries_key
from finops_assets.checks.raw import FACTS, raw_key
from finops_assets.checks.shadow import shadow_check_key
from finops_assets.days import changed_days
from finops_assets.landing import unknown_deliveries
from finops_assets.ledger import Generation, Ledger
from finops_assets.platform import Platform
from finops_assets.runs import DAYS_PER_RUN, consecutive
from finops_assets.settings import Source

REQUEST_TAG = "finops/request"
ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=6)


def source_jobs(
    source: Source, daily: Sequence[dg.AssetKey], shadows: Sequence[Source] = ()
) -> list[UnresolvedAssetJobDefinition]:
    """The two jobs that a source's sensor asks for. A shadow's days end with raw; its source's judge it anew."""
    days: dg.AssetSelection = dg.AssetSelection.assets(raw_key(source.name))
    if source.shadow_of is None:
        days |= dg.AssetSelection.assets(FACTS, *daily)
    for shadow in shadows:
        if shadow.shadow_of == source.name:
            days |= dg.AssetSelection.checks(shadow_check_key(shadow))
    return [
        dg.define_asset_job(
            f"land_{source.name}",
            selection=dg.AssetSelection.assets(deliveries_key(source.name)),
            description=f"Land new deliveries of {source.name}.",
        ),
        dg.define_asset_job(
            f"days_{source.name}",
            selection=days,
            description=f"Days of {source.name} that changed, from raw to rollup.",
        ),
    ]


def source_sensor(source: Source, jobs: list[UnresolvedAssetJobDefinition], seconds: int) -> dg.SensorDefinition:
    """The sensor of one source."""

    @dg.sensor(
        name=f"watch_{source.name}",
        jobs=jobs,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Lists the manifests of {source.name}; lands what is new and runs the days that changed.",
    )
    def watch(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
        now = datetime.now(UTC)
        requests = [*_landing(context.instance, platform, source, now), *_days(context.instance, platform, source, now)]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else f"nothing new of {source.name}, no day has changed",
        )

    return watch


def _landing(
    instance: dg.DagsterInstance, platform: Platform, source: Source, now: datetime
) -> Iterator[dg.RunRequest]:
    unknown = unknown_deliveries(platform.lake, source, platform.settings.first_day)
    if not unknown:
        return
    ledger = Ledger(platform.lake, source.name)
    seen = sorted(
        (d.scope, d.generation, [(f.key, f.etag) for f in d.files], d.problems, ledger.accepted(d.scope) or "")
        for d in unknown
    )
    yield from asked(instance, f"land {source.name} {digest(seen)}", f"land_{source.name}", {}, now)


def _days(instance: dg.DagsterInstance, platform: Platform, source: Source, now: datetime) -> Iterator[dg.RunRequest]:
    changed = changed_days(platform.lake, source.name, platform.settings.first_day, now.date())
    live = list(Ledger(platform.lake, source.name).all_live()) if changed else []
    for days in consecutive(changed, DAYS_PER_RUN):
        content = [_content(live, day) for day in days]
        tags = {
            "dagster/asset_partition_range_start": days[0].isoformat(),
            "dagster/asset_partition_range_end": days[-1].isoformat(),
        }
        key = f"days {source.name} {days[0]}..{days[-1]} {digest(content)}"
        yield from asked(instance, key, f"days_{source.name}", tags, now)


def _content(live: list[Generation], day: date) -> list[str]:
    """What a day would be made of: a restatement to what it once was is asked for again too."""
    return [f"{g.scope} {g.generation} {g.days[day].fingerprint} {g.sectors}" for g in live if day in g.days]


def asked(
    instance: dg.DagsterInstance, key: str, job: str, tags: dict[str, str], now: datetime
) -> Iterator[dg.RunRequest]:
    """Ask once; again only when the run before ended without committing, after a wait that doubles."""
    request = digest(key)
    before = instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: request}))
    if any(record.dagster_run.status in ACTIVE for record in before):
        return
    if before:
        ended = max((r.end_time or r.create_timestamp.timestamp()) for r in before)
        wait = min(FIRST_WAIT * 2 ** (len(before) - 1), LONGEST_WAIT)
        if now.timestamp() < ended + wait.total_seconds():
            return
    yield dg.RunRequest(run_key=f"{key} attempt {len(before) + 1}", job_name=job, tags={**tags, REQUEST_TAG: request})


def digest(value: object) -> str:
    """A short hash of anything that prints."""
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]
