"""The published copy once more in PostgreSQL, for tools that want a server: brought up to date in one transaction.

Of a table by day only the days are replaced whose rows are others than when they were copied last. Nothing takes a lock
that a reader waits for, unless columns change: who reads has the state before or the state after. Tables are altered,
never made anew, so what was granted on them stays. Single charges (`cloud_cost_facts`) are not copied.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
from pyarrow import csv

from finops_assets.base.errors import FinopsError, WaitedTooLong, install
from finops_assets.base.sql import identifier
from finops_assets.base.waiting import PATIENCE_MINUTES
from finops_assets.tables import ddl, declarations
from finops_assets.tables.declarations import COUNT, DAY, FLAG, MONEY, NUMBER, TEXT, TIME, Table

SCHEMA = "finops"
KINDS = {
    TEXT: "text", MONEY: "numeric(38,18)", NUMBER: "double precision", COUNT: "bigint", FLAG: "boolean", DAY: "date",
    TIME: "timestamp without time zone",
}  # fmt: skip
"""A declared type -> PostgreSQL's, as it spells it itself. Times are UTC, and have no zone there either."""

STATE, COPIED_DAYS = "published_copy", "copied_days"
_STATE_COLUMNS = {
    "published_at": "UTC, when the copy that this one is of was published",
    "copied_at": "UTC, when it was brought here",
}
_DAYS = ("charge_date", "accrual_date")
_ROWS_AT_ONCE = 100_000
_CONNECT_SECONDS = 30
_LONGEST_NAME = 63
"""Bytes; of a longer name PostgreSQL takes the beginning, and says so to nobody."""

Day = date | None


@dataclass(frozen=True)
class Replaced:
    """What was replaced in a table: days, of a table by day, and rows that it got."""

    table: str
    days: int
    rows: int


def name_there(declared: Table) -> str:
    """What a table is called in the one schema there: `reports.cost_by_team` is `reports_cost_by_team`."""
    return declared.name if declared.schema == "main" else f"{declared.schema}_{declared.name}"


def day_of(declared: Table) -> str | None:
    """The column that a table's rows are replaced by; None: it is replaced as a whole."""
    return next((name for name in _DAYS if name in {c.name for c in declared.columns}), None)


def bring_up_to_date(
    published: Path,
    opened: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]],
    address: str,
    schema: str = SCHEMA,
    wait_minutes: float = PATIENCE_MINUTES,
) -> list[Replaced]:
    """Make a schema of a PostgreSQL database the same as the published copy; what had to be replaced for that.

    `opened` opens the published copy, or says what is wrong with it; it is called when no other process copies, so that of
    two the one that saw more comes last. `address` is one of libpq, postgresql://user@host/database, without a password: that comes from PGPASSWORD or
    ~/.pgpass.

    Raises:
        WaitedTooLong: another copies, or a reader keeps a table whose columns change, for longer than `wait_minutes`.
        FinopsError: the address cannot be used, or PostgreSQL refuses something. Then nothing was changed there.
    """
    _may_be_called("schema", schema)
    with _connected(address, schema) as connection, connection.cursor() as cursor:
        # 0 would be for ever.
        patience = f"{max(round(wait_minutes * 60_000), 1)}ms"
        for name, value in (("lock_timeout", patience), ("DateStyle", "ISO, YMD")):
            cursor.execute("SELECT set_config(%s, %s, true)", (name, value))
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"finops publish --to {schema}",))
        target = _Schema(cursor, schema)
        target.have()
        # Before it is opened: one that takes its place meanwhile must not be what this was copied from.
        published_at = datetime.fromtimestamp(published.stat().st_mtime if published.is_file() else 0, UTC)
        with opened() as copy:
            replaced = [each for table in _tables(copy) if (each := target.bring(copy, table))]
        replaced += target.drop_others()
        target.enter(published_at)
        connection.commit()
    return replaced


def _tables(copy: duckdb.DuckDBPyConnection) -> list[Table]:
    """Every declared table and view of the copy, with the columns that it has there."""
    dimensions = ddl.dimensions_of(copy)
    found = copy.execute(
        "SELECT schema_name, table_name FROM duckdb_tables()"
        " UNION ALL SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
    ).fetchall()
    result = []
    for schema, name in found:
        known = declarations.TABLES.get((schema, name))
        if known is None:
            continue
        declared = declarations.with_dimensions(known, dimensions)
        held = {row[0] for row in copy.execute(f"DESCRIBE {declared.full_name}").fetchall()}
        columns = tuple(c for c in declared.columns if c.name in held)
        for each in columns:
            _may_be_called(f"column of {declared.shown_name}", each.name)
        result.append(Table(schema, name, declared.meaning, columns, declared.view))
    return result


