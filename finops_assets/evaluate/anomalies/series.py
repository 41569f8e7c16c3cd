"""The series that are looked at, out of the warehouse and the facts, as matrices; and the limits of each.

A matrix is made by one grouping in SQL and one assignment. The amounts behind it stay in a temporary table of the
connection, as decimals, for those days that are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa

from finops_assets.base.sql import identifier
from finops_assets.cost.accrual import ACCRUED, accrued_rollup
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.rollup import ROLLUP_TABLE, key_of
from finops_assets.evaluate.anomalies.detect import LEAST_DAYS, Limits
from finops_assets.evaluate.anomalies.key import Key, override_of
from finops_assets.evaluate.forecast.expect import Matrix
from finops_assets.evaluate.forecast.series import blank_unknown, gap_days
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.focus.money import DECIMAL
from finops_assets.settings.anomalies import Anomalies
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.duck import insert_pairs
from finops_assets.storage.lake import Lake, source_and_day
from finops_assets.tables.ddl import dimensions_of

HISTORY_DAYS = 365
# Resources are read from the facts, which are large: enough for eight weeks of weekdays and what comes before.
RESOURCE_DAYS, RECENT_DAYS = 84, 7
CELLS = "anomaly_cells"


@dataclass(frozen=True)
class CostSeries:
    """Series of the same days. Row i of `costs` (float64, NaN: a gap) is that of `keys[i]`; `first` is its first day."""

    keys: list[Key]
    first: date
    costs: Matrix

    @property
    def end(self) -> date:
        """The day after the last."""
        return self.first + timedelta(days=self.costs.shape[1])

    def day(self, column: int) -> date:
        return self.first + timedelta(days=column)


def known_dimensions(connection: duckdb.DuckDBPyConnection, wanted: Iterable[str]) -> tuple[str, ...]:
    """Those that the rollup is grouped by: of another no day was built yet, and series are not told apart by it."""
    held = dimensions_of(connection, ACCRUED)
    return tuple(dict.fromkeys(d for d in wanted if d in held))


def team_series(connection: duckdb.DuckDBPyConnection, by: tuple[str, ...] = ()) -> CostSeries | None:
    """Accrued cost by department, team, service category and currency, of about a year. None: no day is reported yet.

    `by`: other dimensions that tell series apart, too; a day that does not know one of them is a gap.
    A day is a gap where it is not reported (held, not run) or where a provider that the series has cost of is late.
    A series that begins later than its providers was at 0 until then, and its beginning may be an anomaly.
    """
    [(last,)] = connection.execute(f"SELECT max(charge_date) FROM {ROLLUP_TABLE}").fetchall()
    if last is None:
        return None
    # The same first day for all of a month: what was found then is found again.
    earliest = (last - timedelta(days=HISTORY_DAYS - 1)).replace(day=1)
    there = connection.execute(
        f"SELECT provider, charge_date FROM {ROLLUP_TABLE} WHERE charge_date >= $earliest GROUP BY ALL",
        {"earliest": earliest},
    ).fetchall()
    first = min(day for _, day in there)
    others = "".join(f", {identifier(d)}" for d in by)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {CELLS} AS
        SELECT dense_rank() OVER (ORDER BY department, team, ServiceCategory, BillingCurrency{others}) - 1 AS place, *
        FROM (
            SELECT department, team, ServiceCategory, BillingCurrency{others}, provider, charge_date,
                CAST(sum(effective_cost) AS {DECIMAL}) AS cost
            FROM {accrued_rollup(dimensions=by)} WHERE charge_date >= $first AND charge_date <= $last GROUP BY ALL
        ) WHERE {" AND ".join(f"{identifier(d)} IS NOT NULL" for d in by) or "true"}
        """,
        {"first": first, "last": last},
    )
    keys = [
        Key(department, team, category, currency, others=tuple(zip(by, values)))
        for department, team, category, currency, _, *values in connection.execute(
            f"SELECT DISTINCT department, team, ServiceCategory, BillingCurrency, place{others} FROM {CELLS} ORDER BY place"
        ).fetchall()
    ]
    days = (last - first).days + 1
    costs = _matrix(connection, len(keys), first, days)
    began = connection.execute(
        f"SELECT place, provider, min(charge_date) FROM {CELLS} GROUP BY ALL ORDER BY place"
    ).fetchall()
    providers = sorted({p for p, _ in there} | {p for _, p, _ in began})
    gaps = gap_days(connection, providers, there, first, days)
    opened = {provider: min((d for p, d in there if p == provider), default=first) for provider in providers}
    of_place: dict[int, dict[str, date]] = {}
    for place, provider, day in began:
        of_place.setdefault(place, {})[provider] = day
    for place, found in of_place.items():
        _begin(costs[place], (min(found.values()) - first).days, (min(opened[p] for p in found) - first).days)
        for provider in found:
            costs[place, gaps[provider]] = np.nan
    blank_unknown(connection, costs, by, [tuple(value for _, value in key.others) for key in keys], first)
    return CostSeries(keys, first, costs)


def _matrix(connection: duckdb.DuckDBPyConnection, series: int, first: date, days: int) -> Matrix:
    """The cells as a matrix, 0 where there is none."""
    cells = connection.execute(
        f"SELECT place, CAST(charge_date - DATE '{first}' AS INTEGER) AS day, CAST(sum(cost) AS DOUBLE) AS cost"
        f" FROM {CELLS} GROUP BY ALL"
    ).fetchnumpy()
    costs = np.zeros((series, days))
    costs[np.asarray(cells["place"], dtype=np.int64), np.asarray(cells["day"], dtype=np.int64)] = cells["cost"]
    return costs


