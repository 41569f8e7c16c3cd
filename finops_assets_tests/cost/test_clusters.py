"""Charges of a cluster's nodes, split over what ran on them: the bill's money, the usage's shares, and what is left over."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from finops_assets.alerts.alert import OpenAlert
from finops_assets.alerts.deliveries import usage_observations
from finops_assets.base.errors import ConfigError
from finops_assets.base.sql import literal
from finops_assets.cli.program import app
from finops_assets.cost.clusters.split import SUMMED, usage_changed_days
from finops_assets.cost.facts import facts_stamp
from finops_assets.evaluate.focus_export import export_focus
from finops_assets.ingest.usage.inspect import inspect_usage
from finops_assets.ingest.usage.landing import land_usage, landed_usage
from finops_assets.judge.gates.facts import CONSERVED, judge_facts
from finops_assets.settings.load import parse_settings
from finops_assets_tests.clusters import (
    AWS_NODE,
    CLUSTERS,
    DAY,
    GOOGLE,
    LEAVES_AT_NOON,
    SCALE_SET,
    allocation,
    answer,
    idle,
    node_row,
    put_usage,
)
from finops_assets_tests.conftest import Row, Site, focus_row

pytestmark = pytest.mark.slow  # by its time, not by what it needs

NOW = datetime(2026, 9, 3, tzinfo=UTC)


def land(site: Site) -> list[date]:
    p = site.platform
    [cluster] = p.settings.clusters
    return land_usage(p.lake, p.settings.engine, cluster, p.settings.first_day)


def build(site: Site, *days: str) -> list[date]:
    """Land usage and bill, and make facts; the days that the usage changed."""
    changed = land(site)
    site.run(*days)
    site.facts(*days)
    return changed


def parts(site: Site, day: str, *columns: str) -> list[tuple[Any, ...]]:
    """These columns of the facts of split charges."""
    query = (
        f"SELECT {', '.join(columns)} FROM read_parquet({literal(str(site.file('facts', day)))}, hive_partitioning = false)"
        " WHERE AllocatedMethodId LIKE 'kubernetes-%' ORDER BY source_row, AllocatedMethodId DESC, AllocatedResourceId"
    )
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def written(file: Path) -> tuple[int, int]:
    """Which file it is, and when it was written."""
    return file.stat().st_ino, file.stat().st_mtime_ns


def nodes(site: Site, day: str) -> list[dict[str, Any]]:
    file = site.platform.lake.day_file("nodes", "bill", date.fromisoformat(day))
    return pq.ParquetFile(file).read().to_pylist() if file.is_file() else []


def shares_are_exact(site: Site, day: str, shares: Mapping[str, Fraction]) -> None:
    """Every amount of every split row: its parts sum to it exactly, and none is further from its share than one unit."""
    columns = ("source_row", *SUMMED)
    raw = {row: amounts for row, *amounts in site.rows(day, *columns)}
    met: dict[int, dict[str, list[Decimal | None]]] = defaultdict(dict)
    for row, name, *amounts in parts(site, day, "source_row", "AllocatedResourceName", *SUMMED):
        met[row][name] = amounts
    assert met
    for row, by_name in met.items():
        assert by_name.keys() == shares.keys()
        for place, whole in enumerate(raw[row]):
            of_row = {name: amounts[place] for name, amounts in by_name.items()}
            if whole is None:
                assert set(of_row.values()) == {None}
                continue
            assert sum(Fraction(amount or 0) for amount in of_row.values()) == Fraction(whole)
            for name, amount in of_row.items():
                exact = Fraction(whole) * shares[name]
                # Shares are kept to nine places.
                assert abs(Fraction(amount or 0) - exact) <= Fraction(1, 10**18) + abs(Fraction(whole)) / 10**9


def test_a_nodes_charges_become_those_of_its_pods_and_what_is_idle(make_site: Callable[..., Site]) -> None:
    site = make_site(extra=CLUSTERS)
    site.put_csv(
        "bill.csv",
        node_row(AWS_NODE, BilledCost="10", EffectiveCost="7.000000000000000001", ListCost="12", ContractedCost="10"),
        node_row(AWS_NODE, BilledCost="0", EffectiveCost="-1", ChargeCategory="Credit", ConsumedQuantity=""),
        focus_row(ResourceId="i-0bbbbbbbbbbbbbbb1"),
    )
    put_usage(
        site, "day.json",
        allocation("web-7f-x1", 3, labels={"team": "store", "pod-template-hash": "7f"}),
        allocation("job-1-a", 1, namespace="data"),
        idle(4),
    )  # fmt: skip
    build(site, DAY)
    shares_are_exact(site, DAY, {"web-7f-x1": Fraction(3, 8), "job-1-a": Fraction(1, 8), "__idle__": Fraction(1, 2)})
    found = parts(
        site, DAY, "AllocatedResourceName", "team", "team_key", "department", "AllocatedMethodId", "ResourceId"
    )
    assert set(found) == {
        ("web-7f-x1", "store", "team", "it", "kubernetes-usage", AWS_NODE),
        ("job-1-a", "of-data", "team", "it", "kubernetes-usage", AWS_NODE),
        ("__idle__", "platform", "team", "it", "kubernetes-idle", AWS_NODE),
    }
    [(tags, details, resource)] = parts(site, DAY, "AllocatedTags", "AllocatedMethodDetails", "AllocatedResourceId")[:1]
    assert (resource, json.loads(tags)) == ("shop/data/job-1-a", {
        "team": "of-data", "k8s-cluster-name": "shop", "k8s-namespace": "data", "k8s-workload-name": "job-1",
        "k8s-workload-type": "deployment",
    })  # fmt: skip
    assert json.loads(details)["Elements"][0]["AllocatedRatio"] == 0.125
    # What is no node of a cluster is as it was, and no row is lost.
    others = [row for row in site.rows(DAY, "ResourceId", "AllocatedMethodId", layer="facts") if row[1] is None]
    assert others == [("i-0bbbbbbbbbbbbbbb1", None)]
    assert [v.passed for v in judge_facts(site.platform, [("bill", date(2026, 9, 1))]) if v.gate == CONSERVED] == [True]


@pytest.mark.long
@pytest.mark.parametrize(
    ("charge", "node", "provider", "matched_by"),
    [
        ({"ResourceId": AWS_NODE}, "ip-10-0-0-1.ec2.internal", f"aws:///eu-west-1a/{AWS_NODE}", "provider id"),
        ({"ResourceId": AWS_NODE}, "ip-10-0-0-1.ec2.internal", AWS_NODE, "provider id"),
        ({"ResourceId": f"arn:aws:ec2:eu-west-1:1:instance/{AWS_NODE}"}, f"{AWS_NODE}.eu-west-1.compute.internal", None, "provider id"),
        ({"ResourceId": SCALE_SET.upper()}, "aks-pool-0", f"azure://{SCALE_SET}/virtualMachines/0", "provider id"),
        ({"ResourceId": GOOGLE, "ResourceName": "gke-shop-1"}, "gke-shop-1", "gce://acme/europe-west1-b/gke-shop-1", "provider id"),
        ({"ResourceId": GOOGLE, "ResourceName": "gke-shop-1"}, "gke-shop-1", "gke-shop-1", "name"),
        ({"ResourceId": GOOGLE, "ResourceName": "gke-shop-1"}, "gke-shop-1", None, "name"),
    ],
)  # fmt: skip
def test_a_node_is_found_however_bill_and_exporter_call_it(
    make_site: Callable[..., Site], charge: Row, node: str, provider: str | None, matched_by: str
) -> None:
    site = make_site(extra=CLUSTERS)
    site.put_csv("bill.csv", node_row("", **charge), focus_row(ResourceId="other", ResourceName="gke-shop-1"))
    put_usage(site, "day.json", allocation("web-1", 3, node, provider), idle(1, node))
    build(site, DAY)
    shares_are_exact(site, DAY, {"web-1": Fraction(3, 4), "__idle__": Fraction(1, 4)})
    told = nodes(site, DAY)
    assert [(n["state"], n["matched_by"], n["effective_cost"], n["idle_effective_cost"]) for n in told] == [
        ("split", matched_by, Decimal("1.25"), Decimal("0.3125"))
    ]


def test_machines_of_a_scale_set_share_its_charge_by_what_ran_on_all_of_them(make_site: Callable[..., Site]) -> None:
    site = make_site(extra=CLUSTERS)
    site.put_csv("bill.csv", node_row(SCALE_SET))
    machines = [f"azure://{SCALE_SET}/virtualMachines/{n}" for n in (0, 1)]
    put_usage(site, "day.json", allocation("a-1", 1, "n0", machines[0]), allocation("b-1", 3, "n1", machines[1]))
    build(site, DAY)
    shares_are_exact(site, DAY, {"a-1": Fraction(1, 4), "b-1": Fraction(3, 4)})


def test_two_machines_of_one_name_are_not_guessed_between(make_site: Callable[..., Site]) -> None:
    site = make_site(extra=CLUSTERS)
    other = GOOGLE.replace("4711", "4712").replace("europe-west1-b", "europe-west1-c")
    site.put_csv("bill.csv", *(node_row(r, ResourceName="gke-shop-1") for r in (GOOGLE, other)))
    put_usage(site, "day.json", allocation("web-1", 3, "gke-shop-1", None))
    build(site, DAY)
    assert parts(site, DAY, "ResourceId") == []
    assert {n["state"] for n in nodes(site, DAY)} == {"no charge", "no usage"}


def test_a_node_that_leaves_at_noon_and_a_pod_that_is_given_to_another_team(make_site: Callable[..., Site]) -> None:
    """Windows of an hour, or of half a day: the day's shares are of what ran while it was there."""
    site = make_site(extra=CLUSTERS)
    site.put_csv("bill.csv", node_row(LEAVES_AT_NOON, ConsumedQuantity="12"), node_row(AWS_NODE))
    gone = f"aws:///eu-west-1a/{LEAVES_AT_NOON}"
    put_usage(
        site, "day.json",
        allocation("spot-1", 1, "node-2", gone, hours=(0, 12)), allocation("spot-2", 2, "node-2", gone, hours=(0, 12)),
        allocation("web-1", 1, hours=(0, 12), labels={"team": "before"}),
        allocation("web-1", 3, hours=(12, 24), labels={"team": "after"}),
    )  # fmt: skip
    build(site, DAY)
    cost: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for resource, team, amount in parts(site, DAY, "ResourceId", "team", "EffectiveCost"):
        cost[resource, team] += amount
    assert cost[AWS_NODE, "before"] == Decimal("0.3125")
    assert cost[AWS_NODE, "after"] == Decimal("0.9375")
    assert cost[LEAVES_AT_NOON, "of-shop"] == Decimal("1.25")
    assert [(n["node"], n["usage_hours"]) for n in nodes(site, DAY)] == [("node-1", 24.0), ("node-2", 12.0)]


