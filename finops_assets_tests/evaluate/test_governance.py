"""The tag policy: coverage against the target, values outside the canon, keys that map to nothing, and who owes what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from finops_assets.base.errors import ConfigError
from finops_assets.cli.program import app
from finops_assets.evaluate.governance.policy import Policy, PolicyError, read_policy
from finops_assets.evaluate.governance.tags import Governance, aliases_yaml, judge_tags, suggested_aliases, weeks_before
from finops_assets.evaluate.governance.target import judge_target
from finops_assets.graph.run_alerts import finished_runs, run_observations
from finops_assets.graph.run_range import QUIET
from finops_assets.settings.load import parse_settings
from finops_assets.settings.tag_policy import TagTarget
from finops_assets_tests.conftest import Site, focus_row
from finops_assets_tests.running import Graph

D1, D2 = "2026-09-04", "2026-09-08"  # a Friday, and the Tuesday of the week after
DAYS = [date.fromisoformat(D1), date.fromisoformat(D2)]
POLICY = """
tag_policy:
  required: [department, team]
  canonical: {team: [core, web, data-platform]}
  organisation: organisation.csv
  champions: {Ops: bob@example.com}
  target: {untagged_below: 20, by: 2026-09-30}
"""
ORGANISATION = """department,team,champion
retail,shop,ada@example.com
retail,web,ada@example.com
ops,core,
"""


def rows() -> list[dict[str, Any]]:
    """Two accounts of retail and ops, one of nobody; 100 USD in the first week, 200 USD and 50 EUR in the second."""

    def row(day: str, account: str, tags: str, cost: int, **more: str) -> dict[str, Any]:
        return focus_row(day, SubAccountName=account, Tags=tags, EffectiveCost=str(cost), BilledCost="1", **more)

    return [
        row(D1, "shop", '{"team": "web", "dept": "retail"}', 60),
        row(D1, "shop", '{"Tribe": "web"}', 40),
        row(D2, "shop", '{"team": "wep", "dept": "retail", "x:owner": "core"}', 50),
        row(D2, "shop", '{"x_owner": "n/a"}', 10),
        row(D2, "ops", '{"team": "core", "dept": "ops"}', 100),
        row(D2, "ops", '{"dept": "ops", "tribe": "core", "ticket": "1"}', 25),
        row(D2, "lab", '{"tribe": "core", "ticket": "2"}', 15),
        row(D2, "lab", '{"tribe": "core"}', 50, BillingCurrency="EUR"),
        focus_row(D2, SubAccountName="shop", Tags="", EffectiveCost="-500", ChargeCategory="Credit"),
    ]


def judged(site: Site) -> Governance:
    p = site.platform
    return judge_tags(p.lake, p.settings, p.rules, read_policy(p.settings), DAYS)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("governance")
    (folder / "organisation.csv").write_text(ORGANISATION)
    site = Site(folder, extra=POLICY)
    site.put_csv("a.csv", *rows())
    site.run_all(D1, D2)
    return site


@pytest.fixture(scope="module")
def found(site: Site) -> Governance:
    return judged(site)


def test_the_policy_is_of_the_file_and_of_finops_yaml_together(site: Site) -> None:
    policy = read_policy(site.platform.settings)
    assert policy.canonical["team"] == {"core", "web", "data-platform", "shop"}
    assert policy.canonical["department"] == {"retail", "ops"}
    assert policy.champions == {"retail": "ada@example.com", "ops": "bob@example.com"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("department,squad\n", "found the columns squad; allowed: team, department, champion"),
        ("", "is empty"),
        ("department,champion\nops,a\nOPS,b\n", "line 3: found champion 'b' of ops, which has 'a' already"),
        ("team,champion\ncore,a\n", "line 2: champion 'a' without a department"),
        (None, "cannot be read as CSV"),
    ],
)
def test_a_mistake_in_the_organisation_is_told(
    make_site: Callable[..., Site], tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "organisation.csv").write_text(text)
    with pytest.raises(PolicyError, match=message):
        read_policy(make_site(extra=POLICY).platform.settings)


def test_a_policy_of_an_unknown_dimension_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="allowed: department, team"):
        _ = Site(tmp_path, extra=POLICY.replace("{team: [core", "{squad: [core")).platform


@pytest.mark.parametrize(
    ("value", "nearest"),
    [
        ("wep", None),  # two of three letters could be anything
        ("data platform", "data-platform"),
        ("data-platfrom", "data-platform"),
        ("dataplatform", "data-platform"),
        ("platform data", "data-platform"),
        ("payments", None),
        ("data-platform2", None),
        ("cc-1300", None),
        ("CC 1000", "cc-1000"),
    ],
)
def test_the_nearest_canonical_value_is_one_that_may_be_meant(value: str, nearest: str | None) -> None:
    policy = Policy((), {"team": frozenset({"core", "data-platform", "cc-1000"})}, {}, None)
    assert policy.nearest("team", value.lower())[0] == nearest


def of(table: pd.DataFrame, **values: object) -> list[dict[str, Any]]:
    for column, value in values.items():
        table = table[table[column] == value]
    return [{str(column): value for column, value in row.items()} for row in table.to_dict("records")]


def test_coverage_is_by_week_and_scope_against_the_target(found: Governance) -> None:
    monday, next_monday = pd.Timestamp("2026-08-31"), pd.Timestamp("2026-09-07")
    [first] = of(found.coverage, week=monday, scope="all", dimension="team", currency="USD")
    assert (first["positive_effective_cost"], first["without_cost"], first["without_percent"]) == (100, 40, 40.0)
    assert first["meets_target"] is False
    [second] = of(found.coverage, week=next_monday, scope="all", dimension="team", currency="USD")
    assert (second["positive_effective_cost"], second["without_cost"], second["outside_cost"]) == (200, 50, 50)
    assert second["target_by"] == pd.Timestamp("2026-09-30")
    [euro] = of(found.coverage, scope="all", dimension="department", currency="EUR")
    assert euro["without_percent"] == 100.0
    [ops] = of(found.coverage, week=next_monday, scope="account", name="ops", dimension="department")
    assert (ops["without_percent"], ops["meets_target"]) == (0.0, True)
    [retail] = of(found.coverage, week=next_monday, scope="department", name="retail")
    assert (retail["dimension"], retail["positive_effective_cost"]) == ("team", 50)
    for scope in ("all", "provider", "account", "department"):
        mine = found.coverage[(found.coverage["scope"] == scope) & (found.coverage["dimension"] == "team")]
        assert sum(mine["positive_effective_cost"]) == 350, "no scope loses money"


def test_values_outside_the_canon_have_their_money_and_champion(found: Governance) -> None:
    [wep] = found.outside.to_dict("records")
    assert (wep["dimension"], wep["value"], wep["positive_effective_cost"]) == ("team", "wep", 50)
    assert (wep["departments"], wep["champion"], wep["row_count"]) == ("retail", "ada@example.com", 1)
    assert wep["nearest"] is None or wep["nearest"] == "web"


def test_keys_that_map_to_nothing_have_their_money_and_what_they_would_attribute(found: Governance) -> None:
    by_key = {(row["tag_key"], row["currency"]): row for row in found.unmapped.to_dict("records")}
    tribe = by_key["tribe", "USD"]
    assert (tribe["dimension"], tribe["known_values_percent"]) == ("team", 100.0)
    assert (tribe["positive_effective_cost"], tribe["would_attribute_cost"]) == (80, 80)
    assert by_key["tribe", "EUR"]["would_attribute_cost"] == 50
    assert by_key["ticket", "USD"]["dimension"] is None
    owner = by_key["x:owner", "USD"]
    assert (owner["dimension"], owner["would_attribute_cost"]) == ("team", 0), "its rows have a team"
    assert ("team", "USD") not in by_key
    assert suggested_aliases(found.unmapped) == {"team": ["tribe"]}


def test_suggested_aliases_are_yaml_that_attributes_what_it_says(site: Site, found: Governance, tmp_path: Path) -> None:
    text = aliases_yaml(site.platform.settings, found.unmapped)
    assert "would attribute 50.00 EUR, 80.00 USD; 100 % of its 2 values are known" in text
    suggested = yaml.safe_load(text)["dimensions"]
    assert suggested == {"team": {"keys": ["team", "squad", "tribe"], "values": {"core-team": "core"}}}
    body = site.platform.settings.dimensions["team"].model_copy(update={"keys": ("team", "squad", "tribe")})
    settings = site.platform.settings
    changed = settings.model_copy(
        update={
            "dimensions": {**settings.dimensions, "team": body},
            "lake": tmp_path / "lake",
            "warehouse": tmp_path / "w.duckdb",
        }
    )
    other = Site(tmp_path, extra="")
    object.__setattr__(other, "platform", replace(other.platform, settings=changed))
    other.put_csv("a.csv", *rows())
    other.run_all(D1, D2)

    def without(judged: Governance, currency: str) -> Decimal:
        return sum(
            (r["without_cost"] for r in of(judged.coverage, scope="all", dimension="team", currency=currency)),
            Decimal(0),
        )

    assert (without(found, "USD"), without(found, "EUR")) == (90, 50)
    assert (without(judged(other), "USD"), without(judged(other), "EUR")) == (90 - 80, 50 - 50)


def test_the_debt_is_of_a_department_by_tags_else_by_its_account(found: Governance) -> None:
    def owed(**values: object) -> dict[str, Decimal]:
        return {row["account"]: row["positive_effective_cost"] for row in of(found.debt, **values)}

    assert owed(problem="missing", dimension="team", department="ops", known_by="tags or rules") == {"ops": 25}
    assert owed(problem="missing", dimension="team", champion="ada@example.com", known_by="its account") == {"shop": 50}
    assert owed(problem="outside the canon", value="wep", champion="ada@example.com") == {"shop": 50}
    [nobody] = of(found.debt, dimension="team", department="__untagged__", currency="USD")
    assert (nobody["account"], nobody["champion"], nobody["known_by"]) == ("lab", "", "nothing")
    missing = found.debt[(found.debt["problem"] == "missing") & (found.debt["dimension"] == "team")]
    total = found.coverage[(found.coverage["scope"] == "all") & (found.coverage["dimension"] == "team")]
    assert sum(missing["positive_effective_cost"]) == sum(total["without_cost"]), "all of it is somebody's, or nobody's"


def test_the_target_fails_after_its_date_alone(site: Site, found: Governance) -> None:
    policy = read_policy(site.platform.settings)
    before = judge_target(policy, found.coverage, found.debt, found.recent, date(2026, 9, 30))
    assert before.passed
    assert "in 0 days" in before.message
    after = judge_target(policy, found.coverage, found.debt, found.recent, date(2026, 10, 1))
    assert not after.passed
    assert "30.0 % of USD cost has no team" in after.message
    assert "retail (ada@example.com)" in after.message
    reached = replace(policy, target=TagTarget(untagged_below=100, by=date(2026, 9, 1)), required=("team",))
    usd = found.coverage[found.coverage["currency"] == "USD"]
    assert judge_target(reached, usd, found.debt, found.recent, date(2027, 1, 1)).passed
    assert judge_target(replace(policy, target=None), usd, found.debt, found.recent, date(2027, 1, 1)).passed


def test_weeks_are_whole_ones_before_the_end() -> None:
    days = weeks_before(date(2026, 9, 9))
    assert (days[0], days[-1], days[0].weekday()) == (date(2026, 6, 15), date(2026, 9, 8), 0)


@pytest.fixture(scope="module")
def graph(site: Site) -> Iterator[Graph]:
    """The graph, with the four tables made and published."""
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(site.platform.settings, instance)
        materialize(graph)
        site.platform.warehouse.publish(site.platform.lake)
        yield graph


def materialize(graph: Graph) -> None:
    keys = ("tag_coverage", "tag_values_outside_canon", "tag_keys_unmapped", "tag_debt")
    some = dg.define_asset_job("some", selection=dg.AssetSelection.assets(*keys))
    defs = dg.Definitions.merge(graph.defs, dg.Definitions(jobs=[some]))
    assert defs.resolve_job_def("some").execute_in_process(instance=graph.instance, run_config=QUIET).success


def test_the_graph_makes_the_tables_and_tells_of_a_missed_target(site: Site, graph: Graph) -> None:
    with site.platform.warehouse.reading() as connection:
        [(without,)] = connection.execute(
            "SELECT sum(without_cost) FROM tag_coverage WHERE scope = 'all' AND dimension = 'team' AND currency = 'USD'"
        ).fetchall()
        assert without == 90
    [ended] = finished_runs(graph.instance, 0)[0]
    [seen] = [
        o
        for o in run_observations(graph.instance, site.platform, ended, [])
        if o.key == "check tag_coverage:target_reached"
    ]
    assert seen.alert is not None
    assert seen.alert.severity == "WARNING"
    assert "the target is below 20 % by 2026-09-30, which has passed" in seen.alert.text


def test_the_command_line_shows_what_is_published(site: Site, graph: Graph) -> None:
    config = site.folder / "finops.yaml"
    dumped = (
        "first_day: 2026-01-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        "sources: [{name: bill, uri: exports, layout: files}]\n"
        "dimensions:\n  team: {keys: [team, squad], values: {core-team: core}}\n  department: {keys: [dept]}\n"
    )
    config.write_text(dumped + POLICY)
    assert parse_settings(dumped + POLICY, config).tag_policy.organisation == site.folder / "organisation.csv"

    def told(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["tags", *arguments, "--config", str(config)])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "2026-09-07" in told("coverage", "--by", "provider")
    assert "wep" in told("values")
    assert "tribe" in told("keys", "--format", "csv")
    assert "shop" in told("debt", "--champion", "ada@example.com")
    assert yaml.safe_load(told("suggest-aliases"))["dimensions"]["team"]["keys"][-1] == "tribe"
    wrong = CliRunner().invoke(app, ["tags", "debt", "--champion", "x", "--config", str(config)])
    assert wrong.exit_code == 1
    assert "ada@example.com, bob@example.com" in " ".join(wrong.stderr.split())


def test_a_policy_without_requirements_gives_empty_tables(make_site: Callable[..., Site]) -> None:
    plain = make_site(extra="")
    plain.put_csv("a.csv", *rows())
    plain.run_all(D1, D2)
    found = judged(plain)
    assert found.coverage.empty
    assert found.outside.empty
    assert found.debt.empty
    assert not found.unmapped.empty
    nothing = judge_tags(
        plain.platform.lake, plain.platform.settings, plain.platform.rules, read_policy(plain.platform.settings),
        [DAYS[0] - timedelta(days=40)],
    )  # fmt: skip
    assert nothing.unmapped.empty
