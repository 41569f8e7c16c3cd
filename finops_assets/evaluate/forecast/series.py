"""Daily series out of the warehouse: cost by day, and the days that are no cost but a gap.

By default the accrued cost is read, not the booked one: a charge longer than a day stands on the days it is for, so a
yearly purchase is no spike of the day that booked it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal, localcontext

import duckdb
import numpy as np
import numpy.typing as npt

from finops_assets.base.period import Period
from finops_assets.base.sql import identifier
from finops_assets.cost.accrual import ACCRUED, accrued_rollup
from finops_assets.cost.rollup import ROLLUP_TABLE, TOO_MANY
from finops_assets.cost.rollup import missing as missing_name
from finops_assets.evaluate.comparison import LATE_DAYS, covered_days
from finops_assets.evaluate.forecast.expect import Matrix
from finops_assets.evaluate.reports import EXACT, Basis, can_group_by, days_collapsed, days_without, require_columns
from finops_assets.tables.ddl import dimensions_of

HISTORY_DAYS = 420
Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True)
class DailySeries:
    """Series that end on the same day. A row of `costs` (float64, NaN: a gap) is the series of the same place in `keys`.

    `first` is the UTC day of the first column. `exact` has the reported amounts by (place, day).
    """

    by: tuple[str, ...]
    keys: list[tuple[str, ...]]
    currencies: list[str]
    first: date
    costs: Matrix
    exact: dict[int, dict[date, Decimal]]
    parts: Mapping[int, Mapping[str, Mapping[int, float]]] = field(default_factory=dict)
    """Of each place what its providers that are missing on some day cost on others, by column."""
    lacking: Mapping[str, Mask] = field(default_factory=dict)
    """By provider, the columns on which nobody knows what it cost."""
    unknown: npt.NDArray[np.bool_] | None = None
    """As `costs`: what is a gap because it is not known of a dimension, whatever the providers."""

    @property
    def end(self) -> date:
        """The day after the last."""
        return self.first + timedelta(days=self.costs.shape[1])

    def total(self, place: int, first: date, end: date) -> Decimal:
        """What a series cost in [first, end), to the last digit; gaps count nothing."""
        with localcontext(prec=EXACT):
            return sum((v for day, v in self.exact[place].items() if first <= day < end), Decimal(0))


def daily_series(
    connection: duckdb.DuckDBPyConnection, by: tuple[str, ...], basis: Basis = "accrued"
) -> DailySeries | None:
    """The cost by some of the rollup's columns and currency, of up to HISTORY_DAYS days. None: no day yet.

    A series begins on its first day with a row. What is not known of one of the columns (`days_without`) is in no series,
    and such a day is a gap. A later day without rows of it is 0 where the rollup reports the
    day, and a gap where it does not (held, not run), or where a provider that the series has cost of is late. A day on
    which one of the columns has too many values is a gap of each of them.

    Raises:
        ValueError: a column that the rollup is not grouped by.
    """
    require_columns(by, can_group_by(connection)[1:])
    keys = "".join(f"{identifier(b)}, " for b in by)
    relation = accrued_rollup(dimensions=dimensions_of(connection, ACCRUED)) if basis == "accrued" else ROLLUP_TABLE
    cost_of_basis = "billed_cost" if basis == "billed" else "effective_cost"
    last = connection.execute("SELECT max(charge_date) FROM daily_cost_by_team").fetchone()
    if last is None or last[0] is None:
        return None
    earliest = last[0] - timedelta(days=HISTORY_DAYS - 1)
    # Whether a day and a provider are there is told by booked rows: parts of long charges fall on held days too.
    there = connection.execute(
        "SELECT provider, charge_date FROM daily_cost_by_team WHERE charge_date >= $earliest GROUP BY ALL",
        {"earliest": earliest},
    ).fetchall()
    rows = connection.execute(
        f"""
        SELECT {keys} BillingCurrency, provider AS of_provider, charge_date, sum({cost_of_basis})
        FROM {relation} WHERE charge_date >= $earliest AND charge_date <= $last GROUP BY ALL ORDER BY ALL
        """,
        {"earliest": earliest, "last": last[0]},
    ).fetchall()
    rows = [row for row in rows if None not in row[: len(by)]]
    first = min(day for _, day in there)
    days = (last[0] - first).days + 1
    providers = sorted({p for p, _ in there} | {row[-3] for row in rows})
    places: dict[tuple[str, ...], int] = {}
    exact: dict[int, dict[date, Decimal]] = {}
    of_providers: dict[int, set[str]] = {}
    with localcontext(prec=EXACT):
        for *key, provider, day, cost in rows:
            place = places.setdefault(tuple(key), len(places))
            if first <= day:
                booked = exact.setdefault(place, {})
                booked[day] = booked.get(day, Decimal(0)) + cost
            of_providers.setdefault(place, set()).add(provider)
    missing = gap_days(connection, providers, there, first, days)
    parts: dict[int, dict[str, dict[int, float]]] = {}
    for *key, provider, day, cost in rows:
        if first <= day and missing[provider].any():
            of_provider = parts.setdefault(places[tuple(key)], {}).setdefault(provider, {})
            column = (day - first).days
            of_provider[column] = of_provider.get(column, 0.0) + float(cost)
    costs = np.full((len(places), days), np.nan)
    for place in range(len(places)):
        booked = exact.setdefault(place, {})
        start = min(booked, default=last[0])
        costs[place, (start - first).days :] = 0.0
        for day, cost in booked.items():
            costs[place, (day - first).days] = float(cost)
        for provider in of_providers[place]:
            costs[place, missing[provider]] = np.nan
    blank = np.zeros_like(costs)
    blank_unknown(connection, blank, by, [key[: len(by)] for key in places], first)
    unknown = np.isnan(blank)
    costs[unknown] = np.nan
    own = list(places)
    return DailySeries(by, [k[:-1] for k in own], [k[-1] for k in own], first, costs, exact, parts, missing, unknown)


def blank_unknown(
    connection: duckdb.DuckDBPyConnection, costs: Matrix, by: Sequence[str], names: Sequence[Sequence[str]], first: date
) -> None:
    """Make gaps of the days of which nobody knows what a value of one of the columns `by` cost.

    These were built before the column was a dimension, or it has too many values to be summed by. `names`: the values of
    each row of `costs`, whose first column is the day `first`.
    """
    days = costs.shape[1]
    whole = Period(first, first + timedelta(days=days))
    for lacking in days_without(connection, whole, by).values():
        costs[:, [(day - first).days for day in lacking]] = np.nan
    for name, collapsed in days_collapsed(connection, whole, by).items():
        # Of a day whose values are together none is known; and on other days nothing is together.
        column, at = list(by).index(name), np.isin(np.arange(days), [(day - first).days for day in collapsed])
        for place, values in enumerate(names):
            if values[column] != missing_name(name):
                costs[place, ~at if values[column] == TOO_MANY else at] = np.nan


def gap_days(
    connection: duckdb.DuckDBPyConnection, providers: list[str], there: list[tuple[str, date]], first: date, days: int
) -> dict[str, Mask]:
    """By provider: the days that nobody can say anything about."""
    reported = np.zeros(days, dtype=bool)
    seen = {p: np.zeros(days, dtype=bool) for p in providers}
    for provider, day in there:
        reported[(day - first).days] = True
        seen[provider][(day - first).days] = True
    result = {}
    for provider in providers:
        gap = ~reported
        on = np.flatnonzero(seen[provider])
        for before, after in zip(on, [*on[1:], days]):
            if 1 < after - before <= LATE_DAYS + 1:
                gap[before + 1 : after] = True
        result[provider] = gap
    known, unknown = covered_days(connection, first, first + timedelta(days=days))
    for provider in providers:
        result[provider][[(day - first).days for day in known.get(provider, ())]] = False
        result[provider][[(day - first).days for day in unknown.get(provider, ())]] = True
    return result
