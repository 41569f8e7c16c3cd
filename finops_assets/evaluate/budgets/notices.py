"""Who is told of which budget: once by budget and severity, and once a week together where nothing moves.

It reads the published copy, because the warehouse is held by the runs while the sensor looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finops_assets.alerts.alert import RANK, Alert, Observation, OpenAlert, key_of
from finops_assets.base.period import Period
from finops_assets.base.text import money
from finops_assets.evaluate.budgets.evaluate import BUDGET_EVALUATIONS, CLOSING_DAYS, evaluations
from finops_assets.evaluate.budgets.plan import label_of, owner_of
from finops_assets.settings.alerts import Severity
from finops_assets.storage.published_copy import read_copy
from finops_assets.storage.warehouse import Warehouse

STABLE_DAYS = 7
"""A budget that has been equally serious for so long is told of in the weekly digest."""
LOOKED_BACK_DAYS = 4 * STABLE_DAYS
"""Nights without a run must not make a budget look new."""
PREFIX, DIGEST = "budget ", "budgets digest"


@dataclass(frozen=True)
class _Night:
    """What was judged of a budget in one night."""

    through: date
    since_version: int
    severity: Severity | None


def budget_observations(
    published: Path, suppress_days: int, now: datetime, open_alerts: Iterable[OpenAlert]
) -> Iterator[Observation]:
    """What the last evaluation says of every budget; nothing where none was published.

    A budget is as serious as it was at worst in its last `suppress_days` nights: one that goes to and fro over a
    limit is told of once, and its alert ends when it has kept below the limit for so long. A changed budget begins anew.
    """
    if not published.is_file():
        return
    with read_copy(published) as connection:
        if not Warehouse.has(connection, BUDGET_EVALUATIONS):
            return
        rows: list[Any] = [SimpleNamespace(**row) for row in evaluations(connection)]
        nights: dict[tuple[str, date], list[_Night]] = {}
        for name, start, *night in connection.execute(
            f"SELECT budget, period_start, through, since_version, severity FROM {BUDGET_EVALUATIONS}"
            f" WHERE through >= (SELECT max(through) FROM {BUDGET_EVALUATIONS}) - CAST($days AS INTEGER) ORDER BY through",
            {"days": max(suppress_days, LOOKED_BACK_DAYS)},
        ).fetchall():
            nights.setdefault((name, start), []).append(_Night(*night))
    current: dict[str, Alert] = {}
    over: dict[str, str] = {}
    stable: dict[str | None, list[tuple[Severity, str]]] = {}
    for row in rows:
        key = key_of(f"{PREFIX}{row.budget} {row.period_start}")
        if row.problem is not None:
            over[key] = f"It is judged no more: {row.problem}."
            continue
        if row.period_end + timedelta(days=CLOSING_DAYS) <= now.date():
            over[key] = f"The period is over: {_spent(row)}."
            continue
        held = [n for n in nights[row.budget, row.period_start] if n.since_version == row.since_version]
        recent = [n for n in held if n.through > row.through - timedelta(days=suppress_days)]
        told = max((n.severity for n in recent if n.severity), key=RANK.__getitem__, default=None)
        if told is None:
            over[key] = f"Within the budget again: {row.reason}."
            continue
        current[key] = _alert(key, row, told)
        if row.severity and _is_stable(held, row.through, row.severity):
            stable.setdefault(row.department, []).append((row.severity, _line(row)))
    for department, found in stable.items():
        digest = _digest(department, found)
        current[digest.key] = digest
    for key, alert in current.items():
        yield Observation(key, now, alert)
    for opened in open_alerts:
        key = opened.alert.key
        if key.startswith((PREFIX, DIGEST)) and key not in current:
            gone = "No budget stands still at risk." if key.startswith(DIGEST) else "The period or the budget is over."
            yield Observation(key, now, note=over.get(key, gone))


def _is_stable(nights: list[_Night], through: date, severity: Severity) -> bool:
    since = through - timedelta(days=STABLE_DAYS)
    return any(n.through <= since for n in nights) and all(n.severity == severity for n in nights if n.through >= since)


def _alert(key: str, r: Any, severity: Severity) -> Alert:
    calm = "" if r.severity == severity else " It has been less serious since; the alert ends when it stays so."
    text = f"budget {_line(r)}.{calm} {_next(severity)}"
    figures: dict[str, int | float | str] = {
        "budget": r.budget, "amount": money(r.amount), "spent": money(r.spent), "currency": r.currency,
        "basis": r.basis, "period_end": str(r.period_end), "days_missing": int(r.days_missing),
        "budgets_version": int(r.budgets_version),
    }  # fmt: skip
    if r.forecast is not None:
        figures |= {name: money(getattr(r, name)) for name in ("forecast", "low95", "high95")}
    return Alert(
        key, severity, f"budget {_owner(r)}, {label_of(Period(r.period_start, r.period_end))}: {r.reason}", text, None, r.department, r.through, figures,
        reminders="never",
    )  # fmt: skip


def _next(severity: Severity) -> str:
    if severity == "INFO":
        return "Next: nothing, if this is what was planned."
    return "Next: see what moved (`finops report services`, `finops forecast --by team`), or change the budget."


def _digest(department: str | None, found: list[tuple[Severity, str]]) -> Alert:
    severity = max((s for s, _ in found), key=RANK.__getitem__)
    lines = [f"- {s}: {line}" for s, line in sorted(found, key=lambda f: (-RANK[f[0]], f[1]))]
    count = "1 budget" if len(found) == 1 else f"{len(found)} budgets"
    whose = f" of {department}" if department else ""
    return Alert(
        f"{DIGEST} {department}" if department else DIGEST,
        severity,
        f"{count}{whose} unchanged for a week or longer",
        "As they were a week ago:\n" + "\n".join(lines) + "\nNext: those that no longer fit: `finops budgets review`.",
        None,
        department,
        figures={"budgets": len(found)},
        reminders="weekly",
    )


def _owner(r: Any) -> str:
    return owner_of(r.department, r.team, json.loads(r.dimensions) if r.dimensions else None)


def _spent(r: Any) -> str:
    return f"{r.spent:,.2f} of {r.amount:,.2f} {r.currency} were spent ({r.spent_percent:.1f} %)"


def _line(r: Any) -> str:
    """One budget in one line, as of the newest reported day."""
    text = (
        f"{_owner(r)}, {label_of(Period(r.period_start, r.period_end))}, {r.basis} cost: {_spent(r)} up to {r.through}"
    )
    if r.forecast is not None:
        text += f"; {r.forecast:,.2f} expected by the end (95 %: {r.low95:,.2f} to {r.high95:,.2f})"
    if r.chance:
        text += f", {r.chance}"
    if r.days_missing:
        days = "1 day is" if r.days_missing == 1 else f"{r.days_missing} days are"
        text += f"; {days} held or late, and expected as usual, not as 0"
    return text
