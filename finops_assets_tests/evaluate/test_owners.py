"""Owner suggestions: right evidence, honest confidence, silence where nothing is known, and no leakage."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finops_assets.cost.attribution.owner_decisions import Settled
from finops_assets.evaluate.owners.backtest import (
    at_threshold,
    calibration_error,
    hidden,
    judged_hidden,
    precision_at,
    reliability,
)
from finops_assets.evaluate.owners.behaviour import moves_with
from finops_assets.evaluate.owners.evidence import gather
from finops_assets.evaluate.owners.model import calibrate, labels_of
from finops_assets.evaluate.owners.names import id_parents, own_part, pattern, tokens
from finops_assets.evaluate.owners.resources import Resources, read_resources
from finops_assets.evaluate.owners.suggest import MIN_CONFIDENCE, suggest
from finops_assets_tests.conftest import Site, focus_row

DAYS = tuple(date(2026, 10, 1) + timedelta(days=n) for n in range(30))
ALIASES = {"team": frozenset({"team", "squad"}), "department": frozenset({"dept"})}


def resource(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "source": "aws",
        "ResourceId": f"arn:aws:ec2:eu-west-1:1:instance/i-{number:08x}{number * 7919 % 65536:04x}",
        "account": "shared",
        "account_name": "shared",
        "name": None,
        "type": "Instance",
        "service": "Compute",
        "region": "eu-west-1",
        "sku": "sku",
        "tags": None,
        "first_seen": DAYS[0],
        "last_seen": DAYS[-1],
        "BillingCurrency": "USD",
        "effective_cost": Decimal(10),
        "currencies": 1,
        "team": None,
        "department": None,
    } | changes


def made(rows: list[dict[str, Any]], daily: np.ndarray | None = None) -> Resources:
    costs = np.ones((len(rows), len(DAYS)), dtype=np.float32) if daily is None else daily
    return Resources(pd.DataFrame(rows), costs, DAYS, ALIASES)


def two_services(each: int = 60, untagged: int = 10) -> list[dict[str, Any]]:
    """One account of two teams, told apart by a word in the name; some of each untagged, and one with no such word."""
    rows: list[dict[str, Any]] = []
    for i in range(each):
        for word, team in (("checkout", "payments"), ("banner", "ads")):
            rows.append(
                resource(len(rows), name=f"{word}-api-{i}", team=None if i < untagged else team, service=f"s{i % 3}")
            )
    return rows


def first(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["rank"] == 1]


def test_a_name_token_tells_the_team_and_the_evidence_counts_right() -> None:
    rows = two_services()
    rows[60]["team"] = "ads"  # one that is named checkout belongs to the others
    assert rows[60]["name"].startswith("checkout")
    table = first(suggest(made(rows), ["team"]).table)
    assert len(table) == 20
    expected = ["payments" if "checkout" in name else "ads" for name in table["name"]]
    assert table["value"].tolist() == expected
    one = table[table["value"] == "payments"].iloc[0]
    assert "49 of 50 tagged resources" in one["evidence"]
    assert "`checkout" in one["evidence"]
    assert one["evidence"].count("belong to payments") >= 1
    assert one["confidence"] >= MIN_CONFIDENCE


def test_labels_at_random_give_hardly_any_suggestion() -> None:
    random = np.random.default_rng(3)
    rows = [
        resource(
            i,
            account=f"a{random.integers(12)}",
            name=f"{random.choice(['api', 'db', 'web'])}-{random.choice(['red', 'blue'])}-{i}",
            service=f"s{random.integers(5)}",
            team=None if i % 3 == 0 else f"t{random.integers(8)}",
            tags=json.dumps({"app": f"x{random.integers(20)}"}),
        )
        for i in range(1500)
    ]
    covered = suggest(made(rows), ["team"]).coverage[0]
    assert covered.untagged == 500
    assert covered.suggested <= 5


def test_one_tagged_resource_in_an_account_of_untagged_ones_does_not_tell_the_account() -> None:
    """Tidy accounts teach that one resource tells all; the account that everybody uses is where tags are missing."""
    rows: list[dict[str, Any]] = []
    for account in range(30):
        rows += [resource(len(rows) + i, account=f"a{account}", team=f"t{account % 10}") for i in range(8)]
    dump = [resource(len(rows) + i, account="dump", team="t3" if i == 0 else None) for i in range(40)]
    done = suggest(made([*rows, *dump]), ["team"])
    assert done.coverage[0].untagged == 39
    assert done.table.empty


def test_too_few_tagged_resources_teach_nothing_and_that_is_said() -> None:
    rows = [resource(i, name=f"checkout-{i}", team="payments" if i < 20 else None) for i in range(40)]
    done = suggest(made(rows), ["team"])
    assert done.table.empty
    assert done.coverage[0].note == "only 20 resources are tagged: too few to learn from"


def test_an_unknown_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="found owner; allowed: team, department"):
        suggest(made(two_services()), ["owner"])


def test_an_account_name_speaks_for_an_account_where_nothing_is_tagged() -> None:
    teams = [
        f"{w}team" for w in ["alpha", "bravo", "charlie", "delta", "echo", "fox", "golf", "hotel", "india", "juliet"]
    ]
    rows: list[dict[str, Any]] = []
    for team in teams:
        for stage in ("prod", "dev", "test", "lab"):
            for _ in range(6):
                account = f"{team}-{stage}"
                untagged = team == "golfteam" and stage == "lab"
                rows.append(resource(len(rows), account=account, account_name=account, team=None if untagged else team))
    table = first(suggest(made(rows), ["team"]).table)
    assert table["value"].tolist() == ["golfteam"] * 6
    assert "in accounts with `golfteam` in their name belong to golfteam" in table["evidence"].iloc[0] or (
        "the name of its account says `golfteam`" in table["evidence"].iloc[0]
    )


def test_a_stack_tells_the_team_and_other_dimensions_may() -> None:
    rows = []
    for i in range(240):
        team = f"t{i % 6}"
        rows.append(
            resource(
                i,
                tags=json.dumps({"aws:cloudformation:stack-name": f"Stack-{i % 6}"}),
                team=team if i >= 30 else None,
                department=f"d{i % 6 // 2}" if i >= 30 else None,
            )
        )
    done = suggest(made(rows), ["team", "department"])
    for dimension, expected in (("team", lambda i: f"t{i % 6}"), ("department", lambda i: f"d{i % 6 // 2}")):
        table = first(done.table[done.table["dimension"] == dimension])
        assert len(table) == 30
        numbers = [int(ident.rpartition("i-")[2][:8], 16) for ident in table["ResourceId"]]
        assert table["value"].tolist() == [expected(i) for i in numbers]
        assert "in the stack stack-" in table["evidence"].iloc[0]


def test_resources_that_move_alike_share_an_owner() -> None:
    random = np.random.default_rng(5)
    patterns = random.random((4, len(DAYS)))
    rows, daily = [], []
    for i in range(240):
        rows.append(resource(i, team=None if i < 24 else f"t{i % 4}"))
        daily.append((1 + patterns[i % 4] + 0.02 * random.random(len(DAYS))) * (1 + i % 7))
    table = first(suggest(made(rows, np.array(daily, dtype=np.float32)), ["team"]).table)
    assert len(table) == 24
    numbers = [int(ident.rpartition("i-")[2][:8], 16) for ident in table["ResourceId"]]
    assert table["value"].tolist() == [f"t{i % 4}" for i in numbers]
    assert (
        "5 of 5 tagged resources in account shared whose daily cost moves most like this one's"
        in (table["evidence"].iloc[0])
    )


def test_too_few_days_or_costs_that_do_not_move_say_nothing() -> None:
    known = np.ones(50, dtype=bool)
    account = np.zeros(50, dtype=np.int64)
    moving = np.random.default_rng(0).random((50, 5)).astype(np.float32)
    assert len(moves_with(moving, account, known)[0]) == 0
    assert len(moves_with(np.ones((50, 30), dtype=np.float32), account, known)[0]) == 0


def test_the_same_data_give_the_same_suggestions() -> None:
    once, again = (suggest(made(two_services()), ["team"]).table for _ in range(2))
    pd.testing.assert_frame_equal(once, again)


def test_what_was_decided_is_respected() -> None:
    rows = two_services()
    before = first(suggest(made(rows), ["team"]).table)
    accepted, rejected = before.iloc[0], before.iloc[1]
    about = (rejected["source"], rejected["ResourceId"], "team")
    settled = Settled({(accepted["source"], accepted["ResourceId"], "team")}, {about: {rejected["value"]}})
    after = first(suggest(made(rows), ["team"], settled).table)
    assert accepted["ResourceId"] not in set(after["ResourceId"])
    mine = after[after["ResourceId"] == rejected["ResourceId"]]
    assert rejected["value"] not in set(mine["value"])
    assert len(after) >= len(before) - 2


def test_confidence_is_calibrated_where_names_tell_only_some_of_the_owners() -> None:
    random = np.random.default_rng(11)
    rows = []
    for i in range(4000):
        team = int(random.integers(20))
        word = team if random.random() < 0.7 else int(random.integers(20))
        account = team // 4 if random.random() < 0.8 else int(random.integers(5))
        name = f"svc{'abcdefghijklmnopqrst'[word]}word-{i}" if random.random() < 0.6 else None
        rows.append(resource(i, name=name, account=f"a{account}", team=f"t{team}"))
    resources = made(rows)
    evidence = gather(resources)
    labels = labels_of(evidence, "team")
    judged = pd.concat(
        judged_hidden(evidence, "team", labels, hidden(resources, labels, "random", seed), bare=True)
        for seed in range(2)
    )
    assert calibration_error(reliability(judged)) < 0.05
    made_at = at_threshold(judged, 0.5)
    assert abs(made_at["precision"] - made_at["expected"]) < 0.05
    assert precision_at(judged, 0.3) > precision_at(judged, 1.0) + 0.1


def test_fewer_cases_than_a_bin_are_never_sure() -> None:
    curve = calibrate(np.linspace(0, 1, 40), np.ones(40, dtype=bool))
    assert curve(np.array([0.99])).tolist() == [0.0]
    full = calibrate(np.full(50, 0.9), np.ones(50, dtype=bool))
    assert full(np.array([0.9]))[0] == pytest.approx(51 / 52)


def leaking(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row says its team in its own tags, in spellings of the dimension's keys, and in nothing else."""
    return [{**r, "tags": json.dumps(dict.fromkeys(("Team", "user:squad", " TEAM "), r["team"]))} for r in rows]


