"""A real `dagster dev` on a small estate: its webserver by GraphQL, as the UI speaks to it, and its daemon to wait for."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.scheduler.instigation import InstigatorTick

from finops_assets.graph.sensors.deliveries import ACTIVE
from finops_assets_tests.places import PROJECT
from finops_assets_tests.running import DIMENSIONS, LAYOUTS, SOURCES

PATIENCE_SECONDS = 600
NIGHT = 'night: {watch_seconds: 5, export_check: "0 0 29 2 *", last_check: "0 0 29 2 *"}\n'
"""Sensors look every five seconds, and no schedule of the night starts a run in the middle of a test."""
PUBLISHED = dg.AssetKey("published_warehouse")
Come = TypeVar("Come")


@dataclass
class Dev:
    """A project folder with `dagster dev` at work in it."""

    project: Path
    url: str
    location: str = ""

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Its history, opened once: it is looked at every second. Its paths are relative to the project."""
        here = Path.cwd()
        os.chdir(self.project)
        try:
            yield self._instance
        finally:
            os.chdir(here)

    @cached_property
    def _instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.project), "dagster.yaml")

    def close(self) -> None:
        """Let go of its history, if it was looked at."""
        if opened := vars(self).get("_instance"):
            opened.dispose()

    def wait_for(self, come: Callable[[], Come | None], otherwise: str) -> Come:
        """What has come, once it has; the log of `dagster dev` tells why it has not."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := come()):
            if time.monotonic() > deadline:
                pytest.fail(f"{otherwise}:\n{(self.project / 'dev.log').read_text(encoding='utf-8')[-6000:]}")
            time.sleep(1)
        return found

    # ---- what the daemon does ----

    def ticks(self, sensor: str) -> list[InstigatorTick]:
        """The ticks of a sensor, the newest first."""
        with self.instance() as instance:
            states = [s for s in instance.all_instigator_state() if s.instigator_name == sensor]
            return [t for s in states for t in instance.get_ticks(s.instigator_origin_id, s.selector_id, limit=5)]

    def settle(self, since: float) -> None:
        """Until every sensor has looked after `since`, and the last of them found nothing to do and nothing at work."""
        self.wait_for(lambda: self._quiet(since), "it does not come to rest")

    def _quiet(self, since: float) -> bool:
        with self.instance() as instance:
            if instance.get_runs_count(dg.RunsFilter(statuses=ACTIVE)) or instance.get_backfills(
                BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
            ):
                return False
            newest = instance.get_run_records(limit=1, order_by="update_timestamp")
            last = max([since, *(record.update_timestamp.timestamp() for record in newest)])
        for sensor in [f"watch_{source}" for source in SOURCES]:
            if not any(t.timestamp > since and not t.run_ids for t in self.ticks(sensor)[:1]):
                return False
        return any(
            t.timestamp > last + 1 and not t.run_ids and t.skip_reason and "since the last look" not in t.skip_reason
            for t in self.ticks("follow")[:2]
        )

    def runs(self) -> list[dg.DagsterRun]:
        with self.instance() as instance:
            return list(instance.get_runs())

    def counted(self, before: Sequence[dg.DagsterRun] = ()) -> Counter[str]:
        """Runs by job, without those that were there before."""
        known = {run.run_id for run in before}
        return Counter(run.job_name for run in self.runs() if run.run_id not in known)

    def told(self, before: Sequence[dg.DagsterRun] = ()) -> str:
        """The same runs, for the message of a test that counted others: when, how they ended and why, what they made."""
        known = {run.run_id for run in before}
        with self.instance() as instance:
            records = [r for r in instance.get_run_records() if r.dagster_run.run_id not in known]
        lines = []
        for record in reversed(records):
            run = record.dagster_run
            made = sorted(key.to_user_string() for key in run.asset_selection or ())
            lines += [
                f"{run.job_name} {run.run_id[:8]} {run.status.value} {record.start_time} to {record.end_time}:"
                f" {dict(run.tags)} {made}",
                self.failures(run.run_id),
            ]
        return "\n".join(lines)

    def materializations(self, asset: dg.AssetKey) -> int:
        with self.instance() as instance:
            return len(instance.fetch_materializations(asset, limit=1000).records)

    # ---- what the UI says to the webserver ----

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.url}/graphql", body, {"content-type": "application/json", "accept": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        [result] = found["data"].values()
        return result

    def launch(
        self,
        assets: Sequence[str] = (),
        checks: Sequence[tuple[str, str]] = (),
        tags: dict[str, str] | None = None,
        execution: dict[str, Any] | None = None,
    ) -> str:
        """Launch assets ("raw/aws") with all their checks, or checks alone ("raw/aws", "complete"); the run's id."""
        checks = [*checks, *(pair for asset in assets for pair in self.checks_of(asset))]
        answer = self.ask(
            "mutation Launch($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {"
            " __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }"
            " ... on RunConfigValidationInvalid { errors { message } } ... on InvalidSubsetError { message } } }",
            params={
                "mode": "default",
                "runConfigData": "{}",
                "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in (tags or {}).items()]},
                "selector": {
                    "repositoryLocationName": self.location,
                    "repositoryName": "__repository__",
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": name.split("/")} for name in assets],
                    "assetCheckSelection": [
                        {"assetKey": {"path": asset.split("/")}, "name": check} for asset, check in checks
                    ],
                },
                **(execution or {}),
            },
        )
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def checks_of(self, asset: str) -> list[tuple[str, str]]:
        """The checks of an asset: the UI names them all when it materialises it."""
        node = self.ask(
            "query Checks($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {"
            " assetChecksOrError { ... on AssetChecks { checks { name } } } } } }",
            key={"path": asset.split("/")},
        )
        return [(asset, check["name"]) for check in node["assetChecksOrError"].get("checks", [])]

    def backfill(self, assets: Sequence[str], partitions: Sequence[str] | None = None) -> str:
        """Launch a backfill, of all partitions if none are named; its id."""
        answer = self.ask(
            "mutation Backfill($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {"
            " __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }",
            params={
                "assetSelection": [{"path": name.split("/")} for name in assets],
                **({"allPartitions": True} if partitions is None else {"partitionNames": list(partitions)}),
                "fromFailure": False,
                "tags": [],
            },
        )
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def ended(self, run_id: str) -> dg.DagsterRunStatus:
        """How a run ended, once it has."""

        def status() -> dg.DagsterRunStatus | None:
            with self.instance() as instance:
                run = instance.get_run_by_id(run_id)
            return run.status if run and run.is_finished else None

        return self.wait_for(status, f"the run {run_id} does not end")

    def failures(self, run_id: str) -> str:
        """Why the steps of a run failed, as the UI shows it."""
        with self.instance() as instance:
            records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
        return "\n".join(str(record.event_log_entry.dagster_event.step_failure_data.error) for record in records)

    def verdicts(self, asset: str, check: str) -> dict[str | None, bool | None]:
        """Partition -> whether a check passed on it last; None: nothing was said. The key None: as a whole."""
        key = dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check)
        found: dict[str | None, bool | None] = {}
        with self.instance() as instance:
            for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=500):
                event = record.event.dagster_event if record.event else None
                evaluation = event.event_specific_data if event else None
                passed = evaluation.passed if isinstance(evaluation, dg.AssetCheckEvaluation) else None
                partition = record.partition
                found.setdefault(partition, passed)
        return found


