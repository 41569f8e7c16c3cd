"""The files of a delivery as parts of one table: each is understood by itself before any two are put together.

A part lies under a number of ours: a name is data, and the engine takes names for patterns. Two parts that write one
column in different types are written again in a form that loses nothing of either, or refused; the engine's own common
type of a double and a decimal is a double.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.base.errors import DeliveryRefused, DeliveryUnread
from finops_assets.base.sql import identifier, literal
from finops_assets.focus.specification import canonical_name, columns
from finops_assets.ingest.reading.csv_text import (
    DELIMITERS,
    WINDOWS,
    CsvForm,
    NotCsv,
    NotUtf8,
    Rewritten,
    Seen,
    count_rows,
    form_of,
    look,
    require_windows_1252,
    rewrite,
    unpack,
)
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.ingest.reading.spelling import (
    BINARY_TEXT,
    BYTE_ORDER_MARK,
    DELIMITER,
    ENCODING,
    ESCAPE,
    LINE_ENDS,
    PREAMBLE,
)
from finops_assets.storage.duck import ROW_GROUP_ROWS, one_file
from finops_assets.storage.repair import Repair

# Left to itself the engine reads ahead sixteen of the longest lines: within 800 MB it then spills, as it does with row
# groups of 120,000 rows of text, which doubled the time.
LONGEST_LINE = 16 << 20
LONGEST_NAME = 10_000
# Of each column the other reader has so much in memory, not the whole of it.
READ_AHEAD_BYTES, ROWS_AT_ONCE = 1 << 20, 32_768
DIGITS = 7
OURS = frozenset(
    {
        "source",
        "charge_date",
        SOURCE_FILE,
        SOURCE_ROW,
        "tag_set_id",
        "repairs",
        "filename",
        "file_row_number",
        "finops_path",
        "finops_row",
    }
    | {"bad_tags", "bad_allocated_tags", "nested_tags", "nested_allocated_tags"}
)
"""What the lake and the engine call columns of their own: a provider's column of such a name is kept as x_<name>."""
_OURS_TOO = re.compile(rf"found_({'|'.join(columns())})|note_\d+", re.IGNORECASE)

_FAULTS_OF_THIS_MACHINE = (
    errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOMEM, errno.ENOENT,
    errno.ENODEV, errno.ENXIO, errno.ETIMEDOUT, errno.ENOTCONN, errno.EBUSY, errno.EAGAIN, errno.ELOOP,
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ECONNRESET, errno.EHOSTDOWN,
)  # fmt: skip
# These are of the place that is written, and whoever holds it has advice.
_FAULTS_OF_THE_LAKE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Part:
    """One file of a delivery: what it holds, as `file`, a name of ours, gives it to the engine."""

    key: str
    number: int
    file: Path
    columns: Mapping[str, str]
    """Column -> DuckDB type."""
    rows: int
    staged: bool
    """Written again by us, with source_file and source_row; else a link to the file as it was delivered."""
    counted: tuple[Repair, ...] = ()


def judged(error: Exception, source: str, scope: str, content: str, key: str | None = None) -> Exception:
    """The error to raise for one that was met while a file was read; `content` says what is wrong if the file is.

    An error of this machine is no verdict on the file. One of the lake's disk is handed on as it is.
    """
    fault = None
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException):
        fault = "it does not fit into the memory; raise `engine: memory_limit` in finops.yaml"
    elif isinstance(error, OSError):
        if error.errno in _FAULTS_OF_THE_LAKE:
            return error
        fault = error.strerror or str(error)
    elif isinstance(error, duckdb.IOException):
        text = str(error)
        if any(os.strerror(number) in text for number in _FAULTS_OF_THE_LAKE):
            return error
        fault = next((os.strerror(n) for n in _FAULTS_OF_THIS_MACHINE if os.strerror(n) in text), None)
    if fault is None:
        return DeliveryRefused(source, scope, content, file=key)
    return DeliveryUnread(
        source, scope, f"cannot be read on this machine: {fault}. It is tried again next time", file=key
    )