def _may_be_called(what: str, name: str) -> None:
    if not name or len(name.encode()) > _LONGEST_NAME:
        raise FinopsError(
            f"{what} {name!r}: PostgreSQL has names of 1 to {_LONGEST_NAME} bytes; found {len(name.encode())}"
        )


class _Schema:
    """The schema there, within the transaction."""

    def __init__(self, cursor: Any, name: str) -> None:
        self._cursor = cursor
        self._name = name
        self._there: set[str] = set()
        self._copied: dict[str, dict[Day, str]] = {}

    def _full(self, table: str) -> str:
        return f"{_quoted(self._name)}.{_quoted(table)}"

    def _ask(self, query: str, *values: object) -> list[Any]:
        """The rows of a query, whose names are `_quoted`."""
        # With no values it is a tuple, too: of None psycopg2 would leave %% as it stands.
        self._cursor.execute(query, values)
        return list(self._cursor.fetchall()) if self._cursor.description else []

    def have(self) -> None:
        """
        Raises:
            FinopsError: somebody else has tables there.
        """
        if not self._ask("SELECT 1 FROM pg_namespace WHERE nspname = %s", self._name):
            self._ask(f"CREATE SCHEMA {_quoted(self._name)}")
        others = self._ask(
            "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')"
            " ORDER BY relname",
            identifier(self._name),
        )
        self._there = {name for (name,) in others}
        if self._there and not {STATE, COPIED_DAYS} <= self._there:
            raise FinopsError(
                f"schema {self._name} has {others[0][0]!r}{' and others' if others[1:] else ''}, which this command did not"
                " make; name a schema that is empty or not there: --schema"
            )
        if not self._there:
            columns = ", ".join(f"{name} {KINDS[TIME]} NOT NULL" for name in _STATE_COLUMNS)
            self._ask(f"CREATE TABLE {self._full(STATE)} ({columns})")
            self._ask(
                f"CREATE TABLE {self._full(COPIED_DAYS)} (table_name text NOT NULL, day date, fingerprint text NOT NULL)"
            )
            self._say_what(STATE, "What this schema is a copy of, and since when. One row.", _STATE_COLUMNS)
            self._say_what(
                COPIED_DAYS,
                "Kept by `finops publish --to`: what it copied last, by table and day",
                {"fingerprint": "of the rows, whatever their order", "day": "null: the table as a whole"},
            )
        for table, day, fingerprint in self._ask(f"SELECT table_name, day, fingerprint FROM {self._full(COPIED_DAYS)}"):
            self._copied.setdefault(table, {})[day] = fingerprint

    def bring(self, copy: duckdb.DuckDBPyConnection, declared: Table) -> Replaced | None:
        """Have a table as it is in the copy; what was replaced, None where nothing was."""
        name = name_there(declared)
        before = self._copied.pop(name, {})
        if self._shape(name, declared):
            before = {}
            self._ask(f"DELETE FROM {self._full(name)}")
            self._ask(f"DELETE FROM {self._full(COPIED_DAYS)} WHERE table_name = %s", name)
        now = _fingerprints(copy, declared)
        changed = [day for day in {**before, **now} if before.get(day) != now.get(day)]
        if not changed:
            return None
        by = day_of(declared)
        known = [day for day in changed if day is not None]
        of_days = f"({{}} = ANY(%s::date[]){' OR {} IS NULL' if None in changed else ''})"
        if by is None:
            self._ask(f"DELETE FROM {self._full(name)}")
        else:
            self._ask(f"DELETE FROM {self._full(name)} WHERE {of_days.format(*[_quoted(by)] * 2)}", known)
        rows = self._fill(copy, declared, changed)
        entered = f"DELETE FROM {self._full(COPIED_DAYS)} WHERE {of_days.format('day', 'day')} AND table_name = %s"
        self._ask(entered, known, name)
        there = [day for day in changed if day in now]
        self._ask(
            f"INSERT INTO {self._full(COPIED_DAYS)} SELECT %s, unnest(%s::date[]), unnest(%s::text[])",
            name,
            there,
            [now[day] for day in there],
        )
        return Replaced(declared.shown_name, len(changed) if by else 0, rows)

    def _shape(self, name: str, declared: Table) -> bool:
        """Have a table with these columns, and say in it what it is; is anything of its columns new?"""
        wanted = {c.name: KINDS[c.kind] for c in declared.columns}
        by = day_of(declared)
        if name not in self._there:
            columns = ", ".join(f"{_quoted(column)} {kind}" for column, kind in wanted.items())
            self._ask(f"CREATE TABLE {self._full(name)} ({columns})")
            if by is not None:
                self._ask(f"CREATE INDEX ON {self._full(name)} ({_quoted(by)})")
            self._say_what(name, declared.meaning, {c.name: c.comment for c in declared.columns})
            return True
        held = dict(
            self._ask(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND"
                " attnum > 0 AND NOT attisdropped",
                f"{identifier(self._name)}.{identifier(name)}",
            )
        )
        gone = [column for column, kind in held.items() if wanted.get(column) != kind]
        new = {column: kind for column, kind in wanted.items() if held.get(column) != kind}
        changes = [f"DROP COLUMN {_quoted(column)}" for column in gone]
        changes += [f"ADD COLUMN {_quoted(column)} {kind}" for column, kind in new.items()]
        if changes:
            self._ask(f"ALTER TABLE {self._full(name)} {', '.join(changes)}")
            if by in new:
                self._ask(f"CREATE INDEX ON {self._full(name)} ({_quoted(by)})")
        self._say_what(name, declared.meaning, {c.name: c.comment for c in declared.columns})
        return bool(changes)

    def _say_what(self, name: str, meaning: str, columns: Mapping[str, str]) -> None:
        """Comment on a table and its columns, where they are not commented so yet."""
        said = dict(
            self._ask(
                "SELECT a.attname, d.description FROM pg_description d"
                " LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND d.objsubid > 0"
                " WHERE d.objoid = %s::regclass AND d.classoid = 'pg_class'::regclass",
                f"{identifier(self._name)}.{identifier(name)}",
            )
        )
        if said.get(None) != meaning:
            self._ask(f"COMMENT ON TABLE {self._full(name)} IS %s", meaning)
        for column, text in columns.items():
            if said.get(column) != text:
                self._ask(f"COMMENT ON COLUMN {self._full(name)}.{_quoted(column)} IS %s", text)

    def _fill(self, copy: duckdb.DuckDBPyConnection, declared: Table, days: list[Day]) -> int:
        by = day_of(declared)
        # A null among the days: list_contains never finds it.
        of_days = (
            f" WHERE list_contains($days, {identifier(by)}) OR ({identifier(by)} IS NULL AND $and_without)"
            if by
            else ""
        )
        values = {"days": [day for day in days if day is not None], "and_without": None in days} if by else {}
        rows = copy.sql(f"SELECT {', '.join(_read(declared))} FROM {declared.full_name}{of_days}", params=values)
        columns = ", ".join(identifier(c.name) for c in declared.columns)
        table = f"{identifier(self._name)}.{identifier(name_there(declared))}"
        command = f"COPY {table} ({columns}) FROM STDIN (FORMAT csv)"
        # What has quotes is a value; without them nothing is null.
        options = csv.WriteOptions(include_header=False, quoting_style="all_valid")
        count = 0
        for batch in rows.to_arrow_reader(_ROWS_AT_ONCE):
            text = io.BytesIO()
            csv.write_csv(batch, text, options)
            text.seek(0)
            self._cursor.copy_expert(command, text)
            count += batch.num_rows
        return count

    def drop_others(self) -> list[Replaced]:
        """Drop the tables that were copied before and are not in the copy any more."""
        for name in self._copied:
            if name in self._there:
                self._ask(f"DROP TABLE {self._full(name)}")
            self._ask(f"DELETE FROM {self._full(COPIED_DAYS)} WHERE table_name = %s", name)
        return [Replaced(name, 0, 0) for name in self._copied]

    def enter(self, published_at: datetime) -> None:
        times = [each.astimezone(UTC).replace(tzinfo=None) for each in (published_at, datetime.now(UTC))]
        self._ask(f"DELETE FROM {self._full(STATE)}")
        self._ask(f"INSERT INTO {self._full(STATE)} VALUES (%s, %s)", *times)


