"""What follows a change: first the days, in one go for all sources; then, once, whatever is made from them.

What is asked for follows from what was *committed*, not from what was seen or requested: a run that failed before it
committed is asked for again, later and later, and what a person runs by hand counts as much as what a sensor asked for.
A day that a gate holds was committed; it is not asked for again until its data changes.

The sensor looks when a run has ended, so that a delivery is published without another wait; and now and then besides.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from finops_assets.base.period import consecutive
from finops_assets.cost.clusters.split import split_stamp, usage_changed_days
from finops_assets.graph.assets.follow import behind
from finops_assets.graph.assets.owners import SUGGESTIONS, owners_wait
from finops_assets.graph.checks.shadow import shadow_check_key
from finops_assets.graph.keys import ROLLUP, raw_key
from finops_assets.graph.run_alerts import finished_runs
from finops_assets.graph.run_range import DAYS_PER_RUN
from finops_assets.graph.sensors.deliveries import ACTIVE, asked, digest
from finops_assets.graph.settings_in_force import SettingsChanged, in_force
from finops_assets.ingest.cadence import COSTS_NOTHING, Calendar
from finops_assets.ingest.raw_days import changed_days, charged_days, composed_days
from finops_assets.platform import Platform
from finops_assets.settings.sources import Source
from finops_assets.storage.ledger import Generation, Ledger

FOLLOW_SECONDS = 10
"""How often it looks whether a run has ended: a question to Dagster's history, no more."""
JOB = "follow"
NOTHING = "no day has changed, and everything is made from what is there"


def following_job(followers: Collection[dg.AssetKey]) -> UnresolvedAssetJobDefinition:
    """The job of everything that follows the days."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(*followers),
        description="What follows the days: evaluations, reports, owners, and last the published copy.",
    )


def follow_sensor(
    daily: UnresolvedAssetJobDefinition,
    following: UnresolvedAssetJobDefinition,
    followers: Collection[dg.AssetKey],
    by_day: Sequence[dg.AssetKey],
    seconds: int,
) -> dg.SensorDefinition:
    """The sensor `follow`. `by_day` are the assets that are made from raw days; `seconds`: it looks at least so often."""

    @dg.sensor(
        name="follow",
        jobs=[daily, following],
        minimum_interval_seconds=FOLLOW_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Runs the days that deliveries changed, then once what is made from them, published last. It waits for runs"
            " that are under way, and asks for nothing where nothing has changed."
        ),
    )
    def watch(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
        try:
            platform = in_force(platform)
        except SettingsChanged as changed:
            return dg.SensorResult(skip_reason=str(changed))
        now, before = datetime.now(UTC), _Cursor.parse(context.cursor)
        ended, place = finished_runs(context.instance, before.place)
        if not ended and before.looked_at and now - before.looked_at < timedelta(seconds=seconds):
            return dg.SensorResult(skip_reason="no run has ended since the last look")
        assert context.repository_def is not None
        look = _Look(context.instance, platform, context.repository_def.asset_graph, now, _at_work(context.instance))
        waits, requests = look.days(daily.name, by_day)
        if not waits and not requests:
            waits, requests = look.followers(followers)
        return dg.SensorResult(
            run_requests=requests,
            # What was waited for may end without a run that ends: then it is looked at again at once.
            cursor=str(_Cursor(place, None if waits else now)),
            skip_reason=None if requests else waits or "; ".join(look.remarks) or NOTHING,
        )

    return watch


@dataclass(frozen=True)
class _Cursor:
    """How far Dagster's history was read, and when everything was looked at last."""

    place: int = 0
    looked_at: datetime | None = None

    @classmethod
    def parse(cls, text: str | None) -> _Cursor:
        body = json.loads(text) if text else {}
        looked_at = body.get("looked_at")
        return cls(body.get("place", 0), datetime.fromisoformat(looked_at) if looked_at else None)

    def __str__(self) -> str:
        return json.dumps({"place": self.place, "looked_at": self.looked_at and self.looked_at.isoformat()})


