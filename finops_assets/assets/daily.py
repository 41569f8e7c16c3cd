"""cloud_cost_facts and daily_cost_by_team, with the gates between them, for one day or a range of days.

One step builds both, because only so can it materialise the good days of a range and leave the held
ones alone: Dagster itself would hold a whole range for one bad day, or materialise the bad day too.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

import dagster as dg

from finops_assets.assets.accepted import ACCEPTED, accepted_anew, accepted_input
from finops_assets.assets.converted import CONVERTED, converted_check_specs, converted_spec, materialize_converted
from finops_assets.assets.describe import (
    cost_by_currency,
    cost_figures,
    facts_lineage,
    rollup_lineage,
    schema_of,
)
from finops_assets.assets.follow import DATA_VERSION
from finops_assets.assets.report_tables import POOL
from finops_assets.checks.raw import FACTS, raw_check_keys, raw_key
from finops_assets.checks.recording import HELD_BEFORE, held_back, held_days, record, record_whole
from finops_assets.daily_tables import build_rollup, rollup_versions
from finops_assets.days import sum_totals
from finops_assets.facts import build_facts, facts_stamp
from finops_assets.gates import currency as currency_gates
from finops_assets.gates import facts as facts_gates
from finops_assets.gates import rollup as rollup_gates
from finops_assets.gates.verdict import Verdict
from finops_assets.ledger import Ledger
from finops_assets.partitions import RANGE_RUNS
from finops_assets.platform import Platform
from finops_assets.rollup import TABLE as ROLLUP_TABLE
from finops_assets.rollup import rollup_totals
from finops_assets.run_days import names_days, run_days
from finops_assets.settings import Settings
from finops_assets.tables import facts_table, grouped, table

ROLLUP = dg.AssetKey("daily_cost_by_team")
BUILD_STEP = "attribute_and_roll_up"


FACTS_GATES = [dg.AssetCheckKey(FACTS, gate) for gate in facts_gates.GATES if gate != facts_gates.ADVICE]
ROLLUP_GATES = [dg.AssetCheckKey(ROLLUP, gate) for gate in rollup_gates.GATES]


def raw_gates(settings: Settings) -> list[dg.AssetCheckKey]:
    """The checks that hold a raw day back: of each counted source that is required."""
    return [key for s in settings.counted if s.required for key in raw_check_keys(s.name)]


def blocking_gates(settings: Settings) -> list[dg.AssetCheckKey]:
    """Every check that holds a day back, from raw to rollup."""
    return [*raw_gates(settings), *FACTS_GATES, *ROLLUP_GATES]


def facts_check_specs(days: dg.PartitionsDefinition[str]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(gate, asset=FACTS, description=text, blocking=gate != facts_gates.ADVICE, partitions_def=days)
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
    sources = [raw_key(source.name) for source in settings.counted]
    currency = settings.currency

    @dg.multi_asset(
        name=BUILD_STEP,
        specs=[
            dg.AssetSpec(
                FACTS,
                deps=[*sources, ACCEPTED],
                skippable=True,
                partitions_def=days,
                group_name="facts",
                owners=[settings.owner],
                kinds={"parquet", "spark" if settings.engine.run_on else "duckdb"},
                code_version=rules.configured_version,
                description=(
                    "Every raw row of the day, exactly once, with department, team, environment, cost center (as"
                    " configured) and the tag key or rule that gave each. Untagged rows stay, with NULL dimensions."
                ),
                metadata={
                    "dagster/column_schema": schema_of(facts_table(rules.dimensions)),
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
                    f"Cost of the day by provider, {', '.join(grouped(rules.dimensions))}, service category and currency."
                    " Missing owners are `__untagged__`, a missing environment `__unknown__`."
                ),
                metadata={
                    "dagster/column_schema": schema_of(table(ROLLUP_TABLE, dimensions=rules.dimensions)),
                    "dagster/column_lineage": rollup_lineage(FACTS, rules.dimensions),
                    "dagster/table_name": "daily_cost_by_team",
                },
            ),
            *([converted_spec(settings, currency, ROLLUP, days)] if currency else []),
        ],
        check_specs=[
            *facts_check_specs(days),
            *rollup_check_specs(days),
            *(converted_check_specs(days) if currency else []),
        ],
        can_subset=True,
        backfill_policy=RANGE_RUNS,
        pool=POOL,
    )
    def attribute_and_roll_up(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.MaterializeResult[None]]:
        op = context.op_execution_context
        selected = context.selected_asset_keys
        checks = context.selected_asset_check_keys
        wanted = run_days(op, () if selected else checks)
        told: dict[dg.AssetKey, list[Verdict]] = {}
        held = held_days(context.instance, raw_gates(settings), wanted)
        free = [day for day in wanted if day not in held]

        if FACTS in selected:
            build_facts(
                platform.lake, settings.engine, platform.rules, platform.source_names, free, platform.shadow_names
            )
        judged = FACTS in selected or any(key.asset_key == FACTS for key in checks)
        verdicts = facts_gates.judge_facts(platform, free) if judged else []
        if FACTS in selected:
            _log_facts(context, platform, free, verdicts)
        if any(key.asset_key == FACTS for key in checks):
            verdicts = _record(context, FACTS, verdicts, told)
            _record(context, FACTS, _not_judged(facts_gates.GATES, held, advice=facts_gates.ADVICE), told)
        else:
            verdicts = []
        if selected != {FACTS} or checks:
            held |= _held(context.instance, FACTS_GATES, verdicts, free)
            free = [day for day in wanted if day not in held]

        if ROLLUP in selected:
            _materialize_rollup(context, platform, free)
        recorded: list[Verdict] = []
        if any(key.asset_key == ROLLUP for key in checks):
            recorded = _record(context, ROLLUP, rollup_gates.judge_rollup(platform, free), told)
            _record(context, ROLLUP, _not_judged(rollup_gates.GATES, held), told)
            for verdict in recorded:
                if verdict.holds:
                    held.setdefault(verdict.day, []).append(f"{ROLLUP.to_user_string()}:{verdict.gate} failed")

        to_convert = currency and (CONVERTED in selected or any(key.asset_key == CONVERTED for key in checks))
        if currency and to_convert:
            held |= _held(context.instance, ROLLUP_GATES, recorded, [day for day in wanted if day not in held])
            free = [day for day in wanted if day not in held]
            converted = materialize_converted(context, platform, currency, free, CONVERTED in selected)
            _record(context, CONVERTED, _not_judged(currency_gates.GATES, held), told)
            for verdict in _record(context, CONVERTED, converted, told):
                if verdict.holds:
                    reason = (
                        f"{CONVERTED.to_user_string()}:{verdict.gate} failed: {verdict.message} (the rollup is built)"
                    )
                    held.setdefault(verdict.day, []).append(reason)

        if not names_days(op):
            for asset in sorted({key.asset_key for key in checks}):
                names = [key.name for key in checks if key.asset_key == asset]
                record_whole(op, asset, told.get(asset, []), names)
        if held:
            raise held_back(held, "were built" if selected else "passed")
        yield from ()

    return attribute_and_roll_up


def _record(
    context: dg.AssetExecutionContext,
    asset: dg.AssetKey,
    verdicts: Iterable[Verdict],
    told: dict[dg.AssetKey, list[Verdict]],
) -> list[Verdict]:
    """Record what was judged of an asset, and keep it in `told`."""
    names = [key.name for key in context.selected_asset_check_keys if key.asset_key == asset]
    recorded = record(context.op_execution_context, asset, verdicts, names)
    told.setdefault(asset, []).extend(recorded)
    return recorded


def _held(
    instance: dg.DagsterInstance, gates: Sequence[dg.AssetCheckKey], judged: Sequence[Verdict], days: Sequence[date]
) -> dict[date, list[str]]:
    """The days that gates hold: by what this run judged, else by the history.

    The history would not do for both: it calls a gate unfinished that another run of these days has planned, and the two
    would hold each other. The pool lets only one of them be here.
    """
    held: dict[date, list[str]] = {}
    for gate in gates:
        own = {v.day: v for v in judged if v.gate == gate.name}
        found = held_days(instance, [gate], [day for day in days if day not in own])
        found |= {day: [f"{gate.to_user_string()} failed"] for day, v in own.items() if v.holds}
        for day, reasons in found.items():
            held.setdefault(day, []).extend(reasons)
    return held


def _not_judged(gates: Iterable[str], held: Mapping[date, Sequence[str]], advice: str = "") -> Iterator[Verdict]:
    """What a gate says of a day that never reached it: not passed, and who holds it."""
    for day, reasons in held.items():
        for gate in gates:
            yield Verdict(
                gate,
                day,
                passed=False,
                message=f"not judged: the day is held before it ({'; '.join(reasons)}); what was there before stands",
                blocking=gate != advice,
                figures={HELD_BEFORE: "; ".join(reasons)},
            )


def _log_facts(
    context: dg.AssetExecutionContext, platform: Platform, days: list[date], verdicts: list[Verdict]
) -> None:
    untagged = {
        v.day: "; ".join(f"{name} {figure}" for name, figure in v.figures.items())
        for v in verdicts
        if v.gate == facts_gates.ADVICE
    }
    inputs = _versions_by_day(context.instance, [raw_key(s) for s in platform.source_names], days)
    seen = accepted_anew(context.instance, platform.rules)
    if seen and days:
        context.log_event(seen)
    accepted = accepted_input(platform.rules)
    lake = platform.lake
    for day in days:
        held = {s: t for s in platform.source_names if (t := Ledger(lake, s).day_totals(day))}
        totals = sum_totals([*held.values()])
        stamps = [facts_stamp(lake, platform.rules, source, day) for source in held]
        context.log_event(
            dg.AssetMaterialization(
                FACTS,
                partition=day.isoformat(),
                metadata={
                    "dagster/partition_row_count": totals.rows,
                    "billed cost": cost_by_currency(totals.billed),
                    "effective cost": cost_by_currency(totals.effective),
                    **cost_figures(totals.effective),
                    "untagged": untagged.get(day) or "no dimension is required",
                    "sources": ", ".join(held),
                    "engine": platform.settings.engine.place,
                    "rules_version": platform.rules.version,
                },
                tags={
                    "dagster/code_version": platform.rules.configured_version,
                    DATA_VERSION: hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:16],
                    **accepted,
                    **inputs[day.isoformat()],
                },
            )
        )


def _materialize_rollup(context: dg.AssetExecutionContext, platform: Platform, days: list[date]) -> None:
    build_rollup(platform.lake, platform.warehouse, platform.rules, platform.settings, days)
    totals = rollup_totals(platform.warehouse, days) if days else {}
    versions = rollup_versions(platform.warehouse, days)
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
                    **cost_figures({c: t[2] for c, t in of_day.items()}),
                    "engine": platform.settings.engine.place,
                },
                tags={DATA_VERSION: versions[day]},
            )
        )


def _versions_by_day(
    instance: dg.DagsterInstance, sources: Sequence[dg.AssetKey], days: Iterable[date]
) -> dict[str, dict[str, str]]:
    """Tags by day that tell Dagster which raw materialisations a day was built from.

    With them and the code version Dagster calls a day out of date when its raw day or the rules changed.
    It writes them itself for assets whose materialisations it logs; a range with held days we log ourselves.
    """
    wanted = {day.isoformat() for day in days}
    tags: dict[str, dict[str, str]] = {day: {} for day in wanted}
    if not wanted:
        return tags
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    for source in sources:
        pointers = instance.get_latest_storage_id_by_partition(source, kind, wanted)
        versions = instance.event_log_storage.get_latest_tags_by_partition(
            source, kind, [DATA_VERSION], asset_partitions=sorted(wanted)
        )
        for day, storage_id in pointers.items():
            version = versions.get(day, {}).get(DATA_VERSION)
            if version is not None:
                tags[day][f"dagster/input_event_pointer/{source.to_user_string()}"] = str(storage_id)
                tags[day][f"dagster/input_data_version/{source.to_user_string()}"] = version
    return tags