def test_what_has_no_usage_and_what_has_no_charge_is_told_with_its_money(make_site: Callable[..., Site]) -> None:
    site = make_site(extra=CLUSTERS)
    month = node_row(AWS_NODE, EffectiveCost="100", ChargePeriodEnd="2026-10-01T00:00:00Z")
    provider_split = node_row(AWS_NODE, EffectiveCost="9", AllocatedMethodId="theirs", AllocatedTags='{"team": "x"}')
    site.put_csv(
        "bill.csv",
        *({"AllocatedMethodId": "", "AllocatedTags": ""} | row for row in (
            node_row(AWS_NODE), month, provider_split, node_row("i-0bbbbbbbbbbbbbbb1"),
            node_row("vol-1", ServiceCategory="Storage"),
        )),
    )  # fmt: skip
    put_usage(
        site, "day.json", allocation("web-1", 1), allocation("lost-1", 7, "node-9", "aws:///eu-west-1a/i-0ccccccccccccccc1"),
        allocation("nowhere-1", 2, None, None),  # type: ignore[arg-type]
    )  # fmt: skip
    build(site, DAY)
    # A charge of a month is not given away by a day's usage, and what the provider split stays as it is.
    assert {row for row, *_ in parts(site, DAY, "source_row", "AllocatedResourceName")} == {1}
    told = {n["state"]: n for n in nodes(site, DAY)}
    assert told.keys() == {"split", "no usage", "no charge", "no node named"}
    assert (told["split"]["effective_cost"], told["split"]["unsplit_effective_cost"]) == (
        Decimal("110.25"),
        Decimal(109),
    )
    assert (told["no usage"]["ResourceId"], told["no usage"]["cluster"], told["no usage"]["effective_cost"]) == (
        "i-0bbbbbbbbbbbbbbb1", "shop", Decimal("1.25"),
    )  # fmt: skip
    assert (told["no charge"]["node"], told["no charge"]["usage_cost"]) == ("node-9", Decimal(7))
    assert told["no node named"]["usage_cost"] == Decimal(2)


