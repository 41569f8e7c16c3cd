"""The UTC days, and how many of them one run of a backfill takes."""

from __future__ import annotations

from datetime import date

import dagster as dg


def utc_days(first_day: date) -> dg.DailyPartitionsDefinition:
    """One partition per UTC charge day from `first_day` to yesterday."""
    return dg.DailyPartitionsDefinition(start_date=first_day.isoformat(), timezone="UTC")


# A backfill works a month a run: set-based within it, and a run that fails leaves the other months alone.
RANGE_RUNS = dg.BackfillPolicy.multi_run(max_partitions_per_run=31)
