"""What lies in deploy/: run where the program is here, else held against the files and commands that it names."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from finops_assets_tests.docs.pages import blocks
from finops_assets_tests.emulators import free_port, server
from finops_assets_tests.nginx import nginx
from finops_assets_tests.places import PROJECT

DEPLOY = PROJECT / "deploy"
BINARIES = Path(sys.executable).parent


def composed() -> dict[str, Any]:
    """compose.yaml."""
    written: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return written


def test_what_compose_mounts_and_builds_from_is_there() -> None:
    services = composed()["services"]
    mounted = {v.split(":")[0] for s in services.values() for v in s.get("volumes", ()) if v.startswith("./")}
    assert mounted == {"./postgres/dagster.yaml", "./compose/workspace.yaml"}
    assert all((DEPLOY / name).is_file() for name in mounted)
    assert (DEPLOY / services["code"]["build"]["context"] / services["code"]["build"]["dockerfile"]).is_file()


def test_compose_opens_nothing_beyond_loopback_and_writes_to_its_volumes_alone() -> None:
    services = composed()["services"]
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports == ["127.0.0.1:3000:3000", "127.0.0.1:8070:8070"]
    ours = {name: service for name, service in services.items() if name != "postgres"}
    assert all(s["read_only"] and s["cap_drop"] == ["ALL"] for s in ours.values())
    assert ours["explorer"]["profiles"] == ["explorer"]
    assert ours["explorer"]["environment"]["DAGSTER_PG_HOST"] == "postgres"


@pytest.mark.long
@pytest.mark.parametrize("name", ["code", "daemon", "webserver", "explorer"])
def test_every_option_of_a_service_is_one_of_its_program(name: str) -> None:
    program, *words = composed()["services"][name]["command"]
    options = [word for word in words if word.startswith("-")]
    commands = [word for word in words if word in ("api", "grpc", "run", "explore")]
    told = subprocess.run(
        [str(BINARIES / program), *commands, "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert all(re.search(rf"(^|[\s,]){option}[\s,]", told) for option in options), told


def test_the_service_of_systemd_is_valid(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / "systemd" / "finops.service").read_text(encoding="utf-8")
    unit = tmp_path / "finops.service"
    # The user and the program are those of the machine that it will run on.
    unit.write_text(text.replace("User=finops", "User=root").replace("/opt/finops/bin", str(BINARIES)))
    found = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.slow
def test_nginx_asks_for_a_password_and_does_not_pass_it_on(tmp_path: Path) -> None:
    behind, before = free_port(), free_port()
    echo = (
        "import sys; from wsgiref.simple_server import make_server\n"
        "def app(environ, start):\n"
        "    start('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [f\"{environ.get('HTTP_AUTHORIZATION', '')}|{environ['PATH_INFO']}\".encode()]\n"
        "make_server('127.0.0.1', int(sys.argv[1]), app).serve_forever()\n"
    )
    asked = f"http://127.0.0.1:{before}/runs"
    with (
        server([sys.executable, "-c", echo, str(behind)], behind),
        nginx(tmp_path, "finops.example.com", before, {3000: behind}, "anna:{PLAIN}a word\n"),
    ):
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(asked, timeout=10)
        refused.value.close()
        word = base64.b64encode(b"anna:a word").decode()
        with urllib.request.urlopen(
            urllib.request.Request(asked, headers={"Authorization": f"Basic {word}"}), timeout=10
        ) as answer:
            assert answer.read() == b"|/runs"


def test_the_notebook_s_blocks_give_exact_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".finops").mkdir()
    with duckdb.connect(str(tmp_path / ".finops" / "finops.duckdb")) as made:
        made.sql(
            "create table daily_cost_by_team as select date '2026-10-02' as charge_date, 'search' as team,"
            " 'USD' as BillingCurrency, 0.100000000000000001::decimal(38, 18) as effective_cost from range(3)"
        )
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        if block.page == "docs/guides/notebooks.md" and "polars" not in block.text:
            exec(block.text, names)
    names["copy"].close()
    assert list(names["exact"]["effective_cost"]) == [Decimal("0.300000000000000003")]
    assert list(names["rounded"]["effective_cost"]) == [0.3]
