"""The command line, called as its user calls it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import dagster as dg
import duckdb
import pandas as pd
import pytest
import sqlalchemy
import typer
from typer.testing import CliRunner

from finops_assets.alerts.history import AlertHistory
from finops_assets.base.processes import this_process
from finops_assets.base.text import one_line
from finops_assets.cli.commands import COMMANDS
from finops_assets.cli.common import explained
from finops_assets.cli.program import app
from finops_assets.demo import Incident
from finops_assets.graph.assets import raw as assets_raw
from finops_assets.graph.dead_runs import IDENTITY_TAG, UNDER_WAY
from finops_assets.graph.run_range import open_instance
from finops_assets.graph.sensors.alerts import tick
from finops_assets.ingest.landing import land_source
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets.storage.stores.store import StoreError, sdk
from finops_assets.tables import declarations
from finops_assets_tests.conftest import Site, focus_row
from finops_assets_tests.places import PROJECT
from finops_assets_tests.running import DIMENSIONS, LAYOUTS, SOURCES, small_estate

FIRST, BAD, LAST = date(2026, 9, 1), date(2026, 9, 3), date(2026, 9, 4)
SHIPPED = PROJECT


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder with its own estate and Dagster state, run once for four days, one of them bad."""
    root = tmp_path_factory.mktemp("project")
    small_estate(root, FIRST, LAST, incidents=[Incident("gcp", BAD, "incomplete")])
    sources = "".join(f"  - {{name: {s}, uri: estate/{s}, layout: {LAYOUTS[s]}}}\n" for s in SOURCES)
    (root / "finops.yaml").write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nrelease: whole_day\n"
        f"sources:\n{sources}{DIMENSIONS}",
        encoding="utf-8",
    )
    (root / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("DAGSTER_HOME", raising=False)
        result = CliRunner().invoke(app, ["run", "2026-09-01", "2026-09-05"])
        assert result.exit_code == 3, result.output
        assert "3 days built, 1 held back" in result.output
        assert "2026-09-03: complete: raw/gcp" in result.output
        yield root


@pytest.fixture
def finops(project: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(project)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return CliRunner()


def test_runs_stand_in_the_history_that_the_ui_shows(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    with open_instance() as instance:
        jobs = {run.job_name for run in instance.get_runs()}
    assert jobs == {"daily", "publish"}
    assert (project / ".dagster").is_dir()


def test_every_published_table_is_what_is_declared(project: Path) -> None:
    with duckdb.connect(str(project / "p.duckdb"), read_only=True) as connection:
        found: dict[tuple[str, str], dict[str, str]] = {}
        for schema, name, column, kind, comment in connection.execute(
            "SELECT schema_name, table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal"
            " ORDER BY schema_name, table_name, column_index"
        ).fetchall():
            found.setdefault((schema, name), {})[column] = kind
            assert comment, f"{schema}.{name}.{column} says not what it means"
        dimensions = ("department", "team", "environment", "cost_center")
        facts = found.pop(("main", "cloud_cost_facts"))
        assert facts == {c.name: c.kind.replace(" ", "") for c in declarations.facts_table(dimensions).columns}
        assert len(found) > 25
        for key, columns in found.items():
            declared = declarations.table(key[1], key[0], dimensions)
            assert declared.published
            assert list(columns.items()) == [(c.name, c.kind.replace(" ", "")) for c in declared.columns], key
            comments = "SELECT comment FROM duckdb_views() WHERE view_name = ? AND schema_name = ?"
            if not declared.view:
                comments = comments.replace("view", "table")
            assert connection.execute(comments, [key[1], key[0]]).fetchall() == [(declared.meaning,)]


def test_reports_in_every_format_agree(finops: CliRunner, tmp_path: Path) -> None:
    table = finops.invoke(app, ["report", "teams", "--from", "2026-09-01", "--to", "2026-09-05"])
    assert table.exit_code == 0
    assert "2026-09-01 to 2026-09-04" in table.output
    assert "note 1 of 4 days of this period have no figures" in table.output
    assert "2026-09-03" in table.output
    csv = finops.invoke(app, ["report", "teams", "--format", "csv"])
    rows = json.loads(finops.invoke(app, ["report", "teams", "--format", "json"]).stdout)["rows"]
    parquet = tmp_path / "teams.parquet"
    assert finops.invoke(app, ["report", "teams", "-f", "parquet", "-o", str(parquet)]).exit_code == 0
    frame = pd.read_parquet(parquet)
    assert len(rows) == len(frame) == len(csv.stdout.strip().splitlines()) - 1
    assert {r["team"] for r in rows} == set(frame["team"])


def test_report_by_day_service_and_untagged(finops: CliRunner) -> None:
    by_day = json.loads(finops.invoke(app, ["report", "services", "--by", "charge_date", "-f", "json"]).stdout)["rows"]
    assert {r["charge_date"][:10] for r in by_day} == {"2026-09-01", "2026-09-02", "2026-09-04"}
    untagged = json.loads(finops.invoke(app, ["report", "untagged", "-f", "json"]).stdout)["rows"]
    assert {r["provider"] for r in untagged} >= {"AWS", "Microsoft"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["report", "teams", "--by", "squad"], "found squad; allowed:"),
        (["report", "teams", "--from", "2026-09-04", "--to", "2026-09-02"], "is empty"),
        (["run", "2026-09-04", "2026-09-04"], "TO is exclusive"),
        (["run", "2026-08-01", "2026-09-04"], "from first_day 2026-09-01"),
        (["config", "check", "--config", "nowhere.yaml"], "cannot be read"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(finops: CliRunner, arguments: list[str], says: str) -> None:
    result = finops.invoke(app, arguments)
    assert result.exit_code == 1
    assert says in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_config_check_of_the_shipped_file(finops: CliRunner) -> None:
    result = finops.invoke(app, ["config", "check", "-c", str(SHIPPED / "finops.yaml")])
    assert result.exit_code == 0
    assert "3 sources" in result.output


def test_config_check_reads_the_files_that_are_named(tmp_path: Path) -> None:
    settings = (SHIPPED / "finops.yaml").read_text(encoding="utf-8")
    (tmp_path / "finops.yaml").write_text(settings, encoding="utf-8")
    (tmp_path / "budgets.csv").write_text("department,amount\nmobile,1\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["config", "check", "-c", str(tmp_path / "finops.yaml")])
    assert result.exit_code == 1
    assert "budgets.csv: 2 mistakes" in result.output.replace("\n", "")


@pytest.mark.long
def test_a_backfill_judges_held_days_by_the_limits_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_estate(tmp_path, FIRST, date(2026, 9, 2), incidents=[Incident("azure", FIRST, "untagged")])
    settings = (
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nsources:\n"
        f"  - {{name: azure, uri: estate/azure, layout: azure-exports}}\n{DIMENSIONS}"
    )
    config = tmp_path / "finops.yaml"
    config.write_text(settings, encoding="utf-8")
    (tmp_path / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)

    def finops(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*arguments, "2026-09-01", "2026-09-03"])
        return result.exit_code, result.output

    assert finops("run")[0] == 3
    code, said = finops("backfill")
    assert (code, "held 2026-09-01: untagged_within_threshold" in said) == (3, True), said
    config.write_text(settings.replace("block_above: 40", "block_above: 100"), encoding="utf-8")
    code, said = finops("backfill")
    assert (code, "1 days built, 0 held back" in said) == (0, True), said
    with open_instance() as instance:
        dead = dg.DagsterRun(job_name="publish", status=dg.DagsterRunStatus.NOT_STARTED)
        gone = {"run": dead.run_id, **asdict(replace(this_process(), started="1"))}
        instance.add_run(dead.with_tags({IDENTITY_TAG: json.dumps(gone)}))
    code, said = finops("backfill")
    assert (code, "nothing to run" in said) == (0, True), said
    with open_instance() as instance:
        assert [r.run_id for r in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY))] == []
        assert instance.get_run_by_id(dead.run_id).status is dg.DagsterRunStatus.FAILURE


@pytest.mark.long
def test_what_comes_after_a_source_that_cannot_be_read_does_not_run_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setattr(assets_raw, "INGESTION_RETRY", dg.RetryPolicy(max_retries=0))
    small_estate(tmp_path, FIRST, LAST)
    (tmp_path / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    config = (
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nsources:\n"
        "  - {name: aws, uri: estate/aws, layout: aws-data-exports}\n"
        f"  - {{name: gcp, uri: estate/gcp, layout: gcs-export}}\n{DIMENSIONS}"
    )
    (tmp_path / "finops.yaml").write_text(config, encoding="utf-8")
    assert CliRunner().invoke(app, ["run", "2026-09-01", "2026-09-03"]).exit_code == 0
    published = (tmp_path / "p.duckdb").stat().st_mtime_ns

    broken = config.replace("uri: estate/gcp", "uri: 's3://none/gcp', endpoint_url: 'http://127.0.0.1:9'")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    (tmp_path / "finops.yaml").write_text(broken, encoding="utf-8")
    result = CliRunner().invoke(app, ["run", "2026-09-01", "2026-09-03"])
    said = " ".join(result.output.split())
    assert result.exit_code == 1
    assert "0 days built, 0 held back." in said
    assert "raw__gcp: source 'gcp': s3://none/gcp/: cannot be reached" in said
    assert "cloud_cost_facts and daily_cost_by_team did not run for 2026-09-01 to 2026-09-02, because" in said
    assert "reports and the published copy did not run; they stand as they were" in said
    assert (tmp_path / "p.duckdb").stat().st_mtime_ns == published
    with open_instance() as instance:
        [failed] = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        log = [entry.user_message for entry in instance.all_logs(failed.run_id)]
    assert any("Dependencies for step attribute_and_roll_up failed: ['raw__gcp']" in line for line in log)


@pytest.mark.long
def test_what_is_missing_of_a_source_that_is_not_required_is_told_in_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    small_estate(tmp_path, FIRST, LAST)
    broken = tmp_path / "broken" / ("a" * 60)
    broken.mkdir(parents=True)
    (broken / "cut.parquet").write_bytes(b"PAR1")
    (tmp_path / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "finops.yaml").write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nsources:\n"
        "  - {name: aws, uri: estate/aws, layout: aws-data-exports}\n"
        f"  - {{name: saas, uri: broken, layout: files, required: false}}\n{DIMENSIONS}",
        encoding="utf-8",
    )
    result = CliRunner().invoke(app, ["run", "2026-09-01", "2026-09-02"])
    assert result.exit_code == 0
    assert "1 days built, 0 held back." in result.output
    [warning] = [line for line in result.output.splitlines() if "warning raw/saas complete, 2026-09-01:" in line]
    assert "is not Parquet, or is cut off" in warning
    # Nothing is cut off where there is no terminal: this key is what `deliveries accept` needs.
    assert f"{'a' * 60}/cut.parquet" in CliRunner().invoke(app, ["deliveries"]).output


def test_a_delivery_that_no_manifest_vouches_for_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small_estate(tmp_path, FIRST, LAST)
    for manifest in (tmp_path / "estate" / "gcp").rglob("manifest.json"):
        manifest.unlink()
    for shard in (tmp_path / "estate" / "gcp").rglob("*.parquet"):
        os.utime(shard, (0, 0))
    (tmp_path / "finops.yaml").write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nsources:\n"
        "  - {name: aws, uri: estate/aws, layout: aws-data-exports}\n"
        f"  - {{name: gcp, uri: estate/gcp, layout: gcs-export, quiet_minutes: 10}}\n{DIMENSIONS}",
        encoding="utf-8",
    )
    platform = Platform(load_settings())
    for source in platform.settings.sources:
        land_source(platform.lake, platform.settings.engine, source, FIRST)
    rows = json.loads(CliRunner().invoke(app, ["deliveries", "-f", "json"]).stdout)["rows"]
    assert {r["source"]: r["verified"] for r in rows} == {"aws": True, "gcp": False}
    lines = CliRunner().invoke(app, ["deliveries"]).output.splitlines()
    assert "verified" in lines[0]
    assert [line.split()[0] + (" yes" if " yes " in line else " no") for line in lines[1:3]] == ["aws yes", "gcp no"]
    assert " no " in lines[2]


def test_nobody_is_told_to_install_this_project_by_its_name_from_an_index() -> None:
    """It is on no index: whoever registered the name there would be run by our readers."""
    told = re.compile(
        r"finops[_-]assets\[|(?:pip|uv|uvx|pipx)\b[^\n]*\b(?:install|add|run)\b[^\n]*[\s'\"]finops[_-]assets\b"
    )
    assert told.search("pip install 'finops_assets[aws]'")
    assert told.search("$ uv pip install finops-assets")
    files = [SHIPPED / "README.md", SHIPPED / "Makefile", SHIPPED / "pyproject.toml"]
    for folder in ("docs", "deploy", "finops_assets", "benchmarks"):
        files += [f for f in (SHIPPED / folder).rglob("*") if f.suffix in (".md", ".py", ".yaml", ".yml", ".json", "")]
    found = [str(f.relative_to(SHIPPED)) for f in files if f.is_file() and told.search(f.read_text(encoding="utf-8"))]
    assert found == []


def test_the_extras_that_an_error_tells_to_install_exist() -> None:
    extras = tomllib.loads((SHIPPED / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    told = set()
    for file in [*(SHIPPED / "finops_assets").rglob("*.py"), *(SHIPPED / "docs").rglob("*.md")]:
        text = file.read_text(encoding="utf-8")
        told |= set(re.findall(r'(?:sdk\([^)]*, |install\()["\'](\w+)["\']\)', text))
        told |= {
            e for found in re.findall(r"pip install[^\n]*?(?:\.|/src)\[([\w,]+)\]", text) for e in found.split(",")
        }
    assert told >= {"aws", "azure", "gcp", "postgres", "spark"}
    assert told <= set(extras)
    with pytest.raises(StoreError, match=r"\.venv/bin/uv pip install -e '\.\[aws\]'"):
        sdk("no_such_module", "aws")


def commands() -> list[tuple[str, ...]]:
    """Every command with something for each argument that it needs, by the program's own description of itself."""

    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        subcommands = getattr(command, "commands", {})
        for name, each in subcommands.items():
            yield from below(each, (*path, name))
        if not subcommands or (path and command.invoke_without_command):
            words: list[str] = []
            for need in (p for p in command.params if p.required):
                option = need.opts[:1] if need.param_type_name == "option" else []
                wanted = need.type_descriptor.annotation
                date_like = "2026-09-02" if need.name == "end" else "2026-09-01"
                choices = [each for each in get_args(wanted) if isinstance(each, str)]
                words += [*option, date_like if wanted is datetime else (*choices, "x [/b] $y")[0]]
            yield (*path, *words)

    return list(below(typer.main.get_command(app), ()))


STARTS_DAGSTER = ("demo", "run", "backfill", "publish", "prune", "owners suggest")
SERVES = ("explore", "mcp", "ui")  # until they are stopped: explore/, cli/test_init.py


def test_no_command_ends_in_a_traceback_without_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FINOPS_CONFIG", raising=False)
    assert len(commands()) > 50
    for words in commands():
        done = CliRunner().invoke(app, list(words), input="")
        assert isinstance(done.exception, SystemExit), (words, done.exception)
        assert done.exit_code == 1, (words, done.output)
        assert "error " in done.stderr
        assert "name the file with --config" in done.stderr or words[0] in ("sources", "conformance", "init"), (
            words,
            done.stderr,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("content", [None, b"garbage" * 1_000, b""])
def test_no_command_ends_in_a_traceback_where_nothing_was_run_or_all_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FINOPS_CONFIG", raising=False)
    (tmp_path / "finops.yaml").write_text(
        "first_day: 2026-09-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        f"sources: [{{name: aws, uri: exports, layout: files}}]\n{DIMENSIONS}"
    )
    (tmp_path / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    if content is not None:
        for name in ("p.duckdb", "w.duckdb", "w.alerts.sqlite", "w.owners.sqlite", "w.anomalies.sqlite"):
            (tmp_path / name).write_bytes(content)
    for words in commands():
        if " ".join(words).startswith((*STARTS_DAGSTER, *SERVES)):
            continue
        done = CliRunner().invoke(app, list(words), input="")
        assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exception)
        why = {0: ("",), 1: ("error ", "problem"), 3: ("held ", "no facts of ")}[done.exit_code]
        assert any(word in done.stderr + done.stdout for word in why), (words, done.output)


def test_what_cannot_be_written_is_said(project: Path) -> None:
    for output, said in {"none/x.csv": "none/x.csv: No such file or directory", ".": "Is a directory"}.items():
        done = CliRunner().invoke(app, ["report", "teams", "--format", "csv", "--output", output])
        assert done.exit_code == 1
        assert said in done.stderr


def test_the_program_says_its_version_and_its_exit_codes() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"finops_assets {version('finops_assets')}\n"
    told = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    for code in ("0 fine", "1 an error", "2 the command", "3 done, but some days are held", "4 what it waits for"):
        assert code in told


@pytest.mark.long
def test_where_no_source_is_required_all_goes_on_and_nothing_is_critical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    small_estate(tmp_path, FIRST, LAST, incidents=[Incident("gcp", BAD, "incomplete")])
    sources = "".join(f"  - {{name: {s}, uri: estate/{s}, layout: {LAYOUTS[s]}, required: false}}\n" for s in SOURCES)
    (tmp_path / "finops.yaml").write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nsources:\n{sources}{DIMENSIONS}",
        encoding="utf-8",
    )
    (tmp_path / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    run = CliRunner().invoke(app, ["run", str(FIRST), "2026-09-05"])
    assert run.exit_code == 0, run.output
    assert "4 days built, 0 held back" in run.output
    assert "warning raw/gcp complete, 2026-09-03" in run.output
    for words in (
        ["owners", "suggest"],
        ["health"],
        ["report", "teams", "--from", str(FIRST), "--to", "2026-09-05"],
        ["backfill", str(FIRST), "2026-09-05"],
        ["export", "focus", "out", "--from", str(FIRST), "--to", "2026-09-05"],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.output)
    settings = load_settings(tmp_path / "finops.yaml")
    with open_instance() as instance:
        tick(Platform(settings), instance, None, datetime(2026, 9, 20, 9, tzinfo=UTC), {}, print)
    with AlertHistory.beside(settings.warehouse).opened() as opened:
        told = {o.alert.key: o.alert.severity for o in opened.open_alerts().values()}
    assert told[f"check raw/gcp:complete {BAD}"] == "WARNING"
    assert set(told.values()) == {"WARNING"}


@pytest.mark.long
def test_suggesting_owners_waits_with_exit_code_3_while_the_newest_day_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    site = Site(tmp_path)
    (tmp_path / "finops.yaml").write_text(site.text, encoding="utf-8")
    (tmp_path / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    bad = focus_row("2026-09-02")
    del bad["ChargeCategory"]
    site.put_csv("good.csv", focus_row("2026-09-01"))
    site.put_csv("bad.csv", bad)
    assert CliRunner().invoke(app, ["run", "2026-09-01", "2026-09-03"]).exit_code == 3
    done = CliRunner().invoke(app, ["owners", "suggest"])
    assert done.exit_code == 3, done.output
    assert "held owners are not suggested: the newest of the rollup is held back" in done.stderr
    assert "2026-09-02: raw/bill:conforms failed" in done.stderr


def test_a_lack_of_this_machine_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def history() -> None:
        sqlalchemy.create_engine(f"sqlite:///{tmp_path}/none/history.db").connect()

    def memory() -> None:
        with duckdb.connect(config={"memory_limit": "1MB", "temp_directory": ""}) as connection:
            connection.execute("SELECT list(i) FROM range(10000000) t(i)").fetchall()

    for lacking, said in ((history, "Dagster's history cannot be read or written (unable to open"), (memory, "memory")):
        with pytest.raises(typer.Exit) as ended, explained():
            lacking()
        assert ended.value.exit_code == 1
        told = " ".join(capsys.readouterr().err.split())
        assert said in told
        assert "What was built stands" in told
    with pytest.raises(ZeroDivisionError), explained():
        raise ZeroDivisionError


def test_an_interrupt_while_modules_are_loaded_ends_it_in_silence() -> None:
    program = (
        "import os, signal, sys\nfrom finops_assets.cli import main\nclass Strikes:\n"
        "    def find_spec(self, name, *_):\n        if name == 'typer':\n            os.kill(os.getpid(), signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nsys.meta_path.insert(0, Strikes())\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_help_imports_no_command_and_tells_what_each_says_of_itself() -> None:
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom finops_assets.cli.program import app\n"
        "told = CliRunner().invoke(app, ['--help'])\nassert told.exit_code == 0 and 'reconcile' in told.stdout\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('pandas', 'duckdb', 'pyarrow', 'dagster', 'pydantic')])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
    group: Any = typer.main.get_command(app)
    assert {
        name: one_line(str(command.help).partition("\n\n")[0], 200) for name, command in group.commands.items()
    } == {name: told for name, (_, _, told) in COMMANDS.items()}
