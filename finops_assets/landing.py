"""Landing: a delivery is read once, split by charge day into the lake, and entered in the ledger.

A generation replaces the one before it in its scope as a whole; rows are never matched one by one
(FOCUS has no row key). A day of a source is the union of the live slices of all scopes that hold it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb

from finops_assets.attribution.tag_sets import enter_tag_sets, raw_tags, read_tag_sets
from finops_assets.engine import connect, identifier, literal
from finops_assets.errors import DeliveryRefused
from finops_assets.focus.specification import detect_version
from finops_assets.lake import Lake
from finops_assets.ledger import DayTotals, Generation, Ledger, now
from finops_assets.settings import Engine, Source
from finops_assets.sources.delivery import Delivery, file_set_hash
from finops_assets.sources.layouts import newest_deliveries
from finops_assets.sources.reading import (
    SOURCE_FILE,
    SOURCE_ROW,
    ExportTable,
    all_columns,
    canonical_type,
    map_column,
    open_export,
    repairs_json,
)
from finops_assets.sources.store import Store, StoredFile

# One row group per this many rows of a day: below it the split of a month into days would hold more in memory.
FLUSH_ROWS = 10_000
READ_ATTEMPTS = 2

DERIVED_TYPES = {"tag_set_id": "VARCHAR", SOURCE_FILE: "VARCHAR", SOURCE_ROW: "BIGINT", "repairs": "VARCHAR"}
# A provider's own column of such a name is kept as x_<name>.
RESERVED_COLUMNS = {"source", "charge_date", *DERIVED_TYPES}


def land_source(
    lake: Lake,
    engine: Engine,
    source: Source,
    first_day: date,
    log: Callable[[str], None] = lambda _: None,
) -> list[Generation]:
    """Land every delivery of a source that is new, and return what became of each newest delivery.

    A delivery that is not all there waits; one that cannot be read is refused; both are entered in the
    ledger with the reason, and what was live before stays live. Billing periods that ended before
    `first_day` are left alone. A scope that is no longer delivered stays as it was landed.

    Raises:
        FinopsError: the source's place cannot be listed.
        LakeError: the lake cannot be written.
    """
    store, deliveries = newest_deliveries(source)
    ledger = Ledger(lake, source.name)
    landed = []
    for delivery in deliveries:
        if delivery.month is not None and delivery.month < f"{first_day:%Y-%m}":
            continue
        live = ledger.live(delivery.scope)
        if delivery.problems:
            entry = _pending(delivery, "waiting", "; ".join(delivery.problems))
            ledger.enter(entry)
        elif live is not None and live.generation == delivery.generation and _same_files(live, delivery):
            # What the provider calls complete changes without its data; a delivery that waited may be taken back.
            entry = replace(live, sectors=_sectors(delivery))
            if entry != live or ledger.latest(delivery.scope) != live:
                ledger.enter(entry)
        else:
            try:
                entry = _land(lake, engine, source, store, delivery)
                log(f"{source.name}: landed {delivery.scope}, {entry.rows:,} rows, {len(entry.days)} days")
            except DeliveryRefused as refusal:
                entry = _pending(delivery, "refused", str(refusal))
                ledger.enter(entry)
        landed.append(entry)
    if deliveries:
        _forget_withdrawn(lake, ledger, {delivery.scope for delivery in deliveries})
    return landed


def _forget_withdrawn(lake: Lake, ledger: Ledger, delivered: set[str]) -> None:
    """A delivery that was never landed and is no longer there holds no day back; what was landed before it counts."""
    for scope in ledger.scopes():
        latest = ledger.latest(scope)
        if scope in delivered or latest is None or latest.state not in ("waiting", "refused"):
            continue
        live = ledger.live(scope)
        if live is not None:
            ledger.enter(live)
        else:
            lake.remove(lake.record(ledger.source, "scopes", scope))


def _sectors(delivery: Delivery) -> tuple[tuple[str, str, bool], ...]:
    return tuple((s.start.isoformat(), s.end.isoformat(), s.complete) for s in delivery.sectors)


def _same_files(live: Generation, delivery: Delivery) -> bool:
    """Is the delivery byte for byte the one that was landed? A generation id alone does not prove it."""
    return {(f.key, f.size, f.etag) for f in delivery.files} == set(live.files)


def _pending(delivery: Delivery, state: str, reason: str) -> Generation:
    return Generation(
        scope=delivery.scope,
        generation=delivery.generation,
        state="waiting" if state == "waiting" else "refused",
        seen_at=now(),
        delivered_at=delivery.delivered_at,
        manifest=delivery.manifest,
        files=tuple((f.key, f.size, f.etag) for f in delivery.files),
        reason=reason,
    )


def _land(lake: Lake, engine: Engine, source: Source, store: Store, delivery: Delivery) -> Generation:
    for attempt in range(READ_ATTEMPTS):
        with lake.workspace() as workspace, store.local_root([f.key for f in delivery.files]) as root:
            refusal: DeliveryRefused | None = None
            try:
                split = _split(engine, source, delivery, root, workspace, lake)
            except DeliveryRefused as error:
                refusal = error
            # Half of the old file and half of the new one can read as garbage: try again before refusing it.
            changed = _changed(store, delivery)
            if changed and attempt + 1 < READ_ATTEMPTS:
                delivery = _listed_again(source, delivery)
                continue
            if changed:
                raise DeliveryRefused(
                    source.name,
                    delivery.scope,
                    "changed while it was being read; it is read again next time",
                    file=changed,
                ) from refusal
            if refusal is not None:
                raise refusal
            enter_tag_sets(lake, source.name, split.tag_sets)
            lake.adopt(split.folder, lake.slices(source.name, delivery.scope, _slice_id(delivery)))
        break
    entry = Generation(
        scope=delivery.scope,
        generation=delivery.generation,
        state="live",
        seen_at=now(),
        delivered_at=delivery.delivered_at,
        manifest=delivery.manifest,
        files=tuple((f.key, f.size, f.etag) for f in delivery.files),
        rows=split.rows,
        focus_version=split.focus_version,
        columns=split.columns,
        repairs=split.repairs,
        sectors=_sectors(delivery),
        days=split.days,
    )
    ledger = Ledger(lake, source.name)
    before = ledger.live(delivery.scope)
    ledger.enter(entry)
    if before is not None and slice_folder(lake, source.name, before) != slice_folder(lake, source.name, entry):
        lake.remove(slice_folder(lake, source.name, before))
    return entry


def _changed(store: Store, delivery: Delivery) -> str | None:
    """The first file that is no longer the one that was listed."""
    return next((f.key for f in delivery.files if store.stat(f.key) != f), None)


def _listed_again(source: Source, delivery: Delivery) -> Delivery:
    """The delivery of a scope as it is listed now: its manifest may have changed with its files."""
    _, listed = newest_deliveries(source)
    now_listed = next((d for d in listed if d.scope == delivery.scope), None)
    if now_listed is None or now_listed.problems:
        what = "; ".join(now_listed.problems) if now_listed else "it is no longer listed"
        raise DeliveryRefused(source.name, delivery.scope, f"changed while it was being read: {what}")
    return now_listed


def _slice_id(delivery: Delivery) -> str:
    return f"{delivery.generation}-{file_set_hash(delivery.files)}"


def slice_folder(lake: Lake, source: str, generation: Generation) -> Path:
    """Where a live generation's slices lie."""
    files = [StoredFile(*f) for f in generation.files]
    return lake.slices(source, generation.scope, f"{generation.generation}-{file_set_hash(files)}")