def own_names(source: str, scope: str, key: str, found: Sequence[str]) -> list[str]:
    """The column names of a file: without marks and spaces around them, distinct as the engine compares them, not ours.

    Raises:
        DeliveryRefused: a column of FOCUS stands there twice, or a name is no name.
    """
    # Empty fields, too, have a name, by their place.
    names = [text.strip("\ufeff \t") or f"column{place}" for place, text in enumerate(found)]
    longest = max(names, key=len, default="")
    if len(longest) > LONGEST_NAME:
        raise DeliveryRefused(
            source, scope, f"has a column whose name has {len(longest):,} characters: {longest[:40]!r}...", file=key
        )
    taken = {name.casefold() for name in names}
    settled: set[str] = set()
    result = []
    for name in names:
        if name.casefold() in settled and canonical_name(name):
            raise DeliveryRefused(source, scope, f"has the column {name!r} twice", file=key)
        if name.casefold() in settled or name.casefold() in OURS or _OURS_TOO.fullmatch(name):
            name = f"x_{name}"
            while name.casefold() in taken or name.casefold() in settled:
                name = f"x_{name}"
        settled.add(name.casefold())
        result.append(name)
    return result


# ---- Parquet ------------------------------------------------------------------------------------


def open_parquet(
    connection: duckdb.DuckDBPyConnection, source: str, scope: str, path: Path, key: str, number: int, staging: Path
) -> Part:
    """A Parquet file as a part. It is written again only if its names cannot stay, or its text is declared binary.

    Raises:
        DeliveryUnread: this machine cannot read it.
        DeliveryRefused: it is not Parquet, cut off, or has bytes that are no text.
    """
    link = staging / f"{number:0{DIGITS}}.parquet"
    _link(source, scope, path, key, link)
    _as_text_what_is_too_wide(source, scope, path, key, link)
    file = literal(one_file(link))
    try:
        [(rows,)] = connection.execute(f"SELECT num_rows FROM parquet_file_metadata({file})").fetchall()
        described = column_types(connection, link)
        nodes = connection.execute(f"SELECT name, num_children FROM parquet_schema({file})").fetchall()
    except duckdb.Error as error:
        said = first_line(error).replace(str(link), key)
        content = f"is not Parquet, or is cut off ({said}); have it delivered again"
        raise judged(error, source, scope, content, key) from error
    _require_read_by_another(source, scope, path, key)
    names = own_names(source, scope, key, _top_level(nodes))
    kinds = list(described.values())
    part = Part(key, number, link, dict(zip(names, kinds, strict=True)), int(rows), staged=False)
    if names == list(described) and "BLOB" not in kinds:
        return part
    binary = {name: "VARCHAR" for name, kind in part.columns.items() if kind == "BLOB"}
    counted = tuple(Repair(key, BINARY_TEXT, name, part.rows, "BLOB") for name in binary)
    return replace(write_again(connection, source, scope, part, binary, staging), counted=counted)


def _as_text_what_is_too_wide(source: str, scope: str, path: Path, key: str, target: Path) -> None:
    """A file with its decimals of more than 38 digits as text, in place of `target`, the link to it.

    The engine has no such type and reads them as doubles, which lose digits. A file without any, or that is no Parquet,
    is left to it.
    """
    try:
        wide = {field.name for field in pq.read_schema(path) if pa.types.is_decimal256(field.type)}
    except (pa.ArrowException, OSError, ValueError):
        return
    if not wide:
        return
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_AHEAD_BYTES) as file:
            schema = pa.schema([pa.field(f.name, pa.string() if f.name in wide else f.type) for f in file.schema_arrow])
            target.unlink()
            with pq.ParquetWriter(target, schema, compression="snappy") as writer:
                for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, use_threads=False):
                    columns = [c.cast(f.type) if f.name in wide else c for c, f in zip(batch.columns, schema)]
                    writer.write_batch(pa.record_batch(columns, schema=schema))
    except (pa.ArrowException, OSError, ValueError) as error:
        content = (
            f"has decimals of more than 38 digits ({', '.join(sorted(wide))}) and cannot be read ({first_line(error)});"
            " have it delivered again"
        )
        raise judged(error, source, scope, content, key) from error


def not_implemented(error: Exception) -> bool:
    """Has the other reader no code for this? An encoding that it cannot read as a dictionary it calls an error of the system."""
    if isinstance(error, OSError):
        return error.errno is None and str(error).startswith("Not yet implemented")
    return isinstance(error, pa.ArrowNotImplementedError)


