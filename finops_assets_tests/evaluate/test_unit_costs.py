"""What a unit costs: exact, by like days, of any selection; gaps are gaps."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from typer.testing import CliRunner

from finops_assets.base.errors import ConfigError
from finops_assets.cli.program import app
from finops_assets.cost.coverage import Covered, enter_coverage
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.evaluate.allocation.metric import MetricError
from finops_assets.evaluate.unit_costs.figures import UNIT_COSTS, over_most, unit_costs, unusual_lately
from finops_assets.evaluate.unit_costs.quantities import read_quantities
from finops_assets.evaluate.unit_costs.unusual import mark_unusual
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.platform import Platform
from finops_assets.settings.anomalies import Anomalies
from finops_assets.settings.load import parse_settings
from finops_assets.settings.unit_costs import UnitMetrics
from finops_assets_tests.conftest import Site, csv_text, focus_row
from finops_assets_tests.running import Graph

pytestmark = pytest.mark.slow

D = Decimal
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
    return three_days(make_site(first_day="2026-09-07", extra=UNITS))


def three_days(site: Site) -> Site:
    """Three days: core costs 3 a day for compute and 1 for storage, web 5 in all; on the last day nothing of core."""
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
        table = unit_costs(connection, settings.unit_costs, quantities, settings.anomalies).frame()
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


def test_a_source_that_bills_for_others_does_not_take_a_day_from_the_cost_of_a_provider(make_site: MakeSite) -> None:
    days = [date(2026, 9, 7), date(2026, 9, 8)]
    extra = """
unit_metrics: units.csv
unit_costs:
  - {name: ours, metric: orders, cost: {provider: Ours}}
  - {name: all, metric: orders}
