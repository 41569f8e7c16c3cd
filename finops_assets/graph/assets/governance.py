"""Tag governance: coverage against the target, values outside the canon, keys that map to nothing, and who owes what."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pandas as pd

from finops_assets.base.content import version_of
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.governance.policy import RECENT_DAYS, read_policy
from finops_assets.evaluate.governance.tags import WEEKS, judge_tags, weeks_before
from finops_assets.evaluate.governance.target import judge_target
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.follow import note_inputs
from finops_assets.graph.assets.report_tables import IO_MANAGER, POOL, in_schema
from finops_assets.graph.assets.reports import NOT_YET
from finops_assets.graph.keys import FACTS, ROLLUP
from finops_assets.platform import Platform

GROUP = "evaluation"
COVERAGE, OUTSIDE, UNMAPPED, DEBT = "tag_coverage", "tag_values_outside_canon", "tag_keys_unmapped", "tag_debt"
TARGET_CHECK = "target_reached"
DESCRIBED = {
    COVERAGE: (
        f"Cost without each required dimension, of {WEEKS} weeks: in total, by provider, account and department, against"
        " the target of the tag policy. docs/guides/governance.md"
    ),
    OUTSIDE: (
        f"Values of the last {RECENT_DAYS} days that are none of the canonical ones, with the money on them and the"
        " nearest canonical one."
    ),
    UNMAPPED: (
        f"Tag keys of the last {RECENT_DAYS} days that carry no dimension, with the money on them and the dimension whose"
        " values they seem to hold: `finops tags suggest-aliases`."
    ),
    DEBT: (
        f"Who owes which tags: cost of the last {RECENT_DAYS} days without a required dimension, or with a value outside"
        " the canon, by champion, department and account."
    ),
}


def governance_assets(owner: str) -> dg.AssetsDefinition:
    """The four tables, made by one look at the facts, and the check of the target."""

    @dg.multi_asset(
        name="tag_governance",
        deps=[ROLLUP, FACTS],
        group_name=GROUP,
        pool=POOL,
        outs={
            name: dg.AssetOut(
                key=name,
                kinds={"pandas", "duckdb"},
                owners=[owner],
                io_manager_key=IO_MANAGER,
                metadata=in_schema(dg.AssetKey(name)),
                description=text,
            )
            for name, text in DESCRIBED.items()
        },
        check_specs=[
            dg.AssetCheckSpec(
                TARGET_CHECK,
                asset=COVERAGE,
                description="Once the target's date has passed, cost without a required dimension is below it.",
            )
        ],
    )
    def tag_governance(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.Output[pd.DataFrame] | dg.AssetCheckResult]:
        note_inputs(context)
        policy = read_policy(platform.settings)
        days = built_days(platform)
        if not days:
            raise dg.Failure(NOT_YET, allow_retries=False)
        found = judge_tags(platform.lake, platform.settings, platform.rules, policy, days)
        verdict = judge_target(policy, found.coverage, found.debt, found.recent, datetime.now(UTC).date())
        tables = {COVERAGE: found.coverage, OUTSIDE: found.outside, UNMAPPED: found.unmapped, DEBT: found.debt}
        for name, table in tables.items():
            yield dg.Output(
                table,
                name,
                data_version=dg.DataVersion(version_of(table)),
                metadata={
                    "days": f"{days[0] if name == COVERAGE else found.recent[0]} to {days[-1]}",
                    "dagster/row_count": len(table),
                    "table": shown(table),
                },
            )
        yield dg.AssetCheckResult(
            check_name=TARGET_CHECK,
            asset_key=COVERAGE,
            passed=verdict.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=verdict.message,
            metadata=verdict.figures,
        )

    return tag_governance


def built_days(platform: Platform) -> list[date]:
    """The days of the last weeks whose rollup stands; held days are left out, as in every report."""
    with platform.warehouse.reading() as connection:
        if not platform.warehouse.has(connection, ROLLUP_TABLE):
            return []
        newest = connection.execute(f"SELECT max(charge_date) FROM {ROLLUP_TABLE}").fetchall()[0][0]
        if newest is None:
            return []
        wanted = weeks_before(newest + timedelta(days=1))
        rows = connection.execute(
            f"SELECT DISTINCT charge_date FROM {ROLLUP_TABLE} WHERE charge_date >= ? ORDER BY 1", [wanted[0]]
        ).fetchall()
    return [day for (day,) in rows]
