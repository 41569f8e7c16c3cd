"""Usage as it was delivered, landed file by file; and a day of it, of the newest file that has each window.

    usage/name=<n>/file=<hash>/charge_date=<d>/data.parquet   a file's rows of a day, as read
    ledger/usage.<n>/files/<key>.json                         a file: what it was, what it held, why it was refused
    ledger/usage.<n>/days/<d>.json                            the files that hold a day, and the hash of what they hold

A file that changes replaces what it gave before. Of a row that two files have the newer file's counts, and of windows of
a cluster that overlap those of the newer file: usage that is delivered twice is no more usage. What is no longer there
stays as it was landed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb

from finops_assets.base.errors import DeliveryRefused, FinopsError
from finops_assets.base.interrupts import end_if_interrupted
from finops_assets.base.secrets import without_secrets
from finops_assets.base.sql import literal
from finops_assets.base.uris import is_data
from finops_assets.ingest.usage.allocations import COLUMNS, read_allocations
from finops_assets.settings.clusters import Cluster
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import connect, one_file
from finops_assets.storage.lake import DATA, Lake
from finops_assets.storage.ledger import now
from finops_assets.storage.stores.open import open_store
from finops_assets.storage.stores.store import FileChanged, Store, StoredFile, StoreError, matches

SUFFIXES = (".json", ".json.gz")
"""What usage may come in besides what bills come in."""
# What is read differently than before gets a new number: files are then landed again.
FORM = 1


@dataclass(frozen=True)
class LandedUsage:
    """A file of usage, as its record says. `reason`: why it was refused; it then holds no day."""

    key: str
    identity: tuple[int, str, int, str | None]
    """Its size, its etag, the form that it was read in, and the cluster that rows without one are of."""
    modified: str
    seen_at: str
    days: dict[date, tuple[int, str]]
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "identity": list(self.identity),
            "modified": self.modified,
            "seen_at": self.seen_at,
            "days": {day.isoformat(): list(each) for day, each in self.days.items()},
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, key: str, body: dict[str, Any]) -> LandedUsage:
        size, etag, form, cluster = body["identity"]
        days = {date.fromisoformat(day): (rows, hashed) for day, (rows, hashed) in body["days"].items()}
        return cls(key, (size, etag, form, cluster), body["modified"], body["seen_at"], days, body["reason"])


def land_usage(
    lake: Lake, engine: EngineSettings, cluster: Cluster, first_day: date, log: Callable[[str], None] = lambda _: None
) -> list[date]:
    """Land what is new of a cluster's usage; returns the days that it changed.

    A file that cannot be read is refused, is not read again until it changes, and what it gave before stays.

    Raises:
        FinopsError: the place cannot be listed.
        LakeError: the lake cannot be written.
    """
    store, files = _listed(cluster)
    landed = landed_usage(lake, cluster.name)
    changed: set[date] = set()
    for file in files:
        identity = _identity(cluster, file)
        before = landed.get(file.key)
        if before and before.identity == identity:
            continue
        entry = _land(lake, engine, cluster, store, file, before, first_day)
        if entry is None:
            continue  # it changed while it was read: next time
        if entry.reason:
            log(f"{cluster.name}: {file.key} is refused: {entry.reason}")
        else:
            log(f"{cluster.name}: landed {file.key}, {len(entry.days)} days")
        landed[file.key] = entry
        mine = {**(before.days if before else {}), **entry.days}
        changed |= _enter_days(lake, cluster.name, landed.values(), mine)
        # Last: until then the file counts as not landed, and is landed again.
        lake.write_record(entry.as_json(), _ledger(cluster.name), "files", file.key)
        for day in (before.days.keys() if before else set[date]()) - entry.days.keys():
            lake.remove(_slice(lake, cluster.name, file.key, day).parent)
    return sorted(changed)


def new_usage(lake: Lake, cluster: Cluster) -> list[StoredFile]:
    """The files that landing now would read. Reads no data."""
    _, files = _listed(cluster)
    landed = landed_usage(lake, cluster.name)
    return [f for f in files if (k := landed.get(f.key)) is None or k.identity != _identity(cluster, f)]


def landed_usage(lake: Lake, name: str) -> dict[str, LandedUsage]:
    """Every file of a cluster's usage that was looked at, by its key."""
    keys = lake.records(_ledger(name), "files")
    return {key: LandedUsage.from_json(key, lake.read_record(_ledger(name), "files", key) or {}) for key in keys}


def usage_days(lake: Lake, name: str) -> list[date]:
    """The days that a cluster's usage tells of, or told of."""
    return [date.fromisoformat(day) for day in lake.records(_ledger(name), "days")]


def usage_fingerprint(lake: Lake, name: str, day: date) -> str | None:
    """A hash of what a cluster's usage says of a day; None where it says nothing."""
    record = lake.read_record(_ledger(name), "days", day.isoformat())
    return record["fingerprint"] if record and record["files"] else None


