"""How the files of an export write values, where that is not as FOCUS says: found once, decided per file and column.

A value that can be read in one way only is repaired and counted. What one value cannot tell, is 3/4/26 in March or in
April, is 1,234 a thousand or little more than one, is decided by proofs in the same file, never by the value alone.
docs/reference/dialects.md says what is read, repaired and refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import duckdb

from finops_assets.base.sql import identifier, literal
from finops_assets.focus.money import Point, odd_double, shows_point
from finops_assets.focus.specification import Column, columns, former_values
from finops_assets.focus.times import Order, as_specified, is_slashed, slashed_part, time_from_text
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW, ExportTable
from finops_assets.storage.repair import Repair

CURRENCIES = ("BillingCurrency", "PricingCurrency")
NULL_SPELLINGS = ("", "NULL", "N/A", "Not Applicable")
"""What stands for no value, in any case and between spaces (FOCUS, NullHandling, forbids all of them)."""

EMPTY_ROW, NULL_SPELLING, TIME_SPELLING = "empty_row", "null_spelling", "time_spelling"
ENCODING, DELIMITER, PREAMBLE, BYTE_ORDER_MARK = "encoding", "delimiter", "preamble", "byte_order_mark"
LINE_ENDS, ESCAPE = "line_ends", "escape"
BINARY_TEXT = "binary_text"
SLASHED, ASSUMED = "slashed_date", "date_order_assumed"
RESPELLED, RENAMED = "closed_value_spelling", "closed_value_renamed"


# ---- no value -----------------------------------------------------------------------------------


def without_null_words(
    connection: duckdb.DuckDBPyConnection, sql: str, texts: Iterable[str], files: Sequence[str]
) -> tuple[str, tuple[Repair, ...]]:
    """An export's SQL with every spelling of no value as NULL, and where such stood.

    `texts` are its text columns, `files` the Parquet files that it reads: their statistics rule most columns out.
    """
    possible = _may_hold_null_words(connection, files)
    candidates = [name for name in texts if possible is None or name.casefold() in possible]
    counted = [f"count(CASE WHEN {_is_null_word(identifier(name))} THEN 1 END)" for name in candidates]
    if not counted:
        return sql, ()
    counts = connection.execute(f"SELECT {', '.join(counted)} FROM ({sql})").fetchone() or ()
    found = [name for name, count in zip(candidates, counts) if count]
    if not found:
        return sql, ()
    repairs = [
        repair
        for name in found
        for repair in _counted(connection, sql, NULL_SPELLING, name, identifier(name), _is_null_word(identifier(name)))
    ]
    cleared = ", ".join(
        f"CASE WHEN {_is_null_word(identifier(name))} THEN NULL ELSE {identifier(name)} END AS {identifier(name)}"
        for name in found
    )
    return f"SELECT * REPLACE ({cleared}) FROM ({sql})", tuple(repairs)


def without_empty_rows(
    connection: duckdb.DuckDBPyConnection, sql: str, names: Sequence[str], first: str | None
) -> tuple[str, tuple[Repair, ...]]:
    """An export's SQL without the rows in which no column has a value, and how many of them there were.

    Spreadsheets leave them behind. `first` is a column that real rows fill: it is looked at before the others.
    """
    ordered = sorted(names, key=lambda name: name != first)
    if not ordered:
        return sql, ()
    # Only where the first is NULL is the next looked at.
    empty = f"coalesce({', '.join(f'CAST({identifier(name)} AS VARCHAR)' for name in ordered)}) IS NULL"
    if first is not None:
        [(missing,)] = connection.execute(f"SELECT count(*) - count({identifier(first)}) FROM ({sql})").fetchall()
        if not missing:
            return sql, ()
    repairs = tuple(_counted(connection, sql, EMPTY_ROW, "", "NULL", empty))
    return (f"SELECT * FROM ({sql}) WHERE NOT ({empty})", repairs) if repairs else (sql, ())


def _is_null_word(value: str) -> str:
    words = ", ".join(literal(word.lower()) for word in NULL_SPELLINGS)
    return f"(strlen({value}) < 24 AND lower(trim({value}, ' \t')) IN ({words}))"


def _may_hold_null_words(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> set[str] | None:
    """The columns whose smallest and largest texts let one of the words lie between; None where nothing is known."""
    if not files:
        return None
    low, high = "coalesce(stats_min_value, stats_min)", "coalesce(stats_max_value, stats_max)"
    # An empty or spaced text sorts before "!"; the words begin with N or n.
    possible = f"{low} < '!' OR ({low} < 'O' AND {high} >= 'N') OR ({low} < 'o' AND {high} >= 'n')"
    rows = connection.execute(
        f"""
        SELECT DISTINCT path_in_schema FROM parquet_metadata(?)
        WHERE NOT coalesce(stats_null_count = num_values, false) AND ({low} IS NULL OR {high} IS NULL OR {possible})
        """,
        [list(files)],
    ).fetchall()
    return {str(name).casefold() for (name,) in rows}


def _counted(
    connection: duckdb.DuckDBPyConnection, sql: str, rule: str, column: str, value: str, condition: str
) -> list[Repair]:
    """The rows of each file that meet a condition, with the first of them."""
    found = connection.execute(
        f"SELECT {SOURCE_FILE}, count(*), arg_min({value}, {SOURCE_ROW}), min({SOURCE_ROW}) FROM ({sql}) e"
        f" WHERE {condition} GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return [Repair(str(file), rule, column, rows, example, first) for file, rows, example, first in found]


# ---- numbers, times, closed lists ---------------------------------------------------------------


@dataclass(frozen=True)
class Spelling:
    """What reading must know of an export's files: nothing, where they write as FOCUS says."""

    points: Mapping[str, Point | None] = field(default_factory=dict)
    """File -> its decimal point, if numbers in it are written for people; None: a number with a comma is not read."""
    numbers: frozenset[str] = frozenset()
    """The columns that hold such numbers."""
    plain_doubles: Mapping[str, bool] = field(default_factory=dict)
    """The columns of doubles of which each is a decimal of 15 digits and 9 places, or (True) up to 12: nothing is odd there."""
    orders: Mapping[str, Mapping[str, Order | Literal["assumed"] | None]] = field(default_factory=dict)
    """Column -> file -> the order of its slashed dates; None: contradictory, they are not read."""
    closed: Mapping[str, Mapping[str, tuple[str, str]]] = field(default_factory=dict)
    """Column -> value as written -> (rule, the value of the closed list)."""
    counted: tuple[Repair, ...] = ()
    """What is counted by file alone, because the values are the same: other spellings of a time."""

    def point(self, file: str) -> str:
        """SQL: the decimal point of a row's file; `file` is SQL of that file."""
        return _by_file(self.points, file)

    def order(self, column: str, file: str) -> str | None:
        """SQL: the order of a column's slashed dates in a row's file."""
        orders = {f: "MDY" if order == "assumed" else order for f, order in self.orders.get(column, {}).items()}
        return _by_file(orders, file) if orders else None

    def assumed(self, column: str, file: str) -> str | None:
        """SQL: is the order of a column's dates assumed in a row's file?"""
        files = [f for f, order in self.orders.get(column, {}).items() if order == "assumed"]
        return f"{file} IN ({', '.join(map(literal, files))})" if files else None

    def unread_dates(self, column: str) -> list[str]:
        """The files whose dates in this column contradict each other."""
        return [f for f, order in self.orders.get(column, {}).items() if order is None]