@pytest.mark.long
@pytest.mark.parametrize(
    ("idle_to", "shares"),
    [
        ("requested", {"big-1": Fraction(3, 4), "small-1": Fraction(1, 4)}),
        ("used", {"big-1": Fraction(1, 2), "small-1": Fraction(1, 2)}),
    ],
)
def test_idle_goes_to_those_who_requested_or_used_as_a_line_of_its_own(
    make_site: Callable[..., Site], idle_to: str, shares: dict[str, Fraction]
) -> None:
    site = make_site(extra=CLUSTERS.replace("}]", f", idle: {idle_to}}}]"))
    site.put_csv("bill.csv", node_row(AWS_NODE, EffectiveCost="8"))
    big: dict[str, Any] = {
        "cpuCost": 1,
        "ramCost": 0,
        "cpuCoreRequestAverage": 3,
        "ramByteRequestAverage": 0,
        "cpuCoreUsageAverage": 1,
        "ramByteUsageAverage": 0,
    }
    small: dict[str, Any] = big | {"cpuCoreRequestAverage": 1}
    put_usage(site, "day.json", allocation("big-1", 1, **big), allocation("small-1", 1, **small), idle(2))
    build(site, DAY)
    found = {
        (method, name): amount
        for method, name, amount in parts(site, DAY, "AllocatedMethodId", "AllocatedResourceName", "EffectiveCost")
    }
    assert {name: amount for (method, name), amount in found.items() if method == "kubernetes-usage"} == {
        "big-1": 2,
        "small-1": 2,
    }
    assert {name: amount for (method, name), amount in found.items() if method == f"kubernetes-idle-by-{idle_to}"} == {
        name: 4 * share for name, share in shares.items()
    }


