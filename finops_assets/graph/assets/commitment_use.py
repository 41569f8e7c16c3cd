"""commitment_use: what commitments covered by team, what of them was used, and what one more would have done."""

import dagster as dg
import pandas as pd

from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.commitment_use import COMMITMENT_USE, known_days, read_commitment_use
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.assets.reports import NOT_YET
from finops_assets.graph.keys import FACTS, ROLLUP
from finops_assets.platform import Platform

SHOWN = [
    "department", "team", "ServiceName", "CommitmentDiscountType", "currency", "eligible_cost", "coverage_percent",
    "utilisation_percent", "unused_cost", "one_more", "one_more_saved", "one_more_wasted",
]  # fmt: skip


def commitment_use_asset(owner: str) -> dg.AssetsDefinition:
    """The table `commitment_use` of the warehouse."""

    @warehouse_table(
        COMMITMENT_USE,
        deps=[ROLLUP, FACTS],
        group="evaluation",
        owner=owner,
        description=(
            "Commitments by team, service and kind, over 30, 60 and 90 days: how much of what they could cover they covered, how"
            " much of them was used, and what one unit more would have saved and wasted. docs/guides/commitments.md"
        ),
    )
    def commitment_use_table(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        with platform.warehouse.reading() as connection:
            if not platform.warehouse.has(connection, ROLLUP_TABLE):
                raise dg.Failure(NOT_YET, allow_retries=False)
            known = known_days(connection)
        settings = platform.settings
        table = read_commitment_use(platform.lake, settings.engine, platform.rules, settings.providers, known)
        month = table[(table["window_days"] == 30) & (table["scope"] == "team")]
        context.add_output_metadata({"dagster/row_count": len(table), "30 days, by team": shown(month[SHOWN])})
        return table

    return commitment_use_table
