"""The explorer over a year of ten million facts: first paint and clicks, in a headless Chromium, of a real server.

`python -m benchmarks.explorer` writes benchmarks/results/explorer.json, of which `make figures` makes the table of docs/guides/explorer.md. Two weeks
of three clouds are landed and built as ever; the published copy then gets the same days 25 times more, each with its facts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import duckdb

from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.facts import build_facts
from finops_assets.demo import Estate, EstateSpec
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.platform import Platform
from finops_assets.storage.warehouse import facts_folder, facts_view
from finops_assets_tests.browser import Browser, chromium
from finops_assets_tests.running import DIMENSIONS, LAYOUTS, PROVIDERS, settings_for
from tools.results import write_results

RESULTS = Path(__file__).parent / "results" / "explorer.json"
FIRST, DAYS, TIMES = date(2026, 1, 1), 14, 26
FACTS_A_DAY = 27_500
SHIFTED = ("daily_cost_by_team", "reported_cost", "coverage", "daily_commitments", "reported_accruals")
TURNS = 5
END = FIRST + timedelta(days=DAYS * TIMES)
A_MONTH, A_YEAR = 31, DAYS * TIMES - 10
PAGES = {
    "overview, a month": ("/overview?", A_MONTH),
    "teams, a month": ("/teams?", A_MONTH),
    "categories of one team, a month": ("/teams?by=ServiceCategory&is.team=runtime&", A_MONTH),
    "untagged, a month": ("/untagged?", A_MONTH),
    "commitments, a month": ("/commitments?", A_MONTH),
    "overview, the year": ("/overview?", A_YEAR),
    "teams, the year": ("/teams?", A_YEAR),
    "data, the year": ("/data?", A_YEAR),
    "by service, a month": ("/teams?by=ServiceName&", A_MONTH),
    "by service, the year": ("/teams?by=ServiceName&", A_YEAR),
    "single charges of a team, a month": ("/teams?by=charges&is.team=runtime&", A_MONTH),
}
FILTER = "&is.environment=prod"
FILES = {
    "teams, a month": ("/teams/costs.csv?", A_MONTH),
    "teams, the year": ("/teams/costs.xlsx?", A_YEAR),
    "10,000 single charges": ("/teams/charges.csv?by=charges&is.team=runtime&", A_MONTH),
}
PAINTED = "const p = performance.getEntriesByName('first-contentful-paint')[0]; return p ? p.startTime : null"
DRAWN = (
    "return [...document.querySelectorAll('.vega')].every(box => box.dataset.drawn == 'drawn') ? performance.now() : 0"
)
CLICK = """
const [path, done] = arguments;
const start = performance.now(), main = document.querySelector('main');
let figures = 0;
visit(new URL(path, location));
const look = () => {
  if (document.querySelector('main') != main && !figures) figures = performance.now() - start;
  if (figures && [...document.querySelectorAll('.vega')].every(box => box.dataset.drawn == 'drawn')) done([figures, performance.now() - start]);
  else requestAnimationFrame(look);
};
look();
"""
SAVE = """
const [path, done] = arguments;
const start = performance.now();
fetch(path).then(answer => answer.blob()).then(blob => done([performance.now() - start, blob.size]));
"""


def prepare(folder: Path) -> dict[str, int]:
    """The published copy of a year; returns how many rows it has."""
    days = [FIRST + timedelta(days=n) for n in range(DAYS)]
    with Estate(EstateSpec(days[0], days[-1], FACTS_A_DAY * DAYS), folder / "estate") as estate:
        estate.deliver_all()
    settings = settings_for(folder, FIRST)
    platform = Platform(settings)
    for source in settings.sources:
        land_source(platform.lake, settings.engine, source, FIRST)
        compose_days(platform.lake, settings.engine, source, days)
    build_facts(platform.lake, settings.engine, platform.rules, platform.source_names, days)
    build_rollup(platform.lake, platform.warehouse, platform.rules, settings, days)
    platform.warehouse.publish(platform.lake, settings.dimensions)
    facts = facts_folder(settings.published)
    files = sorted(facts.glob("*/*/*.parquet"))
    everywhere = list(files)
    for turn in range(1, TIMES):
        for file in files:
            day = date.fromisoformat(file.parent.name.partition("=")[2]) + timedelta(days=DAYS * turn)
            other = file.parent.with_name(f"charge_date={day}") / file.name
            other.parent.mkdir()
            os.link(file, other)
            everywhere.append(other)
    with duckdb.connect(str(settings.published)) as connection:
        for table in SHIFTED:
            # By day, as nightly runs would have written them.
            connection.execute(
                f"INSERT INTO {table} BY NAME SELECT r.* REPLACE (charge_date + CAST(t * {DAYS} AS INTEGER) AS charge_date)"
                f" FROM {table} r, range(1, {TIMES}) turns(t) ORDER BY charge_date"
            )
        connection.execute(f"CREATE OR REPLACE VIEW cloud_cost_facts AS SELECT * FROM {facts_view(sorted(everywhere))}")
        counted = connection.execute(
            "SELECT (SELECT sum(row_count) FROM daily_cost_by_team), (SELECT count(*) FROM daily_cost_by_team),"
            " (SELECT count(DISTINCT charge_date) FROM daily_cost_by_team), (SELECT count(*) FROM cloud_cost_facts)"
        ).fetchall()
    [(facts_in_rollup, rows, days_in_all, facts_in_all)] = counted
    assert facts_in_rollup == facts_in_all
    return {
        "facts": int(facts_in_all), "rollup_rows": rows, "days": days_in_all,
        "copy_bytes": settings.published.stat().st_size,
    }  # fmt: skip


@contextmanager
def explorer(folder: Path) -> Iterator[tuple[str, int]]:
    """`finops explore` as a process; its address and its id."""
    sources = "".join(
        f"  - {{name: {s}, provider: {PROVIDERS[s]}, uri: estate/{s}, layout: {LAYOUTS[s]}}}\n" for s in LAYOUTS
    )
    config = folder / "finops.yaml"
    config.write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: warehouse.duckdb\npublished: published.duckdb\nsources:\n{sources}{DIMENSIONS}"
    )
    command = [str(Path(sys.executable).with_name("finops")), "explore", "--port", "0", "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split("/ ", 1)[0], process.pid
        finally:
            process.terminate()


def address_of(page: str, days: int, turn: int) -> str:
    """Other days each turn, so that no answer is remembered."""
    return f"{page}from={END - timedelta(days=days + turn)}&to={END - timedelta(days=turn)}&currency=USD"


def cpu_ms(pid: int) -> float:
    """What a process has worked so far (Linux)."""
    user, system = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK") * 1000


def measured(browser: Browser, address: str, pid: int, page: str, days: int) -> dict[str, float]:
    """Milliseconds, the median of TURNS: a page that nobody asked for before, the same again, and a click that filters it."""
    found: dict[str, list[float]] = {
        "server_cpu": [], "first_paint": [], "with_charts": [], "first_paint_again": [], "filter": [], "filter_with_charts": [],
        "filter_cpu": [],
    }  # fmt: skip
    for turn in range(TURNS):
        shown = address_of(page, days, turn)
        browser.go("about:blank")
        before = cpu_ms(pid)
        browser.go(f"{address}{shown}")
        browser.wait_for(DRAWN)
        browser.wait_for(PAINTED)
        found["server_cpu"].append(cpu_ms(pid) - before)
        found["with_charts"].append(float(browser.run(DRAWN)))
        found["first_paint"].append(float(browser.run(PAINTED)))
        before = cpu_ms(pid)
        figures, charts = browser.run_async(CLICK, f"{shown}{FILTER}")
        found["filter"].append(figures)
        found["filter_with_charts"].append(charts)
        found["filter_cpu"].append(cpu_ms(pid) - before)
        browser.go("about:blank")
        browser.go(f"{address}{shown}")
        browser.wait_for(PAINTED)
        found["first_paint_again"].append(float(browser.run(PAINTED)))
    return {name: round(median(each)) for name, each in found.items()}


def saved(browser: Browser, address: str, page: str, days: int) -> dict[str, float]:
    """Milliseconds, the median of TURNS, until a file is there, and its size."""
    browser.go(f"{address}/data")
    took, size = [], 0
    for turn in range(TURNS):
        ms, size = browser.run_async(SAVE, f"{address_of(page, days, turn + TURNS)}")
        took.append(float(ms))
    return {"file": round(median(took)), "bytes": int(size)}


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("FINOPS_BENCH")) as folder:
        results: dict[str, Any] = {"size": prepare(Path(folder))}
        print(json.dumps(results["size"]))
        with explorer(Path(folder)) as (address, pid), chromium() as browser:
            browser.go(f"{address}/data")
            browser.wait_for(DRAWN)
            results["pages"] = {}
            for name, page in PAGES.items():
                results["pages"][name] = measured(browser, address, pid, *page)
                print(name, results["pages"][name])
            results["files"] = {name: saved(browser, address, *page) for name, page in FILES.items()}
        # What else ran meanwhile: times of a busy machine are no more than an upper bound, CPU is less so.
        results["load"], results["cores"] = round(os.getloadavg()[0], 1), os.cpu_count()
    write_results(RESULTS, results)


if __name__ == "__main__":
    main()
