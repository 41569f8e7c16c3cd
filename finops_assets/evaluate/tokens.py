"""What tokens cost: quantities of tokens that bills tell, by model, type and whose they are, and the price of a million.

Asked of the published view over the facts, whatever source they are from: a charge is for tokens if its unit says so
(`ConsumedUnit`, else `PricingUnit`: Tokens, 1K Tokens, 1000 Tokens, …). What its meter calls tokens and has no such quantity is cost
whose tokens nobody told: it is in no price, and shown beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal

import duckdb
import pandas as pd

from finops_assets.base.period import Period
from finops_assets.base.sql import identifier
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.charges import column_sql, tag_sql
from finops_assets.evaluate.reports import Where, is_tag, only_where, require_columns
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.focus.money import DECIMAL, divided
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.duck import connect
from finops_assets.storage.lake import Key, Lake, source_and_day
from finops_assets.storage.warehouse import FACTS
from finops_assets.tables import ddl

DAILY_TOKENS = "daily_tokens"
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
) -> pd.DataFrame:
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
                FROM {FACTS} WHERE charge_date >= $first AND charge_date < $end AND ChargeCategory = 'Usage'
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
    return pd.DataFrame(made, columns=[*by, *FIGURES], dtype="object")


def read_tokens(
    lake: Lake, engine: EngineSettings, providers: Mapping[str, str], dimensions: Iterable[str], known: Iterable[Key]
) -> pd.DataFrame:
    """The table `daily_tokens`: what `tokens_by` says of every day that is known."""
    wanted = set(known)
    days = sorted({day for _, day in wanted})
    found = lake.day_files("facts", sorted({source for source, _ in wanted}), days)
    files = [file for file in found if source_and_day(file) in wanted]
    if not files:
        return pd.DataFrame(columns=[*DAILY_BY, *FIGURES], dtype="object")
    with lake.workspace() as workspace, connect(engine, workspace / "spill") as connection:
        # What a published copy has of it, as `tokens_by` asks for it.
        ddl.create(connection, ROLLUP_TABLE, dimensions=dimensions)
        connection.execute(f"CREATE VIEW {FACTS} AS FROM {facts_relation(files, of_any_rules=True)}")
        return tokens_by(connection, Period(days[0], days[-1] + timedelta(days=1)), providers, DAILY_BY)


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
