"""owner_decisions: what people decided about suggestions, who and when; the rules that follow, and the acceptance rate.

A small SQLite file beside the warehouse, as the alert history is: people decide at the command line while runs hold
the warehouse. The asset `owner_decisions` copies it into the warehouse.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import yaml

from finops_assets.base import state_file
from finops_assets.base.errors import FinopsError
from finops_assets.base.state_file import Form
from finops_assets.base.text import with_formula
from finops_assets.base.timestamps import stamp, unstamp
from finops_assets.focus.normal import normal_value
from finops_assets.tables.rows import Rows

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["accepted", "rejected"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    decision_id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    ResourceId TEXT NOT NULL,
    dimension TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('accepted', 'rejected')),
    value TEXT NOT NULL,
    suggested TEXT,
    confidence REAL,
    evidence TEXT NOT NULL DEFAULT '',
    decided_at TEXT NOT NULL,
    decided_by TEXT,
    valid_from TEXT,
    note TEXT NOT NULL DEFAULT ''
);
"""


class DecisionError(FinopsError):
    """A decision cannot be taken, or the file of decisions cannot be read or written."""


_FORM = Form(
    "owner decisions",
    _SCHEMA,
    "check space and permissions of its folder; it is the only record of what people decided: restore it",
    DecisionError,
)


@dataclass(frozen=True)
class Decision:
    """One decision. `suggested`, `confidence` and `evidence` are what was suggested then, if anything was.

    An accepted `value` may be another than the suggested one: then the suggestion was wrong, and the owner found.
    `valid_from`: the first UTC day that it holds for; None: always. `decided_by`: None where nobody was named.
    """

    source: str
    ResourceId: str
    dimension: str
    verdict: Verdict
    value: str
    decided_at: datetime
    suggested: str | None = None
    confidence: float | None = None
    evidence: str = ""
    decided_by: str | None = None
    valid_from: date | None = None
    note: str = ""

    @property
    def about(self) -> tuple[str, str, str]:
        return self.source, self.ResourceId, self.dimension


@dataclass(frozen=True)
class AcceptedRule:
    """An accepted owner as an attribution rule: this resource has these dimensions, from a day on.

    `given_by`: dimension -> who decided and on which day, which is what the facts say beside the value.
    """

    source: str
    ResourceId: str
    dimensions: Mapping[str, str]
    valid_from: date | None
    reason: str
    given_by: Mapping[str, str]


