"""A node's charges become charges of what ran on it: between the raw day and its facts, by one statement over the day.

The bill is the truth: usage gives shares, never money. Of every row of a node each amount that can be summed (cost,
quantities) is cut where the shares end, so that the parts sum to the row to the last digit; prices, discounts, commitments
and all else are the row's. FOCUS 1.3 has the columns for it (AllocatedMethodId, AllocatedMethodDetails,
AllocatedResourceId, AllocatedResourceName, AllocatedTags); source_file and source_row still name the row of the bill.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa

from finops_assets.base.sql import identifier, literal
from finops_assets.cost.accrual import LONG
from finops_assets.cost.clusters.nodes import cluster_of_tags, keys_of_charge, keys_of_node
from finops_assets.cost.clusters.shares import IDLE_METHOD, SHARES, WHOLE, workload_tags
from finops_assets.cost.facts_query import KEPT
from finops_assets.focus.money import in_units, of_units
from finops_assets.focus.specification import columns
from finops_assets.focus.tags import tag_set_id
from finops_assets.ingest.tag_register import REGISTER_SCHEMA, enter_tag_sets
from finops_assets.ingest.usage.allocations import COLUMNS
from finops_assets.ingest.usage.landing import load_usage, usage_days, usage_fingerprint
from finops_assets.settings.clusters import Cluster
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import ROW_GROUP_ROWS, connect, one_file
from finops_assets.storage.lake import Key, Lake

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
        self.connection.execute(SHARES)
        [(parents,)] = self.connection.execute(f"CREATE OR REPLACE TEMP TABLE parents AS {self._parents()}").fetchall()
        target = lake.day_file("split", *key)
        if parents:
            self._workloads()
            with lake.replacing(target, blind=True) as temporary:
                self.connection.execute(
                    f"COPY ({self._rows()}) TO {literal(str(temporary))}"
                    # Facts take these column chunks over as they are: the lowest level makes them no larger, with a sixth less work.
                    f" (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
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
        # What is idle is told by the node's name alone, in place of its provider id: the cluster's other rows have it.
        for made in (
            f"told AS {' UNION ALL '.join(parts) or nothing}",
            """named AS
                WITH listed AS (
                    SELECT place, cluster, node, max(provider_id) AS known FROM told WHERE provider_id <> node GROUP BY ALL
                )
                SELECT t.* REPLACE (coalesce(CASE WHEN t.provider_id IS DISTINCT FROM t.node THEN t.provider_id END, l.known)
                    AS provider_id) FROM told t LEFT JOIN listed l USING (place, cluster, node)""",
            """usage AS
                WITH numbered AS (
                    SELECT *, CAST(row_number() OVER (ORDER BY place, cluster, node, provider_id) AS INTEGER) AS node_id
                    FROM (SELECT DISTINCT place, cluster, coalesce(node, '') AS node, coalesce(provider_id, '') AS provider_id
                        FROM named)
                )
                SELECT u.*, n.node_id FROM named u JOIN numbered n ON u.place = n.place AND u.cluster = n.cluster
                    AND coalesce(u.node, '') = n.node AND coalesce(u.provider_id, '') = n.provider_id""",
        ):
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {made}")
        self.connection.execute("DROP TABLE told; DROP TABLE named")
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
        taken: dict[str, str] = {}
        nodes = []
        for ident, source, cluster, node, provider_id in found:
            keys = keys_of_node(provider_id, None) or keys_of_node(None, node)
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
            nodes.append(_Node(ident, source, cluster, node, provider_id, resource_ids, by, claimed))
        return nodes

    def _parents(self) -> str:
        """SQL: the rows of nodes that are split, each with its amounts in units."""
        units = ", ".join(
            f"{in_units(identifier(name))} // {WHOLE} AS {identifier(f'{name}_high')},"
            f" CAST({in_units(identifier(name))} % {WHOLE} AS BIGINT) AS {identifier(f'{name}_low')}"
            for name in SUMMED
        )
        kept = ", ".join(identifier(name) for name in KEPT)
        return f"SELECT {kept}, {units} FROM {self._raw} WHERE {_MATCHED} AND {MAY_SPLIT}"

    def _workloads(self) -> None:
        """The tables `sets`, the tag sets of rows, and `pairs`, of each and of what ran there the tag set of the part.

        Sets and workloads are numbered: parts are many, and are not joined by their texts.
        """
        for made in (
            "workloads AS SELECT CAST(row_number() OVER () AS INTEGER) AS workload_id, workload"
            " FROM (SELECT DISTINCT workload FROM shares)",
            "numbered AS SELECT s.* EXCLUDE (workload), w.workload_id FROM shares s JOIN workloads w USING (workload)",
            "sets AS SELECT CAST(row_number() OVER () AS INTEGER) AS set_id, tag_set_id, Tags"
            " FROM (SELECT DISTINCT tag_set_id, Tags FROM parents)",
        ):
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {made}")
        ran = self.connection.execute("SELECT workload_id, workload FROM workloads").fetchall()
        tags = {ident: workload_tags(text) for ident, text in ran}
        own = dict(self.connection.execute("SELECT set_id, Tags FROM sets").fetchall())
        met = self.connection.execute(
            "SELECT DISTINCT set_id, workload_id FROM (SELECT DISTINCT ResourceId, tag_set_id FROM parents)"
            " JOIN sets USING (tag_set_id) JOIN numbered USING (ResourceId)"
        ).fetchall()
        pairs = [{"set_id": s, "workload_id": w, "ident": tag_set_id(own[s], tags[w]), "tags": tags[w]} for s, w in met]
        kinds = _schema(set_id=pa.int32(), workload_id=pa.int32(), ident=pa.string(), tags=pa.string())
        self._put("pairs", pa.Table.from_pylist(pairs, kinds))
        register = {
            pair["ident"]: {"tag_set_id": pair["ident"], "Tags": own[pair["set_id"]], "AllocatedTags": pair["tags"]}
            for pair in pairs
        }
        enter_tag_sets(self.lake, self.source, pa.Table.from_pylist(list(register.values()), REGISTER_SCHEMA))

    def _rows(self) -> str:
        """SQL: the raw day with the rows of its nodes as their parts."""
        given = {
            "AllocatedMethodId": "s.method",
            "AllocatedMethodDetails": "s.details",
            "AllocatedResourceId": "s.resource",
            "AllocatedResourceName": "s.name",
            "AllocatedTags": "t.tags",
            "tag_set_id": "t.ident",
        }
        for name in SUMMED:
            # Cut where the share ends, less where it begins: nothing is lost between two parts.
            high, low = (f"p.{identifier(f'{name}_{which}')}" for which in ("high", "low"))
            cut = f"({low} * s.upto) // {WHOLE} - ({low} * s.before) // {WHOLE}"
            given[name] = of_units(f"{high} * (s.upto - s.before) + {cut}")
        part = ", ".join(f"{given[c]} AS {identifier(c)}" if c in given else f"p.{identifier(c)}" for c in KEPT)
        kept = ", ".join(identifier(name) for name in KEPT)
        return f"""
            SELECT {kept} FROM {self._raw} WHERE NOT coalesce({_MATCHED} AND {MAY_SPLIT}, false)
            UNION ALL BY NAME
            SELECT {part} FROM parents p JOIN sets o USING (tag_set_id) JOIN numbered s USING (ResourceId)
                JOIN pairs t USING (set_id, workload_id)
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
