"""What Dagster keeps of past runs, and how much of it may go.

A run's events are all that Dagster knows of it: with them would go that its days are there, and how they were judged. A
run that holds the newest word on any partition is therefore kept, however old; what later runs have superseded may go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import dagster as dg
from dagster import DagsterEventType

from finops_assets.graph.dead_runs import ENDED

# SQLite takes 32,766 bound values in a statement; a page of records is held in memory.
IDS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Pruned:
    """Finished runs of before the time: deleted, and kept because they hold the newest word on something."""

    deleted: int
    kept: int


def prune(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey], before: datetime) -> Pruned:
    """Delete the finished runs created before a time (UTC) that nothing refers to, with their events and their logs.

    `checks` are the asset checks of the graph: Dagster lists assets by itself, but not checks.
    """
    old = instance.get_run_records(dg.RunsFilter(statuses=ENDED, created_before=before))
    if not old:
        return Pruned(0, 0)
    needed = _newest_words(instance, list(checks))
    superseded = [r.dagster_run.run_id for r in old if r.dagster_run.run_id not in needed]
    for run_id in superseded:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    return Pruned(len(superseded), len(old) - len(superseded))


def _newest_words(instance: dg.DagsterInstance, checks: list[dg.AssetCheckKey]) -> set[str]:
    """The runs that say last what a partition, an asset without any, or a check of either is."""
    needed: set[str] = set()
    for record in instance.get_asset_records():
        entry = record.asset_entry
        if entry.last_run_id:
            needed.add(entry.last_run_id)
        if entry.last_materialization:
            needed.add(entry.last_materialization.run_id)
        if entry.last_observation:
            needed.add(entry.last_observation.run_id)
        for kind in (DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_OBSERVATION):
            newest = instance.get_latest_storage_id_by_partition(entry.asset_key, kind)
            needed |= _runs_of(instance, entry.asset_key, kind, sorted(newest.values()))
    storage = instance.event_log_storage
    needed |= {info.latest_planned_run_id for info in storage.get_asset_check_partition_info(checks)}
    return needed


def _runs_of(
    instance: dg.DagsterInstance, asset: dg.AssetKey, kind: DagsterEventType, storage_ids: list[int]
) -> set[str]:
    runs: set[str] = set()
    fetch = (
        instance.fetch_materializations
        if kind == DagsterEventType.ASSET_MATERIALIZATION
        else instance.fetch_observations
    )
    for start in range(0, len(storage_ids), IDS_AT_ONCE):
        wanted = storage_ids[start : start + IDS_AT_ONCE]
        found = fetch(dg.AssetRecordsFilter(asset_key=asset, storage_ids=wanted), limit=IDS_AT_ONCE)
        runs |= {record.run_id for record in found.records}
    return runs
