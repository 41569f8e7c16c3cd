"""Three clusters through the graph: what each team spent, when usage comes late, and what is told of nodes without any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from typer.testing import CliRunner

from finops_assets.base.period import Period
from finops_assets.cli.program import app
from finops_assets.evaluate.charges import charges, rollup_by
from finops_assets_tests.clusters import (
    AWS_NODE,
    CLUSTERS,
    GOOGLE,
    LEAVES_AT_NOON,
    SCALE_SET,
    allocation,
    idle,
    node_row,
    put_usage,
)
from finops_assets_tests.conftest import Row, Site, focus_row
from finops_assets_tests.running import Graph, persistent_instance

DAYS = ["2026-09-01", "2026-09-02"]
GONE = f"aws:///eu-west-1a/{LEAVES_AT_NOON}"
MACHINES = [f"azure://{SCALE_SET}/virtualMachines/{n}" for n in (0, 1)]
LENIENT = "tag_policy: {required: [team]}\n"
GKE = '{"team": "platform", "goog-k8s-cluster-name": "maps"}'


def bill(day: str) -> list[Row]:
    """Four nodes of three clusters, one of them under a commitment, and what is none."""
    rows = [
        node_row(AWS_NODE, day, BilledCost="0", EffectiveCost="5.123456789012345678", CommitmentDiscountId="sp-1"),
        node_row(LEAVES_AT_NOON, day, BilledCost="3", EffectiveCost="3", ConsumedQuantity="12"),
        node_row(LEAVES_AT_NOON, day, BilledCost="-0.1", EffectiveCost="-0.1", ChargeCategory="Credit"),
        node_row(SCALE_SET, day, BilledCost="7", EffectiveCost="7"),
        node_row(GOOGLE, day, BilledCost="11", EffectiveCost="11", ResourceName="gke-maps-1", Tags=GKE),
        focus_row(day, ResourceId="bucket", CommitmentDiscountId="", CommitmentDiscountQuantity="", ResourceName=""),
    ]
    # A period of these days: what follows asks for no other.
    return [row | {"BillingPeriodEnd": "2026-09-03T00:00:00Z"} for row in rows]


def ran(day: str) -> tuple[list[dict[str, Any]], dict[str, Fraction]]:
    """What ran on the clusters on a day, and what each team then spent: the truth, by hand."""
    usage = [
        allocation("web-1", 2, day=day, labels={"team": "store"}, hours=(0, 12)),
        allocation("web-1", 1, day=day, labels={"team": "search"}, hours=(12, 24)),
        idle(1, day=day, hours=(12, 24)),
        allocation("spot-1", 1, "node-2", GONE, day=day, hours=(0, 12), namespace="data"),
        allocation("a-1", 1, "aks-0", MACHINES[0], day=day, cluster="pool", labels={"squad": "core-team"}),
        allocation("b-1", 2, "aks-1", MACHINES[1], day=day, cluster="pool", labels={"team": "store"}),
        idle(1, "aks-1", "pool", day=day),
        allocation("lost-1", 1, "node-9", "aws:///eu-west-1a/i-0ccccccccccccccc1", day=day, hours=(0, 12)),
    ]
    aws, spot, azure = Fraction("5.123456789012345678"), Fraction(3) - Fraction(1, 10), Fraction(7)
    spent = {
        "store": aws / 2 + azure / 2,
        "search": aws / 4,
        "of-data": spot,
        "core": Fraction("1.25"),
        # Of the keys of finops.yaml `team` comes before `squad`, and the namespace has a label of it.
        "of-shop": azure / 4,
        "platform": aws / 4 + azure / 4 + 11,
    }
    return usage, spent


@pytest.fixture
def graph(make_site: Callable[..., Site], tmp_path: Path) -> Any:
    site = make_site(extra=CLUSTERS + LENIENT)
    (site.folder / "finops.yaml").write_text(site.text)
    with persistent_instance(tmp_path / "dagster") as instance:
        yield site, Graph(site.platform.settings, instance)


def by_team(graph: Graph, day: str) -> dict[str, Decimal]:
    spent: dict[str, Decimal] = defaultdict(Decimal)
    for charged, team, amount in graph.rollup("charge_date, team, effective_cost"):
        if charged == date.fromisoformat(day):
            spent[team] += amount
    return spent


@pytest.mark.long
def test_three_clusters_from_their_bills_to_the_answers(graph: tuple[Site, Graph]) -> None:
    site, graph_ = graph
    site.put_csv("bill.csv", *(row for day in DAYS for row in bill(day)))
    usage, spent = ran(DAYS[0])
    put_usage(site, "1.json", *usage)
    first, last = (date.fromisoformat(day) for day in DAYS)
    assert graph_.run(first, last).success
    found = by_team(graph_, DAYS[0])
    assert found.keys() == spent.keys()
    assert all(abs(Fraction(found[team]) - amount) < Fraction(1, 10**7) for team, amount in spent.items())
    whole = sum(Fraction(row["EffectiveCost"]) for row in bill(DAYS[0]))
    assert sum(Fraction(amount) for amount in found.values()) == whole
    # Without usage the charge is its owner's.
    assert by_team(graph_, DAYS[1]).keys() == {"platform", "core"}
    assert graph_.asked("watch_k8s") == []
    assert [r for r in graph_.asked("follow") if r.job_name == "daily"] == []

    usage, spent = ran(DAYS[1])
    put_usage(site, "2.json", *usage)
    [landing] = graph_.asked("watch_k8s")
    assert graph_.perform(landing).success
    assert graph_.asked("watch_k8s") == []
    [days] = graph_.asked("follow")
    assert days.tags["dagster/asset_partition_range_start"] == days.tags["dagster/asset_partition_range_end"] == DAYS[1]
    assert days.asset_selection is not None
    assert {key.to_user_string() for key in days.asset_selection} == {"cloud_cost_facts", "daily_cost_by_team"}
    assert graph_.perform(days).success
    found = by_team(graph_, DAYS[1])
    assert all(abs(Fraction(found[team]) - amount) < Fraction(1, 10**7) for team, amount in spent.items())
    assert [r for r in graph_.asked("follow") if r.job_name == "daily"] == []

    graph_.publish()
    told = CliRunner().invoke(
        app,
        ["report", "clusters", "--config", str(site.folder / "finops.yaml"), "--format", "csv"],
        catch_exceptions=False,
    )
    rows = [line.split(",") for line in told.stdout.splitlines()]
    header, *lines = rows
    of = {(line[0], line[1]): dict(zip(header, line)) for line in lines}
    assert of.keys() == {("shop", "split"), ("pool", "split"), ("maps", "no usage"), ("shop", "no charge")}
    assert Decimal(of["maps", "no usage"]["effective_cost"]) == 22
    assert Decimal(of["pool", "split"]["effective_cost"]) == 14  # once, of two machines
    assert Decimal(of["pool", "split"]["idle_cost"]) == Decimal("3.5")
    assert of["shop", "split"]["nodes"] == "2"

    # Labels and namespaces without a dimension, and the pod of a single charge.
    with duckdb.connect(str(site.platform.warehouse.published), read_only=True) as connection:
        period = Period(first, date(2026, 9, 3))
        relation = rollup_by(connection, {}, ["tag:K8S_namespace", "AllocatedResourceName"])
        summed = connection.execute(
            f'SELECT "tag:K8S_namespace", AllocatedResourceName, sum(effective_cost) FROM {relation} GROUP BY ALL'
        ).fetchall()
        assert {(namespace, pod) for namespace, pod, _ in summed} == {
            ("shop", "web-1"), ("data", "spot-1"), ("shop", "a-1"), ("shop", "b-1"), ("", "__idle__"), ("", ""),
        }  # fmt: skip
        assert sum(Fraction(amount) for *_, amount in summed) == 2 * whole
        found_charges = charges(connection, period, {}, {"tag:k8s-namespace": ["data"]}).frame()
    assert list(found_charges["AllocatedResourceName"]) == ["spot-1"] * 4


def test_usage_that_cannot_be_listed_holds_no_bill(make_site: Callable[..., Site], tmp_path: Path) -> None:
    site = make_site(
        extra=CLUSTERS.replace("usage", "s3://no-such-bucket/usage, endpoint_url: 'http://127.0.0.1:9'") + LENIENT
    )
    site.put_csv("bill.csv", *bill(DAYS[0]))
    with persistent_instance(tmp_path / "dagster") as instance:
        graph = Graph(site.platform.settings, instance)
        assert graph.run(date.fromisoformat(DAYS[0])).success
        assert by_team(graph, DAYS[0]).keys() == {"platform", "core"}


def test_the_graph_of_a_platform_without_clusters_has_nothing_of_them(site: Site) -> None:
    graph = Graph(site.platform.settings, dg.DagsterInstance.ephemeral())
    keys = {key.to_user_string() for key in graph.defs.resolve_asset_graph().get_all_asset_keys()}
    assert not [key for key in keys if key.startswith("usage/") or "cluster" in key]
