"""What the steps of a command's run print goes to the run's log, which the UI shows, and to no terminal.

Dagster's own manager starts four processes for each run, which show it in the terminal, too. An interrupt from the terminal
reaches them as well, and they tell of it in tracebacks of theirs.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._serdes import ConfigurableClassData
from dagster._utils import ensure_file, touch_file

from finops_assets.graph.sqlite_history import beside_dagster_yaml


class StepOutput(LocalComputeLogManager):
    """Dagster's own, but for the runs of commands; named in dagster.yaml."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> StepOutput:
        return cls(inst_data=inst_data, **{**config_value, "base_dir": beside_dagster_yaml(config_value["base_dir"])})

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        run = self._instance.get_run_by_id(log_key[0]) if self.has_instance else None
        if run is None or run.remote_job_origin is not None:
            with super().capture_logs(log_key) as context:
                yield context
            return
        out, err = (
            self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind])
            for kind in (ComputeIOType.STDOUT, ComputeIOType.STDERR)
        )
        for file in (out, err):
            ensure_file(file)
        with redirect_to_file(sys.stdout, out), redirect_to_file(sys.stderr, err):
            yield CapturedLogContext(log_key)
        touch_file(self.complete_artifact_path(log_key))  # type: ignore[no-untyped-call]
