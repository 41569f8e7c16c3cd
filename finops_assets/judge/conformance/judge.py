"""Rules against rows: all of them in one aggregate, the examples of the broken ones in a second."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any, Literal

import duckdb

from finops_assets.base.sql import identifier
from finops_assets.focus.specification import columns
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.judge.conformance.dataset import DataSet
from finops_assets.judge.conformance.rules import Rule, flat_json, near_macro, rules_of

State = Literal["passed", "failed", "known_gap", "not_judged"]

# Tags and prices repeat: each distinct text is looked into once. Bad ones beyond this many are not told apart.
BAD_TEXTS = 100_000
SHOWN_TEXT = 80


@dataclass(frozen=True)
class Example:
    """A value that broke a rule, as found. For a rule about columns `value` is the column's name, without a row."""

    value: str
    file: str = ""
    row: int = 0

    def __str__(self) -> str:
        place = f" ({self.file}, row {self.row})" if self.row else ""
        return f"{self.value}{place}"


@dataclass(frozen=True)
class Finding:
    """What came of one rule on one day, or on the whole data set where days are not told apart.

    `judged` and `failing` count rows; columns for rules about columns.
    """

    rule: Rule
    day: date | None
    state: State
    judged: int = 0
    failing: int = 0
    examples: tuple[Example, ...] = ()
    reason: str = ""


NO_GAPS: Mapping[str, str] = MappingProxyType({})


def judge(
    connection: duckdb.DuckDBPyConnection, data: DataSet, gaps: Mapping[str, str] = NO_GAPS, examples: int = 3
) -> list[Finding]:
    """Every rule of the data set's version on every day of it, in the rules' order.

    `gaps`: column or rule -> why it is known to be broken; a finding about it is a known gap.
    """
    connection.execute(near_macro())
    findings: list[Finding] = []
    asked: list[tuple[Rule, str, str]] = []  # rule, SQL of a row that is judged, SQL of a row that breaks it
    bad_json = {name: _bad_json(connection, data, name, text) for name, text in data.json.items()}
    for rule in rules_of(data.version):
        if rule.kind in ("columns", "presence"):
            findings += _of_columns(rule, data)
            continue
        absent = [name for name in rule.columns if name not in data.columns]
        reason = data.unjudged.get((rule.kind, rule.column))
        if absent:
            findings += _not_judged(rule, data, f"{', '.join(absent)} is not in the data set")
        elif reason:
            findings += _not_judged(rule, data, reason)
        elif rule.must:
            asked.append((rule, rule.when, f"({rule.when}) AND NOT ({rule.must})"))
        else:
            broken = data.breaks.get((rule.kind, rule.column), "false")
            if rule.kind == "format" and rule.column in bad_json:
                broken = f"({broken} OR {bad_json[rule.column]})"
            given = data.given[rule.column]
            judged = "true" if rule.kind in ("nullability", "placeholder") else f"({given} IS NOT NULL OR {broken})"
            asked.append((rule, judged, broken))
    counted = _counts(connection, data, asked)
    broken_rules = [a for i, a in enumerate(asked) if any(counts[i][1] for counts in counted.values())]
    shown = _examples(connection, data, broken_rules, examples)
    for i, (rule, _, _) in enumerate(asked):
        for day, counts in counted.items():
            judged_rows, failing = counts[i]
            state: State = "failed" if failing else "passed"
            findings.append(Finding(rule, day, state, judged_rows, failing, shown.get((rule.id, day), ())))
    order = {rule.id: i for i, rule in enumerate(rules_of(data.version))}
    return sorted(
        (_known(finding, gaps) for finding in findings),
        key=lambda f: (f.day or date.min, order[f.rule.id]),
    )


def _known(finding: Finding, gaps: Mapping[str, str]) -> Finding:
    reason = gaps.get(finding.rule.id) or gaps.get(finding.rule.column)
    if finding.state != "failed" or reason is None:
        return finding
    return Finding(finding.rule, finding.day, "known_gap", finding.judged, finding.failing, finding.examples, reason)


def _not_judged(rule: Rule, data: DataSet, reason: str) -> list[Finding]:
    return [Finding(rule, day, "not_judged", reason=reason) for day in data.present]


def _of_columns(rule: Rule, data: DataSet) -> list[Finding]:
    """Rules that the names of the columns decide."""
    findings = []
    for day, names in data.present.items():
        if rule.kind == "presence":
            odd, judged = ([] if rule.column in names else [rule.column]), 1
        elif rule.id.endswith("-SPELLING"):
            odd, judged = [written for focus, written in names.items() if focus != written], len(names)
        elif rule.id.endswith("-PREFIX"):
            other_versions = [n for n in names if data.version not in columns()[n].level]
            odd = other_versions + [n for n in data.others if not n.startswith("x_")]
            judged = len(other_versions) + len(data.others)
        else:  # a deprecated column
            odd, judged = [n for n in names if n == rule.reference], 1
        examples = tuple(Example(str(name)) for name in odd[:10])
        findings.append(Finding(rule, day, "failed" if odd else "passed", judged, len(odd), examples))
    return findings


