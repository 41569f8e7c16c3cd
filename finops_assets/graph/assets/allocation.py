"""daily_cost_allocated: shared and untagged cost given to the teams that bear it, and what came of it this month."""

import dagster as dg
import pandas as pd

from finops_assets.base.content import version_of, version_of_table
from finops_assets.evaluate.allocation.balance import ALLOCATED_COST, CONSERVED, Unbalanced, unbalanced
from finops_assets.evaluate.allocation.days import bring_up_to_date, unknown_commitments
from finops_assets.evaluate.allocation.report import allocation, kept
from finops_assets.evaluate.comparison import latest_month
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.follow import note_inputs
from finops_assets.graph.assets.report_tables import POOL, warehouse_table
from finops_assets.graph.assets.reports import NOT_YET, require_rolled_up
from finops_assets.graph.keys import ROLLUP
from finops_assets.platform import Platform
from finops_assets.settings.model import Settings

GROUP = "evaluation"
READABLE, KNOWN = "quantities_are_readable", "names_are_known"
SHOWN = 5


def allocation_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The days and the report, where `shared_cost` has rules."""
    rules = settings.shared_cost
    tables = [rule.metric.table for rule in rules if rule.metric and rule.metric.table]

    @dg.asset(
        key=ALLOCATED_COST,
        deps=[ROLLUP, *(dg.AssetKey(table.split(".")) for table in dict.fromkeys(tables))],
        group_name=GROUP,
        kinds={"duckdb"},
        owners=[settings.owner],
        pool=POOL,
        check_specs=[
            dg.AssetCheckSpec(
                CONSERVED,
                asset=ALLOCATED_COST,
                blocking=True,
                description=(
                    "By day, currency and whose cost it was, billed and effective cost equal the rollup, to the last"
                    " digit. A day that does not is not kept, and nothing is published."
                ),
            ),
            dg.AssetCheckSpec(
                KNOWN, asset=ALLOCATED_COST, description="Every name in the rules and quantities is one that cost has."
            ),
            dg.AssetCheckSpec(
                READABLE, asset=ALLOCATED_COST, description="The quantities that cost is split by can be read."
            ),
        ],
        description=(
            f"The rollup's days after the rules {', '.join(rule.name for rule in rules)}: a row for each bearer, with"
            " rule, method, ratio and origin. Days are made anew where rollup, rules or quantities changed."
            " By day and team before and after: the view daily_chargeback. docs/guides/allocation.md"
        ),
        metadata={"dagster/table_name": ALLOCATED_COST},
    )
    def daily_cost_allocated(
        context: dg.AssetExecutionContext,
        platform: dg.ResourceParam[Platform],
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads it
        note_inputs(context)
        with platform.warehouse.writing() as connection:
            require_rolled_up(connection)
            made = bring_up_to_date(platform.warehouse, connection, rules)
            # A refused day is not in the table; all others are held against the rollup once more.
            wrong = made.refused or unbalanced(connection)
            month = latest_month(connection)
            stayed = kept(connection, month) if month else []
            unknown = unknown_commitments(connection, rules)
            there = platform.warehouse.has(connection, ALLOCATED_COST)
            version = version_of(stayed, version_of_table(connection, ALLOCATED_COST) if there else "")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version),
            metadata={
                "days made anew": len(made.days),
                "days gone": len(made.gone),
                "not split this month": "\n".join(stayed) or "nothing",
                "days whose commitments are not split until they are run again": ", ".join(map(str, unknown)) or "none",
            },
            check_results=[_conserved(wrong), _known(made.unknown), _readable(made.unread)],
        )

    @warehouse_table(
        ["reports", "allocation"],
        deps=[daily_cost_allocated],
        group=GROUP,
        owner=settings.owner,
        description="Showback and chargeback of this month side by side: own cost, given, received, and what is borne.",
    )
    def report(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        with platform.warehouse.reading() as connection:
            month = latest_month(connection)
            if month is None:
                raise dg.Failure(NOT_YET, allow_retries=False)
            table = allocation(connection, month).frame()
        context.add_output_metadata(
            {
                "period": str(month),
                "dagster/row_count": len(table),
                "table": shown(table),
            }
        )
        return table

    return [daily_cost_allocated, report]


def _conserved(wrong: list[Unbalanced]) -> dg.AssetCheckResult:
    days = sorted({u.day for u in wrong})
    shown = "; ".join(map(str, wrong[:SHOWN])) + (f"; … and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
    return dg.AssetCheckResult(
        passed=not wrong,
        check_name=CONSERVED,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{shown}. These days have no allocation: {', '.join(map(str, days))}. Next: run them again; if it"
        " stays, report it"
        if wrong
        else "equal to the rollup",
        metadata={"days": ", ".join(map(str, days)) or "none"},
    )


def _known(unknown: list[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not unknown,
        check_name=KNOWN,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(unknown) + ". Next: mend the name, or wait for its first cost" if unknown else "all are",
    )


def _readable(unread: list[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not unread,
        check_name=READABLE,
        severity=dg.AssetCheckSeverity.WARN,
        description="\n".join(unread) + "\nDays that were allocated stand; of new ones this cost stays where it was."
        if unread
        else "all are",
    )