@dataclass(frozen=True)
class _Split:
    folder: Path
    rows: int
    focus_version: str
    columns: tuple[str, ...]
    repairs: Mapping[str, int]
    days: Mapping[date, DayTotals]
    tag_sets: object


def _split(engine: Engine, source: Source, delivery: Delivery, root: Path, workspace: Path, lake: Lake) -> _Split:
    """Read a delivery's files once and write one Parquet file per charge day."""
    folder = workspace / "days"
    folder.mkdir()
    with (
        connect(engine, workspace / "spill") as connection,
        lake.explaining(folder),
        _refusing_what_cannot_be_read(source, delivery),
    ):
        if not delivery.files:
            raise DeliveryRefused(source.name, delivery.scope, "lists no files: an empty delivery is not a success")
        export = open_export(connection, source.name, delivery.scope, root, [f.key for f in delivery.files], workspace)
        _require_charge_period(connection, source, delivery, export)
        tags = raw_tags(export)
        met = read_tag_sets(connection, export, tags)
        connection.execute("SET partitioned_write_flush_threshold = ?", [FLUSH_ROWS])
        connection.execute(
            f"COPY ({canonical_rows(export, tags.join)}) TO {literal(str(folder))}"
            " (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (charge_date))"
        )
        days = slice_totals(connection, folder)
        rows = sum(day.rows for day in days.values())
        if delivery.expected_rows is not None and delivery.expected_rows != rows:
            raise DeliveryRefused(
                source.name, delivery.scope, f"has {rows} rows, the manifest says {delivery.expected_rows}"
            )
        read = connection.execute(f"SELECT count(*) FROM ({export.sql})").fetchone()
        if read is None or read[0] != rows:
            raise DeliveryRefused(source.name, delivery.scope, f"{read and read[0]} rows were read but {rows} written")
        version = delivery.focus_version or detect_version(export.types)
        repairs = _repair_counts(connection, folder) if days else {}
        if met.duplicated_keys:
            repairs["repeated_key Tags"] = met.duplicated_keys
        return _Split(folder, rows, version, tuple(export.types), repairs, days, met.register)


