"""Commitments by team: coverage, utilisation and one unit more, beside figures that are computed another way."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import dagster as dg
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from finops_assets.cli.program import app
from finops_assets.cost.coverage import Covered, enter_coverage
from finops_assets.cost.reach import Reach, narrowed
from finops_assets.evaluate.commitment_use import COMMITMENT_USE, money_apart, read_commitment_use
from finops_assets.evaluate.newest_facts import known_days
from finops_assets.explore.answers import Answers
from finops_assets.explore.newest_copy import Copies
from finops_assets.explore.server import application
from finops_assets.graph.assets.commitment_use import commitment_use_asset
from finops_assets.graph.assets.report_tables import IO_MANAGER, ReportTables
from finops_assets.tables.rows import Rows
from finops_assets_tests.conftest import Row, Site, focus_row

pytestmark = pytest.mark.slow

MakeSite = Callable[..., Site]
PLAN = {
    "CommitmentDiscountId": "sp-1", "CommitmentDiscountType": "Savings Plan", "CommitmentDiscountCategory": "Spend",
    "CommitmentDiscountStatus": "Used", "PricingCategory": "Committed", "BilledCost": "0",
}  # fmt: skip
RESERVED = PLAN | {
    "CommitmentDiscountId": "ri-1", "CommitmentDiscountType": "Reserved Instance", "CommitmentDiscountCategory": "Usage",
}  # fmt: skip
NONE = dict.fromkeys(
    ("CommitmentDiscountId", "CommitmentDiscountType", "CommitmentDiscountCategory", "CommitmentDiscountStatus"), ""
)
DAYS = ("2026-09-01", "2026-09-02")


def hour(day: str, at: int, team: str, cost: str, worth: str, **more: Any) -> Row:
    """An hour's usage of a SKU; `worth` is its contracted cost."""
    return focus_row(
        day,
        **{
            "ChargePeriodStart": f"{day}T{at:02}:00:00Z", "ChargePeriodEnd": f"{day}T{at + 1:02}:00:00Z" if at < 23 else f"{date.fromisoformat(day) + timedelta(1)}T00:00:00Z",
            "EffectiveCost": cost, "BilledCost": cost, "ContractedCost": worth, "ListCost": "99", "SkuId": "large",
            "PricingCategory": "Standard", "Tags": json.dumps({"team": team}), **NONE, **more,
        },
    )  # fmt: skip


def use(site: Site) -> Rows:
    platform = site.platform
    with platform.warehouse.reading() as connection:
        known = known_days(connection)
    settings = platform.settings
    return read_commitment_use(platform.lake, settings.engine, settings.providers, known)


def one(table: Rows, window: int = 30, team: str | None = None, **where: str) -> dict[str, Any]:
    """The one row of a team, or of everybody."""
    wanted = {"window_days": window, "scope": "team" if team else "all", **({"team": team} if team else {}), **where}
    [row] = table.where(lambda row: all(row[column] == value for column, value in wanted.items()))
    return row


