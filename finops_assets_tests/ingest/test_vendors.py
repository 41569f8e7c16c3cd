"""Costs of AI vendors, fetched from servers that behave as the vendors' documents say, to cost by team."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from finops_assets.base.errors import ConfigError, FinopsError
from finops_assets.ingest.vendors.fetch import TRIES, FetchFailed, fetch_costs
from finops_assets.settings.load import parse_settings
from finops_assets_tests.conftest import Site

pytestmark = pytest.mark.slow
KEY = "sk-admin-planted-secret-0123456789"
NOW = datetime(2026, 11, 10, 6, tzinfo=UTC)
PROMPT = "tell me everything"
DAYS = ("2026-10-05", "2026-10-06")


@dataclass
class Costs:
    """A vendor: cost rows by day, two days a page, and what it answers first instead."""

    kind: str
    days: dict[date, list[dict[str, Any]]] = field(default_factory=dict)
    first: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    url: str = ""

    def answer(self, query: dict[str, list[str]]) -> str:
        if self.kind == "openai":
            first, end = (datetime.fromtimestamp(int(query[n][0]), UTC).date() for n in ("start_time", "end_time"))
        else:
            first, end = (date.fromisoformat(query[n][0][:10]) for n in ("starting_at", "ending_at"))
        days = [d for d in sorted(self.days) if first <= d < end]
        at = int(query.get("page", ["0"])[0])
        buckets = [self._bucket(d) for d in days[at : at + 2]]
        more = at + 2 < len(days)
        # As text, so that amounts keep their digits.
        listed = ", ".join(buckets)
        return f'{{"object": "page", "data": [{listed}], "has_more": {str(more).lower()}, "next_page": {json.dumps(str(at + 2) if more else None)}}}'

    def _bucket(self, day: date) -> str:
        if self.kind == "openai":
            start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
            results = ", ".join(
                f'{{"object": "organization.costs.result", "amount": {{"value": {r["amount"]}, "currency": "usd"}},'
                f' "line_item": {json.dumps(r["line_item"])}, "project_id": {json.dumps(r.get("project"))}, "quantity": null}}'
                for r in self.days[day]
            )
            return f'{{"object": "bucket", "start_time": {start}, "end_time": {start + 86400}, "results": [{results}]}}'
        results = json.dumps([
            {"currency": "USD", "amount": r["amount"], "workspace_id": r.get("project"), "description": r["line_item"],
             "cost_type": "tokens", "model": "claude-x", "token_type": "output_tokens", "service_tier": "standard",
             "context_window": "0-200k", "inference_geo": None}
            for r in self.days[day]
        ])  # fmt: skip
        return (
            f'{{"starting_at": "{day}T00:00:00Z", "ending_at": "{day + timedelta(1)}T00:00:00Z", "results": {results}}}'
        )


@contextmanager
def served(costs: Costs) -> Iterator[Costs]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            costs.asked.append(query)
            key = self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")
            status, body = 200, ""
            headers: dict[str, str] = {}
            if key != KEY:
                status, body = 401, f"no such key: {key}"
            elif costs.first:
                status, headers, body = costs.first.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write((body or costs.answer(query)).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        costs.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield costs
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["openai", "anthropic"])
def vendor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    cents = request.param == "anthropic"
    costs = Costs(request.param)
    for n in range(5):
        day = date(2026, 10, 4 + n)
        costs.days[day] = [
            {"amount": "123.45678901234567" if cents else "1.2345678901234567", "line_item": "big model, output", "project": "proj_web"},
            {"amount": "7" if cents else "0.07", "line_item": "small model, input"},
        ]  # fmt: skip
    with served(costs):
        yield costs


def site(folder: Path, vendor: Costs) -> Site:
    made = Site(
        folder,
        layout=f"files, fetch: {{vendor: {vendor.kind}, key_env: VENDOR_KEY, url: '{vendor.url}'}}",
        first_day="2026-10-01",
        extra="attribution_rules:\n  - {name: web, when: {SubAccountId: proj_web}, set: {team: web}}\n",
    )
    made.exports.mkdir(parents=True, exist_ok=True)
    return made


def fetched(made: Site, now: datetime = NOW, pauses: list[float] | None = None) -> list[str]:
    source = made.source
    assert source.fetch
    waits = pauses if pauses is not None else []
    return [p.name for p in fetch_costs(source, source.fetch, date(2026, 10, 1), now, pause=waits.append)]


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
    assert [json.loads(a.read_text())["has_more"] for a in answers] == [True, True, False], "as they came"
    for file in made.exports.rglob("*"):
        if file.is_file():
            assert KEY not in file.read_text()
    [row] = {tuple(r) for r in made.rows(DAYS[0], "ServiceCategory", "ProviderName", "ChargeCategory")}
    assert row == ("AI and Machine Learning", {"openai": "OpenAI", "anthropic": "Anthropic"}[vendor.kind], "Usage")


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
        ([(200, {}, '{"error": "x"}')], "without `data`"),
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
        ("files, fetch: {vendor: other, key_env: K}", "exports", "found 'other'; allowed: 'openai' or 'anthropic'"),
    ],
)
def test_what_cannot_be_fetched_is_told_when_finops_yaml_is_read(
    tmp_path: Path, layout: str, uri: str, says: str
) -> None:
    with pytest.raises(ConfigError) as told:
        parse_settings(Site(tmp_path, layout=layout, uri=uri).text, tmp_path / "finops.yaml")
    assert says in str(told.value)
