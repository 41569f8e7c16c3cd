"""One look at everything: detect, compare with what is known, explain what is new. It may be repeated at any time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import duckdb
import numpy as np

from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.anomalies.detect import Episode, episodes
from finops_assets.evaluate.anomalies.drivers import CENT, Question, explain
from finops_assets.evaluate.anomalies.history import Anomaly, AnomalyHistory, reconcile
from finops_assets.evaluate.anomalies.key import Key
from finops_assets.evaluate.anomalies.series import (
    CELLS,
    CostSeries,
    exact_costs,
    known_dimensions,
    limits_of,
    resource_series,
    team_series,
)
from finops_assets.platform import Platform
from finops_assets.storage.duck import lent

# What ended longer ago is not entered any more, nor looked at again.
RECORDED_DAYS, RESOURCES_RECORDED_DAYS = 92, 28
# What was over so long before it was found alerts nobody.
ALERTED_DAYS = 14
# Days that show an anomaly, and the same weekdays that each is compared with, of so many weeks at the most.
SHOWN_DAYS, USUAL_WEEKS, WEEKS_BACK = 3, 4, 8


@dataclass(frozen=True)
class Looked:
    """What a look came to: series looked at, and the anomalies that are new or have changed."""

    teams: int
    resources: int
    new: list[Anomaly]
    changed: list[Anomaly]
    newest: date | None


@dataclass(frozen=True)
class _Found:
    """An anomaly, the days that show it best and the usual days that they are compared with."""

    anomaly: Anomaly
    days: tuple[date, ...]
    before: tuple[date, ...]


def look(platform: Platform, warehouse: duckdb.DuckDBPyConnection, now: datetime) -> Looked:
    """Look at every series of the warehouse and at costly resources, and keep what is found in the history.

    `warehouse` is a connection to it. The same data gives the same history, however often it is looked at.
    """
    settings, lake, rules = platform.settings, platform.lake, platform.rules
    providers = {s.name: s.provider for s in settings.counted if s.provider}
    sources = platform.source_names
    history = AnomalyHistory.beside(settings.warehouse)
    known = history.all()
    warehouse.execute("SET memory_limit = ?", [settings.engine.memory_limit.replace(" ", "")])
    by = known_dimensions(warehouse, settings.anomalies.by)
    teams = team_series(warehouse, by)
    if teams is None:
        return Looked(0, 0, [], [], None)
    with lake.workspace() as workspace, lent(settings.engine, workspace / "spill") as engine:
        of_teams = [a for a in known if a.key.ResourceId is None]
        found = _scan(warehouse, teams, platform, RECORDED_DAYS, now)
        changed = _reconciled(warehouse, teams, found, of_teams, RECORDED_DAYS, now)
        warehouse.execute(f"DROP TABLE {CELLS}")

        reported = [day for (day,) in warehouse.execute(f"SELECT DISTINCT charge_date FROM {ROLLUP_TABLE}").fetchall()]
        of_resources = [a for a in known if a.key.ResourceId is not None]
        watched = {
            (a.key.source or "", a.key.ResourceId or "")
            for a in of_resources
            if a.last_day >= teams.end - timedelta(days=RESOURCES_RECORDED_DAYS)
        }
        floor = settings.anomalies.resource_floor
        resources = resource_series(engine, lake, rules, sources, providers, reported, floor, watched, by)
        if resources is not None:
            of_team_series = [f.anomaly for f in found]
            own = [
                f
                for f in _scan(engine, resources, platform, RESOURCES_RECORDED_DAYS, now)
                if not _told_by_team(f.anomaly, of_team_series) or any(_same(f.anomaly, a) for a in of_resources)
            ]
            changed += _reconciled(engine, resources, own, of_resources, RESOURCES_RECORDED_DAYS, now)
            found += own

        before = {a.id: a for a in known}
        asked = _questions(changed, found, before)
        told = explain(engine, warehouse, lake, rules, sources, providers, [question for question, _ in asked], by)
    causes = {anomaly_id: told[question.number] for question, anomaly_id in asked if question.number in told}
    entered = [
        replace(
            a,
            cause=causes[a.id].cause,
            evidence=causes[a.id].evidence,
            drivers=tuple(driver.as_json() for driver in causes[a.id].drivers),
        )
        if a.id in causes
        else a
        for a in changed
    ]
    history.put(entered)
    return Looked(
        len(teams.keys),
        len(resources.keys) if resources else 0,
        [a for a in entered if a.id not in before],
        [a for a in entered if a.id in before],
        teams.day(teams.costs.shape[1] - 1),
    )


def _scan(
    connection: duckdb.DuckDBPyConnection, series: CostSeries, platform: Platform, recorded: int, now: datetime
) -> list[_Found]:
    """The anomalies of the series of the query before that lasted into the recorded days."""
    every = episodes(series.costs, series.first, limits_of(series.keys, platform.settings.anomalies))
    since = series.costs.shape[1] - recorded
    kept = [e for e in every if e.last >= since]
    strange: dict[int, set[int]] = {}
    for episode in every:
        strange.setdefault(episode.place, set()).update(range(episode.first, episode.last + 1))
    spans = [[t for t in range(e.first, e.last + 1) if np.isfinite(series.costs[e.place, t])] for e in kept]
    cells = [(n, e.place, series.day(t)) for n, (e, span) in enumerate(zip(kept, spans)) for t in span]
    observed = exact_costs(connection, cells)
    newest = series.day(series.costs.shape[1] - 1)
    found = []
    for number, episode in enumerate(kept):
        last = series.day(episode.last)
        anomaly = Anomaly(
            key=series.keys[episode.place],
            direction=episode.direction,
            kind=episode.kind,
            first_day=series.day(episode.first),
            last_day=last,
            surest_day=series.day(episode.surest),
            days=len(spans[number]),
            observed=observed.get(number, Decimal(0)),
            expected=Decimal(repr(episode.expected)).quantize(CENT, ROUND_HALF_EVEN),
            score=round(episode.score, 2),
            detected_at=now,
            updated_at=now,
            old=(newest - last).days >= ALERTED_DAYS,
            resolved_at=now if episode.ended else None,
            ended=episode.ended,
        )
        found.append(_Found(anomaly, *_compared(series, episode, strange[episode.place])))
    return found


def _compared(series: CostSeries, episode: Episode, strange: set[int]) -> tuple[tuple[date, ...], tuple[date, ...]]:
    """The days up to the surest, and their weekdays in the weeks before that were usual."""
    seen = np.isfinite(series.costs[episode.place])
    low = max(episode.first, episode.surest - SHOWN_DAYS + 1)
    days = [t for t in range(low, episode.surest + 1) if seen[t]]
    usual = [t for t in range(episode.first) if seen[t] and t not in strange]
    before: set[int] = set()
    for day in days:
        before.update([t for t in usual if (day - t) % 7 == 0 and day - t <= 7 * WEEKS_BACK][-USUAL_WEEKS:])
    return tuple(map(series.day, days)), tuple(map(series.day, sorted(before or usual[-7:])))


def _reconciled(
    connection: duckdb.DuckDBPyConnection,
    series: CostSeries,
    found: Sequence[_Found],
    known: Sequence[Anomaly],
    recorded: int,
    now: datetime,
) -> list[Anomaly]:
    place_of = {key: place for place, key in enumerate(series.keys)}
    since = series.end - timedelta(days=recorded)
    mine = [a for a in known if a.last_day >= since]
    cells = []
    for number, anomaly in enumerate(mine):
        place = place_of.get(anomaly.key)
        low, high = (anomaly.first_day - series.first).days, (anomaly.last_day - series.first).days
        if place is not None and low >= 0:
            columns = [t for t in range(low, high + 1) if t < series.costs.shape[1]]
            cells += [(number, place, series.day(t)) for t in columns if np.isfinite(series.costs[place, t])]
    costs = {mine[number].id: cost for number, cost in exact_costs(connection, cells).items()}
    # A series that is there no more costs nothing; one that is told apart by other dimensions now is looked at no more.
    kinds = {tuple(d for d, _ in key.others) for key in series.keys}
    costs |= {a.id: Decimal(0) for a in mine if a.key not in place_of and tuple(d for d, _ in a.key.others) in kinds}
    return reconcile([f.anomaly for f in found], mine, costs, since, now)


def _same(one: Anomaly, other: Anomaly) -> bool:
    return (
        (one.key, one.direction) == (other.key, other.direction)
        and one.first_day <= other.last_day
        and other.first_day <= one.last_day
    )


def _told_by_team(anomaly: Anomaly, teams: Iterable[Anomaly]) -> bool:
    """Is it the driver of its team's anomaly, which tells of it?"""
    of_team = replace(anomaly.key, source=None, ResourceId=None)
    return any(_same(replace(anomaly, key=of_team), team) for team in teams)


def _questions(
    changed: Iterable[Anomaly], found: Iterable[_Found], before: Mapping[str, Anomaly]
) -> list[tuple[Question, str]]:
    """What is to be explained: what is new, or costs something else than when it was explained."""
    shown: dict[tuple[Key, int, date], _Found] = {
        (f.anomaly.key, f.anomaly.direction, f.anomaly.first_day): f for f in found
    }
    asked: list[tuple[Question, str]] = []
    for anomaly in changed:
        by = shown.get((anomaly.key, anomaly.direction, anomaly.first_day))
        old = before.get(anomaly.id)
        if by is None or (
            old and (old.observed, old.surest_day, old.days) == (anomaly.observed, anomaly.surest_day, anomaly.days)
        ):
            continue
        with localcontext(prec=80):
            change = float((anomaly.observed - anomaly.expected) / max(anomaly.days, 1))
        asked.append((Question(len(asked), anomaly.key, by.days, by.before, change), anomaly.id))
    return asked
