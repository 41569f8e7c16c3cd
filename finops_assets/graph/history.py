"""Dagster's history, read page by page."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg


def events_of(instance: dg.DagsterInstance, run_id: str, *kinds: dg.DagsterEventType) -> Iterator[dg.EventLogEntry]:
    """The entries of a run that are events of these kinds, oldest first."""
    cursor: str | None = None
    while True:
        page = instance.get_records_for_run(run_id, cursor=cursor, of_type=set(kinds))
        yield from (r.event_log_entry for r in page.records if r.event_log_entry.dagster_event is not None)
        if not page.has_more:
            return
        cursor = page.cursor