@contextmanager
def _refusing_what_cannot_be_read(source: Source, delivery: Delivery) -> Iterator[None]:
    """The engine's complaint about a delivery's content is a refusal; about storage and memory it is not."""
    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException):
        raise
    except duckdb.Error as error:
        text = str(error).strip().splitlines()[0]
        raise DeliveryRefused(
            source.name, delivery.scope, f"cannot be read ({text}); have it delivered again"
        ) from error


def _require_charge_period(
    connection: duckdb.DuckDBPyConnection, source: Source, delivery: Delivery, export: ExportTable
) -> None:
    """Without a charge day a row has no place in the lake; then nothing of the delivery is landed."""
    name = export.focus_columns.get("ChargePeriodStart")
    if name is None:
        raise DeliveryRefused(
            source.name,
            delivery.scope,
            f"has no column ChargePeriodStart; it is not a FOCUS CostAndUsage data set (columns: {', '.join(export.types)})",
        )
    column = next(c for c in all_columns() if c.name == "ChargePeriodStart")
    mapped = map_column(column, name, export.types[name])
    bad = connection.execute(
        f"SELECT count(*), any_value(CAST(e.{identifier(name)} AS VARCHAR)), min(e.{SOURCE_FILE}), min(e.{SOURCE_ROW})"
        f" FROM ({export.sql}) e WHERE ({mapped.sql}) IS NULL"
    ).fetchone()
    if bad and bad[0]:
        raise DeliveryRefused(
            source.name,
            delivery.scope,
            f"{bad[0]} rows have no readable ChargePeriodStart (first at row {bad[3]}, found {bad[1]!r}),"
            " so their day is unknown; nothing of this delivery was landed",
            file=bad[2],
        )


