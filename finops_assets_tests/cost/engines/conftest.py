"""A small estate, landed and attributed by DuckDB, whose results the other engines must reach."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import pytest

from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.attribution.tag_sets import attribution
from finops_assets.cost.daily_tables import ROLLED, statements_on_facts
from finops_assets.cost.engines.elsewhere import Remote, rows_of, write_facts
from finops_assets.cost.engines.engine import Query
from finops_assets.cost.facts import build_facts, facts_stamp, release
from finops_assets.demo import Estate, EstateSpec, Incident
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.judge.gates import facts as facts_gates
from finops_assets.judge.gates import rollup as rollup_gates
from finops_assets.platform import Platform
from finops_assets.settings.sources import Source
from finops_assets.storage.day_files import facts_relation, raw_relation
from finops_assets.storage.lake import Key, Layer
from finops_assets_tests.conftest import csv_text, focus_row
from finops_assets_tests.running import PROVIDERS, settings_for

DAYS = [date(2026, 9, d) for d in (1, 2, 3)]
REQUIRED = ["department", "team"]
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

    def reached_by(self, engine: Remote) -> None:
        """Facts, rollup and the figures of the gates, on another engine: the same to the last digit."""
        p = self.platform
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


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    root = tmp_path_factory.mktemp("engines")
    incident = Incident("azure", DAYS[1], "untagged")
    Estate(EstateSpec(DAYS[0], DAYS[-1], 3000, incidents=(incident,)), root / "estate").deliver_all()
    (root / "saas").mkdir()
    (root / "saas" / "bill.csv").write_text(csv_text(SPECIAL))
    settings = settings_for(root, DAYS[0], RULES)
    saas = Source(name="saas", uri=str(root / "saas"), layout="files")
    p = Platform(settings.model_copy(update={"sources": (*settings.sources, saas)}))
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
