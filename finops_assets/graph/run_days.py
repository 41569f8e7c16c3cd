"""Which days a run is about, however it was started."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import dagster as dg

from finops_assets.graph.day_verdicts import held_days

NEWEST_JUDGED = 31
"""Of a check that is executed without a day, at least so many newest days are judged."""


def run_days(context: dg.OpExecutionContext, checks: Collection[dg.AssetCheckKey] = ()) -> list[date]:
    """The partition keys of a run, one or a range, as days in order.

    The UI executes checks without one ("Execute all" of an asset's page). Then it is the newest days that their assets
    have, and all days on whose newest version one of `checks` has not passed.

    Raises:
        dagster.Failure: the run has no partition, and is to build something.
    """
    if context.has_partition_key_range:
        return sorted(date.fromisoformat(key) for key in context.partition_keys)
    if context.has_partition_key:
        return [date.fromisoformat(context.partition_key)]
    if not checks:
        raise dg.Failure(
            "this run says of no day that it is to be built; choose partitions, or use `finops run FROM TO`",
            allow_retries=False,
        )
    wanted: set[date] = set()
    for asset in sorted({check.asset_key for check in checks}):
        there = sorted(date.fromisoformat(day) for day in context.instance.get_materialized_partitions(asset))
        of_asset = [check for check in checks if check.asset_key == asset]
        wanted |= {*there[-NEWEST_JUDGED:], *held_days(context.instance, of_asset, there)}
    return sorted(wanted)


def names_days(context: dg.OpExecutionContext) -> bool:
    """Was the run started for certain days?"""
    return context.has_partition_key_range or context.has_partition_key
