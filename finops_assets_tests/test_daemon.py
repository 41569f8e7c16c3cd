"""The real thing: `dagster dev` with its daemon and sensors; a delivery is dropped, facts and rollup appear."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import dagster as dg

from finops_assets.estate import Incident
from finops_assets_tests.running import DIMENSIONS, LAYOUTS, SOURCES, small_estate

FIRST, BAD, LAST = date(2026, 9, 1), date(2026, 9, 2), date(2026, 9, 3)
PATIENCE_SECONDS = 300
ROLLUP, FACTS = dg.AssetKey("daily_cost_by_team"), dg.AssetKey("cloud_cost_facts")


@contextmanager
def dagster_dev(project: Path) -> Iterator[None]:
    """`dagster dev` in a project folder, as `make ui` starts it."""
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
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def test_a_dropped_delivery_flows_and_a_bad_day_is_held(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[1]
    for name in ("dagster.yaml", "workspace.yaml"):
        (tmp_path / name).write_text((shipped / name).read_text(encoding="utf-8"), encoding="utf-8")
    sources = "".join(f"  - {{name: {s}, uri: estate/{s}, layout: {LAYOUTS[s]}}}\n" for s in SOURCES)
    (tmp_path / "finops.yaml").write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nsources:\n{sources}{DIMENSIONS}"
        "night: {watch_seconds: 5}\n",
        encoding="utf-8",
    )
    for source in SOURCES:
        (tmp_path / "estate" / source).mkdir(parents=True)
    with dagster_dev(tmp_path):
        small_estate(tmp_path, FIRST, LAST, incidents=[Incident("gcp", BAD, "incomplete")])
        deadline = time.monotonic() + PATIENCE_SECONDS
        good = {FIRST.isoformat(), LAST.isoformat()}
        built: set[str] = set()
        while time.monotonic() < deadline and not (built == good and (tmp_path / "p.duckdb").is_file()):
            time.sleep(1)
            if (tmp_path / ".dagster").is_dir():
                built = _materialized(tmp_path, ROLLUP)
    log = (tmp_path / "dev.log").read_text(encoding="utf-8")
    assert built == good, log[-6000:]
    assert _materialized(tmp_path, FACTS) == good
    assert (tmp_path / "p.duckdb").is_file(), "the reports did not follow the rollup"


def _materialized(project: Path, asset: dg.AssetKey) -> set[str]:
    here = Path.cwd()
    os.chdir(project)
    try:
        with dg.DagsterInstance.from_config(str(project), "dagster.yaml") as instance:
            return set(instance.get_materialized_partitions(asset))
    finally:
        os.chdir(here)
