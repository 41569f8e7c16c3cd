"""An engine with tables of its own: a day stands there as the lake has it, and what is attributed there comes back to the lake.

So everything that reads facts reads the lake, whichever engine made them, and a person can query the same days in the
engine. Each day has a stamp beside it; one that differs from the lake's is brought anew before anybody is answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.base.errors import FinopsError
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.facts_query import KEPT
from finops_assets.focus.money import SCALE
from finops_assets.ingest.reading.export_table import all_columns
from finops_assets.ingest.reading.relation import SOURCE_ROW
from finops_assets.storage.day_files import put_day, stamp_of
from finops_assets.storage.lake import Key, Lake, Layer
from finops_assets.storage.ledger import Ledger

Kind = Literal["decimal", "datetime", "text", "count"]
TABLES: dict[Layer, str] = {
    "raw": "raw_charges",
    "split": "split_charges",
    "unreleased": "cloud_cost_facts_waiting",
    "facts": "cloud_cost_facts",
}
DAYS = "days_held"
"""Which days stand in the tables, and what each was built from; of a day the line entered last counts."""
DAYS_COLUMNS = ("layer", "source", "charge_date", "stamp", "entered")
ROWS_AT_ONCE = 122_880
_ARROW: dict[Kind, pa.DataType] = {
    "decimal": pa.decimal128(38, SCALE),
    "datetime": pa.timestamp("us"),
    "text": pa.string(),
    "count": pa.int64(),
}
_KINDS: dict[str, Kind] = {"decimal": "decimal", "datetime": "datetime"}
_FOCUS: dict[str, Kind] = {column.name: _KINDS.get(column.type, "text") for column in all_columns()}
RAW_COLUMNS: dict[str, Kind] = {name: "count" if name == SOURCE_ROW else _FOCUS.get(name, "text") for name in KEPT}


class Tables(Protocol):
    """What differs between engines with tables of their own. Columns come without `source` and `charge_date`, which all have."""

    dialect: str

    @property
    def name(self) -> str:
        """What ran, for checks and messages."""

    @property
    def at_once(self) -> int:
        """How many (source, day)s it is best given at a time."""

    def table(self, query: str) -> pa.Table:
        """What a rendered statement gives."""

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The same, a part at a time."""

    def put(self, table: pa.Table) -> str:
        """Give it a table of texts; the name of the relation, in plain SQL."""

    def forget(self, relation: str) -> None:
        """What `put` or `view` named is not needed any more."""

    def note(self, table: pa.Table) -> None:
        """Add lines, all of them texts, to the table `DAYS`."""

    def have(self, table: str, columns: Mapping[str, Kind]) -> None:
        """See that there is such a table with at least these columns, and one for `note`."""

    def view(self, table: str, keys: Sequence[Key]) -> str:
        """The name of a relation of these days of a table."""

    def replace(self, table: str, keys: Sequence[Key], columns: Sequence[str], query: str) -> None:
        """Put what a rendered statement gives in the place of these days, each whole or not at all.

        The statement gives these columns, source and charge_date.
        """

    def take(self, table: str, keys: Sequence[Key], columns: Sequence[str], other: str) -> None:
        """Put the rows that another table has of these days in their place, each whole or not at all."""

    def load(self, table: str, lake: Lake, layer: Layer, keys: Sequence[Key], columns: Mapping[str, Kind]) -> None:
        """Put the rows of the lake's files in the place of these days, each whole or not at all.

        A column that a file lacks is NULL; others of a file than these are left out.
        """

    def quoted(self, name: str) -> str:
        """A name, as it stands in a statement."""

    def of_keys(self, keys: Iterable[Key]) -> str:
        """The condition that a row is of one of these days, at least one."""


