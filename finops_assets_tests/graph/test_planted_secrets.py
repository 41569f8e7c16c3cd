"""Prompts, answers and keys that stand in a vendor's answers and errors are nowhere afterwards: not in the lake with its kept
answers, the warehouse, the published copy, logs, Dagster's history, alerts."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow.parquet as pq
import pytest

from finops_assets.base.sql import identifier
from finops_assets.graph.sensors.alerts import tick
from finops_assets.ingest.vendors.fetch import APIS
from finops_assets.settings.load import parse_settings
from finops_assets_tests.alerts.test_alerts import http_server
from finops_assets_tests.running import Graph, persistent_instance
from finops_assets_tests.vendors import APPLICATION_KEY, KEY, Costs, Statements, of_one_day, served

pytestmark = pytest.mark.long
PROMPT, ANSWER, SECRET = "planted-prompt-tell-me", "planted-answer-i-say", "sk-proj-plantedSecret0123456789"
OPENLY = "openly told"
"""Stands where it may: what finds nothing of the others has to find this."""
PLANTED = {
    "prompt": PROMPT,
    "messages": [{"role": "user", "content": PROMPT}],
    "response": {"choices": [{"message": {"content": ANSWER}}]},
    "proxy_server_request": json.dumps({"body": {"messages": [PROMPT]}, "authorization": SECRET}),
    "api_key": SECRET,
    "application_key": APPLICATION_KEY,
    "user_id": PROMPT,
}
QUOTED = json.dumps({"error": {"message": f"{SECRET} may not ask {PROMPT}: {ANSWER}", "type": PROMPT, "code": SECRET}})
BROKEN = "SELECT source, rule_id, example FROM reports.conformance WHERE state = 'failed' AND severity = 'error'"
FIRST = date(2026, 10, 5)
Errors = list[tuple[int, dict[str, str], str]]
REFUSALS: tuple[Errors, ...] = (
    [(400, {}, QUOTED)],
    [(401, {}, f"{KEY} {APPLICATION_KEY} are not taken: {PROMPT} {SECRET}")],
    [(200, {}, f"<html>{PROMPT} {ANSWER} {SECRET}</html>")],
    [(302, {"location": f"http://127.0.0.1:9/?{SECRET}"}, PROMPT)],
    [(200, {}, json.dumps({PROMPT: SECRET, "data": ANSWER}))],
)


@pytest.fixture
def vendors(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Costs | Statements]]:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    monkeypatch.setenv("APPLICATION_KEY", APPLICATION_KEY)
    monkeypatch.setattr("finops_assets.ingest.vendors.statements.SECONDS_BETWEEN", 0)
    made: dict[str, Costs | Statements] = {kind: of_one_day(kind, FIRST, f"{OPENLY} {SECRET}") for kind in APIS}
    with ExitStack() as servers:
        for vendor in made.values():
            vendor.planted = PLANTED
            # Asked again: the first time it quotes what it should not.
            vendor.first = [(500, {}, QUOTED)]
            servers.enter_context(served(vendor))
        yield made


def graph_of(root: Path, vendors: Mapping[str, Costs | Statements], instance: dg.DagsterInstance, hook: str) -> Graph:
    needed = {
        "github": ", account: acme, seats: true",
        "databricks": ", warehouse: wh1",
        "snowflake": ", warehouse: wh1",
        "datadog": ", application_key_env: APPLICATION_KEY",
    }
    sources = "".join(
        f"  - {{name: {kind}, uri: exports/{kind}, layout: files,"
        f" fetch: {{vendor: {kind}, key_env: VENDOR_KEY, url: '{vendor.url}'{needed.get(kind, '')}}}}}\n"
        for kind, vendor in vendors.items()
    )
    text = (
        f"first_day: {FIRST:%Y-%m-01}\nlake: lake\nwarehouse: warehouse.duckdb\npublished: published.duckdb\n"
        f"sources:\n{sources}"
        f"dimensions:\n  team: {{keys: [team]}}\nalerts:\n  channels:\n    - {{kind: webhook, url: '{hook}'}}\n"
    )
    return Graph(parse_settings(text, root / "finops.yaml"), instance)


def holding(root: Path, text: str) -> list[str]:
    """The files below `root` in which a text stands, with what is compressed in them looked through; which it is by the suffix."""
    found = []
    for file in sorted(f for f in root.rglob("*") if f.is_file()):
        if file.suffix == ".parquet":
            content = str(pq.read_table(file).to_pylist()) + str(pq.read_schema(file).metadata)
        elif file.suffix == ".duckdb":
            content = tables_of(file)
        else:
            content = file.read_bytes().decode(errors="replace")
        if text in content:
            found.append(file.relative_to(root).as_posix())
    return found


def tables_of(file: Path) -> str:
    with duckdb.connect(str(file), read_only=True) as connection:
        tables = connection.execute("SELECT table_schema, table_name FROM information_schema.tables").fetchall()
        return "".join(
            str(connection.execute(f"SELECT * FROM {identifier(schema)}.{identifier(name)}").fetchall())
            for schema, name in tables
        )


def test_what_is_planted_in_answers_and_errors_is_nowhere(
    vendors: dict[str, Costs | Statements],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("finops_assets.ingest.vendors.asking.random.uniform", lambda *_: 0)
    caplog.set_level(logging.INFO)
    errors: list[str] = []
    with http_server() as inbox, persistent_instance(tmp_path / "dagster") as instance:
        graph = graph_of(tmp_path, vendors, instance, inbox.url)
        assert graph.run(FIRST).success
        graph.publish()
        with graph.platform.warehouse.reading() as connection:
            broken = connection.execute(BROKEN).fetchall()
        assert broken == [], "mappings say what their vendor leaves out"
        cursor, _ = tick(graph.platform, instance, None, datetime.now(UTC), {}, errors.append)
        for turn in range(2):
            # In each turn each vendor refuses in another way, and all ways are there.
            for number, (kind, vendor) in enumerate(vendors.items(), turn):
                vendor.first = list(REFUSALS[number % len(REFUSALS)])
                os.utime(tmp_path / "exports" / kind / ".answers" / f"{FIRST:%Y-%m}", (0, 0))
            assert not graph.run(FIRST).success
            assert not [kind for kind, vendor in vendors.items() if vendor.first], "all were asked"
        tick(graph.platform, instance, cursor, datetime.now(UTC), {}, errors.append)
        told = json.dumps(inbox.taken)
    assert all(way in told for way in ("HTTP 400", "HTTP 401", "no JSON", "HTTP 302", "not as it is described")), (
        "alerts"
    )
    places = holding(tmp_path, OPENLY)
    for kind in vendors:
        files = {f"exports/{kind}/2026-10.csv", f"exports/{kind}/.answers/2026-10/001.json"}
        assert files <= {*places}, kind
        assert [p for p in places if p.startswith("lake/") and kind in p], f"or nothing of {kind} would be found"
    assert "published.duckdb" in places
    assert "warehouse.duckdb" in holding(tmp_path, "__untagged__")
    assert [p for p in holding(tmp_path, "HTTP 400") if p.startswith("dagster/")], "and so is its history"
    said = "\n".join([caplog.text, told, *errors])
    for planted in (PROMPT, ANSWER, SECRET, KEY, APPLICATION_KEY):
        assert holding(tmp_path, planted) == []
        assert planted not in said