def canonical_rows(export: ExportTable, tag_join: str) -> str:
    """SQL: an export's rows in the lake's form. Every row in gives exactly one row out.

    The inner query reads: canonical columns, and beside each what was found where it may need repair.
    The outer one says what was repaired.
    """
    mapped = []
    for column in all_columns():
        if column.name not in ("Tags", "AllocatedTags"):
            name = export.focus_columns.get(column.name)
            mapped.append(map_column(column, name, export.types[name] if name else ""))
    found = [f"{m.found} AS {m.found_name}" for m in mapped if m.found]
    bad_tags = [
        ("not_a_tag_set", "Tags", "bad_tags IS NOT NULL", "bad_tags"),
        ("not_a_tag_set", "AllocatedTags", "bad_allocated_tags IS NOT NULL", "bad_allocated_tags"),
    ]
    renamed = {n: f"x_{n}" if n.casefold() in RESERVED_COLUMNS else n for n in export.other_columns}
    others = [f"e.{identifier(n)} AS {identifier(kept)}" for n, kept in renamed.items()]
    kept = [*(m.name for m in mapped), "Tags", "AllocatedTags", "tag_set_id", SOURCE_FILE, SOURCE_ROW]
    return f"""
        SELECT {", ".join(kept)},
            {repairs_json(mapped, bad_tags)} AS repairs,
            {"".join(f"{identifier(name)}, " for name in renamed.values())}
            CAST(ChargePeriodStart AS DATE) AS charge_date
        FROM (
            SELECT {", ".join(f"{m.sql} AS {m.name}" for m in mapped)},
                {"".join(f"{f}, " for f in found)}
                {"".join(f"{o}, " for o in others)}
                t."Tags" AS Tags, t."AllocatedTags" AS AllocatedTags, t.tag_set_id, t.bad_tags, t.bad_allocated_tags,
                e.{SOURCE_FILE}, CAST(e.{SOURCE_ROW} AS BIGINT) AS {SOURCE_ROW}
            FROM ({export.sql}) e LEFT JOIN met_tags t ON {tag_join}
        )
    """


def slice_totals(connection: duckdb.DuckDBPyConnection, folder: Path) -> dict[date, DayTotals]:
    """Rows, cost by currency and a fingerprint of every charge day below a folder of slices."""
    if not any(folder.glob("charge_date=*/*.parquet")):
        return {}
    return day_totals(
        connection,
        f"SELECT * FROM read_parquet({literal(str(folder / 'charge_date=*' / '*.parquet'))},"
        " hive_partitioning = true, hive_types = {'charge_date': DATE}, union_by_name = true)",
    )


def day_totals(connection: duckdb.DuckDBPyConnection, rows: str) -> dict[date, DayTotals]:
    """Rows, cost by currency and a fingerprint of every charge_date in a relation of canonical rows.

    The fingerprint is a sum of row hashes over the FOCUS columns: it does not depend on the order of
    rows, nor on where they lay or when they were exported.
    """
    hashed = ", ".join(column.name for column in all_columns())
    result: dict[date, DayTotals] = {}
    for day, currency, count, billed, effective, fingerprint in connection.execute(
        f"""
        SELECT charge_date, coalesce(BillingCurrency, ''), count(*),
            coalesce(sum(BilledCost), 0), coalesce(sum(coalesce(EffectiveCost, BilledCost)), 0),
            sum(CAST(hash({hashed}) AS HUGEINT))
        FROM ({rows}) GROUP BY 1, 2 ORDER BY 1, 2
        """
    ).fetchall():
        before = result.get(day) or DayTotals(0, {}, {}, "")
        result[day] = DayTotals(
            before.rows + count,
            {**before.billed, currency: Decimal(billed)},
            {**before.effective, currency: Decimal(effective)},
            before.fingerprint + f"{count:x}.{fingerprint:x};",
        )
    return result


