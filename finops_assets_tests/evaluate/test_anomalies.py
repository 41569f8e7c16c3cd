"""Anomalies: what is one and what is none, told once, with its cause; verdicts and what follows from them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.cost_series import FIRST as SERIES_FIRST
from benchmarks.cost_series import cost_series, inject, told_series
from finops_assets.alerts.alert import Observation, OpenAlert
from finops_assets.alerts.history import AlertHistory
from finops_assets.base.errors import ConfigError
from finops_assets.cli.program import app
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.facts import build_facts
from finops_assets.demo import Estate, EstateSpec, Incident
from finops_assets.demo.plan import SURGING
from finops_assets.evaluate.anomalies.detect import LEVEL_FROM, Episode, Limits, episodes
from finops_assets.evaluate.anomalies.evaluate import Looked, look
from finops_assets.evaluate.anomalies.history import Anomaly, AnomalyError, AnomalyHistory, reconcile
from finops_assets.evaluate.anomalies.key import Key
from finops_assets.evaluate.anomalies.notices import anomaly_observations
from finops_assets.evaluate.anomalies.rates import rates, supported_sigma
from finops_assets.evaluate.anomalies.series import limits_of, team_series
from finops_assets.graph.assets.anomalies import anomaly_assets
from finops_assets.graph.assets.report_tables import IO_MANAGER, ReportTables
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.platform import Platform
from finops_assets.settings.anomalies import Anomalies, AnomalyLimits
from finops_assets_tests.conftest import Site, focus_row
from finops_assets_tests.running import settings_for

MONDAY = date(2026, 6, 1)
NOW = datetime(2026, 9, 8, 9, tzinfo=UTC)


def found(costs: Any, **limits: float) -> list[Episode]:
    matrix = np.atleast_2d(np.asarray(costs, dtype=np.float64))
    return episodes(matrix, MONDAY, Limits.same(len(matrix), **limits))


def steady(days: int, level: float = 100.0, weekend: float = 1.0, noise: float = 0.02) -> Any:
    random = np.random.default_rng(3)
    shape = np.array([weekend if (MONDAY + timedelta(days=i)).weekday() >= 5 else 1.0 for i in range(days)])
    return level * shape * np.exp(random.normal(0, noise, days))


def test_a_spike_is_one_anomaly_of_one_day() -> None:
    costs = steady(80)
    costs[60] = 200
    [spike] = found(costs)
    assert (spike.first, spike.last, spike.direction, spike.kind, spike.ended) == (60, 60, 1, "spike", "normal")
    assert spike.expected == pytest.approx(100, rel=0.05)
    assert spike.seen_over == 62


def test_quiet_weekends_are_no_falls_and_a_busy_one_is_a_spike() -> None:
    costs = steady(90, weekend=0.2)
    assert found(costs) == []
    saturday = 75
    assert (MONDAY + timedelta(days=saturday)).weekday() == 5
    costs[saturday] = 60
    [busy] = found(costs)
    assert (busy.first, busy.direction) == (saturday, 1)


def test_weekends_without_any_cost_are_known_too() -> None:
    costs = steady(90, weekend=0.0)
    assert found(costs) == []
    costs[75] = 100
    costs[79] = 0
    assert [(e.first, e.direction) for e in found(costs)] == [(75, 1), (79, -1)]


def test_a_shift_is_told_once_and_becomes_the_level() -> None:
    costs = steady(120)
    costs[60:] *= 1.6
    [shift] = found(costs)
    assert (shift.first, shift.kind, shift.ended) == (60, "shift", "level")
    assert shift.days == LEVEL_FROM
    assert shift.seen_over == 60 + LEVEL_FROM - 1


def test_a_shift_that_ends_is_told_once() -> None:
    costs = steady(100)
    costs[60:70] *= 0.4
    [shift] = found(costs)
    assert (shift.first, shift.last, shift.direction, shift.ended) == (60, 69, -1, "normal")


def test_an_anomaly_of_the_newest_day_is_open() -> None:
    costs = steady(60)
    costs[-1] = 300
    [spike] = found(costs)
    assert (spike.first, spike.ended) == (59, None)


def test_gaps_are_no_falls_and_do_not_end_an_anomaly() -> None:
    costs = steady(80)
    costs[50:55] = np.nan
    assert found(costs) == []
    costs[60:66] *= 2
    costs[62] = np.nan
    [shift] = found(costs)
    assert (shift.first, shift.last, shift.days) == (60, 65, 5)


def test_what_comes_each_month_is_expected_from_the_third_time_on() -> None:
    days = [SERIES_FIRST + timedelta(days=i) for i in range(240)]
    costs = steady(240)
    costs += [500 if d.day == 1 else 0 for d in days]
    matrix = costs[None, :]
    strange = [days[e.first] for e in episodes(matrix, SERIES_FIRST, Limits.same(1))]
    assert all(day < date(2025, 12, 1) for day in strange)
    later = costs.copy()
    first_of_april = days.index(date(2026, 4, 1))
    later[first_of_april] = 100
    assert first_of_april in [
        e.first for e in episodes(later[None, :], SERIES_FIRST, Limits.same(1)) if e.direction < 0
    ]


def test_a_deviation_must_exceed_sigma_amount_and_percent() -> None:
    costs = steady(80)
    costs[60] = 140
    assert len(found(costs)) == 1
    assert found(costs, sigma=50) == []
    assert found(costs, amount=50) == []
    assert found(costs, share=0.5) == []


def test_a_noisy_series_has_to_surprise_more() -> None:
    quiet, noisy = steady(120), steady(120, noise=0.25)
    quiet[100] = noisy[100] = 160
    rows = {e.place for e in found(np.vstack([quiet, noisy])) if e.first == 100}
    assert rows == {0}


def test_nothing_is_judged_in_the_first_two_weeks() -> None:
    costs = steady(30)
    costs[10] = 500
    assert found(costs) == []


def test_a_sparse_series_is_compared_with_its_largest_day_and_has_no_falls() -> None:
    random = np.random.default_rng(1)
    costs = 100.0 * (random.random(200) < 0.2)
    assert [e for e in found(costs) if e.first > 60] == []
    costs[150] = 250
    assert [e.first for e in found(costs) if e.first > 60] == [150]


def test_a_cost_out_of_nothing_is_an_anomaly() -> None:
    costs = np.zeros(60)
    costs[40:] = 50
    [new] = found(costs)
    assert (new.first, new.direction, new.ended) == (40, 1, "level")
    assert found(np.where(np.arange(60) < 40, 0, 5.0)) == []


def test_every_day_is_judged_by_the_days_before_it_alone() -> None:
    _, costs = cost_series(200, 1)
    whole = episodes(costs, SERIES_FIRST, Limits.same(len(costs)))
    for end in (120, 150):
        part = episodes(costs[:, :end], SERIES_FIRST, Limits.same(len(costs)))
        seen = {(e.place, e.first, e.direction) for e in whole if e.first < end}
        assert {(e.place, e.first, e.direction) for e in part} == seen


def test_the_injector_changes_what_it_says_and_the_series_are_those_of_the_forecast() -> None:
    kinds, plain, _ = told_series(200, 2)
    assert (kinds, plain.tolist()) == (cost_series(200, 2)[0], cost_series(200, 2)[1].tolist())
    costs, put = inject(plain, 100, 150, seed=1)
    for anomaly in put:
        row = costs[anomaly.row] / np.where(plain[anomaly.row] == 0, np.nan, plain[anomaly.row])
        assert np.nanmax(np.abs(row[: anomaly.day] - 1), initial=0) == 0
        if anomaly.kind != "drift":
            assert row[anomaly.day] == pytest.approx(1 + anomaly.size)


def test_the_first_override_that_fits_gives_its_limits() -> None:
    settings = Anomalies(
        sigma=2.5,
        overrides=(
            AnomalyLimits(team="web", service="Storage", min_amount=200),
            AnomalyLimits(team="web", sigma=3.5, min_percent=40),
            AnomalyLimits(resource="i-1", sigma=9),
        ),
    )
    keys = [Key("d", "web", "Storage", "USD"), Key("d", "web", "Compute", "USD"), Key("d", "x", "Compute", "USD")]
    keys.append(Key("d", "x", "Compute", "USD", "aws", "i-1"))
    limits = limits_of(keys, settings)
    assert limits.sigma.tolist() == [2.5, 3.5, 2.5, 9]
    assert limits.amount.tolist() == [200, 10, 10, 10]
    assert limits.share.tolist() == [0.25, 0.4, 0.25, 0.25]


def test_mistakes_in_the_settings_are_told_with_what_is_allowed(tmp_path: Path) -> None:
    extra = "anomalies: {sigm: 3, overrides: [{sigma: 3}, {team: a, min_amont: 3}]}\n"
    with pytest.raises(ConfigError) as wrong:
        _ = Site(tmp_path, extra=extra).platform
    told = str(wrong.value)
    assert "did you mean 'sigma'" in told
    assert "says of nothing what it holds for" in told
    assert "did you mean 'min_amount'" in told


# A bill of two months with one event a team on its last three days, 28 to 30 August.

FIRST, LAST = date(2026, 7, 1), date(2026, 8, 30)
EVENT = date(2026, 8, 28)
TEAMS = ["quantity", "price", "arrival", "purchase", "commitment", "moved", "credit", "gone", "steady", "uncounted"]


def rows_of(day: date, restated: Decimal | None = None) -> Iterable[dict[str, Any]]:
    now = day >= EVENT

    def row(team: str, cost: str, resource: str = "", quantity: str = "10", **changes: Any) -> dict[str, Any]:
        base = {
            "ResourceId": resource or f"{team}-1",
            "ResourceName": f"name of {resource or team}",
            "SubAccountId": "77",
            "SubAccountName": "shop",
            "ConsumedQuantity": quantity,
            "ConsumedUnit": "Hours",
            "SkuId": "S1",
            "PricingCategory": "Standard",
            "CommitmentDiscountId": "",
            "CommitmentDiscountStatus": "",
            "CommitmentDiscountType": "",
            "CommitmentDiscountCategory": "",
            "EffectiveCost": cost,
            "BilledCost": cost,
            "Tags": json.dumps({"team": team, "dept": "shop"}),
        }
        return focus_row(day.isoformat(), **(base | changes))

    covered = {
        "PricingCategory": "Committed",
        "CommitmentDiscountId": "sp-1",
        "CommitmentDiscountStatus": "Used",
        "CommitmentDiscountType": "Savings Plan",
        "CommitmentDiscountCategory": "Spend",
    }
    wobble = Decimal(day.toordinal() % 7) / 10
    yield row("quantity", str((400 if now else 100) + wobble), quantity="40" if now else "10")
    yield row("price", str((300 if now else 100) + wobble))
    no_quantities = dict.fromkeys(("ConsumedUnit", "PricingQuantity", "PricingUnit"), "")
    yield row("uncounted", str((400 if now else 100) + wobble), quantity="", **no_quantities)
    yield row("arrival", str(100 + wobble))
    if now:
        yield row("arrival", "250.123456789", "arrival-2")
    yield row("purchase", str(100 + wobble))
    if day == EVENT:
        yield row(
            "purchase", "900", "licence", "", ChargeCategory="Purchase", ConsumedUnit="", PricingCategory="Standard"
        )
    yield row("commitment", str((260 if now else 100) + wobble), **({} if now else covered))
    yield row("moved", str(100 + wobble))
    yield row("moved" if now else "steady", "200", "wanderer")
    yield row("credit", str(100 + wobble))
    if now:
        yield row("credit", "-90", "", "", ChargeCategory="Credit", ConsumedUnit="", PricingCategory="")
    yield row("gone", str(100 + wobble))
    if not now:
        yield row("gone", "150", "gone-2")
    yield row("steady", str(restated if restated is not None else 100 + wobble))


def days(first: date, last: date) -> list[str]:
    return [(first + timedelta(days=i)).isoformat() for i in range((last - first).days + 1)]


def deliver(site: Site, restated: dict[date, Decimal] | None = None, first: date = FIRST, last: date = LAST) -> None:
    """The bill of these days; if days are restated, only they are run."""
    for month in sorted({first.month, last.month}):
        of_month = [d for d in map(date.fromisoformat, days(first, last)) if d.month == month]
        site.put_csv(f"{month}.csv", *(row for d in of_month for row in rows_of(d, (restated or {}).get(d))))
    site.run_all(*(map(str, restated) if restated else days(first, last)))


def look_at(site: Site, now: datetime = NOW) -> Looked:
    with site.platform.warehouse.reading() as connection:
        return look(site.platform, connection, now)


def history(site: Site) -> AnomalyHistory:
    return AnomalyHistory.beside(site.platform.settings.warehouse)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site(tmp_path_factory.mktemp("anomalies"), extra="anomalies: {resource_floor: 1000}\n")
    deliver(made)
    look_at(made)
    return made


def of_team(site: Site, team: str) -> Anomaly:
    [anomaly] = [a for a in history(site).all() if a.key.team == team]
    return anomaly


@pytest.mark.parametrize(
    ("team", "cause", "excess"),
    [
        ("quantity", "quantity", 900),
        ("price", "price", 600),
        ("arrival", "new resource", 750),
        ("purchase", "one-off purchase", 900),
        ("commitment", "commitment expired", 480),
        ("moved", "owner changed", 600),
        ("credit", "credit, tax or correction", -270),
        ("gone", "resource gone", -450),
        ("steady", "owner changed", -600),
        # The bill gives no quantities: it may be the price as well.
        ("uncounted", "unclear", 900),
    ],
)
def test_the_cause_is_told_from_the_columns_of_the_facts(site: Site, team: str, cause: str, excess: int) -> None:
    anomaly = of_team(site, team)
    assert anomaly.cause == cause, anomaly.evidence
    assert anomaly.first_day == EVENT
    assert float(anomaly.excess) == pytest.approx(excess, abs=5)
    assert anomaly.detected_at == NOW


def test_drivers_are_exact_amounts_a_day_by_facet(site: Site) -> None:
    anomaly = of_team(site, "arrival")
    assert anomaly.observed == sum(
        (Decimal(r["EffectiveCost"]) for d in days(EVENT, LAST) for r in rows_of(date.fromisoformat(d))
         if json.loads(r["Tags"])["team"] == "arrival"), Decimal(0)
    )  # fmt: skip
    first = anomaly.drivers[0]
    assert first == {
        "facet": "resource",
        "name": "name of arrival-2 (arrival-2)",
        "now": "250.12",
        "before": "0.00",
        "change": "250.12",
    }
    assert {d["facet"] for d in anomaly.drivers} == {"resource", "account", "service", "charge kind"}
    assert "name of arrival-2 250.12" in anomaly.evidence
    assert "from shop/steady" in of_team(site, "moved").evidence
    assert "to shop/moved" in of_team(site, "steady").evidence


def test_the_same_data_gives_the_same_history(site: Site) -> None:
    before = history(site).all()
    again = look_at(site, NOW + timedelta(days=1))
    assert (again.new, again.changed) == ([], [])
    assert history(site).all() == before
    assert again.teams == len(TEAMS)


def test_asset_and_tables(site: Site) -> None:
    settings = site.platform.settings
    assets = anomaly_assets(settings.owner)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            assets,
            instance=instance,
            resources={"platform": site.platform, IO_MANAGER: ReportTables(database=str(settings.warehouse))},
        )
    assert result.success
    with duckdb.connect(str(settings.warehouse)) as connection:
        rows = connection.execute(
            "SELECT team, direction, cause, excess, resolved_at FROM anomaly_history ORDER BY team"
        ).fetchall()
        assert [r[0] for r in rows] == sorted(TEAMS)
        assert {r[1] for r in rows} == {"rise", "fall"}
        assert isinstance(rows[0][3], Decimal)
        assert connection.execute("SELECT count(*) FROM anomaly_rates").fetchone() == (len(TEAMS),)


def test_list_show_resolve_and_rates(site: Site, tmp_path: Path) -> None:
    config = site.folder / "finops.yaml"
    config.write_text(
        "first_day: 2026-01-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        "sources: [{name: bill, uri: exports, layout: files}]\ndimensions:\n  team: {keys: [team]}\n"
    )
    runner = CliRunner()

    def run(*arguments: str) -> str:
        result = runner.invoke(app, ["anomalies", *arguments, "-c", str(config)])
        assert result.exit_code == 0, result.output
        return result.output

    anomaly = of_team(site, "price")
    listed = run("list", "--team", "price")
    assert anomaly.id in listed
    assert "price" in listed
    shown = run("show", anomaly.id[:6])
    assert "price (the same quantities cost more, or less)" in shown
    assert "name of price" in shown
    assert json.loads(run("list", "--format", "json"))["rows"][0]["observed"]
    run("resolve", anomaly.id, "--verdict", "confirmed", "--by", "ann", "--note", "new contract")
    judged = of_team(site, "price")
    assert (judged.verdict, judged.judged_by, judged.note, judged.ended) == (
        "confirmed",
        "ann",
        "new contract",
        "verdict",
    )
    assert "confirmed by ann: new contract" in run("show", anomaly.id)
    assert look_at(site).changed == []
    assert "100" not in run("rates", "--format", "csv").splitlines()[0]
    wrong = runner.invoke(app, ["anomalies", "resolve", "nothing", "--verdict", "false", "-c", str(config)])
    assert wrong.exit_code == 1


@pytest.mark.long
def test_a_restated_day_is_looked_at_again_and_nothing_is_told_twice(tmp_path: Path) -> None:
    site = Site(tmp_path, extra="anomalies: {resource_floor: 1000}\n")
    first, calm = date(2026, 8, 1), EVENT - timedelta(days=1)
    deliver(site, None, first, calm)
    assert look_at(site).new == []
    restated = calm - timedelta(days=3)
    deliver(site, {restated: Decimal(700)}, first, calm)
    [new] = look_at(site).new
    assert (new.key.team, new.first_day, new.cause) == ("steady", restated, "restated data")
    assert "reported as" in new.evidence
    deliver(site, {restated: Decimal(720)}, first, calm)
    again = look_at(site, NOW + timedelta(hours=1))
    assert again.new == []
    assert [(a.id, a.detected_at) for a in again.changed] == [(new.id, NOW)]
    deliver(site, {restated: Decimal("100.3")}, first, calm)
    assert [a.ended for a in look_at(site, NOW + timedelta(hours=2)).changed] == ["restated"]
    deliver(site, {restated: Decimal(700)}, first, calm)
    back = look_at(site, NOW + timedelta(hours=3))
    assert back.new == []
    assert len(history(site).all()) == 1


@pytest.mark.long
def test_a_costly_resource_is_a_series_of_its_own(tmp_path: Path) -> None:
    dimension = "  environment: {keys: [env]}\n"
    site = Site(tmp_path, extra=dimension + "anomalies: {resource_floor: 90}\n")
    resource = {"ResourceId": "db-1", "ResourceName": "orders", "ConsumedQuantity": "1", "ConsumedUnit": "Hours"}
    rows = []
    for i, day in enumerate(days(date(2026, 7, 1), date(2026, 8, 15))):
        rows.append(focus_row(day, **resource, EffectiveCost="300" if i == 45 else "100", Tags='{"team": "a"}'))
        other = {"ResourceId": "db-2", "ResourceName": "stock", "ConsumedQuantity": "1", "ConsumedUnit": "Hours"}
        rows.append(focus_row(day, **other, EffectiveCost="1900", Tags='{"team": "a"}'))
    site.put_csv("all.csv", *rows)
    site.run_all(*days(date(2026, 7, 1), date(2026, 8, 15)))
    looked = look_at(site)
    # 200 of 2,000 is no anomaly of the team's, but 200 of 100 is one of the resource's.
    [anomaly] = looked.new
    assert (looked.resources, anomaly.key.ResourceId, anomaly.key.team, anomaly.excess) == (
        2,
        "db-1",
        "a",
        Decimal(200),
    )
    assert look_at(site).new == []
    by = replace(site, extra=dimension + "anomalies: {resource_floor: 90, by: environment}\n")
    again = look_at(by)
    assert [(a.key.owner, a.excess, a.evidence) for a in again.new] == [
        ("__untagged__/a, environment=__unknown__", 200, anomaly.evidence)
    ]
    assert [(a.id, a.ended) for a in again.changed] == [(anomaly.id, "limits")], "not restated: told apart otherwise"


@pytest.mark.long
def test_the_estates_runaway_resource_is_found_and_named(tmp_path: Path) -> None:
    first, last = date(2026, 10, 1), date(2026, 10, 31)
    incidents = tuple(Incident("aws", date(2026, 10, day), "surge") for day in (28, 29, 30))
    with Estate(EstateSpec(first, last, 1500, incidents=incidents), tmp_path / "estate") as estate:
        estate.deliver_all()
        owners = [o for o in estate.owners().to_pylist() if o["source"] == "aws"]
    runaway = owners[SURGING]
    platform = Platform(settings_for(tmp_path, first))
    every = [date.fromisoformat(d) for d in days(first, last)]
    for source in platform.settings.sources:
        land_source(platform.lake, platform.settings.engine, source, first)
        compose_days(platform.lake, platform.settings.engine, source, every)
    build_facts(platform.lake, platform.settings.engine, platform.rules, platform.source_names, every)
    build_rollup(platform.lake, platform.warehouse, platform.rules, platform.settings, every)
    with platform.warehouse.reading() as connection:
        looked = look(platform, connection, NOW)
    assert looked.new
    [surge] = [a for a in looked.new if a.first_day == date(2026, 10, 28) and a.direction > 0]
    # Its team may have changed since; its department never does.
    assert surge.key.department == runaway["department"]
    assert surge.cause in ("quantity", "new resource")
    assert runaway["ResourceId"] in surge.drivers[0]["name"]


@pytest.mark.long
def test_held_days_and_late_providers_are_gaps(tmp_path: Path) -> None:
    site = Site(tmp_path)
    deliver(site, None, date(2026, 8, 1), EVENT - timedelta(days=1))
    with site.platform.warehouse.writing() as connection:
        connection.execute("DELETE FROM daily_cost_by_team WHERE charge_date = DATE '2026-08-20'")
        connection.execute("DELETE FROM coverage WHERE charge_date = DATE '2026-08-20'")
        connection.execute("UPDATE daily_cost_by_team SET provider = 'Other' WHERE team = 'price'")
        connection.execute("DELETE FROM daily_cost_by_team WHERE team = 'price' AND charge_date >= DATE '2026-08-25'")
        series = team_series(connection)
    assert series is not None
    rows = {key.team: series.costs[i] for i, key in enumerate(series.keys)}
    held = (date(2026, 8, 20) - series.first).days
    assert all(np.isnan(row[held]) for row in rows.values())
    assert np.isnan(rows["price"][-3:]).all()
    assert np.isfinite(rows["quantity"][-3:]).all()
    assert look_at(site).new == []


def anomaly(number: int, score: float = 3.0, verdict: Any = None, **changes: Any) -> Anomaly:
    day = date(2026, 8, 1) + timedelta(days=number)
    made = Anomaly(
        Key("shop", "web", "Compute", "USD"), 1, "spike", day, day, day, 1, Decimal(300), Decimal(100), score, NOW, NOW,
        cause="quantity", evidence="more of the same", verdict=verdict, judged_at=NOW if verdict else None,
        resolved_at=NOW if verdict else None, ended="verdict" if verdict else None,
    )  # fmt: skip
    return replace(made, **changes)


def test_a_team_with_too_many_false_ones_is_told_the_sigma_that_its_verdicts_support() -> None:
    scores = [
        (2.6, "false"),
        (2.9, "false"),
        (3.1, "false"),
        (4.0, "confirmed"),
        (5.0, "confirmed"),
        (9.0, "confirmed"),
    ]
    scores += [(8.0, "false")]
    judged = [anomaly(i, score, verdict) for i, (score, verdict) in enumerate(scores)]
    [rate] = rates(judged, Anomalies(), date(2026, 9, 1))
    assert rate.rate == pytest.approx(4 / 7)
    # With 3.2 one of four is false still; all three confirmed stay up to 4.0, and no such sigma drops the last false one.
    assert rate.supported is None
    assert "min_amount or min_percent" in rate.advice
    [rate] = rates(judged[:-1], Anomalies(), date(2026, 9, 1))
    assert rate.supported == 3.2
    assert "set sigma: 3.2 for this team (now 2.5)" in rate.advice
    raised = Anomalies(overrides=(AnomalyLimits(team="web", sigma=3.2),))
    [rate] = rates(judged[:-1], raised, date(2026, 9, 1))
    assert (rate.rate, rate.advice) == (0, "")
    assert supported_sigma([], [2.7, 3.3], 2.5) == 3.4
    [few] = rates(judged[:2], Anomalies(), date(2026, 9, 1))
    assert few.supported is None
    assert "5 are needed" in few.advice


def test_verdicts_survive_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    kept = AnomalyHistory(tmp_path / "a.sqlite")
    first = anomaly(0)
    kept.put([first])
    kept.judge(first.id, "false", NOW, "ann", "a test")
    kept.put([first])
    [again] = kept.all()
    assert (again.verdict, again.judged_by, again.ended, again.resolved_at) == ("false", "ann", "verdict", NOW)
    with pytest.raises(AnomalyError, match="found 'xyz'"):
        kept.judge("xyz", "false", NOW)


def test_an_open_anomaly_beyond_new_limits_ends(tmp_path: Path) -> None:
    known = anomaly(5)
    later = NOW + timedelta(days=1)
    [ended] = reconcile([], [known], {known.id: known.observed}, date(2026, 7, 1), later)
    assert (ended.ended, ended.resolved_at) == ("limits", later)
    [moved] = reconcile([], [known], {known.id: Decimal(100)}, date(2026, 7, 1), later)
    assert moved.ended == "restated"


def test_an_anomaly_is_told_once_with_its_department_and_so_is_its_end(tmp_path: Path) -> None:
    warehouse = tmp_path / "w.duckdb"
    kept = AnomalyHistory.beside(warehouse)
    fresh = anomaly(20)
    # Over before anybody was told; and one that was long past when it was found.
    over = anomaly(10, ended="normal", resolved_at=NOW)
    kept.put([fresh, over, anomaly(1, old=True)])
    alerts = AlertHistory.beside(warehouse)

    def tick(at: datetime) -> tuple[set[str], list[Observation]]:
        with alerts.opened() as opened:
            known = list(opened.open_alerts().values())
            seen = list(anomaly_observations(warehouse, Anomalies(), at, known))
            with opened.writing():
                opened.enter(seen)
            return {o.alert.key for o in opened.open_alerts().values()}, seen

    keys, seen = tick(NOW + timedelta(minutes=1))
    assert keys == {f"anomaly {fresh.id}", f"anomaly {over.id}"}
    told = next(o.alert for o in seen if o.alert and fresh.id in o.key)
    assert (told.department, told.day, told.severity, told.reminders) == ("shop", fresh.first_day, "WARNING", "never")
    assert "200.00 USD (+200 %) above what was expected" in told.title
    assert f"finops anomalies resolve {fresh.id}" in told.text
    assert tick(NOW + timedelta(minutes=2))[0] == {f"anomaly {fresh.id}"}
    kept.judge(fresh.id, "confirmed", NOW + timedelta(minutes=3))
    assert tick(NOW + timedelta(minutes=4))[0] == set()
    assert tick(NOW + timedelta(minutes=5))[0] == set()
    with alerts.opened() as opened:
        assert len(opened.rows()) == 2


def test_a_team_above_a_fifth_is_told_until_it_raised_its_sigma(tmp_path: Path) -> None:
    warehouse = tmp_path / "w.duckdb"
    scores = [(2.6, "false"), (2.9, "false"), (4.0, "confirmed"), (5.0, "confirmed"), (9.0, "confirmed")]
    AnomalyHistory.beside(warehouse).put([anomaly(i, s, v) for i, (s, v) in enumerate(scores)])
    [seen] = anomaly_observations(warehouse, Anomalies(), NOW, [])
    assert seen.alert
    assert (seen.key, seen.alert.department) == ("anomalies of shop/web", "shop")
    assert "set sigma: 3 for this team" in seen.alert.text
    raised = Anomalies(overrides=(AnomalyLimits(team="web", sigma=3),))
    [healed] = anomaly_observations(warehouse, raised, NOW, [OpenAlert(seen.alert, NOW)])
    assert (healed.key, healed.alert) == (seen.key, None)


def test_a_fall_is_told_as_one(tmp_path: Path) -> None:
    kept = AnomalyHistory.beside(tmp_path / "w.duckdb")
    kept.put([anomaly(20, observed=Decimal(40))])
    [seen] = anomaly_observations(tmp_path / "w.duckdb", Anomalies(), NOW + timedelta(minutes=1), [])
    assert seen.alert
    assert "shop/web, Compute: 60.00 USD (-60 %) below what was expected, 2026-08-21" in seen.alert.title


def test_a_row_of_the_history_keeps_its_form(tmp_path: Path) -> None:
    at = datetime(2026, 11, 2, 8, tzinfo=UTC)
    full = Anomaly(
        key=Key("data", "lake", "Compute", "EUR", "aws", "i-1"),
        direction=1,
        kind="spike",
        first_day=date(2026, 10, 1),
        last_day=date(2026, 10, 3),
        surest_day=date(2026, 10, 2),
        days=3,
        observed=Decimal("1E+3"),
        expected=Decimal("12.50"),
        score=float("inf"),
        detected_at=at.astimezone(timezone(timedelta(hours=2))),
        updated_at=at + timedelta(microseconds=5),
        cause="usage",
        evidence="more hours",
        drivers=({"facet": "team", "name": "lake", "now": "1", "before": "0.50", "change": "0.50"},),
        old=True,
        resolved_at=at,
        ended="verdict",
        verdict="false",
        judged_at=at,
        judged_by="me",
        note="a note",
        given_id="abc",
    )
    least = Anomaly(
        Key("data", "lake", "Compute", "EUR"), -1, "shift", date(2026, 10, 1), date(2026, 10, 3), date(2026, 10, 2),
        3, Decimal("0E-18"), Decimal("12.50"), 4.25, at, at,
    )  # fmt: skip
    history = AnomalyHistory(tmp_path / "anomalies.sqlite")
    history.put([full, least])
    with closing(sqlite3.connect(history.path)) as connection:
        rows = connection.execute("SELECT * FROM anomalies ORDER BY direction DESC").fetchall()
    assert rows == [
        (
            "abc", "data", "lake", "Compute", "EUR", "aws", "i-1", 1, "spike", "2026-10-01", "2026-10-03",
            "2026-10-02", 3, "1000", "12.50", float("inf"), "usage", "more hours",
            '[{"facet": "team", "name": "lake", "now": "1", "before": "0.50", "change": "0.50"}]', 1,
            "2026-11-02T08:00:00.000000Z", "2026-11-02T08:00:00.000005Z", "2026-11-02T08:00:00.000000Z", "verdict",
            "false", "2026-11-02T08:00:00.000000Z", "me", "a note",
            None,
        ),
        (
            least.id, "data", "lake", "Compute", "EUR", None, None, -1, "shift", "2026-10-01", "2026-10-03",
            "2026-10-02", 3, "0.000000000000000000", "12.50", 4.25, "unclear", "", "[]", 0,
            "2026-11-02T08:00:00.000000Z", "2026-11-02T08:00:00.000000Z", None, None, None, None, None, "", None,
        ),
    ]  # fmt: skip
    assert history.all() == [replace(least, given_id=least.id), full]
