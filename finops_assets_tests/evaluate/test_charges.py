"""Cost by what the rollup is not grouped by, of chosen values alone, and the single charges: all to the last digit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import duckdb
import pytest
from typer.testing import CliRunner

from finops_assets.base.period import Period
from finops_assets.cli import app
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.charges import charges, rollup_by
from finops_assets.evaluate.reports import cost_by
from finops_assets_tests.conftest import Site, focus_row

DAYS = ("2026-09-01", "2026-09-02")
PERIOD = Period(date(2026, 9, 2), date(2026, 9, 3))
PENNY = "0.000000000000000001"
PROVIDERS = {"bill": "Ours"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("charges"))
    rows = [
        focus_row(day, ServiceName=service, EffectiveCost=cost, Tags=f'{{"team": "{team}"}}', ResourceId=f"{team}-{n}")
        for day in DAYS
        for n, (service, team, cost) in enumerate(
            (("Disks", "web", "1.5"), ("Disks", "api", PENNY), ("", "web", "-0.25"), ("Queues", "web", f"2{PENNY[1:]}"))
        )
    ]
    site.put_csv("a.csv", *rows, focus_row(DAYS[0], ServiceName="Gone", ProviderName="", Tags='{"team": "old"}'))
    site.run_all(*DAYS)
    site.platform.warehouse.publish(site.platform.lake)
    (site.folder / "finops.yaml").write_text(site.text, encoding="utf-8")
    return site


@pytest.fixture
def connection(site: Site) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(site.platform.settings.published), read_only=True) as connection:
        yield connection


def test_a_sum_by_any_column_is_the_rollups(connection: duckdb.DuckDBPyConnection) -> None:
    assert rollup_by(connection, PROVIDERS, ("team", "ServiceCategory")) == ROLLUP_TABLE
    relation = rollup_by(connection, PROVIDERS, ("ServiceName", "team"))
    table = cost_by(connection, PERIOD, ("ServiceName", "team"), relation, "effective")
    assert {(s, t): c for s, t, c in zip(table["ServiceName"], table["team"], table["effective_cost"])} == {
        ("Queues", "web"): Decimal(f"2{PENNY[1:]}"),
        ("Disks", "web"): Decimal("1.5"),
        ("Disks", "api"): Decimal(PENNY),
        ("", "web"): Decimal("-0.25"),
    }
    whole = cost_by(connection, PERIOD, (), ROLLUP_TABLE, "effective")
    assert whole["effective_cost"].tolist() == [sum(table["effective_cost"])] == [Decimal("3.250000000000000002")]
    by_provider = cost_by(
        connection,
        Period(date(2026, 9, 1), date(2026, 9, 2)),
        ("provider", "source"),
        rollup_by(connection, PROVIDERS, ("source",)),
    )
    assert set(zip(by_provider["provider"], by_provider["source"])) == {("Cloud", "bill"), ("Ours", "bill")}


def test_chosen_values_alone_are_summed_over_the_same_days(connection: duckdb.DuckDBPyConnection) -> None:
    [row] = cost_by(connection, PERIOD, (), where={"team": ["web", "api"]}).to_dict("records")
    assert (row["effective_cost"], row["effective_cost_before"]) == (Decimal("3.250000000000000002"),) * 2
    [row] = cost_by(connection, PERIOD, ("team",), where={"team": ["api"]}).to_dict("records")
    assert (row["effective_cost"], row["days"], row["days_before"]) == (Decimal(PENNY), 1, 1)
    [gone] = cost_by(connection, PERIOD, ("team",), where={"team": ["old"]}).to_dict("records")
    assert (gone["effective_cost"], gone["effective_cost_before"]) == (0, Decimal("1.25")), (
        "its day is known: it cost nothing"
    )
    assert cost_by(connection, PERIOD, ("team",), where={"team": ["' OR true --"]}).empty
    with pytest.raises(ValueError, match="found colour; allowed: charge_date, provider"):
        cost_by(connection, PERIOD, ("team",), where={"colour": ["red"]})


def test_single_charges_name_the_file_and_row_of_the_bill(connection: duckdb.DuckDBPyConnection) -> None:
    table = charges(connection, PERIOD, PROVIDERS, {"team": ["web"]})
    found = list(zip(table["ServiceName"], table["effective_cost"], table["source_file"], table["source_row"]))
    assert found == [
        ("Queues", Decimal(f"2{PENNY[1:]}"), "a.csv", 8),
        ("Disks", Decimal("1.5"), "a.csv", 5),
        ("", Decimal("-0.25"), "a.csv", 7),
    ]
    assert len(charges(connection, PERIOD, PROVIDERS, most=1)) == 1
    assert charges(connection, PERIOD, PROVIDERS, currency="EUR").empty


def test_the_commands_take_columns_and_values(site: Site) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        told = CliRunner().invoke(app, ["report", *arguments, "-f", "csv", "-c", str(site.folder / "finops.yaml")])
        return told.exit_code, told.stdout + told.stderr

    code, text = run(
        "teams", "--by", "ServiceName", "--where", "team=web", "--where", "ServiceName=Disks", "--from", DAYS[1]
    )
    assert (code, text.splitlines()[1].split(",")[:3]) == (0, ["Disks", "USD", "1.500000000000000000"])
    code, text = run("charges", "--where", "team=api", "--from", DAYS[1])
    assert (code, PENNY in text, "a.csv,6" in text) == (0, True, True)
    assert run("teams", "--where", "web")[0] == 1
    assert "a column and a value are needed, as team=search" in run("teams", "--where", "web")[1]
    assert "--by: found colour; allowed: " in run("charges", "--where", "colour=red")[1]
