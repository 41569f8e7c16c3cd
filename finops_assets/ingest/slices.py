"""A delivery's rows in the lake's form, split: one folder of Parquet a charge day.

Most columns of most exports stay as they were written. Where the files can be read as they lie, such a column goes from file
to file by its dictionary, and the engine makes the others, some hundred thousand rows at a time: a quarter of what it costs
to have the engine write everything (docs/reference/performance.md). What that way cannot carry, the engine writes whole.
Both give the same rows in the same types.
"""

from __future__ import annotations

import shutil
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from finops_assets.base.spread import Spread
from finops_assets.base.sql import identifier, literal
from finops_assets.ingest.reading.export_table import (
    CanonicalColumn,
    all_columns,
    canonical_type,
    map_column,
    repairs_json,
    rows_of_file,
)
from finops_assets.ingest.reading.participants import with_participants
from finops_assets.ingest.reading.parts import READ_AHEAD_BYTES, not_implemented
from finops_assets.ingest.reading.relation import ROW, SOURCE_FILE, SOURCE_ROW, ExportTable, PlainFile
from finops_assets.ingest.reading.spelling import AS_SPECIFIED, Spelling
from finops_assets.ingest.tag_register import TOLD_OF_TAGS, MetTagSets
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import connect, one_file, threads

# Splitting a month buffers up to this many rows for each of its days, over all threads; then a row group is
# written. Memory is what limits it: a row takes 1 to 2 KB, as text from a CSV more; then it is tried with half as many.
FLUSH_ROWS, LEAST_FLUSH_ROWS = 10_000, 600
# Level 3, the default, makes files 4 % smaller and costs 9 % more (docs/reference/performance.md).
COMPRESSION_LEVEL = 1
COMPRESSION = f"COMPRESSION zstd, COMPRESSION_LEVEL {COMPRESSION_LEVEL}"
# By chunks a row takes some 300 bytes until it is written: most of it are places in dictionaries.
CHUNK_ROWS, BUFFERED_ROWS = 131_072, 300_000
# To find out which values a day needs costs more than to write so few of them.
ROWS_A_SPARE_VALUE = 64
# So many days' files are kept open: a process may often have 256.
OPEN_DAYS = 100
TAGS = ("Tags", "AllocatedTags", "tag_set_id")
DERIVED_TYPES = {"tag_set_id": "VARCHAR", SOURCE_FILE: "VARCHAR", SOURCE_ROW: "BIGINT", "repairs": "VARCHAR"}
"""Columns of the lake that no export has."""
EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class CanonicalRows:
    """An export's rows in the lake's form. Every row in gives exactly one row out."""

    export: ExportTable
    columns: tuple[CanonicalColumn, ...]
    """All but the tags, over the export's rows (alias e)."""
    tag_join: str
    """SQL: which row of `met_tags` (alias t) is of a row."""
    met: MetTagSets

    @property
    def sql(self) -> str:
        """All of them."""
        return self.made(f"({self.export.sql})", self.columns, TAGS, self.export.other_columns)

    @property
    def names(self) -> list[str]:
        """The columns that are written, in their order."""
        return [*(c.name for c in self.columns), *TAGS, SOURCE_FILE, SOURCE_ROW, "repairs", *self.export.other_columns]

    def made(self, rows: str, columns: Sequence[CanonicalColumn], tags: Sequence[str], others: Sequence[str]) -> str:
        """SQL: these columns, and the day, of a relation with the export's columns.

        The inner query reads: canonical columns, and beside each what was found where it may need repair.
        The outer one says what was repaired.
        """
        notes = self.export.notes
        told = TOLD_OF_TAGS if self.met.odd else {}
        joined = f"LEFT JOIN met_tags t ON {self.tag_join}" if tags or told else ""
        said = [
            *((rule, column, f"{name} IS NOT NULL", name) for name, (rule, column) in told.items()),
            *((n.rule, n.column, f"note_{i} IS NOT NULL", f"note_{i}") for i, n in enumerate(notes)),
        ]
        read = [
            *(f"{c.sql} AS {c.name}" for c in columns),
            *(f"{c.found} AS {c.found_name}" for c in columns if c.found),
            # Named anew: a file may write the name in other letters.
            *(f"e.{identifier(name)} AS {identifier(name)}" for name in others),
            *(f"CAST({note.found} AS VARCHAR) AS note_{i}" for i, note in enumerate(notes)),
            *(f't."{name}"' for name in tags),
            *(f"t.{name}" for name in told),
            f"e.{SOURCE_FILE}, CAST(e.{SOURCE_ROW} AS BIGINT) AS {SOURCE_ROW}",
        ]
        kept = [*(c.name for c in columns), *tags, SOURCE_FILE, SOURCE_ROW]
        return f"""
            SELECT {", ".join(kept)},
                {repairs_json(columns, said)} AS repairs,
                {"".join(f"{identifier(name)}, " for name in others)}
                CAST(ChargePeriodStart AS DATE) AS charge_date
            FROM (
                SELECT {", ".join(read)}
                FROM {rows} e {joined}
            )
        """


