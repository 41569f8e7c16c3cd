"""Dagster's real daemon ends a run whose process was killed, and frees its slot, although nobody waits for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from finops_assets.graph.sensors.dead_runs import dead_runs_sensor
from finops_assets_tests.dev import started
from finops_assets_tests.graph.test_daemon import _instance, wait_for
from finops_assets_tests.places import PROJECT

PROGRAM = """
import sys, dagster as dg
from finops_assets.graph.dead_runs import owner_tags
from finops_assets.graph.run_range import open_instance

@dg.job
def work():
    pass

with open_instance() as instance:
    run = instance.create_run_for_job(work)
    instance.add_run_tags(run.run_id, owner_tags(run.run_id))
    instance.report_dagster_event(dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, "work"), run.run_id)
    instance.event_log_storage.initialize_concurrency_limit_to_default("warehouse")
    instance.event_log_storage.claim_concurrency_slot("warehouse", run.run_id, "nothing")
    print(run.run_id, flush=True)
    sys.stdin.read()
"""


@pytest.mark.long
def test_the_daemon_ends_a_run_whose_process_was_killed_and_frees_its_slot(tmp_path: Path) -> None:
    shipped = PROJECT
    (tmp_path / "dagster.yaml").write_text((shipped / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    # No other sensor, so that nobody else ends it.
    (tmp_path / "only.py").write_text(
        "import dagster as dg\nfrom finops_assets.graph.sensors.dead_runs import dead_runs_sensor\n\n"
        f"defs = dg.Definitions(sensors=[{dead_runs_sensor.__name__}()])\n"
    )
    (tmp_path / "workspace.yaml").write_text("load_from:\n  - python_file: only.py\n")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        process.kill()

    def left() -> tuple[dg.DagsterRunStatus | None, list[str]]:
        with _instance(tmp_path) as instance:
            run = instance.get_run_by_id(run_id)
            slots = instance.event_log_storage.get_concurrency_info("warehouse").claimed_slots
            return run.status if run else None, [slot.run_id for slot in slots]

    assert left() == (dg.DagsterRunStatus.STARTED, [run_id])
    with started(tmp_path):
        wait_for(tmp_path, lambda: left() == (dg.DagsterRunStatus.FAILURE, []), "the dead run is not ended")
