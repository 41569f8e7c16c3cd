"""Google: BigQuery EXPORT DATA into run folders, closed by our own manifest.json.

`billing_period=YYYY-MM/run=<id>/shard-*.parquet`. BigQuery writes no manifest and leaves surplus shards
of an earlier export in place, so each export gets its own folder and closes it with `manifest.json`:
{"run", "exported_at", "row_count", "files": [{"name", "size", "rows"}]}. A scheduled query knows no names
and sizes of files and cannot choose a file's whole name: it exports one row {"exported_at", "row_count"}
to `manifest-*.json`, and all files of the run's own folder count, by their number of rows. Where no run
has either, a folder that rested for `quiet_minutes` counts, unverified.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from finops_assets.base.uris import is_data
from finops_assets.ingest.layouts.delivery import (
    MALFORMED,
    Delivery,
    named_files,
    not_still,
    read_manifest,
    unreadable,
    utc,
)
from finops_assets.ingest.layouts.listing import ListedStore
from finops_assets.storage.stores.store import StoredFile

_RUN = r"(?P<folder>(?P<export>(?:.*/)?)billing_period=(?P<period>\d{4}-\d{2})/run=(?P<run>[^/]+))"
_MANIFEST = re.compile(rf"{_RUN}/manifest(?P<shard>-\d+)?\.json", re.IGNORECASE)
_DATA = re.compile(rf"{_RUN}/[^/]+", re.IGNORECASE)
_FIRST = datetime.min.replace(tzinfo=UTC)


def deliveries(store: ListedStore, quiet_minutes: int = 0, now: datetime | None = None) -> Iterator[Delivery]:
    """The newest finished run of every billing period."""
    groups: dict[tuple[str, str], list[StoredFile]] = {}
    for file in store.list(suffix=".json"):
        found = _MANIFEST.fullmatch(file.key)
        if found is not None and (file.size or not found["shard"]):
            groups.setdefault(_group(found), []).append(file)
    for (export, period), manifests in groups.items():
        yield from _newest(store, export, period, manifests)
    # An export that writes manifests finishes with one; a folder without it is a run that broke off.
    closed = {export for export, _ in groups}
    yield from _unclosed(store, closed, quiet_minutes, now or datetime.now(UTC))


def _group(found: re.Match[str]) -> tuple[str, str]:
    """The export that a run belongs to, and its billing period."""
    return found["export"].lower() or "/", found["period"]


def _newest(store: ListedStore, export: str, period: str, manifests: list[StoredFile]) -> Iterator[Delivery]:
    def theirs(key: str) -> bool:
        found = _MANIFEST.fullmatch(key)
        return found is not None and _group(found) == (export, period)

    to_read, resting = store.to_read(manifests, theirs)
    older = [(m.key, m.etag) for m in resting if not (store.unchanged(m) or ("", ""))[1]]
    newest: Delivery | None = None
    for manifest in resting if not to_read else ():
        generation = (store.unchanged(manifest) or ("", ""))[1]
        if generation:
            newest = Delivery(
                scope=period,
                generation=generation,
                files=(),
                manifest=manifest.key,
                manifest_etag=manifest.etag,
                unchanged=True,
            )
    for manifest in to_read:
        delivery = _closed(store, manifest, period)
        if delivery.generation == "unreadable":
            yield delivery
        elif newest is None or (delivery.delivered_at or _FIRST) > (newest.delivered_at or _FIRST):
            if newest is not None:
                older.append((newest.manifest or "", newest.manifest_etag or ""))
            newest = delivery
        else:
            older.append((manifest.key, manifest.etag))
    if newest is not None:
        yield replace(newest, export=export, superseded=tuple(older))


def _closed(store: ListedStore, file: StoredFile, period: str) -> Delivery:
    folder = file.key.rpartition("/")[0]
    try:
        manifest = read_manifest(store, file.key)
        rows = None if manifest.get("row_count") is None else int(manifest["row_count"])
        if rows is not None and "files" not in manifest:
            below = (f for f in store.list(f"{folder}/") if "/" not in f.key[len(folder) + 1 :])
            sizes = {f.key: f.size for f in below if is_data(f.key)}
        else:
            sizes = {f"{folder}/{f['name']}": int(f["size"]) for f in manifest["files"]}
    except MALFORMED as error:
        return unreadable(period, file.key, f"manifest {file.key} is not ours: {error!r}")
    files, problems = named_files(store, sizes, sizes)
    if rows == 0:
        problems += ("the delivery is empty: its manifest says 0 rows; look at what the scheduled query selects",)
    return Delivery(
        scope=period,
        generation=folder.rpartition("=")[2],
        files=files,
        delivered_at=utc(manifest.get("exported_at")),
        manifest=file.key,
        manifest_etag=file.etag,
        expected_rows=rows,
        problems=problems,
    )


def _unclosed(store: ListedStore, closed: set[str], quiet_minutes: int, now: datetime) -> Iterator[Delivery]:
    """The newest run of each period of exports that write no manifests at all."""
    runs: dict[tuple[str, str], dict[str, list[StoredFile]]] = {}
    for file in store.list():
        found = _DATA.fullmatch(file.key)
        if found is not None and is_data(file.key) and _group(found)[0] not in closed:
            runs.setdefault(_group(found), {}).setdefault(found["folder"], []).append(file)
    for (export, period), folders in runs.items():
        candidates = [_unverified(*item, period, export, quiet_minutes, now) for item in folders.items()]
        candidates.sort(key=lambda d: (d.delivered_at or _FIRST, d.generation), reverse=True)
        # While the newest run is being written the one before it counts.
        yield next((d for d in candidates if not d.problems), candidates[0])


def _unverified(
    folder: str, files: list[StoredFile], period: str, export: str, quiet_minutes: int, now: datetime
) -> Delivery:
    if quiet_minutes:
        problems = not_still(files, quiet_minutes, now)
    else:
        problems = (
            f"{folder} has {len(files)} files and no manifest.json, so it may not be finished; let the export write one"
            " last (docs/guides/providers/gcp.md), or set quiet_minutes on the source",
        )
    return Delivery(
        scope=period,
        generation=folder.rpartition("=")[2],
        files=tuple(files),
        delivered_at=max(f.modified or _FIRST for f in files),
        problems=problems,
        export=export,
        verified=False,
    )