class OwnerDecisions:
    """The file, opened for each use."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def beside(cls, warehouse: Path) -> OwnerDecisions:
        """The decisions of the platform that has this warehouse."""
        return cls(warehouse.with_name(f"{warehouse.stem}.owners.sqlite"))

    def enter(self, decisions: Iterable[Decision]) -> list[Decision]:
        """Keep decisions, all or none; returns those that say something new. One that stands already is not kept twice."""
        kept: list[Decision] = []
        with state_file.opened(self.path, _FORM) as connection, state_file.writing(connection):
            standing = _Standing(_read(connection))
            for decision in decisions:
                if standing.has(decision):
                    continue
                standing.add(decision)
                kept.append(decision)
                connection.execute(
                    "INSERT INTO decisions (source, ResourceId, dimension, verdict, value, suggested, confidence,"
                    " evidence, decided_at, decided_by, valid_from, note) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        *decision.about,
                        decision.verdict,
                        decision.value,
                        decision.suggested,
                        decision.confidence,
                        decision.evidence,
                        stamp(decision.decided_at),
                        decision.decided_by,
                        decision.valid_from.isoformat() if decision.valid_from else None,
                        decision.note,
                    ],
                )
        return kept

    def all(self) -> list[Decision]:
        """Every decision ever taken, oldest first."""
        if not self.path.is_file():
            return []
        with state_file.opened(self.path, _FORM) as connection:
            return _read(connection)


def _read(connection: sqlite3.Connection) -> list[Decision]:
    return [
        Decision(
            row["source"],
            row["ResourceId"],
            row["dimension"],
            row["verdict"],
            row["value"],
            unstamp(row["decided_at"]),
            row["suggested"],
            row["confidence"],
            row["evidence"],
            row["decided_by"],
            date.fromisoformat(row["valid_from"]) if row["valid_from"] else None,
            row["note"],
        )
        for row in connection.execute("SELECT * FROM decisions ORDER BY decision_id")
    ]


class _Standing:
    """What stands of decisions in their order: a later one about the same takes the place of an earlier one."""

    def __init__(self, decisions: Iterable[Decision]) -> None:
        self.accepted: dict[tuple[str, str, str], Decision] = {}
        self.rejected: dict[tuple[str, str, str], dict[str, Decision]] = {}
        for decision in decisions:
            self.add(decision)

    def add(self, decision: Decision) -> None:
        rejected = self.rejected.setdefault(decision.about, {})
        if decision.verdict == "accepted":
            self.accepted[decision.about] = decision
            rejected.pop(decision.value, None)
            return
        rejected[decision.value] = decision
        held = self.accepted.get(decision.about)
        if held is not None and held.value == decision.value:
            del self.accepted[decision.about]

    def has(self, decision: Decision) -> bool:
        if decision.verdict == "rejected":
            return decision.value in self.rejected.get(decision.about, {})
        held = self.accepted.get(decision.about)
        return held is not None and (held.value, held.valid_from) == (decision.value, decision.valid_from)


def settled(decisions: Iterable[Decision]) -> Settled:
    """What suggesting must respect of the decisions."""
    standing = _Standing(decisions)
    return Settled(
        frozenset(standing.accepted), {about: frozenset(by_value) for about, by_value in standing.rejected.items()}
    )


def accepted_rules(decisions: Iterable[Decision]) -> list[AcceptedRule]:
    """The attribution rules that stand accepted, one a resource and first day, by source and resource."""
    grouped: dict[tuple[str, str, date], list[Decision]] = {}
    for decision in _Standing(decisions).accepted.values():
        key = (decision.source, decision.ResourceId, decision.valid_from or date.min)
        grouped.setdefault(key, []).append(decision)
    return [
        AcceptedRule(
            source,
            resource,
            {d.dimension: d.value for d in sorted(held, key=lambda d: d.dimension)},
            None if first == date.min else first,
            " | ".join(dict.fromkeys(_reason(d) for d in sorted(held, key=lambda d: d.dimension))),
            {d.dimension: f"{d.decided_by or 'accepted'} {d.decided_at.astimezone(UTC):%Y-%m-%d}" for d in held},
        )
        for (source, resource, first), held in sorted(grouped.items())
    ]


def _reason(decision: Decision) -> str:
    who = f" by {decision.decided_by}" if decision.decided_by else ""
    parts = [f"owner accepted{who} on {decision.decided_at.astimezone(UTC):%Y-%m-%d}"]
    if decision.suggested == decision.value and decision.confidence is not None:
        parts.append(f"suggested with confidence {decision.confidence:.2f}: {decision.evidence}")
    if decision.note:
        parts.append(decision.note)
    return "; ".join(parts)


def rules_yaml(rules: Sequence[AcceptedRule]) -> str:
    """The rules as YAML: a list `rules`, each with `when`, `set`, `from` (where it is not always) and `reason`."""
    body = [
        {
            "when": {"source": rule.source, "ResourceId": rule.ResourceId},
            "set": dict(rule.dimensions),
            **({"from": rule.valid_from} if rule.valid_from else {}),
            "reason": rule.reason,
        }
        for rule in rules
    ]
    head = "# Written by `finops owners rules` from the accepted decisions; edits here are lost.\n"
    return head + yaml.safe_dump({"rules": body}, sort_keys=False, allow_unicode=True, width=118)


DECISION_COLUMNS = (
    "source",
    "ResourceId",
    "dimension",
    "verdict",
    "value",
    "suggested",
    "confidence",
    "evidence",
    "decided_at",
    "decided_by",
    "valid_from",
    "note",
)


def decisions_table(decisions: Iterable[Decision]) -> Rows:
    """Every decision, newest first, by DECISION_COLUMNS. Times are UTC without zone, as any tool reads them."""
    rows = [
        [
            d.decided_at.astimezone(UTC).replace(tzinfo=None) if name == "decided_at" else getattr(d, name)
            for name in DECISION_COLUMNS
        ]
        for d in decisions
    ]
    return Rows(DECISION_COLUMNS, rows[::-1])


def acceptance(decisions: Iterable[Decision]) -> Rows:
    """How often suggestions were right, by week and dimension.

    Columns: week (Monday, UTC), dimension, decided, accepted, acceptance_rate (of 1), mean_confidence (what was
    promised). Counts decisions about a suggestion; one that was accepted with another value was wrong. Of several
    decisions about one suggestion in a week the last counts.
    """
    last: dict[tuple[date, tuple[str, str, str], str], tuple[bool, float | None]] = {}
    for d in decisions:
        if d.suggested is None:
            continue
        day = d.decided_at.astimezone(UTC).date()
        week = day - timedelta(days=day.weekday())
        right = d.verdict == "accepted" and d.value == d.suggested
        last[week, d.about, d.suggested] = (right, d.confidence)
    grouped: dict[tuple[date, str], list[tuple[bool, float | None]]] = {}
    for (week, about, _), outcome in last.items():
        grouped.setdefault((week, about[2]), []).append(outcome)
    rows = []
    for (week, dimension), outcomes in sorted(grouped.items()):
        accepted = sum(right for right, _ in outcomes)
        promised = [confidence for _, confidence in outcomes if confidence is not None]
        mean = fmean(promised) if promised else None
        rows.append((week, dimension, len(outcomes), accepted, accepted / len(outcomes), mean))
    return Rows(["week", "dimension", "decided", "accepted", "acceptance_rate", "mean_confidence"], rows)


def resource_meant(suggestions: pd.DataFrame, source: str, shown: str) -> str:
    """The ResourceId that is meant by what is shown of a resource: its id, its name, or both as they stand in a line.

    What no suggestion knows is taken for an id: a person may know more than the suggestions.

    Raises:
        DecisionError: several resources have that name; says which.
    """
    known = suggestions.loc[suggestions["source"] == source, ["ResourceId", "name", "account_name"]].drop_duplicates()
    if (known["ResourceId"] == shown).any():
        return shown
    names = known["name"].fillna("").astype(str)
    wanted = shown.strip()
    for found in (
        known[names == wanted],
        known[names.str.casefold() == wanted.casefold()],
        known[(names + " " + known["ResourceId"]).str.strip() == wanted],
    ):
        candidates = {str(row.ResourceId): str(row.account_name) for row in found.itertuples()}
        if len(candidates) > 1 and wanted:
            listed = "\n".join(f"  {resource} ({account})" for resource, account in sorted(candidates.items()))
            raise DecisionError(f"{len(candidates)} resources of {source} are called {shown!r}; give the id:\n{listed}")
        if candidates and wanted:
            return next(iter(candidates))
    return shown


def decide(
    suggestions: pd.DataFrame,
    dimensions: Collection[str],
    about: tuple[str, str, str],
    verdict: Verdict,
    now: datetime,
    value: str | None = None,
    by: str | None = None,
    valid_from: date | None = None,
    note: str = "",
) -> Decision:
    """A decision about (source, ResourceId, dimension), with what is suggested for it now. `value` None: the suggested.

    Raises:
        DecisionError: the dimension is unknown, or there is no value: nothing is suggested and none was given.
    """
    source, resource, dimension = about
    where = f"{source} {resource}, {dimension}"
    if dimension not in dimensions:
        raise DecisionError(f"{where}: found dimension {dimension!r}; allowed: {', '.join(dimensions)}")
    mine = suggestions[
        (suggestions["source"] == source)
        & (suggestions["ResourceId"] == resource)
        & (suggestions["dimension"] == dimension)
        & (suggestions["rank"] == 1)
    ]
    first: Mapping[Any, Any] = mine.iloc[0].to_dict() if len(mine) else {}
    chosen = normal_value(value or "") or first.get("value")
    if not chosen:
        raise DecisionError(f"{where}: nothing is suggested for it now, so a value is needed (--value)")
    return Decision(
        source,
        resource,
        dimension,
        verdict,
        chosen,
        now,
        first.get("value"),
        float(first["confidence"]) if first else None,
        str(first.get("evidence", "")),
        by or None,
        valid_from,
        note,
    )


EXPORTED = (
    "decision",
    "value",
    "note",
    "dimension",
    "suggested",
    "confidence",
    "effective_cost",
    "BillingCurrency",
    "source",
    "account_name",
    "name",
    "service",
    "region",
    "evidence",
    "also_possible",
    "ResourceId",
)
_VERDICTS: Mapping[str, Verdict | None] = {
    "": None,
    "accept": "accepted",
    "accepted": "accepted",
    "yes": "accepted",
    "y": "accepted",
    "reject": "rejected",
    "rejected": "rejected",
    "no": "rejected",
    "n": "rejected",
}


def export_table(suggestions: pd.DataFrame) -> pd.DataFrame:
    """The suggestions for a spreadsheet: a person fills `decision` (accept or reject), and may correct `value`."""
    first = suggestions[suggestions["rank"] == 1].copy()
    others = suggestions[suggestions["rank"] > 1]
    also: dict[tuple[str, str, str], list[str]] = {}
    for row in others.itertuples():
        key = (str(row.source), str(row.ResourceId), str(row.dimension))
        also.setdefault(key, []).append(f"{row.value} ({row.confidence:.2f})")
    first["decision"], first["note"] = "", ""
    first["suggested"] = first["value"]
    first["confidence"] = first["confidence"].round(3)
    first["also_possible"] = [
        ", ".join(also.get(key, ())) for key in zip(first["source"], first["ResourceId"], first["dimension"])
    ]
    return first[list(EXPORTED)]


def _as_exported(row: dict[str, str]) -> dict[str, str]:
    """A line without the apostrophes that keep spreadsheets from running a cell; what a line lacks stays as it is."""
    return {name: with_formula(value) if isinstance(value, str) else value for name, value in row.items()}


def read_decided(
    file: Path, dimensions: Collection[str], known_sources: Collection[str], now: datetime, by: str | None = None
) -> tuple[list[Decision], int]:
    """The decisions in a CSV that `export_table` made and a person filled, and how many rows are still undecided.

    Raises:
        DecisionError: with every mistake and its line.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            names = reader.fieldnames or []
            missing = [c for c in ("decision", "source", "ResourceId", "dimension", "value") if c not in names]
            if missing:
                raise DecisionError(
                    f"{file}: the columns {', '.join(missing)} are missing; found: {', '.join(names) or 'none'}."
                    " Fill a file that `finops owners export` wrote"
                )
            lines = [(reader.line_num, _as_exported(row)) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DecisionError(f"{file}: cannot be read as CSV: {error}") from error
    decisions: list[Decision] = []
    mistakes: list[str] = []
    undecided = 0
    for line, row in lines:
        written = (row["decision"] or "").strip().lower()
        if written not in _VERDICTS:
            mistakes.append(f"line {line}: decision is {row['decision']!r}; allowed: accept, reject, or empty")
            continue
        verdict = _VERDICTS[written]
        if verdict is None:
            undecided += 1
            continue
        value, suggested = normal_value(row["value"] or ""), normal_value(row.get("suggested") or "")
        if verdict == "rejected":
            # Who rejects and writes another owner has rejected what was suggested.
            value = suggested or value
        for column, allowed in (("source", known_sources), ("dimension", dimensions)):
            if row[column] not in allowed:
                mistakes.append(f"line {line}: {column} is {row[column]!r}; allowed: {', '.join(sorted(allowed))}")
        if not value or not (row["ResourceId"] or "").strip():
            mistakes.append(f"line {line}: value and ResourceId must not be empty")
        try:
            confidence = float(row.get("confidence") or "nan")
        except ValueError:
            mistakes.append(f"line {line}: confidence is {row['confidence']!r}; leave it as it was exported")
            continue
        decisions.append(
            Decision(
                row["source"],
                row["ResourceId"],
                row["dimension"],
                verdict,
                value,
                now,
                suggested or None,
                confidence if confidence == confidence else None,
                row.get("evidence") or "",
                by,
                None,
                (row.get("note") or "").strip(),
            )
        )
    if mistakes:
        raise DecisionError(f"{file}: nothing was taken over:\n" + "\n".join(mistakes))
    return decisions, undecided


def undecided(suggestions: pd.DataFrame, decisions: Iterable[Decision]) -> pd.DataFrame:
    """The suggestions that nobody has decided on: not those accepted since, nor what was rejected since."""
    standing = _Standing(decisions)
    keep = [
        (s, r, d) not in standing.accepted and v not in standing.rejected.get((s, r, d), {})
        for s, r, d, v in zip(
            suggestions["source"], suggestions["ResourceId"], suggestions["dimension"], suggestions["value"]
        )
    ]
    return suggestions[keep]


@dataclass(frozen=True)
class Settled:
    """What people have decided: nothing more is suggested where it is accepted, and nothing again that was rejected.

    `accepted`: (source, ResourceId, dimension); `rejected`: the same with the values rejected.
    """

    accepted: Collection[tuple[str, str, str]] = ()
    rejected: Mapping[tuple[str, str, str], Collection[str]] = field(default_factory=dict)
