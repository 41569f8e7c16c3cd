"""Anomalies as alerts: each told once, and its end; and teams whose anomalies are too often false."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from finops_assets.alerts.alert import Alert, Observation, OpenAlert, key_of
from finops_assets.cost.rollup import UNTAGGED
from finops_assets.evaluate.anomalies.history import ENDED, Anomaly, AnomalyHistory
from finops_assets.evaluate.anomalies.rates import HIGHEST_RATE, TeamRate, rates, today
from finops_assets.settings.anomalies import Anomalies

# What was detected longer ago and told to nobody (no daemon ran) is history.
TOLD_DAYS = 7
FOUND, TOO_OFTEN = "anomaly ", "anomalies of "
INSTANT = timedelta(microseconds=1)


def anomaly_observations(
    warehouse: Path, settings: Anomalies, now: datetime, open_alerts: Iterable[OpenAlert]
) -> Iterator[Observation]:
    """New anomalies and the end of those that were told; teams that should raise their sigma, and that they did.

    An anomaly that was over before anyone was told is told all the same, and its end at the next look.
    """
    everything = AnomalyHistory.beside(warehouse).all()
    opened = {o.alert.key for o in open_alerts}
    current: set[str] = set()
    for anomaly in everything:
        key = f"{FOUND}{anomaly.id}"
        current.add(key)
        if key in opened and anomaly.resolved_at:
            note = ENDED[anomaly.ended] if anomaly.ended else "over"
            note += f", {anomaly.verdict}" if anomaly.verdict else ""
            yield Observation(key, max(anomaly.resolved_at, anomaly.updated_at) + INSTANT, note=f"It is {note}.")
        elif key in opened:
            yield Observation(key, anomaly.updated_at, _alert(key, anomaly))
        elif not anomaly.old and not anomaly.verdict and now - anomaly.detected_at < timedelta(days=TOLD_DAYS):
            # What was told and has ended was seen later than this, and is not told again.
            yield Observation(key, anomaly.detected_at, _alert(key, anomaly))
    newest = max((a.last_day for a in everything), default=None)
    for team in rates(everything, settings, today(newest)):
        key = key_of(f"{TOO_OFTEN}{team.department}/{team.team}")
        if team.supported is not None and team.judged_at:
            current.add(key)
            yield Observation(key, team.judged_at, _too_often(key, team))
    for key in sorted(opened - current):
        if key.startswith((FOUND, TOO_OFTEN)):
            yield Observation(key, now, note="It holds no more.")


def _department(name: str) -> str | None:
    return None if name == UNTAGGED else name


def _alert(key: str, a: Anomaly) -> Alert:
    what = f"{a.key.source} {a.key.ResourceId}" if a.key.ResourceId else a.key.ServiceCategory
    team = a.key.owner
    share = f" ({a.percent:+,.0f} %)" if a.percent is not None else ""
    days = f"{a.first_day}" if a.first_day == a.last_day else f"{a.first_day} to {a.last_day}"
    moved = [d for d in a.drivers if d["facet"] == "resource"][:2]
    drivers = "; ".join(f"{d['name']} {float(d['change']):+,.2f} a day" for d in moved)
    return Alert(
        key=key,
        severity="WARNING",
        title=f"{team}, {what}: {abs(a.excess):,.2f} {a.key.currency}{share} {'above' if a.excess > 0 else 'below'} what was expected, {days}",
        text=f"{team}, {what} cost {a.observed:,.2f} {a.key.currency} in {days}, {a.expected:,.2f} were expected"
        f" ({a.score:g} sigmas). Likely cause: {a.cause}; {a.evidence}."
        + (f" What moved most: {drivers}." if drivers else "")
        + f" Next: `finops anomalies show {a.id}`; say whether it was one: `finops anomalies resolve {a.id} --verdict"
        " confirmed|false`",
        source=a.key.source,
        department=_department(a.key.department),
        day=a.first_day,
        figures={
            "team": a.key.team,
            "currency": a.key.currency,
            "observed": f"{a.observed:f}",
            "expected": f"{a.expected:f}",
            "cause": a.cause,
        },
        reminders="never",
    )


def _too_often(key: str, team: TeamRate) -> Alert:
    name = f"{team.department}/{team.team}"
    return Alert(
        key=key,
        severity="WARNING",
        title=f"{name}: {team.rate:.0%} of its judged anomalies were false",
        text=f"{name}: {team.false} of {team.judged} judged anomalies of the last 90 days were false, at most"
        f" {HIGHEST_RATE:.0%} should be. Next: {team.advice}, under anomalies.overrides in finops.yaml",
        department=_department(team.department),
        figures={"judged": team.judged, "false": team.false, "sigma": team.sigma, "supported": team.supported or 0.0},
        reminders="weekly",
    )
