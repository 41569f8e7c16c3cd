"""unit_costs: what one of something costs."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd

from finops_assets.evaluate.allocation.metric import MetricError
from finops_assets.evaluate.unit_costs.figures import LATELY, UNIT_COSTS, over_most, unit_costs, unusual_lately
from finops_assets.evaluate.unit_costs.quantities import read_quantities
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.assets.reports import require_rolled_up
from finops_assets.graph.keys import ROLLUP
from finops_assets.platform import Platform
from finops_assets.settings.model import Settings

WITHIN_LIMITS, AS_USUAL = "within_limits", "as_usual"


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
        check_specs=[
            dg.AssetCheckSpec(
                WITHIN_LIMITS,
                asset=UNIT_COSTS,
                description="In the newest month one costs no more than `most` of its unit cost in finops.yaml.",
            ),
            dg.AssetCheckSpec(
                AS_USUAL,
                asset=UNIT_COSTS,
                description=f"On its newest {LATELY} days one cost what is usual, by the limits of `anomalies` in finops.yaml.",
            ),
        ],
    )
    def unit_costs_table(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.Output[pd.DataFrame] | dg.AssetCheckResult]:
        dimensions = platform.settings.dimensions
        with platform.warehouse.reading() as connection:
            require_rolled_up(connection)
            try:
                quantities = read_quantities(
                    connection, metrics, list(dimensions), {name: d.values for name, d in dimensions.items()}
                )
            except MetricError as error:
                raise dg.Failure(str(error), allow_retries=False) from error
            table = unit_costs(connection, settings.unit_costs, quantities, settings.anomalies).frame()
        months = table[table["grain"] == "month"]
        never = sorted({cost.metric for cost in settings.unit_costs} - {q.metric for q in quantities})
        yield dg.Output(
            table,
            metadata={
                "quantities": len(quantities),
                "metrics that were never counted": ", ".join(never) or "none",
                "months": shown(months.drop(columns=["grain", "usual_per_unit", "unusual"])),
            },
        )
        for name, told, otherwise in (
            (WITHIN_LIMITS, over_most(table), "none that has a limit costs more"),
            (AS_USUAL, unusual_lately(table), f"no day of the newest {LATELY} is unusual"),
        ):
            yield dg.AssetCheckResult(
                check_name=name,
                passed=not told,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(told) or otherwise,
            )

    return [unit_costs_table]
