"""Export files -> one relation of canonical rows, in SQL. Parquet is read in place, CSV is staged once."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from finops_assets.engine import identifier, literal
from finops_assets.errors import DeliveryRefused
from finops_assets.focus import money
from finops_assets.focus.specification import Column, canonical_name, columns

NULL_SPELLINGS = ("", "NULL", "null", "N/A")
SOURCE_FILE, SOURCE_ROW = "source_file", "source_row"


@dataclass(frozen=True)
class ExportTable:
    """Export files as one SQL relation: `sql` selects all columns as written, plus source_file and source_row."""

    sql: str
    types: dict[str, str]

    @property
    def focus_columns(self) -> dict[str, str]:
        """FOCUS name -> the column as written."""
        return {focus: name for name in self.types if (focus := canonical_name(name))}

    @property
    def other_columns(self) -> list[str]:
        """What is not FOCUS: x_ columns and whatever else the provider adds. Kept as it is."""
        return [n for n in self.types if canonical_name(n) is None and n not in (SOURCE_FILE, SOURCE_ROW)]


def open_export(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    scope: str,
    root: Path,
    keys: Sequence[str],
    staging: Path,
) -> ExportTable:
    """Open a delivery's files below `root`; CSV files are staged as Parquet below `staging` on the way.

    Raises:
        DeliveryRefused: a file is not what its name says, is cut off, or a CSV row is broken.
    """
    parts = []
    for number, key in enumerate(keys):
        if key.endswith((".csv", ".csv.gz")):
            staged = staging / f"{number:05}.parquet"
            _stage_csv(connection, source, scope, root / key, key, staged)
            parts.append(f"SELECT * FROM read_parquet({literal(str(staged))})")
        else:
            _check_parquet(connection, source, scope, root / key, key)
    parquet = [str(root / key) for key in keys if not key.endswith((".csv", ".csv.gz"))]
    if parquet:
        listed = ", ".join(literal(path) for path in parquet)
        parts.append(
            f"SELECT * EXCLUDE (filename, file_row_number), substr(filename, {len(str(root)) + 2}) AS {SOURCE_FILE},"
            f" file_row_number + 1 AS {SOURCE_ROW}"
            f" FROM read_parquet([{listed}], union_by_name = true, filename = true, file_row_number = true,"
            " hive_partitioning = false)"
        )
    sql = " UNION ALL BY NAME ".join(parts)
    try:
        described = connection.execute(f"DESCRIBE {sql}").fetchall()
    except duckdb.Error as error:
        raise DeliveryRefused(source, scope, f"its files do not fit together: {error}") from error
    types = {str(name): str(kind) for name, kind, *_ in described}
    folded: dict[str, str] = {}
    for name in types:
        focus = canonical_name(name)
        if focus and focus in folded:
            raise DeliveryRefused(source, scope, f"has {focus} twice, as {folded[focus]!r} and {name!r}")
        if focus:
            folded[focus] = name
    return ExportTable(sql, types)


def _check_parquet(connection: duckdb.DuckDBPyConnection, source: str, scope: str, path: Path, key: str) -> None:
    try:
        connection.execute("SELECT 1 FROM parquet_file_metadata(?)", [str(path)]).fetchall()
    except duckdb.Error as error:
        raise DeliveryRefused(
            source, scope, f"is not Parquet, or is cut off ({_first_line(error)}); have it delivered again", file=key
        ) from error


def _stage_csv(
    connection: duckdb.DuckDBPyConnection, source: str, scope: str, path: Path, key: str, staged: Path
) -> None:
    names = _csv_header(source, scope, path, key)
    nulls = "[" + ", ".join(literal(n) for n in NULL_SPELLINGS) + "]"
    # Nothing is sniffed: a sniffer skips lines until what is left fits together.
    declared = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    query = f"""
        COPY (
            SELECT *, {literal(key)} AS {SOURCE_FILE}, row_number() OVER () AS {SOURCE_ROW}
            FROM read_csv({literal(str(path))}, auto_detect = false, columns = {{{declared}}}, header = true,
                delim = ',', quote = '"', escape = '"', nullstr = {nulls}, strict_mode = true, null_padding = false,
                max_line_size = 16777216)
        ) TO {literal(str(staged))} (FORMAT parquet, COMPRESSION snappy)
    """
    try:
        connection.execute(query)
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        if "No space left" in str(error):
            raise
        raise DeliveryRefused(
            source, scope, f"is not a readable CSV ({_csv_problem(error)}); have it delivered again", file=key
        ) from error


def _csv_header(source: str, scope: str, path: Path, key: str) -> list[str]:
    """The column names of a CSV, made distinct as the engine compares them."""
    opened = gzip.open if key.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            found = next(csv.reader(file), [])
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise DeliveryRefused(
            source, scope, f"is not a readable CSV ({error}); have it delivered again", file=key
        ) from error
    if not found:
        raise DeliveryRefused(
            source, scope, "is not a readable CSV (it has no header); have it delivered again", file=key
        )
    names: list[str] = []
    taken = {SOURCE_FILE, SOURCE_ROW}
    for position, text in enumerate(found):
        # A byte order mark may stand there twice.
        name = text.strip("\ufeff ") or f"column{position}"
        if name.casefold() in taken and canonical_name(name):
            raise DeliveryRefused(source, scope, f"has the column {name!r} twice", file=key)
        while name.casefold() in taken:
            name = f"x_{name}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _csv_problem(error: Exception) -> str:
    """DuckDB's first lines name the line and its text; the list of options that follows helps nobody here."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:3])


@dataclass(frozen=True)
class Mapped:
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


