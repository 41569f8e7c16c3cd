"""Sparse groups: a department and team is a cost center only while it has enough resources; else its cost is shown
as the department's `__sparse__`. Cost is never changed, only the name that it is shown under.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import duckdb

from finops_assets.base.period import Period, days_between
from finops_assets.base.sql import identifier, literal
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.rollup import ROLLUP_TABLE, UNTAGGED
from finops_assets.focus.money import percent
from finops_assets.focus.normal import normal_value
from finops_assets.settings.attribution import SparseGroups
from finops_assets.settings.model import Settings
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.duck import insert_pairs
from finops_assets.storage.lake import Lake
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables import ddl, declarations
from finops_assets.tables.rows import Rows

SPARSE_GROUPS, SPARSE_GROUP_DAYS, COST_CENTERS = "sparse_groups", "sparse_group_days", "daily_cost_by_cost_center"
SPARSE = "__sparse__"
# Part of the stamp: a change of how resources are counted makes every day anew.
ALGORITHM = 1
DAYS_AT_ONCE = 31

_COSTS = ("billed_cost", "effective_cost", "positive_effective_cost", "list_cost", "contracted_cost")
_COUNTS = ("row_count", "untagged_rows", "committed_rows")


def bring_up_to_date(
    lake: Lake, warehouse: Warehouse, connection: duckdb.DuckDBPyConnection, settings: Settings, rules: Rules
) -> list[date]:
    """Count the resources of each department and team anew for the days whose window or settings changed.

    Returns these days. A day's window are its own and the days before it, as many as `sparse_groups.days` in all; of
    them the days whose rollup stands count. A resource is what a source calls by one ResourceId and bills usage for.
    """
    _create(connection)
    sources = [s.name for s in settings.counted]
    built = [
        day for (day,) in connection.execute(f"SELECT DISTINCT charge_date FROM {ROLLUP_TABLE} ORDER BY 1").fetchall()
    ]
    wanted = _stamps(lake, rules, settings.sparse_groups, sources, built)
    held: dict[date, str] = dict(connection.execute(f"SELECT charge_date, stamp FROM {SPARSE_GROUP_DAYS}").fetchall())
    changed = sorted(day for day, stamp in wanted.items() if held.get(day) != stamp)
    gone = sorted(held.keys() - wanted.keys())
    known = set(built)
    connection.execute("SET memory_limit = ?", [settings.engine.memory_limit.replace(" ", "")])
    for chunk in _chunks(changed):
        window = days_between(chunk[0] - timedelta(days=settings.sparse_groups.days - 1), chunk[-1] + timedelta(days=1))
        files = lake.day_files("facts", sources, [day for day in window if day in known])
        with warehouse.transaction(connection):
            query = _counted(settings.sparse_groups, facts_relation(files)) if files else None
            _replace(connection, chunk, query, settings.sparse_groups)
            insert_pairs(connection, SPARSE_GROUP_DAYS, ((day, wanted[day]) for day in chunk))
    if gone:
        with warehouse.transaction(connection):
            _replace(connection, gone, None, settings.sparse_groups)
    create_view(connection)
    return changed


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    for table in (SPARSE_GROUPS, SPARSE_GROUP_DAYS):
        ddl.create(connection, table)


def _stamps(
    lake: Lake, rules: Rules, groups: SparseGroups, sources: Sequence[str], built: Sequence[date]
) -> dict[date, str]:
    """What each day's groups follow from: the settings, and the facts of the days of its window."""
    from finops_assets.cost.facts import facts_stamp  # brings all that reads bills; a report of groups does not

    decides = json.dumps([ALGORITHM, groups.min_resources, groups.days, sorted(groups.overrides.items())])
    of_day = {day: [facts_stamp(lake, rules, source, day) for source in sources] for day in built}
    stamps = {}
    for day in built:
        window = days_between(day - timedelta(days=groups.days - 1), day + timedelta(days=1))
        body = [decides, *(f"{d} {stamp}" for d in window for stamp in of_day.get(d, ()))]
        stamps[day] = hashlib.sha256("\n".join(body).encode()).hexdigest()[:16]
    return stamps


