"""Landing: a delivery is read once, split by charge day into the lake, and entered in the ledger.

A generation replaces the one before it in its scope as a whole; rows are never matched one by one
(FOCUS has no row key). A day of a source is the union of the live slices of all scopes that hold it.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb

from finops_assets.base.errors import DeliveryChanged, DeliveryRefused, DeliveryUnread, FinopsError
from finops_assets.base.interrupts import end_if_interrupted
from finops_assets.base.spread import Spread
from finops_assets.base.sql import identifier, literal
from finops_assets.base.text import command
from finops_assets.base.uris import DATA_SUFFIXES
from finops_assets.focus.specification import detect_version
from finops_assets.ingest.conversion.convert import in_focus, written_once
from finops_assets.ingest.layouts.delivery import Delivery
from finops_assets.ingest.layouts.layouts import known_manifests, newest_deliveries
from finops_assets.ingest.layouts.metadata import stated_version
from finops_assets.ingest.reading.export_table import all_columns, map_column, open_export
from finops_assets.ingest.reading.participants import marketplace_charges
from finops_assets.ingest.reading.parts import first_line, is_of_a_part, judged, with_keys
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW, ExportTable
from finops_assets.ingest.reading.spelling import EMPTY_ROW, Spelling, how_written
from finops_assets.ingest.repairs import condensed, counts, row_repairs
from finops_assets.ingest.same_charges import (
    Sample,
    Shared,
    at_another_grain,
    may_share,
    shared,
    shared_by_files,
)
from finops_assets.ingest.slices import canonical_rows, write_slices
from finops_assets.ingest.split_days import split_days
from finops_assets.ingest.tag_register import enter_tag_sets, raw_tags, read_tag_sets
from finops_assets.ingest.vendors.fetch import fetch_costs
from finops_assets.settings.engine import EngineSettings
from finops_assets.settings.gates import Plausibility
from finops_assets.settings.sources import Source
from finops_assets.storage.duck import by_day, connect, lent, of_one_task, one_file
from finops_assets.storage.lake import Lake
from finops_assets.storage.ledger import (
    NOT_READ,
    PENDING,
    DayTotals,
    Generation,
    Ledger,
    State,
    fall,
    now,
    remark,
    total_cost,
)
from finops_assets.storage.repair import Repair
from finops_assets.storage.scope import scope_days
from finops_assets.storage.stores.store import FileChanged, Store, StoredFile, StoreError

READ_ATTEMPTS = 2
DEFAULT_LIMITS = Plausibility()

# What lands differently than before gets a new number: deliveries that were landed in an older form are landed again.
CANONICAL_FORM = 5
# Form 5 differs from this one in tag sets that were taken as none: whoever has no such set has the same rows in both.
_ALL_BUT_TAG_SETS, _NO_TAG_SET = 4, "not_a_tag_set"
# The compressed form of nothing has the file's old name in it, and is no longer.
_COMPRESSED_NOTHING = 300

# Columns that say when or how a row was exported: they differ with each delivery of the same rows.
_OF_THE_EXPORT = re.compile(
    r"export_?(time|date|run|id)|last_?updated|ingest|(^|_)dlt_|load_?id|row_?num", re.IGNORECASE
)


def land_source(
    lake: Lake,
    engine: EngineSettings,
    source: Source,
    first_day: date,
    log: Callable[[str], None] = lambda _: None,
    limits: Plausibility = DEFAULT_LIMITS,
    spread: Spread | None = None,
) -> list[Generation]:
    """Land every delivery of a source that is new, and return what became of each newest delivery.

    A delivery that is not all there waits; one that cannot be read is refused, and so is one that lost
    days, or more rows or cost than `limits` allow, against the live one, unless a person accepted it. All
    are entered in the ledger with the reason, and what was live before stays live. A refused delivery is
    not read again until its files change or it is accepted. Billing periods that ended before `first_day`
    are left alone. A scope that is no longer delivered stays as it was landed, unless a new one holds all its
    rows: then its file was renamed, and the new one counts. A delivery that holds the same charges as a scope
    that counts is refused, too, until a person says which of them counts.

    `spread`: other machines, which see the lake and the source's files, that read the files of large deliveries.

    Raises:
        FinopsError: the source's place cannot be listed, or a vendor does not tell its costs.
        LakeError: the lake cannot be written.
    """
    if source.fetch:
        fetch_costs(source, source.fetch, first_day, datetime.now(UTC), log)
    store, deliveries = newest_deliveries(source)
    ledger = Ledger(lake, source.name)
    landed = []
    delivered = {delivery.scope for delivery in deliveries}
    counting: dict[str, Generation] | None = None
    for delivery in _wanted(deliveries, first_day):
        known = _known(ledger, delivery)
        if known is not None:
            landed.append(known)
            continue
        replaces: tuple[Generation, ...] = ()
        if delivery.problems:
            entry = _entry(delivery, "waiting", "; ".join(delivery.problems))
        elif (live := _landed_as_it_is(ledger, delivery)) is not None:
            # What the provider calls complete changes without its data; a delivery that waited may be taken back.
            entry = replace(live, sectors=_sectors(delivery))
        else:
            if counting is None:
                counting = {g.scope: g for g in ledger.all_live()}
            try:
                entry, replaces = _land(lake, engine, source, store, delivery, limits, counting, delivered, spread)
            except DeliveryRefused as refusal:
                end_if_interrupted()
                # Neither a file that changed nor a fault of this machine is a verdict on the delivery.
                waits = isinstance(refusal, DeliveryChanged | DeliveryUnread)
                entry = _entry(delivery, "waiting" if waits else "refused", str(refusal))
                if not waits and delivery.files and all(_nothing_in(store, file) for file in delivery.files):
                    entry = replace(entry, empty=True)
            if entry.state == "live":
                said = remark(entry, first_day)
                log(
                    f"{source.name}: landed {delivery.scope}, {entry.rows:,} rows, {len(entry.days)} days"
                    f"{said and f'; {said}'}"
                )
                counting[entry.scope] = entry
        before = ledger.live(delivery.scope)
        for gone in replaces:
            # Before the new one counts: a day that lacks them for a moment is held, a day that has both would not be.
            log(f"{source.name}: {gone.scope} is gone and {delivery.scope} holds all its rows, so it counts instead")
            reason = f"is no longer there, and {delivery.scope} holds all its rows"
            ledger.enter(replace(gone, state="superseded", reason=reason, repaired=()))
            counting = {scope: g for scope, g in (counting or {}).items() if scope != gone.scope}
        ledger.enter(entry)  # the commit: from here on the new slices count, and the old ones can go
        if entry.state == "live" and before is not None and before.identity != entry.identity:
            lake.remove(slice_folder(lake, source.name, before))
            lake.drop_abandoned(slice_folder(lake, source.name, entry))
        for gone in replaces:
            lake.remove(slice_folder(lake, source.name, gone))
        landed.append(entry)
    _tell_what_is_not_read(lake, source, deliveries, log)
    if deliveries:
        _forget_gone(lake, ledger, delivered)
    return landed


def _tell_what_is_not_read(
    lake: Lake, source: Source, deliveries: Iterable[Delivery], log: Callable[[str], None]
) -> None:
    """Files that look like data and end in something else, for whoever looks at the deliveries."""
    found = sorted({key for delivery in deliveries for key in delivery.not_read})
    before = lake.read_record(source.name, NOT_READ) or {"files": []}
    if found != before["files"]:
        lake.write_record({"files": found}, source.name, NOT_READ, blind=True)
        for key in found:
            log(f"{source.name}: {key} is not read; files that end in {', '.join(DATA_SUFFIXES)} are")


def _nothing_in(store: Store, file: StoredFile) -> bool:
    """Is a file empty, or the compressed form of nothing?"""
    if file.size > _COMPRESSED_NOTHING or not file.key.lower().endswith(".gz"):
        return file.size == 0
    try:
        return gzip.decompress(store.read(file.key)).strip() == b""
    except (OSError, EOFError, zlib.error, StoreError):
        return False


def unknown_deliveries(lake: Lake, source: Source, first_day: date) -> list[Delivery]:
    """The newest deliveries that the ledger does not know as they are: what landing now would enter. Reads no data.

    A manifest that was found landed is remembered with its etag and not read again until it changes, so that a
    look at which nothing is new costs a listing.

    Raises:
        FinopsError: the source's place cannot be listed.
    """
    ledger = Ledger(lake, source.name)
    record = lake.read_record(source.name, "manifests", "landed") or {}
    _, deliveries = newest_deliveries(source, {key: tuple(entry) for key, entry in record.items()})
    wanted = _wanted(deliveries, first_day)
    if any(d.unchanged and _known(ledger, d) is None for d in wanted):
        _, deliveries = newest_deliveries(source)
        wanted = _wanted(deliveries, first_day)
    landed = [d for d in wanted if _landed_as_it_is(ledger, d) is not None]
    remembered = record | {key: list(entry) for key, entry in known_manifests(landed).items()}
    if remembered != record:
        # Blind: what another machine remembered and is lost here is read once more.
        lake.write_record(remembered, source.name, "manifests", "landed", blind=True)
    return [d for d in wanted if _known(ledger, d) is None]


def _wanted(deliveries: Iterable[Delivery], first_day: date) -> list[Delivery]:
    return [d for d in deliveries if d.month is None or d.month >= f"{first_day:%Y-%m}"]


def _known(ledger: Ledger, delivery: Delivery) -> Generation | None:
    """The ledger's entry of a delivery, if there is nothing to do about it."""
    latest = ledger.latest(delivery.scope)
    if latest is None:
        return None
    if latest.state == "withdrawn":
        return latest  # a person said that this scope does not count, whatever is delivered of it
    if delivery.problems:
        waits = latest == replace(_entry(delivery, "waiting", "; ".join(delivery.problems)), seen_at=latest.seen_at)
        return latest if waits else None
    if latest.state == "live":
        same = _landed_as_it_is(ledger, delivery) is not None and latest.sectors == _sectors(delivery)
        return latest if same else None
    return _refused_before(ledger, delivery)


