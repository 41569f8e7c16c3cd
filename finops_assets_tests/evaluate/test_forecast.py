"""The forecast: what is cleaned away, what is a gap, what is refused, that amounts stay exact, and its place in the graph."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.cost_series import FIRST as SERIES_FIRST
from benchmarks.cost_series import cost_series
from finops_assets.base.period import Period, period_of
from finops_assets.cli.program import app
from finops_assets.cost.accrual import REPORTED_ACCRUALS, create_views
from finops_assets.evaluate.forecast.expect import CANDIDATES, expected, month_place, winsorised
from finops_assets.evaluate.forecast.intervals import outlook
from finops_assets.evaluate.forecast.period import COLUMNS, current_month, forecasts
from finops_assets.evaluate.forecast.series import daily_series
from finops_assets_tests.running import Graph, persistent_instance, settings_for, small_estate

FIRST = date(2026, 9, 1)
KEY = "provider VARCHAR, department VARCHAR, team VARCHAR, environment VARCHAR, ServiceCategory VARCHAR, BillingCurrency VARCHAR"
MONEY = "DECIMAL(38, 18)"


@pytest.fixture
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(
            f"CREATE TABLE daily_cost_by_team (charge_date DATE, {KEY}, billed_cost {MONEY}, effective_cost {MONEY},"
            f" positive_effective_cost {MONEY}, row_count BIGINT)"
        )
        connection.execute(
            f"CREATE TABLE {REPORTED_ACCRUALS} (charge_date DATE, {KEY}, source VARCHAR, accrual_date DATE, is_apportioned BOOLEAN,"
            f" effective_cost {MONEY}, positive_effective_cost {MONEY}, reported_to TIMESTAMP)"
        )
        create_views(connection)
        yield connection


def book(
    connection: duckdb.DuckDBPyConnection, day: date, cost: str, team: str = "web", provider: str = "AWS", currency: str = "USD"
) -> None:  # fmt: skip
    connection.execute(
        "INSERT INTO daily_cost_by_team VALUES (?, ?, 'shop', ?, 'prod', 'Compute', ?, ?, ?, ?, 1)",
        [day, provider, team, currency, *[Decimal(cost)] * 3],
    )


def days(first: date, count: int) -> list[date]:
    return [first + timedelta(days=i) for i in range(count)]


def test_a_constant_cost_is_forecast_to_the_cent(warehouse: duckdb.DuckDBPyConnection) -> None:
    for day in days(FIRST, 50):  # up to 20 October
        book(warehouse, day, "10.000000000000000001")
    total = forecasts(warehouse, kinds=["total"]).frame().iloc[0]
    assert list(forecasts(warehouse).frame().columns) == list(COLUMNS)
    assert (total["period_start"], total["period_end"]) == (date(2026, 10, 1), date(2026, 11, 1))
    assert total["actual_to_date"] == Decimal("200.000000000000000020")
    assert total["forecast"] == Decimal("310.00")
    assert Decimal(309) < total["low95"] <= total["low80"] <= Decimal(310) <= total["high80"] <= total["high95"]
    assert isinstance(total["low80"], Decimal)


def test_a_held_day_is_no_fall(warehouse: duckdb.DuckDBPyConnection) -> None:
    held = {date(2026, 10, 5), date(2026, 10, 18), date(2026, 10, 19)}
    for day in days(FIRST, 50):
        if day not in held:
            book(warehouse, day, "10")
    total = forecasts(warehouse, kinds=["total"]).frame().iloc[0]
    assert total["actual_to_date"] == Decimal(170)
    assert total["days_missing"] == 3
    assert total["forecast"] == Decimal("310.00")


def test_a_late_provider_is_a_gap_and_one_that_is_gone_is_not(warehouse: duckdb.DuckDBPyConnection) -> None:
    for i, day in enumerate(days(FIRST, 50)):
        book(warehouse, day, "10")
        if i < 47:
            book(warehouse, day, "5", provider="Late")
        if i < 20:
            book(warehouse, day, "7", provider="Gone")
    series = daily_series(warehouse, ("provider",))
    assert series is not None
    of = {key[0]: series.costs[i] for i, key in enumerate(series.keys)}
    assert np.isnan(of["Late"][47:]).all()
    assert np.isfinite(of["AWS"]).all()
    assert (of["Gone"][20:] == 0).all()
    total = forecasts(warehouse, kinds=["total"]).frame().iloc[0]
    assert abs(total["forecast"] - 465) < 5  # what is gone moves the trend a little
    assert total["days_missing"] == 3


def test_what_others_cost_on_a_day_that_lacks_a_provider_is_not_taken_from_what_is_expected_of_it(
    warehouse: duckdb.DuckDBPyConnection,
) -> None:
    for i, day in enumerate(days(FIRST, 50)):  # up to 20 October
        book(warehouse, day, "900" if i == 48 else "10")
        if i < 47:
            book(warehouse, day, "5", provider="Late")
    total = forecasts(warehouse, kinds=["total"]).frame().iloc[0]
    assert total["days_missing"] == 3
    assert total["actual_to_date"] == Decimal(17 * 15 + 10 + 900 + 10)
    assert total["forecast"] == total["actual_to_date"] + 3 * 5 + 11 * 15
    assert total["low95"] <= total["low80"] <= total["forecast"]


def test_refused_below_two_weeks_with_the_reason(warehouse: duckdb.DuckDBPyConnection) -> None:
    for i, day in enumerate(days(FIRST, 40)):
        book(warehouse, day, "10")
        if i >= 27:
            book(warehouse, day, "3", team="new")
        if i >= 26:
            book(warehouse, day, "3", team="older")
    of = {row.key: row for row in forecasts(warehouse, kinds=["team"]).frame().itertuples()}
    assert of["shop / new"].refused == "13 days of history, 14 are needed"
    assert of["shop / new"].forecast is None
    assert of["shop / new"].actual_to_date == Decimal(30)
    assert of["shop / older"].refused is None
    assert of["shop / older"].forecast == Decimal("93.00")


def test_currencies_are_never_added(warehouse: duckdb.DuckDBPyConnection) -> None:
    for day in days(FIRST, 40):
        book(warehouse, day, "10")
        book(warehouse, day, "4", currency="EUR")
    table = forecasts(warehouse, kinds=["total"]).frame()
    assert dict(zip(table["currency"], table["forecast"])) == {"EUR": Decimal("124.00"), "USD": Decimal("310.00")}


def test_a_purchase_counts_once_and_is_not_carried_forward(warehouse: duckdb.DuckDBPyConnection) -> None:
    for day in days(FIRST, 50):
        book(warehouse, day, "10")
    book(warehouse, date(2026, 10, 14), "5000")
    total = forecasts(warehouse, kinds=["total"]).frame().iloc[0]
    assert total["actual_to_date"] == Decimal(5200)
    assert total["forecast"] == Decimal("5310.00")


def test_a_yearly_charge_stands_on_its_days(warehouse: duckdb.DuckDBPyConnection) -> None:
    for day in days(FIRST, 50):
        book(warehouse, day, "10")
    book(warehouse, FIRST, "730")
    parts = [(FIRST, False, Decimal(-730)), *((d, True, Decimal(2)) for d in days(FIRST, 365))]
    warehouse.executemany(
        f"INSERT INTO {REPORTED_ACCRUALS} VALUES ('2026-09-01', 'AWS', 'shop', 'web', 'prod', 'Compute', 'USD', 's', ?, ?, ?, 0, NULL)",
        parts,
    )
    total = forecasts(warehouse, kinds=["total"]).frame().iloc[0]
    assert total["actual_to_date"] == Decimal(240)
    assert total["forecast"] == Decimal("372.00")


def test_periods() -> None:
    assert period_of("2026-12") == Period(date(2026, 12, 1), date(2027, 1, 1))
    assert period_of("2026-Q4") == Period(date(2026, 10, 1), date(2027, 1, 1))
    assert period_of("2026") == Period(date(2026, 1, 1), date(2027, 1, 1))
    assert current_month(date(2026, 11, 1)) == period_of("2026-11")
    for wrong in ("2026-13", "2026-Q5", "November", "0000"):
        with pytest.raises(ValueError, match="a period is a month"):
            period_of(wrong)


def test_a_finished_period_is_what_it_was_and_a_far_one_is_refused(warehouse: duckdb.DuckDBPyConnection) -> None:
    for day in days(FIRST, 50):
        book(warehouse, day, "10")
    done = forecasts(warehouse, period_of("2026-09"), ["total"]).frame().iloc[0]
    assert (done["method"], done["forecast"], done["low95"]) == ("actual", Decimal(300), Decimal(300))
    ahead = forecasts(warehouse, period_of("2026-12"), ["total"]).frame().iloc[0]
    assert (ahead["actual_to_date"], ahead["forecast"]) == (0, Decimal("310.00"))
    with pytest.raises(ValueError, match="at most 400 are forecast"):
        forecasts(warehouse, period_of("2028"), ["total"]).frame()


def test_an_empty_rollup_has_no_forecast(warehouse: duckdb.DuckDBPyConnection) -> None:
    assert forecasts(warehouse).frame().empty


def test_weekdays_come_back() -> None:
    costs = np.array([[10.0 if (FIRST + timedelta(days=i)).weekday() < 5 else 4.0 for i in range(70)]])
    made = outlook(costs, FIRST, 14).days[0]
    wanted = [10.0 if (FIRST + timedelta(days=70 + i)).weekday() < 5 else 4.0 for i in range(14)]
    assert np.allclose(made, wanted)


def test_the_first_of_the_month_comes_back_once_it_was_seen_twice() -> None:
    costs = np.array([[50.0 if d.day == 1 else 10.0 for d in days(date(2026, 7, 15), 100)]])  # up to 22 October
    made = outlook(costs, date(2026, 7, 15), 12).days[0]
    assert made[9] == pytest.approx(50)  # 1 November
    assert np.allclose(np.delete(made, 9), 10)
    assert [month_place(date(2026, 2, d)) for d in (1, 24, 25, 28)] == [1, 24, -3, 0]


def test_spikes_are_cut_and_shifts_are_not() -> None:
    steady = 10 + 0.2 * np.sin(np.arange(56))
    spike, shift = steady.copy(), steady.copy()
    spike[50:52] += 40
    shift[46:] += 40
    cleaned = winsorised(np.array([spike, shift]))
    assert cleaned[0].max() < 12
    assert np.abs(cleaned[1] - shift).max() < 1


def test_a_cost_that_was_never_negative_is_not_forecast_to_be() -> None:
    costs = np.linspace(100, 1, 60)[None, :]
    assert expected(costs, FIRST, 28).shape == (len(CANDIDATES), 1, 28)
    assert (expected(costs, FIRST, 28) >= 0).all()
    assert (expected(-costs, FIRST, 28) < 0).any()


def test_intervals_hold_what_they_promise_on_series_of_every_shape() -> None:
    _, costs = cost_series(330, 4, seed=11)
    inside: dict[float, list[bool]] = {0.80: [], 0.95: []}
    error = naive = 0.0
    for origin in range(200, 303, 17):
        past, then = costs[:, :origin], costs[:, origin : origin + 28].sum(axis=1)
        made = outlook(past, SERIES_FIRST, 28)
        off = np.abs(made.days.sum(axis=1) - then)
        for level, found in inside.items():
            found.extend(off <= made.half[level])
        error += (off / then).sum()
        naive += (np.abs(past[:, -30:].mean(axis=1) * 28 - then) / then).sum()
    assert 0.70 < np.mean(inside[0.80]) < 0.90
    assert 0.87 < np.mean(inside[0.95]) <= 0.99
    assert error < naive


def test_a_longer_horizon_is_less_sure_and_gaps_do_not_break_it() -> None:
    _, costs = cost_series(200, 2, seed=3)
    costs[:, [60, 61, 120, 199]] = np.nan
    costs[0, :180] = np.nan
    near, far = outlook(costs, SERIES_FIRST, 7), outlook(costs, SERIES_FIRST, 60)
    for made in (near, far):
        assert np.isfinite(made.days).all()
        assert all(np.isfinite(h).all() and (h >= 0).all() for h in made.half.values())
    assert np.median(far.half[0.80] / near.half[0.80]) > 2
    assert (near.half[0.95] >= near.half[0.80]).all()


def test_few_past_forecasts_do_not_make_the_wide_interval_as_narrow_as_the_other() -> None:
    _, costs = cost_series(50, 1, seed=5)
    made = outlook(costs[:2], SERIES_FIRST, 12)
    assert (made.tested < 10).all()
    assert (made.half[0.95] > 1.5 * made.half[0.80]).all()


@pytest.mark.long
def test_the_asset_writes_the_table_and_the_command_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = date(2026, 8, 29), date(2026, 9, 12)
    small_estate(tmp_path, first, last, rows=600)
    with persistent_instance(tmp_path / "dagster") as instance:
        graph = Graph(settings_for(tmp_path, first), instance)
        assert graph.run(first, last).success
        graph.publish("forecast")
    with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
        kinds = dict(connection.execute("SELECT series, count(*) FROM forecast GROUP BY 1").fetchall())
        spent = connection.execute(
            "SELECT sum(accrued_cost) FROM daily_accrued_cost WHERE accrual_date >= '2026-09-01' AND BillingCurrency = 'USD'"
        ).fetchone()
        shown = connection.execute(
            "SELECT actual_to_date, forecast > actual_to_date, low95 <= forecast, forecast <= high95 FROM forecast"
            " WHERE series = 'total' AND currency = 'USD'"
        ).fetchall()
    assert set(kinds) == {"total", "department", "team", "service", "environment", "cost_center", "provider"}
    assert spent is not None
    assert shown == [(spent[0], True, True, True)]
    (tmp_path / "finops.yaml").write_text(
        f"first_day: {first}\nlake: lake\nwarehouse: warehouse.duckdb\npublished: published.duckdb\n"
        "sources: [{name: aws, uri: estate/aws, layout: aws-data-exports}]\n"
        "dimensions: {team: {keys: [team]}, department: {keys: [department]}}\n"
    )
    config = ["--config", str(tmp_path / "finops.yaml")]
    told = CliRunner().invoke(app, ["forecast", "--by", "team", *config, "--format", "csv"])
    assert told.exit_code == 0, told.output
    assert told.stdout.splitlines()[0] == ",".join(COLUMNS)
    assert len(told.stdout.splitlines()) == 1 + kinds["team"]
    assert "forecast" in CliRunner().invoke(app, ["forecast", *config]).stdout
    wrong = CliRunner().invoke(app, ["forecast", "--period", "soon", *config])
    assert wrong.exit_code == 1
