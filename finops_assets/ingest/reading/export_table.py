"""Export files -> one relation of canonical rows, in SQL. Parquet is read in place, CSV is staged once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa

from finops_assets.base.errors import DeliveryRefused
from finops_assets.base.interrupts import stopped_by_signals
from finops_assets.base.spread import Spread
from finops_assets.base.sql import identifier, literal
from finops_assets.focus import money
from finops_assets.focus.specification import Column, canonical_name, columns
from finops_assets.focus.times import is_slashed, time_from_text
from finops_assets.ingest.reading.json_lines import open_json_lines
from finops_assets.ingest.reading.parts import (
    DIGITS,
    Part,
    alike,
    first_line,
    judged,
    moment_of,
    open_csv,
    open_parquet,
)
from finops_assets.ingest.reading.relation import ROW, SOURCE_FILE, SOURCE_ROW, ExportTable, PlainFile
from finops_assets.ingest.reading.spelling import (
    AS_SPECIFIED,
    ASSUMED,
    NULL_SPELLINGS,
    RENAMED,
    RESPELLED,
    SLASHED,
    Spelling,
    without_empty_rows,
    without_null_words,
)
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import connect, file_list, one_file, threads


def open_export(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    scope: str,
    root: Path,
    keys: Sequence[str],
    staging: Path,
    nulls: Sequence[str] = NULL_SPELLINGS,
    spread: tuple[Spread, EngineSettings] | None = None,
) -> ExportTable:
    """Open a delivery's files below `root`, each by itself; what the engine cannot read in place is staged below `staging`.

    A name is data: a file is read under a number, and a provider's column of a name that is ours is kept as x_<name>.

    `nulls` are the texts that stand for no value, in any case; what they stood in is counted, and so are rows without
    any value, which are left out. With the empty text alone everything is left as it was written. `spread`: who opens
    the files elsewhere, each within these bounds; `root` and `staging` must be seen there.

    Raises:
        DeliveryRefused: a file is not what its name says, is cut off, could be read in two ways, or a CSV row is broken.
        DeliveryUnread: this machine cannot read a file.
    """
    staging = staging / "opened"
    staging.mkdir(parents=True, exist_ok=True)

    opening = _Opening(source, scope, root, staging)

    def open_here(numbered: tuple[int, str]) -> Part:
        with stopped_by_signals(connection.cursor()) as cursor:
            return opening.part(cursor, numbered)

    if spread:
        elsewhere, bounds = spread
        parts = elsewhere(partial(opening.elsewhere, bounds), list(enumerate(keys)))
    else:
        # A compressed file is unpacked by one thread, whatever the engine has.
        with ThreadPoolExecutor(threads(connection)) as pool:
            parts = list(pool.map(open_here, enumerate(keys)))
    parts = alike(connection, source, scope, parts, staging)
    sql = _together(parts, keys)
    try:
        described = connection.execute(f"DESCRIBE {sql}").fetchall()
        _require_every_row(connection, source, scope, sql, parts)
    except duckdb.Error as error:
        content = f"its files do not fit together: {first_line(error)}"
        raise judged(error, source, scope, content) from error
    types = {str(name): str(kind) for name, kind, *_ in described}
    folded: dict[str, str] = {}
    for name in types:
        focus = canonical_name(name)
        if focus and focus in folded:
            raise DeliveryRefused(source, scope, f"has {focus} twice, as {folded[focus]!r} and {name!r}")
        if focus:
            folded[focus] = name
    counted = tuple(repair for part in parts for repair in part.counted)
    files, plain = tuple(PlainFile(part.file, None if part.staged else part.key) for part in parts), sql
    if set(nulls) == {""}:
        return ExportTable(sql, types, counted, files=files)
    columns_of_text = [name for name, kind in types.items() if kind == "VARCHAR" and name != SOURCE_FILE]
    sql, words = without_null_words(connection, sql, columns_of_text, [one_file(part.file) for part in parts])
    names = [name for name in types if name not in (SOURCE_FILE, SOURCE_ROW)]
    sql, empty = without_empty_rows(connection, sql, names, folded.get("ChargePeriodStart"))
    return ExportTable(sql, types, (*counted, *words, *empty), files=files if sql == plain else ())


@dataclass(frozen=True)
class _Opening:
    """How each file of a delivery is opened, by its number and key."""

    source: str
    scope: str
    root: Path
    staging: Path

    def part(self, connection: duckdb.DuckDBPyConnection, numbered: tuple[int, str]) -> Part:
        number, key = numbered
        name = key.lower()
        json_lines = open_json_lines if name.endswith((".jsonl", ".jsonl.gz")) else open_csv
        open_file = open_parquet if name.endswith(".parquet") else json_lines
        return open_file(connection, self.source, self.scope, self.root / key, key, number, self.staging)

    def elsewhere(self, bounds: EngineSettings, numbered: tuple[int, str]) -> Part:
        with connect(bounds, self.staging / f"spill-{numbered[0]}") as connection:
            return self.part(connection, numbered)


def rows_of_file(export: ExportTable, file: PlainFile, schema: pa.Schema) -> str:
    """SQL: one file's rows with the export's columns, and their place in the file; `schema` is the file's."""
    read = f"read_parquet({literal(one_file(file.path))}, hive_partitioning = false, file_row_number = true)"
    added = [f"file_row_number AS {ROW}"]
    if file.key is not None:
        added += [f"{literal(file.key)} AS {SOURCE_FILE}", f"file_row_number + 1 AS {SOURCE_ROW}"]
    held = {name.casefold() for name in (*schema.names, SOURCE_FILE, SOURCE_ROW)}
    lacking = {name: kind for name, kind in export.types.items() if name.casefold() not in held}
    added += [f"CAST(NULL AS {kind}) AS {identifier(name)}" for name, kind in lacking.items()]
    return f"(SELECT * EXCLUDE (file_row_number), {', '.join(added)} FROM {read})"