def _begin(row: Matrix, own: int, others: int) -> None:
    """Nothing is known of the days before a series; but 0 is, where those that it comes from were there for long."""
    row[: others if own - others >= LEAST_DAYS else own] = np.nan


def resource_series(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    rules: Rules,
    sources: Sequence[str],
    providers: dict[str, str],
    reported: Iterable[date],
    floor: float,
    also: Iterable[tuple[str, str]] = (),
    by: tuple[str, ...] = (),
) -> CostSeries | None:
    """Effective cost of each resource that cost at least `floor` on one of the newest days, and of those of `also`
    (source, ResourceId). None: there is none.

    `reported` are the days of the rollup: what a gate holds is a gap here, too. A resource is the team's and the
    service category's that it was last, and has the values of the dimensions `by` that it had then. Charges longer than a day are left out: they are no cost of their day.
    """
    known = sorted(reported)
    if not known:
        return None
    last = known[-1]
    first = last - timedelta(days=RESOURCE_DAYS - 1)
    wanted = [day for day in known if day >= first]
    recent = [day for day in wanted if day > last - timedelta(days=RECENT_DAYS)]
    files = lake.day_files("facts", sources, recent)
    if not files:
        return None
    short = "ResourceId IS NOT NULL AND ChargePeriodEnd - ChargePeriodStart <= INTERVAL 1 DAY"
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE costly AS SELECT DISTINCT source, ResourceId FROM (
            SELECT source, ResourceId, BillingCurrency, charge_date
            FROM {facts_relation(files)} WHERE {short} GROUP BY ALL HAVING abs(sum({EFFECTIVE})) >= $floor
        )
        """,
        {"floor": floor},
    )
    insert_pairs(connection, "costly", sorted(also))
    if not connection.execute("SELECT 1 FROM costly LIMIT 1").fetchall():
        return None
    files = lake.day_files("facts", sources, wanted)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {CELLS} AS
        SELECT dense_rank() OVER (ORDER BY source, ResourceId, BillingCurrency) - 1 AS place, *
        FROM (
            SELECT source, ResourceId, BillingCurrency, charge_date, CAST(sum({EFFECTIVE}) AS {DECIMAL}) AS cost,
                max(department) AS department, max(team) AS team, max(ServiceCategory) AS ServiceCategory{
            "".join(f", max({identifier(d)}) AS {identifier(d)}" for d in by)
        }
            FROM (
                SELECT {key_of(rules, providers)}, source, ResourceId, EffectiveCost, BilledCost
                FROM {facts_relation(files)} SEMI JOIN costly USING (source, ResourceId)
                WHERE {short}
            ) GROUP BY ALL
        )
        """
    )
    last_of = "".join(f", max_by({identifier(d)}, charge_date)" for d in by)
    keys = [
        Key(department, team, category, currency, source, resource, tuple(zip(by, values)))
        for department, team, category, currency, source, resource, *values in connection.execute(
            f"SELECT max_by(department, charge_date), max_by(team, charge_date), max_by(ServiceCategory, charge_date),"
            f" BillingCurrency, source, ResourceId{last_of} FROM {CELLS} GROUP BY source, ResourceId, BillingCurrency, place"
            " ORDER BY place"
        ).fetchall()
    ]
    days = (last - first).days + 1
    costs = _matrix(connection, len(keys), first, days)
    there = {source: np.zeros(days, dtype=bool) for source in sources}
    for file in files:
        source, day = source_and_day(file)
        there[source][(day - first).days] = True
    for place, day in connection.execute(f"SELECT place, min(charge_date) FROM {CELLS} GROUP BY ALL").fetchall():
        of_source = there[keys[place].source or ""]
        costs[place, ~of_source] = np.nan
        _begin(costs[place], (day - first).days, int(np.argmax(of_source)))
    return CostSeries(keys, first, costs)


def exact_costs(connection: duckdb.DuckDBPyConnection, wanted: Iterable[tuple[int, int, date]]) -> dict[int, Decimal]:
    """Number -> what a series of the query before cost, to the last digit. `wanted`: (number, place, day) triples."""
    rows = list(wanted)
    table = pa.table(
        {
            "number": pa.array([r[0] for r in rows], pa.int64()),
            "place": pa.array([r[1] for r in rows], pa.int64()),
            "charge_date": pa.array([r[2] for r in rows], pa.date32()),
        }
    )
    connection.register("wanted_cells", table)
    found = connection.execute(
        f"SELECT number, coalesce(sum(cost), 0) FROM wanted_cells LEFT JOIN {CELLS} USING (place, charge_date) GROUP BY ALL"
    ).fetchall()
    connection.unregister("wanted_cells")
    return dict(found)


def limits_of(keys: Sequence[Key], settings: Anomalies) -> Limits:
    """The limits of each series, by the settings."""
    sigma, amount, share = (np.empty(len(keys)) for _ in range(3))
    for place, key in enumerate(keys):
        own = override_of(key, settings)
        sigma[place] = own.sigma if own and own.sigma is not None else settings.sigma
        amount[place] = own.min_amount if own and own.min_amount is not None else settings.min_amount
        share[place] = (own.min_percent if own and own.min_percent is not None else settings.min_percent) / 100
    return Limits(sigma, amount, share)
