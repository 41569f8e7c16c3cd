"""FOCUS metadata (Schema): the version that a provider says its data set has.

A side file beside the data holds Schema objects with FocusVersion and, for most providers, the columns
(ColumnDefinition). A new schema comes with a new version while older months keep the old one, so a schema that names
columns speaks for the data that has exactly these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from finops_assets.focus.specification import VERSIONS
from finops_assets.ingest.layouts.listing import ListedStore, json_of

_NAME = re.compile(r"(focus[-_]?)?(metadata|schema)[^/]*\.json")


@dataclass(frozen=True)
class Schema:
    """What one Schema object says: a version, when it came (as written), and the columns if it names them."""

    version: str
    created: str
    columns: frozenset[str]


def stated_schemas(store: ListedStore) -> tuple[Schema, ...]:
    """The schemas of every `schema*.json` and `metadata*.json` that the layout's look has met.

    No request is made to search for them. A file of such a name that holds no FocusVersion is not FOCUS metadata.
    """
    schemas: list[Schema] = []
    for file in sorted(store.seen.values(), key=lambda f: f.key):
        if _NAME.fullmatch(file.key.rsplit("/", 1)[-1].lower()):
            try:
                parsed = json_of(store.read(file.key))
            except ValueError:
                continue
            schemas += _schemas(parsed)
    return tuple(schemas)


def _schemas(parsed: Any) -> Iterator[Schema]:
    if isinstance(parsed, list):
        for item in parsed:
            yield from _schemas(item)
    if not isinstance(parsed, dict):
        return
    folded = {str(key).replace("_", "").casefold(): value for key, value in parsed.items()}
    version = version_of(folded.get("focusversion"))
    if version is not None:
        definitions = folded.get("columndefinition")
        names = [
            str(value)
            for definition in (definitions if isinstance(definitions, list) else ())
            if isinstance(definition, dict)
            for key, value in definition.items()
            if key.replace("_", "").casefold() == "columnname"
        ]
        yield Schema(version, str(folded.get("creationdate") or ""), frozenset(n.casefold() for n in names))
    elif "schema" in folded:
        yield from _schemas(folded["schema"])


def version_of(stated: object) -> str | None:
    """The released version that a provider's text begins with: "1.0r2", "1.2-preview", "v1.3.0"; None if none does."""
    text = str(stated or "").strip().removeprefix("v")[:3]
    return text if text in VERSIONS else None


def stated_version(schemas: Iterable[Schema], columns: Iterable[str]) -> str | None:
    """The version that the provider states for a data set of these columns; None where nothing is said of them."""
    present = {name.casefold() for name in columns} - {"source_file", "source_row"}
    matching = [s for s in schemas if s.columns == present]
    if matching:
        return max(matching, key=lambda s: s.created).version
    general = {s.version for s in schemas if not s.columns}
    return general.pop() if len(general) == 1 else None