AS_SPECIFIED = Spelling()


def _by_file(values: Mapping[str, str | None], file: str) -> str:
    """SQL: a text by file; NULL for None and for files that are not named."""
    known = {f: v for f, v in values.items() if v is not None}
    if not known:
        return "CAST(NULL AS VARCHAR)"
    if len(known) == len(values) and len(set(known.values())) == 1 and len(values) == 1:
        return literal(next(iter(known.values())))
    whens = " ".join(f"WHEN {literal(f)} THEN {literal(v)}" for f, v in known.items())
    return f"CASE {file} {whens} END"


def how_written(connection: duckdb.DuckDBPyConnection, export: ExportTable) -> Spelling:
    """Look through the text columns of an export once, and again only through those that are not as FOCUS says."""
    written = [(columns()[focus], name) for focus, name in export.focus_columns.items()]
    texts = [(column, f"e.{identifier(name)}") for column, name in written if export.types[name] == "VARCHAR"]
    numbers = {c.name: v for c, v in texts if c.type == "decimal"}
    times = {c.name: v for c, v in texts if c.type == "datetime"}
    odd = _odd(connection, export, {n: _odd_number(v) for n, v in numbers.items()})
    points: dict[str, Point | None] = {}
    if odd:
        points = _points(connection, export, numbers)
        if "," in points.values():
            odd = set(numbers)  # 1.234 is a thousand there, and looks like a plain number
    late = _odd(connection, export, {n: f"NOT {as_specified(v)}" for n, v in times.items()})
    orders = date_orders(connection, export, {n: times[n] for n in times if n in late})
    counted = [
        repair for name in times if name in late for repair in _other_times(connection, export, name, times[name])
    ]
    return Spelling(
        points=points,
        numbers=frozenset(odd),
        plain_doubles=_plain_doubles(connection, export, written),
        orders=orders,
        closed=_closed(connection, export, [(c, v) for c, v in texts if c.allowed])
        | _currencies(connection, export, {c.name: v for c, v in texts if c.name in CURRENCIES}),
        counted=tuple(counted),
    )


