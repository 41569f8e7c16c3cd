"""The gates on converted figures: a rate for every currency of the day, and nothing lost beside the rollup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal

from finops_assets.base.text import money
from finops_assets.cost.currency.conversion import CONVERTED_COST, DayRates, day_rates
from finops_assets.cost.rollup import ROLLUP_TABLE, rollup_totals
from finops_assets.judge.gates.verdict import Verdict
from finops_assets.platform import Platform
from finops_assets.settings.currency import Currency

RATES, CONSERVED = "rates_present", "conserved"
GATES = {
    RATES: "There is a rate for every currency of the day; without one the converted figures are held, the rollup is not.",
    CONSERVED: "Rows and original amounts by currency equal the rollup, to the last digit.",
}


def rates_of(platform: Platform, currency: Currency, days: Iterable[date]) -> dict[date, DayRates]:
    """The rates of these days of the rollup."""
    with platform.warehouse.reading() as connection:
        if not platform.warehouse.has(connection, ROLLUP_TABLE):
            return {day: DayRates({}) for day in days}
        return day_rates(connection, currency, days)


def judge_rates(currency: Currency, rates: Mapping[date, DayRates]) -> Iterator[Verdict]:
    """Is there a rate for every currency of these days?"""
    for day, found in sorted(rates.items()):
        used = [f"{original}: {c.exact} of {c.day} ({c.source})" for original, c in sorted(found.conversions.items())]
        yield Verdict(
            RATES,
            day,
            not found.missing,
            "; ".join(found.missing) or "; ".join(used) or "no cost to convert",
            figures={f"rate {original}": f"{money(c.rate)} of {c.day}" for original, c in found.conversions.items()},
            next_step=(
                f"enter the rate into {currency.rates.name} (`finops rates import-ecb FILE` for the ECB's); then run the"
                " day's daily_cost_converted, or let the sensor do it. The rollup is not held"
            )
            if found.missing
            else "",
        )


def judge_converted(platform: Platform, days: Iterable[date]) -> Iterator[Verdict]:
    """Original amounts beside the rollup's."""
    days = sorted(days)
    rollup = rollup_totals(platform.warehouse, days)
    found: dict[date, dict[str, tuple[int, Decimal, Decimal]]] = {}
    with platform.warehouse.reading() as connection:
        if platform.warehouse.has(connection, CONVERTED_COST):
            for day, currency, rows, billed, effective in connection.execute(
                f"""
                SELECT charge_date, BillingCurrency, sum(row_count), sum(original_billed_cost), sum(original_effective_cost)
                FROM {CONVERTED_COST} WHERE list_contains(?, charge_date) GROUP BY 1, 2
                """,
                [days],
            ).fetchall():
                found.setdefault(day, {})[currency] = (int(rows), billed, effective)
    for day in days:
        a, b = rollup.get(day, {}), found.get(day, {})
        problems = [
            f"{c}: rollup {a.get(c)}, converted {b.get(c)}" for c in sorted(a.keys() | b.keys()) if a.get(c) != b.get(c)
        ]
        yield Verdict(
            CONSERVED,
            day,
            not problems,
            "; ".join(problems) or "equal to the rollup",
            next_step="run the day's daily_cost_converted again; if it stays, report it" if problems else "",
        )
