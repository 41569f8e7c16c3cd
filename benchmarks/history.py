"""What a long history costs each day: `python -m benchmarks.history`.

For lakes of so many days: publishing everything; a run at which one small day changed, from its delivery to the published
copy; both as commands, in processes of their own, imports included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.attribution import describe_machine
from finops_assets.base.period import days_between
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.facts import build_facts
from finops_assets.demo import Estate, EstateSpec
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from tools.results import write_results

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "history.json"
END = date(2026, 11, 1)
CHANGED = date(2026, 10, 14)
DAYS_AT_ONCE = 62


def history(folder: Path, days: int, rows_a_day: int) -> dict[str, Any]:
    """A lake of so many days, and what a day more costs there."""
    first = END - timedelta(days=days)
    # An estate has 40 % of its rows at AWS.
    spec = EstateSpec(first, END - timedelta(days=1), rows_a_day * days * 10 // 4)
    with Estate(spec, folder / "estate") as estate:
        for period in sorted({day.isoformat()[:7] for day in days_between(first, END)}):
            estate.deliver("aws", period)
        _project(folder, first)
        platform = Platform(load_settings(folder / "finops.yaml"))
        _build(platform, first)
        publish = _command(folder, "publish")
        again = _command(folder, "publish")
        estate.deliver("aws", f"{CHANGED:%Y-%m}", generation=2, restate={CHANGED: Decimal("1.1")})
        changed = _command(folder, "run", CHANGED.isoformat(), (CHANGED + timedelta(days=1)).isoformat())
    return {
        "days": days,
        "rows": rows_a_day * days,
        "published_mb": round(platform.settings.published.stat().st_size / 1e6, 1),
        "publish": publish,
        "publish again": again,
        "one day changed": changed,
    }


def _project(folder: Path, first: date) -> None:
    told = yaml.safe_load((ROOT / "finops.yaml").read_text(encoding="utf-8"))
    aws = {"name": "aws", "uri": "estate/aws", "layout": "aws-data-exports", "provider": "AWS"}
    told |= {"first_day": first, "lake": "lake", "warehouse": "w.duckdb", "published": "p.duckdb", "sources": [aws]}
    (folder / "finops.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    for name in ("dagster.yaml", "budgets.csv"):
        (folder / name).write_bytes((ROOT / name).read_bytes())


def _build(platform: Platform, first: date) -> None:
    """What many runs have built, without a history of them."""
    settings, [source] = platform.settings, platform.settings.sources
    land_source(platform.lake, settings.engine, source, first)
    wanted = days_between(first, END)
    for start in range(0, len(wanted), DAYS_AT_ONCE):
        days = wanted[start : start + DAYS_AT_ONCE]
        compose_days(platform.lake, settings.engine, source, days)
        build_facts(platform.lake, settings.engine, platform.rules, platform.source_names, days)
        build_rollup(platform.lake, platform.warehouse, platform.rules, settings, days)


def _command(folder: Path, *arguments: str) -> dict[str, float]:
    """Run a command of ours in its project.

    Raises:
        RuntimeError: it failed; with the end of what it wrote.
    """
    with (folder / "output").open("w+b") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            [Path(sys.executable).with_name("finops"), *arguments], cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        output.seek(0)
        if process.returncode:
            raise RuntimeError(f"finops {' '.join(arguments)}: {process.returncode}\n{output.read()[-3000:].decode()}")
    # Kilobytes on Linux, bytes on macOS.
    peak = used.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    return {"cpu_s": round(used.ru_utime + used.ru_stime, 1), "wall_s": round(wall, 1), "peak_mb": round(peak)}


def main() -> None:
    """Run, print, write the results file."""
    parser = argparse.ArgumentParser(prog="benchmarks.history", description=__doc__)
    parser.add_argument("--days", type=int, nargs="+", default=[40, 400, 1200])
    parser.add_argument("--rows-a-day", type=int, default=300)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--keep", type=Path, help="keep the lakes in this folder")
    options = parser.parse_args()
    table = Table("days", "facts", "published MB", "publish, CPU s", "again", "one day changed, CPU s", "peak MB")
    sizes = []
    for days in options.days:
        with tempfile.TemporaryDirectory(prefix="finops-history-") as temporary:
            place = (options.keep or Path(temporary)) / str(days)
            place.mkdir(parents=True)
            found = history(place, days, options.rows_a_day)
        sizes.append(found)
        took = [found[name] for name in ("publish", "publish again", "one day changed")]
        figures = (days, found["rows"], found["published_mb"], *(each["cpu_s"] for each in took))
        table.add_row(*map(str, figures), str(max(each["peak_mb"] for each in took)))
        write_results(options.output, {"machine": describe_machine(), "sizes": sizes})
    Console().print(table)


if __name__ == "__main__":
    main()
