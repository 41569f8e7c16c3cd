"""Commitments: amortised usage against the purchase, unused by owner, list prices counted once; reports round last."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from finops_assets.base.period import Period
from finops_assets.cli.common import cell, write_table
from finops_assets.cost.commitments import commitments, unused_by_owner
from finops_assets.evaluate.reports import savings_by
from finops_assets.graph.assets.report_tables import ReportTables
from finops_assets.tables.rows import Rows
from finops_assets_tests.conftest import Row, Site, focus_row
from finops_assets_tests.places import SHARED

PLAN = {"CommitmentDiscountId": "sp-1", "CommitmentDiscountName": "plan", "CommitmentDiscountType": "Savings Plan"}
STATUS = {"CommitmentDiscountStatus": ""}


def purchase(day: str, end: str, cost: str, **changes: Any) -> Row:
    return focus_row(
        day,
        **{
            "ChargePeriodStart": f"{day}T00:00:00Z", "ChargePeriodEnd": f"{end}T00:00:00Z",
            "ChargeCategory": "Purchase", "BilledCost": cost, "EffectiveCost": "0", "ListCost": cost,
            "ContractedCost": cost, **PLAN, **STATUS, **changes,
        },
    )  # fmt: skip


def usage(day: str, cost: str, status: str = "Used", **changes: Any) -> Row:
    return focus_row(
        day,
        **{
            "BilledCost": "0", "EffectiveCost": cost, "ListCost": "3", "ContractedCost": "2.5",
            "CommitmentDiscountStatus": status, **PLAN, **changes,
        },
    )  # fmt: skip


def uncovered(day: str, **changes: Any) -> Row:
    return focus_row(day, **{**dict.fromkeys([*PLAN, *STATUS], ""), **changes})


def report(site: Site) -> pd.DataFrame:
    with site.platform.warehouse.reading() as connection:
        return commitments(connection).frame()


def test_over_its_term_the_amortised_usage_equals_the_purchase(site: Site) -> None:
    site.put_csv(
        "a.csv",
        purchase("2026-01-01", "2026-01-04", "6"),
        *(usage(f"2026-01-0{d}", "1.5") for d in (1, 2, 3)),
        usage("2026-01-01", "0.5", "Unused", Tags='{"team": "platform", "dept": "it"}', ListCost="0"),
        usage("2026-01-03", "1", "Unused", Tags="", ListCost="0"),
        uncovered("2026-01-02"),
    )
    site.run_all("2026-01-01", "2026-01-02", "2026-01-03")
    [row] = report(site).to_dict("records")
    assert row["CommitmentDiscountId"] == "sp-1"
    assert (row["purchase_billed_cost"], row["used_cost"], row["unused_cost"]) == (6, Decimal("4.5"), Decimal("1.5"))
    assert row["difference"] == 0
    assert row["utilisation_percent"] == 75.0
    assert (row["first_day"], row["last_day"]) == (date(2026, 1, 1), date(2026, 1, 3))
    assert (row["term_start"], row["term_end"]) == (datetime(2026, 1, 1), datetime(2026, 1, 4))  # noqa: DTZ001
    assert bool(row["term_held"]) is True
    assert (row["covered_list_cost"], row["saved_against_list"]) == (9, 3)
    assert row["purchase_effective_cost"] == 0
    with site.platform.warehouse.reading() as connection:
        owners = unused_by_owner(connection).frame()[["department", "team", "unused_cost"]].values.tolist()
    assert owners == [["__untagged__", "__untagged__", Decimal(1)], ["it", "platform", Decimal("0.5")]]


def test_a_term_that_is_not_wholly_held_is_called_so(site: Site) -> None:
    site.put_csv(
        "a.csv", purchase("2026-01-01", "2026-12-31", "365"), usage("2026-01-01", "1"), usage("2026-01-02", "1")
    )
    site.run_all("2026-01-01", "2026-01-02")
    [row] = report(site).to_dict("records")
    assert (row["difference"], bool(row["term_held"])) == (363, False)


def test_usage_whose_purchase_was_before_the_platform_began(site: Site) -> None:
    site.put_csv("a.csv", usage("2026-01-01", "1", ListCost=""))
    site.run_all("2026-01-01")
    [row] = report(site).to_dict("records")
    assert (row["difference"], bool(row["term_held"])) == (-1, False)
    assert pd.isna(row["term_start"])
    assert row["covered_list_cost"] is None
    assert row["saved_against_list"] is None


@pytest.mark.long
def test_currencies_stand_apart_and_a_restated_day_is_replaced(site: Site) -> None:
    site.put_csv("a.csv", usage("2026-01-01", "1"), usage("2026-01-01", "2", BillingCurrency="EUR"))
    site.run_all("2026-01-01")
    site.put_csv("a.csv", usage("2026-01-01", "4"), usage("2026-01-01", "2", BillingCurrency="EUR"))
    site.run_all("2026-01-01")
    assert report(site)[["currency", "used_cost"]].values.tolist() == [["EUR", 2], ["USD", 4]]


def test_list_and_contracted_cost_count_once_where_the_commitment_was_bought(site: Site) -> None:
    site.put_csv(
        "a.csv",
        purchase("2026-01-01", "2026-01-04", "6", ListCost="9", ContractedCost="8"),
        usage("2026-01-01", "1.5"),
        usage("2026-01-01", "0.5", "Unused"),
        uncovered("2026-01-01", ListCost="2", ContractedCost="1.75", BilledCost="1.5", EffectiveCost="1.5"),
        uncovered("2026-01-01", ListCost="", BilledCost="0.25", EffectiveCost="0.25", ServiceCategory="Storage"),
    )
    site.run_all("2026-01-01")
    with site.platform.warehouse.reading() as connection:
        [row] = savings_by(connection, Period(date(2026, 1, 1), date(2026, 1, 2)), ("team",)).frame().to_dict("records")
    assert (row["list_cost"], row["contracted_cost"], row["billed_cost"]) == (11, Decimal("9.75"), Decimal("7.5"))
    assert (row["negotiated"], row["saved"], row["without_prices"]) == (
        Decimal("1.25"),
        Decimal("3.5"),
        Decimal("0.25"),
    )
    assert row["saved_percent"] == pytest.approx(350 / 11)


EXAMPLES = SHARED / "data/spec_examples/commitment_discount_scenarios"


def example(name: str) -> list[Row]:
    """An example's rows, which are not whole data sets: what is mandatory besides is filled in."""
    with (EXAMPLES / name).open(encoding="utf-8-sig", newline="") as file:
        # An hour of 30 is the example's own; it means 06:00 of the next day.
        return [
            {k: v.replace("02-01T30", "02-02T06").replace("null", "") for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def filled(rows: Iterable[Row]) -> list[Row]:
    every = list(rows)
    names = {name for row in every for name in row}
    return [
        {**dict.fromkeys(names, ""), **focus_row("2023-01-01", ListCost="", ContractedCost=""), **row} for row in every
    ]


@pytest.mark.long
@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the specification's examples are not here")
@pytest.mark.parametrize(
    ("files", "purchased", "used", "unused"),
    [
        (["purchase_scenario_1", "usage_scenario_1"], "8760", "1", "0"),
        (["purchase_scenario_2", "usage_scenario_2"], "3", "0", "1"),
        (["purchase_scenario_3", "usage_scenario_3"], "4381.5", "0.75", "0.25"),
        (["purchase_scenario_1", "usage_scenario_4"], "8760", "1", "0"),
    ],
)
def test_the_specifications_scenarios(tmp_path: Path, files: list[str], purchased: str, used: str, unused: str) -> None:
    site = Site(tmp_path, first_day="2023-01-01")
    site.put_csv("a.csv", *filled(row for name in files for row in example(f"commitment_discount_{name}.csv")))
    site.run_all("2023-01-01")
    [row] = report(site).to_dict("records")
    assert (row["purchase_billed_cost"], row["used_cost"], row["unused_cost"]) == (
        Decimal(purchased), Decimal(used), Decimal(unused)
    )  # fmt: skip
    assert row["difference"] == Decimal(purchased) - 1
    assert not row["term_held"]


FINE = [
    Decimal("0.000000000000000001"),
    Decimal("1E-18"),
    Decimal("0E-18"),
    Decimal("99999999999999999999.999999999999999999"),
]


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_every_format_but_the_table_is_exact_and_plain(tmp_path: Path, format: Any) -> None:
    file = tmp_path / f"out.{format}"
    write_table(Rows(["effective_cost"], [[amount] for amount in FINE]), format, file)
    if format == "parquet":
        assert pd.read_parquet(file)["effective_cost"].tolist() == FINE
        return
    text = file.read_text(encoding="utf-8")
    assert "E-" not in text
    found = [
        r["effective_cost"]
        for r in (json.loads(text)["rows"] if format == "json" else csv.DictReader(io.StringIO(text)))
    ]
    assert [Decimal(v) for v in found] == FINE


def test_the_table_rounds_half_even_and_only_there() -> None:
    assert [cell(Decimal(t)) for t in ("0.125", "0.135", "-0.125", "99999999999999999999.995")] == [
        "0.12", "0.14", "-0.12", "100,000,000,000,000,000,000.00",
    ]  # fmt: skip


def test_a_report_of_thousands_of_rows_keeps_every_digit_in_the_warehouse(tmp_path: Path) -> None:
    """A table of pandas decimals is typed by the engine; figures beyond those that it looks at first must fit."""
    import dagster as dg

    amounts = [Decimal("1.5")] * 4000 + FINE

    @dg.asset(key=["reports", "committed_cost"], io_manager_key="io")
    def wide() -> pd.DataFrame:
        return pd.DataFrame(
            {"month": date(2026, 9, 1), "department": "d", "team": "t", "currency": "EUR", "committed_cost": amounts}
        )

    database = str(tmp_path / "w.duckdb")
    assert dg.materialize([wide], resources={"io": ReportTables(database=database)}).success
    with duckdb.connect(database) as connection:
        found = connection.execute("SELECT committed_cost FROM reports.committed_cost").fetchall()
    assert sorted(v for (v,) in found) == sorted(amounts)
