"""The sensor that tells people. It follows Dagster's history with a cursor of its own.

Dagster's run-status sensors move on even if their body fails: a webhook that is down would lose the alert.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from finops_assets.alerts.alert import Observation, OpenAlert, stamp, unstamp
from finops_assets.alerts.collect import (
    delivery_observations,
    finished_runs,
    late_observations,
    late_sources,
    of_department,
    run_observations,
    told_once,
)
from finops_assets.alerts.dispatch import Dispatched, dispatch
from finops_assets.alerts.history import AlertHistory
from finops_assets.anomalies.notices import anomaly_observations
from finops_assets.budgets.notices import budget_observations
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
        cursor, done = tick(
            platform, context.instance, context.cursor, datetime.now(UTC), os.environ, context.log.error
        )
        context.update_cursor(cursor)
        return dg.SkipReason(str(done))

    return alerts


def tick(
    platform: Platform,
    instance: dg.DagsterInstance,
    cursor: str | None,
    now: datetime,
    environment: Mapping[str, str],
    log_error: Callable[[str], None],
) -> tuple[str, Dispatched]:
    """Look at what has happened since `cursor` (see _Cursor), tell of it, and return the new cursor.

    The cursor goes back to Dagster only after everything seen stands in the history, with its notices: a tick
    that fails is repeated, and what it entered already is entered once.
    """
    history = AlertHistory.beside(platform.settings.warehouse)
    with history.opened() as opened:
        open_alerts = list(opened.open_alerts().values())
    before = _Cursor.parse(cursor)
    runs, place = finished_runs(instance, before.place)
    seen: list[Observation] = []
    look = bool(runs) or before.looked_at is None or now - before.looked_at >= LEDGER_EVERY
    if look:
        deliveries, late, because = told_once(
            platform, delivery_observations(platform, now, open_alerts), late_sources(platform, now)
        )
        seen += deliveries
        seen += late_observations(late, now, open_alerts, because)
        settings = platform.settings
        seen += anomaly_observations(settings.warehouse, settings.anomalies, now, open_alerts)
        if budgets := platform.settings.budgets:
            seen += budget_observations(platform.settings.published, budgets.suppress_days, now, open_alerts)
    told = {o.key for o in seen if o.alert}
    for run in runs:
        of_run = list(run_observations(instance, platform, run, open_alerts, told))
        open_alerts += [OpenAlert(o.alert, o.at) for o in of_run if o.alert]
        seen += of_run
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