def _landed_as_it_is(ledger: Ledger, delivery: Delivery) -> Generation | None:
    live = ledger.live(delivery.scope)
    if live is None or live.generation != delivery.generation or not _in_this_form(live):
        return None
    # The files of a delivery whose manifest has not changed were not looked at.
    return live if delivery.unchanged or _same_files(live, delivery) else None


def _in_this_form(entry: Generation) -> bool:
    """Would the same files give the same rows now?"""
    if entry.form == _ALL_BUT_TAG_SETS:
        return not any(name.startswith(_NO_TAG_SET) for name in entry.repairs)
    return entry.form == CANONICAL_FORM


def _refused_before(ledger: Ledger, delivery: Delivery) -> Generation | None:
    """The entry of a delivery that was refused as it stands and not accepted since."""
    latest = ledger.latest(delivery.scope)
    if latest is None or latest.state != "refused" or not _same_files(latest, delivery):
        return None
    if not _in_this_form(latest):
        return None  # what could not be read then may be readable now
    if any((live := ledger.live(scope)) is None or live.identity != then for scope, then in latest.beside.items()):
        return None  # what it was set beside no longer counts, or holds something else
    return None if ledger.accepted(delivery.scope) == delivery.identity else latest


def _forget_gone(lake: Lake, ledger: Ledger, delivered: set[str]) -> None:
    """A delivery that was never landed and is no longer there holds no day back; what was landed before it counts."""
    for scope in ledger.scopes():
        latest = ledger.latest(scope)
        if scope in delivered or latest is None or latest.state not in PENDING:
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