def _bad_json(connection: duckdb.DuckDBPyConnection, data: DataSet, column: str, text: str) -> str:
    """SQL: is this row's JSON text none that the column may hold? Every distinct text is parsed once."""
    if column not in data.columns:
        return "false"
    table = identifier(f"bad {column}")
    nested = (
        # Only an object has keys, and only of valid text may one be asked.
        "OR len(list_filter(json_extract(t, '$.*'), lambda v: json_type(v) IN ('OBJECT', 'ARRAY'))) > 0"
        if column in flat_json()
        else ""
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {table} AS
        SELECT t FROM (SELECT any_value({text}) AS t FROM {data.rows} WHERE {text} IS NOT NULL GROUP BY hash({text}))
        WHERE CASE WHEN NOT json_valid(t) THEN true
            WHEN json_type(t) <> 'OBJECT' THEN true
            ELSE len(json_keys(t)) <> len(list_distinct(json_keys(t))) {nested} END
        LIMIT {BAD_TEXTS}
        """
    )
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return f"({text} IN (SELECT t FROM {table}))" if row and row[0] else "false"


def _counts(
    connection: duckdb.DuckDBPyConnection, data: DataSet, asked: list[tuple[Rule, str, str]]
) -> dict[date | None, list[tuple[int, int]]]:
    """(rows judged, rows failing) of each rule by day, in one pass. A data set without rows has none of either."""
    position: dict[str, int] = {}  # many rules judge the same rows: each condition is counted once

    def counted(condition: str) -> int:
        return position.setdefault(condition, len(position))

    wanted = [(counted(judged), counted(broken)) for _, judged, broken in asked]
    aggregates = ", ".join(
        # A sum, because the engine counts under FILTER at twice the cost.
        "count(*)" if c == "true" else "0" if c == "false" else f"sum(CASE WHEN {c} THEN 1 ELSE 0 END)"
        for c in position
    )
    counts: dict[date | None, list[tuple[int, int]]] = {day: [(0, 0)] * len(asked) for day in data.present}
    found = connection.execute(f"SELECT charge_date, {aggregates} FROM {data.rows} GROUP BY charge_date").fetchall()
    for day, *figures in found:
        counts[day] = [(figures[i], figures[j]) for i, j in wanted]
    return counts


def _examples(
    connection: duckdb.DuckDBPyConnection, data: DataSet, broken: list[tuple[Rule, str, str]], most: int
) -> dict[tuple[str, date | None], tuple[Example, ...]]:
    """The first rows, by place, that break each rule: a second pass, for the broken rules only."""
    if not broken or most < 1:
        return {}
    place = f"({SOURCE_FILE}, {SOURCE_ROW})"

    def values(rule: Rule) -> str:
        # A relation is between values as read; a single value is shown as it was written.
        texts = ", ".join(
            f"CAST({name} AS VARCHAR)" if rule.must else data.found.get(name, "NULL") for name in _shown_columns(rule)
        )
        return (
            f"{{'file': {SOURCE_FILE}, 'row': {SOURCE_ROW}, 'repairs': CAST({data.repairs} AS VARCHAR),"
            f" 'found': CAST([{texts}] AS VARCHAR[])}}"
        )

    selected = ", ".join(f"min_by({values(rule)}, {place}, {most}) FILTER ({sql})" for rule, _, sql in broken)
    shown: dict[tuple[str, date | None], tuple[Example, ...]] = {}
    for day, *lists in connection.execute(f"SELECT charge_date, {selected} FROM {data.rows} GROUP BY 1").fetchall():
        for (rule, _, _), entries in zip(broken, lists):
            shown[rule.id, day] = tuple(_example(rule, entry) for entry in entries or ())
    return shown


def _shown_columns(rule: Rule) -> list[str]:
    """The columns whose values explain a broken rule: its own, and those of its condition."""
    if not rule.must:
        return list(rule.columns)
    named = [name for name in columns() if name in rule.when.split() and name not in rule.columns]
    return [*rule.columns, *named]


def _example(rule: Rule, entry: Mapping[str, Any]) -> Example:
    names = _shown_columns(rule)
    texts = [_shown(name, text) for name, text in zip(names, entry["found"])]
    if not rule.must:
        repaired = [r["found"] for r in json.loads(entry["repairs"] or "[]") if r["column"] == rule.column]
        texts = [repr(repaired[0])] if repaired and rule.kind != "nullability" else texts[:1]
        return Example(texts[0], entry["file"] or "", entry["row"] or 0)
    told = ", ".join(f"{name} = {text}" for name, text in zip(names, texts))
    return Example(told, entry["file"] or "", entry["row"] or 0)


def _shown(column: str, text: str | None) -> str:
    if text is None:
        return "null"
    if columns()[column].type != "decimal" or not text.lstrip("-").replace(".", "", 1).isdigit():
        return repr(text[:SHOWN_TEXT])
    return text.rstrip("0").rstrip(".") if "." in text else text
