"""Who held how much of a node on a day: its usage as shares, in one statement, and the tags of what ran."""

from __future__ import annotations

import json
from typing import Any

from finops_assets.focus.normal import normal_key
from finops_assets.focus.tags import canonical_json
from finops_assets.ingest.usage.allocations import IDLE

METHOD = "kubernetes-"
"""How AllocatedMethodId begins where it is ours."""
USED_METHOD, IDLE_METHOD = f"{METHOD}usage", f"{METHOD}idle"
"""What ran, and what nobody used: with `-by-requested` or `-by-used` where that is borne by those who ran."""

# A share is kept in parts of a thousand million: its product with as many units of an amount is a number of 64 bits.
WHOLE = 10**9
# Weights have as many places (`allocations.WEIGHT`); they are compared as integers.
_WEIGHT_UNITS = 10**12
# Labels that Kubernetes itself writes, another for each pod or roll-out: they say nothing of who it is for.
_OF_THE_MACHINE = frozenset(
    normal_key(label.replace("/", "_"))
    for label in (
        "pod-template-hash", "controller-revision-hash", "pod-template-generation", "controller-uid", "job-name",
        "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index",
    )
)  # fmt: skip


# A pod's tags come from these; as one text, so that equal ones are found.
_WORKLOAD = """
    CAST(to_json({'cluster': cluster, 'namespace': namespace, 'kind': controller_kind, 'controller': controller,
        'labels': labels}) AS VARCHAR)
"""
_DETAILS = """
    '{"Elements":[{"AllocatedRatio":' || CAST(CAST(upto - before AS DECIMAL(10, 0)) * CAST(0.000000001 AS DECIMAL(9, 9)) AS VARCHAR)
        || ',"UsageQuantity":' || CAST(CAST(weight AS DECIMAL(38, 0)) * CAST(0.000000000001 AS DECIMAL(12, 12)) AS VARCHAR)
        || ',"UsageUnit":"cost of CPU, memory and GPU by the cluster''s exporter"}]}'
"""

_ORDER = ", ".join(
    ["cluster", *(f"coalesce({c}, '')" for c in ("namespace", "controller_kind", "controller", "pod", "labels"))]
)

SHARES = f"""
    CREATE OR REPLACE TEMP TABLE shares AS
    WITH pods AS (
        SELECT ResourceId, min(idle_to) AS idle_to, cluster, namespace, controller_kind, controller, pod, labels,
            CAST(sum(weight) * {_WEIGHT_UNITS} AS HUGEINT) AS weight, CAST(sum(requested) * {_WEIGHT_UNITS} AS HUGEINT) AS requested,
            CAST(sum(used) * {_WEIGHT_UNITS} AS HUGEINT) AS used
        FROM usage JOIN resources USING (node_id) WHERE NOT idle
        GROUP BY ResourceId, cluster, namespace, controller_kind, controller, pod, labels
    ),
    -- Idle that is told of a cluster as a whole goes to its nodes as its pods lie on them.
    of_cluster AS (
        SELECT u.usage_source, u.cluster, CAST(sum(u.weight) FILTER (u.idle AND u.node IS NULL AND u.provider_id IS NULL)
                * {_WEIGHT_UNITS} AS HUGEINT) AS idle,
            CAST(sum(u.weight) FILTER (NOT u.idle) * {_WEIGHT_UNITS} AS HUGEINT) AS busy
        FROM usage u GROUP BY 1, 2
    ),
    idle AS (
        SELECT ResourceId, min(u.cluster) AS cluster, min(u.idle_to) AS idle_to,
            CAST(coalesce(sum(u.weight) FILTER (u.idle), 0) * {_WEIGHT_UNITS} AS HUGEINT)
                + CASE WHEN any_value(c.busy) > 0 THEN coalesce(any_value(c.idle), 0)
                    * CAST(coalesce(sum(u.weight) FILTER (NOT u.idle), 0) * {_WEIGHT_UNITS} AS HUGEINT) // any_value(c.busy)
                  ELSE 0 END AS weight
        FROM usage u JOIN resources USING (node_id) LEFT JOIN of_cluster c USING (usage_source, cluster) GROUP BY 1
    ),
    -- Who bears what nobody used, where it is not the owner of the node.
    bearing AS (
        SELECT p.*, i.weight AS idle, CASE p.idle_to WHEN 'requested' THEN p.requested ELSE p.used END AS by_weight,
            sum(by_weight) OVER (PARTITION BY p.ResourceId ORDER BY {_ORDER} ROWS UNBOUNDED PRECEDING) AS by_upto,
            sum(by_weight) OVER (PARTITION BY p.ResourceId) AS by_total
        FROM pods p JOIN (SELECT ResourceId, weight FROM idle) i USING (ResourceId) WHERE p.idle_to <> 'owner' AND i.weight > 0
    ),
    parts AS (
        SELECT ResourceId, 0 AS kind, '{USED_METHOD}' AS method, cluster, namespace, controller_kind, controller, pod,
            labels, weight FROM pods
        UNION ALL
        SELECT ResourceId, 1, '{IDLE_METHOD}-by-' || idle_to, cluster, namespace, controller_kind, controller, pod, labels,
            idle * CAST(by_upto AS HUGEINT) // CAST(by_total AS HUGEINT)
                - idle * CAST(by_upto - by_weight AS HUGEINT) // CAST(by_total AS HUGEINT)
        FROM bearing WHERE by_total > 0
        UNION ALL
        SELECT ResourceId, 2, '{IDLE_METHOD}', cluster, NULL, NULL, NULL, '{IDLE}', NULL, weight
        FROM idle WHERE ResourceId NOT IN (SELECT ResourceId FROM bearing WHERE by_total > 0)
    ),
    summed AS (
        SELECT *, CAST(sum(weight) OVER (PARTITION BY ResourceId ORDER BY kind, {_ORDER} ROWS UNBOUNDED PRECEDING) AS HUGEINT) AS running,
            CAST(sum(weight) OVER (PARTITION BY ResourceId) AS HUGEINT) AS total
        FROM parts WHERE weight > 0
    )
    SELECT ResourceId, method, {_WORKLOAD} AS workload, coalesce(pod, controller, namespace, cluster) AS name,
        concat_ws('/', cluster, namespace, coalesce(pod, controller)) AS resource,
        CAST(running * {WHOLE} // total AS BIGINT) AS upto,
        CAST((running - weight) * {WHOLE} // total AS BIGINT) AS before, {_DETAILS} AS details
    FROM summed WHERE running * {WHOLE} // total > (running - weight) * {WHOLE} // total
"""


def workload_tags(workload: str) -> str:
    """The tags of what ran, canonical: its labels, and where it ran by the keys that Google's bills have for it.

    >>> workload_tags('{"cluster":"a","namespace":"shop","kind":null,"controller":null,"labels":"{\\\\"app\\\\":\\\\"web\\\\"}"}')
    '{"app":"web","k8s-cluster-name":"a","k8s-namespace":"shop"}'
    """
    of: dict[str, Any] = json.loads(workload)
    labels = json.loads(of["labels"]) if of["labels"] else {}
    tags = {key: value for key, value in labels.items() if normal_key(key.replace("/", "_")) not in _OF_THE_MACHINE}
    where = {
        "k8s-cluster-name": of["cluster"],
        "k8s-namespace": of["namespace"],
        "k8s-workload-name": of["controller"],
        "k8s-workload-type": of["kind"],
    }
    return canonical_json(tags | {key: value for key, value in where.items() if value})
