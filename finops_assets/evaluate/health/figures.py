"""Untagged cost, pipeline success, false alarms, sparse groups, accepted suggestions: each by week, in percent.

Weeks begin on Monday and are UTC. A figure stands on the week that it is of: cost by its charge day, a run by its end,
a verdict by when it was given. A week without anything to count has no row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal

import duckdb

from finops_assets.cost.rollup import ROLLUP_TABLE, UNTAGGED
from finops_assets.cost.sparse import SPARSE_GROUPS
from finops_assets.evaluate.anomalies.history import Anomaly
from finops_assets.focus.money import percent
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.rows import Rows

HEALTH_TABLE = "health"
WEEKS = 8
"""Weeks of the trend; the newest may have only begun."""
NOW_WEEKS = 4
Figure = Literal["untagged", "pipeline", "false alarms", "sparse groups", "accepted suggestions"]
FIGURES: dict[Figure, str] = {
    "untagged": "positive effective cost without a department or a team, by provider",
    "pipeline": "steps that ran through, of all but those that a gate held",
    "false alarms": "anomalies judged false, of those judged, by team",
    "sparse groups": "teams with too few resources to be a cost center",
    "accepted suggestions": "owner suggestions that were accepted as they were, of those decided",
}
Stage = Literal["ingestion", "rollup"]
STAGES: tuple[Stage, ...] = ("ingestion", "rollup")
EVERYONE = "all"
COLUMNS = ("figure", "of", "week", "percent", "part", "whole", "note")


@dataclass(frozen=True)
class StepOutcome:
    """How a step of a stage ended. Held: it built what was free, and a gate held other days back."""

    stage: Stage
    at: datetime
    ended: Literal["success", "held", "failed"]


@dataclass(frozen=True)
class Decided:
    """A decision about a suggestion: was it right as it was suggested?"""

    at: datetime
    right: bool


_Row = tuple[str, str, date, Decimal, Decimal, str]


def monday(day: date) -> date:
    """The first day of a week.

    >>> monday(date(2026, 11, 1))
    datetime.date(2026, 10, 26)
    """
    return day - timedelta(days=day.weekday())


def health(
    connection: duckdb.DuckDBPyConnection,
    outcomes: Iterable[StepOutcome],
    anomalies: Iterable[Anomaly],
    decided: Iterable[Decided],
    now: datetime,
) -> Rows:
    """Every figure by week, in COLUMNS: the last WEEKS weeks up to the newest charge day, or up to now for what people
    and runs did. `percent` is of `part` in `whole` (Decimal: amounts, or counts)."""
    this_week = monday(now.astimezone(UTC).date())
    rows: list[_Row] = [
        *_untagged(connection),
        *_pipeline(outcomes, this_week),
        *_false_alarms(anomalies, this_week),
        *_sparse(connection),
        *_accepted(decided, this_week),
    ]
    made = [
        (figure, of, week, round(percent(part, whole), 2), part, whole, note)
        for figure, of, week, part, whole, note in rows
    ]
    return Rows(COLUMNS, made)


def _untagged(connection: duckdb.DuckDBPyConnection) -> list[_Row]:
    newest = _newest(connection, ROLLUP_TABLE)
    if newest is None:
        return []
    rows = connection.execute(
        f"""
        SELECT provider, BillingCurrency, CAST(date_trunc('week', charge_date) AS DATE) AS week,
            coalesce(sum(positive_effective_cost) FILTER (WHERE department = $untagged OR team = $untagged), 0),
            sum(positive_effective_cost), count(DISTINCT charge_date)
        FROM {ROLLUP_TABLE} WHERE charge_date >= $first GROUP BY ALL HAVING sum(positive_effective_cost) > 0 ORDER BY ALL
        """,
        {"untagged": UNTAGGED, "first": monday(newest) - timedelta(weeks=WEEKS - 1)},
    ).fetchall()
    return [
        ("untagged", f"{provider}, {currency}", week, part, whole, "" if days == 7 else f"{days} days")
        for provider, currency, week, part, whole, days in rows
    ]


def _sparse(connection: duckdb.DuckDBPyConnection) -> list[_Row]:
    """Of each week its newest day: the groups that were sparse over the days up to it."""
    newest = _newest(connection, SPARSE_GROUPS)
    if newest is None:
        return []
    rows = connection.execute(
        f"""
        SELECT week, count(*) FILTER (WHERE sparse), count(*), any_value(charge_date)
        FROM (SELECT *, CAST(date_trunc('week', charge_date) AS DATE) AS week FROM {SPARSE_GROUPS})
        WHERE charge_date IN (
            SELECT max(charge_date) FROM {SPARSE_GROUPS} GROUP BY date_trunc('week', charge_date)
        ) AND charge_date >= $first GROUP BY week ORDER BY week
        """,
        {"first": monday(newest) - timedelta(weeks=WEEKS - 1)},
    ).fetchall()
    return [
        ("sparse groups", EVERYONE, week, Decimal(part), Decimal(whole), f"on {day}") for week, part, whole, day in rows
    ]


def _newest(connection: duckdb.DuckDBPyConnection, table: str) -> date | None:
    if not Warehouse.has(connection, table):
        return None
    [(newest,)] = connection.execute(f"SELECT max(charge_date) FROM {table}").fetchall()
    found: date | None = newest
    return found


def _pipeline(outcomes: Iterable[StepOutcome], this_week: date) -> list[_Row]:
    counted: dict[tuple[Stage, date], dict[str, int]] = {}
    for outcome in outcomes:
        week = monday(outcome.at.astimezone(UTC).date())
        if week > this_week - timedelta(weeks=WEEKS):
            ended = counted.setdefault((outcome.stage, week), {"success": 0, "held": 0, "failed": 0})
            ended[outcome.ended] += 1
    rows: list[_Row] = []
    for (stage, week), ended in sorted(counted.items()):
        # What a gate held did what it should; it is neither a success nor a failure of the pipeline.
        whole = ended["success"] + ended["failed"]
        note = f"{ended['held']} held by gates" if ended["held"] else ""
        if whole:
            rows.append(("pipeline", stage, week, Decimal(ended["success"]), Decimal(whole), note))
    return rows


def _false_alarms(anomalies: Iterable[Anomaly], this_week: date) -> list[_Row]:
    counted: dict[tuple[str, date], list[bool]] = {}
    for anomaly in anomalies:
        if anomaly.verdict is None or anomaly.judged_at is None:
            continue
        week = monday(anomaly.judged_at.astimezone(UTC).date())
        if week > this_week - timedelta(weeks=WEEKS):
            for of in (EVERYONE, f"{anomaly.key.department}/{anomaly.key.team}"):
                counted.setdefault((of, week), []).append(anomaly.verdict == "false")
    return [
        ("false alarms", of, week, Decimal(sum(false)), Decimal(len(false)), "")
        for (of, week), false in sorted(counted.items())
    ]


def _accepted(decided: Iterable[Decided], this_week: date) -> list[_Row]:
    counted: dict[date, list[bool]] = {}
    for decision in decided:
        week = monday(decision.at.astimezone(UTC).date())
        if week > this_week - timedelta(weeks=WEEKS):
            counted.setdefault(week, []).append(decision.right)
    return [
        ("accepted suggestions", EVERYONE, week, Decimal(sum(right)), Decimal(len(right)), "")
        for week, right in sorted(counted.items())
    ]


BARS = "▁▂▃▄▅▆▇█"
GAP = "·"


def page(table: Rows) -> Rows:
    """One line a figure and what it is of: now (the last NOW_WEEKS weeks that it has, pooled), the four before, trend.

    Columns: figure, of, now, before (percent), counted (of how much), weeks (a bar a week, from 0 to the line's largest,
    "·" where there is nothing to count). A figure that nothing can be said of has a line without a value.
    """
    known: dict[str, dict[str, dict[date, tuple[Decimal, Decimal]]]] = {figure: {} for figure in FIGURES}
    notes: dict[tuple[str, str], str] = {}
    known_days: dict[str, dict[date, int]] = {}
    names = ("figure", "of", "week", "part", "whole", "note")
    for figure, of, week, part, whole, note in table.only(names).values:
        known[figure].setdefault(of, {})[week] = (part, whole)
        notes[figure, of] = note if figure in ("pipeline", "sparse groups") else ""
        if figure == "untagged":
            known_days.setdefault(of, {})[week] = int(note.split()[0]) if note else 7
    lines: list[tuple[str, str, float | None, float | None, str, str]] = []
    for figure, of_each in known.items():
        if not of_each:
            lines.append((figure, "", None, None, "nothing to count yet", ""))
            continue
        newest = max(week for by_week in of_each.values() for week in by_week)
        weeks = [newest - timedelta(weeks=k) for k in range(WEEKS - 1, -1, -1)]
        # A share of a moment is not pooled: the newest counts.
        pooled = figure != "sparse groups"
        for of, by_week in of_each.items():
            now = _pooled([by_week[w] for w in weeks[-NOW_WEEKS:] if w in by_week], pooled)
            before = _pooled([by_week[w] for w in weeks[:-NOW_WEEKS] if w in by_week], pooled)
            shares = {w: percent(*counts) for w, counts in by_week.items()}
            largest = max(shares.values())
            bars = "".join(_bar(shares[w], largest) if w in shares else GAP for w in weeks)
            days = [known_days[of][w] for w in weeks[-NOW_WEEKS:] if w in known_days[of]] if of in known_days else []
            lacks = f"{sum(days)} of {7 * len(days)} days" if sum(days) < 7 * len(days) else ""
            counted = "; ".join(filter(None, (now[1], notes[figure, of], lacks)))
            lines.append((figure, of, now[0], before[0], counted, bars))
    return Rows(["figure", "of", "now", "before", "counted", "weeks"], lines)


def _pooled(weeks: list[tuple[Decimal, Decimal]], pooled: bool) -> tuple[float | None, str]:
    counted = weeks if pooled else weeks[-1:]
    if not counted:
        return None, ""
    part = sum((part for part, _ in counted), Decimal(0))
    whole = sum((whole for _, whole in counted), Decimal(0))
    return percent(part, whole), f"{part:,.0f} of {whole:,.0f}"


def _bar(share: float, largest: float) -> str:
    """
    >>> _bar(0, 0), _bar(0, 8), _bar(4, 8), _bar(8, 8)
    ('▁', '▁', '▅', '█')
    """
    return BARS[min(len(BARS) - 1, int(share / largest * len(BARS)))] if largest else BARS[0]