def _entry(delivery: Delivery, state: State, reason: str | None = None) -> Generation:
    return Generation(
        scope=delivery.scope,
        generation=delivery.generation,
        state=state,
        seen_at=now(),
        # Where no manifest says when it was made, its newest file does.
        delivered_at=delivery.delivered_at
        or max((file.modified for file in delivery.files if file.modified), default=None),
        manifest=delivery.manifest,
        files=tuple((f.key, f.size, f.etag) for f in delivery.files),
        reason=reason,
        verified=delivery.verified,
        form=CANONICAL_FORM,
    )


def _land(
    lake: Lake,
    engine: EngineSettings,
    source: Source,
    store: Store,
    delivery: Delivery,
    limits: Plausibility,
    counting: Mapping[str, Generation],
    delivered: Collection[str],
    spread: Spread | None,
) -> tuple[Generation, tuple[Generation, ...]]:
    """The ledger's entry of a delivery that was read, and the scopes whose files it replaces under another name.

    `counting` are the live generations by scope, `delivered` the scopes that are there.
    """
    ledger = Ledger(lake, source.name)
    before = ledger.live(delivery.scope)
    for attempt in range(READ_ATTEMPTS):
        with lake.workspace() as workspace:
            refusal: DeliveryRefused | None = None
            changed: str | None = None
            try:
                with store.local_root(delivery.files, workspace) as root:
                    split = _split(engine, source, delivery, root, workspace, lake, spread)
            except DeliveryRefused as error:
                refusal = error
            except FileChanged as error:
                changed = error.key
            except StoreError as error:
                raise FinopsError(f"source {source.name!r}, delivery {delivery.scope}: {error}") from error
            # Half of the old file and half of the new one can read as garbage: try again before refusing it.
            if not store.pins:
                changed = _changed(store, delivery)
            if changed and attempt + 1 < READ_ATTEMPTS:
                delivery = _listed_again(source, delivery)
                continue
            if changed:
                raise DeliveryChanged(
                    source.name,
                    delivery.scope,
                    "changed while it was being read; it is read again next time",
                    file=changed,
                ) from refusal
            if refusal is not None:
                raise refusal
            read = replace(
                _entry(delivery, "live"),
                rows=split.rows,
                focus_version=split.focus_version,
                columns=split.columns,
                repairs=counts(split.repaired),
                repaired=condensed(split.repaired),
                sectors=_sectors(delivery),
                days=split.days,
                periods=split.periods,
                month_long=split.month_long,
                changed=_differing(before.days if before else {}, split.days),
            )
            same = _same_charges(lake, engine, source.name, read, split, counting, workspace)
            replaces = tuple(counting[s] for s, both in same.items() if both.contained and s not in delivered)
            beside = {s: both for s, both in same.items() if counting[s] not in replaces}
            problems = [_fell(source, delivery, before, split, limits)] if before is not None else []
            problems += [_twice(engine, source, delivery, split, workspace)]
            if ledger.accepted(delivery.scope) == delivery.identity:
                problems = []
            problems += [_stand_in(source, delivery, other, both, other in delivered) for other, both in beside.items()]
            if any(problems):
                return replace(
                    _entry(delivery, "refused", ". ".join(p for p in problems if p)),
                    rows=split.rows,
                    days=split.days,
                    beside={other: counting[other].identity for other in beside},
                ), ()
            enter_tag_sets(lake, source.name, split.tag_sets)
            lake.adopt(split.folder, slice_folder(lake, source.name, delivery))
        break
    kept = {day.isoformat(): sample.as_json() for day, sample in split.samples.items()}
    lake.write_record({"identity": delivery.identity, "days": kept}, source.name, "samples", delivery.scope)
    return read, replaces


