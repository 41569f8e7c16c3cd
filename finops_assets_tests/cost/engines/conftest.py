"""A small estate, landed and attributed by DuckDB, whose results the other engines must reach."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.attribution.tag_sets import attribution
from finops_assets.cost.daily_tables import ROLLED, statements_on_facts
from finops_assets.cost.engines.elsewhere import Remote, rows_of, write_facts
from finops_assets.cost.engines.engine import Query
from finops_assets.cost.facts import build_facts, facts_stamp, release
from finops_assets.demo import Estate, EstateSpec, Incident
from finops_assets.demo.story import write_estate
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.judge.gates import facts as facts_gates
from finops_assets.judge.gates import rollup as rollup_gates
from finops_assets.platform import Platform
from finops_assets.settings.sources import Source
from finops_assets.storage.day_files import facts_relation, raw_relation
from finops_assets.storage.lake import Key, Layer
from finops_assets_tests.conftest import csv_text, focus_row
from finops_assets_tests.running import PROVIDERS, SOURCES, Graph, Run, persistent_instance, settings_for

DAYS = [date(2026, 9, d) for d in (1, 2, 3)]
REQUIRED = ["department", "team"]
# Of the demonstration; Azure lost its tags on the 14th.
FIRST, LAST, UNTAGGED = date(2026, 10, 12), date(2026, 10, 15), date(2026, 10, 14)
OF_DEMO = [date(2026, 10, d) for d in range(12, 16)]
TABLES = ("daily_cost_by_team", "reported_cost", "reported_accruals", "daily_commitments", "daily_corrections")
WHEN = ("reported_from", "reported_to")
# Beyond tags: a rule on a column that fills, and one that comes before the tags.
RULES = """
attribution_rules:
  - name: storage_is_platforms
    when: {ServiceCategory: Storage, source: gcp}
    set: {department: platform}
  - name: networks_belong_to_one_team
    when: {ServiceCategory: "Net*"}
    set: {team: networking}
    overrides_tags: true
"""
# What an estate of three days does not have: a commitment's purchase, its use and what was not used, a correction, a
# yearly licence, a period that never ends.
_OF = {"CommitmentDiscountId": "sp-1", "CommitmentDiscountName": "plan", "CommitmentDiscountType": "Savings Plan"}
_NOTHING = dict.fromkeys((*_OF, "CommitmentDiscountStatus"), "")
SPECIAL = [
    focus_row(**(_NOTHING | changes))
    for changes in (
        _OF | {"ChargeCategory": "Purchase", "EffectiveCost": "0", "ChargePeriodEnd": "2027-09-01T10:00:00Z"},
        _OF | {"CommitmentDiscountStatus": "Used", "BilledCost": "0", "EffectiveCost": "0.333333333333333333"},
        _OF | {"CommitmentDiscountStatus": "Unused", "BilledCost": "0", "ListCost": ""},
        {"ChargeClass": "Correction", "EffectiveCost": "-0.000000000000000001"},
        {"EffectiveCost": "1000.000000000000000001", "ChargePeriodEnd": "2027-09-01T10:00:00Z"},
        {"ChargePeriodEnd": "2099-01-01T00:00:00Z"},
    )
]


def statements(rules: Rules) -> dict[str, tuple[Layer, Query]]:
    """Everything that is asked of raw days and facts, by name."""
    found: dict[str, tuple[Layer, Query]] = {
        "raw totals": ("raw", facts_gates.totals_query),
        "facts totals": ("facts", facts_gates.totals_query),
        "untagged": ("facts", lambda facts: facts_gates.shares_query(facts, REQUIRED)),
        "rollup gate": ("facts", rollup_gates.facts_totals_query),
        "long charges gate": ("facts", rollup_gates.long_charges_query),
    }
    return found | {name: ("facts", query) for name, query in statements_on_facts(rules, PROVIDERS).items()}


@dataclass(frozen=True)
class Expected:
    """DuckDB's results, as sorted rows: the facts, and of each statement."""

    platform: Platform
    keys: list[Key]
    facts: list[tuple[Any, ...]]
    found: dict[str, list[tuple[Any, ...]]]

    def copied_to(self, root: Path) -> Platform:
        """The platform with its lake in a folder of its own, to be changed."""
        shutil.copytree(self.platform.lake.root.parent, root, dirs_exist_ok=True)
        return _platform(root)

    def reached_by(self, engine: Remote, p: Platform) -> None:
        """Facts, rollup and the figures of the gates, on another engine: the same to the last digit."""
        resolved = attribution(p.lake, p.rules, p.source_names)
        stamps = {key: facts_stamp(p.lake, p.rules, *key) for key in self.keys}
        write_facts(engine, p.lake, p.rules, resolved, stamps)
        # A day that is built again is replaced, not added to.
        again = ("azure", DAYS[0])
        write_facts(engine, p.lake, p.rules, resolved, {again: stamps[again]})
        # Of an engine that writes the lake's own files they wait for their gates; others have tables of their own.
        release(p.lake, self.keys)
        for name, (layer, query) in statements(p.rules).items():
            assert ordered(rows_of(engine, layer, self.keys, query)) == self.found[name], name