def _repair_counts(connection: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for text, rows in connection.execute(
        f"SELECT repairs, count(*) FROM read_parquet({literal(str(folder / 'charge_date=*' / '*.parquet'))},"
        " union_by_name = true) WHERE repairs IS NOT NULL GROUP BY 1"
    ).fetchall():
        for item in json.loads(text):
            name = f"{item['rule']} {item['column']}"
            counts[name] = counts.get(name, 0) + rows
    return counts


@dataclass(frozen=True)
class RawDay:
    """A day of a source as the lake holds it now."""

    day: date
    totals: DayTotals
    slices: tuple[str, ...]
    changed: bool


def compose_days(lake: Lake, engine: Engine, source: Source, days: Iterable[date]) -> list[RawDay]:
    """Write each day's one raw file from the live slices that hold it; a day that did not change is not touched.

    A day without rows gets an empty file: that nothing was charged, or nothing delivered, is for the gate to say.
    """
    generations = list(Ledger(lake, source.name).all_live())
    result = []
    with lake.workspace() as workspace, connect(engine, workspace / "spill") as connection:
        for day in days:
            parts = [(g, slice_folder(lake, source.name, g)) for g in generations if day in g.days]
            slices = tuple(folder.relative_to(lake.root).as_posix() for _, folder in parts)
            held = lake.read_record(source.name, "days", day.isoformat())
            target = lake.day_file("raw", source.name, day)
            if held is not None and tuple(held["slices"]) == slices and target.is_file():
                result.append(RawDay(day, DayTotals.from_json(held["totals"]), slices, changed=False))
                continue
            files = [f for _, folder in parts for f in sorted((folder / f"charge_date={day}").glob("*.parquet"))]
            if len(files) == 1:
                lake.link(files[0], target)
            else:
                with lake.replacing(target) as temporary:
                    try:
                        _write(connection, _union(files), temporary)
                    except duckdb.ConversionException:
                        _write(connection, _union_of_unlike(connection, files), temporary)
            totals = _sum_totals([g.days[day] for g, _ in parts])
            lake.write_record(
                {"slices": list(slices), "totals": totals.as_json()}, source.name, "days", day.isoformat()
            )
            result.append(RawDay(day, totals, slices, changed=True))
    return result


def _write(connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> None:
    connection.execute(f"COPY ({query}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)")


def _union(files: list[Path]) -> str:
    if not files:
        empty = [f"CAST(NULL AS {canonical_type(c)}) AS {c.name}" for c in all_columns()]
        empty += [f"CAST(NULL AS {kind}) AS {name}" for name, kind in DERIVED_TYPES.items()]
        return f"SELECT {', '.join(empty)} WHERE false"
    listed = ", ".join(literal(str(f)) for f in files)
    return f"SELECT * FROM read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"


def _union_of_unlike(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> str:
    """The union where one column is a map in one delivery and its JSON text in another: such columns become text."""
    relations = [f"read_parquet({literal(str(file))}, hive_partitioning = false)" for file in files]
    described = [connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall() for relation in relations]
    kinds: dict[str, set[str]] = {}
    for name, kind, *_ in (column for columns in described for column in columns):
        kinds.setdefault(name, set()).add(kind)

    def as_text(name: str, kind: str) -> str:
        column = identifier(name)
        if len(kinds[name]) == 1 or kind == "VARCHAR":
            return column
        return f"CAST({f'to_json({column})' if kind.endswith((')', ']')) else column} AS VARCHAR) AS {column}"

    return " UNION ALL BY NAME ".join(
        f"SELECT {', '.join(as_text(name, kind) for name, kind, *_ in columns)} FROM {relation}"
        for relation, columns in zip(relations, described)
    )


def _sum_totals(parts: list[DayTotals]) -> DayTotals:
    billed: dict[str, Decimal] = {}
    effective: dict[str, Decimal] = {}
    for part in parts:
        for currency in part.billed:
            billed[currency] = billed.get(currency, Decimal(0)) + part.billed[currency]
            effective[currency] = effective.get(currency, Decimal(0)) + part.effective[currency]
    return DayTotals(sum(p.rows for p in parts), billed, effective, "|".join(sorted(p.fingerprint for p in parts)))
