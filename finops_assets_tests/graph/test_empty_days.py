"""Days without charges through sensors, graph and alerts: one that is not due is built, one that is due is late until it comes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from finops_assets.alerts.history import AlertHistory
from finops_assets.cost.coverage import coverage_of
from finops_assets.graph.sensors.alerts import tick
from finops_assets.settings.load import parse_settings
from finops_assets_tests.conftest import csv_text, focus_row
from finops_assets_tests.running import DIMENSIONS, Graph, persistent_instance

TUESDAY, FRIDAY = date(2026, 9, 1), date(2026, 9, 4)
SUNDAY, MONDAY = date(2026, 9, 6), date(2026, 9, 7)
SETTINGS = f"""
first_day: 2026-09-01
lake: lake
warehouse: w.duckdb
published: p.duckdb
sources:
  - {{name: cloud, uri: cloud, layout: files, provider: Cloud, cadence: daily}}
  - {{name: vendor, uri: vendor, layout: files, provider: Vendor, cadence: weekdays, deadline: "09:00"}}
{DIMENSIONS}"""


def between(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def deliver(root: Path, source: str, *days: date) -> None:
    """A file of a day each, as of the morning after."""
    for day in days:
        tags = '{"department": "rnd", "team": "core"}'
        file = root / source / f"{day}.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text(csv_text([focus_row(str(day), ProviderName=source.title(), Tags=tags)]), encoding="utf-8")
        made = datetime(day.year, day.month, day.day, 6, tzinfo=UTC).timestamp() + 86_400
        os.utime(file, (made, made))


def settle(graph: Graph) -> dict[str, set[date]]:
    """What the sensors had run of raw, by source, until they asked for no more days; up to Monday, as they know today's date."""
    ran: dict[str, set[date]] = {"cloud": set(), "vendor": set()}
    for _ in range(8):
        requests = [r for s in ran for r in graph.asked(f"watch_{s}")]
        requests = requests or [r for r in graph.asked("follow") if r.job_name == "daily"]
        if not requests:
            return ran
        for request in requests:
            assert graph.perform(request).success
            ends = [request.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end")]
            for key in request.asset_selection or ():
                if key.path[0] == "raw":
                    ran[key.path[1]] |= {
                        d for d in between(*(date.fromisoformat(end) for end in ends if end)) if d <= MONDAY
                    }
    raise AssertionError("the sensors do not come to rest")


def vendor(graph: Graph) -> dict[date, str]:
    with graph.platform.warehouse.reading() as connection:
        return {c.day: c.state for c in coverage_of(connection) if c.source == "vendor" and c.day <= MONDAY}


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with persistent_instance(tmp_path / "dagster") as instance:
        yield Graph(parse_settings(SETTINGS, tmp_path / "finops.yaml"), instance)


@pytest.mark.long
def test_the_sensors_have_days_built_that_are_not_due_and_a_day_that_is_due_opens_an_alert_until_it_comes(
    graph: Graph, tmp_path: Path
) -> None:
    cursor = None

    def late(at: datetime) -> list[tuple[date | None, str]]:
        nonlocal cursor
        cursor, _ = tick(graph.platform, graph.instance, cursor, at, {}, lambda _: None)
        with AlertHistory.beside(graph.settings.warehouse).opened() as opened:
            alerts = [o.alert for o in opened.open_alerts().values()]
        assert {a.key for a in alerts} <= {"late vendor"}, "a day that is awaited opens no other alert"
        return [(a.day, a.severity) for a in alerts]

    deliver(tmp_path, "cloud", *between(TUESDAY, SUNDAY))
    deliver(tmp_path, "vendor", *between(TUESDAY, FRIDAY - timedelta(days=1)))
    ran = settle(graph)
    # Friday is due and not there: nobody asks for it. The weekend costs nothing by the calendar, and is built.
    assert ran["vendor"] == {*between(TUESDAY, SUNDAY)} - {FRIDAY}
    assert vendor(graph) == dict.fromkeys(between(TUESDAY, SUNDAY), "built") | {FRIDAY: "awaited"}

    assert late(datetime(2026, 9, 5, 8, 0, tzinfo=UTC)) == []
    assert late(datetime(2026, 9, 5, 9, 0, tzinfo=UTC)) == [(FRIDAY, "WARNING")]
    # It comes: it alone is run, and the weekend after it is not late.
    deliver(tmp_path, "vendor", FRIDAY)
    deliver(tmp_path, "cloud", MONDAY)
    assert settle(graph)["vendor"] == {FRIDAY}
    assert vendor(graph) == dict.fromkeys(between(TUESDAY, SUNDAY), "built") | {MONDAY: "awaited"}
    assert late(datetime(2026, 9, 7, 9, 0, tzinfo=UTC)) == []
    charged = {day for day, provider in graph.rollup("charge_date, provider") if provider == "Vendor"}
    assert charged == {*between(TUESDAY, FRIDAY)}, "what is built of the weekend is no row"
