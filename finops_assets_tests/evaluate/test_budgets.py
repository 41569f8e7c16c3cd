"""Budgets: mistakes of the file, versions, what is spent and expected, who is told how often, and their place in the graph."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from dagster import AssetCheckEvaluation
from typer.testing import CliRunner

from finops_assets.alerts.alert import Alert, Observation
from finops_assets.alerts.dispatch import dispatch
from finops_assets.alerts.history import _SCHEMA, AlertHistory
from finops_assets.base.errors import ConfigError
from finops_assets.base.period import Period
from finops_assets.cli.program import app
from finops_assets.cost.accrual import REPORTED_ACCRUALS, create_views
from finops_assets.definitions import build_definitions
from finops_assets.evaluate.budgets.evaluate import CHANCES, Evaluation, evaluate, evaluations, keep
from finops_assets.evaluate.budgets.notices import budget_observations
from finops_assets.evaluate.budgets.plan import Budget, BudgetsError, read_budgets
from finops_assets.evaluate.budgets.review import review
from finops_assets.evaluate.budgets.versions import changes, enter, in_force, version_in_force
from finops_assets.graph.assets.budgets import budget_assets
from finops_assets.graph.run_range import QUIET
from finops_assets.graph.sensors.alerts import tick
from finops_assets.platform import Platform
from finops_assets.settings.alerts import Alerts, Severity, WebhookChannel
from finops_assets_tests.running import settings_for

NOW = datetime(2026, 10, 20, 6, tzinfo=UTC)
FIRST = date(2026, 8, 1)
KEY = "provider VARCHAR, department VARCHAR, team VARCHAR, environment VARCHAR, ServiceCategory VARCHAR, BillingCurrency VARCHAR"
MONEY = "DECIMAL(38, 18)"


@pytest.fixture
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        prepare(connection)
        yield connection


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        f"CREATE TABLE daily_cost_by_team (charge_date DATE, {KEY}, billed_cost {MONEY}, effective_cost {MONEY},"
        f" positive_effective_cost {MONEY}, row_count BIGINT)"
    )
    connection.execute(
        f"CREATE TABLE {REPORTED_ACCRUALS} (charge_date DATE, {KEY}, source VARCHAR, accrual_date DATE, is_apportioned BOOLEAN,"
        f" effective_cost {MONEY}, positive_effective_cost {MONEY}, reported_to TIMESTAMP)"
    )
    create_views(connection)


def book(
    connection: duckdb.DuckDBPyConnection, end: date, cost: str, team: str = "ios", currency: str = "EUR",
    first: date = FIRST, held: tuple[date, ...] = (), billed: str | None = None,
) -> None:  # fmt: skip
    """The same cost on each day from `first` to before `end`."""
    connection.executemany(
        "INSERT INTO daily_cost_by_team VALUES (?, 'AWS', 'mobile', ?, 'prod', 'Compute', ?, ?, ?, ?, 1)",
        [
            [first + timedelta(days=i), team, currency, Decimal(billed or cost), Decimal(cost), Decimal(cost)]
            for i in range((end - first).days)
            if first + timedelta(days=i) not in held
        ],
    )


def budget(amount: str, period: str = "month", team: str | None = "ios", **changes: object) -> Budget:
    made = Budget("mobile", team, period, "effective", "EUR", Decimal(amount))
    return replace(made, **changes)  # type: ignore[arg-type]


def judged(connection: duckdb.DuckDBPyConnection, *budgets: Budget) -> list[Evaluation]:
    enter(connection, budgets, NOW)
    made = evaluate(connection, in_force(connection), version_in_force(connection))
    assert made is not None
    return made[1]


# --- the file

HEADER = "department,team,period,from,to,basis,currency,amount,threshold\n"


def test_csv_and_yaml_say_the_same(tmp_path: Path) -> None:
    table = tmp_path / "b.csv"
    table.write_text(
        f"{HEADER} Mobile ,IOS,Month,,,,EUR,500.10,\nmobile,,2026-q4,,,billed,USD,0.000000000000000001,90%\n,,,"
        "2026-10-15,2026-12-01,,EUR,7,\n"
    )
    listed = tmp_path / "b.yaml"
    listed.write_text(
        "budgets:\n- {department: mobile, team: iOS, period: month, currency: EUR, amount: 500.10}\n"
        "- {department: mobile, period: 2026-Q4, basis: billed, currency: USD, amount: 0.000000000000000001, threshold: 90}\n"
        "- {from: 2026-10-15, to: 2026-12-01, currency: EUR, amount: 7}\n"
    )
    found = read_budgets(table)
    assert found == read_budgets(listed)
    assert [b.name for b in found] == [
        "mobile/ios month effective EUR",
        "mobile 2026-Q4 billed USD",
        "total 2026-10-15..2026-12-01 effective EUR",
    ]
    assert [b.amount for b in found] == [Decimal("500.10"), Decimal("0.000000000000000001"), Decimal(7)]
    assert [b.threshold for b in found] == [80, 90, 80]
    assert read_budgets(table, {"team": {"ios": "apple"}})[0].team == "apple"


def test_every_mistake_is_told_with_line_and_value(tmp_path: Path) -> None:
    file = tmp_path / "b.csv"
    file.write_text(
        f"{HEADER}mobile,ios,month,,,,EUR,500,\n,ios,mont,,,cash,eur,\"1,000\",0\nmobile,ios,month,,,,EUR,700,\n"
        "mobile,,,2026-10-01,2026-11-15,,EUR,3,\nmobile,,2026-11,,,,EUR,3,\nmobile,,2026-Q4,,,,EUR,3,\n"
        "mobile,,month,2026-10-01,2026-10-02,,EUR,1,\nmobile,,,2026-10-02,2026-10-01,,EUR,1,\nmobile,,,soon,,,EUR,1,\n"
    )  # fmt: skip
    with pytest.raises(BudgetsError) as error:
        read_budgets(file)
    said = [str(m) for m in error.value.mistakes]
    for expected in (
        "line 3, department: found ''; allowed: the department of team 'ios'",
        "line 3, basis: found 'cash'; allowed: effective, billed",
        "line 3, currency: found 'eur'",
        "line 3, amount: found '1,000'",
        "line 3, threshold: found '0'",
        "line 3, period: found 'mont'",
        "line 4, (budget): found 'mobile/ios month effective EUR' again, with 700 (line 2 has 500)",
        "line 6, period: found '2026-11', which shares days with '2026-10-01..2026-11-15' of line 5",
        "line 8, period: found 'month'",
        "line 9, to: found '2026-10-01'",
        "line 10, from: found 'soon'",
    ):
        assert any(text.startswith(expected) for text in said), (expected, said)
    assert not any(text.startswith("line 7") for text in said), "a quarter may hold what is in it"
    file.write_text("department,tem,currency\n")
    with pytest.raises(BudgetsError, match=r"tem: is not a known column; did you mean 'team'"):
        read_budgets(file)
    with pytest.raises(BudgetsError, match=r"no\.csv.*\n.*cannot be read"):
        read_budgets(tmp_path / "no.csv")


# --- versions


def test_versions_say_what_changed_when(warehouse: duckdb.DuckDBPyConnection) -> None:
    assert enter(warehouse, [budget("500"), budget("90", team="web")], NOW).version == 1
    same = enter(warehouse, [budget("500.00"), budget("90", team="web")], NOW + timedelta(days=1))
    assert (same.version, same.added, same.changed, same.removed) == (1, 0, 0, 0)
    moved = enter(warehouse, [budget("600"), budget("5", team=None)], NOW + timedelta(days=2))
    assert (moved.version, moved.added, moved.changed, moved.removed) == (2, 1, 1, 1)
    assert [(h.budget.team, h.budget.amount, h.since_version) for h in in_force(warehouse)] == [
        ("ios", 600, 2),
        (None, 5, 2),
    ]
    newest = changes(warehouse).frame()
    newest = newest[newest["version"] == 2]
    assert newest[["change", "amount", "amount_before"]].values.tolist() == [
        ["changed", 600, 500],
        ["added", 5, None],
        ["removed", 90, 90],
    ]
    large = budget("12345678901234567890.123456789012345678")
    enter(warehouse, [large], NOW)
    assert in_force(warehouse)[0].budget == large


# --- what is spent and expected


def test_severity_by_what_is_spent_and_expected(warehouse: duckdb.DuckDBPyConnection) -> None:
    book(warehouse, date(2026, 10, 20), "10")  # 190 spent, 310 expected
    limits = {"189": "CRITICAL", "300": "CRITICAL", "310": "INFO", "387.50": "INFO", "388": None}
    for amount, severity in limits.items():
        [found] = judged(warehouse, budget(amount))
        assert (found.spent, found.forecast, found.severity) == (190, Decimal("310.00"), severity), amount
        assert (found.through, found.version) == (date(2026, 10, 19), found.since_version)
    [sure] = judged(warehouse, budget("309.99", threshold=Decimal(50)))
    assert sure.severity == ("CRITICAL" if sure.low95 is not None and sure.low95 > sure.budget.amount else "WARNING")


def test_the_chance_follows_the_intervals() -> None:
    base = Evaluation(
        budget("1"), 1, 1, Period(date(2026, 10, 1), date(2026, 11, 1)), date(2026, 10, 19), Decimal(50),
        forecast=Decimal(100), low80=Decimal(90), high80=Decimal(110), low95=Decimal(80), high95=Decimal(120),
        days_missing=0, history_days=80, severity=None, reason="",
    )  # fmt: skip
    told = [replace(base, budget=budget(a)).chance for a in ("79", "85", "95", "105", "115", "121")]
    assert told == list(CHANCES)
    assert replace(base, through=date(2026, 10, 31)).chance is None


def test_held_days_are_no_fall_and_are_said(warehouse: duckdb.DuckDBPyConnection) -> None:
    book(warehouse, date(2026, 10, 20), "10", held=(date(2026, 10, 3), date(2026, 10, 4)))
    [found] = judged(warehouse, budget("320"))
    assert (found.spent, found.forecast, found.days_missing) == (170, Decimal("310.00"), 2)


def test_bases_and_currencies_stand_apart(warehouse: duckdb.DuckDBPyConnection) -> None:
    book(warehouse, date(2026, 10, 20), "10.000000000000000001", billed="7")
    book(warehouse, date(2026, 10, 20), "1000", currency="USD")
    effective, billed, department, dollars = judged(
        warehouse, budget("900"), budget("900", basis="billed"), budget("900", team=None), budget("1", currency="USD")
    )
    assert (effective.spent, billed.spent) == (Decimal("190.000000000000000019"), 133)
    assert department.spent == effective.spent
    assert (dollars.spent, dollars.severity) == (19_000, "CRITICAL")


def test_owners_without_cost_and_other_currencies_are_told(warehouse: duckdb.DuckDBPyConnection) -> None:
    book(warehouse, date(2026, 10, 20), "10")
    unknown, foreign = judged(warehouse, budget("9", team="iso"), budget("9", currency="GBP"))
    assert unknown.problem == "mobile/iso has no cost in the last 420 days; did you mean 'mobile/ios'?"
    assert foreign.problem == "mobile/ios has no cost in GBP; it is billed in EUR"
    assert unknown.severity is None


def test_little_history_is_judged_by_what_is_spent(warehouse: duckdb.DuckDBPyConnection) -> None:
    book(warehouse, date(2026, 10, 20), "10", first=date(2026, 10, 10))
    fine, near, over = judged(
        warehouse, budget("1000", period="quarter"), budget("120", period="2026-10"), budget("99", period="2026")
    )
    assert (fine.severity, near.severity, over.severity) == (None, "INFO", "CRITICAL")
    assert fine.forecast is None
    assert "10 days of history" in fine.reason


def test_periods_run_close_and_take_each_others_place(warehouse: duckdb.DuckDBPyConnection) -> None:
    book(warehouse, date(2026, 10, 4), "10")
    found = judged(
        warehouse, budget("400"), budget("900", period="quarter"), budget("450", period="2026-10"),
        budget("1", period="2026-08"), budget("50", period="2026-10-02..2026-10-06"), budget("9", period="2026-12"),
    )  # fmt: skip
    assert [(e.budget.period, e.period.first, e.spent) for e in found] == [
        ("month", date(2026, 9, 1), 300),  # closing; of October the certain month takes its place
        ("quarter", date(2026, 7, 1), 610),
        ("quarter", date(2026, 10, 1), 30),
        ("2026-10", date(2026, 10, 1), 30),
        ("2026-10-02..2026-10-06", date(2026, 10, 2), 20),
    ]
    assert found[0].over
    assert found[0].forecast == 300


def test_a_night_that_is_tried_again_stands_once(warehouse: duckdb.DuckDBPyConnection) -> None:
    book(warehouse, date(2026, 10, 20), "10")
    for hour in (0, 1):
        keep(warehouse, date(2026, 10, 19), judged(warehouse, budget("300")), NOW + timedelta(hours=hour))
    book(warehouse, date(2026, 10, 21), "10", first=date(2026, 10, 20))
    keep(warehouse, date(2026, 10, 20), judged(warehouse, budget("300")), NOW + timedelta(days=1))
    assert [*evaluations(warehouse, only_last=False).frame()["through"]] == [date(2026, 10, 19), date(2026, 10, 20)]
    assert [*evaluations(warehouse).frame()["spent"]] == [200]
    enter(warehouse, [budget("300", team="web")], NOW)
    assert evaluations(warehouse).frame().empty, "what was taken out of the file has no status"


# --- who is told


class Nights:
    """A published copy that gets one night after the other, and what is told of it."""

    def __init__(self, folder: Path, suppress_days: int = 7) -> None:
        self.published = folder / "p.duckdb"
        self.history = AlertHistory(folder / "a.sqlite")
        self.suppress_days = suppress_days
        self.channel = WebhookChannel(kind="webhook", url="http://127.0.0.1:9/", min_severity="INFO")
        with duckdb.connect(str(self.published)) as connection:
            prepare(connection)

    def night(self, day: date, *rows: tuple[Budget, Severity | None], version: int = 1) -> list[str]:
        """Enter a night and return the notices that it queued: event and key."""
        now, expected = datetime(day.year, day.month, day.day, 6, tzinfo=UTC) + timedelta(days=1), Decimal(100)
        with duckdb.connect(str(self.published)) as connection:
            enter(connection, [b for b, _ in rows], now)
            since = version_in_force(connection)
            keep(
                connection,
                day,
                [
                    Evaluation(
                        b, since, since, Period(date(2026, 10, 1), date(2026, 11, 1)), day, Decimal(50),
                        expected, expected, expected, expected, expected, 2, 80, severity, "as told",
                    )
                    for b, severity in rows
                ],
                now,
            )  # fmt: skip
        with self.history.opened() as opened:
            known = list(opened.open_alerts().values())
        seen = [*budget_observations(self.published, self.suppress_days, now, known)]
        before = self._notices()
        dispatch(self.history, Alerts(channels=(self.channel,)), seen, now, {})
        return [n for i, n in self._notices().items() if i not in before]

    def _notices(self) -> dict[int, str]:
        with self.history.opened(), sqlite3.connect(self.history.path) as connection:
            return {
                i: f"{event} {severity} {key}"
                for i, event, severity, key in connection.execute(
                    "SELECT notice_id, n.event, n.severity, alert_key FROM notices n JOIN alerts USING (alert_id)"
                )
            }

    def open(self) -> dict[str, Alert]:
        with self.history.opened() as opened:
            return {o.alert.key: o.alert for o in opened.open_alerts().values()}


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nights:
    monkeypatch.setattr("finops_assets.alerts.dispatch.send", lambda *_: "")
    return Nights(tmp_path)


IOS = "budget mobile/ios month effective EUR 2026-10-01"


def test_a_budget_is_told_once_by_severity_and_not_when_it_goes_to_and_fro(nights: Nights) -> None:
    one = budget("90")
    told = [nights.night(date(2026, 10, 5), (one, "WARNING"))]
    told.append(nights.night(date(2026, 10, 6), (one, None)))
    told.append(nights.night(date(2026, 10, 7), (one, "WARNING")))
    told.append(nights.night(date(2026, 10, 8), (one, "INFO")))
    told.append(nights.night(date(2026, 10, 9), (one, "CRITICAL")))
    told.append(nights.night(date(2026, 10, 10), (one, "CRITICAL")))
    assert told == [[f"open WARNING {IOS}"], [], [], [], [f"open CRITICAL {IOS}"], []]
    alert = nights.open()[IOS]
    assert (alert.department, alert.figures["spent"], alert.figures["amount"]) == ("mobile", "50", "90")
    assert "2 days are held or late, and expected as usual, not as 0" in alert.text
    calm = [nights.night(date(2026, 10, 10) + timedelta(days=i), (one, None)) for i in range(1, 8)]
    assert calm == [[]] * 6 + [[f"resolved INFO {IOS}"]]


def test_the_window_is_configured_and_a_changed_budget_begins_anew(tmp_path: Path) -> None:
    nights = Nights(tmp_path, suppress_days=1)
    assert nights.night(date(2026, 10, 5), (budget("90"), "WARNING")) == [f"open WARNING {IOS}"]
    assert nights.night(date(2026, 10, 6), (budget("90"), None)) == [f"resolved INFO {IOS}"]
    assert nights.night(date(2026, 10, 7), (budget("90"), "WARNING")) == [f"open WARNING {IOS}"]
    nights.suppress_days = 30
    assert nights.night(date(2026, 10, 8), (budget("200"), None)) == [f"resolved INFO {IOS}"]


@pytest.mark.long
def test_stable_budgets_come_in_a_weekly_digest_and_not_every_day(nights: Nights) -> None:
    rows: list[tuple[Budget, Severity]] = [(budget("90"), "WARNING"), (budget("95", team="web"), "INFO")]
    told = [nights.night(date(2026, 10, 1) + timedelta(days=i), *rows) for i in range(17)]
    digest = "budgets digest mobile"
    assert [len(t) for t in told] == [2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0]
    assert (told[7], told[14]) == ([f"open WARNING {digest}"], [f"reminder WARNING {digest}"])
    text = nights.open()[digest].text
    assert "- WARNING: mobile/ios" in text
    assert "- INFO: mobile/web" in text


def test_a_period_that_is_over_ends_its_alert(nights: Nights) -> None:
    nights.night(date(2026, 10, 30), (budget("90"), "WARNING"))
    with nights.history.opened() as opened:
        known = list(opened.open_alerts().values())
    later = datetime(2026, 11, 8, tzinfo=UTC)
    [seen] = budget_observations(nights.published, 7, later, known)
    assert (seen.key, seen.alert, seen.note) == (
        IOS, None, "The period is over: 50.00 of 90.00 EUR were spent (55.6 %).",
    )  # fmt: skip
    nothing = nights.published.with_name("none.duckdb")
    assert [*budget_observations(nothing, 7, later, known)] == []


def test_a_history_of_the_version_before_is_read_on(tmp_path: Path) -> None:
    history = AlertHistory(tmp_path / "a.sqlite")
    with sqlite3.connect(history.path) as connection:
        connection.executescript(_SCHEMA.replace("    note TEXT NOT NULL DEFAULT '',\n    reminders TEXT NOT NULL DEFAULT 'setting'\n", "    note TEXT NOT NULL DEFAULT ''\n"))  # fmt: skip
        assert "reminders" not in str(connection.execute("SELECT sql FROM sqlite_schema").fetchall())
        connection.execute("PRAGMA user_version = 1")
    with history.opened() as opened, opened.writing():
        opened.enter([Observation("k", NOW, Alert("k", "INFO", "t", "x", reminders="weekly"))])
    with history.opened() as opened:
        [found] = opened.open_alerts().values()
    assert found.alert.reminders == "weekly"


# --- the review


def test_the_review_lists_what_no_longer_fits(warehouse: duckdb.DuckDBPyConnection) -> None:
    book(warehouse, date(2026, 11, 5), "10", held=(date(2026, 9, 3),))
    enter(
        warehouse,
        [budget("290"), budget("600", team=None), budget("400", period="2026-11"), budget("9", team="gone"),
         budget("5", period="2026-09", currency="USD")],
        NOW,
    )  # fmt: skip
    rows: list[Any] = [*review(warehouse).frame().itertuples()]
    found = {row.budget: row for row in rows}
    low = found["mobile/ios month effective EUR"]
    assert low.why == "too low: each of the last 3 months is above it"
    # November's 30 days at each month's cost a day; the held day of September is not taken as 0.
    assert (low.month_1, low.month_2, low.month_3) == (300, 300, 300)
    assert low.suggested_amount == 330
    assert found["mobile month effective EUR"].why.startswith("too high: none of the last 3 months used 60% of it")
    assert found["mobile/gone month effective EUR"].why == "mobile/gone has had no cost in EUR for 30 days"
    assert found["mobile/ios 2026-09 effective USD"].why == "its period ended on 2026-09-30"
    assert "mobile/ios 2026-11 effective EUR" not in found


# --- in the graph


@pytest.mark.long
def test_the_assets_the_commands_and_a_file_with_a_mistake(tmp_path: Path) -> None:
    end = date(2026, 10, 20)
    file = tmp_path / "budgets.csv"
    file.write_text(f"{HEADER}mobile,ios,month,,,,EUR,5,\n,,month,,,,USD,1000000,\nmobile,iso,month,,,,EUR,5,\n")
    settings = settings_for(tmp_path, FIRST, "budgets: budgets.csv\n")
    platform = Platform(settings)
    assert settings.budgets is not None
    assets = budget_assets(settings.budgets, settings.owner)
    with platform.warehouse.writing() as connection:
        prepare(connection)
        book(connection, end, "10")
        book(connection, end, "10.000000000000000001", team="web", currency="USD")

    def run() -> dict[str, AssetCheckEvaluation]:
        result = dg.materialize(assets, resources={"platform": platform}, run_config=QUIET)
        assert result.success
        platform.warehouse.publish(platform.lake)
        return {e.check_name: e for e in result.get_asset_check_evaluations()}

    checks = run()
    with duckdb.connect(str(settings.published), read_only=True) as connection:
        status = {n: s for n, *s in connection.execute("SELECT budget, severity, spent FROM budget_status").fetchall()}
    assert status["mobile/ios month effective EUR"] == ["CRITICAL", 190]
    assert status["total month effective USD"] == [None, Decimal("190.000000000000000019")]
    assert checks["file_is_sound"].passed
    assert not checks["owners_are_known"].passed
    assert "did you mean 'mobile/ios'?" in (checks["owners_are_known"].description or "")
    file.write_text(f"{HEADER}mobile,ios,month,,,,EUR,much,\n")
    checks = run()
    assert not checks["file_is_sound"].passed
    assert "line 2, amount: found 'much'" in (checks["file_is_sound"].description or "")
    with duckdb.connect(str(settings.published), read_only=True) as connection:
        assert connection.execute("SELECT count(*), max(budgets_version) FROM budget_status").fetchall() == [(3, 1)]
    with dg.DagsterInstance.ephemeral() as instance:
        tick(platform, instance, None, NOW, {}, lambda _: None)
    with AlertHistory.beside(settings.warehouse).opened() as opened:
        told = {o.alert.key: o.alert.severity for o in opened.open_alerts().values()}
    assert told["budget mobile/ios month effective EUR 2026-10-01"] == "CRITICAL"
    assert not any("iso" in key or "USD" in key for key in told)

    keys = {spec.key.to_user_string() for spec in build_definitions(settings).resolve_all_asset_specs()}
    assert {"budgets", "budget_evaluations"} <= keys

    (tmp_path / "finops.yaml").write_text(
        f"first_day: {FIRST}\nlake: lake\nwarehouse: warehouse.duckdb\npublished: published.duckdb\n"
        "sources: [{name: aws, uri: estate/aws, layout: aws-data-exports}]\nbudgets: budgets.csv\n"
        "dimensions: {team: {keys: [team]}, department: {keys: [department]}}\n"
    )
    config = ["--config", str(tmp_path / "finops.yaml")]
    shown = CliRunner().invoke(app, ["budgets", "status", *config])
    assert shown.exit_code == 0, shown.output
    assert "CRITICAL" in shown.stdout
    assert CliRunner().invoke(app, ["budgets", "history", *config, "-f", "csv"]).stdout.count("added") == 3
    assert "too low" in CliRunner().invoke(app, ["budgets", "review", *config]).output
    wrong = CliRunner().invoke(app, ["budgets", "check", *config])
    assert wrong.exit_code == 1
    assert "line 2, amount" in wrong.output
    file.write_text(f"{HEADER}mobile,ios,month,,,,GBP,5,\n")
    right = CliRunner().invoke(app, ["budgets", "check", *config])
    assert right.exit_code == 0
    assert "line 2: mobile/ios has no cost in GBP" in " ".join(right.output.split())


def test_settings_of_budgets(tmp_path: Path) -> None:
    given = settings_for(tmp_path, FIRST, "budgets: {file: b.csv, suppress_days: 3}\n").budgets
    assert given is not None
    assert (given.file, given.suppress_days) == (tmp_path / "b.csv", 3)
    with pytest.raises(ConfigError, match=r"budgets\.file_: is not a known setting; did you mean 'file'"):
        settings_for(tmp_path, FIRST, "budgets: {file_: b.csv}\n")
