"""clusters: what ran on the nodes that a bill charges, and who pays for what nobody used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from finops_assets.settings.section import Endpoint, Name, Section
from finops_assets.settings.sources import SourceUri

Idle = Literal["owner", "requested", "used"]


class Cluster(Section):
    """One source of usage below a resource: which pods ran on which node, by day. docs/guides/clusters.md"""

    name: Name
    """Becomes the asset usage/<name>."""
    uri: SourceUri
    """Where its files lie: a folder, file or glob, beside finops.yaml if relative, or the URI of a store."""
    layout: Literal["opencost", "kubecost"]
    """Who wrote them: answers of the allocation API as JSON, or the same rows as Parquet or CSV."""
    cluster: Annotated[str, Field(min_length=1)] | None = None
    """The cluster's name where rows name none."""
    idle: Idle = "owner"
    """Who bears what of a node nobody used: its owner, or those on it by what they requested, or by what they used."""
    endpoint_url: Endpoint | None = None
    """Of a store that speaks a cloud's protocol but is not that cloud's own, or of an emulator."""


def _apart(clusters: Sequence[Cluster]) -> Sequence[Cluster]:
    names = [cluster.name for cluster in clusters]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the name {', '.join(twice)} stands twice; names are unique")
    return clusters


Clusters = Annotated[tuple[Cluster, ...], AfterValidator(_apart)]
