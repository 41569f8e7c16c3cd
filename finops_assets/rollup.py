"""daily_cost_by_team: facts summed by day, provider, department, team, environment, category and currency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal

from finops_assets.attribution.rules import Rules
from finops_assets.engine import identifier
from finops_assets.facts import facts_relation
from finops_assets.focus.money import DECIMAL
from finops_assets.lake import Lake
from finops_assets.ledger import Ledger
from finops_assets.restatements import keep_history
from finops_assets.settings import Settings
from finops_assets.warehouse import Warehouse

TABLE = "daily_cost_by_team"
UNTAGGED, UNKNOWN, OTHER = "__untagged__", "__unknown__", "Other"

# Dimensions that the rollup groups by, in its order, and what stands where one is missing.
GROUPED = {"department": UNTAGGED, "team": UNTAGGED, "environment": UNKNOWN}
KEY = ("charge_date", "provider", *GROUPED, "ServiceCategory", "BillingCurrency")

# What the history of reported days keeps, by the key and source.
REPORTED = ("billed_cost", "effective_cost", "positive_effective_cost", "row_count")

# Exact distinct counts are held in memory: a long range is summed a few million facts at a time.
ROWS_AT_ONCE = 5_000_000


def rollup_query(rules: Rules, facts: str, providers: Mapping[str, str], by_source: bool = False) -> str:
    """SQL: the rollup of a relation of facts, or the same split by source. Its key is unique and free of nulls.

    `providers` names the provider of each source whose rows do not name one themselves. Untagged are
    rows without a department or without a team; committed are rows under a commitment discount.
    positive_effective_cost is what percentages are taken of: effective cost without credits and refunds.
    """
    named = " ".join(f"WHEN '{source}' THEN '{name}'" for source, name in _quoted(providers).items())
    default = f"CASE source {named} ELSE source END" if named else "source"
    dimension = {
        d: f"coalesce({identifier(d)}, '{missing}')" if d in rules.dimensions else f"'{missing}'"
        for d, missing in GROUPED.items()
    }
    owners = [identifier(d) for d in ("department", "team") if d in rules.dimensions]
    untagged = " OR ".join(f"{d} IS NULL" for d in owners) or "1 = 1"
    return f"""
        SELECT
            charge_date,
            coalesce(ProviderName, ServiceProviderName, {default}) AS provider,
            {dimension["department"]} AS department,
            {dimension["team"]} AS team,
            {dimension["environment"]} AS environment,
            coalesce(ServiceCategory, '{OTHER}') AS ServiceCategory,
            coalesce(BillingCurrency, '') AS BillingCurrency,
            CAST(sum(coalesce(BilledCost, 0)) AS {DECIMAL}) AS billed_cost,
            CAST(sum(coalesce(EffectiveCost, BilledCost, 0)) AS {DECIMAL}) AS effective_cost,
            CAST(sum(CASE WHEN coalesce(EffectiveCost, BilledCost) > 0
                THEN coalesce(EffectiveCost, BilledCost) ELSE 0 END) AS {DECIMAL}) AS positive_effective_cost,
            count(DISTINCT ResourceId) AS resource_count,
            count(*) AS row_count,
            count(CASE WHEN {untagged} THEN 1 END) AS untagged_rows,
            count(CommitmentDiscountId) AS committed_rows{", source" if by_source else ""}
        FROM {facts}
        GROUP BY 1, 2, 3, 4, 5, 6, 7{", source" if by_source else ""}
    """


def _quoted(names: Mapping[str, str]) -> dict[str, str]:
    return {k.replace("'", "''"): v.replace("'", "''") for k, v in names.items()}


def build_rollup(lake: Lake, warehouse: Warehouse, rules: Rules, settings: Settings, days: Iterable[date]) -> None:
    """Replace these days of the rollup, each as a whole, from the facts of all sources.

    What a day reported before is kept: see `restatements`.
    """
    sources = [s.name for s in settings.sources]
    providers = {s.name: s.provider for s in settings.sources if s.provider}
    with warehouse.writing() as connection:
        connection.execute("SET memory_limit = ?", [settings.engine.memory_limit.replace(" ", "")])
        for chunk in _chunks(lake, sources, sorted(days)):
            files = lake.day_files("facts", sources, chunk)
            with warehouse.transaction(connection):
                if not files:
                    warehouse.replace_days(connection, TABLE, chunk, None)
                    keep_history(connection, chunk, None)
                    continue
                facts = facts_relation(files)
                # The history is kept by source: summed once at that grain, the rollup is the same table without
                # it, unless two sources bill under one key and a resource could count twice.
                by_source = rollup_query(rules, facts, providers, by_source=True)
                connection.execute(f"CREATE OR REPLACE TEMP TABLE rolled AS {by_source}")
                shared = f"SELECT 1 FROM rolled GROUP BY {', '.join(KEY)} HAVING count(*) > 1 LIMIT 1"
                overlap = bool(connection.execute(shared).fetchall())
                query = rollup_query(rules, facts, providers) if overlap else "SELECT * EXCLUDE (source) FROM rolled"
                warehouse.replace_days(connection, TABLE, chunk, query)
                keep_history(connection, chunk, f"SELECT {', '.join((*KEY, 'source', *REPORTED))} FROM rolled")
                connection.execute("DROP TABLE rolled")


def _chunks(lake: Lake, sources: list[str], days: list[date]) -> Iterable[list[date]]:
    """Days in runs of at most ROWS_AT_ONCE facts, at least one day each."""
    chunk: list[date] = []
    rows = 0
    for day in days:
        count = sum(totals.rows for s in sources if (totals := Ledger(lake, s).day_totals(day)))
        if chunk and rows + count > ROWS_AT_ONCE:
            yield chunk
            chunk, rows = [], 0
        chunk.append(day)
        rows += count
    if chunk:
        yield chunk


def rollup_totals(warehouse: Warehouse, days: Iterable[date]) -> dict[date, dict[str, tuple[int, Decimal, Decimal]]]:
    """Rows, billed and effective cost of the rollup by day and currency."""
    result: dict[date, dict[str, tuple[int, Decimal, Decimal]]] = {}
    with warehouse.reading() as connection:
        if not warehouse.has(connection, TABLE):
            return {}
        for day, currency, rows, billed, effective in connection.execute(
            f"""
            SELECT charge_date, BillingCurrency, sum(row_count), sum(billed_cost), sum(effective_cost)
            FROM {TABLE} WHERE list_contains(?, charge_date) GROUP BY 1, 2
            """,
            [list(days)],
        ).fetchall():
            result.setdefault(day, {})[currency] = (int(rows), billed, effective)
    return result
