"""cloud_cost_facts and daily_cost_by_team, with the gates between them, for one day or a range of days.

One step builds both, because only so can it materialise the good days of a range and leave the held
ones alone: Dagster itself would hold a whole range for one bad day, or materialise the bad day too.
"""

import hashlib
from collections.abc import Iterator
from datetime import date

import dagster as dg

from finops_assets.assets.describe import (
    cost_by_currency,
    facts_lineage,
    facts_schema,
    rollup_lineage,
    rollup_schema,
)
from finops_assets.checks.raw import raw_check_keys, raw_key
from finops_assets.checks.recording import explain_held, held_days, record
from finops_assets.facts import build_facts, facts_stamp
from finops_assets.gates import facts as facts_gates
from finops_assets.gates import rollup as rollup_gates
from finops_assets.partitions import RANGE_RUNS
from finops_assets.platform import Platform
from finops_assets.rollup import build_rollup, rollup_totals
from finops_assets.run_days import run_days

FACTS = dg.AssetKey("cloud_cost_facts")
ROLLUP = dg.AssetKey("daily_cost_by_team")
POOL = "warehouse"


def facts_check_specs(days: dg.PartitionsDefinition[str]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            gate, asset=FACTS, description=text, blocking=gate != facts_gates.ADVICE, partitions_def=days
        )
        for gate, text in facts_gates.GATES.items()
    ]


def rollup_check_specs(days: dg.PartitionsDefinition[str]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(gate, asset=ROLLUP, description=text, blocking=True, partitions_def=days)
        for gate, text in rollup_gates.GATES.items()
    ]


def daily_assets(platform: Platform, days: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """Facts and rollup. A held day is neither built nor shown as built; it fails the run after all others are done."""
    settings, rules = platform.settings, platform.rules
    sources = [raw_key(source.name) for source in settings.sources]
    raw_gates = [key for s in settings.sources if s.required for key in raw_check_keys(s.name)]
    facts_gate_keys = [dg.AssetCheckKey(FACTS, g) for g in facts_gates.GATES if g != facts_gates.ADVICE]

    @dg.multi_asset(
        name="attribute_and_roll_up",
        specs=[
            dg.AssetSpec(
                FACTS,
                deps=sources,
                skippable=True,
                partitions_def=days,
                group_name="facts",
                owners=[settings.owner],
                kinds={"parquet", "duckdb"},
                code_version=rules.version,
                description=(
                    "Every raw row of the day, exactly once, with department, team, environment, cost center (as"
                    " configured) and the tag key that gave each. Untagged rows stay, with NULL dimensions."
                ),
                metadata={
                    "dagster/column_schema": facts_schema(rules),
                    "dagster/column_lineage": facts_lineage(rules, sources),
                    "rules_version": rules.version,
                },
            ),
            dg.AssetSpec(
                ROLLUP,
                deps=[FACTS],
                skippable=True,
                partitions_def=days,
                group_name="rollup",
                owners=[settings.owner],
                kinds={"duckdb"},
                description=(
                    "Cost of the day by provider, department, team, environment, service category and currency."
                    " Missing owners are __untagged__, a missing environment __unknown__."
                ),
                metadata={
                    "dagster/column_schema": rollup_schema(),
                    "dagster/column_lineage": rollup_lineage(FACTS),
                    "dagster/table_name": "daily_cost_by_team",
                },
            ),
        ],
        check_specs=[*facts_check_specs(days), *rollup_check_specs(days)],
        can_subset=True,
        backfill_policy=RANGE_RUNS,
        pool=POOL,
    )
    def attribute_and_roll_up(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.MaterializeResult[None]]:
        op = context.op_execution_context
        wanted = run_days(op)
        selected = context.selected_asset_keys
        checks = context.selected_asset_check_keys
        held = held_days(context.instance, raw_gates, wanted)
        free = [day for day in wanted if day not in held]

        if FACTS in selected:
            _materialize_facts(context, platform, free)
        if any(key.asset_key == FACTS for key in checks):
            _judge(context, FACTS, checks, facts_gates.judge_facts(platform, free))

        if ROLLUP in selected:
            held |= held_days(context.instance, facts_gate_keys, free)
            free = [day for day in wanted if day not in held]
            _materialize_rollup(context, platform, free)
        if any(key.asset_key == ROLLUP for key in checks):
            failed = _judge(context, ROLLUP, checks, rollup_gates.judge_rollup(platform, free))
            held |= {day: reasons for day, reasons in failed.items()}
        elif any(key.asset_key == FACTS for key in checks):
            held |= held_days(context.instance, facts_gate_keys, free)

        if held:
            raise dg.Failure(explain_held(held), allow_retries=False)
        yield from ()

    return attribute_and_roll_up


def _judge(context: dg.AssetExecutionContext, asset: dg.AssetKey, checks: set[dg.AssetCheckKey], verdicts: list) -> dict[date, list[str]]:
    names = [key.name for key in checks if key.asset_key == asset]
    recorded = record(context.op_execution_context, asset, verdicts, names)
    held: dict[date, list[str]] = {}
    for verdict in recorded:
        if verdict.holds:
            held.setdefault(verdict.day, []).append(f"{asset.to_user_string()}:{verdict.gate} failed: {verdict.message}")
    return held


def _materialize_facts(context: dg.AssetExecutionContext, platform: Platform, days: list[date]) -> None:
    built = build_facts(platform.lake, platform.settings.engine, platform.rules, platform.source_names, days)
    for day in days:
        of_day = [b for b in built if b.day == day]
        records = [r for b in of_day if (r := platform.lake.read_record(b.source, "days", day.isoformat()))]
        stamps = [facts_stamp(platform.lake, platform.rules, b.source, day) for b in of_day]
        context.log_event(
            dg.AssetMaterialization(
                FACTS,
                partition=day.isoformat(),
                metadata={
                    "dagster/partition_row_count": sum(r["totals"]["rows"] for r in records),
                    "sources": ", ".join(b.source for b in of_day),
                    "written": ", ".join(b.source for b in of_day if b.written) or "none: nothing had changed",
                    "rules_version": platform.rules.version,
                },
                tags=_version_tags(platform.rules.version, "\n".join(stamps)),
            )
        )


def _materialize_rollup(context: dg.AssetExecutionContext, platform: Platform, days: list[date]) -> None:
    build_rollup(platform.lake, platform.warehouse, platform.rules, platform.settings, days)
    totals = rollup_totals(platform.warehouse, days) if days else {}
    for day in days:
        of_day = totals.get(day, {})
        context.log_event(
            dg.AssetMaterialization(
                ROLLUP,
                partition=day.isoformat(),
                metadata={
                    "dagster/partition_row_count": sum(t[0] for t in of_day.values()),
                    "billed cost": cost_by_currency({c: t[1] for c, t in of_day.items()}),
                    "effective cost": cost_by_currency({c: t[2] for c, t in of_day.items()}),
                },
            )
        )


def _version_tags(code_version: str, content: str) -> dict[str, str]:
    """What Dagster compares to call a day out of date: the rules in force, and what the day was built from."""
    return {
        "dagster/code_version": code_version,
        "dagster/data_version": hashlib.sha256(content.encode()).hexdigest()[:16],
    }