def test_what_a_savings_plan_covered_and_what_one_more_would_have_saved(site: Site) -> None:
    """The plan costs three quarters of what it covers. Of web 2 an hour are not covered in two hours of two days."""
    day = DAYS[0]
    rows = [
        hour(day, 1, "core", "6", "8", **PLAN),
        hour(day, 1, "web", "2", "2"),
        hour(day, 2, "web", "0.4", "0.4"),
        hour(DAYS[1], 2, "web", "3", "4", **PLAN),
        # Nobody knows whether it could be covered: hours of a SKU that no plan is seen on.
        hour(day, 3, "web", "5", "5", SkuId="huge"),
        # Spot, storage and another service are no business of the plan.
        hour(day, 3, "web", "7", "7", PricingCategory="Dynamic"),
        hour(day, 3, "web", "7", "7", SkuId="disk", PricingUnit="GB-Months"),
        hour(day, 3, "web", "7", "7", ServiceName="Queues"),
        # A correction is of the whole day: it makes no bill by the hour one by the day, and fills no hour.
        hour(day, 0, "web", "-0.5", "-0.5", ChargeClass="Correction", ChargePeriodEnd=f"{DAYS[1]}T00:00:00Z"),
        hour(day, 4, "core", "1.5", "2", **PLAN | {"CommitmentDiscountStatus": "Unused"}),
    ]
    site.put_csv("a.csv", *rows)
    site.run_all(*DAYS)
    table = use(site)
    web = one(table, team="web")
    assert (web["eligible_cost"], web["covered_cost"]) == (Decimal("5.9"), Decimal("4"))
    assert (web["coverage_percent"], web["perhaps_eligible_cost"], web["rate_percent"]) == (
        pytest.approx(400 / 5.9),
        Decimal("5"),
        pytest.approx(75),
    )
    assert (web["used_cost"], web["unused_cost"], web["utilisation_percent"]) == (Decimal("3"), Decimal("0"), 100.0)
    # In the first hour 1 USD of 1.5 finds use, and replaces 4/3; in the second 0.3, and replaces 0.4; of 48 hours the rest is waste.
    assert web["one_more"] == "1 USD an hour"
    assert web["one_more_saved"] == Decimal("0.433333")
    assert web["one_more_wasted"] == Decimal("46.7")
    assert (web["days"], web["days_missing"], web["row_count"]) == (2, 28, 4)
    core = one(table, team="core")
    assert (core["coverage_percent"], core["utilisation_percent"], core["unused_cost"]) == (100.0, 80.0, Decimal("1.5"))
    assert (core["one_more_saved"], core["one_more_wasted"]) == (Decimal("0"), Decimal("48")), (
        "nothing is left to cover"
    )
    everybody = one(table, window=90)
    assert (everybody["department"], everybody["team"]) == (None, None)
    assert (everybody["eligible_cost"], everybody["covered_cost"], everybody["coverage_percent"]) == (
        Decimal("13.9"), Decimal("12"), pytest.approx(1200 / 13.9),
    )  # fmt: skip
    assert (everybody["used_cost"], everybody["unused_cost"]) == (Decimal("9"), Decimal("1.5"))
    assert everybody["days_missing"] == 88


def test_a_reservation_is_of_one_sku_the_best_to_buy(site: Site) -> None:
    day = DAYS[0]
    rows = []
    for at in range(24):
        rows += [
            hour(day, at, "core", "0.6", "1", **RESERVED),
            hour(day, at, "core", "0.5", "2", SkuId="small", **RESERVED),
            hour(day, at, "web", "2", "2", PricingQuantity="2"),
        ]
        if at < 6:
            rows.append(hour(day, at, "web", "2", "2", SkuId="small"))
    site.put_csv("a.csv", *rows)
    site.run_all(day)
    web = one(use(site), team="web")
    # large: 24 hours of 0.4 saved, none wasted. small: 6 of 1.5 saved, 18 of 0.5 wasted: nothing is gained.
    assert web["one_more"] == "1 Hours of large an hour"
    assert (web["one_more_saved"], web["one_more_wasted"]) == (Decimal("9.6"), Decimal("0"))
    assert web["coverage_percent"] == 0.0
    assert web["utilisation_percent"] is None, "none of it is the team's"


def test_a_bill_by_the_day_says_so_and_what_has_no_price_is_not_known(site: Site) -> None:
    whole = {"ChargePeriodStart": f"{DAYS[0]}T00:00:00Z", "ChargePeriodEnd": f"{DAYS[1]}T00:00:00Z"}
    site.put_csv(
        "a.csv",
        hour(DAYS[0], 0, "core", "3", "4", **PLAN | whole),
        hour(DAYS[0], 0, "web", "4", "4", **whole),
        hour(DAYS[0], 0, "core", "3", "", ServiceName="Databases", ListCost="", **{k: v for k, v in (PLAN | whole).items() if k != "ListCost"}),
        hour(DAYS[0], 0, "web", "4", "4", ServiceName="Databases", **whole),
    )  # fmt: skip
    site.run_all(DAYS[0])
    table = use(site)
    machines = one(table, team="web", ServiceName="Machines")
    assert machines["one_more"] == "1 USD a day"
    assert (machines["one_more_saved"], machines["one_more_wasted"]) == (Decimal("0.333333"), Decimal("0"))
    databases = one(table, ServiceName="Databases")
    for unknown in (
        "eligible_cost",
        "covered_cost",
        "coverage_percent",
        "rate_percent",
        "one_more",
        "one_more_saved",
        "one_more_wasted",
    ):
        assert databases[unknown] is None, unknown
    assert databases["used_cost"] == Decimal("3")


