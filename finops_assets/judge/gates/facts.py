"""The gates on facts: conserved, and untagged within the thresholds of the tag policy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

import duckdb

from finops_assets.base.sql import identifier
from finops_assets.base.text import money
from finops_assets.cost.clusters.shares import METHOD
from finops_assets.cost.clusters.split import SUMMED
from finops_assets.focus.measures import EFFECTIVE
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.judge.gates.figures import Figures
from finops_assets.judge.gates.verdict import Figure, OfSource, Verdict
from finops_assets.platform import Platform
from finops_assets.storage.day_files import facts_relation, judged_layer, raw_relation
from finops_assets.storage.duck import lent
from finops_assets.storage.lake import Key

CONSERVED, WITHIN, ADVICE = "conserved", "untagged_within_threshold", "untagged_below_warning"
GATES = {
    CONSERVED: "Rows, billed and effective cost by source and currency equal raw, to the last digit; so do all amounts of"
    " each charge of a cluster's node and the parts that it was split into.",
    WITHIN: "Positive effective cost without a required dimension stays within the threshold that blocks.",
    ADVICE: "Positive effective cost without a required dimension stays below the threshold that warns.",
}
SHOWN = 5


def judge_facts(platform: Platform, keys: Iterable[Key]) -> list[Verdict]:
    """All verdicts on these (source, day)s of the facts, those of a day together."""
    keys = sorted(keys, key=lambda key: (key[1], key[0]))
    with platform.lake.workspace() as workspace, lent(platform.settings.engine, workspace) as connection:
        asked = Figures(platform, connection)
        verdicts = [*_conserved(asked, keys), *_untagged(asked, connection, platform, keys)]
        return [replace(verdict, engine=asked.engine) for verdict in verdicts]


Totals = dict[tuple[date, str, str], tuple[Any, ...]]


def _totals(found: Iterable[tuple[Any, ...]]) -> Totals:
    return {(day, source, currency): tuple(figures) for day, source, currency, *figures in found}


def totals_query(relation: str, split: bool = False) -> str:
    """SQL: charge_date, source, currency, rows, billed and effective cost of a relation of raw rows or of facts.

    `split`: charges of nodes may be; then the parts of a row are counted as the one row of the bill that they are.
    """
    rows = "count(*)"
    if split:
        ours = f"AllocatedMethodId LIKE '{METHOD}%'"
        origin = f"concat({SOURCE_FILE}, '#', CAST({SOURCE_ROW} AS VARCHAR))"
        rows = f"count(CASE WHEN {ours} THEN NULL ELSE 1 END) + count(DISTINCT CASE WHEN {ours} THEN {origin} END)"
    return f"""
        SELECT charge_date, source, coalesce(BillingCurrency, '') AS currency, {rows} AS row_count,
            coalesce(sum(BilledCost), 0) AS billed_cost, coalesce(sum(EffectiveCost), 0) AS effective_cost
        FROM {relation} GROUP BY 1, 2, 3
    """


def _conserved(asked: Figures, judged: list[Key]) -> Iterator[Verdict]:
    clusters = bool(asked.platform.rules.clusters)
    query = partial(totals_query, split=clusters)
    raw = _totals(asked.of_keys("raw", judged, query))
    facts = _totals(asked.to_judge(judged, query))
    torn = _torn(asked, judged) if clusters else {}
    for day in _days_of(judged):
        keys = sorted(k for k in raw.keys() | facts.keys() if k[0] == day)
        problems: dict[str, list[str]] = {}
        for key in keys:
            expected, found = raw.get(key, (0, Decimal(0), Decimal(0))), facts.get(key, (0, Decimal(0), Decimal(0)))
            for what, a, b in zip(("rows", "billed cost", "effective cost"), expected, found):
                if a != b:
                    text = f"source {key[1]}, {key[2]}: {what} raw {a}, facts {b}, difference {b - a}"
                    problems.setdefault(key[1], []).append(text)
        for source, other in torn:
            if other == day:
                problems.setdefault(source, []).append(f"source {source}: {torn[source, other]}")
        yield Verdict(
            CONSERVED,
            day,
            not problems,
            _joined(problems) or f"{sum(raw[k][0] for k in keys if k in raw):,} rows and their cost, equal to raw",
            figures={
                "rows_raw": sum(v[0] for k, v in raw.items() if k[0] == day),
                "rows_facts": sum(v[0] for k, v in facts.items() if k[0] == day),
                **{f"billed {s} {c}": money(Decimal(raw[d, s, c][1])) for d, s, c in keys if (d, s, c) in raw},
            },
            next_step="run the day's raw and facts again; if it stays, report it: a row was lost or doubled"
            if problems
            else "",
            of_sources=tuple(OfSource(source, "; ".join(texts)) for source, texts in problems.items()),
        )


def _torn(asked: Figures, judged: Iterable[Key]) -> dict[Key, str]:
    """Of split days those on which the parts of a row are not the row: how many rows, and the first of them."""
    lake, found = asked.platform.lake, {}
    for key in judged:
        raw, facts = lake.day_file("raw", *key), lake.day_file(judged_layer(lake, key), *key)
        if len(lake.fetch([raw, facts])) < 2 or not lake.holds(lake.day_file("nodes", *key)):
            continue
        differing = asked.connection.execute(torn_query(raw_relation([raw]), facts_relation([facts]))).fetchone()
        if differing and differing[0]:
            rows, first, what = differing
            found[key] = f"the parts of {rows} rows are not the row of the bill, first {first}: {what}"
    return found


def torn_query(raw: str, facts: str) -> str:
    """SQL: how many rows have parts whose amounts are not theirs to the last digit, which is the first, and what of it."""
    origin = f"{SOURCE_FILE}, {SOURCE_ROW}"
    sums = ", ".join(f"sum({name}) AS {name}, count({name}) AS {name}_parts" for name in SUMMED)
    # A part of nothing is nothing: what a row does not say, no part of it does.
    wrong = " ".join(
        f"WHEN p.{name} IS DISTINCT FROM r.{name} OR p.{name}_parts NOT IN (0, p.parts) THEN concat('{name} ',"
        f" coalesce(CAST(r.{name} AS VARCHAR), 'null'), ', its parts ', coalesce(CAST(p.{name} AS VARCHAR), 'null'))"
        for name in SUMMED
    )
    return f"""
        WITH parts AS (
            SELECT {origin}, count(*) AS parts, {sums} FROM {facts} WHERE AllocatedMethodId LIKE '{METHOD}%' GROUP BY ALL
        ),
        compared AS (
            SELECT p.{SOURCE_FILE}, p.{SOURCE_ROW},
                CASE WHEN r.{SOURCE_ROW} IS NULL THEN 'no such row in the raw day' {wrong} END AS wrong
            FROM parts p LEFT JOIN {raw} AS r USING ({origin})
        )
        SELECT count(*), min(concat({SOURCE_FILE}, ' row ', CAST({SOURCE_ROW} AS VARCHAR))), min(wrong)
        FROM compared WHERE wrong IS NOT NULL
    """


def _untagged(
    asked: Figures, connection: duckdb.DuckDBPyConnection, platform: Platform, keys: list[Key]
) -> Iterator[Verdict]:
    policy = platform.settings.tag_policy
    required = [d for d in policy.required if d in platform.rules.dimensions]
    shares = _untagged_shares(asked, keys, required)
    for day in _days_of(keys):
        over: dict[str, dict[str, list[str]]] = {WITHIN: {}, ADVICE: {}}
        figures: dict[str, Figure] = {}
        for (found_day, source, currency, dimension), (untagged, total) in sorted(shares.items()):
            if found_day != day:
                continue
            share = untagged / total * 100 if total else Decimal(0)
            threshold = policy.threshold(source, dimension)
            figures[f"{dimension} {source} {currency} %"] = round(float(share), 2)
            text = f"source {source}: {share:.1f} % of positive effective {currency} cost has no {dimension}"
            small = total < policy.small(currency)
            if share > Decimal(str(threshold.block_above)) and not small:
                over[WITHIN].setdefault(source, []).append(
                    f"{text} (limit {threshold.block_above:g} %); {_who(connection, platform, source, day, dimension)}"
                )
            if share > Decimal(str(threshold.warn_above)):
                why = f"; of {money(total)} {currency} in all, too little to hold the day" if small else ""
                over[ADVICE].setdefault(source, []).append(f"{text} (warning above {threshold.warn_above:g} %{why})")
        step = (
            "tag the resources named, add their keys as aliases under dimensions in finops.yaml, or say whose they are under"
            " attribution_rules{}; then run the day's facts again (raw need not be read again)"
        )
        limits = "; where that share is right, give the source a higher block_above under tag_policy: sources"
        blocking = {source: platform.settings.source(source).required for source in over[WITHIN]}
        yield Verdict(
            WITHIN,
            day,
            not over[WITHIN],
            _joined(over[WITHIN]) or "within every threshold",
            any(blocking.values()) or not over[WITHIN],
            figures=figures,
            next_step=step.format(limits) if over[WITHIN] else "",
            of_sources=tuple(OfSource(s, "; ".join(texts), blocking[s]) for s, texts in over[WITHIN].items()),
        )
        yield Verdict(
            ADVICE,
            day,
            not over[ADVICE],
            _joined(over[ADVICE]) or "below every warning",
            False,
            figures=figures,
            next_step=step.format("") if over[ADVICE] else "",
            of_sources=tuple(OfSource(s, "; ".join(texts), False) for s, texts in over[ADVICE].items()),
        )


def _days_of(keys: Iterable[Key]) -> list[date]:
    return sorted({day for _, day in keys})


def _joined(problems: Mapping[str, Iterable[str]]) -> str:
    return "; ".join(text for texts in problems.values() for text in texts)


def _untagged_shares(
    asked: Figures, keys: list[Key], dimensions: list[str]
) -> dict[tuple[date, str, str, str], tuple[Decimal, Decimal]]:
    """(day, source, currency, dimension) -> (positive effective cost without it, positive effective cost).

    Only positive cost counts: a credit must not make coverage exceed 100 %.
    """
    if not dimensions:
        return {}
    result = {}
    found = asked.to_judge(keys, lambda facts: shares_query(facts, dimensions))
    for day, source, currency, total, *untagged in found:
        for dimension, amount in zip(dimensions, untagged):
            result[day, source, currency, dimension] = (Decimal(amount), Decimal(total))
    return result


def shares_query(facts: str, dimensions: list[str]) -> str:
    """SQL: charge_date, source, currency, positive effective cost, and how much of it lacks each dimension."""
    sums = ", ".join(
        f"coalesce(sum(CASE WHEN {identifier(d)} IS NULL THEN {EFFECTIVE} END), 0) AS {identifier(f'without_{d}')}"
        for d in dimensions
    )
    return f"""
        SELECT charge_date, source, coalesce(BillingCurrency, '') AS currency, sum({EFFECTIVE}) AS positive_cost, {sums}
        FROM {facts} WHERE {EFFECTIVE} > 0 GROUP BY 1, 2, 3
    """


def _who(connection: duckdb.DuckDBPyConnection, platform: Platform, source: str, day: date, dimension: str) -> str:
    """The accounts and tag keys that carry a day's untagged money."""
    file = platform.lake.day_file(judged_layer(platform.lake, (source, day)), source, day)
    relation = facts_relation([file])
    where = f"{EFFECTIVE} > 0 AND {identifier(dimension)} IS NULL"
    accounts = connection.execute(
        f"SELECT coalesce(SubAccountName, SubAccountId, 'no account'), sum({EFFECTIVE}) FROM {relation}"
        f" WHERE {where} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {SHOWN}"
    ).fetchall()
    keys: dict[str, Decimal] = {}
    for tags, amount in connection.execute(
        f"SELECT Tags, sum({EFFECTIVE}) FROM {relation} WHERE {where} GROUP BY 1 ORDER BY 2 DESC LIMIT 5000"
    ).fetchall():
        for key in json.loads(tags) if tags else ["(no tags at all)"]:
            keys[key] = keys.get(key, Decimal(0)) + amount
    largest = sorted(keys.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    return (
        f"accounts: {', '.join(f'{name} {amount:.2f}' for name, amount in accounts)};"
        f" tag keys on that cost: {', '.join(f'{key} {amount:.2f}' for key, amount in largest)}"
    )
