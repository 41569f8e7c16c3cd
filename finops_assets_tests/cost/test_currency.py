"""Rates, conversion and the graph: a missing rate holds the converted day only, changed rates and bills are followed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from finops_assets.base.errors import ConfigError, RatesError
from finops_assets.cli.program import app
from finops_assets.cost.currency.conversion import days_to_convert
from finops_assets.cost.currency.ecb import import_ecb, read_ecb
from finops_assets.cost.currency.rates import Conversion, Rate, convert, rate_table, read_rates
from finops_assets.graph.days_to_run import days_to_run
from finops_assets.graph.run_range import run_range
from finops_assets.settings.load import parse_settings
from finops_assets_tests.conftest import csv_text, focus_row
from finops_assets_tests.running import DIMENSIONS, Graph, persistent_instance

MONDAY = date(2026, 9, 7)


def table(*rows: tuple[date, str, str, str]) -> Any:
    return rate_table(Rate(day, base, currency, Decimal(rate), "test") for day, base, currency, rate in rows)


FRIDAY = MONDAY - timedelta(days=3)
EUROPE = table((FRIDAY, "EUR", "USD", "1.25"), (FRIDAY, "EUR", "GBP", "0.85"), (MONDAY, "EUR", "USD", "1.6"))

# Properties of converting.

amounts = st.decimals(-(10**9), 10**9, places=18, allow_nan=False)
rates = st.decimals("0.001", 100_000, places=6, allow_nan=False)


@given(amounts, rates, rates)
def test_an_amount_is_converted_exactly_and_rounded_once_half_even(amount: Decimal, up: Decimal, down: Decimal) -> None:
    exact = Fraction(amount) * Fraction(up) / Fraction(down) * 10**18
    found = Fraction(convert(amount, Conversion((up,), (down,), MONDAY, "x").factor)) * 10**18
    assert found.denominator == 1
    assert abs(found - exact) <= Fraction(1, 2)
    if abs(found - exact) == Fraction(1, 2):
        assert found.numerator % 2 == 0


@given(amounts)
def test_the_same_currency_and_signs(amount: Decimal) -> None:
    same = EUROPE.in_force(MONDAY, "EUR", "EUR", "day")
    assert isinstance(same, Conversion)
    assert convert(amount, same.factor) == amount
    third = Fraction(1, 3)
    assert convert(amount.copy_negate(), third) == convert(amount, third).copy_negate()


@pytest.mark.parametrize(
    ("units", "factor", "expected"),
    [(1, "1/2", 0), (3, "1/2", 2), (5, "1/2", 2), (-1, "1/2", 0), (-3, "1/2", -2), (7, "1/3", 2)],
)
def test_ties_go_to_even(units: int, factor: str, expected: int) -> None:
    assert convert(Decimal(units).scaleb(-18), Fraction(factor)) == Decimal(expected).scaleb(-18)


def test_what_does_not_fit_is_said_not_cut() -> None:
    with pytest.raises(RatesError, match="does not fit"):
        convert(Decimal(10) ** 19, Fraction(11))


# Which rate is in force.


@pytest.mark.parametrize(
    ("original", "target", "exact"),
    [("EUR", "USD", "1.25"), ("USD", "EUR", "1 / 1.25"), ("USD", "GBP", "0.85 / 1.25"), ("GBP", "USD", "1.25 / 0.85")],
)
def test_a_pair_is_found_directly_inversely_or_over_a_third_currency(original: str, target: str, exact: str) -> None:
    found = EUROPE.in_force(FRIDAY, original, target, "day")
    assert isinstance(found, Conversion)
    assert found.exact == exact
    with localcontext() as context:
        context.prec = 60
        up, _, down = exact.partition(" / ")
        assert abs(found.rate - Decimal(up) / Decimal(down or 1)) <= Decimal("5e-19")


def test_a_weekend_has_fridays_rate_and_both_halves_are_of_one_day() -> None:
    for day in (FRIDAY, FRIDAY + timedelta(days=2)):
        found = EUROPE.in_force(day, "USD", "EUR", "day")
        assert isinstance(found, Conversion)
        assert found.day == FRIDAY
    crossed = EUROPE.in_force(MONDAY, "USD", "GBP", "day")
    assert isinstance(crossed, Conversion)
    assert (crossed.day, crossed.exact) == (FRIDAY, "0.85 / 1.25")


def test_a_rate_older_than_a_week_is_none() -> None:
    last = FRIDAY + timedelta(days=7)
    assert isinstance(EUROPE.in_force(last, "GBP", "EUR", "day"), Conversion)
    missing = EUROPE.in_force(last + timedelta(days=1), "GBP", "EUR", "day")
    assert missing == (
        "no rate from GBP to EUR on 2026-09-12 or the 7 days before it (the newest before is of 2026-09-04)"
    )
    assert EUROPE.in_force(FRIDAY, "SEK", "EUR", "day") == (
        "no rate from SEK to EUR on 2026-09-04 or the 7 days before it (there is none before)"
    )


def test_a_month_is_frozen_at_the_last_rate_before_it_began() -> None:
    rates = table(
        *((date(2026, 8, d), "EUR", "USD", f"1.{d}") for d in (28, 31)), (date(2026, 9, 1), "EUR", "USD", "9")
    )
    found = {rates.in_force(date(2026, 9, d), "USD", "EUR", "month") for d in (1, 15, 30)}
    assert {c.day for c in found if isinstance(c, Conversion)} == {date(2026, 8, 31)}
    assert "on 2026-09-30" in str(rates.in_force(date(2026, 10, 8), "USD", "EUR", "month"))


# The files.

ECB = """Date,USD,JPY,ISK,
2026-09-03,1.0834,158.20,N/A,
2026-09-02,1.08,158,,
1999-01-04,1.1789,133.73,N/A,
"""


def test_the_central_banks_history_is_imported_beside_other_rates(tmp_path: Path) -> None:
    source, target = tmp_path / "eurofxref-hist.csv", tmp_path / "rates.csv"
    source.write_text(ECB, encoding="utf-8")
    target.write_text(
        "date,from,to,rate,source\n2026-09-02,EUR,USD,1.07,ecb\n2026-09-02,EUR,XAU,0.0003,desk\n", encoding="utf-8"
    )
    done = import_ecb(source, target, date(2026, 1, 1))
    assert (done.rates, done.added, done.changed) == (4, 3, 1)
    assert target.read_text(encoding="utf-8").splitlines() == [
        "date,from,to,rate,source",
        "2026-09-02,EUR,JPY,158,ecb",
        "2026-09-02,EUR,USD,1.08,ecb",
        "2026-09-02,EUR,XAU,0.0003,desk",
        "2026-09-03,EUR,JPY,158.20,ecb",
        "2026-09-03,EUR,USD,1.0834,ecb",
    ]
    before = target.read_bytes()
    again = import_ecb(source, target, date(2026, 1, 1))
    assert (again.added, again.changed, target.read_bytes()) == (0, 0, before)


def test_the_file_of_a_single_day_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "eurofxref.csv"
    file.write_text("Date, USD, JPY, \n03 September 2026, 1.0834, 158.20, \n", encoding="utf-8")
    assert [(r.day, r.currency, r.rate) for r in read_ecb(file)] == [
        (date(2026, 9, 3), "USD", Decimal("1.0834")),
        (date(2026, 9, 3), "JPY", Decimal("158.20")),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("day,USD\n", "begins with"),
        ("Date,USD\n09/03/2026,1.1\n", "line 2: found '09/03/2026'"),
        ("Date,USD\n2026-09-03,free\n", "line 2, USD: found 'free'"),
    ],
)
def test_what_is_no_file_of_the_bank_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "x.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RatesError, match=says):
        read_ecb(file)


def test_every_mistake_of_a_rate_table_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(
        "date,from,to,rate,source\n2026-02-30,EUR,USD,1,x\n2026-09-01,eur,USD,1,x\n2026-09-01,EUR,EUR,1,x\n"
        '2026-09-01,EUR,USD,0,x\n2026-09-01,EUR,USD,"1,08",x\n2026-09-01,EUR,USD,1.08,\n'
        "2026-09-01,EUR,USD,1.08,x\n2026-09-01,EUR,USD,1.09,x\n",
        encoding="utf-8",
    )
    with pytest.raises(RatesError) as error:
        read_rates(file)
    told = str(error.value)
    for text in (
        "line 2: date: found '2026-02-30'", "line 3: from: found 'eur'", "line 4: from and to are both EUR",
        "line 5: rate: found '0'", "line 6: rate: found '1,08'", "line 7: source: is empty",
        "line 9: EUR to USD of 2026-09-01 stands already in line 8",
    ):  # fmt: skip
        assert text in told
    file.write_text("date,from,to,value\n", encoding="utf-8")
    with pytest.raises(RatesError, match="no column rate, source"):
        read_rates(file)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("{reporting: euro, rates: r.csv}", "found 'euro'; allowed: a currency's three capital letters"),
        ("{reporting: EUR, rates: r.csv, per: week}", "currency.per: found 'week'; allowed: 'day' or 'month'"),
        ("{reporting: EUR}", "currency.rates: is missing"),
        ("{reporting: EUR, rates: r.csv, source: ecb}", "currency.source: is not a known setting"),
    ],
)
def test_mistakes_in_the_configuration(section: str, says: str) -> None:
    text = (
        "first_day: 2026-09-01\nlake: l\nwarehouse: w\npublished: p\nsources: [{name: a, uri: a, layout: files}]\n"
        f"dimensions: {{team: {{keys: [team]}}}}\ncurrency: {section}\n"
    )
    with pytest.raises(ConfigError) as error:
        parse_settings(text, Path("finops.yaml"))
    assert says in str(error.value)


# The graph.

FIRST, LAST = date(2026, 9, 1), date(2026, 9, 4)
DAYS = [date(2026, 9, d) for d in range(1, 5)]
ROLLUP, CONVERTED = "daily_cost_by_team", "daily_cost_converted"


def write(root: Path, *rows: str) -> None:
    (root / "rates.csv").write_text("\n".join(["date,from,to,rate,source", *rows, ""]), encoding="utf-8")


def rate(day: str, value: str) -> str:
    return f"{day},EUR,USD,{value},desk"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with persistent_instance(tmp_path / "dagster") as instance:
        yield instance


def deliver(root: Path, cost: str = "3.33") -> None:
    """Four days of a bill in two currencies; `cost` is that of the second day in USD."""
    rows = [
        focus_row(f"{day}", BillingCurrency=currency, BilledCost=billed, Tags='{"team": "core", "department": "it"}')
        for day in DAYS
        for currency, billed in (("USD", cost if day == DAYS[1] else "1.5"), ("EUR", "0.25"))
    ]
    (root / "bill").mkdir(exist_ok=True)
    (root / "bill" / "2026-09.csv").write_text(csv_text(rows), encoding="utf-8")


def config(per: str = "day", reporting: str = "EUR") -> str:
    return (
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        f"sources: [{{name: bill, uri: bill, layout: files}}]\n{DIMENSIONS}"
        f"currency: {{reporting: {reporting}, rates: rates.csv, per: {per}}}\n"
    )


def graph_at(root: Path, instance: dg.DagsterInstance, **settings: str) -> Graph:
    return Graph(parse_settings(config(**settings), root / "finops.yaml"), instance)


def converted(graph: Graph, columns: str, extra: str = "") -> list[tuple[Any, ...]]:
    with graph.platform.warehouse.reading() as connection:
        return connection.execute(f"SELECT {columns} FROM {CONVERTED} {extra} ORDER BY ALL").fetchall()


@pytest.mark.long
def test_a_missing_rate_holds_the_converted_day_only_and_its_arrival_releases_it(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    deliver(tmp_path)
    write(tmp_path, rate("2026-08-26", "1.1"))
    graph = graph_at(tmp_path, instance)
    run = graph.run(FIRST, LAST)
    assert not run.success
    assert run.materialized(ROLLUP) == DAYS
    assert run.materialized(CONVERTED) == DAYS[:2]
    verdict = run.verdicts(f"{CONVERTED}:rates_present")[DAYS[2]]
    assert not verdict.passed
    assert "no rate from USD to EUR on 2026-09-03 or the 7 days before it" in verdict.description
    assert "finops rates import-ecb" in verdict.description
    assert "2026-09-03" in run.failure()
    assert "(the rollup is built)" in run.failure()
    assert {row[0] for row in converted(graph, "charge_date")} == set(DAYS[:2])
    outcome = run_range(graph.defs, instance, DAYS)
    assert outcome.built == DAYS
    assert set(outcome.held) == set(DAYS[2:])
    assert days_to_run(graph.platform, instance, FIRST, date(2026, 9, 5)) == []

    write(tmp_path, rate("2026-08-26", "1.1"), rate("2026-09-03", "1.2"))
    assert days_to_run(graph.platform, instance, FIRST, date(2026, 9, 5)) == DAYS[2:]
    released = graph.run(DAYS[2], LAST, [CONVERTED])
    assert released.success, released.failure()
    assert released.materialized(CONVERTED) == DAYS[2:]
    assert {
        (row[0], row[1]) for row in converted(graph, "charge_date, rate_date", "WHERE BillingCurrency = 'USD'")
    } == {(day, date(2026, 8, 26) if day < DAYS[2] else DAYS[2]) for day in DAYS}


@pytest.mark.long
def test_every_row_keeps_its_original_and_the_rate_that_made_it(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    deliver(tmp_path)
    write(tmp_path, rate("2026-09-01", "1.0834"))
    graph = graph_at(tmp_path, instance)
    assert graph.run(FIRST, LAST).success
    key = "charge_date, provider, department, team, environment, ServiceCategory, BillingCurrency"
    rollup = {row[:7]: row[7:] for row in graph.rollup(f"{key}, billed_cost, effective_cost, row_count")}
    rows = converted(
        graph, f"{key}, original_billed_cost, original_effective_cost, row_count, billed_cost, effective_cost, currency,"
        " rate, rate_exact, rate_source",
    )  # fmt: skip
    assert {row[:7]: row[7:10] for row in rows} == rollup
    assert {row[6] for row in rows} == {"USD", "EUR"}
    for *_, original, _, _, billed, _, currency, shown, exact, source in rows:
        factor = Fraction("1") if exact == "1" else 1 / Fraction("1.0834")
        assert billed == convert(original, factor)
        assert (currency, source) == ("EUR", "same currency" if exact == "1" else "desk")
        assert shown == convert(Decimal(1), factor)


@pytest.mark.long
def test_figures_follow_a_restated_bill_and_a_changed_rate(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    deliver(tmp_path)
    write(tmp_path, *(rate(f"{day}", "1.25") for day in DAYS))
    graph = graph_at(tmp_path, instance)
    assert graph.run(FIRST, LAST).success
    graph.publish("published_warehouse")
    before = converted(graph, "charge_date, sum(billed_cost)", "GROUP BY 1")
    deliver(tmp_path, "4.44")
    assert graph.run(DAYS[1]).success
    after = converted(graph, "charge_date, sum(billed_cost)", "GROUP BY 1")
    assert [a for a, b in zip(before, after) if a != b] == [before[1]]
    graph.publish("published_warehouse")

    sensor = next(s for s in graph.defs.sensors or [] if s.name == "watch_rates")
    assert asks(sensor, graph) == []
    write(tmp_path, *(rate(f"{day}", "1.6" if day == DAYS[2] else "1.25") for day in DAYS))
    [request] = asks(sensor, graph)
    assert request.job_name == "convert"
    assert request.tags["dagster/asset_partition_range_start"] == "2026-09-03"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-09-03"
    assert graph.run(DAYS[2], None, job="convert").success
    rates = {(r[0], r[1]) for r in converted(graph, "charge_date, rate_exact", "WHERE BillingCurrency = 'USD'")}
    assert rates == {(day, "1 / 1.6" if day == DAYS[2] else "1 / 1.25") for day in DAYS}
    with graph.platform.warehouse.reading() as connection:
        assert graph.settings.currency is not None
        assert days_to_convert(connection, graph.settings.currency) == []
    pounds = graph_at(tmp_path, instance, reporting="USD")
    with pounds.platform.warehouse.reading() as connection:
        assert pounds.settings.currency is not None
        assert days_to_convert(connection, pounds.settings.currency) == DAYS


def asks(sensor: Any, graph: Graph) -> list[Any]:
    with dg.build_sensor_context(
        instance=graph.instance, resources={"platform": graph.platform}, repository_def=graph.defs.get_repository_def()
    ) as context:
        return list(sensor(context).run_requests or [])


@pytest.mark.long
def test_a_rate_table_that_cannot_be_read_holds_converted_figures_and_nothing_else(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    deliver(tmp_path)
    graph = graph_at(tmp_path, instance)
    run = graph.run(FIRST)
    assert run.materialized(ROLLUP) == [FIRST]
    assert run.materialized(CONVERTED) == []
    assert "cannot be read" in run.verdicts(f"{CONVERTED}:rates_present")[FIRST].description


def test_a_held_rollup_day_is_held_for_the_converted_figures_too(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    deliver(tmp_path)
    write(tmp_path, rate("2026-09-01", "1.25"))
    graph = graph_at(tmp_path, instance)
    run = graph.run(FIRST, None, [CONVERTED])
    assert not run.success
    assert "has never judged this day" in run.failure()
    assert "held before it" in run.verdicts(f"{CONVERTED}:rates_present")[FIRST].description


@pytest.mark.long
def test_without_a_reporting_currency_nothing_is_different(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    deliver(tmp_path)
    text = config().partition("currency:")[0]
    graph = Graph(parse_settings(text, tmp_path / "finops.yaml"), instance)
    assert CONVERTED not in {k.to_user_string() for k in graph.defs.resolve_asset_graph().get_all_asset_keys()}
    assert graph.run(FIRST).success


@pytest.mark.long
def test_reports_in_the_reporting_currency(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path)
    write(tmp_path, rate("2026-09-01", "1.25"))
    graph = graph_at(tmp_path, instance)
    assert graph.run(FIRST, LAST).success
    graph.publish("published_warehouse")
    (tmp_path / "finops.yaml").write_text(config(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    finops = CliRunner()
    told = finops.invoke(app, ["report", "teams", "--currency", "reporting", "--basis", "billed", "--format", "csv"])
    assert told.exit_code == 0, told.output
    lines = [line.split(",") for line in told.stdout.splitlines()]
    assert {line[lines[0].index("currency")] for line in lines[1:]} == {"EUR"}
    with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
        [(total,)] = connection.execute(f"SELECT sum(billed_cost) FROM {CONVERTED}").fetchall()
    assert sum(Decimal(line[lines[0].index("billed_cost")]) for line in lines[1:]) == total
    refused = finops.invoke(app, ["report", "teams", "--currency", "reporting", "--as-of", "2026-09-04"])
    assert refused.exit_code == 1
    assert "currencies of the bills only" in " ".join(refused.output.split())
    assert finops.invoke(app, ["config", "check"]).exit_code == 0
    write(tmp_path, rate("2026-09-01", "-1"))
    bad = finops.invoke(app, ["config", "check"])
    assert bad.exit_code == 1
    assert "line 2: rate: found '-1'" in bad.output
    for command in (
        ["accrued"],
        ["savings"],
        ["commitments"],
        ["commitments", "--unused"],
        ["corrections"],
        ["committed"],
    ):
        words = ["teams", "--basis", "accrued"] if command == ["accrued"] else command
        result = finops.invoke(app, ["report", *words])
        assert result.exit_code == 0, (words, result.output)
