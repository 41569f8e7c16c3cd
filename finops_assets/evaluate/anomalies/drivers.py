"""What moved: the resources, accounts, services and charge kinds behind an anomaly, and its likely cause.

Days of the anomaly are compared with the same weekdays before it, from the facts. Amounts are exact sums, shown by
day and rounded once. The cause is decided from columns of FOCUS: ChargeCategory, CommitmentDiscountStatus, quantities
and what they cost, whether a resource was there before and whose it was; and from what was reported of these days
before they were restated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any

import duckdb
import pyarrow as pa

from finops_assets.base.sql import identifier
from finops_assets.cost.accrual import REPORTED_ACCRUALS
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.restatements import REPORTED_COST
from finops_assets.cost.rollup import key_of
from finops_assets.evaluate.anomalies.key import Key
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.focus.money import DECIMAL
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.lake import Lake

# A cause must explain so much of what moved.
MOST = 0.5
SHOWN = {"resource": 5, "account": 3, "service": 3, "charge kind": 3}
LOOKED_BACK = timedelta(days=28)
CENT = Decimal("0.01")


@dataclass(frozen=True)
class Question:
    """An anomaly to explain: the days that show it best, and the usual days that they are compared with."""

    number: int
    key: Key
    days: tuple[date, ...]
    before: tuple[date, ...]
    change: float
    """Cost a day, beyond what was expected."""


@dataclass(frozen=True)
class Driver:
    """Something that moved: `facet` is one of SHOWN. `now` and `before` are effective cost a day, in cents."""

    facet: str
    name: str
    now: Decimal
    before: Decimal

    @property
    def change(self) -> Decimal:
        return self.now - self.before

    def as_json(self) -> dict[str, str]:
        return {
            "facet": self.facet,
            "name": self.name,
            "now": f"{self.now:f}",
            "before": f"{self.before:f}",
            "change": f"{self.change:f}",
        }


@dataclass(frozen=True)
class Explanation:
    """The likely cause (of CAUSES), what it rests on, and what moved most."""

    cause: str
    evidence: str
    drivers: tuple[Driver, ...]


def explain(
    connection: duckdb.DuckDBPyConnection,
    warehouse: duckdb.DuckDBPyConnection,
    lake: Lake,
    rules: Rules,
    sources: Sequence[str],
    providers: Mapping[str, str],
    questions: Sequence[Question],
    by: tuple[str, ...] = (),
) -> dict[int, Explanation]:
    """The explanation of each question, by its number. `connection`: a bounded engine; `warehouse`: the warehouse; `by`:
    the other dimensions that series are told apart by.
    """
    if not questions:
        return {}
    connection.register("asked_arrow", _asked(questions, by))
    connection.execute("CREATE OR REPLACE TEMP TABLE asked AS FROM asked_arrow")
    connection.unregister("asked_arrow")
    days = {day for q in questions for day in (*q.days, *q.before)}
    files = lake.day_files("facts", sources, days)
    if not files:
        return {q.number: Explanation("unclear", "there are no facts of these days in the lake", ()) for q in questions}
    _move(connection, facts_relation(files), rules, providers, by)
    _add_parts(connection, warehouse, questions, by)
    found = _Found(connection, {q.number: q for q in questions})
    found.look_back(lake, rules, sources, providers)
    restated = _restated(warehouse, questions, by)
    return {q.number: found.explanation(q, restated.get(q.number)) for q in questions}


def _asked(questions: Iterable[Question], by: tuple[str, ...]) -> pa.Table:
    rows = [(q, day, now) for q in questions for now, days in ((True, q.days), (False, q.before)) for day in days]
    columns = {
        "number": pa.array([q.number for q, _, _ in rows], pa.int64()),
        "charge_date": pa.array([day for _, day, _ in rows], pa.date32()),
        "is_now": pa.array([now for _, _, now in rows], pa.bool_()),
        "department": pa.array([q.key.department for q, _, _ in rows], pa.string()),
        "team": pa.array([q.key.team for q, _, _ in rows], pa.string()),
        "ServiceCategory": pa.array([q.key.ServiceCategory for q, _, _ in rows], pa.string()),
        "BillingCurrency": pa.array([q.key.currency for q, _, _ in rows], pa.string()),
        "of_source": pa.array([q.key.source for q, _, _ in rows], pa.string()),
        "of_resource": pa.array([q.key.ResourceId for q, _, _ in rows], pa.string()),
    }
    for dimension in by:
        columns[dimension] = pa.array([dict(q.key.others).get(dimension) for q, _, _ in rows], pa.string())
    return pa.table(columns)


def _key(*columns: str) -> str:
    return ", ".join(identifier(c) for c in columns)


_KEY = ("charge_date", "department", "team", "ServiceCategory", "BillingCurrency")
_SERIES = "(of_resource IS NULL OR (of_resource = ResourceId AND of_source = source))"


def _move(
    connection: duckdb.DuckDBPyConnection, facts: str, rules: Rules, providers: Mapping[str, str], by: tuple[str, ...]
) -> None:
    """The table `moved`: cost and quantity of the anomaly's days and of those before, by what may have moved."""
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE moved AS
        SELECT number, source, ResourceId, any_value(ResourceName) AS ResourceName,
            coalesce(SubAccountId, BillingAccountId) AS account, any_value(coalesce(SubAccountName, SubAccountId,
                BillingAccountName)) AS account_name,
            ServiceName, ChargeCategory, PricingCategory, CommitmentDiscountStatus, SkuId, is_correction,
            coalesce(ConsumedUnit, PricingUnit) AS unit,
            CAST(coalesce(sum(cost) FILTER (WHERE is_now), 0) AS {DECIMAL}) AS cost_now,
            CAST(coalesce(sum(cost) FILTER (WHERE NOT is_now), 0) AS {DECIMAL}) AS cost_before,
            CAST(coalesce(sum(quantity) FILTER (WHERE is_now), 0) AS DOUBLE) AS quantity_now,
            CAST(coalesce(sum(quantity) FILTER (WHERE NOT is_now), 0) AS DOUBLE) AS quantity_before
        FROM (
            SELECT {key_of(rules, providers)}, source, ResourceId, ResourceName, SubAccountId, SubAccountName,
                BillingAccountId, BillingAccountName, ServiceName, ChargeCategory, PricingCategory,
                CommitmentDiscountStatus, SkuId, ConsumedUnit, PricingUnit,
                coalesce(ConsumedQuantity, PricingQuantity) AS quantity, {EFFECTIVE} AS cost,
                coalesce(ChargeClass = 'Correction', false) OR {EFFECTIVE} < 0 AS is_correction
            FROM {facts}
            WHERE ChargePeriodEnd - ChargePeriodStart <= INTERVAL 1 DAY
        ) JOIN asked USING ({_key(*_KEY, *by)})
        WHERE {_SERIES}
        GROUP BY ALL
        """
    )


def _add_parts(
    connection: duckdb.DuckDBPyConnection,
    warehouse: duckdb.DuckDBPyConnection,
    questions: Sequence[Question],
    by: tuple[str, ...],
) -> None:
    """The daily parts of longer charges, which stand in the warehouse by the day that they are for."""
    warehouse.register("asked_arrow", _asked([q for q in questions if q.key.ResourceId is None], by))
    parts = warehouse.sql(
        f"""
        SELECT number, source, a.charge_date AS booked,
            CAST(coalesce(sum(effective_cost) FILTER (WHERE is_now), 0) AS {DECIMAL}) AS cost_now,
            CAST(coalesce(sum(effective_cost) FILTER (WHERE NOT is_now), 0) AS {DECIMAL}) AS cost_before
        FROM {REPORTED_ACCRUALS} a JOIN asked_arrow q USING ({_key(*_KEY[1:], *by)})
        WHERE a.reported_to IS NULL AND is_apportioned AND a.accrual_date = q.charge_date
        GROUP BY ALL
        """
    ).to_arrow_table()
    warehouse.unregister("asked_arrow")
    connection.register("parts_arrow", parts)
    connection.execute(
        "INSERT INTO moved BY NAME SELECT number, source, 'Purchase' AS ChargeCategory,"
        " 'part of a longer charge booked on ' || booked AS PricingCategory, cost_now, cost_before,"
        " 0 AS quantity_now, 0 AS quantity_before, false AS is_correction FROM parts_arrow"
    )
    connection.unregister("parts_arrow")


_FACETS = {
    "resource": "coalesce(ResourceName || ' (' || ResourceId || ')', ResourceId, '(no resource)')",
    "account": "coalesce(account_name || CASE WHEN account_name <> account THEN ' (' || account || ')' ELSE '' END,"
    " account, '(no account)')",
    "service": "coalesce(ServiceName, '(no service)')",
    "charge kind": "concat_ws(', ', ChargeCategory, CASE WHEN is_correction THEN 'correction' END, PricingCategory,"
    " 'commitment ' || lower(CommitmentDiscountStatus))",
}


class _Found:
    """What the table `moved` says."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, questions: Mapping[int, Question]) -> None:
        self.connection = connection
        counts = pa.table(
            {
                "number": pa.array(list(questions), pa.int64()),
                "days_now": pa.array([len(q.days) for q in questions.values()], pa.int64()),
                "days_before": pa.array([max(len(q.before), 1) for q in questions.values()], pa.int64()),
                "first": pa.array([min(q.days) for q in questions.values()], pa.date32()),
                "direction": pa.array([1 if q.change >= 0 else -1 for q in questions.values()], pa.int64()),
            }
        )
        connection.register("counts_arrow", counts)
        connection.execute("CREATE OR REPLACE TEMP TABLE counts AS FROM counts_arrow")
        connection.unregister("counts_arrow")
        self.drivers = self._drivers(questions)
        self.features = self._features()
        self.resources = self._resources()
        self.seen: dict[tuple[int, str, str], tuple[bool, str | None]] = {}

    def _drivers(self, questions: Mapping[int, Question]) -> dict[int, list[Driver]]:
        result: dict[int, list[Driver]] = {}
        for facet, name in _FACETS.items():
            change = "sum(cost_now) / any_value(days_now) - sum(cost_before) / any_value(days_before)"
            rows = self.connection.execute(
                f"""
                SELECT number, {name} AS name, sum(cost_now), sum(cost_before)
                FROM moved JOIN counts USING (number) GROUP BY number, name
                QUALIFY row_number() OVER (PARTITION BY number ORDER BY any_value(direction) * ({change}) DESC, name)
                    <= {SHOWN[facet]}
                ORDER BY number, any_value(direction) * ({change}) DESC, name
                """
            ).fetchall()
            for number, told, now, before in rows:
                q = questions[number]
                driver = Driver(facet, told, _a_day(now, len(q.days)), _a_day(before, max(len(q.before), 1)))
                if driver.change:
                    result.setdefault(number, []).append(driver)
        return result

    def _features(self) -> dict[int, dict[str, float]]:
        """By number: cost a day that moved, in all and by what may have caused it."""
        by_category = {
            "purchase": "ChargeCategory = 'Purchase'",
            "credit": "is_correction OR ChargeCategory IN ('Credit', 'Tax', 'Adjustment')",
            "unused": "CommitmentDiscountStatus = 'Unused'",
        }
        moved = "(CAST(cost_now AS DOUBLE) / days_now - CAST(cost_before AS DOUBLE) / days_before)"
        rows = self.connection.execute(
            f"""
            WITH of_sku AS (
                SELECT number, ResourceId, SkuId, unit, any_value(days_now) AS n1, any_value(days_before) AS n0,
                    CAST(sum(cost_now) AS DOUBLE) AS c1, CAST(sum(cost_before) AS DOUBLE) AS c0,
                    sum(quantity_now) AS q1, sum(quantity_before) AS q0
                FROM moved JOIN counts USING (number)
                WHERE ChargeCategory = 'Usage' AND NOT is_correction
                    AND CommitmentDiscountStatus IS DISTINCT FROM 'Unused' GROUP BY ALL
            ), of_item AS (
                -- SKUs that are only there before or now are one item of their resource.
                SELECT number, ResourceId, sku, unit, sum(c1) / any_value(n1) AS c1, sum(c0) / any_value(n0) AS c0,
                    sum(q1) / any_value(n1) AS q1, sum(q0) / any_value(n0) AS q0,
                    -- Where a side that costs has no quantity, more of the same is not told from a higher price.
                    (sum(c1) = 0 OR sum(q1) > 0) AND (sum(c0) = 0 OR sum(q0) > 0) AS counted,
                    sum(sum(c1)) OVER of_resource > 0 AND sum(sum(c0)) OVER of_resource > 0 AS stayed
                FROM (SELECT *, CASE WHEN c1 > 0 AND c0 > 0 THEN SkuId END AS sku FROM of_sku)
                GROUP BY number, ResourceId, sku, unit WINDOW of_resource AS (PARTITION BY number, ResourceId)
            ), priced AS (
                -- By logarithmic means, which leave nothing over: the shares of price and quantity sum to what moved.
                SELECT number, sum(CASE WHEN both_sides THEN middle * (ln(c1 / c0) - ln(q1 / q0)) END) AS price,
                    sum(CASE WHEN both_sides THEN middle * ln(q1 / q0) WHEN stayed AND counted THEN c1 - c0 END)
                        AS quantity,
                    sum(CASE WHEN stayed AND NOT counted THEN c1 - c0 END) AS uncounted
                FROM (
                    SELECT *, c1 > 0 AND c0 > 0 AND q1 > 0 AND q0 > 0 AS both_sides,
                        CASE WHEN c1 = c0 THEN c1 WHEN c1 > 0 AND c0 > 0 THEN (c1 - c0) / ln(c1 / c0) END AS middle
                    FROM of_item
                ) GROUP BY number
            ), covered AS (
                SELECT number, ResourceId,
                    sum({moved}) FILTER (WHERE CommitmentDiscountStatus = 'Used') AS of_commitment,
                    sum(CAST(cost_before AS DOUBLE) / days_before) FILTER (WHERE CommitmentDiscountStatus = 'Used') AS was,
                    sum({moved}) FILTER (WHERE CommitmentDiscountStatus IS NULL) AS without
                FROM moved JOIN counts USING (number) WHERE ChargeCategory = 'Usage' GROUP BY ALL
            ), uncovered AS (
                SELECT number, sum(without) FILTER (WHERE -of_commitment >= {MOST} * was AND without > 0) AS expired
                FROM covered GROUP BY number
            ), summed AS (
                SELECT number, sum({moved}) AS whole,
                    {", ".join(f"sum({moved}) FILTER (WHERE {when}) AS {name}" for name, when in by_category.items())}
                FROM moved JOIN counts USING (number) GROUP BY number
            )
            SELECT number, coalesce(whole, 0), {", ".join(f"coalesce({n}, 0)" for n in by_category)},
                coalesce(price, 0), coalesce(quantity, 0), coalesce(uncounted, 0), coalesce(expired, 0)
            FROM summed LEFT JOIN priced USING (number) LEFT JOIN uncovered USING (number)
            """
        ).fetchall()
        names = ("whole", *by_category, "price", "quantity", "uncounted", "expired")
        return {number: dict(zip(names, values)) for number, *values in rows}

    def _resources(self) -> dict[int, list[tuple[str, str, str, float, bool, bool]]]:
        """By number: source, ResourceId, name, cost a day that moved, whether there was cost before and is now."""
        rows = self.connection.execute(
            """
            SELECT number, source, ResourceId, any_value(ResourceName),
                CAST(sum(cost_now) AS DOUBLE) / any_value(days_now)
                    - CAST(sum(cost_before) AS DOUBLE) / any_value(days_before) AS by_day,
                bool_or(cost_before <> 0), bool_or(cost_now <> 0)
            FROM moved JOIN counts USING (number) WHERE ResourceId IS NOT NULL GROUP BY number, source, ResourceId
            QUALIFY row_number() OVER (PARTITION BY number ORDER BY abs(by_day) DESC, ResourceId) <= 200
            ORDER BY number, abs(by_day) DESC, ResourceId
            """
        ).fetchall()
        result: dict[int, list[tuple[str, str, str, float, bool, bool]]] = {}
        for number, source, resource, name, moved, was, is_now in rows:
            result.setdefault(number, []).append((source, resource, name or resource, moved, was, is_now))
        return result

    def look_back(self, lake: Lake, rules: Rules, sources: Sequence[str], providers: Mapping[str, str]) -> None:
        """Of resources that came or went: were they there in the four weeks before, and whose were or are they?"""
        asked = [
            (number, source, resource)
            for number, found in self.resources.items()
            for source, resource, _, _, was, is_now in found
            if was != is_now
        ]
        if not asked:
            return
        table = pa.table(
            {
                "number": pa.array([a[0] for a in asked], pa.int64()),
                "source": pa.array([a[1] for a in asked], pa.string()),
                "ResourceId": pa.array([a[2] for a in asked], pa.string()),
            }
        )
        self.connection.register("came_arrow", table)
        self.connection.execute(
            "CREATE OR REPLACE TEMP TABLE came AS SELECT came_arrow.*, first, first - 28 AS since FROM came_arrow"
            " JOIN counts USING (number)"
        )
        self.connection.unregister("came_arrow")
        spans = self.connection.execute("SELECT DISTINCT since, first FROM came").fetchall()
        days = {since + timedelta(days=i) for since, first in spans for i in range((first - since).days + 3)}
        files = lake.day_files("facts", sources, days)
        if not files:
            return
        rows = self.connection.execute(
            f"""
            SELECT number, c.source, c.ResourceId, asked.team,
                coalesce(bool_or(f.charge_date < first AND f.team = asked.team AND f.department = asked.department),
                    false),
                max_by(f.department || '/' || f.team, f.charge_date) FILTER (WHERE f.charge_date < first
                    AND (f.team <> asked.team OR f.department <> asked.department)),
                max_by(f.department || '/' || f.team, f.charge_date) FILTER (WHERE f.charge_date >= first
                    AND (f.team <> asked.team OR f.department <> asked.department))
            FROM came c
            JOIN (SELECT DISTINCT number, department, team FROM asked) AS asked USING (number)
            JOIN (
                SELECT DISTINCT {key_of(rules, providers)}, source, ResourceId FROM {facts_relation(files)}
                SEMI JOIN came USING (source, ResourceId)
            ) f ON f.source = c.source AND f.ResourceId = c.ResourceId AND f.charge_date >= c.since
                AND f.charge_date < c.first + 3
            GROUP BY number, c.source, c.ResourceId, asked.team
            """
        ).fetchall()
        for number, source, resource, _, seen, before, after in rows:
            self.seen[number, source, resource] = (seen, before if not seen else after)

    def explanation(self, question: Question, restated: str | None) -> Explanation:
        drivers = tuple(self.drivers.get(question.number, ()))
        found = self.features.get(question.number)
        if restated:
            return Explanation("restated data", restated, drivers)
        if not found:
            return Explanation("unclear", "the facts of these days have nothing of it", drivers)
        side = 1 if question.change >= 0 else -1
        # What the facts say that moved; where they say less than what was unexpected, of that.
        whole = max(side * found["whole"], MOST * abs(question.change), 1e-9)
        new, new_of, gone, gone_of, moved, moved_of, returned = self._came_and_went(question, side)
        top = next((d for d in drivers if d.facet == "resource" and side * d.change > 0), None)
        most = f", most of it {top.name} {top.change:+,.2f}" if top else ""
        currency = question.key.currency

        def much(amount: float) -> str:
            return f"{abs(amount):,.2f} {currency} a day"

        both = (
            f"quantities moved it by {found['quantity'] + returned:+,.2f} {currency} a day, prices by"
            f" {found['price']:+,.2f}{most}"
        )
        cases = [
            ("one-off purchase", side * found["purchase"], f"purchases moved it by {much(found['purchase'])}"),
            (
                "credit, tax or correction",
                side * found["credit"],
                f"credits, taxes and corrections moved it by {much(found['credit'])}",
            ),
            ("commitment unused", side * found["unused"], f"unused commitment moved by {much(found['unused'])}"),
            (
                "commitment expired",
                found["expired"] if side > 0 else 0.0,
                f"usage that a commitment covered before now costs {much(found['expired'])} without one",
            ),
            ("owner changed", moved, f"{much(moved)} of resources that changed their owner: {moved_of}"),
            ("new resource", new if side > 0 else 0.0, f"{much(new)} of new resources: {new_of}"),
            ("resource gone", gone if side < 0 else 0.0, f"{much(gone)} of resources that are gone: {gone_of}"),
            ("price", side * found["price"], both),
            ("quantity", side * (found["quantity"] + returned), both),
        ]
        for cause, amount, evidence in cases:
            if amount >= MOST * whole:
                return Explanation(cause, evidence, drivers)
        if side * found["uncounted"] >= MOST * whole:
            evidence = (
                f"charges without a quantity moved it by {found['uncounted']:+,.2f} {currency} a day: whether it is more"
                f" of the same or a higher price, the bill does not say{most}"
            )
            return Explanation("unclear", evidence, drivers)
        return Explanation("unclear", "no single cause explains half of it; see what moved", drivers)

    def _came_and_went(self, question: Question, side: int) -> tuple[float, str, float, str, float, str, float]:
        new: list[tuple[float, str]] = []
        gone: list[tuple[float, str]] = []
        changed: list[tuple[float, str]] = []
        returned = 0.0
        for source, resource, name, amount, was, is_now in self.resources.get(question.number, ()):
            if was == is_now or side * amount <= 0:
                continue
            seen, other = self.seen.get((question.number, source, resource), (False, None))
            if other:
                changed.append((abs(amount), f"{name} ({'from' if is_now else 'to'} {other})"))
            elif is_now and not seen:
                new.append((abs(amount), name))
            elif is_now:
                returned += amount
            else:
                gone.append((abs(amount), name))

        def told(found: list[tuple[float, str]]) -> tuple[float, str]:
            names = ", ".join(f"{name} {amount:,.2f}" for amount, name in found[:3])
            return sum(amount for amount, _ in found), names + (f" and {len(found) - 3} more" if len(found) > 3 else "")

        (n, n_of), (g, g_of), (c, c_of) = told(new), told(gone), told(changed)
        return n, n_of, g, g_of, c, c_of, returned


