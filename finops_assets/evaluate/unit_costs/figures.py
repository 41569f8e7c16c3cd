"""Cost of a selection of the rollup by a quantity: a day, a week, a month.

Only days count of which both are known: the quantity, and the cost of every source that may have some of it. A day without a quantity is a gap,
not a zero, and so is one that a source is missing from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import duckdb

from finops_assets.base.period import days_between
from finops_assets.base.sql import identifier
from finops_assets.cost.coverage import BUILT, coverage_of
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.comparison import sources_of_providers
from finops_assets.evaluate.unit_costs.quantities import Of, Quantity
from finops_assets.focus.money import divided, percent
from finops_assets.settings.anomalies import Anomalies
from finops_assets.settings.unit_costs import UnitCost
from finops_assets.tables.declarations import table
from finops_assets.tables.rows import Rows

if TYPE_CHECKING:
    import pandas as pd

UNIT_COSTS = "unit_costs"
COLUMNS = tuple(column.name for column in table(UNIT_COSTS).columns)
Grain = Literal["day", "week", "month"]
GRAINS: tuple[Grain, ...] = ("day", "week", "month")
LATELY = 7


@dataclass(frozen=True)
class _Cost:
    effective: Decimal
    billed: Decimal


def unit_costs(
    connection: duckdb.DuckDBPyConnection,
    costs: Sequence[UnitCost],
    quantities: Iterable[Quantity],
    anomalies: Anomalies,
) -> Rows:
    """The table `unit_costs`: a row a unit cost, whose quantity it is, period and currency. Amounts are Decimal."""
    by_metric: dict[str, dict[Of, dict[date, Decimal]]] = {}
    for quantity in quantities:
        by_metric.setdefault(quantity.metric, {}).setdefault(quantity.of, {})[quantity.day] = quantity.amount
    known = {cost.name: _whole_days(connection, cost) for cost in costs}
    rows = [
        row
        for cost in costs
        for of, amounts in sorted(by_metric.get(cost.metric, {}).items())
        for row in _rows(cost, of, amounts, _by_day(connection, cost, of), known[cost.name])
    ]
    # Not for who reads the table: it needs numpy.
    from finops_assets.evaluate.unit_costs.unusual import mark_unusual

    mark_unusual([row for row in rows if row["grain"] == "day"], anomalies)
    return Rows(COLUMNS, [tuple(row[name] for name in COLUMNS) for row in rows])


def over_most(table: pd.DataFrame) -> list[str]:
    """Of what one costs more than it may in the newest month that is known, in sentences."""
    months = table[(table["grain"] == "month") & table["effective_per_unit"].notna()]
    newest = months.sort_values("period_start").groupby(["unit_cost", "dimensions", "currency"], dropna=False).tail(1)
    return [
        f"{_named(row)}, {row['period_start']:%Y-%m}: {row['effective_per_unit']:.6f} {row['currency']},"
        f" at most {row['most_per_unit']:f} ({row['most_percent']:.0f} %, {row['days']} days)"
        for row in newest.to_dict("records")
        if row["most_per_unit"] is not None and row["effective_per_unit"] > row["most_per_unit"]
    ]


def unusual_lately(table: pd.DataFrame) -> list[str]:
    """The unusual days among the newest LATELY of each series, in sentences."""
    told = []
    days = table[(table["grain"] == "day") & table["effective_per_unit"].notna()].sort_values("period_start")
    for row in days.groupby(["unit_cost", "dimensions", "currency"], dropna=False).tail(LATELY).to_dict("records"):
        if row["unusual"]:
            told.append(
                f"{_named(row)}, {row['period_start']:%Y-%m-%d}: {row['effective_per_unit']:.6f}"
                f" {row['currency']}, a {row['unusual']} from about {row['usual_per_unit']:f}"
            )
    return told


def whose(dimensions: object) -> str:
    """Whose unit cost a row is, in words; empty: of all.

    >>> whose('{"team": "web", "environment": "prod"}')
    'team web, environment prod'
    """
    named: Mapping[str, str] = json.loads(dimensions) if isinstance(dimensions, str) else {}
    return ", ".join(f"{name} {value}" for name, value in named.items())


def _named(row: Mapping[Any, Any]) -> str:
    return f"{row['unit_cost']}{f' of {of}' if (of := whose(row['dimensions'])) else ''}"


def units_of(
    connection: duckdb.DuckDBPyConnection, grain: Grain, first: date | None = None, end: date | None = None
) -> Rows:
    """The table's rows of a grain whose period begins from `first` to before `end`; all where neither is given."""
    return Rows.asked(
        connection,
        f"FROM {UNIT_COSTS} WHERE grain = $grain AND period_start >= coalesce($first, period_start)"
        " AND period_start < coalesce($end, period_start + INTERVAL 1 DAY)"
        " ORDER BY unit_cost, dimensions NULLS FIRST, currency, period_start",
        {"grain": grain, "first": first, "end": end},
    )


