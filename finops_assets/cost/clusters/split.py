"""A node's charges become charges of what ran on it: between the raw day and its facts, by one statement over the day.

The bill is the truth: usage gives shares, never money. Of every row of a node each amount that can be summed (cost,
quantities) is cut where the shares end, so that the parts sum to the row to the last digit; prices, discounts, commitments
and all else are the row's. FOCUS 1.3 has the columns for it (AllocatedMethodId, AllocatedMethodDetails,
AllocatedResourceId, AllocatedResourceName, AllocatedTags); source_file and source_row still name the row of the bill.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa

from finops_assets.base.sql import identifier, literal
from finops_assets.cost.accrual import LONG
from finops_assets.cost.clusters.nodes import cluster_of_tags, keys_of_charge, keys_of_node
from finops_assets.cost.facts_query import KEPT
from finops_assets.focus.money import in_units, of_units
from finops_assets.focus.normal import normal_key
from finops_assets.focus.specification import columns
from finops_assets.focus.tags import canonical_json, tag_set_id
from finops_assets.ingest.tag_register import REGISTER_SCHEMA, enter_tag_sets
from finops_assets.ingest.usage.allocations import COLUMNS, IDLE
from finops_assets.ingest.usage.landing import load_usage, usage_days, usage_fingerprint
from finops_assets.settings.clusters import Cluster, Idle
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import ROW_GROUP_ROWS, connect, one_file
from finops_assets.storage.lake import Key, Lake

METHOD = "kubernetes-"
"""How AllocatedMethodId begins where it is ours."""
USED_METHOD, IDLE_METHOD = f"{METHOD}usage", f"{METHOD}idle"
IDLE_TO: Mapping[Idle, str] = {
    "owner": IDLE_METHOD,
    "requested": f"{IDLE_METHOD}-by-requested",
    "used": f"{IDLE_METHOD}-by-used",
}

MAY_SPLIT = f"AllocatedMethodId IS NULL AND AllocatedTags IS NULL AND coalesce(NOT ({LONG}), true)"
"""SQL: may a node's row be split? Not what the provider has split itself, nor a charge of more than the day."""

SUMMED = tuple(c.name for c in columns().values() if c.type == "decimal" and not c.name.endswith("UnitPrice"))
"""The amounts of a row that its parts sum to; a price is the row's."""

NODES = {
    "state": "VARCHAR", "usage_source": "VARCHAR", "cluster": "VARCHAR", "node": "VARCHAR", "provider_id": "VARCHAR",
    "ResourceId": "VARCHAR", "matched_by": "VARCHAR", "BillingCurrency": "VARCHAR", "billed_cost": "DECIMAL(38, 18)",
    "effective_cost": "DECIMAL(38, 18)", "idle_effective_cost": "DECIMAL(38, 18)", "unsplit_effective_cost": "DECIMAL(38, 18)",
    "pods": "BIGINT", "usage_hours": "DOUBLE", "usage_cost": "DECIMAL(38, 12)",
}  # fmt: skip
"""What is written down of a source's day: a row a node and currency. docs/guides/clusters.md says what the states are."""
STATES = ("split", "no usage", "no charge", "no node named", "claimed twice")

# A share is kept in parts of a million million.
_WHOLE = 10**12
# Labels that Kubernetes itself writes, another for each pod or roll-out: they say nothing of who it is for.
_OF_THE_MACHINE = frozenset(
    normal_key(label.replace("/", "_"))
    for label in (
        "pod-template-hash", "controller-revision-hash", "pod-template-generation", "controller-uid", "job-name",
        "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index",
    )
)  # fmt: skip


def split_stamp(lake: Lake, clusters: Iterable[Cluster], day: date) -> str:
    """What a day's usage is, as the stamp of facts says it; empty where there is none."""
    found = ((c.name, usage_fingerprint(lake, c.name, day)) for c in clusters)
    return ",".join(f"{name}:{fingerprint}" for name, fingerprint in found if fingerprint)


def usage_changed_days(lake: Lake, clusters: Sequence[Cluster], source: str, first: date, end: date) -> list[date]:
    """The days from `first` to before `end` that a source has, and whose charges were split by other usage, or by none."""
    told = sorted({day for c in clusters for day in usage_days(lake, c.name) if first <= day < end})
    changed = []
    for day in told:
        record = lake.read_record(source, "split", day.isoformat()) or {"usage": ""}
        if record["usage"] != split_stamp(lake, clusters, day) and lake.holds(lake.day_file("raw", source, day)):
            changed.append(day)
    return changed


