"""Budgets in the warehouse: as they are now, and what changed when. A version is a state of the whole file.

`budget_changes` only grows. The budgets of version v are what its changes up to v leave, so whoever asks which
amount an evaluation was made against finds it by the version that stands in the evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from finops_assets.evaluate.budgets.plan import Budget
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables import ddl, declarations, values
from finops_assets.tables.ddl import selected
from finops_assets.tables.rows import Rows

BUDGETS_TABLE, CHANGES = "budgets", "budget_changes"


@dataclass(frozen=True)
class InForce:
    """A budget of the warehouse, and the version that gave it its amount and threshold."""

    budget: Budget
    since_version: int


@dataclass(frozen=True)
class Loaded:
    """What entering a file came to: the version in force, and how many budgets it added, changed and removed."""

    version: int
    added: int = 0
    changed: int = 0
    removed: int = 0


def enter(connection: duckdb.DuckDBPyConnection, budgets: Sequence[Budget], now: datetime) -> Loaded:
    """Make these the budgets in force; what they change becomes a new version. To be called within a transaction.

    A file without a change enters nothing, so this may be done again and again.
    """
    for table in (CHANGES, BUDGETS_TABLE):
        ddl.create(connection, table)
    before = {held.budget.name: held for held in in_force(connection)}
    wanted = {budget.name: budget for budget in budgets}
    version = version_in_force(connection)
    changes: list[tuple[str, Budget, Budget | None]] = []
    for name, budget in wanted.items():
        held = before.get(name)
        if held is None:
            changes.append(("added", budget, None))
        elif (held.budget.amount, held.budget.threshold) != (budget.amount, budget.threshold):
            changes.append(("changed", budget, held.budget))
    changes += [("removed", held.budget, held.budget) for name, held in before.items() if name not in wanted]
    if not changes:
        return Loaded(version)
    version += 1
    at = now.astimezone(UTC).replace(tzinfo=None)
    moved = {budget.name: (version, at) for change, budget, _ in changes if change != "removed"}
    stood = {
        name: (since, when)
        for name, since, when in connection.execute(
            f"SELECT budget, since_version, changed_at FROM {BUDGETS_TABLE}"
        ).fetchall()
    }
    _insert(
        connection,
        CHANGES,
        [
            {
                "version": version, "changed_at": at, "change": change, **_record(budget),
                "amount_before": old.amount if old else None,
                "threshold_percent_before": old.threshold if old else None, "line": budget.line or None,
            }
            for change, budget, old in changes
        ],
    )  # fmt: skip
    connection.execute(f"DELETE FROM {BUDGETS_TABLE}")
    rows = []
    for name, budget in wanted.items():
        since, when = moved.get(name) or stood[name]
        rows.append({**_record(budget), "since_version": since, "changed_at": when})
    _insert(connection, BUDGETS_TABLE, rows)
    counts = [sum(c == kind for c, *_ in changes) for kind in ("added", "changed", "removed")]
    return Loaded(version, *counts)


def in_force(connection: duckdb.DuckDBPyConnection) -> list[InForce]:
    """The budgets as they are now, in their order; empty where none was ever entered."""
    if not Warehouse.has(connection, BUDGETS_TABLE):
        return []
    columns = (
        "department", "team", "period", "basis", "currency", "amount", "threshold_percent", "since_version", "dimensions",
    )  # fmt: skip
    return [
        InForce(
            Budget(
                department,
                team,
                period,
                basis,
                currency,
                amount,
                threshold,
                others=json.loads(others) if others else {},
            ),
            since,
        )
        for department, team, period, basis, currency, amount, threshold, since, others in connection.execute(
            f"SELECT {selected(connection, BUDGETS_TABLE, columns)} FROM {BUDGETS_TABLE} ORDER BY rowid"
        ).fetchall()
    ]


def version_in_force(connection: duckdb.DuckDBPyConnection) -> int:
    """The newest version; 0 before the first."""
    if not Warehouse.has(connection, CHANGES):
        return 0
    [(version,)] = connection.execute(f"SELECT coalesce(max(version), 0) FROM {CHANGES}").fetchall()
    return int(version)


def changes(connection: duckdb.DuckDBPyConnection) -> Rows:
    """What changed when, the newest first."""
    rows = connection.execute(
        "SELECT version, changed_at, change, budget, amount, amount_before, threshold_percent,"
        f" threshold_percent_before FROM {CHANGES} ORDER BY version DESC, rowid"
    )
    names = [column[0] for column in rows.description or []]
    return Rows(names, rows.fetchall())


def others_text(budget: Budget) -> str | None:
    """The other dimensions that a budget names, as its tables have them: a JSON object, or None."""
    return json.dumps(dict(budget.others), ensure_ascii=False) if budget.others else None


def _record(budget: Budget) -> dict[str, object]:
    return {
        "budget": budget.name, "department": budget.department, "team": budget.team,
        "dimensions": others_text(budget), "period": budget.period,
        "basis": budget.basis, "currency": budget.currency, "amount": budget.amount,
        "threshold_percent": budget.threshold,
    }  # fmt: skip


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, object]]) -> None:
    if not rows:
        return
    connection.register("incoming_budgets", values.arrow_records(rows, declarations.table(table)))
    try:
        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming_budgets")
    finally:
        connection.unregister("incoming_budgets")
