"""Waste that the bill itself shows: charges that go on although their resource is in use no more, and their like.

A finding is one resource's charges of one currency, found by one rule of `rules.toml`. Days count on which the source's cost
is in the rollup: a day that is held or late is evidence of nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb

from finops_assets.base.sql import literal
from finops_assets.cost.rollup import provider_of
from finops_assets.evaluate.newest_facts import enter_known, newest_facts, owner_columns
from finops_assets.evaluate.waste.rules import ALL_OF_IT, NOBODY_KNOWS, Certainty, Charges, Rule, rules
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.focus.money import DECIMAL, divided
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import lent
from finops_assets.storage.lake import Key, Lake
from finops_assets.tables.declarations import table
from finops_assets.tables.rows import Rows

WASTE = "waste"
COLUMNS = tuple(column.name for column in table(WASTE).columns)
WINDOW_DAYS = 90
STILL_GOING = 3
"""A charge goes on if it is of one of so many newest days of its source: bills come late."""
MONTH = 30
LEAST_A_MONTH = Decimal("0.5")
"""In any currency: what costs less in a month is not told of."""
CERTAINTIES: tuple[Certainty, ...] = ("high", "medium", "low")
"""The surest first."""
_ESTIMATED = 6
"""Decimal places of what is an estimate."""
_METER = "provider, category, service, meter, description, reserved, unit"


def read_waste(lake: Lake, engine: EngineSettings, providers: Mapping[str, str], known: Iterable[Key]) -> Rows:
    """The table `waste`, from the facts of the last 90 days that are known."""
    known = set(known)
    facts, _ = newest_facts(lake, known, WINDOW_DAYS)
    if facts is None:
        return Rows(COLUMNS, ())
    with lake.workspace() as workspace, lent(engine, workspace / "spill") as connection:
        return find_waste(connection, facts, providers, known)


def find_waste(
    connection: duckdb.DuckDBPyConnection,
    facts: str,
    providers: Mapping[str, str],
    known: Iterable[Key],
    by: Sequence[Rule] | None = None,
) -> Rows:
    """COLUMNS from a relation of facts, the costliest first; `by`: these rules, else all."""
    by = rules() if by is None else by
    enter_known(connection, known)
    usage = _usage(connection, facts, providers)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE meters AS SELECT DISTINCT {_METER} FROM ({usage})")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE roles AS "
        + " UNION ALL ".join(
            f"SELECT {number} AS rule, {literal(role)} AS role, {_METER} FROM meters WHERE {_matches(charges, rule.provider)}"
            for number, rule in enumerate(by)
            for role, charges in _roles(rule).items()
        )
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE charged AS
        SELECT rule, role, source, provider, account, resource, name, currency, day, max(until) AS until,
            any_value(account_name) AS account_name, any_value(service_name) AS service, any_value(region) AS region,
            max(department) AS department, max(team) AS team, CAST(sum(cost) AS {DECIMAL}) AS cost, sum(quantity) AS quantity,
            sum(consumed) AS consumed, count(*) AS row_count
        FROM ({usage}) JOIN roles USING ({_METER}) GROUP BY ALL
        """
    )
    # By the place of a day among those of its source: the newest is 0.
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE places AS SELECT source, day,"
        " CAST(row_number() OVER (PARTITION BY source ORDER BY day DESC) - 1 AS BIGINT) AS place FROM known"
    )
    charged = connection.execute("SELECT DISTINCT rule FROM charged WHERE role = 'stays' ORDER BY ALL").fetchall()
    found = [finding for (number,) in charged for finding in _found(connection, number, by[number])]
    return Rows(COLUMNS, [tuple(finding[name] for name in COLUMNS) for finding in _once_each(found)])


def waste_of(connection: duckdb.DuckDBPyConnection, certainties: Sequence[str] = CERTAINTIES) -> Rows:
    """The published table's findings of these certainties, the costliest of a currency first."""
    return Rows.asked(
        connection,
        f"FROM {WASTE} WHERE list_contains($certainties, certainty)"
        " ORDER BY currency, cost_a_month DESC, source, ResourceId, kind",
        {"certainties": list(certainties)},
    )


def _roles(rule: Rule) -> dict[str, Charges]:
    found = {"stays": rule.stays}
    if rule.use:
        found["use"] = rule.use
    if rule.saves not in (ALL_OF_IT, NOBODY_KNOWS):
        found["instead"] = Charges(text=rule.saves)
    return found