def test_days_that_are_not_known_are_in_no_figure_and_currencies_stand_apart(site: Site) -> None:
    rows = [hour(day, 1, "core", "3", "4", **PLAN) for day in DAYS]
    rows += [hour(day, 1, "core", "1", "1", BillingCurrency=currency) for day in DAYS for currency in ("USD", "EUR")]
    rows += [hour(DAYS[0], 1, "core", "1", "2", BillingCurrency="EUR", **PLAN)]
    site.put_csv("a.csv", *rows)
    site.run_all(*DAYS)
    before = one(use(site), team="core", currency="USD")
    assert (before["days"], before["eligible_cost"]) == (2, Decimal("10"))
    with site.platform.warehouse.writing() as connection, site.platform.warehouse.transaction(connection):
        day = date.fromisoformat(DAYS[0])
        enter_coverage(connection, {("bill", day): Covered("held", "late", "")}, [])
    table = use(site)
    after = one(table, team="core", currency="USD")
    assert (after["days"], after["days_missing"], after["eligible_cost"]) == (1, 29, Decimal("5"))
    assert "EUR" not in table["currency"], "what shows its rate is held"


@pytest.mark.long
def test_it_is_published_and_each_team_sees_its_own(site: Site) -> None:
    tags = {"web": '{"team": "web", "dept": "shop"}', "core": '{"team": "core", "dept": "base"}'}
    rows = [hour(day, 1, "core", "3", "4", **PLAN | {"Tags": tags["core"]}) for day in DAYS]
    rows += [hour(day, 1, "web", "1", "1", Tags=tags["web"]) for day in DAYS]
    site.put_csv("a.csv", *rows)
    config = site.folder / "finops.yaml"
    config.write_text(site.text, encoding="utf-8")
    site.run_all(*DAYS)
    platform = site.platform
    with platform.warehouse.writing() as connection, platform.warehouse.transaction(connection):
        enter_coverage(connection, {("other", date(2026, 9, 1)): Covered("held", "late", "")}, [])
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"platform": platform, IO_MANAGER: ReportTables(database=str(platform.settings.warehouse))}
        made = dg.materialize([commitment_use_asset("team:finops")], instance=instance, resources=resources)
        assert made.success
        [check] = made.get_asset_check_evaluations()
        assert (check.check_name, check.passed) == ("same_money", True)
    platform.warehouse.publish(platform.lake, platform.settings.dimensions)
    command = ["report", "commitments", "--by", "team", "--config", str(config)]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "2026-08-04 to 2026-09-02, 30 days" in shown.stdout
    assert "other has no figures for 1 day: 2026-09-01" in " ".join(shown.output.split())
    told = CliRunner().invoke(app, [*command, "--days", "60", "--format", "csv"])
    by_team = {row["team"]: row for row in csv.DictReader(io.StringIO(told.stdout))}
    assert {team: (row["covered_cost"], row["one_more_saved"]) for team, row in by_team.items()} == {
        "core": ("8.000000000000000000", "0.000000000000000000"), "web": ("0.000000000000000000", "0.500000000000000000"),
    }  # fmt: skip
    services = CliRunner().invoke(app, [*command[:3], "service", *command[4:], "--format", "json"])
    [row] = json.loads(services.stdout)["rows"]
    assert (row["scope"], row["team"], row["coverage_percent"]) == ("all", None, 80.0)
    refused = CliRunner().invoke(app, [*command, "--unused"])
    assert refused.exit_code == 1
    assert "--unused goes without --by" in refused.output
    page = TestClient(application(platform.settings), "http://127.0.0.1:8070", client=("127.0.0.1", 1))
    assert "1 USD an hour" in page.get("/commitments").text
    listed = page.get("/commitments/by_team.csv").text
    assert [row["team"] for row in csv.DictReader(io.StringIO(listed)) if row["one_more_saved"].startswith("0.5")] == [
        "web"
    ]
    of_shop = Reach(frozenset({("shop", None)}))
    with narrowed(platform.settings.published, of_shop) as connection:
        assert connection.execute(f"SELECT DISTINCT scope, team FROM {COMMITMENT_USE}").fetchall() == [("team", "web")]
    copies = Copies(platform.settings)
    answer = Answers(platform.settings, copies.of(of_shop)).commitments(90)
    assert {row["team"] for row in answer["rows"]} == {"web"}
    assert answer["period"] == {"from": "2026-06-05", "to": "2026-09-03"}
    assert answer["command"] is None, "it would tell of everybody"


