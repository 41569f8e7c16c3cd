"""`release: by_source`: a source that is held or awaited leaves the others of its day alone, however a run starts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from finops_assets.base.period import Period
from finops_assets.cli.program import app
from finops_assets.cost.coverage import Coverage, Covered, coverage_of, enter_coverage
from finops_assets.cost.facts import attribute_days
from finops_assets.demo import Incident
from finops_assets.evaluate.comparison import compare, covered_days
from finops_assets.evaluate.forecast.series import gap_days
from finops_assets.graph.assets.daily import ALL_IN
from finops_assets.graph.days_to_run import days_to_run
from finops_assets.graph.run_range import run_range
from finops_assets.settings.model import Settings
from finops_assets.settings.tag_policy import TagPolicy, Threshold
from finops_assets.storage.day_files import judged_layer
from finops_assets.storage.lake import Lake
from finops_assets_tests.running import (
    PROVIDERS,
    SOURCES,
    Graph,
    Run,
    after_a_run,
    persistent_instance,
    settings_for,
    small_estate,
)

FIRST, BAD, LAST = date(2026, 9, 1), date(2026, 9, 2), date(2026, 9, 3)
DAYS = [FIRST, BAD, LAST]
RAW = [["raw", s] for s in SOURCES]
FACTS, ROLLUP = "cloud_cost_facts", "daily_cost_by_team"
Ran = Callable[..., tuple[Graph, Run]]
PROVIDER = {"gcp": "Google Cloud", "azure": "Microsoft"}
INCOMPLETE = Incident("gcp", BAD, "incomplete")
UNTAGGED = Incident("azure", BAD, "untagged")
EVERYTHING = Threshold(warn_above=100, block_above=100)
LENIENT = TagPolicy(required=("department", "team"), thresholds={"department": EVERYTHING, "team": EVERYTHING})


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with persistent_instance(tmp_path / "dagster") as instance:
        yield instance


@pytest.fixture
def ran(tmp_path: Path) -> Iterator[Ran]:
    """Opens a platform, of whose bills these incidents are, after a run over all days."""
    with ExitStack() as stack:
        yield lambda *incidents: stack.enter_context(after_a_run(tmp_path, settings_of, FIRST, LAST, incidents))


def settings_of(root: Path) -> Settings:
    return settings_for(root, FIRST)


def coverage(graph: Graph) -> dict[tuple[str, date], Coverage]:
    with graph.platform.warehouse.reading() as connection:
        return {(c.source, c.day): c for c in coverage_of(connection)}


def providers(graph: Graph, day: date) -> set[str]:
    return {provider for (d, provider) in graph.rollup("charge_date, provider") if d == day}


@pytest.mark.long
@pytest.mark.parametrize(
    ("incident", "check"),
    [(INCOMPLETE, "raw/gcp:complete"), (UNTAGGED, f"{FACTS}:untagged_within_threshold")],
    ids=["raw gate", "facts gate"],
)
@pytest.mark.parametrize("way", ["range", "single", "separate"])
def test_the_others_of_a_day_flow_and_every_place_says_who_is_missing(
    tmp_path: Path, request: pytest.FixtureRequest, ran: Ran, incident: Incident, check: str, way: str
) -> None:
    if way == "range":
        graph, last = ran(incident)
    else:
        small_estate(tmp_path, FIRST, LAST, incidents=[incident])
        graph = Graph(settings_of(tmp_path), request.getfixturevalue("instance"))
        graph.run(FIRST, LAST, RAW)
        if way == "single":
            last = graph.run(BAD)
        else:
            graph.run(FIRST, LAST, [FACTS])
            last = graph.run(BAD, None, [ROLLUP])
    assert last.success, last.failure()
    assert BAD in last.materialized(ROLLUP)
    everyone = {"AWS", "Microsoft", "Google Cloud"}
    assert providers(graph, BAD) == everyone - {PROVIDER[incident.source]}
    covered = coverage(graph)
    held = covered[incident.source, BAD]
    assert (held.state, held.shown) == ("held", "nothing")
    assert check in held.reason
    assert "Next:" in held.reason
    assert {c.state for key, c in covered.items() if key != (incident.source, BAD)} == {"built"}
    verdict = last.verdicts(f"{ROLLUP}:{ALL_IN}")[BAD]
    assert not verdict.passed
    assert verdict.severity is dg.AssetCheckSeverity.WARN
    assert f"built without {incident.source}: {check}" in verdict.description
    if way == "range":
        assert last.materialized(FACTS) == last.materialized(ROLLUP) == DAYS
        assert last.verdicts(f"{ROLLUP}:{ALL_IN}")[FIRST].passed
        assert last.verdicts(f"{FACTS}:{ALL_IN}")[BAD].passed is False


@pytest.mark.parametrize("again", [[], [ROLLUP]], ids=["as it was judged", "as the history has it"])
def test_each_source_that_one_check_holds_is_told_its_own_reason(ran: Ran, again: list[str]) -> None:
    graph, _ = ran(UNTAGGED, Incident("gcp", BAD, "untagged"))
    if again:
        graph.run(BAD, None, again)
    held = {source: c.reason for (source, _), c in coverage(graph).items() if c.state == "held"}
    assert held.keys() == {"azure", "gcp"}
    for source, other in (("azure", "gcp"), ("gcp", "azure")):
        assert held[source].startswith(f"{FACTS}:untagged_within_threshold failed: source {source}: ")
        assert f"source {other}" not in held[source]
        assert "block_above" in held[source]


@pytest.mark.long
def test_what_was_attributed_and_is_held_waits_beside_the_facts_and_a_new_limit_releases_it(ran: Ran) -> None:
    graph, _ = ran(UNTAGGED)
    lake = graph.platform.lake
    assert judged_layer(lake, ("azure", BAD)) == "unreleased"
    assert not lake.holds(lake.day_file("facts", "azure", BAD))
    assert lake.holds(lake.day_file("facts", "aws", BAD))
    lenient = Graph(graph.settings.model_copy(update={"tag_policy": LENIENT}), graph.instance)
    released = lenient.run(BAD, None, [FACTS, ROLLUP])
    assert released.success
    assert providers(lenient, BAD) == {"AWS", "Microsoft", "Google Cloud"}
    assert coverage(lenient)["azure", BAD].state == "built"
    assert not any(lake.root.joinpath("unreleased").rglob("*.parquet"))
    assert released.verdicts(f"{ROLLUP}:{ALL_IN}")[BAD].passed


@pytest.mark.long
def test_a_held_restatement_keeps_the_last_good_version_and_the_day_says_so(tmp_path: Path, ran: Ran) -> None:
    graph, first = ran()
    assert first.success
    before = graph.rollup()
    assert len({day for day, *_ in before}) == 3
    small_estate(tmp_path, FIRST, LAST, incidents=[UNTAGGED])
    run = graph.run(FIRST, LAST)
    assert run.success
    assert graph.rollup() == before
    held = coverage(graph)["azure", BAD]
    assert (held.state, held.shown) == ("held", "previous")
    with graph.platform.warehouse.reading() as connection:
        compared = compare(connection, Period(FIRST, date(2026, 9, 4)))
    assert compared.outdated == {"azure": [BAD]}
    assert any("azure shows its last good version on 1 day" in note for note in compared.notes)
    graph.platform.warehouse.publish(graph.platform.lake)
    with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
        [(cost,)] = connection.execute(f"SELECT sum(EffectiveCost) FROM {FACTS} WHERE source = 'azure'").fetchall()
        [(rolled,)] = connection.execute(
            f"SELECT sum(effective_cost) FROM {ROLLUP} WHERE provider = 'Microsoft'"
        ).fetchall()
    assert cost == rolled > Decimal(0)


@pytest.mark.long
def test_a_day_of_which_everything_is_held_fails_its_run(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    incidents = [Incident(source, BAD, "incomplete") for source in SOURCES]
    small_estate(tmp_path, FIRST, LAST, incidents=incidents)
    graph = Graph(settings_for(tmp_path, FIRST), instance)
    run = graph.run(FIRST, LAST)
    assert not run.success
    assert run.materialized(ROLLUP) == [FIRST, LAST]
    for source in SOURCES:
        assert f"raw/{source}:complete failed" in run.failure()
    assert {coverage(graph)[source, BAD].state for source in SOURCES} == {"held"}


@pytest.mark.long
def test_a_source_that_was_not_run_for_a_day_is_awaited_beside_the_others(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    small_estate(tmp_path, FIRST, LAST)
    graph = Graph(settings_for(tmp_path, FIRST), instance)
    graph.run(FIRST, LAST, [["raw", "aws"], ["raw", "azure"]])
    run = graph.run(FIRST, LAST, [FACTS, ROLLUP])
    assert run.success
    assert run.materialized(ROLLUP) == DAYS
    assert {c.state for (source, _), c in coverage(graph).items() if source == "gcp"} == {"awaited"}
    with graph.platform.warehouse.reading() as connection:
        assert compare(connection, Period(FIRST, date(2026, 9, 4))).late == {"gcp": DAYS}


def test_what_never_came_of_a_source_that_is_not_required_is_awaited_and_is_no_zero(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    small_estate(tmp_path, FIRST, LAST)
    shutil.rmtree(tmp_path / "estate" / "gcp")
    (tmp_path / "estate" / "gcp").mkdir()
    graph = Graph(settings_for(tmp_path, FIRST, not_required=["gcp"]), instance)
    run = graph.run(FIRST, LAST)
    assert run.success
    assert run.materialized(ROLLUP) == DAYS
    covered = coverage(graph)
    assert {(c.state, c.shown) for (source, _), c in covered.items() if source == "gcp"} == {("awaited", "nothing")}
    assert "nothing was ever delivered" in covered["gcp", BAD].reason
    assert {c.state for (source, _), c in covered.items() if source != "gcp"} == {"built"}
    with graph.platform.warehouse.reading() as connection:
        assert compare(connection, Period(FIRST, date(2026, 9, 4))).late == {"gcp": DAYS}


@pytest.mark.long
def test_whole_day_holds_the_others_and_says_that_they_wait(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    small_estate(tmp_path, FIRST, LAST, incidents=[INCOMPLETE])
    graph = Graph(settings_for(tmp_path, FIRST, "release: whole_day\n"), instance)
    run = graph.run(FIRST, LAST)
    assert not run.success
    assert run.materialized(ROLLUP) == [FIRST, LAST]
    covered = coverage(graph)
    assert {covered[source, BAD].state for source in SOURCES} == {"held"}
    assert "raw/gcp:complete failed" in covered["aws", BAD].reason


def test_finops_run_counts_status_shows_and_backfill_asks_for_what_is_held_only(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_estate(tmp_path, FIRST, LAST, incidents=[INCOMPLETE])
    graph = Graph(settings_for(tmp_path, FIRST), instance)
    outcome = run_range(graph.defs, instance, DAYS)
    assert (outcome.built, list(outcome.without), outcome.held, outcome.errors) == (DAYS, [BAD], {}, [])
    assert "gcp" in outcome.without[BAD][0]
    assert days_to_run(graph.platform, instance, FIRST, date(2026, 9, 4)) == []
    # Other rules make all days stale, held or not.
    other = graph.settings.model_copy(update={"placeholders": ("none", "tbd")})
    assert days_to_run(Graph(other, instance).platform, instance, FIRST, date(2026, 9, 4)) == DAYS
    # By name it is the command, which hides its module.
    monkeypatch.setattr(import_module("finops_assets.cli.status"), "load_settings", lambda _: graph.settings)
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 3
    assert f"held gcp {BAD}: raw/gcp:complete failed" in shown.output
    rows = json.loads(CliRunner().invoke(app, ["status", "--format", "json"]).output)["rows"]
    assert [(row["charge_date"], row["source"], row["state"]) for row in rows] == [(str(BAD), "gcp", "held")]


def test_a_source_that_was_taken_out_is_held_no_more(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_estate(tmp_path, FIRST, LAST)
    shutil.rmtree(tmp_path / "estate" / "gcp")
    (tmp_path / "estate" / "gcp").mkdir()
    graph = Graph(settings_for(tmp_path, FIRST), instance)
    graph.run(FIRST, LAST)
    assert {c.state for (source, _), c in coverage(graph).items() if source == "gcp"} == {"held"}
    left = tuple(s for s in graph.settings.sources if s.name != "gcp")
    graph = Graph(graph.settings.model_copy(update={"sources": left}), instance)
    monkeypatch.setattr(import_module("finops_assets.cli.status"), "load_settings", lambda _: graph.settings)
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 0, shown.output
    told = "source gcp is not in finops.yaml any more: it still counts as not built on 3 days."
    assert f"{told} Put it back, or let it leave all days: finops run {FIRST} 2026-09-04" in " ".join(
        shown.output.split()
    )
    assert graph.run(FIRST, LAST).success
    assert {source for source, _ in coverage(graph)} == {"aws", "azure"}
    assert "any more" not in CliRunner().invoke(app, ["status"]).output


def test_a_state_keeps_its_beginning_until_it_changes() -> None:
    at = datetime(2026, 9, 2, 8, tzinfo=UTC)
    with duckdb.connect() as connection:
        for hour, state in enumerate(("awaited", "awaited", "held", "built")):
            enter_coverage(connection, {("aws", FIRST): Covered(state, "x", "s")}, [], at + timedelta(hours=hour))  # type: ignore[arg-type]
            [row] = coverage_of(connection)
            assert (row.state, row.since.hour) == (state, {0: 8, 1: 8, 2: 10, 3: 11}[hour])
        assert coverage_of(connection, FIRST, FIRST) == []


@pytest.mark.long
def test_a_day_without_a_source_is_a_gap_of_its_provider_for_forecast_and_anomalies_and_one_that_cost_nothing_is_none(
    ran: Ran,
) -> None:
    graph, _ = ran(INCOMPLETE)
    with graph.platform.warehouse.writing() as connection:
        # As a vendor whose bill of the second day is there and says nothing.
        connection.execute(f"DELETE FROM {ROLLUP} WHERE provider = 'AWS' AND charge_date = ?", [BAD])
        there = connection.execute(f"SELECT DISTINCT provider, charge_date FROM {ROLLUP}").fetchall()
        gaps = gap_days(connection, sorted(PROVIDERS.values()), there, FIRST, 3)
        known, unknown = covered_days(connection, FIRST, date(2026, 9, 4))
    assert {provider: list(np.flatnonzero(days)) for provider, days in gaps.items()} == {
        "AWS": [],
        "Google Cloud": [1],
        "Microsoft": [],
    }
    assert unknown == {"Google Cloud": {BAD}}
    assert known == {"AWS": set(DAYS), "Google Cloud": {FIRST, LAST}, "Microsoft": set(DAYS)}


@pytest.mark.long
def test_a_day_rolled_up_from_older_facts_is_not_taken_for_one_of_the_newest_bill(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """Raw was restated and judged, and the rollup run alone: what it holds is of before."""
    small_estate(tmp_path, FIRST, FIRST)
    graph = Graph(settings_for(tmp_path, FIRST), instance)
    graph.run(FIRST)
    small_estate(tmp_path, FIRST, FIRST, rows=90)
    graph.run(FIRST, None, RAW)
    graph.run(FIRST, None, [ROLLUP])
    assert days_to_run(graph.platform, instance, FIRST, BAD) == [FIRST]
    graph.run(FIRST)
    assert days_to_run(graph.platform, instance, FIRST, BAD) == []


class Watched(Lake):
    """A lake that tells in which order it was asked."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []

    def fetch(self, files: Iterable[Path]) -> list[Path]:
        files = list(files)
        self.asked += [file.relative_to(self.root).parts[0] for file in files]
        return super().fetch(files)

    def holds(self, file: Path) -> bool:
        self.asked.append(file.relative_to(self.root).parts[0])
        return super().holds(file)

    def read_record(self, *parts: str) -> dict[str, Any] | None:
        self.asked.append("ledger")
        return super().read_record(*parts)


@pytest.mark.long
def test_facts_are_looked_at_before_the_ledger_and_that_before_raw(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """What another machine writes meanwhile makes facts newer than their stamp says, never older."""
    small_estate(tmp_path, FIRST, FIRST)
    graph = Graph(settings_for(tmp_path, FIRST), instance)
    graph.run(FIRST)
    platform = graph.platform
    lake = Watched(platform.lake.root)
    attribute_days(lake, platform.settings.engine, platform.rules, platform.keys([FIRST]))
    first = [lake.asked.index(layer) for layer in ("facts", "ledger", "raw")]
    assert first == sorted(first)
    assert "ledger" not in lake.asked[first[2] :]