@contextmanager
def started(project: Path) -> Iterator[str]:
    """`dagster dev` in a project folder, as `make ui` starts it; where its webserver will be."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    binaries = Path(sys.executable).parent
    environment = {k: v for k, v in os.environ.items() if k not in ("DAGSTER_HOME", "PYTHONWARNINGS")}
    environment["PATH"] = f"{binaries}{os.pathsep}{environment['PATH']}"
    with (project / "dev.log").open("w") as log:
        process = subprocess.Popen(
            [str(binaries / "dagster"), "dev", "-h", "127.0.0.1", "-p", str(port)],
            cwd=project, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def dagster_dev(project: Path) -> Iterator[Dev]:
    """The same, once its webserver answers."""
    with started(project) as url:
        dev = Dev(project, url)
        try:
            dev.wait_for(lambda: _locations(dev), "the webserver does not answer")
            [dev.location] = _locations(dev)
            yield dev
        finally:
            dev.close()


def _locations(dev: Dev) -> list[str]:
    try:
        found = dev.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }")
    except OSError:
        return []
    return [node["location"]["name"] for node in found.get("nodes", [])]


def write_shipped(project: Path) -> None:
    """dagster.yaml and workspace.yaml as they are shipped, with sensors that look sooner."""
    (project / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    workspace = (PROJECT / "workspace.yaml").read_text(encoding="utf-8")
    sooner = workspace.replace("finops_assets.definitions", "finops_assets_tests.impatient")
    assert sooner != workspace
    (project / "workspace.yaml").write_text(sooner, encoding="utf-8")


def project_of(root: Path, first_day: object, extra: str = "") -> Path:
    """A project folder beside root/estate, whose sensors look every five seconds."""
    project = root / "project"
    project.mkdir()
    write_shipped(project)
    sources = "".join(f"  - {{name: {s}, uri: ../estate/{s}, layout: {LAYOUTS[s]}}}\n" for s in SOURCES)
    (project / "finops.yaml").write_text(
        f"first_day: {first_day}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nrelease: whole_day\nsources:\n{sources}{DIMENSIONS}"
        f"{extra}{NIGHT}",
        encoding="utf-8",
    )
    return project
