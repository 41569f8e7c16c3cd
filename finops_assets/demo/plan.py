"""Which rows one delivery of one billing period holds: usage rows per day, and each other charge.

Only counts and single charges are planned here, in plain Python; the usage rows themselves come from SQL.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

from finops_assets.demo.model import MEAN_ROW_COST, MONEY_GRAIN, PRICE_GRAIN, UNITS_PER_CURRENCY, source_size
from finops_assets.demo.spec import SOURCES, EstateSpec, days_between, period_end, period_start
from finops_assets.demo.waste import planted_of, run_days

# Rows a day relative to a plain working day, Monday first.
_WEEKDAY_WEIGHT = (1.0, 1.03, 1.04, 1.02, 0.98, 0.72, 0.68)
_YEARLY_GROWTH = 0.25
_MONTH_END_BATCH = 1.25

_CENT = UNITS_PER_CURRENCY // 100

# The resource (its number) that runs away on the days of a surge, and how much of the day's usage that costs.
SURGING, _SURGE_SHARE, _SURGE_QUANTITY = 20, 0.3, 400


@dataclass(frozen=True)
class DayPlan:
    """The usage rows of one charge day (UTC).

    ``first``: number of the day's first usage row within the source's whole life. ``factor``: what a
    restatement multiplies the costs with. ``untagged``, ``incomplete``: see the incidents.
    """

    day: date
    rows: int
    first: int
    factor: Decimal
    untagged: bool
    incomplete: bool


@dataclass(frozen=True)
class Charge:
    """One charge that is no ordinary usage row. Money in units; the charge period ends before ``end``."""

    kind: str
    day: date
    end: date
    resource: int
    commitment: int | None
    quantity: int
    list_price: int
    contracted_price: int
    billed: int
    effective: int
    untagged: bool
    meter: str | None = None
    unit: str | None = None
    reservation: str | None = None


@dataclass(frozen=True)
class PeriodPlan:
    """All of one delivery: the days that have usage rows, and the single charges."""

    days: tuple[DayPlan, ...]
    charges: tuple[Charge, ...]


@dataclass(frozen=True)
class Delivery:
    """What was asked for: one billing period of one source, as it stands after one execution."""

    source: str
    period: str
    through: date | None
    generation: int
    restate: tuple[tuple[date, Decimal], ...]


def estate_days(spec: EstateSpec, period: str) -> tuple[date, date]:
    """First and last charge day (inclusive) of the estate within the billing period."""
    first = max(spec.first_day, period_start(period))
    last = min(spec.last_day, period_end(period) - timedelta(days=1))
    if last < first:
        allowed = spec.periods()
        raise ValueError(f"billing period {period} is outside the estate; allowed: {allowed[0]} to {allowed[-1]}")
    return first, last


def check_delivery(spec: EstateSpec, delivery: Delivery) -> None:
    """Raise ValueError if the estate has no such delivery."""
    if delivery.source not in SOURCES:
        raise ValueError(f"source {delivery.source!r} is unknown; allowed: {', '.join(SOURCES)}")
    first, last = estate_days(spec, delivery.period)
    if delivery.through is not None and delivery.through < first:
        raise ValueError(f"through {delivery.through} is before the first charge day; allowed: {first} or later")
    if delivery.generation < 1:
        raise ValueError(f"generation {delivery.generation} is not allowed; allowed: 1 or more")
    for day, factor in delivery.restate:
        if not first <= day <= last:
            raise ValueError(f"restated day {day} is outside {delivery.period}; allowed: {first} to {last}")
        if not 0 <= factor <= 10 or factor != round(factor, 6):
            raise ValueError(f"restatement factor {factor} of {day}; allowed: 0 to 10, at most six decimals")


def _corrections(spec: EstateSpec, source: str, period: str) -> int:
    """How many corrections of the previous month the period brings. None when there is no month before."""
    if period == spec.periods()[0]:
        return 0
    first, last = estate_days(spec, period)
    expected = source_size(spec, source).rows * ((last - first).days + 1) / spec.days
    return min(200, max(1, round(expected * 0.002)))


def _tax_lines(spec: EstateSpec, source: str) -> int:
    return min(6, 1 + source_size(spec, source).resources // 200)


@lru_cache(maxsize=16)
def usage_calendar(spec: EstateSpec, source: str) -> dict[date, tuple[int, int]]:
    """Per charge day: number of usage rows, and number of the first of them in the source's whole life.

    Incidents are left out of account on purpose, so that they change no other day.
    """
    size = source_size(spec, source)
    weights: dict[date, float] = {}
    for position, day in enumerate(days_between(spec.first_day, spec.last_day)):
        noise = random.Random(f"day:{spec.seed}:{source}:{day}").uniform(0.96, 1.04)
        growth = 1 + _YEARLY_GROWTH * position / 365
        batch = _MONTH_END_BATCH if (day + timedelta(days=1)).day == 1 else 1.0
        weights[day] = _WEEKDAY_WEIGHT[day.weekday()] * growth * batch * noise
    single = size.commitments * spec.days
    for period in spec.periods():
        single += _corrections(spec, source, period) + _tax_lines(spec, source) + size.commitments + 1
    usage = max(2 * spec.days, size.rows - single)
    calendar: dict[date, tuple[int, int]] = {}
    total = sum(weights.values())
    reached = 0.0
    numbered = 0
    for day, weight in weights.items():
        reached += weight / total * usage
        # Two rows at the least: an incomplete day needs a second row to carry the mark.
        rows = max(2, round(reached) - numbered)
        calendar[day] = (rows, numbered)
        numbered += rows
    return calendar


def _rounded(units: float, grain: int) -> int:
    return max(grain, round(units / grain) * grain)


def restated(units: int, factor: Decimal, grain: int) -> int:
    """``units`` times ``factor``, to the nearest multiple of ``grain`` (half away from zero)."""
    return int((Decimal(units // grain) * factor).quantize(Decimal(1), ROUND_HALF_UP)) * grain


def plan_period(spec: EstateSpec, delivery: Delivery) -> PeriodPlan:
    """The days and single charges of one delivery."""
    check_delivery(spec, delivery)
    source = delivery.source
    first, last = estate_days(spec, delivery.period)
    month_last = last
    if delivery.through is not None:
        last = min(last, delivery.through)
    calendar = usage_calendar(spec, source)
    factors = dict(delivery.restate)
    untagged = spec.incident_days(source, "untagged")
    incomplete = spec.incident_days(source, "incomplete")
    absent = spec.incident_days(source, "no_rows")
    days = tuple(
        DayPlan(day, *calendar[day], factors.get(day, Decimal(1)), day in untagged, day in incomplete)
        for day in days_between(first, last)
        if day not in absent
    )
    charges = [
        charge
        for charge in _single_charges(spec, source, delivery.period, first, month_last, factors)
        if charge.day <= last and charge.day not in absent
    ]
    return PeriodPlan(days, tuple(charges))


def _single_charges(
    spec: EstateSpec, source: str, period: str, first: date, last: date, factors: Mapping[date, Decimal]
) -> list[Charge]:
    size = source_size(spec, source)
    calendar = usage_calendar(spec, source)
    draw = random.Random(f"charges:{spec.seed}:{source}:{period}")
    price_grain, money_grain = PRICE_GRAIN[source], MONEY_GRAIN[source]
    untagged = spec.incident_days(source, "untagged")
    charges: list[Charge] = []

    def add(kind: str, day: date, end: date, resource: int, list_price: int, price: int, billed: int,
            effective: int, *, commitment: int | None = None, quantity: int = 1) -> None:  # fmt: skip
        charges.append(
            Charge(
                kind,
                day,
                end,
                resource,
                commitment,
                quantity,
                list_price,
                price,
                billed,
                effective,
                day in untagged,
            )
        )

    rows_in_period = sum(calendar[day][0] for day in days_between(first, last))
    # About what a commitment covers in a month: a seventh of all usage, and a little more than is used.
    covered = rows_in_period * MEAN_ROW_COST / 7 / size.commitments
    for number in range(size.commitments):
        resource = size.resources + number
        fee = _rounded(covered * draw.uniform(1.0, 1.1), _CENT)
        add("purchase", first, period_end(period), resource, fee, fee, fee, 0, commitment=resource)
        for day in days_between(first, last):
            share = _rounded(fee / 30 * draw.uniform(0.01, 0.06), price_grain)
            unused = restated(share, factors.get(day, Decimal(1)), money_grain)
            add(
                "unused",
                day,
                day + timedelta(days=1),
                resource,
                unused,
                unused,
                0,
                unused,
                commitment=resource,
            )

    # A small local levy, kept below a twentieth of the first day: taxes bear no tags, and a normal day must
    # not look like one with an attribution incident.
    levy = calendar[first][0] * MEAN_ROW_COST * 0.04 / _tax_lines(spec, source)
    for _ in range(_tax_lines(spec, source)):
        tax = _rounded(levy * draw.uniform(0.8, 1.2), _CENT)
        add("tax", first, period_end(period), size.line_item, tax, tax, tax, tax)

    day = first + timedelta(days=draw.randrange((last - first).days + 1))
    credit = _rounded(calendar[day][0] * MEAN_ROW_COST * draw.uniform(0.01, 0.03), _CENT)
    add("credit", day, day + timedelta(days=1), size.line_item, 0, 0, -credit, -credit)

    for day in sorted(spec.incident_days(source, "surge")):
        if first <= day <= last:
            price = _rounded(calendar[day][0] * MEAN_ROW_COST * _SURGE_SHARE / _SURGE_QUANTITY, price_grain)
            price = restated(price, factors.get(day, Decimal(1)), money_grain)
            cost = price * _SURGE_QUANTITY
            add(
                "usage",
                day,
                day + timedelta(days=1),
                SURGING,
                price + price // (4 * money_grain) * money_grain,
                price,
                cost,
                cost,
                quantity=_SURGE_QUANTITY,
            )

    charges += _planted_charges(spec, source, first, last, factors)
    number_of_corrections = _corrections(spec, source, period)
    if number_of_corrections:
        before_last = period_start(period) - timedelta(days=1)
        before_first = max(spec.first_day, before_last.replace(day=1))
        for _ in range(number_of_corrections):
            day = before_first + timedelta(days=draw.randrange((before_last - before_first).days + 1))
            price = _rounded(draw.uniform(0.05, 0.6) * UNITS_PER_CURRENCY, price_grain)
            quantity = draw.choice((-2, -1, 1))
            cost = price * quantity
            # A list price one quarter above, in whole grains of money.
            list_price = price + price // (4 * money_grain) * money_grain
            resource = draw.randrange(size.resources)
            add(
                "correction",
                day,
                day + timedelta(days=1),
                resource,
                list_price,
                price,
                cost,
                cost,
                quantity=quantity,
            )
    return charges


def _planted_charges(
    spec: EstateSpec, source: str, first: date, last: date, factors: Mapping[date, Decimal]
) -> list[Charge]:
    """What the planted resources cost: one charge a day and meter."""
    grain, untagged = MONEY_GRAIN[source], spec.incident_days(source, "untagged")
    planted = planted_of(spec, source)
    charges = []
    for resource, each in enumerate(planted, source_size(spec, source).line_item + 1):
        for run in each.runs:
            begin, end = run_days(spec, run)
            for day in days_between(max(first, begin), min(last, end)):
                price = restated(
                    int(Decimal(run.meter.price) * UNITS_PER_CURRENCY), factors.get(day, Decimal(1)), grain
                )
                charges.append(
                    Charge(
                        "usage", day, day + timedelta(days=1), resource, None, run.quantity, price + price // (4 * grain) * grain,
                        price, price * run.quantity, price * run.quantity, day in untagged, run.meter.text, run.meter.unit,
                        run.reservation or None,
                    )
                )  # fmt: skip
    return charges
