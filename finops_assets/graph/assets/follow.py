"""When assets that are not daily follow the days: when a version of what they are made from has changed, once.

Every step of a follower notes a hash of the versions of its inputs as they were when it began (`note_inputs`). It is
behind when that hash is another now. So it does not matter who changed something, nor how often: a sensor, a person in
the UI, `finops run`, or a backfill whose result is what was there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from finops_assets.base.content import version_of
from finops_assets.graph.keys import DATA_VERSION
from finops_assets.ingest.usage.landing import usage_days, usage_fingerprint
from finops_assets.platform import Platform
from finops_assets.storage.lake import Lake
from finops_assets.storage.ledger import ledger_table

MADE_FROM = "made from"
"""Metadata of a follower's materialisation: the hash of the versions of its inputs."""
NEWEST_RAW_DAYS = 40
"""Of raw data, followers look at so many newest days of a source (the conformance report)."""


class Versions:
    """The version of each asset as it is now, each looked up once; `keys` are all that will be asked for."""

    def __init__(self, instance: dg.DagsterInstance, platform: Platform, keys: Iterable[dg.AssetKey]) -> None:
        self._instance, self._platform = instance, platform
        newest = instance.event_log_storage.get_latest_materialization_events(list(set(keys)))
        self._newest = {key: entry.asset_materialization for key, entry in newest.items() if entry}
        self._known: dict[dg.AssetKey, str] = {}

    def noted(self, key: dg.AssetKey) -> str | None:
        """What a follower noted that it was made from, when it was made last."""
        made = self._newest.get(key)
        noted = made.metadata.get(MADE_FROM) if made else None
        return str(noted.value) if noted else None

    def of(self, key: dg.AssetKey) -> str:
        """Of an asset by day: a hash of all days' versions. Empty: it was never made."""
        if key not in self._known:
            self._known[key] = self._of(key)
        return self._known[key]

    def made_from(self, inputs: Iterable[dg.AssetKey]) -> str:
        """The hash of the versions of these assets together."""
        return version_of([(key.to_user_string(), self.of(key)) for key in sorted(set(inputs))])

    def _of(self, key: dg.AssetKey) -> str:
        match key.path:
            # The lake itself says it: runs of raw land, too, and Dagster has one version for all days of a run.
            case ["deliveries", source]:
                table = ledger_table(self._platform.lake, [source]).frame()
                return "" if table.empty else version_of(table.drop(columns=["seen_at"]))
            case ["usage", cluster]:
                return version_of(
                    [
                        (day, usage_fingerprint(self._platform.lake, cluster, day))
                        for day in usage_days(self._platform.lake, cluster)
                    ]
                )
            case ["raw", source]:
                return _raw_version(self._platform.lake, source)
        made = self._newest.get(key)
        if made is None:
            return ""
        if made.partition is None:
            return (made.tags or {}).get(DATA_VERSION, "")
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION
        by_day = self._instance.event_log_storage.get_latest_tags_by_partition(key, kind, [DATA_VERSION])
        return version_of(sorted((day, tags.get(DATA_VERSION)) for day, tags in by_day.items()))


def _raw_version(lake: Lake, source: str) -> str:
    days = lake.days("raw", source)[-NEWEST_RAW_DAYS:]
    if not days:
        return ""
    records = (lake.read_record(source, "days", day.isoformat()) or {} for day in days)
    return version_of([(day, record.get("totals", {}).get("fingerprint")) for day, record in zip(days, records)])


def note_inputs(context: dg.AssetExecutionContext) -> None:
    """To be called as a follower's step begins, before it reads anything."""
    inputs = {key: context.assets_def.asset_deps[key] for key in context.selected_asset_keys}
    versions = Versions(context.instance, context.resources.platform, [k for keys in inputs.values() for k in keys])
    for key, keys in inputs.items():
        context.add_asset_metadata({MADE_FROM: versions.made_from(keys)}, key)


def behind(
    instance: dg.DagsterInstance,
    platform: Platform,
    graph: BaseAssetGraph,  # type: ignore[type-arg]  # of whatever nodes
    followers: Collection[dg.AssetKey],
    waiting: Callable[[dg.AssetKey], bool],
) -> dict[dg.AssetKey, str]:
    """The followers that are not made from what is there now, and those after them, with what they would be made from.

    One that waits is not asked for, nor are others on its account; nor one of whose inputs there is none yet.
    """
    inputs = {key: graph.get(key).parent_keys for key in graph.toposorted_asset_keys if key in followers}
    versions = Versions(instance, platform, [*inputs, *(k for keys in inputs.values() for k in keys)])
    found: dict[dg.AssetKey, str] = {}
    for key, keys in inputs.items():
        if not any(versions.of(k) or k in found for k in keys):
            continue
        now = versions.made_from(keys)
        if (versions.noted(key) != now or any(k in found for k in keys)) and not waiting(key):
            found[key] = now
    return found
