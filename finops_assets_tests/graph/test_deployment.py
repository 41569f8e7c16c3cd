"""The dagster.yaml of docs/guides/deployment.md: read by Dagster, and a run launched against a stand-in for each cluster's API.

No cluster is here. What is shown is what Dagster's launchers ask of one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import validate_config
from dagster._config.field import resolve_to_config_type
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._serdes import ConfigurableClassData

from finops_assets_tests.places import PROJECT

pytestmark = pytest.mark.slow

DEPLOY = PROJECT / "deploy"
ENVIRONMENT = {
    "DAGSTER_PG_HOST": "pg",
    "DAGSTER_PG_PORT": "5432",
    "DAGSTER_PG_USER": "dagster",
    "DAGSTER_PG_PASSWORD": "told nowhere",
    "DAGSTER_PG_DB": "dagster",
    "FINOPS_RUN_TASK": "finops-run",
    "FINOPS_ECS_CLUSTER": "finops",
}
ARN = "arn:aws:ecs:eu-central-1:111122223333"
IMAGE = "registry.example.com/finops:1"
ECS_LIMIT = 8192
"""Characters of the overrides of a task, by AWS's RunTask."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.long
@pytest.mark.parametrize("place", ["postgres", "kubernetes", "ecs"])
def test_dagster_takes_every_section(place: str) -> None:
    pytest.importorskip("dagster_postgres")
    if place == "kubernetes":
        pytest.importorskip("dagster_k8s")
    reference = InstanceRef.from_dir(str(DEPLOY / place))  # the sections, and what is not a class
    for data in (reference.storage_data, reference.run_launcher_data, reference.compute_logs_data):
        assert isinstance(data, ConfigurableClassData)
        problems = mistakes(data)
        assert problems == [], data.class_name
    limits = reference.settings["concurrency"]
    assert isinstance(limits, dict)
    assert limits["pools"] == {"default_limit": 1, "granularity": "op"}, (
        "the pool `warehouse` keeps writers one at a time"
    )


def mistakes(data: ConfigurableClassData) -> list[Any]:
    kind = getattr(__import__(data.module_name, fromlist=[data.class_name]), data.class_name)
    return list(validate_config(resolve_to_config_type(kind.config_type()), data.config_dict).errors or [])


def test_a_mistake_in_a_launchers_section_would_be_seen() -> None:
    pytest.importorskip("dagster_k8s")
    data = InstanceRef.from_dir(str(DEPLOY / "kubernetes")).run_launcher_data
    assert data is not None
    wrong = data.config_dict | {"volumes_mounts": []}
    assert mistakes(data._replace(config_yaml=yaml.safe_dump(wrong)))


def launcher(place: str) -> dict[str, Any]:
    """The launcher's section of a dagster.yaml."""
    section = yaml.safe_load((DEPLOY / place / "dagster.yaml").read_text(encoding="utf-8"))["run_launcher"]
    assert isinstance(section, dict)
    return section


def launched(folder: Path, section: dict[str, Any]) -> dg.DagsterRun:
    """A run of the job `daily`, launched; the history is a local one."""
    overrides = {"run_launcher": section, "telemetry": {"enabled": False}}
    repository = RepositoryPythonOrigin(
        executable_path="python",
        code_pointer=ModuleCodePointer("finops_assets.definitions", "defs"),
        container_image=IMAGE,
        entry_point=["dagster"],
        container_context={},
    )
    origin = JobPythonOrigin("daily", repository)

    @dg.job(name="daily")
    def daily() -> None: ...

    with dg.DagsterInstance.local_temp(str(folder), overrides=overrides) as instance:
        run = instance.create_run_for_job(daily, job_code_origin=origin, tags={"dagster/partition": "2026-09-01"})
        instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
        found = instance.get_run_by_id(run.run_id)
        assert found is not None
        return found


@contextmanager
def an_api(answers: dict[str, Any] | None = None) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """A server that takes every POST, and what it was sent: (path or AWS's operation, body).

    It gives the operation's answer, or back what it was sent.
    """
    seen: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = self.headers.get("X-Amz-Target", self.path).rpartition(".")[2]
            seen.append((asked, json.loads(body)))
            body = json.dumps(answers[asked]).encode() if answers else body
            self.send_response(200 if answers else 201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{api.server_port}", seen
        api.shutdown()


def test_on_kubernetes_a_run_is_a_pod_with_the_state_and_no_secret_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_k8s")
    from kubernetes import client

    with an_api() as (url, seen):
        configuration = client.Configuration()
        configuration.host = url
        # In a pod this is read from the service account's files.
        monkeypatch.setattr(
            "dagster_k8s.launcher.load_kubernetes_config",
            lambda **_: client.Configuration.set_default(configuration),
        )
        run = launched(tmp_path, launcher("kubernetes"))
    client.Configuration.set_default(None)
    [(path, job)] = seen
    assert path == "/apis/batch/v1/namespaces/finops/jobs"
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"] == IMAGE
    assert run.run_id in " ".join(container["args"])
    assert pod["serviceAccountName"] == "finops-runs"
    mounted = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
    claims = {
        v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v
    }
    assert claims[mounted["/state"]] == "finops-state"
    given = {v["name"]: v for v in container["env"]}
    assert given["FINOPS_CONFIG"]["value"] == "/etc/finops/finops.yaml"
    assert given["DAGSTER_PG_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == "finops-postgres"
    assert ENVIRONMENT["DAGSTER_PG_PASSWORD"] not in json.dumps(job)


def test_on_ecs_a_run_is_a_task_with_the_state_and_no_secret_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS's own client checks what it is given against the API's description; the answers are the least that it takes."""
    boto3 = pytest.importorskip("boto3")
    definition = json.loads((DEPLOY / "ecs" / "run-task.json").read_text(encoding="utf-8"))
    answers = {
        "RegisterTaskDefinition": {
            "taskDefinition": definition | {"taskDefinitionArn": f"{ARN}:task-definition/run:1"}
        },
        "RunTask": {"tasks": [{"taskArn": f"{ARN}:task/finops/1", "clusterArn": f"{ARN}:cluster/finops"}]},
    }
    answers["DescribeTaskDefinition"] = answers["RegisterTaskDefinition"]
    with an_api(answers) as (url, seen):
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(name, value)
        boto3.client("ecs").register_task_definition(**definition)
        run = launched(tmp_path, launcher("ecs"))
    asked = dict(seen)
    assert asked["DescribeTaskDefinition"]["taskDefinition"] == definition["family"]
    task = asked["RunTask"]
    assert (task["cluster"], task["launchType"]) == ("finops", "FARGATE")
    assert task["taskDefinition"] == f"{ARN}:task-definition/run:1"
    [override] = task["overrides"]["containerOverrides"]
    assert override["name"] == definition["containerDefinitions"][0]["name"]
    assert run.run_id in " ".join(override["command"])
    assert len(json.dumps(task["overrides"])) < ECS_LIMIT
    assert run.tags["ecs/task_arn"] == f"{ARN}:task/finops/1"
    told = {v["name"] for v in definition["containerDefinitions"][0]["environment"]}
    secret = {v["name"] for v in definition["containerDefinitions"][0]["secrets"]}
    assert {*ENVIRONMENT, "FINOPS_CONFIG"} == told | secret, "the task knows all that dagster.yaml names"
    assert ENVIRONMENT["DAGSTER_PG_PASSWORD"] not in json.dumps(seen)
