"""What the rollup costs by its dimensions: rows, time and bytes of daily_cost_by_team and what stands beside it.

    python -m benchmarks.dimensions [--rows 10000000] [--resources 40000]

Facts of a month of one company, as they would be attributed: 400 teams of 12 departments, 4 environments, 300 cost
centers (each of one team's two), 80 products, 1,200 applications (each of one team), 16 service categories. Dimensions
that depend on the team, as they do in companies: what multiplies are applications, environments and services. The last
line has a seventh dimension whose values are resources: `rollup.MOST_VALUES` keeps it out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb

from finops_assets.base.period import days_between
from finops_assets.base.sql import literal
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.focus.specification import columns
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings

FIRST = date(2026, 10, 1)
DAYS = days_between(FIRST, FIRST + timedelta(days=31))
DAYS_AT_ONCE = 8
NAMES = ("department", "team", "environment", "cost_center", "product", "application", "resource")
VALUES = {
    "ProviderName": "'AWS'", "BillingCurrency": "'USD'", "ChargeCategory": "'Usage'", "ResourceId": "'r' || r",
    "ServiceCategory": "'s' || (r // 7 % 4 + r % 400 % 4 * 4)",
    **dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), "CAST(n % 97 AS DECIMAL(38, 18)) / 100"),
}  # fmt: skip
DIMENSIONS = {
    "department": "'d' || (r % 400 % 12)",
    "team": "CASE WHEN r % 20 > 0 THEN 't' || (r % 400) END",
    "environment": "CASE WHEN r % 10 > 0 THEN 'e' || (r // 400 % 4) END",
    "cost_center": "'c' || (r % 400 * 3 // 4 + r // 1600 % 2)",
    "product": "'p' || (r % 400 // 5)",
    "application": "CASE WHEN r % 30 > 0 THEN 'a' || (r % 400 * 3 + r // 400 % 3) END",
    "resource": "'r' || r",
}


def facts(folder: Path, rows: int, resources: int) -> None:
    """A facts file a day, as `build_facts` writes them."""
    platform = platform_with(folder, NAMES)
    kinds = {"decimal": "DECIMAL(38, 18)", "datetime": "TIMESTAMP"}
    for day in DAYS:
        values = {c.name: f"CAST(NULL AS {kinds.get(c.type, 'VARCHAR')})" for c in columns().values()} | VALUES
        values |= {
            "ChargePeriodStart": f"TIMESTAMP '{day}'", "ChargePeriodEnd": f"TIMESTAMP '{day + timedelta(days=1)}'",
            "BillingPeriodStart": f"TIMESTAMP '{FIRST}'",
        }  # fmt: skip
        listed = ", ".join(f"{sql} AS {name}" for name, sql in {**values, **DIMENSIONS}.items())
        file = platform.lake.day_file("facts", "aws", day)
        file.parent.mkdir(parents=True)
        with duckdb.connect() as connection:
            connection.execute(
                f"COPY (SELECT {listed} FROM (SELECT range AS n, range % {resources} AS r FROM range({rows // len(DAYS)})))"
                f" TO {literal(str(file))} (FORMAT parquet, COMPRESSION zstd)"
            )


def platform_with(folder: Path, names: tuple[str, ...]) -> Platform:
    """The same lake, and a warehouse by these dimensions."""
    keys = "".join(f"  {name}: {{keys: [{name}]}}\n" for name in names)
    warehouse = f"warehouse: {len(names)}.duckdb\npublished: published.duckdb\n"
    sources = "sources: [{name: aws, uri: in, layout: files}]\n"
    text = f"first_day: {FIRST}\nlake: lake\n{warehouse}{sources}dimensions:\n{keys}"
    return Platform(parse_settings(text, folder / "finops.yaml"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--resources", type=int, default=40_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        facts(folder, options.rows, options.resources)
        print("dimensions  rows of the rollup  of the history  seconds  MB")
        for count in (3, 4, 5, 6, 7):
            platform = platform_with(folder, NAMES[:count])
            started = time.monotonic()
            for low in range(0, len(DAYS), DAYS_AT_ONCE):
                build_rollup(
                    platform.lake, platform.warehouse, platform.rules, platform.settings, DAYS[low : low + DAYS_AT_ONCE]
                )
            seconds = time.monotonic() - started
            with platform.warehouse.reading() as connection:
                sizes = [
                    connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
                    for table in ("daily_cost_by_team", "reported_cost")
                ]
            size = platform.warehouse.path.stat().st_size / 2**20
            print(f"{count:>10}  {sizes[0]:>18,}  {sizes[1]:>14,}  {seconds:>7.1f}  {size:.1f}", flush=True)


if __name__ == "__main__":
    main()
