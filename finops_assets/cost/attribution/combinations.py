"""The combinations of columns that rules beyond tags read, as tables: met in a day's rows, and what rules say of each.

Plain relational SQL and one small table: an engine groups, is given the table `ruled`, and joins it.
"""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from finops_assets.base.sql import identifier
from finops_assets.cost.attribution.row_rules import RulesOfDay
from finops_assets.focus.tags import Tags

RULED = "ruled"
"""The relation that `ruled_table` becomes where facts are written."""


class TagsOf(Protocol):
    """AllocatedTags and Tags of a tag set id."""

    def __getitem__(self, ident: str) -> Tags: ...


def ruled_columns(of_day: RulesOfDay, alias: str) -> dict[str, str]:
    """What a combination is made of: name -> SQL over a row. A missing value is the empty text, so that it joins."""
    # Rules that ask for the source alone need something to be joined by.
    tags = {"tag_set_id": f"{alias}.tag_set_id"} if of_day.reads_tags or not of_day.columns else {}
    return tags | {column: f"coalesce({alias}.{identifier(column)}, '')" for column in of_day.columns}


def combinations_query(of_day: RulesOfDay, raw: str) -> str:
    """SQL: every combination of what the rules read in a relation of rows, once."""
    columns = ruled_columns(of_day, "r")
    selected = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in columns.items())
    return f"SELECT {selected} FROM {raw} AS r GROUP BY {', '.join(str(n) for n in range(1, len(columns) + 1))}"


def ruled_schema(of_day: RulesOfDay) -> pa.Schema:
    """The combination, then of each dimension what comes before the tags and what fills them, each with its key."""
    names = [
        *ruled_columns(of_day, "r"),
        *(f"{d}_{part}" for d in of_day.dimensions for part in ("over", "over_key", "fill", "fill_key")),
    ]
    return pa.schema([(name, pa.string()) for name in names])


def ruled_table(of_day: RulesOfDay, met: pa.Table, tags_of: TagsOf) -> pa.Table:
    """What the rules say of the combinations met; those of which they say nothing are left out."""
    schema = ruled_schema(of_day)
    rows: list[list[str | None]] = []
    values_from = met.num_columns - len(of_day.columns)
    for position in range(len(of_day.columns)):
        of_day.meet(position, met.column(values_from + position).unique().to_pylist())
    for combination in zip(*(column.to_pylist() for column in met.columns)):
        tags = tags_of[combination[0]] if of_day.reads_tags else None
        said = of_day.say(combination[values_from:], tags)
        if not said.over and not said.fill:
            continue
        row: list[str | None] = list(combination)
        for dimension in of_day.dimensions:
            for given in (said.over.get(dimension), said.fill.get(dimension)):
                row += [given.value, given.key] if given else [None, None]
        rows.append(row)
    columns = list(zip(*rows)) if rows else [()] * len(schema)
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=schema)