def split_days(lake: Lake, engine: EngineSettings, clusters: Sequence[Cluster], keys: Iterable[Key]) -> list[Key]:
    """Write the layer `split` of those of these raw days that have charges of nodes; returns which. The raw files are here.

    Beside it stands, in the layer `nodes`, which nodes were found, which were not, and their money.
    """
    made = []
    with lake.workspace() as workspace, connect(engine, workspace / "spill") as connection:
        for source, day in keys:
            stamp = split_stamp(lake, clusters, day)
            if _Day(lake, connection, source, day, clusters).split():
                made.append((source, day))
            record = {"usage": stamp}
            if lake.read_record(source, "split", day.isoformat()) != record:
                lake.write_record(record, source, "split", day.isoformat(), blind=True)
    return made


@dataclass(frozen=True)
class _Node:
    """A node as usage names it, and the bill's resources that it was found to be."""

    ident: int
    usage_source: str
    cluster: str
    node: str | None
    provider_id: str | None
    resources: tuple[str, ...] = ()
    matched_by: str | None = None
    claimed: bool = False

    @property
    def state(self) -> str:
        if self.claimed:
            return "claimed twice"
        if self.resources:
            return "split"
        return "no charge" if self.node or self.provider_id else "no node named"


@dataclass
class _Day:
    lake: Lake
    connection: duckdb.DuckDBPyConnection
    source: str
    day: date
    clusters: Sequence[Cluster]

    def split(self) -> bool:
        """Write what there is to write; is there a row of a node?"""
        lake, key = self.lake, (self.source, self.day)
        self._load()
        resources = self._resources()
        nodes = self._nodes(resources)
        self._put("nodes", _nodes_table(nodes))
        resource_rows = [{"node_id": n.ident, "ResourceId": r} for n in nodes if not n.claimed for r in n.resources]
        self._put("resources", pa.Table.from_pylist(resource_rows, _schema(node_id=pa.int32(), ResourceId=pa.string())))
        self.connection.execute(_SHARES)
        [(parents,)] = self.connection.execute(f"CREATE OR REPLACE TEMP TABLE parents AS {self._parents()}").fetchall()
        target = lake.day_file("split", *key)
        if parents:
            self._workloads()
            with lake.replacing(target, blind=True) as temporary:
                self.connection.execute(
                    f"COPY ({self._rows()}) TO {literal(str(temporary))}"
                    f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
                )
        self._write_nodes(bool(parents))
        return bool(parents)

    @property
    def _raw(self) -> str:
        file = self.lake.day_file("raw", self.source, self.day)
        return f"read_parquet({literal(one_file(file))}, hive_partitioning = false)"

    def _put(self, name: str, table: pa.Table) -> None:
        self.connection.register(f"{name}_arrow", table)
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM {name}_arrow")
        self.connection.unregister(f"{name}_arrow")

    def _load(self) -> None:
        """The table `usage`: all clusters' usage of the day, each row with its node's number."""
        parts = []
        for place, cluster in enumerate(self.clusters):
            if load_usage(self.lake, self.connection, cluster.name, self.day, f"usage_{place}"):
                parts.append(
                    f"SELECT {literal(cluster.name)} AS usage_source, {place} AS place, {literal(cluster.idle)} AS idle_to, *"
                    f" FROM usage_{place}"
                )
        empty = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in COLUMNS.items())
        nothing = f"SELECT CAST(NULL AS VARCHAR) AS usage_source, 0 AS place, 'owner' AS idle_to, {empty} WHERE false"
        self.connection.execute(
            "CREATE OR REPLACE TEMP TABLE usage AS SELECT *, dense_rank() OVER ("
            "ORDER BY place, cluster, coalesce(node, ''), coalesce(provider_id, '')) AS node_id"
            f" FROM ({' UNION ALL '.join(parts) or nothing})"
        )
        for place, _ in enumerate(self.clusters):
            self.connection.execute(f"DROP TABLE IF EXISTS usage_{place}")

    def _resources(self) -> list[tuple[str, str | None]]:
        """(ResourceId, ResourceName) of whatever a bill's row of the day is of."""
        return self.connection.execute(
            f"SELECT DISTINCT ResourceId, ResourceName FROM {self._raw} WHERE ResourceId IS NOT NULL ORDER BY ALL"
        ).fetchall()

    def _nodes(self, resources: Iterable[tuple[str, str | None]]) -> list[_Node]:
        """Every node of the day's usage, with the resources that it is: by its provider id, else by its name."""
        found = self.connection.execute(
            "SELECT DISTINCT node_id, usage_source, cluster, node, provider_id FROM usage ORDER BY node_id"
        ).fetchall()
        if not found:
            return []
        by_key: dict[str, list[str]] = {}
        by_name: dict[str, set[str]] = {}
        for resource, name in resources:
            keys = list(keys_of_charge(resource, name))
            for key in keys:
                by_key.setdefault(key, []).append(resource)
            if keys:
                for called in {name, resource.rpartition("/")[2]} - {None, ""}:
                    by_name.setdefault(str(called).lower(), set()).add(resource)
        # The cluster's own list of its nodes: what is idle is told by the node's name alone.
        listed = {
            (source, cluster, node): provider_id
            for _, source, cluster, node, provider_id in found
            if node and provider_id and keys_of_node(provider_id, None)
        }
        taken: dict[str, str] = {}
        nodes = []
        for ident, source, cluster, node, provider_id in found:
            known = listed.get((source, cluster, node)) or listed.get((source, cluster, provider_id))
            keys = keys_of_node(provider_id, None) or keys_of_node(known, None) or keys_of_node(None, node)
            match = next((k for k in keys if k in by_key), None)
            names = [called for called in (node, provider_id) if called and not keys]
            resource_ids: tuple[str, ...] = tuple(dict.fromkeys(by_key[match])) if match else ()
            by = "provider id" if match else None
            if match is None:
                same = {r for called in names for r in by_name.get(called.lower(), ())}
                # Two machines of one name are two machines.
                if len(same) == 1:
                    resource_ids, by = tuple(same), "name"
            claimed = any(taken.setdefault(r, source) != source for r in resource_ids)
            nodes.append(_Node(ident, source, cluster, node, provider_id or known, resource_ids, by, claimed))
        return nodes

    def _parents(self) -> str:
        """SQL: the rows of nodes that are split, each with its amounts in units."""
        units = ", ".join(f"{in_units(identifier(name))} AS {identifier(f'{name}_units')}" for name in SUMMED)
        kept = ", ".join(identifier(name) for name in KEPT)
        return f"SELECT {kept}, {units} FROM {self._raw} WHERE {_MATCHED} AND {MAY_SPLIT}"

    def _workloads(self) -> None:
        """The tables `workloads`, tags by what ran, and `pairs`, the tag set of each of a row's parts."""
        connection = self.connection
        connection.execute("CREATE OR REPLACE TEMP TABLE workloads AS SELECT DISTINCT workload FROM shares")
        told = [(text,) for (text,) in connection.execute("SELECT workload FROM workloads").fetchall()]
        texts = [text for (text,) in told]
        self._put("workloads", pa.table({"workload": texts, "tags": [workload_tags(text) for text in texts]}))
        met = connection.execute(
            "SELECT DISTINCT p.tag_set_id, p.Tags, w.tags FROM parents p JOIN shares s USING (ResourceId)"
            " JOIN workloads w USING (workload)"
        ).fetchall()
        pairs = [(before, own, allocated, tag_set_id(own, allocated)) for before, own, allocated in met]
        before, own, allocated, idents = zip(*pairs)
        self._put(
            "pairs",
            pa.table(
                {"tag_set_id": before, "tags": allocated, "ident": idents},
                _schema(tag_set_id=pa.string(), tags=pa.string(), ident=pa.string()),
            ),
        )
        sets = {ident: (one, other) for ident, one, other in zip(idents, own, allocated)}
        register = [{"tag_set_id": i, "Tags": one, "AllocatedTags": other} for i, (one, other) in sets.items()]
        enter_tag_sets(self.lake, self.source, pa.Table.from_pylist(register, REGISTER_SCHEMA))

    def _rows(self) -> str:
        """SQL: the raw day with the rows of its nodes as their parts."""
        given = {
            "AllocatedMethodId": "s.method",
            "AllocatedMethodDetails": _DETAILS,
            "AllocatedResourceId": "s.resource",
            "AllocatedResourceName": "s.name",
            "AllocatedTags": "w.tags",
            "tag_set_id": "t.ident",
        }
        for name in SUMMED:
            # Cut where the share ends, less where it begins: nothing is lost between two parts.
            units = f"p.{identifier(f'{name}_units')}"
            upto, before = (
                f"({units} // {_WHOLE} * {end} + ({units} % {_WHOLE} * {end}) // {_WHOLE})"
                for end in ("s.upto", "s.before")
            )
            given[name] = of_units(f"{upto} - {before}")
        part = ", ".join(f"{given[c]} AS {identifier(c)}" if c in given else f"p.{identifier(c)}" for c in KEPT)
        kept = ", ".join(identifier(name) for name in KEPT)
        return f"""
            SELECT {kept} FROM {self._raw} WHERE NOT coalesce({_MATCHED} AND {MAY_SPLIT}, false)
            UNION ALL BY NAME
            SELECT {part} FROM parents p JOIN shares s USING (ResourceId) JOIN workloads w USING (workload)
                JOIN pairs t ON p.tag_set_id = t.tag_set_id AND w.tags = t.tags
        """

    def _write_nodes(self, split: bool) -> None:
        """Which nodes were found with which money, and which were not."""
        lake, target = self.lake, self.lake.day_file("nodes", self.source, self.day)
        idle = "SELECT NULL AS ResourceId, NULL AS BillingCurrency, NULL AS idle WHERE false"
        if split:
            file = literal(one_file(lake.day_file("split", self.source, self.day)))
            idle = (
                f"SELECT ResourceId, BillingCurrency, sum(EffectiveCost) AS idle FROM read_parquet({file}, hive_partitioning = false)"
                f" WHERE AllocatedMethodId LIKE '{IDLE_METHOD}%' GROUP BY ALL"
            )
        self._put("clustered", self._clustered())
        query = f"""
            WITH told AS (
                SELECT node_id, count(DISTINCT (namespace, pod)) FILTER (NOT idle AND pod IS NOT NULL) AS pods,
                    CAST(sum(weight) AS DECIMAL(38, 12)) AS usage_cost
                FROM usage GROUP BY 1
            ),
            hours AS (
                SELECT node_id, sum(epoch(window_end - window_start)) / 3600.0 AS usage_hours
                FROM (SELECT DISTINCT node_id, window_start, window_end FROM usage) GROUP BY 1
            ),
            costs AS (
                SELECT ResourceId, BillingCurrency, sum(BilledCost) AS billed, sum(EffectiveCost) AS effective,
                    sum(CASE WHEN {MAY_SPLIT} THEN 0 ELSE EffectiveCost END) AS unsplit
                FROM {self._raw} WHERE ResourceId IN (
                    SELECT ResourceId FROM resources UNION ALL SELECT ResourceId FROM clustered
                ) GROUP BY ALL
            ),
            idles AS ({idle})
            SELECT n.state, n.usage_source, n.cluster, n.node, n.provider_id, r.ResourceId, n.matched_by, c.BillingCurrency,
                c.billed AS billed_cost, c.effective AS effective_cost, i.idle AS idle_effective_cost,
                c.unsplit AS unsplit_effective_cost, t.pods, h.usage_hours, t.usage_cost
            FROM nodes n JOIN told t USING (node_id) JOIN hours h USING (node_id) LEFT JOIN resources r USING (node_id)
                LEFT JOIN costs c USING (ResourceId) LEFT JOIN idles i USING (ResourceId, BillingCurrency)
            UNION ALL
            SELECT 'no usage', NULL, k.cluster, NULL, NULL, ResourceId, NULL, c.BillingCurrency, c.billed, c.effective, NULL,
                NULL, NULL, NULL, NULL
            FROM clustered k JOIN costs c USING (ResourceId) WHERE ResourceId NOT IN (SELECT ResourceId FROM resources)
        """
        [(rows,)] = self.connection.execute(f"CREATE OR REPLACE TEMP TABLE node_rows AS {query}").fetchall()
        if not rows:
            lake.remove(target.parent)
            return
        typed = ", ".join(f"CAST({identifier(name)} AS {kind}) AS {identifier(name)}" for name, kind in NODES.items())
        with lake.replacing(target, blind=True) as temporary:
            self.connection.execute(
                f"COPY (SELECT {typed} FROM node_rows ORDER BY ALL) TO {literal(str(temporary))} (FORMAT parquet, COMPRESSION zstd)"
            )

    def _clustered(self) -> pa.Table:
        """The machines whose charges name a cluster in their tags: ResourceId, cluster."""
        sets = self.connection.execute(
            f"SELECT DISTINCT tag_set_id, Tags FROM {self._raw} WHERE Tags IS NOT NULL AND ResourceId IS NOT NULL"
        ).fetchall()
        named = {ident: cluster for ident, tags in sets if (cluster := cluster_of_tags(json.loads(tags)))}
        schema = _schema(ResourceId=pa.string(), cluster=pa.string())
        if not named:
            return schema.empty_table()
        self._put("named", pa.table({"tag_set_id": list(named), "cluster": list(named.values())}))
        found = self.connection.execute(
            f"SELECT ResourceId, ResourceName, min(cluster) FROM {self._raw} JOIN named USING (tag_set_id)"
            " WHERE ResourceId IS NOT NULL GROUP BY 1, 2 ORDER BY 1"
        ).fetchall()
        machines = {r: cluster for r, name, cluster in found if any(True for _ in keys_of_charge(r, name))}
        return pa.table({"ResourceId": list(machines), "cluster": list(machines.values())}, schema)