@dataclass(frozen=True)
class _Look:
    instance: dg.DagsterInstance
    platform: Platform
    graph: BaseAssetGraph  # type: ignore[type-arg]  # of whatever nodes
    now: datetime
    before: Mapping[str, str]
    """What was at work as the look began: who ends while it looks was seen half done."""
    remarks: list[str] = field(default_factory=list)
    """What is not asked for, and why."""

    def days(self, job: str, by_day: Sequence[dg.AssetKey]) -> tuple[str, list[dg.RunRequest]]:
        """The changed days of all sources; or, instead, what has to end before they are asked for."""
        settings, lake = self.platform.settings, self.platform.lake
        # Who charges nothing on a day of the others says so, or they would wait for it.
        charged = set[date]().union(*(charged_days(lake, source.name) for source in settings.sources))
        of_all = charged.union(*(composed_days(lake, source.name) for source in settings.sources))
        first, end = settings.first_day, self.now.date()
        changed = {
            source.name: set(changed_days(lake, source, first, end, of_all, charged, settings.deadline(source)))
            for source in settings.sources
        }
        split_anew = {
            day
            for source in settings.counted
            for day in usage_changed_days(lake, settings.clusters, source.name, first, end)
        }
        every = sorted(split_anew.union(*changed.values()))
        if not every:
            return "", []
        active = _active(self.instance)
        landing = [run for run in active if _lands(run)]
        if landing:
            return f"days have changed; waits for what is being landed: {_named(_by_id(landing))}", []
        live = {name: list(Ledger(lake, name).all_live()) for name, days in changed.items() if days}
        requests: list[dg.RunRequest] = []
        beside: list[dg.DagsterRun] = []
        for days in _alike(consecutive(every, DAYS_PER_RUN), [*changed.values(), split_anew]):
            overlapping = [run for run in active if _overlap(run, days)]
            beside += overlapping
            if not overlapping:
                requests += self._days(job, by_day, days, changed, live, days[0] in split_anew)
        waits = f"waits for the runs of the same days: {_named(_by_id(beside))}" if beside else ""
        return ("", requests) if requests else (waits, [])

    def _days(
        self,
        job: str,
        by_day: Sequence[dg.AssetKey],
        days: list[date],
        changed: Mapping[str, set[date]],
        live: Mapping[str, list[Generation]],
        split_anew: bool,
    ) -> Iterator[dg.RunRequest]:
        sources = [s for s in self.platform.settings.sources if days[0] in changed[s.name]]
        content = []
        for s in sources:
            calendar = Calendar(live[s.name], s.cadence, self.platform.settings.deadline(s))
            content += [[s.name, *_content(live[s.name], day, calendar, self.now)] for day in days]
        if split_anew:
            lake, clusters = self.platform.lake, self.platform.settings.clusters
            content += [["usage", f"{day} {split_stamp(lake, clusters, day)}"] for day in days]
        assets = [raw_key(s.name) for s in sources]
        if split_anew or any(s.shadow_of is None for s in sources):
            assets += by_day
        checks = {key for asset in assets for key in self.graph.get_check_keys_for_assets({asset})}
        checks |= {shadow_check_key(s) for s in _compared(self.platform.settings.shadows, sources)}
        tags = {
            "dagster/asset_partition_range_start": days[0].isoformat(),
            "dagster/asset_partition_range_end": days[-1].isoformat(),
        }
        key = f"days {days[0]}..{days[-1]} {digest(content)}"
        return asked(self.instance, key, job, tags, self.now, assets, sorted(checks))

    def followers(self, followers: Collection[dg.AssetKey]) -> tuple[str, list[dg.RunRequest]]:
        """All that is made from what was there before, in one run; or, instead, what has to end before."""
        nothing = not self.instance.get_materialized_partitions(ROLLUP)

        def waiting(key: dg.AssetKey) -> bool:
            if nothing and ROLLUP in self.graph.get_ancestor_asset_keys(key):
                return True  # no day has passed its gates yet
            if key == dg.AssetKey(SUGGESTIONS) and (reason := owners_wait(self.platform)):
                self.remarks.append(reason)
                return True
            return False

        found = behind(self.instance, self.platform, self.graph, followers, waiting)
        if not found:
            return "", []
        if at_work := {**self.before, **_at_work(self.instance)}:
            return f"{len(found)} assets are behind; waits for {_named(at_work)}", []
        wanted = set(found).union(*(self.graph.get(key).execution_set_asset_keys for key in found))
        content = sorted((key.to_user_string(), made_from) for key, made_from in found.items())
        key = f"follow {digest(content)}"
        return "", list(asked(self.instance, key, JOB, {}, self.now, sorted(wanted)))


def _active(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    return list(instance.get_runs(dg.RunsFilter(statuses=ACTIVE)))


def _at_work(instance: dg.DagsterInstance) -> dict[str, str]:
    """Runs and backfills that are under way, by id, as they are named to people."""
    backfills = instance.get_backfills(BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED]))
    return _by_id(_active(instance)) | {b.backfill_id: f"the backfill {b.backfill_id}" for b in backfills}


def _alike(chunks: Iterable[list[date]], changed: Collection[set[date]]) -> Iterator[list[date]]:
    """Days in runs of which the same sources have changed: a source that has not delivered a day is not judged on it."""
    for chunk in chunks:
        for _, days in groupby(chunk, lambda day: [day in of_source for of_source in changed]):
            yield list(days)


def _content(live: list[Generation], day: date, calendar: Calendar, now: datetime) -> list[str]:
    """What a day would be made of: a restatement to what it once was is asked for again too."""
    holding = [f"{day} {g.scope} {g.generation} {g.days[day].fingerprint} {g.sectors}" for g in live if day in g.days]
    empty = calendar.of(day, now)
    return holding or [f"{day} {empty.meaning} {empty.why if empty.meaning == COSTS_NOTHING else ''}"]


def _compared(shadows: Sequence[Source], sources: Sequence[Source]) -> list[Source]:
    """The shadows that are judged anew when these sources' days change."""
    names = {source.name for source in sources}
    return [shadow for shadow in shadows if shadow.name in names or shadow.shadow_of in names]


def _lands(run: dg.DagsterRun) -> bool:
    if run.asset_selection:
        return any(key.path[0] in ("deliveries", "usage") for key in run.asset_selection)
    return run.job_name.startswith("land_") or run.job_name == "export_check"


def _overlap(run: dg.DagsterRun, days: Sequence[date]) -> bool:
    one = run.tags.get("dagster/partition")
    first = run.tags.get("dagster/asset_partition_range_start", one)
    last = run.tags.get("dagster/asset_partition_range_end", one)
    return bool(first and last and first <= days[-1].isoformat() and days[0].isoformat() <= last)


def _by_id(runs: Iterable[dg.DagsterRun]) -> dict[str, str]:
    return {run.run_id: f"{run.job_name} {run.run_id[:8]}" for run in runs}


def _named(at_work: Mapping[str, str]) -> str:
    names = list(at_work.values())
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