def _same_charges(
    lake: Lake,
    engine: EngineSettings,
    source: str,
    ours: Generation,
    split: _Split,
    counting: Mapping[str, Generation],
    workspace: Path,
) -> dict[str, Shared]:
    """The other scopes that count and hold charges of this delivery, with what both hold.

    Not those of which a person said that both count.
    """
    ledger = Ledger(lake, source)
    found: dict[str, Shared] = {}
    both_count = ledger.both_count(ours.scope)
    connection: duckdb.DuckDBPyConnection | None = None
    with ExitStack() as opened:
        for scope, theirs in counting.items():
            days = ours.days.keys() & theirs.days.keys()
            if not days or scope in (ours.scope, *both_count) or ours.scope in ledger.both_count(scope):
                continue
            exactly = all(ours.days[day].fingerprint == theirs.days[day].fingerprint for day in days)
            # A bill by the hour beside one by the day shares no row.
            equal = [
                d
                for d in days
                if ours.days[d].effective == theirs.days[d].effective and any(ours.days[d].effective.values())
            ]
            kept = lake.read_record(source, "samples", scope)
            if not exactly and not equal and kept is not None and kept["identity"] == theirs.identity:
                known = {date.fromisoformat(d): Sample.from_json(s) for d, s in kept["days"].items()}
                if not may_share(split.samples, known):
                    continue
            folder = slice_folder(lake, source, theirs)
            slices = {day: lake.files(folder / f"charge_date={day}", "*.parquet") for day in days}
            mine = {day: sorted(split.folder.glob(f"charge_date={day}/*.parquet")) for day in days}
            whole = theirs.days.keys() <= ours.days.keys()
            connection = connection or opened.enter_context(lent(engine, workspace / "spill"))
            shares = shared(connection, mine, slices, exactly=exactly, whole=whole)
            if shares is None and equal:
                shares = at_another_grain(connection, mine, {day: slices[day] for day in equal})
            if shares is not None:
                found[scope] = shares
    return found


