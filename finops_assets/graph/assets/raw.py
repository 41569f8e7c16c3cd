"""raw/<source>: one asset per configured source, made by a factory."""

import dagster as dg

from finops_assets.base.secrets import without_secrets
from finops_assets.base.text import markdown
from finops_assets.cost.engines.choose import spread_of
from finops_assets.graph.assets.deliveries import (
    INGESTION_RETRY,
    deliveries_key,
    land,
    landed,
    landing_pool,
    tried_once,
)
from finops_assets.graph.assets.describe import cost_by_currency, cost_figures, file_list, repair_counts
from finops_assets.graph.keys import raw_key
from finops_assets.graph.partitions import RANGE_RUNS
from finops_assets.graph.run_days import run_days
from finops_assets.ingest.raw_days import compose_days
from finops_assets.platform import Platform
from finops_assets.settings.sources import Source
from finops_assets.storage.ledger import Ledger


def raw_asset(source: Source, days: dg.PartitionsDefinition[str], owner: str) -> dg.AssetsDefinition:
    """The asset that lands a source's new deliveries once and writes its days."""

    @dg.asset(
        key=raw_key(source.name),
        deps=[deliveries_key(source.name)],
        partitions_def=days,
        backfill_policy=RANGE_RUNS,
        group_name="raw",
        kinds={"parquet", "focus"},
        owners=[owner],
        pool=landing_pool(source.name),
        retry_policy=INGESTION_RETRY,
        description=(
            f"{markdown(source.provider or source.name)} as exported ({source.layout}), one UTC charge day a partition: every"
            " FOCUS column of the file and its x_ columns, money as decimals, times in UTC, tags in one form,"
            " with source file and row. A new delivery is read once, whatever days it holds."
        ),
        metadata={
            "uri": without_secrets(source.uri),
            "layout": source.layout,
            "required": source.required,
            **({"shadow_of": source.shadow_of} if source.shadow_of else {}),
        },
    )
    def raw(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult[None]:
        settings = platform.settings
        days = run_days(context.op_execution_context)
        with tried_once():
            land(platform, source, context.log.info)
            context.log_event(landed(platform, source))
            spread = spread_of(settings.engine)
            composed = compose_days(platform.lake, settings.engine, source, days, settings.deadline(source), spread)
        generations = {g.scope: g for g in Ledger(platform.lake, source.name).all_live()}
        for day in composed:
            holding = [g for g in generations.values() if day.day in g.days]
            context.add_asset_metadata(
                {
                    "dagster/partition_row_count": day.totals.rows,
                    "billed cost": cost_by_currency(day.totals.billed),
                    "effective cost": cost_by_currency(day.totals.effective),
                    **cost_figures(day.totals.effective),
                    "changed": day.changed,
                    "deliveries": file_list(holding),
                    "repairs of these deliveries": repair_counts(holding),
                },
                partition_key=day.day.isoformat(),
            )
        return dg.MaterializeResult()

    return raw