def _together(parts: Sequence[Part], keys: Sequence[str]) -> str:
    """SQL: all rows of parts that are alike, each with the file it came from and its place there."""
    # One scan for many files: each part of a union keeps rows of its own in memory until it ends.
    staged = [part.file for part in parts if part.staged]
    linked = [part.file for part in parts if not part.staged]
    scans = []
    if staged:
        scans.append(
            f"SELECT * FROM read_parquet({file_list(staged)}, union_by_name = true, hive_partitioning = false)"
        )
    if linked:
        number = f"CAST(substr(filename, -{DIGITS + len('.parquet')}, {DIGITS}) AS INTEGER)"
        scans.append(
            f"SELECT * EXCLUDE (filename, file_row_number),"
            f" list_extract([{', '.join(map(literal, keys))}], {number} + 1) AS {SOURCE_FILE},"
            f" file_row_number + 1 AS {SOURCE_ROW}"
            f" FROM read_parquet({file_list(linked)}, union_by_name = true, filename = true, file_row_number = true,"
            " hive_partitioning = false)"
        )
    return " UNION ALL BY NAME ".join(scans)


def _require_every_row(
    connection: duckdb.DuckDBPyConnection, source: str, scope: str, sql: str, parts: Sequence[Part]
) -> None:
    """What all files give together is, file by file, what each of them says that it holds."""
    read = dict(connection.execute(f"SELECT {SOURCE_FILE}, count(*) FROM ({sql}) GROUP BY 1").fetchall())
    for part in parts:
        rows = read.pop(part.key, 0)
        if rows != part.rows:
            raise DeliveryRefused(
                source, scope, f"{rows} rows were read, the file holds {part.rows}; nothing was landed", file=part.key
            )
    if read:
        raise DeliveryRefused(
            source, scope, f"rows were read of {next(iter(read))!r}, which is no file of the delivery"
        )


@dataclass(frozen=True)
class CanonicalColumn:
    """A canonical column: its SQL over an export's rows (alias e), and what to look for when it is there.

    `found` is the SQL of the value as written, kept beside the canonical one under `found_name` while the
    repairs (rule, SQL condition over the two) are judged. A column that is never repaired has none.
    """

    name: str
    sql: str
    found: str | None = None
    repairs: tuple[tuple[str, str], ...] = ()

    @property
    def found_name(self) -> str:
        return f"found_{self.name}"


def map_column(column: Column, name: str | None, kind: str, written: Spelling = AS_SPECIFIED) -> CanonicalColumn:
    """The SQL that turns a column as written (`e.<name>` of DuckDB type `kind`) into its canonical form.

    `written` tells how the files write it; the SQL may then ask for their `source_file`.
    """
    if name is None:
        return CanonicalColumn(column.name, f"CAST(NULL AS {canonical_type(column)})")
    value = f"e.{identifier(name)}"
    if kind == "VARCHAR" and column.type != "json":
        value = f"nullif({value}, '')"
    match column.type:
        case "decimal":
            return _decimal(column.name, value, kind, written)
        case "datetime":
            return _datetime(column.name, value, kind, written)
        case "json":
            nested = kind != "VARCHAR"
            return CanonicalColumn(column.name, f"CAST(to_json({value}) AS VARCHAR)" if nested else value)
        case "string":
            text = value if kind == "VARCHAR" else f"CAST({value} AS VARCHAR)"
            return _closed(column.name, text, written)


def canonical_type(column: Column) -> str:
    """The DuckDB type of a canonical column."""
    return {"decimal": money.DECIMAL, "datetime": "TIMESTAMP"}.get(column.type, "VARCHAR")


