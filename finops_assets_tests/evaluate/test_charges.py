"""Cost by what the rollup is not grouped by, of chosen values alone, and the single charges: all to the last digit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import duckdb
import pytest
from typer.testing import CliRunner

from finops_assets.base.period import Period
from finops_assets.cli.program import app
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.charges import charges, rollup_by
from finops_assets.evaluate.reports import cost_by
from finops_assets_tests.conftest import Site, focus_row

pytestmark = pytest.mark.slow  # by its time, not by what it needs

DAYS = ("2026-09-01", "2026-09-02")
PERIOD = Period(date(2026, 9, 2), date(2026, 9, 3))
PENNY = "0.000000000000000001"
PROVIDERS = {"bill": "Ours"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("charges"))
    rows = [
        focus_row(
            day,
            ServiceName=service,
            EffectiveCost=cost,
            ResourceId=f"{team}-{n}",
            Tags=json.dumps({"team": team} | ({"Cost/Cent~er": '7 "a"'} if service == "Queues" else {})),
        )
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
    table = cost_by(connection, PERIOD, ("ServiceName", "team"), relation, "effective").frame()
    assert {(s, t): c for s, t, c in zip(table["ServiceName"], table["team"], table["effective_cost"])} == {
        ("Queues", "web"): Decimal(f"2{PENNY[1:]}"),
        ("Disks", "web"): Decimal("1.5"),
        ("Disks", "api"): Decimal(PENNY),
        ("", "web"): Decimal("-0.25"),
    }
    whole = cost_by(connection, PERIOD, (), ROLLUP_TABLE, "effective").frame()
    assert whole["effective_cost"].tolist() == [sum(table["effective_cost"])] == [Decimal("3.250000000000000002")]
    by_provider = cost_by(
        connection,
        Period(date(2026, 9, 1), date(2026, 9, 2)),
        ("provider", "source"),
        rollup_by(connection, PROVIDERS, ("source",)),
    ).frame()
    assert set(zip(by_provider["provider"], by_provider["source"])) == {("Cloud", "bill"), ("Ours", "bill")}


def test_cost_is_split_by_a_tag_whatever_its_key_is_spelled_like(connection: duckdb.DuckDBPyConnection) -> None:
    def split(*columns: str, **only: str) -> dict[tuple[str, ...], Decimal]:
        where = {f"tag:{key}": [value] for key, value in only.items()}
        relation = rollup_by(connection, PROVIDERS, (*columns, *where))
        table = cost_by(connection, PERIOD, columns, relation, "effective", where=where).frame()
        return {tuple(row[c] for c in columns): row["effective_cost"] for row in table.to_dict("records")}

    of_queues, rest = Decimal(f"2{PENNY[1:]}"), Decimal("1.250000000000000001")
    for spelled in ("Cost/Cent~er", "cost/cent~er", "user:cost/cent~er"):
        assert split(f"tag:{spelled}") == {('7 "a"',): of_queues, ("",): rest}, spelled
    assert split("team", **{"COST/cent~er": '7 "a"'}) == {("web",): of_queues}
    assert split("tag:nobody has it") == split("tag:'; DROP TABLE x --") == {("",): of_queues + rest}
    table = charges(connection, PERIOD, PROVIDERS, {"tag:cost/cent~er": ['7 "a"']}).frame()
    assert table["effective_cost"].tolist() == [of_queues]
    with pytest.raises(ValueError, match="found tag:"):
        rollup_by(connection, PROVIDERS, ("tag:",))


def test_chosen_values_alone_are_summed_over_the_same_days(connection: duckdb.DuckDBPyConnection) -> None:
    [row] = cost_by(connection, PERIOD, (), where={"team": ["web", "api"]}).frame().to_dict("records")
    assert (row["effective_cost"], row["effective_cost_before"]) == (Decimal("3.250000000000000002"),) * 2
    [row] = cost_by(connection, PERIOD, ("team",), where={"team": ["api"]}).frame().to_dict("records")
    assert (row["effective_cost"], row["days"], row["days_before"]) == (Decimal(PENNY), 1, 1)
    [gone] = cost_by(connection, PERIOD, ("team",), where={"team": ["old"]}).frame().to_dict("records")
    assert (gone["effective_cost"], gone["effective_cost_before"]) == (0, Decimal("1.25")), (
        "its day is known: it cost nothing"
    )
    assert cost_by(connection, PERIOD, ("team",), where={"team": ["' OR true --"]}).frame().empty
    with pytest.raises(ValueError, match="found colour; allowed: charge_date, provider"):
        cost_by(connection, PERIOD, ("team",), where={"colour": ["red"]}).frame()


def test_single_charges_name_the_file_and_row_of_the_bill(connection: duckdb.DuckDBPyConnection) -> None:
    table = charges(connection, PERIOD, PROVIDERS, {"team": ["web"]}).frame()
    found = list(zip(table["ServiceName"], table["effective_cost"], table["source_file"], table["source_row"]))
    assert found == [
        ("Queues", Decimal(f"2{PENNY[1:]}"), "a.csv", 8),
        ("Disks", Decimal("1.5"), "a.csv", 5),
        ("", Decimal("-0.25"), "a.csv", 7),
    ]
    assert len(charges(connection, PERIOD, PROVIDERS, most=1)) == 1
    assert charges(connection, PERIOD, PROVIDERS, currency="EUR").frame().empty


def test_the_commands_take_columns_and_values(site: Site) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        told = CliRunner().invoke(app, ["report", *arguments, "-f", "csv", "-c", str(site.folder / "finops.yaml")])
        return told.exit_code, told.stdout + told.stderr

    code, text = run(
        "teams", "--by", "ServiceName", "--where", "team=web", "--where", "ServiceName=Disks", "--from", DAYS[1]
    )
    assert (code, text.splitlines()[1].split(",")[:3]) == (0, ["Disks", "USD", "1.500000000000000000"])
    code, text = run("teams", "--by", "tag:cost/cent~er,team", "--from", DAYS[1])
    assert (code, text.splitlines()[0].split(",")[:2]) == (0, ["tag:cost/cent~er", "team"])
    code, text = run("untagged", "--resources", "department", "--from", DAYS[1], "--to", "2026-09-03")
    assert code == 0
    assert [row.split(",")[4] for row in text.splitlines()[1:5]] == ["web-3", "web-0", "api-1", "web-2"]
    assert "allowed: department, team" in run("untagged", "--resources", "colour")[1]
    assert run("untagged", "--resources", "team", "--from", DAYS[1])[1].count("\n") == 1, "every resource has a team"
    code, text = run("charges", "--where", "team=api", "--from", DAYS[1])
    assert (code, PENNY in text, "a.csv,6" in text) == (0, True, True)
    assert run("teams", "--where", "web")[0] == 1
    assert "a column and a value are needed, as team=search" in run("teams", "--where", "web")[1]
    assert "--by: found colour; allowed: " in run("charges", "--where", "colour=red")[1]