def test_idle_that_is_told_of_a_cluster_goes_to_its_nodes_as_its_pods_lie(make_site: Callable[..., Site]) -> None:
    site = make_site(extra=CLUSTERS)
    site.put_csv("bill.csv", node_row(AWS_NODE), node_row(LEAVES_AT_NOON))
    whole = idle(8)
    whole["properties"], whole["name"] = {"cluster": "shop"}, "shop/__idle__"
    put_usage(
        site, "day.json", allocation("a-1", 3), allocation("b-1", 1, "node-2", f"aws:///eu-west-1a/{LEAVES_AT_NOON}"), whole
    )  # fmt: skip
    build(site, DAY)
    idles = [
        (r, c)
        for r, m, c in parts(site, DAY, "ResourceId", "AllocatedMethodId", "EffectiveCost")
        if m == "kubernetes-idle"
    ]
    third = Decimal("1.25") * 2 / 3
    assert [r for r, _ in idles] == [AWS_NODE, LEAVES_AT_NOON]
    assert all(abs(c - third) < Decimal("1e-8") for _, c in idles)


@pytest.mark.long
def test_every_amount_is_split_to_the_last_digit_whatever_it_is(make_site: Callable[..., Site]) -> None:
    site = make_site(extra=CLUSTERS)
    amounts = ["0.000000000000000001", "-7.123456789012345678", "99999999999999999999.999999999999999999", "0", "3"]
    site.put_csv(
        "bill.csv",
        *(
            node_row(AWS_NODE, BilledCost=a, EffectiveCost=a, ListCost=a, ContractedCost=a, ConsumedQuantity="")
            for a in amounts
        ),
    )
    weights = {f"p{n}-1": (n * 7919 + 13) % 1009 for n in range(1, 60)}
    put_usage(site, "day.json", *(allocation(pod, 0, cpuCost=w / 64, ramCost=0) for pod, w in weights.items()))
    build(site, DAY)
    total = sum(weights.values())
    shares_are_exact(site, DAY, {pod: Fraction(weight, total) for pod, weight in weights.items()})
    [verdict] = [v for v in judge_facts(site.platform, [("bill", date(2026, 9, 1))]) if v.gate == CONSERVED]
    assert verdict.passed


