"""The whole platform on one screen."""

from __future__ import annotations

import logging
import warnings

import dagster as dg
from dagster_duckdb_pandas import DuckDBPandasIOManager

from finops_assets.assets.daily import daily_assets
from finops_assets.assets.raw import raw_asset
from finops_assets.assets.reports import IO_MANAGER, report_assets
from finops_assets.checks.raw import raw_checks
from finops_assets.partitions import utc_days
from finops_assets.platform import Platform
from finops_assets.settings import Settings, load_settings


# Two features that Dagster calls unfinished and that we chose knowingly: the versions are pinned for them.
warnings.filterwarnings("ignore", r".*partitions_def on an AssetCheckSpec", dg.PreviewWarning)
warnings.filterwarnings("ignore", r".*backfill_policy", dg.BetaWarning)


def build_definitions(settings: Settings) -> dg.Definitions:
    """The asset graph of a configuration."""
    platform = Platform(settings)
    days = utc_days(settings.first_day)
    raw = [raw_asset(source, days, settings.owner) for source in settings.sources]
    daily = daily_assets(platform, days)
    reports = report_assets(settings.owner)
    return dg.Definitions(
        assets=[*raw, daily, *reports],
        asset_checks=[raw_checks(source, days) for source in settings.sources],
        jobs=[
            dg.define_asset_job("daily", selection=dg.AssetSelection.assets(*raw, daily), description="Days, from export to rollup."),
            dg.define_asset_job("publish", selection=dg.AssetSelection.assets(*reports), description="Reports and the published copy."),
        ],
        sensors=[
            dg.AutomationConditionSensorDefinition(
                "reports_follow_the_rollup",
                target=dg.AssetSelection.assets(*reports),
                default_status=dg.DefaultSensorStatus.RUNNING,
            )
        ],
        resources={
            "platform": platform,
            IO_MANAGER: DuckDBPandasIOManager(database=str(settings.warehouse)),
        },
        executor=dg.in_process_executor,
    )


class _GuardGates(logging.Filter):
    """Dagster warns that a check without a result does not gate; here the guard gates, see docs/gates.md."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "emitted no result in step" not in record.getMessage()


logging.getLogger("dagster._core.execution.plan.active").addFilter(_GuardGates())


@dg.definitions
def defs() -> dg.Definitions:
    return build_definitions(load_settings())
