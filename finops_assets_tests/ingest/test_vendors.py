"""Costs of AI vendors, fetched from servers that behave as the vendors' documents say, to cost by team."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from finops_assets.base.errors import ConfigError, FinopsError
from finops_assets.ingest.vendors.asking import TRIES, FetchFailed
from finops_assets.ingest.vendors.fetch import fetch_costs
from finops_assets.settings.load import parse_settings
from finops_assets_tests.conftest import Site
from finops_assets_tests.vendors import APPLICATION_KEY, KEY, Costs, Statements, served

pytestmark = pytest.mark.slow
NOW = datetime(2026, 11, 10, 6, tzinfo=UTC)
DAYS = ("2026-10-05", "2026-10-06")


@pytest.fixture(params=["openai", "anthropic"])
def vendor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    cents = request.param == "anthropic"
    costs = Costs(request.param)
    for n in range(5):
        day = date(2026, 10, 4 + n)
        costs.days[day] = [
            {"amount": "123.45678901234567" if cents else "1.2345678901234567", "line_item": "big, output", "project": "proj_web"},
            {"amount": "7" if cents else "0.07", "line_item": "big, input"},
        ]  # fmt: skip
        costs.used[day] = [
            {"project": "proj_web", "in": 0, "cached": 0, "out": 123_456 + n},
            {"in": 70_000, "cached": 500, "out": 0},
        ]
    with served(costs):
        yield costs


both = pytest.mark.parametrize("vendor", ["openai", pytest.param("anthropic", marks=pytest.mark.long)], indirect=True)
"""Where what is done is the same for each vendor."""


def site(folder: Path, vendor: Costs, more: str = "") -> Site:
    made = Site(
        folder,
        layout=f"files, fetch: {{vendor: {vendor.kind}, key_env: VENDOR_KEY, url: '{vendor.url}'{more}}}",
        first_day="2026-10-01",
        extra="attribution_rules:\n  - {name: web, when: {SubAccountId: proj_web}, set: {team: web}}\n",
    )
    made.exports.mkdir(parents=True, exist_ok=True)
    return made


def fetched(
    made: Site, now: datetime = NOW, pauses: list[float] | None = None, log: list[str] | None = None
) -> list[str]:
    source = made.source
    assert source.fetch
    waits = pauses if pauses is not None else []
    told = log if log is not None else []
    return [p.name for p in fetch_costs(source, source.fetch, date(2026, 10, 1), now, told.append, waits.append)]


def by_team(made: Site) -> list[tuple[str, str, Decimal]]:
    with made.platform.warehouse.reading() as connection:
        return connection.execute(
            "SELECT charge_date::VARCHAR, team, sum(effective_cost) FROM daily_cost_by_team GROUP BY ALL ORDER BY ALL"
        ).fetchall()


def test_costs_of_a_vendor_become_cost_by_team_to_the_last_digit(vendor: Costs, tmp_path: Path) -> None:
    made = site(tmp_path, vendor)
    made.run_all(*DAYS)
    of_web = Decimal("1.2345678901234567")
    assert by_team(made) == [
        row for day in DAYS for row in ((day, "__untagged__", Decimal("0.07")), (day, "web", of_web))
    ]
    assert not [v for v in made.judge(*DAYS).values() if not v.passed]
    answers = sorted((made.exports / ".answers" / "2026-10").iterdir())
    whole = [(a.name, json.loads(a.read_text())["has_more"]) for a in answers if a.suffix == ".json"]
    assert whole == [(f"{kind}{n:03}.json", n < 3) for kind in ("", "tokens-") for n in (1, 2, 3)], "as they came"
    for file in made.exports.rglob("*"):
        if file.is_file():
            assert KEY not in file.read_text()
    [row] = {tuple(r) for r in made.rows(DAYS[0], "ServiceCategory", "ProviderName", "ChargeCategory")}
    assert row == ("AI and Machine Learning", {"openai": "OpenAI", "anthropic": "Anthropic"}[vendor.kind], "Usage")


def table_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_text())))


def test_tokens_stand_on_the_charge_that_they_were_for_and_none_is_lost(vendor: Costs, tmp_path: Path) -> None:
    day = date(2026, 10, 5)
    vendor.used[day] += [
        {"project": "proj_web", "in": 0, "cached": 0, "out": 44},
        {"project": "proj_web", "model": "unheard-of", "in": 9, "cached": 0, "out": 0},
        {"project": "twice", "in": 11, "cached": 0, "out": 0},
    ]
    vendor.days[day] += [
        {"amount": amount, "line_item": item, "project": project}
        for amount, item, project in (
            ("1", "big, input", "proj_web"), ("3", "web search calls", "proj_web"), ("5", "big, input", "twice"),
            ("6", "big, input", "twice"),
        )
    ]  # fmt: skip
    made, log = site(tmp_path, vendor), list[str]()
    fetched(made, log=log)
    made.run_all(*DAYS)
    default = {"openai": "(no project)", "anthropic": "(default workspace)"}[vendor.kind]
    shown = ("SubAccountId", "SkuMeter", "ConsumedQuantity", "ConsumedUnit")
    unknown: list[tuple[Any, ...]] = [("twice", "Input tokens", None, None)] * 2
    assert Counter(map(tuple, made.rows(DAYS[0], *shown))) == Counter(
        [
            ("proj_web", "Output tokens", Decimal(123_457 + 44), "Tokens"), (default, "Input tokens", Decimal(70_000), "Tokens"),
            ("proj_web", "Input tokens", Decimal(0), "Tokens"), ("proj_web", None, None, None), *unknown,
        ]
    ), "not zero where nobody knows which of two charges they were for"  # fmt: skip
    assert {tuple(r) for r in made.rows(DAYS[1], "SkuId", "SkuPriceDetails")} == {("big", '{"ModelId":"big"}')}
    assert not [v for v in made.judge(*DAYS).values() if not v.passed]
    kept = made.exports / ".answers" / "2026-10" / "unplaced.csv"
    apart = {(r["date"][-2:], r["model"], r["direction"]): int(r["tokens"]) for r in table_of(kept)}
    assert apart == {
        ("05", "unheard-of", "Input tokens"): 9,
        ("05", "big", "Input tokens"): 11,
        **{(f"0{4 + n}", "big", "Cached input tokens"): 500 for n in range(5)},
    }
    assert "2,520 tokens of 2026-10 are of no charge that is known: .answers/2026-10/unplaced.csv" in log[-1]
    given = sum(u["in"] + u["cached"] + u["out"] for used in vendor.used.values() for u in used)
    placed = sum(int(row["tokens"] or 0) for row in table_of(made.exports / "2026-10.csv"))
    assert placed + sum(apart.values()) == given


def test_a_charge_is_shared_by_whose_tokens_it_was_for_to_the_last_digit(vendor: Costs, tmp_path: Path) -> None:
    """A user's of OpenAI, which tells costs by key; a key's of Anthropic, which tells them by workspace."""
    day, openai = date(2026, 10, 5), vendor.kind == "openai"
    whose, key = ("user", {"key": "key_1"}) if openai else ("key", {})
    vendor.days[day] = [{"amount": "1" if openai else "100", "line_item": "big, output", "project": "proj_web", **key}]
    vendor.used[day] = [
        {"project": "proj_web", **key, whose: name, "in": 0, "cached": 0, "out": out}
        for name, out in (("ada", 1), ("bob", 2), ("eve", 0), (None, 4))
    ]
    made = site(tmp_path, vendor)
    made.run_all(*DAYS)
    found = made.rows(DAYS[0], "BilledCost", "ConsumedQuantity", "Tags")
    assert sum(cost for cost, *_ in found) == 1
    third = sorted((tokens, str(cost)[:8]) for cost, tokens, _ in found)
    assert third == [(1, "0.142857"), (2, "0.285714"), (4, "0.571428")]
    by_name = {name: tokens for _, tokens, tags in found for name in ("ada", "bob") if name in str(tags)}
    assert by_name == {"ada": 1, "bob": 2}
    assert all(("key_1" in str(tags)) == openai for *_, tags in found)
    asked = {a["path"][0]: {*a.get("group_by", []), *a.get("group_by[]", [])} for a in vendor.asked}
    assert all("api_key_id" in by for path, by in asked.items() if openai or "usage" in path)


def test_quantities_that_a_cost_tells_have_its_unit(vendor: Costs, tmp_path: Path) -> None:
    if vendor.kind != "openai":
        pytest.skip("Anthropic's costs tell no quantities")
    told = {"images": "Images", "duration_seconds": "Seconds", "1000_tokens": "1000 Tokens", "new_unit": "Units"}
    vendor.days[date(2026, 10, 5)] = [
        {"amount": "1", "line_item": f"item {unit}", "quantity": 7, "unit": unit} for unit in told
    ]
    made = site(tmp_path, vendor)
    made.run_all(*DAYS)
    assert {tuple(r) for r in made.rows(DAYS[0], "ConsumedQuantity", "ConsumedUnit")} == {(7, u) for u in told.values()}


@both
def test_usage_that_is_not_told_is_no_reason_to_forget_tokens_and_need_not_be_asked(
    vendor: Costs, tmp_path: Path
) -> None:
    made = site(tmp_path, vendor)
    fetched(made)
    before = (made.exports / "2026-10.csv").read_bytes()
    later = datetime.now(UTC) + timedelta(hours=2)
    refusals: list[tuple[Any, str]] = [
        ((403, {}, "no"), "may not read it: an admin key is needed"),
        ((200, {}, '{"data": [{"starting_at": "2026-10-05", "start_time": 1, "results": [{}]}], "has_more": false}'), "has no usage as it is described"),
    ]  # fmt: skip
    for answer, says in refusals:
        vendor.first_of_usage = [answer]
        with pytest.raises(FetchFailed, match=says):
            fetched(made, later)
        assert (made.exports / "2026-10.csv").read_bytes() == before
    asked = len(vendor.asked)
    without = site(tmp_path / "without", vendor, ", tokens: false")
    fetched(without)
    assert not [a for a in vendor.asked[asked:] if "/usage" in a["path"][0]]
    without.run_all(DAYS[0])
    assert {tuple(r) for r in without.rows(DAYS[0], "ConsumedQuantity", "ConsumedUnit")} == {(None, None)}
    assert not (without.exports / ".answers" / "2026-10" / "unplaced.csv").exists()


@both
def test_a_month_that_was_fetched_before_tokens_were_is_still_read(vendor: Costs, tmp_path: Path) -> None:
    made = site(tmp_path, vendor)
    fetched(made)
    for file in made.exports.glob("*.csv"):
        rows = table_of(file)
        names = [
            n for n in rows[0] if n not in ("tokens", "direction", *(("model",) if vendor.kind == "openai" else ()))
        ]
        with file.open("w", newline="") as old:
            writer = csv.DictWriter(old, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    made.run_all(*DAYS)
    assert by_team(made)[1] == (DAYS[0], "web", Decimal("1.2345678901234567"))


@both
def test_what_did_not_change_is_no_new_delivery_and_what_did_restates_its_days(vendor: Costs, tmp_path: Path) -> None:
    made = site(tmp_path, vendor)
    assert fetched(made) == ["2026-10.csv"]
    asked = len(vendor.asked)
    assert fetched(made, datetime.now(UTC) + timedelta(minutes=5)) == []
    assert len(vendor.asked) == asked, "just now is just now"
    later = datetime.now(UTC) + timedelta(hours=2)
    assert fetched(made, later) == []
    assert len(vendor.asked) > asked
    made.run_all(*DAYS)
    before = by_team(made)
    vendor.days[date(2026, 10, 6)][0]["amount"] = "200"
    vendor.days[date(2026, 11, 2)] = vendor.days[date(2026, 10, 5)]
    assert fetched(made, later) == ["2026-10.csv", "2026-11.csv"]
    made.run_all(*DAYS)
    after = by_team(made)
    assert after[:3] == before[:3]
    assert after[3] == (DAYS[1], "web", Decimal(2 if vendor.kind == "anthropic" else 200))


def test_today_is_not_asked_for_and_a_month_is_until_the_next_has_ended(vendor: Costs, tmp_path: Path) -> None:
    made = site(tmp_path, vendor)
    fetched(made, datetime(2026, 10, 7, 3, tzinfo=UTC))
    text = (made.exports / "2026-10.csv").read_text()
    assert "2026-10-06" in text
    assert "2026-10-07" not in text
    assert fetched(made, datetime(2026, 10, 1, 3, tzinfo=UTC)) == [], "no day is over"


@pytest.mark.parametrize(
    "answers",
    [
        [(429, {"retry-after": "7"}, "slow down")],
        [(500, {}, "oops"), (503, {}, "oops")],
        [(529, {}, "overloaded")],
    ],
)
def test_what_passes_is_asked_again(vendor: Costs, tmp_path: Path, answers: list[Any]) -> None:
    vendor.first = list(answers)
    pauses: list[float] = []
    assert fetched(site(tmp_path, vendor), pauses=pauses) == ["2026-10.csv"]
    assert len(pauses) == len(answers)
    assert 7 <= pauses[0] < 9 if answers[0][0] == 429 else pauses[0] < 3


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([(503, {}, "oops")] * TRIES, "HTTP 503"),
        ([(404, {}, "no such thing")], "HTTP 404"),
        ([(200, {}, "<html>sign in</html>")], "no JSON"),
        ([(200, {}, '{"error": "x"}')], "has no list `data`"),
        ([(200, {}, '{"data": [{"results": [{}]}], "has_more": false}')], "no cost as it is described"),
        ([(302, {"location": "http://127.0.0.1:9/"}, "elsewhere")], "HTTP 302"),
    ],
)
def test_what_does_not_pass_is_told_and_leaves_what_was_there(
    vendor: Costs, tmp_path: Path, answers: list[Any], says: str
) -> None:
    made = site(tmp_path, vendor)
    fetched(made)
    before = (made.exports / "2026-10.csv").read_bytes()
    vendor.first = list(answers)
    with pytest.raises(FetchFailed, match="source 'bill'") as told:
        fetched(made, datetime.now(UTC) + timedelta(hours=2))
    assert says in str(told.value)
    assert (made.exports / "2026-10.csv").read_bytes() == before


def test_a_key_that_is_missing_or_wrong_is_told_and_never_shown(
    vendor: Costs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = site(tmp_path, vendor)
    monkeypatch.setenv("VENDOR_KEY", "sk-wrong-secret-987654321")
    with pytest.raises(FetchFailed, match="admin key is needed") as told:
        fetched(made)
    assert "sk-wrong-secret" not in str(told.value)
    assert len(vendor.asked) == 1, "a refusal is not asked again"
    monkeypatch.delenv("VENDOR_KEY")
    with pytest.raises(FinopsError, match=r"VENDOR_KEY \(fetch.key_env\) is not set"):
        made.land()


@pytest.mark.parametrize(
    ("layout", "uri", "says"),
    [
        ("aws-cur, fetch: {vendor: openai, key_env: K}", "exports", "fetch is for layout files"),
        ("files, fetch: {vendor: openai, key_env: K}", "s3://bucket/x", "a folder of this machine"),
        (
            "files, fetch: {vendor: other, key_env: K}",
            "exports",
            "found 'other'; allowed: 'openai', 'anthropic', 'github', 'litellm', 'databricks', 'snowflake' or 'datadog'",
        ),
        ("files, fetch: {vendor: github, key_env: K}", "exports", "account is missing; name the organisation"),
        (
            "files, fetch: {vendor: litellm, key_env: K}",
            "exports",
            "url is missing; name the address of your own gateway",
        ),
        (
            "files, fetch: {vendor: snowflake, key_env: K, url: 'http://x'}",
            "exports",
            "warehouse is missing; name the SQL warehouse",
        ),
        (
            "files, fetch: {vendor: openai, key_env: K, warehouse: w}",
            "exports",
            "warehouse is for databricks and snowflake only",
        ),
        ("files, fetch: {vendor: openai, key_env: K, seats: true}", "exports", "seats is for github only"),
        ("files, fetch: {vendor: openai, key_env: K, account: acme}", "exports", "account is for github only"),
        ("files, fetch: {vendor: github, key_env: K, account: ../x}", "exports", "account"),
    ],
)
def test_what_cannot_be_fetched_is_told_when_finops_yaml_is_read(
    tmp_path: Path, layout: str, uri: str, says: str
) -> None:
    with pytest.raises(ConfigError) as told:
        parse_settings(Site(tmp_path, layout=layout, uri=uri).text, tmp_path / "finops.yaml")
    assert says in str(told.value)


def test_usage_of_github_becomes_cost_by_team_and_seats_are_accrued_as_it_tells_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    seat = {
        "product": "copilot",
        "sku": "copilot_for_business",
        "quantity": "0.033333333",
        "unit": "user-months",
        "price": "19",
    }
    linux = {
        "product": "actions",
        "sku": "actions_linux",
        "unit": "minutes",
        "price": "0.006",
        "repository": "acme/web",
    }
    usage = Costs("github")
    for n in range(5, 8):
        usage.days[date(2026, 10, n)] = [
            {**seat, "gross": "0.633333327", "net": "0.633333327"},
            {**linux, "quantity": f"{n}00", "gross": f"{n}E-1", "net": "0.123456789012345678"},
        ]  # fmt: skip
    with served(usage):
        made = site(tmp_path, usage, ", account: acme")
        assert fetched(made, datetime(2026, 10, 7, 9, tzinfo=UTC)) == ["2026-10.csv"]
        assert "2026-10-07" not in (made.exports / "2026-10.csv").read_text(), "today is not over"
        [question] = usage.asked
        assert question == {"year": ["2026"], "month": ["10"], "path": ["/organizations/acme/settings/billing/usage"]}
        usage.days[date(2026, 10, 6)][1]["net"] = "5"
        assert fetched(made, datetime.now(UTC) + timedelta(hours=2)) == ["2026-10.csv"]
    made.run_all(*DAYS)
    assert not [v for v in made.judge(*DAYS).values() if not v.passed]
    columns = (
        "ServiceName",
        "ServiceCategory",
        "ConsumedQuantity",
        "ConsumedUnit",
        "ResourceId",
        "BilledCost",
        "ListCost",
    )
    assert sorted(map(tuple, made.rows(DAYS[0], *columns))) == [
        ("GitHub actions", "Developer Tools", 500, "minutes", "acme/web", Decimal("0.123456789012345678"), Decimal("0.5")),
        ("GitHub copilot", "AI and Machine Learning", Decimal("0.033333333"), "user-months", None, Decimal("0.633333327"), Decimal("0.633333327")),
    ]  # fmt: skip
    assert by_team(made)[1][2] == Decimal("5.633333327"), "restated"


def test_an_answer_of_github_that_is_none_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    with served(Costs("github", first=[(200, {}, '{"message": "Not Found"}')])) as usage:
        with pytest.raises(FetchFailed, match="has no list `usageItems`"):
            fetched(site(tmp_path, usage, ", account: acme"))
        usage.first = [(200, {}, '{"usageItems": [{"date": "2026-10-05"}]}')]
        with pytest.raises(
            FetchFailed, match="an answer of github has no cost as it is described: KeyError: 'netAmount'"
        ):
            fetched(site(tmp_path, usage, ", account: acme"))


def spent(model: str, key: str, spend: float, given: int, said: int, **known: Any) -> dict[str, Any]:
    """A row of what LiteLLM sums."""
    tokens = {
        "total_tokens": given + said,
        "prompt_tokens": given,
        "completion_tokens": said,
        "cache_read_input_tokens": 0,
        "api_requests": 1,
    }
    return {"model": model, "key": key, "spend": spend, "tokens": tokens, **known}


def test_spend_of_a_gateway_becomes_cost_and_tokens_by_key_user_and_team(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    web = {"alias": "web-prod", "team": "t-1", "user": "ada"}
    gateway = Costs("litellm")
    for n in range(5, 8):
        # The fourth and the seventh row, the same but for their numbers as two before, begin a page.
        gateway.days[date(2026, 10, n)] = [
            spent("big", "88dc", 0.1, 1000, 10, **web),
            spent("small", "77aa", 1e-05, 7, 0),
            spent("big", "88dc", 0.2, 500, n, **web),
            spent("image", "77aa", 0.5, 0, 0),
        ]
    with served(gateway):
        made = site(tmp_path, gateway)
        assert fetched(made) == ["2026-10.csv"]
        pages = [a.get("page", ["1"])[0] for a in gateway.asked if a["start_date"] == ["2026-10-01"]]
        assert pages == ["1", "2", "3", "4"]
        before = (made.exports / "2026-10.csv").read_bytes()
        gateway.days[date(2026, 10, 9)] = [spent("big", "88dc", 0.7, 1, 1)]
        assert fetched(made, datetime.now(UTC) + timedelta(hours=2)) == ["2026-10.csv"]
        after = (made.exports / "2026-10.csv").read_bytes()
        assert set(before.splitlines()) < set(after.splitlines()), "pages that are cut elsewhere change no day"
    made.run_all(*DAYS)
    assert not [v for v in made.judge(*DAYS).values() if not v.passed]
    columns = (
        "SkuId",
        "ResourceName",
        "SubAccountId",
        "BilledCost",
        "ConsumedQuantity",
        "ConsumedUnit",
        "x_prompt_tokens",
    )
    assert set(map(tuple, made.rows(DAYS[0], *columns))) == {
        ("big", "web-prod", "t-1", Decimal("0.3"), 1515, "Tokens", "1500"),
        ("small", "77aa", "(no team)", Decimal("0.00001"), 7, "Tokens", "7"),
        ("image", "77aa", "(no team)", Decimal("0.5"), None, None, "0"),
    }
    [tags] = {str(tags) for tags, model in made.rows(DAYS[0], "Tags", "SkuId") if model == "big"}
    assert all(text in tags for text in ("web-prod", "ada", "t-1", "big")), "what attributes it"


def test_what_a_gateway_spent_on_no_model_is_kept_and_what_does_not_add_up_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    key = {"metrics": {"spend": 2}, "metadata": None}

    def answer(spend: float, of_model: dict[str, Any]) -> list[tuple[int, dict[str, str], str]]:
        day = {"date": DAYS[0], "metrics": {"spend": spend}, "breakdown": {"models": {"big": of_model}}}
        return [(200, {}, json.dumps({"results": [day], "metadata": {"page": 1, "has_more": False}}))]

    with served(Costs("litellm")) as gateway:
        made = site(tmp_path, gateway)
        gateway.first = answer(2.5, {"api_key_breakdown": {"88dc": key}})
        fetched(made)
        kept = [(r["model"], r["amount"]) for r in table_of(made.exports / "2026-10.csv")]
        assert sorted(kept) == [("", "0.5"), ("big", "2")]
        for said, of_model, spend in (
            ("models of 2026-10-05 have 2 USD, and the day 1", {"api_key_breakdown": {"88dc": key}}, 1),
            ("KeyError: 'api_key_breakdown'", {"metrics": {"spend": 1}}, 1),
            ("InvalidOperation; it may", {"api_key_breakdown": {"88dc": {"metrics": {"spend": "tell me"}}}}, 1),
        ):
            gateway.first = answer(spend, of_model)
            with pytest.raises(FetchFailed, match=said):
                fetched(made, datetime.now(UTC) + timedelta(hours=2))


def dbu(day: int, sku: str, quantity: str, **more: Any) -> tuple[str, dict[str, Any]]:
    at = datetime(2026, 10, day, 10, tzinfo=UTC)
    return "billing.usage", {
        "account_id": "acc", "workspace_id": "ws1", "sku_name": sku, "cloud": "AWS", "usage_date": at.date(), "usage_start_time": at,
        "usage_end_time": at + timedelta(hours=1), "usage_unit": "DBU", "usage_quantity": quantity, "record_type": "ORIGINAL",
        "billing_origin_product": "JOBS", "custom_tags": {"team": "web"},
        "usage_metadata": {"cluster_id": "c-1", "warehouse_id": None, "job_id": "j-1", "endpoint_name": None},
        "identity_metadata": {"run_as": "ada"}, **more,
    }  # fmt: skip


def price(sku: str, begins: int, ends: int | None, amount: str, currency: str = "USD") -> tuple[str, dict[str, Any]]:
    return "billing.list_prices", {
        "sku_name": sku, "cloud": "AWS", "currency_code": currency, "usage_unit": "DBU", "price_start_time": datetime(2026, 10, begins, tzinfo=UTC),
        "price_end_time": ends and datetime(2026, 10, ends, tzinfo=UTC), "pricing": {"default": "9", "effective_list": {"default": amount}},
    }  # fmt: skip


def sql_site(folder: Path, vendor: Statements) -> Site:
    made = Site(
        folder,
        layout=f"files, fetch: {{vendor: {vendor.kind}, key_env: VENDOR_KEY, url: '{vendor.url}', warehouse: wh1}}",
        first_day="2026-10-01",
    )
    made.exports.mkdir(parents=True, exist_ok=True)
    return made


def test_usage_of_databricks_is_priced_by_the_list_of_its_day_and_dbus_are_no_money(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    back = {"record_type": "RETRACTION"}
    vendor = Statements("databricks", [
        price("JOBS_COMPUTE", 1, 6, "0.15"), price("JOBS_COMPUTE", 6, None, "0.20"), price("JOBS_COMPUTE", 1, None, "70", "EUR"),
        dbu(5, "JOBS_COMPUTE", "3.123456789012345678"), dbu(6, "JOBS_COMPUTE", "2"),
        # Corrected: taken back, and another stands for it.
        dbu(6, "JOBS_COMPUTE", "-2", **back), dbu(6, "JOBS_COMPUTE", "5"),
        dbu(6, "JOBS_COMPUTE", "7", workspace_id="ws2"), dbu(6, "JOBS_COMPUTE", "-7", workspace_id="ws2", **back),
        dbu(6, "NEW_PREVIEW", "11"), dbu(5, "JOBS_COMPUTE", "1", workspace_id="ws3", custom_tags=None),
    ])  # fmt: skip
    log: list[str] = []
    with served(vendor):
        made = sql_site(tmp_path, vendor)
        assert fetched(made, log=log) == ["2026-10.csv"]
        assert fetched(made, datetime.now(UTC) + timedelta(hours=2)) == [], "in one order, whatever that of the rows"
        made.run_all(*DAYS)
    assert log[-1].startswith("source bill: 1 rows of 2026-10 have no list price, and are in no figure")
    [apart] = table_of(made.exports / ".answers" / "2026-10" / "unpriced.csv")
    assert (apart["sku_name"], apart["amount"], Decimal(apart["quantity"])) == ("NEW_PREVIEW", "", 11)
    columns = (
        "SubAccountId",
        "BilledCost",
        "ListUnitPrice",
        "PricingQuantity",
        "PricingUnit",
        "PricingCurrency",
        "PricingCurrencyEffectiveCost",
    )
    exact = Decimal("3.123456789012345678") * Decimal("0.15")
    assert sorted(map(tuple, made.rows(DAYS[0], *columns))) == [
        ("ws1", exact.quantize(Decimal("1E-18")), Decimal("0.15"), Decimal("3.123456789012345678"), "DBU", "DBU", Decimal("3.123456789012345678")),
        ("ws3", Decimal("0.15"), Decimal("0.15"), 1, "DBU", "DBU", 1),
    ]  # fmt: skip
    assert list(map(tuple, made.rows(DAYS[1], *columns[:4]))) == [("ws1", 1, Decimal("0.2"), 5)]
    assert [(day, team, cost) for day, team, cost in by_team(made) if team == "web"][1] == (DAYS[1], "web", 1)
    assert not [v for v in made.judge(*DAYS).values() if not v.passed]


def credits_used(day: int, service: str, used: str, amount: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "organization_usage.usage_in_currency_daily", {
        "organization_name": "ACME", "contract_number": "K1", "account_name": "PROD", "account_locator": "AB1", "region": "AWS_EU",
        "service_level": "Enterprise", "usage_date": date(2026, 10, day), "usage": used, "currency": "EUR",
        "usage_in_currency": amount, "balance_source": "capacity", "billing_type": "consumption", "rating_type": "compute",
        "service_type": service, "is_adjustment": False, **more,
    }  # fmt: skip


def test_usage_of_snowflake_is_in_its_currency_and_credits_are_no_money(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    vendor = Statements("snowflake", [
        credits_used(5, "WAREHOUSE_METERING", "10.125", "30.38"),
        credits_used(5, "STORAGE", "2.5", "57.50", rating_type="storage"),
        credits_used(5, "WAREHOUSE_METERING", "-1", "-3.00", is_adjustment=True),
        credits_used(6, "AI_SERVICES", "1", "3.00"),
    ])  # fmt: skip
    with served(vendor):
        made = sql_site(tmp_path, vendor)
        fetched(made)
        made.run_all(*DAYS)
    columns = (
        "ServiceName",
        "ChargeCategory",
        "BilledCost",
        "BillingCurrency",
        "PricingQuantity",
        "PricingUnit",
        "PricingCurrency",
        "PricingCurrencyEffectiveCost",
    )
    assert sorted(map(tuple, made.rows(DAYS[0], *columns)), key=str) == [
        ("Snowflake STORAGE", "Usage", Decimal("57.5"), "EUR", Decimal("2.5"), "TB", None, None),
        ("Snowflake WAREHOUSE_METERING", "Adjustment", -3, "EUR", -1, "Credits", "Credits", -1),
        ("Snowflake WAREHOUSE_METERING", "Usage", Decimal("30.38"), "EUR", Decimal("10.125"), "Credits", "Credits", Decimal("10.125")),
    ]  # fmt: skip
    assert sum(cost for *_, cost in by_team(made)) == Decimal("87.88")
    assert not [v for v in made.judge(*DAYS).values() if not v.passed]


@pytest.mark.parametrize("kind", ["databricks", "snowflake"])
def test_a_statement_that_fails_or_loses_rows_changes_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    rows = [price("A", 1, None, "1"), dbu(5, "A", "1")] if kind == "databricks" else [credits_used(5, "X", "1", "1")]
    with served(Statements(kind, rows)) as vendor:
        made = sql_site(tmp_path, vendor)
        fetched(made)
        before = (made.exports / "2026-10.csv").read_bytes()
        vendor.lost = 1
        with pytest.raises(FetchFailed, match="1 rows came of 2"):
            fetched(made, datetime.now(UTC) + timedelta(hours=2))
        failed = {"state": "FAILED", "error": {"error_code": "BAD_REQUEST", "message": "planted"}}
        refusals: dict[str, list[tuple[int, dict[str, str], str]]] = {
            "databricks": [(200, {}, json.dumps({"statement_id": "01", "status": failed}))],
            "snowflake": [(422, {}, json.dumps({"code": "002003", "message": "planted"}))],
        }
        vendor.first = refusals[kind]
        with pytest.raises(
            FetchFailed, match={"databricks": "FAILED BAD_REQUEST", "snowflake": "HTTP 422 .002003"}[kind]
        ) as told:
            fetched(made, datetime.now(UTC) + timedelta(hours=2))
        assert "planted" not in str(told.value)
        assert (made.exports / "2026-10.csv").read_bytes() == before


def test_a_month_of_datadog_is_billed_by_organisation_and_product_and_accrued_by_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    monkeypatch.setenv("APPLICATION_KEY", "wrong")
    infra = [("committed", 300), ("on_demand", 10.5), ("total", 310.5)]
    charges = [{"product_name": "infra_host", "charge_type": kind, "cost": cost} for kind, cost in infra]
    alone = {"product_name": "rum", "charge_type": "total", "cost": 31}
    datadog = Costs("datadog", {date(2026, 10, 1): [
        {"org_name": "web", "public_id": "o1", "charges": charges, "total_cost": 310.5},
        {"org_name": "data", "public_id": "o2", "charges": [alone], "total_cost": 31},
    ]})  # fmt: skip
    with served(datadog):
        made = site(tmp_path, datadog, ", application_key_env: APPLICATION_KEY")
        with pytest.raises(FetchFailed, match="HTTP 401"):
            fetched(made)
        monkeypatch.setenv("APPLICATION_KEY", APPLICATION_KEY)
        assert fetched(made) == ["2026-10.csv"], "November is not told yet"
        made.run_all("2026-10-01", "2026-10-02")
    columns = ("SubAccountName", "SkuId", "SkuMeter", "BilledCost", "ChargePeriodEnd::DATE::VARCHAR")
    assert sorted(map(tuple, made.rows("2026-10-01", *columns))) == [
        ("data", "rum", "total", 31, "2026-11-01"), ("web", "infra_host", "committed", 300, "2026-11-01"),
        ("web", "infra_host", "on_demand", Decimal("10.5"), "2026-11-01"),
    ], "a total is told beside its parts"  # fmt: skip
    assert not [v for v in made.judge("2026-10-01").values() if not v.passed]
    with made.platform.warehouse.reading() as connection:
        query = "SELECT accrual_date::VARCHAR, round(sum(accrued_cost), 12) FROM daily_accrued_cost WHERE is_apportioned GROUP BY 1"
        assert connection.execute(query).fetchall() == [("2026-10-01", round(Decimal("341.5") / 31, 12))]


def copilot_seat(user: str, last: str | None, created: str = "2026-01-01", plan: str = "business") -> dict[str, Any]:
    return {
        "assignee": {"login": user, "id": 7}, "plan_type": plan, "created_at": f"{created}T00:00:00Z",
        "last_activity_at": last and f"{last}T10:00:00Z", "last_activity_editor": "vscode/1", "pending_cancellation_date": None,
    }  # fmt: skip


def test_seats_are_shared_by_who_had_one_on_the_day_and_which_are_unused_is_told_and_never_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    seats = {
        "product": "copilot",
        "sku": "copilot_for_business",
        "quantity": "0.1",
        "unit": "user-months",
        "price": "19",
        "gross": "1.9",
        "net": "1",
    }
    other = {
        "product": "actions",
        "sku": "linux",
        "quantity": "1",
        "unit": "minutes",
        "price": "1",
        "gross": "1",
        "net": "5",
        "repository": "acme/web",
    }
    github = Costs("github", {date(2026, 10, n): [seats, other] for n in (1, 12, 13, 14)})
    long_gone, busy = copilot_seat("ada", "2026-08-30"), copilot_seat("bob", "2026-10-12")
    never, newest = copilot_seat("eve", None), copilot_seat("ann", None, "2026-10-01")
    github.seats = [long_gone, busy, never, newest, copilot_seat("zoe", None, plan="enterprise")]
    github.seats += [copilot_seat(f"e{n}", None, plan="enterprise") for n in range(100)]

    def made_of(day: str) -> list[tuple[str, str, Decimal, Decimal]]:
        columns = ("ResourceId", "SkuMeter", "BilledCost", "ConsumedQuantity")
        return [row for row in map(tuple, made.rows(day, *columns)) if row[0] != "acme/web"]

    with served(github):
        made = site(tmp_path, github, ", account: acme, seats: true")
        fetched(made, datetime(2026, 10, 14, 6, tzinfo=UTC))
        pages = [a["page"] for a in github.asked if "seats" in a["path"][0]]
        assert pages == [["1"], ["2"]]
        # The next day ada is back: what was told of the days before stays.
        github.seats = [copilot_seat("ada", "2026-10-14"), busy]
        before = table_of(made.exports / "2026-10.csv")
        os.utime(made.exports / ".answers" / "2026-10", (0, 0))
        assert fetched(made, datetime(2026, 10, 15, 6, tzinfo=UTC)) == ["2026-10.csv"]
        after = table_of(made.exports / "2026-10.csv")
        assert [row for row in after if row["date"] != "2026-10-14"] == before
        days = ("2026-10-01", "2026-10-12", "2026-10-13", "2026-10-14")
        made.run_all(*days)
    unused = "copilot_for_business, seat without activity in 30 days"
    quarter = (Decimal("0.25"), Decimal("0.025"))
    assert sorted(made_of(days[2])) == [
        ("ada", unused, *quarter), ("ann", "copilot_for_business", *quarter), ("bob", "copilot_for_business", *quarter), ("eve", unused, *quarter),
    ]  # fmt: skip
    assert sorted(made_of(days[1])) == sorted(made_of(days[2])), "nobody asked on that day: as on the next"
    assert made_of(days[0]) == [(None, "copilot_for_business", 1, Decimal("0.1"))], "who had one is told of now alone"
    assert {user for user, *_ in made_of(days[3])} == {"ada", "bob"}
    assert {cost for _, meter, cost, _ in made_of(days[3])} == {Decimal("0.5")}
    assert sum(cost for day, _, cost in by_team(made)) == 4 * (1 + 5)
    assert not [v for v in made.judge(*days).values() if not v.passed]
    github.seats = []
    with served(github):
        again = site(tmp_path / "again", github, ", account: acme, seats: true")
        github.first = [(200, {}, json.dumps({"total_seats": 3, "seats": []}))]
        with pytest.raises(FetchFailed, match="0 seats came of 3"):
            fetched(again)
        assert not (again.exports / "2026-10.csv").exists()


def test_tokens_written_to_the_cache_of_openai_are_no_input_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    day = date(2026, 10, 5)
    items = {
        "big, input_tokens": 60,
        "big, input_cached_tokens": 30,
        "big, input_cache_write_tokens": 10,
        "big, output_tokens": 0,
    }
    costs = Costs("openai", {day: [{"amount": "1", "line_item": item} for item in items]})
    costs.used[day] = [{"in": 70, "cached": 30, "out": 0, "written": 10}]
    with served(costs):
        made = site(tmp_path, costs)
        fetched(made)
    assert {r["line_item"]: int(r["tokens"]) for r in table_of(made.exports / "2026-10.csv")} == items
