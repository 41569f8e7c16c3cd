"""What Dagster itself costs: the daily job on a tiny estate of three sources, ours timed and the rest left over."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.platform import DAYS, FIRST_DAY, configuration
from finops_assets.definitions import build_definitions
from finops_assets.demo import Estate, EstateSpec
from finops_assets.graph.assets import daily
from finops_assets.graph.assets import raw as raw_assets
from finops_assets.judge.gates import facts as facts_gates
from finops_assets.judge.gates import raw as raw_gates
from finops_assets.judge.gates import rollup as rollup_gates
from finops_assets.settings.model import Settings

ROWS_A_DAY = 60
RANGE_TAGS = {
    "dagster/asset_partition_range_start": DAYS[0].isoformat(),
    "dagster/asset_partition_range_end": DAYS[-1].isoformat(),
}
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
OURS = [
    (raw_assets, "land_source"),
    (raw_assets, "compose_days"),
    (raw_gates, "judge_raw"),
    (daily, "attribute_days"),
    (facts_gates, "judge_facts"),
    (daily, "build_rollup"),
    (daily, "rollup_totals"),
    (rollup_gates, "judge_rollup"),
]


def overhead(folder: str) -> list[dict[str, str | int | float]]:
    """Seconds and the share outside our functions: a first day, a day already landed, a range of a month."""
    base = Path(folder)
    with Estate(EstateSpec(FIRST_DAY, DAYS[-1], ROWS_A_DAY * len(DAYS)), base / "estate") as estate:
        estate.deliver_all()
    spent = _timed()
    found = []
    (base / "instance").mkdir()
    with dg.DagsterInstance.local_temp(str(base / "instance")) as instance:
        job = build_definitions(_settings(base)).resolve_job_def("daily")
        first: dict[str, Any] = {"partition_key": DAYS[0].isoformat()}
        second: dict[str, Any] = {"partition_key": DAYS[1].isoformat()}
        for name, run, days in (
            ("one day, with the landing of its month", first, DAYS[:1]),
            ("one day, landed before", second, DAYS[1:2]),
            ("31 days in one run, nothing there yet", {"tags": RANGE_TAGS}, DAYS),
        ):
            if days is DAYS:
                shutil.rmtree(base / "state")
            found.append(_run(name, job, instance, run, days, spent))
    return found


def _run(
    name: str,
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    run: dict[str, Any],
    days: list[date],
    spent: dict[str, float],
) -> dict[str, str | int | float]:
    spent.clear()
    start, cpu = time.perf_counter(), time.process_time()
    result = job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=True, **run)
    wall = time.perf_counter() - start
    own = sum(spent.values())
    return {
        "run": name,
        "days": len(days),
        "wall": wall,
        "cpu": time.process_time() - cpu,
        "wall_per_day": wall / len(days),
        "outside_our_functions": 1 - own / wall,
        "events": len(result.all_events),
    }


def _timed() -> dict[str, float]:
    """Seconds by function from here on: our entry points as the assets and checks call them."""
    spent: dict[str, float] = {}

    def timing(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

        return timed

    for module, name in OURS:
        setattr(module, name, timing(getattr(module, name), name))
    return spent


def _settings(base: Path) -> Settings:
    settings = configuration()
    state = base / "state"
    return settings.model_copy(
        update={
            "first_day": FIRST_DAY,
            "lake": state / "lake",
            "warehouse": state / "warehouse.duckdb",
            "published": state / "published.duckdb",
            "sources": tuple(s.model_copy(update={"uri": str(base / "estate" / s.name)}) for s in settings.sources),
        }
    )
