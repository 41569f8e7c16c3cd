"""daily_tokens: what a million tokens cost, by day, model, type and whose they are."""

import dagster as dg

from finops_assets.base.content import version_of_table
from finops_assets.evaluate.newest_facts import known_days
from finops_assets.evaluate.tokens import DAILY_TOKENS, bring_up_to_date
from finops_assets.graph.assets.describe import schema_of
from finops_assets.graph.assets.follow import note_inputs
from finops_assets.graph.assets.report_tables import POOL
from finops_assets.graph.assets.reports import require_rolled_up
from finops_assets.graph.keys import FACTS, ROLLUP
from finops_assets.platform import Platform
from finops_assets.tables.declarations import table

MODELS_SHOWN = 50


def tokens_asset(owner: str) -> dg.AssetsDefinition:
    """The table `daily_tokens` of the warehouse."""

    @dg.asset(
        key=DAILY_TOKENS,
        deps=[ROLLUP, FACTS],
        group_name="evaluation",
        kinds={"duckdb"},
        owners=[owner],
        pool=POOL,
        description=(
            "What tokens cost, of every bill that counts them, by day, model, type and whose they are: how many, their cost, and"
            " the price of a million. Days are made anew where their facts changed. docs/guides/ai.md"
        ),
        metadata={"dagster/table_name": DAILY_TOKENS, "dagster/column_schema": schema_of(table(DAILY_TOKENS))},
    )
    def daily_tokens(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult[None]:
        note_inputs(context)
        with platform.warehouse.writing() as connection:
            require_rolled_up(connection)
            known = known_days(connection)
            made = bring_up_to_date(connection, platform.warehouse, platform.lake, platform.settings, known)
            version = version_of_table(connection, DAILY_TOKENS)
            [(rows,)] = connection.execute(f"SELECT count(*) FROM {DAILY_TOKENS}").fetchall()
            models = connection.execute(f"SELECT DISTINCT model FROM {DAILY_TOKENS} ORDER BY 1").fetchall()
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version),
            metadata={
                "dagster/row_count": rows,
                "days made anew": len(made),
                "models": ", ".join(model for (model,) in models[:MODELS_SHOWN]) or "none",
            },
        )

    return daily_tokens
