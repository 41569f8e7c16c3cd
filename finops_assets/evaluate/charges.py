"""Cost by what the rollup is not grouped by, such as service, account and region; and the single charges behind it.

Both are asked of the published view over the facts, so a sum by any column is the rollup's to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import duckdb

from finops_assets.base.period import Period
from finops_assets.base.sql import identifier, literal
from finops_assets.cost.rollup import OTHER, ROLLUP_TABLE, missing, provider_of
from finops_assets.evaluate.reports import OF_CHARGES, TAG, Where, can_group_by, is_tag, only_where, require_columns
from finops_assets.focus.measures import EFFECTIVE, POSITIVE
from finops_assets.storage.warehouse import FACTS
from finops_assets.tables.ddl import dimensions_of
from finops_assets.tables.rows import Rows

CHARGE_COLUMNS = (
    "charge_date", "source", "source_file", "source_row", "provider", "department", "team", "environment", "SubAccountName",
    "ServiceCategory", "ServiceName", "RegionName", "ChargeCategory", "ChargeDescription", "ResourceId", "ResourceName",
    "AllocatedResourceName", "currency", "billed_cost", "effective_cost", "Tags",
)  # fmt: skip
_LONG = {"Tags", "AllocatedTags", "SkuPriceDetails"}


def charge_columns(connection: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    """The columns that cost can be summed by besides those of the rollup: the source, and every text of FOCUS that facts have."""
    held = dict(_described(connection))
    own = {*can_group_by(connection), "BillingCurrency", *_LONG}
    return tuple(c for c in OF_CHARGES if held.get(c) == "VARCHAR" and c not in own)


def _described(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? AND database_name = current_database()",
        [FACTS],
    ).fetchall()


def rollup_by(connection: duckdb.DuckDBPyConnection, providers: Mapping[str, str], columns: Iterable[str]) -> str:
    """SQL: the rollup where it has all of these columns, else a relation like it that is summed from the facts.

    A column `tag:KEY` is the value of a tag, its key compared as the aliases of dimensions are. Of a row without a value
    the column is an empty text. `providers`: see `Settings.providers`.

    Raises:
        ValueError: a column that neither has.
    """
    columns = tuple(dict.fromkeys(columns))
    own = can_group_by(connection)
    if set(columns) <= set(own):
        return ROLLUP_TABLE
    tags = [c for c in columns if is_tag(c)]
    require_columns([c for c in columns if c not in tags], (*own, *charge_columns(connection)))
    expressions = column_sql(connection, providers)
    kept = tuple(dict.fromkeys(("charge_date", "provider", *(c for c in columns if c not in tags))))
    summed = (
        f"(SELECT {', '.join(f'{expressions[c]} AS {identifier(c)}' for c in kept)}{', AllocatedTags, Tags' if tags else ''},"
        " coalesce(BillingCurrency, '') AS BillingCurrency, sum(coalesce(BilledCost, 0)) AS billed_cost,"
        f" sum({EFFECTIVE}) AS effective_cost, sum({POSITIVE}) AS positive_effective_cost, count(*) AS row_count"
        f" FROM {FACTS} GROUP BY ALL)"
    )
    # Of each tag set once, not of each row.
    return (
        f"(SELECT * EXCLUDE (AllocatedTags, Tags), {', '.join(tag_sql(c) for c in tags)} FROM {summed})"
        if tags
        else summed
    )


_NORMAL = r"regexp_replace(regexp_replace(lower(trim({})), '^user:', ''), '[\s\-_.]+', '', 'g')"


def tag_sql(column: str) -> str:
    """SQL: the value of a tag of AllocatedTags, else of Tags, JSON objects; keys are compared as `focus.normal` compares them."""
    asked = _NORMAL.format(literal(column.removeprefix(TAG)))

    def value(tags: str) -> str:
        key = f"list_filter(json_keys({tags}), lambda k: {_NORMAL.format('k')} = {asked})[1]"
        # A JSON pointer: in it a key may hold whatever it likes.
        return f"json_extract_string({tags}, '/' || replace(replace({key}, '~', '~0'), '/', '~1'))"

    return f"coalesce(nullif({value('AllocatedTags')}, ''), {value('Tags')}, '') AS {identifier(column)}"


def column_sql(connection: duckdb.DuckDBPyConnection, providers: Mapping[str, str]) -> dict[str, str]:
    """SQL of each column that cost can be summed by, over the facts."""
    found = {c: f"coalesce({identifier(c)}, '')" for c in charge_columns(connection)}
    held = {name for name, _ in _described(connection)}
    for d in dimensions_of(connection, ROLLUP_TABLE):
        # The rollup has three of them whatever finops.yaml has; facts have those of finops.yaml.
        found[d] = f"coalesce({identifier(d)}, {literal(missing(d))})" if d in held else literal(missing(d))
    return found | {
        "charge_date": "charge_date",
        "provider": provider_of(providers),
        "ServiceCategory": f"coalesce(ServiceCategory, '{OTHER}')",
    }


def charges(
    connection: duckdb.DuckDBPyConnection,
    period: Period,
    providers: Mapping[str, str],
    where: Where | None = None,
    currency: str | None = None,
    most: int = 1_000,
) -> Rows:
    """The single charges of a period, the largest first, each with the file and row that it stood in: CHARGE_COLUMNS.

    At most so many of them; `row_count` of `cost_by` says how many there are.

    Raises:
        ValueError: a column in `where` that facts do not have.
    """
    where = where or {}
    expressions = column_sql(connection, providers)
    tags = [c for c in where if is_tag(c)]
    require_columns([c for c in where if c not in tags], tuple(expressions))
    listed = ", ".join([*(f"{e} AS {identifier(c)}" for c, e in expressions.items()), *map(tag_sql, tags)])
    only, values = only_where(where)
    shown = ", ".join(f"r.{identifier(c)}" for c in CHARGE_COLUMNS)
    rows = connection.execute(
        f"""
        SELECT {shown} FROM (
            SELECT {listed}, source_file, source_row, Tags, coalesce(BillingCurrency, '') AS currency,
                coalesce(BilledCost, 0) AS billed_cost, {EFFECTIVE} AS effective_cost
            FROM {FACTS} WHERE charge_date >= $first AND charge_date < $end
        ) r WHERE ($currency IS NULL OR r.currency = $currency){only}
        ORDER BY abs(r.effective_cost) DESC, r.charge_date, r.source, r.source_file, r.source_row, r.AllocatedResourceName LIMIT $most
        """,
        {"first": period.first, "end": period.end, "currency": currency, "most": most, **values},
    ).fetchall()
    return Rows(CHARGE_COLUMNS, rows)
