"""daily_cost_by_team: facts summed by day, provider, every dimension of finops.yaml, category and currency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from finops_assets.base.sql import identifier, literal
from finops_assets.cost.attribution.rules import Rules
from finops_assets.focus.measures import EFFECTIVE, POSITIVE
from finops_assets.focus.money import DECIMAL
from finops_assets.focus.participants import provider_before
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables import ddl, declarations

ROLLUP_TABLE = "daily_cost_by_team"
UNTAGGED, UNKNOWN, OTHER = "__untagged__", "__unknown__", "Other"
TOO_MANY = "__other__"
"""What stands for every value of a dimension on a day on which it has more than `MOST_VALUES`."""

MOST_VALUES = 5_000
"""Values of a dimension beside those of every rollup that a day is grouped by. One with more, such as the name of each
resource, would make the rollup as long as the facts."""

# What the history of reported days keeps, by the key and source.
REPORTED = ("billed_cost", "effective_cost", "positive_effective_cost", "row_count")


TooMany = Mapping[str, Iterable[date]]
"""Dimension -> the days on which it has more than `MOST_VALUES` values."""


def missing(dimension: str) -> str:
    """What stands in the rollup where a row does not have a dimension."""
    return UNKNOWN if dimension == "environment" else UNTAGGED


def values_query(rules: Rules, facts: str) -> str:
    """SQL: charge_date, and of each dimension beside those of every rollup how many values a relation of facts has that day.

    Empty where there is no other dimension.
    """
    others = _others(rules)
    counted = ", ".join(f"count(DISTINCT {identifier(d)}) AS {identifier(d)}" for d in others)
    return f"SELECT charge_date, {counted} FROM {facts} GROUP BY charge_date" if others else ""


def with_too_many(rules: Rules, counted: Iterable[tuple[Any, ...]]) -> TooMany:
    """The dimensions with too many values, from the rows of `values_query`."""
    others = _others(rules)
    days: dict[str, list[date]] = {}
    for day, *values in counted:
        for dimension, count in zip(others, values):
            if count > MOST_VALUES:
                days.setdefault(dimension, []).append(day)
    return days


def _others(rules: Rules) -> list[str]:
    """The dimensions beside those of every rollup."""
    return [d for d in rules.dimensions if d not in declarations.DIMENSIONS]


def key_of(
    rules: Rules, providers: Mapping[str, str], dimensions: Iterable[str] | None = None, too_many: TooMany | None = None
) -> str:
    """SQL: the rollup's key, in its order, of a relation of facts; free of nulls.

    `providers` names the provider of each source whose rows do not name one themselves; `dimensions`: with these alone
    besides those of every rollup, else with all that the rules have.
    """
    by = "".join(
        f"{_dimension(d, (too_many or {}).get(d, ())) if d in rules.dimensions else literal(missing(d))} AS {identifier(d)}, "
        for d in declarations.grouped(rules.dimensions if dimensions is None else dimensions)
    )
    return (
        f"charge_date, {provider_of(providers)} AS provider, {by}"
        f"coalesce(ServiceCategory, '{OTHER}') AS ServiceCategory, coalesce(BillingCurrency, '') AS BillingCurrency"
    )


def provider_of(providers: Mapping[str, str]) -> str:
    """SQL: the provider that a row of facts is billed under; of a row that names none, that of its source."""
    named = " ".join(f"WHEN {literal(source)} THEN {literal(name)}" for source, name in providers.items())
    default = f"CASE source {named} ELSE source END" if named else "source"
    return f"coalesce(ProviderName, {provider_before(default)}, {default})"


def _dimension(name: str, too_many: Iterable[date]) -> str:
    """SQL: the dimension of a row, or what stands for it."""
    days = " OR ".join(f"charge_date = CAST('{day}' AS DATE)" for day in sorted(too_many))
    if not days:
        return f"coalesce({identifier(name)}, {literal(missing(name))})"
    return (
        f"CASE WHEN {identifier(name)} IS NULL THEN {literal(missing(name))} WHEN {days}"
        f" THEN {literal(TOO_MANY)} ELSE {identifier(name)} END"
    )


def once(column: str) -> str:
    """SQL: the sum of ListCost or ContractedCost, counted once: on a commitment's purchase, not on what it covers again.

    FOCUS has both amounts on the purchase and on the covered usage; its cost comparison leaves them out where
    usage was not billed but has an effective cost. NULL where a row of the group does not say.
    """
    covered = f"ChargeCategory = 'Usage' AND BilledCost = 0 AND {EFFECTIVE} <> 0"
    total = f"sum(CASE WHEN {covered} THEN 0 ELSE {column} END)"
    return (
        f"CAST(CASE WHEN count(CASE WHEN {covered} THEN 0 ELSE {column} END) = count(*) THEN {total} END AS {DECIMAL})"
    )


def rollup_query(
    rules: Rules,
    facts: str,
    providers: Mapping[str, str],
    by_source: bool = False,
    too_many: TooMany | None = None,
) -> str:
    """SQL: the rollup of a relation of facts, or the same split by source. Its key is unique and free of nulls.

    Untagged are rows without a department or without a team; committed are rows under a commitment discount.
    positive_effective_cost is what percentages are taken of: effective cost without credits and refunds.
    """
    owners = [identifier(d) for d in ("department", "team") if d in rules.dimensions]
    untagged = " OR ".join(f"{d} IS NULL" for d in owners) or "1 = 1"
    places = ", ".join(str(n) for n, _ in enumerate(declarations.key(rules.dimensions), 1))
    return f"""
        SELECT
            {key_of(rules, providers, too_many=too_many)},
            CAST(sum(coalesce(BilledCost, 0)) AS {DECIMAL}) AS billed_cost,
            CAST(sum({EFFECTIVE}) AS {DECIMAL}) AS effective_cost,
            CAST(sum({POSITIVE}) AS {DECIMAL}) AS positive_effective_cost,
            {once("ListCost")} AS list_cost,
            {once("ContractedCost")} AS contracted_cost,
            count(DISTINCT ResourceId) AS resource_count,
            count(*) AS row_count,
            count(CASE WHEN {untagged} THEN 1 END) AS untagged_rows,
            count(CommitmentDiscountId) AS committed_rows{", source" if by_source else ""}
        FROM {facts}
        GROUP BY {places}{", source" if by_source else ""}
    """


def totals_query(rollup: str) -> str:
    """SQL: charge_date, currency, rows, billed and effective cost of a relation like the rollup."""
    return f"""
        SELECT charge_date, BillingCurrency, sum(row_count) AS row_total, sum(billed_cost) AS billed_total,
            sum(effective_cost) AS effective_total
        FROM {rollup} GROUP BY 1, 2
    """


def days_lacking(warehouse: Warehouse, dimensions: Iterable[str]) -> set[date]:
    """The days that the rollup is not grouped by all of these dimensions on: built before finops.yaml, or this product, had
    one."""
    with warehouse.reading() as connection:
        if not warehouse.has(connection, ROLLUP_TABLE):
            return set()
        held = ddl.dimensions_of(connection, ROLLUP_TABLE)
        without = " OR ".join(
            f"{identifier(d)} IS NULL" if d in held else "true" for d in declarations.grouped(dimensions)
        )
        found = connection.execute(f"SELECT DISTINCT charge_date FROM {ROLLUP_TABLE} WHERE {without}").fetchall()
    return {day for (day,) in found}


def rollup_totals(warehouse: Warehouse, days: Iterable[date]) -> dict[date, dict[str, tuple[int, Decimal, Decimal]]]:
    """Rows, billed and effective cost of the rollup by day and currency."""
    result: dict[date, dict[str, tuple[int, Decimal, Decimal]]] = {}
    with warehouse.reading() as connection:
        if not warehouse.has(connection, ROLLUP_TABLE):
            return {}
        for day, currency, rows, billed, effective in connection.execute(
            totals_query(f"(SELECT * FROM {ROLLUP_TABLE} WHERE list_contains(?, charge_date)) AS wanted"),
            [list(days)],
        ).fetchall():
            result.setdefault(day, {})[currency] = (int(rows), billed, effective)
    return result
