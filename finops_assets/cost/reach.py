"""Whose cost somebody may see, and a copy that holds nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from finops_assets.base.errors import FinopsError
from finops_assets.base.files import replacing
from finops_assets.base.sql import identifier, literal
from finops_assets.cost.rollup import ROLLUP_TABLE, missing
from finops_assets.settings.access import Access
from finops_assets.storage.published_copy import completed
from finops_assets.storage.warehouse import FACTS, PUBLISHED_STORAGE
from finops_assets.tables import ddl, declarations

WHOLE = "whole"
"""What the published copy is called while a narrowed one is made of it, and behind it."""


@dataclass(frozen=True)
class Reach:
    """All cost, or that of some departments and teams."""

    owners: frozenset[tuple[str, str | None]] | None = None
    """(department, None): the whole department; (department, team): one team of it. None: all there is."""

    @property
    def whole(self) -> bool:
        return self.owners is None

    def sees(self, department: str | None, team: str | None) -> bool:
        """Is that its cost?"""
        return self.owners is None or (department, None) in self.owners or (department, team) in self.owners

    def told(self) -> str:
        """What it is, for people.

        >>> Reach(frozenset({("shop", "web"), ("data", None)})).told()
        'data, shop/web'
        """
        if self.owners is None:
            return "all cost"
        return ", ".join(sorted("/".join(part for part in owner if part) for owner in self.owners))

    def condition(self, department: str = "department", team: str = "team") -> str:
        """SQL: is a row of these two expressions its cost? A row of nobody in particular is not."""
        if self.owners is None:
            return "true"
        parts = [
            f"{department} = {literal(d)}" + (f" AND {team} = {literal(t)}" if t is not None else "")
            for d, t in sorted(self.owners, key=lambda owner: (owner[0], owner[1] or ""))
        ]
        return f"coalesce({' OR '.join(f'({part})' for part in parts) or 'false'}, false)"

    def departments(self) -> str:
        """SQL: the departments that it sees the whole of, as a list of texts."""
        return f"({', '.join(literal(d) for d, t in sorted(self.owners or (), key=str) if t is None) or 'NULL'})"


ALL = Reach()


def reach_of(access: Access, groups: Iterable[str]) -> Reach | None:
    """What the people of these groups see together; None: nothing, for `access` names none of them."""
    seen = [access[group] for group in groups if group in access]
    if not seen:
        return None
    owners: set[tuple[str, str | None]] = set()
    for of_group in seen:
        if of_group == "all":
            return ALL
        for owner in of_group:
            department, _, team = owner.partition("/")
            owners.add((department, team or None))
    return Reach(frozenset(owners))


def group_reach(access: Access, group: str) -> Reach:
    """What one group sees.

    Raises:
        FinopsError: `access` of finops.yaml does not name it.
    """
    found = reach_of(access, [group])
    if found is None:
        known = ", ".join(sorted(access)) or "none; set `access` in finops.yaml (docs/guides/access.md)"
        raise FinopsError(f"group: found {group!r}; groups of `access`: {known}")
    return found


_TOLD_ELSEWHERE = "those who run the platform see why"
# What a column would tell of the cost of others.
_HIDDEN = {"share_percent", "ratio"}
_INSTEAD: Mapping[str, Mapping[str, str]] = {
    "coverage": {"reason": f"CASE WHEN state <> 'built' THEN {literal(_TOLD_ELSEWHERE)} ELSE '' END"},
    "delivery_ledger": dict.fromkeys(("files", "bytes", "rows", "repairs", "days_changed", "reason"), "NULL"),
}


def _condition(declared: declarations.Table, reach: Reach) -> str:
    """SQL: which rows of a published table are within reach. A table that says whose cost a row is of is told by that; of
    others only those that are named here are handed on.
    """
    columns = {c.name for c in declared.columns}
    own = reach.condition()
    match declared.name:
        case "coverage" | "delivery_ledger":
            return "true"
        case "daily_cost_allocated":
            return f"{own} OR {reach.condition('origin_department', 'origin_team')}"
        case "forecast":
            team = reach.condition("split_part(key, ' / ', 1)", "split_part(key, ' / ', 2)")
            return f"CASE series WHEN 'department' THEN key IN {reach.departments()} WHEN 'team' THEN {team} ELSE false END"
        case "tag_coverage":
            return f"scope = 'department' AND name IN {reach.departments()}"
        case "tag_debt":
            return f"department IN {reach.departments()}"
        case "unit_costs":
            department, team = (f"json_extract_string(dimensions, '$.{name}')" for name in ("department", "team"))
            # A team that somebody else's department has, too, is not told apart.
            teams = f"SELECT team FROM {ROLLUP_TABLE}"
            return (
                f"{reach.condition(department, team)} OR ({department} IS NULL AND {team} IN"
                f" ({teams} WHERE {own} EXCEPT {teams} WHERE NOT {own}))"
            )
        # A commitment is used by many: its purchase is no one team's.
        case "daily_commitments":
            return "false"
    return own if {"department", "team"} <= columns else "false"


def narrow(connection: duckdb.DuckDBPyConnection, published: Path, reach: Reach, facts_of_its_own: bool) -> None:
    """Fill an empty database with what of a published copy is within reach: its tables and views, each as a table.

    `facts_of_its_own`: the facts are copied, too, and the database needs nothing beside it; else they are a view of those
    beside the published copy, which stays attached.
    """
    [name] = connection.execute("SELECT current_database()").fetchone() or [""]
    own = identifier(name)
    connection.execute(f"ATTACH {literal(str(published))} AS {WHOLE} (READ_ONLY)")
    # A view's text names tables of its own database alone.
    connection.execute(f"USE {WHOLE}")
    try:
        held = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = $1 UNION ALL"
            " SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = $1 AND NOT internal ORDER BY ALL",
            [WHOLE],
        ).fetchall()
        for schema, table in held:
            declared = declarations.TABLES.get((schema, table))
            if declared is None:
                continue
            instead = {**dict.fromkeys(_HIDDEN, "NULL"), **_INSTEAD.get(table, {})}
            held_columns = [name for name, *_ in connection.execute(f"DESCRIBE {declared.full_name}").fetchall()]
            of_copy = completed(declared, held_columns, WHOLE)
            columns = connection.execute(f"DESCRIBE SELECT * FROM {of_copy}").fetchall()
            selected = ", ".join(
                f"{instead[column]}::{kind} AS {identifier(column)}" if column in instead else identifier(column)
                for column, kind, *_ in columns
            )
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {own}.{identifier(schema)}")
            connection.execute(
                f"CREATE TABLE {own}.{declared.full_name} AS"
                f" SELECT {selected} FROM {of_copy} WHERE {_condition(declared, reach)}"
            )
    finally:
        connection.execute(f"USE {own}")
    if any(table == FACTS for _, table in held):
        of_facts = (f"coalesce({d}, {literal(missing(d))})" for d in ("department", "team"))
        kind = "TABLE" if facts_of_its_own else "VIEW"
        facts_held = [name for name, *_ in connection.execute(f"DESCRIBE {WHOLE}.main.{FACTS}").fetchall()]
        # With its part's ratio a team would know what the whole node cost, of which others used the rest.
        hidden = " REPLACE (NULL::VARCHAR AS AllocatedMethodDetails)" if "AllocatedMethodDetails" in facts_held else ""
        connection.execute(
            f"CREATE {kind} {FACTS} AS SELECT *{hidden} FROM {completed(declarations.facts_table(()), facts_held, WHOLE)}"
            f" WHERE {reach.condition(*of_facts)}"
        )
    if facts_of_its_own:
        connection.execute(f"DETACH {WHOLE}")


@contextmanager
def narrowed(published: Path, reach: Reach) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory with what of a published copy is within reach."""
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        narrow(connection, published, reach, facts_of_its_own=False)
        yield connection


def hand_out(published: Path, reach: Reach, dimensions: Iterable[str], target: Path) -> None:
    """Write what is within reach as a DuckDB file that needs nothing beside it, and put it in place at once."""
    with replacing(target) as temporary, duckdb.connect() as connection:
        connection.execute(f"ATTACH {literal(str(temporary))} AS handed (STORAGE_VERSION {literal(PUBLISHED_STORAGE)})")
        connection.execute("USE handed")
        narrow(connection, published, reach, facts_of_its_own=True)
        for schema, name in connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'handed'"
        ).fetchall():
            known = declarations.TABLES.get((schema, name), declarations.facts_table(dimensions))
            # What was a view in the published copy is a table here.
            ddl.comment(connection, replace(known, view=False), "handed")
        connection.execute("USE memory")
        connection.execute("DETACH handed")