_MATCHED = "ResourceId IN (SELECT ResourceId FROM shares)"

# A pod's tags come from these; as one text, so that equal ones are found.
_WORKLOAD = """
    CAST(to_json({'cluster': cluster, 'namespace': namespace, 'kind': controller_kind, 'controller': controller,
        'labels': labels}) AS VARCHAR)
"""
_DETAILS = """
    '{"Elements":[{"AllocatedRatio":' || CAST(CAST(s.upto - s.before AS DECIMAL(13, 0)) * CAST(0.000000000001 AS DECIMAL(12, 12)) AS VARCHAR)
        || ',"UsageQuantity":' || CAST(CAST(s.weight AS DECIMAL(38, 0)) * CAST(0.000000000001 AS DECIMAL(12, 12)) AS VARCHAR)
        || ',"UsageUnit":"' || s.unit || '"}]}'
"""

_ORDER = ", ".join(
    ["cluster", *(f"coalesce({c}, '')" for c in ("namespace", "controller_kind", "controller", "pod", "labels"))]
)

_SHARES = f"""
    CREATE OR REPLACE TEMP TABLE shares AS
    WITH pods AS (
        SELECT ResourceId, min(idle_to) AS idle_to, cluster, namespace, controller_kind, controller, pod, labels,
            CAST(sum(weight) * {_WHOLE} AS HUGEINT) AS weight, CAST(sum(requested) * {_WHOLE} AS HUGEINT) AS requested,
            CAST(sum(used) * {_WHOLE} AS HUGEINT) AS used
        FROM usage JOIN resources USING (node_id) WHERE NOT idle
        GROUP BY ResourceId, cluster, namespace, controller_kind, controller, pod, labels
    ),
    -- Idle that is told of a cluster as a whole goes to its nodes as its pods lie on them.
    of_cluster AS (
        SELECT u.usage_source, u.cluster, CAST(sum(u.weight) FILTER (u.idle AND u.node IS NULL AND u.provider_id IS NULL)
                * {_WHOLE} AS HUGEINT) AS idle,
            CAST(sum(u.weight) FILTER (NOT u.idle) * {_WHOLE} AS HUGEINT) AS busy
        FROM usage u GROUP BY 1, 2
    ),
    idle AS (
        SELECT ResourceId, min(u.cluster) AS cluster, min(u.idle_to) AS idle_to,
            CAST(coalesce(sum(u.weight) FILTER (u.idle), 0) * {_WHOLE} AS HUGEINT)
                + CASE WHEN any_value(c.busy) > 0 THEN coalesce(any_value(c.idle), 0)
                    * CAST(coalesce(sum(u.weight) FILTER (NOT u.idle), 0) * {_WHOLE} AS HUGEINT) // any_value(c.busy)
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
    SELECT ResourceId, method, weight, {_WORKLOAD} AS workload, coalesce(pod, controller, namespace, cluster) AS name,
        concat_ws('/', cluster, namespace, coalesce(pod, controller)) AS resource,
        'cost of CPU, memory and GPU as the cluster''s exporter has it' AS unit,
        CAST(running * {_WHOLE} // total AS HUGEINT) AS upto,
        CAST((running - weight) * {_WHOLE} // total AS HUGEINT) AS before
    FROM summed WHERE running * {_WHOLE} // total > (running - weight) * {_WHOLE} // total
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


def _nodes_table(nodes: Iterable[_Node]) -> pa.Table:
    rows = [
        {
            "node_id": n.ident, "state": n.state, "usage_source": n.usage_source, "cluster": n.cluster, "node": n.node,
            "provider_id": n.provider_id, "matched_by": n.matched_by,
        }
        for n in nodes
    ]  # fmt: skip
    texts = ("state", "usage_source", "cluster", "node", "provider_id", "matched_by")
    return pa.Table.from_pylist(rows, _schema(node_id=pa.int32(), **dict.fromkeys(texts, pa.string())))


def _schema(**kinds: pa.DataType) -> pa.Schema:
    return pa.schema(list(kinds.items()))
