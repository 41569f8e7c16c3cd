"""`finops publish --to`: the published copy in a real PostgreSQL is exact, brought up to date by day, and never half."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from finops_assets.base.errors import FinopsError, WaitedTooLong
from finops_assets.base.sql import identifier
from finops_assets.cli.exit_codes import WAITED
from finops_assets.cli.program import app
from finops_assets.storage.postgres_copy import KINDS, Replaced, bring_up_to_date, name_there
from finops_assets.storage.warehouse import FACTS
from finops_assets.tables import declarations
from finops_assets_tests.docs.pages import blocks
from finops_assets_tests.explore.served import FIRST, HELD, SPIKE
from finops_assets_tests.postgres import PASSWORD, USER, postgres  # noqa: F401
from finops_assets_tests.published import published_with_reports

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, postgres: dict[str, str]) -> Path:  # noqa: F811
    """The folder of a platform that is published; there is no need of it where there is no PostgreSQL."""
    folder = tmp_path_factory.mktemp("postgres")
    published_with_reports(folder)
    return folder


class Target:
    """A database of its own, and what it holds."""

    def __init__(self, environment: dict[str, str], name: str) -> None:
        self.server = f"{USER}@127.0.0.1:{environment['DAGSTER_PG_PORT']}"
        self.address = f"postgresql://{self.server}/{name}"

    def connect(self) -> Any:
        import psycopg2

        return psycopg2.connect(self.address)

    def ask(self, query: str) -> list[Any]:
        with closing(self.connect()) as connection, connection, connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall()) if cursor.description else []

    def copy(self, published: Path, schema: str = "finops", wait_minutes: float = 1) -> list[Replaced]:
        opened: Callable[[], duckdb.DuckDBPyConnection] = partial(duckdb.connect, str(published), read_only=True)
        return bring_up_to_date(published, opened, self.address, schema, wait_minutes)

    def whole(self, schema: str = "finops") -> dict[str, list[Any]]:
        """Every row of the schema, in an order."""
        tables = self.ask(
            f"SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r'"
        )
        return {t: sorted(self.ask(f'SELECT * FROM {schema}."{t}"'), key=repr) for (t,) in tables}


@pytest.fixture
def target(
    request: pytest.FixtureRequest,
    postgres: dict[str, str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Target:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    name = request.node.name[5:60].replace("%", "")
    with closing(Target(postgres, "postgres").connect()) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
    return Target(postgres, name)


def changed(published: Path, folder: Path, *statements: str) -> Path:
    """Another published copy, in which these statements were executed."""
    file = folder / f"{len(list(folder.iterdir()))}.duckdb"
    shutil.copyfile(published, file)
    with duckdb.connect(str(file)) as connection:
        for statement in statements:
            connection.execute(statement)
    return file


def test_every_table_is_there_to_the_last_digit_and_says_what_it_is(project: Path, target: Target) -> None:
    told = CliRunner().invoke(app, ["publish", "--to", target.address, "-c", str(project / "finops.yaml")])
    assert told.exit_code == 0, told.output
    assert "daily_cost_by_team: 47 days, 280 rows" in told.stdout
    with duckdb.connect(str(project / "p.duckdb"), read_only=True) as copy:
        tables = copy.execute(
            "SELECT schema_name, table_name FROM duckdb_tables()"
            " UNION ALL SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
        assert len(tables) > 30
        there = {
            name
            for (name,) in target.ask("SELECT table_name FROM information_schema.tables WHERE table_schema = 'finops'")
        }
        kept = {"published_copy", "copied_days"}
        assert there == {name_there(declarations.TABLES[t]) for t in tables if t != ("main", FACTS)} | kept
        for schema, name in tables:
            if name == FACTS:
                continue
            declared = declarations.TABLES[schema, name]
            held = [row[0] for row in copy.execute(f"DESCRIBE {declared.full_name}").fetchall()]
            listed = ", ".join(map(identifier, held))
            ours = copy.execute(f"SELECT {listed} FROM {declared.full_name}").fetchall()
            theirs = target.ask(f"SELECT {listed} FROM finops.{identifier(name_there(declared))}")
            assert sorted(theirs, key=repr) == sorted(ours, key=repr), name
            described = {
                column: (kind, comment)
                for column, kind, comment in target.ask(
                    "SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute"
                    f" WHERE attrelid = 'finops.{identifier(name_there(declared))}'::regclass AND attnum > 0"
                )
            }
            assert described == {c: (KINDS[k.kind], k.comment) for c in held for k in [declared.column(c)]}
    assert target.ask("SELECT obj_description('finops.coverage'::regclass)") == [
        (declarations.table("coverage").meaning,)
    ]
    [(published_at, copied_at)] = target.ask("SELECT published_at, copied_at FROM finops.published_copy")
    moment = datetime.fromtimestamp((project / "p.duckdb").stat().st_mtime, UTC).replace(tzinfo=None)
    assert published_at == moment < copied_at


def test_the_statements_of_the_guide_give_rights_to_a_reader_and_tell_of_the_held_day(
    project: Path, target: Target
) -> None:
    target.copy(project / "p.duckdb")
    rights, question = (b.text for b in blocks("postgresql") if b.page == "docs/guides/bi-tools.md")
    target.ask("CREATE ROLE bi_reader")
    target.ask(rights.replace("FOR ROLE finops", f"FOR ROLE {USER}"))
    answers = target.ask(f"SET ROLE bi_reader; {question}")
    assert len(answers) == 2 * 47 - 1, "both currencies of each day; of the held day there is one"
    assert {(day, missing) for day, _, _, missing in answers if missing} == {(HELD, "gcp: held")}
    assert [(c, cost) for day, c, cost, _ in answers if day == SPIKE] == [
        ("EUR", Decimal("1.250000000000000000")),
        ("USD", Decimal("102.473456789012345679")),
    ]


def test_only_days_that_changed_are_replaced(project: Path, target: Target, tmp_path: Path) -> None:
    published = project / "p.duckdb"
    assert target.copy(published)
    where = "SELECT charge_date, min(xmin::text), max(xmin::text) FROM finops.daily_cost_by_team GROUP BY 1"
    before = {day: (low, high) for day, low, high in target.ask(where)}
    assert target.copy(published) == []
    assert {day: (low, high) for day, low, high in target.ask(where)} == before

    restated = changed(
        published, tmp_path,
        f"UPDATE daily_cost_by_team SET billed_cost = billed_cost + 0.000000000000000001 WHERE charge_date = DATE '{SPIKE}'",
        f"DELETE FROM daily_cost_by_team WHERE charge_date = DATE '{FIRST}'",
        f"UPDATE coverage SET reason = 'a; \"b\", \\.' || chr(10) || chr(0) WHERE charge_date = DATE '{HELD}' AND source = 'gcp'",
        "UPDATE budgets SET department = '' WHERE team IS NULL AND department IS NULL",
    )  # fmt: skip
    replaced = {each.table: each for each in target.copy(restated)}
    assert replaced["daily_cost_by_team"] == Replaced("daily_cost_by_team", 2, 6)
    assert replaced["coverage"] == Replaced("coverage", 1, 2)
    assert replaced["budgets"] == Replaced("budgets", 0, 2)
    assert "reported_cost" not in replaced
    after = {day: (low, high) for day, low, high in target.ask(where)}
    assert set(before) - set(after) == {FIRST}
    assert {day for day in after if after[day] != before[day]} == {SPIKE}
    assert target.ask("SELECT reason FROM finops.coverage WHERE state = 'held'") == [('a; "b", \\.\n\ufffd',)]
    assert target.ask("SELECT count(*) FROM finops.budgets WHERE department = ''") == [(1,)]
    assert target.ask("SELECT count(*) FROM finops.budgets WHERE department IS NULL") == [(0,)]


def test_a_reader_is_not_waited_for_and_keeps_what_it_reads(project: Path, target: Target, tmp_path: Path) -> None:
    published = project / "p.duckdb"
    target.copy(published)
    total = "SELECT sum(billed_cost) FROM finops.daily_cost_by_team"
    dearer = changed(published, tmp_path, "UPDATE daily_cost_by_team SET billed_cost = billed_cost + 1")
    with closing(target.connect()) as reader, reader.cursor() as cursor:
        reader.set_session(isolation_level="REPEATABLE READ")
        cursor.execute(total)
        [before] = cursor.fetchone()
        # Its locks are held; one that waited for them would fail after 6 seconds.
        assert target.copy(dearer, wait_minutes=0.1)
        cursor.execute(total)
        assert cursor.fetchone() == (before,)
    assert target.ask(total) == [(before + 280,)]


def test_what_is_refused_in_the_middle_leaves_all_as_it_was(project: Path, target: Target, tmp_path: Path) -> None:
    published = project / "p.duckdb"
    by_region = changed(
        published, tmp_path, 'ALTER TABLE daily_cost_by_team ADD COLUMN "re%s""gion" VARCHAR',
        'UPDATE daily_cost_by_team SET "re%s""gion" = team',
    )  # fmt: skip
    target.copy(by_region)
    assert target.ask('SELECT count("re%s""gion") FROM finops.daily_cost_by_team') == [(280,)]
    target.ask('CREATE VIEW public.mine AS SELECT "re%s""gion" FROM finops.daily_cost_by_team')
    target.ask("CREATE ROLE analyst")
    target.ask("GRANT SELECT ON finops.daily_cost_by_team TO analyst")
    before = target.whole()
    # Tables come by name: before the refusal some have been replaced within the transaction.
    without = changed(published, tmp_path, "UPDATE budgets SET amount = amount + 1", "DELETE FROM coverage")
    with pytest.raises(FinopsError, match=r"view mine depends.*drop the view, copy again.*Nothing was changed"):
        target.copy(without)
    assert target.whole() == before

    target.ask("DROP VIEW public.mine")
    # Whoever reads a table whose columns change is waited for, and not for ever.
    with closing(target.connect()) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT 1 FROM finops.daily_cost_by_team LIMIT 1")
        with pytest.raises(WaitedTooLong, match="keeps a table whose columns change"):
            target.copy(without, wait_minutes=0.005)
    assert target.whole() == before
    target.copy(without)
    held = target.ask(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'finops.daily_cost_by_team'::regclass AND NOT attisdropped"
    )
    assert ('re%s"gion',) not in held
    assert target.ask("SELECT has_table_privilege('analyst', 'finops.daily_cost_by_team', 'SELECT')") == [(True,)]

    gone = changed(published, tmp_path, "DROP VIEW budget_status", "DROP TABLE forecast")
    assert Replaced("forecast", 0, 0) in target.copy(gone)
    assert {"forecast", "budget_status"}.isdisjoint(target.whole())
    target.ask("DROP TABLE finops.coverage")
    assert Replaced("coverage", 47, 94) in target.copy(published)


def test_two_do_not_copy_at_once(project: Path, target: Target) -> None:
    with closing(target.connect()) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtextextended('finops publish --to finops', 0))")
        yaml = (project / "finops.yaml").read_text(encoding="utf-8")
        impatient = project / "impatient.yaml"
        impatient.write_text(f"{yaml}wait_minutes: 0.005\n", encoding="utf-8")
        told = CliRunner().invoke(app, ["publish", "--to", target.address, "-c", str(impatient)])
        assert told.exit_code == WAITED, told.output
        assert "another process copies" in told.output


def test_a_schema_of_somebody_else_is_left_alone(project: Path, target: Target) -> None:
    target.ask("CREATE TABLE public.coverage (mine text)")
    with pytest.raises(FinopsError, match="schema public has 'coverage', which this command did not make"):
        target.copy(project / "p.duckdb", schema="public")
    assert target.copy(project / "p.duckdb", schema='of "us"')
    assert target.ask('SELECT count(*) FROM "of ""us""".coverage') == [(94,)]
    with pytest.raises(FinopsError, match="found 64"):
        target.copy(project / "p.duckdb", schema="x" * 64)


