"""Another engine than this machine's DuckDB; the statements are those of `facts_query`, `rollup` and `gates`.

Landing, raw days, tag sets and the warehouse stay where they are: an engine reads raw days of the lake, gets what the
rules say of tag sets and rows, puts facts into the lake, and hands small tables back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import date
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from finops_assets.cost.attribution.combinations import combinations_query, ruled_table
from finops_assets.cost.attribution.row_rules import RulesOfDay
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.attribution.tag_sets import TagTexts
from finops_assets.cost.engines.dialects import rendered
from finops_assets.cost.engines.engine import Asked, Query
from finops_assets.cost.facts_query import facts_query
from finops_assets.focus.money import SCALE
from finops_assets.storage.lake import Key, Lake, Layer

PLACED = ("source", "charge_date")
"""Where a row belongs: in the lake by the names of its folders."""


class Remote(Protocol):
    """What differs between other engines beyond the spelling of a statement."""

    dialect: str

    @property
    def name(self) -> str:
        """What ran, for checks and messages."""

    @property
    def at_once(self) -> int:
        """How many (source, day)s of facts it is best given at a time; what is done stays if the next ones fail."""

    def put(self, table: pa.Table) -> str:
        """Give it a table of texts; the name of the relation, in plain SQL."""

    def show(self, layer: Layer, keys: list[Key]) -> str:
        """The name of a relation of these days of a layer, at least one, with source and charge_date."""

    def forget(self, relation: str) -> None:
        """What `put` or `show` named is not needed any more."""

    def replace_facts(self, stamps: Mapping[Key, str], rules: Rules, query: str) -> None:
        """Replace the facts of these days by what a rendered statement gives, each day whole or not at all.

        The statement also gives source and charge_date. A stamp says what a day's facts are built from
        (`facts.facts_stamp`) and stays with them.
        """

    def table(self, query: str) -> pa.Table:
        """What a rendered statement gives."""

    def keep_only(self, keys: Iterable[Key], days: Iterable[date]) -> None:
        """Of these days it holds facts of these (source, day)s and of no others from now on."""


class Elsewhere:
    """An `Engine`: another one, with this lake."""

    rows_at_once = 200_000_000
    """Only small tables come back."""

    def __init__(self, remote: Remote, lake: Lake) -> None:
        self.remote, self.lake = remote, lake

    @property
    def name(self) -> str:
        return self.remote.name

    def attribute(self, rules: Rules, resolved: pa.Table, stamps: Mapping[Key, str], layer: Layer = "raw") -> None:
        """As many days at a time as the engine is best given."""
        write_facts(self.remote, self.lake, rules, resolved, stamps, layer)

    def rows(
        self, layer: Layer, keys: Iterable[Key], query: Query, here: duckdb.DuckDBPyConnection
    ) -> list[tuple[Any, ...]]:
        held = self._held(layer, keys)
        return rows_of(self.remote, layer, held, query) if held else []

    @contextmanager
    def away(self, keys: Iterable[Key]) -> Iterator[Asked | None]:
        """The facts are shown to the engine once, for all statements."""
        asked = list(keys)
        held = self._held("facts", asked)
        self.remote.keep_only(held, {day for _, day in asked})
        if not held:
            yield None
            return
        with shown(self.remote, "facts", held) as facts:
            yield lambda query: answer(self.remote, query(facts))

    def _held(self, layer: Layer, keys: Iterable[Key]) -> list[Key]:
        return [key for key in keys if self.lake.holds(self.lake.day_file(layer, *key))]


def write_facts(
    engine: Remote,
    lake: Lake,
    rules: Rules,
    resolved: pa.Table,
    stamps: Mapping[Key, str],
    layer: Layer = "raw",
) -> None:
    """Attribute the days of a layer that have a stamp here, each replaced as a whole; `resolved` are their tag sets."""
    texts = TagTexts(lake)
    with _given(engine, resolved) as attribution:
        for of_day, keys in _under_same_rules(rules, stamps, engine.at_once):
            with ExitStack() as given:
                raw = given.enter_context(shown(engine, layer, keys))
                query = facts_query(rules, raw, attribution, also=PLACED)
                if of_day:
                    met = answer(engine, combinations_query(of_day, raw))
                    ruled = given.enter_context(_given(engine, ruled_table(of_day, met, texts.of(keys[0][0]))))
                    query = facts_query(rules, raw, attribution, of_day, ruled, PLACED)
                engine.replace_facts({key: stamps[key] for key in keys}, rules, rendered(query, engine.dialect))


def _under_same_rules(rules: Rules, keys: Iterable[Key], most: int) -> Iterator[tuple[RulesOfDay | None, list[Key]]]:
    """Days in groups that one statement is right for: under the same rules beyond tags, and then of one source."""
    groups: dict[tuple[RulesOfDay | None, str], list[Key]] = {}
    for source, day in keys:
        of_day = rules.of_day(source, day) or None
        groups.setdefault((of_day, source if of_day else ""), []).append((source, day))
    for (of_day, _), group in groups.items():
        for start in range(0, len(group), most):
            yield of_day, group[start : start + most]


def table_of(engine: Remote, layer: Layer, keys: list[Key], query: Query) -> pa.Table:
    """What a query gives of these days of a layer."""
    with shown(engine, layer, keys) as relation:
        return answer(engine, query(relation))


def rows_of(engine: Remote, layer: Layer, keys: list[Key], query: Query) -> list[tuple[Any, ...]]:
    """The same, as rows."""
    return list(zip(*(column.to_pylist() for column in table_of(engine, layer, keys, query).columns)))


def answer(engine: Remote, query: str) -> pa.Table:
    """What a statement in DuckDB's dialect gives, in the types that DuckDB would have given it."""
    table = engine.table(rendered(query, engine.dialect))
    return table.cast(pa.schema([pa.field(field.name, _plain(field.type)) for field in table.schema]))


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal(kind):
        return pa.decimal128(38, SCALE)
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us")
    return kind if pa.types.is_date32(kind) else pa.string()


@contextmanager
def shown(engine: Remote, layer: Layer, keys: list[Key]) -> Iterator[str]:
    """A relation of these days of a layer, while it is needed."""
    relation = engine.show(layer, keys)
    try:
        yield relation
    finally:
        engine.forget(relation)


@contextmanager
def _given(engine: Remote, table: pa.Table) -> Iterator[str]:
    relation = engine.put(table)
    try:
        yield relation
    finally:
        engine.forget(relation)
