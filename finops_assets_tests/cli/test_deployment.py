"""What `finops init --deployment systemd` writes can start where the project lies."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from finops_assets.cli import deployment
from finops_assets.cli.deployment import deployment_files


def unit(
    monkeypatch: pytest.MonkeyPatch,
    project: str | Path,
    interpreter: str = "/opt/finops",
    home: str = "/srv/home",
    lake: Path | None = None,
    bills: str | None = None,
    any_store: bool = False,
) -> str:
    """The service of a project, by an interpreter of its own that lies in `interpreter`."""
    monkeypatch.setattr(sys, "executable", f"{interpreter}/bin/python")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setenv("HOME", home)
    [text] = deployment_files(
        "systemd", Path(project), lake, Path(bills) if bills else None, any_store, ("finops.yaml",)
    ).values()
    return text


def settings(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_where_nothing_lies_in_a_home_it_is_as_protected_as_it_is_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    made = settings(unit(monkeypatch, "/srv/costs", bills="/exports"))
    assert (made["ProtectHome"], made["PrivateTmp"], made["ProtectSystem"]) == ("true", "true", "strict")
    assert made["WorkingDirectory"] == made["ReadWritePaths"] == "/srv/costs"
    assert made["ExecStart"] == "/opt/finops/bin/finops ui"


@pytest.mark.parametrize(
    ("places", "behind"),
    [
        ({"project": "/home/anna/costs"}, "/home/anna/costs"),
        ({"project": "/root/costs"}, "/root/costs"),
        ({"project": "/srv/costs", "interpreter": "/home/anna/venv"}, "/home/anna/venv/bin"),
        ({"project": "/srv/costs", "bills": "/home/anna/exports"}, "/home/anna/exports"),
        ({"project": "/srv/costs", "home": "/home/anna", "any_store": True}, "/home/anna"),
    ],
)
def test_what_lies_in_a_home_is_read_there_and_only_the_project_written(
    monkeypatch: pytest.MonkeyPatch, places: dict[str, str], behind: str
) -> None:
    text = unit(monkeypatch, **places)  # type: ignore[arg-type]
    made = settings(text)
    assert f"# Not true: it would hide {behind}\nProtectHome=read-only\n" in text
    assert made["PrivateTmp"] == "true"
    assert made["ReadWritePaths"] == places["project"]


def test_a_virtual_environment_whose_interpreter_lies_in_a_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deployment, "HOMES", (tmp_path / "home",))
    monkeypatch.setattr(deployment, "TEMPORARY", ())
    python = tmp_path / "home" / "anna" / "pyenv"
    python.mkdir(parents=True)
    (tmp_path / "srv").symlink_to(tmp_path / "home" / "anna")
    assert settings(unit(monkeypatch, tmp_path / "costs"))["ProtectHome"] == "true"
    assert settings(unit(monkeypatch, tmp_path / "srv" / "costs"))["ProtectHome"] == "read-only", "by a link"
    monkeypatch.setattr(sys, "executable", "/opt/finops/bin/python")
    monkeypatch.setattr(sys, "base_prefix", str(python))
    [text] = deployment_files("systemd", tmp_path / "costs", None, None, False, ()).values()
    assert f"it would hide {python}\nProtectHome=read-only\n" in text


def test_a_project_in_a_temporary_folder_and_a_lake_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(deployment, "TEMPORARY", (tmp_path / "tmp", tmp_path / "none"))
    (tmp_path / "tmp").mkdir()
    lake = tmp_path / "a lake" / "of 100%"
    text = unit(monkeypatch, tmp_path / "tmp" / "costs", lake=lake)
    made = settings(text)
    assert f"# Not true: it would hide {tmp_path}/tmp/costs\nPrivateTmp=false\n" in text
    assert made["ReadWritePaths"] == f'{tmp_path}/tmp/costs "{tmp_path}/a lake/of 100%%" {tmp_path}/tmp'
    assert lake.is_dir(), "systemd starts nothing that may write to a place that is not there"
    inside = settings(unit(monkeypatch, tmp_path / "costs", lake=tmp_path / "costs" / ".finops" / "lake"))
    assert inside["ReadWritePaths"] == f"{tmp_path}/costs"
    assert not (tmp_path / "costs").exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["costs", "all costs, 100% of them"])
def test_systemd_takes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    environment = tmp_path / name / "venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "finops").write_text("#!/bin/sh\n")
    (environment / "bin" / "finops").chmod(0o755)
    text = unit(monkeypatch, tmp_path / name, interpreter=str(environment), lake=tmp_path / "other lake")
    file = tmp_path / "finops.service"

    def verified(content: str) -> tuple[int, str]:
        file.write_text(content)
        found = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60)
        return found.returncode, found.stderr

    assert verified(text) == (0, "")
    (environment / "bin" / "finops").unlink()
    assert "is not executable" in verified(text)[1], "it looked for this very program"
