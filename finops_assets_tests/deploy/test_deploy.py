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
import kubernetes_validate
import pytest
import yaml

from finops_assets.tables import ddl
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


def objects(*files: Path) -> list[dict[str, Any]]:
    """What Kubernetes is given, in order."""
    return [found for file in files for found in yaml.safe_load_all(file.read_text(encoding="utf-8")) if found]


KUBERNETES = [DEPLOY / "kubernetes" / name for name in ("finops.yaml", "postgres.yaml", "explorer/service.yaml")]


def test_what_kubernetes_is_given_fits_its_schemas() -> None:
    for found in objects(*KUBERNETES):
        for version in ("1.29", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(found, version, strict=True)
    wrong = objects(KUBERNETES[0])[0] | {"automount": True}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.29", strict=True)


def test_the_pod_runs_what_compose_runs_and_opens_nothing_but_the_explorer() -> None:
    [pod] = [o["spec"]["template"]["spec"] for o in objects(KUBERNETES[0]) if o["kind"] == "StatefulSet"]
    [added] = objects(DEPLOY / "kubernetes" / "explorer" / "container.yaml")
    containers = {c["name"]: c for c in (*pod["containers"], *added["spec"]["template"]["spec"]["containers"])}
    services = composed()["services"]
    assert containers.keys() == services.keys() - {"postgres"}
    for name, container in containers.items():
        listens = [word for word in container["command"] if word in ("0.0.0.0", "127.0.0.1")]
        alike = [word if word != "127.0.0.1" else "0.0.0.0" for word in container["command"]]
        assert alike == services[name]["command"]
        assert listens == {"daemon": [], "explorer": ["0.0.0.0"]}.get(name, ["127.0.0.1"])
        assert container["securityContext"]["readOnlyRootFilesystem"]
        given = {e["name"] for e in container.get("env", ())}
        assert name == "explorer" or given == {n for n in services["code"]["environment"] if n.startswith("DAGSTER_PG")}
    opened = [o["spec"] for o in objects(*KUBERNETES) if o["kind"] == "NetworkPolicy"]
    ports = [[port["port"] for rule in o["ingress"] for port in rule["ports"]] for o in opened]
    assert ports == [[], [5432], [8070]]
    names = {v["name"] for v in pod["volumes"]} | {"state"}
    assert {m["name"] for c in containers.values() for m in c["volumeMounts"]} <= names


def test_the_overlay_of_the_guide_is_built(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed (Debian: kubernetes-client)")
    shutil.copytree(DEPLOY, tmp_path / "finops_assets" / "deploy")
    [overlay] = [b.text for b in blocks("yaml") if "kind: Kustomization" in b.text]
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in re.findall(r"[\w-]+[.](?:yaml|csv|env)(?=[,\]}])", overlay):
        (mine / name).write_text("A=1\n", encoding="utf-8")
    (mine / "kustomization.yaml").write_text(overlay, encoding="utf-8")
    built = subprocess.run(["kubectl", "kustomize", str(mine)], capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    found = [o for o in yaml.safe_load_all(built.stdout) if o]
    for each in found:
        kubernetes_validate.validate(each, "1.29", strict=True)
    [pod] = [
        o["spec"]["template"]["spec"] for o in found if o["metadata"]["name"] == "finops" and o["kind"] == "StatefulSet"
    ]
    assert {c["image"] for c in pod["containers"]} == {"registry.example.com/finops_assets:0.2.0"}
    # Every ConfigMap and Secret that the pod asks for is one that the overlay makes.
    made = {o["metadata"]["name"] for o in found if o["kind"] in ("ConfigMap", "Secret")}
    asked = {v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v}
    asked |= {
        e["valueFrom"]["secretKeyRef"]["name"] for c in pod["containers"] for e in c.get("env", ()) if "valueFrom" in e
    }
    asked |= {e["secretRef"]["name"] for c in pod["containers"] for e in c.get("envFrom", ())}
    assert asked == made
    assert {o["metadata"].get("namespace") for o in found} == {"finops"}


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
        for table in ("daily_cost_by_team", "reported_cost"):
            ddl.create(made, table, dimensions=("department", "team"))
        made.sql(
            "insert into daily_cost_by_team by name select date '2026-10-02' as charge_date, 'shop' as department,"
            " 'search' as team, 'USD' as BillingCurrency, 0.100000000000000001::decimal(38, 18) as effective_cost,"
            " 0 as billed_cost, 1 as row_count from range(3)"
        )
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        if block.page == "docs/guides/notebooks.md" and "polars" not in block.text:
            exec(block.text, names)
    names["copy"].close()
    assert list(names["exact"]["effective_cost"]) == [Decimal("0.300000000000000003")]
    assert list(names["rounded"]["effective_cost"]) == [0.3]
    assert names["october"]["effective_cost"] == [Decimal("0.300000000000000003")]
