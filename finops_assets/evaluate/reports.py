"""The three questions, asked of the rollup: what did each team spend, who is untagged, which services cost.

Every figure stands beside that of the like days of the period before (see `comparison`). Amounts are per currency,
which are never added; the largest currency stands first. Percentages are over positive effective cost, so that a credit cannot push coverage
over 100 %. Ends are exclusive; days are UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal, localcontext
from functools import cache
from typing import Literal, get_args

import duckdb

from finops_assets.base.period import Period, days_between
from finops_assets.base.sql import identifier, literal
from finops_assets.cost.restatements import REPORTED_COST, REPORTED_NOW
from finops_assets.cost.rollup import ROLLUP_TABLE, TOO_MANY, missing
from finops_assets.evaluate.comparison import Comparison, compare
from finops_assets.focus.money import percent
from finops_assets.focus.specification import columns as focus_columns
from finops_assets.tables.ddl import dimensions_of
from finops_assets.tables.declarations import DIMENSIONS, grouped
from finops_assets.tables.declarations import key as rollup_key
from finops_assets.tables.rows import Rows

TEAMS_BY = ("department", "team")
SERVICES_BY = ("ServiceCategory",)
# Digits that no sum of amounts exceeds: Python's own 28 would round what DECIMAL(38, 18) holds.
EXACT = 80
OF_CHARGES = ("source", *focus_columns())
"""What tells charges apart besides the rollup's key."""
TAG = "tag:"
LIKE_DAY = "coalesce(l.like_day, r.charge_date) AS charge_date"
OTHERS = "all others"
_SIDED = """
    SELECT s.*, s.day >= $first AS is_now, l.like_day IS NOT NULL AS is_compared, coalesce(l.like_day, s.day) AS charge_date
    FROM summed s LEFT JOIN likes l ON s.billed_by = l.provider AND s.day = l.charge_date
    WHERE l.like_day IS NOT NULL OR s.day >= $first
"""
Where = Mapping[str, Sequence[str]]
"""Column -> the values of which a row has one: what alone is summed. Without any, everything is."""
Basis = Literal["effective", "billed", "accrued"]
"""What a cost is: accrued by the provider, cash, or accrued by day (charges longer than a day given to their days)."""


def can_group_by(connection: duckdb.DuckDBPyConnection, rollup: str = ROLLUP_TABLE) -> tuple[str, ...]:
    """The columns that a relation like the rollup can be summed by: the day, and what tells cost apart."""
    dimensions = (*dimensions_of(connection, ROLLUP_TABLE), *dimensions_of(connection, REPORTED_COST))
    held = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {rollup}").fetchall()]
    key = rollup_key(dimensions)
    # Of the facts also what the rollup is not by: `charges.rollup_by`.
    return (*(c for c in key[:-1] if c in held), *(c for c in held if (c in OF_CHARGES or is_tag(c)) and c not in key))


def is_tag(column: str) -> bool:
    """Does the name ask for the value of a tag, as `tag:app`?"""
    return column.startswith(TAG) and len(column) > len(TAG)


def require_columns(by: Iterable[str], allowed: Sequence[str]) -> None:
    """
    Raises:
        ValueError: one of `by` is none of those that are allowed.
    """
    unknown = [b for b in by if b not in allowed]
    if unknown:
        raise ValueError(f"found {', '.join(unknown)}; allowed: {', '.join(allowed)}")


def days_without(
    connection: duckdb.DuckDBPyConnection, period: Period, by: Iterable[str], rollup: str = ROLLUP_TABLE
) -> dict[str, list[date]]:
    """By dimension the days of a period that a relation like the rollup was not summed by it: built before it was one."""
    return _days_on_which("IS NULL", connection, period, by, rollup)


def days_collapsed(
    connection: duckdb.DuckDBPyConnection, period: Period, by: Iterable[str], rollup: str = ROLLUP_TABLE
) -> dict[str, list[date]]:
    """By dimension the days of a period on which it has too many values, so that their cost is together (`rollup.TOO_MANY`)."""
    return _days_on_which(f"= {literal(TOO_MANY)}", connection, period, by, rollup)


