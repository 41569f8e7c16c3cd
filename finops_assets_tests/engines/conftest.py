"""A small estate, landed and attributed by DuckDB, whose results the other engines must reach."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import pytest

from finops_assets.days import compose_days
from finops_assets.engines.transformation import (
    Engine,
    Key,
    build_facts,
    conserved_figures,
    rollup,
    rollup_figures,
    untagged_figures,
)
from finops_assets.estate import Estate, EstateSpec, Incident
from finops_assets.facts import build_facts as build_with_duckdb
from finops_assets.facts import facts_relation, raw_relation
from finops_assets.gates import facts as facts_gates
from finops_assets.gates import rollup as rollup_gates
from finops_assets.landing import land_source
from finops_assets.platform import Platform
from finops_assets.rollup import rollup_query
from finops_assets_tests.running import PROVIDERS, settings_for

DAYS = [date(2026, 9, d) for d in (1, 2, 3)]
REQUIRED = ["department", "team"]


@dataclass(frozen=True)
class Expected:
    """DuckDB's results, as sorted rows."""

    platform: Platform
    keys: list[Key]
    facts: list[tuple[Any, ...]]
    rollup: list[tuple[Any, ...]]
    by_source: list[tuple[Any, ...]]
    raw_totals: list[tuple[Any, ...]]
    shares: list[tuple[Any, ...]]
    facts_totals: list[tuple[Any, ...]]

    def reached_by(self, engine: Engine) -> None:
        """Facts, rollup and the figures of the gates, on another engine: the same to the last digit."""
        p = self.platform
        assert build_facts(engine, p.lake, p.rules, p.source_names, DAYS) == self.keys
        # A day that is built again is replaced, not added to.
        assert build_facts(engine, p.lake, p.rules, ["azure"], DAYS[:1]) == [("azure", DAYS[0])]
        for by_source, expected in ((False, self.rollup), (True, self.by_source)):
            found = rollup(engine, p.rules, PROVIDERS, self.keys, by_source)
            assert ordered(zip(*(c.to_pylist() for c in found.columns))) == expected
        raw, facts = conserved_figures(engine, self.keys)
        assert raw == facts
        assert flat(raw) == self.raw_totals
        assert flat(untagged_figures(engine, REQUIRED, self.keys)) == self.shares
        assert flat(rollup_figures(engine, self.keys)) == self.facts_totals


def ordered(rows: Any) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in rows), key=repr)


def flat(figures: dict[tuple[Any, ...], tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return ordered((*key, *values) for key, values in figures.items())


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    root = tmp_path_factory.mktemp("engines")
    incident = Incident("azure", DAYS[1], "untagged")
    Estate(EstateSpec(DAYS[0], DAYS[-1], 3000, incidents=(incident,)), root / "estate").deliver_all()
    p = Platform(settings_for(root, DAYS[0]))
    for source in p.settings.sources:
        land_source(p.lake, p.settings.engine, source, p.settings.first_day)
        compose_days(p.lake, p.settings.engine, source, DAYS)
    build_with_duckdb(p.lake, p.settings.engine, p.rules, p.source_names, DAYS)
    keys = [(s, d) for d in DAYS for s in p.source_names]
    facts = facts_relation(p.lake.day_files("facts", p.source_names, DAYS))
    raw = raw_relation(p.lake.day_files("raw", p.source_names, DAYS))
    with duckdb.connect() as connection:

        def rows(query: str) -> list[tuple[Any, ...]]:
            return ordered(connection.execute(query).fetchall())

        result = Expected(
            p,
            keys,
            rows(f"FROM {facts}"),
            rows(rollup_query(p.rules, facts, PROVIDERS)),
            rows(rollup_query(p.rules, facts, PROVIDERS, by_source=True)),
            rows(facts_gates.totals_query(raw)),
            rows(facts_gates.shares_query(facts, REQUIRED)),
            rows(rollup_gates.facts_totals_query(facts)),
        )
    assert len(result.facts) > 2900
    assert any(row[3] == "__untagged__" for row in result.rollup)
    return result
