"""What people ask, and how long they wait: `python -m benchmarks.queries --state FOLDER`.

FOLDER is what `benchmarks.attribution --keep` left for one size. The month's rollup is repeated for twelve months, so
that the rollup is a year's; drill-down reads the month's facts. Prints a table and writes JSON. The rollup of a month is as long
however many facts it is of: its questions (`--of rollup`) need no large one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from benchmarks.attribution import describe_machine
from benchmarks.platform import DAYS, platform_at
from finops_assets.base.period import Period
from finops_assets.cost.restatements import REPORTED_COST
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.reports import SERVICES_BY, TEAMS_BY, cost_by, untagged_by
from tools.results import commit, write_results

RESULTS = Path(__file__).parent / "results" / "queries.json"
REPEATS = 5
YEAR = Period(date(2025, 11, 1), date(2026, 11, 1))
DAY = DAYS[14]


def a_year(file: Path, published: Path) -> int:
    """The month's rollup, twelve times over, as a copy of its own: compressed as a published one is. Returns its rows."""
    with duckdb.connect(str(file)) as connection:
        connection.execute(f"ATTACH '{published}' AS month (READ_ONLY)")
        shifts = " UNION ALL ".join(f"SELECT {30 * n} AS days" for n in range(13))
        for table in (ROLLUP_TABLE, REPORTED_COST):
            connection.execute(
                f"CREATE TABLE {table} AS"
                " SELECT * EXCLUDE (days) REPLACE (charge_date - CAST(days AS INTEGER) AS charge_date)"
                f" FROM month.{table}, ({shifts}) ORDER BY charge_date"
            )
        [(rows,)] = connection.execute(f"SELECT count(*) FROM {ROLLUP_TABLE}").fetchall()
    return int(rows)


def of_rollup(published: Path) -> dict[str, Any]:
    """Ask a year of the rollup."""
    file = published.with_name("year.duckdb")
    file.unlink(missing_ok=True)
    rows = a_year(file, published)
    with duckdb.connect(str(file), read_only=True) as year:
        year.execute("SET enable_progress_bar = false")
        questions: dict[str, Callable[[], Any]] = {
            "rollup: cost by team, a year": lambda: cost_by(year, YEAR, TEAMS_BY),
            "rollup: cost by service category, a year": lambda: cost_by(year, YEAR, SERVICES_BY),
            "rollup: cost by team, a month": lambda: cost_by(year, Period(DAYS[0], YEAR.end), TEAMS_BY),
            "rollup: untagged by provider, a year": lambda: untagged_by(year, YEAR),
        }
        return {"rows": rows, "questions": {name: _took(ask) for name, ask in questions.items()}}


def of_facts(published: Path) -> dict[str, Any]:
    """Drill down into the month's facts."""
    with duckdb.connect(str(published), read_only=True) as facts:
        facts.execute("SET enable_progress_bar = false")
        [(count,)] = facts.execute("SELECT sum(row_count) FROM daily_cost_by_team").fetchall()
        teams = facts.execute(
            "SELECT team FROM daily_cost_by_team WHERE team NOT LIKE '\\_%' ESCAPE '\\' GROUP BY 1"
            " ORDER BY sum(row_count) DESC LIMIT 1"
        ).fetchall()
        team = teams[0][0]

        def drill(columns: str, where: str, *values: Any) -> Callable[[], Any]:
            query = (
                f"SELECT {columns}, sum(EffectiveCost) AS cost, count(*) AS charges FROM cloud_cost_facts WHERE {where}"
                " GROUP BY ALL ORDER BY cost DESC LIMIT 20"
            )
            return lambda: facts.execute(query, values).fetchall()

        questions = {
            "facts: resources of a team on a day": drill("ResourceId", "charge_date = ? AND team = ?", DAY, team),
            "facts: services of a team on a day": drill("ServiceName", "charge_date = ? AND team = ?", DAY, team),
            "facts: resources of a team in a week": drill(
                "ResourceId", "charge_date >= ? AND charge_date < ? AND team = ?", DAYS[14], DAYS[21], team
            ),
        }
        return {"rows": int(count), "questions": {name: _took(ask) for name, ask in questions.items()}}


def _took(ask: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of the first answer, and the median of those after it: of the clock, and of CPU, which a busy machine tells, too."""
    wall, cpu = [], []
    for _ in range(1 + REPEATS):
        began, used = time.perf_counter(), time.process_time()
        ask()
        wall.append((time.perf_counter() - began) * 1000)
        cpu.append((time.process_time() - used) * 1000)
    return {"first_ms": wall[0], "median_ms": statistics.median(wall[1:]), "median_cpu_ms": statistics.median(cpu[1:])}


def main() -> None:
    """Ask each question some times, and print and keep what it took."""
    parser = argparse.ArgumentParser(prog="benchmarks.queries", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--of", choices=("rollup", "facts"), help="these questions alone; the others stay as measured")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    platform = platform_at(options.state)
    platform.warehouse.publish(platform.lake)
    kept: dict[str, Any] = json.loads(options.output.read_text(encoding="utf-8")) if options.output.is_file() else {}
    table = Table("question", "first, ms", "then, ms", "CPU ms", title=str(options.state))
    for name, ask in {"rollup": of_rollup, "facts": of_facts}.items():
        if options.of in (None, name):
            found = ask(platform.settings.published)
            kept[name] = {"machine": describe_machine(), "commit": commit(), **found}
            for question, took in found["questions"].items():
                table.add_row(question, *(f"{ms:,.0f}" for ms in took.values()))
    Console(width=110).print(table)
    write_results(options.output, kept)


if __name__ == "__main__":
    main()
