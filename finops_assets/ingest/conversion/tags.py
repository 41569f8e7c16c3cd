"""Tag columns in every native encoding -> one list of {key, value}, of which the last of a key counts."""

from __future__ import annotations

from collections.abc import Iterable

from duckdb.sqltypes import DuckDBPyType

from finops_assets.base.sql import identifier, literal

_EMPTY = '[]::STRUCT("key" VARCHAR, "value" VARCHAR)[]'
PAIR = 'STRUCT("key" VARCHAR, "value" VARCHAR)[]'


def from_columns(named: Iterable[tuple[str, str]]) -> str:
    """SQL: a list of (key, column as written), without the columns that have no value in a row."""
    items = ", ".join(
        f"{{'key': {literal(key)}, 'value': nullif(CAST(e.{identifier(column)} AS VARCHAR), '')}}"
        for key, column in named
    )
    return f"list_filter(CAST([{items}] AS {PAIR}), lambda t: t.value IS NOT NULL)" if items else _EMPTY


def pairs(sql: str, kind: DuckDBPyType, when: str = "true") -> str:
    """SQL: one tag column as a list of {key, value}, whether it is a list of structs, a map or a JSON text.

    `when` is a condition on an item `t` of a list of structs.
    """
    if kind.id == "list":
        items = f"list_filter({sql}, lambda t: {when})" if when != "true" else sql
        return (
            f"coalesce(list_transform({items}, lambda t: {{'key': CAST(t.key AS VARCHAR),"
            f" 'value': CAST(t.value AS VARCHAR)}}), {_EMPTY})"
        )
    if when != "true":
        return _EMPTY
    if kind.id == "map":
        return f"coalesce(CAST(map_entries({sql}) AS {PAIR}), {_EMPTY})"
    # A text holds a list of {key, value} or of {Key, Value}, or an object.
    lower = (
        f"regexp_replace(regexp_replace({sql}, '\"Key\"\\s*:', '\"key\":', 'g'), '\"Value\"\\s*:', '\"value\":', 'g')"
    )
    return (
        f"CASE json_type(TRY_CAST({sql} AS JSON))"
        f' WHEN \'ARRAY\' THEN from_json({lower}, \'[{{"key":"VARCHAR","value":"VARCHAR"}}]\')'
        f" WHEN 'OBJECT' THEN CAST(map_entries(TRY_CAST(TRY_CAST({sql} AS JSON) AS MAP(VARCHAR, VARCHAR))) AS {PAIR})"
        f" ELSE {_EMPTY} END"
    )


def unreadable(sql: str, kind: DuckDBPyType) -> str | None:
    """SQL: the text of a tag column that is no list or object of tags, else NULL; None where that cannot be."""
    if kind.id != "varchar":
        return None
    return (
        f"CASE WHEN trim({sql}) <> '' AND coalesce(json_type(TRY_CAST({sql} AS JSON)), '') NOT IN"
        f" ('ARRAY', 'OBJECT', 'NULL') THEN {sql} END"
    )


def joined(lists: Iterable[str]) -> str:
    """SQL: several lists as one, in their order."""
    result = ""
    for each in lists:
        result = f"list_concat({result}, {each})" if result else each
    return result or _EMPTY
