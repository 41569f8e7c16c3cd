"""What tokens cost: quantities of tokens that bills tell, by model, type and whose they are, and the price of a million.

Asked of the published view over the facts, whatever source they are from: a charge is for tokens if its unit says so
(`ConsumedUnit`, else `PricingUnit`: Tokens, 1K Tokens, 1000 Tokens, …). What its meter calls tokens and has no such quantity is cost
whose tokens nobody told: it is in no price, and shown beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal

import duckdb

from finops_assets.base.content import version_of
from finops_assets.base.period import Period, consecutive
from finops_assets.base.sql import identifier
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.charges import column_sql, tag_sql
from finops_assets.evaluate.reports import Where, is_tag, only_where, require_columns
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.focus.money import DECIMAL, divided
from finops_assets.settings.engine import EngineSettings
from finops_assets.settings.model import Settings
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.duck import connect
from finops_assets.storage.lake import Key, Lake, source_and_day
from finops_assets.storage.warehouse import FACTS, ROLLED_UP, Warehouse
from finops_assets.tables import ddl, declarations, values
from finops_assets.tables.rows import Rows

DAILY_TOKENS, TOKEN_DAYS = "daily_tokens", "token_days"
# Part of the stamp: a change of how tokens are counted makes every day anew.
ALGORITHM = 1
DAYS_AT_ONCE = 31
DAILY_BY = ("charge_date", "source", "provider", "department", "team", "model", "token_type")
TOKENS_BY = ("department", "team", "model", "token_type")
FIGURES = (
    "currency", "tokens", "effective_cost", "billed_cost", "effective_per_million", "billed_per_million",
    "cost_without_tokens", "row_count",
)  # fmt: skip
_MILLION = 1_000_000
_UNIT = r"^([0-9]*)\s*(k|m|thousand|million)?\s*tokens?$"
OWN_COLUMNS = ("model", "token_type")
"""What tokens are told by besides what cost is."""
_OWN = {
    # As FOCUS 1.5 has it; before, a price list's own name for what is sold is the nearest.
    "model": "coalesce(nullif(json_extract_string(SkuPriceDetails, '$.ModelId'), ''), SkuId, '')",
    "token_type": "coalesce(SkuMeter, '')",
}


def tokens_by(
    connection: duckdb.DuckDBPyConnection,
    period: Period,
    providers: Mapping[str, str],
    by: tuple[str, ...] = TOKENS_BY,
    where: Where | None = None,
) -> Rows:
    """Columns: by…, then FIGURES; the costliest of a currency first. Amounts are Decimal, a price is at 18 places.

    `by` and `where` take what costs can be summed by, `model` and `token_type`. A price is null where no tokens were told, or
    none are left after refunds.

    Raises:
        ValueError: a column that facts do not have.
    """
    where = where or {}
    asked = dict.fromkeys((*by, *where))
    known = column_sql(connection, providers) | _OWN
    require_columns([c for c in asked if not is_tag(c)], tuple(known))
    listed = "".join(f"{tag_sql(c) if is_tag(c) else f'{known[c]} AS {identifier(c)}'}, " for c in asked)
    keys = "".join(f"r.{identifier(c)}, " for c in by)
    in_order = "".join(f", {identifier(c)}" for c in by)
    only, values = only_where(where)
    rows = connection.execute(
        f"""
        WITH grouped AS (
            SELECT {keys}r.currency AS currency, CAST(sum(r.tokens) AS {DECIMAL}) AS tokens,
                coalesce(sum(r.effective) FILTER (r.tokens IS NOT NULL), 0) AS cost,
                coalesce(sum(r.billed) FILTER (r.tokens IS NOT NULL), 0) AS billed,
                coalesce(sum(r.effective) FILTER (r.tokens IS NULL), 0) AS untold, count(*) AS row_count
            FROM (
                SELECT {listed}coalesce(BillingCurrency, '') AS currency, coalesce(BilledCost, 0) AS billed, {EFFECTIVE} AS effective,
                    coalesce({_counted("Consumed")}, {_counted("Pricing")}) AS tokens,
                    regexp_matches(lower(coalesce(SkuMeter, '')), '\\btokens?\\b') AS of_tokens
                FROM {FACTS} WHERE charge_date >= $first AND charge_date < $end AND ChargeCategory = 'Usage' AND ({_NAMED})
            ) r WHERE (r.tokens IS NOT NULL OR r.of_tokens){only}
            GROUP BY ALL
        )
        SELECT * FROM grouped
        ORDER BY sum(cost) OVER (PARTITION BY currency) DESC, currency, cost DESC, untold DESC{in_order}
        """,
        {"first": period.first, "end": period.end, **values},
    ).fetchall()
    made = [
        (*key, currency, tokens, cost, billed, _a_million(cost, tokens), _a_million(billed, tokens), untold, count)
        for *key, currency, tokens, cost, billed, untold, count in rows
    ]
    return Rows([*by, *FIGURES], made)


def bring_up_to_date(
    connection: duckdb.DuckDBPyConnection,
    warehouse: Warehouse,
    lake: Lake,
    settings: Settings,
    known: Iterable[Key],
) -> list[date]:
    """Make the days of the table `daily_tokens` anew whose facts changed; returns them. `connection` is to the warehouse.

    `known` are the (source, day)s that count.
    """
    for table in (DAILY_TOKENS, TOKEN_DAYS):
        ddl.create(connection, table)
    wanted = _stamps(connection, settings.providers, known)
    held: dict[date, str] = dict(connection.execute(f"SELECT charge_date, stamp FROM {TOKEN_DAYS}").fetchall())
    changed = [day for day, (stamp, _) in wanted.items() if held.get(day) != stamp]
    gone = sorted(held.keys() - wanted.keys())
    for days in consecutive(changed, DAYS_AT_ONCE):
        keys = [(source, day) for day in days for source in wanted[day][1]]
        made = read_tokens(lake, settings.engine, settings.providers, settings.dimensions, keys)
        connection.register("tokens_now", values.arrow(made, declarations.table(DAILY_TOKENS)))
        stamps = [{"charge_date": day, "stamp": wanted[day][0]} for day in days]
        connection.register("days_now", values.arrow_records(stamps, declarations.table(TOKEN_DAYS)))
        with warehouse.transaction(connection):
            warehouse.replace_days(connection, DAILY_TOKENS, days, "SELECT * FROM tokens_now")
            warehouse.replace_days(connection, TOKEN_DAYS, days, "SELECT * FROM days_now")
    if gone:
        with warehouse.transaction(connection):
            for table in (DAILY_TOKENS, TOKEN_DAYS):
                warehouse.replace_days(connection, table, gone, None)
    return changed


def _stamps(
    connection: duckdb.DuckDBPyConnection, providers: Mapping[str, str], known: Iterable[Key]
) -> dict[date, tuple[str, list[str]]]:
    """By day, ascending: what its tokens follow from, and its sources."""
    of_facts: dict[Key, str | None] = {}
    if Warehouse.has(connection, ROLLED_UP):
        for source, day, stamp in connection.execute(f"SELECT source, charge_date, stamp FROM {ROLLED_UP}").fetchall():
            of_facts[source, day] = stamp
    sources: dict[date, list[str]] = {}
    for source, day in sorted(set(known), key=lambda key: (key[1], key[0])):
        sources.setdefault(day, []).append(source)
    decides = [ALGORITHM, sorted(providers.items())]
    return {
        day: (version_of([*decides, *((source, of_facts.get((source, day))) for source in of_day)]), of_day)
        for day, of_day in sources.items()
    }


def read_tokens(
    lake: Lake, engine: EngineSettings, providers: Mapping[str, str], dimensions: Iterable[str], known: Iterable[Key]
) -> Rows:
    """What `tokens_by` says of every day of these, from the lake's facts."""
    wanted = set(known)
    days = sorted({day for _, day in wanted})
    found = lake.day_files("facts", sorted({source for source, _ in wanted}), days)
    files = [file for file in found if source_and_day(file) in wanted]
    if not files:
        return Rows([*DAILY_BY, *FIGURES], ())
    with lake.workspace() as workspace, connect(engine, workspace / "spill") as connection:
        # What a published copy has of it, as `tokens_by` asks for it.
        ddl.create(connection, ROLLUP_TABLE, dimensions=dimensions)
        connection.execute(f"CREATE VIEW {FACTS} AS FROM {facts_relation(files, of_any_rules=True)}")
        return tokens_by(connection, Period(days[0], days[-1] + timedelta(days=1)), providers, DAILY_BY)


# Nearly no row names one: the patterns, and the other columns, are asked of the few that do.
_NAMED = " OR ".join(f"contains(lower({column}), 'token')" for column in ("ConsumedUnit", "PricingUnit", "SkuMeter"))


def _counted(which: str) -> str:
    """SQL: the tokens of ConsumedQuantity or PricingQuantity; null where its unit is not one of tokens."""
    unit = f"lower(trim({which}Unit))"
    many = f"CASE regexp_extract({unit}, '{_UNIT}', 2) WHEN '' THEN 1 WHEN 'k' THEN 1000 WHEN 'thousand' THEN 1000 ELSE {_MILLION} END"
    number = f"coalesce(TRY_CAST(regexp_extract({unit}, '{_UNIT}', 1) AS BIGINT), 1)"
    return f"CASE WHEN regexp_matches({unit}, '{_UNIT}') THEN {which}Quantity * {number} * {many} END"


def _a_million(cost: Decimal, tokens: Decimal | None) -> Decimal | None:
    """
    >>> _a_million(Decimal("0.03"), Decimal(2_000))
    Decimal('15.000000000000000000')
    """
    if tokens is None or tokens <= 0:
        return None
    return divided(cost, tokens, per=_MILLION)
