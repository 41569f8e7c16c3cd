"""Commitments by team: how much of what they could cover they covered, how much of them was used, and what one more would do.

All of it is read from the bill alone. What a commitment *could* cover is usage of a SKU of which the same bill shows such a
commitment to have covered some; what it *would cost* is the rate that the bill shows for that SKU. Where the bill shows
neither, it is not known, and null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Literal

import duckdb

from finops_assets.cost.commitments import COMMITMENTS
from finops_assets.cost.rollup import provider_of
from finops_assets.evaluate.newest_facts import enter_known, last_days, newest_facts, owner_columns
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.focus.money import DECIMAL, percent
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import lent
from finops_assets.storage.lake import Key, Lake
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.declarations import table
from finops_assets.tables.rows import Rows

COMMITMENT_USE = "commitment_use"
COLUMNS = tuple(column.name for column in table(COMMITMENT_USE).columns)
WINDOWS = (30, 60, 90)

_BILL = "source, provider, currency, service"
_GROUP = "bill, cover, owner"
_EVERYBODY = 0
"""The owner of the scope `all`."""
_ESTIMATED = Decimal("0.000001")
"""What one more would have done is an estimate, to so many places."""
Group = tuple[Any, ...]
"""Scope, source, provider, currency, service, kind, category, department, team; the last two are null for everybody."""


@dataclass
class _Use:
    """One group of a window; what is not known is None."""

    eligible: Decimal | None = None
    covered: Decimal | None = None
    perhaps: Decimal | None = None
    used: Decimal = field(default=Decimal(0))
    unused: Decimal = field(default=Decimal(0))
    rate: float | None = None
    one_more: str | None = None
    saved: Decimal | None = None
    wasted: Decimal | None = None
    rows: int = 0


def read_commitment_use(lake: Lake, engine: EngineSettings, providers: Mapping[str, str], known: Iterable[Key]) -> Rows:
    """The table `commitment_use`, from the facts of the last 90 days that are known."""
    known = set(known)
    facts, through = newest_facts(lake, known, max(WINDOWS))
    if facts is None or through is None:
        return Rows(COLUMNS, ())
    with lake.workspace() as workspace, lent(engine, workspace / "spill") as connection:
        return commitment_use(connection, facts, providers, known, through)


def commitment_use(
    connection: duckdb.DuckDBPyConnection,
    facts: str,
    providers: Mapping[str, str],
    known: Iterable[Key],
    through: date,
) -> Rows:
    """COLUMNS from a relation of facts. `known` are the days that count, by source."""
    known = set(known)
    enter_known(connection, known)
    _sum_up(connection, facts, providers)
    rows: list[tuple[object, ...]] = []
    shown: dict[Group, _Use] = {}
    counted = 0
    for window in WINDOWS if connection.execute("SELECT 1 FROM priced LIMIT 1").fetchall() else ():
        first, end = through - timedelta(days=window - 1), through + timedelta(days=1)
        held_of = Counter(source for source, day in known if first <= day < end)
        held = held_of.total()
        # A longer window that holds no more days shows the same.
        if held > counted:
            shown, counted = _of_window(connection, first, end), held
        for group, use in sorted(shown.items(), key=lambda item: [text or "" for text in item[0]]):
            scope, source, provider, currency, service, kind, category, *owner = group
            days = held_of[source]
            bought = use.used + use.unused
            rows.append(
                (
                    window, scope, source, provider, *owner, service, kind, category, currency,
                    use.eligible, use.covered, _share(use.covered, use.eligible), use.perhaps,
                    use.used, use.unused, _share(use.used, bought),
                    use.rate, use.one_more, use.saved, use.wasted, through, days, window - days, use.rows,
                )
            )  # fmt: skip
    return Rows(COLUMNS, rows)


def commitment_use_of(
    connection: duckdb.DuckDBPyConnection, window: int, scope: Literal["team", "all"] | None = None
) -> Rows:
    """The published table's rows that look back so many days, the most eligible cost first; of both scopes if none is said."""
    return Rows.asked(
        connection,
        f"FROM {COMMITMENT_USE} WHERE window_days = $window AND scope = coalesce($scope, scope)"
        " ORDER BY currency, eligible_cost DESC NULLS LAST, source, department, team, ServiceName, CommitmentDiscountType",
        {"window": window, "scope": scope},
    )


