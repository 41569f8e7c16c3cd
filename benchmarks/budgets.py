"""Budgets and shared cost: what became of what was told, and time and memory at 500 teams x 20 services x a year.

`python -m benchmarks.budgets` writes benchmarks/results/budgets.json and prints the tables of docs/guides/budgets.md. The
series are made by `benchmarks.cost_series`. A budget is what the owner spent in the month before, times a factor that
knows nothing of the month; what is told on a day sees only the days before it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from benchmarks.child import measure
from benchmarks.cost_series import FIRST, KINDS, cost_series
from finops_assets.base.period import period_of
from finops_assets.evaluate.allocation.balance import ALLOCATED_COST, unbalanced
from finops_assets.evaluate.allocation.days import bring_up_to_date
from finops_assets.evaluate.budgets.evaluate import CHANCES, Evaluation, evaluate, judge, keep
from finops_assets.evaluate.budgets.plan import Budget
from finops_assets.evaluate.budgets.review import review
from finops_assets.evaluate.budgets.versions import enter, in_force, version_in_force
from finops_assets.evaluate.forecast.period import period_table
from finops_assets.evaluate.forecast.series import DailySeries
from finops_assets.settings.shared_cost import SharedCost
from finops_assets.storage.warehouse import Warehouse
from tools.results import write_results

RESULTS = Path(__file__).parent / "results" / "budgets.json"
DAYS, EACH = 420, 8
SEEDS = (6, 7, 8)
MONTHS = range(4, 13)
TOLD_ON = (5, 10, 15, 20, 25)
FACTORS = (0.8, 0.9, 1.0, 1.1, 1.25, 1.5)
TEAMS, DEPARTMENTS = 500, 25


def accuracy() -> dict[str, Any]:
    """Of what was told of a budget on a day of its month, how much went over it at the month's end."""
    told: dict[tuple[int, str], Counter[bool]] = defaultdict(Counter)
    chances: dict[str, Counter[bool]] = defaultdict(Counter)
    over_all: dict[int, Counter[str]] = defaultdict(Counter)
    for seed in SEEDS:
        _, costs = cost_series(DAYS, EACH, seed)
        draw = np.random.default_rng(seed)
        for number in MONTHS:
            month = period_of(f"{2025 + (8 + number) // 12}-{(8 + number) % 12 + 1:02}")
            first, end = (month.first - FIRST).days, (month.end - FIRST).days
            before = (month.before.first - FIRST).days
            actual, last = costs[:, first:end].sum(axis=1), costs[:, before:first].sum(axis=1)
            factor = draw.choice(FACTORS, len(costs))
            for day in TOLD_ON:
                known = costs[:, : first + day]
                exact: dict[int, dict[date, Decimal]] = {place: {} for place in range(len(costs))}
                series = DailySeries(("team",), [(str(i),) for i in range(len(costs))], ["USD"] * len(costs), FIRST,
                                     known, exact)  # fmt: skip
                table = period_table("team", series, month).frame()
                for place, row in enumerate(table.itertuples(index=False)):
                    amount = Decimal(repr(round(float(last[place] * factor[place]), 2)))
                    if not amount:
                        continue
                    budget = Budget("d", str(place), "month", "effective", "USD", amount)
                    # The series' exact amounts were left out: what is spent is added here.
                    spent = Decimal(repr(float(known[place, first:].sum())))
                    forecast, low80, high80, low95, high95 = (
                        spent + v for v in (row.forecast, row.low80, row.high80, row.low95, row.high95)
                    )
                    severity, _ = judge(budget, spent, forecast, low95)
                    over = bool(actual[place] > float(amount))
                    told[day, severity or "nothing"][over] += 1
                    over_all[day]["over" if over else "within"] += 1
                    if spent <= amount:
                        made = Evaluation(
                            budget, 1, 1, month, FIRST + timedelta(days=first + day - 1), spent, forecast,
                            low80, high80, low95, high95, 0, 99, severity, "",
                        )  # fmt: skip
                        chances[made.chance or ""][over] += 1
    return {
        "series": len(SEEDS) * EACH * len(KINDS),
        "judged": sum(sum(c.values()) for c in told.values()),
        "by_day": {
            day: {
                severity: {"times": sum(c.values()), "went_over": round(c[True] / sum(c.values()), 4)}
                for severity in ("CRITICAL", "WARNING", "INFO", "nothing")
                if (c := told[day, severity])
            }
            | {"over_and_told_of": round(_recall(told, day), 4)}
            for day in TOLD_ON
        },
        "chances": {
            name: {"times": sum(c.values()), "went_over": round(c[True] / sum(c.values()), 4)}
            for name in CHANCES
            if (c := chances[name])
        },
    }


