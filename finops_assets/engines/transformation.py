"""Facts, rollup and the figures of their gates, by the statements of `facts`, `rollup` and `gates`, on another engine.

Landing, raw days, tag sets and the warehouse stay where they are: an engine reads raw days of the lake, gets the
resolved tag sets, and hands small tables back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Protocol

import pyarrow as pa

from finops_assets.attribution.rules import Rules
from finops_assets.attribution.tag_sets import attribution
from finops_assets.engines.dialects import rendered
from finops_assets.facts import facts_query
from finops_assets.focus.money import SCALE
from finops_assets.gates import facts as facts_gates
from finops_assets.gates import rollup as rollup_gates
from finops_assets.lake import Lake
from finops_assets.rollup import KEY, rollup_query

ATTRIBUTION, RAW, FACTS = "attribution", "raw", "facts"
Key = tuple[str, date]
"""(source, day)"""

_AMOUNTS = ("billed_cost", "effective_cost", "positive_effective_cost", "list_cost", "contracted_cost")
_COUNTS = ("resource_count", "row_count", "untagged_rows", "committed_rows")


class Engine(Protocol):
    """What differs between engines beyond the spelling of a statement."""

    dialect: str

    def put_attribution(self, resolved: pa.Table) -> None:
        """Make the resolved tag sets the relation `attribution`."""

    def show_raw(self, keys: Iterable[Key]) -> None:
        """Make these raw days of the lake the relation `raw`, with source and charge_date."""

    def replace_facts(self, key: Key, rules: Rules, query: str) -> None:
        """Replace one source's facts of one day by what a rendered statement gives: whole, or not at all."""

    def show_facts(self, keys: Iterable[Key]) -> str:
        """The relation, by a name in plain SQL, of the facts of these days, with source and charge_date."""

    def table(self, query: str) -> pa.Table:
        """What a rendered statement gives."""


def build_facts(engine: Engine, lake: Lake, rules: Rules, sources: Iterable[str], days: Iterable[date]) -> list[Key]:
    """Attribute the raw days of these sources, each replaced as a whole; returns those that there were."""
    keys = [(s, d) for d in sorted(days) for s in sources if lake.holds(lake.day_file("raw", s, d))]
    lake.fetch([lake.day_file("raw", *key) for key in keys])
    engine.put_attribution(attribution(lake, rules, sorted({s for s, _ in keys})))
    query = rendered(facts_query(rules, RAW, ATTRIBUTION), engine.dialect)
    for key in keys:
        engine.show_raw([key])
        engine.replace_facts(key, rules, query)
    return keys


def rollup(
    engine: Engine, rules: Rules, providers: Mapping[str, str], keys: Iterable[Key], by_source: bool = False
) -> pa.Table:
    """The rollup of these days, in the types of the warehouse's table."""
    query = rollup_query(rules, engine.show_facts(keys), providers, by_source)
    fields = [("charge_date", pa.date32()), *((name, pa.string()) for name in KEY[1:])]
    fields += [(name, pa.decimal128(38, SCALE)) for name in _AMOUNTS] + [(name, pa.int64()) for name in _COUNTS]
    fields += [("source", pa.string())] if by_source else []
    return engine.table(rendered(query, engine.dialect)).cast(pa.schema(fields))


Figures = dict[tuple[Any, ...], tuple[Any, ...]]


def conserved_figures(engine: Engine, keys: Iterable[Key]) -> tuple[Figures, Figures]:
    """(day, source, currency) -> rows, billed and effective cost: of raw, and of facts. The gate compares them."""
    keys = list(keys)
    engine.show_raw(keys)
    raw, facts = (
        engine.table(rendered(facts_gates.totals_query(relation), engine.dialect))
        for relation in (RAW, engine.show_facts(keys))
    )
    return _figures(raw, 3), _figures(facts, 3)


def untagged_figures(engine: Engine, dimensions: list[str], keys: Iterable[Key]) -> Figures:
    """(day, source, currency) -> positive effective cost, and how much of it lacks each dimension."""
    query = facts_gates.shares_query(engine.show_facts(keys), dimensions)
    return _figures(engine.table(rendered(query, engine.dialect)), 3)


def rollup_figures(engine: Engine, keys: Iterable[Key]) -> Figures:
    """(day, currency) -> rows, billed and effective cost of the facts, to which the rollup's must be equal."""
    query = rollup_gates.facts_totals_query(engine.show_facts(keys))
    return _figures(engine.table(rendered(query, engine.dialect)), 2)


def _figures(table: pa.Table, width: int) -> Figures:
    rows = list(zip(*(column.to_pylist() for column in table.columns)))
    return {row[:width]: row[width:] for row in rows}
