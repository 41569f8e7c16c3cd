"""Google: BigQuery EXPORT DATA into run folders, closed by our own manifest.json.

`billing_period=YYYY-MM/run=<id>/shard-*.parquet`. BigQuery writes no manifest and leaves surplus shards
of an earlier export in place, so each export gets its own folder and the scheduled query writes
`manifest.json` last: {"run", "exported_at", "row_count", "files": [{"name", "size", "rows"}]}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from finops_assets.sources.delivery import Delivery, named_files, read_manifest, unreadable, utc
from finops_assets.sources.store import Store

_MANIFEST = re.compile(
    r"(?P<folder>(?:.*/)?billing_period=(?P<period>\d{4}-\d{2})/run=(?P<run>[^/]+))/manifest\.json$", re.IGNORECASE
)
_FIRST = datetime.min.replace(tzinfo=UTC)


def deliveries(store: Store) -> Iterator[Delivery]:
    """The newest finished run of every billing period; a run without a manifest is not finished."""
    newest: dict[tuple[str, str], Delivery] = {}
    for file in store.list(suffix="/manifest.json"):
        found = _MANIFEST.fullmatch(file.key)
        if found is None:
            continue
        period, folder = found["period"], found["folder"]
        export = folder.lower().rpartition("billing_period=")[0]
        try:
            manifest = read_manifest(store, file.key)
            sizes = {f"{folder}/{f['name']}": int(f["size"]) for f in manifest["files"]}
            rows = manifest.get("row_count")
            expected_rows = None if rows is None else int(rows)
        except (ValueError, KeyError, TypeError) as error:
            yield unreadable(period, file.key, f"manifest {file.key} is not ours: {error!r}")
            continue
        files, problems = named_files(store, sizes, sizes)
        delivery = Delivery(
            scope=period,
            generation=found["run"],
            files=files,
            delivered_at=utc(manifest.get("exported_at")),
            manifest=file.key,
            expected_rows=expected_rows,
            problems=problems,
        )
        held = newest.get((export, period))
        if held is None or (delivery.delivered_at or _FIRST) > (held.delivered_at or _FIRST):
            newest[export, period] = delivery
    yield from newest.values()
