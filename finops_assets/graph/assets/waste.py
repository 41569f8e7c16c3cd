"""waste: charges that the bill itself shows to be for nothing."""

from collections import Counter

import dagster as dg
import pandas as pd

from finops_assets.evaluate.newest_facts import known_days
from finops_assets.evaluate.waste.find import WASTE, read_waste
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.assets.reports import require_rolled_up
from finops_assets.graph.keys import FACTS, ROLLUP
from finops_assets.platform import Platform

SHOWN = [
    "kind",
    "department",
    "team",
    "name",
    "ResourceId",
    "currency",
    "cost_a_month",
    "could_save",
    "certainty",
    "why",
]


def waste_asset(owner: str) -> dg.AssetsDefinition:
    """The table `waste` of the warehouse."""

    @warehouse_table(
        WASTE,
        deps=[ROLLUP, FACTS],
        group="evaluation",
        owner=owner,
        description=(
            "Charges that the bill itself shows to be for nothing, or of a class that is seldom right: idle addresses, what goes on"
            " after use ended, no traffic, storage classes, old snapshots; with money, rows, certainty and why. docs/guides/waste.md"
        ),
    )
    def waste_table(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        with platform.warehouse.reading() as connection:
            require_rolled_up(connection)
            known = known_days(connection)
        settings = platform.settings
        table = read_waste(platform.lake, settings.engine, settings.providers, known).frame()
        kinds = Counter(str(kind) for kind in table["kind"].tolist())
        context.add_output_metadata(
            {
                "dagster/row_count": len(table),
                "by kind": ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()) or "nothing was found",
                "the costliest": shown(table[SHOWN].head(20)),
            }
        )
        return table

    return waste_table