def _read(declared: Table) -> Iterable[str]:
    """SQL: each column with its declared type; a view's may be wider. A text of PostgreSQL's cannot have the character 0."""
    for each in declared.columns:
        name = identifier(each.name)
        yield (
            f"replace({name}, chr(0), chr(65533)) AS {name}"
            if each.kind == TEXT
            else (f"CAST({name} AS {each.kind}) AS {name}")
        )


def _fingerprints(copy: duckdb.DuckDBPyConnection, declared: Table) -> dict[Day, str]:
    """Of the rows of each day, whatever their order; of a table that is not by day of all of them."""
    by = day_of(declared)
    found = copy.execute(
        f"SELECT {identifier(by) if by else 'CAST(NULL AS DATE)'} AS day, count(*),"
        f" sum(CAST(hash({', '.join(identifier(c.name) for c in declared.columns)}) AS HUGEINT))"
        f" FROM {declared.full_name} GROUP BY 1"
    ).fetchall()
    return {day: f"{count:x}.{hashed:x}" for day, count, hashed in found}


def _quoted(name: str) -> str:
    """A quoted identifier, for a statement that values are put into."""
    return identifier(name).replace("%", "%%")


@contextmanager
def _connected(address: str, schema: str) -> Iterator[Any]:
    """A connection to PostgreSQL; what it complains of is explained."""
    try:
        import psycopg2
        from psycopg2 import errors, extensions
    except ImportError as error:
        raise FinopsError(f"a copy in PostgreSQL needs the extra `postgres`: {install('postgres')}") from error

    try:
        asked = extensions.parse_dsn(address) if address.startswith(("postgresql://", "postgres://")) else None
    except psycopg2.ProgrammingError:
        asked = None
    # With an unquoted / or @ in a password libpq takes a part of it for something else, and would show it.
    misread = asked and (
        not asked.get("port", "0").replace(",", "").isdecimal()
        or "@" in asked.get("host", "") + asked.get("dbname", "")
    )
    if not asked or misread:
        # It may have a password in it, so it is not shown.
        raise FinopsError(
            "--to is not understood; it is postgresql://user@host:port/database, with ?sslmode=require where asked for"
        )
    if {"password", "sslpassword"} & set(asked):
        raise FinopsError(
            "--to has a password in it, which everyone on this machine can see in the list of processes; give it as"
            " PGPASSWORD or in ~/.pgpass, and change it if others work here"
        )
    where = f"{asked.get('host', 'this machine')}/{asked.get('dbname', '')}".rstrip("/")
    try:
        connection = psycopg2.connect(address, connect_timeout=asked.get("connect_timeout", _CONNECT_SECONDS))
    except psycopg2.Error as error:
        raise FinopsError(
            f"PostgreSQL at {where} cannot be reached: {str(error).strip()}. Check host, user and database; the password comes"
            " from PGPASSWORD or ~/.pgpass"
        ) from error
    told = f"PostgreSQL at {where}, schema {schema}"
    untouched = "Nothing was changed there"
    with closing(connection):
        try:
            connection.set_client_encoding("UTF8")
            yield connection
        except errors.LockNotAvailable as error:
            raise WaitedTooLong(
                f"{told}: another process copies, or keeps a table whose columns change, for longer than wait_minutes"
                f" (finops.yaml); `SELECT * FROM pg_stat_activity` names it. {untouched}"
            ) from error
        except errors.InsufficientPrivilege as error:
            raise FinopsError(
                f"{told}: {_said(error)}. The user must be allowed to make the schema (GRANT CREATE ON DATABASE), or own"
                f" one that is empty. {untouched}"
            ) from error
        except errors.DependentObjectsStillExist as error:
            raise FinopsError(
                f"{told}: {_said(error)}. Somebody's view reads a column or table that the published copy has no more: drop"
                f" the view, copy again, make it anew. {untouched}"
            ) from error
        except psycopg2.Error as error:
            raise FinopsError(f"{told}: {_said(error)}. {untouched}") from error


def _said(error: Any) -> str:
    """PostgreSQL's complaint in a line, with what it adds; never a row."""
    said = [error.diag.message_primary or str(error).strip().partition("\n")[0]]
    if error.diag.message_detail and error.pgcode and error.pgcode.startswith("2BP"):
        said.append(error.diag.message_detail.replace("\n", "; "))
    return ": ".join(said)
