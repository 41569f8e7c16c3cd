"""How far tags are from the policy: coverage by week, values outside the canon, keys that map to nothing, and debt.

All of it is read from the facts of days whose rollup stands. Percentages are over positive effective cost; amounts
are by currency and never added over currencies.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby, islice
from pathlib import Path

import duckdb
import pandas as pd

from finops_assets.base.sql import identifier, literal
from finops_assets.cost.attribution.row_rules import tag_text
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.attribution.tag_sets import TagTexts
from finops_assets.cost.rollup import UNTAGGED
from finops_assets.evaluate.governance.policy import DEPARTMENT, RECENT_DAYS, Policy
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.focus.money import DECIMAL, percent
from finops_assets.focus.normal import normal_key, normal_value
from finops_assets.focus.participants import provider_before
from finops_assets.ingest.reading.export_table import all_columns
from finops_assets.settings.model import Settings
from finops_assets.settings.tag_policy import TagTarget
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.duck import lent
from finops_assets.storage.lake import Lake

WEEKS = 13
SCOPES = ("all", "provider", "account", "department")
MOST_KEYS = 200
MOST_VALUES = 5
HELD_VALUES = 1_000
"""Distinct values that are remembered of a tag key: enough to see what it is."""
FEWEST_KNOWN = 0.5
"""A key is suggested as an alias if at least this share of its values is known to the dimension."""

COVERAGE = (
    "week", "scope", "name", "dimension", "currency", "positive_effective_cost", "without_cost", "without_percent",
    "outside_cost", "target_percent", "target_by", "meets_target",
)  # fmt: skip
OUTSIDE = (
    "dimension", "value", "nearest", "likeness", "given_by", "departments", "champion", "currency",
    "positive_effective_cost", "row_count",
)  # fmt: skip
UNMAPPED = (
    "tag_key", "dimension", "known_values_percent", "values", "examples", "tag_sets", "currency",
    "positive_effective_cost", "would_attribute_cost",
)  # fmt: skip
DEBT = (
    "champion", "department", "known_by", "account", "dimension", "problem", "value", "currency",
    "positive_effective_cost", "row_count",
)  # fmt: skip


@dataclass(frozen=True)
class Governance:
    """The four tables, each with the columns of its name above. Amounts are Decimal."""

    coverage: pd.DataFrame
    outside: pd.DataFrame
    unmapped: pd.DataFrame
    debt: pd.DataFrame
    recent: tuple[date, ...]


def weeks_before(end: date) -> list[date]:
    """The days of the last WEEKS weeks (Monday to Sunday), the running one included, before `end`."""
    last = end - timedelta(days=1)
    monday = last - timedelta(days=last.weekday())
    first = monday - timedelta(weeks=WEEKS - 1)
    return [first + timedelta(days=n) for n in range((end - first).days)]


def judge_tags(lake: Lake, settings: Settings, rules: Rules, policy: Policy, days: Iterable[date]) -> Governance:
    """Hold the facts of these days against the policy. All but coverage is of the last RECENT_DAYS of them."""
    wanted = sorted(days)
    recent = [day for day in wanted if day > wanted[-1] - timedelta(days=RECENT_DAYS)] if wanted else []
    with _spent(lake, settings, rules, wanted, recent) as connection:
        weekly = _coverage(connection, rules, policy)
        outside = _outside(connection, rules, policy)
        debt = _debt(connection, rules, policy)
        unmapped = _unmapped(connection, lake, rules, policy)
    return Governance(weekly, outside, unmapped, debt, tuple(recent))


@contextmanager
def _spent(
    lake: Lake, settings: Settings, rules: Rules, days: Sequence[date], recent: Sequence[date]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Positive effective cost by currency and dimensions: `weekly` also by week, provider and account, `recent` (of the
    recent days together) also by source, account, tag set and what gave each dimension."""
    sources = [s.name for s in settings.counted]
    named = {s.name: s.provider for s in settings.counted if s.provider}
    listed = " ".join(f"WHEN {literal(source)} THEN {literal(name)}" for source, name in named.items())
    provider = f"CASE source {listed} ELSE source END" if listed else "source"
    dimensions = ", ".join(identifier(d) for d in rules.dimensions)
    keys = ", ".join(identifier(f"{d}_key") for d in rules.dimensions)
    account = "coalesce(SubAccountName, SubAccountId, BillingAccountName, BillingAccountId, '') AS account"
    currency = "coalesce(BillingCurrency, '') AS currency"
    cost = f"CAST(sum({EFFECTIVE}) AS {DECIMAL}) AS cost"
    with lake.workspace() as workspace, lent(settings.engine, workspace / "spill") as connection:
        connection.execute(
            f"""
            CREATE TEMP TABLE weekly AS
            SELECT CAST(date_trunc('week', charge_date) AS DATE) AS week,
                coalesce(ProviderName, {provider_before(provider)}, {provider}) AS provider, {account}, {currency},
                {dimensions}, {cost}
            FROM {_facts(connection, lake.day_files("facts", sources, days), rules)} WHERE {EFFECTIVE} > 0 GROUP BY ALL
            """
        )
        connection.execute(
            f"""
            CREATE TEMP TABLE recent AS
            SELECT source, {account}, tag_set_id, {currency}, {dimensions}, {keys}, {cost}, count(*) AS row_count
            FROM {_facts(connection, lake.day_files("facts", sources, recent), rules)} WHERE {EFFECTIVE} > 0 GROUP BY ALL
            """
        )
        yield connection


