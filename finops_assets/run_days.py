"""Which days a run is about, however it was started."""

from __future__ import annotations

from datetime import date

import dagster as dg


def run_days(context: dg.OpExecutionContext) -> list[date]:
    """The partition keys of a run, one or a range, as days in order."""
    keys = context.partition_keys if context.has_partition_key_range else [context.partition_key]
    return sorted(date.fromisoformat(key) for key in keys)
