"""The whole platform on one screen."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import dagster as dg

from finops_assets.graph.assets.accepted_owners import accepted_spec
from finops_assets.graph.assets.allocation import allocation_assets
from finops_assets.graph.assets.anomalies import anomaly_assets
from finops_assets.graph.assets.budgets import budget_assets
from finops_assets.graph.assets.conformance import conformance_asset
from finops_assets.graph.assets.daily import daily_assets
from finops_assets.graph.assets.deliveries import deliveries_asset, ledger_asset, repairs_asset
from finops_assets.graph.assets.forecast import forecast_asset
from finops_assets.graph.assets.governance import governance_assets
from finops_assets.graph.assets.health import health_asset
from finops_assets.graph.assets.owners import owner_assets
from finops_assets.graph.assets.page import page_asset
from finops_assets.graph.assets.raw import raw_asset
from finops_assets.graph.assets.report_tables import IO_MANAGER, ReportTables
from finops_assets.graph.assets.reports import report_assets
from finops_assets.graph.assets.sparse import sparse_asset
from finops_assets.graph.checks.raw import raw_checks
from finops_assets.graph.checks.shadow import shadow_check
from finops_assets.graph.executor import one_process
from finops_assets.graph.keys import CONVERTED, FACTS, ROLLUP
from finops_assets.graph.partitions import utc_days
from finops_assets.graph.sensors.alerts import alerts_sensor
from finops_assets.graph.sensors.dead_runs import dead_runs_sensor
from finops_assets.graph.sensors.deliveries import landing_job, source_sensor
from finops_assets.graph.sensors.follow import follow_sensor, following_job
from finops_assets.graph.sensors.owners import accepted_owners_sensor
from finops_assets.graph.sensors.rates import conversion_job, rates_sensor
from finops_assets.graph.sensors.retention import retention_sensor
from finops_assets.platform import Platform
from finops_assets.settings.load import config_path, load_settings
from finops_assets.settings.model import Settings

# Two features that Dagster calls unfinished and that we chose knowingly: the versions are pinned for them.
warnings.filterwarnings("ignore", r".*partitions_def on an AssetCheckSpec", dg.PreviewWarning)
warnings.filterwarnings("ignore", r".*backfill_policy", dg.BetaWarning)


def build_definitions(settings: Settings, file: Path | None = None) -> dg.Definitions:
    """The asset graph of a configuration; with its file sensors notice that it was changed."""
    platform = Platform(settings, file)
    days = utc_days(settings.first_day)
    raw = [raw_asset(source, days, settings.owner) for source in settings.sources]
    daily = daily_assets(platform, days)
    converted = [CONVERTED] if settings.currency else []
    budgets = budget_assets(settings.budgets, settings.owner) if settings.budgets else []
    anomalies = anomaly_assets(settings.owner)
    health = health_asset(settings.owner)
    governance = [governance_assets(settings.owner), sparse_asset(settings)]
    shared = allocation_assets(settings) if settings.shared_cost else []
    published_after = [
        *converted,
        *(key for made in (*budgets, *anomalies, *governance, *shared, health) for key in made.keys),
    ]
    reports = [*report_assets(settings.owner, published_after, tuple(settings.dimensions)), conformance_asset(settings)]
    reports += [repairs_asset(settings), health]
    evaluation = [forecast_asset(settings.owner), *budgets, *anomalies, *governance, *shared]
    # The page is of the evaluations, but not of the split of shared cost.
    judged = [key for made in (evaluation[0], *budgets, *anomalies, governance[0]) for key in made.keys]
    reports += [page_asset(settings.owner, judged)]
    correlation = owner_assets(platform)
    deliveries = [deliveries_asset(source, settings.owner) for source in settings.sources]
    ledger = ledger_asset(settings)
    landing = {source.name: landing_job(source) for source in settings.sources}
    by_day = dg.define_asset_job(
        "daily", selection=dg.AssetSelection.assets(*raw, daily), description="Days, from export to rollup."
    )
    followers = [key for made in (ledger, *evaluation, *reports, *correlation) for key in made.keys]
    following = following_job(followers)
    land_all = dg.define_asset_job(
        "export_check", selection=dg.AssetSelection.assets(*deliveries), description="Land what is new of every source."
    )
    convert = [conversion_job(CONVERTED)] if settings.currency else []
    return dg.Definitions(
        assets=[*deliveries, ledger, *raw, accepted_spec(settings.owner), daily, *reports, *evaluation, *correlation],
        asset_checks=[
            *(raw_checks(source, days) for source in settings.sources),
            *(shadow_check(source, days) for source in settings.shadows),
        ],
        jobs=[
            by_day,
            following,
            dg.define_asset_job(
                "publish",
                selection=dg.AssetSelection.assets(ledger, *evaluation, *reports),
                description="Reports and the published copy.",
            ),
            dg.define_asset_job(
                "owners",
                selection=dg.AssetSelection.assets(*correlation, "published_warehouse"),
                description="Owner suggestions, decisions on them, and the published copy.",
            ),
            land_all,
            *convert,
            *landing.values(),
        ],
        schedules=[
            dg.ScheduleDefinition(
                name=name,
                job=land_all,
                cron_schedule=cron,
                execution_timezone="UTC",
                default_status=dg.DefaultScheduleStatus.RUNNING,
                description="The night's export check; the days that changed follow by the sensor `follow`.",
            )
            for name, cron in (
                ("export_check", settings.night.export_check),
                ("last_export_check", settings.night.last_check),
            )
        ],
        sensors=[
            *(source_sensor(s, landing[s.name], settings.night.watch_seconds) for s in settings.sources),
            follow_sensor(by_day, following, followers, [FACTS, ROLLUP, *converted], settings.night.watch_seconds),
            *(
                rates_sensor(settings.currency, job, settings.night.watch_seconds)
                for job in convert
                if settings.currency
            ),
            alerts_sensor(platform),
            accepted_owners_sensor(settings.night.watch_seconds),
            retention_sensor(settings.keep_runs_days),
            dead_runs_sensor(),
        ],
        resources={
            "platform": platform,
            IO_MANAGER: ReportTables(
                database=str(settings.warehouse),
                published=str(settings.published),
                wait_minutes=settings.wait_minutes,
                dimensions=list(settings.dimensions),
            ),
        },
        executor=one_process(settings.wait_minutes),
    )


class _GuardGates(logging.Filter):
    """Dagster warns that a check without a result does not gate; here the guard gates, see docs/guides/gates.md."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "emitted no result in step" not in record.getMessage()


logging.getLogger("dagster._core.execution.plan.active").addFilter(_GuardGates())


@dg.definitions
def defs() -> dg.Definitions:
    return build_definitions(load_settings(), config_path())
