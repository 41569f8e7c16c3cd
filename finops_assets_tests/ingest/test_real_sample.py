"""The official FOCUS 1.0 sample, 1,000 real rows with all their oddities, through the whole graph."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import dagster as dg
import duckdb
import pytest

from finops_assets.settings.load import parse_settings
from finops_assets.storage.ledger import Ledger
from finops_assets_tests.places import SHARED
from finops_assets_tests.running import Graph, Run

SAMPLE = SHARED / "data" / "focus_sample_1_0.csv"
FIRST, LAST = date(2024, 9, 1), date(2024, 9, 30)

pytestmark = pytest.mark.skipif(not SAMPLE.is_file(), reason=f"the FOCUS sample is not at {SAMPLE.name}")

CONFIG = f"""
first_day: {FIRST}
lake: lake
warehouse: warehouse.duckdb
published: published.duckdb
sources:
  - {{name: sample, uri: {SAMPLE}, layout: files}}
dimensions:
  department: {{keys: [business_unit]}}
  environment: {{keys: [environment, env]}}
  team: {{keys: [application]}}
tag_policy:
  required: [department, environment]
  thresholds:
    department: {{warn_above: 20, block_above: 100}}
    environment: {{warn_above: 20, block_above: 100}}
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Graph, Run]]:
    root = tmp_path_factory.mktemp("sample")
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(parse_settings(CONFIG, root / "finops.yaml"), instance)
        run = graph.run(FIRST, LAST)
        graph.platform.warehouse.publish(graph.platform.lake, graph.settings.dimensions)
        yield graph, run


def test_september_is_exact_to_the_last_digit(ran: tuple[Graph, Run]) -> None:
    graph, run = ran
    assert run.success, run.failure()
    with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
        by_provider = dict(
            connection.execute("SELECT provider, sum(billed_cost) FROM daily_cost_by_team GROUP BY 1").fetchall()
        )
        totals = connection.execute(
            "SELECT sum(billed_cost), sum(row_count), count(DISTINCT charge_date) FROM daily_cost_by_team"
        ).fetchone()
    assert by_provider == {
        "AWS": Decimal("18.0066386184"),
        "Microsoft": Decimal("1.97651418586"),
        "Oracle": Decimal("0.53707392473"),
    }
    assert totals == (Decimal("20.52022672899"), 1000, 30)


def test_oddities_are_handled_or_reported(ran: tuple[Graph, Run]) -> None:
    graph, run = ran
    [generation] = Ledger(graph.platform.lake, "sample").all_live()
    assert generation.focus_version == "1.0"
    in_rows = {
        name: rows for name, rows in generation.repairs.items() if name.partition("_")[0] not in ("null", "time")
    }
    assert in_rows == {"closed_value_spelling ChargeFrequency": 7}
    # 942 rows of AWS, 51 of Microsoft and 7 of Oracle write times with a space, and most nulls as the word.
    assert generation.repairs["time_spelling ChargePeriodStart"] == 1000
    assert generation.repairs["null_spelling ContractedCost"] == 7
    gaps = {v.metadata["known_gaps"].value for v in run.verdicts("raw/sample:conforms").values()}
    assert "ContractedCost is null in 1 row" in gaps
    with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
        odd = connection.execute(
            "SELECT count(*) FROM cloud_cost_facts WHERE SubAccountName = 'NULL' OR ResourceId = 'NULL' OR Tags = 'NULL'"
        ).fetchone()
        environments = connection.execute(
            "SELECT environment, environment_key, count(*) FROM cloud_cost_facts WHERE environment IS NOT NULL"
            " GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        spaced = connection.execute(
            "SELECT count(*) FROM cloud_cost_facts WHERE contains(Tags, '\" org\":')"
        ).fetchone()
    assert odd == (0,)
    assert environments == [("dev", "environment", 426), ("prod", "env", 42), ("prod", "environment", 234)]
    assert spaced == (23,)


def test_gates_name_what_is_untagged(ran: tuple[Graph, Run]) -> None:
    _, run = ran
    verdicts = run.verdicts("cloud_cost_facts:untagged_below_warning")
    assert len(verdicts) == 30
    warned = [v for v in verdicts.values() if not v.passed]
    assert warned
    assert all(v.severity is dg.AssetCheckSeverity.WARN for v in warned)
