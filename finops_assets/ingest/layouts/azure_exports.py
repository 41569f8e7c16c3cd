"""Azure Cost Management exports: the path is no contract, the manifest is.

Source of the rules: Microsoft, "Tutorial: Create and manage Cost Management exports" and the finops
toolkit's notes on data processing. Every run writes its own manifest.json, formerly _manifest.json; of
several runs for one month the one that reaches furthest counts, of these the one submitted last: an export of
selected days is no newer month. Days that are not of one month from its first on are a scope of their own, and
wait where another run holds days of theirs. Files are checked against the byte counts that the manifest states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import unquote

from finops_assets.ingest.layouts.delivery import (
    MALFORMED,
    Delivery,
    named_files,
    outside,
    read_manifest,
    unreadable,
    utc,
)
from finops_assets.ingest.layouts.listing import ListedStore
from finops_assets.ingest.layouts.metadata import version_of
from finops_assets.storage.scope import scope_days, scope_month
from finops_assets.storage.stores.store import Store

FOCUS = "FocusCost"
ACTUAL, AMORTIZED = "ActualCost", "AmortizedCost"
_COMPANION = "read with another"
# Two exports of one night are minutes apart; one that was stopped never comes.
_ONE_NIGHT = timedelta(hours=6)
_FIRST = datetime.min.replace(tzinfo=UTC)
_END_OF_DAY = time(23, 59)
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
    newest: dict[tuple[str, str, str], tuple[tuple[date, datetime], Delivery]] = {}
    for file in to_read:
        try:
            manifest_body = read_manifest(store, file.key)
            config = manifest_body.get("exportConfig") or {}
            kind = str(config.get("type") or wanted[0])
            delivery = replace(_delivery(store, file.key, manifest_body, wanted), manifest_etag=file.etag)
            # A one-time export of selected dates and the daily export of one scope are the same cost.
            account = str(config.get("resourceId") or "").partition(_EXPORTS)[0].casefold()
        except MALFORMED as error:
            yield unreadable(file.key, file.key, f"manifest {file.key} is not one of Azure exports: {error!r}")
            continue
        submitted = delivery.delivered_at or _FIRST
        # A month that is still running ends with the run: an export of its first days reaches less far.
        reaches = min(_days(manifest_body["runInfo"])[1], submitted.date()), submitted
        place = account, delivery.scope, kind if kind in wanted else ""
        held = newest.get(place)
        if held is None or reaches > held[0]:
            newest[place] = reaches, replace(delivery, export=account or "the billing scope")
            if held is not None:
                older.append((held[1].manifest or "", held[1].manifest_etag or ""))
        else:
            older.append((file.key, file.etag))
    # An export of another dataset beside ours is not ours; alone it is a mistake worth telling.
    ours = {scope for _, scope, kind in newest if kind}
    strangers = [d for (_, scope, kind), (_, d) in newest.items() if not kind and scope in ours]
    older += [(d.manifest or "", d.manifest_etag or "") for d in strangers]
    found: dict[tuple[str, str], dict[str, Delivery]] = {}
    for (account, scope, kind), delivery in _apart(newest).items():
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
        scope=_scope(*_days(run)),
        generation=str(run.get("runId") or key),
        files=files,
        delivered_at=utc(run.get("submittedTime")) or _FIRST,
        manifest=key,
        focus_version=version_of(config.get("dataVersion")),
        expected_rows=rows,
        problems=problems,
    )


def _days(run: dict[str, Any]) -> tuple[date, date]:
    """The first and the last day of a run; without an end, to the end of the month.

    A time is midnight somewhere: from noon on it is the start of the next day in a zone east of UTC.

    Raises:
        ValueError: it has no such dates.
    """
    first, last = (_moment(run, name) for name in ("startDate", "endDate"))
    if first is None:
        raise ValueError(f"startDate {run.get('startDate')!r} is not a date such as 2026-09-01T00:00:00")
    start = _nearest_day(first)
    month_end = (start.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    if last is None:
        return start, month_end
    end = last.date() if last.time() >= _END_OF_DAY else _nearest_day(last)
    # The first of a later month after a whole one is where it ends, not a day of it.
    if end.day == 1 and start.day == 1 and end > start:
        end -= timedelta(days=1)
    return start, max(start, end)


def _moment(run: dict[str, Any], name: str) -> datetime | None:
    text = run.get(name)
    moment = utc(str(text)) if text else None
    if text and moment is None:
        raise ValueError(f"{name} {text!r} is not a date such as 2026-09-01T00:00:00")
    return moment


def _nearest_day(moment: datetime) -> date:
    return (moment + timedelta(hours=12)).date()


def _scope(first: date, last: date) -> str:
    """The month, if the days are its first ones or all; else the days."""
    same = (first.year, first.month) == (last.year, last.month)
    return f"{first:%Y-%m}" if first.day == 1 and same else f"{first}..{last}"


def _apart(newest: Mapping[tuple[str, str, str], tuple[object, Delivery]]) -> dict[tuple[str, str, str], Delivery]:
    """The deliveries, of which those of other days than a month wait where one before them holds such days."""
    result: dict[tuple[str, str, str], Delivery] = {}
    for place, (_, delivery) in sorted(
        newest.items(), key=lambda item: (scope_month(item[0][1]) is None, item[1][1].delivered_at or _FIRST)
    ):
        account, scope, kind = place
        beside = [
            other
            for (theirs, at, which), other in result.items()
            if (theirs, which) == (account, kind) and at != scope and _overlap(at, scope)
        ]
        problems = tuple(
            f"{delivery.manifest} is an export of the days {scope.replace('..', ' to ')}, and"
            f" {other.manifest} holds days of these, too ({other.scope}); a day may count once. Take this one out by"
            f" `finops deliveries withdraw SOURCE {scope}`, or keep it from below the uri; what counts is an export of"
            " the month to date"
            for other in beside
        )
        result[place] = replace(delivery, problems=(*delivery.problems, *problems))
    return result


def _overlap(a: str, b: str) -> bool:
    one, other = scope_days(a), scope_days(b)
    return one is not None and other is not None and one[0] <= other[1] and other[0] <= one[1]


def _blob_key(store: Store, blob: str, manifest: str) -> str:
    """A blob's key below the root. Names are relative to the container; the root may lie deeper in it."""
    for name in (blob, unquote(blob)):
        if not outside(name) and store.stat(name) is not None:
            return name
    beside = f"{manifest.rpartition('/')[0]}/{blob.rpartition('/')[2]}".lstrip("/")
    return beside if store.stat(beside) is not None else unquote(beside)