def _facts(connection: duckdb.DuckDBPyConnection, files: list[Path], rules: Rules) -> str:
    """SQL: these facts with every dimension of today; what is older than a dimension has none of it."""
    if files:
        facts = facts_relation(files, of_any_rules=True)
        there = {name for name, *_ in connection.execute(f"DESCRIBE FROM {facts}").fetchall()}
    else:
        columns = ("source", "tag_set_id", *(c.name for c in all_columns() if c.type == "string"))
        texts = ", ".join(f"''::VARCHAR AS {c}" for c in columns)
        costs = f"0::{DECIMAL} AS EffectiveCost, 0::{DECIMAL} AS BilledCost"
        facts, there = f"(SELECT NULL::DATE AS charge_date, {texts}, {costs} LIMIT 0)", set()
    missing = [n for d in rules.dimensions for n in (d, f"{d}_key") if n not in there]
    added = "".join(f", NULL::VARCHAR AS {identifier(name)}" for name in missing)
    return f"(SELECT *{added} FROM {facts})" if missing else facts


def _coverage(connection: duckdb.DuckDBPyConnection, rules: Rules, policy: Policy) -> pd.DataFrame:
    department = f"coalesce({identifier(DEPARTMENT)}, '{UNTAGGED}')" if DEPARTMENT in rules.dimensions else None
    names = {"all": "'all'", "provider": "provider", "account": "account", "department": department}
    rows = []
    for dimension in policy.required:
        outside = _is_outside(policy, dimension)
        for scope, name in names.items():
            if name is None or scope == dimension:
                continue  # a department covers itself, and what has none is wholly uncovered
            rows += connection.execute(
                f"""
                SELECT week, {literal(scope)}, {name}, {literal(dimension)}, currency, sum(cost),
                    coalesce(sum(CASE WHEN {identifier(dimension)} IS NULL THEN cost END), 0),
                    coalesce(sum(CASE WHEN {outside} THEN cost END), 0)
                FROM weekly GROUP BY ALL
                """
            ).fetchall()
    rows.sort(key=lambda row: (-row[0].toordinal(), SCOPES.index(row[1]), row[4], -row[6], row[3], str(row[2])))
    target = policy.target
    result = []
    for week, scope, name, dimension, currency, cost, without, out in rows:
        share = percent(without, cost)
        limit, by, meets = _against(target, without, cost)
        result.append((week, scope, name, dimension, currency, cost, without, share, out, limit, by, meets))
    table = pd.DataFrame(result, columns=list(COVERAGE))
    table["week"], table["target_by"] = pd.to_datetime(table["week"]), pd.to_datetime(table["target_by"])
    return table.astype({"without_percent": "float64", "target_percent": "float64", "meets_target": "boolean"})


def _against(
    target: TagTarget | None, without: Decimal, cost: Decimal
) -> tuple[float | None, date | None, bool | None]:
    if target is None:
        return None, None, None
    return target.untagged_below, target.by, without * 100 < Decimal(str(target.untagged_below)) * cost


def _is_outside(policy: Policy, dimension: str) -> str:
    """SQL: is a dimension's value none of the canonical ones?"""
    canonical = policy.canonical.get(dimension)
    if not canonical:
        return "false"
    return f"{identifier(dimension)} NOT IN ({', '.join(literal(v) for v in sorted(canonical))})"


