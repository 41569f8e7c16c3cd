"""Days that Dagster's history calls built, and that this host's warehouse does not hold as the lake has them.

Lake and history may be shared by hosts, a warehouse is one file: a day that a host built into a warehouse of its own is
missing in every other one. It is known by the ledger, which is the lake's and holds the totals of each raw day.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from finops_assets.base.errors import WarehouseError
from finops_assets.cost.rollup import ROLLUP_TABLE, rollup_totals
from finops_assets.ingest.raw_days import sum_totals
from finops_assets.platform import Platform
from finops_assets.storage.ledger import DayTotals, Ledger

SHOWN = 5


def differing(platform: Platform, days: Iterable[date]) -> list[date]:
    """Those of these days whose rows or cost in the rollup are not those of the ledger: other days, or older ones."""
    wanted = sorted(days)
    held = rollup_totals(platform.warehouse, wanted) if wanted else {}
    found = []
    for day, totals in _in_ledger(platform, wanted).items():
        of_day = held.get(day, {})
        here = (
            sum(rows for rows, _, _ in of_day.values()),
            {currency: billed for currency, (_, billed, _) in of_day.items()},
            {currency: effective for currency, (_, _, effective) in of_day.items()},
        )
        if here != (totals.rows, totals.billed, totals.effective):
            found.append(day)
    return found


def require_none_missing(platform: Platform, built: Iterable[date]) -> None:
    """Nothing is published from a warehouse that lacks days which the history calls built.

    Raises:
        WarehouseError: it names them, and what to do.
    """
    with platform.warehouse.reading() as connection:
        there = platform.warehouse.has(connection, ROLLUP_TABLE)
        found = connection.execute(f"SELECT DISTINCT charge_date FROM {ROLLUP_TABLE}").fetchall() if there else []
    absent = sorted(set(built) - {day for (day,) in found})
    missing = [day for day, totals in _in_ledger(platform, absent).items() if totals.rows]
    if missing:
        named = ", ".join(map(str, missing[:SHOWN])) + (f" and {len(missing) - SHOWN} more" if missing[SHOWN:] else "")
        raise WarehouseError(
            f"warehouse {platform.warehouse.path}: lacks days that Dagster's history calls built ({named}),"
            f" so nothing was published and the published copy stands as it was. They were built into another"
            " warehouse: let all hosts that share this history write one (docs/guides/deployment.md), or have this one catch up"
            f" with: finops backfill {missing[0]} {date.fromordinal(missing[-1].toordinal() + 1)}"
        )


def _in_ledger(platform: Platform, days: Iterable[date]) -> dict[date, DayTotals]:
    lake = platform.lake
    ledgers = [Ledger(lake, source) for source in platform.source_names]
    return {day: sum_totals([t for ledger in ledgers if (t := ledger.day_totals(day))]) for day in days}