def _differing(before: Mapping[date, DayTotals], after: Mapping[date, DayTotals]) -> tuple[date, ...]:
    """The days whose rows are not the same in two generations."""
    return tuple(
        day
        for day in sorted(before.keys() | after.keys())
        if day not in before or day not in after or before[day].fingerprint != after[day].fingerprint
    )


def _fell(source: Source, delivery: Delivery, before: Generation, split: _Split, limits: Plausibility) -> str:
    """What is wrong with a whole delivery against the one that it would replace: lost days, rows or cost."""
    problems = []
    lost = sorted(day for day, totals in before.days.items() if totals.rows and day not in split.days)
    if lost:
        problems.append(f"{len(lost)} days that the last delivery held are gone: {lost[0]} to {lost[-1]}")
    if fell := fall(Decimal(before.rows), Decimal(split.rows), limits.max_row_fall):
        problems.append(f"rows fell {fell:.1f} %, from {before.rows} to {split.rows} (limit {limits.max_row_fall:g} %)")
    old, new = total_cost(before.days.values()), total_cost(split.days.values())
    for currency, amount in old.items():
        if fell := fall(amount, new.get(currency, Decimal(0)), limits.max_cost_fall):
            problems.append(
                f"effective cost fell {fell:.1f} %, from {amount} to {new.get(currency, 0)} {currency}"
                f" (limit {limits.max_cost_fall:g} %)"
            )
    accept = command("deliveries accept", source.name, delivery.scope)
    return f"{'; '.join(problems)}. If that is right: {accept}" if problems else ""


def _twice(engine: EngineSettings, source: Source, delivery: Delivery, split: _Split, workspace: Path) -> str:
    """That two files of a delivery hold the same charges, and what to do; nothing where a manifest says what belongs to it."""
    if delivery.verified or len(delivery.files) < 2:
        return ""
    slices = {day: sorted(split.folder.glob(f"charge_date={day}/*.parquet")) for day in split.days}
    if not slices:
        return ""
    with lent(engine, workspace / "spill") as connection:
        found = shared_by_files(connection, slices)
    if not found:
        return ""
    first, second, both = found[0]
    more = f" (and {len(found) - 1} more pairs of its files do)" if len(found) > 1 else ""
    return (
        f"its files {first} and {second} hold the same charges: {both}{more}. Take one of them away, or let `uri` leave it"
        f" out by a glob; if both count: {command('deliveries accept', source.name, delivery.scope)}"
    )