def test_a_hidden_tag_is_not_read_from_the_aliases_of_its_dimension() -> None:
    random = np.random.default_rng(1)
    rows = leaking([resource(i, team=f"t{random.integers(10)}") for i in range(800)])
    resources = made(rows)
    evidence = gather(resources)
    labels = labels_of(evidence, "team")
    judged = judged_hidden(evidence, "team", labels, hidden(resources, labels, "random"), bare=False)
    # Ten teams at random: a tenth is luck.
    assert judged["right"].mean() < 0.25
    assert judged["confidence"].max() < 0.5
    assert not evidence.tells("team")[evidence.tag_key != -1].any()
    # To another dimension the same tags may speak.
    assert evidence.tells("department")[evidence.tag_key != -1].all()


def test_hiding_changes_nothing_but_what_is_hidden_and_does_not_look_at_it() -> None:
    rows = two_services()
    resources = made(rows)
    evidence = gather(resources)
    labels = labels_of(evidence, "team")
    hide = hidden(resources, labels, "random")
    judged = judged_hidden(evidence, "team", labels, hide, bare=False)
    # The same with other truths below the hidden labels: what is said of them must be the same.
    lied = [{**r, "team": "ads" if h and r["team"] == "payments" else r["team"]} for r, h in zip(rows, hide)]
    again = gather(made(lied))
    other = judged_hidden(again, "team", labels_of(again, "team"), hide, bare=False)
    assert np.array_equal(judged["confidence"].round(6), other["confidence"].round(6))


