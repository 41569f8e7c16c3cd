"""The rollup by every dimension of finops.yaml: one that comes, one that goes, and days that were built without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from finops_assets.base.errors import ConfigError
from finops_assets.base.period import Period, days_between
from finops_assets.cli.program import app
from finops_assets.cost import rollup
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.restatements import REPORTED_COST, keep_history, restatements
from finops_assets.cost.sparse import COST_CENTERS, bring_up_to_date
from finops_assets.evaluate.allocation.balance import ALLOCATED_COST
from finops_assets.evaluate.allocation.days import bring_up_to_date as allocate_days
from finops_assets.evaluate.forecast.period import kinds_of_series
from finops_assets.evaluate.forecast.series import daily_series
from finops_assets.evaluate.reports import cost_by, days_without, untagged_by
from finops_assets.judge.gates import rollup as gates
from finops_assets.tables.ddl import dimensions_of
from finops_assets_tests.conftest import Site, focus_row

pytestmark = pytest.mark.slow  # by its time, not by what it needs

ONE, TWO = "2026-09-01", "2026-09-02"
PERIOD = Period(date(2026, 9, 1), date(2026, 9, 3))
OWN = '  order: {keys: [order]}\n  "group": {keys: [cc]}\n'
"""Names that are words of SQL."""


def rows() -> list[dict[str, Any]]:
    tags = [
        '{"team": "core", "order": "a", "cc": "1"}',
        '{"team": "core", "order": "b"}',
        '{"team": "core", "cc": "1"}',
    ]
    long: dict[str, Any] = {"ChargePeriodEnd": "2026-09-03T10:00:00Z", "CommitmentDiscountId": "plan"}
    return [
        *(row(day, tag, n) for day in (ONE, TWO) for n, tag in enumerate(tags, 1)),
        row(ONE, tags[0], 10, **long),
    ]


def row(day: str, tags: str, cost: int, **more: Any) -> dict[str, Any]:
    return focus_row(day, Tags=tags, EffectiveCost=str(cost), **({"CommitmentDiscountId": ""} | more))


@pytest.fixture
def before(make_site: Callable[..., Site]) -> Site:
    """Two days built with department and team alone."""
    site = make_site()
    site.put_csv("a.csv", *rows())
    site.run_all(ONE, TWO)
    return site


def build(site: Site, *days: str) -> Site:
    """Attribute and sum these days anew, from what was landed."""
    site.facts(*days)
    p = site.platform
    build_rollup(p.lake, p.warehouse, p.rules, p.settings, [date.fromisoformat(d) for d in days])
    return site


def asked(site: Site, query: str) -> list[tuple[Any, ...]]:
    with site.platform.warehouse.reading() as connection:
        return connection.execute(query).fetchall()


def by(site: Site, table: str, column: str, cost: str = "effective_cost", where: str = "true") -> dict[Any, Decimal]:
    found = asked(site, f'SELECT "{column}", sum({cost}) FROM {table} WHERE {where} GROUP BY 1 HAVING sum({cost}) <> 0')
    return dict(found)


def test_a_dimension_that_comes_is_there_for_days_that_run_again_and_null_before(before: Site) -> None:
    site = build(replace(before, extra=OWN), ONE)
    first, second = f"charge_date = DATE '{ONE}'", f"charge_date = DATE '{TWO}'"
    assert by(site, rollup.ROLLUP_TABLE, "order", where=first) == {"a": 11, "b": 2, "__untagged__": 3}
    assert by(site, rollup.ROLLUP_TABLE, "group", where=first) == {"1": 14, "__untagged__": 2}
    assert by(site, rollup.ROLLUP_TABLE, "order", where=second) == {None: 6}
    assert by(site, "daily_commitments", "order", "row_count") == {"a": 1}
    # Parts of the long charge fall on days that were built before it, and keep what it is known by.
    assert by(
        site, "daily_accrued_cost", "order", "accrued_cost", f"accrual_date = DATE '{TWO}' AND is_apportioned"
    ) == {
        "a": Decimal(5),
    }
    assert all(v.passed for v in gates.judge_rollup(site.platform, [date(2026, 9, 1)]))
    with site.platform.warehouse.reading() as connection:
        assert days_without(connection, PERIOD, ("order", "team")) == {"order": [date(2026, 9, 2)]}
        shown = cost_by(connection, PERIOD, ("order",)).frame()
        assert shown["effective_cost"].sum() == 22
        # A share is of the days whose dimension is known.
        untagged = untagged_by(connection, PERIOD).frame().iloc[0]
    assert (untagged["untagged_order"], untagged["untagged_order_percent"]) == (3, pytest.approx(100 * 3 / 16))
    assert untagged["untagged_department_percent"] == 100


@pytest.mark.long
def test_history_stays_comparable_over_a_change_of_dimensions(before: Site) -> None:
    """A day that is summed by more or by fewer names has moved by nothing; what it was reported by stays told."""
    wider = build(replace(before, extra=OWN), ONE, TWO)
    with wider.platform.warehouse.reading() as connection:
        assert restatements(connection).frame().empty
    told = f'SELECT DISTINCT "order" FROM {REPORTED_COST} WHERE reported_to IS {{}} ORDER BY ALL'
    assert asked(wider, told.format("NOT NULL")) == [(None,)]
    assert asked(wider, told.format("NULL")) == [("__untagged__",), ("a",), ("b",)]
    narrow = build(replace(before, extra='  "group": {keys: [cc]}\n'), ONE, TWO)
    with narrow.platform.warehouse.reading() as connection:
        assert restatements(connection).frame().empty
        assert dimensions_of(connection) == ("department", "team", "environment", "group"), "collapsed"
    assert asked(narrow, told.format("NULL")) == [(None,)]
    assert ("b",) in asked(narrow, told.format("NOT NULL"))
    assert asked(narrow, f"SELECT count(*) FROM {rollup.ROLLUP_TABLE}") == [(4,)]
    # A real restatement beside the change of names is told, with its money.
    narrow.put_csv("a.csv", *rows(), row(TWO, '{"team": "core", "order": "a"}', 5))
    again = replace(narrow, extra=OWN)
    again.run_all(ONE, TWO)
    with again.platform.warehouse.reading() as connection:
        moved = restatements(connection).frame()
    assert [(str(r.charge_date), r.moved) for r in moved.itertuples()] == [(TWO, Decimal(5))]


@pytest.mark.long
def test_a_dimension_that_goes_collapses_day_by_day(before: Site) -> None:
    wide = build(replace(before, extra=OWN), ONE, TWO)
    with wide.platform.warehouse.writing() as connection:
        p = wide.platform
        bring_up_to_date(p.lake, p.warehouse, connection, p.settings, p.rules)
    narrow = build(replace(before, extra=""), ONE)
    p = narrow.platform
    # Half way: published, and its views with it.
    p.warehouse.publish(p.lake, p.rules.dimensions)
    assert asked(narrow, f"SELECT count(*) FROM {rollup.ROLLUP_TABLE} WHERE charge_date = DATE '{ONE}'") == [(1,)]
    assert by(narrow, rollup.ROLLUP_TABLE, "order") == {None: 16, "a": 1, "b": 2, "__untagged__": 3}
    build(narrow, TWO)
    p.warehouse.publish(p.lake, p.rules.dimensions)
    with duckdb.connect(str(p.warehouse.published), read_only=True) as connection:
        assert dimensions_of(connection) == ("department", "team", "environment")
        assert "order" in dimensions_of(connection, REPORTED_COST), "what was reported by it stays"
        for table in (rollup.ROLLUP_TABLE, "daily_accrued_cost", COST_CENTERS):
            assert connection.execute(f"SELECT sum(row_count) FROM {table}").fetchall() == [(7,)], table


def test_a_dimension_with_too_many_values_is_not_summed_by(before: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "MOST_VALUES", 1)
    site = build(replace(before, extra=OWN), ONE, TWO)
    assert by(site, rollup.ROLLUP_TABLE, "order") == {"__other__": 16, "__untagged__": 6}
    assert by(site, rollup.ROLLUP_TABLE, "group") == {"1": 18, "__untagged__": 4}, "one value a day is not too many"
    assert all(v.passed for v in gates.judge_rollup(site.platform, PERIOD.days))
    assert asked(site, 'SELECT DISTINCT "order" FROM daily_commitments') == [("__other__",)]
    site.platform.warehouse.publish(site.platform.lake, site.platform.rules.dimensions)
    (site.folder / "finops.yaml").write_text(site.text, encoding="utf-8")
    arguments = ["report", "teams", "--by", "order", "--format", "csv", "--config", str(site.folder / "finops.yaml")]
    done = CliRunner().invoke(app, arguments)
    assert "order has too many values to be summed by on 2 of the days" in " ".join(done.stderr.split())


@pytest.mark.long
def test_commands_say_which_names_there_are_and_which_days_lack_one(before: Site) -> None:
    def say(site: Site, *arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--config", str(site.folder / "finops.yaml")])
        return " ".join((done.output + done.stderr).split())

    wide = replace(before, extra=OWN)
    (wide.folder / "finops.yaml").write_text(wide.text, encoding="utf-8")
    p = before.platform
    p.warehouse.publish(p.lake, p.rules.dimensions)
    assert "finops.yaml has order, but no day was built with it" in say(wide, "report", "teams", "--by", "order")
    p = build(wide, TWO).platform
    p.warehouse.publish(p.lake, p.rules.dimensions)
    told = say(wide, "report", "teams", "--by", "order", "--format", "csv")
    assert "order is not known of 1 of the days" in told
    assert "`finops run 2026-09-01 2026-09-02` builds them with it" in told
    assert "allowed: charge_date, provider, department, team, environment, order, group, ServiceCategory" in say(
        wide, "report", "savings", "--by", "squad"
    )
    for command in (["report", "committed"], ["report", "savings"], ["report", "untagged"], ["report", "services"]):
        assert "error" not in say(wide, *command, "--by", "order,group"), command
    assert "a,USD" in say(wide, "report", "teams", "--by", "order", "--basis", "accrued", "--format", "csv")


@pytest.mark.parametrize("name", ["row_count", "billed_cost", "is_apportioned", "reported_to"])
def test_a_dimension_cannot_be_called_as_another_column(make_site: Callable[..., Site], name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}' is taken by a column of the rollup's tables"):
        make_site(extra=f"  {name}: {{keys: [x]}}\n").platform  # noqa: B018  # reads the settings


RULE = "shared_cost: [{name: orders, cost: {order: A, team: core}, method: fixed, percent: {ops/run: 25}}]\n"


def test_shared_cost_names_a_dimension_and_says_which_days_lack_it(before: Site) -> None:
    site = build(replace(before, extra=OWN + RULE), ONE)
    p = site.platform
    with p.warehouse.writing() as connection:
        done = allocate_days(p.warehouse, connection, p.settings.shared_cost)
        moved = dict(
            connection.execute(
                f"SELECT charge_date, sum(effective_cost) FROM {ALLOCATED_COST} WHERE team = 'run' GROUP BY 1"
            ).fetchall()
        )
    assert moved == {date(2026, 9, 1): Decimal("2.75")}, "a quarter of 11"
    assert not done.refused
    assert [text for text in done.unknown if "were built before" in text] == [
        "rule orders: 1 days from 2026-09-02 to 2026-09-02 were built before finops.yaml had order; the rule splits nothing of"
        " them until they are run again (`finops run 2026-09-02 2026-09-03`)"
    ]
    with pytest.raises(ConfigError, match=r"cost.ordr: is not a known setting; did you mean 'order'\?"):
        replace(before, extra=OWN + RULE.replace("order:", "ordr:")).platform  # noqa: B018  # reads the settings


def test_every_dimension_is_forecast_from_the_days_that_know_it(before: Site) -> None:
    site = build(replace(before, extra=OWN), TWO)
    with site.platform.warehouse.reading() as connection:
        assert list(kinds_of_series(connection)) == [
            "total", "department", "team", "service", "environment", "order", "group", "provider",
        ]  # fmt: skip
        found = daily_series(connection, ("order",))
    assert found is not None
    assert found.keys == [("__untagged__",), ("a",), ("b",)], "no series of what is not known"
    assert np.isnan(found.costs[:, 0]).all(), "not 0: unknown"
    assert found.costs[1, 1] == 1


def test_history_keeps_days_of_many_rows(make_site: Callable[..., Site]) -> None:
    """As many as a transaction writes past its buffer: none was kept of them once, in silence."""
    with make_site().platform.warehouse.writing() as connection:
        connection.execute("BEGIN")
        day = "DATE '2026-09-01' + CAST(range % 8 AS INTEGER) AS charge_date"
        made = f"SELECT {day}, 'a' || range AS team, CAST(1 AS DECIMAL(38, 18)) AS effective_cost FROM range(130_000)"
        connection.execute(f"CREATE TEMP TABLE made AS {made}")
        days = days_between(date(2026, 9, 1), date(2026, 9, 9))
        assert len(keep_history(connection, days, "SELECT * FROM made")) == 8
        connection.execute("COMMIT")
        assert connection.execute(f"SELECT count(*) FROM {REPORTED_COST}").fetchall() == [(130_000,)]
