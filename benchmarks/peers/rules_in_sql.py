"""The attribution rules of finops.yaml as a person writes them in DuckDB's SQL, for the script and for the dbt model."""

from __future__ import annotations

from benchmarks.platform import configuration
from finops_assets.base.sql import identifier, literal
from finops_assets.focus.normal import normal_key, normal_value

FILLED = {"environment": "__unknown__"}


def attributed(export: str) -> str:
    """SQL: every row of an export with the dimensions beside it; each distinct set of tags is looked at once.

    `export` is SQL of a relation whose Tags is a map, or a text of JSON cast to one.
    """
    settings = configuration()
    placeholders = ", ".join(literal(value) for value in ("", *sorted(map(normal_value, settings.placeholders))))
    dimensions = []
    for name, dimension in settings.dimensions.items():
        by_alias = ", ".join(f"max(value) FILTER (key = {literal(normal_key(alias))})" for alias in dimension.keys)
        value = f"coalesce({by_alias})"
        whens = " ".join(
            f"WHEN {literal(normal_value(found))} THEN {literal(normal_value(meant))}"
            for found, meant in dimension.values.items()
        )
        dimensions.append(f"{f'CASE {value} {whens} ELSE {value} END' if whens else value} AS {identifier(name)}")
    return f"""
        WITH export AS (SELECT *, hash(Tags) AS tags_hash FROM {export}),
        tag_sets AS (SELECT tags_hash, any_value(Tags) AS tags FROM export GROUP BY 1),
        entries AS (
            SELECT tags_hash, entry.key AS written, lower(trim(entry.value)) AS value,
                regexp_replace(regexp_replace(lower(trim(entry.key)), '^user:', ''), '[\\s\\-_.]+', '', 'g') AS key
            FROM (SELECT tags_hash, unnest(map_entries(tags)) AS entry FROM tag_sets)
        ),
        usable AS (
            SELECT tags_hash, key, arg_min(value, written) AS value FROM entries
            WHERE value IS NOT NULL AND value NOT IN ({placeholders}) GROUP BY 1, 2
        ),
        owners AS (SELECT tags_hash, {", ".join(dimensions)} FROM usable GROUP BY 1)
        SELECT export.* EXCLUDE (tags_hash), CAST(ChargePeriodStart AS DATE) AS charge_date,
            {", ".join(f"owners.{identifier(name)}" for name in settings.dimensions)}
        FROM export LEFT JOIN owners USING (tags_hash)
    """


def rollup(facts: str, money: str) -> str:
    """SQL: the rollup of facts; `money` is the type in which amounts are added."""
    dimensions = ", ".join(
        f"coalesce({identifier(name)}, {literal(FILLED.get(name, '__untagged__'))}) AS {identifier(name)}"
        for name in configuration().dimensions
    )
    return f"""
        SELECT charge_date, ProviderName, {dimensions}, coalesce(ServiceCategory, 'Other') AS ServiceCategory,
            BillingCurrency, sum(CAST(BilledCost AS {money})) AS billed_cost,
            sum(CAST(EffectiveCost AS {money})) AS effective_cost, count(DISTINCT ResourceId) AS resource_count,
            count(*) AS row_count, count(*) FILTER (department IS NULL OR team IS NULL) AS untagged_rows
        FROM {facts} GROUP BY ALL
    """
