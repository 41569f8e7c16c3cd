"""Anomalies: precision, recall and delay on injected anomalies beside two simple rules; time and memory at size.

`python -m benchmarks.anomalies` writes benchmarks/results/anomalies.json and prints the tables of docs/guides/anomalies.md.
The series and the injector are `benchmarks.cost_series`. Every day is judged by the days before it alone.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from benchmarks.child import measure
from benchmarks.cost_series import FIRST, KINDS, LASTS, SIZES, Injected, inject, told_series
from finops_assets.evaluate.anomalies.detect import Limits, episodes
from finops_assets.evaluate.anomalies.series import exact_costs, limits_of, team_series
from finops_assets.evaluate.forecast.expect import Matrix
from finops_assets.settings.anomalies import Anomalies
from tools.results import write_results

RESULTS = Path(__file__).parent / "results" / "anomalies.json"
DAYS, EACH = 420, 20
# Three months of the year are history that nothing is injected into, so that days of the month have been seen.
JUDGED_FROM, JUDGED_TO = 100, 380
# Not those that the method was chosen on (6, 7, 8).
SEEDS = (26, 27, 28)
LEAST_AMOUNT = 10.0
# How long after it began an alarm still counts as finding it.
WITHIN = {"spike": 1, "burst": 3, "drop": 1, "shift up": 7, "shift down": 7, "drift": 21}
# An alarm so soon after a true event, and not of it, is neither right nor false: what ends is unusual, too.
AFTERMATH = 3
OURS = "finops"
SIGMAS = (2.5, 3.0, 3.5)


@dataclass(frozen=True)
class Alarm:
    """Fired once: on a series, on a day (its column)."""

    row: int
    day: int


def ours(costs: Matrix, sigma: float = SIGMAS[0]) -> list[Alarm]:
    limits = Limits.same(len(costs), sigma=sigma, amount=LEAST_AMOUNT)
    return [Alarm(e.place, e.first) for e in episodes(costs, FIRST, limits)]


def percent_over_yesterday(costs: Matrix) -> list[Alarm]:
    """A day 30 % above or below the day before it."""
    before = costs[:, :-1]
    apart = np.abs(costs[:, 1:] - before)
    return _runs(np.pad((apart > 0.3 * before) & (apart >= LEAST_AMOUNT), ((0, 0), (1, 0))))


def mean_and_three_sigmas(costs: Matrix) -> list[Alarm]:
    """A day beyond three standard deviations of the 30 days before it."""
    windows = np.lib.stride_tricks.sliding_window_view(costs, 30, axis=1)[:, :-1]
    apart = np.abs(costs[:, 30:] - windows.mean(axis=2))
    return _runs(np.pad((apart > 3 * windows.std(axis=2)) & (apart >= LEAST_AMOUNT), ((0, 0), (30, 0))))


def _runs(flags: Any) -> list[Alarm]:
    """Days in a row are one alarm, on the first of them."""
    begins = flags & ~np.pad(flags[:, :-1], ((0, 0), (1, 0)))
    return [Alarm(int(row), int(day)) for row, day in zip(*np.nonzero(begins))]


RULES: dict[str, Callable[[Matrix], list[Alarm]]] = {
    OURS: ours,
    "30 % over yesterday": percent_over_yesterday,
    "30-day mean + 3 sigma": mean_and_three_sigmas,
}
WITH_SIGMA = {f"{OURS}, sigma {sigma:g}": partial(ours, sigma=sigma) for sigma in SIGMAS[1:]}


@dataclass
class Tally:
    """Alarms right and false, and how late each injected anomaly was found (None: not)."""

    right: int = 0
    false: int = 0
    delays: list[tuple[Injected, int | None]] | None = None
    series_days: int = 0


def judge(alarms: Iterable[Alarm], own: list[list[int]], put: list[Injected], rows: set[int]) -> Tally:
    """An alarm is right within the time of an injected anomaly or of an event of the series' own."""
    by_row: dict[int, list[int]] = {row: [] for row in rows}
    for alarm in alarms:
        if alarm.row in rows and JUDGED_FROM <= alarm.day < JUDGED_TO + 28:
            by_row[alarm.row].append(alarm.day)
    tally = Tally(delays=[], series_days=len(rows) * (JUDGED_TO + 28 - JUDGED_FROM))
    of_row = {i.row: i for i in put}
    for row, days in by_row.items():
        injected = of_row[row]
        lasts = LASTS[injected.kind] or 1
        hits = [d for d in days if 0 <= d - injected.day < WITHIN[injected.kind]]
        assert tally.delays is not None
        tally.delays.append((injected, min(hits) - injected.day if hits else None))
        for day in days:
            known = [*own[row], injected.day]
            if day in hits or any(0 <= day - at < 2 for at in own[row]):
                tally.right += 1
            elif any(0 <= day - at < AFTERMATH + lasts for at in known):
                continue
            else:
                tally.false += 1
    return tally


