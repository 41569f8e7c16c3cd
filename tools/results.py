"""Results of benchmarks: read, written, and the commit that they were measured at."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def commit() -> str:
    """The commit that is checked out; with a mark if files of it were changed."""
    changed = bool(_git("status", "--porcelain", "--untracked-files=no"))
    return _git("rev-parse", "HEAD") + ("+changes" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def write_results(file: Path, results: Mapping[str, Any]) -> None:
    """Write a result with the commit that it was measured at."""
    file.parent.mkdir(parents=True, exist_ok=True)
    told = {"commit": commit(), **{name: value for name, value in results.items() if name != "commit"}}
    file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def read_results(name: str) -> dict[str, Any]:
    """A result by the name of its benchmark."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found
