"""The work of a day without Dagster around it, in a process that does it again and again.

`python -m finops_assets_tests.faults.without_dagster finops.yaml` reads a line of days, lands every source, composes the
days, writes facts and rollup, and answers with a line of JSON: `code` 0, or 1 and in `said` the sentence of an error that
was made on purpose, or 2 and a traceback. Starting a process takes longer than the work.
"""

from __future__ import annotations

import io
import json
import sys
import traceback
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path

from finops_assets.base.errors import FinopsError
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.facts import build_facts
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings


def work(config: Path, days: list[date]) -> None:
    """From the export to the rollup; prints what became of deliveries that were not landed."""
    settings = load_settings(config)
    platform = Platform(settings)
    for source in settings.sources:
        for entry in land_source(platform.lake.anew(), settings.engine, source, settings.first_day):
            if entry.state != "live":
                print(f"{source.name} {entry.state}: {entry.reason}")
        compose_days(platform.lake.anew(), settings.engine, source, days)
    build_facts(platform.lake.anew(), settings.engine, platform.rules, platform.source_names, days)
    build_rollup(platform.lake.anew(), platform.warehouse, platform.rules, settings, days)


def serve(config: Path) -> None:
    """Work for each line that comes in."""
    for line in sys.stdin:
        out = io.StringIO()
        try:
            with redirect_stdout(out):
                work(config, [date.fromisoformat(day) for day in line.split()])
            code = 0
        except FinopsError as error:
            code = 1
            out.write(f"error {error}")
        except Exception:
            code = 2
            out.write(traceback.format_exc())
        print(json.dumps({"code": code, "said": out.getvalue()}), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
