"""One mechanism for every way a run can start: a verdict per day in Dagster's history, read before building.

Dagster blocks within one run and for all its days at once. We need it day by day, also in a run over a
range and when raw and facts run separately. So every gate records one evaluation per (check, day), bound
to the materialisation that it judged, and whoever builds on a day first asks `held_days`. docs/guides/gates.md
tells why, and what was tried.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

import dagster as dg
from dagster import AssetCheckEvaluation
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status
from dagster._core.storage.asset_check_execution_record import AssetCheckPartitionInfo

from finops_assets.graph.sqlite_history import together
from finops_assets.judge.gates.verdict import Verdict

FINAL = (Status.FAILED, Status.SUCCEEDED)
OVERLAPPING = 20
"""How many verdicts back on a day one on its newest version may stand."""
OF_SOURCES = "of_sources"
"""Metadata of a verdict over all sources: source -> {text, blocks}, from which each gets an alert of its own."""
HELD_BEFORE = "held_before"
"""Metadata of a verdict "not judged": who holds the day before it. It repeats a cause that is told elsewhere."""
HELD_DAYS = "held_days"
"""Metadata of a step's failure: gates hold these days, nothing else is wrong. The checks' own alerts tell the cause."""
AWAITED = "awaited"
"""Metadata of a raw verdict: the source's day is not due yet. It is not built, and nothing is wrong."""
OF_DAYS = "days judged"
"""Metadata of a verdict over several days, which have verdicts of their own."""


def record(
    context: dg.OpExecutionContext, asset: dg.AssetKey, verdicts: Iterable[Verdict], selected: Iterable[str]
) -> list[Verdict]:
    """Log an evaluation for every verdict of a selected check; returns those logged."""
    names = set(selected)
    kept = [v for v in verdicts if v.gate in names]
    days = {v.day.isoformat() for v in kept}
    judged = context.instance.get_latest_storage_id_by_partition(asset, dg.DagsterEventType.ASSET_MATERIALIZATION, days)
    judged_at = time.time()
    with together(context.instance):
        for verdict in kept:
            day = verdict.day.isoformat()
            target = judged.get(day)
            context.log_event(
                AssetCheckEvaluation(  # type: ignore[arg-type]  # works, and is what makes a range exact by day
                    asset_key=asset,
                    check_name=verdict.gate,
                    passed=verdict.passed,
                    severity=dg.AssetCheckSeverity.ERROR if verdict.blocking else dg.AssetCheckSeverity.WARN,
                    description=describe(asset, verdict),
                    blocking=verdict.blocking,
                    partition=day,
                    metadata=_metadata(asset, verdict),
                    target_materialization_data=None
                    if target is None
                    else AssetCheckEvaluationTargetMaterializationData(
                        storage_id=target, run_id=context.run_id, timestamp=judged_at
                    ),
                )
            )
    return kept


def record_whole(
    context: dg.OpExecutionContext, asset: dg.AssetKey, verdicts: Iterable[Verdict], selected: Iterable[str]
) -> None:
    """Where checks were executed without a day: beside the verdicts of the days one on each check as a whole.

    Dagster expects it, and shows it on the checks' page. It is no verdict of its own: alerts and gates ask for days.
    """
    of_check: dict[str, list[Verdict]] = {name: [] for name in selected}
    for verdict in verdicts:
        if verdict.gate in of_check:
            of_check[verdict.gate].append(verdict)
    for name, judged in of_check.items():
        failed = sorted(v.day for v in judged if not v.passed)
        span = f"{min(v.day for v in judged)} to {max(v.day for v in judged)}" if judged else ""
        text = f"{len(judged)} days judged, {span}" if judged else "no day has been materialised yet"
        if failed:
            text += f"; not passed: {', '.join(map(str, failed))}. The check's partitions say why"
        context.log_event(
            AssetCheckEvaluation(  # type: ignore[arg-type]  # as above
                asset_key=asset,
                check_name=name,
                passed=not failed,
                severity=dg.AssetCheckSeverity.ERROR if any(v.holds for v in judged) else dg.AssetCheckSeverity.WARN,
                description=f"{asset.to_user_string()}: {text}",
                blocking=any(v.holds for v in judged),
                metadata={OF_DAYS: dg.MetadataValue.int(len(judged))},
            )
        )


def describe(asset: dg.AssetKey, verdict: Verdict) -> str:
    """The sentence that stands in the UI and in alerts."""
    where = f"{asset.to_user_string()}, {verdict.day}"
    step = f" Next: {verdict.next_step}." if verdict.next_step else ""
    return f"{where}: {verdict.message}.{step}"


def _metadata(asset: dg.AssetKey, verdict: Verdict) -> dict[str, dg.MetadataValue]:
    entries: dict[str, dg.MetadataValue] = {"day": dg.MetadataValue.text(verdict.day.isoformat())}
    if verdict.source:
        entries["source"] = dg.MetadataValue.text(verdict.source)
    for name, value in verdict.figures.items():
        match value:
            case bool() | str() | Decimal():
                entries[name] = dg.MetadataValue.text(str(value))
            case int():
                entries[name] = dg.MetadataValue.int(value)
            case float():
                entries[name] = dg.MetadataValue.float(value)
    if verdict.awaited:
        entries[AWAITED] = dg.MetadataValue.bool(True)
    if verdict.engine:
        entries["engine"] = dg.MetadataValue.text(verdict.engine)
    if verdict.next_step:
        entries["next_step"] = dg.MetadataValue.text(verdict.next_step)
    if verdict.of_sources:
        entries[OF_SOURCES] = dg.MetadataValue.json(
            {
                part.source: {
                    "text": describe(asset, replace(verdict, message=part.message)),
                    "blocks": part.blocking,
                }
                for part in verdict.of_sources
            }
        )
    return entries