def money_apart(connection: duckdb.DuckDBPyConnection, use: Rows, known: Iterable[Key]) -> list[str]:
    """Where the table's longest span and `daily_commitments` do not have the same money on the known days, in sentences."""
    period = last_days(use, max(WINDOWS))
    if period is None or not Warehouse.has(connection, COMMITMENTS):
        return []
    found: dict[tuple[str, str], list[Decimal]] = {}
    for row in use.where(lambda row: row["window_days"] == max(WINDOWS) and row["scope"] == "team"):
        amounts = found.setdefault((row["source"], row["currency"]), [Decimal(0)] * 4)
        amounts[0], amounts[1] = amounts[0] + row["used_cost"], amounts[1] + row["unused_cost"]
    counted = set(known)
    for source, currency, day, used, unused in connection.execute(
        f"SELECT source, BillingCurrency, charge_date, sum(used_cost), sum(unused_cost) FROM {COMMITMENTS}"
        " WHERE charge_date >= $first AND charge_date < $end GROUP BY ALL",
        {"first": period.first, "end": period.end},
    ).fetchall():
        if (source, day) in counted:
            amounts = found.setdefault((source, currency), [Decimal(0)] * 4)
            amounts[2], amounts[3] = amounts[2] + used, amounts[3] + unused
    return [
        f"{source}, {currency}: used {used} and unused {unused} here, {of_days} and {unused_of_days} in {COMMITMENTS}"
        for (source, currency), (used, unused, of_days, unused_of_days) in sorted(found.items())
        if (used, unused) != (of_days, unused_of_days)
    ]


def _share(part: Decimal | None, whole: Decimal | None) -> float | None:
    return percent(part, whole) if part is not None and whole else None


_NUMBERED = {"bill": _BILL, "item": "sku, unit", "cover": "kind, category", "owner": "department, team"}
"""What names a line, in tables of these names + "s": texts would be grouped and joined by at five times the cost."""


def _sum_up(connection: duckdb.DuckDBPyConnection, facts: str, providers: Mapping[str, str]) -> None:
    """Leave usage of the services in which a commitment was at work, summed by all that decides what could cover it.

    As the table `priced`, its texts numbered (`_NUMBERED`): cover is null where nothing covers it; worth is what it costs
    without a commitment (contracted, else list cost).
    """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE named AS {_named(connection, facts, providers)}")
    joined = "FROM named n"
    for name, texts in _NUMBERED.items():
        # In their order, so that numbers are in it, too.
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {name}s AS SELECT *, row_number() OVER (ORDER BY {texts}) AS {name}"
            f" FROM (SELECT DISTINCT {texts} FROM named) WHERE {texts.split(', ')[0]} IS NOT NULL"
        )
        joined += f" LEFT JOIN {name}s USING ({texts})"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE priced AS SELECT {', '.join(_NUMBERED)}, day, unused, correction, slot, hourly,"
        f" quantity, effective, worth, row_count {joined}"
    )


def _named(connection: duckdb.DuckDBPyConnection, facts: str, providers: Mapping[str, str]) -> str:
    """SQL: the same with its texts."""
    owners = owner_columns(connection, facts)
    covered = "CommitmentDiscountId IS NOT NULL"
    hourly = "ChargePeriodEnd <= ChargePeriodStart + INTERVAL 1 HOUR"
    return f"""
        WITH usage AS (
            SELECT source, {provider_of(providers)} AS provider, coalesce(BillingCurrency, '') AS currency,
                coalesce(ServiceName, '') AS service, {owners}, charge_date AS day,
                CASE WHEN {covered} THEN coalesce(CommitmentDiscountType, CommitmentDiscountCategory, 'not named') END AS kind,
                CASE WHEN {covered} THEN coalesce(CommitmentDiscountCategory, 'Spend') END AS category,
                coalesce(CommitmentDiscountStatus, '') = 'Unused' AS unused,
                coalesce(PricingCategory, 'Standard') IN ('Standard', 'On-Demand') AS standard,
                coalesce(PricingUnit, ConsumedUnit, '') AS unit, coalesce(SkuId, '') AS sku,
                CASE WHEN {hourly} THEN date_trunc('hour', ChargePeriodStart) ELSE charge_date END AS slot,
                coalesce(ChargeClass, '') = 'Correction' AS correction, coalesce({hourly}, false) OR correction AS hourly, coalesce(PricingQuantity, ConsumedQuantity) AS quantity,
                {EFFECTIVE} AS effective,
                CASE WHEN {covered} THEN coalesce(ContractedCost, ListCost)
                    ELSE coalesce(ContractedCost, ListCost, {EFFECTIVE}) END AS worth
            FROM {facts} WHERE ChargeCategory = 'Usage'
        )
        SELECT {_BILL}, department, team, day, kind, category, unused, correction, sku, unit, slot, bool_and(hourly) AS hourly,
            sum(quantity) AS quantity, CAST(sum(effective) AS {DECIMAL}) AS effective,
            CASE WHEN count(worth) = count(*) THEN CAST(sum(worth) AS {DECIMAL}) END AS worth, count(*) AS row_count
        FROM usage SEMI JOIN (SELECT DISTINCT {_BILL} FROM usage WHERE kind IS NOT NULL) USING ({_BILL})
        WHERE kind IS NOT NULL OR standard GROUP BY ALL
    """