def _days_on_which(
    condition: str, connection: duckdb.DuckDBPyConnection, period: Period, by: Iterable[str], rollup: str
) -> dict[str, list[date]]:
    """By dimension besides those of every rollup the days with a row of which the condition, SQL that follows it, holds."""
    asked = [name for name in by if name not in DIMENSIONS]
    known = dimensions_of(connection, ROLLUP_TABLE) if asked else ()
    found: dict[str, list[date]] = {}
    for name in asked:
        if name in known:
            rows = connection.execute(
                f"SELECT DISTINCT charge_date FROM {rollup} WHERE {identifier(name)} {condition} AND charge_date >= $first"
                " AND charge_date < $end ORDER BY 1",
                {"first": period.first, "end": period.end},
            ).fetchall()
            if rows:
                found[name] = [day for (day,) in rows]
    return found


def cost_by(
    connection: duckdb.DuckDBPyConnection,
    period: Period,
    by: tuple[str, ...],
    rollup: str = ROLLUP_TABLE,
    basis: Basis | None = None,
    reported: str = REPORTED_NOW,
    where: Where | None = None,
    compared: Comparison | None = None,
) -> Rows:
    """Cost by some of the rollup's columns and currency, against the like days of the period before.

    Columns: by…, currency, effective_cost, billed_cost, effective_cost_compared, effective_cost_before (Decimal),
    change_percent, share_percent (of the currency's positive effective cost; float or NaN), days, days_before,
    row_count. effective_cost is of all days of the period with figures, which `days` counts;
    effective_cost_compared is its part on the `days_before` days that are compared, effective_cost_before the cost
    of their likes, and change_percent the change from the latter to the former. Both are None where no day can be
    compared; 0 is a cost of 0 on known days. Of one basis alone the cost is called billed_cost (without shares, whose
    base is effective), effective_cost, or accrued_cost with apportioned_cost, the part of it that long charges gave
    to their days. For that `rollup` is `accrual.accrued_rollup()`.

    `rollup` is the table asked, or SQL of the rollup as of a day; `reported` is then SQL of what was reported by source.
    By charge_date a row's likes are those of its day. Of `where` shares are of what it leaves, and days are as known as
    without it. `compared` is what `compare` says of the same days, where that is known already.

    Raises:
        ValueError: a column that the rollup is not grouped by, or no such basis.
    """
    where = where or {}
    require_columns((*by, *where), can_group_by(connection, rollup))
    if basis is not None and basis not in get_args(Basis):
        raise ValueError(f"found {basis}; allowed: {', '.join(get_args(Basis))}")
    # Parts of long charges fall on days that were not reported, too: those alone make no day known.
    if compared is None:
        compared = compare(connection, period, reported, None if basis == "accrued" else rollup)
    keys = "".join(f"{identifier(b)}, " for b in by)
    own = "".join(f"r.{identifier(b)}, " for b in by if b != "charge_date")
    only, values = only_where(where)
    by_day = by.index("charge_date") if "charge_date" in by else None
    cost = "billed_cost" if basis == "billed" else "effective_cost"
    name = f"{basis or 'effective'}_cost"
    beside = {None: "sum(r.billed_cost)", "accrued": f"sum(r.{cost}) FILTER (r.is_apportioned)"}
    # Every row is added up once, before it is asked what side it is on: the days of a group that differ in it are few.
    rows = connection.execute(
        f"""
        WITH likes AS ({_likes(compared)}), summed AS (
            SELECT {own}r.BillingCurrency AS currency, r.provider AS billed_by,
                {"r.charge_date" if by_day is not None else _one_of_its_like(compared)} AS day,
                sum(r.{cost}) AS cost, {beside.get(basis, "NULL")} AS beside,
                sum(r.positive_effective_cost) AS positive_cost, sum(r.row_count) AS row_count
            FROM {rollup} r WHERE r.charge_date >= $first_before AND r.charge_date < $end{only} GROUP BY ALL
        ), sided AS ({_SIDED}), grouped AS (
            SELECT {keys}currency,
                coalesce(sum(cost) FILTER (is_now), 0) AS cost_now,
                coalesce(sum(beside) FILTER (is_now), 0) AS beside,
                coalesce(sum(cost) FILTER (is_now AND is_compared), 0) AS cost_compared,
                coalesce(sum(cost) FILTER (NOT is_now), 0) AS cost_before,
                coalesce(sum(positive_cost) FILTER (is_now), 0) AS positive_cost,
                coalesce(sum(row_count) FILTER (is_now), 0) AS row_count,
                list(billed_by) AS providers
            FROM sided GROUP BY ALL
        )
        SELECT {keys}currency, cost_now, beside, cost_compared, cost_before, positive_cost,
            sum(positive_cost) OVER (PARTITION BY currency) AS all_positive, CAST(row_count AS BIGINT) AS row_count, providers
        FROM grouped ORDER BY sum(cost_now) OVER (PARTITION BY currency) DESC, currency,
            {"charge_date" if by_day is not None else "cost_now DESC"}{"".join(f", {identifier(b)}" for b in by)}
        """,
        {"first": period.first, "end": period.end, "first_before": period.before.first, **_bound(compared), **values},
    ).fetchall()
    made = []
    # Rows by day are many, and their providers few.
    known, like_days = cache(compared.known_days), cache(compared.compared_days)
    for *key, now, other, like, then, positive, all_positive, count, providers in rows:
        day = key[by_day] if by_day is not None else None
        billing = frozenset(providers)
        days, days_before = known(billing, day), like_days(billing, day)
        change = percent(_less(like, then), then) if days_before else float("nan")
        pair = (like, then) if days_before else (None, None)
        made.append((*key, now, other, *pair, change, percent(positive, all_positive), days, days_before, count))
    second = "apportioned_cost" if basis == "accrued" else "beside" if basis else "billed_cost"
    columns = (
        *by, "currency", name, second, f"{name}_compared", f"{name}_before", "change_percent", "share_percent", "days",
        "days_before", "row_count",
    )  # fmt: skip
    return Rows(columns, made).without("beside", *(["share_percent"] if basis == "billed" else []))


