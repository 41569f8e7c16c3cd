"""One small platform, published, and the explorer on it: what every test of the explorer looks at."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import dagster as dg
from typer.testing import CliRunner

from finops_assets.cli.program import app
from finops_assets.cost.coverage import Covered
from finops_assets.cost.currency.conversion import convert_days, day_rates
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.facts import build_facts, facts_stamp
from finops_assets.evaluate.owners.suggest import SUGGESTION_COLUMNS
from finops_assets.graph.assets.allocation import allocation_assets
from finops_assets.graph.assets.anomalies import anomaly_assets
from finops_assets.graph.assets.budgets import budget_assets
from finops_assets.graph.assets.commitment_use import commitment_use_asset
from finops_assets.graph.assets.forecast import forecast_asset
from finops_assets.graph.assets.governance import governance_assets
from finops_assets.graph.assets.report_tables import IO_MANAGER, ReportTables
from finops_assets.graph.assets.unit_costs import unit_cost_assets
from finops_assets.graph.assets.waste import waste_asset
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets.tables import ddl, declarations
from finops_assets.tables.rows import Rows
from finops_assets.tables.values import arrow
from finops_assets_tests.conftest import csv_text, focus_row
from finops_assets_tests.shared import made_once

FIRST, LAST = date(2026, 9, 1), date(2026, 10, 17)
HELD, SPIKE = date(2026, 10, 5), date(2026, 10, 12)
REASON = "raw/gcp:complete failed: 3 of 4 rows are not complete. Next: have it delivered again"
FORMULA, SCRIPT, BACKWARDS = '=hyperlink("http://example.com")', "<script>alert(1)</script>", "live\u202egnp"
SUGGESTED = "payments"
SETTINGS = f"""
first_day: {FIRST}
lake: lake
warehouse: w.duckdb
published: p.duckdb
sources:
  - {{name: aws, provider: AWS, uri: exports/aws, layout: files}}
  - {{name: gcp, provider: Google Cloud, uri: exports/gcp, layout: files}}
dimensions: {{team: {{keys: [team]}}, department: {{keys: [dept]}}, environment: {{keys: [env]}}}}
budgets: budgets.csv
unit_metrics: units.csv
unit_costs:
  - {{name: cost_per_order, metric: orders, cost: {{department: shop}}, most: {{USD: 0.75}}}}
currency: {{reporting: EUR, rates: rates.csv}}
shared_cost:
  - {{name: untagged, cost: {{team: __untagged__}}, method: proportional}}
tag_policy:
  required: [team]
  thresholds: {{department: {{warn_above: 90, block_above: 95}}, team: {{warn_above: 90, block_above: 95}}}}
