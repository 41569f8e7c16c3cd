"""A dry run of rules over the facts that there are: what would move, by which rule. Reads the lake, writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pandas as pd

from finops_assets.base.sql import identifier
from finops_assets.cost.attribution.combinations import TagsOf
from finops_assets.cost.attribution.row_rules import RULE, DimensionValue, RulesOfDay
from finops_assets.cost.attribution.rules import Rules, resolve
from finops_assets.cost.attribution.tag_sets import TagTexts
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.duck import connect
from finops_assets.storage.lake import Lake

MOVES = ("by", "dimension", "from", "to", "currency", "effective_cost", "billed_cost", "row_count")
OF_RULES = ("rule", "currency", "effective_cost", "row_count", "rows_matched", "rows_moved", "note")


@dataclass(frozen=True)
class Preview:
    """What attributing these days anew would change.

    `moves` has MOVES: rows whose dimension would go from a value to another (None: nobody), by what would give the
    new one (`rule:…`, `owner:…`, a tag key; None: nothing any more). `rules` has OF_RULES: for each rule and currency
    the rows that it gives something, with their cost, the rows that it matches, and those that it moves.
    """

    days: tuple[date, ...]
    without_facts: tuple[date, ...]
    moves: pd.DataFrame
    rules: pd.DataFrame


@dataclass
class _Sums:
    rows: int = 0
    effective: Decimal = Decimal(0)
    billed: Decimal = Decimal(0)

    def add(self, rows: int, effective: Decimal, billed: Decimal) -> None:
        self.rows, self.effective, self.billed = self.rows + rows, self.effective + effective, self.billed + billed


@dataclass
class _OfRule:
    matched: int = 0
    given: dict[str, _Sums] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)


def preview(lake: Lake, engine: EngineSettings, rules: Rules, sources: Sequence[str], days: Iterable[date]) -> Preview:
    """What `rules` would change in the facts of these days. Days without facts are named: nothing stands there to move."""
    wanted = sorted(days)
    texts = TagTexts(lake)
    moves: dict[tuple[str | None, str, str | None, str | None, str], _Sums] = {}
    of_rules = {rule.name: _OfRule() for rule in rules.row_rules}
    found: set[date] = set()
    with lake.workspace() as workspace, connect(engine, workspace / "spill") as connection:
        for source in sources:
            # Days under the same rules are asked together.
            spans: dict[int, tuple[RulesOfDay, list[date]]] = {}
            for day in wanted:
                of_day = rules.of_day(source, day)
                spans.setdefault(id(of_day), (of_day, []))[1].append(day)
            for of_day, span in spans.values():
                there = [day for day in span if lake.holds(lake.day_file("facts", source, day))]
                if not there:
                    continue
                found |= set(there)
                files = lake.day_files("facts", [source], there)
                _look(connection, files, rules, of_day, texts.of(source), moves, of_rules)
    return Preview(
        tuple(sorted(found)),
        tuple(day for day in wanted if day not in found),
        _moves_table(moves),
        _rules_table(of_rules),
    )


def _look(
    connection: duckdb.DuckDBPyConnection,
    files: list[Path],
    rules: Rules,
    of_day: RulesOfDay,
    tags_of: TagsOf,
    moves: dict[tuple[str | None, str, str | None, str | None, str], _Sums],
    of_rules: dict[str, _OfRule],
) -> None:
    by_tags: dict[str, dict[str, DimensionValue | None]] = {}
    width = len(of_day.columns)
    for row in _combinations(connection, files, rules, of_day):
        ident, values, standing, currency, *sums = row[0], row[1 : width + 1], row[width + 1 : -4], *row[-4:]
        tags = tags_of[ident]
        if ident not in by_tags:
            by_tags[ident] = resolve(rules, tags[1], tags[0])
        said = of_day.say(values, tags)
        matching = [rule.name for rule in of_day.matching(values, tags)]
        for name in matching:
            of_rules[name].matched += sums[0]
        gave: set[str] = set()
        moved: set[str] = set()
        for dimension, old in zip(rules.dimensions, standing):
            given = said.over.get(dimension) or by_tags[ident][dimension] or said.fill.get(dimension)
            new, by = (given.value, given.key) if given else (None, None)
            rule = by.removeprefix(RULE) if by and by.startswith(RULE) else None
            if rule:
                gave.add(rule)
            if new != old:
                moves.setdefault((by, dimension, old, new, currency), _Sums()).add(*sums)
                if rule:
                    moved.add(rule)
        for name in gave:
            of_rules[name].given.setdefault(currency, _Sums()).add(*sums)
        for name in moved:
            of_rules[name].moved[currency] = of_rules[name].moved.get(currency, 0) + sums[0]


def _combinations(
    connection: duckdb.DuckDBPyConnection, files: list[Path], rules: Rules, of_day: RulesOfDay
) -> Iterator[tuple]:  # type: ignore[type-arg]
    """tag_set_id, the columns that rules read, the dimensions as they stand, currency, rows, effective and billed cost."""
    facts = facts_relation(files, of_any_rules=True)
    there = {name for name, *_ in connection.execute(f"DESCRIBE FROM {facts}").fetchall()}
    columns = [f"coalesce({identifier(column)}, '')" for column in of_day.columns]
    # A dimension may be newer than the facts.
    standing = [identifier(d) if d in there else "NULL" for d in rules.dimensions]
    result = connection.execute(
        f"SELECT {', '.join(['tag_set_id', *columns, *standing])}, coalesce(BillingCurrency, '') AS currency, count(*),"
        f" coalesce(sum({EFFECTIVE}), 0), coalesce(sum(BilledCost), 0)"
        f" FROM {facts} GROUP BY {', '.join(str(n + 1) for n in range(len(columns) + len(standing) + 2))}"
    )
    while batch := result.fetchmany(10_000):
        yield from batch


def _moves_table(moves: Mapping[tuple[str | None, str, str | None, str | None, str], _Sums]) -> pd.DataFrame:
    rows = [(*key, sums.effective, sums.billed, sums.rows) for key, sums in moves.items()]
    rows.sort(key=lambda row: (row[4], -row[5], [str(part) for part in row[:4]]))
    return pd.DataFrame(rows, columns=list(MOVES)).astype({"row_count": "int64"})


def _rules_table(of_rules: Mapping[str, _OfRule]) -> pd.DataFrame:
    rows: list[tuple[str, str, Decimal, int, int, int, str]] = []
    for name, found in of_rules.items():
        if not found.matched:
            rows.append((name, "", Decimal(0), 0, 0, 0, "matches no row"))
        elif not found.given:
            note = "gives nothing: tags or rules before it say all that it would"
            rows.append((name, "", Decimal(0), 0, found.matched, 0, note))
        for currency, sums in sorted(found.given.items()):
            moved = found.moved.get(currency, 0)
            rows.append(
                (name, currency, sums.effective, sums.rows, found.matched, moved, "" if moved else "moves nothing")
            )
    return pd.DataFrame(rows, columns=list(OF_RULES)).astype(dict.fromkeys(OF_RULES[3:6], "int64"))
