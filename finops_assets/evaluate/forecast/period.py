"""The forecast of a period's end: what is spent to date, exactly, and what is expected of the other days."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

import duckdb
import numpy as np
import numpy.typing as npt

from finops_assets.base.period import Period, period_of
from finops_assets.cost.accrual import ACCRUED
from finops_assets.evaluate.forecast.expect import CANDIDATES
from finops_assets.evaluate.forecast.intervals import LEAST_DAYS, LEVELS, Outlook, outlook
from finops_assets.evaluate.forecast.series import DailySeries, daily_series
from finops_assets.tables.ddl import dimensions_of
from finops_assets.tables.rows import Rows

FORECAST = "forecast"
# The kinds of series, and what of the rollup tells one from another. Each other dimension of finops.yaml is one, too.
SERIES: dict[str, tuple[str, ...]] = {
    "total": (),
    "department": ("department",),
    "team": ("department", "team"),
    "service": ("ServiceCategory",),
}
AMOUNTS = ("actual_to_date", "forecast", "low80", "high80", "low95", "high95")
COLUMNS = (
    "series", "key", "currency", "period_start", "period_end", *AMOUNTS, "days_missing", "method", "history_days",
    "refused",
)  # fmt: skip
CENT = Decimal("0.01")
LONGEST_AHEAD = 400


def current_month(day_after_newest: date) -> Period:
    """The month that the day after the newest reported one is in: a finished month is forecast no more."""
    return period_of(f"{day_after_newest:%Y-%m}")


def kinds_of_series(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[str, ...]]:
    """Each kind of series of this warehouse or its copy, and what of the rollup tells one from another."""
    others = (d for d in dimensions_of(connection, ACCRUED) if d not in SERIES)
    return {**SERIES, **{d: (d,) for d in others}, "provider": ("provider",)}


def forecasts(
    connection: duckdb.DuckDBPyConnection, period: Period | None = None, kinds: Iterable[str] | None = None
) -> Rows:
    """The forecast of every series of these kinds, in COLUMNS; without a row where no day was reported yet.

    Amounts are Decimal, per currency; None where refused. `period` is by default the month of the day after the
    newest reported one. `period_end` is exclusive.

    Raises:
        ValueError: the period ends too far ahead.
    """
    known = kinds_of_series(connection)
    found = {kind: daily_series(connection, known[kind]) for kind in (known if kinds is None else kinds)}
    tables = [
        period_table(kind, series, period or current_month(series.end))
        for kind, series in found.items()
        if series is not None
    ]
    return Rows(COLUMNS, [row for table in tables for row in table.values])


def period_table(kind: str, series: DailySeries, period: Period) -> Rows:
    """The forecast of the series of one kind for a period."""
    ahead = max(0, (period.end - series.end).days)
    if ahead > LONGEST_AHEAD:
        raise ValueError(
            f"{period} ends {ahead} days after the newest reported day, {series.end - timedelta(days=1)};"
            f" at most {LONGEST_AHEAD} are forecast"
        )
    known = np.isfinite(series.costs).sum(axis=1)
    enough = np.flatnonzero(known >= LEAST_DAYS)
    made = outlook(series.costs[enough], series.first, ahead) if ahead and len(enough) else None
    row_of = {int(place): row for row, place in enumerate(enough)}
    rows: list[tuple[object, ...]] = []
    for place, key in enumerate(series.keys):
        spent = series.total(place, period.first, period.end)
        missing = _missing(series, place, period)
        about = (
            kind,
            " / ".join(key) if key else "total",
            series.currencies[place],
            period.first,
            period.end,
        )
        history = int(known[place])
        if not ahead and not missing:
            rows.append((*about, spent, *(_cents(spent),) * 5, 0, "actual", history, None))
        elif place not in row_of:
            why = f"{history} days of history, {LEAST_DAYS} are needed"
            rows.append((*about, spent, *(None,) * 5, len(missing), None, history, why))
        else:
            rows.append(
                (*about, *_amounts(series, place, period, spent, missing, made, row_of[place]), len(missing),
                 _method(made, row_of[place]), history, None)
            )  # fmt: skip
    return Rows(COLUMNS, rows)


def _missing(series: DailySeries, place: int, period: Period) -> list[int]:
    """The columns of the period's days that are gaps, from the series' first day on."""
    cost = series.costs[place]
    start = int(np.argmax(np.isfinite(cost)))
    low = max(start, (period.first - series.first).days)
    high = min(len(cost), (period.end - series.first).days)
    return [c for c in range(low, high) if np.isnan(cost[c])]


def _median(costs: npt.NDArray[np.float64]) -> float:
    """Of the days that have a figure; nothing is expected of a series that has none."""
    return float(np.nanmedian(costs)) if np.isfinite(costs).any() else 0.0


def _amounts(
    series: DailySeries, place: int, period: Period, spent: Decimal, missing: list[int], made: Outlook | None, row: int
) -> tuple[Decimal, ...]:
    """In the order of AMOUNTS. What was spent keeps every digit; the rest is rounded here and nowhere before."""
    cost = series.costs[place]
    filled_in = sum(_filled_in(series, place, column) for column in missing)
    skipped = max(0, (period.first - series.end).days)
    ahead = float(made.days[row, skipped:].sum()) if made else 0.0
    sure = spent if not (cost < 0).any() else None
    deviation = float(np.nanstd(cost[-28:])) * len(missing) ** 0.5 if np.isfinite(cost[-28:]).any() else 0.0
    ends = []
    for level in LEVELS:
        half = float(made.half[level][row]) if made else 0.0
        half = float(np.hypot(half, deviation * {0.80: 1.28, 0.95: 1.96}[level]))
        low = spent + _decimal(filled_in + ahead - half)
        ends += [low if sure is None else max(low, sure), spent + _decimal(filled_in + ahead + half)]
    return (spent, *(_cents(v) for v in (spent + _decimal(filled_in + ahead), *ends)))


def _filled_in(series: DailySeries, place: int, column: int) -> float:
    """What a gap is expected to have cost beyond what is booked on it already: what its weekday did in the weeks around it.

    Where some providers are missing, that is what these cost: what the others did that day is known, however unusual.
    """
    lacking = [p for p in series.parts.get(place, ()) if series.lacking[p][column]]
    if not lacking or (series.unknown is not None and series.unknown[place, column]):
        booked = series.exact[place].get(series.first + timedelta(days=column), Decimal(0))
        return _usual(series.costs[place], column) - float(booked)
    filled = 0.0
    for provider in lacking:
        booked_on = series.parts[place][provider]
        if column < min(booked_on):
            continue
        cost = np.zeros(series.costs.shape[1])
        cost[[*booked_on]] = [*booked_on.values()]
        cost[series.lacking[provider]] = np.nan
        cost[: min(booked_on)] = np.nan
        filled += _usual(cost, column) - booked_on.get(column, 0.0)
    return filled


def _usual(cost: npt.NDArray[np.float64], column: int) -> float:
    """The median of the same weekday in the four weeks before and after; of all days where none of these is known."""
    around = cost[[c for k in (-4, -3, -2, -1, 1, 2, 3, 4) if 0 <= (c := column + 7 * k) < len(cost)]]
    return _median(around if np.isfinite(around).any() else cost)


def _method(made: Outlook | None, row: int) -> str:
    if made is None:
        return "gaps filled"
    weights = ", ".join(f"{name} {w:.0%}" for name, w in zip(CANDIDATES, made.weights[row]))
    return f"{weights}; {made.tested[row]} backtests" if made.tested[row] else "equal weights; no backtest yet"


def _decimal(value: float) -> Decimal:
    return Decimal(repr(float(value)))


def _cents(value: Decimal) -> Decimal:
    return value.quantize(CENT, ROUND_HALF_EVEN)
