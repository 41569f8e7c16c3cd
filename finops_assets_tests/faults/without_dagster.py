"""The work of a day without Dagster around it: `python -m finops_assets_tests.faults.without_dagster finops.yaml DAY…`.

Lands every source, composes the days, writes facts and rollup. Ends with 0, or with 1 and the sentence of an error that
was made on purpose; anything else is a traceback.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

from finops_assets.daily_tables import build_rollup
from finops_assets.days import compose_days
from finops_assets.errors import FinopsError
from finops_assets.facts import build_facts
from finops_assets.landing import land_source
from finops_assets.platform import Platform
from finops_assets.settings import load_settings


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


if __name__ == "__main__":
    try:
        work(Path(sys.argv[1]), [date.fromisoformat(day) for day in sys.argv[2:]])
    except FinopsError as error:
        print(f"error {error}")
        sys.exit(1)
