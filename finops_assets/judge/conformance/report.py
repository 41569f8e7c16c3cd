"""The conformance report: of files, of a source, as a table, as JUnit XML, and kept by day in the lake."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from finops_assets.base.errors import DeliveryRefused, FinopsError
from finops_assets.base.uris import DATA_SUFFIXES, is_data
from finops_assets.focus.specification import VERSIONS
from finops_assets.ingest.conversion.mapping import mapping_of
from finops_assets.ingest.inspect import not_there
from finops_assets.judge.conformance.dataset import file_data_set, source_data_sets
from finops_assets.judge.conformance.judge import Example, Finding, State, judge
from finops_assets.judge.conformance.known_gaps import absent_columns
from finops_assets.judge.conformance.rules import rules_of, rules_version
from finops_assets.platform import Platform
from finops_assets.settings.engine import EngineSettings
from finops_assets.settings.sources import Source
from finops_assets.storage.duck import connect, lent
from finops_assets.storage.lake import Lake
from finops_assets.storage.ledger import Ledger
from finops_assets.storage.stores.open import open_store
from finops_assets.storage.stores.store import StoreError, matches

# A day's rows are few against opening a connection: so many days are judged in one pass.
DAYS_AT_ONCE = 31
RECORDS = "conformance"

COLUMNS = [
    "charge_date", "rule_id", "focus_version", "severity", "state", "failing", "judged", "column", "says", "example",
    "reason", "reference",
]  # fmt: skip


def judge_files(
    uris: Sequence[str], engine: EngineSettings, scratch: Path, version: str | None = None, examples: int = 3
) -> list[Finding]:
    """Judge export files as they were written, all as one data set. A URI may be a file, folder or glob.

    Raises:
        FinopsError: nothing is there, or a file cannot be read at all.
    """
    with ExitStack() as stack:
        root, keys, endings = scratch / "files", [], ", ".join(DATA_SUFFIXES)
        root.mkdir()
        for i, uri in enumerate(uris):
            try:
                store, pattern = open_store(uri)
                found = [f for f in store.list() if is_data(f.key) and matches(f.key, pattern)]
                if not found:
                    raise FinopsError(f"{uri}: {not_there(store) or f'no file that ends in {endings} lies there'}")
                place = stack.enter_context(store.local_root(found, scratch))
            except (OSError, ValueError, StoreError) as error:
                raise FinopsError(f"{uri}: {error}") from error
            # One root for all, so that a row's place is told by the key that the person knows.
            part = root if len(uris) == 1 else root / str(i)
            for file in found:
                link = part / file.key
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to((place / file.key).absolute())
                keys.append(link.relative_to(root).as_posix())
        with connect(engine, scratch / "spill") as connection:
            try:
                data = file_data_set(connection, root, keys, scratch, version)
            except DeliveryRefused as error:
                # The files are linked into a folder of ours, of which nobody knows.
                raise FinopsError(f"{error.file or ', '.join(uris)}: {error.reason.replace(f'{root}/', '')}") from error
            return judge(connection, data, examples=examples)


def known_gaps(source: Source) -> dict[str, str]:
    """Column or rule -> why a source is known to break it: by its provider, by finops.yaml, or by its bill's mapping."""
    columns = absent_columns(source, VERSIONS)
    gaps = {name: f"{name} is a known gap of this provider" for name in columns}
    mapping = mapping_of(source)
    return gaps | (dict(mapping.exceptions) if mapping else {})


def judge_source(
    platform: Platform, source: Source, days: Iterable[date], version: str | None = None, examples: int = 3
) -> list[Finding]:
    """Judge the raw days of a source that the lake holds; a day without a raw file has no findings."""
    lake, wanted = platform.lake, sorted(days)
    findings: list[Finding] = []
    with (
        lake.workspace() as workspace,
        lent(platform.settings.engine, workspace / "spill") as connection,
    ):
        for at in range(0, len(wanted), DAYS_AT_ONCE):
            chunk = wanted[at : at + DAYS_AT_ONCE]
            for data in source_data_sets(connection, lake, source.name, chunk, version):
                findings += judge(connection, data, known_gaps(source), examples)
    return findings


