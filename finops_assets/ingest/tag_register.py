"""The register of tag sets: each distinct set of a source is parsed once, when it is landed, and known by its id."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.base.errors import TagSetCollision
from finops_assets.base.spread import Spread
from finops_assets.base.sql import identifier, literal
from finops_assets.focus.tags import canonical_tags, tag_set_id
from finops_assets.ingest.reading.export_table import rows_of_file
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW, ExportTable, PlainFile
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import connect, file_list
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


@dataclass(frozen=True)
class RawTags:
    """SQL over an export's rows (alias e) for its two tag columns: how to group them and how to show them."""

    keys: tuple[str, ...]
    texts: tuple[str, str]

    @property
    def join(self) -> str:
        return " AND ".join(f"{key} = t.k{i}" for i, key in enumerate(self.keys)) or "true"


def raw_tags(export: ExportTable) -> RawTags:
    """How to recognise equal tag sets of this export cheaply.

    This is the one place with engine-specific functions on tags. Two 64-bit hashes, of the set and of another
    rendering, stand for it while it is joined: grouping by the map itself costs twice as much. A map's values alone
    are rendering enough: sets whose values agree and whose first hashes collide would be one in 10^9 months.
    """
    keys: list[str] = []
    texts: list[str] = []
    for column in ("Tags", "AllocatedTags"):
        name = export.focus_columns.get(column)
        if name is None:
            texts.append("NULL")
            continue
        value = f"e.{identifier(name)}"
        if export.types[name] == "VARCHAR":
            keys += [f"hash({value})", f"hash('~' || {value})"]
            texts.append(value)
        else:
            second = f"map_values({value})" if export.types[name].startswith("MAP(") else f"CAST({value} AS VARCHAR)"
            keys += [f"hash({value})", f"hash({second})"]
            texts.append(f"CAST(to_json({value}) AS VARCHAR)")
    return RawTags(tuple(keys), (texts[0], texts[1]))


@dataclass(frozen=True)
class MetTagSets:
    """What one export's tag sets came to: the register rows, and how many texts could not be read."""

    register: pa.Table
    duplicated_keys: int
    canonical: pa.Table
    """tag_set_id, Tags and AllocatedTags of every row of `met_tags`, in the order of its `place`."""


def read_tag_sets(
    connection: duckdb.DuckDBPyConnection,
    export: ExportTable,
    tags: RawTags,
    spread: tuple[Spread, EngineSettings] | None = None,
) -> MetTagSets:
    """Parse every distinct tag set of an export, once; leaves the join table `met_tags` in the connection.

    `met_tags`: k0…kn as `tags.keys`, place (its row, from 0), tag_set_id, "Tags" and "AllocatedTags" canonical, bad_tags and
    bad_allocated_tags (the text as written where it is not a tag set), nested_tags and nested_allocated_tags (the text as
    written where a value of it is an object or a list).

    `spread`: who finds the sets of each file elsewhere, within these bounds; they are parsed here.
    """
    width = max(len(tags.keys), 1)
    if spread and len(export.files) > 1:
        found = _met_elsewhere(connection, export, tags, spread)
    else:
        found = connection.execute(_met_query(connection, f"({export.sql})", tags))
    duplicated_keys = 0

    table: dict[str, list[Any]] = {f"k{i}": [] for i in range(width)}
    for name in ("tag_set_id", "Tags", "AllocatedTags", *TOLD_OF_TAGS):
        table[name] = []
    register: dict[str, tuple[str | None, str | None]] = {}
    for row in iter(lambda: found.fetchone(), None):
        own, allocated = canonical_tags(row[width]), canonical_tags(row[width + 1])
        duplicated_keys += own.duplicates + allocated.duplicates
        pair = (own.json, allocated.json)
        ident = tag_set_id(*pair)
        if register.setdefault(ident, pair) != pair:
            raise TagSetCollision(f"tag sets {register[ident]} and {pair} have the same id {ident}")
        for i in range(width):
            table[f"k{i}"].append(row[i])
        table["tag_set_id"].append(ident)
        table["Tags"].append(own.json)
        table["AllocatedTags"].append(allocated.json)
        table["bad_tags"].append(row[width] if own.problem else None)
        table["bad_allocated_tags"].append(row[width + 1] if allocated.problem else None)
        table["nested_tags"].append(row[width] if own.nested else None)
        table["nested_allocated_tags"].append(row[width + 1] if allocated.nested else None)
    fields = [pa.field(f"k{i}", pa.uint64()) for i in range(width)]
    fields += [pa.field(name, pa.string()) for name in list(table)[width:]]
    table["place"] = list(range(len(table["k0"])))
    fields.append(pa.field("place", pa.int32()))
    canonical = pa.table(table, schema=pa.schema(fields))
    connection.register("met_tags_arrow", canonical)
    connection.execute("CREATE OR REPLACE TEMP TABLE met_tags AS SELECT * FROM met_tags_arrow")
    connection.unregister("met_tags_arrow")
    idents = list(register)
    return MetTagSets(
        pa.table(
            {
                "tag_set_id": idents,
                "Tags": [register[i][0] for i in idents],
                "AllocatedTags": [register[i][1] for i in idents],
            },
            schema=REGISTER_SCHEMA,
        ),
        duplicated_keys,
        canonical.select(["tag_set_id", "Tags", "AllocatedTags"]),
    )


