"""One estate told in every dialect of FOCUS gives the same facts, to the last digit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from finops_assets.base.period import days_between
from finops_assets.cost.facts import build_facts
from finops_assets.demo import Estate, EstateSpec
from finops_assets.demo.retold import DIALECTS, Dialect, retell
from finops_assets.focus.specification import columns
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.judge.reconciliation.overlap import compare_sources
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.ledger import Generation, Ledger
from finops_assets_tests.running import DIMENSIONS

FIRST, END = date(2026, 9, 1), date(2026, 9, 11)
REFERENCE = DIALECTS[0]
ADDED = "added by the test"
DERIVED = ("department", "department_key", "team", "team_key", "environment", "environment_key", "cost_center")
NAMES = [dialect.name for dialect in DIALECTS]
SHORT = ("azure", "spreadsheet")
"""Those that differ in versions and types, and in how everything is written: each other one lands a file more."""
others = pytest.mark.parametrize(
    "dialect",
    [pytest.param(d, id=d.name, marks=() if d.name in SHORT else pytest.mark.long) for d in DIALECTS[1:]],
)


@dataclass
class Told:
    """The platform that holds the estate once per dialect that was asked for, and the estate."""

    platform: Platform
    estate: Estate
    connection: duckdb.DuckDBPyConnection
    root: Path
    landed: dict[str, Generation] = field(default_factory=dict)

    def in_dialect(self, dialect: Dialect) -> Generation:
        """Told, landed and made facts of, once."""
        if dialect.name not in self.landed:
            retell(self.connection, "charges", dialect, self.root / dialect.name)
            lake, engine, days = self.platform.lake, self.platform.settings.engine, days_between(FIRST, END)
            source = self.platform.settings.source(dialect.name)
            [landed] = land_source(lake, engine, source, FIRST)
            assert landed.state == "live", landed.reason
            compose_days(lake, engine, source, days)
            build_facts(lake, engine, self.platform.rules, [dialect.name], days)
            self.landed[dialect.name] = landed
        return self.landed[dialect.name]

    def facts(self, dialect: Dialect) -> str:
        self.in_dialect(dialect)
        days = days_between(FIRST, END)
        return facts_relation(self.platform.lake.day_files("facts", [dialect.name], days))

    def rows(self, dialect: Dialect, names: list[str]) -> Counter[tuple[Any, ...]]:
        listed = ", ".join(f'"{name}"' for name in names)
        return Counter(self.connection.execute(f"SELECT {listed} FROM {self.facts(dialect)}").fetchall())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    root = tmp_path_factory.mktemp("dialects")
    with Estate(EstateSpec(FIRST, days_between(FIRST, END)[-1], 3_000), root / "estate") as estate:
        estate.deliver("aws", "2026-09")
        sources = "".join(f"  - {{name: {name}, uri: {name}, layout: files}}\n" for name in NAMES)
        settings = parse_settings(
            f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nsources:\n{sources}{DIMENSIONS}",
            root / "finops.yaml",
        )
        with duckdb.connect() as connection:
            connection.execute("SET timezone = 'UTC'")
            _charges(connection, root / "estate" / "aws")
            yield Told(Platform(settings), estate, connection, root)


def _charges(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """The estate's charges with exact amounts, as a table."""
    scan = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = false)"
    exact = [
        f"CAST(CAST({name} AS VARCHAR) AS DECIMAL(38, 18)) AS {name}"
        for name, column in columns().items()
        if column.type == "decimal" and "1.2" in column.level
    ]
    times = [f"CAST({name} AS TIMESTAMP) AS {name}" for name, column in columns().items() if column.type == "datetime"]
    connection.execute(f"CREATE TABLE charges AS SELECT * REPLACE ({', '.join(exact + times)}) FROM {scan}")
    # What a small estate has none of: amounts in groups of thousands, and a correction.
    connection.execute(
        f"""
        INSERT INTO charges SELECT * REPLACE (1234567.8901 AS BilledCost, -54321.0000000001 AS EffectiveCost,
            'Correction' AS ChargeClass, '{ADDED}' AS ChargeDescription) FROM charges WHERE Tags IS NOT NULL LIMIT 2
        """
    )


def test_what_is_told_is_the_estate(told: Told) -> None:
    """The reference's facts are the truth: rows, money and owners."""
    truth = {
        tuple(row[name] for name in ("charge_date", "department", "team", "environment", "ServiceCategory")): (
            row["row_count"], row["billed_cost"], row["effective_cost"],
        )
        for row in told.estate.truth().to_pylist()
        if row["source"] == "aws"
    }  # fmt: skip
    found = told.connection.execute(
        "SELECT charge_date, department, team, environment, ServiceCategory, count(*), sum(BilledCost), sum(EffectiveCost)"
        f" FROM {told.facts(REFERENCE)} WHERE ChargeDescription <> '{ADDED}' GROUP BY 1, 2, 3, 4, 5"
    ).fetchall()
    assert len(truth) > 300
    assert {tuple(row[:5]): tuple(row[5:]) for row in found} == truth


@others
def test_a_dialect_gives_the_same_facts_to_the_last_digit(told: Told, dialect: Dialect) -> None:
    # ProviderName and PublisherName are as written, and not in every version; the participants that follow are.
    names = [n for n in REFERENCE.focus_columns if n in dialect.focus_columns]
    names = sorted({*names, "ServiceProviderName", "HostProviderName", "Tags"})
    expected, found = told.rows(REFERENCE, [*names, *DERIVED]), told.rows(dialect, [*names, *DERIVED])
    assert len(names) >= 36
    assert sum(found.values()) == sum(expected.values()) > 1_000
    assert found - expected == Counter()
    assert expected - found == Counter()


@others
def test_reconciling_a_dialect_with_another_validates_every_day(told: Told, dialect: Dialect) -> None:
    told.in_dialect(REFERENCE)
    told.in_dialect(dialect)
    found = compare_sources(told.platform, REFERENCE.name, dialect.name, days_between(FIRST, END))
    assert len(found.validated) == 10
    assert found.reconciles
    assert sum(found.units["billed_difference"]) == sum(found.units["effective_difference"]) == Decimal(0)


REPAIRED = {
    "aws": set(),
    "gcp": set(),
    "focus_1_3": set(),
    "spaced_nulls": {"time_spelling", "null_spelling"},
    "folded": {"closed_value_spelling"},
    "azure": {"time_spelling"},
    "oci": {"time_spelling", "dialect", "closed_value_renamed"},
}
AT_LEAST = {"spreadsheet": {"slashed_date", "number_spelling", "null_spelling"}}


@pytest.mark.parametrize(
    "dialect",
    [
        pytest.param(d, id=d.name, marks=() if d.name in (REFERENCE.name, *SHORT) else pytest.mark.long)
        for d in DIALECTS
        if d.name in REPAIRED | AT_LEAST
    ],
)
def test_what_had_to_be_repaired_is_counted(told: Told, dialect: Dialect) -> None:
    """Same facts, but not in silence: how each dialect writes is in its ledger."""
    told.in_dialect(dialect)
    [landed] = Ledger(told.platform.lake, dialect.name).all_live()
    rules = {repair.partition(" ")[0] for repair in landed.repairs}
    assert rules == REPAIRED.get(dialect.name, rules)
    assert rules >= AT_LEAST.get(dialect.name, set())
