"""Budgets, forecast and anomalies by dimensions beside department and team: what they name, and days that do not know it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pytest

from finops_assets.alerts.alert import Observation
from finops_assets.base.errors import ConfigError
from finops_assets.cost.accrual import REPORTED_ACCRUALS, create_views
from finops_assets.cost.rollup import TOO_MANY
from finops_assets.evaluate.anomalies.detect import episodes
from finops_assets.evaluate.anomalies.history import Anomaly, AnomalyHistory
from finops_assets.evaluate.anomalies.key import Key
from finops_assets.evaluate.anomalies.notices import anomaly_observations
from finops_assets.evaluate.anomalies.series import known_dimensions, limits_of, team_series
from finops_assets.evaluate.budgets.evaluate import BUDGET_EVALUATIONS, Evaluation, evaluate, evaluations, keep
from finops_assets.evaluate.budgets.notices import budget_observations
from finops_assets.evaluate.budgets.plan import Budget, BudgetsError, read_budgets
from finops_assets.evaluate.budgets.review import review
from finops_assets.evaluate.budgets.versions import BUDGETS_TABLE, enter, in_force, version_in_force
from finops_assets.evaluate.forecast.series import daily_series
from finops_assets.settings.anomalies import Anomalies
from finops_assets.tables import ddl
from finops_assets_tests.conftest import Site

NOW = datetime(2026, 10, 20, 6, tzinfo=UTC)
FIRST, END = date(2026, 7, 1), date(2026, 10, 20)
ROLLUP = "daily_cost_by_team"


def prepared(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    for table in (ROLLUP, REPORTED_ACCRUALS):
        ddl.create(connection, table, dimensions=["cost_center"])
    create_views(connection, dimensions=["cost_center"])
    return connection


@pytest.fixture
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield prepared(connection)


def book(
    connection: duckdb.DuckDBPyConnection, cost: int, center: str | None, team: str = "ios", environment: str = "prod",
    first: date = FIRST, end: date = END,
) -> None:  # fmt: skip
    connection.execute(
        f"""
        INSERT INTO {ROLLUP} BY NAME
        SELECT CAST($first + CAST(range AS INTEGER) AS DATE) AS charge_date, 'AWS' AS provider, 'mobile' AS department,
            $team AS team, $environment AS environment, $center AS cost_center, 'Compute' AS ServiceCategory,
            'EUR' AS BillingCurrency, $cost AS billed_cost, $cost AS effective_cost, $cost AS positive_effective_cost,
            1 AS row_count
        FROM range($days)
        """,
        {
            "first": first, "team": team, "environment": environment, "center": center, "cost": cost,
            "days": (end - first).days,
        },
    )  # fmt: skip


def judged(connection: duckdb.DuckDBPyConnection, *budgets: Budget) -> list[Evaluation]:
    enter(connection, budgets, NOW)
    made = evaluate(connection, in_force(connection), version_in_force(connection))
    assert made is not None
    return made[1]


def of(amount: int, department: str | None = None, **others: str) -> Budget:
    return Budget(department, None, "month", "effective", "EUR", Decimal(amount), others=others)


def test_a_budget_names_any_dimension_and_all_that_are_given_hold(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    book(warehouse, 10, "cc-7")
    book(warehouse, 20, "cc-7", team="web", environment="dev")
    book(warehouse, 40, "cc-8", environment="dev")
    file = tmp_path / "b.csv"
    file.write_text(
        "Environment,department,cost_center,period,currency,amount\n,,CC-7,month,EUR,900\nDevelopment,mobile,cc-7,month,EUR,1000\n"
        "dev,,,month,EUR,2000\n,,,month,EUR,2170\n"
    )
    budgets = read_budgets(file, {"environment": {"development": "dev"}}, ["department", "team", "cost_center"])
    assert [b.owner for b in budgets] == [
        "cost_center=cc-7", "mobile, environment=dev, cost_center=cc-7", "environment=dev", "total",
    ]  # fmt: skip
    found = judged(warehouse, *budgets)
    assert [(e.spent, e.forecast) for e in found] == [
        (570, Decimal("930.00")), (380, Decimal("620.00")), (1140, Decimal("1860.00")), (1330, Decimal("2170.00")),
    ]  # fmt: skip
    keep(warehouse, END, found, NOW)
    assert in_force(warehouse)[1].budget == budgets[1]
    kept = warehouse.execute(
        f"SELECT department, team, dimensions->>'cost_center' FROM {BUDGET_EVALUATIONS} ORDER BY rowid"
    ).fetchall()
    assert kept == [(None, None, "cc-7"), ("mobile", None, "cc-7"), (None, None, None), (None, None, None)]
    told = review(warehouse).frame()
    assert [*told["budget"]] == [f"{b.owner} month effective EUR" for b in (budgets[0],)], "930 a month is above 900"


def test_mistakes_of_dimensions_are_told(warehouse: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    file = tmp_path / "b.csv"
    file.write_text("cost_centre,period,currency,amount\ncc-7,month,EUR,900\n")
    with pytest.raises(BudgetsError, match=r"cost_centre: is not a known column; did you mean 'cost_center'\?"):
        read_budgets(file, {}, ["cost_center"])
    book(warehouse, 10, "cc-7")
    unknown, later = judged(warehouse, of(9, cost_center="cc-9"), of(9, project="x"))
    assert unknown.problem == "cost_center=cc-9 has no cost in the last 420 days; did you mean 'cost_center=cc-7'?"
    assert later.problem == "project=x has no cost in the last 420 days", "a dimension that no day was built with"


def test_days_that_do_not_know_the_dimension_are_no_fall(warehouse: duckdb.DuckDBPyConnection) -> None:
    changed, many, after = date(2026, 10, 5), date(2026, 10, 10), date(2026, 10, 11)
    book(warehouse, 10, "cc-7", end=date(2026, 10, 1))
    book(warehouse, 10, None, first=date(2026, 10, 1), end=changed)
    book(warehouse, 10, "cc-7", first=changed, end=many)
    book(warehouse, 10, TOO_MANY, first=many, end=after)
    book(warehouse, 10, "cc-7", first=after)
    [found] = judged(warehouse, of(310, cost_center="cc-7"))
    assert (found.spent, found.days_missing, found.forecast) == (140, 5, Decimal("310.00"))
    assert "4 days were built before finops.yaml had cost_center" in found.reason
    assert "on 1 days cost_center has too many values" in found.reason
    series = daily_series(warehouse, ("cost_center",))
    assert series is not None
    values, together = (series.costs[series.keys.index((name,))] for name in ("cc-7", TOO_MANY))
    at = (many - FIRST).days
    assert np.isnan(values[at])
    assert values[at - 1] == 10
    assert np.flatnonzero(np.isfinite(together)).tolist() == [at]


def test_an_alert_names_the_dimension(tmp_path: Path) -> None:
    published = tmp_path / "p.duckdb"
    with duckdb.connect(str(published)) as connection:
        book(prepared(connection), 10, "cc-7")
        keep(connection, END - timedelta(days=1), judged(connection, of(100, cost_center="cc-7")), NOW)
    [seen] = [o for o in budget_observations(published, 7, NOW, []) if isinstance(o, Observation) and o.alert]
    assert seen.alert is not None
    assert seen.alert.title == "budget cost_center=cc-7, 2026-10: 190.0 % of the budget are spent"
    assert seen.alert.department is None


def test_tables_of_a_version_before_are_read_and_carried_on(warehouse: duckdb.DuckDBPyConnection) -> None:
    book(warehouse, 10, "cc-7")
    keep(warehouse, END - timedelta(days=1), judged(warehouse, of(400, department="mobile")), NOW)
    for table in (BUDGETS_TABLE, "budget_changes", BUDGET_EVALUATIONS):
        warehouse.execute("DROP VIEW IF EXISTS budget_status")
        warehouse.execute(f"ALTER TABLE {table} DROP COLUMN dimensions")
    assert [held.budget.owner for held in in_force(warehouse)] == ["mobile"]
    assert [*evaluations(warehouse).frame()["dimensions"]] == [None]
    keep(
        warehouse,
        END,
        judged(warehouse, of(400, department="mobile"), of(500, cost_center="cc-7")),
        NOW + timedelta(days=1),
    )
    assert [*evaluations(warehouse).frame()["dimensions"]] == [None, '{"cost_center": "cc-7"}']


# --- anomalies


def test_series_of_anomalies_are_told_apart_by_more_dimensions(warehouse: duckdb.DuckDBPyConnection) -> None:
    spike = END - timedelta(days=3)
    book(warehouse, 1000, "cc-7")
    book(warehouse, 20, "cc-8")
    book(warehouse, 60, "cc-8", first=spike, end=spike + timedelta(days=1))
    by = known_dimensions(warehouse, ["cost_center", "project"])
    assert by == ("cost_center",), "no day was built with the other one"
    settings = Anomalies(by=("cost_center",), overrides=({"cost_center": "cc-7", "sigma": 9},))  # type: ignore[arg-type]
    found = {}
    for dimensions in ((), by):
        series = team_series(warehouse, dimensions)
        assert series is not None
        limits = limits_of(series.keys, settings)
        found[dimensions] = [series.keys[e.place] for e in episodes(series.costs, series.first, limits)]
    assert found[()] == [], "6 % of the team's cost"
    assert found[by] == [Key("mobile", "ios", "Compute", "EUR", others=(("cost_center", "cc-8"),))]
    assert limits.sigma.tolist() == [9, 2.5]


def test_a_day_that_does_not_know_the_dimension_is_a_gap_of_its_series(warehouse: duckdb.DuckDBPyConnection) -> None:
    changed = END - timedelta(days=30)
    book(warehouse, 1000, None, end=changed)
    book(warehouse, 1000, "cc-7", first=changed)
    series = team_series(warehouse, ("cost_center",))
    assert series is not None
    assert [key.owner for key in series.keys] == ["mobile/ios, cost_center=cc-7"]
    assert np.isnan(series.costs[0, : (changed - FIRST).days]).all()
    assert np.isfinite(series.costs[0, (changed - FIRST).days :]).all()


def test_anomalies_keep_their_dimensions_and_files_of_before_are_carried_on(tmp_path: Path) -> None:
    day = date(2026, 10, 1)
    key = Key("mobile", "ios", "Compute", "EUR")
    plain = Anomaly(key, 1, "spike", day, day, day, 1, Decimal(60), Decimal(20), 9.0, NOW, NOW)
    file = AnomalyHistory.beside(tmp_path / "w.duckdb")
    file.put([plain])
    assert plain.id == "ed36acf01d", "as it was before other dimensions could be named"
    with closing(sqlite3.connect(file.path)) as connection:
        connection.execute("ALTER TABLE anomalies DROP COLUMN dimensions")
        connection.execute("PRAGMA user_version = 1")
    of_center = replace(plain, key=replace(key, others=(("cost_center", "cc-7"),)))
    file.put([of_center])
    assert {a.id: a.key for a in file.all()} == {plain.id: plain.key, of_center.id: of_center.key}
    titles = [o.alert.title for o in anomaly_observations(tmp_path / "w.duckdb", Anomalies(), NOW, []) if o.alert]
    assert any(title.startswith("mobile/ios, cost_center=cc-7, Compute: 40.00 EUR") for title in titles)


def test_mistakes_in_the_dimensions_of_anomalies_are_told(tmp_path: Path) -> None:
    def read(anomalies: str) -> Anomalies:
        return Site(
            tmp_path, extra=f"  cost_center: {{keys: [cc]}}\nanomalies: {anomalies}\n"
        ).platform.settings.anomalies

    made = read("{by: cost_center, overrides: [{cost_center: cc-7, sigma: 4}]}")
    assert (made.by, made.overrides[0].others) == (("cost_center",), {"cost_center": "cc-7"})
    with pytest.raises(ConfigError, match=r"anomalies\.by: found 'cost_centre'; did you mean 'cost_center'\?"):
        read("{by: [cost_centre]}")
    with pytest.raises(ConfigError, match=r"series are told apart by it once anomalies\.by names it"):
        read("{overrides: [{cost_center: cc-7, sigma: 4}]}")
