"""Pods of clusters beside as many facts of a bill: `python -m benchmarks.clusters [POD_DAYS …]`.

A node of the bill has ten rows a day and fifty pods, so a million parts are of 20,000 rows, 2,000 nodes and 100,000 pods. Beside
them a bill of as many rows takes the path that it would take. All of one day; every step in a process of its own, CPU before wall.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

# Nothing heavy may be imported here: a child's peak memory begins with its parent's.
from benchmarks.child import Measured, measure
from tools.results import write_results

RESULTS = Path(__file__).parent / "results" / "clusters.json"
SIZES = (1_000_000, 3_000_000, 10_000_000)


def measured(parts: int) -> dict[str, Any]:
    """What as many parts and as many plain facts take, step by step."""
    found: dict[str, Any] = {"parts": parts}
    for name, pods in (("split", "yes"), ("plain", "no")):
        with tempfile.TemporaryDirectory(dir=os.environ.get("FINOPS_BENCH")) as folder:
            made = measure("pods:deliver", folder, parts, pods)
            steps: dict[str, Measured] = {}
            for step in (*(("usage",) if pods == "yes" else ()), "raw", "facts"):
                steps[step] = measure(f"pods:{step}", folder)
                print(parts, name, step, round(steps[step].cpu, 1), "CPU s", flush=True)
            found[name] = {**made.result, **{step: each.as_json() for step, each in steps.items()}}
            if found[name]["facts"]["facts"] != parts:
                raise RuntimeError(f"found {found[name]['facts']['facts']} facts, not {parts}")
    return found


def main() -> None:
    sizes = [int(text) for text in sys.argv[1:]] or list(SIZES)
    results: dict[str, Any] = {"sizes": [measured(parts) for parts in sizes]}
    results["load"], results["cores"] = round(os.getloadavg()[0], 1), os.cpu_count()
    write_results(RESULTS, results)


if __name__ == "__main__":
    main()