def _decimal(name: str, value: str, kind: str, written: Spelling) -> CanonicalColumn:
    found = f"found_{name}"
    unread = ("not_a_number", f"({found} IS NOT NULL AND {name} IS NULL)")
    if name in written.plain_doubles:
        return CanonicalColumn(name, money.decimal_from_plain_double(value, finely=written.plain_doubles[name]))
    if kind in ("DOUBLE", "FLOAT"):
        # 17 digits reach beyond 18 places only below 0.01.
        plain = f"{money.plain_double(found)} OR {money.plain_double(found, 12)}"
        fine_text = money.was_too_fine(f"CAST({found} AS VARCHAR)")
        fine = ("rounded", f"CASE WHEN abs({found}) < 1e-2 AND NOT ({plain}) THEN {fine_text} ELSE false END")
        return CanonicalColumn(name, money.decimal_from_double(value), value, (unread, fine))
    if _scale(kind) <= money.SCALE:
        return CanonicalColumn(name, f"TRY_CAST({value} AS {money.DECIMAL})", value, (unread,))
    text = value if kind == "VARCHAR" else f"CAST({value} AS VARCHAR)"
    if name not in written.numbers:
        fine = ("rounded", f"({money.was_too_fine(found)} AND {name} IS NOT NULL)")
        return CanonicalColumn(name, money.decimal_from_text(text), text, (unread, fine))
    plain = money.plain_number(text, written.point(f"e.{SOURCE_FILE}"))
    point = written.point(SOURCE_FILE)
    as_read = money.plain_number(found, point)
    spelled = ("number_spelling", f"({name} IS NOT NULL AND {as_read} <> {found})")
    fine = ("rounded", f"({money.was_too_fine(as_read)} AND {name} IS NOT NULL)")
    return CanonicalColumn(name, money.decimal_from_text(f"({plain})"), text, (unread, spelled, fine))


def _scale(kind: str) -> float:
    """The decimal places of an exact numeric type; infinite for every other type."""
    if kind.startswith("DECIMAL"):
        return int(kind.rstrip(")").rpartition(",")[2])
    return 0 if kind.removeprefix("U") in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT") else math.inf


def _datetime(name: str, value: str, kind: str, written: Spelling) -> CanonicalColumn:
    if kind.startswith(("TIMESTAMP", "DATE")):
        return CanonicalColumn(name, moment_of(value, kind))
    text = value if kind == "VARCHAR" else f"CAST({value} AS VARCHAR)"
    found = f"found_{name}"
    repairs = [("not_a_time", f"({found} IS NOT NULL AND {name} IS NULL)")]
    order = written.order(name, f"e.{SOURCE_FILE}")
    if order is not None:
        slashed = f"{name} IS NOT NULL AND {is_slashed(found)}"
        assumed = written.assumed(name, SOURCE_FILE)
        repairs.append((SLASHED, f"({slashed} AND NOT {assumed})" if assumed else f"({slashed})"))
        if assumed:
            repairs.append((ASSUMED, f"({slashed} AND {assumed})"))
    return CanonicalColumn(name, time_from_text(text, order), text, tuple(repairs))


def _closed(name: str, text: str, written: Spelling) -> CanonicalColumn:
    """A closed list in the specification's spelling; what is not in it stays as found, for the gate to see."""
    meant = written.closed.get(name)
    if not meant:
        return CanonicalColumn(name, text)
    whens = " ".join(f"WHEN {literal(found)} THEN {literal(value)}" for found, (_, value) in meant.items())
    repairs = []
    for rule in (RESPELLED, RENAMED):
        listed = ", ".join(literal(found) for found, (why, _) in meant.items() if why == rule)
        if listed:
            repairs.append((rule, f"(found_{name} IN ({listed}))"))
    return CanonicalColumn(name, f"CASE {text} {whens} ELSE {text} END", text, tuple(repairs))


def repairs_json(mapped: Iterable[CanonicalColumn], extra: Iterable[tuple[str, str, str, str]] = ()) -> str:
    """SQL: NULL for a clean row, else a JSON list of {rule, column, found}, so that nothing as written is lost.

    Over rows that hold each canonical column and its found value; `extra` are further (rule, column,
    condition, found).
    """
    entries = [
        (rule, m.name, condition, f"CAST({m.found_name} AS VARCHAR)") for m in mapped for rule, condition in m.repairs
    ]
    entries += extra
    if not entries:
        return "CAST(NULL AS VARCHAR)"
    any_of = " OR ".join(condition for _, _, condition, _ in entries)
    items = ", ".join(
        f"CASE WHEN {condition} THEN {{'rule': {literal(rule)}, 'column': {literal(column)}, 'found': {found}}} END"
        for rule, column, condition, found in entries
    )
    return f"CASE WHEN {any_of} THEN CAST(to_json(list_filter([{items}], lambda x: x IS NOT NULL)) AS VARCHAR) END"


def all_columns() -> Sequence[Column]:
    """The canonical columns in the lake's order."""
    return list(columns().values())
