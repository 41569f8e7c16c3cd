"""Who sees what: the explorer, its files, its API and `finops mcp`, for people and programs of groups; and ways around it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import httpx2
import pytest
from oidc_provider_mock import User, run_server_in_thread
from starlette.applications import Starlette
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from finops_assets.base.errors import ConfigError
from finops_assets.cli.program import app
from finops_assets.evaluate.anomalies.history import AnomalyHistory
from finops_assets.explore.server import PAGES, application
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets_tests.emulators import free_port, server
from finops_assets_tests.explore.served import BACKWARDS, SETTINGS, published_platform
from finops_assets_tests.nginx import nginx

pytestmark = pytest.mark.slow
OCTOBER = "from=2026-10-01&to=2026-10-18"
SITE = "http://127.0.0.1:8070"
KEY = "k" * 32
TOKENS = {"FINOPS_TOKEN_WEB": "w" * 40, "FINOPS_TOKEN_ALL": "a" * 40}
ACCESS = """
access:
  finance: all
  web-leads: [Shop/Web]
  api-leads: [shop/api]
  shop: [shop]
"""
BY_HEADER = """
explore:
  url: http://127.0.0.1:8070
  sign_in: {kind: header, proxies: [10.0.0.5]}
  tokens:
    - {name: bot, groups: web-leads, env: FINOPS_TOKEN_WEB}
    - {name: ledger, groups: [finance], env: FINOPS_TOKEN_ALL}
"""
PROXY = ("10.0.0.5", 4711)
OF_OTHERS = ("Runner", "g-1", BACKWARDS, "hyperlink")
"""Names of services, resources and teams that are not the web team's."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return published_platform(tmp_path_factory.mktemp("access"), ACCESS)


@pytest.fixture(scope="module")
def served_by_header(platform: Platform, report: Any, handed: Handed) -> Iterator[Starlette]:
    """The explorer behind a proxy that signs people in. Once, and after the commands: DuckDB has a file open once in a process."""
    with pytest.MonkeyPatch.context() as environment:
        for env, token in TOKENS.items():
            environment.setenv(env, token)
        yield application(parse_settings(SETTINGS + ACCESS + BY_HEADER, config_of(platform)))


def config_of(platform: Platform) -> Path:
    return platform.settings.warehouse.with_name("finops.yaml")


def asked_by(explorer: Starlette, groups: str, name: str = "ada@example.com") -> TestClient:
    """A browser whose proxy says whose it is."""
    headers = {"x-forwarded-user": name, "x-forwarded-groups": groups}
    return TestClient(explorer, SITE, client=PROXY, headers=headers, follow_redirects=False)


