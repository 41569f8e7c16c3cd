"""A day of a source is the union of the live slices that hold it: one raw file, and which days have changed."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from finops_assets.base.errors import LakeError
from finops_assets.base.spread import Spread
from finops_assets.base.sql import identifier, literal
from finops_assets.ingest.cadence import AWAITED, COSTS_NOTHING, DEADLINE, MISSING, Calendar
from finops_assets.ingest.landing import slice_folder
from finops_assets.ingest.layouts.delivery import incomplete_sectors
from finops_assets.ingest.reading.export_table import all_columns, canonical_type
from finops_assets.ingest.reading.parts import column_types, common_type, in_type
from finops_assets.ingest.slices import DERIVED_TYPES
from finops_assets.settings.engine import EngineSettings
from finops_assets.settings.sources import Source
from finops_assets.storage.duck import ROW_GROUP_ROWS, connect, file_list, lent, of_one_task, one_file
from finops_assets.storage.lake import Lake
from finops_assets.storage.ledger import PENDING, DayTotals, Generation, Ledger, concerns


@dataclass(frozen=True)
class RawDay:
    """A day of a source as the lake holds it now."""

    day: date
    totals: DayTotals
    slices: tuple[str, ...]
    changed: bool


def compose_days(
    lake: Lake,
    engine: EngineSettings,
    source: Source,
    days: Iterable[date],
    deadline: str = DEADLINE,
    spread: Spread | None = None,
) -> list[RawDay]:
    """Write each day's one raw file from the live slices that hold it; a day that did not change is not touched.

    A day without rows gets an empty file: that it cost nothing, or nothing was delivered, is for the gate to say.
    `deadline` ("HH:MM", UTC) is when the source must have delivered the day before. `spread`: other machines, which see
    the lake, that put days together of which several files are held.
    """
    # Looked at before the ledger: whoever saw an older ledger must not replace a day that a newer one made.
    days = list(days)
    there = {day for day in days if lake.holds(lake.day_file("raw", source.name, day))}
    generations = list(Ledger(lake, source.name).all_live())
    waiting = _pending(lake, source.name)
    calendar, now = Calendar(generations, source.cadence, deadline, waiting), datetime.now(UTC)
    result = []
    with lake.workspace() as workspace, lent(engine, workspace / "spill") as connection:
        if spread:
            _put_together(lake, source.name, days, generations, there, spread, of_one_task(engine), workspace)
        for day in days:
            folders, held, totals, same = _as_delivered(lake, source.name, day, generations, there)
            slices = tuple(folder.relative_to(lake.root).as_posix() for folder in folders)
            if not same:
                _compose(lake, connection, day, folders, lake.day_file("raw", source.name, day), workspace)
            record = _day_record(day, totals, slices, generations, waiting)
            if not totals.rows:
                meaning = calendar.of(day, now).meaning
                record |= {"costs_nothing": meaning == COSTS_NOTHING, "awaited": meaning == AWAITED}
            if record != held:
                lake.write_record(record, source.name, "days", day.isoformat())
            result.append(RawDay(day, totals, slices, changed=not same))
    return result


def _as_delivered(
    lake: Lake, source: str, day: date, live: Iterable[Generation], there: Collection[date]
) -> tuple[list[Path], dict[str, Any] | None, DayTotals, bool]:
    """The folders whose slices hold a day, its record and what it comes to by now, and whether its raw file is that already."""
    holding = [g for g in live if day in g.days]
    held = lake.read_record(source, "days", day.isoformat())
    totals = sum_totals([g.days[day] for g in holding])
    same = held is not None and held["totals"]["fingerprint"] == totals.fingerprint and day in there
    return [slice_folder(lake, source, g) for g in holding], held, totals, same


def _day_record(
    day: date, totals: DayTotals, slices: tuple[str, ...], live: list[Generation], waiting: list[Generation]
) -> dict[str, Any]:
    return {
        "slices": list(slices),
        "totals": totals.as_json(),
        "incomplete": _incomplete(day, live),
        "pending": any(concerns(g, day, live) for g in waiting),
    }


def _pending(lake: Lake, source: str) -> list[Generation]:
    """The newest deliveries that wait or were refused: they hold the days that they concern."""
    ledger = Ledger(lake, source)
    newest = (ledger.latest(scope) for scope in ledger.scopes())
    return [g for g in newest if g is not None and g.state in PENDING]


def _incomplete(day: date, live: Iterable[Generation]) -> int:
    """How many recency sectors of this day the provider calls not complete."""
    sectors = [s for g in live if day in g.days for s in g.recency()]
    return len(incomplete_sectors(sectors, day))


def changed_days(
    lake: Lake,
    source: Source,
    first: date,
    end: date,
    beside: Collection[date] = frozenset(),
    charged: Collection[date] = frozenset(),
    deadline: str = DEADLINE,
) -> list[date]:
    """The days from `first` to before `end` whose raw file is not what the live deliveries make of them now.

    Reads the ledger only. A day counts as changed when its rows differ, whatever delivery they are in, and when
    it was judged while a delivery waited or was refused that no longer does. A day without charges is one that cost
    nothing and was not composed as such: from the source's first charge on, and of those `beside`, which other sources
    hold. So does a day that is missing since its `deadline`, where it was composed as awaited, or others have `charged`
    on it.
    """
    live = list(Ledger(lake, source.name).all_live())
    waiting = _pending(lake, source.name)
    held = {date.fromisoformat(name) for name in lake.records(source.name, "days")}
    calendar, now = Calendar(live, source.cadence, deadline, waiting), datetime.now(UTC)
    looked_at = {d for g in live for d in g.days} | held
    if calendar.charged:
        since = max(first, calendar.charged[0])
        looked_at |= {since + timedelta(days=n) for n in range((end - since).days)} | {*beside}
    changed = []
    for day in sorted(looked_at):
        if not first <= day < end:
            continue
        record = lake.read_record(source.name, "days", day.isoformat()) if day in held else None
        totals = sum_totals([g.days[day] for g in live if day in g.days])
        meaning = None if totals.rows else calendar.of(day, now).meaning
        free = meaning == COSTS_NOTHING
        if record is None and meaning:
            changed += [day] if free or (meaning == MISSING and day in charged) else []
        elif (
            record is None
            or free != record.get("costs_nothing", False)
            or record["totals"]["fingerprint"] != totals.fingerprint
            or record.get("incomplete", 0) != _incomplete(day, live)
            or (record.get("awaited", False) and meaning != AWAITED)
            or (record.get("pending", False) and not any(concerns(g, day, live) for g in waiting))
        ):
            changed.append(day)
    return changed


def charged_days(lake: Lake, source: str) -> set[date]:
    """The days on which a source has charges."""
    return {day for g in Ledger(lake, source).all_live() for day, totals in g.days.items() if totals.rows}


def composed_days(lake: Lake, source: str) -> set[date]:
    """The days that were composed of a source, with and without charges."""
    return {date.fromisoformat(name) for name in lake.records(source, "days")}


def _compose(
    lake: Lake, connection: duckdb.DuckDBPyConnection, day: date, folders: list[Path], target: Path, workspace: Path
) -> None:
    """In `workspace` a day may lie that was put together elsewhere, and the file without rows that all such days share."""
    files, made, empty = _slices(lake, day, folders), workspace / f"{day}.parquet", workspace / "empty.parquet"
    if made.is_file():
        with lake.replacing(target) as temporary:
            made.rename(temporary)
        return
    if not files:
        if not empty.is_file():
            _write(connection, _without_rows(), empty)
        files.append(empty)
    if len(files) == 1:
        lake.link(files[0], target)
        return
    with lake.replacing(target) as temporary:
        _write(connection, _union(connection, files), temporary)


def _slices(lake: Lake, day: date, folders: Iterable[Path]) -> list[Path]:
    files = []
    for folder in folders:
        found = lake.files(folder / f"charge_date={day}", "*.parquet")
        if not found:
            raise LakeError(
                f"lake {lake.name}: the ledger says that {folder.relative_to(lake.root)} holds {day}, but its file is"
                " gone; restore it, or remove the scope's record below ledger/ to have the delivery landed again"
            )
        files += found
    return files


def _put_together(
    lake: Lake,
    source: str,
    days: Iterable[date],
    live: Sequence[Generation],
    there: Collection[date],
    spread: Spread,
    bounds: EngineSettings,
    workspace: Path,
) -> None:
    """Have the days of several files that have changed put together elsewhere, if they are large; `workspace` then has them."""
    wanted: list[tuple[date, list[Path]]] = []
    for day in days:
        folders, _, _, same = _as_delivered(lake, source, day, live, there)
        files = [] if same else _slices(lake, day, folders)
        if len(files) > 1:
            wanted.append((day, files))
    size = sum(file.stat().st_size for _, files in wanted for file in files)
    if not wanted or size < spread.least_bytes:
        return
    made = spread(partial(_union_elsewhere, bounds, workspace), wanted)
    for (day, _), file in zip(wanted, made):
        file.rename(workspace / f"{day}.parquet")


def _union_elsewhere(bounds: EngineSettings, workspace: Path, wanted: tuple[date, list[Path]]) -> Path:
    """A file of its own with the rows of a day's slices."""
    day, files = wanted
    made = workspace / f"{day}.{uuid.uuid4().hex}.parquet"
    with connect(bounds, made.with_suffix(".spill")) as connection:
        _write(connection, _union(connection, files), made)
    return made


