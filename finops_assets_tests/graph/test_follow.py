"""What is asked for after a change, and by which finops.yaml; `test_ui.py` counts it with the real daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from finops_assets.alerts.history import AlertHistory
from finops_assets.base.content import version_of
from finops_assets.demo import Estate, Incident
from finops_assets.graph.assets.follow import behind
from finops_assets.graph.sensors import follow
from finops_assets.graph.sensors.follow import NOTHING
from finops_assets.graph.settings_in_force import SettingsChanged, in_force
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets_tests.running import DIMENSIONS, SOURCES, Graph, persistent_instance, settings_for, small_estate

# Near the month's end: each of its days that costs nothing is judged, too.
FIRST, LAST = date(2026, 9, 25), date(2026, 9, 27)
CORRELATION = {"owner_suggestions", "owner_decisions", "owner_acceptance"}


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Estate:
    """Three days; the newest is not whole."""
    return small_estate(tmp_path_factory.mktemp("follow"), FIRST, LAST, incidents=[Incident("gcp", LAST, "incomplete")])


@pytest.fixture(scope="module")
def graph(estate: Estate) -> Iterator[Graph]:
    root = estate.root.parent
    with persistent_instance(root / "dagster") as instance:
        yield Graph(settings_for(root, FIRST), instance)


def settle(graph: Graph) -> list[tuple[str, set[str]]]:
    """Tick and run until nothing is asked for; returns the jobs that ran, each with the assets that it named."""
    ran = []
    while requests := [r for s in SOURCES for r in graph.asked(f"watch_{s}")] or graph.asked("follow"):
        for request in requests:
            graph.perform(request)
            named = {key.to_user_string() for key in request.asset_selection or ()}
            ran.append((str(request.job_name), named))
        assert len(ran) < 20, ran
    return ran


@contextmanager
def under_way(graph: Graph, job: str, tags: dict[str, str] | None = None) -> Iterator[dg.DagsterRun]:
    """A run that has begun, elsewhere."""
    run = graph.instance.create_run_for_job(
        graph.defs.resolve_job_def(job), status=dg.DagsterRunStatus.STARTED, tags=tags or {}
    )
    yield run
    graph.instance.report_run_canceled(run)


def seen_half_done(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> dg.SensorResult:
    """A look during which a run ends that had made a part of what is looked for."""
    with monkeypatch.context() as patched, under_way(graph, "follow") as run:

        def ends_meanwhile(*args: Any) -> dict[dg.AssetKey, str]:
            found = behind(*args)
            graph.instance.report_run_canceled(run)
            return found

        patched.setattr(follow, "behind", ends_meanwhile)
        return graph.tick("follow")


@pytest.mark.long
def test_one_change_is_one_run_of_each_stage_and_waits_for_what_is_under_way(
    graph: Graph, estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert graph.tick("follow").skip_reason.skip_message == NOTHING, "no delivery was landed yet"
    first = settle(graph)
    # The days with charges, and those of the closed month that cost nothing: each day once, what follows them once.
    assert [job for job, _ in first] == ["land_aws", "land_azure", "land_gcp", "daily", "daily", "follow"]
    # The newest day is held: owners wait, all else is made, the published copy once.
    followed = first[-1][1]
    assert "published_warehouse" in followed
    assert not followed & CORRELATION
    assert "raw/gcp:complete failed" in str(graph.tick("follow").skip_reason)

    estate.deliver("aws", "2026-09", generation=2, restate={FIRST: Decimal("1.5")})
    [land] = graph.asked("watch_aws")
    with under_way(graph, "land_azure"):
        graph.perform(land)
        assert "waits for what is being landed: land_azure" in str(graph.tick("follow").skip_reason)
    same = {"dagster/asset_partition_range_start": str(FIRST), "dagster/asset_partition_range_end": str(LAST)}
    with under_way(graph, "daily", same):
        assert "waits for the runs of the same days: daily" in str(graph.tick("follow").skip_reason)
    [days] = graph.asked("follow")
    assert {key.to_user_string() for key in days.asset_selection or ()} == {
        "raw/aws", "cloud_cost_facts", "daily_cost_by_team",
    }  # fmt: skip
    graph.perform(days)
    with under_way(graph, "daily", {"dagster/partition": str(LAST)}):
        assert "assets are behind; waits for daily" in str(graph.tick("follow").skip_reason)
    assert "assets are behind; waits for follow" in str(seen_half_done(graph, monkeypatch).skip_reason)
    [after] = settle(graph)
    assert after[0] == "follow"
    assert "published_warehouse" in after[1]


@pytest.mark.long
def test_the_same_result_asks_for_nothing(graph: Graph, estate: Estate) -> None:
    graph.run(FIRST, LAST)
    graph.publish()
    assert settle(graph) == []
    # The same charges once more: the ledger has another generation, and no figure changed.
    estate.deliver("aws", "2026-09", generation=3, restate={FIRST: Decimal("1.5")})
    [landed, followed] = settle(graph)
    assert landed[0] == "land_aws"
    assert followed == ("follow", {"reports/delivery_ledger", "reports/repairs", "published_warehouse"})


@pytest.mark.long
def test_owners_follow_once_the_newest_day_is_released(graph: Graph, estate: Estate) -> None:
    healed = small_estate(estate.root.parent, FIRST, LAST, deliver=False)
    healed.deliver("gcp", "2026-09", generation=2)
    *_, (job, assets) = settle(graph)
    assert job == "follow"
    assert assets >= CORRELATION
    assert settle(graph) == []


def test_a_hash_of_content_sees_a_digit_and_no_time() -> None:
    import pandas as pd

    one = pd.DataFrame({"cost": [Decimal("0.100000000000000001"), None]})
    other = pd.DataFrame({"cost": [Decimal("0.100000000000000002"), None]})
    assert version_of(one) == version_of(one.copy()) != version_of(other)
    assert version_of(one, "a") != version_of(one)


# ---- finops.yaml that changes while the daemon runs ------------------------------------------------


@pytest.fixture
def loaded(tmp_path: Path) -> Platform:
    file = tmp_path / "finops.yaml"
    file.write_text(
        "first_day: 2026-09-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        f"sources:\n  - {{name: aws, uri: in, layout: files}}\n{DIMENSIONS}",
        encoding="utf-8",
    )
    return Platform(load_settings(file), file)


def change(platform: Platform, old: str, new: str) -> None:
    assert platform.file is not None
    text = platform.file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    platform.file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    team: {warn_above: 15, block_above: 40}", "    team: {warn_above: 15, block_above: 41}"),
        ("warehouse:", "night: {deadline: '09:30'}\nwarehouse:"),
        ("warehouse:", "plausibility: {max_row_fall: 10}\nalerts: {re_alert_hours: null}\nwarehouse:"),
    ],
    ids=["threshold", "deadline", "plausibility and alerts"],
)
def test_what_shapes_no_graph_is_followed_in_place(loaded: Platform, old: str, new: str) -> None:
    assert in_force(loaded) is loaded
    change(loaded, old, new)
    now = in_force(loaded)
    assert now.settings == load_settings(loaded.file)
    assert now.settings != loaded.settings


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: aws", "name: amazon", "finops.yaml was changed (sources)"),
        ("keys: [team, squad, owner_team]", "keys: [team]", "finops.yaml was changed (dimensions)"),
        ("warehouse:", "night: {watch_seconds: 30}\nwarehouse:", "finops.yaml was changed (night)"),
        ("layout: files", "layout: paper", "cannot be used, so nothing is asked for"),
    ],
    ids=["source", "dimension", "how often sensors look", "a mistake"],
)
def test_what_would_be_another_graph_stops_the_sensors_and_is_told(
    loaded: Platform, old: str, new: str, said: str
) -> None:
    change(loaded, old, new)
    with pytest.raises(SettingsChanged, match="nothing is asked for") as caught:
        in_force(loaded)
    assert said in str(caught.value)
    assert "Reload" in str(caught.value) or "finops config check" in str(caught.value)


def test_the_sensors_say_so_and_an_alert_opens_and_ends(loaded: Platform) -> None:
    from finops_assets.definitions import build_definitions

    defs = build_definitions(loaded.settings, loaded.file)

    def look(instance: dg.DagsterInstance) -> set[str]:
        told = set()
        for name in ("watch_aws", "follow", "watch_accepted_owners"):
            with dg.build_sensor_context(
                instance=instance, definitions=defs, resources={"platform": loaded}
            ) as context:
                told.add(str(defs.resolve_sensor_def(name)(context).skip_reason.skip_message))
        with dg.build_sensor_context(instance=instance, definitions=defs) as context:
            defs.resolve_sensor_def("alerts")(context)
        return told

    def alerts() -> set[str]:
        with AlertHistory.beside(loaded.settings.warehouse).opened() as history:
            return {o.alert.key for o in history.open_alerts().values() if o.alert.key == "settings"}

    with dg.DagsterInstance.ephemeral() as instance:
        look(instance)
        assert alerts() == set()
        change(loaded, "name: aws", "name: amazon")
        [said] = look(instance)
        assert "(sources) since Dagster loaded it" in said
        assert alerts() == {"settings"}
        change(loaded, "name: amazon", "name: aws")
        assert len(look(instance)) > 1
        assert alerts() == set()
