"""A small platform on a synthetic estate, and ways to run its graph through a real Dagster instance."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from finops_assets.definitions import build_definitions
from finops_assets.demo import Estate, EstateSpec, Incident
from finops_assets.demo.plan import Delivery
from finops_assets.graph.run_range import QUIET
from finops_assets.graph.sqlite_history import SqliteHistory
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets.settings.model import Settings
from finops_assets.settings.sources import Layout
from finops_assets_tests.shared import made_once

SOURCES = ("aws", "azure", "gcp")
LAYOUTS: dict[str, Layout] = {"aws": "aws-data-exports", "azure": "azure-exports", "gcp": "gcs-export"}
PROVIDERS = {"aws": "AWS", "azure": "Microsoft", "gcp": "Google Cloud"}

DIMENSIONS = """
dimensions:
  department: {keys: [department, dept, business_unit]}
  team: {keys: [team, squad, owner_team]}
  environment:
    keys: [environment, env, stage]
    values: {production: prod, prd: prod, development: dev, stg: staging}
  cost_center: {keys: [cost_center, cc]}
tag_policy:
  required: [department, team]
  thresholds:
    department: {warn_above: 15, block_above: 40}
    team: {warn_above: 15, block_above: 40}
"""


def settings_for(root: Path, first_day: date, extra: str = "", not_required: Iterable[str] = ()) -> Settings:
    """Settings for the estate below root/estate; `extra` is YAML to add."""
    optional = set(not_required)
    sources = "".join(
        f"  - {{name: {s}, provider: {PROVIDERS[s]}, uri: estate/{s}, layout: {LAYOUTS[s]},"
        f" required: {str(s not in optional).lower()}}}\n"
        for s in SOURCES
    )
    text = (
        f"first_day: {first_day}\nlake: lake\nwarehouse: warehouse.duckdb\npublished: published.duckdb\n"
        f"sources:\n{sources}{DIMENSIONS}{extra}"
    )
    return parse_settings(text, root / "finops.yaml")


@contextmanager
def persistent_instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    """An instance on SQLite, in the storage that is shipped: some of what we rely on differs between it and memory.

    The folder may hold the copy of another's history.
    """
    folder.mkdir(exist_ok=True)
    storage = {"module": SqliteHistory.__module__, "class": SqliteHistory.__name__, "config": {"base_dir": str(folder)}}
    overrides = {"telemetry": {"enabled": False}, "storage": {"custom": storage}}
    with dg.DagsterInstance.local_temp(str(folder), overrides=overrides) as instance:
        yield instance


@contextmanager
def opened_once(warehouse: Path) -> Iterator[None]:
    """Keep a warehouse open in this process, if it is there: DuckDB makes its catalog of functions anew for each opening,
    of which a run has some thirty, and that is a sixth of it."""
    with duckdb.connect(str(warehouse)) if warehouse.is_file() else nullcontext():
        yield


@dataclass
class Graph:
    """A platform with its definitions and a Dagster instance of its own."""

    settings: Settings
    instance: dg.DagsterInstance
    defs: dg.Definitions = field(init=False)

    def __post_init__(self) -> None:
        self.defs = build_definitions(self.settings)

    @property
    def platform(self) -> Platform:
        return Platform(self.settings)

    def run(
        self, first: date, last: date | None = None, assets: Sequence[str | list[str]] | None = None, job: str = "daily"
    ) -> Run:
        """Run for a day, or for the range up to and with `last`; `assets` selects some, with their checks."""
        tags: dict[str, Any] = {}
        if last is not None:
            tags = {
                "dagster/asset_partition_range_start": first.isoformat(),
                "dagster/asset_partition_range_end": last.isoformat(),
            }
        if assets is not None:
            selection = dg.AssetSelection.assets(*(dg.AssetKey(a) for a in assets))
            defs = dg.Definitions.merge(
                self.defs, dg.Definitions(jobs=[dg.define_asset_job("some", selection=selection)])
            )
            definition = defs.resolve_job_def("some")
        else:
            definition = self.defs.resolve_job_def(job)
        with opened_once(self.settings.warehouse):
            result = definition.execute_in_process(
                instance=self.instance,
                partition_key=first.isoformat() if last is None else None,
                tags=tags,
                run_config=QUIET,
                raise_on_error=False,
            )
        return Run(self, result)

    def tick(self, sensor: str) -> dg.SensorResult:
        """What a sensor finds, as if it looked for the first time."""
        definition = self.defs.resolve_sensor_def(sensor)
        with dg.build_sensor_context(
            instance=self.instance, definitions=self.defs, resources={"platform": self.platform}
        ) as context:
            result = definition(context)
        assert isinstance(result, dg.SensorResult)
        return result

    def asked(self, sensor: str) -> list[dg.RunRequest]:
        """What a sensor asks for."""
        return list(self.tick(sensor).run_requests or [])

    def perform(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Run what a sensor asked for, as the daemon would."""
        return perform(self.defs, self.instance, request, request.tags)

    def publish(self, *of: str) -> None:
        """Make the reports, or those assets alone, and the published copy."""
        job = self.defs.resolve_job_def("publish")
        if of:
            job = job.get_subset(asset_selection={dg.AssetKey(key.split("/")) for key in (*of, "published_warehouse")})
        with opened_once(self.settings.warehouse):
            result = job.execute_in_process(instance=self.instance, run_config=QUIET)
        assert result.success

    def built(self, asset: str = "daily_cost_by_team") -> set[date]:
        """The days of an asset that Dagster calls materialised."""
        return {date.fromisoformat(k) for k in self.instance.get_materialized_partitions(dg.AssetKey(asset.split("/")))}

    def rollup(self, columns: str = "*") -> list[tuple[Any, ...]]:
        """Rows of the rollup."""
        with self.platform.warehouse.reading() as connection:
            return connection.execute(f"SELECT {columns} FROM daily_cost_by_team ORDER BY ALL").fetchall()