"""
    site = make_site(first_day="2026-09-07", extra=extra)
    two = "[{name: bill, uri: exports, layout: files}, {name: other, uri: others, layout: files}]"
    (site.folder / "others").mkdir()
    text = re.sub(r"sources: \[.*\]", f"sources: {two}", site.text)
    site.__dict__["platform"] = platform = Platform(parse_settings(text, site.folder / "finops.yaml"))
    site.put_csv("a.csv", *(focus_row(str(day), ProviderName="Ours", EffectiveCost="4") for day in days))
    (site.folder / "others" / "b.csv").write_text(
        csv_text([focus_row(str(day), ProviderName="Theirs", ResourceId="b", EffectiveCost="6") for day in days])
    )
    for source in platform.settings.sources:
        land_source(platform.lake, platform.settings.engine, source, platform.settings.first_day)
        compose_days(platform.lake, platform.settings.engine, source, days)
    site.facts(*map(str, days))
    build_rollup(platform.lake, platform.warehouse, platform.rules, platform.settings, days)
    count(site, "2026-09-07,orders,2,", "2026-09-08,orders,2,")

    def held(source: str) -> None:
        with platform.warehouse.writing() as connection, platform.warehouse.transaction(connection):
            enter_coverage(connection, {(source, days[0]): Covered("held", "late", "")}, [])

    held("other")
    found = figures(site)
    assert found["ours", "", "month", "2026-09-01"] == (8, 4, 2, 2, 0, 0)
    assert found["all", "", "month", "2026-09-01"] == (10, 2, 5, 1, 0, 1)
    held("of whom nothing ever came")
    assert figures(site)["ours", "", "month", "2026-09-01"] == (4, 2, 2, 1, 0, 1)


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


def of_days(amounts: list[str], first: date = date(2026, 7, 6), quantity: str = "100") -> list[dict[str, object]]:
    """Rows of days of one unit cost: what one cost on each day from a Monday on; empty is a gap."""
    return [
        {
            "unit_cost": "cost_per_order", "dimensions": None, "currency": "USD", "grain": "day",
            "period_start": first + timedelta(days=n), "quantity": D(quantity) if one else None,
            "effective_cost": D(one) * D(quantity) if one else None, "effective_per_unit": D(one) if one else None,
            "usual_per_unit": None, "unusual": None,
        }
        for n, one in enumerate(amounts)
    ]  # fmt: skip


def test_a_day_on_which_one_cost_unusually_much_is_marked_and_told() -> None:
    usual = [("0.50", "0.51", "0.49", "0.50", "0.52", "0.30", "0.31")[n % 7] for n in range(56)]
    rows = of_days([*usual[:50], "0.95", "", *usual[52:]])
    mark_unusual(rows, Anomalies())
    [marked] = [row for row in rows if row["unusual"]]
    assert (marked["period_start"], marked["unusual"]) == (date(2026, 8, 25), "rise")
    assert abs(D(str(marked["usual_per_unit"])) - D("0.51")) < D("0.02")
    assert unusual_lately(pd.DataFrame(rows)) == [
        f"cost_per_order, 2026-08-25: 0.950000 USD, a rise from about {marked['usual_per_unit']}"
    ]
    assert unusual_lately(pd.DataFrame(rows[:50] + of_days(usual, date(2026, 9, 7))[:7])) == []
    # The same of so few orders that it is no money: 0.44 a piece, of 5.
    few = of_days([*usual[:50], "0.95", *usual[51:]], quantity="5")
    mark_unusual(few, Anomalies())
    assert not [row for row in few if row["unusual"]]
    mark_unusual(few, Anomalies(min_amount=2))
    assert [row["period_start"] for row in few if row["unusual"]] == [date(2026, 8, 25)]
    # A gap is no fall, and neither is what begins anew after a month of gaps.
    gaps = of_days([*usual[:28], *[""] * 20, *usual[48:]])
    mark_unusual(gaps, Anomalies())
    assert not [row for row in gaps if row["unusual"]]


def test_a_month_in_which_one_costs_more_than_it_may_is_told(make_site: MakeSite) -> None:
    limited = UNITS.replace("{ServiceCategory: Compute}", "{ServiceCategory: Compute}, most: {USD: 0.9, EUR: 0.1}")
    site = make_site(first_day="2026-08-31", extra=limited)
    rows = [
        focus_row(day, EffectiveCost=cost, ServiceCategory="Compute")
        for day, cost in (("2026-08-31", "9"), (DAYS[0], "6"))
    ]
    site.put_csv("bill.csv", *rows)
    site.run_all("2026-08-31", DAYS[0])
    settings = site.platform.settings
    for orders, told in (("6", ["cost_per_order, 2026-09: 1.000000 USD, at most 0.9 (111 %, 1 days)"]), ("7", [])):
        count(site, "2026-08-31,orders,1", f"{DAYS[0]},orders,{orders}", header="date,metric,quantity")
        with site.platform.warehouse.reading() as connection:
            quantities = read_quantities(connection, UnitMetrics(file=site.folder / "units.csv"), [], {})
            table = unit_costs(connection, settings.unit_costs, quantities, settings.anomalies).frame()
        assert over_most(table) == told
    [august] = table[(table["grain"] == "month") & (table["period_start"] == date(2026, 8, 1))].to_dict("records")
    assert (august["most_per_unit"], august["most_percent"]) == (D("0.9"), 1000.0)
    with pytest.raises(ConfigError, match="unit_costs"):
        _ = make_site(extra=limited.replace("USD: 0.9", "usd: 0.9")).platform


@pytest.mark.long
def test_the_asset_makes_it_and_the_report_shows_it(make_site: MakeSite) -> None:
    limited = make_site(first_day="2026-09-07", extra=UNITS.replace("Compute}", "Compute}, most: {USD: 0.4}"))
    site = three_days(limited)
    count(site, "2026-09-07,orders,2,core", "2026-09-09,orders,4,core")
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(site.platform.settings, instance)
        assert graph.run(date(2026, 9, 7), date(2026, 9, 9)).success
        graph.publish(UNIT_COSTS)
        [made] = instance.fetch_materializations(dg.AssetKey(UNIT_COSTS), limit=5).records
        for check in ("within_limits", "as_usual"):
            key = dg.AssetCheckKey(dg.AssetKey(UNIT_COSTS), check)
            [judged] = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
            assert judged.status.value == ("FAILED" if check == "within_limits" else "SUCCEEDED")
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
    with site.platform.warehouse.writing() as connection, site.platform.warehouse.transaction(connection):
        enter_coverage(connection, {("bill", date(2026, 9, 8)): Covered("held", "late", "")}, [])
    site.platform.warehouse.publish(site.platform.lake)
    told = CliRunner().invoke(app, [word if word != "csv" else "json" for word in command])
    assert "bill has no figures for 1 day: 2026-09-08" in " ".join(told.stderr.split())
    assert json.loads(told.stdout)["coverage"]["sources_late"] == {"bill": ["2026-09-08"]}
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