def test_a_password_is_neither_taken_from_the_command_line_nor_shown(
    project: Path, target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def told(address: str) -> str:
        result = CliRunner().invoke(app, ["publish", "--to", address, "-c", str(project / "finops.yaml")])
        assert result.exit_code == 1
        return " ".join(result.output.split())

    database = target.address.rpartition("/")[2]
    for address in (
        target.address.replace(USER, f"{USER}:hunter2"),
        f"{target.address}?password=hunter2",
    ):
        said = told(address)
        assert "hunter2" not in said
        assert "has a password in it" in said
    for address in (
        f"postgresql://u:hunter2/x@h:p/{database}",
        "postgresql://u:1/hunter2@h/d",
        "mysql://u:hunter2@h/d",
        "hunter2",
    ):
        said = told(address)
        assert "hunter2" not in said
        assert "postgresql://user@host:port/database" in said
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    said = told(target.address)
    assert "hunter2" not in said
    assert "cannot be reached" in said
    assert "PGPASSWORD" in said
    # And by the file of libpq.
    monkeypatch.delenv("PGPASSWORD")
    file = tmp_path / "pgpass"
    file.write_text(f"127.0.0.1:*:*:{USER}:{PASSWORD}\n", encoding="utf-8")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert target.copy(project / "p.duckdb")


def test_every_declared_type_has_one_there() -> None:
    assert {c.kind for t in declarations.ALL for c in t.columns} <= set(KINDS)
    assert all(len(name_there(t)) < 64 for t in declarations.ALL)
    names = [name_there(t) for t in declarations.ALL]
    assert len(set(names)) == len(names)
