"""daily_tokens: what a million tokens cost, by day, model, type and whose they are."""

import dagster as dg
import pandas as pd

from finops_assets.evaluate.newest_facts import known_days
from finops_assets.evaluate.tokens import DAILY_TOKENS, read_tokens
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.assets.reports import require_rolled_up
from finops_assets.graph.keys import FACTS, ROLLUP
from finops_assets.platform import Platform


def tokens_asset(owner: str) -> dg.AssetsDefinition:
    """The table `daily_tokens` of the warehouse."""

    @warehouse_table(
        DAILY_TOKENS,
        deps=[ROLLUP, FACTS],
        group="evaluation",
        owner=owner,
        description=(
            "What tokens cost, of every bill that counts them, by day, model, type and whose they are: how many, their cost, and"
            " the price of a million. docs/guides/ai.md"
        ),
    )
    def tokens_table(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        with platform.warehouse.reading() as connection:
            require_rolled_up(connection)
            known = known_days(connection)
        settings = platform.settings
        table = read_tokens(platform.lake, settings.engine, settings.providers, settings.dimensions, known)
        models = sorted({str(model) for model in table["model"].tolist()})
        context.add_output_metadata({"dagster/row_count": len(table), "models": ", ".join(models[:50]) or "none"})
        return table

    return tokens_table
