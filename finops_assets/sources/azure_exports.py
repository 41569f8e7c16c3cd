"""Azure Cost Management exports: the path is no contract, the manifest is.

Source of the rules: Microsoft, "Tutorial: Create and manage Cost Management exports" and the finops
toolkit's notes on data processing. Every run writes its own manifest.json; of several runs for one
period the one submitted last counts. Files are checked against the byte counts that the manifest states.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from finops_assets.sources.delivery import Delivery, named_files, read_manifest, unreadable, utc
from finops_assets.sources.store import Store

_FIRST = datetime.min.replace(tzinfo=UTC)


def deliveries(store: Store) -> Iterator[Delivery]:
    """The newest run of every billing period."""
    newest: dict[str, tuple[datetime, str, dict[str, Any]]] = {}
    for file in store.list(suffix="manifest.json"):
        try:
            manifest = read_manifest(store, file.key)
            run = manifest["runInfo"]
            period, submitted = str(run["startDate"])[:7], utc(run.get("submittedTime")) or _FIRST
        except (ValueError, KeyError, TypeError) as error:
            yield unreadable(file.key, file.key, f"manifest {file.key} is not one of Azure exports: {error!r}")
            continue
        if period not in newest or submitted > newest[period][0]:
            newest[period] = submitted, file.key, manifest
    for period, (submitted, key, manifest) in sorted(newest.items()):
        yield _delivery(store, period, submitted, key, manifest)


def _delivery(store: Store, period: str, submitted: datetime, key: str, manifest: dict[str, Any]) -> Delivery:
    config = manifest.get("exportConfig", {})
    blobs = {_blob_key(store, str(b["blobName"]), key): b for b in manifest.get("blobs", [])}
    sizes = {k: int(b["byteCount"]) for k, b in blobs.items() if b.get("byteCount") is not None}
    files, problems = named_files(store, blobs, sizes)
    if config.get("type") and config["type"] != "FocusCost":
        problems += (
            f"the export's dataset is {config['type']!r}; create an export of type FocusCost"
            " (Cost and usage details, FOCUS)",
        )
    rows = manifest.get("dataRowCount")
    return Delivery(
        scope=period,
        generation=str(manifest["runInfo"].get("runId") or key),
        files=files,
        delivered_at=submitted,
        manifest=key,
        focus_version=_version(config.get("dataVersion")),
        expected_rows=None if rows is None else int(rows),
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
