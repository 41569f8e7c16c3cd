"""The gates on the rollup: conserved against facts, and a key that is unique and free of nulls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal

from finops_assets.base.sql import identifier
from finops_assets.base.text import counted, money
from finops_assets.cost.accrual import APPORTIONED, LONG, REPORTED_ACCRUALS
from finops_assets.cost.rollup import ROLLUP_TABLE, rollup_totals
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.judge.gates.figures import Figures
from finops_assets.judge.gates.verdict import Verdict
from finops_assets.platform import Platform
from finops_assets.storage.duck import columns_of, lent
from finops_assets.tables.declarations import key

CONSERVED, UNIQUE, ACCRUED = "conserved", "unique_key", "accrual_conserved"
GATES = {
    CONSERVED: "Rows, billed and effective cost by currency equal the facts, to the last digit.",
    UNIQUE: "Day, provider, dimensions, ServiceCategory and BillingCurrency together are unique and never null.",
    ACCRUED: "By currency, the daily parts of charges longer than a day sum to the charges, to the last digit.",
}


def judge_rollup(platform: Platform, days: Iterable[date]) -> list[Verdict]:
    """All verdicts on these days of the rollup."""
    days = sorted(days)
    with platform.lake.workspace() as workspace, lent(platform.settings.engine, workspace) as connection:
        asked = Figures(platform, connection)
        conserved, accrued = (
            [replace(verdict, engine=asked.engine) for verdict in judge(asked, platform, days)]
            for judge in (_conserved, _accrued)
        )
    return [*conserved, *_unique(platform, days), *accrued]


def _conserved(asked: Figures, platform: Platform, days: list[date]) -> Iterator[Verdict]:
    facts: dict[date, dict[str, tuple[int, Decimal, Decimal]]] = {}
    for day, currency, rows, billed, effective in asked.rows("facts", days, facts_totals_query):
        facts.setdefault(day, {})[currency] = (rows, billed, effective)
    rollup = rollup_totals(platform.warehouse, days)
    for day in days:
        a, b = facts.get(day, {}), rollup.get(day, {})
        nothing = (0, Decimal(0), Decimal(0))
        problems = [
            f"{currency}: {what} facts {x}, rollup {y}"
            for currency in sorted(a.keys() | b.keys())
            for what, x, y in zip(
                ("rows", "billed cost", "effective cost"), a.get(currency, nothing), b.get(currency, nothing)
            )
            if x != y
        ]
        yield Verdict(
            CONSERVED,
            day,
            not problems,
            "; ".join(problems) or "equal to the facts",
            figures={
                "rows": sum(v[0] for v in b.values()),
                **{f"billed {c}": money(v[1]) for c, v in b.items()},
                **{f"effective {c}": money(v[2]) for c, v in b.items()},
            },
            next_step="run the day's rollup again; if it stays, report it" if problems else "",
        )


def facts_totals_query(facts: str) -> str:
    """SQL: charge_date, currency, rows, billed and effective cost of a relation of facts."""
    return f"""
        SELECT charge_date, coalesce(BillingCurrency, '') AS currency, count(*) AS row_count,
            coalesce(sum(BilledCost), 0) AS billed_cost,
            coalesce(sum({EFFECTIVE}), 0) AS effective_cost
        FROM {facts} GROUP BY 1, 2
    """


def long_charges_query(facts: str) -> str:
    """SQL: charge_date, currency, charges longer than a day, their effective cost, and those too long to apportion."""
    return f"""
        SELECT charge_date, coalesce(BillingCurrency, '') AS currency,
            count(CASE WHEN {APPORTIONED} THEN 1 END) AS apportioned,
            coalesce(sum(CASE WHEN {APPORTIONED} THEN {EFFECTIVE} END), 0) AS effective_cost,
            count(CASE WHEN NOT {APPORTIONED} THEN 1 END) AS left_whole
        FROM {facts} WHERE {LONG} GROUP BY 1, 2
    """


def unique_query(rollup: str, dimensions: Iterable[str] = ()) -> str:
    """SQL: charge_date, keys, keys that are there twice, rows with a null in the key, of a relation like the rollup with
    these dimensions of finops.yaml."""
    names = key(dimensions)
    keys = columns_of(names)
    null = " OR ".join(f"{identifier(c)} IS NULL" for c in names)
    return f"""
        SELECT charge_date, count(*) AS key_count, sum(CASE WHEN n > 1 THEN 1 ELSE 0 END) AS repeated,
            sum(nulls) AS null_count
        FROM (
            SELECT {keys}, count(*) AS n, count(CASE WHEN {null} THEN 1 END) AS nulls
            FROM {rollup} GROUP BY {keys}
        ) AS keyed GROUP BY 1
    """


def _unique(platform: Platform, days: list[date]) -> Iterator[Verdict]:
    found: dict[date, tuple[int, int, int]] = {}
    with platform.warehouse.reading() as connection:
        if platform.warehouse.has(connection, ROLLUP_TABLE):
            found = {
                day: (groups, repeated, nulls)
                for day, groups, repeated, nulls in connection.execute(
                    unique_query(
                        f"(SELECT * FROM {ROLLUP_TABLE} WHERE list_contains(?, charge_date)) AS wanted",
                        platform.rules.dimensions,
                    ),
                    [days],
                ).fetchall()
            }
    for day in days:
        groups, repeated, nulls = found.get(day, (0, 0, 0))
        fine = not repeated and not nulls
        yield Verdict(
            UNIQUE,
            day,
            fine,
            f"{groups:,} keys, {repeated} repeated, {nulls} rows with a null in the key",
            figures={"keys": groups, "repeated": repeated, "nulls": nulls},
            next_step="" if fine else "run the day's rollup again; if it stays, report it",
        )


def _accrued(asked: Figures, platform: Platform, days: list[date]) -> Iterator[Verdict]:
    """What the day's long charges cost by its facts, what was taken from the day for them, and what their days got."""
    nothing = (0, Decimal(0), 0)
    charges: dict[date, dict[str, tuple[int, Decimal, int]]] = {}
    entries: dict[date, dict[str, tuple[Decimal, Decimal]]] = {}
    for day, currency, count, cost, left in asked.rows("facts", days, long_charges_query):
        charges.setdefault(day, {})[currency] = (count, cost, left)
    with platform.warehouse.reading() as connection:
        if platform.warehouse.has(connection, REPORTED_ACCRUALS):
            for day, currency, taken, given in connection.execute(
                f"""
                SELECT charge_date, BillingCurrency, sum(CASE WHEN is_apportioned THEN 0 ELSE -effective_cost END),
                    sum(CASE WHEN is_apportioned THEN effective_cost ELSE 0 END)
                FROM {REPORTED_ACCRUALS} WHERE reported_to IS NULL AND list_contains(?, charge_date) GROUP BY 1, 2
                """,
                [days],
            ).fetchall():
                entries.setdefault(day, {})[currency] = (taken, given)
    for day in days:
        facts, found = charges.get(day, {}), entries.get(day, {})
        problems = []
        for currency in sorted(facts.keys() | found.keys()):
            _, cost, _ = facts.get(currency, nothing)
            taken, given = found.get(currency, (Decimal(0), Decimal(0)))
            if not cost == taken == given:
                problems.append(f"{currency}: long charges {cost}, taken from the day {taken}, given to days {given}")
        count, left = sum(f[0] for f in facts.values()), sum(f[2] for f in facts.values())
        fine = f"{counted(count)} longer than a day, apportioned whole" if count else "no charge is longer than a day"
        if left:
            fine += f"; {counted(left)} longer than ten years, left on the day"
        yield Verdict(
            ACCRUED,
            day,
            not problems,
            "; ".join(problems) or fine,
            figures={
                "long_charges": count,
                "left_whole": left,
                **{f"apportioned {c}": money(given) for c, (_, given) in found.items()},
            },
            next_step="run the day's rollup again; if it stays, report it" if problems else "",
        )