def map_column(column: Column, name: str | None, kind: str) -> Mapped:
    """The SQL that turns a column as written (`e.<name>` of DuckDB type `kind`) into its canonical form."""
    if name is None:
        return Mapped(column.name, f"CAST(NULL AS {canonical_type(column)})")
    value = f"e.{identifier(name)}"
    if kind == "VARCHAR" and column.type != "json":
        # CSV has no other null; in Parquet the empty text stands for it often enough.
        value = f"nullif({value}, '')"
    match column.type:
        case "decimal":
            return _decimal(column.name, value, kind)
        case "datetime":
            return _datetime(column.name, value, kind)
        case "json":
            nested = kind != "VARCHAR"
            return Mapped(column.name, f"CAST(to_json({value}) AS VARCHAR)" if nested else value)
        case "string":
            text = value if kind == "VARCHAR" else f"CAST({value} AS VARCHAR)"
            return _closed(column, text) if column.allowed else Mapped(column.name, text)


def canonical_type(column: Column) -> str:
    """The DuckDB type of a canonical column."""
    return {"decimal": money.DECIMAL, "datetime": "TIMESTAMP"}.get(column.type, "VARCHAR")


def _decimal(name: str, value: str, kind: str) -> Mapped:
    found = f"found_{name}"
    unread = ("not_a_number", f"({found} IS NOT NULL AND {name} IS NULL)")
    if kind in ("DOUBLE", "FLOAT"):
        # 17 digits reach beyond 18 places only below 0.01.
        small = f"abs({found}) < 1e-2 AND NOT {money.plain_double(found)}"
        fine = ("rounded", f"({small} AND {money.was_too_fine(f'CAST({found} AS VARCHAR)')})")
        return Mapped(name, money.decimal_from_double(value), value, (unread, fine))
    if _scale(kind) <= money.SCALE:
        return Mapped(name, f"TRY_CAST({value} AS {money.DECIMAL})", value, (unread,))
    text = value if kind == "VARCHAR" else f"CAST({value} AS VARCHAR)"
    fine = ("rounded", f"({money.was_too_fine(found)} AND {name} IS NOT NULL)")
    return Mapped(name, money.decimal_from_text(text), text, (unread, fine))


def _scale(kind: str) -> float:
    """The decimal places of an exact numeric type; infinite for every other type."""
    if kind.startswith("DECIMAL"):
        return int(kind.rstrip(")").rpartition(",")[2])
    return 0 if kind.removeprefix("U") in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT") else math.inf


def _datetime(name: str, value: str, kind: str) -> Mapped:
    if kind.startswith(("TIMESTAMP", "DATE")):
        # A time with a zone is rendered in the session's, which is UTC.
        return Mapped(name, f"CAST({value} AS TIMESTAMP)")
    found = value if kind == "VARCHAR" else f"CAST({value} AS VARCHAR)"
    # The two usual shapes are cast as they are. Everything else may carry a zone, which a cast to TIMESTAMP
    # would drop: it goes through TIMESTAMPTZ (a text without zone is UTC). FOCUS 1.0 of Azure has no seconds.
    usual = (
        f"substr({found}, 5, 1) = '-' AND (length({found}) = 19 AND substr({found}, 17, 1) = ':'"
        f" OR length({found}) >= 20 AND {found} LIKE '%Z')"
    )
    text = f"replace(trim({found}), 'z', 'Z')"
    seconds = f"regexp_replace({text}, '^(.{{10}}[T ][0-9]{{2}}:[0-9]{{2}})(Z|[+-][0-9:]+)?$', '\\1:00\\2')"
    sql = (
        f"CASE WHEN {usual} THEN TRY_CAST({found} AS TIMESTAMP)"
        # "infinity", "epoch" and years that no calendar has are texts that DuckDB reads, too.
        f" WHEN {text} LIKE '____-__-__%' THEN CAST(TRY_CAST({seconds} AS TIMESTAMPTZ) AS TIMESTAMP) END"
    )
    unread = ("not_a_time", f"(found_{name} IS NOT NULL AND {name} IS NULL)")
    return Mapped(name, sql, found, (unread,))


def _closed(column: Column, text: str) -> Mapped:
    """A closed list in the specification's spelling; what is not in it stays as found, for the gate to see."""
    listed = ", ".join(literal(v) for v in column.allowed)
    whens = " ".join(f"WHEN {literal(v.lower())} THEN {literal(v)}" for v in column.allowed)
    sql = f"CASE WHEN {text} NOT IN ({listed}) THEN CASE lower(trim({text})) {whens} ELSE {text} END ELSE {text} END"
    return Mapped(column.name, sql, text, (("closed_value_spelling", f"(found_{column.name} <> {column.name})"),))


def repairs_json(mapped: Iterable[Mapped], extra: Iterable[tuple[str, str, str, str]] = ()) -> str:
    """SQL: NULL for a clean row, else a JSON list of {rule, column, found}, so that nothing as written is lost.

    Over rows that hold each canonical column and its found value; `extra` are further (rule, column,
    condition, found).
    """
    entries = [
        (rule, m.name, condition, f"CAST({m.found_name} AS VARCHAR)") for m in mapped for rule, condition in m.repairs
    ]
    entries += extra
    any_of = " OR ".join(condition for _, _, condition, _ in entries)
    items = ", ".join(
        f"CASE WHEN {condition} THEN {{'rule': {literal(rule)}, 'column': {literal(column)}, 'found': {found}}} END"
        for rule, column, condition, found in entries
    )
    return f"CASE WHEN {any_of} THEN CAST(to_json(list_filter([{items}], lambda x: x IS NOT NULL)) AS VARCHAR) END"


def all_columns() -> Sequence[Column]:
    """The canonical columns in the lake's order."""
    return list(columns().values())
