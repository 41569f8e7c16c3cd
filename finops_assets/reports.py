"""The three questions, asked of the rollup: what did each team spend, who is untagged, which services cost.

Every figure stands beside that of the same days of the period before. Amounts are per currency, which
are never added. Percentages are over positive effective cost, so that a credit cannot push coverage
over 100 %. Ends are exclusive; days are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal, get_args

import duckdb
import pandas as pd

from finops_assets.engine import days_between, identifier
from finops_assets.rollup import GROUPED, TABLE, UNKNOWN, UNTAGGED

TEAMS_BY = ("department", "team")
SERVICES_BY = ("ServiceCategory",)
CAN_GROUP_BY = ("charge_date", "provider", *GROUPED, "ServiceCategory")
UNTAGGED_DAYS = 30
Basis = Literal["effective", "billed", "accrued"]
"""What a cost is: accrued by the provider, cash, or accrued by day (charges longer than a day given to their days)."""


@dataclass(frozen=True)
class Period:
    """UTC days from `first` up to but not including `end`."""

    first: date
    end: date

    @property
    def before(self) -> Period:
        """The same days of the period before: of the month before for a month or its first days, else as many days."""
        if self.first.day == 1 and self.end <= _next_month(self.first):
            month = (self.first - timedelta(days=1)).replace(day=1)
            end = self.first if self.end == _next_month(self.first) else month + (self.end - self.first)
            return Period(month, min(end, self.first))
        return Period(self.first - (self.end - self.first), self.first)

    def __str__(self) -> str:
        return f"{self.first} to {self.end - timedelta(days=1)}"


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def latest_month(connection: duckdb.DuckDBPyConnection, rollup: str = TABLE) -> Period | None:
    """The month of the newest day in the rollup, up to and with that day; None where the rollup is empty."""
    last = _last_day(connection, rollup)
    return Period(last.replace(day=1), last + timedelta(days=1)) if last else None


def latest_days(connection: duckdb.DuckDBPyConnection, days: int = UNTAGGED_DAYS, rollup: str = TABLE) -> Period | None:
    """The last `days` days up to and with the newest day in the rollup."""
    last = _last_day(connection, rollup)
    return Period(last - timedelta(days=days - 1), last + timedelta(days=1)) if last else None


def _last_day(connection: duckdb.DuckDBPyConnection, rollup: str) -> date | None:
    row = connection.execute(f"SELECT max(charge_date) FROM {rollup}").fetchone()
    return row[0] if row else None


def missing_days(connection: duckdb.DuckDBPyConnection, period: Period, rollup: str = TABLE) -> list[date]:
    """The days of a period that the rollup has no figures for: held by a gate, or not run."""
    found = {
        day
        for (day,) in connection.execute(
            f"SELECT DISTINCT charge_date FROM {rollup} WHERE charge_date >= $first AND charge_date < $end",
            {"first": period.first, "end": period.end},
        ).fetchall()
    }
    return [day for day in days_between(period.first, period.end) if day not in found]


def cost_by(
    connection: duckdb.DuckDBPyConnection,
    period: Period,
    by: tuple[str, ...],
    rollup: str = TABLE,
    basis: Basis | None = None,
) -> pd.DataFrame:
    """Cost by some of the rollup's columns and currency, against the period before.

    Columns: by…, currency, the amounts (Decimal), change_percent, share_percent (of the currency's positive
    effective cost; float or NaN), row_count. The amounts are effective_cost, billed_cost and
    effective_cost_before; of one basis alone its cost and cost before: billed_cost (without shares, whose base
    is effective), effective_cost, or accrued_cost with apportioned_cost, the part of it that long charges
    gave to their days. For that `rollup` is `accrual.accrued_rollup()`. A missing day counts nothing.
    `rollup` is the table asked, or SQL of the rollup as of a day.

    Raises:
        ValueError: a column that the rollup is not grouped by, or no such basis.
    """
    unknown = [b for b in by if b not in CAN_GROUP_BY]
    if unknown:
        raise ValueError(f"found {', '.join(unknown)}; allowed: {', '.join(CAN_GROUP_BY)}")
    if basis is not None and basis not in get_args(Basis):
        raise ValueError(f"found {basis}; allowed: {', '.join(get_args(Basis))}")
    before = period.before
    keys = ", ".join(identifier(b) for b in by)
    now = "charge_date >= $first AND charge_date < $end"
    then = "charge_date >= $first_before AND charge_date < $end_before"
    # Grouped by day, the day of the period before is the one as many days earlier.
    day = (
        "charge_date" if "charge_date" not in by else f"CASE WHEN {now} THEN charge_date ELSE charge_date + $shift END"
    )
    selected = keys.replace('"charge_date"', f"{day} AS charge_date")
    cost = "billed_cost" if basis == "billed" else "effective_cost"
    name = f"{basis or 'effective'}_cost"
    beside = {None: ("billed_cost", now), "accrued": (cost, f"{now} AND is_apportioned")}.get(basis)
    second = f"coalesce(sum(CASE WHEN {beside[1]} THEN {beside[0]} END), 0)" if beside else "NULL"
    rows = connection.execute(
        f"""
        WITH grouped AS (
            SELECT {selected}, BillingCurrency AS currency,
                coalesce(sum(CASE WHEN {now} THEN {cost} END), 0) AS cost_now,
                {second} AS beside,
                coalesce(sum(CASE WHEN {then} THEN {cost} END), 0) AS cost_before,
                coalesce(sum(CASE WHEN {now} THEN positive_effective_cost END), 0) AS positive_cost,
                coalesce(sum(CASE WHEN {now} THEN row_count END), 0) AS row_count
            FROM {rollup}
            WHERE ({now}) OR ({then})
            GROUP BY ALL
        )
        SELECT {keys}, currency, cost_now, beside, cost_before, positive_cost,
            sum(positive_cost) OVER (PARTITION BY currency) AS all_positive, CAST(row_count AS BIGINT) AS row_count
        FROM grouped ORDER BY currency, {"charge_date" if "charge_date" in by else "cost_now DESC"}, {keys}
        """,
        {
            "first": period.first,
            "end": period.end,
            "first_before": before.first,
            "end_before": before.end,
            **({"shift": (period.first - before.first).days} if "charge_date" in by else {}),
        },
    ).fetchall()
    width = len(by) + 1
    table = pd.DataFrame(
        [
            (
                *row[: width + 3],
                percent(row[width] - row[width + 2], row[width + 2]),
                percent(row[width + 3], row[width + 4]),
                row[width + 5],
            )
            for row in rows
        ],
        columns=[
            *by,
            "currency",
            name,
            "apportioned_cost" if basis == "accrued" else "beside" if basis else "billed_cost",
            f"{name}_before",
            "change_percent",
            "share_percent",
            "row_count",
        ],
    )
    return table.drop(columns=["beside", *(["share_percent"] if basis == "billed" else [])], errors="ignore")


def untagged_by(
    connection: duckdb.DuckDBPyConnection,
    period: Period,
    by: tuple[str, ...] = ("provider",),
    rollup: str = TABLE,
) -> pd.DataFrame:
    """Share of positive effective cost without department, team and environment, against the period before.

    Columns: by…, currency, positive_effective_cost (Decimal), and for each of the three dimensions
    untagged_<dimension> (Decimal), untagged_<dimension>_percent and …_percent_before (float or NaN).

    Raises:
        ValueError: a column that the rollup is not grouped by.
    """
    unknown = [b for b in by if b not in CAN_GROUP_BY or b == "charge_date"]
    if unknown:
        raise ValueError(
            f"found {', '.join(unknown)}; allowed: {', '.join(c for c in CAN_GROUP_BY if c != 'charge_date')}"
        )

    def shares(span: Period) -> dict[tuple[object, ...], list[Decimal]]:
        keys = ", ".join(identifier(b) for b in by)
        sums = ", ".join(
            f"coalesce(sum(CASE WHEN {d} = '{UNKNOWN if d == 'environment' else UNTAGGED}'"
            " THEN positive_effective_cost END), 0)"
            for d in GROUPED
        )
        rows = connection.execute(
            f"SELECT {keys}, BillingCurrency, sum(positive_effective_cost), {sums} FROM {rollup}"
            " WHERE charge_date >= $first AND charge_date < $end GROUP BY ALL ORDER BY ALL",
            {"first": span.first, "end": span.end},
        ).fetchall()
        width = len(by) + 1
        return {row[:width]: list(row[width:]) for row in rows}

    now, then = shares(period), shares(period.before)
    result = []
    for key, (positive, *untagged) in now.items():
        row: dict[str, object] = {**dict(zip((*by, "currency"), key)), "positive_effective_cost": positive}
        old = then.get(key)
        for i, dimension in enumerate(GROUPED):
            row[f"untagged_{dimension}"] = untagged[i]
            row[f"untagged_{dimension}_percent"] = percent(untagged[i], positive)
            row[f"untagged_{dimension}_percent_before"] = percent(old[1 + i], old[0]) if old else float("nan")
        result.append(row)
    columns = [*by, "currency", "positive_effective_cost"]
    for dimension in GROUPED:
        columns += [f"untagged_{dimension}", f"untagged_{dimension}_percent", f"untagged_{dimension}_percent_before"]
    return pd.DataFrame(result, columns=columns)


def savings_by(
    connection: duckdb.DuckDBPyConnection, period: Period, by: tuple[str, ...], rollup: str = TABLE
) -> pd.DataFrame:
    """List and contracted cost beside billed cost, each counted once where commitments were bought (`rollup.once`).

    Columns: by…, currency, list_cost, contracted_cost, billed_cost, negotiated (list less contracted), saved
    (list less billed; Decimal), saved_percent (of list; float or NaN), without_prices (billed cost of rows whose
    list or contracted cost the provider does not give: it is in no other column).

    List and contracted cost stand where BilledCost does, on the purchase; so billed cost is what they are
    compared with. What a commitment saved over its own cost is in the report of commitments.

    Raises:
        ValueError: a column that the rollup is not grouped by.
    """
    unknown = [b for b in by if b not in CAN_GROUP_BY]
    if unknown:
        raise ValueError(f"found {', '.join(unknown)}; allowed: {', '.join(CAN_GROUP_BY)}")
    keys = ", ".join(identifier(b) for b in by)
    priced = "list_cost IS NOT NULL AND contracted_cost IS NOT NULL"
    rows = connection.execute(
        f"""
        SELECT {keys}, BillingCurrency, {
            ", ".join(f"coalesce(sum({c}) FILTER (WHERE {priced}), 0) AS {c}" for c in ("list_cost", "contracted_cost"))
        }, coalesce(sum(billed_cost) FILTER (WHERE {priced}), 0) AS billed,
            coalesce(sum(billed_cost) FILTER (WHERE NOT ({priced})), 0) AS without_prices
        FROM {rollup} WHERE charge_date >= $first AND charge_date < $end
        GROUP BY ALL ORDER BY BillingCurrency, list_cost DESC, {keys}
        """,
        {"first": period.first, "end": period.end},
    ).fetchall()
    width = len(by) + 1
    return pd.DataFrame(
        [
            (*row[: width + 3], row[width] - row[width + 1], row[width] - row[width + 2],
             percent(row[width] - row[width + 2], row[width]), row[width + 3])
            for row in rows
        ],
        columns=[
            *by, "currency", "list_cost", "contracted_cost", "billed_cost", "negotiated", "saved", "saved_percent",
            "without_prices",
        ],
    )  # fmt: skip


def percent(part: Decimal, whole: Decimal) -> float:
    """part of whole in percent; NaN where the whole is not positive."""
    return float(part / whole * 100) if whole > 0 else float("nan")