def keep_judged(platform: Platform, source: Source, days: Iterable[date]) -> list[date]:
    """Judge those of these days whose rows, rules or known gaps are not those judged before; returns them.

    What came of a day is kept as a record in the lake, so that a day is judged once.
    """
    lake = platform.lake
    stamps = {day: _stamp(lake, source, day) for day in days}
    stale = [day for day, stamp in stamps.items() if (_kept(lake, source.name, day) or {}).get("stamp") != stamp]
    by_day: dict[date, list[Finding]] = {day: [] for day in stale}
    for finding in judge_source(platform, source, stale, examples=1):
        if finding.day in by_day:
            by_day[finding.day].append(finding)
    for day, found in by_day.items():
        record = {
            "stamp": stamps[day],
            "judged": sum(f.state != "not_judged" for f in found),
            "findings": [_as_json(f) for f in found if f.state in ("failed", "known_gap")],
        }
        lake.write_record(record, source.name, RECORDS, day.isoformat(), blind=True)
    return stale


def kept_findings(lake: Lake, source: str) -> pd.DataFrame:
    """What was kept of a source: source, then COLUMNS; broken rules by day, newest first.

    A day that breaks no rule has one row with the state `passed` and no rule, and how many rules were judged.
    """
    rows: list[dict[str, Any]] = []
    for name in reversed(lake.records(source, RECORDS)):
        day = date.fromisoformat(name)
        record = _kept(lake, source, day) or {}
        findings = [_from_json(entry, day) for entry in record.get("findings", ())]
        rows += _rows(findings) if findings else [{"charge_date": day, "state": "passed", "judged": record["judged"]}]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table = table.astype({"failing": "Int64", "judged": "Int64"})
    table.insert(0, "source", source)
    return table


def _stamp(lake: Lake, source: Source, day: date) -> str:
    totals = Ledger(lake, source.name).day_totals(day)
    return f"{rules_version()} {sorted(known_gaps(source))} {totals.fingerprint if totals else ''}"


def _kept(lake: Lake, source: str, day: date) -> dict[str, Any] | None:
    return lake.read_record(source, RECORDS, day.isoformat())


def _as_json(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule.id,
        "version": finding.rule.version,
        "state": finding.state,
        "judged": finding.judged,
        "failing": finding.failing,
        "examples": [asdict(e) for e in finding.examples],
        "reason": finding.reason,
    }


def _from_json(body: Mapping[str, Any], day: date) -> Finding:
    rule = next(r for r in rules_of(body["version"]) if r.id == body["rule"])
    examples = tuple(Example(**e) for e in body["examples"])
    return Finding(rule, day, body["state"], body["judged"], body["failing"], examples, body["reason"])


