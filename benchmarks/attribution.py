"""Attribution against the floor under it and against the naive way: `python -m benchmarks.attribution`.

Every variant runs in a process of its own. The machine may be busy with other work, so compare ratios within
one run, and CPU seconds before wall seconds. Figures are medians over the repeats.
"""

from __future__ import annotations

import argparse
import os
import platform as machine
import shutil
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

# Nothing heavy may be imported here: a child's peak memory begins with its parent's.
from benchmarks.child import Measured, measure
from tools.results import write_results

RESULTS = Path(__file__).parent / "results" / "attribution.json"
NAIVE_ROWS = 1_000_000
AIMS = {"facts + rollup / floor, CPU": 1.4, "naive / facts + rollup, CPU": 8.0, "peak MB": 1200.0}

ATTRIBUTION, DIMENSIONS, MONEY = "attribution", "dimensions: stored or late", "money: DECIMAL(38,18) or DOUBLE"


@dataclass(frozen=True)
class Step:
    """One variant: its section, its name in the table, what runs it, and what must be gone before it runs."""

    section: str
    name: str
    variant: str
    arguments: tuple[str, ...] = ()
    clear: tuple[str, ...] = ()
    measured: bool = True
    naive: bool = False


# In the order in which they run: each finds the state that those before it left.
STEPS = (
    Step(ATTRIBUTION, "raw", "ours:raw", clear=("ours",)),
    Step(ATTRIBUTION, "floor", "ours:floor", clear=("floor",)),
    Step(ATTRIBUTION, "facts", "ours:facts"),
    Step(ATTRIBUTION, "rollup", "ours:rollup"),
    Step(ATTRIBUTION, "gates", "ours:gates"),
    Step(ATTRIBUTION, "all in one process", "ours:everything", ("all",), clear=("all",)),
    Step(ATTRIBUTION, "naive", "naive:load", clear=("naive",), naive=True),
    Step(DIMENSIONS, "late: facts", "ours:late_facts", clear=("late", "ours/lake/tag_sets/rules=*")),
    Step(DIMENSIONS, "late: rollup", "ours:late_rollup"),
    Step(DIMENSIONS, "late: rule change", "ours:late_rule_change", ("division",)),
    Step(DIMENSIONS, "stored: rule change", "ours:stored_rule_change", ("branch",)),
    Step(MONEY, "(raw days with DOUBLE)", "ours:prepare_double", clear=("double",), measured=False),
    Step(MONEY, "DOUBLE: facts", "ours:facts", ("double",)),
    Step(MONEY, "DOUBLE: rollup", "ours:rollup", ("double",)),
)


@dataclass
class Size:
    """All figures of one size of estate."""

    rows: int
    repeats: int
    tag_sets: int = 0
    steps: dict[str, Measured] = field(default_factory=dict)
    megabytes: dict[str, float] = field(default_factory=dict)
    totals: dict[str, Any] = field(default_factory=dict)
    exact: bool = False
    agrees: bool | None = None

    def ratios(self) -> dict[str, float]:
        """What the aims are about, and what the sections compare."""

        found: dict[str, float] = {}
        for unit, figure in (("CPU", "cpu"), ("wall", "wall")):
            took = {name: float(getattr(done, figure)) for name, done in self.steps.items()}
            core = took["facts"] + took["rollup"]
            found[f"facts + rollup / floor, {unit}"] = core / took["floor"]
            if "naive" in took:
                found[f"naive / facts + rollup, {unit}"] = took["naive"] / core
                found[f"naive / raw + facts + rollup, {unit}"] = took["naive"] / (core + took["raw"])
            for step in ("facts", "rollup"):
                found[f"late / stored: {step}, {unit}"] = took[f"late: {step}"] / took[step]
            found[f"late / stored: rule change, {unit}"] = took["late: rule change"] / took["stored: rule change"]
            for step in ("facts", "rollup"):
                found[f"DECIMAL / DOUBLE: {step}, {unit}"] = took[step] / took[f"DOUBLE: {step}"]
        own = [self.steps[n].rss_mb for n in ("raw", "facts", "rollup", "gates", "all in one process")]
        found["peak MB"] = max(own)
        return found


def run_size(console: Console, folder: Path, rows: int, repeats: int) -> Size:
    """Write the estate once, then run every variant `repeats` times."""
    size = Size(rows, repeats)
    with console.status(f"{rows:,} rows: writing the export"):
        true = measure("platform:deliver", str(folder), rows).result
    runs: dict[str, list[Measured]] = {}
    for repeat in range(repeats):
        for step in STEPS:
            if step.naive and rows > NAIVE_ROWS:
                continue
            with console.status(f"{rows:,} rows, {repeat + 1} of {repeats}: {step.name}"):
                for pattern in step.clear:
                    for path in folder.glob(pattern):
                        shutil.rmtree(path)
                done = measure(step.variant, str(folder), *step.arguments)
                if step.measured:
                    runs.setdefault(step.name, []).append(done)
                if step.name == "rollup":
                    size.totals["ours"] = measure("ours:totals", str(folder)).result
                    size.megabytes |= _sizes(
                        folder, {"export": "estate", "raw": "ours/lake/landing", "facts": "ours/lake/facts"}
                    )
                    size.tag_sets = measure("ours:tag_sets", str(folder)).result
    size.steps = {name: _median(of) for name, of in runs.items()}
    size.megabytes |= _sizes(folder, {"facts, late": "late", "facts, DOUBLE": "double/lake/facts"})
    size.totals |= {"true": true, "DOUBLE": measure("ours:totals", str(folder), "double").result}
    size.exact = all(size.totals["ours"][k] == true[k] for k in ("rows", "billed", "effective"))
    if "naive" in size.steps:
        size.totals["naive"] = size.steps["naive"].result
        size.agrees = _agree(size.totals["ours"], size.totals["naive"])
    return size