def _require_read_by_another(source: str, scope: str, path: Path, key: str) -> None:
    """Another reader reads every value, and looks at the pages' check sums, which the engine does not: it takes a byte that
    was changed on the way for another figure.
    """
    try:
        # A text as its place in a dictionary is read as well, and for half the cost.
        texts = [field.name for field in pq.read_schema(path) if pa.types.is_string(field.type)]
        try:
            _read_whole(path, texts)
        except (pa.ArrowException, OSError) as error:
            if not not_implemented(error):
                raise
            _read_whole(path, [])
    except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
        if not_implemented(error):
            return  # a kind of column that the engine alone can read
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        content = f"cannot be read by another reader, so it is damaged ({said}); have it delivered again"
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
            raise judged(error, source, scope, content, key) from error
        raise DeliveryRefused(source, scope, content, file=key) from error


def _read_whole(path: Path, dictionaries: Sequence[str]) -> None:
    with pq.ParquetFile(
        path,
        page_checksum_verification=True,
        pre_buffer=False,
        buffer_size=READ_AHEAD_BYTES,
        read_dictionary=dictionaries,
    ) as file:
        for _ in file.iter_batches(batch_size=ROWS_AT_ONCE, use_threads=False):
            pass


def _top_level(nodes: Sequence[tuple[str, int | None]]) -> list[str]:
    """The names of a schema's columns from its nodes, which lie depth first."""
    found, inside = [], [0]
    for name, children in nodes[1:]:
        while inside[-1] == 0 and len(inside) > 1:
            inside.pop()
        if len(inside) == 1:
            found.append(str(name))
        else:
            inside[-1] -= 1
        if children:
            inside.append(children)
    return found


