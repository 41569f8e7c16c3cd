"""The query engine of this machine: DuckDB in memory, bounded, in UTC."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb

from finops_assets.base.errors import FinopsError
from finops_assets.base.interrupts import stopped_by_signals
from finops_assets.base.sql import identifier, literal
from finops_assets.base.text import bytes_of
from finops_assets.focus import money
from finops_assets.settings.engine import EngineSettings

_LENDING: list[dict[tuple[str, int | None], duckdb.DuckDBPyConnection]] = []

# Several threads write at a time; larger row groups of 80 columns, or of text, would not fit the engine's memory.
ROW_GROUP_ROWS = 30_720
# Measured: with 1.3 GB beside the budget a small run was aborted, with 1.6 GB it was not.
_ADDRESS_SPACE = 1.6e9


def connect(engine: EngineSettings, spill: Path) -> duckdb.DuckDBPyConnection:
    """A private in-memory connection that keeps to its memory budget and spills below `spill`."""
    connection = stopped_by_signals(duckdb.connect())
    money.register(connection)
    # The zone cannot be given at connect time: it needs an extension that loads after it.
    connection.execute("SET timezone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET memory_limit = ?", [engine.memory_limit.replace(" ", "")])
    if engine.threads is not None:
        connection.execute("SET threads = ?", [engine.threads])
    connection.execute("SET temp_directory = ?", [str(spill)])
    # Order within a day's file means nothing; giving it up lets a write stream instead of buffering.
    connection.execute("SET preserve_insertion_order = false")
    return connection


@contextmanager
def lent(engine: EngineSettings, spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """As `connect`, for statements that make nothing but temporary tables and views.

    Within `lending` it is of the engine that is open already, if nobody has it now: to open one takes 20 ms, as long as what
    is asked of small days.
    """
    kept = _LENDING[-1] if _LENDING else None
    if kept is None:
        with connect(engine, spill) as connection:
            yield connection
        return
    bounds = (engine.memory_limit, engine.threads)
    idle = kept.pop(bounds, None)
    if idle is not None:
        try:
            idle.execute("SET temp_directory = ?", [str(spill)])
        except duckdb.Error:  # it has spilled into the one before
            idle.close()
            idle = None
    if idle is None:
        idle = connect(engine, spill)
        # What it has read of files would stay in memory for as long as it is open.
        idle.execute("SET enable_external_file_cache = false")
    try:
        with stopped_by_signals(idle.cursor()) as connection:
            connection.execute("SET timezone = 'UTC'")
            connection.execute("SET enable_progress_bar = false")
            yield connection
    except BaseException:
        idle.close()
        raise
    if bounds in kept or not any(each is kept for each in _LENDING):
        idle.close()
    else:
        kept[bounds] = idle


@contextmanager
def lending() -> Iterator[None]:
    """Within the block engines that were lent stay open in this process for who comes next."""
    idle: dict[tuple[str, int | None], duckdb.DuckDBPyConnection] = {}
    _LENDING.append(idle)
    try:
        yield
    finally:
        # By what it is: two that hold nothing are equal.
        _LENDING[:] = [each for each in _LENDING if each is not idle]
        while idle:
            idle.popitem()[1].close()


def of_one_task(engine: EngineSettings) -> EngineSettings:
    """The bounds of one of several parts of a piece of work: another machine gives it a core."""
    return engine.model_copy(update={"threads": 1})


def require_address_space(engine: EngineSettings) -> None:
    """With too little address space libraries end the process in the middle of a piece of work, without a word.

    Raises:
        FinopsError: a limit (`ulimit -v`) leaves less than the engine's budget and what every process here needs.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    needed = bytes_of(engine.memory_limit) + _ADDRESS_SPACE
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise FinopsError(
            f"this process may have {limit / 1e9:.1f} GB of address space, and needs {needed / 1e9:.1f} GB (`engine:"
            f" memory_limit` {engine.memory_limit} and what libraries reserve): raise the limit (`ulimit -v unlimited`),"
            " and bound memory by the service or container (MemoryMax, --memory)"
        )


def threads(connection: duckdb.DuckDBPyConnection) -> int:
    """How many threads a connection works with."""
    [(count,)] = connection.execute("SELECT current_setting('threads')").fetchall()
    return int(count)


def one_file(path: Path | str) -> str:
    """A file's name for the engine's readers, which take names for patterns: it then names this one file.

    Raises:
        FinopsError: the engine has no way to write this name.
    """
    name = str(path)
    if not any(c in name for c in "[*?"):
        return name
    if "\\" in name:
        raise FinopsError(f"{name!r}: a name with both a backslash and one of [ * ? cannot be read; rename the folder")
    return "".join(f"[{c}]" if c in "[*?" else c for c in name)


def insert_pairs(
    connection: duckdb.DuckDBPyConnection, table: str, pairs: Iterable[tuple[str | date, str | date]]
) -> None:
    """Insert rows of two values by one statement: a statement a row takes half a millisecond, which many days make long."""
    rows = list(pairs)
    connection.execute(
        f"INSERT INTO {table} SELECT unnest($first), unnest($second)",
        {"first": [first for first, _ in rows], "second": [second for _, second in rows]},
    )


def columns_of(names: Iterable[str]) -> str:
    """SQL: columns, one after the other."""
    return ", ".join(identifier(name) for name in names)


def file_list(files: Iterable[Path | str]) -> str:
    """SQL: a list of files for `read_parquet` and its kin, each name taken literally."""
    return f"[{', '.join(literal(one_file(file)) for file in files)}]"


def by_source_and_day(files: str, union_by_name: bool = False) -> str:
    """SQL: Parquet files as one relation, with source and charge_date as the last two folders of each path say.

    `files` is SQL of a name or a list of names. A filter on source or charge_date opens only the files that it leaves.
    """
    named = "/source=([^/]*)/charge_date=([^/]*)/[^/]*$"
    return _with_folders(files, union_by_name, {"source": (named, 1, "VARCHAR"), "charge_date": (named, 2, "DATE")})


def by_day(files: str) -> str:
    """SQL: Parquet files as one relation of all their columns, with charge_date as the last folder of each path says."""
    return _with_folders(files, True, {"charge_date": ("/charge_date=([^/]*)/[^/]*$", 1, "DATE")})


def _with_folders(files: str, union_by_name: bool, folders: Mapping[str, tuple[str, int, str]]) -> str:
    # The engine's own way to read folders would take every `name=value` above the lake, too, and put it in the place
    # of a column of that name.
    read = ", ".join(
        f"CAST(regexp_extract(finops_path, {literal(pattern)}, {group}) AS {kind}) AS {name}"
        for name, (pattern, group, kind) in folders.items()
    )
    union = ", union_by_name = true" if union_by_name else ""
    return (
        f"(SELECT * EXCLUDE (finops_path), {read}"
        f" FROM read_parquet({files}, hive_partitioning = false, filename = 'finops_path'{union}))"
    )