def _matches(charges: Charges, provider: str) -> str:
    """SQL: is a row of `meters` one of these charges?"""
    parts = []
    if provider:
        parts.append(f"regexp_matches(lower(provider), {literal(provider)})")
    if charges.text:
        texts = ("meter", "description", "reserved")
        parts.append(f"({' OR '.join(f'regexp_matches({text}, {literal(charges.text)})' for text in texts)})")
    if charges.service:
        parts.append(f"regexp_matches(category || ' ' || service, {literal(charges.service)})")
    if charges.unit:
        parts.append(f"regexp_matches(unit, {literal(charges.unit)})")
    return " AND ".join(parts) or "true"


def _usage(connection: duckdb.DuckDBPyConnection, facts: str, providers: Mapping[str, str]) -> str:
    """SQL: usage of the days that are known, with what rules look at in lower case."""
    owners = owner_columns(connection, facts)
    return f"""
        SELECT source, {provider_of(providers)} AS provider, coalesce(SubAccountId, BillingAccountId, '') AS account,
            coalesce(SubAccountName, BillingAccountName) AS account_name, coalesce(ResourceId, '') AS resource,
            coalesce(ResourceName, '') AS name, ServiceName AS service_name, coalesce(RegionName, RegionId) AS region, {owners},
            lower(coalesce(ServiceCategory, '')) AS category, lower(coalesce(ServiceName, '')) AS service,
            lower(coalesce(SkuMeter, '')) AS meter, lower(coalesce(ChargeDescription, '')) AS description,
            CASE WHEN CapacityReservationStatus = 'Unused' THEN 'capacityreservationstatus=unused' ELSE '' END AS reserved,
            lower(coalesce(PricingUnit, ConsumedUnit, '')) AS unit, coalesce(BillingCurrency, '') AS currency, charge_date AS day,
            greatest(charge_date, CAST(ChargePeriodEnd - INTERVAL 1 MICROSECOND AS DATE)) AS until,
            coalesce(PricingQuantity, ConsumedQuantity) AS quantity,
            -- Who gives no quantity is charged for use.
            coalesce(ConsumedQuantity, PricingQuantity, 1) AS consumed, {EFFECTIVE} AS cost
        FROM {facts} AS f
        WHERE ChargeCategory = 'Usage' AND coalesce(ChargeClass, '') <> 'Correction'
            AND coalesce(CommitmentDiscountStatus, '') <> 'Unused'
            AND EXISTS (SELECT 1 FROM known k WHERE k.source = f.source AND k.day = f.charge_date)
    """