def _link(source: str, scope: str, path: Path, key: str, link: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise judged(error, source, scope, "", key) from error
    link.unlink(missing_ok=True)
    link.symlink_to(path.absolute())


def write_again(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    scope: str,
    part: Part,
    types: Mapping[str, str],
    staging: Path,
) -> Part:
    """A Parquet part with these columns in other types, and with its names as ours.

    Raises:
        DeliveryUnread: this machine cannot read it.
        DeliveryRefused: bytes are no text.
    """
    columns = {name: types.get(name, kind) for name, kind in part.columns.items()}
    values = [f"e.c{place}" for place in range(len(columns))]
    selected = ", ".join(
        f"{in_type(value, kind, columns[name])} AS {identifier(name)}"
        for value, (name, kind) in zip(values, part.columns.items())
    )
    # By their place: names that cannot stay cannot be asked for, either.
    aliases = ", ".join(f"c{place}" for place in range(len(columns)))
    read = f"read_parquet({literal(one_file(part.file))}, hive_partitioning = false) AS e({aliases})"
    target = staging / f"{part.number:0{DIGITS}}.again.parquet"
    query = f"""
        COPY (
            SELECT {selected}, {literal(part.key)} AS {SOURCE_FILE}, row_number() OVER () AS {SOURCE_ROW} FROM {read}
        ) TO {literal(str(target))} (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {ROW_GROUP_ROWS})
    """
    try:
        connection.execute(query)
    except duckdb.Error as error:
        content = f"cannot be read ({first_line(error)}); have it delivered again"
        for value, (name, kind) in zip(values, part.columns.items()):
            if kind == "BLOB" and not _is_text(connection, value, read):
                content = (
                    f"its column {name!r} is binary (BYTE_ARRAY without a logical type) and holds bytes that are no"
                    " UTF-8 text; have it written as a string"
                )
        raise judged(error, source, scope, content, part.key) from error
    return replace(part, file=target, columns=columns, staged=True)


def _is_text(connection: duckdb.DuckDBPyConnection, value: str, read: str) -> bool:
    try:
        connection.execute(f"SELECT max(strlen(decode({value}))) FROM {read}").fetchall()
    except duckdb.Error:
        return False
    return True


# ---- CSV ----------------------------------------------------------------------------------------


def open_csv(
    connection: duckdb.DuckDBPyConnection, source: str, scope: str, path: Path, key: str, number: int, staging: Path
) -> Part:
    """A CSV file, staged as Parquet with all its columns as text.

    Raises:
        DeliveryUnread: this machine cannot read it.
        DeliveryRefused: it cannot be read in one way only, is cut off, or a row is broken.
    """
    text = staging / f"{number:0{DIGITS}}.csv"
    again = staging / f"{number:0{DIGITS}}.again.csv"
    try:
        if key.lower().endswith(".gz"):
            text.unlink(missing_ok=True)
            seen = unpack(path, text)
        else:
            _link(source, scope, path, key, text)
            seen = look(path)
        form = form_of(seen)
        stage = partial(_staged, connection, source, scope, key, number, text, seen, again)
        try:
            return _evened(stage, form)
        except (NotUtf8, duckdb.InvalidInputException) as error:
            if form.encoding != "utf-8" or "utf-8" not in str(error):
                raise
            require_windows_1252(text)
        return _evened(stage, replace(form_of(seen), encoding=WINDOWS))
    except NotCsv as error:
        raise DeliveryRefused(
            source, scope, f"is not a readable CSV ({error}); have it delivered again", file=key
        ) from error
    except (OSError, MemoryError, duckdb.Error) as error:
        content = f"is not a readable CSV ({_csv_problem(error)}); have it delivered again"
        raise judged(error, source, scope, content, key) from error
    finally:
        text.unlink(missing_ok=True)
        again.unlink(missing_ok=True)


def _evened(stage: Callable[[CsvForm], Part], form: CsvForm) -> Part:
    """A file as it is; where the engine refuses its lines, as they are when all end alike and none has spaces alone, or
    when a quote behind a backslash is one within a field.

    The proof is the same: every line has the header's fields, and another reader counts the same rows.
    """
    try:
        return stage(form)
    except duckdb.InvalidInputException as error:
        if "utf-8" in str(error):
            raise
        for other, rule in (
            (replace(form, uneven=True), LINE_ENDS),
            (replace(form, escaped=True), ESCAPE),
            (replace(form, uneven=True, escaped=True), ESCAPE),
        ):
            try:
                part = stage(other)
            except NotUtf8:
                raise
            except (duckdb.InvalidInputException, NotCsv):
                continue
            if any(repair.rule == rule for repair in part.counted):
                return part
        raise


def _staged(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    scope: str,
    key: str,
    number: int,
    text: Path,
    seen: Seen,
    again: Path,
    form: CsvForm,
) -> Part:
    written = Rewritten(seen)
    if not form.plain:
        written = rewrite(text, form, again)
        seen, text = written.seen, again
    names = own_names(source, scope, key, form.names)
    target = text.with_name(f"{number:0{DIGITS}}.staged.parquet")
    # Nothing is sniffed: a sniffer skips lines until what is left fits together.
    declared = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    [(rows,)] = connection.execute(
        f"""
        COPY (
            SELECT *, {literal(key)} AS {SOURCE_FILE}, row_number() OVER () AS {SOURCE_ROW}
            FROM read_csv({literal(one_file(text))}, auto_detect = false, columns = {{{declared}}}, header = true,
                delim = {literal(form.delimiter)}, quote = '"', escape = '"', nullstr = '', strict_mode = true,
                null_padding = false, compression = 'none', hive_partitioning = false,
                max_line_size = {LONGEST_LINE}, buffer_size = {2 * LONGEST_LINE})
        ) TO {literal(str(target))} (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {ROW_GROUP_ROWS})
        """
    ).fetchall()
    # A row is a line, but for empty lines and those within quotes: then another reader counts, too.
    if rows != seen.lines - 1 and rows != (counted := count_rows(text, form.delimiter)):
        raise NotCsv(f"the engine reads {rows} rows, another reader {counted}")
    if form.plain and _marked(connection, target, names[0]):
        return _staged(connection, source, scope, key, number, text, seen, again, replace(form, marked=True))
    return Part(
        key,
        number,
        target,
        dict.fromkeys(names, "VARCHAR"),
        int(rows),
        staged=True,
        counted=tuple(_repairs(key, form, int(rows), written)),
    )


def _marked(connection: duckdb.DuckDBPyConnection, staged: Path, first: str) -> bool:
    """Does the first field of any row begin with a byte order mark? Where files were put behind each other, it may."""
    read = f"read_parquet({literal(one_file(staged))}, hive_partitioning = false)"
    query = f"SELECT 1 FROM {read} WHERE starts_with({identifier(first)}, '\ufeff') LIMIT 1"
    return connection.execute(query).fetchone() is not None


def _repairs(key: str, form: CsvForm, rows: int, written: Rewritten) -> Iterable[Repair]:
    if form.encoding != "utf-8":
        yield Repair(key, ENCODING, "", rows, form.encoding)
    if form.delimiter != ",":
        yield Repair(key, DELIMITER, "", rows, DELIMITERS[form.delimiter])
    if form.before:
        yield Repair(key, PREAMBLE, "", len(form.before), next((line for line in form.before if line), "")[:200])
    if written.marks:
        yield Repair(key, BYTE_ORDER_MARK, "", written.marks)
    if written.evened:
        yield Repair(key, LINE_ENDS, "", written.evened)
    if written.escaped:
        yield Repair(key, ESCAPE, "", written.escaped)


_PART = re.compile(rf"[^\s'\"]*/opened/(\d{{{DIGITS}}})[.]\w+([.]\w+)?")


def is_of_a_part(error: duckdb.Error) -> bool:
    """Does the engine complain about a file that it reads as a part?"""
    return _PART.search(str(error)) is not None


def with_keys(text: str, keys: Sequence[str]) -> str:
    """What the engine says, with the files' names for our numbers."""
    return _PART.sub(lambda found: keys[int(found[1])], text)


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _csv_problem(error: Exception) -> str:
    """DuckDB's first lines name the line and its text; the list of options that follows helps nobody here."""
    told = str(error).partition("\nPossible")[0]
    return "; ".join([line.strip() for line in told.splitlines() if line.strip()][:4])


# ---- parts put together -------------------------------------------------------------------------

_WHOLE_DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19, "UTINYINT": 3, "USMALLINT": 5,
                 "UINTEGER": 10, "UBIGINT": 20, "HUGEINT": 39, "UHUGEINT": 39}  # fmt: skip


