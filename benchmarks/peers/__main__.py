"""Ours beside four other ways, on one export, to the same answers: `make bench-peers`.

Each way runs in a process of its own, imports included, one after the other, in turns; figures are medians. Its answers are
compared with the estate's own totals and with ours, as decimals. The dlt and dbt stack and polars have an environment of
their own (.venv/peers).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.child import measure
from benchmarks.peers.answers import MARK, TOTALS
from tools.results import write_results

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
OF_PEERS = ROOT / ".venv" / "peers" / "bin" / "python"


@dataclass(frozen=True)
class Way:
    """One way: how its table calls it, what runs it, and what it leaves out of what ours does."""

    name: str
    module: str
    leaves_out: str = ""
    own_environment: bool = False


SPLIT = "split by day, fingerprint, restatement; repairs; gates"
WAYS = (
    Way("finops_assets, every gate", "ours"),
    Way("plain DuckDB script", "duckdb_script", f"{SPLIT}; file and row of a charge; money exact as far as its author knows the bill"),
    Way("polars script", "polars_script", f"{SPLIT}; file and row of a charge; money exact as far as its author knows the bill", True),
    Way("dlt and dbt-duckdb", "dlt_and_dbt", f"{SPLIT}; file and row of a charge; money exact as far as its author knows the bill", True),
    Way("pandas", "pandas_script", f"{SPLIT}; file and row of a charge; exact money"),
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What one run took, and its answers."""

    cpu: float
    wall: float
    peak_mb: float
    totals: tuple[str, ...]
    teams: tuple[tuple[str, ...], ...]


def run(way: Way, folder: Path) -> Run:
    """Run a way in a new process.

    Raises:
        RuntimeError: it failed; with the end of what it wrote.
    """
    shutil.rmtree(folder / f"peer_{way.module}", ignore_errors=True)
    python = OF_PEERS if way.own_environment else Path(sys.executable)
    output = folder / "output"
    started = time.perf_counter()
    with output.open("w+") as file:
        process = subprocess.Popen(
            [python, "-m", f"benchmarks.peers.{way.module}", str(folder)],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    written = output.read_text()
    answers = [line for line in written.splitlines() if line.startswith(MARK)]
    if process.returncode or not answers:
        raise RuntimeError(f"{way.name} failed ({process.returncode}):\n{written[-3000:]}")
    told = json.loads(answers[-1].removeprefix(MARK))
    # Kilobytes on Linux, bytes on macOS.
    peak = used.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    return Run(used.ru_utime + used.ru_stime, wall, peak, tuple(told["totals"]), tuple(map(tuple, told["teams"])))


def main() -> None:
    """Run, print, write the results file."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    console = Console(width=max(120, Console().width))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="finops-peers-")))
        true = measure("platform:deliver", str(folder), options.rows).result
        measure("peers.told:tell_peers", str(folder))
        runs: dict[str, list[Run]] = {way.name: [] for way in WAYS}
        for repeat in range(options.repeats):
            for way in WAYS:
                with console.status(f"{repeat + 1} of {options.repeats}: {way.name}"):
                    runs[way.name].append(run(way, folder))
    ours = runs[WAYS[0].name]
    found: list[dict[str, Any]] = []
    table = Table("way", "CPU s", "wall s", "peak MB", "its CPU / ours", "answers", "leaves out")
    for way in WAYS:
        of_way = runs[way.name]
        first = of_way[0]
        entry = {
            "way": way.name,
            "cpu_s": round(statistics.median(r.cpu for r in of_way), 2),
            "wall_s": round(statistics.median(r.wall for r in of_way), 2),
            "peak_mb": round(max(r.peak_mb for r in of_way)),
            "cpu_of_ours": round(statistics.median(r.cpu / o.cpu for r, o in zip(of_way, ours, strict=True)), 2),
            "answers": compared(first, ours[0], true),
            "leaves_out": way.leaves_out,
        }
        found.append(entry)
        table.add_row(*map(str, entry.values()))
    console.print(table)
    write_results(options.output, {"rows": options.rows, "repeats": options.repeats, "ways": found})


def compared(run: Run, ours: Run, true: dict[str, Any]) -> str:
    """How near a way comes: `to the last digit`, `to 1e-9`, or what differs."""
    totals = dict(zip(TOTALS, run.totals, strict=True))
    counted = [name for name in TOTALS[:4] if Decimal(totals[name]) != Decimal(dict(zip(TOTALS, ours.totals))[name])]
    if counted or int(Decimal(totals["rows"])) != true["rows"]:
        return f"other counts: {', '.join(counted) or 'rows'}"
    if [row[:3] for row in run.teams] != [row[:3] for row in ours.teams]:
        return "other teams"
    mine = [(totals["billed"], true["billed"]), (totals["effective"], true["effective"])]
    mine += [
        pair for row, our in zip(run.teams, ours.teams, strict=True) for pair in zip(row[3:], our[3:], strict=True)
    ]
    off = [abs(Decimal(a) - Decimal(b)) / max(abs(Decimal(b)), Decimal("1e-9")) for a, b in mine]
    if not any(off):
        return "to the last digit"
    return f"to {max(off):.0e}" if max(off) < Decimal("1e-9") else f"off by {max(off):.1e}"


if __name__ == "__main__":
    main()
