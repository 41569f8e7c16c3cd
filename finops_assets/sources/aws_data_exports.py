"""AWS Data Exports: `data/<partition>/` and `metadata/<partition>/…-Manifest.json`, month by month.

Source of the rules: AWS, "Understanding export delivery" (Data Exports user guide). The manifest that
lies directly in the partition's metadata folder is the newest refresh in both delivery modes and is
written after the data, so it alone is read, and `data/` is never listed: overwrite mode leaves surplus
chunks behind. The partition folder is BILLING_PERIOD= in the guide and billing_period= in the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from finops_assets.sources.delivery import Delivery, named_files, read_manifest, unreadable
from finops_assets.sources.store import Store

_PARTITION_MANIFEST = re.compile(
    r"(?P<export>.*)metadata/billing_period=(?P<period>\d{4}-\d{2})/[^/]+-Manifest\.json$", re.IGNORECASE
)


def deliveries(store: Store) -> Iterator[Delivery]:
    """The newest delivery of every billing period."""
    for file in store.list(suffix="-Manifest.json"):
        found = _PARTITION_MANIFEST.fullmatch(file.key)
        if found is None:
            continue
        period = found["period"]
        try:
            manifest = read_manifest(store, file.key)
            keys = [_key(item, found["export"]) for item in manifest.get("dataFiles") or manifest["reportKeys"]]
        except (ValueError, KeyError, TypeError) as error:
            yield unreadable(period, file.key, f"manifest {file.key} is not one of AWS Data Exports: {error!r}")
            continue
        files, problems = named_files(store, keys)
        problems += tuple(f"file {f.key} is empty (0 bytes)" for f in files if f.size == 0)
        yield Delivery(
            scope=period,
            generation=str(manifest.get("executionId") or file.etag),
            files=files,
            manifest=file.key,
            problems=problems,
        )


def _key(item: object, export: str) -> str:
    """A data file's key below the root. Manifests give s3:// addresses; the root may be any copy of the bucket."""
    if isinstance(item, dict):
        item = item.get("s3Uri") or item.get("key") or item.get("relativePath") or ""
    uri = str(item)
    at = re.search(r"(?:^|/)data/billing_period=", uri, re.IGNORECASE)
    if at is None:
        raise ValueError(f"data file {uri!r} does not lie in a data/BILLING_PERIOD= folder")
    return export + uri[at.start() :].lstrip("/")