def _a_day(amount: Decimal, days: int) -> Decimal:
    with localcontext(prec=80):
        return (amount / days).quantize(CENT, ROUND_HALF_EVEN)


def _restated(
    warehouse: duckdb.DuckDBPyConnection, questions: Sequence[Question], by: tuple[str, ...]
) -> dict[int, str]:
    """Questions whose days were first reported as usual, and are what they are since a restatement."""
    own = [q for q in questions if q.key.ResourceId is None and q.before]
    if not own:
        return {}
    warehouse.register("asked_arrow", _asked(own, by))
    rows: list[tuple[Any, ...]] = warehouse.execute(
        f"""
        WITH versions AS (
            SELECT number, charge_date, is_now, min(reported_from) AS first_from, max(reported_from) AS last_from
            FROM {REPORTED_COST} JOIN (SELECT DISTINCT number, charge_date, is_now FROM asked_arrow) USING (charge_date)
            GROUP BY ALL
        )
        SELECT number,
            CAST(sum(r.effective_cost) FILTER (WHERE is_now AND r.reported_from <= first_from
                AND (r.reported_to IS NULL OR r.reported_to > first_from)) AS DOUBLE) AS first_reported,
            CAST(coalesce(sum(r.effective_cost) FILTER (WHERE is_now AND r.reported_to IS NULL), 0) AS DOUBLE) AS now,
            max(last_from) FILTER (WHERE is_now) AS restated_at, bool_or(is_now AND last_from > first_from) AS restated
        FROM versions JOIN asked_arrow q USING (number, charge_date, is_now)
        LEFT JOIN {REPORTED_COST} r USING ({_key(*_KEY, *by)})
        GROUP BY number
        """
    ).fetchall()
    warehouse.unregister("asked_arrow")
    by_number = {q.number: q for q in own}
    result = {}
    for number, first, now, at, restated in rows:
        q = by_number[number]
        moved = (now - (first or 0)) / len(q.days)
        # Reported as usual at first: a day whose first report was only half of it is no cause of a rise above usual.
        was_usual = abs(q.change - moved) <= MOST * abs(q.change)
        if by and not first:
            continue  # What was reported at first may not know the dimension: that says nothing of it.
        if restated and was_usual and moved * q.change > 0:
            at_first = "not reported" if first is None else f"reported as {first:,.2f} {q.key.currency}"
            result[number] = f"{at_first} at first and as {now:,.2f} {q.key.currency} since {at:%Y-%m-%d %H:%M} UTC"
    return result
