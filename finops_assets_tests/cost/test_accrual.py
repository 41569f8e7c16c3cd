"""Charges longer than a day are given to their days by time, exactly; cash and facts stay as they are."""

# ruff: noqa: DTZ001  # the lake's times are UTC and carry no zone

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finops_assets.base.period import Period
from finops_assets.cost.accrual import REPORTED_ACCRUALS, accrued_rollup, committed, parts_query
from finops_assets.cost.corrections import corrections
from finops_assets.evaluate.reports import cost_by
from finops_assets.judge.gates.rollup import ACCRUED, judge_rollup
from finops_assets_tests.conftest import Row, Site, focus_row
from finops_assets_tests.places import SHARED

pytestmark = pytest.mark.slow  # by its time, not by what it needs

UNIT = Fraction(1, 10**18)
examples = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        # Days are UTC whatever the machine's zone is, and whether its clocks change.
        connection.execute("SET timezone = 'America/New_York'")
        connection.execute("SET threads = 1")
        yield connection


Charge = tuple[datetime, datetime, Decimal]


def apportion(engine: duckdb.DuckDBPyConnection, charges: list[Charge]) -> list[dict[date, Decimal]]:
    """The parts of each charge by day, as the engine makes them."""
    rows = engine.execute(
        f"""
        SELECT i, accrual_date, part FROM ({
            parts_query('''(
            SELECT unnest(range(len($costs))) AS i, unnest($starts::TIMESTAMP[]) AS starts,
                unnest($ends::TIMESTAMP[]) AS ends, CAST(unnest($costs::VARCHAR[]) AS DECIMAL(38, 18)) AS cost)''')
        })
        ORDER BY i, accrual_date
        """,
        {"starts": [c[0] for c in charges], "ends": [c[1] for c in charges], "costs": [f"{c[2]:f}" for c in charges]},
    ).fetchall()
    result: list[dict[date, Decimal]] = [{} for _ in charges]
    for i, day, part in rows:
        assert day not in result[i]
        result[i][day] = part
    return result


amounts = (
    st.decimals(-(10**9), 10**9, places=18, allow_nan=False)
    | st.decimals(-1, 1, places=18, allow_nan=False)
    | st.integers(-20, 20).map(lambda n: Decimal(n).scaleb(-18))
    | st.sampled_from(
        [Decimal("99999999999999999999.999999999999999999"), Decimal("-99999999999999999999"), Decimal(0)]
    )
)
moments = st.datetimes(datetime(2023, 1, 1), datetime(2032, 12, 31))
lengths = (
    st.timedeltas(timedelta(microseconds=1), timedelta(days=3))
    | st.integers(1, 3660).map(lambda days: timedelta(days=days))
    | st.timedeltas(timedelta(days=27), timedelta(days=1100))
)
charge = st.builds(lambda start, length, cost: (start, start + length, cost), moments, lengths, amounts)


