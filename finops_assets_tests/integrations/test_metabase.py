"""deploy/metabase: its questions on the published copy, and what its script asks for. Metabase itself cannot be had here."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest

from finops_assets.storage.postgres_copy import bring_up_to_date
from finops_assets_tests.explore.served import HELD, LAST
from finops_assets_tests.places import PROJECT
from finops_assets_tests.postgres import PASSWORD, USER, postgres  # noqa: F401

SCRIPT = PROJECT / "deploy" / "metabase" / "overview.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("metabase_overview", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def filled(sql: str, **values: str) -> str:
    """SQL as Metabase sends it: what is in double brackets goes where its variable has no value."""

    def clause(found: re.Match[str]) -> str:
        names = re.findall(r"{{(\w+)}}", found[1])
        if any(name not in values for name in names):
            return ""
        return re.sub(r"{{(\w+)}}", lambda name: f"'{values[name[1]]}'", found[1])

    return re.sub(r"\[\[(.*?)\]\]", clause, sql)


def answers(published: Path, schema: str | None = None, **values: str) -> dict[str, str]:
    """Question -> its SQL with these values of the filters."""
    return {q.file: filled(q.sql(schema), **values) for q in script().QUESTION_LIST}


@pytest.mark.long
def test_the_questions_say_what_the_published_copy_says(published: Path) -> None:
    with duckdb.connect(str(published), read_only=True) as copy:
        found = {name: copy.execute(sql).fetchall() for name, sql in answers(published).items()}
        dollars = {name: copy.execute(sql).fetchall() for name, sql in answers(published, currency="USD").items()}
        shop = {
            name: copy.execute(sql).fetchall()
            for name, sql in answers(published, currency="USD", department="shop").items()
        }
        rows = copy.execute(
            "SELECT charge_date, BillingCurrency, department, ServiceCategory, effective_cost FROM daily_cost_by_team"
        ).fetchall()
        report = copy.execute("SELECT team, currency, effective_cost FROM reports.cost_by_team").fetchall()

    def summed(*places: int) -> dict[tuple[Any, ...], Decimal]:
        result: dict[tuple[Any, ...], Decimal] = defaultdict(Decimal)
        for row in rows:
            result[tuple(row[place] for place in places)] += row[4]
        return dict(result)

    assert {(day, currency): cost for day, currency, cost in found["spent_by_day"]} == summed(0, 1)
    by_department = {(day, f"{currency} {of}"): cost for (day, currency, of), cost in summed(0, 1, 2).items()}
    assert {(day, of): cost for day, of, cost in found["spent_by_department"]} == by_department
    assert {(of, currency): cost for of, currency, cost in found["spent_by_category"]} == summed(3, 1)
    assert {(day, source): n for day, source, n in found["missing_by_day"] if n} == {(HELD, "gcp"): 1}
    assert [row[:4] for row in found["missing"]] == [(HELD, "gcp", "held", "nothing")]
    assert found["sources"] == [("aws", LAST, 47, 0, 0), ("gcp", LAST, 46, 1, 0)]
    assert sorted((r[1], r[2], r[3]) for r in found["teams"]) == sorted(report)
    assert [row[4] for row in found["budgets"]] == [600, 1500]

    # A filter takes rows away and changes no figure; what has no such column stays as it is.
    for name, few in dollars.items():
        assert [row for row in found[name] if "EUR" not in str(row)] == few, name
    assert {row[0] for row in shop["teams"]} == {"shop"}
    assert shop["budgets"] == dollars["budgets"]


@pytest.mark.long
def test_on_the_copy_in_postgresql_they_say_the_same(
    published: Path,
    postgres: dict[str, str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import psycopg2

    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    address = f"postgresql://{USER}@127.0.0.1:{postgres['DAGSTER_PG_PORT']}/postgres"
    bring_up_to_date(published, partial(duckdb.connect, str(published), read_only=True), address)
    there = answers(published, "finops")
    with (
        closing(psycopg2.connect(address)) as connection,
        connection.cursor() as cursor,
        duckdb.connect(str(published), read_only=True) as copy,
    ):
        for name, sql in answers(published).items():
            cursor.execute(there[name])
            assert sorted(cursor.fetchall(), key=repr) == sorted(copy.execute(sql).fetchall(), key=repr), name


class _Kept(BaseHTTPRequestHandler):
    """Keeps what it is asked, and answers with new ids as Metabase's documentation says that it does."""

    asked: list[tuple[str, str, Any]]

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.command, self.path, json.loads(content) if content else None))
        if self.headers["X-API-Key"] != "mb_secret":
            return self._say(401, "Unauthenticated")
        match self.command, self.path:
            case "GET", "/api/database":
                return self._say(200, {"data": [{"name": "finops", "id": 7}, {"name": "Sample", "id": 1}], "total": 2})
            case "GET", "/api/collection":
                return self._say(200, [{"id": "root", "name": "Ours"}, {"id": 3, "name": "Cloud cost: overview"}])
            case _:
                return self._say(200, {"id": 100 + len(self.asked)})

    do_GET = do_POST = do_PUT = _answer

    def _say(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def listening() -> Iterator[tuple[str, list[tuple[str, str, Any]]]]:
    asked: list[tuple[str, str, Any]] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Kept", (_Kept,), {"asked": asked})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def run(key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"METABASE_API_KEY": key}
    return subprocess.run([sys.executable, SCRIPT, *arguments], env=environment, capture_output=True, text=True)


def test_the_script_makes_a_collection_the_questions_and_a_dashboard_of_them() -> None:
    with listening() as (address, asked):
        done = run("mb_secret", address, "finops", "bi")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{address}/dashboard/\d+\n", done.stdout)
    assert ("PUT", "/api/collection/3", {"archived": True}) in asked, "what it made before goes"
    cards = [body for method, path, body in asked if (method, path) == ("POST", "/api/card")]
    assert len(cards) == 8
    for card in cards:
        query = card["dataset_query"]
        assert query["database"] == 7
        assert '"bi".' in query["native"]["query"]
        assert set(re.findall(r"{{(\w+)}}", query["native"]["query"])) == set(query["native"]["template-tags"])
        assert card["visualization_settings"].get("stackable.stack_type") is None, "currencies are not stacked"
        assert card["display"] != "line" or card["visualization_settings"]["line.missing"] == "none", (
            "a held day is a gap"
        )
    method, path, board = asked[-1]
    assert method == "PUT"
    assert path.startswith("/api/dashboard/")
    filters = {each["id"]: each["slug"] for each in board["parameters"]}
    assert sorted(filters.values()) == ["currency", "department"]
    ids = [100 + place for place, (method, path, _) in enumerate(asked, 1) if (method, path) == ("POST", "/api/card")]
    placed = board["dashcards"][1:]
    assert [each["card_id"] for each in placed] == ids
    for each, card in zip(placed, cards):
        mapped = {filters[m["parameter_id"]]: m["target"] for m in each["parameter_mappings"]}
        assert mapped == {
            name: ["variable", ["template-tag", name]] for name in card["dataset_query"]["native"]["template-tags"]
        }
    taken = [
        (row, column)
        for each in board["dashcards"]
        for row in range(each["row"], each["row"] + each["size_y"])
        for column in range(each["col"], each["col"] + each["size_x"])
    ]
    assert len(set(taken)) == len(taken), "no two lie on one another"
    assert max(column for _, column in taken) == 23


def test_what_metabase_refuses_is_told_without_the_key() -> None:
    with listening() as (address, _):
        wrong, unknown = run("mb_wrong", address, "finops"), run("mb_secret", address, "billing")
    gone = run("mb_secret", address, "finops")
    assert wrong.returncode == unknown.returncode == gone.returncode == 1
    assert "Metabase says 401" in wrong.stderr
    assert "no database 'billing'; found Sample, finops" in unknown.stderr
    assert "cannot be reached" in gone.stderr
    assert not any("mb_" in each.stderr + each.stdout for each in (wrong, unknown, gone))