def _recall(told: dict[tuple[int, str], Counter[bool]], day: int) -> float:
    """Of the budgets that went over, the share that was told of as WARNING or CRITICAL on that day."""
    over = {severity: c[True] for (d, severity), c in told.items() if d == day}
    return (over.get("CRITICAL", 0) + over.get("WARNING", 0)) / max(1, sum(over.values()))


def budgets() -> list[Budget]:
    """A budget a month, a quarter and a year for every team, and for every department, in both bases, and in total."""
    owners: list[tuple[str | None, str | None]] = [(f"d{i % DEPARTMENTS}", f"t{i}") for i in range(TEAMS)]
    owners += [(f"d{i}", None) for i in range(DEPARTMENTS)]
    made = [
        Budget(d, t, p, "effective", "USD", Decimal(90_000)) for d, t in owners for p in ("month", "quarter", "year")
    ]
    made += [Budget(d, t, "month", "billed", "USD", Decimal(90_000)) for d, t in owners]
    return [*made, Budget(None, None, "year", "billed", "USD", Decimal(90_000_000))]


def _opened(folder: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(Path(folder) / "w.duckdb"), config={"memory_limit": "600MB", "threads": 2})


def scale(folder: str) -> dict[str, Any]:
    """What the assets do, from the warehouse's rows to the evaluations, and the review."""
    with _opened(folder) as connection:
        enter(connection, budgets(), datetime(2026, 9, 1, tzinfo=UTC))
        made = evaluate(connection, in_force(connection), version_in_force(connection))
        assert made is not None
        keep(connection, made[0], made[1], datetime(2026, 9, 1, tzinfo=UTC))
    return {
        "budgets": len(budgets()),
        "evaluated": len(made[1]),
        "unknown": sum(e.problem is not None for e in made[1]),
    }


def reviewed(folder: str) -> dict[str, Any]:
    with _opened(folder) as connection:
        return {"listed": len(review(connection))}


RULES = (
    {"name": "platform", "cost": {"department": "d0", "team": "t0"}, "method": "proportional"},
    {"name": "networking", "cost": {"ServiceCategory": "s0"}, "method": "proportional"},
    {"name": "data", "cost": {"team": ["t1", "t2"]}, "method": "even"},
)


def allocate(folder: str) -> dict[str, Any]:
    """Three rules over the days that are not allocated yet."""
    rules = [SharedCost.model_validate(rule) for rule in RULES]
    path = Path(folder) / "w.duckdb"
    with _opened(folder) as connection:
        made = bring_up_to_date(Warehouse(path, path), connection, rules)
        assert not made.refused
        assert not unbalanced(connection)
        [(rows,)] = connection.execute(f"SELECT count(*) FROM {ALLOCATED_COST}").fetchall()
    return {"days": len(made.days), "rows": rows}


def restate(folder: str) -> None:
    """Move one day of the rollup."""
    with _opened(folder) as connection:
        connection.execute(
            "UPDATE daily_cost_by_team SET effective_cost = effective_cost + 1 WHERE charge_date = ?",
            [date(2026, 8, 1)],
        )


def main() -> None:
    results: dict[str, Any] = measure("budgets:accuracy").result
    with tempfile.TemporaryDirectory(dir=os.environ.get("FINOPS_BENCH")) as folder:
        rows = measure("forecast:prepare_scale", folder).result
        results["evaluated"] = {"rows": rows, **measure("budgets:scale", folder).as_json()}
        results["reviewed"] = measure("budgets:reviewed", folder).as_json()
        results["allocated"] = measure("budgets:allocate", folder).as_json()
        measure("budgets:restate", folder)
        results["allocated_next_night"] = measure("budgets:allocate", folder).as_json()
    _print(results)
    write_results(RESULTS, results)


def _print(results: dict[str, Any]) -> None:
    names = ("CRITICAL", "WARNING", "INFO", "nothing")
    print("| told on day | " + " | ".join(f"{n}: went over" for n in names) + " | of those over, told |")
    for day, row in results["by_day"].items():
        cells = [f"{row[n]['went_over']:.1%} of {row[n]['times']}" if n in row else "" for n in names]
        print(f"| {day} | {' | '.join(cells)} | {row['over_and_told_of']:.1%} |")
    print("\n| chance | times | went over |")
    for name, row in results["chances"].items():
        print(f"| {name} | {row['times']} | {row['went_over']:.1%} |")
    for name in ("evaluated", "reviewed", "allocated", "allocated_next_night"):
        print(name, json.dumps(results[name]))


if __name__ == "__main__":
    main()
