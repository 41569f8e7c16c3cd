"""Sparse groups: a team is a cost center while it has enough resources in the trailing days; its cost is always kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from finops_assets.base.errors import ConfigError
from finops_assets.base.period import Period, days_between
from finops_assets.cli.program import app
from finops_assets.cost.sparse import (
    COST_CENTERS,
    SPARSE,
    SPARSE_GROUPS,
    bring_up_to_date,
    sparse_report,
    sparse_shares,
)
from finops_assets.evaluate.reports import cost_by
from finops_assets.graph.run_range import QUIET
from finops_assets_tests.conftest import Site, focus_row
from finops_assets_tests.running import Graph

FIRST = date(2026, 9, 1)
PERIOD = Period(FIRST, FIRST + timedelta(days=6))
DAYS = [day.isoformat() for day in days_between(PERIOD.first, PERIOD.end)]
GROUPS = """
sparse_groups:
  min_resources: 2
  days: 3
  overrides: {Ops/Lone: 1}
"""


def row(day: str, team: str | None, resource: str, **more: Any) -> dict[str, Any]:
    dept = {"wide": "retail", "thin": "retail", "lone": "ops", None: "retail"}[team]
    tags = f'{{"dept": "{dept}"' + (f', "team": "{team}"}}' if team else "}")
    own: dict[str, Any] = {"ResourceId": resource, "EffectiveCost": "1", "BilledCost": "2", "CommitmentDiscountId": ""}
    return focus_row(day, Tags=tags, **own | more)


def rows() -> list[dict[str, Any]]:
    """wide has 3 resources a day; thin a on day 1, b on day 2, a on day 5; lone one resource; and one without a team."""
    found = [row(day, "wide", resource) for day in DAYS for resource in ("x", "y", "z")]
    found += [row(day, "lone", "l") for day in DAYS] + [row(day, None, "u") for day in DAYS]
    found += [row(DAYS[0], "thin", "a"), row(DAYS[1], "thin", "b"), row(DAYS[4], "thin", "a")]
    # No resources: a purchase, and the commitment's own id.
    found += [row(DAYS[4], "thin", "p", ChargeCategory="Purchase"), row(DAYS[4], "thin", "c", CommitmentDiscountId="c")]
    # Cost of every day, so that the pair is there every day.
    found += [row(day, "thin", "", ChargeCategory="Adjustment") for day in DAYS]
    return found


def groups(site: Site) -> dict[tuple[str, str], tuple[int, bool]]:
    """(day, team) -> resources, sparse."""
    with site.platform.warehouse.reading() as connection:
        found = connection.execute(
            f"SELECT charge_date, team, resources, sparse FROM {SPARSE_GROUPS} ORDER BY ALL"
        ).fetchall()
    return {(day.isoformat(), team): (resources, sparse) for day, team, resources, sparse in found}


def count(site: Site) -> list[str]:
    """The days that were counted anew."""
    p = site.platform
    with p.warehouse.writing() as connection:
        return [day.isoformat() for day in bring_up_to_date(p.lake, p.warehouse, connection, p.settings, p.rules)]


@pytest.fixture
def counted(make_site: Callable[..., Site]) -> Site:
    site = make_site(extra=GROUPS)
    site.put_csv("a.csv", *rows())
    site.run_all(*DAYS)
    assert count(site) == DAYS
    return site


def test_distinct_resources_of_the_trailing_days_decide(counted: Site) -> None:
    found = groups(counted)
    assert [found[day, "thin"] for day in DAYS] == [
        (1, True), (2, False), (2, False), (1, True), (1, True), (1, True),
    ]  # fmt: skip
    assert {found[day, "wide"] for day in DAYS} == {(3, False)}
    assert {found[day, "lone"] for day in DAYS} == {(1, False)}, "its own limit is 1"
    assert {team for _, team in found} == {"thin", "wide", "lone"}, "what has no owner is no group"


def test_a_window_that_ends_and_begins_again_counts_a_resource_once(make_site: Callable[..., Site]) -> None:
    """Against counting each day's window on its own."""
    days = [day.isoformat() for day in days_between(FIRST, FIRST + timedelta(days=20))]
    seen = {r: [d for i, d in enumerate(days) if (i * 7 + r * 3) % (5 + r) < 2] for r in range(6)}
    site = make_site(extra=GROUPS.replace("days: 3", "days: 4"))
    site.put_csv(
        "a.csv",
        *(row(day, "wide", f"r{r}") for r, on in seen.items() for day in on),
        *(row(day, "wide", "", ChargeCategory="Adjustment") for day in days),
    )
    site.run_all(*days)
    count(site)
    found = groups(site)
    for i, day in enumerate(days):
        window = set(days[max(0, i - 3) : i + 1])
        assert found[day, "wide"][0] == sum(bool(window & set(on)) for on in seen.values()), day