def _found(connection: duckdb.DuckDBPyConnection, number: int, rule: Rule) -> list[dict[str, Any]]:
    """The findings of one rule."""
    # Whose use it is that counts: the resource's own, or that of the machine it is named after, in the same account.
    own = "s.resource" if not rule.attached else f"regexp_extract(lower(s.name), {literal(rule.stays.name)}, 1)"
    used_by = "resource" if not rule.attached else "lower(name)"
    if rule.use is None:
        used, ended = (
            "SELECT NULL AS source, NULL AS account, NULL AS of, NULL::DATE AS last_use, 0 AS rest, 0 AS uses LIMIT 0",
            "true",
        )
    else:
        # What was charged without a quantity shows no use. `rest`: the longest that it was not in use, and was again.
        used = f"""
            SELECT source, account, of, max(day) AS last_use, max(day - before) AS rest,
                count(DISTINCT day) AS uses FROM (
                SELECT source, account, {used_by} AS of, day,
                    lag(day) OVER (PARTITION BY source, account, {used_by} ORDER BY day) AS before
                FROM charged WHERE rule = {number} AND role = 'use' AND consumed > 0
            ) GROUP BY ALL
        """
        ended = "s.resource <> ''" + ("" if rule.without_use else " AND u.last_use IS NOT NULL")
    named = f" AND regexp_matches(lower(s.name), {literal(rule.stays.name)})" if rule.stays.name else ""
    apart = f" AND {own} <> s.resource" if rule.attached else ""
    asked = connection.execute(
        f"""
        WITH used AS ({used}),
        stays AS (
            SELECT s.*, u.last_use, u.rest, u.uses FROM charged s LEFT JOIN used u ON s.source = u.source AND s.account = u.account AND {own} = u.of
            WHERE s.rule = {number} AND s.role = 'stays' AND {ended}{named}{apart} AND (u.last_use IS NULL OR s.day > u.last_use)
        ),
        placed AS (SELECT s.*, p.place FROM stays s JOIN places p ON s.source = p.source AND s.day = p.day),
        summed AS (
            SELECT source, provider, account, resource, currency, any_value(name) AS name, any_value(account_name) AS account_name,
                any_value(service) AS service, any_value(region) AS region, max_by(department, day) AS department,
                max_by(team, day) AS team, min(day) AS first_day, max(until) AS until,
                any_value(last_use) AS last_use, any_value(rest) AS rest, any_value(uses) AS uses, sum(cost) AS cost, count(DISTINCT day) AS charged_days, max(place) + 1 AS days,
                coalesce(sum(cost) FILTER (place < {MONTH}), 0) AS recent, sum(quantity) FILTER (place < {MONTH}) AS amount,
                sum(row_count) AS row_count
            FROM placed GROUP BY source, provider, account, resource, currency
        )
        SELECT s.*, newest.day AS through FROM summed s
        JOIN (SELECT source, max(day) AS day FROM known GROUP BY source) newest USING (source)
        WHERE s.days >= $least AND (s.last_use IS NULL OR newest.day - s.last_use > coalesce(s.rest, 0)) AND s.until >= (
            SELECT min(p.day) FROM places p WHERE p.source = s.source AND p.place < {STILL_GOING}
        ) AND s.charged_days * 2 > s.days
        """,
        {"least": rule.least_days},
    )
    names = [column[0] for column in asked.description or ()]
    rows = [dict(zip(names, values)) for values in asked.fetchall()]
    cheaper = _cheaper(connection, number) if "instead" in _roles(rule) else {}
    found = []
    for row in rows:
        days = min(row["days"], MONTH)
        month = divided(row["recent"], Decimal(days), _ESTIMATED, MONTH)
        if month < LEAST_A_MONTH:
            continue
        could_save = month if rule.saves == ALL_OF_IT else None
        instead = cheaper.get((row["source"], row["currency"], row["region"]))
        if instead is not None and row["amount"]:
            could_save = max(Decimal(0), month - divided(instead * row["amount"] * MONTH, Decimal(days), _ESTIMATED))
        found.append(
            {
                "kind": rule.kind, "source": row["source"], "provider": row["provider"], "ResourceId": row["resource"] or None,
                "name": row["name"] or None, "account": row["account"] or None, "account_name": row["account_name"],
                "service": row["service"], "region": row["region"], "department": row["department"], "team": row["team"],
                "currency": row["currency"], "first_day": row["first_day"], "last_use": row["last_use"], "through": row["through"],
                "days": row["days"], "cost_a_month": month, "cost_since": row["cost"], "could_save": could_save,
                "certainty": _certainty(rule, row["uses"]), "why": _why(rule, row["last_use"], row["days"]), "rule": rule.name,
                "row_count": row["row_count"],
            }
        )  # fmt: skip
    return found


def _certainty(rule: Rule, uses: int | None) -> Certainty:
    """That of the rule; one less where use was seen on so few days that nobody can tell a pause from an end.

    >>> [_certainty(rules()[0], uses) for uses in (None, 2, 30)]
    ['high', 'medium', 'high']
    """
    if uses is None or uses >= rule.least_days:
        return rule.certainty
    return CERTAINTIES[min(CERTAINTIES.index(rule.certainty) + 1, len(CERTAINTIES) - 1)]


def _why(rule: Rule, last_use: date | None, days: int) -> str:
    """In a sentence.

    >>> _why(rules()[0], date(2026, 9, 1), 9)
    'the bill charges the address as idle, and not as in use: none since 2026-09-01, 9 days'
    """
    if rule.use is None:
        return f"{rule.why}, for {days} days"
    return f"{rule.why}: none since {last_use}, {days} days" if last_use else f"{rule.why}: none in {days} days"


def _cheaper(connection: duckdb.DuckDBPyConnection, number: int) -> dict[tuple[str, str, str | None], Decimal]:
    """(source, currency, region) -> what one unit of the cheaper class costs, where the bill shows it."""
    return {
        (source, currency, region): divided(cost, Decimal(quantity), _ESTIMATED)
        for source, currency, region, cost, quantity in connection.execute(
            f"SELECT source, currency, region, sum(cost), sum(quantity) FROM charged WHERE rule = {number} AND role = 'instead'"
            " GROUP BY ALL HAVING sum(quantity) > 0 AND sum(cost) > 0"
        ).fetchall()
    }


def _once_each(found: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of a resource that several rules find the surest counts, of equals the costliest: no charge is told of twice."""
    best: dict[tuple[str, str, str, str], Mapping[str, Any]] = {}
    for finding in sorted(found, key=lambda f: (CERTAINTIES.index(f["certainty"]), -f["cost_a_month"], f["rule"])):
        of = (finding["source"], finding["account"] or "", finding["ResourceId"] or "", finding["currency"])
        best.setdefault(of, finding)
    return sorted(best.values(), key=lambda f: (f["currency"], -f["cost_a_month"], f["source"], f["ResourceId"] or ""))