def ordered(rows: Any) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in rows), key=repr)


def facts_rows(connection: duckdb.DuckDBPyConnection, facts: str) -> list[tuple[Any, ...]]:
    """All rows, sorted, with their columns by name: each engine writes them in an order of its own."""
    names = sorted(name for name, *_ in connection.execute(f"DESCRIBE FROM {facts}").fetchall())
    return ordered(connection.execute(f"SELECT {', '.join(names)} FROM {facts}").fetchall())


def _platform(root: Path) -> Platform:
    settings = settings_for(root, DAYS[0], RULES)
    saas = Source(name="saas", uri=str(root / "saas"), layout="files")
    return Platform(settings.model_copy(update={"sources": (*settings.sources, saas)}))


@dataclass(frozen=True)
class Demonstration:
    """Where the demonstration's estate lies, and what DuckDB makes of it."""

    folder: Path
    duckdb: Graph
    run: Run

    def graph(self, name: str, instance: dg.DagsterInstance, run_on: str | None = None) -> Graph:
        """A platform of its own on the estate."""
        return _graph(self.folder, name, instance, run_on)


def _graph(folder: Path, name: str, instance: dg.DagsterInstance, run_on: str | None = None) -> Graph:
    root = folder / name
    root.mkdir()
    (root / "estate").symlink_to(folder / "estate")
    return Graph(settings_for(root, FIRST, f"engine: {{run_on: '{run_on}'}}" if run_on else ""), instance)


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstration]:
    """The demonstration's days from `FIRST` to before `LAST`, through the graph on DuckDB."""
    folder = tmp_path_factory.mktemp("site")
    write_estate(folder / "estate")
    with persistent_instance(folder / "history") as instance:
        graph = _graph(folder, "duckdb", instance)
        yield Demonstration(folder, graph, graph.run(FIRST, LAST))


@pytest.fixture
def other_history(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with persistent_instance(tmp_path / "history") as instance:
        yield instance


def held(graph: Graph) -> dict[str, list[tuple[Any, ...]]]:
    """Every table that a day of facts leads to, without the time at which it was written; and the facts."""
    found = {}
    with graph.platform.warehouse.reading() as connection:
        for table in TABLES:
            columns = [name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall() if name not in WHEN]
            rows = connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
            found[table] = ordered(rows)
            kinds = connection.execute(f"DESCRIBE {table}").fetchall()
            found[f"{table}, types"] = [row[:2] for row in kinds]
    with duckdb.connect() as connection:
        files = graph.platform.lake.day_files("facts", SOURCES, OF_DEMO)
        found["facts"] = facts_rows(connection, facts_relation(files))
    return found


def judged(run: Run) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    """Every verdict but for who computed it."""
    records = run.graph.instance.get_records_for_run(
        run.result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION, limit=1000
    ).records
    events = [r.event_log_entry.dagster_event for r in records]
    return {
        (e.asset_key.to_user_string(), e.check_name, str(e.partition)): (
            e.passed,
            e.description,
            {name: value for name, value in e.metadata.items() if name != "engine"},
        )
        for event in events
        if event
        for e in [event.asset_check_evaluation_data]
    }


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    root = tmp_path_factory.mktemp("engines")
    incident = Incident("azure", DAYS[1], "untagged")
    Estate(EstateSpec(DAYS[0], DAYS[-1], 3000, incidents=(incident,)), root / "estate").deliver_all()
    (root / "saas").mkdir()
    (root / "saas" / "bill.csv").write_text(csv_text(SPECIAL))
    p = _platform(root)
    for source in p.settings.sources:
        land_source(p.lake, p.settings.engine, source, p.settings.first_day)
        compose_days(p.lake, p.settings.engine, source, DAYS)
    build_facts(p.lake, p.settings.engine, p.rules, p.source_names, DAYS)
    relations = {
        "raw": raw_relation(p.lake.day_files("raw", p.source_names, DAYS)),
        "facts": facts_relation(p.lake.day_files("facts", p.source_names, DAYS)),
    }
    with duckdb.connect() as connection:

        def rows(query: str) -> list[tuple[Any, ...]]:
            return ordered(connection.execute(query).fetchall())

        result = Expected(
            p,
            [key for key in p.keys(DAYS) if p.lake.holds(p.lake.day_file("facts", *key))],
            facts_rows(connection, relations["facts"]),
            {name: rows(query(relations[layer])) for name, (layer, query) in statements(p.rules).items()},
        )
    assert len(result.facts) > 2900
    assert any(row[3] == "__untagged__" for row in result.found[ROLLED])
    assert any(row[3] == "networking" for row in result.found[ROLLED])
    assert all(result.found.values()), "a statement that finds nothing shows nothing"
    return result