def _write(connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> None:
    connection.execute(
        f"COPY ({query}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
    )


def _without_rows() -> str:
    columns = [f"CAST(NULL AS {canonical_type(c)}) AS {c.name}" for c in all_columns()]
    columns += [f"CAST(NULL AS {kind}) AS {name}" for name, kind in DERIVED_TYPES.items()]
    return f"SELECT {', '.join(columns)} WHERE false"


def _union(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> str:
    """SQL: the slices of a day under each other; a column whose types differ in the one that loses nothing, else as text."""
    kinds = [column_types(connection, file) for file in files]
    types: dict[str, set[str]] = {}
    for name, kind in (column for columns in kinds for column in columns.items()):
        types.setdefault(name.casefold(), set()).add(kind)
    differing = {name: common_type(found) or "VARCHAR" for name, found in types.items() if len(found) > 1}
    if not differing:
        return f"SELECT * FROM read_parquet({file_list(files)}, union_by_name = true, hive_partitioning = false)"
    # FOCUS columns are of one type in every slice: these are a provider's own, and a day is never refused for them.
    return " UNION ALL BY NAME ".join(
        f"SELECT {', '.join(_selected(name, kind, differing) for name, kind in columns.items())}"
        f" FROM read_parquet({literal(one_file(file))}, hive_partitioning = false)"
        for file, columns in zip(files, kinds)
    )


def _selected(name: str, kind: str, types: Mapping[str, str]) -> str:
    column = identifier(name)
    target = types.get(name.casefold(), kind)
    return column if target == kind else f"{in_type(column, kind, target)} AS {column}"


def sum_totals(parts: list[DayTotals]) -> DayTotals:
    billed: dict[str, Decimal] = {}
    effective: dict[str, Decimal] = {}
    for part in parts:
        for currency in part.billed:
            billed[currency] = billed.get(currency, Decimal(0)) + part.billed[currency]
            effective[currency] = effective.get(currency, Decimal(0)) + part.effective[currency]
    return DayTotals(sum(p.rows for p in parts), billed, effective, "|".join(sorted(p.fingerprint for p in parts)))