def test_parts_that_are_not_the_row_hold_the_day(make_site: Callable[..., Site]) -> None:
    """What one part has more another has less: sums over the day do not tell."""
    site = make_site(extra=CLUSTERS)
    site.put_csv("bill.csv", node_row(AWS_NODE), node_row(AWS_NODE))
    put_usage(site, "day.json", allocation("a-1", 1), allocation("b-1", 1))
    build(site, DAY)
    file = site.file("facts", DAY)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE facts AS FROM read_parquet({literal(str(file))}, hive_partitioning = false)")
        connection.execute(
            "UPDATE facts SET ListCost = ListCost + CASE source_row WHEN 1 THEN 1e-18 ELSE -1e-18 END::DECIMAL(38, 18)"
            " WHERE AllocatedResourceName = 'a-1'"
        )
        connection.execute(f"COPY facts TO {literal(str(file))} (FORMAT parquet)")
    [verdict] = [v for v in judge_facts(site.platform, [("bill", date(2026, 9, 1))]) if v.gate == CONSERVED]
    assert (verdict.passed, [*verdict.held_sources]) == (False, ["bill"])
    assert "the parts of 2 rows are not the row of the bill, first bill.csv row 1: ListCost 2" in verdict.message


@pytest.mark.long
def test_usage_that_is_delivered_twice_is_no_more_usage(make_site: Callable[..., Site]) -> None:
    site = make_site(extra=CLUSTERS)
    site.put_csv("bill.csv", node_row(AWS_NODE))
    whole = [allocation("a-1", 1), allocation("b-1", 1), idle(2)]
    put_usage(site, "noon.json", allocation("a-1", 9, hours=(0, 12)))
    build(site, DAY)
    shares_are_exact(site, DAY, {"a-1": Fraction(1)})
    put_usage(site, "night.json", *whole)
    assert build(site, DAY) == [date(2026, 9, 1)]
    expected = {"a-1": Fraction(1, 4), "b-1": Fraction(1, 4), "__idle__": Fraction(1, 2)}
    shares_are_exact(site, DAY, expected)
    before = written(site.file("facts", DAY))
    put_usage(site, "night (copy).json", *whole)
    assert build(site, DAY) == []
    assert written(site.file("facts", DAY)) == before
    # Two parts of one export are both of it.
    put_usage(site, "more.json", allocation("c-1", 4))
    build(site, DAY)
    shares_are_exact(
        site, DAY, {"a-1": Fraction(1, 8), "b-1": Fraction(1, 8), "c-1": Fraction(1, 2), "__idle__": Fraction(1, 4)}
    )


@pytest.mark.long
def test_a_file_of_usage_that_changes_rebuilds_the_days_that_it_covers_and_no_others(
    make_site: Callable[..., Site],
) -> None:
    site, days = make_site(extra=CLUSTERS), ["2026-09-01", "2026-09-02", "2026-09-03"]
    site.put_csv("bill.csv", *(node_row(AWS_NODE, day) for day in days))
    for day in days[:2]:
        put_usage(site, f"{day}.json", allocation("a-1", 1, day=day), idle(1, day=day))
    assert build(site, *days) == [date(2026, 9, 1), date(2026, 9, 2)]
    files = [site.file("facts", day) for day in days]
    before = [written(file) for file in files]

    def changed() -> list[date]:
        p = site.platform
        return usage_changed_days(p.lake, p.rules.clusters, "bill", date(2026, 1, 1), date(2026, 12, 1))

    assert changed() == []
    put_usage(site, "2026-09-02.json", allocation("a-1", 3, day="2026-09-02"), idle(1, day="2026-09-02"))
    assert land(site) == [date(2026, 9, 2)]
    assert changed() == [date(2026, 9, 2)]
    site.facts(*days)
    assert changed() == []
    assert [written(file) == at for file, at in zip(files, before)] == [True, False, True]
    shares_are_exact(site, days[1], {"a-1": Fraction(3, 4), "__idle__": Fraction(1, 4)})
    # What a file gives no more counts no more: the charge is its owner's again.
    put_usage(site, "2026-09-02.json", allocation("a-1", 3, day="2026-09-03"))
    assert land(site) == [date(2026, 9, 2), date(2026, 9, 3)]
    site.facts(*days)
    assert (len(parts(site, days[1], "team")), len(parts(site, days[2], "team"))) == (0, 1)
    assert site.rows(days[1], "team", "AllocatedTags", layer="facts") == [("platform", None)]


