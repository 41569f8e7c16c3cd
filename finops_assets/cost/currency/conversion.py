"""daily_cost_converted: the rollup in the reporting currency, each row with the rate that made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import duckdb

from finops_assets.base.errors import RatesError
from finops_assets.base.sql import identifier
from finops_assets.cost.currency.rates import Conversion, RateTable, convert, read_rates
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.focus.money import DECIMAL
from finops_assets.settings.currency import Currency
from finops_assets.storage.duck import columns_of
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.ddl import dimensions_of
from finops_assets.tables.declarations import key

CONVERTED_COST = "daily_cost_converted"
AMOUNTS = ("billed_cost", "effective_cost", "positive_effective_cost")


@dataclass(frozen=True)
class DayRates:
    """The conversions of a day by currency, and what is missing."""

    conversions: Mapping[str, Conversion]
    missing: tuple[str, ...] = ()


def day_rates(
    connection: duckdb.DuckDBPyConnection, currency: Currency, days: Iterable[date] | None = None
) -> dict[date, DayRates]:
    """The rates of each day of the rollup (all, or these); a rate file that cannot be used is missing for every day."""
    found: dict[date, list[str]] = {} if days is None else {day: [] for day in days}
    where = "" if days is None else " WHERE list_contains($days, charge_date)"
    for day, original in connection.execute(
        f"SELECT DISTINCT charge_date, BillingCurrency FROM {ROLLUP_TABLE}{where} ORDER BY ALL",
        None if days is None else {"days": list(found)},
    ).fetchall():
        found.setdefault(day, []).append(original)
    try:
        table = read_rates(currency.rates)
    except RatesError as error:
        return {day: DayRates({}, (str(error),)) for day in found}
    return {day: _of_day(table, currency, day, originals) for day, originals in found.items()}


def _of_day(table: RateTable, currency: Currency, day: date, originals: list[str]) -> DayRates:
    looked = {o: table.in_force(day, o, currency.reporting, currency.per) for o in originals}
    return DayRates(
        {o: c for o, c in looked.items() if isinstance(c, Conversion)},
        tuple(reason for reason in looked.values() if isinstance(reason, str)),
    )


def convert_days(
    warehouse: Warehouse, currency: Currency, rates: Mapping[date, DayRates], dimensions: Iterable[str] = ()
) -> None:
    """Replace these days of the converted table, each as a whole, from the rollup, by these dimensions of finops.yaml.

    Amounts are converted row by row with the exact factor and rounded once, half to even, at 18 places.
    """
    with warehouse.writing() as connection, warehouse.transaction(connection):
        _load(connection, currency, rates)
        amounts = ", ".join(
            f"CAST(finops_converted(CAST({a} AS VARCHAR), rate_exact) AS {DECIMAL}) AS {a}" for a in AMOUNTS
        )
        query = f"""
            SELECT {columns_of(key(dimensions))}, currency, {amounts}, row_count, billed_cost AS original_billed_cost,
                effective_cost AS original_effective_cost, rate, rate_exact, rate_date, rate_source
            FROM {ROLLUP_TABLE} JOIN day_rates USING (charge_date, BillingCurrency)
        """
        warehouse.replace_days(connection, CONVERTED_COST, rates, query, dimensions)


def _load(connection: duckdb.DuckDBPyConnection, currency: Currency, rates: Mapping[date, DayRates]) -> None:
    """The rates of these days as a temporary table, and the function that converts with them."""
    import pyarrow as pa  # a report reads what was converted

    rows = [(day, original, c) for day, of_day in rates.items() for original, c in of_day.conversions.items()]
    factors = {c.exact: c.factor for *_, c in rows}
    connection.create_function(
        "finops_converted",
        lambda amount, exact: f"{convert(Decimal(amount), factors[exact]):f}",
        ["VARCHAR", "VARCHAR"],
        "VARCHAR",
    )
    connection.register(
        "day_rates_arrow",
        pa.table(
            {
                "charge_date": pa.array([day for day, *_ in rows], pa.date32()),
                "BillingCurrency": pa.array([original for _, original, _ in rows], pa.string()),
                "currency": pa.array([currency.reporting for _ in rows], pa.string()),
                "rate": pa.array([c.rate for *_, c in rows], pa.decimal128(38, 18)),
                "rate_exact": pa.array([c.exact for *_, c in rows], pa.string()),
                "rate_date": pa.array([c.day for *_, c in rows], pa.date32()),
                "rate_source": pa.array([c.source for *_, c in rows], pa.string()),
            }
        ),
    )
    connection.execute("CREATE OR REPLACE TEMP TABLE day_rates AS SELECT * FROM day_rates_arrow")
    connection.unregister("day_rates_arrow")


def days_to_convert(connection: duckdb.DuckDBPyConnection, currency: Currency) -> list[date]:
    """The days whose conversion is not what it would be now, and whose rates are all there.

    That is: the rollup moved, a rate changed or came, or the configured currency did.
    """
    if not Warehouse.has(connection, ROLLUP_TABLE):
        return []
    wanted = {day: rates for day, rates in day_rates(connection, currency).items() if not rates.missing}
    if not Warehouse.has(connection, CONVERTED_COST):
        return sorted(wanted)
    held: dict[date, set[tuple[object, ...]]] = {}
    for day, *rate in connection.execute(
        "SELECT DISTINCT charge_date, BillingCurrency, currency, rate_exact, rate_date, rate_source"
        f" FROM {CONVERTED_COST}"
    ).fetchall():
        held.setdefault(day, set()).add(tuple(rate))
    # A dimension that one of them is not grouped by yet: the days that have it are converted anew.
    dimensions = dict.fromkeys((*dimensions_of(connection, ROLLUP_TABLE), *dimensions_of(connection, CONVERTED_COST)))
    rollup = (
        f"SELECT {_key(connection, ROLLUP_TABLE, dimensions)}, row_count, billed_cost, effective_cost"
        f" FROM {ROLLUP_TABLE}"
    )
    converted = (
        f"SELECT {_key(connection, CONVERTED_COST, dimensions)}, row_count, original_billed_cost,"
        f" original_effective_cost FROM {CONVERTED_COST}"
    )
    moved = {
        day
        for (day,) in connection.execute(
            f"SELECT DISTINCT charge_date FROM (({rollup} EXCEPT {converted}) UNION ALL ({converted} EXCEPT {rollup}))"
        ).fetchall()
    }
    return sorted(
        day
        for day, rates in wanted.items()
        if day in moved
        or held.get(day, set())
        != {(o, currency.reporting, c.exact, c.day, c.source) for o, c in rates.conversions.items()}
    )


def _key(connection: duckdb.DuckDBPyConnection, table: str, dimensions: Iterable[str]) -> str:
    """SQL: the key with these dimensions, of which a table may not have some."""
    missing = {*dimensions} - {*dimensions_of(connection, table)}
    return ", ".join(f"NULL AS {identifier(c)}" if c in missing else identifier(c) for c in key(dimensions))


def converted_rollup() -> str:
    """SQL: the converted table as a relation with the rollup's columns, for reports."""
    return f"(SELECT * REPLACE (currency AS BillingCurrency) FROM {CONVERTED_COST})"