"""
BUDGETS = (
    "department,team,period,from,to,basis,currency,amount,threshold\n"
    "shop,web,month,,,effective,USD,600,80\n,,month,,,effective,USD,1500,80\n"
)
RATES = "date,from,to,rate,source\n" + "".join(
    f"{FIRST + timedelta(days=n)},USD,EUR,0.8{n:02},test\n" for n in range((LAST - FIRST).days + 1)
)


UNITS = "date,metric,quantity,team\n" + "".join(
    f"{FIRST + timedelta(days=n)},orders,{n + 3 if n != 44 else 9},web\n" for n in range((LAST - FIRST).days) if n != 40
)


def bill(source: str, day: date) -> list[dict[str, Any]]:
    """A day of a source: amounts with eighteen places, and names that somebody meant ill."""

    def row(cost: str, tags: str, **more: Any) -> dict[str, Any]:
        amounts = dict.fromkeys(("EffectiveCost", "ListCost", "ContractedCost"), cost)
        provider = {"aws": "AWS", "gcp": "Google Cloud"}[source]
        return focus_row(
            str(day), **amounts | {"BilledCost": f"{cost}1"}, Tags=tags, ProviderName=provider, SubAccountName="shop-prod",
            RegionName="Ireland", **more,
        )  # fmt: skip

    n = (day - FIRST).days
    if source == "gcp":
        return [
            row("2.000000000000000001", '{"team": "api", "dept": "shop"}', ServiceName="Runner", ResourceId="g-1"),
            row("1.25", "{}", ServiceName=SCRIPT, ResourceId="g-2", BillingCurrency="EUR"),
        ]
    web = "95.123456789012345678" if day == SPIKE else f"{20 + n % 3}.123456789012345678"
    return [
        row(web, '{"team": "web", "dept": "shop", "env": "prod"}', ResourceId="i-1", ResourceName="front"),
        row("3.5", f'{{"team": "{BACKWARDS}", "dept": "shop"}}', ResourceId="i-2", ServiceCategory="Storage"),
        row("0.75", '{"team": "' + FORMULA.replace('"', '\\"') + '", "dept": "shop"}', ResourceId="i-4"),
        row("1.1", "{}", ResourceId="i-3", ResourceName=SCRIPT),
    ]


def deliver(folder: Path, end: date, dearer: bool = False) -> None:
    for source in ("aws", "gcp"):
        place = folder / "exports" / source
        place.mkdir(parents=True, exist_ok=True)
        days = [FIRST + timedelta(days=n) for n in range((end - FIRST).days)]
        rows = [row for day in days for row in bill(source, day)]
        if dearer and source == "aws":
            rows[-1]["EffectiveCost"] = "1000.000000000000000009"
        (place / "all.csv").write_text(csv_text(rows), encoding="utf-8")


def build(platform: Platform, first: date, end: date) -> None:
    """From the exports to the rollup; of the day HELD the source gcp is held by a gate."""
    days = [first + timedelta(days=n) for n in range((end - first).days)]
    settings, lake = platform.settings, platform.lake
    for exported in settings.sources:
        land_source(lake, settings.engine, exported, settings.first_day)
        compose_days(lake, settings.engine, exported, days)
    for source in platform.source_names:
        kept = [day for day in days if (source, day) != ("gcp", HELD)]
        build_facts(lake, settings.engine, platform.rules, [source], kept)
    covered = {
        (source, day): Covered(
            *(("held", REASON) if (source, day) == ("gcp", HELD) else ("built", "")),
            facts_stamp(lake, platform.rules, source, day) or "",
        )
        for source in platform.source_names
        for day in days
    }
    build_rollup(lake, platform.warehouse, platform.rules, settings, days, covered)
    assert settings.currency
    with platform.warehouse.reading() as connection:
        rates = day_rates(connection, settings.currency, days)
    convert_days(platform.warehouse, settings.currency, rates, settings.dimensions)


def evaluate(platform: Platform) -> None:
    """Forecast, budgets, anomalies, tags, shared cost: by their assets, as every night."""
    settings = platform.settings
    assert settings.budgets
    assets = [
        forecast_asset(settings.owner), *budget_assets(settings.budgets, settings.owner),
        *anomaly_assets(settings.owner), governance_assets(settings.owner), *allocation_assets(settings),
        *unit_cost_assets(settings), commitment_use_asset(settings.owner), waste_asset(settings.owner),
    ]  # fmt: skip
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"platform": platform, IO_MANAGER: ReportTables(database=str(settings.warehouse))}
        assert dg.materialize(assets, instance=instance, resources=resources).success


def suggest(platform: Platform) -> None:
    """Suggestions as the asset that makes them writes them."""
    rows = [
        {
            "source": "aws", "ResourceId": "i-3", "dimension": dimension, "rank": 1, "value": value, "confidence": 0.93,
            "evidence": "9 of 10 in its account are; its name says so", "name": SCRIPT, "account": "1",
            "account_name": "shop-prod", "service": "Machines", "region": "Ireland",
            "first_seen": datetime(2026, 10, 1, tzinfo=UTC), "BillingCurrency": "USD", "effective_cost": Decimal("33.000000000000000001"),
        }
        for dimension, value in (("team", SUGGESTED), ("department", "shop"))
    ]  # fmt: skip
    declared = declarations.table("owner_suggestions")
    with platform.warehouse.writing() as connection:
        table = Rows(SUGGESTION_COLUMNS, [[row[name] for name in SUGGESTION_COLUMNS] for row in rows])
        ddl.replace_all(connection, declared, arrow(table, declared))


@dataclass(frozen=True)
class Served:
    """The platform, and where its explorer is."""

    folder: Path
    platform: Platform
    address: str

    @property
    def config(self) -> Path:
        return self.folder / "finops.yaml"

    def finops(self, *arguments: str) -> str:
        """What a command prints to standard output."""
        told = CliRunner().invoke(app, [*arguments, "-c", str(self.config)])
        assert told.exit_code == 0, told.output
        return told.stdout

    def rows(self, *arguments: str) -> list[dict[str, str]]:
        """What a report prints as CSV."""
        return list(csv.DictReader(io.StringIO(self.finops(*arguments, "--format", "csv"))))

    def get(self, path: str) -> bytes:
        with urlopen(f"{self.address}{path}", timeout=60) as answer:
            content: bytes = answer.read()
            return content


def published_platform(folder: Path, more: str = "") -> Platform:
    """The platform built, evaluated and published, in an empty folder of its own. `more`: of finops.yaml, of what is asked."""
    return published_copy(made_once("explored", _evaluated), folder, more)


def published_copy(made: Path, folder: Path, more: str = "") -> Platform:
    """A copy of a folder with the platform, published there: what is published names the lake's files in full."""
    shutil.copytree(made, folder, dirs_exist_ok=True)
    config = folder / "finops.yaml"
    config.write_text(SETTINGS + more, encoding="utf-8")
    platform = Platform(parse_settings(SETTINGS + more, config))
    platform.warehouse.publish(platform.lake, platform.settings.dimensions)
    return platform


def _evaluated(folder: Path) -> None:
    for name, text in (("budgets.csv", BUDGETS), ("rates.csv", RATES), ("units.csv", UNITS)):
        (folder / name).write_text(text, encoding="utf-8")
    platform = Platform(parse_settings(SETTINGS, folder / "finops.yaml"))
    deliver(folder, LAST + timedelta(days=1))
    build(platform, FIRST, LAST + timedelta(days=1))
    evaluate(platform)
    suggest(platform)


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """That platform, and `finops explore` on it as a process."""
    platform = published_platform(folder)
    config = folder / "finops.yaml"
    command = [str(Path(sys.executable).with_name("finops")), "explore", "--port", "0", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("http://127.0.0.1:"), line
            yield Served(folder, platform, line.split("/ ", 1)[0])
        finally:
            process.terminate()