def _chunks(days: Sequence[date]) -> Iterator[list[date]]:
    """Days in pieces whose first and last are less than DAYS_AT_ONCE apart."""
    chunk: list[date] = []
    for day in days:
        if chunk and (day - chunk[0]).days >= DAYS_AT_ONCE:
            yield chunk
            chunk = []
        chunk.append(day)
    if chunk:
        yield chunk


def _counted(groups: SparseGroups, facts: str) -> str:
    """SQL: charge_date, department, team, resources of each pair on each day on which that changes, and `until` when.

    Each day on which a resource is billed holds until the window leaves it, or until the resource's next one: so no
    resource counts twice, and every day's count is a sum of what began and ended before it.
    """
    return f"""
        WITH seen AS (
            SELECT DISTINCT department, team, source, ResourceId, charge_date FROM {facts}
            WHERE department IS NOT NULL AND team IS NOT NULL AND ResourceId IS NOT NULL AND ChargeCategory = 'Usage'
                AND ResourceId IS DISTINCT FROM CommitmentDiscountId
        ), held AS (
            SELECT department, team, charge_date AS first, least(
                charge_date + {groups.days}, coalesce(lead(charge_date) OVER (
                    PARTITION BY department, team, source, ResourceId ORDER BY charge_date
                ), charge_date + {groups.days})
            ) AS until FROM seen
        ), changes AS (
            SELECT department, team, first AS day, 1 AS change FROM held
            UNION ALL SELECT department, team, until, -1 FROM held
        ), net AS (
            SELECT department, team, day, sum(change) AS change FROM changes GROUP BY ALL
        )
        SELECT department, team, day, CAST(sum(change) OVER counted AS BIGINT) AS resources, lead(day) OVER counted AS until
        FROM net WINDOW counted AS (PARTITION BY department, team ORDER BY day)
    """


def _replace(
    connection: duckdb.DuckDBPyConnection, days: list[date], counted: str | None, groups: SparseGroups
) -> None:
    """Replace these days of both tables; `counted` None: no resource is known of them."""
    for table in (SPARSE_GROUPS, SPARSE_GROUP_DAYS):
        connection.execute(f"DELETE FROM {table} WHERE list_contains(?, charge_date)", [days])
    pairs = " ".join(f"WHEN {literal(pair)} THEN {least}" for pair, least in _overrides(groups).items())
    least = (
        f"CASE r.department || '/' || r.team {pairs} ELSE {groups.min_resources} END" if pairs else groups.min_resources
    )
    nothing = (
        "SELECT NULL::VARCHAR AS department, NULL::VARCHAR AS team, NULL::DATE AS day, 0 AS resources, NULL::DATE AS until"
        " LIMIT 0"
    )
    connection.execute(
        f"""
        INSERT INTO {SPARSE_GROUPS}
        SELECT r.charge_date, r.department, r.team, coalesce(c.resources, 0) AS resources, {least} AS min_resources,
            coalesce(c.resources, 0) < {least} AS sparse
        FROM (
            SELECT DISTINCT charge_date, department, team FROM {ROLLUP_TABLE}
            WHERE list_contains($days, charge_date) AND department <> '{UNTAGGED}' AND team <> '{UNTAGGED}'
        ) AS r LEFT JOIN ({counted or nothing}) AS c
        ON r.department = c.department AND r.team = c.team AND c.day <= r.charge_date
            AND (c.until IS NULL OR r.charge_date < c.until)
        ORDER BY ALL
        """,
        {"days": days},
    )


def _overrides(groups: SparseGroups) -> dict[str, int]:
    """department/team, as dimensions carry them -> resources that are enough."""
    return {
        "/".join(normal_value(part) for part in pair.split("/", 1)): least for pair, least in groups.overrides.items()
    }


