"""Which days a backfill, a run or a sensor has to run: those that changed, were never built, or were judged under other limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

import dagster as dg

from finops_assets.base.period import days_between
from finops_assets.cost.coverage import AWAITED as AWAITED_STATE
from finops_assets.cost.coverage import HELD, Coverage, coverage_of
from finops_assets.cost.currency.conversion import days_to_convert
from finops_assets.cost.facts import is_behind
from finops_assets.cost.rollup import days_lacking
from finops_assets.graph.assets.daily import blocking_gates
from finops_assets.graph.day_verdicts import held_days
from finops_assets.graph.keys import FACTS, ROLLUP, raw_key
from finops_assets.ingest.landing import unknown_deliveries
from finops_assets.ingest.raw_days import changed_days
from finops_assets.ingest.usage.landing import new_usage
from finops_assets.judge.warehouse_behind import differing
from finops_assets.platform import Platform
from finops_assets.storage.day_files import facts_rules


def days_to_run(platform: Platform, instance: dg.DagsterInstance, first: date, end: date) -> list[date]:
    """The days from `first` to before `end` that are not what a run now would make of them.

    All of them if a source, or a cluster's usage, has a delivery that was not landed yet; else those that the sensors would ask for
    (also to convert them),
    those whose facts are missing or were attributed under other rules, unless they were judged since and
    are held, and those that this host's warehouse does not hold as the ledger has them, or not by every dimension.
    """
    wanted = days_between(first, end)
    settings = platform.settings
    if any(unknown_deliveries(platform.lake, source, settings.first_day) for source in settings.sources):
        return wanted
    if any(new_usage(platform.lake, cluster) for cluster in settings.clusters):
        return wanted
    changed = {
        day
        for source in settings.sources
        for day in changed_days(platform.lake, source, first, end, deadline=settings.deadline(source))
    }
    with platform.warehouse.reading() as connection:
        if settings.currency:
            changed |= set(days_to_convert(connection, settings.currency))
        covered = {(c.source, c.day): c for c in coverage_of(connection, first, end)}
    tried = {date.fromisoformat(k) for k in instance.get_materialized_partitions(raw_key(settings.sources[0].name))}
    built = built_days(instance)
    started = {date.fromisoformat(k) for k in instance.get_materialized_partitions(FACTS)}
    told = {day for _, day in covered}
    stale, unlike = [], []
    for day in wanted:
        of_day = {s: c for s in platform.source_names if (c := covered.get((s, day)))}
        if day in changed:
            stale.append(day)
        elif day in told:
            if _is_stale(platform, day, of_day):
                stale.append(day)
        elif _stale_before_coverage(platform, day, day in tried, day in built, day in started):
            stale.append(day)
        elif day in built:
            unlike.append(day)
    # Built, but into the warehouse of another host, or without a dimension; or its run ended between raw and rollup.
    lacking = days_lacking(platform.warehouse, platform.rules.dimensions) & built.intersection(wanted)
    elsewhere = set(differing(platform, unlike))
    if settings.release == "whole_day":
        elsewhere -= held_by_gates(platform, instance, elsewhere).keys()
    return sorted({*stale, *lacking, *elsewhere})


def _is_stale(platform: Platform, day: date, covered: Mapping[str, Coverage]) -> bool:
    """Were these sources judged on something else than what the lake and the rules make of the day now?"""
    lake, rules = platform.lake, platform.rules
    # A source that was a shadow has raw days and no facts yet, one that became a shadow facts that do not count.
    return any(lake.holds(lake.day_file("facts", s, day)) for s in platform.shadow_names) or any(
        is_behind(lake, rules, (source, day), covered.get(source)) for source in platform.source_names
    )


def _stale_before_coverage(platform: Platform, day: date, tried: bool, built: bool, started: bool) -> bool:
    """The same of a day that was run by a version which did not note what it judged: told by its facts."""
    lake = platform.lake
    files = lake.day_files("facts", platform.source_names, [day])
    moved = len(files) < sum(lake.holds(lake.day_file("raw", s, day)) for s in platform.source_names) or any(
        lake.holds(lake.day_file("facts", s, day)) for s in platform.shadow_names
    )
    current = files and not moved and all(facts_rules(f) == platform.rules.version for f in files)
    held = tried and not built and (current or not started)
    return not held and not (current and built)


def held_or_awaited(
    platform: Platform, instance: dg.DagsterInstance, first: date, end: date, awaited: bool = True
) -> list[date]:
    """The days of [first, end) of which a gate holds a source, or nothing is due yet of one, as they were judged last."""
    with platform.warehouse.reading() as connection:
        covered = coverage_of(connection, first, end)
    states = {HELD, AWAITED_STATE} if awaited else {HELD}
    told = {c.day for c in covered}
    # A day that was run by a version which did not note it.
    unsaid = [d for d in days_between(first, end) if d not in told]
    return sorted({c.day for c in covered if c.state in states} | held_by_gates(platform, instance, unsaid).keys())


def built_days(instance: dg.DagsterInstance) -> set[date]:
    """The days that the rollup holds, by Dagster's history."""
    return {date.fromisoformat(key) for key in instance.get_materialized_partitions(ROLLUP)}


def held_by_gates(platform: Platform, instance: dg.DagsterInstance, days: Iterable[date]) -> dict[date, list[str]]:
    """The days that have not passed every blocking gate on their newest version, and why: facts of them are not to leave."""
    return held_days(instance, blocking_gates(platform.settings), days)