def _of_window(connection: duckdb.DuckDBPyConnection, first: date, end: date) -> dict[Group, _Use]:
    """What the days from `first` to before `end` show, by group."""
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE counted_days AS
        SELECT bill, k.day FROM known k JOIN bills USING (source) WHERE k.day >= $first AND k.day < $end
        """,
        {"first": first, "end": end},
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE now AS
        WITH counted AS (SELECT * FROM priced SEMI JOIN counted_days USING (bill, day))
        SELECT *, worth IS NOT NULL AS is_priced FROM counted
        UNION ALL BY NAME
        SELECT * EXCLUDE (owner, hourly, quantity, effective, worth, row_count),
            {_EVERYBODY} AS owner, bool_and(hourly) AS hourly, sum(quantity) AS quantity,
            CAST(sum(effective) AS {DECIMAL}) AS effective, CAST(sum(worth) AS {DECIMAL}) AS worth,
            count(worth) = count(*) AS is_priced, sum(row_count) AS row_count
        FROM counted GROUP BY ALL
        """
    )
    # Of what each kind of commitment covered something, and what one unit of that cost: what the bill itself shows.
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE rates AS
        SELECT bill, cover, item,
            CASE WHEN priced AND worth > 0 AND paid > 0 THEN CAST(paid AS DOUBLE) / CAST(worth AS DOUBLE) END AS of_worth,
            CASE WHEN paid > 0 AND quantity > 0 THEN CAST(paid AS DOUBLE) / CAST(quantity AS DOUBLE) END AS of_one
        FROM (
            SELECT bill, cover, item, sum(effective) AS paid, sum(worth) AS worth, sum(quantity) AS quantity,
                bool_and(is_priced) AS priced
            FROM now WHERE owner = {_EVERYBODY} AND cover IS NOT NULL AND NOT unused GROUP BY ALL
        )
        """
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE lines AS
        WITH by_source AS (
            SELECT source, bool_and(hourly) AS hourly FROM now SEMI JOIN rates USING (bill, item) JOIN bills USING (bill)
            WHERE owner = {_EVERYBODY} AND NOT unused GROUP BY ALL
        )
        SELECT n.* EXCLUDE (cover, hourly), r.cover, r.of_worth, r.of_one, s.hourly,
            n.cover IS NOT DISTINCT FROM r.cover AS by_it, n.cover IS NULL AND NOT n.correction AS on_demand
        FROM now n JOIN rates r USING (bill, item) JOIN (SELECT bill, hourly FROM bills JOIN by_source USING (source)) s USING (bill)
        WHERE NOT n.unused
        """
    )
    found: dict[tuple[int, int | None, int], _Use] = {}

    def told(query: str) -> list[tuple[_Use, tuple[Any, ...]]]:
        rows = connection.execute(query).fetchall()
        return [(found.setdefault(row[:3], _Use()), row[3:]) for row in rows]

    for use, (used, unused, unused_rows) in told(
        f"""
        SELECT {_GROUP}, coalesce(sum(effective) FILTER (NOT unused), 0), coalesce(sum(effective) FILTER (unused), 0),
            coalesce(sum(row_count) FILTER (unused), 0)
        FROM now WHERE cover IS NOT NULL GROUP BY ALL
        """
    ):
        use.used, use.unused, use.rows = used, unused, int(unused_rows)
    for use, (eligible, covered, rate, rows) in told(
        f"""
        SELECT {_GROUP}, CASE WHEN bool_and(is_priced) THEN sum(worth) END,
            CASE WHEN bool_and(is_priced) THEN coalesce(sum(worth) FILTER (by_it), 0) END,
            100 * sum(CAST(worth AS DOUBLE) * of_worth) FILTER (of_worth IS NOT NULL)
                / nullif(sum(CAST(worth AS DOUBLE)) FILTER (of_worth IS NOT NULL), 0),
            sum(row_count)
        FROM lines GROUP BY ALL
        """
    ):
        use.eligible, use.covered, use.rate = eligible, covered, rate
        use.rows += int(rows)
    for use, (perhaps,) in told(
        """
        SELECT n.bill, u.cover, n.owner, sum(n.worth)
        FROM (SELECT now.*, unit FROM now JOIN items USING (item)) n
        JOIN (SELECT DISTINCT bill, cover, unit FROM rates JOIN items USING (item)) u USING (bill, unit)
        WHERE n.cover IS NULL AND NOT EXISTS (
            SELECT 1 FROM rates r WHERE (r.bill, r.item, r.cover) = (n.bill, n.item, u.cover)
        ) GROUP BY ALL
        """
    ):
        use.perhaps = perhaps
    for use, (one_more, saved, wasted) in (*told(_ONE_MORE_SPEND), *told(_ONE_MORE_USAGE)):
        use.one_more, use.saved, use.wasted = one_more, _estimated(saved), _estimated(wasted)
    texts = {
        name: {number: tuple(named) for *named, number in connection.execute(f"FROM {name}s").fetchall()}
        for name in _NUMBERED
    }
    owners = texts["owner"] | {_EVERYBODY: (None, None)}
    return {
        ("team" if owner else "all", *texts["bill"][bill], *texts["cover"][cover], *owners[owner]): use
        for (bill, cover, owner), use in found.items()
    }