def cost_by_day(
    connection: duckdb.DuckDBPyConnection,
    period: Period,
    column: str,
    currency: str,
    most: int,
    rollup: str = ROLLUP_TABLE,
    basis: Basis = "effective",
    where: Where | None = None,
    compared: Comparison | None = None,
) -> Rows:
    """What `cost_by` says by day and a column, in one currency, for a chart: of the largest `most` values each, the rest together.

    Columns: charge_date, the column (OTHERS for the rest), cost, before (Decimal; None on a day of which nothing can be
    compared). Up to `most` + 1 values are all there.

    Raises:
        ValueError: a column that the rollup is not grouped by.
    """
    where = where or {}
    require_columns((column, *where), can_group_by(connection, rollup))
    if compared is None:
        compared = compare(connection, period, rollup=None if basis == "accrued" else rollup)
    only, values = only_where(where)
    cost = "billed_cost" if basis == "billed" else "effective_cost"
    rows = connection.execute(
        f"""
        WITH likes AS ({_likes(compared)}), summed AS (
            SELECT r.charge_date, r.provider, r.{identifier(column)} AS name, sum(r.{cost}) AS cost
            FROM {rollup} r
            WHERE r.charge_date >= $first_before AND r.charge_date < $end AND r.BillingCurrency = $currency{only}
            GROUP BY ALL
        ), by_day AS (
            SELECT {LIKE_DAY}, r.name, coalesce(sum(r.cost) FILTER (r.charge_date >= $first), 0) AS cost,
                sum(r.cost) FILTER (r.charge_date < $first) AS before, bool_or(l.like_day IS NOT NULL) AS is_compared
            FROM summed r LEFT JOIN likes l ON r.provider = l.provider AND r.charge_date = l.charge_date
            WHERE l.like_day IS NOT NULL OR r.charge_date >= $first
            GROUP BY ALL
        ), largest AS (
            SELECT name, row_number() OVER (ORDER BY sum(abs(cost)) DESC, name) AS place, count(*) OVER () AS known
            FROM by_day GROUP BY name
        )
        SELECT d.charge_date, CASE WHEN p.place <= $most OR p.known <= $most + 1 THEN d.name ELSE '{OTHERS}' END AS name,
            sum(d.cost), CASE WHEN bool_or(d.is_compared) THEN coalesce(sum(d.before), 0) END
        FROM by_day d JOIN largest p ON d.name IS NOT DISTINCT FROM p.name
        GROUP BY ALL ORDER BY ALL
        """,
        {
            "first": period.first, "end": period.end, "first_before": period.before.first, "currency": currency, "most": most,
            **_bound(compared), **values,
        },
    ).fetchall()  # fmt: skip
    return Rows(["charge_date", column, "cost", "before"], rows)


def only_where(where: Where) -> tuple[str, dict[str, list[str]]]:
    """SQL that follows other conditions on a relation `r`, and the values that it binds."""
    names = {f"only_{n}": column for n, column in enumerate(where)}
    return (
        "".join(f" AND list_contains(${name}, r.{identifier(column)})" for name, column in names.items()),
        {name: list(where[column]) for name, column in names.items()},
    )


