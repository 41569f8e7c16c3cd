"""A month on a Spark cluster of a master and two workers, against DuckDB: `python -m benchmarks.engines`.

Both get the same delivery and do the same work: landing, facts attributed, every gate on facts and rollup, the rollup
with its neighbours. The results have to be identical, every row of the facts and every table. All of it runs on this one
machine: the figures say what the way by Spark costs, not how it scales. The machine may be busy with other work, so
compare CPU seconds, and ratios within one run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from benchmarks.attribution import describe_machine
from benchmarks.child import measure
from benchmarks.platform import DAYS, export_files, platform_at
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.engines.choose import spread_of
from finops_assets.cost.facts import build_facts
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.judge.gates.facts import judge_facts
from finops_assets.judge.gates.rollup import judge_rollup
from finops_assets.judge.gates.verdict import Verdict
from finops_assets.platform import Platform
from finops_assets.storage.day_files import facts_relation
from finops_assets_tests.cost.engines.spark_cluster import spark_cluster, spark_configured
from tools.results import write_results

RESULTS = Path(__file__).parent / "results" / "engines.json"
WORKERS, CORES, MEMORY = 2, 1, "2g"
TABLES = ("daily_cost_by_team", "reported_cost", "reported_accruals", "daily_commitments", "daily_corrections")
HERE, SPARK = "ours", "spark"


def on_duckdb(folder: str) -> list[dict[str, Any]]:
    """The work on DuckDB, step by step."""
    return _steps(platform_at(Path(folder), HERE), [os.getpid()])


def on_spark(folder: str, master: str, *processes: str) -> list[dict[str, Any]]:
    """The work on a cluster, whose processes are given for their CPU time."""
    from finops_assets.cost.engines.choose import engine_of

    platform = platform_at(Path(folder), SPARK)
    settings = platform.settings
    engine = settings.engine.model_copy(update={"run_on": master})
    platform = Platform(settings.model_copy(update={"engine": engine}))
    roots = [os.getpid(), *map(int, processes)]
    session = _timed("session", lambda: engine_of(engine, platform.lake), roots)
    return [session, *_steps(platform, roots)]


def _steps(platform: Platform, roots: list[int]) -> list[dict[str, Any]]:
    settings, lake, rules = platform.settings, platform.lake, platform.rules

    def facts() -> None:
        built = build_facts(lake, settings.engine, rules, platform.source_names, DAYS)
        if not all(day.written for day in built):
            raise RuntimeError("not every day was written")

    def landing() -> None:
        [source] = settings.sources
        spread = spread_of(settings.engine)
        entries = land_source(lake, settings.engine, source, settings.first_day, spread=spread)
        if [entry.state for entry in entries] != ["live"]:
            raise RuntimeError(f"not landed: {[entry.reason for entry in entries]}")
        compose_days(lake, settings.engine, source, DAYS, spread=spread)

    steps: dict[str, Callable[[], object]] = {
        "landing": landing,
        "facts": facts,
        "gates on facts": lambda: _passed(judge_facts(platform, platform.keys(DAYS))),
        "rollup": lambda: build_rollup(lake, platform.warehouse, rules, settings, DAYS),
        "gates on the rollup": lambda: _passed(judge_rollup(platform, DAYS)),
    }
    return [_timed(name, step, roots) for name, step in steps.items()]


def _passed(verdicts: list[Verdict]) -> None:
    failed = [f"{v.day} {v.gate}: {v.message}" for v in verdicts if v.holds]
    if failed or not verdicts:
        raise RuntimeError(f"gates that do not pass: {failed[:3]}")


def _timed(name: str, step: Callable[[], object], roots: list[int]) -> dict[str, Any]:
    cpu, start = _cpu(roots), time.perf_counter()
    step()
    return {"step": name, "wall_s": time.perf_counter() - start, "cpu_s": _cpu(roots) - cpu}


def _cpu(roots: list[int]) -> float:
    """CPU seconds of these processes, of all that they started, and of those of them that have ended (Linux)."""
    used: dict[int, float] = {}
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
        used[int(folder.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def below(process: int) -> bool:
        while process in parents:
            if process in roots:
                return True
            process = parents[process]
        return False

    return sum(seconds for process, seconds in used.items() if below(process))


def differences(folder: Path) -> dict[str, int]:
    """Rows of each table, and days of facts, that are not the same on both sides."""
    here, spark = platform_at(folder, HERE), platform_at(folder, SPARK)
    found: dict[str, int] = {}
    with duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(folder / "spill")}) as connection:
        for name, platform in ((HERE, here), (SPARK, spark)):
            connection.execute(f"ATTACH '{platform.settings.warehouse}' AS {name} (READ_ONLY)")
        for table in TABLES:
            names = [name for name, *_ in connection.execute(f"DESCRIBE {HERE}.{table}").fetchall()]
            columns = ", ".join(name for name in names if name not in ("reported_from", "reported_to"))
            a, b = (f"(SELECT {columns} FROM {name}.{table})" for name in (HERE, SPARK))
            query = f"SELECT count(*) FROM ((FROM {a} EXCEPT ALL FROM {b}) UNION ALL (FROM {b} EXCEPT ALL FROM {a}))"
            found[table] = (connection.execute(query).fetchone() or (0,))[0]
        days = []
        for platform in (here, spark):
            facts = facts_relation(platform.lake.day_files("facts", platform.source_names, DAYS))
            names = sorted(name for name, *_ in connection.execute(f"DESCRIBE FROM {facts}").fetchall())
            query = f"SELECT charge_date, count(*), sum(hash({', '.join(names)})) FROM {facts} GROUP BY 1 ORDER BY 1"
            days.append(connection.execute(query).fetchall())
        if [row[0] for row in days[0]] != DAYS:
            raise RuntimeError("facts of some days are missing")
        found["facts, days"] = sum(a != b for a, b in zip(*days)) + abs(len(days[0]) - len(days[1]))
    return found


def run_size(console: Console, folder: Path, rows: int) -> dict[str, Any]:
    """One size of estate: deliver, land, then the work on both."""
    with console.status(f"{rows:,} rows: writing the export"):
        true = measure("platform:deliver", str(folder), rows).result
    with console.status(f"{rows:,} rows: DuckDB"):
        duck = measure("engines:on_duckdb", str(folder)).result
    configured, own = folder / "configuration", folder / "cluster"
    configured.mkdir()
    own.mkdir()
    with (
        console.status(f"{rows:,} rows: Spark"),
        spark_configured(configured, **{"spark.executor.memory": "1g", "spark.driver.memory": "1g"}),
        spark_cluster(own, WORKERS, CORES, MEMORY) as cluster,
    ):
        processes = [str(worker.pid) for worker in cluster.workers]
        spark = measure("engines:on_spark", str(folder), cluster.master, *processes).result
    differ = differences(folder)
    if any(differ.values()):
        raise RuntimeError(f"Spark and DuckDB differ: {differ}")
    totals = {name: _total(steps) for name, steps in (("duckdb", duck), ("spark", spark))}
    return {
        "rows": true["rows"],
        "files": len(export_files(folder)),
        "duckdb": duck,
        "spark": spark,
        "totals": totals,
        "spark / duckdb, CPU": totals["spark"]["cpu_s"] / totals["duckdb"]["cpu_s"],
        "spark / duckdb, wall": totals["spark"]["wall_s"] / totals["duckdb"]["wall_s"],
        "rows that differ": differ,
        "facts_mb": {
            name: sum(f.stat().st_size for f in (folder / name / "lake" / "facts").rglob("*.parquet")) / 1e6
            for name in (HERE, SPARK)
        },
    }


def _total(steps: list[dict[str, Any]]) -> dict[str, float]:
    """Of the work itself; a session is started once."""
    work = [step for step in steps if step["step"] != "session"]
    return {unit: sum(step[unit] for step in work) for unit in ("wall_s", "cpu_s")}


def show(console: Console, size: dict[str, Any]) -> None:
    """Print one size."""
    table = Table(title=f"{size['rows']:,} rows; identical: every row of the facts, every table")
    for heading in ("step", "DuckDB CPU s", "Spark CPU s", "DuckDB wall s", "Spark wall s"):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    here = {step["step"]: step for step in size["duckdb"]}
    for step in size["spark"]:
        other = here.get(step["step"])
        figures = [f"{side[unit]:,.1f}" if side else "" for unit in ("cpu_s", "wall_s") for side in (other, step)]
        table.add_row(step["step"], *figures)
    console.print(table)
    console.print(f"Spark / DuckDB: CPU {size['spark / duckdb, CPU']:.1f}, wall {size['spark / duckdb, wall']:.1f}")


def main() -> None:
    """Run, print, write the results file."""
    parser = argparse.ArgumentParser(prog="benchmarks.engines", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000], help="sizes of the export")
    parser.add_argument("--folder", type=Path, help="where to work; 5 GB for 10 million rows, removed afterwards")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the results file")
    options = parser.parse_args()
    console = Console(width=max(100, Console().width))
    machine = describe_machine()
    found: dict[str, Any] = {
        "machine": {name: what for name, what in machine.items() if name != "dagster"} | _spark_version(),
        "cluster": {"workers": WORKERS, "cores_each": CORES, "executor_memory": "1g", "on": "this machine, loopback"},
        "sizes": {},
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="finops-bench-", dir=options.folder)))
        for rows in options.rows:
            place = folder / str(rows)
            place.mkdir()
            found["sizes"][str(rows)] = size = run_size(console, place, rows)
            show(console, size)
            shutil.rmtree(place)
            write_results(options.output, found)


def _spark_version() -> dict[str, str]:
    from importlib.metadata import version

    return {"pyspark": version("pyspark")}


if __name__ == "__main__":
    main()
