"""Waste: what the rules find on an estate whose waste is known, with the money of its rows; and what is no evidence."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from benchmarks.waste import figures, judged
from benchmarks.waste_estate import DAYS, FIRST, METERS, PROVIDERS, Planted, plant
from finops_assets.cli.program import app
from finops_assets.cost.coverage import Covered, enter_coverage
from finops_assets.cost.reach import Reach, narrowed
from finops_assets.evaluate.waste.find import WASTE, find_waste
from finops_assets.evaluate.waste.rules import ALL_OF_IT, NOBODY_KNOWS, rules
from finops_assets.explore.answers import Answers
from finops_assets.explore.newest_copy import Copies
from finops_assets.explore.server import application
from finops_assets.focus.specification import columns
from finops_assets.graph.assets.report_tables import IO_MANAGER, ReportTables
from finops_assets.graph.assets.waste import waste_asset
from finops_assets.storage.lake import Key
from finops_assets_tests.conftest import Row, Site, focus_row

pytestmark = pytest.mark.slow

KNOWN: set[Key] = {(source, FIRST + timedelta(days=n)) for source in PROVIDERS for n in range(DAYS)}
SQL = {"decimal": "DECIMAL(38, 18)", "datetime": "TIMESTAMP"}


def found_in(planted: Planted, known: Iterable[Key] = KNOWN) -> pd.DataFrame:
    """The findings of the estate's rows, typed as facts have them."""
    given = pa.Table.from_pylist([{**row, "source": source} for source, rows in planted.rows.items() for row in rows])
    listed = ", ".join(
        f"CAST({f'nullif({name}, $$$$)' if name in given.column_names else 'NULL'} AS {SQL.get(c.type, 'VARCHAR')}) AS {name}"
        for name, c in columns().items()
    )
    with duckdb.connect() as connection:
        connection.register("given", given)
        tags = "json_extract_string(Tags, '$.team') AS team"
        connection.execute(
            f"CREATE TABLE facts AS SELECT {listed}, source, CAST(left(ChargePeriodStart, 10) AS DATE) AS charge_date, {tags} FROM given"
        )
        return find_waste(connection, "facts", {}, known).frame()


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant(4, 3)


@pytest.fixture(scope="module")
def found(planted: Planted) -> pd.DataFrame:
    return found_in(planted)


def test_planted_waste_is_found_and_the_surest_is_right(planted: Planted, found: pd.DataFrame) -> None:
    resources = judged(planted, found)
    sure = figures(r for r in resources if r["certainty"] == "high")
    assert (sure["precision"], sure["found"] > 10) == (1.0, True)
    assert figures(resources, shown_alone=True)["recall"] >= 0.85
    assert figures(resources)["recall"] < figures(resources, shown_alone=True)["recall"], "some no bill can show"
    assert {r["kind"] for r in resources if r["waste"] and r["kind"]} == {r["waste"] for r in resources if r["waste"]}
    never = {
        "address, idle for two days of a move", "address, idle every night of its machine", "address, in use", "database, stopped at weekends", "database, works on three days a month",
        "database, deleted whole", "database, always on", "machine and disk", "machine made anew under its name", "lb, busy", "nat, busy",
        "s3, read once a month", "s3, three weeks old", "volume of this generation", "snapshot, of four weeks' rotation",
    }  # fmt: skip
    assert never <= {r["case"] for r in resources}
    assert not [r for r in resources if r["case"] in never and r["kind"]]


def test_the_money_is_that_of_the_resources_own_rows(planted: Planted, found: pd.DataFrame) -> None:
    stays = {rule.name: rule.stays.text for rule in rules()}
    newest = FIRST + timedelta(days=DAYS - 1)
    for finding in found.to_dict("records"):
        own = [
            row
            for row in planted.rows[finding["source"]]
            if row["ResourceId"] == finding["ResourceId"]
            and (
                re.search(stays[finding["rule"]], row["SkuMeter"].lower())
                or row["CapacityReservationStatus"] == "Unused"
            )
            and row["ChargePeriodStart"][:10] >= str(finding["first_day"])
        ]
        assert finding["cost_since"] == sum(Decimal(row["EffectiveCost"]) for row in own)
        assert finding["row_count"] == len(own)
        days = (newest - finding["first_day"]).days + 1
        assert finding["days"] == days
        month = sum(
            Decimal(row["EffectiveCost"])
            for row in own
            if row["ChargePeriodStart"][:10] > str(newest - timedelta(days=30))
        )
        assert finding["cost_a_month"] == pytest.approx(month * 30 / min(days, 30), abs=Decimal("0.000001"))
        if finding["kind"] == "previous generation":
            # gp3 costs 0.08 where gp2 costs 0.10, and the bill shows both.
            assert float(finding["could_save"]) == pytest.approx(float(finding["cost_a_month"]) * 0.2, rel=1e-4)
        elif finding["rule"] in ("cold-in-standard-class-google", "old-snapshot"):
            assert finding["could_save"] is None, "the bill shows no cheaper price"
    assert METERS["gp3"].price / METERS["gp2"].price == pytest.approx(0.8)