def _met_query(connection: duckdb.DuckDBPyConnection, rows: str, tags: RawTags) -> str:
    """SQL: each distinct set of a relation of an export's rows once, by its keys, with its texts."""
    grouped = ", ".join(f"{key} AS k{i}" for i, key in enumerate(tags.keys)) or "0 AS k0"
    by = [f"k{i}" for i in range(max(len(tags.keys), 1))]
    # Grouping keeps one number a set, where it was met first; its text is made once, when all are known.
    files = connection.execute(f"SELECT DISTINCT {SOURCE_FILE} FROM {rows}").fetchall()
    listed = ", ".join(literal(name) for (name,) in files)
    place = f"(CAST(list_position([{listed}], e.{SOURCE_FILE}) AS BIGINT) * {ROWS_A_FILE} + e.{SOURCE_ROW})"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE first_met AS SELECT {', '.join(by)}, min(place) AS place"
        f" FROM (SELECT {grouped}, {place} AS place FROM {rows} e) GROUP BY {', '.join(by)}"
    )
    return (
        f"SELECT {', '.join(f'f.{k}' for k in by)}, {tags.texts[0]} AS own, {tags.texts[1]} AS allocated"
        f" FROM {rows} e JOIN first_met f ON f.place = {place}"
    )


def _met_elsewhere(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, tags: RawTags, spread: tuple[Spread, EngineSettings]
) -> duckdb.DuckDBPyConnection:
    """The same, of each file on whichever machine takes it, and then of what they found."""
    elsewhere, bounds = spread
    found = elsewhere(partial(_met_in_file, bounds, export, tags), export.files)
    by = ", ".join(f"k{i}" for i in range(max(len(tags.keys), 1)))
    return connection.execute(
        f"SELECT {by}, any_value(own), any_value(allocated) FROM read_parquet({file_list(found)}) GROUP BY {by}"
    )


def _met_in_file(bounds: EngineSettings, export: ExportTable, tags: RawTags, file: PlainFile) -> Path:
    """Beside the file, so that whoever asked sees it; with the delivery's scratch it goes."""
    made = file.path.with_name(f"{file.path.stem}.{uuid.uuid4().hex}.met.parquet")
    with connect(bounds, made.with_suffix(".spill")) as connection:
        query = _met_query(connection, rows_of_file(export, file, pq.read_schema(file.path)), tags)
        connection.execute(f"COPY ({query}) TO {literal(str(made))} (FORMAT parquet)")
    return made


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