def canonical_rows(
    export: ExportTable, tag_join: str, met: MetTagSets, written: Spelling = AS_SPECIFIED, marketplace: str = "false"
) -> CanonicalRows:
    """An export's rows in the lake's form.

    `written` tells how the files write what is not as FOCUS says, `marketplace` is SQL (over the rows, alias e) of a
    charge that the publisher sells through the provider.
    """
    columns = {}
    for column in all_columns():
        if column.name not in TAGS:
            name = export.focus_columns.get(column.name)
            columns[column.name] = map_column(column, name, export.types[name] if name else "", written)
    columns |= with_participants(columns, export.focus_columns, marketplace)
    return CanonicalRows(export, tuple(columns.values()), tag_join, met)


def write_slices(
    connection: duckdb.DuckDBPyConnection,
    rows: CanonicalRows,
    folder: Path,
    spread: tuple[Spread, EngineSettings] | None = None,
) -> None:
    """One folder of Parquet a charge day below `folder`, which is made.

    `spread`: who does it elsewhere, a file of the delivery at a time and each within these bounds, if files can be
    carried by chunks; `folder` and the files must be seen there.
    """
    folder.mkdir()
    try:
        written = _by_chunks(connection, rows, folder, spread)
    except (pa.ArrowException, OSError, duckdb.NotImplementedException) as error:
        if not isinstance(error, duckdb.Error) and not not_implemented(error):
            raise
        written = False
    if not written:
        shutil.rmtree(folder)
        write_days(connection, rows.sql, folder)


# ---- by chunks ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _AsWritten:
    """The columns that stay as they were written: name in the lake -> name in the files."""

    names: Mapping[str, str]
    without_empty: frozenset[str]
    """Those in which an empty text is no value."""


def _by_chunks(
    connection: duckdb.DuckDBPyConnection,
    rows: CanonicalRows,
    folder: Path,
    spread: tuple[Spread, EngineSettings] | None,
) -> bool:
    """Write the days, if the files can be read as they lie and give the same types; what there is after False is to be dropped."""
    files = [(file, pq.read_schema(file.path)) for file in rows.export.files]
    if not files:
        return False
    as_written = _as_written(rows, [schema for _, schema in files])
    if spread and len(files) > 1:
        if not _elsewhere(connection, rows, as_written, folder, spread):
            return False
    elif not _here(connection, rows, as_written, files, folder):
        return False
    return _has_types_of_lake(connection, rows, folder)


def _here(
    connection: duckdb.DuckDBPyConnection,
    rows: CanonicalRows,
    as_written: _AsWritten,
    files: Sequence[tuple[PlainFile, pa.Schema]],
    folder: Path,
) -> bool:
    """Write the days of these files; False where the engine gave rows in another order."""
    made = [c for c in rows.columns if c.name not in as_written.names]
    others = [name for name in rows.export.other_columns if name not in as_written.names]
    tags = {name: _numbered(rows.met.sets[name]) for name in TAGS}
    days = _Days(folder, threads(connection))
    with _in_order(connection):
        for (file, schema), tags_of_file in zip(files, rows.met.files, strict=True):
            query = rows.made(rows_of_file(rows.export, file, schema), made, (), [ROW, *others])
            places = tags_of_file.places_among(rows.met.sets)
            texts = _Texts(file.path, schema, sorted(set(as_written.names.values()) & set(schema.names)))
            seen = 0
            with closing(connection.sql(query).to_arrow_reader(CHUNK_ROWS)) as reader, closing(texts):
                for batch in reader:
                    found = pa.table(batch)
                    if not np.array_equal(found[ROW].to_numpy(), np.arange(seen, seen + len(found))):
                        return False
                    place = pa.array(places[seen : seen + len(found)])
                    seen += len(found)
                    chunk = texts.next(len(found))
                    columns = dict(zip(found.column_names, found.columns))
                    columns |= {n: _as_it_is(chunk, source, as_written) for n, source in as_written.names.items()}
                    columns |= {
                        n: pa.DictionaryArray.from_arrays(numbers.take(place), held)
                        for n, (numbers, held) in tags.items()
                    }
                    day = columns["charge_date"].cast(pa.int32()).to_numpy()
                    days.add(day, pa.table([columns[name] for name in rows.names], names=rows.names))
    days.finish()
    return True