def test_money_that_the_daily_table_does_not_have_is_told(site: Site) -> None:
    site.put_csv("a.csv", hour(DAYS[0], 1, "core", "3", "4", **PLAN), hour(DAYS[0], 2, "core", "1", "1"))
    site.run_all(DAYS[0])
    table = use(site)
    with site.platform.warehouse.writing() as connection:
        known = known_days(connection)
        assert money_apart(connection, table, known) == []
        connection.execute("UPDATE daily_commitments SET used_cost = used_cost + 0.000000000000000001")
        [told] = money_apart(connection, table, known)
    assert told.startswith("bill, USD: used 3.000000000000000000 and unused 0")


def test_random_bills_beside_fractions(make_site: MakeSite) -> None:
    """Coverage and one more of a bill with two plans' rates by SKU, against a sum over its rows, hour by hour."""
    draw = random.Random(16)
    skus = {"a": Fraction(3, 5), "b": Fraction(4, 5), "c": Fraction(7, 10)}
    rows, bill = [], []
    for day in DAYS:
        for at in range(24):
            for sku, rate in skus.items():
                for team in ("core", "web"):
                    if draw.random() < 0.4:
                        continue
                    worth, covered = Fraction(draw.randrange(1, 200), 100), draw.random() < 0.5
                    cost = worth * rate if covered else worth
                    bill.append((day, at, sku, team, worth, covered, cost))
                    rows.append(hour(day, at, team, plain(cost), plain(worth), SkuId=sku, **(PLAN if covered else {})))
    site = make_site()
    site.put_csv("a.csv", *rows)
    site.run_all(*DAYS)
    table = use(site)
    for of in ("core", "web", None):
        own = [r for r in bill if of in (r[3], None)]
        found = one(table, team=of)
        eligible = sum((r[4] for r in own), Fraction(0))
        of_plans = sum((r[4] for r in own if r[5]), Fraction(0))
        assert Fraction(found["eligible_cost"]) == eligible
        assert Fraction(found["covered_cost"]) == of_plans
        assert found["coverage_percent"] == pytest.approx(float(100 * of_plans / eligible))
        assert Fraction(found["used_cost"]) == sum((r[6] for r in own if r[5]), Fraction(0))
        saved, wasted = one_more_spend(own, skus)
        assert abs(Fraction(found["one_more_saved"]) - saved) <= Fraction(1, 10**6)
        assert abs(Fraction(found["one_more_wasted"]) - wasted) <= Fraction(1, 10**6)
        assert saved > 1


def one_more_spend(bill: Sequence[tuple[Any, ...]], rates: dict[str, Fraction]) -> tuple[Fraction, Fraction]:
    """A unit in each hour: to the cheapest rate first, until it is gone."""
    left: dict[tuple[str, int], dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    for day, at, sku, _, worth, covered, _ in bill:
        if not covered:
            left[day, at][sku] += worth
    saved = wasted = Fraction(0)
    for day in DAYS:
        for at in range(24):
            unit = Fraction(1)
            for sku in sorted(left[day, at], key=lambda s: rates[s]):
                taken = min(unit, left[day, at][sku] * rates[sku])
                unit -= taken
                saved += taken / rates[sku] - taken
            wasted += unit
    return saved, wasted


def plain(value: Fraction) -> str:
    return f"{Decimal(value.numerator) / Decimal(value.denominator):f}"
