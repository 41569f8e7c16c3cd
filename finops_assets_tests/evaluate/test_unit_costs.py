"""What a unit costs: exact, by like days, of any selection; gaps are gaps."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from typer.testing import CliRunner

from finops_assets.base.errors import ConfigError
from finops_assets.cli.program import app
from finops_assets.cost.coverage import Covered, enter_coverage
from finops_assets.evaluate.allocation.metric import MetricError
from finops_assets.evaluate.unit_costs.figures import UNIT_COSTS, unit_costs
from finops_assets.evaluate.unit_costs.quantities import read_quantities
from finops_assets.settings.unit_costs import UnitMetrics
from finops_assets_tests.conftest import Site, focus_row
from finops_assets_tests.running import Graph

pytestmark = pytest.mark.slow

MakeSite = Callable[..., Site]
DAYS = ["2026-09-07", "2026-09-08", "2026-09-09"]  # Monday to Wednesday
UNITS = """
unit_metrics: units.csv
unit_costs:
  - {name: cost_per_order, metric: orders, cost: {ServiceCategory: Compute}}
  - {name: cost_per_call, metric: calls}
"""


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """Three days: core costs 3 a day for compute and 1 for storage, web 5 in all; on the last day nothing of core."""
    site = make_site(first_day="2026-09-07", extra=UNITS)
    rows = []
    for day in DAYS:
        amounts = [("core", "Compute", "3"), ("core", "Storage", "1")] if day != DAYS[2] else []
        for team, service, cost in [*amounts, ("web", "Compute", "5")]:
            tags = json.dumps({"team": team})
            rows.append(focus_row(day, EffectiveCost=cost, BilledCost="1", ServiceCategory=service, Tags=tags))
    site.put_csv("2026-09.csv", *rows)
    (site.folder / "finops.yaml").write_text(site.text)
    site.run_all(*DAYS)
    return site


def count(site: Site, *lines: str, header: str = "date,metric,quantity,team") -> None:
    (site.folder / "units.csv").write_text("\n".join([header, *lines]) + "\n")


def figures(site: Site) -> dict[tuple[str, str, str, str], tuple[object, ...]]:
    """(unit cost, whose, grain, first day) -> effective cost, quantity, of one, days, without quantity, without cost."""
    settings = site.platform.settings
    with site.platform.warehouse.reading() as connection:
        values = {name: d.values for name, d in settings.dimensions.items()}
        quantities = read_quantities(connection, UnitMetrics(file=site.folder / "units.csv"), list(values), values)
        table = unit_costs(connection, settings.unit_costs, quantities)
    assert set(table["currency"]) <= {"USD"}
    kept = ["effective_cost", "quantity", "effective_per_unit", "days", "days_without_quantity", "days_without_cost"]
    return {
        (r["unit_cost"], r["dimensions"] or "", r["grain"], str(r["period_start"])): tuple(r[name] for name in kept)
        for r in table.to_dict("records")
    }


CORE = '{"team": "core"}'


def test_cost_of_a_selection_by_the_quantity_of_its_days(site: Site) -> None:
    count(
        site,
        "2026-09-07,orders,2,core-team",
        "2026-09-08,orders,4,core",
        "2026-09-07,calls,7,",
        "2026-09-09,calls,0.5,",
    )
    found = figures(site)
    third = Decimal("0.333333333333333333")
    assert found["cost_per_order", CORE, "day", "2026-09-07"] == (3, 2, Decimal("1.5"), 1, 0, 0)
    assert found["cost_per_order", CORE, "day", "2026-09-08"] == (3, 4, Decimal("0.75"), 1, 0, 0)
    assert found["cost_per_order", CORE, "month", "2026-09-01"] == (6, 6, 1, 2, 0, 0)
    # The whole cost: 9 on Monday, 5 on Wednesday; of Tuesday there is no quantity, so its cost does not count.
    assert found["cost_per_call", "", "week", "2026-09-07"] == (
        14,
        Decimal("7.5"),
        Decimal("1.866666666666666667"),
        2,
        1,
        0,
    )
    assert found["cost_per_call", "", "day", "2026-09-08"] == (None, None, None, 0, 1, 0)
    assert found["cost_per_call", "", "day", "2026-09-09"] == (5, Decimal("0.5"), 10, 1, 0, 0)
    count(site, "2026-09-08,orders,9,core")
    assert figures(site)["cost_per_order", CORE, "day", "2026-09-08"][2] == third


def test_no_cost_is_zero_and_no_quantity_is_none(site: Site) -> None:
    count(site, "2026-09-08,orders,0,core", "2026-09-09,orders,5,core")
    found = figures(site)
    assert found["cost_per_order", CORE, "day", "2026-09-09"] == (0, 5, 0, 1, 0, 0), "the selection cost nothing"
    assert found["cost_per_order", CORE, "day", "2026-09-08"] == (3, 0, None, 1, 0, 0), "cost, and nothing to divide by"


def test_a_day_that_a_source_is_missing_from_does_not_count(site: Site) -> None:
    count(site, "2026-09-07,orders,2,core", "2026-09-08,orders,4,core")
    with site.platform.warehouse.writing() as connection, site.platform.warehouse.transaction(connection):
        held = {("bill", date(2026, 9, 8)): Covered("held", "late", "")}
        enter_coverage(connection, held, [])
    found = figures(site)
    assert found["cost_per_order", CORE, "day", "2026-09-08"] == (None, None, None, 0, 0, 1)
    assert found["cost_per_order", CORE, "month", "2026-09-01"] == (3, 2, Decimal("1.5"), 1, 0, 1)


def test_every_mistake_of_the_file_is_told(site: Site) -> None:
    count(
        site,
        "2026-9-7,orders,2,core",
        "2026-09-08,orders,-1,core",
        "2026-09-08,,1,core",
        "2026-09-09,calls,1,",
        "2026-09-09,calls,1,",
    )
    with pytest.raises(MetricError) as told:
        figures(site)
    text = str(told.value)
    assert "units.csv: 4 mistakes" in text
    for part in ("found '2026-9-7'", "found '-1'", "metric: is empty", "found calls of all on 2026-09-09 again"):
        assert part in text
    count(site, "1,2", header="date,amount")
    with pytest.raises(
        MetricError, match=r"amount: is not a known column \(allowed: date, metric, quantity, team, department\)"
    ):
        figures(site)


def test_settings_say_what_they_lack(make_site: MakeSite) -> None:
    for extra, said in (
        ("unit_costs: [{name: a, metric: orders}]\n", "needs unit_metrics"),
        ("unit_metrics: u.csv\nunit_costs: [{name: a, metric: o}, {name: a, metric: p}]\n", "the name a stands twice"),
        ("unit_metrics: u.csv\nunit_costs: [{name: a, metric: o, cost: {tema: x}}]\n", "did you mean 'team'"),
        ("unit_metrics: u.csv\nunit_costs: [{name: a, metric: o, cost: {commitments: unused}}]\n", "is no condition"),
    ):
        with pytest.raises(ConfigError, match=said):
            _ = make_site(extra=extra).platform


@pytest.mark.long
def test_the_asset_makes_it_and_the_report_shows_it(site: Site) -> None:
    count(site, "2026-09-07,orders,2,core", "2026-09-09,orders,4,core")
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(site.platform.settings, instance)
        assert graph.run(date(2026, 9, 7), date(2026, 9, 9)).success
        graph.publish(UNIT_COSTS)
        [made] = instance.fetch_materializations(dg.AssetKey(UNIT_COSTS), limit=5).records
    assert made.asset_materialization is not None
    assert made.asset_materialization.metadata["metrics that were never counted"].value == "calls"
    command = ["report", "units", "--grain", "month", "--format", "csv", "--config", str(site.folder / "finops.yaml")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    [row] = pd.read_csv(io.StringIO(done.stdout), dtype=str).to_dict("records")
    assert Decimal(row["effective_per_unit"]) == Decimal("0.5")
    assert (row["days"], row["days_without_quantity"]) == ("2", "1")
    assert "periods lack up to 1 days of orders and up to 0 of a source's cost" in " ".join(done.stderr.split())
    shown = CliRunner().invoke(app, [word if word != "csv" else "table" for word in command])
    assert "0.500000" in shown.stdout
    (site.folder / "units.csv").unlink()
    with dg.DagsterInstance.ephemeral() as instance:
        broken = Graph(site.platform.settings, instance)
        broken.run(date(2026, 9, 7), date(2026, 9, 9))
        with pytest.raises(dg.Failure, match=r"units\.csv: 1 mistake"):
            broken.publish(UNIT_COSTS)


def test_a_table_of_the_warehouse_holds_quantities_too(site: Site) -> None:
    with site.platform.warehouse.writing() as connection:
        connection.execute("CREATE SCHEMA own")
        connection.execute(
            "CREATE TABLE own.orders AS SELECT DATE '2026-09-07' AS date, 'orders' AS metric, 2 AS quantity, 1 AS id"
        )
        read = read_quantities(connection, UnitMetrics(table="own.orders"), ["team"], {})
        assert [(q.day, q.metric, q.of, q.amount) for q in read] == [(date(2026, 9, 7), "orders", (), 2)]
        with pytest.raises(MetricError, match="is not in the warehouse"):
            read_quantities(connection, UnitMetrics(table="own.calls"), ["team"], {})
    assert isinstance(site.folder, Path)
