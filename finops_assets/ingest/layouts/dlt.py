"""A dataset that dlt has filled: `<table>/<load id>.<file>.parquet`, and `_dlt_loads/<schema>__<load id>.jsonl` once a load is whole.

dlt writes the file of `_dlt_loads` last, so a load without one is still under way, or broke off. What a load replaces is
said by the table's write disposition in the newest schema of `_dlt_version`: `replace` makes the whole table anew, so the
table is a scope; with `append` a load adds, so each load is one. Source of the rules: dlt 1.31, destination filesystem.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from finops_assets.base.uris import is_data
from finops_assets.ingest.layouts.delivery import Delivery, read_manifest, unreadable, utc
from finops_assets.ingest.layouts.listing import ListedStore
from finops_assets.storage.stores.store import StoredFile

JSON_LINES = (".jsonl", ".jsonl.gz")
_LOADS = "_dlt_loads/"
_LOAD = re.compile(rf"{_LOADS}.+__(?P<load>\d+\.\d+)\.jsonl")
_VERSION = re.compile(r"_dlt_version/.+__(?P<at>\d+(?:\.\d+)?)__[^/]+\.jsonl")
_LOAD_ID = re.compile(r"(?<![\d.])\d{9,}\.\d+(?=\.)")

Files = list[StoredFile]


def deliveries(store: ListedStore, table: str | None = None) -> Iterator[Delivery]:
    """The newest load of each table that is replaced, every load of one that is added to; `table` is a name or a glob."""
    listed = store.list()
    loads = {entry["load"]: file for file in listed if (entry := _LOAD.fullmatch(file.key))}
    tables = _tables(listed)
    if listed and not loads:
        problem = (
            "holds no completed load of dlt (_dlt_loads/*.jsonl); the uri of the layout dlt is the dataset's folder, which"
            " is named by dataset_name, and a load is read once dlt has finished it"
        )
        yield unreadable(_LOADS, _LOADS, problem)
        return
    wanted = [name for name in tables if table is None or fnmatchcase(name, table)]
    if tables and (not wanted or (table is None and len(wanted) > 1)):
        found = ", ".join(sorted(tables))
        yield unreadable(
            _LOADS, _LOADS, f"the dataset has the tables {found}; name one by `table`, or several as focus_*"
        )
        return
    schemas: list[tuple[str, Any]] | None = None
    for name in wanted:
        by_load = _by_load(tables[name])
        odd = by_load.pop("", [])
        if odd:
            problem = (
                f"file {odd[0].key} has no load id in its name; keep {{load_id}} in the layout of dlt's destination"
            )
            yield unreadable(odd[0].key, odd[0].key, problem)
            continue
        resting = [_unchanged(store, loads.get(load)) for load in by_load]
        if all(resting):
            yield from (each for each in resting if each)
            continue
        schemas = _schemas(store, listed) if schemas is None else schemas
        yield from _of_table(store, name, by_load, loads, schemas)


def _tables(listed: Files) -> dict[str, Files]:
    """Table -> its files. dlt's own begin with _dlt_; what it unnests out of a table is called <table>__<column>."""
    found: dict[str, Files] = {}
    for file in listed:
        name, _, rest = file.key.partition("/")
        if rest and not name.startswith("_dlt_") and (is_data(file.key) or file.key.lower().endswith(JSON_LINES)):
            found.setdefault(name, []).append(file)
    return {name: files for name, files in found.items() if name.rpartition("__")[0] not in found}


def _by_load(files: Files) -> dict[str, Files]:
    """Load id -> files, oldest load first; "" for files that name none."""
    found: dict[str, Files] = {}
    for file in files:
        named = _LOAD_ID.findall(file.key)
        found.setdefault(named[-1] if named else "", []).append(file)
    return dict(sorted(found.items(), key=lambda item: float(item[0] or 0)))


def _unchanged(store: ListedStore, load: StoredFile | None) -> Delivery | None:
    """The delivery of a load whose file of _dlt_loads was seen before, whole, and has not changed."""
    before = store.unchanged(load) if load else None
    if load is None or before is None:
        return None
    _, generation, scope = before
    return Delivery(
        scope=scope, generation=generation, files=(), manifest=load.key, manifest_etag=load.etag, unchanged=True
    )


def _schemas(store: ListedStore, listed: Files) -> list[tuple[str, Any]]:
    """(file, schema) of every version of every schema of the dataset, the newest first; what is none is left out."""
    versions = [(float(found["at"]), f.key) for f in listed if (found := _VERSION.fullmatch(f.key))]
    result = []
    for _, key in sorted(versions, reverse=True):
        try:
            schema = read_manifest(store, key).get("schema")
            result.append((key, json.loads(schema) if isinstance(schema, str) else schema))
        except ValueError:
            continue
    return result


def _declared(name: str, schemas: list[tuple[str, Any]]) -> tuple[str, Mapping[str, Any]] | None:
    """The newest schema's file that has the table, and what it says of it."""
    for key, schema in schemas:
        tables = schema.get("tables") if isinstance(schema, dict) else None
        if isinstance(tables, dict) and isinstance(tables.get(name), dict):
            return key, tables[name]
    return None


def _of_table(
    store: ListedStore,
    name: str,
    by_load: Mapping[str, Files],
    loads: Mapping[str, StoredFile],
    schemas: list[tuple[str, Any]],
) -> Iterator[Delivery]:
    declared = _declared(name, schemas)
    if declared is None:
        problem = f"no schema of _dlt_version has the table {name}; what a load of it replaces is not known"
        yield unreadable(name, _LOADS, problem)
        return
    key, said = declared
    disposition, table_format = said.get("write_disposition", "append"), said.get("table_format")
    if table_format or disposition not in ("append", "replace"):
        how = f"table_format {table_format!r}" if table_format else f"write_disposition {disposition!r}"
        yield unreadable(
            name,
            key,
            f"table {name} has {how}, of which this layout does not know which rows count; load it with"
            " write_disposition='replace', a table for each billing period, or 'append', without table_format",
        )
        return
    if disposition == "append":
        for load, files in by_load.items():
            yield _unchanged(store, loads.get(load)) or _delivery(store, f"{name}/{load}", load, files, loads.get(load))
        return
    # While a newer load is written the one before it counts, if dlt has left it its files.
    whole = [load for load in by_load if load in loads]
    newest = whole[-1] if whole else list(by_load)[-1]
    yield _unchanged(store, loads.get(newest)) or _delivery(store, name, newest, by_load[newest], loads.get(newest))


def _delivery(store: ListedStore, scope: str, load: str, files: Files, entry: StoredFile | None) -> Delivery:
    problems = [file.problem for file in files if file.problem]
    loaded: Mapping[str, Any] = {}
    if entry is None:
        problems.append(
            f"load {load} is not complete: dlt has not written its file in {_LOADS} yet, which comes last; if it gave the"
            " load up, remove its files"
        )
    else:
        try:
            loaded = read_manifest(store, entry.key)
            if loaded.get("status") != 0:
                problems.append(f"{entry.key} says status {loaded.get('status')!r}; 0 is a completed load")
        except ValueError as error:
            problems.append(str(error))
    return Delivery(
        scope=scope,
        generation=load,
        files=tuple(files),
        delivered_at=utc(str(loaded["inserted_at"])) if loaded.get("inserted_at") else None,
        manifest=entry.key if entry else None,
        manifest_etag=entry.etag if entry else None,
        problems=tuple(problems),
    )
