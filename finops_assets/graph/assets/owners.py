"""Correlation: owner suggestions for untagged resources, people's decisions on them, and how often they were right."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import dagster as dg
import pandas as pd
from pydantic import Field

from finops_assets.base.period import days_between
from finops_assets.cost.attribution.owner_decisions import (
    Decision,
    OwnerDecisions,
    acceptance,
    accepted_rules,
    decide,
    decisions_table,
    settled,
)
from finops_assets.cost.coverage import HELD, coverage_of, has_coverage
from finops_assets.cost.facts import is_behind
from finops_assets.evaluate.owners.resources import WINDOW_DAYS, read_resources
from finops_assets.evaluate.owners.suggest import MIN_CONFIDENCE, SUGGESTION_COLUMNS, Coverage, Suggested, suggest
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.assets.follow import MADE_FROM
from finops_assets.graph.assets.report_tables import warehouse_table
from finops_assets.graph.keys import FACTS, ROLLUP
from finops_assets.platform import Platform
from finops_assets.storage.lake import Key
from finops_assets.tables.rows import Rows

SUGGESTIONS, DECISIONS, ACCEPTANCE = "owner_suggestions", "owner_decisions", "owner_acceptance"
IN_MAIN = {"schema": "main"}
GROUP = "evaluation"


class DecisionConfig(dg.Config):
    """One decision in run config."""

    source: str
    resource_id: str
    dimension: str
    verdict: Literal["accepted", "rejected"]
    value: str | None = Field(default=None, description="Another value than the suggested one")
    valid_from: str | None = Field(default=None, description="First UTC day that it holds for; none: always")
    note: str = ""


class DecisionsConfig(dg.Config):
    """Decisions to take in this run; without any the table is made anew from what was decided elsewhere."""

    decided_by: str | None = None
    decisions: list[DecisionConfig] = []  # noqa: RUF012  pydantic copies it


def owner_assets(platform: Platform) -> list[dg.AssetsDefinition]:
    """owner_suggestions, owner_decisions and owner_acceptance."""
    settings = platform.settings
    wanted = settings.tag_policy.required or tuple(settings.dimensions)

    @warehouse_table(
        SUGGESTIONS,
        deps=[ROLLUP, FACTS],
        group=GROUP,
        owner=settings.owner,
        description=(
            f"Who probably owns what nobody tagged in the last {WINDOW_DAYS} days: ranked values of"
            f" {', '.join(wanted)} with evidence and a confidence learned from tagged resources, abstaining below"
            f" {MIN_CONFIDENCE:.0%}. Does not run while the newest days are held or failed. docs/guides/owners.md"
        ),
    )
    def owner_suggestions(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        if reason := owners_wait(platform):
            # A condition, not a failure: what comes after runs on, and the sensor asks again once it has gone.
            context.log.warning(reason)
            context.add_asset_metadata({MADE_FROM: "", "not made anew": reason})
            return typed(_standing(platform))
        newest = max(day for _, day in newest_keys(platform))
        span = days_between(newest - timedelta(days=WINDOW_DAYS - 1), newest + timedelta(days=1))
        there = {day for s in platform.source_names for day in platform.lake.days("facts", s)}
        used = [day for day in span if day in there]
        left_out = sorted({day for _, day in _not_built(platform, platform.keys(used))})
        resources = read_resources(platform.lake, settings.engine, platform.rules, platform.source_names, used)
        if resources is None:
            raise dg.Failure("owners are not suggested: the lake has no facts of these days", allow_retries=False)
        decisions = OwnerDecisions.beside(settings.warehouse).all()
        made = suggest(resources, wanted, settled(decisions))
        context.add_output_metadata(_figures(made, used, left_out))
        return typed(made.table)

    @warehouse_table(
        DECISIONS,
        deps=[owner_suggestions],
        group=GROUP,
        owner=settings.owner,
        description=(
            "What people decided about suggestions: who, when, on what evidence. Takes decisions by run config; those"
            " of `finops owners` are kept in the same place. Accepted ones become rules."
        ),
    )
    def owner_decisions(
        context: dg.AssetExecutionContext, config: DecisionsConfig, platform: dg.ResourceParam[Platform]
    ) -> pd.DataFrame:
        store = OwnerDecisions.beside(settings.warehouse)
        new: list[Decision] = []
        if config.decisions:
            suggestions = typed(_standing(platform))
            now = datetime.now(UTC)
            for given in config.decisions:
                about = (given.source, given.resource_id, given.dimension)
                first = date.fromisoformat(given.valid_from) if given.valid_from else None
                new.append(
                    decide(
                        suggestions,
                        tuple(settings.dimensions),
                        about,
                        given.verdict,
                        now,
                        given.value,
                        config.decided_by,
                        first,
                        given.note,
                    )
                )
            new = store.enter(new)
        everything = store.all()
        rates = acceptance(everything).frame()
        context.add_output_metadata(
            {
                "dagster/row_count": len(everything),
                "taken in this run": len(new),
                "accepted rules": len(accepted_rules(everything)),
                "acceptance rate by week": shown(rates.tail(12)),
            }
        )
        return decisions_table(everything).frame()

    @warehouse_table(
        ACCEPTANCE,
        deps=[owner_decisions],
        group=GROUP,
        owner=settings.owner,
        description="How often suggestions proved right, by week and dimension, beside the confidence that was promised.",
    )
    def owner_acceptance(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> pd.DataFrame:
        table = acceptance(OwnerDecisions.beside(settings.warehouse).all()).frame()
        context.add_output_metadata({"dagster/row_count": len(table)})
        return table

    return [owner_suggestions, owner_decisions, owner_acceptance]


def _standing(platform: Platform) -> pd.DataFrame:
    """The suggestions that were made last; without rows or columns: none were."""
    with platform.warehouse.reading() as connection:
        if not platform.warehouse.has(connection, SUGGESTIONS):
            return pd.DataFrame()
        return Rows.asked(connection, f"FROM {SUGGESTIONS}").frame()


def owners_wait(platform: Platform) -> str:
    """Why owners are not suggested now; empty: they can be."""
    newest = newest_keys(platform)
    if not newest:
        return "owners are not suggested: no day has been built yet"
    held = _not_built(platform, newest)
    if not held:
        return ""
    reasons = "\n".join(f"{source} {day}: {reason}" for (source, day), reason in sorted(held.items()))
    return (
        "owners are not suggested: the newest of the rollup is held back by a gate or by a failed run. Release it or run it"
        f" again (docs/guides/gates.md); the suggestions made before stand.\n{reasons}"
    )


def newest_keys(platform: Platform) -> list[Key]:
    """The newest day of each source whose cost counts and must not be missing, by its raw files.

    Where no source must be there, of each that counts.
    """
    counted = platform.settings.counted
    found = {s.name: platform.lake.days("raw", s.name) for s in [s for s in counted if s.required] or counted}
    return [(source, days[-1]) for source, days in found.items() if days]


def _not_built(platform: Platform, keys: Iterable[Key]) -> dict[Key, str]:
    """Those of these (source, day)s that the rollup lacks, or has an older version of than raw, and why."""
    with platform.warehouse.reading() as connection:
        if not has_coverage(connection):
            return {}
        covered = {(c.source, c.day): c for c in coverage_of(connection)}
    lake, found = platform.lake, {}
    for key in keys:
        at = covered.get(key)
        if is_behind(lake, platform.rules, key, at):
            if lake.holds(lake.day_file("raw", *key)):
                found[key] = f"raw/{key[0]} is newer than the rollup: its run failed or is not over"
        elif at is not None and at.state == HELD:
            found[key] = at.reason
    return found


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Suggestions with a type for each column, also where there are none."""
    table = table.reindex(columns=list(SUGGESTION_COLUMNS))
    kinds = {"rank": "int32", "confidence": "float64", "first_seen": "datetime64[us]", "effective_cost": "object"}
    return table.astype({name: kinds.get(name, "string") for name in SUGGESTION_COLUMNS})


def _figures(
    made: Suggested, used: list[date], left_out: list[date]
) -> dict[str, dg.MetadataValue | int | float | str]:
    first = made.table[made.table["rank"] == 1]
    best = first[
        ["dimension", "value", "confidence", "name", "ResourceId", "effective_cost", "BillingCurrency", "evidence"]
    ]
    return {
        "days": f"{used[0]} to {used[-1]}",
        "days left out": ", ".join(map(str, left_out)) or "none",
        "dagster/row_count": len(made.table),
        **{c.dimension: c.note or _told(c) for c in made.coverage},
        "top suggestions": shown(best),
    }


def _told(covered: Coverage) -> str:
    """Coverage by resources and by money, and what precision is expected."""
    if not covered.suggested:
        return f"none of {covered.untagged} untagged resources: the evidence is too thin"
    money = ", ".join(
        f"{covered.cost_suggested.get(c, 0):,.2f} of {amount:,.2f} {c}" for c, amount in covered.cost.items()
    )
    return (
        f"{covered.suggested} of {covered.untagged} untagged resources ({covered.suggested / covered.untagged:.0%}),"
        f" {money}; expected precision {covered.expected_precision:.0%}"
    )