def api(client: TestClient, question: str, **headers: str) -> Any:
    answer = client.get(f"/api/v1/{question}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


@dataclass(frozen=True)
class Handed:
    """A file for a group, and what the command said of it and of others."""

    file: Path
    said: str
    to_nobody: Result
    over_the_copy: Result


@pytest.fixture(scope="module")
def handed(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Handed:
    file = tmp_path_factory.mktemp("handed") / "web.duckdb"

    def export(group: str, target: Path) -> Result:
        return CliRunner().invoke(app, ["export", "group", group, str(target), "-c", str(config_of(platform))])

    done = export("web-leads", file)
    assert done.exit_code == 0, done.output
    return Handed(file, done.stdout, export("nobody", file), export("shop", platform.settings.published))


@pytest.fixture(scope="module")
def report(platform: Platform) -> Any:
    """What the command reports of October by team."""
    asked = ("--from", "2026-10-01", "--to", "2026-10-18", "--by", "team", "--basis", "effective")
    told = CliRunner().invoke(app, ["report", "teams", *asked, "--format", "json", "-c", str(config_of(platform))])
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)


@pytest.mark.long
def test_the_api_says_what_the_commands_say(report: Any, served_by_header: Starlette) -> None:
    client = asked_by(served_by_header, "finance")
    answer = api(client, f"costs?{OCTOBER}&by=team&basis=effective&currency=USD")
    assert answer["rows"] == [row for row in report["rows"] if row["currency"] == "USD"]
    assert set(report) == set(answer)
    assert answer["schema_version"] == report["schema_version"] == 1
    assert answer["period"] == report["period"] == {"from": "2026-10-01", "to": "2026-10-18"}
    assert answer["coverage"]["sources_late"] == report["coverage"]["sources_late"] == {"gcp": ["2026-10-05"]}
    assert answer["coverage"]["whole"] is False
    assert answer["published_at"].endswith("Z")
    assert "finops report teams" in answer["command"]
    narrowed = api(client, f"costs?{OCTOBER}&by=ResourceName&where=team=web&where=department=shop")["rows"]
    assert [row["ResourceName"] for row in narrowed] == ["front"]
    assert client.get(f"/api/v1/costs?{OCTOBER}&by=colour").status_code == 400
    assert {row["state"] for row in api(client, f"coverage?{OCTOBER}")["rows"]} == {"built", "held"}
    for question in ("budgets", "forecast", "anomalies", "unit-costs"):
        assert api(client, question)["coverage"]["sources_late"] == {"gcp": ["2026-10-05"]}, question
    assert {row["budget"] for row in api(client, "budgets")["rows"]} >= {"shop/web month effective USD"}
    assert api(client, f"anomalies?{OCTOBER}")["rows"][0]["first_day"] == "2026-10-12"
    assert api(client, "unit-costs?from=2026-10-01&to=2026-10-18&grain=day")["rows"]
    assert {"team", "ServiceName"} <= {row["column"] for row in api(client, "columns")["rows"]}
    assert {row["series"] for row in api(client, "forecast")["rows"]} >= {"total", "team"}


def everything_shown(client: TestClient, page: str, query: str) -> Iterator[str]:
    """A page, and every file that it offers."""
    shown = client.get(f"/{page}?{query}")
    yield shown.text
    for path in sorted(set(re.findall(rf'href="(/{page}/\w+\.csv\?[^"]+)"', shown.text))):
        file = client.get(path.replace("&amp;", "&"))
        assert file.status_code == 200, file.text
        yield file.text


NARROWED = (f"{OCTOBER}&is.team=api", f"{OCTOBER}&by=charges&is.department=shop", f"{OCTOBER}&shared=after")


def shown_of_others(client: TestClient, asked: Iterable[tuple[str, str]]) -> int:
    """How many pages and files were looked at: in none of them is anything of others."""
    seen = 0
    for page, query in asked:
        for text in everything_shown(client, page, query):
            seen += 1
            assert not [name for name in OF_OTHERS if name in text], (page, query)
    return seen


@pytest.mark.long
def test_no_page_and_no_file_of_any_question_holds_anything_of_others(served_by_header: Starlette) -> None:
    client, everyone = (asked_by(served_by_header, group) for group in ("web-leads,others", "finance"))
    asked = [(page, query) for page in PAGES for query in NARROWED]
    seen = shown_of_others(client, asked)
    seen += sum(len(list(everything_shown(everyone, *each))) for each in asked)
    assert seen > 90


def test_a_group_sees_its_own_to_the_last_digit_and_nothing_else(
    platform: Platform, served_by_header: Starlette
) -> None:
    client, everyone = (asked_by(served_by_header, group) for group in ("web-leads,others", "finance"))
    own = api(client, f"costs?{OCTOBER}&by=department,team&currency=USD")["rows"]
    whole = api(everyone, f"costs?{OCTOBER}&by=department,team&currency=USD")["rows"]
    assert [row["team"] for row in own] == ["web"]
    of_web = [row for row in whole if row["team"] == "web"]
    # A share of all that is spent would tell what is spent.
    for row in (*own, *of_web):
        row.pop("share_percent", None)
    assert own == of_web
    for split in ("ServiceName", "ResourceName", "charge_date,SubAccountName"):
        parts = api(client, f"costs?{OCTOBER}&by={split}&currency=USD")["rows"]
        assert sum(Decimal(row["effective_cost"]) for row in parts) == Decimal(own[0]["effective_cost"]), split
    asked = [*((page, OCTOBER) for page in PAGES), *(("teams", query) for query in NARROWED)]
    assert shown_of_others(client, asked) > 25
    for question in (
        "costs",
        "coverage",
        "budgets",
        "forecast",
        "anomalies",
        "deliveries",
        "unit-costs",
        "commitments",
        "waste",
        "tokens",
        "columns",
    ):
        answer = client.get(f"/api/v1/{question}?{OCTOBER}" if question != "deliveries" else "/api/v1/deliveries").text
        assert not [name for name in (*OF_OTHERS, "total month") if name in answer], question
    assert api(client, f"costs?{OCTOBER}&where=team=api")["rows"] == []
    assert "finops report" not in client.get(f"/teams?{OCTOBER}").text, "the command would tell of everybody"
    for page in ("untagged", "commitments"):
        assert client.get(f"/{page}?{OCTOBER}").status_code == 403
    overview = client.get(f"/overview?{OCTOBER}").text
    assert "sees <" in overview.replace("sees shop/web", "sees <")
    assert "ada@example.com" in overview
    assert 'href="/untagged' not in overview


def test_what_is_handed_to_a_group_stands_alone_and_holds_nothing_else(platform: Platform, handed: Handed) -> None:
    assert "shop/web" in handed.said
    with duckdb.connect(str(platform.settings.published), read_only=True) as whole:
        wanted = whole.execute(
            "SELECT count(*), sum(EffectiveCost) FROM cloud_cost_facts WHERE department = 'shop' AND team = 'web'"
        ).fetchall()
    with duckdb.connect(str(handed.file), read_only=True) as connection:
        connection.execute("SET enable_external_access = false")
        tables = connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
        assert {"daily_cost_by_team", "cloud_cost_facts", "budget_status", "forecast"} <= {name for _, name in tables}
        assert not connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        assert connection.execute("SELECT count(*), sum(EffectiveCost) FROM cloud_cost_facts").fetchall() == wanted
        for schema, table in tables:
            text = str(connection.execute(f'SELECT * FROM "{schema}"."{table}"').fetchall())
            assert not [name for name in OF_OTHERS if name in text], table
        assert connection.execute(
            "SELECT comment FROM duckdb_tables() WHERE table_name = 'daily_cost_by_team'"
        ).fetchall() != [(None,)]
    assert handed.to_nobody.exit_code == 1
    assert "finance, shop, web-leads" in handed.to_nobody.stderr.replace("api-leads, ", "")
    assert handed.over_the_copy.exit_code == 1
    assert "own file" in handed.over_the_copy.stderr


def test_a_table_that_nobody_thought_of_is_handed_to_nobody(platform: Platform, tmp_path: Path) -> None:
    from finops_assets.cost.reach import Reach, narrow

    with duckdb.connect() as connection:
        narrow(connection, platform.settings.published, Reach(frozenset()), facts_of_its_own=True)
        held = {
            table: count
            for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
            for (count,) in connection.execute(
                f"SELECT count(*) FROM {'reports.' if table in ('delivery_ledger',) else ''}{table}"
                if table == "delivery_ledger" or connection.execute(
                    "SELECT 1 FROM duckdb_tables() WHERE table_name = ? AND schema_name = 'main'", [table]
                ).fetchall() else "SELECT 0"
            ).fetchall()
        }  # fmt: skip
    assert {table for table, count in held.items() if count} <= {"coverage", "delivery_ledger"}


@pytest.mark.parametrize(
    ("client", "headers", "status", "says"),
    [
        (("10.0.0.6", 1), {}, 403, "come through the proxy"),
        (PROXY, {"x-forwarded-user": ""}, 403, "named nobody"),
        (PROXY, {"x-forwarded-groups": "strangers"}, 403, "may see nothing yet"),
        (PROXY, {"x-forwarded-groups": ""}, 403, "may see nothing yet"),
        (PROXY, {"host": "rebound.example.com"}, 400, "Invalid host"),
    ],
)
def test_only_the_proxy_is_believed(
    platform: Platform, served_by_header: Starlette, client: tuple[str, int], headers: dict[str, str], status: int, says: str
) -> None:  # fmt: skip
    asker = asked_by(served_by_header, "finance")
    from_there = TestClient(asker.app, SITE, client=client, headers={**asker.headers, **headers})
    for path in ("/", "/teams/costs.csv", "/api/v1/costs", "/api/v1/openapi.json"):
        answer = from_there.get(path)
        assert answer.status_code == status, path
        assert says in answer.text
    for path in ("/sign-in/decide", "/static/decide", "/sign-out/decide"):
        assert from_there.post(path, headers={"origin": SITE}).status_code in (status, 404, 405), path
    assert TestClient(asker.app, SITE, client=client).get("/health").text == "ok"


@pytest.mark.long
def test_behind_the_nginx_of_deploy_each_sees_what_his_groups_see(platform: Platform, tmp_path: Path) -> None:
    explorer, before = free_port(), free_port()
    config = tmp_path / "finops.yaml"
    behind = "explore: {url: 'http://costs.example.com', sign_in: {kind: header, proxies: [127.0.0.1]}}\n"
    access = "access: {finance: all, search-leads: [shop/web]}\n"
    text = f"{SETTINGS}{access}{behind}".replace("published: p.duckdb", f"published: {platform.settings.published}")
    config.write_text(text, encoding="utf-8")
    command = [str(Path(sys.executable).with_name("finops")), "explore", "--port", str(explorer), "-c", str(config)]
    passwords = "anna:{PLAIN}a word\nbob:{PLAIN}b word\ncy:{PLAIN}c word\n"

    def seen(who: str, path: str = f"/teams?{OCTOBER}") -> httpx2.Response:
        headers = {"host": "costs.example.com", "x-forwarded-groups": "finance"}
        return httpx2.get(f"http://127.0.0.1:{before}{path}", headers=headers, auth=(who, f"{who[0]} word"), timeout=60)

    with server(command, explorer), nginx(tmp_path, "costs.example.com", before, {8070: explorer}, passwords):
        assert "Runner" in seen("anna", f"/teams?{OCTOBER}&by=ServiceName").text
        own = seen("bob", f"/teams?{OCTOBER}&by=ServiceName")
        assert own.status_code == 200
        assert "Runner" not in own.text
        assert seen("cy").status_code == 403
        assert seen("dan").status_code == 401
        assert seen("dan", "/api/v1/costs").status_code == 403


def test_a_token_sees_what_its_groups_see_and_opens_no_page(platform: Platform, served_by_header: Starlette) -> None:
    client = asked_by(served_by_header, "finance")
    program = TestClient(client.app, SITE, client=("10.9.9.9", 1))
    bot, ledger = ({"authorization": f"Bearer {TOKENS[f'FINOPS_TOKEN_{name}']}"} for name in ("WEB", "ALL"))
    assert [row["team"] for row in api(program, f"costs?{OCTOBER}", **bot)["rows"]] == ["web"]
    assert len(api(program, f"costs?{OCTOBER}", **ledger)["rows"]) > 2
    for wrong in ("w" * 39, "w" * 41, "", KEY):
        refused = program.get("/api/v1/costs", headers={"authorization": f"Bearer {wrong}"})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
    assert program.get("/teams", headers=ledger).status_code == 403
    assert program.get("/teams/costs.csv", headers=ledger).status_code == 403


def test_people_sign_in_at_their_provider_and_come_back_to_where_they_were(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = User(sub="ada", claims={"email": "ada@example.com", "groups": ["web-leads", "everybody"]})
    eve = User(sub="eve", claims={"email": "eve@example.com"})
    with run_server_in_thread(user_claims=[ada, eve]) as provider:
        issuer = f"http://localhost:{provider.server_port}"
        more = f"""
explore:
  url: {SITE}
  sign_in: {{kind: openid, issuer: "{issuer}", client_id: finops}}
"""
        monkeypatch.setenv("FINOPS_OPENID_SECRET", "s" * 20)
        monkeypatch.setenv("FINOPS_SESSION_KEY", KEY)
        explorer = application(parse_settings(SETTINGS + ACCESS + more, config_of(platform)))
        client = asked_by(explorer, "finance")

        def sign_in(who: str, back: str = "/teams?by=team") -> httpx2.Response:
            asked = client.get("/sign-in", params={"back": back})
            assert asked.status_code == 302
            assert asked.headers["location"].startswith(issuer)
            assert "code_challenge" in asked.headers["location"]
            consented = httpx2.post(asked.headers["location"], data={"sub": who})
            assert consented.status_code == 302, consented.text
            returned: httpx2.Response = client.get(consented.headers["location"].removeprefix(SITE))
            return returned

        first = client.get("/teams?by=team")
        assert (first.status_code, first.headers["location"]) == (303, "/sign-in?back=%2Fteams%3Fby%3Dteam")
        assert client.get("/api/v1/costs").status_code == 401
        back = sign_in("ada")
        assert (back.status_code, back.headers["location"]) == (303, "/teams?by=team")
        page = client.get("/teams?by=team")
        assert page.status_code == 200
        assert "ada@example.com" in page.text
        assert "Runner" not in page.text
        assert [row["team"] for row in api(client, f"costs?{OCTOBER}")["rows"]] == ["web"]
        cookie = client.cookies["finops_session"]
        client.cookies.clear()
        client.cookies.set("finops_session", f"{cookie[:10]}{'A' if cookie[10] != 'A' else 'B'}{cookie[11:]}")
        assert client.get("/teams").status_code == 303, "a cookie that was changed is nobody's"
        client.cookies.clear()
        assert sign_in("ada", back="//evil.example/").headers["location"] == "/"
        assert client.post("/sign-out").status_code == 200
        assert client.get("/teams").status_code == 303
        assert sign_in("eve").status_code == 303
        refused = client.get("/teams")
        assert refused.status_code == 403
        assert "eve@example.com" in refused.text
        client.cookies.clear()
        forged = client.get("/signed-in?code=abc&state=def")
        assert forged.status_code == 401
        assert client.get("/teams").status_code == 303


def test_a_provider_that_does_not_answer_is_named(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    more = f"""
explore:
  url: {SITE}
  sign_in: {{kind: openid, issuer: "http://127.0.0.1:9", client_id: finops}}
"""
    monkeypatch.setenv("FINOPS_OPENID_SECRET", "s" * 20)
    monkeypatch.setenv("FINOPS_SESSION_KEY", KEY)
    explorer = application(parse_settings(SETTINGS + ACCESS + more, config_of(platform)))
    answer = asked_by(explorer, "").get("/sign-in")
    assert answer.status_code == 502
    assert "http://127.0.0.1:9" in answer.text
    assert "explore.sign_in.issuer" in answer.text


def test_who_decides_is_who_signed_in_and_only_about_its_own(platform: Platform, served_by_header: Starlette) -> None:
    history = AnomalyHistory.beside(platform.settings.warehouse)
    [spike] = [a for a in history.all() if str(a.first_day) == "2026-10-12"]
    verdict = {"id": spike.id, "verdict": "confirmed", "by": "somebody else", "note": "a sale"}
    origin = {"origin": SITE}
    api_lead = asked_by(served_by_header, "api-leads", "bob@example.com")
    refused = api_lead.post("/anomalies/decide", data=verdict, headers=origin)
    assert refused.status_code == 400
    assert "these match: none" in refused.text
    assert spike.id not in api_lead.get(f"/anomalies?{OCTOBER}").text
    assert api_lead.get(f"/anomalies?{OCTOBER}&id={spike.id}").status_code == 400
    web_lead = asked_by(served_by_header, "web-leads")
    assert (
        web_lead.post("/anomalies/decide", data=verdict, headers={"origin": "http://evil.example"}).status_code == 403
    )
    assert history.find(spike.id).verdict is None
    assert web_lead.post("/anomalies/decide", data=verdict, headers=origin).status_code == 303
    judged = history.find(spike.id)
    assert (judged.verdict, judged.judged_by, judged.note) == ("confirmed", "ada@example.com", "a sale")
    owner = {"source": "aws", "resource": "i-3", "dimension": "team", "verdict": "accepted"}
    assert web_lead.post("/untagged/decide", data=owner, headers=origin).status_code == 403


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("explore: {url: 'https://c.example', sign_in: {kind: header, proxies: [10.0.0.5]}}", "needs access beside it"),
        (f"explore: {{sign_in: {{kind: header, proxies: [10.0.0.5]}}}}{ACCESS}", "needs url"),
        (f"explore: {{url: 'https://c.example/x', sign_in: {{kind: header, proxies: ['::1']}}}}{ACCESS}", "a site alone"),
        (f"explore: {{url: 'https://c.example', sign_in: {{kind: header, proxies: [all]}}}}{ACCESS}", "proxies"),
        (f"explore: {{tokens: [{{name: bot, groups: [nobody], env: T}}]}}{ACCESS}", "allowed: api-leads, finance, shop, web-leads"),
        ("access: {leads: [shop/]}", "a department, or department/team"),
        ("access: {leads: some}", "access.leads"),
    ],
)  # fmt: skip
def test_what_is_configured_wrongly_is_said_when_it_is_read(tmp_path: Path, more: str, says: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse_settings(f"{SETTINGS}\n{more}\n", tmp_path / "finops.yaml")
    assert says in str(told.value)


def test_a_secret_that_is_not_there_or_too_short_is_named_and_never_shown(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(platform)
    monkeypatch.setenv("FINOPS_TOKEN_WEB", "short-secret")
    with pytest.raises(ConfigError, match=r"\$FINOPS_TOKEN_WEB has 12 characters") as told:
        application(parse_settings(SETTINGS + ACCESS + BY_HEADER, config))
    assert "short-secret" not in str(told.value)
    more = f"explore: {{url: '{SITE}', sign_in: {{kind: openid, issuer: 'https://id.example', client_id: finops}}}}\n"
    with pytest.raises(ConfigError, match=r"\$FINOPS_OPENID_SECRET is not set"):
        application(parse_settings(SETTINGS + ACCESS + more, config))


def test_an_assistant_gets_exact_figures_and_no_other_tools(platform: Platform, report: Any) -> None:
    from mcp import Client, StdioServerParameters  # a second for each process that collects the tests

    config = config_of(platform)

    def served_to(*options: str) -> StdioServerParameters:
        finops = str(Path(sys.executable).with_name("finops"))
        return StdioServerParameters(command=finops, args=["mcp", *options, "-c", str(config)])

    async def talk() -> tuple[list[Any], Any, Any, Any]:
        async with Client(served_to()) as client:
            tools = (await client.list_tools()).tools
            days = {"from_day": "2026-10-01", "to": "2026-10-18"}
            costs = await client.call_tool("costs", {**days, "by": ["team"], "currency": "USD"})
            wrong = await client.call_tool("costs", {"by": ["1; DROP TABLE x"]})
        async with Client(served_to("--group", "web-leads")) as client:
            own = await client.call_tool("costs", {**days, "by": ["team"]})
        return tools, costs, wrong, own

    tools, costs, wrong, own = asyncio.run(talk())
    assert {tool.name for tool in tools} == {
        "columns", "costs", "coverage", "budgets", "forecast", "anomalies", "deliveries", "unit_costs", "commitments", "waste",
        "tokens",
    }  # fmt: skip
    assert all(tool.annotations.read_only_hint for tool in tools)
    answer = costs.structured_content
    assert answer["rows"] == [row for row in report["rows"] if row["currency"] == "USD"]
    assert answer["coverage"]["notes"] == ["gcp has no figures for 1 day: 2026-10-05"]
    assert wrong.is_error
    assert "is not known by" in wrong.content[0].text
    assert [row["team"] for row in own.structured_content["rows"]] == ["web"]
    assert own.structured_content["command"] is None


def test_csv_of_a_group_is_what_it_sees(platform: Platform, served_by_header: Starlette) -> None:
    client = asked_by(served_by_header, "web-leads")
    rows = list(csv.DictReader(io.StringIO(client.get(f"/teams/costs.csv?{OCTOBER}").text)))
    assert [row["team"] for row in rows] == ["web"]
