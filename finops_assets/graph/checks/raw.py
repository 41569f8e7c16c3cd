"""The checks of a raw/<source> asset: complete, conforms, plausible; one verdict per day each."""

from collections.abc import Iterator

import dagster as dg

from finops_assets.graph.day_verdicts import held_back, record, record_whole
from finops_assets.graph.keys import FACTS, raw_key
from finops_assets.graph.run_days import names_days, run_days
from finops_assets.judge.gates import raw as gates
from finops_assets.platform import Platform
from finops_assets.settings.sources import Source


def raw_checks(source: Source, days: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    """The checks of one source. They block if the source is required, else they warn."""
    key = raw_key(source.name)

    @dg.multi_asset_check(
        name=f"raw_{source.name}_gates",
        specs=[
            dg.AssetCheckSpec(gate, asset=key, description=text, blocking=source.required, partitions_def=days)
            for gate, text in gates.GATES.items()
        ],
        can_subset=True,
    )
    def judge(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        op = context.op_execution_context
        verdicts = gates.judge_raw(platform, source, run_days(op, context.selected_asset_check_keys))
        selected = [check.name for check in context.selected_asset_check_keys]
        recorded = record(op, key, verdicts, selected)
        if not names_days(op):
            record_whole(op, key, recorded, selected)
        held = {v.day: [f"{v.gate}: {v.message}"] for v in recorded if v.holds and not v.awaited}
        if held and FACTS not in context.op_execution_context.job_def.asset_layer.executable_asset_keys:
            # Where facts are in the run they say so, once the good days are built.
            raise held_back(held, "passed")
        yield from ()

    return judge
