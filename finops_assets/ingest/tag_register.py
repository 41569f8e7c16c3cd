"""The register of tag sets: each distinct set of a source is parsed once, when it is landed, and known by its id."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from finops_assets.base.errors import TagSetCollision
from finops_assets.base.spread import Spread
from finops_assets.base.sql import identifier, literal
from finops_assets.focus.tags import canonical_tags, tag_set_id
from finops_assets.ingest.reading.export_table import rows_of_file
from finops_assets.ingest.reading.relation import ROW, SOURCE_FILE, SOURCE_ROW, ExportTable, PlainFile
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import connect
from finops_assets.storage.lake import Lake

REGISTER_SCHEMA = pa.schema([("tag_set_id", pa.string()), ("Tags", pa.string()), ("AllocatedTags", pa.string())])

TOLD_OF_TAGS = {
    "bad_tags": ("not_a_tag_set", "Tags"),
    "bad_allocated_tags": ("not_a_tag_set", "AllocatedTags"),
    "nested_tags": ("nested_tag_value", "Tags"),
    "nested_allocated_tags": ("nested_tag_value", "AllocatedTags"),
}
"""Of the columns of `met_tags` those that say what was odd about a set: the rule, and the column as it is delivered."""

ROWS_A_FILE = 2**40  # more than a file can have: file number and row make one number
ROWS_AT_ONCE = 131_072


@dataclass(frozen=True)
class RawTags:
    """SQL over an export's rows (alias e) for its two tag columns: how to tell sets apart and how to show them."""

    keys: tuple[str, str]
    texts: tuple[str, str]

    @property
    def join(self) -> str:
        return f"{self.keys[0]} = t.k0 AND {self.keys[1]} = t.k1"


def raw_tags(export: ExportTable) -> RawTags:
    """How to recognise equal tag sets of this export cheaply.

    This is the one place with engine-specific functions on tags. Two 64-bit hashes, of the sets and of another
    rendering, stand for them: grouping by the map itself costs twice as much. A map's values alone are rendering enough:
    sets whose values agree and whose first hashes collide would be one in 10^9 months.
    """
    firsts, seconds, texts = ["0"], ["0"], []
    for column in ("Tags", "AllocatedTags"):
        name = export.focus_columns.get(column)
        if name is None:
            texts.append("NULL")
            continue
        value = f"e.{identifier(name)}"
        firsts.append(value)
        if export.types[name] == "VARCHAR":
            seconds.append(f"'~' || {value}")
            texts.append(value)
        else:
            seconds.append(
                f"map_values({value})" if export.types[name].startswith("MAP(") else f"CAST({value} AS VARCHAR)"
            )
            texts.append(f"CAST(to_json({value}) AS VARCHAR)")
    return RawTags((f"hash({', '.join(firsts)})", f"hash({', '.join(seconds)})"), (texts[0], texts[1]))


@dataclass(frozen=True)
class TagsOfFile:
    """The tag sets of one file of an export that is read as it lies."""

    sets: Path
    """Parquet: the hashes k0 and k1 of each distinct set, and its texts own and allocated."""
    places: Path
    """NumPy: which of them each row of the file has."""

    def places_among(self, sets: pa.Table) -> np.ndarray:
        """Which set each row of the file has, by its row in `sets` (with k0 and k1)."""
        among = pc.index_in(_pairs(pq.read_table(self.sets, columns=["k0", "k1"])), value_set=_pairs(sets))
        return np.asarray(among.to_numpy(zero_copy_only=False)[np.load(self.places)], dtype=np.int32)