def _estimated(amount: float) -> Decimal:
    return Decimal(amount).quantize(_ESTIMATED)


_SLOTS = "(SELECT count(*) FROM counted_days d WHERE d.bill = s.bill) * CASE WHEN s.hourly THEN 24 ELSE 1 END"
_UNCOVERED = f"""
    SELECT {_GROUP}, hourly, item, CASE WHEN hourly THEN slot ELSE date_trunc('day', slot) END AS slot, of_worth, of_one,
        greatest(coalesce(sum(CAST(worth AS DOUBLE)) FILTER (on_demand), 0), 0) AS worth,
        greatest(coalesce(sum(CAST(quantity AS DOUBLE)) FILTER (on_demand), 0), 0) AS quantity
    FROM lines WHERE of_worth IS NOT NULL GROUP BY ALL
"""
# A commitment to spend takes what it saves most of first, in every hour anew; what it finds nothing for is wasted.
_ONE_MORE_SPEND = f"""
    WITH uncovered AS ({_UNCOVERED}),
    taken AS (
        SELECT *, worth * of_worth AS fits, coalesce(sum(worth * of_worth) OVER (
            PARTITION BY {_GROUP}, slot ORDER BY of_worth, item ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), 0) AS before FROM uncovered JOIN covers USING (cover) WHERE category <> 'Usage'
    ),
    filled AS (SELECT *, greatest(0, least(fits, 1 - before)) AS part FROM taken),
    summed AS (SELECT {_GROUP}, hourly, sum(part / of_worth - part) AS saved, sum(part) AS used FROM filled GROUP BY ALL)
    SELECT {_GROUP}, '1 ' || currency || CASE WHEN hourly THEN ' an hour' ELSE ' a day' END, saved, {_SLOTS} - used
    FROM summed s JOIN bills USING (bill)
"""
# One to usage is of one SKU: the one that would have been the best to buy.
_ONE_MORE_USAGE = f"""
    WITH uncovered AS ({_UNCOVERED}),
    summed AS (
        SELECT {_GROUP}, hourly, item, of_one, sum(least(quantity, 1)) AS used,
            sum(CASE WHEN quantity > 0 THEN least(quantity, 1) * (worth / quantity - of_one) ELSE 0 END) AS saved
        FROM uncovered JOIN covers USING (cover) WHERE category = 'Usage' AND of_one IS NOT NULL GROUP BY ALL
    ),
    offered AS (SELECT *, ({_SLOTS} - used) * of_one AS wasted FROM summed s)
    SELECT {_GROUP}, '1 ' || unit || CASE WHEN sku <> '' THEN ' of ' || sku ELSE '' END
        || CASE WHEN hourly THEN ' an hour' ELSE ' a day' END, saved, wasted
    FROM offered JOIN items USING (item)
    QUALIFY row_number() OVER (PARTITION BY {_GROUP} ORDER BY saved - wasted DESC, item) = 1
"""
