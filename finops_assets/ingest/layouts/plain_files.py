"""Files without a manifest: each Parquet, CSV or gzipped CSV file is a scope of its own.

A file that changes replaces what it gave before; a new file adds. With a `period_pattern` all files of one
period are one scope and replaced as a whole. That a file is whole cannot be known from a list of names:
`quiet_minutes` waits until nothing changes any more, and what can be judged (gzip and Parquet readable to
the end) is judged in reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime

from finops_assets.base.patterns import groups_in
from finops_assets.base.uris import DATA_SUFFIXES, is_data
from finops_assets.ingest.layouts.delivery import Delivery, not_still
from finops_assets.storage.scope import file_set_hash
from finops_assets.storage.stores.store import LoggedTable, Store, StoredFile, matches, not_read, table_of_log


def deliveries(
    store: Store,
    pattern: str,
    quiet_minutes: int = 0,
    period_pattern: str | None = None,
    now: datetime | None = None,
    folder: str = "",
) -> Iterator[Delivery]:
    """One delivery per matching file below a folder ("a/b/"), or per period."""
    moment = now or datetime.now(UTC)
    scopes: dict[str, list[StoredFile]] = {}
    below = store.list(folder)
    there = [f for f in below if matches(f.key, pattern)]
    tables = {table for f in below if (table := table_of_log(f.key))}
    listed = [f for f in there if is_data(f.key) and not any(_lies_in(f.key, table.folder) for table in tables)]
    for table in sorted(tables, key=lambda t: t.folder):
        if any(is_data(f.key) and _lies_in(f.key, table.folder) for f in there):
            yield _of_many_versions(table)
    unread = not_read(there)
    if unread and not listed:
        yield _of_another_kind(unread)
    keys = [file.key for file in listed]
    for file, scope in zip(listed, keys if period_pattern is None else _periods(period_pattern, keys)):
        if scope is None:
            yield Delivery(
                scope=file.key,
                generation=file_set_hash([file]),
                files=(file,),
                problems=(
                    f"file {file.key} names no period of the calendar by period_pattern {period_pattern!r};"
                    " let `uri` leave it out by a glob, or correct the pattern",
                ),
                verified=False,
            )
            continue
        scopes.setdefault(scope, []).append(file)
    for scope, files in scopes.items():
        yield Delivery(
            scope=scope,
            generation=file_set_hash(files),
            files=tuple(files),
            problems=(*(f.problem for f in files if f.problem), *not_still(files, quiet_minutes, moment)),
            verified=False,
            not_read=unread,
        )


def _lies_in(key: str, folder: str) -> bool:
    return not folder or key.startswith(f"{folder}/")


def _of_many_versions(table: LoggedTable) -> Delivery:
    """What stands for a table whose files cannot be told apart by their names."""
    return Delivery(
        scope=table.folder or f"{table.kind} table",
        generation="unreadable",
        files=(),
        problems=(
            f"{table.folder or 'this folder'} is a table of {table.kind}: its log says which of its files count, and read"
            " as files, rows that were changed or deleted would count, too; let its program write it out as Parquet"
            " files of their own, or let `uri` leave it out by a glob",
        ),
        verified=False,
    )


def _of_another_kind(keys: Sequence[str]) -> Delivery:
    """What stands for files of which none can be read."""
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return Delivery(
        scope=keys[0],
        generation="unreadable",
        files=(),
        problems=(f"{keys[0]}{more} cannot be read; files that end in {', '.join(DATA_SUFFIXES)} can",),
        verified=False,
        not_read=tuple(keys),
    )


def _periods(pattern: str, keys: Sequence[str]) -> list[str | None]:
    """The period "YYYY-MM" or "YYYY-MM-DD" that each key names by the groups year, month and day of a pattern."""
    return [_period(named) if named else None for named in groups_in(pattern, keys, ("year", "month", "day"))]


def _period(named: Mapping[str, str]) -> str | None:
    try:
        year, month, day = int(named["year"]), int(named["month"]), int(named.get("day") or 1)
        period = date(year if year > 99 else 2000 + year, month, day).isoformat()
    except ValueError:
        return None
    return period if named.get("day") else period[: len("YYYY-MM")]
