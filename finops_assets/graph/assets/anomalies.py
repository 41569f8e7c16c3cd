"""anomaly_history and anomaly_rates: what cost what nobody expected, and how often that was a false alarm."""

from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from finops_assets.cost.accrual import REPORTED_ACCRUALS
from finops_assets.evaluate.anomalies.evaluate import look
from finops_assets.evaluate.anomalies.history import ANOMALY_HISTORY, AnomalyHistory, history_table
from finops_assets.evaluate.anomalies.rates import ANOMALY_RATES, rates, rates_table, today
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.assets.reports import require_rolled_up
from finops_assets.graph.keys import FACTS, ROLLUP
from finops_assets.platform import Platform

GROUP = "evaluation"
SHOWN = [
    "id",
    "first_day",
    "department",
    "team",
    "ServiceCategory",
    "currency",
    "excess",
    "percent",
    "cause",
    "evidence",
]


def anomaly_assets(owner: str) -> list[dg.AssetsDefinition]:
    """The tables `anomaly_history` and `anomaly_rates` of the warehouse."""

    @warehouse_table(
        ANOMALY_HISTORY,
        deps=[ROLLUP, FACTS],
        group=GROUP,
        kinds={"numpy", "duckdb"},
        owner=owner,
        description=(
            "Days of a team's service, or of a costly resource, that cost what nobody expected: found once, with what"
            " moved and the likely cause, until they are over or the new level. Held and late days are gaps, not falls."
            " docs/guides/anomalies.md"
        ),
    )
    def anomaly_history(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        with platform.warehouse.reading() as connection:
            require_rolled_up(connection, REPORTED_ACCRUALS)
            looked = look(platform, connection, datetime.now(UTC))
        table = history_table(AnomalyHistory.beside(platform.settings.warehouse).all()).frame()
        still = table[table["resolved_at"].isna()]
        context.add_output_metadata(
            {
                "looked at": f"{looked.teams} series of teams and services, {looked.resources} resources",
                "newest day": str(looked.newest),
                "found in this run": len(looked.new),
                "changed in this run": len(looked.changed),
                "open": len(still),
                "dagster/row_count": len(table),
                "newest anomalies": shown(table[SHOWN]),
            }
        )
        return table

    @warehouse_table(
        ANOMALY_RATES,
        deps=[anomaly_history],
        group=GROUP,
        owner=owner,
        description=(
            "Of the anomalies that people judged, how many were false, by team, over 90 days; above 20 % with the sigma"
            " that the verdicts support."
        ),
    )
    def anomaly_rates(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        everything = AnomalyHistory.beside(platform.settings.warehouse).all()
        newest = max((a.last_day for a in everything), default=None)
        table = rates_table(rates(everything, platform.settings.anomalies, today(newest))).frame()
        advised = table[table["advice"] != ""]
        context.add_output_metadata(
            {
                "dagster/row_count": len(table),
                "teams to raise their sigma": len(advised),
                "table": shown(table),
            }
        )
        return table

    return [anomaly_history, anomaly_rates]
