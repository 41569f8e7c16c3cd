"""How often anomalies were false, by team, and the sigma that the verdicts support."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import ceil

from finops_assets.evaluate.anomalies.history import Anomaly
from finops_assets.evaluate.anomalies.key import Key, override_of
from finops_assets.settings.anomalies import Anomalies
from finops_assets.tables.rows import Rows

ANOMALY_RATES = "anomaly_rates"
WINDOW_DAYS = 90
HIGHEST_RATE = 0.2
# Below so many verdicts a rate says nothing.
LEAST_VERDICTS = 5
COLUMNS = (
    "department", "team", "found", "judged", "confirmed", "false", "false_positive_percent", "sigma",
    "supported_sigma", "advice",
)  # fmt: skip


@dataclass(frozen=True)
class TeamRate:
    """Verdicts on a team's anomalies. `sigma`: in force for the team; `supported`: what the verdicts support, if it
    should be raised and one does. `judged_at`: the newest verdict."""

    department: str
    team: str
    found: int
    confirmed: int
    false: int
    sigma: float
    supported: float | None
    advice: str
    judged_at: datetime | None

    @property
    def judged(self) -> int:
        return self.confirmed + self.false

    @property
    def rate(self) -> float | None:
        """False ones of those judged; None: nothing was judged."""
        return self.false / self.judged if self.judged else None


def rates(anomalies: Iterable[Anomaly], settings: Anomalies, until: date) -> list[TeamRate]:
    """By team: of the anomalies of the 90 days before `until` (exclusive; by their first day), how many were false.

    Only those count that the sigma in force would find: a team that raised its sigma begins anew.
    """
    teams: dict[tuple[str, str], list[Anomaly]] = {}
    for anomaly in anomalies:
        if until - timedelta(days=WINDOW_DAYS) <= anomaly.first_day < until:
            teams.setdefault((anomaly.key.department, anomaly.key.team), []).append(anomaly)
    return [_rate(*team, found, settings) for team, found in sorted(teams.items())]


def _rate(department: str, team: str, found: list[Anomaly], settings: Anomalies) -> TeamRate:
    own = override_of(Key(department, team, "", ""), settings)
    sigma = own.sigma if own and own.sigma is not None else settings.sigma
    # What the sigma in force would not find any more has been dealt with.
    confirmed = [a.score for a in found if a.verdict == "confirmed" and a.score >= sigma]
    false = [a.score for a in found if a.verdict == "false" and a.score >= sigma]
    judged = len(confirmed) + len(false)
    supported, advice = None, ""
    if judged and len(false) / judged > HIGHEST_RATE:
        supported = supported_sigma(confirmed, false, sigma)
        if judged < LEAST_VERDICTS:
            supported, advice = None, f"{judged} verdicts; {LEAST_VERDICTS} are needed for advice"
        elif supported is not None:
            left = sum(s >= supported for s in false)
            advice = (
                f"set sigma: {supported:g} for this team (now {sigma:g}): all {len(confirmed)} confirmed anomalies would"
                f" have been found, and {left} of {len(false)} false ones"
            )
        else:
            lowest = min(confirmed, default=0.0)
            advice = (
                f"no sigma keeps every confirmed anomaly and has at most {HIGHEST_RATE:.0%} false ones (the faintest"
                f" confirmed one has {lowest:g}); raise min_amount or min_percent, or give the service its own limits"
            )
    judged_at = max((a.judged_at for a in found if a.judged_at), default=None)
    return TeamRate(department, team, len(found), len(confirmed), len(false), sigma, supported, advice, judged_at)


def supported_sigma(confirmed: list[float], false: list[float], sigma: float) -> float | None:
    """The smallest sigma, in tenths, above the one in force that keeps every confirmed anomaly and of whose anomalies
    at most a fifth are false; None: there is none.

    >>> supported_sigma([4.0, 5.2, 6.0, 9.9], [2.6, 2.8, 3.1], 2.5)
    2.9
    >>> supported_sigma([2.6], [2.7, 2.9], 2.5) is None
    True
    """
    most = min(confirmed, default=max(false, default=0.0) + 0.2)
    step = ceil(sigma * 10 + 1e-9)
    while step / 10 <= most:
        left = sum(s >= step / 10 for s in false)
        if left <= HIGHEST_RATE * (left + len(confirmed)) and step / 10 > sigma:
            return step / 10
        step += 1
    return None


def rates_table(found: Iterable[TeamRate]) -> Rows:
    """By COLUMNS; percentages are of judged anomalies."""
    rows = [
        (
            r.department, r.team, r.found, r.judged, r.confirmed, r.false,
            None if r.rate is None else round(100 * r.rate, 1), r.sigma, r.supported, r.advice,
        )
        for r in found
    ]  # fmt: skip
    return Rows(COLUMNS, rows)


def today(newest: date | None) -> date:
    """The day after the newest that was looked at; without one, tomorrow in UTC."""
    return (newest or datetime.now(UTC).date()) + timedelta(days=1)