def _odd(connection: duckdb.DuckDBPyConnection, export: ExportTable, conditions: Mapping[str, str]) -> set[str]:
    """The columns in which any row meets its condition."""
    if not conditions:
        return set()
    counts = ", ".join(f"count(CASE WHEN {condition} THEN 1 END)" for condition in conditions.values())
    row = connection.execute(f"SELECT {counts} FROM ({export.sql}) e").fetchone() or ()
    return {name for name, count in zip(conditions, row) if count}


def _plain_doubles(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, written: Iterable[tuple[Column, str]]
) -> dict[str, bool]:
    """To look once costs less than to keep what was written beside each amount, to tell what was odd of it."""
    doubles = {c.name: f"e.{identifier(n)}" for c, n in written if c.type == "decimal" and export.types[n] == "DOUBLE"}
    finely = _odd(connection, export, {name: odd_double(value) for name, value in doubles.items()})
    odd = _odd(connection, export, {name: odd_double(doubles[name], finely=True) for name in doubles if name in finely})
    return {name: name in finely for name in doubles if name not in odd}


def _odd_number(value: str) -> str:
    # A cast is quicker than a pattern, and forgives no more than a plus, spaces, and 1_000 for a thousand.
    return (
        f"({value} IS NOT NULL AND (TRY_CAST({value} AS DOUBLE) IS NULL OR {value} < '-' OR ends_with({value}, ' ')"
        f" OR contains({value}, '_')))"
    )


