"""Converted figures follow the rates: a rate that came or changed asks for the days that it concerns.

Days that are built ask for nothing here: they are converted in the step of the rollup. The published copy is
looked at, which no writer locks, and the rate table; a day whose rates are missing is not asked for.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from finops_assets.base.period import consecutive
from finops_assets.cost.currency.conversion import day_rates, days_to_convert
from finops_assets.graph.run_range import DAYS_PER_RUN
from finops_assets.graph.sensors.deliveries import asked, digest
from finops_assets.graph.settings_in_force import SettingsChanged, in_force
from finops_assets.platform import Platform
from finops_assets.settings.currency import Currency
from finops_assets.storage.published_copy import read_copy

JOB = "convert"


def conversion_job(converted: dg.AssetKey) -> UnresolvedAssetJobDefinition:
    """The job that converts days of the rollup anew."""
    return dg.define_asset_job(
        JOB, selection=dg.AssetSelection.assets(converted), description="Days whose exchange rates came or changed."
    )


def rates_sensor(currency: Currency, job: UnresolvedAssetJobDefinition, seconds: int) -> dg.SensorDefinition:
    """The sensor of the rate table."""

    @dg.sensor(
        name="watch_rates",
        job=job,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks at {currency.rates.name}; converts the days whose rates came or changed.",
    )
    def watch(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
        try:
            platform = in_force(platform)
        except SettingsChanged as changed:
            return dg.SensorResult(skip_reason=str(changed))
        requests = list(_requests(context.instance, platform, currency))
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "every day that has its rates is converted with them",
        )

    return watch


def _requests(instance: dg.DagsterInstance, platform: Platform, currency: Currency) -> Iterator[dg.RunRequest]:
    if not platform.warehouse.published.is_file():
        return
    with read_copy(platform.warehouse.published) as connection:
        days = days_to_convert(connection, currency)
        rates = day_rates(connection, currency, days) if days else {}
    for chunk in consecutive(days, DAYS_PER_RUN):
        content = [[(o, c.exact, c.day, c.source) for o, c in sorted(rates[day].conversions.items())] for day in chunk]
        tags = {
            "dagster/asset_partition_range_start": chunk[0].isoformat(),
            "dagster/asset_partition_range_end": chunk[-1].isoformat(),
        }
        key = f"convert {currency.reporting} {chunk[0]}..{chunk[-1]} {digest(content)}"
        yield from asked(instance, key, JOB, tags, datetime.now(UTC))