def findings_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Every finding as a row: COLUMNS."""
    return pd.DataFrame(_rows(findings), columns=COLUMNS)


def _rows(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "charge_date": f.day,
            "rule_id": f.rule.id,
            "focus_version": f.rule.version,
            "severity": f.rule.severity,
            "state": f.state,
            "failing": f.failing,
            "judged": f.judged,
            "column": f.rule.column,
            "says": f.rule.says,
            "example": str(f.examples[0]) if f.examples else "",
            "reason": f.reason,
            "reference": f"FOCUS {f.rule.version}, {f.rule.reference}",
        }
        for f in findings
    ]


def over_days(findings: Iterable[Finding]) -> list[Finding]:
    """One finding a rule and version: rows added over the days, the worst state, the first examples."""
    worst: tuple[State, ...] = ("failed", "known_gap", "passed", "not_judged")
    merged: dict[tuple[str, str], Finding] = {}
    for f in findings:
        key = (f.rule.id, f.rule.version)
        before = merged.get(key)
        if before is None:
            merged[key] = replace(f, day=None)
            continue
        merged[key] = Finding(
            rule=f.rule,
            day=None,
            state=min(before.state, f.state, key=worst.index),
            judged=before.judged + f.judged,
            failing=before.failing + f.failing,
            examples=before.examples or f.examples,
            reason=before.reason or f.reason,
        )
    return list(merged.values())


def breaks(findings: Iterable[Finding], severity: str = "error") -> list[Finding]:
    """The findings that count as broken: errors, with `severity` warning also warnings. Known gaps do not."""
    wanted = ("error", "warning") if severity == "warning" else ("error",)
    return [f for f in findings if f.state == "failed" and f.rule.severity in wanted]


def summary(findings: Iterable[Finding]) -> str:
    """One line: how many rules were judged, broken, known gaps, and not judged."""
    merged = over_days(findings)
    count = {state: sum(f.state == state for f in merged) for state in ("passed", "known_gap", "not_judged")}
    errors, warnings = len(breaks(merged)), len(breaks(merged, "warning"))
    versions = ", ".join(sorted({f.rule.version for f in merged})) or "of no version: there are no rows"
    return (
        f"FOCUS {versions}: {len(merged) - count['not_judged']} rules judged, {count['passed']} kept,"
        f" {errors} errors, {warnings - errors} warnings, {count['known_gap']} known gaps;"
        f" {count['not_judged']} cannot be judged"
    )


def write_junit(findings: Sequence[Finding], name: str, target: Path) -> None:
    """JUnit XML: a test suite a day, or a column where days are not told apart; a test case a rule.

    A broken rule of severity error is a failure. Warnings pass, with their text in system-out; known gaps and rules
    that cannot be judged are skipped, with the reason.
    """
    suites = ElementTree.Element("testsuites", name=name)
    grouped: dict[str, list[Finding]] = {}
    for finding in findings:
        group = finding.day.isoformat() if finding.day else finding.rule.column or "data set"
        grouped.setdefault(group, []).append(finding)
    totals = {"tests": 0, "failures": 0, "skipped": 0}
    for group, members in grouped.items():
        figures = {
            "tests": len(members),
            "failures": len(breaks(members)),
            "skipped": sum(f.state in ("known_gap", "not_judged") for f in members),
        }
        attributes = {"name": f"{name} {group}", "errors": "0"} | {k: str(v) for k, v in figures.items()}
        suite = ElementTree.SubElement(suites, "testsuite", attributes)
        for finding in members:
            _test_case(suite, finding, f"{name}.{group}")
        totals = {key: totals[key] + figures[key] for key in totals}
    for key, figure in totals.items():
        suites.set(key, str(figure))
    ElementTree.indent(suites)
    target.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(suites).write(target, encoding="utf-8", xml_declaration=True)


def _test_case(suite: ElementTree.Element, finding: Finding, group: str) -> None:
    rule = finding.rule
    case = ElementTree.SubElement(suite, "testcase", name=f"{rule.id} ({rule.version})", classname=group)
    told = [f"{finding.failing} of {finding.judged}: {rule.says} (FOCUS {rule.version}, {rule.reference})"]
    told += [f"  {example}" for example in finding.examples]
    text = "\n".join(_printable(line) for line in told)
    match finding.state:
        case "failed" if rule.severity == "error":
            ElementTree.SubElement(case, "failure", message=_printable(told[0]), type=rule.kind).text = text
        case "failed":
            ElementTree.SubElement(case, "system-out").text = f"warning: {text}"
        case "known_gap":
            ElementTree.SubElement(case, "skipped", message=f"known gap: {finding.reason}; {_printable(told[0])}")
        case "not_judged":
            ElementTree.SubElement(case, "skipped", message=finding.reason)
        case "passed":
            pass


def _printable(text: str) -> str:
    """Text without the control characters that XML cannot hold."""
    return "".join(c if c >= " " or c in "\t\n" else "\ufffd" for c in text)
