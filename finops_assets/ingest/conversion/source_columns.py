"""The columns of a bill as a mapping asks for them: by one name, however this file spells or nests them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import duckdb
from duckdb.sqltypes import DuckDBPyType

from finops_assets.base.sql import identifier, literal
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW, ExportTable
from finops_assets.settings.own_mapping import PLACEHOLDER

# Not the constant: DuckDB 2.0.0 fails to fold it out of some comparisons ("BindBuiltinScalarFunction …").
NULL_TEXT = f"nullif(e.{SOURCE_FILE}, e.{SOURCE_FILE})"
NESTED = ("struct", "list", "map", "array")


def fields(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    """The fields of a struct, or of the structs in a list; none of any other type."""
    if kind.id == "list":
        [(_, item)] = kind.children
        return fields(item) if isinstance(item, DuckDBPyType) else []
    if kind.id != "struct":
        return []
    return [(name, child) for name, child in kind.children if isinstance(child, DuckDBPyType)]


def folded(name: str) -> str:
    """A column's name without case and separators: `lineItem/UnblendedCost` is `line_item_unblended_cost`."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


class SourceColumns:
    """An export's columns (relation alias `e`), fields of structs and keys of maps, by their folded path."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, export: ExportTable) -> None:
        relation = connection.sql(f"SELECT * FROM ({export.sql}) LIMIT 0")
        self.names = tuple(n for n in relation.columns if n not in (SOURCE_FILE, SOURCE_ROW))
        self._found: dict[str, tuple[str, DuckDBPyType, str]] = {}
        types = dict(zip(relation.columns, relation.types))
        for name in self.names:
            self._found.setdefault(folded(name), (f"e.{identifier(name)}", types[name], name))
        for name in self.names:
            self._add_fields(folded(name), f"e.{identifier(name)}", types[name], name)

    def _add_fields(self, path: str, sql: str, kind: DuckDBPyType, column: str) -> None:
        for name, child in fields(kind) if kind.id == "struct" else ():
            inner = f"({sql}).{identifier(name)}"
            self._found.setdefault(path + folded(name), (inner, child, column))
            self._add_fields(path + folded(name), inner, child, column)

    def raw(self, name: str) -> tuple[str, DuckDBPyType] | None:
        """A column's SQL and type, if it is there."""
        found = self._found.get(folded(name))
        return found[:2] if found else None

    def has(self, alternatives: str) -> bool:
        """Is a column, or one of several (`A|B`), there?"""
        return any(self._one(name) is not None for name in alternatives.split("|"))

    def column(self, name: str) -> str | None:
        """The column as written that holds what `name` asks for."""
        found = self._found.get(folded(name))
        return found[2] if found else None

    def starting_with(self, *prefixes: str) -> list[tuple[str, str]]:
        """(name in the bill, column) of the columns whose name begins so, whatever the case.

        Two names that differ in case alone are two names of the bill; the second one's column is called x_….
        """
        begins = tuple(prefix.casefold() for prefix in prefixes)
        found = []
        for name in self.names:
            own = name if name.casefold().startswith(begins) else re.sub(r"^(x_)+", "", name)
            if own.casefold().startswith(begins):
                found.append((own, name))
        return found

    def text(self, alternatives: str) -> str:
        """SQL: the first of these columns (`A|B`) with a value, as text; an empty text is none."""
        found = [sql for name in alternatives.split("|") if (sql := self._one(name)) is not None]
        return f"coalesce({', '.join(found)})" if len(found) > 1 else found[0] if found else NULL_TEXT

    def _one(self, name: str) -> str | None:
        found = self.raw(name)
        if found is not None:
            sql, kind = found
            if kind.id in NESTED:
                return f"CAST(to_json({sql}) AS VARCHAR)"
            return f"nullif({sql}, '')" if kind.id == "varchar" else f"CAST({sql} AS VARCHAR)"
        group, slash, key = name.partition("/")
        holder = self.raw(group) if slash else None
        if holder is None:
            return None
        sql, kind = holder
        if kind.id == "map":
            return f"nullif(CAST(map_extract_value({sql}, {literal(key)}) AS VARCHAR), '')"
        # A map in a CSV is a JSON text.
        path = literal(f'$."{key}"')
        return f"nullif(json_extract_string(TRY_CAST({sql} AS JSON), {path}), '')" if kind.id == "varchar" else None

    def alone(self, sql: str) -> tuple[str, str] | None:
        """(SQL with its own type, column as written) of an expression that is nothing but one plain column."""
        match = PLACEHOLDER.fullmatch(sql.strip())
        if match is None or match[1].startswith("@"):
            return None
        there = [name for name in match[1].split("|") if self._one(name) is not None]
        found = self._found.get(folded(there[0])) if len(there) == 1 else None
        if found is None:
            return None
        return found[0], found[2]

    def filled(self, sql: str, named: Mapping[str, str]) -> str:
        """A mapping's SQL with its placeholders replaced."""

        def replaced(match: re.Match[str]) -> str:
            name = match[1]
            return f"({self.filled(named[name[1:]], named)})" if name.startswith("@") else self.text(name)

        return PLACEHOLDER.sub(replaced, sql)
