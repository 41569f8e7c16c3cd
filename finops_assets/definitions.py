"""What Dagster loads: the asset graph of finops.yaml."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import dagster as dg

from finops_assets.cost.engines.choose import require_extra
from finops_assets.graph.assets.report_tables import IO_MANAGER, report_tables
from finops_assets.graph.checks.raw import raw_checks
from finops_assets.graph.checks.shadow import shadow_check
from finops_assets.graph.executor import one_process
from finops_assets.graph.jobs import jobs_of, schedules_of
from finops_assets.graph.partitions import utc_days
from finops_assets.graph.stages import stages_of
from finops_assets.graph.watchers import sensors_of
from finops_assets.platform import Platform
from finops_assets.settings.load import config_path, load_settings
from finops_assets.settings.model import Settings
from finops_assets.storage.duck import require_address_space

# Two features that Dagster calls unfinished and that we chose knowingly: the versions are pinned for them.
warnings.filterwarnings("ignore", r".*partitions_def on an AssetCheckSpec", dg.PreviewWarning)
warnings.filterwarnings("ignore", r".*backfill_policy", dg.BetaWarning)


def build_definitions(settings: Settings, file: Path | None = None) -> dg.Definitions:
    """The asset graph of a configuration; with its file sensors notice that it was changed."""
    require_address_space(settings.engine)
    require_extra(settings.engine)
    platform, days = Platform(settings, file), utc_days(settings.first_day)
    stages = stages_of(platform, days)
    jobs = jobs_of(settings, stages)
    return dg.Definitions(
        assets=stages.assets,
        asset_checks=[
            *(raw_checks(source, days) for source in settings.sources),
            *(shadow_check(source, days) for source in settings.shadows),
        ],
        jobs=jobs.all,
        schedules=schedules_of(settings, jobs),
        sensors=sensors_of(platform, stages, jobs),
        resources={"platform": platform, IO_MANAGER: report_tables(settings)},
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
