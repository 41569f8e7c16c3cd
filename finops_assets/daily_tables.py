"""What the warehouse holds of a day: the rollup, its history, and the tables beside it. Written together or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from finops_assets import accrual, commitments, corrections, restatements
from finops_assets.attribution.rules import Rules
from finops_assets.facts import facts_relation
from finops_assets.lake import Lake
from finops_assets.ledger import Ledger
from finops_assets.restatements import keep_history
from finops_assets.rollup import KEY, REPORTED, TABLE, key_of, rollup_query
from finops_assets.settings import Settings
from finops_assets.warehouse import Warehouse

# Exact distinct counts are held in memory: a long range is summed a few million facts at a time.
ROWS_AT_ONCE = 5_000_000


def build_rollup(lake: Lake, warehouse: Warehouse, rules: Rules, settings: Settings, days: Iterable[date]) -> None:
    """Replace these days of the rollup and of the tables beside it, each as a whole, from the facts of all sources.

    What a day reported before is kept: see `restatements`. Beside the rollup stand the accrual of charges longer
    than a day, commitments and corrections; they change in one transaction with it.
    """
    sources = [s.name for s in settings.counted]
    providers = {s.name: s.provider for s in settings.counted if s.provider}
    with warehouse.writing() as connection:
        connection.execute("SET memory_limit = ?", [settings.engine.memory_limit.replace(" ", "")])
        for chunk in _chunks(lake, sources, sorted(days)):
            files = lake.day_files("facts", sources, chunk)
            with warehouse.transaction(connection):
                if not files:
                    for table in (TABLE, commitments.TABLE, corrections.TABLE):
                        warehouse.replace_days(connection, table, chunk, None)
                    for history in (restatements.TABLE, accrual.HISTORY):
                        keep_history(connection, chunk, None, table=history)
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
                key = key_of(rules, providers)
                keep_history(connection, chunk, accrual.adjustments_query(key, facts), table=accrual.HISTORY)
                warehouse.replace_days(connection, commitments.TABLE, chunk, commitments.daily_query(key, facts))
                warehouse.replace_days(connection, corrections.TABLE, chunk, corrections.daily_query(key, facts))
                accrual.create_views(connection)


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