def test_splits_hide_what_they_say() -> None:
    rows = [resource(i, account=f"a{i % 10}", team="t" if i % 4 else None, first_seen=DAYS[i % 30]) for i in range(400)]
    resources = made(rows)
    labels = labels_of(gather(resources), "team")
    random = hidden(resources, labels, "random")
    assert random.sum() == 90
    assert not random[[i for i in range(400) if i % 4 == 0]].any()
    accounts = hidden(resources, labels, "accounts")
    tagged = resources.table[labels.of >= 0]
    assert set(pd.Series(accounts[tagged.index]).groupby(tagged["account"].to_numpy()).mean()) == {0.0, 1.0}
    newest = hidden(resources, labels, "newest")
    seen = resources.table["first_seen"]
    assert min(seen[newest]) >= max(seen[(labels.of >= 0) & ~newest])


def test_precision_counts_rows_and_money() -> None:
    judged = pd.DataFrame(
        {"confidence": [0.9, 0.8, 0.7, 0.1], "right": [True, False, True, False], "cost": [10.0, 80.0, 5.0, 5.0]}
    )
    assert precision_at(judged, 0.5) == 0.5
    assert precision_at(judged, 1.0) == 0.5
    assert precision_at(judged, 0.9, by_money=True) == pytest.approx(10 / 90)
    assert at_threshold(judged, 0.7) == pytest.approx(
        {"coverage": 0.75, "precision": 2 / 3, "expected": 0.8, "coverage_money": 0.95, "precision_money": 15 / 95}
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Checkout-apiWorker-07_i-0ae9198e3f12fa3e", ("checkout", "api", "worker")),
        ("vol-09f113e4e879a4636", ("vol",)),
        ("data2warehouse", ("data2warehouse",)),
        ("", ()),
    ],
)
def test_tokens(name: str, expected: tuple[str, ...]) -> None:
    assert tokens(name) == expected