@dataclass(frozen=True)
class Hold:
    """Why a check does not let a day be built on."""

    check: dg.AssetCheckKey
    text: str
    awaited: bool = False
    """Its bill is not due yet: nothing is wrong."""
    without_rows: bool = False
    """There is not one row of what it judged."""
    of_sources: Mapping[str, str] = field(default_factory=dict)
    """Of a verdict over all sources, those whose part it holds, with what it says of each; empty: the whole day."""


def held_days(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], days: Iterable[date]
) -> dict[date, list[str]]:
    """The days that must not be built on, and why. A day is free only if every check passed on its newest version."""
    return {day: [hold.text for hold in found] for day, found in holds(instance, checks, days).items()}


def holds(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], days: Iterable[date]
) -> dict[date, list[Hold]]:
    """By day every check that has not passed on its newest version, with what it said of it."""
    wanted = {day.isoformat(): day for day in days}
    if not checks or not wanted:
        return {}
    held: dict[date, list[Hold]] = {}
    found = {
        (info.check_key, info.partition_key): info
        for info in instance.event_log_storage.get_asset_check_partition_info(list(checks), partition_keys=list(wanted))
    }
    for text, day in wanted.items():
        for check in checks:
            hold = _hold(instance, check, found.get((check, text)))
            if hold:
                held.setdefault(day, []).append(hold)
    return held


def _hold(instance: dg.DagsterInstance, check: dg.AssetCheckKey, info: AssetCheckPartitionInfo | None) -> Hold | None:
    name = check.to_user_string()
    if info is None:
        return Hold(check, f"{name} has never judged this day; run {check.asset_key.to_user_string()} with its checks")
    passed, said = _on_newest(instance, info)
    if passed is Status.SUCCEEDED:
        return None
    if passed is Status.FAILED:
        return _failed(check, said)
    if info.latest_execution_status not in FINAL:
        return Hold(check, f"{name} is not finished ({info.latest_execution_status.value.lower()})")
    return Hold(check, f"{name} judged an older version; run the check on the newest")


def _failed(check: dg.AssetCheckKey, said: AssetCheckEvaluation | None) -> Hold:
    if said is None:
        return Hold(check, f"{check.to_user_string()} failed")
    parts = said.metadata.get(OF_SOURCES)
    blocking = parts.value if parts and isinstance(parts.value, Mapping) else {}
    awaited = AWAITED in said.metadata

    def told(description: object) -> str:
        # What stands before the first colon is the asset and the day, which whoever shows this says himself.
        text = str(description or "").partition(": ")[2]
        return f"{check.to_user_string()} {'waits' if awaited else 'failed'}" + (f": {text}" if text else "")

    of_sources = {
        str(source): told(part.get("text"))
        for source, part in blocking.items()
        if isinstance(part, Mapping) and part.get("blocks")
    }
    rows = said.metadata.get("rows")
    return Hold(check, told(said.description), awaited, rows is not None and rows.value == 0, of_sources)


def _on_newest(
    instance: dg.DagsterInstance, info: AssetCheckPartitionInfo
) -> tuple[Status | None, AssetCheckEvaluation | None]:
    """How a check judged the newest version of a day, and if it failed, what it said; None: it has not judged it.

    Of two runs that overlap Dagster calls that one's verdict the latest which was planned later. It may be on the older
    version, and the verdict on the newest one stand before it. A run that has planned to judge the day, and waits or was
    killed, takes nothing from the verdict there is.
    """
    newest = info.latest_materialization_storage_id or 0
    last = (info.latest_target_materialization_storage_id or 0) >= newest
    if last and info.latest_execution_status is Status.SUCCEEDED:
        return Status.SUCCEEDED, None
    assert info.partition_key is not None
    records = instance.event_log_storage.get_asset_check_execution_history(
        info.check_key, OVERLAPPING, partition_filter=PartitionKeyFilter(key=info.partition_key)
    )
    judged = [
        (record.event.timestamp, record.status, evaluation)
        for record in records
        if record.event
        and record.event.dagster_event
        and isinstance(evaluation := record.event.dagster_event.event_specific_data, AssetCheckEvaluation)
        and evaluation.target_materialization_data
        and evaluation.target_materialization_data.storage_id >= newest
    ]
    if not judged:
        return (info.latest_execution_status, None) if last and info.latest_execution_status in FINAL else (None, None)
    _, status, said = max(judged, key=lambda one: one[0])
    return status, said


def held_back(held: Mapping[date, Sequence[str]], others: str = "were built") -> dg.Failure:
    """The failure of a step after all days but the held ones; `others` says what became of those."""
    days = dg.MetadataValue.json([str(day) for day in sorted(held)])
    return dg.Failure(explain_held(held, others), metadata={HELD_DAYS: days}, allow_retries=False)


def only_held(failure: dg.StepFailureData) -> bool:
    """Did a step fail for no other reason than days that gates hold?"""
    return failure.user_failure_data is not None and HELD_DAYS in (failure.user_failure_data.metadata or {})


def explain_held(held: Mapping[date, Sequence[str]], others: str) -> str:
    """Held days in one message, each with its reasons; and what became of the others."""
    lines = [f"{day}: {'; '.join(reasons)}" for day, reasons in sorted(held.items())]
    count = "1 day is" if len(held) == 1 else f"{len(held)} days are"
    return f"{count} held back by a gate (all others {others}):\n" + "\n".join(lines)