@dataclass(frozen=True)
class MetTagSets:
    """What one export's tag sets came to: the register rows, and how often a key stood twice in a set."""

    register: pa.Table
    duplicated_keys: int
    sets: pa.Table
    """Of each distinct set k0 and k1 as `RawTags.keys`, tag_set_id, Tags and AllocatedTags canonical, and of `TOLD_OF_TAGS` its
    text as written where there is something to tell: it is no tag set, or a value of it is an object or a list."""
    files: tuple[TagsOfFile, ...]
    """The sets of the export's files, in their order, where it is read as it lies."""

    @property
    def odd(self) -> bool:
        """Is there anything to say of a set?"""
        return any(self.sets[name].null_count < len(self.sets) for name in TOLD_OF_TAGS)

    def enter(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Have the sets in a connection as the table `met_tags`, to be joined by `RawTags.join`."""
        connection.register("met_tags_arrow", self.sets)
        connection.execute("CREATE OR REPLACE TEMP TABLE met_tags AS SELECT * FROM met_tags_arrow")
        connection.unregister("met_tags_arrow")


def read_tag_sets(
    connection: duckdb.DuckDBPyConnection,
    export: ExportTable,
    tags: RawTags,
    folder: Path,
    spread: tuple[Spread, EngineSettings] | None = None,
) -> MetTagSets:
    """Parse every distinct tag set of an export, once.

    `folder`, which is made, holds what was found in each file. `spread`: who finds the sets of each file elsewhere, within
    these bounds, and sees `folder`; they are parsed here.
    """
    folder.mkdir()
    numbered = [(folder / f"{number:07}", file) for number, file in enumerate(export.files)]
    if spread and len(numbered) > 1:
        elsewhere, bounds = spread
        files = elsewhere(partial(_of_file_elsewhere, bounds, export, tags), numbered)
    else:
        files = [_of_file(connection, export, tags, each) for each in numbered]
    found: Iterable[pa.Table]
    if files:
        # One at a time: most files have the same sets.
        found = (pq.read_table(of_file.sets) for of_file in files)
    else:
        found = [_distinct(connection, f"({export.sql})", _row_of_any_file(connection, export), tags)]
    known = _Met()
    texts = pa.concat_tables([table.take(known.number(_pairs(table))[1]) for table in found])
    parsed, register, duplicated_keys = _parsed(texts)
    return MetTagSets(register, duplicated_keys, parsed, tuple(files))


def _parsed(texts: pa.Table) -> tuple[pa.Table, pa.Table, int]:
    """`MetTagSets.sets` of distinct sets as they are written, the register's rows, and how often a key stood twice in a set."""
    duplicated_keys = 0
    names = ("tag_set_id", "Tags", "AllocatedTags", *TOLD_OF_TAGS)
    table: dict[str, list[str | None]] = {name: [] for name in names}
    register: dict[str, tuple[str | None, str | None]] = {}
    for own_text, allocated_text in zip(texts["own"].to_pylist(), texts["allocated"].to_pylist()):
        own, allocated = canonical_tags(own_text), canonical_tags(allocated_text)
        duplicated_keys += own.duplicates + allocated.duplicates
        pair = (own.json, allocated.json)
        ident = tag_set_id(*pair)
        if register.setdefault(ident, pair) != pair:
            raise TagSetCollision(f"tag sets {register[ident]} and {pair} have the same id {ident}")
        table["tag_set_id"].append(ident)
        table["Tags"].append(own.json)
        table["AllocatedTags"].append(allocated.json)
        table["bad_tags"].append(own_text if own.problem else None)
        table["bad_allocated_tags"].append(allocated_text if allocated.problem else None)
        table["nested_tags"].append(own_text if own.nested else None)
        table["nested_allocated_tags"].append(allocated_text if allocated.nested else None)
    columns = [texts["k0"], texts["k1"], *(pa.array(values, pa.string()) for values in table.values())]
    idents = list(register)
    entered = {
        "tag_set_id": idents,
        "Tags": [register[i][0] for i in idents],
        "AllocatedTags": [register[i][1] for i in idents],
    }
    return (
        pa.table(columns, names=["k0", "k1", *names]),
        pa.table(entered, schema=REGISTER_SCHEMA),
        duplicated_keys,
    )


class _Met:
    """Distinct values of 16 bytes, each with the number under which it was met first."""

    def __init__(self) -> None:
        self._known = pa.array([], pa.binary(16))

    def number(self, values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """The number of each value, and where each new one stands first, in the order of their numbers."""
        encoded = values.dictionary_encode()
        places = encoded.indices.to_numpy()
        among = pc.index_in(encoded.dictionary, value_set=self._known)
        new = among.is_null().to_numpy(zero_copy_only=False)
        numbers = among.fill_null(0).to_numpy().astype(np.int32)
        numbers[new] = len(self._known) + np.arange(np.count_nonzero(new))
        self._known = pa.concat_arrays([self._known, encoded.dictionary.filter(pa.array(new))])
        first = np.empty(len(numbers), dtype=np.int64)
        # Of several that are written to one place the last stays.
        first[places[::-1]] = np.arange(len(places))[::-1]
        return numbers[places], first[new]


def _pairs(table: pa.Table | pa.RecordBatch) -> pa.Array:
    """Both hashes of each row as one value."""
    both = np.column_stack([table["k0"].to_numpy(), table["k1"].to_numpy()])
    return pa.Array.from_buffers(pa.binary(16), len(both), [None, pa.py_buffer(both)])


def _distinct(
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    row: str,
    tags: RawTags,
    places: np.ndarray | None = None,
) -> pa.Table:
    """Each distinct set of a relation of an export's rows once: k0, k1, and its texts own and allocated.

    `row` is SQL of a number of a row. Where numbers begin with 0 and are dense, `places` is told for each which set it has.
    """
    known = _Met()
    kept = []
    read = f"SELECT {row} AS row, {tags.keys[0]} AS k0, {tags.keys[1]} AS k1 FROM {rows} e"
    connection.complete()  # whoever asked last may have taken one row only
    with closing(connection.sql(read).to_arrow_reader(ROWS_AT_ONCE)) as reader:
        for batch in reader:
            numbers, first = known.number(_pairs(batch))
            if places is not None:
                places[batch["row"].to_numpy()] = numbers
            kept.append(batch.take(pa.array(first)))
    met = pa.Table.from_batches(kept, schema=reader.schema)
    connection.register("first_met", met.append_column("place", pa.array(np.arange(len(met)))))
    # A set's text is made once, when all are known.
    texts = connection.sql(
        f"SELECT f.k0, f.k1, {tags.texts[0]} AS own, {tags.texts[1]} AS allocated"
        f" FROM {rows} e JOIN first_met f ON f.row = {row} ORDER BY f.place"
    ).to_arrow_table()
    connection.unregister("first_met")
    return texts


def _row_of_any_file(connection: duckdb.DuckDBPyConnection, export: ExportTable) -> str:
    """SQL: one number for the file and row of an export's row (alias e)."""
    files = connection.execute(f"SELECT DISTINCT {SOURCE_FILE} FROM ({export.sql})").fetchall()
    listed = ", ".join(literal(name) for (name,) in files)
    return f"(CAST(list_position([{listed}], e.{SOURCE_FILE}) AS BIGINT) * {ROWS_A_FILE} + e.{SOURCE_ROW})"


def _of_file(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, tags: RawTags, named: tuple[Path, PlainFile]
) -> TagsOfFile:
    name, file = named
    # Of each go its own: one that was given up may still be writing.
    found = TagsOfFile(*(name.with_suffix(f".{uuid.uuid4().hex}.{kind}") for kind in ("parquet", "npy")))
    with pq.ParquetFile(file.path) as opened:
        places, schema = np.zeros(opened.metadata.num_rows, dtype=np.int32), opened.schema_arrow
    pq.write_table(_distinct(connection, rows_of_file(export, file, schema), f"e.{ROW}", tags, places), found.sets)
    np.save(found.places, places)
    return found


def _of_file_elsewhere(
    bounds: EngineSettings, export: ExportTable, tags: RawTags, named: tuple[Path, PlainFile]
) -> TagsOfFile:
    with connect(bounds, named[0].with_suffix(f".{uuid.uuid4().hex}.spill")) as connection:
        return _of_file(connection, export, tags, named)


def enter_tag_sets(lake: Lake, source: str, met: pa.Table) -> int:
    """Add sets that the source's register does not hold; returns how many were new.

    Raises:
        TagSetCollision: an id stands in the register with other tags.
    """
    file = _register(lake, source)
    held = pq.read_table(file) if lake.fetch([file]) else REGISTER_SCHEMA.empty_table()
    known = dict(zip(held["tag_set_id"].to_pylist(), zip(held["Tags"].to_pylist(), held["AllocatedTags"].to_pylist())))
    new = []
    for i, (ident, pair) in enumerate(
        zip(met["tag_set_id"].to_pylist(), zip(met["Tags"].to_pylist(), met["AllocatedTags"].to_pylist()))
    ):
        if ident not in known:
            new.append(i)
        elif known[ident] != pair:
            raise TagSetCollision(f"tag sets {known[ident]} and {pair} have the same id {ident}")
    if new:
        with lake.replacing(file) as temporary:
            pq.write_table(pa.concat_tables([held, met.take(new)]), temporary, compression="zstd")
    return len(new)


def _register(lake: Lake, source: str) -> Path:
    return lake.root / "tag_sets" / f"source={source}" / "register.parquet"
