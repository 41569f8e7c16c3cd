"""A copy that an earlier version published, under the commands, the explorer, the API and the assistants' server of this one."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from finops_assets.cli.program import app
from finops_assets.cost.reach import ALL, Reach, narrowed
from finops_assets.explore.answers import Answers, Asked
from finops_assets.explore.newest_copy import NewestCopy
from finops_assets.explore.server import PAGES, application
from finops_assets.platform import Platform
from finops_assets.storage.published_copy import columns_held, lacking, read_copy
from finops_assets.tables import declarations
from finops_assets_tests.explore.served import published_platform

pytestmark = pytest.mark.slow  # by its time, not by what it needs

NOT_THERE = {
    "main.unit_costs": ("most_per_unit", "most_percent", "usual_per_unit", "unusual"),
    "main.budget_evaluations": ("dimensions", "threshold_percent"),
    "main.anomaly_history": ("dimensions", "note"),
    "main.forecast": ("low80", "high80"),  # which always are known
    "main.daily_commitments": ("saved_against_list",),
    "main.daily_cost_allocated": ("note",),
}
"""Columns that a copy of before did not have."""
TABLES_NOT_THERE = {"waste": "waste was not looked for yet", "commitment_use": "commitments were not looked at yet"}


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """The platform with a published copy of which tables and columns are taken away: to be read alone."""
    return made_older(tmp_path_factory.mktemp("older"))


def made_older(folder: Path) -> Platform:
    platform = published_platform(folder)
    with duckdb.connect(str(platform.settings.published)) as connection:
        for table, columns in NOT_THERE.items():
            held = {name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall()}
            for column in held & set(columns):
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.execute("DROP VIEW budget_status")  # it would name what it had then
        for table in TABLES_NOT_THERE:
            connection.execute(f"DROP TABLE {table}")
    return platform


def lacks(connection: duckdb.DuckDBPyConnection) -> set[tuple[str, str]]:
    held = columns_held(connection)
    return {(table.name, column.name) for table, columns in held.items() for column in lacking(table, columns)}


@pytest.mark.long
def test_every_command_answers_or_says_what_is_not_there(older: Platform) -> None:
    config = str(older.settings.published.with_name("finops.yaml"))

    def ask(*arguments: str) -> Any:
        return CliRunner().invoke(app, [*arguments, "-c", config])

    told = ask("report", "units", "--format", "json")
    assert told.exit_code == 0, told.output
    rows = json.loads(told.stdout)["rows"]
    assert rows
    assert {row["most_per_unit"] for row in rows} == {None}
    for arguments in (
        ["budgets", "status"], ["forecast"], ["anomalies", "list"], ["report", "teams"], ["report", "commitments"],
        ["report", "allocation"], ["report", "tokens"],
    ):  # fmt: skip
        told = ask(*arguments)
        assert told.exit_code == 0, (arguments, told.output)
    for arguments, table in (
        (["report", "waste"], "waste"),
        (["report", "commitments", "--by", "team"], "commitment_use"),
    ):
        told = ask(*arguments)
        assert told.exit_code == 1, told.output
        assert TABLES_NOT_THERE[table] in " ".join(told.output.split())


def test_every_page_and_question_answers_or_says_what_is_not_there(older: Platform) -> None:
    client = TestClient(application(older.settings), "http://127.0.0.1:8070", client=("127.0.0.1", 1))
    for page in PAGES:
        answer = client.get(f"/{page}")
        assert answer.status_code == {"waste": 400, "overview": 503}.get(page, 200), (page, answer.text)
        assert (page == "waste") == (TABLES_NOT_THERE["waste"] in answer.text)
        # What cannot be shown without a column says which it is.
        assert (page == "overview") == ("published by another version and lacks" in answer.text)
    for question in ("columns", "costs", "budgets", "forecast", "anomalies", "unit-costs", "tokens"):
        answer = client.get(f"/api/v1/{question}")
        assert answer.status_code == 200, (question, answer.text)
    answer = client.get("/api/v1/commitments")
    assert answer.status_code == 400
    assert TABLES_NOT_THERE["commitment_use"] in answer.json()["error"]
    # What assistants are told is asked by the same functions.
    answers = Answers(older.settings, NewestCopy(older.settings, ALL))
    rows = answers.unit_costs(Asked(date(2026, 9, 1), date(2026, 10, 1)), "week")["rows"]
    assert rows
    assert {row["unusual"] for row in rows} == {None}


def test_facts_that_are_not_beside_the_copy_are_told_of(older: Platform, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "p.duckdb"
    moved.parent.mkdir()
    shutil.copy(older.settings.published, moved)
    client = TestClient(
        application(older.settings.model_copy(update={"published": moved})), "http://127.0.0.1:8070",
        client=("127.0.0.1", 1),
    )  # fmt: skip
    answer = client.get("/teams?by=ServiceName")
    assert answer.status_code == 503
    assert "finops publish" in answer.text


def test_columns_of_later_are_null_everywhere_until_it_is_published_anew(tmp_path: Path) -> None:
    older = made_older(tmp_path)
    published = older.settings.published
    with duckdb.connect(str(published), read_only=True) as connection:
        lacked = lacks(connection)
    assert {("unit_costs", "unusual"), ("budget_evaluations", "dimensions"), ("forecast", "high80")} <= lacked
    with read_copy(published) as connection:
        assert lacks(connection) == set()
        unknown = "count(*) FILTER (most_per_unit IS NULL AND effective_per_unit IS NOT NULL)"
        [(rows, nulls)] = connection.execute(f"SELECT count(effective_per_unit), {unknown} FROM unit_costs").fetchall()
        assert rows == nulls > 0
        # A view that the copy has reads the copy's own tables.
        assert connection.execute("SELECT sum(accrued_cost) FROM daily_accrued_cost").fetchall() != [(None,)]
    with narrowed(published, Reach(frozenset({("shop", "web")}))) as connection:
        held = {name for name, *_ in connection.execute("DESCRIBE unit_costs").fetchall()}
        assert held == {column.name for column in declarations.table("unit_costs").columns}
    older.warehouse.publish(older.lake, older.settings.dimensions)
    with duckdb.connect(str(published), read_only=True) as connection:
        assert lacks(connection) == set()
