"""FOCUS 1.3 recency metadata: the side file in which a provider says which charge time is complete.

The specification's own examples break its rules (another key for the time, `Dataset` for
`DatasetInstanceId`, hours without a leading zero), so the reading is tolerant. A provider need not
write the file; where there is none, nothing is claimed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from finops_assets.ingest.layouts.delivery import utc
from finops_assets.ingest.layouts.listing import ListedStore, json_of
from finops_assets.storage.scope import Sector

_SHORT_HOUR = re.compile(r"T(\d):")
_ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))


def recency_sectors(store: ListedStore) -> tuple[Sector, ...]:
    """The sectors of every `recency*.json` that the layout's look has met; empty where the provider writes none.

    No request is made to search for them: hardly any provider writes them.

    Raises:
        ValueError: if such a file is there and cannot be understood.
    """
    sectors: list[Sector] = []
    for file in sorted(store.seen.values(), key=lambda f: f.key):
        name = file.key.rsplit("/", 1)[-1].lower()
        if not name.startswith("recency") or not name.endswith(".json"):
            continue
        try:
            parsed = json_of(store.read(file.key))
        except ValueError as error:
            raise ValueError(f"recency file {file.key} is not JSON: {error}") from error
        items = parsed.get("Recency", parsed) if isinstance(parsed, dict) else parsed
        for item in items if isinstance(items, list) else [items]:
            if not isinstance(item, dict):
                raise ValueError(f"recency file {file.key} holds {item!r} where an object is due")
            sectors += _sectors(item, file.key)
    return tuple(sectors)


def _sectors(item: dict[str, Any], key: str) -> list[Sector]:
    if "TimeSectors" not in item:
        if "DatasetInstanceComplete" not in item:
            raise ValueError(f"recency file {key} has neither TimeSectors nor DatasetInstanceComplete")
        return [Sector(*_ALWAYS, complete=bool(item["DatasetInstanceComplete"]))]
    sectors = []
    if not isinstance(item["TimeSectors"], list):
        raise ValueError(f"recency file {key} has TimeSectors that are no list: {item['TimeSectors']!r}")
    for sector in item["TimeSectors"]:
        if not isinstance(sector, dict):
            raise ValueError(f"recency file {key} has a time sector that cannot be read: {sector!r}")
        start = utc(_SHORT_HOUR.sub(r"T0\1:", str(sector.get("TimeSectorStart"))))
        end = utc(_SHORT_HOUR.sub(r"T0\1:", str(sector.get("TimeSectorEnd"))))
        if start is None or end is None or "TimeSectorComplete" not in sector:
            raise ValueError(f"recency file {key} has a time sector that cannot be read: {sector}")
        sectors.append(Sector(start, end, complete=bool(sector["TimeSectorComplete"])))
    return sectors
