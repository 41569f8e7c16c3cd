"""cloud_cost_facts and daily_cost_by_team, with the gates between them, for one day or a range of days.

One step builds both, because only so can it materialise the good days of a range and leave the held
ones alone: Dagster itself would hold a whole range for one bad day, or materialise the bad day too.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

import dagster as dg

from finops_assets.cost.daily_tables import build_rollup, enter_not_rolled_up, rollup_versions
from finops_assets.cost.facts import attribute_days, facts_stamp, forget_facts, release
from finops_assets.cost.rollup import ROLLUP_TABLE, rollup_totals
from finops_assets.graph.assets.accepted_owners import accepted_anew, accepted_input
from finops_assets.graph.assets.conversion import converted_check_specs, converted_spec, materialize_converted
from finops_assets.graph.assets.days_run import DaysRun
from finops_assets.graph.assets.describe import cost_by_currency, cost_figures, facts_lineage, rollup_lineage, schema_of
from finops_assets.graph.assets.report_tables import POOL
from finops_assets.graph.assets.usage import land_before_facts
from finops_assets.graph.day_verdicts import HELD_BEFORE, held_back, holds, record, record_whole
from finops_assets.graph.keys import (
    ACCEPTED,
    BUILD_STEP,
    CONVERTED,
    DATA_VERSION,
    FACTS,
    ROLLUP,
    raw_check_keys,
    raw_key,
    usage_key,
)
from finops_assets.graph.partitions import RANGE_RUNS
from finops_assets.graph.run_days import names_days, run_days
from finops_assets.graph.sqlite_history import together
from finops_assets.ingest.raw_days import sum_totals
from finops_assets.judge.gates import currency as currency_gates
from finops_assets.judge.gates import facts as facts_gates
from finops_assets.judge.gates import rollup as rollup_gates
from finops_assets.judge.gates.raw import COMPLETE
from finops_assets.judge.gates.verdict import Verdict
from finops_assets.platform import Platform
from finops_assets.settings.currency import Currency
from finops_assets.settings.model import Settings
from finops_assets.storage.day_files import judged_layer
from finops_assets.storage.lake import Key
from finops_assets.storage.ledger import Ledger
from finops_assets.tables.declarations import facts_table, grouped, table

FACTS_GATES = [dg.AssetCheckKey(FACTS, gate) for gate in facts_gates.GATES if gate != facts_gates.ADVICE]
ALL_IN = "all_sources_in"
ALL_IN_TEXT = (
    "Every source's part of the day is in it. It holds nothing: what is missing is told, and awaited or held at raw."
)
Verdicts = dict[dg.AssetKey, list[Verdict]]

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
    ] + [dg.AssetCheckSpec(ALL_IN, asset=FACTS, description=ALL_IN_TEXT, blocking=False, partitions_def=days)]


def rollup_check_specs(days: dg.PartitionsDefinition[str]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(gate, asset=ROLLUP, description=text, blocking=True, partitions_def=days)
        for gate, text in rollup_gates.GATES.items()
    ] + [dg.AssetCheckSpec(ALL_IN, asset=ROLLUP, description=ALL_IN_TEXT, blocking=False, partitions_def=days)]


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
                deps=[*sources, ACCEPTED, *(usage_key(cluster.name) for cluster in settings.clusters)],
                skippable=True,
                partitions_def=days,
                group_name="facts",
                owners=[settings.owner],
                kinds={"parquet", settings.engine.kind},
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
        told: dict[dg.AssetKey, list[Verdict]] = {}
        if FACTS in selected:
            land_before_facts(context, platform)
        run = _choose(context.instance, platform, run_days(op, () if selected else checks))
        if FACTS in selected or any(key.asset_key == FACTS for key in checks):
            _build_and_judge_facts(context, platform, run, told)
        if selected != {FACTS} or checks:
            _release(context.instance, platform, run)
        if ROLLUP in selected:
            _materialize_rollup(context, platform, run)
        if any(key.asset_key == ROLLUP for key in checks):
            _judge_rollup(context, platform, run, told)
        _tell_left_out(context, run, told)
        if currency and (CONVERTED in selected or any(key.asset_key == CONVERTED for key in checks)):
            _convert(context, platform, currency, run, told)

        if not names_days(op):
            for asset in sorted({key.asset_key for key in checks}):
                names = [key.name for key in checks if key.asset_key == asset]
                record_whole(op, asset, told.get(asset, []), names)
        if held := run.held_days():
            raise held_back(held, "were built" if selected else "passed")
        yield from ()

    return attribute_and_roll_up


def _choose(instance: dg.DagsterInstance, platform: Platform, days: list[date]) -> DaysRun:
    """What the gates on raw days let through, by source."""
    settings, lake = platform.settings, platform.lake
    run = DaysRun.of(platform, days)
    # Where nothing was ever run for a day there is nothing to wait for: raw is to be run first.
    there = {key for key in platform.keys(days) if lake.holds(lake.day_file("raw", *key))}
    begun = {day for _, day in there}
    for source in settings.counted:
        found = holds(instance, raw_check_keys(source.name), days)
        for day in days:
            key = source.name, day
            if day in begun and key not in there:
                run.wait(key, f"raw/{source.name} has not been run for this day: nothing of it was delivered yet")
                continue
            for hold in found.get(day, ()):
                if hold.awaited:
                    run.wait(key, hold.text)
                elif source.required:
                    run.hold(key, hold.text)
                elif hold.without_rows and hold.check.name == COMPLETE:
                    # Such a source is taken as it is; but of what never came nobody knows that it cost nothing.
                    run.wait(key, hold.text)
    return run


def _build_and_judge_facts(context: dg.AssetExecutionContext, platform: Platform, run: DaysRun, told: Verdicts) -> None:
    """Attribute what is free, and hold of it what the gates on facts do not let through."""
    building = FACTS in context.selected_asset_keys
    keys, days, before = run.free(), run.free_days(), run.stopped_days()
    if building:
        attribute_days(platform.lake, platform.settings.engine, platform.rules, keys)
        forget_facts(platform.lake, [(shadow, day) for shadow in platform.shadow_names for day in run.days])
    verdicts = facts_gates.judge_facts(platform, keys)
    if building:
        _log_facts(context, platform, keys, days, verdicts)
    recorded = _record(context, FACTS, verdicts, told)
    _record(context, FACTS, _not_judged(facts_gates.GATES, before, facts_gates.ADVICE), told)
    if context.selected_asset_keys == {FACTS} and not context.selected_asset_check_keys:
        return  # built, and not to be judged: it waits
    run.judged.update(days)
    for gate in FACTS_GATES:
        own = {v.day: v for v in recorded if v.gate == gate.name}
        # The history would not do for both: it calls a gate unfinished that another run of these days has planned, and
        # the two would hold each other. The pool lets only one of them be here.
        others = holds(context.instance, [gate], [day for day in days if day not in own])
        for day, verdict in own.items():
            if verdict.holds:
                told_of = {s: _failed(gate, text, verdict.next_step) for s, text in verdict.held_sources.items()}
                _hold_sources(run, day, told_of, _failed(gate, verdict.message, verdict.next_step))
        for day, found in others.items():
            for hold in found:
                _hold_sources(run, day, hold.of_sources, hold.text)


def _failed(gate: dg.AssetCheckKey, message: str, next_step: str) -> str:
    return f"{gate.to_user_string()} failed: {message}. Next: {next_step}"


def _hold_sources(run: DaysRun, day: date, of_sources: Mapping[str, str], text: str) -> None:
    """Hold those of a day that a gate over all sources names, each for its own reason; all of them where it names none."""
    for source, reason in of_sources.items() or ((source, text) for source in run.sources):
        if run.flows((source, day)):
            run.hold((source, day), reason)


def _release(instance: dg.DagsterInstance, platform: Platform, run: DaysRun) -> None:
    """Let what has passed its gates count. What waits for a verdict, or had a bad one in another run, is held."""
    lake = platform.lake
    waiting = [key for key in run.free() if judged_layer(lake, key) == "unreleased"]
    for day, found in holds(instance, FACTS_GATES, sorted({day for _, day in waiting} - run.judged)).items():
        for hold in found:
            _hold_sources(run, day, hold.of_sources, hold.text)
    free = set(run.free())
    release(lake, [key for key in waiting if key in free])


def _judge_rollup(context: dg.AssetExecutionContext, platform: Platform, run: DaysRun, told: Verdicts) -> None:
    before, days = run.stopped_days(), run.free_days()
    recorded = _record(context, ROLLUP, rollup_gates.judge_rollup(platform, days), told)
    _record(context, ROLLUP, _not_judged(rollup_gates.GATES, before), told)
    for verdict in recorded:
        if verdict.holds:
            run.hold_day(verdict.day, f"{ROLLUP.to_user_string()}:{verdict.gate} failed: {verdict.message}")


def _convert(
    context: dg.AssetExecutionContext, platform: Platform, currency: Currency, run: DaysRun, told: Verdicts
) -> None:
    own = {(v.gate, v.day) for v in told.get(ROLLUP, ())}
    for gate in ROLLUP_GATES:
        for day, found in holds(
            context.instance, [gate], [day for day in run.free_days() if (gate.name, day) not in own]
        ).items():
            run.hold_day(day, found[0].text)
    before, days = run.stopped_days(), run.free_days()
    converted = materialize_converted(context, platform, currency, days, CONVERTED in context.selected_asset_keys)
    _record(context, CONVERTED, _not_judged(currency_gates.GATES, before), told)
    for verdict in _record(context, CONVERTED, converted, told):
        if verdict.holds:
            reason = f"{CONVERTED.to_user_string()}:{verdict.gate} failed: {verdict.message} (the rollup is built)"
            run.hold_day(verdict.day, reason)


def _tell_left_out(context: dg.AssetExecutionContext, run: DaysRun, told: Verdicts) -> None:
    """The check `all_sources_in`: which sources each day is built without. Their own checks hold, and alert."""
    verdicts = []
    for day in run.days:
        missing = run.left_out(day)
        text = "; ".join(f"{source}: {'; '.join(reasons)}" for source, reasons in missing.items())
        stopped = "nothing of the day is built" if run.stops(day) else "built without"
        verdicts.append(
            Verdict(
                ALL_IN,
                day,
                not missing,
                f"{stopped} {text}" if missing else "every source is in",
                blocking=False,
                figures={HELD_BEFORE: text, "sources left out": len(missing)} if missing else {},
                awaited=bool(missing) and not any((source, day) in run.held for source in missing),
            )
        )
    for asset in (FACTS, ROLLUP):
        _record(context, asset, verdicts, told)


def _record(
    context: dg.AssetExecutionContext,
    asset: dg.AssetKey,
    verdicts: Iterable[Verdict],
    told: Verdicts,
) -> list[Verdict]:
    """Record what was judged of an asset, and keep it in `told`."""
    names = [key.name for key in context.selected_asset_check_keys if key.asset_key == asset]
    recorded = record(context.op_execution_context, asset, verdicts, names)
    told.setdefault(asset, []).extend(recorded)
    return recorded


def _not_judged(gates: Iterable[str], stopped: Mapping[date, Sequence[str]], advice: str = "") -> Iterator[Verdict]:
    """What a gate says of a day that never reached it: that it was not judged, and who stops it. It lets nothing through."""
    for day, reasons in stopped.items():
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
    context: dg.AssetExecutionContext,
    platform: Platform,
    keys: Sequence[Key],
    days: Sequence[date],
    verdicts: Sequence[Verdict],
) -> None:
    untagged = {
        v.day: "; ".join(f"{name} {figure}" for name, figure in v.figures.items())
        for v in verdicts
        if v.gate == facts_gates.ADVICE
    }
    inputs = _versions_by_day(context.instance, keys)
    seen = accepted_anew(context.instance, platform.rules)
    if seen and days:
        context.log_event(seen)
    accepted = accepted_input(platform.rules)
    lake = platform.lake
    with together(context.instance):
        for day in days:
            of_day = [source for source, other in keys if other == day]
            held = {s: t for s in of_day if (t := Ledger(lake, s).day_totals(day))}
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


def _materialize_rollup(context: dg.AssetExecutionContext, platform: Platform, run: DaysRun) -> None:
    days = run.free_days()
    build_rollup(platform.lake, platform.warehouse, platform.rules, platform.settings, days, run.covered(days))
    enter_not_rolled_up(platform.warehouse, run.covered(run.stopped_days()))
    totals = rollup_totals(platform.warehouse, days) if days else {}
    versions = rollup_versions(platform.warehouse, days)
    with together(context.instance):
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


def _versions_by_day(instance: dg.DagsterInstance, keys: Iterable[Key]) -> dict[str, dict[str, str]]:
    """Tags by day that tell Dagster which raw materialisations a day was built from.

    With them and the code version Dagster calls a day out of date when its raw day or the rules changed.
    It writes them itself for assets whose materialisations it logs; a range with held days we log ourselves.
    """
    of_source: dict[str, set[str]] = {}
    for name, charged in keys:
        of_source.setdefault(name, set()).add(charged.isoformat())
    tags: dict[str, dict[str, str]] = {day: {} for wanted in of_source.values() for day in wanted}
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    for name, wanted in of_source.items():
        source = raw_key(name)
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