def perform(
    defs: dg.Definitions, instance: dg.DagsterInstance, request: dg.RunRequest, tags: Mapping[str, str]
) -> dg.ExecuteInProcessResult:
    """Run what a sensor asked for: its job, or those assets and checks of it that it names."""
    job = defs.resolve_job_def(str(request.job_name))
    if request.asset_selection is not None:
        checks = request.asset_check_keys
        job = job.get_subset(
            asset_selection=set(request.asset_selection),
            asset_check_selection=set(checks) if checks is not None else None,
        )
    return job.execute_in_process(instance=instance, tags=tags, run_config=QUIET, raise_on_error=False)


@dataclass
class Run:
    """One run, as the history tells of it."""

    graph: Graph
    result: dg.ExecuteInProcessResult | dg.DagsterRun

    @property
    def success(self) -> bool:
        return self.result.is_success if isinstance(self.result, dg.DagsterRun) else self.result.success

    def _events(self, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        records = self.graph.instance.get_records_for_run(self.result.run_id, of_type=kind, limit=10_000).records
        return [r.event_log_entry.dagster_event for r in records if r.event_log_entry.dagster_event]

    def materialized(self, asset: str) -> list[date]:
        """The days of an asset that this run materialised."""
        found = [
            e.step_materialization_data.materialization for e in self._events(dg.DagsterEventType.ASSET_MATERIALIZATION)
        ]
        return sorted(
            date.fromisoformat(m.partition)
            for m in found
            if m.asset_key.to_user_string() == asset and m.partition is not None
        )

    def verdicts(self, check: str) -> dict[date, Any]:
        """The evaluations of "asset:check" by day."""
        evaluations = [e.asset_check_evaluation_data for e in self._events(dg.DagsterEventType.ASSET_CHECK_EVALUATION)]
        return {
            date.fromisoformat(e.partition): e
            for e in evaluations
            if f"{e.asset_key.to_user_string()}:{e.check_name}" == check and e.partition is not None
        }

    def failure(self) -> str:
        """The texts of the steps that failed."""
        texts = []
        for event in self._events(dg.DagsterEventType.STEP_FAILURE):
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            texts.append(error.message if error else "")
        return "\n".join(texts)


def small_estate(
    root: Path, first: date, last: date, rows: int = 0, incidents: Iterable[Incident] = (), deliver: bool = True
) -> Estate:
    """An estate below root/estate of about 60 rows a day."""
    days = (last - first).days + 1
    estate = Estate(EstateSpec(first, last, rows or 60 * days, incidents=tuple(incidents)), root / "estate")
    if not deliver:
        return estate
    if estate.root.exists():
        # Over what was delivered before.
        estate.deliver_all()
    else:
        made = made_once(f"estate-{sha256(repr(estate.spec).encode()).hexdigest()}", partial(_deliver, estate.spec))
        shutil.copytree(made, estate.root)
        estate._latest.update(
            {
                (source, period): Delivery(source, period, None, 1, ())
                for source in SOURCES
                for period in estate.spec.periods()
            }
        )
    return estate


def _deliver(spec: EstateSpec, folder: Path) -> None:
    """The first generation of all of an estate; others like it are copies."""
    with Estate(spec, folder) as made:
        made.deliver_all()


@contextmanager
def after_a_run(
    root: Path, settings: Callable[[Path], Settings], first: date, last: date, incidents: Iterable[Incident] = ()
) -> Iterator[tuple[Graph, Run]]:
    """In an empty folder: a platform on a small estate, and its first run, over all days of it.

    It is a copy of one that was run once in this run of the tests; `settings` gives those of a folder. To the ledger a
    copied file is another, so whoever runs it again lands the same once more.
    """
    told = repr((settings.__module__, settings.__qualname__, first, last, *incidents))
    name = f"ran-{sha256(told.encode()).hexdigest()}"
    shutil.copytree(made_once(name, partial(_run, settings, first, last, incidents)), root, dirs_exist_ok=True)
    with persistent_instance(root / "dagster") as instance:
        graph = Graph(settings(root), instance)
        [run] = instance.get_runs()
        yield graph, Run(graph, run)


def _run(
    settings: Callable[[Path], Settings], first: date, last: date, incidents: Iterable[Incident], root: Path
) -> None:
    small_estate(root, first, last, incidents=incidents)
    with persistent_instance(root / "dagster") as instance:
        Graph(settings(root), instance).run(first, last)
