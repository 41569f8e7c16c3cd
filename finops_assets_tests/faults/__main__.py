"""`python -m finops_assets_tests.faults`: try the faults, print the table, write JSON and the table of the docs."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
import time
from pathlib import Path

from finops_assets_tests.faults import files, hostile, kills, proxied, starved, together
from finops_assets_tests.faults.project import SHIPPED
from finops_assets_tests.faults.table import Row, as_markdown, write_docs, write_json

RESULTS = SHIPPED / "benchmarks" / "results" / "faults.json"
DOCS = SHIPPED / "docs" / "reference" / "reliability.md"
CAMPAIGNS = ("kills", "starved", "stores", "hostile", "files", "together")


def main() -> int:
    """Exit code 0 where nothing was found, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m finops_assets_tests.faults", description=__doc__)
    parser.add_argument("--points", type=int, default=300, help="points at which processes are killed")
    parser.add_argument("--minutes", type=float, default=5, help="how long everything runs at once")
    parser.add_argument("--files", type=int, default=2_000, help="mutated files")
    parser.add_argument("--budget", type=float, default=math.inf, help="minutes after which no kill or file is begun")
    parser.add_argument("--only", action="append", choices=CAMPAIGNS, help="some of the campaigns")
    parser.add_argument("--stage", default="", help="only this stage of the kills")
    parser.add_argument("--store", action="append", choices=("S3", "Azure", "GCS"), help="only these of the stores")
    parser.add_argument("--workers", type=int, default=1, help="projects at once")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument(
        "--docs", type=Path, default=None, help="page whose table is written (docs/reference/reliability.md)"
    )
    parser.add_argument("--keep", type=Path, help="scratch folder to use and keep")
    asked = parser.parse_args()
    scratch = asked.keep or Path(tempfile.mkdtemp(prefix="faults-"))
    scratch.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    mark = {"seed": asked.seed, "points": asked.points, "minutes": asked.minutes, "files": asked.files}
    began = time.monotonic()
    until = began + 60 * asked.budget

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.0f} s  {text}", file=sys.stderr, flush=True)

    def keep() -> None:
        """After each campaign: hours are behind it."""
        result = write_json(asked.json, rows, mark)
        if asked.docs:
            write_docs(asked.docs, result)

    try:
        for name in asked.only or CAMPAIGNS:
            say(name)
            match name:
                case "kills":
                    rows += kills.kills(scratch, asked.seed, asked.points, asked.workers, say, asked.stage, until)
                case "starved":
                    rows += starved.starved(scratch, asked.seed, say)
                case "stores":
                    rows += proxied.stores(scratch, asked.seed, say, tuple(asked.store or proxied.KINDS))
                case "hostile":
                    rows += hostile.hostile(scratch, asked.seed, say)
                case "together":
                    rows += together.together(scratch, asked.seed, asked.minutes, say)
                case "files":
                    rows += files.files(scratch, asked.seed, asked.files, say, until=until)
            keep()
    finally:
        if not asked.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    print(as_markdown(row.as_json() for row in rows))
    return int(any(row.faults for row in rows))


if __name__ == "__main__":
    sys.exit(main())
