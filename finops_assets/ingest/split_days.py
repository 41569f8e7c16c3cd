"""What the days of a delivery come to once it is split: rows, cost, a fingerprint, and a sample of their rows."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path

import duckdb

from finops_assets.base.spread import Spread
from finops_assets.base.sql import identifier, literal
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.ingest.reading.export_table import all_columns
from finops_assets.ingest.same_charges import SAMPLE, Sample
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import by_day, connect, one_file
from finops_assets.storage.ledger import DayTotals

SplitDays = dict[date, tuple[DayTotals, Sample]]


def split_days(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    also: Sequence[str] = (),
    spread: tuple[Spread, EngineSettings] | None = None,
) -> SplitDays:
    """What every charge day below a folder of slices comes to.

    The fingerprint is a sum of row hashes over the FOCUS columns and `also`: it does not depend on the
    order of rows, nor on where they lay or when they were exported. A column of `also` without a value
    is as none. `spread`: who reads each day elsewhere, within these bounds.
    """
    days = sorted(folder.glob("charge_date=*"))
    if not days:
        return {}
    if spread:
        elsewhere, bounds = spread
        return {day: what for found in elsewhere(partial(_one_day, bounds, also), days) for day, what in found.items()}
    return _read(connection, f"{one_file(folder)}/charge_date=*/*.parquet", also)


def _one_day(bounds: EngineSettings, also: Sequence[str], day: Path) -> SplitDays:
    with connect(bounds, day.parent.with_name(f"{day.name}.{uuid.uuid4().hex}.spill")) as connection:
        return _read(connection, f"{one_file(day)}/*.parquet", also)


def _read(connection: duckdb.DuckDBPyConnection, files: str, also: Sequence[str]) -> SplitDays:
    others = [
        f"CAST(CASE WHEN {identifier(n)} IS NULL THEN 0"
        f" ELSE hash({literal(n.casefold())}, CAST({identifier(n)} AS VARCHAR)) END AS HUGEINT)"
        for n in also
    ]
    hashed = ", ".join([*(column.name for column in all_columns()), " + ".join(["0::HUGEINT", *others])])
    result: SplitDays = {}
    for day, currency, count, billed, effective, fingerprint, rows, charges in connection.execute(
        f"""
        SELECT charge_date, coalesce(BillingCurrency, ''), count(*),
            coalesce(sum(BilledCost), 0), coalesce(sum({EFFECTIVE}), 0),
            sum(CAST(hash({hashed}) AS HUGEINT)), {", ".join(SAMPLE)}
        FROM {by_day(literal(files))} GROUP BY 1, 2 ORDER BY 1, 2
        """
    ).fetchall():
        before, sample = result.get(day) or (DayTotals(0, {}, {}, ""), Sample((), ()))
        totals = DayTotals(
            before.rows + count,
            {**before.billed, currency: Decimal(billed)},
            {**before.effective, currency: Decimal(effective)},
            before.fingerprint + f"{count:x}.{fingerprint:x};",
        )
        result[day] = totals, sample.joined(Sample.of(rows, charges))
    return result
