"""What a day without charges means: nothing, not yet, or missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo

import pytest

from finops_assets.ingest import raw_days
from finops_assets.ingest.cadence import AWAITED, COSTS_NOTHING, MISSING, Calendar, learnt
from finops_assets.storage.ledger import DayTotals, Generation
from finops_assets_tests.conftest import Site, focus_row

SEPTEMBER = date(2026, 9, 1)
PERIOD = ((SEPTEMBER, date(2026, 10, 1)),)
HELD = DayTotals(1, {}, {}, "")


def days(first: date, count: int, step: int = 1) -> list[date]:
    return [first + timedelta(days=n) for n in range(0, count, step)]


def delivery(
    scope: str,
    charged: Iterable[date],
    made: datetime,
    periods: Sequence[tuple[date, date]] = (),
    sectors: Sequence[tuple[str, str, bool]] = (),
    month_long: bool = False,
) -> Generation:
    held = dict.fromkeys(charged, HELD)
    return Generation(
        scope, "g", "live", made, made, rows=len(held), days=held, periods=tuple(periods), sectors=tuple(sectors),
        month_long=month_long,
    )  # fmt: skip


def at(day: date, hour: int = 12) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


NOW = at(date(2026, 11, 1))


def test_a_day_before_others_of_its_delivery_costs_nothing() -> None:
    calendar = Calendar([delivery("2026-09", [date(2026, 9, 4), date(2026, 9, 19)], at(date(2026, 9, 20)))])
    now = at(date(2026, 9, 20))
    assert calendar.of(date(2026, 9, 10), now).meaning == COSTS_NOTHING
    assert calendar.of(date(2026, 9, 1), now).why == "the source's first charge is of 2026-09-04"


def test_a_day_after_the_newest_charge_of_an_open_period_is_awaited_until_its_deadline() -> None:
    calendar = Calendar([delivery("2026-09", days(SEPTEMBER, 10), at(date(2026, 9, 11)))], deadline="08:00")
    day = date(2026, 9, 11)
    awaited = calendar.of(day, at(date(2026, 9, 12), 7))
    assert awaited.meaning == AWAITED
    assert "awaited since 2026-09-12, until 2026-09-12 08:00 UTC" in awaited.why
    assert calendar.of(day, at(date(2026, 9, 12), 8)).meaning == MISSING


def test_a_closed_period_has_no_days_that_are_missing_once_usage_has_settled() -> None:
    last = date(2026, 9, 30)
    sparse = [date(2026, 9, 4)]
    assert Calendar([delivery("2026-09", sparse, at(date(2026, 10, 1)))]).of(last, NOW).meaning == COSTS_NOTHING
    assert Calendar([delivery("2026-09", sparse, at(date(2026, 9, 29)))]).of(last, NOW).meaning == MISSING
    daily = days(SEPTEMBER, 29)
    assert Calendar([delivery("2026-09", daily, at(date(2026, 10, 1)))]).of(last, NOW).meaning == MISSING
    assert Calendar([delivery("2026-09", daily, at(date(2026, 10, 3)))]).of(last, NOW).meaning == COSTS_NOTHING


def test_a_file_stands_for_its_billing_period_where_it_is_the_only_one() -> None:
    made = at(date(2026, 10, 5))
    whole = delivery("bill.csv", [SEPTEMBER], made, PERIOD)
    assert Calendar([whole]).of(date(2026, 9, 20), NOW).meaning == COSTS_NOTHING
    pieces = [delivery(f"2026-09-{d.day:02}.csv", [d], made, PERIOD) for d in (SEPTEMBER, date(2026, 9, 3))]
    assert Calendar(pieces).of(date(2026, 9, 2), NOW).meaning == MISSING
    assert Calendar([pieces[0]]).of(date(2026, 9, 2), NOW).meaning == MISSING
    accounts = [delivery(name, [SEPTEMBER, date(2026, 9, 9)], made, PERIOD) for name in ("a.csv", "b.csv")]
    assert Calendar(accounts).of(date(2026, 9, 20), NOW).meaning == COSTS_NOTHING
    unknown = delivery("c.csv", [], made)
    assert Calendar([whole, unknown]).of(date(2026, 9, 20), NOW).meaning == MISSING


@pytest.mark.parametrize(("complete", "meaning"), [(True, COSTS_NOTHING), (False, MISSING)])
def test_recency_metadata_says_it_of_its_days(complete: bool, meaning: str) -> None:
    sectors = [("2026-09-11T00:00:00+00:00", "2026-09-12T00:00:00+00:00", complete)]
    calendar = Calendar([delivery("2026-09", days(SEPTEMBER, 10), at(date(2026, 9, 12)), sectors=sectors)])
    assert calendar.of(date(2026, 9, 11), NOW).meaning == meaning
    assert calendar.of(date(2026, 9, 12), NOW).meaning == MISSING


def test_cadences_are_learnt_from_enough_history() -> None:
    year = days(date(2026, 1, 1), 120)
    assert learnt(year).cadence == "daily"
    assert learnt([day for day in year if day.weekday() < 5]).cadence == "weekdays"
    assert learnt([day for day in year if day.day == 3]).cadence == "monthly"
    assert learnt(days(date(2026, 1, 1), 120, 9)).cadence == "irregular"
    assert learnt(year[:10]).cadence is None
    assert learnt([day for day in year if day.weekday() != 2]).cadence is None
    fortnight = [day for day in days(date(2026, 9, 7), 12) if day.weekday() < 5]
    assert learnt(fortnight).cadence == "weekdays"
    assert learnt(fortnight[:-1]).cadence is None, "nine working days"
    assert learnt([*fortnight[:-2], date(2026, 9, 18), date(2026, 9, 21)]).cadence is None, "one of them is missing"
    assert learnt([SEPTEMBER], month_long=True).cadence == "monthly"


def test_no_charge_is_due_on_days_outside_of_the_cadence() -> None:
    made = at(date(2026, 9, 5))
    monday, saturday = date(2026, 9, 7), date(2026, 9, 12)
    weekdays = Calendar([delivery("2026-09", [SEPTEMBER], made)], "weekdays")
    assert weekdays.of(saturday, NOW).meaning == COSTS_NOTHING
    assert weekdays.of(monday, NOW).meaning == MISSING
    assert Calendar([delivery("2026-09", [SEPTEMBER], made)], "irregular").of(monday, NOW).meaning == COSTS_NOTHING
    monthly = Calendar([delivery("2026-09", [SEPTEMBER], made, month_long=True)])
    assert monthly.of(monday, at(date(2026, 9, 8))).meaning == COSTS_NOTHING
    assert monthly.of(date(2026, 10, 1), at(date(2026, 11, 10))).meaning == AWAITED
    assert monthly.of(date(2026, 10, 1), at(date(2026, 11, 11))).meaning == MISSING


@pytest.mark.parametrize(("deadline", "waits"), [("23:00", True), ("11:00", False)])
def test_a_day_that_was_composed_as_awaited_has_changed_once_its_deadline_has_passed(
    site: Site, monkeypatch: pytest.MonkeyPatch, deadline: str, waits: bool
) -> None:
    class Noon(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return at(date(2026, 9, 4))

    monkeypatch.setattr(raw_days, "datetime", Noon)
    for day in days(SEPTEMBER, 2):
        site.put_csv(f"{day}.csv", focus_row(str(day)))
    wanted, lake, end = days(SEPTEMBER, 3), site.platform.lake, date(2026, 9, 4)
    site.run(*map(str, wanted[:2]))

    def changed(until: str, charged: Sequence[date] = ()) -> list[date]:
        return raw_days.changed_days(lake, site.source, SEPTEMBER, end, charged, charged, until)

    # Never composed: it is asked for where others have charges on it, and only once it is missing.
    missing = [] if waits else [wanted[2]]
    assert (changed(deadline), changed(deadline, wanted)) == ([], missing)
    raw_days.compose_days(lake, site.platform.settings.engine, site.source, wanted, "23:00")
    assert changed(deadline) == missing
    raw_days.compose_days(lake, site.platform.settings.engine, site.source, wanted, deadline)
    assert changed(deadline, wanted) == []