def create_view(connection: duckdb.DuckDBPyConnection) -> None:
    """The rollup as teams see it: the team of a sparse group is `__sparse__`, its department and cost stay."""
    sums = ", ".join(f"CAST(sum({c}) AS DECIMAL(38, 18)) AS {c}" for c in _COSTS[:3])
    # As in the rollup: a group of which a row does not tell its price has none.
    prices = ", ".join(
        f"CAST(CASE WHEN count({c}) = count(*) THEN sum({c}) END AS DECIMAL(38, 18)) AS {c}" for c in _COSTS[3:]
    )
    counts = ", ".join(f"CAST(sum({c}) AS BIGINT) AS {c}" for c in _COUNTS)
    keys = declarations.key(ddl.dimensions_of(connection, ROLLUP_TABLE))
    shown = ", ".join(
        f"CASE WHEN s.sparse THEN '{SPARSE}' ELSE r.team END AS team" if name == "team" else f"r.{identifier(name)}"
        for name in keys
    )
    connection.execute(
        f"""
        CREATE OR REPLACE VIEW {COST_CENTERS} AS
        SELECT {shown}, {sums}, {prices}, {counts}
        FROM {ROLLUP_TABLE} AS r LEFT JOIN {SPARSE_GROUPS} AS s
        ON r.charge_date = s.charge_date AND r.department = s.department AND r.team = s.team
        GROUP BY {", ".join(str(n) for n, _ in enumerate(keys, 1))}
        """
    )


def sparse_report(connection: duckdb.DuckDBPyConnection, period: Period) -> Rows:
    """The pairs that were sparse on a day of the period, by currency.

    Columns: department, team, resources (on its last sparse day), min_resources, sparse_days, currency,
    effective_cost (of its sparse days; Decimal), share_percent (of the currency's positive effective cost).
    """
    rows = connection.execute(
        f"""
        SELECT s.department, s.team, max_by(s.resources, s.charge_date), max_by(s.min_resources, s.charge_date),
            count(DISTINCT s.charge_date), r.BillingCurrency, sum(r.effective_cost), sum(r.positive_effective_cost)
        FROM {ROLLUP_TABLE} AS r JOIN {SPARSE_GROUPS} AS s
        ON r.charge_date = s.charge_date AND r.department = s.department AND r.team = s.team AND s.sparse
        WHERE r.charge_date >= $first AND r.charge_date < $end
        GROUP BY 1, 2, 6
        ORDER BY sum(sum(r.effective_cost)) OVER (PARTITION BY r.BillingCurrency) DESC, r.BillingCurrency, 7 DESC, 1, 2
        """,
        {"first": period.first, "end": period.end},
    ).fetchall()
    total = dict(
        connection.execute(
            f"SELECT BillingCurrency, sum(positive_effective_cost) FROM {ROLLUP_TABLE}"
            " WHERE charge_date >= $first AND charge_date < $end GROUP BY 1",
            {"first": period.first, "end": period.end},
        ).fetchall()
    )
    names = ("department", "team", "resources", "min_resources", "sparse_days", "currency", "effective_cost")
    return Rows([*names, "share_percent"], [(*row[:7], percent(row[7], total[row[5]])) for row in rows])


def sparse_shares(connection: duckdb.DuckDBPyConnection, period: Period) -> dict[str, float]:
    """Currency -> percent of the period's positive effective cost that is shown as `__sparse__`; 0 where nothing is."""
    return {
        currency: percent(sparse, total)
        for currency, sparse, total in connection.execute(
            f"""
            SELECT BillingCurrency, coalesce(sum(CASE WHEN team = '{SPARSE}' THEN positive_effective_cost END), 0),
                sum(positive_effective_cost)
            FROM {COST_CENTERS} WHERE charge_date >= $first AND charge_date < $end GROUP BY 1 ORDER BY 1
            """,
            {"first": period.first, "end": period.end},
        ).fetchall()
    }
