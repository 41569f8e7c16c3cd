"""Forecast: error and coverage of a rolling-origin backtest against three baselines; time and memory at size.

`python -m benchmarks.forecast` writes benchmarks/results/forecast.json and prints the tables of docs/guides/forecast.md.
The series are made by `benchmarks.cost_series`. Every forecast sees only the days before its origin.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from benchmarks.child import measure
from benchmarks.cost_series import FIRST, KINDS, cost_series
from finops_assets.cost.accrual import REPORTED_ACCRUALS, create_views
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.forecast.expect import Matrix
from finops_assets.evaluate.forecast.intervals import LEVELS, outlook
from finops_assets.evaluate.forecast.period import forecasts
from tools.results import write_results

RESULTS = Path(__file__).parent / "results" / "forecast.json"
DAYS, EACH, HORIZON = 420, 8, 28
FIRST_ORIGIN, STEP = 90, 9
SEEDS = (6, 7, 8)
TEAMS, SERVICES, YEAR = 500, 20, 365


def mean_of_30(past: Matrix) -> Matrix:
    return np.repeat(past[:, -30:].mean(axis=1)[:, None], HORIZON, axis=1)


def straight_line(past: Matrix) -> Matrix:
    slope, level = np.polyfit(np.arange(30), past[:, -30:].T, 1)
    return np.asarray(level[:, None] + slope[:, None] * np.arange(30, 30 + HORIZON))


def seasonal_naive(past: Matrix) -> Matrix:
    return past[:, -7:][:, np.arange(HORIZON) % 7]


BASELINES: dict[str, Callable[[Matrix], Matrix]] = {
    "mean of 30 days": mean_of_30,
    "straight line over 30 days": straight_line,
    "seasonal naive": seasonal_naive,
}
OURS = "finops forecast"


def accuracy() -> dict[str, Any]:
    """Every origin of every series. Errors are relative to the mean cost of their series, so that each counts alike."""
    daily: dict[str, list[Matrix]] = {name: [] for name in (OURS, *BASELINES)}
    total: dict[str, list[Matrix]] = {name: [] for name in (OURS, *BASELINES)}
    inside: dict[float, list[Matrix]] = {level: [] for level in LEVELS}
    size: list[Matrix] = []
    kinds: list[str] = []
    for seed in SEEDS:
        names, costs = cost_series(DAYS, EACH, seed)
        kinds = names
        for origin in range(FIRST_ORIGIN, DAYS - HORIZON + 1, STEP):
            past, then = costs[:, :origin], costs[:, origin : origin + HORIZON]
            ours = outlook(past, FIRST, HORIZON)
            size.append(then.sum(axis=1) / costs.mean(axis=1))
            scale = costs.mean(axis=1)
            for name, made in ((OURS, ours.days), *((n, f(past)) for n, f in BASELINES.items())):
                daily[name].append(np.abs(made - then).sum(axis=1) / scale)
                total[name].append(np.abs(made.sum(axis=1) - then.sum(axis=1)) / scale)
            off = np.abs(ours.days.sum(axis=1) - then.sum(axis=1))
            for level in LEVELS:
                inside[level].append(off <= ours.half[level])
    sizes = np.array(size)

    def wape(errors: list[Matrix], rows: Any = slice(None)) -> float:
        return round(float(np.array(errors)[:, rows].sum() / sizes[:, rows].sum()), 4)

    def covered(level: float, rows: Any = slice(None)) -> float:
        return round(float(np.array(inside[level])[:, rows].mean()), 4)

    def figures(rows: Any = slice(None)) -> dict[str, Any]:
        return {
            "daily_wape": {name: wape(e, rows) for name, e in daily.items()},
            "total_wape": {name: wape(e, rows) for name, e in total.items()},
            "coverage": {str(level): covered(level, rows) for level in LEVELS},
        }

    return {
        "series": len(SEEDS) * EACH * len(KINDS),
        "forecasts": sizes.size,
        "all": figures(),
        "kinds": {kind: figures(np.array([k == kind for k in kinds])) for kind in KINDS},
    }


def prepare_scale(folder: str) -> int:
    """A warehouse with a year of every team x service, a row a day, with held days."""
    _, costs = cost_series(YEAR, -(-TEAMS * SERVICES // len(KINDS)))
    costs = np.random.default_rng(1).permutation(costs)[: TEAMS * SERVICES]
    held = {100, 200, 201, 300}
    place, day = np.divmod(np.arange(costs.size), YEAR)
    rows = pd.DataFrame({"place": place, "day": day, "cost": costs.ravel()})
    rows = rows[~rows["day"].isin(held)]
    with duckdb.connect(str(Path(folder) / "w.duckdb")) as connection:
        key = "'AWS' AS provider, 'd' || place // 20 % 25 AS department, 't' || place // 20 AS team, 'prod' AS environment"
        connection.execute(
            f"CREATE TABLE {ROLLUP_TABLE} AS SELECT DATE '{FIRST}' + CAST(day AS INTEGER) AS charge_date, {key},"
            " 's' || place % 20 AS ServiceCategory, 'USD' AS BillingCurrency, CAST(cost AS DECIMAL(38, 18)) AS billed_cost,"
            " billed_cost AS effective_cost, billed_cost AS positive_effective_cost, 1 AS row_count FROM rows"
        )
        connection.execute(
            f"CREATE TABLE {REPORTED_ACCRUALS} AS SELECT *, 's' AS source, charge_date AS accrual_date,"
            f" true AS is_apportioned, TIMESTAMP '2026-01-01' AS reported_to FROM {ROLLUP_TABLE} LIMIT 0"
        )
        create_views(connection)
    return len(rows)


def scale(folder: str) -> dict[str, Any]:
    """What the asset does, from the warehouse's rows to the table."""
    with duckdb.connect(str(Path(folder) / "w.duckdb"), config={"memory_limit": "600MB", "threads": 2}) as connection:
        made = forecasts(connection).frame()
    return {"series": len(made), "refused": int(made["refused"].notna().sum())}