def _median(runs: list[Measured]) -> Measured:
    return Measured(
        wall=statistics.median(r.wall for r in runs),
        cpu=statistics.median(r.cpu for r in runs),
        rss_mb=max(r.rss_mb for r in runs),
        result=runs[-1].result,
    )


def _agree(ours: dict[str, Any], naive: dict[str, Any]) -> bool:
    """Counts must be equal; the naive way's money is binary and can only be close."""
    counts = all(ours[k] == naive[k] for k in ("rows", "untagged_rows", "resources", "groups"))
    return counts and all(abs(float(ours[k]) - naive[k]) <= 1e-9 * abs(naive[k]) for k in ("billed", "effective"))


def _sizes(folder: Path, places: dict[str, str]) -> dict[str, float]:
    return {
        name: sum(f.stat().st_size for f in (folder / place).rglob("*.parquet")) / 1e6 for name, place in places.items()
    }


def show(console: Console, size: Size) -> None:
    """Print one size."""
    for section in (ATTRIBUTION, DIMENSIONS, MONEY):
        table = Table(title=f"{size.rows:,} rows, {size.tag_sets:,} tag sets, median of {size.repeats}: {section}")
        for heading in ("step", "CPU s", "wall s", "peak MB", "µs CPU a row"):
            table.add_column(heading, justify="left" if heading == "step" else "right")
        compared = {DIMENSIONS: ("facts", "rollup"), MONEY: ("facts", "rollup")}.get(section, ())
        for name in (*compared, *(s.name for s in STEPS if s.section == section)):
            done = size.steps.get(name)
            if done is None:
                continue
            kind = {DIMENSIONS: "stored: ", MONEY: "DECIMAL: "}.get(section, "") if name in compared else ""
            table.add_row(
                kind + name,
                f"{done.cpu:,.2f}",
                f"{done.wall:,.2f}",
                f"{done.rss_mb:,.0f}",
                f"{done.cpu / size.rows * 1e6:,.2f}",
            )
        console.print(table)
    console.print("size, MB: " + ", ".join(f"{name} {mb:,.0f}" for name, mb in size.megabytes.items()))
    table = Table("ratio", "value", "aim", title=f"{size.rows:,} rows: ratios")
    for name, value in size.ratios().items():
        aim = AIMS.get(name)
        met = aim is not None and (value >= aim if name.startswith("naive") else value <= aim)
        sign = "at least" if name.startswith("naive") else "at most"
        table.add_row(name, f"{value:,.2f}", "" if aim is None else f"{sign} {aim:g}: {'met' if met else 'MISSED'}")
    console.print(table)
    console.print(
        f"exact: {'yes' if size.exact else 'NO'} (rows, billed and effective cost of the rollup are the estate's)"
    )
    drift = abs(Decimal(size.totals["DOUBLE"]["billed"]) - Decimal(size.totals["true"]["billed"]))
    console.print(f"DOUBLE misses the billed total by {drift:.3g}")
    if size.agrees is not None:
        console.print(
            f"naive agrees: {'yes' if size.agrees else 'NO'} (rows, untagged rows, resources, groups; money to 1e-9)"
        )


def show_dagster(console: Console, runs: list[dict[str, Any]]) -> None:
    """Print Dagster's share."""
    table = Table(title="Dagster: the daily job, three sources, about 20 rows a day each")
    for heading in ("run", "CPU s", "wall s", "wall s a day", "outside our functions", "events"):
        table.add_column(heading, justify="left" if heading == "run" else "right")
    for run in runs:
        table.add_row(
            run["run"],
            f"{run['cpu']:.2f}",
            f"{run['wall']:.2f}",
            f"{run['wall_per_day']:.3f}",
            f"{run['outside_our_functions']:.0%}",
            str(run["events"]),
        )
    console.print(table)


def describe_machine() -> dict[str, Any]:
    """What ran it, without names and places."""
    cpu = machine.processor() or machine.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = models[0] if models else cpu
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "cpu": cpu,
        "load_at_start": os.getloadavg()[0],
        "python": machine.python_version(),
        **{name: version(name) for name in ("duckdb", "pandas", "pyarrow", "dagster")},
    }


def as_json(size: Size) -> dict[str, Any]:
    """One size for the results file."""
    steps = {n: {"cpu_s": m.cpu, "wall_s": m.wall, "peak_mb": m.rss_mb} for n, m in size.steps.items()}
    return {**asdict(size), "steps": steps, "ratios": size.ratios()}


def main() -> None:
    """Run, print, write the results file."""
    parser = argparse.ArgumentParser(prog="benchmarks.attribution", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000], help="sizes of the export")
    parser.add_argument("--repeats", type=int, help="runs of each variant (3 up to a million rows, 1 above)")
    parser.add_argument("--keep", type=Path, help="keep exports and lakes in this folder")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the results file")
    options = parser.parse_args()
    console = Console(width=max(100, Console().width))
    found: dict[str, Any] = {"machine": describe_machine(), "aims": AIMS, "sizes": {}}
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="finops-bench-")))
        for rows in options.rows:
            place = folder / str(rows)
            place.mkdir(parents=True)
            size = run_size(console, place, rows, options.repeats or (3 if rows <= NAIVE_ROWS else 1))
            show(console, size)
            found["sizes"][str(rows)] = as_json(size)
            write_results(options.output, found)
            if not options.keep:
                shutil.rmtree(place)
        place = folder / "dagster"
        place.mkdir()
        found["dagster"] = measure("dagster_overhead:overhead", str(place)).result
        show_dagster(console, found["dagster"])
        write_results(options.output, found)


if __name__ == "__main__":
    main()
