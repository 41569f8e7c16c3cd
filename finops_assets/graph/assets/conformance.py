"""reports/conformance: which rules of FOCUS each source breaks, by day."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd

from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.follow import NEWEST_RAW_DAYS
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.keys import raw_key
from finops_assets.judge.conformance.report import keep_judged, kept_findings
from finops_assets.platform import Platform
from finops_assets.settings.model import Settings
from finops_assets.storage.ledger import Ledger, rows_after_today

CONFORMANCE = dg.AssetKey(["reports", "conformance"])
# What a provider still changes. Older days stand as they were judged; `finops conformance` judges any range anew.
NEWEST_DAYS = NEWEST_RAW_DAYS
SHOWN = 30


def conformance_check(source: str) -> str:
    return f"{source}_keeps_to_focus"


def conformance_asset(settings: Settings) -> dg.AssetsDefinition:
    """The broken rules of every source as a table. It judges only days whose rows or rules changed."""

    @warehouse_table(
        CONFORMANCE,
        deps=[raw_key(source.name) for source in settings.sources],
        group="reports",
        kinds={"pandas", "duckdb", "focus"},
        owner=settings.owner,
        description=(
            "Rules of FOCUS that each source breaks, by charge day: rule, rows, an example, the place in the"
            f" specification. The newest {NEWEST_DAYS} days of a source are judged, each once, and again when its rows or"
            " the rules change. It holds nothing back: that is for the gates."
        ),
        check_specs=[
            dg.AssetCheckSpec(
                conformance_check(source.name),
                asset=CONFORMANCE,
                description=(
                    f"No rule of FOCUS is broken in the newest days of {source.name}, and no charge lies after today. Warns,"
                    " holds nothing."
                ),
            )
            for source in settings.sources
        ],
    )
    def conformance(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.Output[pd.DataFrame] | dg.AssetCheckResult]:
        lake, tables, checks = platform.lake, [], []
        for source in settings.sources:
            newest = lake.days("raw", source.name)[-NEWEST_DAYS:]
            judged = keep_judged(platform, source, newest)
            context.log.info(f"{source.name}: {len(judged)} of {len(newest)} days judged, the others were")
            table = kept_findings(platform.lake, source.name)
            tables.append(table)
            recent = table[table["charge_date"].isin(newest)]
            broken = recent[(recent["state"] == "failed") & (recent["severity"] == "error")]
            late = rows_after_today(Ledger(lake, source.name).all_live())
            checks.append(
                dg.AssetCheckResult(
                    check_name=conformance_check(source.name),
                    passed=broken.empty and not late,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=_told(source.name, len(newest), broken) + (late and f"; {late}"),
                    metadata={"broken": shown(_by_rule(broken))},
                )
            )
        everything = pd.concat(tables, ignore_index=True)
        broken = everything[everything["state"] != "passed"]
        yield dg.Output(
            everything,
            metadata={
                "dagster/row_count": len(everything),
                "broken rules": shown(_by_rule(broken), SHOWN),
            },
        )
        yield from checks

    return conformance


def _by_rule(table: pd.DataFrame) -> pd.DataFrame:
    """Broken rules over the days of each source, the most rows first."""
    grouped = table.groupby(["source", "rule_id", "focus_version", "severity", "state"], dropna=False, as_index=False)
    summed = grouped.agg(
        days=("charge_date", "nunique"),
        newest=("charge_date", "max"),
        failing=("failing", "sum"),
        judged=("judged", "sum"),
        example=("example", "first"),
    )
    return summed.sort_values(["source", "severity", "failing"], ascending=[True, True, False])


def _told(source: str, days: int, broken: pd.DataFrame) -> str:
    if broken.empty:
        return f"{source}: no rule of severity error is broken in the newest {days} days"
    worst = broken.sort_values("failing", ascending=False).iloc[0]
    rules = broken["rule_id"].nunique()
    return (
        f"{source}: {rules} {'rule of FOCUS is' if rules == 1 else 'rules of FOCUS are'} broken in the newest {days} days,"
        f" most often {worst['rule_id']}: {worst['says']} (e.g. {worst['example']}, {worst['charge_date']})."
        f" Next: `finops conformance {source}`; have the export corrected, or put the column under known_gaps"
    )