def _elsewhere(
    connection: duckdb.DuckDBPyConnection,
    rows: CanonicalRows,
    as_written: _AsWritten,
    folder: Path,
    spread: tuple[Spread, EngineSettings],
) -> bool:
    """The same, each file on whichever machine takes it; the tag sets lie beside the days while it is done."""
    met = folder.with_name(f"{folder.name}.met_tags.parquet")
    pq.write_table(rows.met.sets, met)
    told = replace(rows, met=replace(rows.met, register=rows.met.register.slice(0, 0), sets=rows.met.sets.slice(0, 0)))
    elsewhere, bounds = spread
    written = elsewhere(
        partial(_days_of_one_file, bounds, told, as_written, met, folder), range(len(rows.export.files))
    )
    for part in filter(None, written):
        for file in sorted(part.glob("charge_date=*/*.parquet")):
            day = folder / file.parent.name
            day.mkdir(exist_ok=True)
            file.rename(day / f"{part.name}_{file.name}")
        shutil.rmtree(part, ignore_errors=True)
    met.unlink()
    return all(written)


def _days_of_one_file(
    bounds: EngineSettings, rows: CanonicalRows, as_written: _AsWritten, met: Path, folder: Path, number: int
) -> Path | None:
    """A folder of its own with the days of one file of the export; None where the engine gave rows in another order."""
    file = rows.export.files[number]
    # Of each go its own: one that was given up may still be writing.
    part = folder.with_name(f"{folder.name}.{number:07}.{uuid.uuid4().hex}")
    part.mkdir()
    with connect(bounds, part.with_name(f"{part.name}.spill")) as connection:
        whole = replace(rows, met=replace(rows.met, sets=pq.read_table(met), files=(rows.met.files[number],)))
        whole.met.enter(connection)
        done = _here(connection, whole, as_written, [(file, pq.read_schema(file.path))], part)
    return part if done else None


