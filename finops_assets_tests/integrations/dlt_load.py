"""Run by dlt's Python: load FOCUS rows into a folder, as a pipeline of somebody does. Arguments: a JSON object."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from decimal import Decimal

import dlt

told = json.loads(sys.argv[1])
MONEY = {"data_type": "decimal", "precision": 38, "scale": 18}
HINTS = {
    "BilledCost": MONEY,
    "EffectiveCost": MONEY,
    "ListCost": MONEY,
    "ContractedCost": MONEY,
    "Tags": {"data_type": "json"},
}


def typed(name: str, value: str | None) -> object:
    """Values as a pipeline has them: money as decimals, times as times, tags as objects."""
    if not value:
        return None
    if name in HINTS:
        return json.loads(value) if name == "Tags" else Decimal(value)
    return datetime.fromisoformat(value) if name.endswith(("Start", "End")) else value


@dlt.resource(name=told["table"], write_disposition=told["disposition"], columns=HINTS, max_table_nesting=0)
def bill():  # type: ignore[no-untyped-def]
    for row in told["rows"]:
        yield {name: typed(name, value) for name, value in row.items()}


pipeline = dlt.pipeline(
    "bill",
    destination=dlt.destinations.filesystem(bucket_url=told["bucket"]),
    dataset_name="billing",
    pipelines_dir=told["state"],
)
pipeline.run(bill())
print(
    json.dumps({"snake": {name: pipeline.default_schema.naming.normalize_identifier(name) for name in told["names"]}})
)