def every_pair() -> dict[str, Any]:
    """Every team x service as a series of its own, from the matrix on."""
    _, costs = cost_series(YEAR, -(-TEAMS * SERVICES // len(KINDS)))
    costs = costs[: TEAMS * SERVICES]
    costs[:, [100, 200, 201, 300]] = np.nan
    made = outlook(costs, FIRST, 31)
    assert np.isfinite(made.days).all()
    return {"series": len(costs), "days": costs.shape[1]}


def main() -> None:
    results: dict[str, Any] = measure("forecast:accuracy").result
    with tempfile.TemporaryDirectory(dir=os.environ.get("FINOPS_BENCH")) as folder:
        rows = measure("forecast:prepare_scale", folder).result
        results["asset"] = {"rows": rows, **measure("forecast:scale", folder).as_json()}
    results["every_pair"] = measure("forecast:every_pair").as_json()
    whole = results["all"]
    results["better_than_all"] = all(
        whole[measure_][OURS] < whole[measure_][name] for measure_ in ("daily_wape", "total_wape") for name in BASELINES
    )
    _print(results)
    write_results(RESULTS, results)


def _print(results: dict[str, Any]) -> None:
    names = (OURS, *BASELINES)
    for what in ("daily_wape", "total_wape"):
        print(f"\n| {what} | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
        for kind, figures in (("all", results["all"]), *results["kinds"].items()):
            print(f"| {kind} | {' | '.join(f'{figures[what][n]:.3f}' for n in names)} |")
    print("\n| inside | " + " | ".join(f"{level:.0%}" for level in LEVELS) + " |\n|---|---|---|")
    for kind, figures in (("all", results["all"]), *results["kinds"].items()):
        print(f"| {kind} | {' | '.join(format(figures['coverage'][str(level)], '.3f') for level in LEVELS)} |")
    print(json.dumps(results["asset"]), json.dumps(results["every_pair"]))
    print("better than all three:", results["better_than_all"])


if __name__ == "__main__":
    main()
