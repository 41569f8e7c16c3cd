"""What was tried and what was found: a table for people, JSON for machines, and the part of docs/reference/reliability.md."""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finops_assets_tests.faults.project import SHIPPED, Fault
from tools.results import commit

KINDS = ("lost", "doubled", "silent", "hung", "unclear", "left")
"""lost, doubled: rows missing or counted twice; silent: another wrong figure; hung: no end; unclear: a traceback, an
undocumented exit code or an error without a sentence; left: slots, unfinished runs or temporary files."""
SHOWN = 40
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


@dataclass
class Row:
    """One line of the table."""

    name: str
    tried: int = 0
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    """The trial, as it can be repeated, and what it found."""
    longest: float | None = None
    """Seconds of the longest recovery."""
    ratio: float | None = None
    """The longest recovery beside a clean run of the same command."""
    skipped: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    """More that was counted."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(
        self, trial: str, faults: Iterable[Fault], recovery: float | None = None, ratio: float | None = None
    ) -> None:
        """Enter one trial."""
        with self.lock:
            self.tried += 1
            self.faults += [(trial, fault) for fault in faults]
            self.longest = max(filter(None, (self.longest, recovery)), default=None)
            self.ratio = max(filter(None, (self.ratio, ratio)), default=None)

    def count(self, what: str, number: int = 1) -> None:
        """Count something beside the faults."""
        with self.lock:
            self.figures[what] = self.figures.get(what, 0) + number

    def as_json(self) -> dict[str, Any]:
        counts = Counter(fault.kind for _, fault in self.faults)
        return {
            "name": self.name,
            "tried": self.tried,
            **{kind: counts[kind] for kind in KINDS},
            "longest_recovery_seconds": None if self.longest is None else round(self.longest, 1),
            "longest_recovery_ratio": None if self.ratio is None else round(self.ratio, 2),
            "skipped": self.skipped,
            "figures": self.figures,
            "faults": [{"trial": trial, "kind": f.kind, "what": f.what} for trial, f in self.faults[:SHOWN]],
        }


def measured_on() -> dict[str, Any]:
    """The commit and the machine."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
    }


def as_markdown(rows: Iterable[dict[str, Any]]) -> str:
    """The table, for the terminal and the docs."""
    lines = [
        f"| what | tried | {' | '.join(KINDS)} | longest recovery | of a clean run |",
        f"|---|---:|{'---:|' * len(KINDS)}---:|---:|",
    ]
    for row in rows:
        name = row["name"] + (f" (skipped: {row['skipped']})" if row["skipped"] else "")
        longest, ratio = row["longest_recovery_seconds"], row["longest_recovery_ratio"]
        lines.append(
            f"| {name} | {row['tried']:,} | {' | '.join(str(row[kind]) for kind in KINDS)} |"
            f" {f'{longest:.0f} s' if longest is not None else ''} | {f'{ratio:.1f} ×' if ratio is not None else ''} |"
        )
    return "\n".join(lines)


def write_json(file: Path, rows: Iterable[Row], asked: dict[str, Any]) -> dict[str, Any]:
    """Write the result; rows of an earlier result that were not tried now are kept, with the commit of theirs."""
    mark = {**measured_on(), **asked}
    now = [{**row.as_json(), "of": mark} for row in rows]
    before = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
    names = {row["name"] for row in now}
    kept = [row for row in before if row["name"] not in names]
    result = {"rows": sorted(kept + now, key=lambda row: row["name"])}
    file.parent.mkdir(parents=True, exist_ok=True)
    # Where it was tried says nothing to others.
    text = json.dumps(result, indent=1, ensure_ascii=False)
    for place in (str(SHIPPED), sys.base_prefix):
        text = text.replace(place, "…")
    file.write_text(f"{text}\n", encoding="utf-8")
    return result


def write_docs(file: Path, result: dict[str, Any]) -> None:
    """Put the table between the marks of a page."""
    text = file.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    commits = sorted({row["of"]["commit"][:12] for row in result["rows"]})
    body = f"{as_markdown(result['rows'])}\n\nMeasured at {', '.join(commits)} (`benchmarks/results/faults.json`)."
    file.write_text(f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}", encoding="utf-8")