@contextmanager
def _in_order(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let the engine give rows in the order of the file: several threads give them in theirs."""
    before = threads(connection)
    connection.execute("SET threads = 1")
    connection.execute("SET preserve_insertion_order = true")
    try:
        yield
    finally:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET threads = ?", [before])


def _as_written(rows: CanonicalRows, schemas: Sequence[pa.Schema]) -> _AsWritten:
    """The text columns of which the lake has what the files have."""
    export, of_lake = rows.export, {}
    # A file may write a name in other letters, which to the engine is the same.
    spelled: dict[str, set[str]] = {}
    for name in (name for schema in schemas for name in schema.names):
        spelled.setdefault(name.casefold(), set()).add(name)
    texts = {
        name
        for name, kind in export.types.items()
        if kind == "VARCHAR"
        and spelled.get(name.casefold()) == {name}
        and all(pa.types.is_string(s.field(name).type) for s in schemas if name in s.names)
    }
    without_empty = set()
    of_sql = {f"e.{identifier(name)}": (name, False) for name in texts}
    of_sql |= {f"nullif(e.{identifier(name)}, '')": (name, True) for name in texts}
    for column in rows.columns:
        if column.found is None and column.sql in of_sql:
            of_lake[column.name], empty_is_none = of_sql[column.sql]
            if empty_is_none:
                without_empty.add(column.name)
    of_lake |= {name: name for name in export.other_columns if name in texts}
    return _AsWritten(of_lake, frozenset(without_empty))


class _Texts:
    """Columns of text of a Parquet file, as dictionaries, so many rows at a time."""

    def __init__(self, path: Path, schema: pa.Schema, names: Sequence[str]) -> None:
        self._names = names
        self._file = pq.ParquetFile(path, read_dictionary=names, pre_buffer=False, buffer_size=READ_AHEAD_BYTES)
        self._batches = self._file.iter_batches(CHUNK_ROWS, columns=names)
        self._read: deque[pa.RecordBatch] = deque()

    def next(self, count: int) -> pa.Table:
        """The next `count` rows; a table without columns where no text is asked for."""
        if not self._names:
            return pa.table({})
        taken = []
        while count:
            batch = self._read.popleft() if self._read else next(self._batches)
            if len(batch) > count:
                self._read.appendleft(batch.slice(count))
            taken.append(batch.slice(0, count))
            count -= len(taken[-1])
        return pa.Table.from_batches(taken)

    def close(self) -> None:
        self._file.close()


def _as_it_is(chunk: pa.Table, name: str, as_written: _AsWritten) -> pa.ChunkedArray:
    column = chunk[name] if name in chunk.column_names else pa.chunked_array([pa.nulls(len(chunk), _TEXT)])
    if name not in as_written.without_empty:
        return column
    return pa.chunked_array([_without_empty(array) for array in column.chunks], _TEXT)


_TEXT = pa.dictionary(pa.int32(), pa.string())


def _numbered(texts: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Texts as numbers, null for null, and what has each number."""
    numbers = np.cumsum(texts.is_valid().to_numpy()) - 1
    return pa.array(numbers.astype(np.int32), mask=texts.is_null().to_numpy()), texts.drop_null().combine_chunks()


def _without_empty(array: pa.DictionaryArray) -> pa.DictionaryArray:
    empty = pc.index(array.dictionary, "").as_py()
    if empty < 0:
        return array
    indices = pc.if_else(pc.equal(array.indices, empty), pa.scalar(None, pa.int32()), array.indices)
    return pa.DictionaryArray.from_arrays(indices, array.dictionary)


def _has_types_of_lake(connection: duckdb.DuckDBPyConnection, rows: CanonicalRows, folder: Path) -> bool:
    """Does the engine read from what was written what it would have written itself?"""
    file = next(folder.glob("charge_date=*/*.parquet"), None)
    if file is None:
        return True
    # As the engine writes types.
    of_lake = {c.name: canonical_type(c).replace(", ", ",") for c in all_columns()} | DERIVED_TYPES
    wanted = [(name, of_lake.get(name) or rows.export.types[name]) for name in rows.names]
    read = f"DESCRIBE SELECT * FROM read_parquet({literal(one_file(file))}, hive_partitioning = false)"
    return wanted == [column[:2] for column in connection.execute(read).fetchall()]


@dataclass
class _Days:
    """Rows by day until so many are there; then they are written, as row groups of the day's one file.

    A day of one file is linked when days are composed, a day of several is written once more. Several come about only
    where more than `OPEN_DAYS` days are mixed, or a delivery's files have a column in different types.
    """

    folder: Path
    workers: int
    _held: list[tuple[np.ndarray, pa.Table]] = field(default_factory=list)
    _writers: dict[int, pq.ParquetWriter] = field(default_factory=dict)
    _flushes: int = 0

    def add(self, day: np.ndarray, table: pa.Table) -> None:
        """Take rows, of which `day` says the days since 1970."""
        if not len(day):
            return
        in_order = bool((np.diff(day) >= 0).all())
        if not in_order:
            order = np.argsort(day, kind="stable")
            table, day = table.unify_dictionaries().combine_chunks().take(pa.array(order)), day[order]
        if self._held and not self._held[-1][1].schema.equals(table.schema):
            self._flush()
        self._held.append((day, table))
        if sum(len(days) for days, _ in self._held) >= BUFFERED_ROWS:
            # In order the last day goes on: two row groups of it would have its dictionaries twice. In no order what is
            # kept of a day keeps all that was read with it in memory.
            self._flush(int(day[-1]) if in_order else None)

    def finish(self) -> None:
        """Write what there is, and end every file."""
        if self._held:
            self._flush()
        self._close([*self._writers])

    def _flush(self, goes_on: int | None = None) -> None:
        # Once for all days: each has most of a dictionary's values.
        rows = pa.concat_tables([table for _, table in self._held]).unify_dictionaries()
        day = np.concatenate([days for days, _ in self._held])
        of_days: dict[int, list[pa.Table]] = {}
        for begin, end in pairwise([0, *(np.flatnonzero(np.diff(day)) + 1).tolist(), len(day)]):
            of_days.setdefault(int(day[begin]), []).append(rows.slice(begin, end - begin))
        self._held = []
        if goes_on is not None and (count := sum(map(len, of_days[goes_on]))) < BUFFERED_ROWS // 2:
            self._held = [(np.full(count, goes_on, day.dtype), _by_itself(pa.concat_tables(of_days.pop(goes_on))))]
        if len(self._writers.keys() | of_days.keys()) > OPEN_DAYS:
            self._close([day for day in self._writers if day not in of_days])
        with ThreadPoolExecutor(self.workers) as pool:
            list(pool.map(self._write, sorted(of_days.items())))
        self._flushes += 1

    def _close(self, days: Iterable[int]) -> None:
        for day in days:
            self._writers.pop(day).close()

    def _write(self, of_day: tuple[int, Iterable[pa.Table]]) -> None:
        day, tables = of_day
        rows = pa.concat_tables(tables)
        writer = self._writers.pop(day, None)
        for begin in range(0, len(rows), CHUNK_ROWS):
            group = _by_itself(rows.slice(begin, CHUNK_ROWS))
            if writer is not None and not writer.schema.equals(group.schema):
                writer.close()
                writer = None
            if writer is None:
                writer = self._open(day, group)
            writer.write_table(group, row_group_size=CHUNK_ROWS)
        if writer is not None and len(self._writers) < OPEN_DAYS:
            self._writers[day] = writer
        elif writer is not None:
            writer.close()

    def _open(self, day: int, first: pa.Table) -> pq.ParquetWriter:
        folder = self.folder / f"charge_date={EPOCH + timedelta(days=day)}"
        folder.mkdir(exist_ok=True)
        # Nobody asks a slice for its least and largest values.
        return pq.ParquetWriter(
            folder / f"data_{self._flushes}.parquet",
            first.schema,
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=[name for name in first.column_names if name != SOURCE_ROW and _repeats(first[name])],
            write_statistics=False,
            store_schema=False,
        )


def _repeats(column: pa.ChunkedArray) -> bool:
    """Is a dictionary of its values worth while? Amounts, and what names single resources, have too many of them."""
    if pa.types.is_dictionary(column.type) and column.num_chunks:
        return len(column.chunk(0).dictionary) <= len(column) // 2
    return not pa.types.is_decimal(column.type)


def _by_itself(part: pa.Table) -> pa.Table:
    """A part of a table, which holds nothing of the rest of it; its chunks have their dictionaries in common."""
    table = part.combine_chunks()
    columns = [_of_what_it_needs(column.chunk(0)) if column.num_chunks else column for column in table.columns]
    return pa.table(columns, names=table.column_names)


def _of_what_it_needs(array: pa.Array) -> pa.Array:
    """The same values, without those of a dictionary that stand in no row: all of them would be written."""
    if not isinstance(array, pa.DictionaryArray) or len(array.dictionary) < max(2, len(array) // ROWS_A_SPARE_VALUE):
        return array
    indices = array.indices.fill_null(0).to_numpy(zero_copy_only=False)
    used = np.zeros(len(array.dictionary), dtype=bool)
    used[indices] = True
    if used.all():
        return array
    places = (np.cumsum(used) - 1).astype(np.int32)
    mask = array.indices.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    return pa.DictionaryArray.from_arrays(pa.array(places[indices], mask=mask), array.dictionary.filter(pa.array(used)))


# ---- by the engine ------------------------------------------------------------------------------


def write_days(connection: duckdb.DuckDBPyConnection, rows: str, folder: Path) -> None:
    """The same of rows in SQL, within the engine's memory."""
    flush = FLUSH_ROWS // threads(connection)
    while True:
        folder.mkdir()
        connection.execute("SET partitioned_write_flush_threshold = ?", [flush])
        try:
            connection.execute(
                f"COPY ({rows}) TO {literal(str(folder))}"
                f" (FORMAT parquet, {COMPRESSION}, WRITE_BLOOM_FILTER false, PARTITION_BY (charge_date))"
            )
        except duckdb.OutOfMemoryException:
            flush //= 2
            if flush < LEAST_FLUSH_ROWS:
                raise
            shutil.rmtree(folder)
        else:
            return
