"""Google Cloud: credits folded into the cost, and labels and tags with their precedence."""

from __future__ import annotations

import duckdb
from duckdb.sqltypes import DuckDBPyType

from finops_assets.ingest.conversion.mapping import Dialect
from finops_assets.ingest.conversion.named_sql import NamedSql
from finops_assets.ingest.conversion.source_columns import SourceColumns, fields
from finops_assets.ingest.conversion.tags import joined, pairs, unreadable
from finops_assets.ingest.reading.relation import ExportTable, Note

_CREDITS = '[{"name":"VARCHAR","amount":"VARCHAR","full_name":"VARCHAR","id":"VARCHAR","type":"VARCHAR"}]'
_NO_CREDITS = '[]::STRUCT("name" VARCHAR, amount VARCHAR, full_name VARCHAR, id VARCHAR, "type" VARCHAR)[]'


def given(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, source: SourceColumns, dialect: Dialect
) -> NamedSql:
    tags, columns, notes = tags_by_precedence(source, ("system_labels",), ("project.labels",), ("labels",), ("tags",))
    found = source.raw("credits")
    if found is None:
        credits = _NO_CREDITS
    else:
        sql, kind = found
        parsed = f"CASE json_type(TRY_CAST({sql} AS JSON)) WHEN 'ARRAY' THEN from_json({sql}, '{_CREDITS}') END"
        credits = _credit_list(sql, kind) if kind.id == "list" else parsed
        if kind.id != "list":
            notes += (Note("not_a_credit_list", "BilledCost", unreadable(sql, kind) or "CAST(NULL AS VARCHAR)"),)
    # Project labels lie in a struct that holds more.
    consumed = frozenset(columns) - {source.column("project.labels") if source.raw("project") else None}
    return NamedSql({"credits": f"coalesce({credits}, {_NO_CREDITS})", "tags": tags}, notes=notes, consumed=consumed)


def _credit_list(sql: str, kind: DuckDBPyType) -> str:
    present = {name.casefold() for name, _ in fields(kind)}
    items = ", ".join(
        f"'{name}': {f'CAST(c.{name} AS VARCHAR)' if name in present else 'CAST(NULL AS VARCHAR)'}"
        for name in ("name", "amount", "full_name", "id", "type")
    )
    return f"list_transform({sql}, lambda c: {{{items}}})"


def tags_by_precedence(
    source: SourceColumns, *lowest_first: tuple[str, ...]
) -> tuple[str, list[str], tuple[Note, ...]]:
    """One list of tags of Google's columns: tag over label over project label over system label, inherited before own.

    Each argument names one column in its spellings. The last of a repeated key counts.
    """
    lists, columns, notes = [], [], []
    for names in lowest_first:
        found = next((f for name in names if (f := source.raw(name)) is not None), None)
        if found is None:
            continue
        sql, kind = found
        columns += [str(source.column(name)) for name in names if source.raw(name) is not None]
        inherited = _inherited(kind)
        if inherited:
            lists.append(pairs(sql, kind, f"coalesce(t.{inherited}, false)"))
            lists.append(pairs(sql, kind, f"NOT coalesce(t.{inherited}, false)"))
        else:
            lists.append(pairs(sql, kind))
        bad = unreadable(sql, kind)
        if bad:
            notes.append(Note("not_a_tag_set", "Tags", bad))
    return joined(lists), columns, tuple(notes)


def _inherited(kind: DuckDBPyType) -> str | None:
    """The field of a list's structs that says that a tag is inherited from a folder or the organisation."""
    return next((name for name, _ in fields(kind) if name.casefold() in ("inherited", "x_inherited")), None)


def view_tags(source: SourceColumns) -> str:
    """The Tags of Google's own FOCUS view: one list whose items say what they are (x_type, x_inherited)."""
    found = source.raw("Tags")
    assert found is not None, "the dialect is spoken only where Tags is there"
    sql, kind = found
    names = {name.casefold(): name for name, _ in fields(kind)}
    what = names.get("x_type") or names.get("type")
    by_kind = []
    for known in ("system_label", "project_label", "label", "tag"):
        others = f"lower(t.{what}) NOT IN ('project_label', 'label', 'tag') OR t.{what} IS NULL"
        is_it = f"({others})" if known == "system_label" else f"lower(t.{what}) = '{known}'"
        inherited = _inherited(kind)
        if inherited:
            by_kind.append(pairs(sql, kind, f"{is_it} AND coalesce(t.{inherited}, false)"))
            by_kind.append(pairs(sql, kind, f"{is_it} AND NOT coalesce(t.{inherited}, false)"))
        else:
            by_kind.append(pairs(sql, kind, is_it))
    return joined(by_kind)