def test_the_cost_of_sparse_groups_is_kept_in_their_department(counted: Site) -> None:
    with counted.platform.warehouse.reading() as connection:
        by = ("department", "team")
        plain, shown = cost_by(connection, PERIOD, by).frame(), cost_by(connection, PERIOD, by, COST_CENTERS).frame()
        assert (
            cost_by(connection, PERIOD, ("department",))
            .frame()
            .equals(cost_by(connection, PERIOD, ("department",), COST_CENTERS).frame())
        )
        columns = "charge_date, provider, department, environment, ServiceCategory, BillingCurrency"
        sums = (
            "sum(billed_cost), sum(effective_cost), sum(positive_effective_cost), sum(list_cost), sum(contracted_cost),"
            " sum(row_count), sum(untagged_rows), sum(committed_rows)"
        )
        [before, after] = [
            connection.execute(f"SELECT {columns}, {sums} FROM {t} GROUP BY ALL ORDER BY ALL").fetchall()
            for t in ("daily_cost_by_team", COST_CENTERS)
        ]
        assert before == after
        report, shares = sparse_report(connection, PERIOD).frame(), sparse_shares(connection, PERIOD)
    cost = {(r.department, r.team): r.effective_cost for r in plain.itertuples()}
    now = {(r.department, r.team): r.effective_cost for r in shown.itertuples()}
    assert cost["retail", "thin"] == 6 + 3 + 2
    assert now["retail", SPARSE] == 4 + 1 + 1 + 2
    assert now["retail", "thin"] == cost["retail", "thin"] - now["retail", SPARSE]
    assert now["retail", "wide"] == cost["retail", "wide"]
    assert now["retail", "__untagged__"] == 6
    [only] = report.to_dict("records")
    assert (only["team"], only["resources"], only["min_resources"], only["sparse_days"]) == ("thin", 1, 2, 4)
    assert only["effective_cost"] == Decimal(8)
    assert only["share_percent"] == pytest.approx(shares["USD"]) == pytest.approx(100 * 8 / 41)


def test_only_days_whose_window_changed_are_counted_anew(counted: Site) -> None:
    assert count(counted) == []
    counted.put_csv("b.csv", row(DAYS[2], "thin", "new"))
    counted.run_all(*DAYS)
    assert count(counted) == DAYS[2:5]
    assert groups(counted)[DAYS[3], "thin"] == (2, False)
    other = Site(counted.folder, extra=GROUPS.replace("min_resources: 2", "min_resources: 4"))
    assert count(other) == DAYS
    assert groups(other)[DAYS[0], "wide"] == (3, True)
    assert groups(other)[DAYS[0], "lone"] == (1, False)


def test_a_mistake_in_the_settings_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="allowed: department/team"):
        _ = Site(tmp_path, extra=GROUPS.replace("Ops/Lone", "lone")).platform
    with pytest.raises(ConfigError, match="did you mean 'min_resources'"):
        _ = Site(tmp_path, extra=GROUPS.replace("min_resources", "min_resource")).platform


def test_the_asset_and_the_command_line(counted: Site) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(counted.platform.settings, instance)
        some = dg.define_asset_job("some", selection=dg.AssetSelection.assets(SPARSE_GROUPS))
        defs = dg.Definitions.merge(graph.defs, dg.Definitions(jobs=[some]))
        result = defs.resolve_job_def("some").execute_in_process(instance=instance, run_config=QUIET)
        [event] = result.get_asset_materialization_events()
        assert event.materialization.metadata["sparse groups"].value == 1
    counted.platform.warehouse.publish(counted.platform.lake)
    config = counted.folder / "finops.yaml"
    config.write_text(
        "first_day: 2026-01-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        "sources: [{name: bill, uri: exports, layout: files}]\n"
        "dimensions:\n  team: {keys: [team]}\n  department: {keys: [dept]}\n" + GROUPS
    )

    def told(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["report", *arguments, "--config", str(config)])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "thin" in told("sparse")
    shown = told("teams", "--sparse")
    assert "__sparse__: 19.5 % of USD" in shown
    assert SPARSE not in told("teams")
    assert (
        CliRunner().invoke(app, ["report", "teams", "--sparse", "--as-of", "2026-10-01", "-c", str(config)]).exit_code
        == 1
    )