def _likes(compared: Comparison) -> str:
    """SQL: provider, charge_date, like_day of the days that are compared: of both periods, by the day of this one."""
    if not any(compared.compared.values()):
        return "SELECT '' AS provider, DATE '1970-01-01' AS charge_date, DATE '1970-01-01' AS like_day WHERE false"
    return (
        "SELECT unnest($providers) AS provider, CAST(unnest($days) AS DATE) AS charge_date,"
        " CAST(unnest($like_days) AS DATE) AS like_day"
    )


def _one_of_its_like(compared: Comparison) -> str:
    """SQL: of `r.charge_date` a day of the same period that is compared of the same providers, one for all such days."""
    period, like, providers = compared.period, compared.period.like_days, dict[date, set[str]]()
    for provider, days in compared.compared.items():
        for day in days:
            for of in (day, like[day]):
                providers.setdefault(of, set()).add(provider)
    first_of: dict[tuple[bool, frozenset[str]], date] = {}
    spans: list[tuple[date, date]] = []
    for day in days_between(period.before.first, period.end):
        one = first_of.setdefault((day >= period.first, frozenset(providers.get(day, ()))), day)
        if not spans or spans[-1][1] != one:
            spans.append((day, one))
    return _by_span(spans)


def _by_span(spans: Sequence[tuple[date, date]]) -> str:
    """SQL: the day that is told of the span which `r.charge_date` is in; a span lasts to the next one's first day."""
    if len(spans) == 1:
        return f"DATE '{spans[0][1]}'"
    middle = len(spans) // 2
    return (
        f"CASE WHEN r.charge_date < DATE '{spans[middle][0]}' THEN {_by_span(spans[:middle])}"
        f" ELSE {_by_span(spans[middle:])} END"
    )


def _bound(compared: Comparison) -> dict[str, list[object]]:
    """The values of `_likes`."""
    like = compared.period.like_days
    rows = [
        (provider, day, of)
        for provider, days in compared.compared.items()
        for of in sorted(days)
        for day in (of, like[of])
    ]
    return dict(zip(("providers", "days", "like_days"), map(list, zip(*rows)))) if rows else {}


def untagged_by(
    connection: duckdb.DuckDBPyConnection,
    period: Period,
    by: tuple[str, ...] = ("provider",),
    rollup: str = ROLLUP_TABLE,
    reported: str = REPORTED_NOW,
    dimensions: Iterable[str] | None = None,
) -> Rows:
    """Share of positive effective cost without each dimension, against the period before.

    Columns: by…, currency, positive_effective_cost (Decimal), for each dimension of the rollup
    untagged_<dimension> (Decimal), untagged_<dimension>_percent and …_percent_before (float or NaN), and days and
    days_before as in `cost_by`: the shares before are of the like days alone. Of a dimension that some days were built
    without (`days_without`) the other days count, and it is None where there are none. `rollup`, `reported`: see `cost_by`.
    `dimensions`: those of finops.yaml, to be told of whether the rollup has them or not; else those that it has.

    Raises:
        ValueError: a column that the rollup is not grouped by.
    """
    allowed = can_group_by(connection, rollup)[1:]
    require_columns(by, allowed)
    there = [d for d in dimensions_of(connection, ROLLUP_TABLE) if d in allowed]
    wanted = there if dimensions is None else grouped(dimensions)
    compared = compare(connection, period, reported, rollup)
    keys = ", ".join(identifier(b) for b in by)
    # What a row lacks, not what it has: so every row is added up once, and groups are few.
    lacks = "".join(
        f", {f'r.{identifier(d)} = {literal(missing(d))}' if d in there else 'CAST(NULL AS BOOLEAN)'} AS lacks_{n}"
        for n, d in enumerate(wanted)
    )
    # A dimension is null on days that were built without it: they are in neither of its two sums.
    amounts = ["positive"] + [
        amount
        for n, _ in enumerate(wanted)
        for amount in (
            f"CASE WHEN lacks_{n} IS NOT NULL THEN positive END",
            f"CASE WHEN lacks_{n} THEN positive WHEN NOT lacks_{n} THEN 0 END",
        )
    ]
    sums = ", ".join(f"sum({amount}) FILTER ({side})" for side in ("is_now", "NOT is_now") for amount in amounts)
    rows = connection.execute(
        f"""
        WITH likes AS ({_likes(compared)}), summed AS (
            SELECT {", ".join(f"r.{identifier(b)}" for b in by)}, r.BillingCurrency AS currency, r.provider AS billed_by,
                {_one_of_its_like(compared)} AS day{lacks}, sum(r.positive_effective_cost) AS positive
            FROM {rollup} r WHERE r.charge_date >= $first_before AND r.charge_date < $end GROUP BY ALL
        ), sided AS ({_SIDED}), grouped AS (
            SELECT {keys}, currency, {sums}, list(DISTINCT billed_by) AS providers,
                sum(positive) FILTER (is_now) AS positive_now
            FROM sided GROUP BY ALL HAVING bool_or(is_now)
        )
        SELECT * EXCLUDE (positive_now) FROM grouped
        ORDER BY sum(positive_now) OVER (PARTITION BY currency) DESC, currency, {keys}
        """,
        {"first": period.first, "end": period.end, "first_before": period.before.first, **_bound(compared)},
    ).fetchall()
    result = []
    width = len(by) + 1
    for row in rows:
        now, then = row[width : width + len(amounts)], row[width + len(amounts) : width + 2 * len(amounts)]
        figures: list[object] = [now[0]]
        for i in range(1, len(amounts), 2):
            figures += [now[i + 1], _share(now[i + 1], now[i]), _share(then[i + 1], then[i])]
        result.append((*row[:width], *figures, compared.known_days(row[-1]), compared.compared_days(row[-1])))
    columns = [*by, "currency", "positive_effective_cost"]
    for dimension in wanted:
        columns += [f"untagged_{dimension}", f"untagged_{dimension}_percent", f"untagged_{dimension}_percent_before"]
    return Rows([*columns, "days", "days_before"], result)