def _stand_in(source: Source, delivery: Delivery, other: str, both: Shared, there: bool) -> str:
    """That a delivery holds the same charges as a scope that counts, and how to say which of them is to count."""
    gone = "" if there else ", which is no longer there"
    return (
        f"holds the same charges as {other}{gone}: {both}. Which counts? This one instead of the other:"
        f" {command('deliveries withdraw', source.name, other)}; the other:"
        f" {command('deliveries withdraw', source.name, delivery.scope)}; both:"
        f" {command('deliveries accept', source.name, delivery.scope)}"
    )


def _changed(store: Store, delivery: Delivery) -> str | None:
    """The first file that is no longer the one that was listed."""
    return next((f.key for f in delivery.files if store.stat(f.key) != f), None)


def _listed_again(source: Source, delivery: Delivery) -> Delivery:
    """The delivery of a scope as it is listed now: its manifest may have changed with its files."""
    _, listed = newest_deliveries(source)
    now_listed = next((d for d in listed if d.scope == delivery.scope), None)
    if now_listed is None or now_listed.problems:
        what = "; ".join(now_listed.problems) if now_listed else "it is no longer listed"
        raise DeliveryChanged(source.name, delivery.scope, f"changed while it was being read: {what}")
    return now_listed


def slice_folder(lake: Lake, source: str, landed: Delivery | Generation) -> Path:
    """Where a generation's slices lie."""
    return lake.slices(source, landed.scope, landed.identity)


@dataclass(frozen=True)
class _Split:
    folder: Path
    rows: int
    focus_version: str
    columns: tuple[str, ...]
    repaired: tuple[Repair, ...]
    days: Mapping[date, DayTotals]
    samples: Mapping[date, Sample]
    tag_sets: object
    periods: tuple[tuple[date, date], ...]
    month_long: bool


def _split(
    engine: EngineSettings,
    source: Source,
    delivery: Delivery,
    root: Path,
    workspace: Path,
    lake: Lake,
    spread: Spread | None,
) -> _Split:
    """Read a delivery's files once and write one Parquet file per charge day."""
    folder = workspace / "days"
    elsewhere = None
    if spread and len(delivery.files) > 1 and sum(file.size for file in delivery.files) >= spread.least_bytes:
        elsewhere = spread, of_one_task(engine)
    with (
        connect(engine, workspace / "spill") as connection,
        lake.explaining(folder),
        _refusing_what_cannot_be_read(source, delivery),
    ):
        if not delivery.files:
            raise DeliveryRefused(source.name, delivery.scope, "lists no files: an empty delivery is not a success")
        keys = [f.key for f in delivery.files]
        opened = open_export(connection, source.name, delivery.scope, root, keys, workspace, spread=elsewhere)
        export = in_focus(connection, source, delivery, opened)
        if export is not opened:
            export = written_once(connection, export, workspace)
        written = how_written(connection, export)
        _require_charge_period(connection, source, delivery, export, written)
        marketplace = marketplace_charges(connection, export)
        tags = raw_tags(export)
        met = read_tag_sets(connection, export, tags, workspace / "tags", elsewhere)
        met.enter(connection)
        write_slices(connection, canonical_rows(export, tags.join, met, written, marketplace), folder, elsewhere)
        also = [n for n in export.other_columns if not _OF_THE_EXPORT.search(n)]
        found = split_days(connection, folder, also, elsewhere)
        days = {day: totals for day, (totals, _) in found.items()}
        rows = sum(day.rows for day in days.values())
        # What a converter leaves out is held by another set of the delivery; it is counted, never silent.
        delivered = rows + export.left_out
        empty = sum(r.rows for r in export.counted if r.rule == EMPTY_ROW)
        if delivery.expected_rows is not None and delivery.expected_rows not in (delivered, delivered + empty):
            raise DeliveryRefused(
                source.name, delivery.scope, f"has {delivered} rows, the manifest says {delivery.expected_rows}"
            )
        read = connection.execute(f"SELECT count(*) FROM ({opened.sql})").fetchone()
        if read is None or read[0] != delivered:
            raise DeliveryRefused(
                source.name, delivery.scope, f"{read and read[0]} rows were read but {delivered} written or left out"
            )
        version = delivery.focus_version or stated_version(delivery.schemas, opened.types)
        repaired = [*export.counted, *written.counted, *(row_repairs(connection, folder) if days else ())]
        if met.duplicated_keys:
            repaired.append(Repair("", "repeated_key", "Tags", met.duplicated_keys))
        return _Split(
            folder,
            rows,
            version or detect_version(export.types),
            tuple(export.types),
            tuple(repaired),
            days,
            {day: sample for day, (_, sample) in found.items()},
            met.register,
            *(_periods(connection, folder) if days and scope_days(delivery.scope) is None else ((), False)),
        )


