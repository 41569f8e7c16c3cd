"""The statement that makes facts: raw rows joined to what tags and rules say of them. Every engine runs it."""

from __future__ import annotations

from finops_assets.base.sql import identifier
from finops_assets.cost.attribution.combinations import RULED, ruled_columns
from finops_assets.cost.attribution.row_rules import RulesOfDay
from finops_assets.cost.attribution.rules import Rules
from finops_assets.ingest.reading.export_table import all_columns
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW

KEPT = (*(column.name for column in all_columns()), "tag_set_id", SOURCE_FILE, SOURCE_ROW)


def facts_query(
    rules: Rules,
    raw: str,
    attribution_table: str,
    of_day: RulesOfDay | None = None,
    ruled_relation: str = RULED,
    also: tuple[str, ...] = (),
) -> str:
    """SQL: raw rows joined to the dimension of their tag sets. One row out for each row in.

    `of_day`: the rules beyond tags of this day, if there are any; `ruled_relation` then holds what they say
    (`combinations.ruled_table`), a row for each combination that they say something of. `also` are columns of raw that facts do not keep.
    """
    columns = ", ".join(f"r.{name}" for name in (*KEPT, *also))
    return (
        f"SELECT {columns}, {dimensions_of_row(rules, of_day)} {joined(raw, attribution_table, of_day, ruled_relation)}"
    )


def dimensions_of_row(rules: Rules, of_day: RulesOfDay | None) -> str:
    said = of_day.dimensions if of_day else ()
    return ", ".join(_ruled(d) if d in said else _tagged(d) for d in rules.dimensions)


def joined(raw: str, attribution_table: str, of_day: RulesOfDay | None, ruled_relation: str = RULED) -> str:
    ruled = ""
    if of_day:
        same = " AND ".join(f"{sql} = u.{identifier(name)}" for name, sql in ruled_columns(of_day, "r").items())
        ruled = f"LEFT JOIN {ruled_relation} AS u ON {same}"
    return f"FROM {raw} AS r LEFT JOIN {attribution_table} AS a ON r.tag_set_id = a.tag_set_id {ruled}"


def _tagged(dimension: str) -> str:
    return f"a.{identifier(dimension)}, a.{identifier(f'{dimension}_key')}"


def _ruled(dimension: str) -> str:
    """A rule that overrides tags, else a tag, else a rule that fills; and which of them."""
    tag, key = f"a.{identifier(dimension)}", f"a.{identifier(f'{dimension}_key')}"
    over, over_key, fill, fill_key = (
        f"u.{identifier(f'{dimension}_{part}')}" for part in ("over", "over_key", "fill", "fill_key")
    )
    return (
        f"coalesce({over}, {tag}, {fill}) AS {identifier(dimension)}, CASE WHEN {over} IS NOT NULL THEN {over_key}"
        f" WHEN {tag} IS NOT NULL THEN {key} ELSE {fill_key} END AS {identifier(f'{dimension}_key')}"
    )
