"""A project is made from what lies at the places of the bills, and runs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from finops_assets.cli.program import app
from finops_assets.settings.load import load_settings
from finops_assets_tests.conftest import csv_text, focus_row
from finops_assets_tests.emulators import make_place, s3_endpoint  # noqa: F401
from finops_assets_tests.places import PROJECT

WRITTEN = {"finops.yaml", "dagster.yaml", "workspace.yaml", "budgets.csv", ".gitignore"}


def finops(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def told(result: Result) -> str:
    """What it said, without the line breaks of the terminal."""
    return " ".join(result.output.split())


def bills(folder: Path, *days: str, tags: str = '{"team": "core", "App": "shop"}') -> Path:
    folder.mkdir(parents=True)
    (folder / "bill.csv").write_text(csv_text([focus_row(day, Tags=tags) for day in days]))
    hour_ago = time.time() - 3_600  # what is younger may still be written
    os.utime(folder / "bill.csv", (hour_ago, hour_ago))
    return folder


@pytest.mark.slow
def test_what_it_writes_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bills(tmp_path / "exports" / "2026-09", "2026-09-03", "2026-09-04")
    monkeypatch.chdir(tmp_path)
    made = finops("init", "project", "--source", "exports", "--owner", "team:cost", "--first-day", "2026-09-03")
    assert made.exit_code == 0, made.output
    assert {file.name for file in (tmp_path / "project").iterdir()} == WRITTEN
    assert "finops run 2026-09-03" in made.stdout
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "project"))
    assert finops("config", "check").exit_code == 0
    ran = finops("run", "2026-09-03", "2026-09-05")
    assert ran.exit_code == 0, ran.output
    assert "2 days built, 0 held back" in ran.stdout
    report = finops("report", "teams", "--from", "2026-09-03", "--to", "2026-09-05", "--format", "csv")
    assert "core,USD,2.5" in report.stdout.replace("2.500000000000000000", "2.5"), report.stdout


@pytest.mark.parametrize("kind", ["systemd", "compose"])
def test_it_writes_what_keeps_the_project_running_here(tmp_path: Path, kind: str) -> None:
    bills(tmp_path / "exports" / "focus", "2026-09-03")
    project = tmp_path / "p"
    made = finops("init", str(project), "--source", str(tmp_path / "exports" / "focus"), "--deployment", kind)
    assert made.exit_code == 0, made.output
    settings = yaml.safe_load((project / "finops.yaml").read_text())
    if kind == "systemd":
        unit = (project / "finops.service").read_text()
        assert f"WorkingDirectory={project}\n" in unit
        assert f"ExecStart={Path(sys.executable).parent}/finops ui\n" in unit
        assert settings["lake"] == ".finops/lake"
        assert "systemctl enable --now finops" in made.stdout
        return
    assert (settings["lake"], settings["published"]) == ("/state/lake", "/state/published/finops.duckdb")
    [source] = settings["sources"]
    assert source["uri"] == "/exports"
    given = dict(line.split("=") for line in (project / "deploy" / ".env").read_text().splitlines())
    assert given == {"FINOPS_PROJECT": str(project), "FINOPS_EXPORTS": str(tmp_path / "exports" / "focus")}
    services = yaml.safe_load((project / "deploy" / "compose.yaml").read_text())["services"]
    assert "build" not in services["code"]
    mounted = {v.split(":")[0] for v in services["code"]["volumes"] if v.startswith("./")}
    assert len(mounted) == 2
    assert all((project / "deploy" / name).is_file() for name in mounted)
    again = finops("init", str(project), "--source", str(tmp_path / "exports"), "--deployment", kind)
    assert "has finops.yaml, dagster.yaml, workspace.yaml, budgets.csv, .gitignore, deploy already" in told(again)


def test_a_cluster_is_given_an_overlay_and_sees_no_bills_of_this_machine(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    bills(tmp_path / "exports", "2026-09-03")
    refused = finops("init", str(tmp_path / "p"), "--source", str(tmp_path / "exports"), "--deployment", "kubernetes")
    assert refused.exit_code == 1
    assert "which no pod sees; name the bucket" in told(refused)
    assert not (tmp_path / "p").exists()
    bucket = make_place(request, "s3", tmp_path, monkeypatch)
    bucket.put("focus/bill.csv", csv_text([focus_row("2026-09-03")]).encode())
    words = (
        "--source",
        f"{bucket.uri}/focus",
        "--endpoint-url",
        str(bucket.endpoint_url),
        "--deployment",
        "kubernetes",
    )
    made = finops("init", str(tmp_path / "p"), *words)
    assert made.exit_code == 0, made.output
    overlay = yaml.safe_load((tmp_path / "p" / "kustomization.yaml").read_text())
    assert overlay["configMapGenerator"] == [{"name": "finops-config", "files": ["finops.yaml", "budgets.csv"]}]
    base = yaml.safe_load((tmp_path / "p" / "deploy" / "kustomization.yaml").read_text())
    named = [*base["resources"], *(f.split("=")[1] for f in base["configMapGenerator"][0]["files"])]
    assert all((tmp_path / "p" / "deploy" / name).is_file() for name in named)
    if shutil.which("kubectl"):
        (tmp_path / "p" / "postgres.env").write_text("postgresql-password=x\n")
        built = subprocess.run(
            ["kubectl", "kustomize", str(tmp_path / "p")], capture_output=True, text=True, timeout=60
        )
        assert built.returncode == 0, built.stderr
        assert "/state/warehouse.duckdb" in built.stdout


@pytest.mark.slow
def test_it_says_what_the_bills_have(tmp_path: Path) -> None:
    first = bills(tmp_path / "a" / "focus", "2026-08-07")
    second = bills(tmp_path / "b" / "focus", "2026-09-01", tags='{"CostCenter": "7", "app": "x"}')
    made = finops("init", str(tmp_path / "p"), "--source", str(first), "--source", str(second))
    assert made.exit_code == 0, made.output
    settings = load_settings(tmp_path / "p" / "finops.yaml")
    assert [source.name for source in settings.sources] == ["focus", "focus_2"]
    assert {source.uri for source in settings.sources} == {str(first), str(second)}
    assert str(settings.first_day) == "2026-08-07"
    assert list(settings.dimensions) == ["department", "team", "environment", "cost_center"]
    assert settings.tag_policy.required == ("team",), "no key of the bills carries a department"
    text = (tmp_path / "p" / "finops.yaml").read_text()
    assert "# Other tag keys of the bills: App, app" in text
    assert "# No key of the bills carries department or environment yet" in text
    for name in ("dagster.yaml", "workspace.yaml"):
        assert yaml.safe_load((tmp_path / "p" / name).read_text()) == yaml.safe_load((PROJECT / name).read_text())


def test_nothing_is_replaced_or_written_unasked(tmp_path: Path) -> None:
    place = bills(tmp_path / "exports", "2026-09-03")
    project = tmp_path / "project"
    project.mkdir()
    (project / "finops.yaml").write_text("mine")
    kept = finops("init", str(project), "--source", str(place))
    assert kept.exit_code == 1
    assert "has finops.yaml already" in " ".join(kept.stderr.split())
    assert (project / "finops.yaml").read_text() == "mine"
    assert len(list(project.iterdir())) == 1
    for words, said in (
        (("--source", str(tmp_path / "exprots")), "did you mean 'exports'?"),
        ((), "no place of bills is named"),
        (("--source", str(place), "--owner", "nobody"), "owner"),
    ):
        refused = finops("init", str(tmp_path / "other"), *words)
        assert refused.exit_code == 1
        assert said in " ".join(refused.stderr.split()), refused.output
        assert not (tmp_path / "other").exists()
    assert finops("init", str(project), "--source", str(place), "--overwrite").exit_code == 0
    assert load_settings(project / "finops.yaml").sources[0].uri == str(place)


def test_the_ui_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = bills(tmp_path / "exports", "2026-09-03")
    assert finops("init", str(tmp_path / "p"), "--source", str(place)).exit_code == 0
    monkeypatch.chdir(tmp_path / "p")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = finops("ui", "--port", str(port))
    assert f"port {port} of 127.0.0.1 cannot be had" in " ".join(refused.stderr.split())
    (tmp_path / "p" / "workspace.yaml").unlink()
    assert "has no workspace.yaml" in " ".join(finops("ui").stderr.split())


@pytest.mark.long
def test_the_ui_is_served(tmp_path: Path) -> None:
    place = bills(tmp_path / "exports", "2026-09-03")
    assert finops("init", str(tmp_path / "p"), "--source", str(place)).exit_code == 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    with (tmp_path / "ui.log").open("w") as log:
        command = [sys.executable, "-c", "from finops_assets.cli.program import app; app()", "ui", "--port", str(port)]
        served = subprocess.Popen(
            command, cwd=tmp_path / "p", env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as answer:
                        assert answer.status == 200
                    break
                except OSError:
                    assert time.monotonic() < deadline, (tmp_path / "ui.log").read_text()
                    time.sleep(0.5)
        finally:
            os.killpg(served.pid, signal.SIGINT)
            served.wait(60)
