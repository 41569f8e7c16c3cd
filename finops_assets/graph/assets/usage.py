"""usage/<name>: what ran on clusters, landed once; and cluster_nodes, which nodes were split and which were not."""

import dagster as dg
import pandas as pd

from finops_assets.base.errors import FinopsError, LakeError
from finops_assets.base.secrets import without_secrets
from finops_assets.base.text import markdown
from finops_assets.evaluate.clusters import cluster_nodes, clusters_by
from finops_assets.graph.assets.deliveries import BY_DAY, INGESTION_RETRY, landing_pool, tried_once
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.keys import DATA_VERSION, FACTS, usage_key
from finops_assets.ingest.usage.landing import land_usage, landed_usage
from finops_assets.platform import Platform
from finops_assets.settings.clusters import Cluster
from finops_assets.settings.model import Settings


def usage_asset(cluster: Cluster, owner: str) -> dg.AssetsDefinition:
    """Land what is new of a cluster's usage. Its days follow: the sensor asks for those that it changed."""

    @dg.asset(
        key=usage_key(cluster.name),
        group_name="deliveries",
        kinds={"parquet", "kubernetes"},
        owners=[owner],
        pool=landing_pool(cluster.name),
        retry_policy=INGESTION_RETRY,
        description=(
            f"What ran on the nodes of {markdown(cluster.cluster or cluster.name)}, as {cluster.layout} exported it: each file"
            " read once, by UTC day. The charges of nodes are split by it; it gives shares, never money."
        ),
        metadata={"uri": without_secrets(cluster.uri), "layout": cluster.layout, "idle": cluster.idle},
    )
    def usage(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult[None]:
        settings, lake = platform.settings, platform.lake
        with tried_once():
            land_usage(lake, settings.engine, cluster, settings.first_day, context.log.info)
        for file in landed_usage(lake, cluster.name).values():
            if file.reason:
                context.log.warning(file.reason)
        return dg.MaterializeResult(metadata=_figures(platform, cluster), data_version=dg.DataVersion(BY_DAY))

    return usage


def land_before_facts(context: dg.AssetExecutionContext, platform: Platform) -> None:
    """What is new of usage, before facts are made of days. A place that cannot be listed holds no bill: what was landed
    counts, and the days are made anew once there is more."""
    settings = platform.settings
    for cluster in settings.clusters:
        try:
            changed = land_usage(platform.lake, settings.engine, cluster, settings.first_day, context.log.info)
        except LakeError:
            raise
        except FinopsError as error:
            context.log.warning(f"{error}; the days are made with the usage that was landed before")
            continue
        if changed:
            context.log_event(
                dg.AssetMaterialization(
                    usage_key(cluster.name), metadata=_figures(platform, cluster), tags={DATA_VERSION: BY_DAY}
                )
            )


def _figures(platform: Platform, cluster: Cluster) -> dict[str, dg.MetadataValue | int]:
    files = landed_usage(platform.lake, cluster.name)
    refused = [{"file": file.key, "reason": file.reason} for file in files.values() if file.reason]
    days = {day for file in files.values() for day in file.days}
    return {
        "files": len(files),
        "days": len(days),
        "newest day": dg.MetadataValue.text(str(max(days, default="none"))),
        "refused": shown(pd.DataFrame(refused, columns=["file", "reason"])),
    }


def cluster_nodes_asset(settings: Settings) -> dg.AssetsDefinition:
    """Every node of every day, and what became of its charges, as a table that people can query."""

    @warehouse_table(
        ["reports", "cluster_nodes"],
        deps=[FACTS],
        group="reports",
        owner=settings.owner,
        description=(
            "Every node of a cluster by day: its charges split by what ran on it, of which idle; nodes with charges and no"
            " usage; usage of nodes that no bill charges. docs/guides/clusters.md"
        ),
    )
    def cluster_nodes_table(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        table = cluster_nodes(platform.lake, platform.settings.engine, platform.source_names)
        context.add_output_metadata({"by cluster": shown(clusters_by(table).frame())})
        return table.frame()

    return cluster_nodes_table
