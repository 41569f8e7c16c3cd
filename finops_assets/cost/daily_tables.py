"""What the warehouse holds of a day: the rollup, its history, and the tables beside it. Written together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date
from functools import partial

import duckdb
import pyarrow as pa

from finops_assets.base.content import versions_by_day
from finops_assets.cost import accrual, commitments, corrections, restatements, sparse
from finops_assets.cost import coverage as coverages
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.coverage import Covered, enter_coverage, forget_others
from finops_assets.cost.engines.choose import engine_of
from finops_assets.cost.engines.engine import Asked
from finops_assets.cost.restatements import keep_history
from finops_assets.cost.rollup import REPORTED, ROLLUP_TABLE, TooMany, key_of, rollup_query, values_query, with_too_many
from finops_assets.settings.model import Settings
from finops_assets.storage.day_files import facts_relation, stamp_of
from finops_assets.storage.duck import columns_of
from finops_assets.storage.lake import Key, Lake, source_and_day
from finops_assets.storage.ledger import Ledger
from finops_assets.storage.warehouse import ROLLED_UP, Warehouse
from finops_assets.tables.declarations import key

ROLLED, CHARGES = "rolled", "long_charges"


def build_rollup(
    lake: Lake,
    warehouse: Warehouse,
    rules: Rules,
    settings: Settings,
    days: Iterable[date],
    covered: Mapping[Key, Covered] | None = None,
) -> None:
    """Replace these days of the rollup and of the tables beside it, each as a whole, from the facts of all sources.

    `covered` says how each (source, day) was judged, also of days that are not rolled up; without it all facts that
    there are count as judged and passed.

    What a day reported before is kept: see `restatements`. Beside the rollup stand the accrual of charges longer
    than a day, commitments and corrections; they change in one transaction with it.
    """
    sources = [s.name for s in settings.counted]
    providers = settings.providers
    queries = statements_on_facts(rules, providers)
    keys = key(rules.dimensions)
    engine = engine_of(settings.engine, lake)
    for chunk in _chunks(lake, sources, sorted(days), engine.rows_at_once):
        # Before the warehouse is taken: others may want it meanwhile.
        with engine.away((source, day) for source in sources for day in chunk) as ask:
            found = _found(ask, rules, providers) if ask else {}
        with warehouse.writing() as connection:
            connection.execute("SET memory_limit = ?", [settings.engine.memory_limit.replace(" ", "")])
            files = lake.day_files("facts", sources, chunk)
            built_from = {source_and_day(file): stamp_of(file) for file in files}
            with warehouse.transaction(connection):
                judged = {key: Covered("built", "", stamp or "") for key, stamp in built_from.items()}
                if covered is not None:
                    judged = {key: _rolled_up(covered[key], built_from.get(key)) for key in covered if key[1] in chunk}
                enter_coverage(connection, judged, built_from)
                forget_others(connection, chunk, sources)
                if not files:
                    for table in (ROLLUP_TABLE, commitments.COMMITMENTS, corrections.CORRECTIONS, ROLLED_UP):
                        warehouse.replace_days(connection, table, chunk, None)
                    for history in (restatements.REPORTED_COST, accrual.REPORTED_ACCRUALS):
                        keep_history(connection, chunk, None, table=history)
                    continue
                for name, table_found in found.items():
                    connection.register(f"{name}_found", table_found)
                # A held source's last good version may have been attributed under rules with other dimensions.
                of_rules = {(stamp or "").partition(" ")[0] for stamp in built_from.values()}
                facts = facts_relation(files, of_any_rules=len(of_rules) > 1)
                if not found:
                    queries = statements_on_facts(rules, providers, _too_many(connection, rules, facts))
                made = {n: f"SELECT * FROM {n}_found" if n in found else query(facts) for n, query in queries.items()}
                for name in (ROLLED, CHARGES):
                    connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {made[name]}")
                # The history is kept by source: summed once at that grain, the rollup is the same table without
                # it, unless two sources bill under one key and a resource could count twice.
                shared = f"SELECT 1 FROM {ROLLED} GROUP BY {columns_of(keys)} HAVING count(*) > 1 LIMIT 1"
                overlap = bool(connection.execute(shared).fetchall())
                rollup = made[ROLLUP_TABLE] if overlap else f"SELECT * EXCLUDE (source) FROM {ROLLED}"
                others = rules.dimensions
                warehouse.replace_days(connection, ROLLUP_TABLE, chunk, rollup, others)
                reported = f"SELECT {columns_of((*keys, 'source', *REPORTED))} FROM {ROLLED}"
                keep_history(connection, chunk, reported, dimensions=others)
                accrued = accrual.adjustments_query(CHARGES, keys)
                keep_history(connection, chunk, accrued, table=accrual.REPORTED_ACCRUALS, dimensions=others)
                warehouse.replace_days(
                    connection, commitments.COMMITMENTS, chunk, made[commitments.COMMITMENTS], others
                )
                warehouse.replace_days(connection, corrections.CORRECTIONS, chunk, made[corrections.CORRECTIONS])
                for name in (ROLLED, CHARGES):
                    connection.execute(f"DROP TABLE {name}")
                connection.register("rolled_up_now", _as_table(built_from))
                warehouse.replace_days(connection, ROLLED_UP, chunk, "SELECT * FROM rolled_up_now")
                connection.unregister("rolled_up_now")
                accrual.create_views(connection, others)
                if warehouse.has(connection, sparse.SPARSE_GROUPS):
                    sparse.create_view(connection)


def _rolled_up(judged: Covered, stamp: str | None) -> Covered:
    """What is built is what the facts in the rollup were made from, whatever the lake has by now."""
    return replace(judged, stamp=stamp) if judged.state == "built" and stamp else judged


def rollup_versions(warehouse: Warehouse, days: Iterable[date]) -> dict[date, str]:
    """By day a hash of what the rollup and the tables beside it hold of it, with what was reported of it before."""
    tables = (
        ROLLUP_TABLE,
        commitments.COMMITMENTS,
        corrections.CORRECTIONS,
        restatements.REPORTED_COST,
        accrual.REPORTED_ACCRUALS,
        coverages.COVERAGE_TABLE,
    )
    with warehouse.reading() as connection:
        return versions_by_day(connection, [t for t in tables if warehouse.has(connection, t)], days)


def enter_not_rolled_up(warehouse: Warehouse, covered: Mapping[Key, Covered]) -> None:
    """How (source, day)s were judged whose days stay in the rollup as they are."""
    if not covered:
        return
    with warehouse.writing() as connection, warehouse.transaction(connection):
        there = []
        if warehouse.has(connection, ROLLED_UP):
            days = sorted({day for _, day in covered})
            there = connection.execute(
                f"SELECT source, charge_date FROM {ROLLED_UP} WHERE list_contains(?, charge_date)", [days]
            ).fetchall()
        enter_coverage(connection, covered, there)


def _as_table(built_from: Mapping[Key, str | None]) -> pa.Table:
    """What each facts file was built from: the published view shows no others."""
    rows = [{"charge_date": day, "source": source, "stamp": stamp} for (source, day), stamp in built_from.items()]
    return pa.Table.from_pylist(
        rows, pa.schema([("charge_date", pa.date32()), ("source", pa.string()), ("stamp", pa.string())])
    )


def statements_on_facts(
    rules: Rules, providers: Mapping[str, str], too_many: TooMany | None = None
) -> dict[str, Callable[[str], str]]:
    """What is asked of a relation of facts, by the name of what comes of it."""
    sql, names = key_of(rules, providers, too_many=too_many), key(rules.dimensions)
    return {
        ROLLED: lambda facts: rollup_query(rules, facts, providers, by_source=True, too_many=too_many),
        ROLLUP_TABLE: lambda facts: rollup_query(rules, facts, providers, too_many=too_many),
        CHARGES: lambda facts: accrual.charges_query(sql, facts),
        commitments.COMMITMENTS: lambda facts: commitments.daily_query(sql, names, facts),
        corrections.CORRECTIONS: lambda facts: corrections.daily_query(sql, facts),
    }


def _too_many(connection: duckdb.DuckDBPyConnection, rules: Rules, facts: str) -> TooMany:
    query = values_query(rules, facts)
    return with_too_many(rules, connection.execute(query).fetchall()) if query else {}


def _found(ask: Asked, rules: Rules, providers: Mapping[str, str]) -> dict[str, pa.Table]:
    """What another engine finds in the facts of these days; the rollup only where it is not `ROLLED` without source."""
    counted = ask(partial(values_query, rules)) if values_query(rules, "facts") else pa.table({})
    rows = zip(*(column.to_pylist() for column in counted.columns))
    queries = statements_on_facts(rules, providers, with_too_many(rules, rows))
    found = {name: ask(query) for name, query in queries.items() if name != ROLLUP_TABLE}
    keyed = found[ROLLED].group_by(list(key(rules.dimensions))).aggregate([]).num_rows
    if keyed < found[ROLLED].num_rows:
        found[ROLLUP_TABLE] = ask(queries[ROLLUP_TABLE])
    return found


def _chunks(lake: Lake, sources: list[str], days: list[date], most: int) -> Iterable[list[date]]:
    """Days in runs of at most so many facts, at least one day each."""
    chunk: list[date] = []
    rows = 0
    for day in days:
        count = sum(totals.rows for s in sources if (totals := Ledger(lake, s).day_totals(day)))
        if chunk and rows + count > most:
            yield chunk
            chunk, rows = [], 0
        chunk.append(day)
        rows += count
    if chunk:
        yield chunk
