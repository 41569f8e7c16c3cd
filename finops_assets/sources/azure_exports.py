"""Azure Cost Management exports: the path is no contract, the manifest is.

Source of the rules: Microsoft, "Tutorial: Create and manage Cost Management exports" and the finops
toolkit's notes on data processing. Every run writes its own manifest.json, formerly _manifest.json; of
several runs for one period the one submitted last counts. Files are checked against the byte counts that the manifest states.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from finops_assets.sources.delivery import Delivery, named_files, read_manifest, unreadable, utc
from finops_assets.sources.listing import ListedStore
from finops_assets.sources.store import Store

FOCUS = "FocusCost"
_FIRST = datetime.min.replace(tzinfo=UTC)
_PERIOD = re.compile(r"\d{4}-\d{2}")
_EXPORTS = "/providers/Microsoft.CostManagement/exports/"


def deliveries(store: ListedStore) -> Iterator[Delivery]:
    """The newest run of every billing period and billing scope."""
    to_read, resting = store.to_read(store.list(suffix="manifest.json"))
    older = [(m.key, m.etag) for m in resting if not (store.unchanged(m) or ("", ""))[1]]
    if not to_read:
        for manifest in resting:
            _, generation, scope = store.unchanged(manifest) or ("", "", "")
            if generation:
                yield Delivery(
                    scope=scope,
                    generation=generation,
                    files=(),
                    manifest=manifest.key,
                    manifest_etag=manifest.etag,
                    superseded=tuple(older),
                    unchanged=True,
                )
                older = []
        return
    newest: dict[tuple[str, str], tuple[tuple[bool, datetime], Delivery]] = {}
    for file in to_read:
        try:
            manifest_body = read_manifest(store, file.key)
            delivery = replace(_delivery(store, file.key, manifest_body), manifest_etag=file.etag)
            config = manifest_body.get("exportConfig") or {}
            # A one-time export of selected dates and the daily export of one scope are the same cost.
            account = str(config.get("resourceId") or "").partition(_EXPORTS)[0].casefold()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            yield unreadable(file.key, file.key, f"manifest {file.key} is not one of Azure exports: {error!r}")
            continue
        # An export of another dataset beside ours is not ours; alone it is a mistake worth telling.
        rank = (config.get("type") or FOCUS) == FOCUS, delivery.delivered_at or _FIRST
        held = newest.get((account, delivery.scope))
        if held is None or rank > held[0]:
            newest[account, delivery.scope] = rank, replace(delivery, export=account or "the billing scope")
            if held is not None:
                older.append((held[1].manifest or "", held[1].manifest_etag or ""))
        else:
            older.append((file.key, file.etag))
    focus = {delivery.scope for (is_focus, _), delivery in newest.values() if is_focus}
    older += [
        (d.manifest or "", d.manifest_etag or "")
        for (is_focus, _), d in newest.values()
        if not is_focus and d.scope in focus
    ]
    for (is_focus, _), delivery in newest.values():
        if is_focus or delivery.scope not in focus:
            # Who they lost to does not matter, only that they are remembered with what counts.
            yield replace(delivery, superseded=tuple(older))
            if not delivery.problems:
                older = []


def _delivery(store: Store, key: str, manifest: dict[str, Any]) -> Delivery:
    config, run = manifest.get("exportConfig") or {}, manifest["runInfo"]
    period = str(run["startDate"])[:7]
    if not _PERIOD.fullmatch(period):
        raise ValueError(f"startDate {run['startDate']!r} is not a date such as 2026-09-01T00:00:00")
    blobs = {_blob_key(store, str(b["blobName"]), key): b for b in manifest.get("blobs") or []}
    sizes = {k: int(b["byteCount"]) for k, b in blobs.items() if b.get("byteCount") is not None}
    files, problems = named_files(store, blobs, sizes)
    kind = config.get("type") or FOCUS
    if kind != FOCUS:
        problems += (
            f"the export's dataset is {kind!r}; create an export of type {FOCUS} (Cost and usage details, FOCUS)",
        )
    rows = None if manifest.get("dataRowCount") is None else int(manifest["dataRowCount"])
    if rows == 0:
        problems += (
            "the delivery is empty: its manifest says 0 rows; nothing was charged yet, or the export sees no cost",
        )
    return Delivery(
        scope=period,
        generation=str(run.get("runId") or key),
        files=files,
        delivered_at=utc(run.get("submittedTime")) or _FIRST,
        manifest=key,
        focus_version=_version(config.get("dataVersion")),
        expected_rows=rows,
        problems=problems,
    )


def _blob_key(store: Store, blob: str, manifest: str) -> str:
    """A blob's key below the root. Names are relative to the container; the root may lie deeper in it."""
    if store.stat(blob) is not None:
        return blob
    return f"{manifest.rpartition('/')[0]}/{blob.rpartition('/')[2]}".lstrip("/")


def _version(stated: object) -> str | None:
    text = str(stated or "")[:3]
    return text if text in {"1.0", "1.1", "1.2", "1.3", "1.4"} else None
