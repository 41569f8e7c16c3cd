"""Which nodes of clusters were split, by day, with their money; which had no usage, and which usage found no node."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from finops_assets.base.period import Period
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import by_source_and_day, connect, file_list
from finops_assets.storage.lake import Lake
from finops_assets.tables.rows import Rows

CLUSTER_NODES = "cluster_nodes"
COLUMNS = (
    "charge_date", "cluster", "node", "provider_id", "source", "ResourceId", "state", "matched_by", "currency",
    "billed_cost", "effective_cost", "idle_cost", "unsplit_cost", "pods", "usage_hours", "usage_cost",
)  # fmt: skip
BY_CLUSTER = (
    "cluster", "state", "currency", "nodes", "days", "billed_cost", "effective_cost", "idle_cost", "idle_percent",
    "unsplit_cost", "usage_cost",
)  # fmt: skip


def cluster_nodes(lake: Lake, engine: EngineSettings, sources: Iterable[str]) -> Rows:
    """Every node and day as facts were last made of it: COLUMNS.

    Usage is looked for in the bills of all sources: what one of them charges is not told as missing in the others.
    """
    files = [
        file for source in sources for file in lake.files(lake.root / "nodes" / f"source={source}", "*/data.parquet")
    ]
    if not files:
        return Rows(COLUMNS, ())
    query = f"""
        WITH told AS (SELECT * FROM {by_source_and_day(file_list(files))}),
        of_usage AS (
            SELECT *, bool_or(state IN ('split', 'claimed twice')) OVER (
                PARTITION BY charge_date, usage_source, cluster, coalesce(node, ''), coalesce(provider_id, '')
            ) AS found FROM told WHERE state <> 'no usage'
        ),
        shown AS (
            SELECT * EXCLUDE (found) FROM of_usage WHERE found AND state IN ('split', 'claimed twice')
            UNION ALL BY NAME
            SELECT DISTINCT * EXCLUDE (found, source) FROM of_usage WHERE NOT found
            UNION ALL BY NAME
            SELECT * FROM told WHERE state = 'no usage'
        )
        SELECT charge_date, cluster, node, provider_id, source, ResourceId, state, matched_by, BillingCurrency, billed_cost,
            effective_cost, idle_effective_cost, unsplit_effective_cost, pods, usage_hours, usage_cost
        FROM shown ORDER BY charge_date, cluster, state, node, ResourceId, BillingCurrency, provider_id
    """
    with lake.workspace() as workspace, connect(engine, workspace / "spill") as connection:
        rows = connection.execute(query).fetchall()
    return Rows(COLUMNS, rows)


def clusters_by(nodes: Rows) -> Rows:
    """A table like `cluster_nodes` by cluster, state and currency: BY_CLUSTER, the largest cost first."""
    # On a connection of its own: a charge that several nodes of a scale set share is one charge.
    with duckdb.connect() as connection:
        connection.register("nodes", nodes.frame())
        return _by_cluster(connection, "nodes")


def clusters_report(connection: duckdb.DuckDBPyConnection, period: Period) -> Rows:
    """The same of the published table, for these days."""
    wanted = f"(SELECT * FROM reports.{CLUSTER_NODES} WHERE charge_date >= $first AND charge_date < $end)"
    return _by_cluster(connection, wanted, {"first": period.first, "end": period.end})


def nodes_report(connection: duckdb.DuckDBPyConnection, period: Period) -> Rows:
    """Every node of the published table on these days: COLUMNS."""
    rows = connection.execute(
        f"SELECT {', '.join(COLUMNS)} FROM reports.{CLUSTER_NODES} WHERE charge_date >= $first AND charge_date < $end"
        " ORDER BY charge_date, cluster, state, node, ResourceId, currency",
        {"first": period.first, "end": period.end},
    ).fetchall()
    return Rows(COLUMNS, rows)


def _by_cluster(connection: duckdb.DuckDBPyConnection, relation: str, bound: dict[str, object] | None = None) -> Rows:
    rows = connection.execute(
        f"""
        WITH charges AS (
            SELECT charge_date, cluster, state, currency, coalesce(ResourceId, node, provider_id) AS machine,
                any_value(billed_cost) AS billed_cost, any_value(effective_cost) AS effective_cost,
                any_value(idle_cost) AS idle_cost, any_value(unsplit_cost) AS unsplit_cost, sum(usage_cost) AS usage_cost
            FROM {relation} GROUP BY ALL
        )
        SELECT cluster, state, currency, count(DISTINCT machine), count(DISTINCT charge_date), sum(billed_cost),
            sum(effective_cost), sum(idle_cost),
            round(CAST(100 * sum(idle_cost) / nullif(sum(effective_cost - coalesce(unsplit_cost, 0)), 0) AS DOUBLE), 1),
            sum(unsplit_cost), sum(usage_cost)
        FROM charges GROUP BY 1, 2, 3 ORDER BY currency, sum(effective_cost) DESC NULLS LAST, cluster, state
        """,
        bound or {},
    ).fetchall()
    return Rows(BY_CLUSTER, rows)
