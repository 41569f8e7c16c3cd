"""Tag sets as a dimension: each distinct set is parsed once, resolved once under the rules in force.

A row carries the id of its tag set. Landing enters the sets that it met into the register; building
facts resolves those not resolved under the present rules and joins the result back. A change of rules
resolves the register anew and reads no export.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.base.errors import TagSetCollision
from finops_assets.cost.attribution.row_rules import Tags
from finops_assets.cost.attribution.rules import Rules, resolve
from finops_assets.focus.tags import canonical_tags, tag_set_id
from finops_assets.ingest.reading.export_table import SOURCE_FILE, SOURCE_ROW, ExportTable
from finops_assets.storage.duck import identifier, literal
from finops_assets.storage.lake import Lake

REGISTER_SCHEMA = pa.schema([("tag_set_id", pa.string()), ("Tags", pa.string()), ("AllocatedTags", pa.string())])
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


def read_tag_sets(connection: duckdb.DuckDBPyConnection, export: ExportTable, tags: RawTags) -> MetTagSets:
    """Parse every distinct tag set of an export, once; leaves the join table `met_tags` in the connection.

    `met_tags`: k0…kn as `tags.keys`, tag_set_id, "Tags" and "AllocatedTags" canonical, bad_tags and
    bad_allocated_tags (the text as written where it is not a tag set).
    """
    grouped = ", ".join(f"{key} AS k{i}" for i, key in enumerate(tags.keys)) or "0 AS k0"
    width = max(len(tags.keys), 1)
    by = [f"k{i}" for i in range(width)]
    # Grouping keeps one number a set, where it was met first; its text is made once, when all are known.
    files = connection.execute(f"SELECT DISTINCT {SOURCE_FILE} FROM ({export.sql})").fetchall()
    listed = ", ".join(literal(name) for (name,) in files)
    place = f"(CAST(list_position([{listed}], e.{SOURCE_FILE}) AS BIGINT) * {ROWS_A_FILE} + e.{SOURCE_ROW})"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE first_met AS SELECT {', '.join(by)}, min(place) AS place"
        f" FROM (SELECT {grouped}, {place} AS place FROM ({export.sql}) e) GROUP BY {', '.join(by)}"
    )
    found = connection.execute(
        f"SELECT {', '.join(f'f.{k}' for k in by)}, {tags.texts[0]}, {tags.texts[1]}"
        f" FROM ({export.sql}) e JOIN first_met f ON f.place = {place}"
    )
    duplicated_keys = 0

    table: dict[str, list[Any]] = {f"k{i}": [] for i in range(width)}
    for name in ("tag_set_id", "Tags", "AllocatedTags", "bad_tags", "bad_allocated_tags"):
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
    fields = [pa.field(f"k{i}", pa.uint64()) for i in range(width)]
    fields += [pa.field(name, pa.string()) for name in list(table)[width:]]
    connection.register("met_tags_arrow", pa.table(table, schema=pa.schema(fields)))
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
    )


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


def attribution_schema(rules: Rules) -> pa.Schema:
    """tag_set_id, then for each dimension its value and the tag key that gave it."""
    fields = [pa.field("tag_set_id", pa.string())]
    for dimension in rules.dimensions:
        fields += [pa.field(dimension, pa.string()), pa.field(f"{dimension}_key", pa.string())]
    return pa.schema(fields)


def attribution(lake: Lake, rules: Rules, sources: list[str]) -> pa.Table:
    """Every registered tag set of these sources with its dimensions; resolves only those not yet resolved.

    One file per version of what decides about tags; rules beyond tags do not touch it. Two runs that write it at once lose nothing: what is missing is resolved again.
    """
    file = lake.root / "tag_sets" / f"rules={rules.tags_version}" / "attribution.parquet"
    schema = attribution_schema(rules)
    held = pq.read_table(file, schema=schema) if lake.fetch([file]) else schema.empty_table()
    known = set(held["tag_set_id"].to_pylist())
    rows: dict[str, list[str | None]] = {name: [] for name in schema.names}
    for source in sources:
        register = _register(lake, source)
        if not lake.fetch([register]):
            continue
        for ident, tags, allocated in zip(
            *(column.to_pylist() for column in pq.read_table(register, schema=REGISTER_SCHEMA).columns)
        ):
            if ident in known:
                continue
            known.add(ident)
            rows["tag_set_id"].append(ident)
            # Canonical already: nothing is left to repair.
            given = resolve(rules, json.loads(tags or "{}"), json.loads(allocated or "{}"))
            for dimension, reason in given.items():
                rows[dimension].append(reason.value if reason else None)
                rows[f"{dimension}_key"].append(reason.key if reason else None)
    if not rows["tag_set_id"]:
        return held
    table = pa.concat_tables([held, pa.table(rows, schema=schema)])
    with lake.replacing(file, blind=True) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return table


class TagTexts:
    """The registered tag sets of sources by their ids, read when first asked for: only rules that read tags do."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._read: dict[str, TagsById] = {}
        self._lock = Lock()

    def of(self, source: str) -> TagsById:
        """The tag sets of a source."""
        with self._lock:
            return self._read.setdefault(source, TagsById(self.lake, source))


class TagsById:
    """One source's register: tag set id -> AllocatedTags and Tags."""

    def __init__(self, lake: Lake, source: str) -> None:
        self.lake, self.source = lake, source

    @cached_property
    def _texts(self) -> dict[str, tuple[str | None, str | None]]:
        file = _register(self.lake, self.source)
        if not self.lake.fetch([file]):
            return {}
        table = pq.read_table(file, schema=REGISTER_SCHEMA)
        pairs = zip(table["AllocatedTags"].to_pylist(), table["Tags"].to_pylist())
        return dict(zip(table["tag_set_id"].to_pylist(), pairs))

    def __getitem__(self, ident: str) -> Tags:
        allocated, own = self._texts.get(ident, (None, None))
        return json.loads(allocated or "{}"), json.loads(own or "{}")


def _register(lake: Lake, source: str) -> Path:
    return lake.root / "tag_sets" / f"source={source}" / "register.parquet"
