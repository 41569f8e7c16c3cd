"""A real backfill, driven by the backfill daemon's own iteration, with runs of their own."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.test_utils import create_test_daemon_workspace_context, instance_for_test
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.backfill import execute_backfill_iteration

from finops_assets.demo import Incident
from finops_assets_tests.running import DIMENSIONS, LAYOUTS, small_estate

FIRST, BAD, LAST = date(2026, 9, 1), date(2026, 9, 3), date(2026, 9, 6)
SYNC = {
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
}


# All three are Dagster's own: a call of its backfill, and event loops that its test workspace leaves behind.
@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_backfill_with_a_gap_runs_ranges_and_holds_one_day(tmp_path: Path) -> None:
    small_estate(tmp_path, FIRST, LAST, incidents=[Incident("aws", BAD, "incomplete")])
    config = tmp_path / "finops.yaml"
    config.write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nrelease: whole_day\n"
        f"sources: [{{name: aws, uri: estate/aws, layout: {LAYOUTS['aws']}}}]\n{DIMENSIONS}",
        encoding="utf-8",
    )
    code = tmp_path / "location.py"
    code.write_text(
        "from finops_assets.definitions import build_definitions\n"
        "from finops_assets.settings.load import load_settings\n"
        f"defs = build_definitions(load_settings({str(config)!r}))\n",
        encoding="utf-8",
    )
    keys = [dg.AssetKey(["raw", "aws"]), dg.AssetKey("cloud_cost_facts"), dg.AssetKey("daily_cost_by_team")]
    days = ["2026-09-01", "2026-09-02", "2026-09-03", "2026-09-05", "2026-09-06"]
    target = PythonFileTarget(
        python_file=str(code), attribute="defs", working_directory=str(tmp_path), location_name="finops"
    )
    with (
        instance_for_test(overrides=SYNC) as instance,
        create_test_daemon_workspace_context(target, instance) as context,
    ):
        graph = context.create_request_context().asset_graph
        instance.add_backfill(
            PartitionBackfill.from_asset_partitions(
                backfill_id="september",
                asset_graph=graph,
                partition_names=days,
                asset_selection=keys,
                backfill_timestamp=time.time(),
                tags={},
                dynamic_partitions_store=instance,
                all_partitions=False,
                title=None,
                description=None,
                run_config=None,
            )
        )
        for _ in range(8):
            list(execute_backfill_iteration(context, logging.getLogger("backfill")))
            backfill = instance.get_backfill("september")
            assert backfill is not None
            if backfill.status is not BulkActionStatus.REQUESTED:
                break
        assert backfill.status is BulkActionStatus.COMPLETED_FAILED
        good = {d for d in days if d != BAD.isoformat()}
        assert instance.get_materialized_partitions(dg.AssetKey("daily_cost_by_team")) == good
        assert instance.get_materialized_partitions(dg.AssetKey("cloud_cost_facts")) == good
        assert instance.get_materialized_partitions(dg.AssetKey(["raw", "aws"])) == set(days)
        ranges = {
            (r.tags.get("dagster/asset_partition_range_start"), r.tags.get("dagster/asset_partition_range_end"))
            for r in instance.get_runs()
        }
        assert ranges == {("2026-09-01", "2026-09-03"), ("2026-09-05", "2026-09-06")}


@pytest.mark.long
def test_a_run_in_the_background_of_a_script_ends_what_it_started(tmp_path: Path) -> None:
    """There SIGINT is ignored, and with it Dagster would have SIGTERM ignored by the helpers that it starts."""
    program = """
import signal, subprocess
signal.signal(signal.SIGINT, signal.SIG_IGN)
from dagster._utils.interrupts import capture_interrupts
from finops_assets.graph.run_range import heed_signals

heed_signals()
with capture_interrupts():  # as around every run of Dagster's
    pass
tail = subprocess.Popen(["tail", "-f", "/dev/null"])
tail.terminate()
try:
    print("ended by", -tail.wait(5))
finally:
    tail.kill()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "ended by 15" in done.stdout, done.stderr[-2000:]