def _whole_days(connection: duckdb.DuckDBPyConnection, cost: UnitCost) -> set[date]:
    """The days with the cost of every source; of a cost of some providers, of those that bill under their names."""
    built = {day for (day,) in connection.execute(f"SELECT DISTINCT charge_date FROM {ROLLUP_TABLE}").fetchall()}
    covered = coverage_of(connection)
    elsewhere: set[str] = set()
    if asked := cost.cost.provider if cost.cost else ():
        of_provider = sources_of_providers(connection)
        # Of a source that never had a day nobody knows what it bills.
        elsewhere = {s for found in of_provider.values() for s in found}
        elsewhere -= {s for provider in asked for s in of_provider.get(provider, ())}
    missing = {c.day for c in covered if c.state != BUILT and c.source not in elsewhere}
    return (built | {c.day for c in covered}) - missing


def _by_day(connection: duckdb.DuckDBPyConnection, cost: UnitCost, of: Of) -> dict[str, dict[date, _Cost]]:
    """Currency -> day -> what the selection cost."""
    conditions: list[tuple[str, Sequence[str]]] = [*(cost.cost.conditions.items() if cost.cost else ())]
    conditions += [(name, [value]) for name, value in of]
    where = " AND ".join(f"list_contains(?, {identifier(column)})" for column, _ in conditions) or "true"
    found: dict[str, dict[date, _Cost]] = {}
    for currency, day, effective, billed in connection.execute(
        f"SELECT BillingCurrency, charge_date, sum(effective_cost), sum(billed_cost) FROM {ROLLUP_TABLE} WHERE {where}"
        " GROUP BY ALL",
        [list(names) for _, names in conditions],
    ).fetchall():
        found.setdefault(currency, {})[day] = _Cost(effective, billed)
    return found


def _rows(
    cost: UnitCost,
    of: Of,
    amounts: Mapping[date, Decimal],
    by_currency: Mapping[str, Mapping[date, _Cost]],
    known: set[date],
) -> Iterator[dict[str, object]]:
    if not known:
        return
    first, last = min(amounts), min(max(amounts), max(known))
    for grain in GRAINS:
        for start, end in _periods(grain, first, last):
            days = [day for day in days_between(start, end) if first <= day <= last]
            both = [day for day in days if day in known and day in amounts]
            for currency, of_day in sorted(by_currency.items()):
                quantity = sum((amounts[day] for day in both), Decimal(0)) if both else None
                spent = [of_day[day] for day in both if day in of_day]
                effective = sum((c.effective for c in spent), Decimal(0)) if both else None
                one, most = _of_one(effective, quantity), cost.most.get(currency)
                billed = sum((c.billed for c in spent), Decimal(0)) if both else None
                yield {
                    "unit_cost": cost.name,
                    "metric": cost.metric,
                    "dimensions": json.dumps(dict(of), ensure_ascii=False) if of else None,
                    "grain": grain,
                    "period_start": start,
                    "period_end": end,
                    "currency": currency,
                    "effective_cost": effective,
                    "billed_cost": billed,
                    "quantity": quantity,
                    "effective_per_unit": one,
                    "billed_per_unit": _of_one(billed, quantity),
                    "days": len(both),
                    "days_without_quantity": sum(day not in amounts for day in days),
                    "days_without_cost": sum(day not in known for day in days),
                    "most_per_unit": most,
                    "most_percent": percent(one, most) if one is not None and most else None,
                    "usual_per_unit": None,
                    "unusual": None,
                }


def _of_one(amount: Decimal | None, quantity: Decimal | None) -> Decimal | None:
    """At 18 places, ties to even; unknown where nothing was counted."""
    if amount is None or not quantity:
        return None
    return divided(amount, quantity)


def _periods(grain: Grain, first: date, last: date) -> Iterator[tuple[date, date]]:
    """The periods that hold these days; ends exclusive."""
    start = first
    if grain == "week":
        start -= timedelta(days=start.weekday())
    elif grain == "month":
        start = start.replace(day=1)
    while start <= last:
        match grain:
            case "day":
                end = start + timedelta(days=1)
            case "week":
                end = start + timedelta(days=7)
            case "month":
                end = (start + timedelta(days=32)).replace(day=1)
        yield start, end
        start = end
