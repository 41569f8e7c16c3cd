"""Whether what is made from the days stands as it is: nothing that it was made from has changed since.

Of the assets Dagster's history tells it (`follow`). What they read besides has no version there: finops.yaml and the files
that it names, what people decided, this program, the day. So a run of the command that made everything says in its tags by
what it did, and which file it published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from finops_assets.alerts.history import AlertHistory
from finops_assets.base.content import version_of
from finops_assets.cost.attribution.owner_decisions import OwnerDecisions
from finops_assets.evaluate.anomalies.history import AnomalyHistory
from finops_assets.graph.assets.follow import behind
from finops_assets.graph.keys import ACCEPTED, PUBLISHED
from finops_assets.platform import Platform

BY_TAG = ".dagster/finops_published_by"
"""By what a run made all there is to make, as `made_by` has it."""
COPY_TAG = ".dagster/finops_published"
"""The published file of that run, as `copy_of` has it."""
PROGRAM = Path(__file__).parents[1]


def made_by(platform: Platform, now: datetime | None = None) -> str:
    """A hash of what evaluations and reports read besides the assets before them: settings and files, decisions, program, day."""
    settings = platform.settings
    warehouse = settings.warehouse
    told = settings.model_dump()
    judged = [
        (a.id, a.verdict, a.judged_at, a.judged_by, a.note) for a in AnomalyHistory.beside(warehouse).all() if a.verdict
    ]
    with AlertHistory.beside(warehouse).opened() as alerts:
        history = alerts.rows()
    return version_of(
        (now or datetime.now(UTC)).date(),
        sorted(told.items()),
        [(str(file), _content(file)) for file in sorted(set(_files(told)))],
        OwnerDecisions.beside(warehouse).all(),
        judged,
        history,
        [(str(f.relative_to(PROGRAM)), f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(_program())],
    )


def copy_of(platform: Platform) -> str:
    """What tells one published file from another, on this host and on others; empty: there is none."""
    try:
        there = platform.settings.published.stat()
    except FileNotFoundError:
        return ""
    return f"{platform.settings.published} {there.st_ino} {there.st_size} {there.st_mtime_ns}"


def standing_run(defs: dg.Definitions, instance: dg.DagsterInstance, platform: Platform) -> str | None:
    """The run that published what would be published now; None: something is to be made anew, or nobody knows."""
    newest = instance.get_latest_materialization_event(PUBLISHED)
    run = instance.get_run_by_id(newest.run_id) if newest else None
    if run is None or run.status is not dg.DagsterRunStatus.SUCCESS:
        return None
    if (run.tags.get(BY_TAG), run.tags.get(COPY_TAG)) != (made_by(platform), copy_of(platform)):
        return None
    graph = defs.resolve_asset_graph()
    followers = defs.resolve_job_def(run.job_name).asset_layer.selected_asset_keys
    given = {key for follower in followers for key in graph.get(follower).parent_keys}
    # Of a table that somebody else fills there is no version.
    if any(not graph.get(key).is_executable for key in given - {ACCEPTED}):
        return None
    return None if behind(instance, platform, graph, followers, lambda _: False) else run.run_id


def _files(told: object) -> Iterator[Path]:
    """The files that settings name; what the pipeline itself writes is told by the assets."""
    match told:
        case Path():
            if told.is_file():
                yield told
        case Mapping():
            for name, each in told.items():
                if name not in ("lake", "warehouse", "published"):
                    yield from _files(each)
        case list() | tuple():
            for each in told:
                yield from _files(each)


def _content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _program() -> Iterator[Path]:
    return (f for f in PROGRAM.rglob("*") if "__pycache__" not in f.parts and f.is_file())
