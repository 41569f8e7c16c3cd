"""Tells Dagster of owners that people accepted, so that it calls the facts out of date; it starts no run."""

import dagster as dg

from finops_assets.graph.assets.accepted_owners import accepted_anew
from finops_assets.graph.settings_in_force import SettingsChanged, in_force
from finops_assets.platform import Platform


def accepted_owners_sensor(seconds: int) -> dg.SensorDefinition:
    """The sensor of the accepted owners."""

    @dg.sensor(
        name="watch_accepted_owners",
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks at the accepted owners; what is new makes the facts out of date until they are run again.",
    )
    def watch(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
        try:
            platform = in_force(platform)
        except SettingsChanged as changed:
            return dg.SensorResult(skip_reason=str(changed))
        # The resource remembers the rules that it was first asked for.
        seen = accepted_anew(context.instance, Platform(platform.settings).rules)
        if seen is None:
            return dg.SensorResult(skip_reason="no owner was accepted or withdrawn since")
        return dg.SensorResult(asset_events=[seen], skip_reason=f"version {seen.tags}: run the facts again to have it")

    return watch