@pytest.mark.long
def test_days_that_are_held_are_evidence_of_nothing(planted: Planted, found: pd.DataFrame) -> None:
    """A machine that is charged is not gone because the days on which it was are held; nor is a source that is late."""
    last = {FIRST + timedelta(days=n) for n in range(DAYS - 12, DAYS)}
    late = found_in(planted, {key for key in KNOWN if key[0] != "azure" or key[1] not in last})
    of_azure = late[late["source"] == "azure"]
    assert set(of_azure["through"]) == {FIRST + timedelta(days=DAYS - 13)}
    ended = {row["ResourceId"]: row["last_use"] for row in found[found["source"] == "azure"].to_dict("records")}
    assert of_azure["ResourceId"].isin(list(ended)).all()
    assert len(of_azure) < len(ended) or all(day < min(last) for day in ended.values())
    before, after = (frame[frame["source"] != "azure"].reset_index(drop=True) for frame in (found, late))
    pd.testing.assert_frame_equal(before, after)
    assert found_in(planted, ()).empty


@pytest.mark.long
def test_a_bill_without_resources_or_quantities_is_no_evidence_of_idleness(planted: Planted) -> None:
    nameless = Planted(
        {s: [{**row, "ResourceId": "", "ResourceName": ""} for row in rows] for s, rows in planted.rows.items()}
    )
    assert set(found_in(nameless)["kind"]) <= {
        "idle address",
        "unused seat",
        "unused capacity reservation",
        "previous generation",
        "old snapshot",
    }
    unmeasured = Planted(
        {
            s: [{**row, "ConsumedQuantity": "", "PricingQuantity": ""} for row in rows]
            for s, rows in planted.rows.items()
        }
    )
    of = {r["case"] for r in judged(planted, found_in(unmeasured)) if r["kind"]}
    assert "lb, traffic ended" in of
    assert not of & {"lb, busy", "nat, busy", "endpoint, busy", "database, always on"}


def test_a_use_without_quantity_is_none() -> None:
    """A bill that goes on listing the meter with 0 shows no use."""
    made = plant(5, 1)
    gone = next(r for r in made.resources if r.case == "database, always on")
    for row in made.rows["aws"]:
        if (
            row["ResourceId"] == gone.id
            and row["SkuMeter"].startswith("InstanceUsage")
            and row["ChargePeriodStart"] >= "2026-09-01"
        ):
            row["ConsumedQuantity"] = "0"
    [seen] = [r for r in found_in(made).to_dict("records") if r["ResourceId"] == gone.id]
    assert (seen["kind"], seen["last_use"], seen["first_day"]) == (
        "cost after use ended",
        date(2026, 8, 31),
        date(2026, 9, 1),
    )


def test_who_was_seen_in_use_on_few_days_is_no_sure_case(planted: Planted) -> None:
    """Of a database that works on three days a month only one such turn is known: it may rest."""
    cases = {r.id for r in planted.resources if r.case == "database, works on three days a month"}
    short = {key for key in KNOWN if key[1] >= date(2026, 9, 15)}
    seen = [r for r in found_in(planted, short).to_dict("records") if r["ResourceId"] in cases]
    assert [(r["last_use"], r["certainty"]) for r in seen] == [(date(2026, 10, 3), "medium")] * len(cases)


def test_every_rule_says_where_its_knowledge_comes_from_and_is_tried(found: pd.DataFrame) -> None:
    assert len({rule.name for rule in rules()}) == len(rules())
    assert all(rule.source and rule.why and rule.least_days >= 3 for rule in rules())
    assert {rule.name for rule in rules()} == set(found["rule"])
    for rule in rules():
        for pattern in (
            rule.provider,
            rule.stays.text,
            rule.saves if rule.saves not in (ALL_OF_IT, NOBODY_KNOWS) else "",
        ):
            assert pattern == pattern.lower(), f"{rule.name}: what is looked at is in lower case"
            re.compile(pattern)


