"""One variant in a process of its own, so that its peak memory is its own: `python -m benchmarks.child …`.

Time is taken around the work alone, after all imports. Peak memory is the whole process, imports included.
A process started by another begins with that one's peak as its own, so the caller must stay small.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

MARK = "measured: "


@dataclass(frozen=True)
class Measured:
    """What one run of a variant took, and what it returned."""

    wall: float
    cpu: float
    rss_mb: float
    result: Any = None

    def as_json(self) -> dict[str, Any]:
        """What it returned, if that is a mapping with figures of its own, and what it took."""
        took = {"wall_seconds": round(self.wall, 1), "cpu_seconds": round(self.cpu, 1), "peak_mb": round(self.rss_mb)}
        return {**(self.result or {}), **took}


def measure(variant: str, *arguments: str | int) -> Measured:
    """Run `module:function` of this package in a new process.

    Raises:
        RuntimeError: the process failed; with the end of what it wrote.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", variant, *map(str, arguments)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not answers:
        raise RuntimeError(
            f"{variant} {arguments} failed ({done.returncode}):\n{done.stdout[-500:]}{done.stderr[-3000:]}"
        )
    return Measured(**json.loads(answers[-1].removeprefix(MARK)))


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _main(variant: str, *arguments: str) -> None:
    module, _, name = variant.partition(":")
    work = getattr(import_module(f"benchmarks.{module}"), name)
    cpu, start = _cpu(), time.perf_counter()
    result = work(*arguments)
    wall, used = time.perf_counter() - start, _cpu() - cpu
    # Kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    print(MARK + json.dumps({"wall": wall, "cpu": used, "rss_mb": peak, "result": result}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
