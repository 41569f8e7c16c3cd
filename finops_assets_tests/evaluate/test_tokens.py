"""What a million tokens cost: of every bill that counts them, to the last digit, and what nobody counted beside it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from finops_assets.base.period import Period
from finops_assets.cli.program import app
from finops_assets.cost.reach import Reach
from finops_assets.evaluate.newest_facts import known_days
from finops_assets.evaluate.tokens import (
    DAILY_BY,
    DAILY_TOKENS,
    FIGURES,
    TOKEN_DAYS,
    bring_up_to_date,
    read_tokens,
    tokens_by,
)
from finops_assets.explore import charts
from finops_assets.explore.address import ViewError
from finops_assets.explore.answers import Answers, Asked
from finops_assets.explore.newest_copy import Copies
from finops_assets.explore.server import application
from finops_assets.graph.assets.report_tables import IO_MANAGER, ReportTables
from finops_assets.graph.assets.tokens import tokens_asset
from finops_assets.settings.model import Settings
from finops_assets.storage.lake import Key
from finops_assets.storage.warehouse import ROLLED_UP, Warehouse
from finops_assets.tables import declarations
from finops_assets_tests.conftest import Row, Site, focus_row

pytestmark = pytest.mark.slow

DAYS = ("2026-09-01", "2026-09-02")
PERIOD = Period(date(2026, 9, 1), date(2026, 9, 3))
FIFTH = "0.200000000000000001"


def charge(
    team: str, model: str, meter: str, cost: str, quantity: str, unit: str = "Tokens", day: str = DAYS[0], **more: str
) -> Row:
    return focus_row(
        day, EffectiveCost=cost, BilledCost=more.pop("BilledCost", "0.5"), ConsumedQuantity=quantity, ConsumedUnit=unit, SkuMeter=meter,
        SkuId="sku", SkuPriceId="price", SkuPriceDetails=json.dumps({"ModelId": model}), Tags=json.dumps({"dept": "shop" if team == "web" else "core", "team": team, "Api Key": f"key-of-{team}"}),
        **{"PricingQuantity": "1", "PricingUnit": "Units"} | more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site(tmp_path_factory.mktemp("tokens"))
    made.put_csv(
        "a.csv",
        charge("web", "big", "Output tokens", FIFTH, "10000"),
        charge("web", "big", "Output tokens", "0.3", "15000", day=DAYS[1]),
        charge("web", "big", "Input tokens", "0.06", "20", "1K Tokens"),
        charge("api", "big", "Input tokens", "0.5", "0.25", " million tokens "),
        # The usage in another unit, the price by tokens.
        charge("api", "small", "Text", "1", "7", "Requests", PricingQuantity="4", PricingUnit="1000 tokens"),
        charge("api", "small", "Input tokens", "9", "", ""),
        charge("web", "big", "Output tokens", "2.5", "1000", "Requests", BillingCurrency="EUR"),
        # Neither is about tokens.
        charge("web", "big", "Tokenised cards", "70", "3", "Cards"),
        charge("web", "big", "Output tokens", "80", "5", ChargeCategory="Tax"),
        charge("old", "big", "Refunded tokens", "-1", "-4000"),
    )
    made.run_all(*DAYS)
    made.platform.warehouse.publish(made.platform.lake)
    (made.folder / "finops.yaml").write_text(made.text, encoding="utf-8")
    return made


@pytest.fixture
def connection(site: Site) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(site.platform.settings.published), read_only=True) as connection:
        yield connection


def test_a_million_costs_what_its_charges_cost(connection: duckdb.DuckDBPyConnection) -> None:
    table = tokens_by(connection, PERIOD, {}, ("team", "model", "token_type")).frame()
    shown = table[
        [
            "team",
            "model",
            "token_type",
            "currency",
            "tokens",
            "effective_cost",
            "effective_per_million",
            "cost_without_tokens",
        ]
    ]
    zero = Decimal(0)
    assert [tuple(row) for row in shown.itertuples(index=False)] == [
        ("api", "small", "Text", "USD", 4_000, 1, 250, zero),
        ("web", "big", "Output tokens", "USD", 25_000, Decimal("0.500000000000000001"), Decimal("20.00000000000000004"), zero),
        ("api", "big", "Input tokens", "USD", 250_000, Decimal("0.5"), 2, zero),
        ("web", "big", "Input tokens", "USD", 20_000, Decimal("0.06"), 3, zero),
        ("api", "small", "Input tokens", "USD", None, zero, None, 9),
        ("old", "big", "Refunded tokens", "USD", -4_000, -1, None, zero),
        ("web", "big", "Output tokens", "EUR", None, zero, None, Decimal("2.5")),
    ]  # fmt: skip
    assert set(FIGURES) <= set(table.columns)
    assert table["billed_per_million"].tolist()[:2] == [125, 40], "billed is another cost"


def test_by_any_column_or_tag_and_of_chosen_values(connection: duckdb.DuckDBPyConnection) -> None:
    by_key = tokens_by(
        connection, PERIOD, {}, ("tag:api_key",), {"model": ["big"], "token_type": ["Input tokens"]}
    ).frame()
    assert dict(zip(by_key["tag:api_key"], by_key["tokens"])) == {"key-of-web": 20_000, "key-of-api": 250_000}
    whole = tokens_by(connection, PERIOD, {}, (), {"BillingAccountId": ["nobody"]}).frame()
    assert whole.empty
    days = tokens_by(
        connection, PERIOD, {}, ("charge_date",), {"team": ["web"], "token_type": ["Output tokens"]}
    ).frame()
    assert [int(t) for t in days["tokens"] if t is not None] == [15_000, 10_000]
    with pytest.raises(ValueError, match=r"found modell; allowed: .*model, token_type"):
        tokens_by(connection, PERIOD, {}, ("modell",)).frame()


def test_the_command_says_it_exactly(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.folder)
    words = [
        "report",
        "tokens",
        "--from",
        "2026-09-01",
        "--to",
        "2026-09-03",
        "--by",
        "team,model",
        "--where",
        "team=web",
    ]
    answer = CliRunner().invoke(app, [*words, "--format", "csv"])
    assert answer.exit_code == 0, answer.output
    usd, eur = csv.DictReader(io.StringIO(answer.stdout))
    assert (usd["team"], usd["model"], usd["currency"], Decimal(usd["tokens"])) == ("web", "big", "USD", 45_000)
    # 0.56…1 of 45,000 tokens
    assert usd["effective_per_million"] == "12.444444444444444467"
    assert (eur["tokens"], eur["effective_per_million"], Decimal(eur["cost_without_tokens"])) == (
        "",
        "",
        Decimal("2.5"),
    )
    shown = CliRunner().invoke(app, words)
    assert "45,000" in shown.stdout
    refused = CliRunner().invoke(app, ["report", "tokens", "--by", "modell"])
    assert refused.exit_code == 1
    assert "--by: found modell" in " ".join(refused.output.split())


def test_the_published_table_has_each_day_as_the_command_says_it(site: Site, tmp_path: Path) -> None:
    platform, settings = site.platform, site.platform.settings
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"platform": platform, IO_MANAGER: ReportTables(database=str(settings.warehouse))}
        assert dg.materialize([tokens_asset(settings.owner)], instance=instance, resources=resources).success
    copy = Warehouse(settings.warehouse, tmp_path / "p.duckdb").publish(platform.lake, settings.dimensions)
    with duckdb.connect(str(copy), read_only=True) as connection:
        columns = [column.name for column in declarations.table(DAILY_TOKENS).columns]
        listed = ", ".join(columns)
        order = "charge_date, team, model, token_type, currency"
        published = connection.execute(f"SELECT {listed} FROM {DAILY_TOKENS} ORDER BY {order}").fetchall()
        told = tokens_by(connection, PERIOD, settings.providers, DAILY_BY).frame()[columns]
        told = told.sort_values(order.split(", "))
        assert published == [tuple(row) for row in told.itertuples(index=False)]
        assert len(published) == 8
        # As the guide says it: a price of several rows is that of their sums.
        [(tokens, price)] = connection.execute(
            f"SELECT sum(tokens), sum(effective_cost) * 1000000 / sum(tokens) FROM {DAILY_TOKENS} WHERE team = 'web' AND currency = 'USD'"
        ).fetchall()
        assert (tokens, round(price, 12)) == (45_000, round(12.444444444444444467, 12))
    assert read_tokens(platform.lake, settings.engine, settings.providers, settings.dimensions, []).frame().empty


def test_no_line_is_drawn_across_days_without_tokens(connection: duckdb.DuckDBPyConnection) -> None:
    rows = tokens_by(connection, PERIOD, {}, ("charge_date", "model", "token_type")).frame()
    [drawn] = charts.prices(rows[rows["currency"] == "USD"], "USD")["layer"]
    lines: dict[str, list[tuple[str, float | None]]] = {}
    for value in drawn["data"]["values"]:
        lines.setdefault(value["group"], []).append((value["day"], value["price"]))
    assert lines["big / Output tokens"] == [(DAYS[0], pytest.approx(20)), (DAYS[1], pytest.approx(20))]
    assert lines["big / Input tokens"] == [(DAYS[0], pytest.approx(2.074074074)), (DAYS[1], None)]


def test_only_days_whose_facts_changed_are_read_again(site: Site, tmp_path: Path) -> None:
    platform, lake = site.platform, site.platform.lake
    warehouse = Warehouse(tmp_path / "w.duckdb", tmp_path / "p.duckdb")
    shutil.copy(platform.settings.warehouse, warehouse.path)

    def made(known: set[Key], settings: Settings = platform.settings) -> list[date]:
        return bring_up_to_date(at, warehouse, lake, settings, known)

    def held() -> list[tuple[object, ...]]:
        return list(at.execute(f"SELECT * FROM {DAILY_TOKENS} ORDER BY ALL").fetchall())

    with warehouse.writing() as at:
        for table in (DAILY_TOKENS, TOKEN_DAYS):
            at.execute(f"DROP TABLE IF EXISTS {table}")  # another test may have made it
        known = known_days(at)
        days = sorted({day for _, day in known})
        assert made(known) == days
        whole = held()
        assert len(whole) == 8
        assert made(known) == []
        assert held() == whole
        # Other facts of one day; a day that is known no more; and all, where their providers have other names.
        at.execute(f"UPDATE {ROLLED_UP} SET stamp = 'other' WHERE charge_date = ?", [days[0]])
        assert made(known) == days[:1]
        assert made({key for key in known if key[1] != days[0]}) == []
        assert {row[0] for row in held()} == set(days[1:])
        named = platform.settings.model_copy(
            update={"sources": tuple(s.model_copy(update={"provider": "Other"}) for s in platform.settings.sources)}
        )
        assert made(known, named) == days
        assert len(held()) == 8


def test_the_page_says_what_the_command_says(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.folder)
    settings = site.platform.settings
    # Of its own: a process opens a file in one way.
    copy = Warehouse(settings.warehouse, tmp_path / "p.duckdb").publish(site.platform.lake, settings.dimensions)
    served = application(settings.model_copy(update={"published": copy}))
    client = TestClient(served, "http://127.0.0.1:8070", client=("127.0.0.1", 1))
    days = "from=2026-09-01&to=2026-09-03&currency=USD"
    shown = client.get(f"/tokens?{days}&is.model=big")
    assert shown.status_code == 200, shown.text
    assert '<data value="45000.000000000000000000">45,000</data>' not in shown.text, "that is of two types"
    assert ">25,000</data>" in shown.text
    assert 'title="20.000000000000000040"' in shown.text
    assert "effective a million" in shown.text
    # A filter that others do not know does not lead to an error there.
    assert 'href="/teams?from=2026-09-01&amp;to=2026-09-03&amp;basis=effective&amp;currency=USD"' in shown.text
    for table, by in (("tokens", "department,team,model,token_type"), ("days", "charge_date,model,token_type")):
        file = client.get(f"/tokens/{table}.csv?{days}&is.model=big")
        assert file.status_code == 200, file.text
        found = list(csv.DictReader(io.StringIO(file.text)))
        words = ["report", "tokens", "--from", "2026-09-01", "--to", "2026-09-03", "--by", by, "--where", "model=big"]
        said = csv.DictReader(io.StringIO(CliRunner().invoke(app, [*words, "--format", "csv"]).stdout))
        wanted = [row for row in said if row["currency"] == "USD"]
        assert len(wanted) == 4
        assert sorted(found, key=str) == sorted(wanted, key=str)
    assert "No bill counts tokens" in client.get(f"/tokens?{days}&is.team=nobody").text
    refused = client.get(f"/tokens?{days}&basis=accrued")
    assert refused.status_code == 400
    assert "counted on single charges" in refused.text


def test_programs_are_told_the_same_and_a_group_its_own(site: Site) -> None:
    settings = site.platform.settings
    asked = Asked(PERIOD.first, PERIOD.end, where=("ServiceCategory=Compute",))
    whole = Answers(settings, Copies(settings).of(Reach()))
    told = whole.tokens(asked, ("team", "model"))
    shown = {(r["team"], r["model"], r["currency"]): r["effective_per_million"] for r in told["rows"]}
    assert shown["web", "big", "USD"] == "12.444444444444444467"
    assert {team for team, _, _ in shown} == {"web", "api", "old"}
    days = "--from 2026-09-01 --to 2026-09-03"
    assert (
        told["command"] == f"finops report tokens {days} --by team,model --where ServiceCategory=Compute --format json"
    )
    only = whole.tokens(Asked(PERIOD.first, PERIOD.end, currency="EUR"), ("team",))
    assert [(r["team"], r["tokens"], r["effective_per_million"]) for r in only["rows"]] == [("web", None, None)]
    of_shop = Answers(settings, Copies(settings).of(Reach(frozenset({("shop", None)})))).tokens(
        asked, ("team", "model")
    )
    assert {r["team"] for r in of_shop["rows"]} == {"web"}
    assert of_shop["command"] is None
    for wrong, says in ((Asked(basis="accrued"), "counted on single charges"), (Asked(), "by: found modell; allowed")):
        with pytest.raises(ViewError, match=says):
            whole.tokens(wrong, ("modell",))