def test_ids_name_themselves_and_their_parents() -> None:
    azure = "/subscriptions/1/resourceGroups/RG-Pay/providers/microsoft.compute/virtualmachines/vm-7"
    assert own_part(azure) == "vm-7"
    assert list(id_parents(azure)) == [("resource group", "rg-pay")]
    assert own_part("arn:aws:lambda:eu-west-1:1:function:checkout") == "function:checkout"
    assert list(id_parents("arn:aws:ecs:eu-west-1:1:task/shop/0ae9198e3f12")) == [("cluster", "shop")]
    assert list(id_parents("//x.googleapis.com/projects/pay-1/locations/l/things/n")) == [("project", "pay-1")]
    assert pattern("checkout-api-0ae9198e3f-12") == "checkout-api-#-#"
    assert pattern("i-0ae9198e3f") is None


class TestReadingFacts:
    """From exported rows to resources."""

    @pytest.fixture
    def read(self, site: Site) -> Callable[..., Resources]:
        def read(*rows: Mapping[str, Any]) -> Resources:
            site.put_csv("bill.csv", *rows)
            days = sorted({str(r["ChargePeriodStart"])[:10] for r in rows})
            site.run(*days)
            site.facts(*days)
            p = site.platform
            found = read_resources(
                p.lake, p.settings.engine, p.rules, p.source_names, [date.fromisoformat(d) for d in days]
            )
            assert found is not None
            return found

        return read

    def test_the_newest_value_counts_and_money_is_exact(self, read: Callable[..., Resources]) -> None:
        def row(day: int, **changes: Any) -> dict[str, Any]:
            named = {"ResourceId": "r", "ResourceName": "n", "SubAccountId": "s", "SubAccountName": "S"}
            return focus_row(f"2026-09-{day:02}", **(named | changes))

        found = read(
            row(1, Tags='{"team": "old", "app": "x"}', EffectiveCost="0.1"),
            row(2, Tags='{"squad": "new", "app": "y"}', EffectiveCost="0.2"),
            row(3, Tags="{}", EffectiveCost="-5"),
            row(3, ResourceId="bare", Tags="{}", EffectiveCost="0.000000000000000001"),
            row(3, ResourceId="", Tags="{}"),
            row(3, ResourceId="bought", ChargeCategory="Purchase"),
        )
        table = found.table.set_index("ResourceId")
        assert table.index.tolist() == ["bare", "r"]
        assert table.loc["r", "team"] == "new"
        assert table.loc["bare", "team"] is None
        assert table.loc["r", "tags"] == '{"app":"y","squad":"new"}'
        assert table.loc["r", "effective_cost"] == Decimal("0.3")
        assert table.loc["bare", "effective_cost"] == Decimal("0.000000000000000001")
        assert table.loc["r", "first_seen"] == date(2026, 9, 1)
        assert found.daily[1].round(3).tolist() == [np.float32(0.1), np.float32(0.2), np.float32(-5)]

    def test_a_tag_of_another_day_is_the_label_and_never_evidence(self, read: Callable[..., Resources]) -> None:
        """A resource that lost its tag on the last day counts as tagged; hidden, no day's tag speaks for it."""
        rows = []
        for i in range(40):
            who = f"t{i % 8}"
            rows.append(focus_row("2026-09-01", ResourceId=f"r{i:02}", Tags=json.dumps({"team": who})))
            rows.append(focus_row("2026-09-02", ResourceId=f"r{i:02}", Tags="{}"))
        found = read(*rows)
        assert found.table["team"].tolist() == [f"t{i % 8}" for i in range(40)]
        evidence = gather(found)
        carried = {evidence.texts(int(f)) for f in np.flatnonzero(evidence.tells("team") & (evidence.tag_key != -1))}
        assert carried == set()
