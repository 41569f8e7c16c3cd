"""Keys of the graph that several modules name, and the metadata by which Dagster knows a version."""

from __future__ import annotations

import dagster as dg

from finops_assets.judge.gates import raw

FACTS = dg.AssetKey("cloud_cost_facts")
ROLLUP = dg.AssetKey("daily_cost_by_team")
CONVERTED = dg.AssetKey("daily_cost_converted")
ACCEPTED = dg.AssetKey("accepted_owners")
PUBLISHED = dg.AssetKey("published_warehouse")
BUILD_STEP = "attribute_and_roll_up"
DATA_VERSION = "dagster/data_version"


def raw_key(source: str) -> dg.AssetKey:
    """The days of a source as exported."""
    return dg.AssetKey(["raw", source])


def usage_key(cluster: str) -> dg.AssetKey:
    """What ran on a cluster, as landed."""
    return dg.AssetKey(["usage", cluster])


def raw_check_keys(source: str) -> list[dg.AssetCheckKey]:
    """The gates of a source's days."""
    return [dg.AssetCheckKey(raw_key(source), gate) for gate in raw.GATES]