def alike(
    connection: duckdb.DuckDBPyConnection, source: str, scope: str, parts: Sequence[Part], staging: Path
) -> list[Part]:
    """The parts of a delivery with one type a column; those that had another are written again without loss.

    Raises:
        DeliveryUnread: this machine cannot read one.
        DeliveryRefused: nothing proves that two types say the same.
    """
    kinds: dict[str, dict[str, Part]] = {}
    for part in parts:
        for name, kind in part.columns.items():
            kinds.setdefault(name.casefold(), {}).setdefault(kind, part)
    types = {name: _one_type(connection, source, scope, name, found) for name, found in kinds.items() if len(found) > 1}
    result = []
    for part in parts:
        other = {
            name: types[name.casefold()]
            for name, kind in part.columns.items()
            if types.get(name.casefold(), kind) != kind
        }
        if not other:
            result.append(part)
        elif part.staged:
            result.append(_retyped(connection, part, other))
        else:
            result.append(write_again(connection, source, scope, part, other, staging))
    return result


def _retyped(connection: duckdb.DuckDBPyConnection, part: Part, types: Mapping[str, str]) -> Part:
    target = part.file.with_name(f"{part.number:0{DIGITS}}.alike.parquet")
    replaced = ", ".join(
        f"{in_type(identifier(name), part.columns[name], kind)} AS {identifier(name)}" for name, kind in types.items()
    )
    connection.execute(
        f"COPY (SELECT * REPLACE ({replaced}) FROM read_parquet({literal(one_file(part.file))}, hive_partitioning = false))"
        f" TO {literal(str(target))} (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
    )
    return replace(part, file=target, columns={**part.columns, **types})


def _one_type(
    connection: duckdb.DuckDBPyConnection, source: str, scope: str, name: str, found: Mapping[str, Part]
) -> str:
    kind = common_type(found)
    if kind is None:
        # A column that holds nothing in a file says nothing of its type.
        held = {each: part for each, part in found.items() if _holds_anything(connection, part, name)}
        kind = common_type(held) if held else "VARCHAR"
    if kind is None:
        shown = " and ".join(f"{each} in {part.key}" for each, part in list(held.items())[:2])
        raise DeliveryRefused(
            source,
            scope,
            f"its files do not fit together: column {_as_written(found, name)!r} is {shown}, and nothing proves that"
            " they say the same; have all files of a delivery written with one type",
        )
    return kind


def _as_written(found: Mapping[str, Part], folded: str) -> str:
    return next(name for part in found.values() for name in part.columns if name.casefold() == folded)


