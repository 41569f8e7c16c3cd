"""sparse_groups: which departments and teams have too few resources to be cost centers, by day."""

import dagster as dg

from finops_assets.base.content import version_of_table
from finops_assets.cost.sparse import (
    COST_CENTERS,
    SPARSE,
    SPARSE_GROUPS,
    bring_up_to_date,
    sparse_report,
    sparse_shares,
)
from finops_assets.evaluate.comparison import latest_month
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.follow import note_inputs
from finops_assets.graph.assets.report_tables import POOL
from finops_assets.graph.assets.reports import NOT_YET, require_rolled_up
from finops_assets.graph.keys import FACTS, ROLLUP
from finops_assets.platform import Platform
from finops_assets.settings.model import Settings


def sparse_asset(settings: Settings) -> dg.AssetsDefinition:
    """The table `sparse_groups` and the view `daily_cost_by_cost_center`."""
    groups = settings.sparse_groups

    @dg.asset(
        key=SPARSE_GROUPS,
        deps=[ROLLUP, FACTS],
        group_name="evaluation",
        kinds={"duckdb"},
        owners=[settings.owner],
        pool=POOL,
        description=(
            f"By day, department and team: the distinct resources of the trailing {groups.days} days. Below"
            f" {groups.min_resources} (unless overridden) a team is shown as `{SPARSE}` in the view {COST_CENTERS}; its department"
            " and its cost stay. docs/guides/governance.md"
        ),
        metadata={"dagster/table_name": SPARSE_GROUPS},
    )
    def sparse_groups(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult[None]:
        note_inputs(context)
        with platform.warehouse.writing() as connection:
            require_rolled_up(connection)
            made = bring_up_to_date(platform.lake, platform.warehouse, connection, settings, platform.rules)
            month = latest_month(connection)
            if month is None:
                raise dg.Failure(NOT_YET, allow_retries=False)
            table, shares = sparse_report(connection, month).frame(), sparse_shares(connection, month)
            version = version_of_table(connection, SPARSE_GROUPS)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version),
            metadata={
                "days made anew": len(made),
                "period": str(month),
                "sparse groups": len(table[["department", "team"]].drop_duplicates()),
                **{f"sparse share {currency} %": round(share, 2) for currency, share in shares.items()},
                "table": shown(table),
            },
        )

    return sparse_groups