@pytest.mark.long
def test_usage_that_cannot_be_read_is_refused_with_the_reason_and_what_was_there_stays(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(extra=CLUSTERS)
    site.put_csv("bill.csv", node_row(AWS_NODE))
    file = put_usage(site, "day.json", allocation("a-1", 1))
    build(site, DAY)
    week = allocation("a-1", 1)
    week["window"]["end"] = "2026-09-08T00:00:00Z"
    cases = {
        answer(week): "no window within one UTC day",
        answer(allocation("a-1", 1), allocation("a-1", 1, hours=(0, 12)) | {"name": "x"}): "windows that overlap",
        '{"code": 200, "data": []}': "holds no allocation",
        '{"code": 200, "data"': "is no answer of the allocation API",
        '{"data": [{"a": {"cpuCost": 1}}]}': "has no window",
    }
    for text, reason in cases.items():
        file.write_text(text)
        assert land(site) == []
        assert reason in str(landed_usage(site.platform.lake, "k8s")["day.json"].reason)
        [told] = [o for o in usage_observations(site.platform, NOW, []) if o.alert]
        assert (told.key, told.alert.severity) == ("usage k8s day.json", "WARNING")
        assert reason in told.alert.text
        site.facts(DAY)
        shares_are_exact(site, DAY, {"a-1": Fraction(1)})
    file.write_text(answer(allocation("a-1", 2)))
    land(site)
    [over] = usage_observations(site.platform, NOW, [OpenAlert(told.alert, NOW)])  # type: ignore[arg-type]
    assert over.alert is None


def test_parquet_and_csv_of_the_same_rows_say_the_same(make_site: Callable[..., Site]) -> None:
    """As OpenCost's exporters write them: flat names, labels in columns of their own, the last second of the day."""
    site = make_site(extra=CLUSTERS.replace("opencost", "kubecost"))
    site.put_csv("bill.csv", *(node_row(AWS_NODE, day) for day in ("2026-09-01", "2026-09-02")))
    flat = {
        "window.start": f"{DAY}T00:00:00Z", "window.end": f"{DAY}T23:59:59Z", "properties.cluster": "shop",
        "properties.node": "node-1", "properties.providerID": AWS_NODE, "properties.namespace": "shop",
        "properties.pod": "a-1", "properties.labels.team": "store", "properties.labels.app": "", "name": "a-1",
        "cpuCost": 3.0, "ramCost": 0.0,
    }  # fmt: skip
    idles = flat | {
        "properties.namespace": "__unallocated__",
        "properties.pod": "__idle__",
        "name": "__idle__",
        "cpuCost": 1.0,
    }
    unmounted = flat | {
        "properties.pod": "__unmounted__",
        "name": "__unmounted__",
        "properties.providerID": "",
        "cpuCost": 9.0,
    }
    folder = site.folder / "usage"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist([flat, idles, unmounted]), folder / "day.parquet")
    (folder / "day.csv").write_text(
        "Date,Cluster,Node,Provider ID,Namespace,Pod,CPUCost,RAMCost,Label_team\n"
        f"2026-09-02,shop,node-1,{AWS_NODE},shop,a-1,3,0,store\n2026-09-02,shop,node-1,{AWS_NODE},,__idle__,1,0,\n"
    )
    build(site, "2026-09-01", "2026-09-02")
    for day in ("2026-09-01", "2026-09-02"):
        shares_are_exact(site, day, {"a-1": Fraction(3, 4), "__idle__": Fraction(1, 4)})
        assert {team for (team,) in parts(site, day, "team")} == {"store", "platform"}