def _holds_anything(connection: duckdb.DuckDBPyConnection, part: Part, folded: str) -> bool:
    place = next(n for n, name in enumerate(part.columns) if name.casefold() == folded)
    aliases = ", ".join(f"c{n}" for n in range(len(part.columns)))
    read = f"read_parquet({literal(one_file(part.file))}, hive_partitioning = false) AS e({aliases})"
    [(values,)] = connection.execute(f"SELECT count(e.c{place}) FROM {read}").fetchall()
    return bool(values)


def common_type(kinds: Iterable[str]) -> str | None:
    """The DuckDB type that holds every value of all these types without loss; None if they cannot be compared.

    Numbers that no decimal holds all, and everything beside text, become text; nothing goes through a double.

    >>> common_type(["DOUBLE", "DECIMAL(38,18)"])
    'VARCHAR'
    """
    known = {kind for kind in kinds if kind != '"NULL"'}
    if len(known) < 2:
        return next(iter(known), "VARCHAR")
    families = {_family(kind) for kind in known}
    if families == {"exact"}:
        digits = [_digits(kind) for kind in known]
        whole, scale = max(w for w, _ in digits), max(s for _, s in digits)
        return f"DECIMAL({whole + scale},{scale})" if whole + scale <= 38 else "VARCHAR"
    if families == {"time"}:
        return "TIMESTAMP"
    others = families - {"text"}
    if others <= {"exact", "double"} or len(others) == 1:
        return "VARCHAR"
    return None


def column_types(connection: duckdb.DuckDBPyConnection, file: Path) -> dict[str, str]:
    """The columns of a Parquet file with their DuckDB types."""
    query = f"DESCRIBE FROM read_parquet({literal(one_file(file))}, hive_partitioning = false)"
    return {str(name): str(kind) for name, kind, *_ in connection.execute(query).fetchall()}


def _family(kind: str) -> str:
    if kind in _WHOLE_DIGITS or kind.startswith("DECIMAL"):
        return "exact"
    if kind in ("DOUBLE", "FLOAT"):
        return "double"
    if kind.startswith(("TIMESTAMP", "DATE")):
        return "time"
    if kind.startswith(("MAP", "STRUCT", "UNION")) or kind.endswith("]"):
        return "nested"
    return "text" if kind == "VARCHAR" else kind


def _digits(kind: str) -> tuple[int, int]:
    """Digits before and behind the point."""
    if kind in _WHOLE_DIGITS:
        return _WHOLE_DIGITS[kind], 0
    width, scale = kind.removeprefix("DECIMAL(").rstrip(")").split(",")
    return int(width) - int(scale), int(scale)


def moment_of(value: str, kind: str) -> str:
    """SQL: a time or day of any type as TIMESTAMP. One with a zone is rendered in the session's, which is UTC."""
    # Of nanoseconds with a zone, as pandas writes them, the engine has no way but through microseconds.
    return (
        f"CAST(CAST({value} AS TIMESTAMPTZ) AS TIMESTAMP)"
        if kind == "TIMESTAMPTZ_NS"
        else f"CAST({value} AS TIMESTAMP)"
    )


def in_type(value: str, kind: str, target: str) -> str:
    """SQL: a value of one type in another that `common_type` gave for it, exactly."""
    if kind == target:
        return value
    if target != "VARCHAR":
        return moment_of(value, kind) if target == "TIMESTAMP" else f"CAST({value} AS {target})"
    match _family(kind):
        case "nested":
            return f"CAST(to_json({value}) AS VARCHAR)"
        case "double":
            # Pandas makes doubles of whole numbers where one is missing: an account is 123, not 123.0.
            whole = f"NOT isnan({value}) AND abs({value}) < 9e15 AND {value} = trunc({value})"
            return f"CASE WHEN {whole} THEN CAST(CAST({value} AS BIGINT) AS VARCHAR) ELSE CAST({value} AS VARCHAR) END"
        case "time":
            moment = moment_of(value, kind)
            whole = f"strftime({moment}, '%Y-%m-%dT%H:%M:%SZ')"
            return f"CASE WHEN date_trunc('second', {moment}) = {moment} THEN {whole} ELSE strftime({moment}, '%Y-%m-%dT%H:%M:%S.%fZ') END"
        case "BLOB":
            return f"decode({value})"
    return f"CAST({value} AS VARCHAR)"
