"""commitment_use: what commitments covered by team, what of them was used, and what one more would have done."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd

from finops_assets.evaluate.commitment_use import COMMITMENT_USE, money_apart, read_commitment_use
from finops_assets.evaluate.newest_facts import known_days
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.assets.reports import require_rolled_up
from finops_assets.graph.keys import FACTS, ROLLUP
from finops_assets.platform import Platform
from finops_assets.tables.rows import Rows

SAME_MONEY = "same_money"
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
        check_specs=[
            dg.AssetCheckSpec(
                SAME_MONEY,
                asset=COMMITMENT_USE,
                description=(
                    "What was used and not used in the longest span is, by source and currency, that of daily_commitments on the same"
                    " days, to the last digit."
                ),
            )
        ],
    )
    def commitment_use_table(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.Output[pd.DataFrame] | dg.AssetCheckResult]:
        with platform.warehouse.reading() as connection:
            require_rolled_up(connection)
            known = known_days(connection)
        settings = platform.settings
        table = read_commitment_use(platform.lake, settings.engine, settings.providers, known).frame()
        month = table[(table["window_days"] == 30) & (table["scope"] == "team")]
        yield dg.Output(table, metadata={"dagster/row_count": len(table), "30 days, by team": shown(month[SHOWN])})
        with platform.warehouse.reading() as connection:
            apart = money_apart(connection, Rows.of(table), known)
        yield dg.AssetCheckResult(
            check_name=SAME_MONEY,
            passed=not apart,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(apart) + ". Next: run the days that changed" if apart else "equal to the last digit",
        )

    return commitment_use_table