def _other_times(connection: duckdb.DuckDBPyConnection, export: ExportTable, name: str, value: str) -> Iterable[Repair]:
    """Where a time is written otherwise than specified. A month has few times: each is looked at once in a file."""
    distinct = f"SELECT {SOURCE_FILE}, {value} AS v, count(*) AS n, min({SOURCE_ROW}) AS row FROM ({export.sql}) e GROUP BY 1, 2"
    found = connection.execute(
        f"SELECT {SOURCE_FILE}, CAST(sum(n) AS BIGINT), arg_min(v, row), min(row) FROM ({distinct})"
        f" WHERE NOT {as_specified('v')} AND NOT {is_slashed('v')} AND {time_from_text('v')} IS NOT NULL"
        " GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return [Repair(str(file), TIME_SPELLING, name, rows, example, first) for file, rows, example, first in found]


def _points(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, numbers: Mapping[str, str]
) -> dict[str, Point | None]:
    """The decimal point of every file, as its numbers prove it; None where they prove neither or both."""
    proofs = ", ".join(
        f"bool_or({' OR '.join(f'coalesce({shows_point(value, point)}, false)' for value in numbers.values())})"
        for point in (".", ",")
    )
    result: dict[str, Point | None] = {}
    for file, point, comma in connection.execute(
        f"SELECT {SOURCE_FILE}, {proofs} FROM ({export.sql}) e GROUP BY 1 ORDER BY 1"
    ).fetchall():
        result[str(file)] = None if bool(point) == bool(comma) else "." if point else ","
    return result


def date_orders(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, times: Mapping[str, str]
) -> dict[str, dict[str, Order | Literal["assumed"] | None]]:
    """The order of slashed dates by column and file."""
    result: dict[str, dict[str, Order | Literal["assumed"] | None]] = {}
    proofs: dict[str, dict[str, set[Order]]] = {}
    differing: set[tuple[str, str]] = set()
    for name, value in times.items():
        a, b = slashed_part(value, 1), slashed_part(value, 2)
        for file, first, second, first_is_one, second_is_one, differ in connection.execute(
            f"SELECT {SOURCE_FILE}, max({a}), max({b}), bool_and({a} = 1), bool_and({b} = 1), bool_or({a} <> {b})"
            f" FROM ({export.sql}) e WHERE {is_slashed(value)} GROUP BY 1 ORDER BY 1"
        ).fetchall():
            found: set[Order] = {order for order, big in (("DMY", first), ("MDY", second)) if big > 12}  # type: ignore[misc]
            # A billing period begins and ends on the first of a month.
            if not found and name.startswith("BillingPeriod") and first_is_one != second_is_one:
                found = {"DMY" if first_is_one else "MDY"}
            proofs.setdefault(str(file), {})[name] = found
            if differ:
                differing.add((str(file), name))
    for file, by_column in proofs.items():
        elsewhere = {order for found in by_column.values() for order in found}
        for name, own in by_column.items():
            proven = own or elsewhere
            order: Order | Literal["assumed"] | None
            if len(proven) == 1:
                [order] = proven
            elif proven:
                order = None
            else:
                # 5/5/26 is the same day in either order.
                order = "assumed" if (file, name) in differing else "MDY"
            result.setdefault(name, {})[file] = order
    return result


def _closed(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, texts: Iterable[tuple[Column, str]]
) -> dict[str, dict[str, tuple[str, str]]]:
    result: dict[str, dict[str, tuple[str, str]]] = {}
    for column, value in texts:
        listed = ", ".join(literal(each) for each in column.allowed)
        found = connection.execute(
            f"SELECT v FROM (SELECT DISTINCT {value} AS v FROM ({export.sql}) e) WHERE v NOT IN ({listed})"
        ).fetchall()
        for (written,) in found:
            meant = _meant(column, written)
            if meant is not None:
                result.setdefault(column.name, {})[written] = meant
    return result


def _currencies(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, texts: Mapping[str, str]
) -> dict[str, dict[str, tuple[str, str]]]:
    """Codes of currencies (ISO 4217: three capital letters) in other case or between spaces.

    A price may be in a unit of the provider's own, so there a code must be one that the bill is in, too.
    """
    result: dict[str, dict[str, tuple[str, str]]] = {}
    billed: set[str] = set()
    for name in (name for name in CURRENCIES if name in texts):
        code = f"upper(trim({texts[name]}, ' \t\u00a0'))"
        found = connection.execute(
            f"SELECT DISTINCT {texts[name]}, {code} FROM ({export.sql}) e WHERE regexp_full_match({code}, '[A-Z]{{3}}')"
        ).fetchall()
        if name == CURRENCIES[0]:
            billed = {str(code) for _, code in found}
        meant = {v: (RESPELLED, code) for v, code in found if v != code and code in billed}
        if meant:
            result[name] = meant
    return result


def _meant(column: Column, written: str) -> tuple[str, str] | None:
    """The value of a closed list that a spelling stands for: the same letters, or a name that it had before."""
    letters = _letters(written)
    for allowed in column.allowed:
        if _letters(allowed) == letters:
            return RESPELLED, allowed
    renamed = former_values().get((column.name, letters))
    return (RENAMED, renamed) if renamed else None


def _letters(text: str) -> str:
    return "".join(ch for ch in text.casefold() if ch.isalnum())
