"""Bills of nodes, and what their clusters tell of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finops_assets_tests.conftest import Row, Site, focus_row

DAY = "2026-09-01"
AWS_NODE, LEAVES_AT_NOON = "i-0aaaaaaaaaaaaaaa1", "i-0aaaaaaaaaaaaaaa2"
SCALE_SET = "/subscriptions/5/resourceGroups/MC_shop/providers/Microsoft.Compute/virtualMachineScaleSets/pool"
GOOGLE = "//compute.googleapis.com/projects/77/zones/europe-west1-b/instances/4711"
CLUSTERS = "clusters: [{name: k8s, uri: usage, layout: opencost}]\n"
PLATFORM = '{"team": "platform", "dept": "it", "kubernetes.io/cluster/shop": "owned"}'


def node_row(resource: str, day: str = DAY, **changes: Any) -> Row:
    """A node's charge of a day."""
    return (
        focus_row(
            day,
            ResourceId=resource,
            ResourceName="",
            Tags=PLATFORM,
            ChargePeriodStart=f"{day}T00:00:00Z",
            ConsumedQuantity="24",
            ConsumedUnit="Hours",
            ListUnitPrice="0.1",
            CommitmentDiscountId="",
            CommitmentDiscountQuantity="",
        )
        | changes
    )


def allocation(
    pod: str,
    cost: float,
    node: str = "node-1",
    provider: str | None = f"aws:///eu-west-1a/{AWS_NODE}",
    day: str = DAY,
    hours: tuple[int, int] = (0, 24),
    namespace: str = "shop",
    labels: Mapping[str, str] | None = None,
    cluster: str = "shop",
    **changes: Any,
) -> dict[str, Any]:
    """One object of the allocation API: a pod that cost so much, two thirds of it for CPU."""
    start, end = (
        f"{day}T{hour:02}:00:00Z" if hour < 24 else f"{day[:-2]}{int(day[-2:]) + 1:02}T00:00:00Z" for hour in hours
    )
    span = hours[1] - hours[0]
    properties = {
        "cluster": cluster, "node": node, "namespace": namespace, "controller": pod.rpartition("-")[0],
        "controllerKind": "deployment", "pod": pod, "container": "main", "providerID": provider, "labels": labels or {},
        "namespaceLabels": {"team": f"of-{namespace}"},
    }  # fmt: skip
    return {
        "name": f"{cluster}/{node}/{namespace}/{pod}/main",
        "properties": {key: value for key, value in properties.items() if value is not None},
        "window": {"start": start, "end": end}, "start": start, "end": end, "minutes": span * 60,
        "cpuCores": 1, "cpuCoreHours": span, "cpuCoreRequestAverage": 1, "cpuCoreUsageAverage": 0.5,
        "cpuCost": cost * 2 / 3, "ramBytes": 2**30, "ramByteHours": 2**30 * span, "ramByteRequestAverage": 2**30,
        "ramByteUsageAverage": 2**29, "ramCost": cost / 3, "gpuCost": 0, "pvCost": 5, "networkCost": 3,
    } | changes  # fmt: skip


def idle(cost: float, node: str = "node-1", cluster: str = "shop", **more: Any) -> dict[str, Any]:
    """What of a node nobody held, as OpenCost tells it: its provider id is the node's name."""
    entry = allocation("", cost, node, node, cluster=cluster, **more)
    entry["properties"] = {"cluster": cluster, "node": node, "providerID": node}
    entry["name"] = f"{cluster}/{node}/__idle__"
    return entry


def answer(*allocations: Mapping[str, Any]) -> str:
    """An answer of the allocation API: a set a window."""
    sets: dict[str, dict[str, Any]] = defaultdict(dict)
    for each in allocations:
        sets[each["window"]["start"]][each["name"]] = each
    return json.dumps({"code": 200, "data": list(sets.values())})


def put_usage(site: Site, name: str, *allocations: Mapping[str, Any]) -> Path:
    file = site.folder / "usage" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(answer(*allocations))
    return file
