"""Days without charges through sensors, graph and alerts: one that is not due is built, one that is due is late until it comes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest

from finops_assets.alerts.history import AlertHistory
from finops_assets.cost.coverage import coverage_of
from finops_assets.graph.sensors.alerts import tick
from finops_assets.settings.load import parse_settings
from finops_assets_tests.conftest import csv_text, focus_row
from finops_assets_tests.running import DIMENSIONS, Graph, persistent_instance

TODAY = datetime.now(UTC).date()
# Some days ago, as sensors know today's date: what they have built goes on until then, and is not to grow for ever.
MONDAY = TODAY - timedelta(days=TODAY.weekday() + 7)
TUESDAY, FRIDAY, SUNDAY = (MONDAY - timedelta(days=n) for n in (6, 3, 1))
SETTINGS = f"""
first_day: {TUESDAY}
lake: lake
warehouse: w.duckdb
published: p.duckdb
sources:
  - {{name: cloud, uri: cloud, layout: files, provider: Cloud, cadence: daily}}
  - {{name: vendor, uri: vendor, layout: files, provider: Vendor, cadence: weekdays, deadline: "09:00"}}
{DIMENSIONS}"""


def between(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def at(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime.combine(day, time(hour, minute), UTC)


def deliver(root: Path, source: str, *days: date) -> None:
    """A file of a day each, as of the morning after."""
    for day in days:
        tags = '{"department": "rnd", "team": "core"}'
        file = root / source / f"{day}.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text(csv_text([focus_row(str(day), ProviderName=source.title(), Tags=tags)]), encoding="utf-8")
        made = at(day + timedelta(days=1), 6).timestamp()
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

    def told(now: datetime) -> list[tuple[str, date | None, str]]:
        nonlocal cursor
        cursor, _ = tick(graph.platform, graph.instance, cursor, now, {}, lambda _: None)
        with AlertHistory.beside(graph.settings.warehouse).opened() as opened:
            return sorted((o.alert.key, o.alert.day, o.alert.severity) for o in opened.open_alerts().values())

    deliver(tmp_path, "cloud", *between(TUESDAY, SUNDAY))
    deliver(tmp_path, "vendor", *between(TUESDAY, FRIDAY - timedelta(days=1)))
    for source in ("cloud", "vendor"):
        graph.perform(graph.asked(f"watch_{source}")[0])
    # Until the deadline has passed nobody asks for Friday. It is late at once, whether a run has judged it or not.
    assert told(at(FRIDAY + timedelta(days=1), 8)) == []
    assert told(at(FRIDAY + timedelta(days=1), 9)) == [("late vendor", FRIDAY, "WARNING")]
    # It is long over: Friday is judged and held. The weekend costs nothing by the calendar, and is built.
    assert settle(graph)["vendor"] == {*between(TUESDAY, SUNDAY)}
    assert vendor(graph) == dict.fromkeys(between(TUESDAY, SUNDAY), "built") | {FRIDAY: "held"}
    missing = (f"check raw/vendor:complete {FRIDAY}", FRIDAY, "CRITICAL")
    assert missing in told(at(FRIDAY + timedelta(days=1), 9, 30))
    assert told(at(FRIDAY + timedelta(days=1), 9, 40)) == [missing], "one matter, one alert"
    assert settle(graph)["vendor"] == set(), "nor is it asked for again"
    # It comes: it alone is run, and the weekend after it is not late.
    deliver(tmp_path, "vendor", FRIDAY)
    deliver(tmp_path, "cloud", MONDAY)
    assert settle(graph)["vendor"] == {FRIDAY, MONDAY}
    assert vendor(graph) == dict.fromkeys(between(TUESDAY, SUNDAY), "built") | {MONDAY: "held"}
    charged = {day for day, provider in graph.rollup("charge_date, provider") if provider == "Vendor"}
    assert charged == {*between(TUESDAY, FRIDAY)}, "what is built of the weekend is no row"