def savings_by(
    connection: duckdb.DuckDBPyConnection, period: Period, by: tuple[str, ...], rollup: str = ROLLUP_TABLE
) -> Rows:
    """List and contracted cost beside billed cost, each counted once where commitments were bought (`rollup.once`).

    Columns: by…, currency, list_cost, contracted_cost, billed_cost, negotiated (list less contracted), saved
    (list less billed; Decimal), saved_percent (of list; float or NaN), without_prices (billed cost of rows whose
    list or contracted cost the provider does not give: it is in no other column), days (with figures, as in `cost_by`).

    List and contracted cost stand where BilledCost does, on the purchase; so billed cost is what they are
    compared with. What a commitment saved over its own cost is in the report of commitments.

    Raises:
        ValueError: a column that the rollup is not grouped by.
    """
    require_columns(by, can_group_by(connection, rollup))
    compared = compare(connection, period, rollup=rollup)
    keys = ", ".join(identifier(b) for b in by)
    by_day = by.index("charge_date") if "charge_date" in by else None
    priced = "list_cost IS NOT NULL AND contracted_cost IS NOT NULL"
    rows = connection.execute(
        f"""
        WITH grouped AS (
            SELECT {keys}, BillingCurrency, {
            ", ".join(f"coalesce(sum({c}) FILTER (WHERE {priced}), 0) AS {c}" for c in ("list_cost", "contracted_cost"))
        }, coalesce(sum(billed_cost) FILTER (WHERE {priced}), 0) AS billed,
                coalesce(sum(billed_cost) FILTER (WHERE NOT ({priced})), 0) AS without_prices,
                list(DISTINCT provider) AS providers
            FROM {rollup} WHERE charge_date >= $first AND charge_date < $end GROUP BY ALL
        )
        SELECT * FROM grouped
        ORDER BY sum(billed + without_prices) OVER (PARTITION BY BillingCurrency) DESC, BillingCurrency,
            list_cost DESC, {keys}
        """,
        {"first": period.first, "end": period.end},
    ).fetchall()
    width = len(by) + 1
    return Rows(
        [
            *by, "currency", "list_cost", "contracted_cost", "billed_cost", "negotiated", "saved", "saved_percent",
            "without_prices", "days",
        ],
        [
            (*row[: width + 3], row[width] - row[width + 1], row[width] - row[width + 2],
             percent(row[width] - row[width + 2], row[width]), row[width + 3],
             compared.known_days(row[-1], row[by_day] if by_day is not None else None))
            for row in rows
        ],
    )  # fmt: skip


def _share(part: Decimal | None, whole: Decimal | None) -> float:
    return float("nan") if part is None or whole is None else percent(part, whole)


def _less(amount: Decimal, other: Decimal) -> Decimal:
    with localcontext(prec=EXACT):
        return amount - other