class Mirror:
    """A `Remote`: an engine's own tables, kept as the lake's files are."""

    def __init__(self, tables: Tables, lake: Lake) -> None:
        self.tables, self.lake = tables, lake
        self.dialect = tables.dialect
        self._there: dict[str, set[str]] = {}

    @property
    def name(self) -> str:
        return self.tables.name

    @property
    def at_once(self) -> int:
        return self.tables.at_once

    def put(self, table: pa.Table) -> str:
        return self.tables.put(table)

    def forget(self, relation: str) -> None:
        self.tables.forget(relation)

    def table(self, query: str) -> pa.Table:
        return self.tables.table(query)

    def show(self, layer: Layer, keys: list[Key]) -> str:
        """A view over the days' rows, after those that differ from the lake's were brought."""
        self._bring(layer, keys)
        return self.tables.view(TABLES[layer], keys)

    def keep_only(self, keys: Iterable[Key], days: Iterable[date]) -> None:
        """Take other facts of these days out of the table: of a source that does not count any more."""
        held = self._held("facts", sorted(set(days)))
        if gone := sorted(held.keys() - set(keys)):
            self._note("facts", dict.fromkeys(gone, ""))
            self._empty("facts", gone)

    def replace_facts(self, stamps: Mapping[Key, str], rules: Rules, query: str) -> None:
        """The days are built in the table of those that wait, and come back as the lake's files, which wait, too.

        Raises:
            FinopsError: fewer or more rows came back than were built; the lake keeps what it had.
        """
        keys = list(stamps)
        columns = RAW_COLUMNS | {name: "text" for d in rules.dimensions for name in (d, f"{d}_key")}
        table = TABLES["unreleased"]
        self._have(table, columns)
        self._note("unreleased", dict.fromkeys(keys, ""))
        self.tables.replace(table, keys, list(columns), query)
        counted = self._counted(table, keys)
        for key in keys:
            self._hand_over(key, columns, stamps[key], counted.get(key, 0))
        self._note("unreleased", stamps)

    def _have(self, table: str, columns: Mapping[str, Kind]) -> None:
        there = self._there.setdefault(table, set())
        if columns.keys() - there:
            self.tables.have(table, columns)
            there.update(columns)

    def _hand_over(self, key: Key, columns: Mapping[str, Kind], stamp: str, rows: int) -> None:
        names = ", ".join(map(self.tables.quoted, columns))
        table = self.tables.quoted(TABLES["unreleased"])
        query = f"SELECT {names} FROM {table} WHERE {self.tables.of_keys([key])}"
        schema = pa.schema([(name, _ARROW[kind]) for name, kind in columns.items()])

        def write(file: Path) -> None:
            with pq.ParquetWriter(file, schema, compression="zstd", store_schema=False) as writer:
                came = 0
                for part in _in_parts(self.tables.batches(query), schema):
                    writer.write_table(part, row_group_size=ROWS_AT_ONCE)
                    came += part.num_rows
                if came != rows:
                    raise FinopsError(
                        f"{self.name}: {key[0]} {key[1]}: {rows:,} rows of facts were built there and {came:,} came back;"
                        " nothing was replaced: run the day again"
                    )
                writer.add_key_value_metadata({"finops_stamp": stamp})

        put_day(self.lake, key, write)

    def _counted(self, table: str, keys: Sequence[Key]) -> dict[Key, int]:
        source, day = map(self.tables.quoted, ("source", "charge_date"))
        found = self.tables.table(
            f"SELECT {source} AS {source}, {day} AS {day}, COUNT(*) AS {self.tables.quoted('counted')}"
            f" FROM {self.tables.quoted(table)} WHERE {self.tables.of_keys(keys)} GROUP BY {source}, {day}"
        )
        named = (found[name].to_pylist() for name in ("source", "charge_date", "counted"))
        return {(source, day): int(counted) for source, day, counted in zip(*named)}

    def _bring(self, layer: Layer, keys: list[Key]) -> None:
        # In this order: rows may be newer than their stamp says, and are then brought again, but never older.
        wanted = {key: self._stamp(layer, key) for key in keys}
        columns = self._columns(layer, keys)
        self._have(TABLES[layer], columns)
        there = self._held(layer, sorted({day for _, day in keys}))
        stale = [key for key in keys if wanted[key] is None or there.get(key) != wanted[key]]
        if not stale:
            return
        self._note(layer, dict.fromkeys(stale, ""))
        passed = self._passed(stale, wanted) if layer == "facts" else []
        for part in _at_most(passed, self.at_once):
            self.tables.take(TABLES["facts"], part, list(columns), TABLES["unreleased"])
        for part in _at_most(sorted(set(stale) - set(passed)), self.at_once):
            self.tables.load(TABLES[layer], self.lake, layer, part, columns)
        self._note(layer, {key: stamp for key in stale if (stamp := wanted[key])})
        if passed:
            self._note("unreleased", dict.fromkeys(passed, ""))
            self._empty("unreleased", passed)

    def _passed(self, keys: Sequence[Key], wanted: Mapping[Key, str | None]) -> list[Key]:
        """Those that were attributed here and have passed their gates since: they need not be brought from the lake."""
        waiting = self._held("unreleased", sorted({day for _, day in keys}))
        return [key for key in keys if waiting.get(key) == wanted[key]]

    def _empty(self, layer: Layer, keys: Sequence[Key]) -> None:
        table = self.tables.quoted(TABLES[layer])
        names = ", ".join(map(self.tables.quoted, ("source", "charge_date")))
        for part in _at_most(keys, self.at_once):
            self.tables.replace(TABLES[layer], part, [], f"SELECT {names} FROM {table} WHERE 1 = 0")

    def _columns(self, layer: Layer, keys: list[Key]) -> dict[str, Kind]:
        if layer in ("raw", "split"):
            return dict(RAW_COLUMNS)
        # A held source's last good version may have been attributed under rules with other dimensions.
        files = self.lake.fetch([self.lake.day_file(layer, *key) for key in keys])
        named = {name: RAW_COLUMNS.get(name, "text") for file in files for name in pq.read_schema(file).names}
        return RAW_COLUMNS | named

    def _stamp(self, layer: Layer, key: Key) -> str | None:
        """What the lake's file was built from; None where nobody keeps it, so that it is always brought."""
        if layer == "raw":
            totals = Ledger(self.lake, key[0]).day_totals(key[1])
            return totals.fingerprint if totals else None
        [file] = self.lake.fetch([self.lake.day_file(layer, *key)])
        return stamp_of(file)

    def _held(self, layer: Layer, days: Sequence[date]) -> dict[Key, str]:
        """The stamps of what stands whole in a layer's table, of these days."""
        if not days:
            return {}
        self._have(TABLES[layer], RAW_COLUMNS)
        names = ", ".join(map(self.tables.quoted, DAYS_COLUMNS[1:]))
        listed = ", ".join(f"'{day}'" for day in days)
        found = self.tables.table(
            f"SELECT {names} FROM {self.tables.quoted(DAYS)}"
            f" WHERE {self.tables.quoted('layer')} = '{layer}' AND {self.tables.quoted('charge_date')} IN ({listed})"
        )
        last: dict[Key, tuple[str, str]] = {}
        for source, day, stamp, entered in zip(*(column.to_pylist() for column in found.columns)):
            key = (source, date.fromisoformat(day))
            last[key] = max(last.get(key, ("", "")), (entered, stamp))
        return {key: stamp for key, (_, stamp) in last.items() if stamp}

    def _note(self, layer: Layer, stamps: Mapping[Key, str]) -> None:
        """Before a day is touched with '', afterwards with what it was built from: one that was left half is none."""
        if not stamps:
            return
        entered = datetime.now(UTC).isoformat(timespec="microseconds")
        rows = [(layer, source, str(day), stamp, entered) for (source, day), stamp in stamps.items()]
        schema = pa.schema([(name, pa.string()) for name in DAYS_COLUMNS])
        self.tables.note(pa.table(dict(zip(DAYS_COLUMNS, map(list, zip(*rows)))), schema=schema))


def _in_parts(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Batches gathered to row groups of the lake's size, in the lake's types."""
    waiting: list[pa.Table] = []
    rows = 0
    for batch in batches:
        waiting.append(pa.table(batch).select(schema.names).cast(schema))
        rows += batch.num_rows
        if rows >= ROWS_AT_ONCE:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, rows - rows % ROWS_AT_ONCE)
            waiting = [whole.slice(rows - rows % ROWS_AT_ONCE)]
            rows %= ROWS_AT_ONCE
    if rows:
        yield pa.concat_tables(waiting)


def by_source(keys: Iterable[Key]) -> dict[str, list[date]]:
    """The days of each source."""
    found: dict[str, list[date]] = {}
    for source, day in keys:
        found.setdefault(source, []).append(day)
    return found


def _at_most(keys: Sequence[Key], most: int) -> Iterator[Sequence[Key]]:
    for start in range(0, len(keys), most):
        yield keys[start : start + most]