@contextmanager
def _refusing_what_cannot_be_read(source: Source, delivery: Delivery) -> Iterator[None]:
    """The engine's complaint about a delivery's content is a refusal; about this machine it is not."""
    try:
        yield
    except duckdb.Error as error:
        if isinstance(error, duckdb.IOException) and not is_of_a_part(error):
            raise  # of what is written: the lake says what to do
        said = with_keys(first_line(error), [file.key for file in delivery.files])
        content = f"cannot be read ({said}); have it delivered again"
        raise judged(error, source.name, delivery.scope, content) from error


def _require_charge_period(
    connection: duckdb.DuckDBPyConnection, source: Source, delivery: Delivery, export: ExportTable, written: Spelling
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
    mapped = map_column(column, name, export.types[name], written)
    # A month has few times: each is looked at once in a file.
    first = f"(e.{SOURCE_FILE}, e.row)"
    distinct = f"SELECT {identifier(name)}, {SOURCE_FILE}, count(*) AS n, min({SOURCE_ROW}) AS row FROM ({export.sql}) GROUP BY 1, 2"
    bad = connection.execute(
        f"SELECT CAST(sum(n) AS BIGINT), arg_min(CAST(e.{identifier(name)} AS VARCHAR), {first}),"
        f" arg_min(e.{SOURCE_FILE}, {first}), arg_min(e.row, {first})"
        f" FROM ({distinct}) e WHERE ({mapped.sql}) IS NULL"
    ).fetchone()
    if bad and bad[0]:
        order = (
            "; its dates have both a first and a second number above 12, so neither is always the month"
            if bad[2] in written.unread_dates("ChargePeriodStart")
            else ""
        )
        raise DeliveryRefused(
            source.name,
            delivery.scope,
            f"{bad[0]} rows have no readable ChargePeriodStart (first at row {bad[3]}, found {bad[1]!r}{order}),"
            " so their day is unknown; nothing of this delivery was landed",
            file=bad[2],
        )


def _periods(connection: duckdb.DuckDBPyConnection, folder: Path) -> tuple[tuple[tuple[date, date], ...], bool]:
    """The billing periods of a folder of slices, end exclusive, and whether each charge is of a month or longer."""
    rows = by_day(literal(f"{one_file(folder)}/charge_date=*/*.parquet"))
    found = connection.execute(
        f"SELECT DISTINCT CAST(BillingPeriodStart AS DATE), CAST(BillingPeriodEnd AS DATE) FROM {rows}"
        " WHERE BillingPeriodStart < BillingPeriodEnd ORDER BY 1, 2"
    ).fetchall()
    # Some exports write the month's last day where the end, exclusive, is due.
    periods = {(start, end + timedelta(days=(end + timedelta(days=1)).day == 1)) for start, end in found}
    shortest = connection.execute(
        f"SELECT coalesce(min(ChargePeriodEnd - ChargePeriodStart) >= INTERVAL 28 DAYS, false) FROM {rows}"
    ).fetchone()
    return tuple(sorted(periods)), bool(shortest and shortest[0])