@pytest.mark.long
@examples
@given(st.lists(charge, min_size=1, max_size=5))
def test_parts_sum_to_the_charge_and_none_is_off_by_a_unit(
    engine: duckdb.DuckDBPyConnection, charges: list[Charge]
) -> None:
    for (starts, ends, cost), parts in zip(charges, apportion(engine, charges)):
        days = list(parts)
        assert days[0] == starts.date()
        assert days[-1] == (ends - timedelta(microseconds=1)).date()
        assert [d.toordinal() for d in days] == list(range(days[0].toordinal(), days[-1].toordinal() + 1))
        assert sum(map(Fraction, parts.values())) == Fraction(cost)
        length = Fraction((ends - starts) // timedelta(microseconds=1))
        for day, part in parts.items():
            midnight = datetime.combine(day, datetime.min.time())
            held = min(ends, midnight + timedelta(days=1)) - max(starts, midnight)
            exact = Fraction(cost) * (held // timedelta(microseconds=1)) / length
            assert abs(Fraction(part) - exact) < UNIT
            assert part * cost >= 0


@examples
@given(charge, st.permutations(range(4)))
def test_a_refund_mirrors_its_charge_and_neighbours_do_not_matter(
    engine: duckdb.DuckDBPyConnection, one: Charge, order: list[int]
) -> None:
    starts, ends, cost = one
    charges = [one, (starts, ends, cost.copy_negate()), one, (starts, ends + timedelta(days=1), cost)]
    parts = apportion(engine, [charges[i] for i in order])
    by_number = dict(zip(order, parts))
    assert by_number[0] == by_number[2] == {day: part.copy_negate() for day, part in by_number[1].items()}


@pytest.mark.parametrize(
    ("first", "end", "days"),
    [("2028-02-01", "2028-03-01", 29), ("2028-01-01", "2029-01-01", 366), ("2027-01-01", "2028-01-01", 365)],
)
def test_leap_days_are_days(engine: duckdb.DuckDBPyConnection, first: str, end: str, days: int) -> None:
    [parts] = apportion(engine, [(datetime.fromisoformat(first), datetime.fromisoformat(end), Decimal(days))])
    assert list(parts.values()) == [Decimal(1)] * days


def test_days_on_which_clocks_change_elsewhere_are_as_long_as_others(engine: duckdb.DuckDBPyConnection) -> None:
    [parts] = apportion(engine, [(datetime(2026, 3, 1), datetime(2026, 4, 1), Decimal(31))])
    assert set(parts.values()) == {Decimal(1)}


def licence(day: str, end: str, cost: str, **changes: Any) -> Row:
    return focus_row(
        day,
        ChargePeriodStart=f"{day}T00:00:00Z",
        ChargePeriodEnd=f"{end}T00:00:00Z",
        ChargeCategory="Purchase",
        ChargeFrequency="One-Time",
        BilledCost=cost,
        **{"EffectiveCost": cost, **changes},
    )


def accrued(site: Site, columns: str = "accrual_date, accrued_cost", where: str = "is_apportioned") -> list[Any]:
    with site.platform.warehouse.reading() as connection:
        return connection.execute(f"SELECT {columns} FROM daily_accrued_cost WHERE {where} ORDER BY ALL").fetchall()


def entries(site: Site) -> dict[date, Decimal]:
    with site.platform.warehouse.reading() as connection:
        return dict(
            connection.execute(
                "SELECT accrual_date, sum(effective_cost) FROM accrual_adjustments WHERE is_apportioned GROUP BY 1"
            ).fetchall()
        )


def test_a_yearly_licence_becomes_365_days_and_only_reached_ones_are_actuals(site: Site) -> None:
    site.put_csv(
        "a.csv", licence("2026-01-01", "2027-01-01", "50000"), focus_row("2026-01-01"), focus_row("2026-01-03")
    )
    site.run_all("2026-01-01", "2026-01-02", "2026-01-03")
    parts = entries(site)
    assert len(parts) == 365
    assert sum(parts.values()) == Decimal("50000")
    assert (min(parts), max(parts)) == (date(2026, 1, 1), date(2026, 12, 31))
    assert {abs(part - Decimal(50000) / 365) < Decimal("1e-17") for part in parts.values()} == {True}
    reached = accrued(site)
    assert reached == [(day, parts[day]) for day in sorted(parts) if day <= date(2026, 1, 3)]
    plain = accrued(site, "accrual_date, accrued_cost, billed_cost", "NOT is_apportioned")
    assert plain[0] == (date(2026, 1, 1), Decimal("1.25"), Decimal("50001.5"))
    with site.platform.warehouse.reading() as connection:
        rest = committed(connection, ("team",)).frame()
    assert list(rest["month"])[:2] == [date(2026, 1, 1), date(2026, 2, 1)]
    assert sum(rest["committed_cost"]) + sum(cost for _, cost in reached) == Decimal("50000")
    assert set(rest["team"]) == {"core"}


@pytest.mark.long
def test_a_restated_licence_changes_its_own_parts_and_keeps_what_was_reported(site: Site) -> None:
    site.put_csv("jan.csv", licence("2026-01-01", "2026-01-05", "40"), licence("2026-01-02", "2026-01-06", "4"))
    site.run_all("2026-01-01", "2026-01-02", "2026-01-03")
    site.run_all("2026-01-01")
    assert entries(site)[date(2026, 1, 3)] == Decimal(11)
    before = datetime.now(UTC)
    site.put_csv("jan.csv", licence("2026-01-01", "2026-01-05", "20"), licence("2026-01-02", "2026-01-06", "4"))
    site.run_all("2026-01-01", "2026-01-02", "2026-01-03")
    assert entries(site) == {date(2026, 1, d): Decimal(n) for d, n in enumerate((5, 6, 6, 6, 1), start=1)}
    with site.platform.warehouse.reading() as connection:
        closed = connection.execute(
            f"SELECT DISTINCT charge_date, reported_to >= ? FROM {REPORTED_ACCRUALS} WHERE reported_to IS NOT NULL",
            [before.replace(tzinfo=None)],
        ).fetchall()
        # What was reported yesterday was nothing: history answers for the accrual as for the rollup.
        yesterday = before.date() - timedelta(days=1)
        empty = connection.execute(f"SELECT count(*) FROM {accrued_rollup(yesterday)}").fetchone()
        today = connection.execute(f"SELECT sum(effective_cost) FROM {accrued_rollup(before.date())}").fetchone()
    assert closed == [(date(2026, 1, 1), True)]
    assert empty == (0,)
    assert today == (Decimal(11),)


def test_a_charge_of_a_day_or_less_and_one_without_an_honest_end_stay_on_their_day(site: Site) -> None:
    site.put_csv(
        "a.csv",
        licence("2026-01-01", "2026-01-02", "24"),
        focus_row("2026-01-01", ChargePeriodStart="2026-01-01T12:00:00Z", ChargePeriodEnd="2026-01-02T12:00:00Z"),
        licence("2026-01-01", "9999-12-31", "100"),
    )
    site.run_all("2026-01-01")
    assert entries(site) == {}
    [verdict] = [v for v in judge_rollup(site.platform, [date(2026, 1, 1)]) if v.gate == ACCRUED]
    assert verdict.passed
    assert "1 row longer than ten years, left on the day" in verdict.message


def test_the_gate_sees_a_part_that_is_off_by_one_unit(site: Site) -> None:
    day = date(2026, 1, 1)
    site.put_csv("a.csv", licence("2026-01-01", "2026-01-31", "0.1"))
    site.run_all("2026-01-01")

    def verdict() -> Any:
        [found] = [v for v in judge_rollup(site.platform, [day]) if v.gate == ACCRUED]
        return found

    assert verdict().passed
    assert verdict().figures["apportioned USD"] == "0.1"
    with site.platform.warehouse.writing() as connection:
        connection.execute(
            f"UPDATE {REPORTED_ACCRUALS} SET effective_cost = effective_cost + 0.000000000000000001 WHERE accrual_date = '2026-01-30'"
        )
    assert verdict().holds
    assert "given to days 0.100000000000000001" in verdict().message


def test_bases_are_reported_apart(site: Site) -> None:
    site.put_csv("a.csv", licence("2026-01-01", "2026-01-11", "100", EffectiveCost="90"), focus_row("2026-01-02"))
    site.run_all("2026-01-01", "2026-01-02")
    period = Period(date(2026, 1, 1), date(2026, 1, 3))
    with site.platform.warehouse.reading() as connection:
        billed = cost_by(connection, period, ("team",), basis="billed").frame()
        by_day = cost_by(connection, period, ("charge_date",), accrued_rollup(), basis="accrued").frame()
        with pytest.raises(ValueError, match="accrued"):
            cost_by(connection, period, ("team",), basis="amortised").frame()  # type: ignore[arg-type]
    assert billed["billed_cost"].tolist() == [Decimal("101.5")]
    assert "effective_cost" not in billed.columns
    assert by_day["accrued_cost"].tolist() == [Decimal(18) / 2, Decimal("10.25")]
    assert by_day["apportioned_cost"].tolist() == [Decimal(9), Decimal(9)]
    assert not {"billed_cost", "effective_cost"} & set(by_day.columns)


def test_corrections_are_actuals_of_their_day_and_shown_with_the_bill_that_brought_them(site: Site) -> None:
    late = {"BillingPeriodStart": "2026-02-01T00:00:00Z", "BillingPeriodEnd": "2026-03-01T00:00:00Z"}
    site.put_csv("jan.csv", focus_row("2026-01-31"))
    site.put_csv(
        "feb.csv",
        focus_row("2026-01-31", ChargeClass="Correction", EffectiveCost="-0.5", BilledCost="-0.75", **late),
        focus_row("2026-01-31", EffectiveCost="0.25", BilledCost="0.25", **late),
        focus_row("2026-02-01", **late),
    )
    site.run_all("2026-01-31", "2026-02-01")
    with site.platform.warehouse.reading() as connection:
        found = corrections(connection).frame()
        rollup = connection.execute(
            "SELECT effective_cost FROM daily_cost_by_team WHERE charge_date = '2026-01-31'"
        ).fetchall()
        assert len(corrections(connection, end=date(2026, 1, 31))) == 0
    assert rollup == [(Decimal("1.00"),)]
    columns = ["charge_date", "billing_period", "ChargeClass", "billed_cost", "effective_cost", "row_count"]
    assert found[columns].values.tolist() == [
        [date(2026, 1, 31), date(2026, 2, 1), "Correction", Decimal("-0.75"), Decimal("-0.5"), 1],
        [date(2026, 1, 31), date(2026, 2, 1), "", Decimal("0.25"), Decimal("0.25"), 1],
    ]


def test_the_published_copy_has_the_views(site: Site, tmp_path: Path) -> None:
    site.put_csv("a.csv", licence("2026-01-01", "2026-01-11", "100"), focus_row("2026-01-02"))
    site.run_all("2026-01-01", "2026-01-02")
    platform = site.platform
    platform.warehouse.publish(platform.lake)
    moved = platform.warehouse.published.rename(tmp_path / "elsewhere.duckdb")
    platform.warehouse.path.unlink()
    with duckdb.connect(str(moved), read_only=True) as connection:
        assert connection.execute("SELECT sum(accrued_cost) FROM daily_accrued_cost").fetchone() == (Decimal("21.25"),)
        assert connection.execute("SELECT sum(committed_cost) FROM committed_cost").fetchone() == (Decimal(80),)


EXAMPLE = SHARED / "data/spec_examples/saas_examples/simple_agreements/simple_saas_agreements_a2.csv"


@pytest.mark.skipif(not EXAMPLE.is_file(), reason="the specification's examples are not here")
def test_the_specifications_yearly_licence(site: Site, engine: duckdb.DuckDBPyConnection) -> None:
    """One row, billed and effective 50,000 for 12 months: amounts and bounds are the example's, read here as written."""
    [(cost, starts, ends)] = engine.execute(
        """
        SELECT replace(replace(trim(EffectiveCost), '$', ''), ',', ''), strptime(ChargePeriodStart, '%-m/%-d/%y'),
            strptime(ChargePeriodEnd, '%-m/%-d/%y')
        FROM read_csv(?, all_varchar = true, header = true) WHERE EffectiveCost IS NOT NULL
        """,
        [str(EXAMPLE)],
    ).fetchall()
    [parts] = apportion(engine, [(starts, ends, Decimal(cost))])
    assert len(parts) == 365
    assert sum(parts.values()) == Decimal(50000)