def _outside(connection: duckdb.DuckDBPyConnection, rules: Rules, policy: Policy) -> pd.DataFrame:
    department = identifier(DEPARTMENT) if DEPARTMENT in rules.dimensions else "NULL"
    rows = []
    for dimension in rules.dimensions:
        if not policy.canonical.get(dimension):
            continue
        for value, keys, departments, currency, cost, count in connection.execute(
            f"""
            SELECT {identifier(dimension)}, list_sort(list(DISTINCT {identifier(f"{dimension}_key")})),
                list_sort(list(DISTINCT {department}) FILTER ({department} IS NOT NULL)), currency, sum(cost),
                CAST(sum(row_count) AS BIGINT)
            FROM recent WHERE {_is_outside(policy, dimension)} GROUP BY 1, 4
            """
        ).fetchall():
            near, likeness = policy.nearest(dimension, value)
            champions = dict.fromkeys(policy.champion(d) for d in departments)
            named = ", ".join(c for c in champions if c)
            rows.append(
                (
                    dimension,
                    value,
                    near,
                    likeness,
                    ", ".join(keys),
                    ", ".join(departments),
                    named,
                    currency,
                    cost,
                    count,
                )
            )
    rows.sort(key=lambda row: (row[0], row[7], -row[8], row[1]))
    return pd.DataFrame(rows, columns=list(OUTSIDE)).astype({"likeness": "float64", "row_count": "int64"})


def _debt(connection: duckdb.DuckDBPyConnection, rules: Rules, policy: Policy) -> pd.DataFrame:
    """What misses a required dimension or has a value outside the canon, by who answers for it.

    What has no department is held to be that of the department with most of the account's cost, if it has more than
    half of what is tagged there.
    """
    if DEPARTMENT not in rules.dimensions:
        owner = "SELECT ''::VARCHAR AS source, ''::VARCHAR AS account, NULL::VARCHAR AS owner LIMIT 0"
        own = "NULL"
    else:
        own = identifier(DEPARTMENT)
        # Shares within one currency; a source bills an account in one.
        owner = f"""
            SELECT source, account, max_by({own}, cost) AS owner
            FROM (SELECT source, account, {own}, sum(cost) AS cost FROM recent WHERE {own} IS NOT NULL GROUP BY ALL)
            GROUP BY ALL HAVING max(cost) * 2 > sum(cost)
        """
    problems = []
    for dimension in dict.fromkeys([*policy.required, *(d for d in policy.canonical if d in rules.dimensions)]):
        column, required = identifier(dimension), "true" if dimension in policy.required else "false"
        problems.append(
            f"""
            SELECT r.account, coalesce({own}, o.owner, '{UNTAGGED}') AS department,
                CASE WHEN {own} IS NOT NULL THEN 'tags or rules' WHEN o.owner IS NOT NULL THEN 'its account'
                    ELSE 'nothing' END AS known_by,
                {literal(dimension)} AS dimension,
                CASE WHEN {column} IS NULL THEN 'missing' ELSE 'outside the canon' END AS problem, {column} AS value,
                currency, cost, row_count
            FROM recent AS r LEFT JOIN ({owner}) AS o ON r.source = o.source AND r.account = o.account
            WHERE ({column} IS NULL AND {required}) OR {_is_outside(policy, dimension)}
            """
        )
    rows: list[tuple[object, ...]] = []
    if problems:
        rows = [
            (policy.champion(department), department, *rest)
            for department, *rest in connection.execute(
                f"""
                SELECT department, known_by, account, dimension, problem, value, currency, sum(cost),
                    CAST(sum(row_count) AS BIGINT)
                FROM ({" UNION ALL ".join(problems)}) GROUP BY ALL
                ORDER BY currency, sum(cost) DESC, department, account, dimension, problem, value
                """
            ).fetchall()
        ]
    return pd.DataFrame(rows, columns=list(DEBT)).astype({"row_count": "int64"})


@dataclass
class _Key:
    """What is known of a tag key, in all its spellings."""

    spelled: dict[str, int] = field(default_factory=dict)
    values: dict[str, Decimal] = field(default_factory=dict)
    """Value -> money of any currency, to have the larger ones first; never shown."""
    many: bool = False
    tag_sets: int = 0
    cost: dict[str, Decimal] = field(default_factory=dict)
    without: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    """(dimension, currency) -> cost that has no such dimension."""


