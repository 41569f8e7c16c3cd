"""FOCUS columns under the names that dlt's naming conventions give them, and what dlt adds to a row."""

from __future__ import annotations

import re
from dataclasses import replace

from finops_assets.base.errors import DeliveryRefused
from finops_assets.base.sql import identifier
from finops_assets.focus.specification import canonical_name, columns
from finops_assets.ingest.reading.relation import ExportTable

_OF_DLT = "_dlt_"
_BEFORE_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """A name as dlt writes it.

    >>> snake_case("ListUnitPrice")
    'list_unit_price'
    """
    return _BEFORE_CAPITALS.sub("_", name).lower()


def in_focus_names(source: str, scope: str, export: ExportTable) -> ExportTable:
    """The export with FOCUS columns as the specification spells them, and without dlt's own columns.

    Raises:
        DeliveryRefused: a column stands there under both names, or dlt has taken the tags apart.
    """
    focus = {snake_case(name): name for name in columns()}
    renamed = {
        name: focus[name.lower()] for name in export.types if canonical_name(name) is None and name.lower() in focus
    }
    for name, meant in renamed.items():
        if meant in export.focus_columns:
            raise DeliveryRefused(source, scope, f"has {meant} twice, as {export.focus_columns[meant]!r} and {name!r}")
    apart = [name for name in export.types if name.lower().startswith("tags__")]
    if apart:
        raise DeliveryRefused(
            source,
            scope,
            f"dlt has taken Tags apart into columns of their own ({', '.join(apart[:3])}); load Tags as one column:"
            ' columns={"Tags": {"data_type": "json"}} on the resource',
        )
    own = [name for name in export.types if name.lower().startswith(_OF_DLT)]
    if not renamed and not own:
        return export
    without = f" EXCLUDE ({', '.join(map(identifier, own))})" if own else ""
    names = ", ".join(f"{identifier(name)} AS {identifier(meant)}" for name, meant in renamed.items())
    sql = f"SELECT *{without}{f' RENAME ({names})' if names else ''} FROM ({export.sql})"
    types = {renamed.get(name, name): kind for name, kind in export.types.items() if name not in own}
    counted = tuple(each._replace(column=renamed.get(each.column, each.column)) for each in export.counted)
    return replace(export, sql=sql, types=types, counted=counted, files=())