def idle(day: str, team: str, cost: str, **more: Any) -> Row:
    return focus_row(
        day,
        **{
            "ProviderName": "AWS", "ServiceName": "Amazon Virtual Private Cloud", "EffectiveCost": cost,
            "ChargeDescription": "$0.005 per Idle public IPv4 address per hour", "ResourceId": f"eip-{team}", "PricingUnit": "Hrs",
            "Tags": json.dumps({"team": team, "dept": {"web": "shop"}.get(team, "base")}), **more,
        },
    )  # fmt: skip


def days() -> Iterator[str]:
    for n in range(4):
        yield f"2026-09-{n + 1:02}"


def published(site: Site) -> object:
    """By the asset, into the published copy; what it says of kinds."""
    platform = site.platform
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"platform": platform, IO_MANAGER: ReportTables(database=str(platform.settings.warehouse))}
        assert dg.materialize([waste_asset("team:finops")], instance=instance, resources=resources).success
        [told] = instance.fetch_materializations(dg.AssetKey(WASTE), limit=1).records
    platform.warehouse.publish(platform.lake, platform.settings.dimensions)
    assert told.asset_materialization is not None
    return told.asset_materialization.metadata["by kind"].value


def test_a_bill_without_waste_has_an_empty_table(site: Site) -> None:
    site.put_csv("a.csv", *(focus_row(day) for day in days()))
    (site.folder / "finops.yaml").write_text(site.text, encoding="utf-8")
    command = ["report", "waste", "--config", str(site.folder / "finops.yaml"), "--format", "json"]
    site.run_all(*days())
    site.platform.warehouse.publish(site.platform.lake)
    early = CliRunner().invoke(app, command)
    assert early.exit_code == 1
    assert "waste was not looked for yet" in early.output
    assert published(site) == "nothing was found"
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["rows"] == []
    assert CliRunner().invoke(app, command[:-2]).exit_code == 0


@pytest.mark.long
def test_it_is_published_and_each_team_sees_its_own(site: Site) -> None:
    site.put_csv(
        "a.csv", *(idle(day, team, cost) for day in days() for team, cost in (("web", "0.1"), ("core", "0.2")))
    )
    config = site.folder / "finops.yaml"
    config.write_text(site.text, encoding="utf-8")
    site.run_all(*days())
    platform = site.platform
    with platform.warehouse.writing() as connection, platform.warehouse.transaction(connection):
        enter_coverage(connection, {("other", date(2026, 9, 1)): Covered("held", "late", "")}, [])
    assert published(site) == "idle address 2"
    command = ["report", "waste", "--config", str(config)]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "other has no figures for 1 day: 2026-09-01" in " ".join(shown.output.split())
    rows = list(
        csv.DictReader(
            io.StringIO(CliRunner().invoke(app, [*command, "--certainty", "high", "--format", "csv"]).stdout)
        )
    )
    assert [(row["team"], row["cost_a_month"], row["cost_since"], row["row_count"]) for row in rows] == [
        ("core", "6.000000000000000000", "0.800000000000000000", "4"), ("web", "3.000000000000000000", "0.400000000000000000", "4"),
    ]  # fmt: skip
    page = TestClient(application(platform.settings), "http://127.0.0.1:8070", client=("127.0.0.1", 1))
    assert "idle address" in page.get("/waste").text
    listed = list(csv.DictReader(io.StringIO(page.get("/waste/findings.csv").text)))
    assert [(row["ResourceId"], row["cost_a_month"]) for row in listed] == [
        (row["ResourceId"], row["cost_a_month"]) for row in rows
    ]
    of_shop = Reach(frozenset({("shop", None)}))
    with narrowed(platform.settings.published, of_shop) as connection:
        assert connection.execute(f"SELECT team, ResourceId FROM {WASTE}").fetchall() == [("web", "eip-web")]
    answer = Answers(platform.settings, Copies(platform.settings).of(of_shop)).waste()
    assert [row["ResourceId"] for row in answer["rows"]] == ["eip-web"]
    assert answer["period"] == {"from": "2026-06-07", "to": "2026-09-05"}
    assert answer["coverage"]["sources_late"] == {"other": ["2026-09-01"]}