def _unmapped(connection: duckdb.DuckDBPyConnection, lake: Lake, rules: Rules, policy: Policy) -> pd.DataFrame:
    """Tag keys that carry no dimension, with the money on them and the dimension whose values they seem to hold."""
    missing = [f"{identifier(d)} IS NULL" for d in rules.dimensions]
    known: dict[str, set[str]] = {d: set(policy.canonical.get(d, ())) for d in rules.dimensions}
    for dimension in rules.dimensions:
        column = identifier(dimension)
        found = connection.execute(f"SELECT DISTINCT {column} FROM recent WHERE {column} IS NOT NULL").fetchall()
        known[dimension] |= {value for (value,) in found}
    texts = TagTexts(lake)
    keys: dict[str, _Key] = {}
    result = connection.execute(
        f"""
        SELECT source, tag_set_id, currency, sum(cost),
            {", ".join(f"coalesce(sum(CASE WHEN {m} THEN cost END), 0)" for m in missing)}
        FROM recent GROUP BY 1, 2, 3
        """
    )
    while batch := result.fetchmany(10_000):
        for source, ident, currency, cost, *without in batch:
            met: set[str] = set()
            for tags in texts.of(source)[ident]:
                for written, raw in tags.items():
                    normal = normal_key(written)
                    value = tag_text(raw)
                    if normal in rules.known or not normal or value in rules.placeholders:
                        continue
                    key = keys.setdefault(normal, _Key())
                    key.spelled[written] = key.spelled.get(written, 0) + 1
                    if value in key.values or len(key.values) < HELD_VALUES:
                        key.values[value] = key.values.get(value, Decimal(0)) + cost
                    else:
                        key.many = True
                    if normal in met:
                        continue
                    met.add(normal)
                    key.tag_sets += 1
                    key.cost[currency] = key.cost.get(currency, Decimal(0)) + cost
                    for dimension, lacks in zip(rules.dimensions, without):
                        if lacks:
                            at = (dimension, currency)
                            key.without[at] = key.without.get(at, Decimal(0)) + lacks
    rows = []
    for key in keys.values():
        spelled = max(key.spelled, key=lambda s: (key.spelled[s], s))
        values = sorted(key.values, key=lambda v: (-key.values[v], v))
        carried, share = _carries(key, known, rules)
        for currency, cost in key.cost.items():
            rows.append(
                (
                    spelled, carried, round(100 * share, 1), len(values), ", ".join(values[:MOST_VALUES]),
                    key.tag_sets, currency, cost, key.without.get((carried or "", currency), Decimal(0)),
                )
            )  # fmt: skip
    rows.sort(key=lambda row: (row[6], row[1] is None, -row[8], -row[7], row[0]))
    shown = [row for _, of_currency in groupby(rows, lambda row: row[6]) for row in islice(of_currency, MOST_KEYS)]
    table = pd.DataFrame(shown, columns=list(UNMAPPED))
    return table.astype({"known_values_percent": "float64", "values": "int64", "tag_sets": "int64"})


def _carries(key: _Key, known: Mapping[str, set[str]], rules: Rules) -> tuple[str | None, float]:
    """The dimension whose known values a key mostly holds, and the share of its values that are known to it."""
    if key.many or not key.values:
        return None, 0.0
    shares = {
        d: sum(rules.values[d].get(normal_value(v), v) in known[d] for v in key.values) / len(key.values) for d in known
    }
    best = max(shares, key=lambda d: shares[d])
    return (best, shares[best]) if shares[best] >= FEWEST_KNOWN else (None, shares[best])


def suggested_aliases(unmapped: pd.DataFrame) -> dict[str, list[str]]:
    """Dimension -> tag keys that would attribute some cost if they were its aliases, the most first."""
    wanted = unmapped[unmapped["dimension"].notna() & (unmapped["would_attribute_cost"] > 0)]
    found: dict[str, list[str]] = {}
    for row in wanted.sort_values(["would_attribute_cost", "tag_key"], ascending=[False, True]).itertuples():
        keys = found.setdefault(str(row.dimension), [])
        if row.tag_key not in keys:
            keys.append(str(row.tag_key))
    return found


def aliases_yaml(settings: Settings, unmapped: pd.DataFrame) -> str:
    """The `dimensions` of finops.yaml that get more keys, to be pasted; each new key with what it would attribute."""
    lines: list[str] = []
    for dimension, keys in suggested_aliases(unmapped).items():
        mine = unmapped[unmapped["dimension"] == dimension]
        lines.append(f"  {dimension}:")
        lines.append("    keys:")
        lines += [f"      - {json.dumps(key, ensure_ascii=False)}" for key in settings.dimensions[dimension].keys]
        for key in keys:
            of_key = mine[(mine["tag_key"] == key)].sort_values("currency")
            money = ", ".join(f"{r.would_attribute_cost:,.2f} {r.currency}" for r in of_key.itertuples())
            first = of_key.iloc[0]
            lines.append(
                f"      - {json.dumps(key, ensure_ascii=False)}  # would attribute {money};"
                f" {first['known_values_percent']:.0f} % of its {first['values']} values are known"
            )
        values = settings.dimensions[dimension].values
        if values:
            lines.append(f"    values: {json.dumps(dict(values), ensure_ascii=False)}")
    return "dimensions:\n" + "\n".join(lines) + "\n" if lines else ""
