"""The gates on the rollup: conserved against facts, and a key that is unique and free of nulls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal

from finops_assets.engine import connect, identifier
from finops_assets.facts import facts_relation
from finops_assets.gates.verdict import Verdict, money
from finops_assets.platform import Platform
from finops_assets.rollup import KEY, TABLE, rollup_totals

CONSERVED, UNIQUE = "conserved", "unique_key"
GATES = {
    CONSERVED: "Rows, billed and effective cost by currency equal the facts, to the last digit.",
    UNIQUE: f"({', '.join(KEY)}) is unique and never null.",
}


def judge_rollup(platform: Platform, days: Iterable[date]) -> list[Verdict]:
    """All verdicts on these days of the rollup."""
    days = sorted(days)
    return [*_conserved(platform, days), *_unique(platform, days)]


def _conserved(platform: Platform, days: list[date]) -> Iterator[Verdict]:
    files = platform.lake.day_files("facts", platform.source_names, days)
    facts: dict[date, dict[str, tuple[int, Decimal, Decimal]]] = {}
    if files:
        with platform.lake.workspace() as workspace, connect(platform.settings.engine, workspace) as connection:
            for day, currency, rows, billed, effective in connection.execute(
                f"""
                SELECT charge_date, coalesce(BillingCurrency, ''), count(*), coalesce(sum(BilledCost), 0),
                    coalesce(sum(coalesce(EffectiveCost, BilledCost)), 0)
                FROM {facts_relation(files)} GROUP BY 1, 2
                """
            ).fetchall():
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


def _unique(platform: Platform, days: list[date]) -> Iterator[Verdict]:
    key = ", ".join(identifier(c) for c in KEY)
    null = " OR ".join(f"{identifier(c)} IS NULL" for c in KEY)
    found: dict[date, tuple[int, int, int]] = {}
    with platform.warehouse.reading() as connection:
        if platform.warehouse.has(connection, TABLE):
            found = {
                day: (groups, repeated, nulls)
                for day, groups, repeated, nulls in connection.execute(
                    f"""
                    SELECT charge_date, count(*), sum(CASE WHEN n > 1 THEN 1 ELSE 0 END), sum(nulls)
                    FROM (
                        SELECT {key}, count(*) AS n, count(CASE WHEN {null} THEN 1 END) AS nulls
                        FROM {TABLE} WHERE list_contains(?, charge_date) GROUP BY {key}
                    ) GROUP BY 1
                    """,
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
