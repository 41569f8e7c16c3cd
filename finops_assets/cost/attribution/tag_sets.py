"""Tag sets as a dimension: each distinct set is parsed once, resolved once under the rules in force.

A row carries the id of its tag set. Landing enters the sets that it met into the register; building
facts resolves those not resolved under the present rules and joins the result back. A change of rules
resolves the register anew and reads no export.
"""

from __future__ import annotations

import json
from functools import cached_property
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.cost.attribution.rules import Rules, resolve
from finops_assets.focus.tags import Tags
from finops_assets.ingest.tag_register import REGISTER_SCHEMA, _register
from finops_assets.storage.lake import Lake


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
