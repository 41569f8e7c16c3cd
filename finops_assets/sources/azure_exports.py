"""Azure Cost Management exports: the path is no contract, the manifest is.

Source of the rules: Microsoft, "Tutorial: Create and manage Cost Management exports" and the finops
toolkit's notes on data processing. Every run writes its own manifest.json, formerly _manifest.json; of
several runs for one period the one submitted last counts. Files are checked against the byte counts that the manifest states.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from finops_assets.sources.delivery import Delivery, named_files, read_manifest, unreadable, utc
from finops_assets.sources.listing import ListedStore
from finops_assets.sources.metadata import version_of
from finops_assets.sources.store import Store

FOCUS = "FocusCost"
ACTUAL, AMORTIZED = "ActualCost", "AmortizedCost"
_COMPANION = "read with another"
# Two exports of one night are minutes apart; one that was stopped never comes.
_ONE_NIGHT = timedelta(hours=6)
_FIRST = datetime.min.replace(tzinfo=UTC)
_PERIOD = re.compile(r"\d{4}-\d{2}")
_EXPORTS = "/providers/Microsoft.CostManagement/exports/"


def deliveries(store: ListedStore, native: bool = False, now: datetime | None = None) -> Iterator[Delivery]:
    """The newest run of every billing period and billing scope; if `native`, of actual and amortised cost together."""
    wanted = (ACTUAL, AMORTIZED) if native else (FOCUS,)
    to_read, resting = store.to_read(store.list(suffix="manifest.json"))
    known = {m: store.unchanged(m) or ("", "", "") for m in resting}
    older = [(m.key, m.etag) for m, (_, generation, _) in known.items() if not generation]
    if not to_read:
        for manifest, (_, generation, scope) in known.items():
            if generation and generation != _COMPANION:
                with_it = [(m.key, m.etag) for m, (_, g, s) in known.items() if (g, s) == (_COMPANION, scope)]
                yield Delivery(
                    scope=scope,
                    generation=generation,
                    files=(),
                    manifest=manifest.key,
                    manifest_etag=manifest.etag,
                    superseded=tuple(older),
                    companions=tuple(with_it),
                    unchanged=True,
                )
                older = []
        return
    newest: dict[tuple[str, str, str], tuple[datetime, Delivery]] = {}
    for file in to_read:
        try:
            manifest_body = read_manifest(store, file.key)
            config = manifest_body.get("exportConfig") or {}
            kind = str(config.get("type") or wanted[0])
            delivery = replace(_delivery(store, file.key, manifest_body, wanted), manifest_etag=file.etag)
            # A one-time export of selected dates and the daily export of one scope are the same cost.
            account = str(config.get("resourceId") or "").partition(_EXPORTS)[0].casefold()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            yield unreadable(file.key, file.key, f"manifest {file.key} is not one of Azure exports: {error!r}")
            continue
        submitted = delivery.delivered_at or _FIRST
        place = account, delivery.scope, kind if kind in wanted else ""
        held = newest.get(place)
        if held is None or submitted > held[0]:
            newest[place] = submitted, replace(delivery, export=account or "the billing scope")
            if held is not None:
                older.append((held[1].manifest or "", held[1].manifest_etag or ""))
        else:
            older.append((file.key, file.etag))
    # An export of another dataset beside ours is not ours; alone it is a mistake worth telling.
    ours = {scope for _, scope, kind in newest if kind}
    strangers = [d for (_, scope, kind), (_, d) in newest.items() if not kind and scope in ours]
    older += [(d.manifest or "", d.manifest_etag or "") for d in strangers]
    found: dict[tuple[str, str], dict[str, Delivery]] = {}
    for (account, scope, kind), (_, delivery) in newest.items():
        if kind or scope not in ours:
            found.setdefault((account, scope), {})[kind] = delivery
    for sets in found.values():
        whole = _together(sets, now or datetime.now(UTC)) if native and "" not in sets else next(iter(sets.values()))
        # Who they lost to does not matter, only that they are remembered with what counts.
        yield replace(whole, superseded=tuple(older))
        if not whole.problems:
            older = []


def _together(sets: dict[str, Delivery], now: datetime) -> Delivery:
    """The actual and the amortised run of a billing period as one delivery: neither is whole without the other."""
    actual, amortized = sets.get(ACTUAL), sets.get(AMORTIZED)
    if actual is None or amortized is None:
        [(there, delivery)] = sets.items()
        missing = AMORTIZED if there == ACTUAL else ACTUAL
        waits = f"{missing} of {delivery.scope} is not there, only {there}; create an export of type {missing} of the"
        return replace(delivery, problems=(*delivery.problems, f"{waits} same scope below the same uri, or run it"))
    problems = (*actual.problems, *amortized.problems)
    first, last = sorted((actual, amortized), key=lambda d: d.delivered_at or _FIRST)
    apart = (last.delivered_at or _FIRST) - (first.delivered_at or _FIRST)
    if apart > _ONE_NIGHT and now - (last.delivered_at or _FIRST) < _ONE_NIGHT:
        problems += (
            f"{last.manifest} was submitted at {last.delivered_at:%Y-%m-%d %H:%M} UTC, and the other set's newest run,"
            f" {first.manifest}, {apart.total_seconds() / 3600:.0f} hours before: its new run is waited for",
        )
    rows = actual.expected_rows, amortized.expected_rows
    return replace(
        actual,
        generation=f"{actual.generation}+{amortized.generation}",
        files=(*actual.files, *amortized.files),
        delivered_at=last.delivered_at,
        expected_rows=None if rows[0] is None or rows[1] is None else rows[0] + rows[1],
        problems=problems,
        datasets=(*((f.key, ACTUAL) for f in actual.files), *((f.key, AMORTIZED) for f in amortized.files)),
        companions=((amortized.manifest or "", amortized.manifest_etag or ""),),
    )


def companions_known(delivery: Delivery) -> dict[str, tuple[str, str, str]]:
    """What to remember of the further manifests of a delivery: they are read again when any of its manifests changes."""
    return {key: (etag, _COMPANION, delivery.scope) for key, etag in delivery.companions}


def _delivery(store: Store, key: str, manifest: dict[str, Any], wanted: tuple[str, ...]) -> Delivery:
    config, run = manifest.get("exportConfig") or {}, manifest["runInfo"]
    period = str(run["startDate"])[:7]
    if not _PERIOD.fullmatch(period):
        raise ValueError(f"startDate {run['startDate']!r} is not a date such as 2026-09-01T00:00:00")
    blobs = {_blob_key(store, str(b["blobName"]), key): b for b in manifest.get("blobs") or []}
    sizes = {k: int(b["byteCount"]) for k, b in blobs.items() if b.get("byteCount") is not None}
    files, problems = named_files(store, blobs, sizes)
    kind = config.get("type") or wanted[0]
    if kind not in wanted:
        advice = f"create an export of type {' and one of type '.join(wanted)}"
        if kind in (ACTUAL, AMORTIZED):
            advice += " (Cost and usage details, FOCUS), or set layout: azure-actual-amortized to have it converted"
        elif kind == FOCUS:
            advice = "set layout: azure-exports"
        problems += (f"the export's dataset is {kind!r}; {advice}",)
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
        focus_version=version_of(config.get("dataVersion")),
        expected_rows=rows,
        problems=problems,
    )


def _blob_key(store: Store, blob: str, manifest: str) -> str:
    """A blob's key below the root. Names are relative to the container; the root may lie deeper in it."""
    if store.stat(blob) is not None:
        return blob
    return f"{manifest.rpartition('/')[0]}/{blob.rpartition('/')[2]}".lstrip("/")
