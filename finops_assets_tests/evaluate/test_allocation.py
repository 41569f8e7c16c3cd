"""Shared cost: split to the last digit, by each method, in order; what cannot be split stays; the check can fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from typer.testing import CliRunner

from finops_assets.base.errors import ConfigError
from finops_assets.base.period import Period
from finops_assets.cli.program import app
from finops_assets.cost.coverage import Covered, enter_coverage
from finops_assets.definitions import build_definitions
from finops_assets.evaluate.allocation import split
from finops_assets.evaluate.allocation.balance import ALLOCATED_COST, unbalanced
from finops_assets.evaluate.allocation.days import CHARGEBACK, Allocated, bring_up_to_date, unknown_commitments
from finops_assets.evaluate.allocation.report import allocation, kept, moves
from finops_assets.evaluate.allocation.split import parts
from finops_assets.graph.assets.allocation import allocation_assets
from finops_assets.graph.assets.report_tables import IO_MANAGER, ReportTables
from finops_assets.graph.run_range import QUIET
from finops_assets.platform import Platform
from finops_assets.settings.model import Settings
from finops_assets_tests.conftest import Site
from finops_assets_tests.cost.test_commitments import purchase, uncovered, usage
from finops_assets_tests.running import settings_for

DAY, NEXT = date(2026, 9, 1), date(2026, 9, 2)
WEEK = Period(DAY, date(2026, 9, 8))
KEY = "provider VARCHAR, department VARCHAR, team VARCHAR, environment VARCHAR, ServiceCategory VARCHAR, BillingCurrency VARCHAR"
MONEY = "DECIMAL(38, 18)"
BASE = (
    "first_day: 2026-09-01\nlake: lake\nwarehouse: warehouse.duckdb\npublished: published.duckdb\n"
    "sources: [{name: aws, uri: estate/aws, layout: aws-data-exports}]\n"
    "dimensions: {team: {keys: [team]}, department: {keys: [department]}}\n"
)


@dataclass
class House:
    """A warehouse with a rollup that a test fills itself."""

    folder: Path
    connection: duckdb.DuckDBPyConnection

    def book(
        self, owner: str, cost: str, day: date = DAY, currency: str = "EUR", service: str = "Compute", billed: str = ""
    ) -> None:
        department, team = owner.split("/")
        self.connection.execute(
            "INSERT INTO daily_cost_by_team VALUES (?, 'AWS', ?, ?, 'prod', ?, ?, ?, ?, greatest(?, 0), 1)",
            [day, department, team, service, currency, Decimal(billed or cost), *[Decimal(cost)] * 2],
        )

    def rules(self, text: str) -> Settings:
        return settings_for(self.folder, DAY, f"shared_cost:\n{text}")

    def split(self, text: str) -> Allocated:
        settings = self.rules(text)
        made = bring_up_to_date(Platform(settings).warehouse, self.connection, settings.shared_cost)
        assert unbalanced(self.connection) == []
        return made

    def borne(self, cost: str = "effective_cost", day: date = DAY) -> dict[tuple[str, str], Decimal]:
        """(bearer, currency) -> what it bears."""
        rows = self.connection.execute(
            f"SELECT department || '/' || team, BillingCurrency, sum({cost}) FROM {ALLOCATED_COST} WHERE charge_date = ? GROUP BY ALL",
            [day],
        ).fetchall()
        return {(owner, currency): amount for owner, currency, amount in rows}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with duckdb.connect() as connection:
        prepare(connection)
        yield House(tmp_path, connection)


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        f"CREATE TABLE daily_cost_by_team (charge_date DATE, {KEY}, billed_cost {MONEY}, effective_cost {MONEY},"
        f" positive_effective_cost {MONEY}, row_count BIGINT)"
    )


# --- splitting an amount


@pytest.mark.parametrize(
    "amount", ["0.000000000000000001", "100", "-7.123456789012345678", "0", "12345678901234567890.1"]
)
@pytest.mark.parametrize("weights", [[1], [1, 1, 1], [3, 0, 7, 11], [10**30, 1, 10**15]])
def test_parts_sum_to_the_last_digit(amount: str, weights: list[int]) -> None:
    given = parts(Decimal(amount), weights)
    assert sum(int(p.scaleb(18, split._WIDE)) for p in given) == int(Decimal(amount).scaleb(18, split._WIDE))
    assert all(p == 0 for p, w in zip(given, weights) if w == 0)
    assert [p.copy_negate() for p in given] == parts(Decimal(amount).copy_negate(), weights)
    for part, weight in zip(given, weights):
        exact = Decimal(amount) * weight / sum(weights)
        assert abs(part - exact) <= Decimal("1e-18") * max(1, abs(exact)) * 10


# --- the methods


def test_proportional_to_direct_spend_by_currency(house: House) -> None:
    house.book("a/one", "20")
    house.book("a/two", "10", service="Storage")
    house.book("a/credited", "-5")
    house.book("b/dollars", "10", currency="USD")
    house.book("__untagged__/__untagged__", "10", billed="7")
    house.book("__untagged__/__untagged__", "3", currency="USD")
    house.split("- {name: untagged, cost: {team: __untagged__}, method: proportional}\n")
    third = Decimal("3.333333333333333333")
    assert house.borne() == {
        ("a/one", "EUR"): Decimal("26.666666666666666667"),
        ("a/two", "EUR"): 10 + third,
        ("a/credited", "EUR"): -5,
        ("b/dollars", "USD"): 13,
    }
    assert house.borne("billed_cost")["a/one", "EUR"] == Decimal("24.666666666666666667")
    [row] = house.connection.execute(
        f"SELECT rule, method, ratio, origin_department, origin_team, via FROM {ALLOCATED_COST} WHERE rule IS NOT NULL AND team = 'two'"
    ).fetchall()
    assert row == ("untagged", "proportional", Decimal("0.333333333333333333"), "__untagged__", "__untagged__", None)


def test_even_and_fixed_shares(house: House) -> None:
    for owner, cost in {"a/one": "20", "a/two": "1", "b/one": "5", "it/platform": "9", "it/net": "10"}.items():
        house.book(owner, cost)
    house.split(
        "- {name: platform, cost: {team: Platform}, method: even, to: ['a/*', B/one]}\n"
        "- {name: net, cost: {department: it, team: net}, method: fixed, percent: {a/one: 33.3, b/one: 60}}\n"
    )
    assert house.borne() == {
        ("a/one", "EUR"): 20 + 3 + Decimal("3.33"),
        ("a/two", "EUR"): 4,
        ("b/one", "EUR"): 5 + 3 + 6,
        ("it/net", "EUR"): Decimal("0.67"),
    }


def test_proportional_to_a_metric_of_a_file_or_a_table(house: House) -> None:
    house.book("a/one", "20")
    house.book("it/platform", "9")
    house.book("it/platform", "8", day=NEXT)
    (house.folder / "requests.csv").write_text(
        "date,department,team,quantity\n2026-09-01,A,One,10\n2026-09-01,a,two,20\n2026-09-01,it,platform,5\n"
    )
    rule = "- {{name: platform, cost: {{team: platform}}, method: metric, metric: {}}}\n"
    house.split(rule.format("requests.csv"))
    assert house.borne() == {("a/one", "EUR"): 23, ("a/two", "EUR"): 6}
    assert house.borne(day=NEXT) == {("it/platform", "EUR"): 8}
    assert kept(house.connection, WEEK) == [
        "rule platform: 8.00 EUR of it/platform stayed there, 1 day: the metric has no quantity of this day"
    ]
    house.connection.execute(
        "CREATE TABLE requests AS SELECT DATE '2026-09-02' AS charge_date, 'a' AS department, 'two' AS team, 1 AS quantity"
    )
    made = house.split(rule.format("{table: requests}"))
    assert made.days == [DAY, NEXT]
    assert house.borne(day=NEXT) == {("a/two", "EUR"): 8}


def test_quantities_that_cannot_be_read_are_told_and_touch_no_day_that_stands(house: House) -> None:
    house.book("a/one", "20")
    house.book("it/platform", "9")
    file = house.folder / "requests.csv"
    file.write_text("date,department,team,quantity\n2026-09-01,a,one,10\n")
    rule = "- {name: platform, cost: {team: platform}, method: metric, metric: requests.csv}\n"
    house.split(rule)
    file.write_text(
        "date,department,team,quantity\nsoon,a,one,10\n2026-09-01,a,,-1\n2026-09-01,a,b,1\n2026-09-01,a,b,2\n"
    )
    house.book("it/platform", "8", day=NEXT)
    made = house.split(rule)
    assert made.days == [NEXT]
    for text in ("line 2, date: found 'soon'", "line 3, quantity: found '-1'", "line 3, team: found 'a/'", "line 5, team: found a/b of 2026-09-01 again"):  # fmt: skip
        assert text in made.unread[0]
    assert house.borne()["a/one", "EUR"] == 29
    assert house.borne(day=NEXT) == {("it/platform", "EUR"): 8}
    file.unlink()
    assert "cannot be read" in house.split(rule).unread[0]
    assert "is not in the warehouse" in house.split(rule.replace("requests.csv", "{table: nowhere}")).unread[0]


def test_rules_are_chained_in_order_and_say_their_way(house: House) -> None:
    house.book("a/one", "20")
    house.book("b/two", "10")
    house.book("it/platform", "30")
    house.book("__untagged__/__untagged__", "6")
    house.split(
        "- {name: untagged, cost: {team: __untagged__}, method: proportional}\n"
        "- {name: platform, cost: {team: platform}, method: proportional}\n"
    )
    # Direct spend is what no rule splits: the platform's own is not, so it gets nothing of the untagged.
    assert house.borne() == {("a/one", "EUR"): 20 + 4 + 20, ("b/two", "EUR"): 10 + 2 + 10}
    house.split(
        "- {name: untagged, cost: {team: __untagged__}, method: even, to: it/platform}\n"
        "- {name: platform, cost: {team: platform}, method: proportional}\n"
    )
    assert house.borne() == {("a/one", "EUR"): 44, ("b/two", "EUR"): 22}
    rows = house.connection.execute(
        f"SELECT origin_team, via, effective_cost FROM {ALLOCATED_COST} WHERE team = 'one' AND rule = 'platform' ORDER BY ALL"
    ).fetchall()
    assert rows == [("__untagged__", "untagged", 4), ("platform", None, 20)]


def test_a_later_rule_splits_what_an_earlier_one_could_not(house: House) -> None:
    house.book("a/one", "20")
    house.book("it/platform", "30")
    (house.folder / "m.csv").write_text("date,department,team,quantity\n")
    house.split(
        "- {name: by_use, cost: {team: platform}, method: metric, metric: m.csv}\n"
        "- {name: else, cost: {team: platform}, method: proportional}\n"
    )
    assert house.borne() == {("a/one", "EUR"): 50}


def test_names_that_no_cost_has_are_told(house: House) -> None:
    house.book("a/one", "20")
    (house.folder / "m.csv").write_text("date,department,team,quantity\n2026-09-01,a,on,1\n")
    made = house.split(
        "- {name: x, cost: {team: plattform, provider: aws}, method: even, to: [a/one, 'b/*']}\n"
        "- {name: y, cost: {department: a, team: two}, method: metric, metric: m.csv}\n"
    )
    assert made.unknown == [
        "rule x: no cost has the team 'plattform'",
        "rule x: no cost has the provider 'aws'",
        "rule x: no cost has the department 'b'",
        "rule y: no cost has the team 'two'",
        "rule y: no cost has the team (as department/team) 'a/on'; did you mean 'a/one'?",
    ]


def test_only_a_service_of_all_teams(house: House) -> None:
    house.book("a/one", "20")
    house.book("a/one", "4", service="Networking")
    house.book("b/two", "5")
    house.split("- {name: net, cost: {ServiceCategory: Networking, provider: [AWS, Other]}, method: proportional}\n")
    assert house.borne() == {("a/one", "EUR"): Decimal("23.2"), ("b/two", "EUR"): Decimal("5.8")}


def test_many_to_many_goes_through_a_pool(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(7):
        house.book(f"a/t{i}", f"{i}.1", billed=f"{i}.000000000000000001")
        house.book(f"a/t{i}", "0.7", service="Networking")
    rule = "- {name: net, cost: {ServiceCategory: Networking}, method: proportional}\n"
    house.split(rule)
    plain = {name: house.borne(name) for name in ("effective_cost", "billed_cost")}
    monkeypatch.setattr(split, "POOLED_FROM", 48)
    house.connection.execute("DELETE FROM allocated_days")
    house.split(rule)
    for name, before in plain.items():
        after = house.borne(name)
        assert after.pop(("__pool__/net", "EUR")) == 0
        assert before.keys() == after.keys()
        assert all(abs(after[key] - amount) < Decimal("1e-16") for key, amount in before.items())
        assert sum(after.values()) == sum(before.values())
    assert house.connection.execute(f"SELECT count(*) FROM {ALLOCATED_COST} WHERE rule = 'net'").fetchall() == [
        (7 + 7 + 1,)
    ]
    table = allocation(house.connection, WEEK).frame()
    assert list(table["team"]) == [f"t{i}" for i in range(6, -1, -1)]
    assert (table["given"] == Decimal("0.7")).all()


def test_what_cannot_be_split_stays_and_is_told(house: House) -> None:
    house.book("__untagged__/__untagged__", "6")
    house.split("- {name: untagged, cost: {team: __untagged__}, method: proportional}\n")
    assert house.borne() == {("__untagged__/__untagged__", "EUR"): 6}
    assert kept(house.connection, WEEK) == [
        "rule untagged: 6.00 EUR of __untagged__/__untagged__ stayed there, 1 day: no team has direct spend in EUR on"
        " this day"
    ]


def test_unused_commitments_go_to_those_who_used_them(site: Site) -> None:
    other = {"CommitmentDiscountId": "sp-2"}
    site.put_csv(
        "a.csv",
        purchase("2026-01-01", "2026-01-03", "40", Tags='{"team": "platform", "dept": "it"}'),
        usage("2026-01-01", "3", Tags='{"team": "one", "dept": "a"}'),
        usage("2026-01-01", "1", Tags='{"team": "two", "dept": "a"}'),
        usage("2026-01-01", "2", "Unused", Tags='{"team": "platform", "dept": "it"}'),
        usage("2026-01-01", "5", "Unused", Tags='{"team": "platform", "dept": "it"}', **other),
        uncovered("2026-01-01", Tags='{"team": "platform", "dept": "it"}', EffectiveCost="10", BilledCost="10"),
    )
    site.run_all("2026-01-01")
    rules = site.platform.settings.model_copy(
        update={
            "shared_cost": settings_for(
                site.folder, date(2026, 1, 1),
                "shared_cost:\n- {name: bought, cost: {commitments: purchase}, method: benefit}\n"
                "- {name: unused, cost: {commitments: unused, department: it}, method: benefit}\n"
                "- {name: net, cost: {ServiceCategory: Compute, team: platform}, method: fixed, percent: {a/two: 50}}\n",
            ).shared_cost
        }
    ).shared_cost  # fmt: skip
    warehouse = site.platform.warehouse
    with warehouse.writing() as connection:
        made = bring_up_to_date(warehouse, connection, rules)
        assert (made.days, made.refused, unbalanced(connection)) == ([date(2026, 1, 1)], [], [])
        borne = {
            (team, rule): (effective, billed)
            for team, rule, effective, billed in connection.execute(
                f"SELECT team, rule, sum(effective_cost), sum(billed_cost) FROM {ALLOCATED_COST} GROUP BY ALL"
            ).fetchall()
        }
        assert unknown_commitments(connection, rules) == []
        connection.execute("UPDATE daily_commitments SET ServiceCategory = NULL")
        assert unknown_commitments(connection, rules) == [date(2026, 1, 1)]
        bring_up_to_date(warehouse, connection, rules)
        assert unbalanced(connection) == []
    assert borne == {
        ("one", None): (3, 0), ("two", None): (1, 0),
        ("one", "bought"): (0, 30), ("two", "bought"): (0, 10),
        ("one", "unused"): (Decimal("1.5"), 0), ("two", "unused"): (Decimal("0.5"), 0),
        ("platform", "unused"): (5, 0),  # nobody used the second commitment: its cost stays
        ("two", "net"): (5, 5), ("platform", "net"): (5, 5),
    }  # fmt: skip


# --- days, report and check


def test_only_what_changed_is_made_anew(house: House) -> None:
    rule = "- {name: untagged, cost: {team: __untagged__}, method: even, to: a/one}\n"
    for day in (DAY, NEXT):
        house.book("a/one", "1", day=day)
        house.book("__untagged__/__untagged__", "6", day=day)
    assert house.split(rule).days == [DAY, NEXT]
    assert house.split(rule).days == []
    house.book("a/two", "1", day=NEXT)
    assert house.split(rule).days == [NEXT]
    assert house.split(rule.replace("a/one", "a/two")).days == [DAY, NEXT]
    house.connection.execute("DELETE FROM daily_cost_by_team WHERE charge_date = ?", [DAY])
    assert house.split(rule.replace("a/one", "a/two")).gone == [DAY]
    assert house.borne(day=DAY) == {}


def test_showback_and_chargeback_stand_beside_each_other(house: House) -> None:
    house.book("a/one", "20")
    house.book("b/two", "10")
    house.book("it/platform", "30")
    house.split("- {name: platform, cost: {team: platform}, method: fixed, percent: {a/one: 50, b/two: 40}}\n")
    table = allocation(house.connection, WEEK).frame()
    assert table.drop(columns="change_percent").values.tolist() == [
        ["a", "one", "EUR", 20, 0, 15, 35],
        ["b", "two", "EUR", 10, 0, 12, 22],
        ["it", "platform", "EUR", 30, 27, 0, 3],
    ]
    assert table["change_percent"].round(1).tolist() == [75.0, 120.0, -90.0]
    assert moves(house.connection, WEEK).frame()[["rule", "origin", "bearer", "amount"]].values.tolist() == [
        ["platform", "it/platform", "a/one", 15],
        ["platform", "it/platform", "b/two", 12],
        ["platform", "it/platform", "it/platform", 3],
    ]
    house.book("b/two", "1", day=NEXT)
    house.split("- {name: platform, cost: {team: platform}, method: fixed, percent: {a/one: 50, b/two: 40}}\n")
    asked = (
        f"SELECT team, showback_effective_cost, chargeback_effective_cost, provisional FROM {CHARGEBACK} ORDER BY ALL"
    )
    before_after = house.connection.execute(asked).fetchall()
    assert before_after == [
        ("one", 20, 35, False),
        ("platform", 30, 3, False),
        ("two", 1, 1, False),
        ("two", 10, 22, False),
    ]
    enter_coverage(
        house.connection, {("aws", NEXT): Covered("awaited", "late", ""), ("gcp", DAY): Covered("built", "", "")}, []
    )
    assert [row[3] for row in house.connection.execute(asked).fetchall()] == [False, False, True, False]


def test_unbalanced_finds_any_digit(house: House) -> None:
    house.book("a/one", "20")
    house.split("- {name: platform, cost: {team: platform}, method: even}\n")
    house.connection.execute(f"UPDATE {ALLOCATED_COST} SET billed_cost = billed_cost + 0.000000000000000001")
    [found] = unbalanced(house.connection)
    assert str(found) == (
        "2026-09-01, a/one, billed cost in EUR: rollup 20.000000000000000000, allocated 20.000000000000000001"
    )
    house.connection.execute(f"DELETE FROM {ALLOCATED_COST}")
    assert {u.what for u in unbalanced(house.connection)} == {"billed", "effective"}


def test_in_the_graph_a_split_that_loses_a_unit_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "finops.yaml").write_text(
        f"{BASE}shared_cost:\n- {{name: untagged, cost: {{team: __untagged__}}, method: proportional}}\n"
    )
    settings = settings_for(
        tmp_path, DAY, "shared_cost:\n- {name: untagged, cost: {team: __untagged__}, method: proportional}\n"
    )
    platform = Platform(settings)
    with platform.warehouse.writing() as connection:
        prepare(connection)
        house = House(tmp_path, connection)
        for day in (DAY, NEXT):
            house.book("a/one", "20", day=day)
            house.book("__untagged__/__untagged__", "6", day=day)

    def run() -> dg.ExecuteInProcessResult:
        result = dg.materialize(
            allocation_assets(settings),
            resources={"platform": platform, IO_MANAGER: ReportTables(database=str(settings.warehouse))},
            run_config=QUIET,
            raise_on_error=False,
        )
        platform.warehouse.publish(platform.lake)
        return result

    result = run()
    assert result.success
    assert all(e.passed for e in result.get_asset_check_evaluations())
    config = ["--config", str(tmp_path / "finops.yaml")]
    shown = CliRunner().invoke(app, ["report", "allocation", *config, "-f", "csv"])
    assert shown.stdout.splitlines()[1].startswith("a,one,EUR,40.000000000000000000,0.000000000000000000,12.0000")
    assert "untagged" in CliRunner().invoke(app, ["report", "allocation", "--by-rule", *config]).stdout

    original = parts
    monkeypatch.setattr(
        split, "parts", lambda amount, weights: [p - Decimal("1e-18") for p in original(amount, weights)]
    )
    with platform.warehouse.writing() as connection:
        House(tmp_path, connection).book("a/two", "1", day=NEXT)
    result = run()
    [check] = [e for e in result.get_asset_check_evaluations() if e.check_name == "conserved"]
    assert (check.passed, check.blocking) == (False, True)
    assert "2026-09-02, __untagged__/__untagged__, billed cost in EUR: rollup 6" in (check.description or "")
    assert not result.asset_materializations_for_node("reports__allocation"), "what is downstream does not run"
    with platform.warehouse.reading() as connection:
        days = connection.execute(f"SELECT DISTINCT charge_date FROM {ALLOCATED_COST}").fetchall()
    assert days == [(DAY,)]
    keys = {spec.key.to_user_string() for spec in build_definitions(settings).resolve_all_asset_specs()}
    assert {ALLOCATED_COST, "reports/allocation"} <= keys


# --- the settings


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("{name: a, cost: {team: x}, method: even, to: [p/x]}", "gives to p/x, whose cost it splits"),
        (
            "{name: a, cost: {team: x}, method: even, to: p/z}, {name: b, cost: {team: y}, method: even, to: p/x}",
            "put b before a",
        ),
        (
            "{name: a, cost: {team: x}, method: even, to: p/y}, {name: b, cost: {team: y}, method: even, to: p/z},"
            " {name: c, cost: {team: z}, method: fixed, percent: {p/x: 100}}",
            "cycle (a -> b -> c -> a)",
        ),
        ("{name: a, cost: {team: x}, method: even}, {name: a, cost: {team: y}, method: even}", "stands twice"),
        ("{name: a, cost: {}, method: even}", "no condition"),
        ("{name: a, cost: {team: x}, method: fixed}", "method fixed needs percent"),
        ("{name: a, cost: {team: x}, method: fixed, percent: {p/a: 60, p/b: 41}}", "sums to 101"),
        ("{name: a, cost: {team: x}, method: metric}", "method metric needs metric"),
        ("{name: a, cost: {team: x}, method: benefit}", "say cost: {commitments: unused}"),
        ("{name: a, cost: {team: x}, method: even, to: p}", "department/team"),
        (
            "{name: a, cost: {tem: x}, method: even}",
            "shared_cost[0].cost.tem: is not a known setting; did you mean 'team'",
        ),
        ("{name: a, cost: {team: x}, method: metric, metric: {fil: x}}", "metric.fil: is not a known setting"),
    ],
)
def test_mistakes_of_rules_are_told(tmp_path: Path, rules: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings_for(tmp_path, DAY, f"shared_cost: [{rules}]\n")
    assert said in str(error.value)
