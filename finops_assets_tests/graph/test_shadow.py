"""A source that is only there to be compared with another: landed and judged, never in the bill."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from finops_assets.base.errors import ConfigError
from finops_assets.graph.days_to_run import days_to_run
from finops_assets.settings.load import parse_settings
from finops_assets.settings.model import Settings
from finops_assets_tests.conftest import csv_text, focus_row
from finops_assets_tests.running import Graph

FIRST, LAST = date(2026, 9, 1), date(2026, 9, 2)
FACTS = dg.AssetKey("cloud_cost_facts")
AGREES = dg.AssetCheckKey(dg.AssetKey(["raw", "new"]), "agrees")


def settings(folder: Path, new: str = ", shadow_of: old", old: str = "") -> Settings:
    return parse_settings(
        "first_day: 2026-09-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        f"sources:\n  - {{name: old, uri: old, layout: files{old}}}\n  - {{name: new, uri: new, layout: files{new}}}\n"
        "dimensions:\n  team: {keys: [team]}\n  department: {keys: [dept]}\n",
        folder / "finops.yaml",
    )


def deliver(folder: Path, source: str, *billed: str) -> None:
    """One row a day, from the first day on."""
    (folder / source).mkdir(exist_ok=True)
    rows = [
        focus_row(f"2026-09-{n:02}", BilledCost=cost, EffectiveCost=cost, ResourceId=f"vm-{n}")
        for n, cost in enumerate(billed, start=1)
    ]
    (folder / source / "bill.csv").write_text(csv_text(rows))


@pytest.fixture
def shadowed(tmp_path: Path) -> Iterator[Graph]:
    """Two days that both sources have; they agree on the first."""
    deliver(tmp_path, "old", "10", "20")
    deliver(tmp_path, "new", "10", "19.5")
    with dg.DagsterInstance.ephemeral() as instance:
        yield Graph(settings(tmp_path), instance)


def billed(graph: Graph) -> list[tuple[date, Decimal, int]]:
    return graph.rollup("charge_date, billed_cost, row_count")


def facts(graph: Graph) -> dict[str, list[date]]:
    return {source: days for source in ("old", "new") if (days := graph.platform.lake.days("facts", source))}


def verdicts(graph: Graph) -> dict[str, tuple[bool, str]]:
    """Day -> passed, and what the check said."""
    found: dict[str, tuple[bool, str]] = {}
    for record in graph.instance.event_log_storage.get_asset_check_execution_history(AGREES, limit=100):
        assert record.event is not None
        event = record.event.dagster_event
        assert event is not None
        evaluation = event.asset_check_evaluation_data
        assert not evaluation.blocking
        found.setdefault(str(evaluation.partition), (evaluation.passed, str(evaluation.description)))
    return found


def test_a_shadow_is_landed_and_judged_and_not_in_the_bill(shadowed: Graph) -> None:
    run = shadowed.run(FIRST, LAST)
    assert run.success, run.failure()  # a day that does not agree holds nothing
    assert shadowed.built("raw/new") == {FIRST, LAST}
    assert shadowed.built() == {FIRST, LAST}
    assert facts(shadowed) == {"old": [FIRST, LAST]}
    assert billed(shadowed) == [(FIRST, Decimal(10), 1), (LAST, Decimal(20), 1)]
    assert verdicts(shadowed) == {
        "2026-09-01": (True, "raw/new, 2026-09-01: holds the same cost as old."),
        "2026-09-02": (
            False,
            "raw/new, 2026-09-02: against old: billed -0.5 USD, effective -0.5 USD, 1 cell differs."
            " Next: finops reconcile sources old new --from 2026-09-02 --to 2026-09-03.",
        ),
    }


def test_a_bad_day_of_a_shadow_holds_nothing(shadowed: Graph, tmp_path: Path) -> None:
    rows = [focus_row("2026-09-01", BillingAccountId=""), focus_row("2026-09-02", ChargeCategory="Fee")]
    (tmp_path / "new" / "bill.csv").write_text(csv_text(rows))
    assert shadowed.run(FIRST, LAST).result.success
    assert shadowed.built() == {FIRST, LAST}


@pytest.mark.long
def test_without_the_flag_its_days_are_out_of_date_and_come_into_the_bill(shadowed: Graph, tmp_path: Path) -> None:
    shadowed.run(FIRST, LAST)
    counted = Graph(settings(tmp_path, new=""), shadowed.instance)
    assert days_to_run(shadowed.platform, shadowed.instance, FIRST, date(2026, 9, 3)) == []
    assert days_to_run(counted.platform, shadowed.instance, FIRST, date(2026, 9, 3)) == [FIRST, LAST]
    assert stale_causes(counted) == ["has a new dependency on raw/new"]
    counted.run(FIRST, LAST)
    assert stale_causes(counted) == []
    assert facts(counted) == {"old": [FIRST, LAST], "new": [FIRST, LAST]}
    assert billed(counted) == [(FIRST, Decimal(20), 2), (LAST, Decimal("39.5"), 2)]


@pytest.mark.long
def test_the_old_source_leaves_the_bill_when_it_becomes_the_shadow(shadowed: Graph, tmp_path: Path) -> None:
    """How a pipeline is turned off: the new one counts from now on, the old one stays for comparison."""
    shadowed.run(FIRST, LAST)
    swapped = Graph(settings(tmp_path, new="", old=", shadow_of: new"), shadowed.instance)
    assert days_to_run(swapped.platform, shadowed.instance, FIRST, date(2026, 9, 3)) == [FIRST, LAST]
    swapped.run(FIRST, LAST)
    assert facts(swapped) == {"new": [FIRST, LAST]}
    assert billed(swapped) == [(FIRST, Decimal(10), 1), (LAST, Decimal("19.5"), 1)]
    assert days_to_run(swapped.platform, shadowed.instance, FIRST, date(2026, 9, 3)) == []


@pytest.mark.long
def test_its_sensor_asks_for_raw_alone_and_that_of_its_source_has_it_judged_anew(
    shadowed: Graph, tmp_path: Path
) -> None:
    shadowed.run(FIRST, LAST)
    # The rest of the month costs nothing, as the bills were made after its end.
    [rest] = shadowed.asked("follow")
    assert rest.tags["dagster/asset_partition_range_start"] == "2026-09-03"
    assert shadowed.perform(rest).success

    def agree() -> dict[str, bool]:
        found = {day: passed for day, (passed, _) in verdicts(shadowed).items()}
        assert all(passed for day, passed in found.items() if day > "2026-09-02"), "neither side costs anything"
        return {day: passed for day, passed in found.items() if day <= "2026-09-02"}

    def after(source: str, *amounts: str) -> set[str]:
        """What is asked for, and run, when a source delivers."""
        deliver(tmp_path, source, *amounts)
        [land] = shadowed.asked(f"watch_{source}")
        assert shadowed.perform(land).success
        [days] = shadowed.asked("follow")
        assert AGREES in (days.asset_check_keys or ())
        assert shadowed.perform(days).success
        return {key.to_user_string() for key in days.asset_selection or ()}

    assert after("new", "10", "19.75") == {"raw/new"}
    assert after("old", "10", "19.5") == {"raw/old", "cloud_cost_facts", "daily_cost_by_team"}
    assert agree() == {"2026-09-01": True, "2026-09-02": False}
    assert after("new", "10", "19.5") == {"raw/new"}
    assert agree() == {"2026-09-01": True, "2026-09-02": True}


@pytest.mark.parametrize(
    ("new", "old", "said"),
    [
        (", shadow_of: older", "", r"sources\[1\].shadow_of.*found 'older'; allowed: old"),
        (", shadow_of: new", "", r"sources\[1\].shadow_of.*found 'new'; allowed: old"),
        (", shadow_of: old, required: true", "", r"sources\[1\].required.*holds no day"),
        (", shadow_of: old", ", shadow_of: new", r"there is none"),
    ],
)
def test_mistakes_in_the_settings_are_named(tmp_path: Path, new: str, old: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings(tmp_path, new, old)


def stale_causes(graph: Graph) -> list[str]:
    resolver = CachingStaleStatusResolver(
        graph.instance, graph.defs.get_repository_def().asset_graph, LoadingContextForTest(graph.instance)
    )
    return [cause.reason for cause in resolver.get_stale_causes(FACTS, FIRST.isoformat())]