def accuracy() -> dict[str, Any]:
    made = []
    for seed in SEEDS:
        kinds, plain, own = told_series(DAYS, EACH, seed)
        costs, put = inject(plain, JUDGED_FROM, JUDGED_TO, seed)
        made.append((kinds, own, put, {name: rule(costs) for name, rule in (RULES | WITH_SIGMA).items()}))

    def figures(name: str, shapes: Iterable[str] = KINDS) -> dict[str, Any]:
        wanted = set(shapes)
        tallies = [
            judge(alarms[name], own, put, {i for i, kind in enumerate(kinds) if kind in wanted})
            for kinds, own, put, alarms in made
        ]
        right, false = sum(t.right for t in tallies), sum(t.false for t in tallies)
        delays = [d for t in tallies for d in t.delays or []]
        found = [late for _, late in delays if late is not None]
        return {
            "precision": round(right / max(right + false, 1), 4),
            "recall": round(len(found) / len(delays), 4),
            "delay_days": round(float(np.mean(found)), 2) if found else None,
            "false_alarms_a_series_and_year": round(false * 365 / sum(t.series_days for t in tallies), 3),
            "by_kind_and_size": {
                f"{kind} {size:+.0%}": {
                    "injected": len(of := [late for i, late in delays if (i.kind, i.size) == (kind, size)]),
                    "recall": round(sum(late is not None for late in of) / max(len(of), 1), 4),
                    "delay_days": round(float(np.mean(hit)), 2) if (hit := [x for x in of if x is not None]) else None,
                }
                for kind, sizes in SIZES.items()
                for size in sizes
            },
        }

    return {
        "series": len(SEEDS) * EACH * len(KINDS),
        "injected": sum(len(put) for _, _, put, _ in made),
        "rules": {name: figures(name) for name in RULES},
        "other_sigmas": {
            name: {k: v for k, v in figures(name).items() if k != "by_kind_and_size"} for name in WITH_SIGMA
        },
        "shapes": {
            shape: {
                name: {k: v for k, v in figures(name, [shape]).items() if k != "by_kind_and_size"} for name in RULES
            }
            for shape in KINDS
        },
    }


def scale(folder: str) -> dict[str, Any]:
    """From the warehouse's rows to the anomalies of every day of the year, with the exact amount of each."""
    with duckdb.connect(str(Path(folder) / "w.duckdb"), config={"memory_limit": "600MB", "threads": 2}) as connection:
        series = team_series(connection)
        assert series is not None
        found = episodes(series.costs, series.first, limits_of(series.keys, Anomalies()))
        cells = [(n, e.place, series.day(t)) for n, e in enumerate(found) for t in range(e.first, e.last + 1)]
        amounts = exact_costs(connection, cells)
    return {"series": len(series.keys), "days": series.costs.shape[1], "anomalies": len(amounts)}


def main() -> None:
    results: dict[str, Any] = measure("anomalies:accuracy").result
    with tempfile.TemporaryDirectory(dir=os.environ.get("FINOPS_BENCH")) as folder:
        rows = measure("forecast:prepare_scale", folder).result
        results["scale"] = {"rows": rows, **measure("anomalies:scale", folder).as_json()}
    _print(results)
    write_results(RESULTS, results)


def _print(results: dict[str, Any]) -> None:
    names = list(RULES)
    print("\n| | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for what in ("precision", "recall", "delay_days", "false_alarms_a_series_and_year"):
        print(f"| {what} | " + " | ".join(str(results["rules"][n][what]) for n in names) + " |")
    for case in results["rules"][OURS]["by_kind_and_size"]:
        cells = []
        for n in names:
            of = results["rules"][n]["by_kind_and_size"][case]
            cells.append(f"{of['recall']:.0%}" + (f", {of['delay_days']:.1f} d" if of["delay_days"] else ""))
        print(f"| {case} | " + " | ".join(cells) + " |")
    print()
    for shape, rules in results["shapes"].items():
        cells = [
            f"{rules[n]['precision']:.2f} / {rules[n]['recall']:.2f} / {rules[n]['false_alarms_a_series_and_year']:.1f}"
            for n in names
        ]
        print(f"| {shape} | " + " | ".join(cells) + " |")

    print("\n", json.dumps(results["other_sigmas"]), json.dumps(results["scale"]))


if __name__ == "__main__":
    main()
