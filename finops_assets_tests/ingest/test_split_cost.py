"""AWS split cost allocation: containers get what they used of their instance, and no cost column's sum moves."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finops_assets.ingest.conversion import convert
from finops_assets.ingest.conversion.split_cost import COSTS
from finops_assets_tests.conftest import Row, Site
from finops_assets_tests.ingest.test_native_bills import PLAN, bill, csv_file, cur_row

pytestmark = pytest.mark.slow  # by its time, not by what it needs

DAY = "2026-09-01"
SPLIT = ("SplitCost", "UnusedCost")


def instance(cost: str, kind: str = "Usage", hour: int = 5) -> Row:
    return cur_row(kind, cost) | {
        "lineItem/ResourceId": "i-1",
        "lineItem/UsageStartDate": f"{DAY}T{hour:02}:00:00Z",
        "resourceTags/user:team": "platform",
        "pricing/publicOnDemandCost": cost,
        "splitLineItem/ParentResourceId": "",
        "splitLineItem/SplitCost": "",
        "splitLineItem/UnusedCost": "",
    }


def pod(team: str, split: str, unused: str, cost: str = "0", hour: int = 5, parent: str = "i-1") -> Row:
    return instance(cost, hour=hour) | {
        "lineItem/ResourceId": f"arn:aws:eks:eu-west-1:2:pod/c/shop/{team}/1",
        "lineItem/UsageType": "EKS-EC2-vCPU-Hours",
        "lineItem/UnblendedRate": "",
        "pricing/publicOnDemandCost": "",
        "pricing/publicOnDemandRate": "",
        "resourceTags/user:team": team,
        "splitLineItem/ParentResourceId": parent,
        "splitLineItem/SplitCost": split,
        "splitLineItem/UnusedCost": unused,
    }


@pytest.mark.long
@pytest.mark.parametrize("cost", ["0", ""])
def test_containers_get_their_part_of_the_instance_with_their_tags(make_site: Callable[..., Site], cost: str) -> None:
    site = make_site(layout="aws-cur")
    site.put_csv(
        "cur.csv",
        instance("0.107"),
        pod("core", "0.0535", "0.01", cost),
        pod("search", "0.02675", "0.005", cost),
        instance("0.3") | {"lineItem/UsageType": "DataTransfer-Out-Bytes"},
    )
    [landed] = site.run(DAY)
    assert landed.state == "live", landed.reason
    site.facts(DAY)
    left = Decimal("0.01175")
    for column in COSTS:
        found = dict(site.rows(DAY, "team || coalesce(ResourceId, '') || BilledCost", column, layer="facts"))
        assert sorted(found.values()) == [left, Decimal("0.03175"), Decimal("0.0635"), Decimal("0.3")], column
    teams = dict(site.rows(DAY, "team", "sum(EffectiveCost) OVER (PARTITION BY team)", layer="facts"))
    assert teams == {"platform": Decimal("0.31175"), "core": Decimal("0.0635"), "search": Decimal("0.03175")}
    # The day is not held: a container's row without a cost of its own has one now.
    assert site.judge(DAY)["conforms", DAY].passed, site.judge(DAY)["conforms", DAY].message
    said = [(r.rule, r.rows, r.example) for r in landed.repaired if r.rule.startswith("split")]
    assert said == [("split_cost_taken_off", 1, "-0.095250000000000000")]


def test_an_instance_of_several_rows_loses_what_was_billed_and_what_was_amortised_alike(tmp_path: Path) -> None:
    covered = {"savingsPlan/SavingsPlanEffectiveCost": "0.03", "savingsPlan/SavingsPlanARN": PLAN}
    rows = [
        instance("0.06"),
        instance("0.05", "SavingsPlanCoveredUsage") | covered,
        instance("-0.05", "SavingsPlanNegation") | {"savingsPlan/SavingsPlanARN": PLAN, "lineItem/ResourceId": ""},
        pod("core", "0.05", "0.01"),
    ]
    with bill(tmp_path, "aws-cur", csv_file(tmp_path, "cur.csv", *rows)) as cur:
        found = [tuple(Decimal(amount) for amount in row) for row in cur.all("BilledCost", "EffectiveCost")]
        # Two thirds of 0.09 are the container's, of 0.06 billed as of 0.03 amortised.
        assert found == [
            (Decimal("0.02"), Decimal("0.02")),
            (Decimal(0), Decimal("0.01")),
            (Decimal(0), Decimal(0)),
            (Decimal("0.04"), Decimal("0.06")),
        ]


@pytest.mark.long
@pytest.mark.parametrize(
    ("rows", "amount"),
    [
        ([instance("0.1", hour=6), pod("core", "0.05", "0")], "0.05"),
        ([instance("0.1"), pod("core", "0.05", "0", parent="i-2")], "0.05"),
        ([instance("0.1"), pod("core", "0.2", "0")], "0.2"),
    ],
    ids=["another hour", "an instance of another bill", "more than the instance"],
)
def test_what_cannot_be_taken_off_an_instance_is_not_given_and_is_told(
    make_site: Callable[..., Site], rows: list[Row], amount: str
) -> None:
    site = make_site(layout="aws-cur")
    site.put_csv("cur.csv", *rows)
    [landed] = site.run(DAY)
    assert [cost for (cost,) in site.rows(DAY, "EffectiveCost")] == [Decimal("0.1"), 0]
    said = {r.rule: r.example for r in landed.repaired if r.rule.startswith("split")}
    assert {rule: Decimal(text or 0) for rule, text in said.items()} == {"split_cost_without_instance": Decimal(amount)}


def test_a_report_of_parquet_with_doubles(tmp_path: Path) -> None:
    table = pa.table(
        {
            "line_item_line_item_type": ["Usage"] * 2,
            "line_item_usage_start_date": [f"{DAY}T05:00:00Z"] * 2,
            "line_item_usage_type": ["BoxUsage:m5.large", "EKS-EC2-GB-Hours"],
            "line_item_resource_id": ["i-1", "arn:pod"],
            "line_item_currency_code": ["USD"] * 2,
            "line_item_unblended_cost": pa.array([0.3, None], pa.float64()),
            "split_line_item_parent_resource_id": [None, "i-1"],
            "split_line_item_split_cost": pa.array([None, 0.1], pa.float64()),
            "split_line_item_unused_cost": pa.array([None, 0.2 / 3], pa.float64()),
        }
    )
    pq.write_table(table, tmp_path / "cur.parquet")
    with bill(tmp_path, "aws-cur", tmp_path / "cur.parquet") as cur:
        [node], [container] = cur.all("EffectiveCost")
        assert Decimal(node) + Decimal(container) == Decimal("0.3")
        assert Decimal(container) == Decimal("0.1") + Decimal(repr(0.2 / 3))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_no_sum_moves_by_a_digit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Hours of several instance rows, of odd costs, with containers whose parts come to less, to all, or to none."""
    chance = random.Random(seed)

    def amount(most: float) -> str:
        return f"{chance.uniform(0, most):.{chance.randint(2, 18)}f}"

    rows: list[Row] = []
    for hour in range(12):
        costs = [amount(0.5) for _ in range(chance.randint(1, 4))]
        rows += [instance(cost, hour=hour) for cost in costs]
        plan = {"savingsPlan/SavingsPlanARN": PLAN, "savingsPlan/SavingsPlanEffectiveCost": amount(0.1)}
        if chance.random() < 0.5:
            rows += [instance("0.2", "SavingsPlanCoveredUsage", hour) | plan]
            rows += [instance("-0.2", "SavingsPlanNegation", hour) | {"savingsPlan/SavingsPlanARN": PLAN}]
        pods = chance.randint(0, 9)
        each = sum(map(Decimal, costs)) / Decimal(max(pods, 1) * chance.randint(1, 3))
        rows += [
            pod("core", f"{each * 2 / 3:.18f}", f"{each / 3:.18f}", chance.choice(["", "0"]), hour) for _ in range(pods)
        ]
    file = csv_file(tmp_path, "cur.csv", *rows)

    def sums() -> dict[str, Decimal]:
        with bill(tmp_path, "aws-cur", file) as cur:
            return {column: cur.total(column) for column in COSTS}

    split = sums()
    with bill(tmp_path, "aws-cur", file) as cur:
        assert cur.total("EffectiveCost", where="ResourceId LIKE 'arn:%'") > 0
        assert all(Decimal(cost) > -Decimal("0.01") for (cost,) in cur.all("EffectiveCost", where="ResourceId = 'i-1'"))
    monkeypatch.setattr(convert, "split_costs", lambda *_: None)
    assert split == sums()
