"""The check of a source that shadows another: raw/<shadow>:agrees, a verdict per day that holds nothing."""

from collections.abc import Iterator

import dagster as dg

from finops_assets.graph.day_verdicts import record, record_whole
from finops_assets.graph.keys import raw_key
from finops_assets.graph.run_days import names_days, run_days
from finops_assets.judge.gates.shadow import GATE, judge_shadow
from finops_assets.platform import Platform
from finops_assets.settings.sources import Source


def shadow_check_key(shadow: Source) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(raw_key(shadow.name), GATE)


def shadow_check(shadow: Source, days: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    """Judged whenever a day of the shadow, or of the source that it shadows, is run."""
    other = str(shadow.shadow_of)

    @dg.multi_asset_check(
        name=f"raw_{shadow.name}_agrees",
        specs=[
            dg.AssetCheckSpec(
                GATE,
                asset=raw_key(shadow.name),
                additional_deps=[raw_key(other)],
                description=f"The day holds the same billed and effective cost as {other}, by service and account.",
                blocking=False,
                partitions_def=days,
            )
        ],
        can_subset=True,  # else Dagster asks for a result besides the verdicts of the days
    )
    def judge(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        op = context.op_execution_context
        days = run_days(op, context.selected_asset_check_keys)
        recorded = record(op, raw_key(shadow.name), judge_shadow(platform, shadow, days), [GATE])
        if not names_days(op):
            record_whole(op, raw_key(shadow.name), recorded, [GATE])
        yield from ()

    return judge
