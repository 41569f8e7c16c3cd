"""Commitment discounts: what was bought, what of it was used, what was not, and whose that was.

Over its term the amortised usage of a commitment, used and unused, costs what its purchase was billed
(FOCUS: EffectiveCost of the purchase is 0, of the covered usage its share). Here both sides stand beside each
other, for the days that are held. Billed and effective cost are never added: one is compared with the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import duckdb

from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.focus.money import DECIMAL, percent
from finops_assets.storage.duck import columns_of
from finops_assets.tables.rows import Rows

COMMITMENTS = "daily_commitments"
COLUMNS = (
    "CommitmentDiscountId", "name", "type", "provider", "currency",
    "purchase_billed_cost", "used_cost", "unused_cost", "difference", "utilisation_percent",
    "first_day", "last_day", "term_start", "term_end", "term_held",
    "covered_list_cost", "saved_against_list", "purchase_effective_cost", "other_effective_cost",
)  # fmt: skip
UNUSED_COLUMNS = (
    "CommitmentDiscountId", "name", "provider", "department", "team", "currency",
    "unused_cost", "share_percent", "first_day", "last_day",
)  # fmt: skip


def daily_query(key: str, names: Iterable[str], facts: str) -> str:
    """SQL: the rows of a relation of facts under a commitment, by day, commitment, the rollup's key and source.

    `key` is SQL of the rollup's key (`rollup.key_of`), `names` are its columns.

    used_cost and unused_cost are amortised (EffectiveCost of Usage); unused is what CommitmentDiscountStatus
    says. covered_list_cost is the ListCost of the used rows, which is NULL where one of them does not say.
    term_start and term_end are of the purchases.
    """
    usage, purchase = "ChargeCategory = 'Usage'", "ChargeCategory = 'Purchase'"
    unused = "coalesce(CommitmentDiscountStatus, '') = 'Unused'"

    def total(cost: str, when: str) -> str:
        return f"CAST(coalesce(sum(CASE WHEN {when} THEN {cost} END), 0) AS {DECIMAL})"

    used, by = f"{usage} AND NOT {unused}", columns_of((*names, "source", "CommitmentDiscountId"))
    return f"""
        SELECT {by}, min(CommitmentDiscountName) AS CommitmentDiscountName,
            min(CommitmentDiscountType) AS CommitmentDiscountType,
            {total("billed", purchase)} AS purchase_billed_cost,
            {total("effective", purchase)} AS purchase_effective_cost,
            {total("effective", used)} AS used_cost,
            {total("effective", f"{usage} AND {unused}")} AS unused_cost,
            CAST(coalesce(sum(CASE WHEN {purchase} OR {usage} THEN 0 ELSE effective END), 0) AS {DECIMAL})
                AS other_effective_cost,
            CASE WHEN count(CASE WHEN {used} AND ListCost IS NULL THEN 1 END) = 0
                THEN {total("ListCost", used)} END AS covered_list_cost,
            min(CASE WHEN {purchase} THEN ChargePeriodStart END) AS term_start,
            max(CASE WHEN {purchase} THEN ChargePeriodEnd END) AS term_end,
            count(*) AS row_count
        FROM (
            SELECT {key}, source, CommitmentDiscountId, CommitmentDiscountName, CommitmentDiscountType,
                CommitmentDiscountStatus, ChargeCategory, ChargePeriodStart, ChargePeriodEnd, ListCost,
                coalesce(BilledCost, 0) AS billed, {EFFECTIVE} AS effective
            FROM {facts} WHERE CommitmentDiscountId IS NOT NULL
        ) AS committed
        GROUP BY {by}
    """


def commitments(connection: duckdb.DuckDBPyConnection) -> Rows:
    """Every commitment over all days held, by id, provider and currency.

    Columns: COLUMNS. difference is the purchase less what was amortised of it; over a term that is wholly held
    it is 0. utilisation_percent is of the amortised cost (NaN where there is none). first_day and last_day are
    of the commitment's rows. The term is that of the purchases held (UTC, end exclusive; None where the
    purchase is not held); term_held says that every day of it is in the rollup. saved_against_list is what the
    used rows would have cost at list price less used and unused; None where a list price is missing.
    purchase_effective_cost should be 0: else the cost stands on the purchase and on the usage.
    """
    rows = connection.execute(
        f"""
        WITH summed AS (
            SELECT CommitmentDiscountId AS id, any_value(CommitmentDiscountName) AS name,
                any_value(CommitmentDiscountType) AS type, provider, BillingCurrency AS currency,
                sum(purchase_billed_cost) AS purchased, sum(used_cost) AS used, sum(unused_cost) AS unused,
                min(charge_date) AS first_day, max(charge_date) AS last_day,
                min(term_start) AS term_start, max(term_end) AS term_end,
                CASE WHEN count(covered_list_cost) = count(*) THEN sum(covered_list_cost) END AS list_cost,
                sum(purchase_effective_cost) AS purchase_effective, sum(other_effective_cost) AS other_effective
            FROM {COMMITMENTS} GROUP BY id, provider, currency
        ), days AS (SELECT DISTINCT charge_date FROM {ROLLUP_TABLE})
        SELECT id, name, type, provider, currency, purchased, used, unused, first_day, last_day, term_start, term_end,
            coalesce((
                SELECT count(*) FROM days WHERE charge_date >= CAST(term_start AS DATE) AND charge_date < term_end
            ) = CAST(term_end - INTERVAL 1 MICROSECOND AS DATE) - CAST(term_start AS DATE) + 1, false),
            list_cost, purchase_effective, other_effective
        FROM summed ORDER BY currency, purchased + used + unused DESC, id, provider
        """
    ).fetchall()
    result = []
    for (
        identity, name, kind, provider, currency, purchased, used, unused, first, last, start, end, held, listed,
        purchase_effective, other,
    ) in rows:  # fmt: skip
        amortised = used + unused
        result.append(
            (
                identity, name, kind, provider, currency,
                purchased, used, unused, purchased - amortised, percent(used, amortised),
                first, last, start, end, held,
                listed, None if listed is None else listed - amortised, purchase_effective, other,
            )
        )  # fmt: skip
    return Rows(COLUMNS, result)


def unused_by_owner(connection: duckdb.DuckDBPyConnection) -> Rows:
    """Unused commitment by its owner, the department and team that the Unused rows are attributed to.

    Columns: UNUSED_COLUMNS; share_percent is of the currency's unused cost.
    """
    rows = connection.execute(
        f"""
        SELECT CommitmentDiscountId, any_value(CommitmentDiscountName), provider, department, team,
            BillingCurrency AS currency, sum(unused_cost) AS unused, min(charge_date), max(charge_date)
        FROM {COMMITMENTS} WHERE unused_cost <> 0
        GROUP BY CommitmentDiscountId, provider, department, team, currency
        ORDER BY currency, unused DESC, CommitmentDiscountId, department, team
        """
    ).fetchall()
    totals: dict[str, Decimal] = {}
    for row in rows:
        totals[row[5]] = totals.get(row[5], Decimal(0)) + row[6]
    return Rows(UNUSED_COLUMNS, [(*row[:7], percent(row[6], totals[row[5]]), *row[7:]) for row in rows])
