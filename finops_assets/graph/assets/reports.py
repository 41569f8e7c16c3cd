"""Reports for people: small tables of the latest month, and the copy of the warehouse that people open."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date

import dagster as dg
import duckdb
import pandas as pd

from finops_assets.alerts.history import AlertHistory
from finops_assets.base.period import Period
from finops_assets.cost.accrual import committed
from finops_assets.cost.commitments import commitments, unused_by_owner
from finops_assets.cost.corrections import corrections
from finops_assets.cost.restatements import restatements
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.comparison import compare, latest_days, latest_month
from finops_assets.evaluate.reports import SERVICES_BY, TEAMS_BY, cost_by, untagged_by
from finops_assets.graph.assets.describe import bar_chart, shown
from finops_assets.graph.assets.follow import note_inputs
from finops_assets.graph.assets.report_tables import POOL, warehouse_table
from finops_assets.graph.keys import FACTS, PUBLISHED, ROLLUP
from finops_assets.judge.warehouse_behind import require_none_missing
from finops_assets.platform import Platform
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.rows import Rows

NOT_YET = "the rollup is empty: no day has passed its gates yet"


def require_rolled_up(connection: duckdb.DuckDBPyConnection, table: str = ROLLUP_TABLE) -> None:
    """Raises dg.Failure, which trying again does not mend, while no day has made a table of the rollup."""
    if not Warehouse.has(connection, table):
        raise dg.Failure(NOT_YET, allow_retries=False)


Query = Callable[[duckdb.DuckDBPyConnection, Period], Rows]
Span = Callable[[duckdb.DuckDBPyConnection], Period | None]


def _report(
    name: str, description: str, span: Span, query: Query, label: tuple[str, ...], figure: str, unit: str, owner: str
) -> dg.AssetsDefinition:
    @warehouse_table(
        ["reports", name],
        deps=[ROLLUP],
        group="reports",
        owner=owner,
        description=description,
    )
    def report(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        with platform.warehouse.reading() as connection:
            period = span(connection) if platform.warehouse.has(connection, ROLLUP_TABLE) else None
            if period is None:
                raise dg.Failure(NOT_YET, allow_retries=False)
            table = query(connection, period).frame()
            compared = compare(connection, period)
        charts = {
            f"chart {currency}": bar_chart(
                f"{name}, {period}, {currency}",
                [(" / ".join(str(row[c]) for c in label), float(row[figure])) for _, row in rows.head(12).iterrows()],
                unit or str(currency),
            )
            for currency, rows in table.groupby("currency", sort=False)
        }
        context.add_output_metadata(
            {
                "period": str(period),
                "period before": str(period.before),
                "days": str(compared),
                "days without figures": ", ".join(map(str, compared.missing)) or "none",
                "what is missing": "; ".join(compared.notes) or "nothing",
                "dagster/row_count": len(table),
                "table": shown(table),
                **charts,
            }
        )
        return table

    return report


def _table(
    name: str, description: str, query: Callable[[duckdb.DuckDBPyConnection], Rows], owner: str
) -> dg.AssetsDefinition:
    """A report over all days that are held, without a period."""

    @warehouse_table(
        ["reports", name],
        deps=[ROLLUP],
        group="reports",
        owner=owner,
        description=description,
    )
    def report(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        with platform.warehouse.reading() as connection:
            require_rolled_up(connection)
            table = query(connection).frame()
        context.add_output_metadata(
            {
                "dagster/row_count": len(table),
                "table": shown(table),
            }
        )
        return table

    return report


def report_assets(
    owner: str, published_after: Sequence[dg.AssetKey] = (), dimensions: Iterable[str] = ()
) -> list[dg.AssetsDefinition]:
    """The three reports and the published warehouse, which waits for what else is configured."""
    teams = _report(
        "cost_by_team",
        "What did each team spend this month, in effective and billed cost, against the same days of the month before?",
        latest_month,
        lambda connection, period: cost_by(connection, period, TEAMS_BY),
        TEAMS_BY,
        "effective_cost",
        "",
        owner,
    )
    untagged = _report(
        "untagged_by_provider",
        "Which share of the last 30 days' positive effective cost has no department, team, environment or other dimension, by"
        " provider?",
        latest_days,
        lambda connection, period: untagged_by(connection, period, dimensions=dimensions),
        ("provider",),
        "untagged_team_percent",
        "% without team",
        owner,
    )
    services = _report(
        "cost_by_service",
        "What did each service category cost this month, against the same days of the month before?",
        latest_month,
        lambda connection, period: cost_by(connection, period, SERVICES_BY),
        SERVICES_BY,
        "effective_cost",
        "",
        owner,
    )

    moved = _table(
        "restatements",
        "What moved since it was reported: per restatement, day, source, team and currency, the cost before and"
        " after. Reports as of a day: `finops report … --as-of`.",
        restatements,
        owner,
    )
    money = [
        _table(
            "commitments",
            "Per commitment discount and currency, over all days held: what the purchase was billed, what of it was used"
            " and not used, and whether its term is wholly held. Over a whole term both sides are equal.",
            commitments,
            owner,
        ),
        _table(
            "unused_commitments",
            "Unused commitment by its owner: the department and team that the Unused rows are attributed to.",
            unused_by_owner,
            owner,
        ),
        _table(
            "corrections",
            "What later bills brought to days before, by the billing period that brought it. The amounts are in those"
            " days' figures already.",
            corrections,
            owner,
        ),
        _table(
            "committed_cost",
            "What charges longer than a day still hold for days that are not reached, by month. These are no actuals.",
            committed,
            owner,
        ),
    ]

    @dg.asset(
        key=PUBLISHED,
        deps=[
            ROLLUP,
            FACTS,
            *published_after,
            teams,
            untagged,
            services,
            moved,
            *money,
            ["reports", "delivery_ledger"],
            ["reports", "repairs"],
            ["reports", "conformance"],
            "owner_acceptance",
            "forecast",
        ],
        group_name="reports",
        kinds={"duckdb"},
        owners=[owner],
        pool=POOL,
        description=(
            "The DuckDB file that people and BI tools open, for as long as they like: the rollup, the reports and a view"
            " over the facts. It is replaced at once; DuckDB 1.x can read it."
        ),
    )
    def published_warehouse(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult[None]:
        note_inputs(context)
        built = context.instance.get_materialized_partitions(ROLLUP)
        require_none_missing(platform, map(date.fromisoformat, built))
        with platform.warehouse.writing() as connection:
            AlertHistory.beside(platform.settings.warehouse).copy_to(connection)
        path = platform.warehouse.publish(platform.lake, platform.rules.dimensions)
        return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(str(path)), "bytes": path.stat().st_size})

    return [teams, untagged, services, moved, *money, published_warehouse]
