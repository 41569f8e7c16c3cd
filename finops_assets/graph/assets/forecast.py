"""forecast: what the running month will have cost at its end."""

import dagster as dg
import pandas as pd

from finops_assets.cost.accrual import REPORTED_ACCRUALS
from finops_assets.evaluate.forecast.period import FORECAST, forecasts
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.assets.reports import NOT_YET, require_rolled_up
from finops_assets.graph.keys import ROLLUP
from finops_assets.platform import Platform

GROUP = "evaluation"


def forecast_asset(owner: str) -> dg.AssetsDefinition:
    """The table `forecast` of the warehouse."""

    @warehouse_table(
        FORECAST,
        deps=[ROLLUP],
        group=GROUP,
        kinds={"numpy", "duckdb"},
        owner=owner,
        description=(
            "What the month will have cost at its end, in total, by team, service category, provider and every dimension, and"
            " per currency, with 80 % and 95 % intervals learned from past forecasts. Held days are gaps, not falls;"
            " refused below two weeks of history. docs/guides/forecast.md"
        ),
    )
    def forecast(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        with platform.warehouse.reading() as connection:
            require_rolled_up(connection, REPORTED_ACCRUALS)
            table = forecasts(connection).frame()
        if table.empty:
            raise dg.Failure(NOT_YET, allow_retries=False)
        context.add_output_metadata(
            {
                "period": f"{table['period_start'].iloc[0]} up to {table['period_end'].iloc[0]}, exclusive",
                "dagster/row_count": len(table),
                "refused": int(table["refused"].notna().sum()),
                "table": shown(table.drop(columns=["period_start", "period_end"])),
            }
        )
        return table

    return forecast
