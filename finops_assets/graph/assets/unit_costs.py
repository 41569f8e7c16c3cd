"""unit_costs: what one of something costs."""

import dagster as dg
import pandas as pd

from finops_assets.evaluate.allocation.metric import MetricError
from finops_assets.evaluate.unit_costs.figures import UNIT_COSTS, unit_costs
from finops_assets.evaluate.unit_costs.quantities import read_quantities
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.assets.reports import require_rolled_up
from finops_assets.graph.keys import ROLLUP
from finops_assets.platform import Platform
from finops_assets.settings.model import Settings


def unit_cost_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The table `unit_costs`, where finops.yaml has any."""
    metrics = settings.unit_metrics
    if metrics is None or not settings.unit_costs:
        return []

    @warehouse_table(
        UNIT_COSTS,
        deps=[ROLLUP, *([dg.AssetKey(metrics.table.split("."))] if metrics.table else [])],
        group="evaluation",
        owner=settings.owner,
        description=(
            "What one of something costs (an order, a customer, a request), by day, week and month: cost of a selection of the"
            " rollup by a quantity. Days count of which both are known. docs/guides/unit-costs.md"
        ),
    )
    def unit_costs_table(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        dimensions = platform.settings.dimensions
        with platform.warehouse.reading() as connection:
            require_rolled_up(connection)
            try:
                quantities = read_quantities(
                    connection, metrics, list(dimensions), {name: d.values for name, d in dimensions.items()}
                )
            except MetricError as error:
                raise dg.Failure(str(error), allow_retries=False) from error
            table = unit_costs(connection, settings.unit_costs, quantities)
        months = table[table["grain"] == "month"]
        never = sorted({cost.metric for cost in settings.unit_costs} - {q.metric for q in quantities})
        context.add_output_metadata(
            {
                "quantities": len(quantities),
                "metrics that were never counted": ", ".join(never) or "none",
                "months": shown(months.drop(columns=["grain"])),
            }
        )
        return table

    return [unit_costs_table]
