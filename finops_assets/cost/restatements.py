"""What was reported when: every version of a day's rollup is kept, and how each restatement moved it.

`reported_cost` holds the rollup by source with `reported_from` (inclusive) and `reported_to` (exclusive,
NULL for what is reported now), both UTC. A day that is built again and comes out the same is no new version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import duckdb

from finops_assets.tables import ddl
from finops_assets.tables.rows import Rows

REPORTED_COST = "reported_cost"
# SQL: the rollup by source as it is reported now.
REPORTED_NOW = f"(SELECT * FROM {REPORTED_COST} WHERE reported_to IS NULL)"


def keep_history(
    connection: duckdb.DuckDBPyConnection,
    days: Iterable[date],
    reported: str | None,
    at: datetime | None = None,
    table: str = REPORTED_COST,
    dimensions: Iterable[str] = (),
) -> list[date]:
    """Within a transaction: close the versions of the days that changed and open new ones; returns those days.

    `reported` is SQL for what these days report now; None: nothing. `dimensions` are those of finops.yaml. A version keeps
    those that it was reported by: one that came later is null in it, one that is gone is null in the versions after.
    """
    wanted = list(days)
    moment = (at or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None)
    if reported is None:
        if not ddl.has(connection, table):
            return []
    else:
        ddl.create(connection, table, dimensions=dimensions)
    # With the columns of the history in their order: they are compared by place.
    columns = f"SELECT * EXCLUDE (reported_from, reported_to) FROM {table} LIMIT 0"
    # Not filled after it was created: DuckDB 2.0.0 may show none of 100,000 rows that are put into a temporary table in the
    # transaction that created it.
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE reported_new AS "
        + (columns if reported is None else f"(({columns}) UNION ALL BY NAME ({reported}))")
    )
    current = (
        f"SELECT * EXCLUDE (reported_from, reported_to) FROM {table}"
        " WHERE reported_to IS NULL AND list_contains($days, charge_date)"
    )
    changed = [
        day
        for (day,) in connection.execute(
            f"""
            SELECT DISTINCT charge_date FROM (
                (SELECT * FROM reported_new EXCEPT ALL {current}) UNION ALL ({current} EXCEPT ALL SELECT * FROM reported_new)
            ) ORDER BY 1
            """,
            {"days": wanted},
        ).fetchall()
    ]
    connection.execute(
        f"UPDATE {table} SET reported_to = $at WHERE reported_to IS NULL AND list_contains($days, charge_date)",
        {"at": moment, "days": changed},
    )
    connection.execute(
        f"INSERT INTO {table} BY NAME SELECT *, CAST($at AS TIMESTAMP) AS reported_from, CAST(NULL AS TIMESTAMP) AS"
        " reported_to FROM reported_new WHERE list_contains($days, charge_date)",
        {"at": moment, "days": changed},
    )
    connection.execute("DROP TABLE reported_new")
    return changed


def as_of_relation(as_of: date, table: str = REPORTED_COST) -> str:
    """SQL: the rollup, or another table with such a history, as it was reported at the end of a UTC day."""
    end = as_of + timedelta(days=1)
    return (
        f"(SELECT * FROM {table} WHERE reported_from < TIMESTAMP '{end}'"
        f" AND (reported_to IS NULL OR reported_to >= TIMESTAMP '{end}'))"
    )


def restatements(connection: duckdb.DuckDBPyConnection, since: date | None = None) -> Rows:
    """How reported days moved, newest first: a row per restatement, day, source, department, team and currency.

    Columns: restated_at (UTC), charge_date, source, department, team, currency, effective_cost_before,
    effective_cost_after, moved (Decimal), billed_moved, rows_moved. The first report of a day is no restatement; where its
    source comes to a day that others reported before, effective_cost_before is None: it had reported nothing, not 0.
    """
    columns = [
        "restated_at", "charge_date", "source", "department", "team", "currency",
        "effective_cost_before", "effective_cost_after", "moved", "billed_moved", "rows_moved",
    ]  # fmt: skip
    if not ddl.has(connection, REPORTED_COST):
        return Rows(columns, ())
    rows = connection.execute(
        f"""
        WITH closed AS (
            SELECT reported_to AS restated_at, charge_date, source, department, team, BillingCurrency AS currency,
                -billed_cost AS billed, effective_cost AS before, 0 AS after, -row_count AS n
            FROM {REPORTED_COST} WHERE reported_to IS NOT NULL
        ), opened AS (
            SELECT reported_from, charge_date, source, department, team, BillingCurrency,
                billed_cost, 0, effective_cost, row_count
            FROM {REPORTED_COST} r
            WHERE EXISTS (SELECT 1 FROM closed c WHERE c.charge_date = r.charge_date AND c.restated_at = r.reported_from)
        ), summed AS (
            SELECT restated_at, charge_date, source, department, team, currency,
                sum(before) AS before, sum(after) AS after, sum(billed) AS billed, sum(n) AS n
            FROM (SELECT * FROM closed UNION ALL SELECT * FROM opened) GROUP BY ALL
        )
        SELECT restated_at, charge_date, source, department, team, currency,
            CASE WHEN EXISTS (
                SELECT 1 FROM closed c
                WHERE (c.restated_at, c.charge_date, c.source) = (s.restated_at, s.charge_date, s.source)
            ) THEN before END,
            after, after - before, billed, CAST(n AS BIGINT)
        FROM summed s
        WHERE (before <> after OR billed <> 0 OR n <> 0) AND ($since IS NULL OR restated_at >= $since)
        ORDER BY restated_at DESC, charge_date, source, abs(after - before) DESC, department, team
        """,
        {"since": datetime(since.year, since.month, since.day) if since else None},  # noqa: DTZ001  # the table is UTC
    ).fetchall()
    return Rows(columns, rows)


TakenOut = dict[str, dict[date, dict[str, Decimal]]]
"""Of sources that finops.yaml no longer has the effective cost by day and currency that the rollup still holds."""


def taken_out(connection: duckdb.DuckDBPyConnection, sources: Iterable[str]) -> TakenOut:
    """The sources besides these whose cost stands in the rollup: a day that runs again loses it, the others keep it."""
    found: TakenOut = {}
    if not ddl.has(connection, REPORTED_COST):
        return found
    for source, day, currency, cost in connection.execute(
        f"SELECT source, charge_date, BillingCurrency, sum(effective_cost) FROM {REPORTED_NOW}"
        " WHERE NOT list_contains(?, source) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        [list(sources)],
    ).fetchall():
        found.setdefault(source, {}).setdefault(day, {})[currency] = cost
    return found


def taken_out_told(before: TakenOut, after: TakenOut) -> list[str]:
    """A sentence a source that is in finops.yaml no more: what of its cost left with a run, and what still stands."""
    told = []
    for source, days in sorted(before.items()):
        stands = after.get(source, {})
        left = {day: costs for day, costs in days.items() if day not in stands}
        parts = [
            f"{_days_and_cost(part)} {what}"
            for part, what in ((left, "left with this run"), (stands, "still stands"))
            if part
        ]
        text = f"source {source} is not in finops.yaml any more: {'; '.join(parts)}"
        if stands:
            end = max(stands) + timedelta(days=1)
            text += f". Put it back, or let it leave all days: finops run {min(stands)} {end}"
        told.append(text)
    return told


def _days_and_cost(days: Mapping[date, Mapping[str, Decimal]]) -> str:
    total: dict[str, Decimal] = {}
    for currency, cost in (item for costs in days.values() for item in costs.items()):
        total[currency] = total.get(currency, Decimal(0)) + cost
    money = ", ".join(f"{cost.normalize():f} {currency}" for currency, cost in sorted(total.items()))
    when = f"{min(days)}" if len(days) == 1 else f"{len(days)} days, {min(days)} to {max(days)}"
    return f"{money} of {when}"