def load_usage(lake: Lake, connection: duckdb.DuckDBPyConnection, name: str, day: date, table: str) -> bool:
    """Make a table (COLUMNS) of a cluster's usage of a day; False where there is none."""
    record = lake.read_record(_ledger(name), "days", day.isoformat())
    parts = [(key, _slice(lake, name, key, day)) for key in (record["files"] if record else ())]
    if not parts:
        return False
    there = lake.fetch(file for _, file in parts)
    if len(there) < len(parts):
        gone = next(file for _, file in parts if file not in there)
        raise FinopsError(
            f"lake {lake.name}: {gone.relative_to(lake.root)} is gone; restore it, or remove the records below"
            f" ledger/{_ledger(name)} to have the usage landed again"
        )
    # In the order of the record: the newest stands last.
    columns = ", ".join(COLUMNS)
    rows = " UNION ALL ".join(
        f"SELECT {columns}, {place} AS place FROM read_parquet({literal(one_file(file))}, hive_partitioning = false)"
        for place, (_, file) in enumerate(parts)
    )
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {table}_all AS {rows}")
    # Of windows that overlap, such as half a day exported at noon and the whole of it at night, the newer file's count.
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE {table} AS
        WITH windows AS (
            SELECT cluster, window_start, window_end, max(place) AS place FROM {table}_all GROUP BY 1, 2, 3
        ),
        counting AS (
            SELECT cluster, window_start, window_end FROM windows w WHERE NOT EXISTS (
                SELECT 1 FROM windows o WHERE o.cluster = w.cluster AND o.place > w.place
                    AND o.window_start < w.window_end AND w.window_start < o.window_end
            )
        )
        SELECT {columns} FROM {table}_all JOIN counting USING (cluster, window_start, window_end)
        QUALIFY place = max(place) OVER (
            PARTITION BY cluster, window_start, window_end, idle, node, provider_id, namespace, controller_kind, controller,
                pod, container
        )
    """)
    connection.execute(f"DROP TABLE {table}_all")
    return True


def usage_files(uri: str, endpoint_url: str | None) -> tuple[Store, list[StoredFile]]:
    """The files at a place that usage may come in, the oldest first.

    Raises:
        FinopsError: it cannot be listed.
    """
    shown = without_secrets(uri)
    try:
        store, pattern = open_store(uri, endpoint_url)
        found = [f for f in store.list() if matches(f.key, pattern) and _is_usage(f.key)]
    except ValueError as error:
        raise FinopsError(f"uri {shown}: {error}") from error
    except (StoreError, OSError) as error:
        raise FinopsError(f"{shown} cannot be listed: {error}") from error
    return store, sorted(found, key=lambda f: (f.modified.isoformat() if f.modified else "", f.key))


def _listed(cluster: Cluster) -> tuple[Store, list[StoredFile]]:
    try:
        return usage_files(cluster.uri, cluster.endpoint_url)
    except FinopsError as error:
        raise FinopsError(f"clusters: {cluster.name!r}: {error}") from error


def _identity(cluster: Cluster, file: StoredFile) -> tuple[int, str, int, str | None]:
    return file.size, file.etag, FORM, cluster.cluster


def _is_usage(key: str) -> bool:
    return is_data(key) or key.lower().endswith(SUFFIXES)


def _land(
    lake: Lake,
    engine: EngineSettings,
    cluster: Cluster,
    store: Store,
    file: StoredFile,
    before: LandedUsage | None,
    first_day: date,
) -> LandedUsage | None:
    """Read a file and put its days in place; None where it changed meanwhile."""
    modified = file.modified.isoformat() if file.modified else ""
    identity = _identity(cluster, file)
    try:
        with lake.workspace() as workspace, connect(engine, workspace / "spill") as connection:
            with store.local_root([file], workspace) as root:
                read = read_allocations(connection, cluster.name, cluster.cluster, root, file.key, workspace)
            if not store.pins and store.stat(file.key) != file:
                return None
            days = {day: each for day, each in read.days.items() if day >= first_day}
            for day in days:
                with lake.replacing(_slice(lake, cluster.name, file.key, day), blind=True) as target:
                    connection.execute(
                        f"COPY (SELECT {', '.join(COLUMNS)} FROM usage_rows WHERE charge_date = DATE {literal(str(day))})"
                        f" TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)"
                    )
    except FileChanged:
        return None
    except DeliveryRefused as refusal:
        end_if_interrupted()
        kept = before.days if before else {}
        return LandedUsage(file.key, identity, modified, now().isoformat(), kept, str(refusal))
    except StoreError as error:
        raise FinopsError(f"clusters: {cluster.name!r}, file {file.key}: {error}") from error
    return LandedUsage(file.key, identity, modified, now().isoformat(), days)


def _enter_days(lake: Lake, name: str, landed: Iterable[LandedUsage], days: Iterable[date]) -> set[date]:
    """Write down of these days which files hold them, the newest last; returns those that hold something else now."""
    known = sorted(landed, key=lambda each: (each.modified, each.key))
    changed = set()
    for day in days:
        holding = [each for each in known if day in each.days]
        # The same rows under another name change nothing.
        fingerprint = "|".join(dict.fromkeys(each.days[day][1] for each in holding))
        before = usage_fingerprint(lake, name, day)
        body = {"files": [each.key for each in holding], "fingerprint": sha256(fingerprint.encode()).hexdigest()[:16]}
        if lake.read_record(_ledger(name), "days", day.isoformat()) != body:
            lake.write_record(body, _ledger(name), "days", day.isoformat())
        if (body["fingerprint"] if holding else None) != before:
            changed.add(day)
    return changed


def _ledger(name: str) -> str:
    # No source can have this name: a point is not allowed in one.
    return f"usage.{name}"


def _slice(lake: Lake, name: str, key: str, day: date) -> Path:
    folder = lake.root / "usage" / f"name={name}" / f"file={sha256(key.encode()).hexdigest()[:24]}"
    return folder / f"charge_date={day}" / DATA