def test_without_clusters_facts_and_their_stamp_are_what_they_were(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.put_csv("bill.csv", node_row(AWS_NODE))
    site.run_all(DAY)
    lake, rules = site.platform.lake, site.platform.rules
    assert rules.version == rules.tags_version == rules.configured_version
    assert len(facts_stamp(lake, rules, "bill", date(2026, 9, 1)).split(" ")) == 2
    assert not [each for each in ("split", "nodes", "usage") if (lake.root / each).exists()]
    assert lake.read_record("bill", "split", DAY) is None


def test_focus_out_has_the_parts_with_the_columns_that_focus_has_for_them(make_site: Callable[..., Site]) -> None:
    site = make_site(extra=CLUSTERS)
    site.put_csv(
        "bill.csv",
        node_row(AWS_NODE),
        focus_row(ResourceId="other", **dict.fromkeys(("ResourceName", "ListUnitPrice"), "")),
    )
    put_usage(site, "day.json", allocation("a-1", 3), idle(1))
    land(site)
    site.run_all(DAY)
    target = site.folder / "out"
    export_focus(site.platform, [date(2026, 9, 1)], target, "1.4")
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT AllocatedMethodId, AllocatedResourceName, json_extract_string(AllocatedMethodDetails,"
            " '$.Elements[0].AllocatedRatio'), json_extract_string(AllocatedTags, '$.\"k8s-namespace\"'), EffectiveCost"
            f" FROM read_parquet({literal(f'{target}/**/*.parquet')}) ORDER BY ALL"
        ).fetchall()
    assert rows == [
        ("kubernetes-idle", "__idle__", "0.25", None, Decimal("0.3125")),
        ("kubernetes-usage", "a-1", "0.75", "shop", Decimal("0.9375")),
        (None, None, None, None, Decimal("1.25")),
    ]


def test_a_place_is_looked_at_before_it_is_named(site: Site) -> None:
    put_usage(site, "day.json", allocation("a-1", 3), allocation("b-1", 1, "node-2", None), idle(1))
    where = str(site.folder / "usage")
    found = inspect_usage(where)
    assert found is not None
    assert (found.days, found.clusters, found.pods, found.nodes, found.by_provider_id, found.idle) == (
        (date(2026, 9, 1),), ("shop",), 2, 2, 1, "by node",
    )  # fmt: skip
    told = CliRunner().invoke(app, ["sources", "inspect", where])
    assert told.exit_code == 0
    settings = parse_settings(site.text + told.stdout.partition("finops.yaml:")[2], site.folder / "finops.yaml")
    assert settings.clusters[0].uri == where
    # A bill is none, whatever it comes in.
    site.put_csv("bill.csv", node_row(AWS_NODE))
    site.put_parquet("bill.parquet", node_row(AWS_NODE))
    for name in ("bill.csv", "bill.parquet"):
        assert inspect_usage(str(site.exports / name)) is None
    week = allocation("a-1", 1)
    week["window"]["end"] = "2026-09-08T00:00:00Z"
    put_usage(site, "week.json", week)
    assert "no window within one UTC day" in str((inspect_usage(where) or found).problem)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{name: bill, uri: usage, layout: opencost}", "which a source has; names are unique"),
        ("{name: k8s, uri: 'ftp://x/y', layout: opencost}", "allowed: a local path"),
        ("{name: k8s, uri: exports/usage, layout: opencost}", "within the place of source 'bill'"),
        ("{name: k8s, uri: ., layout: opencost}", "below which lake lies"),
        ("{name: k8s, uri: usage, layout: prometheus}", "opencost"),
        ("{name: k8s, uri: usage, layout: opencost, idle: nobody}", "requested"),
        ("{name: k8s, uri: usage, layout: opencost}, {name: k8s, uri: other, layout: opencost}", "stands twice"),
    ],
)
def test_mistakes_are_told_with_their_place(site: Site, entry: str, said: str) -> None:
    with pytest.raises(ConfigError, match="clusters") as told:
        parse_settings(f"{site.text}clusters: [{entry}]\n", site.folder / "finops.yaml")
    assert said in str(told.value)


def test_a_node_that_two_exporters_tell_of_is_split_by_the_first(make_site: Callable[..., Site]) -> None:
    entries = "{name: one, uri: usage, layout: opencost}, {name: two, uri: other, layout: kubecost, cluster: beta}"
    site = make_site(extra=f"clusters: [{entries}]\n")
    site.put_csv("bill.csv", node_row(AWS_NODE), node_row(LEAVES_AT_NOON))
    put_usage(site, "day.json", allocation("a-1", 1))
    also = [allocation("b-1", 1), allocation("c-1", 1, "node-2", LEAVES_AT_NOON)]
    for each in also:
        del each["properties"]["cluster"]
    put_usage(site, "../other/day.json", *also)
    p = site.platform
    for cluster in p.settings.clusters:
        land_usage(p.lake, p.settings.engine, cluster, p.settings.first_day)
    site.run_all(DAY)
    assert [name for (name,) in parts(site, DAY, "AllocatedResourceId")] == ["shop/shop/a-1", "beta/shop/c-1"]
    assert {(n["state"], n["cluster"], n["node"]) for n in nodes(site, DAY)} == {
        ("split", "shop", "node-1"), ("claimed twice", "beta", "node-1"), ("split", "beta", "node-2"),
    }  # fmt: skip
