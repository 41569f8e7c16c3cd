"""The sensor that tells people. It follows Dagster's history with a cursor of its own.

Dagster's run-status sensors move on even if their body fails: a webhook that is down would lose the alert.
"""

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from finops_assets.alerts.alert import OpenAlert
from finops_assets.alerts.deliveries import (
    delivery_observations,
    late_observations,
    late_sources,
    of_department,
    told_once,
    usage_observations,
)
from finops_assets.alerts.dispatch import Dispatched, dispatch
from finops_assets.alerts.history import AlertHistory
from finops_assets.base.timestamps import stamp, unstamp
from finops_assets.evaluate.anomalies.notices import anomaly_observations
from finops_assets.evaluate.budgets.notices import budget_observations
from finops_assets.graph.keys import BUILD_STEP
from finops_assets.graph.run_alerts import (
    finished_runs,
    in_pieces,
    out_of_reach,
    run_observations,
    settings_observations,
    taken_out_observations,
)
from finops_assets.graph.settings_in_force import SettingsChanged, in_force
from finops_assets.platform import Platform

INTERVAL_SECONDS = 30
LEDGER_EVERY = timedelta(minutes=10)
"""Deliveries change in runs only; without one, the clock alone makes a source late or a wait too long."""


def alerts_sensor(platform: Platform) -> dg.SensorDefinition:
    """The sensor `alerts`."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Tells of failed checks, failed runs, refused deliveries and late sources, once, and of their end."
            " Channels: `alerts` in finops.yaml; what was told: alert_history."
        ),
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        now = datetime.now(UTC)
        try:
            current, changed = in_force(platform), None
        except SettingsChanged as error:
            current, changed = platform, str(error)
        cursor, done = tick(
            current,
            context.instance,
            context.cursor,
            now,
            os.environ,
            context.log.error,
            _checks(context),
            changed,
            _steps(context),
        )
        context.update_cursor(cursor)
        return dg.SkipReason(str(done))

    return alerts


def _checks(context: dg.SensorEvaluationContext) -> dict[str, set[str]]:
    """The names of all checks, by asset."""
    known: dict[str, set[str]] = {}
    if context.repository_def is not None:
        for key in context.repository_def.asset_graph.asset_check_keys:
            known.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
    return known


def _steps(context: dg.SensorEvaluationContext) -> set[str]:
    """The names of all steps."""
    known = context.repository_def
    return {node.name for job in known.get_all_jobs() for node in job.nodes} if known is not None else set()


def tick(
    platform: Platform,
    instance: dg.DagsterInstance,
    cursor: str | None,
    now: datetime,
    environment: Mapping[str, str],
    log_error: Callable[[str], None],
    checks: Mapping[str, Collection[str]] | None = None,
    changed: str | None = None,
    steps: Collection[str] = (),
) -> tuple[str, Dispatched]:
    """Look at what has happened since `cursor` (see _Cursor), tell of it, and return the new cursor.

    `changed` says why the settings are not those that were loaded, where the sensors stand still for it.

    The cursor goes back to Dagster only after everything seen stands in the history, with its notices: a tick
    that fails is repeated, and what it entered already is entered once.
    """
    history = AlertHistory.beside(platform.settings.warehouse)
    with history.opened() as opened:
        open_alerts = list(opened.open_alerts().values())
        seen_of = {
            what: opened.seen_of(what)
            for o in open_alerts
            if "first_day" in o.alert.figures
            for what in (o.alert.key.rpartition(" ")[0], f"step {BUILD_STEP}")
        }
    before = _Cursor.parse(cursor)
    runs, place = finished_runs(instance, before.place)
    seen = list(settings_observations(changed, now, open_alerts))
    look = bool(runs) or before.looked_at is None or now - before.looked_at >= LEDGER_EVERY
    if look:
        seen += out_of_reach(platform.settings, platform.landed_names, now, open_alerts, checks or {}, steps)
        seen += taken_out_observations(platform.settings.published, platform.source_names, now, open_alerts)
        deliveries, late, because = told_once(
            platform, delivery_observations(platform, now, open_alerts), late_sources(platform, now), open_alerts
        )
        seen += deliveries
        seen += usage_observations(platform, now, open_alerts)
        seen += late_observations(late, now, open_alerts, because)
        settings = platform.settings
        seen += anomaly_observations(settings.warehouse, settings.anomalies, now, open_alerts)
        if budgets := platform.settings.budgets:
            seen += budget_observations(platform.settings.published, budgets.suppress_days, now, open_alerts)
    told = {o.key for o in seen if o.alert}
    before_runs = len(open_alerts)
    for run in runs:
        of_run = list(run_observations(instance, platform, run, open_alerts, told))
        open_alerts += [OpenAlert(o.alert, o.at) for o in of_run if o.alert]
        seen += of_run
    # Those that this look has opened cannot be over yet.
    seen += in_pieces(open_alerts[:before_runs], lambda what: seen_of.get(what, {}), seen)
    seen = [of_department(platform.settings, o) for o in seen]
    done = dispatch(history, platform.settings.alerts, seen, now, environment, log_error)
    return str(_Cursor(place, now if look else before.looked_at)), done


@dataclass(frozen=True)
class _Cursor:
    """How far Dagster's history was read, and when the ledger of deliveries was looked at last."""

    place: int = 0
    looked_at: datetime | None = None

    @classmethod
    def parse(cls, text: str | None) -> "_Cursor":
        body = json.loads(text) if text else {}
        looked_at = body.get("looked_at")
        return cls(body.get("place", 0), unstamp(looked_at) if looked_at else None)

    def __str__(self) -> str:
        return json.dumps({"place": self.place, "looked_at": stamp(self.looked_at) if self.looked_at else None})
