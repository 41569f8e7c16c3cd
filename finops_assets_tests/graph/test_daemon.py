"""The real thing: `dagster dev` with its daemon and sensors; a delivery is dropped into a bucket, facts and rollup appear."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from finops_assets.demo import Incident
from finops_assets_tests.dev import NIGHT, started, write_shipped
from finops_assets_tests.emulators import s3_endpoint, s3_place  # noqa: F401
from finops_assets_tests.running import DIMENSIONS, small_estate

# Near the month's end: each of its days that costs nothing is judged, too.
FIRST, BAD, LAST = date(2026, 9, 25), date(2026, 9, 26), date(2026, 9, 27)
PATIENCE_SECONDS = 300
RAW, FACTS, ROLLUP = dg.AssetKey(["raw", "aws"]), dg.AssetKey("cloud_cost_facts"), dg.AssetKey("daily_cost_by_team")


@pytest.mark.long
def test_a_delivery_dropped_into_a_bucket_flows_and_a_bad_day_is_held(
    tmp_path: Path,
    s3_endpoint: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = s3_place(s3_endpoint)
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    project = tmp_path / "project"
    project.mkdir()
    write_shipped(project)
    (project / "finops.yaml").write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nsources:\n"
        f"  - {{name: aws, uri: {bucket.uri}/aws, layout: aws-data-exports, endpoint_url: {s3_endpoint}}}\n"
        f"{DIMENSIONS}{NIGHT}",
        encoding="utf-8",
    )
    small_estate(tmp_path, FIRST, LAST, incidents=[Incident("aws", BAD, "incomplete")])
    good = {FIRST.isoformat(), LAST.isoformat()}
    published = project / "p.duckdb"
    # Two that make the history's tables at once leave them in a state that nobody can open.
    with _instance(project):
        pass
    with started(project):
        wait_for(project, lambda: bool(_ticks(project)), "the sensor has not looked at the empty bucket")
        assert _materialized(project, RAW) == set()
        bucket.put_folder(tmp_path / "estate")
        wait_for(
            project,
            lambda: _materialized(project, ROLLUP) >= good and published.is_file(),
            "facts, rollup and reports did not follow the delivery",
        )
        # Held stays held: the sensor looks again and again and asks for nothing.
        looked, runs = _ticks(project), _days_runs(project)
        wait_for(project, lambda: _ticks(project) >= looked + 3, "the sensor looks no more")
        assert _days_runs(project) == runs == 1
    # The month is over, and was delivered after its end: its other days cost nothing.
    month = {f"2026-09-{day:02}" for day in range(25, 31)}
    assert _materialized(project, RAW) == month
    assert _materialized(project, FACTS) == _materialized(project, ROLLUP) == month - {BAD.isoformat()}


def wait_for(project: Path, come: Callable[[], bool], otherwise: str) -> None:
    """Until something has come; the log of `dagster dev` tells why it has not."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ((project / ".dagster").is_dir() and come()):
        if time.monotonic() > deadline:
            pytest.fail(f"{otherwise}:\n{(project / 'dev.log').read_text(encoding='utf-8')[-6000:]}")
        time.sleep(1)


def _ticks(project: Path) -> int:
    """How often the source's sensor has looked."""
    with _instance(project) as instance:
        states = [s for s in instance.all_instigator_state() if s.instigator_name == "watch_aws"]
        return sum(len(instance.get_ticks(s.instigator_origin_id, s.selector_id)) for s in states)


def _days_runs(project: Path) -> int:
    with _instance(project) as instance:
        return len(instance.get_runs(dg.RunsFilter(job_name="daily")))


def _materialized(project: Path, asset: dg.AssetKey) -> set[str]:
    with _instance(project) as instance:
        return set(instance.get_materialized_partitions(asset))


@contextmanager
def _instance(project: Path) -> Iterator[dg.DagsterInstance]:
    here = Path.cwd()
    os.chdir(project)
    try:
        with dg.DagsterInstance.from_config(str(project), "dagster.yaml") as instance:
            yield instance
    finally:
        os.chdir(here)
