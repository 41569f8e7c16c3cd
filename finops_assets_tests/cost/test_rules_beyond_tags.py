"""Rules on FOCUS columns and accepted owners: what they give, in which order, and that facts say so."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import pytest
import sqlglot
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from typer.testing import CliRunner

from finops_assets.base.errors import ConfigError
from finops_assets.cli.program import app
from finops_assets.cost.attribution.combinations import combinations_query
from finops_assets.cost.attribution.owner_decisions import Decision, OwnerDecisions
from finops_assets.cost.attribution.row_rules import Matcher, RulesOfDay, RuleValues
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.attribution.versions import audit, versions_table
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.engines.dialects import DIALECTS, rendered
from finops_assets.cost.facts import build_facts
from finops_assets.cost.facts_query import facts_query
from finops_assets.demo import Estate
from finops_assets.demo.catalog import DEPARTMENTS
from finops_assets.evaluate.owners.resources import read_resources
from finops_assets.evaluate.owners.suggest import Coverage, suggest
from finops_assets.evaluate.rules_preview import preview
from finops_assets.focus.tags import Tags
from finops_assets.graph.days_to_run import days_to_run
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.judge.gates.facts import CONSERVED, judge_facts
from finops_assets.judge.gates.rollup import judge_rollup
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets.storage.day_files import facts_relation, facts_rules
from finops_assets_tests.conftest import Site, focus_row
from finops_assets_tests.running import Graph, settings_for, small_estate

DAY = "2026-09-01"
MakeSite = Callable[..., Site]
FACTS = "cloud_cost_facts"

ACCOUNTS = """
attribution_rules:
  - name: sandbox_is_platforms
    when: {SubAccountName: [sandbox, "legacy-*"]}
    set: {department: platform, team: sandbox}
  - name: account_names_its_department
    when: {SubAccountName: "payments-*"}
    set: {department: payments}
"""


def rules_yaml(*rules: str) -> str:
    return "attribution_rules:\n" + "".join(f"  - {rule}\n" for rule in rules)


def owners_of(site: Site, *rows: dict[str, object], days: tuple[str, ...] = (DAY,)) -> list[tuple[object, ...]]:
    """department, department_key, team, team_key of each row."""
    site.put_csv("a.csv", *rows)
    site.run(*days)
    site.facts(*days)
    return [
        found
        for day in days
        for found in site.rows(day, "department", "department_key", "team", "team_key", layer="facts")
    ]


@pytest.mark.parametrize(
    ("globs", "value", "expected"),
    [
        (("prod-*",), "PROD-eu", True),
        (("prod-*",), "xprod-eu", False),
        (("prod",), "prod-eu", False),
        (("a?c",), "abc", True),
        (("a[b]*",), "a[b]c", True),
        (("a[b]*",), "abc", False),
        (("x", "y*"), "yes", True),
        (("*",), "", False),
        (("",), "", True),
        (("",), "a", False),
        (("*",), "two\nlines", True),
    ],
)
def test_a_glob_knows_star_and_question_mark_and_no_case(globs: tuple[str, ...], value: str, expected: bool) -> None:
    assert Matcher(globs).matches(value) is expected


def test_a_regular_expression_is_found_anywhere_and_knows_case() -> None:
    assert Matcher(regex=r"-(dev|test)\d*$").matches("shop-test12")
    assert not Matcher(regex="prod").matches("PROD")
    assert not Matcher(regex=".*").matches(""), "a missing value is matched by the empty glob alone"


@pytest.mark.parametrize(
    "matcher",
    [
        Matcher(regex="(a+)+$"),
        Matcher(regex="(a|aa)+$"),
        Matcher(regex="(a*)*(a+)*b$."),
        Matcher(("*a" * 30 + "*b*c",)),
    ],
)
def test_no_expression_runs_for_ever_on_a_hostile_value(matcher: Matcher) -> None:
    assert not matcher.matches("a" * 5_000 + "!b")
    assert matcher.each(["", "a" * 5_000 + "!b"]) == [False, False]


def test_of_each_dimension_the_first_rule_counts_and_tags_come_before_what_fills(make_site: MakeSite) -> None:
    site = make_site(
        extra=rules_yaml(
            "{name: all_of_it, when: {SubAccountName: shop}, set: {team: web}}",
            "{name: second, when: {SubAccountName: 'sh*'}, set: {team: late, department: retail}}",
            "{name: audited, when: {ResourceId: 'i-9*'}, set: {team: audit}, overrides_tags: true}",
        )
    )
    found = owners_of(
        site,
        focus_row(SubAccountName="shop", ResourceId="i-1", Tags='{"team": "core"}'),
        focus_row(SubAccountName="shop", ResourceId="i-2", Tags=""),
        focus_row(SubAccountName="SHELF", ResourceId="i-3", Tags='{"team": "n/a"}'),
        focus_row(SubAccountName="shop", ResourceId="i-9", Tags='{"team": "core"}'),
        focus_row(SubAccountName="", ResourceId="i-4", Tags=""),
    )
    assert found == [
        ("retail", "rule:second", "core", "team"),
        ("retail", "rule:second", "web", "rule:all_of_it"),
        ("retail", "rule:second", "late", "rule:second"),
        ("retail", "rule:second", "audit", "rule:audited"),
        (None, None, None, None),
    ]


def test_all_conditions_must_hold_also_those_on_tags_and_source(make_site: MakeSite) -> None:
    site = make_site(
        extra=rules_yaml(
            "{name: app, when: {tags: {Application: ['app-1*'], ticket: ''}, RegionId: eu-*}, set: {team: apps}}",
            "{name: elsewhere, when: {source: [b*, x], ServiceName: Queues}, set: {team: queues}}",
            "{name: nameless, when: {ResourceName: ''}, set: {department: nobody}}",
        )
    )
    region = {"RegionId": "eu-west", "ResourceName": "r"}
    found = owners_of(
        site,
        focus_row(Tags='{"application": "APP-12"}', **region),
        focus_row(Tags='{"application": "app-12", "ticket": "7"}', **region),
        focus_row(Tags='{"application": "app-2"}', **region),
        focus_row(Tags='{"application": "app-12"}', RegionId="us-east", ResourceName="r"),
        focus_row(Tags="", ServiceName="Queues", RegionId="", ResourceName=""),
    )
    assert [row[2] for row in found] == ["apps", None, None, None, "queues"]
    assert [row[1] for row in found] == [None, None, None, None, "rule:nameless"]


def test_a_rule_holds_from_a_day_and_until_before_another(make_site: MakeSite) -> None:
    days = ("2026-09-01", "2026-09-02", "2026-09-03")
    site = make_site(
        extra=rules_yaml("{name: x, when: {source: bill}, set: {team: x}, from: 2026-09-02, until: 2026-09-03}")
    )
    found = owners_of(site, *(focus_row(day, Tags="") for day in days), days=days)
    assert [row[2] for row in found] == [None, "x", None]


def test_values_of_rules_are_unified_as_those_of_tags(make_site: MakeSite) -> None:
    site = make_site(extra=rules_yaml("{name: x, when: {ServiceName: '*'}, set: {team: ' Core-Team '}}"))
    assert owners_of(site, focus_row(Tags=""))[0][2:] == ("core", "rule:x")


def decided(resource: str, value: str, dimension: str = "team", first: date | None = None) -> Decision:
    at = datetime(2026, 10, 5, tzinfo=UTC)
    return Decision("bill", resource, dimension, "accepted", value, at, decided_by="ada", valid_from=first)


def accept(site: Site, *decisions: Decision) -> Site:
    """The same place, with these owners accepted."""
    OwnerDecisions.beside(site.platform.settings.warehouse).enter(decisions)
    return Site(site.folder, extra=site.extra)


def test_accepted_owners_are_rules_of_the_lowest_rank(make_site: MakeSite) -> None:
    site = make_site(extra=rules_yaml("{name: x, when: {ResourceId: i-1}, set: {team: x}}"))
    accept(site, decided("i-1", "y"), decided("i-1", "sales", "department"), decided("i-2", "z"), decided("i-3", "z"))
    found = owners_of(
        site,
        focus_row(ResourceId="i-1", Tags=""),
        focus_row(ResourceId="i-2", Tags=""),
        focus_row(ResourceId="i-3", Tags='{"team": "core"}'),
        focus_row(ResourceId="i-4", Tags=""),
    )
    assert found == [
        ("sales", "owner:ada 2026-10-05", "x", "rule:x"),
        (None, None, "z", "owner:ada 2026-10-05"),
        (None, None, "core", "team"),
        (None, None, None, None),
    ]


def test_an_accepted_owner_makes_exactly_the_rules_new_and_the_days_stale(site: Site) -> None:
    assert owners_of(site, focus_row(ResourceId="i-1", Tags=""))[0][2] is None
    before = site.platform.rules
    later = accept(site, decided("i-1", "shop"))
    assert later.platform.rules.version != before.version
    assert later.platform.rules.tags_version == before.version, "no tag set is resolved anew"
    assert [day.written for day in later.facts(DAY)] == [True]
    assert later.value(DAY, "team", layer="facts") == "shop"
    assert [day.written for day in later.facts(DAY)] == [False]
    again = accept(site, decided("i-1", "shop", first=date(2026, 9, 2)))
    again.facts(DAY)
    assert again.value(DAY, "team", layer="facts") is None


def test_without_rules_nothing_of_it_is_run(site: Site) -> None:
    rules = site.platform.rules
    assert rules.version == rules.tags_version
    assert not rules.of_day("bill", date(2026, 9, 1))
    assert facts_query(rules, "raw", "a", rules.of_day("bill", date(2026, 9, 1))).count("JOIN") == 1


def test_a_combination_is_resolved_once(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    say = RulesOfDay.say

    def counting(rules: RulesOfDay, values: tuple[str, ...], tags: Tags | None = None) -> RuleValues:
        asked.append(values)
        return say(rules, values, tags)

    monkeypatch.setattr(RulesOfDay, "say", counting)
    site = make_site(extra=rules_yaml("{name: x, when: {SubAccountName: a*}, set: {team: x}}"))
    rows = [focus_row(SubAccountName=name, ResourceId=f"i-{i}", Tags="") for i in range(20) for name in ("ab", "b", "")]
    owners_of(site, *rows)
    assert sorted(asked) == [("",), ("ab",), ("b",)]


BASE = """
first_day: 2026-01-01
lake: lake
warehouse: w.duckdb
published: p.duckdb
sources: [{name: bill, uri: exports, layout: files}]
dimensions: {team: {keys: [team]}, department: {keys: [dept]}}
"""
FIRST = "{name: x, when: {RegionId: eu, source: bill}, set: {team: x}, from: 2026-01-01, until: 2027-01-01}"


def rules_of(*rules: str) -> Rules:
    return Rules.from_settings(parse_settings(BASE + (rules_yaml(*rules) if rules else ""), Path("/conf/finops.yaml")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: x,", "name: y,"),
        ("RegionId: eu", "RegionId: us"),
        ("RegionId: eu", "RegionName: eu"),
        ("RegionId: eu", "RegionId: {regex: eu}"),
        ("source: bill", "source: '*'"),
        ("source: bill", "tags: {a: b}"),
        ("team: x", "team: y"),
        ("from: 2026-01-01", "from: 2026-01-02"),
        ("until: 2027", "until: 2028"),
        ("{name", "{overrides_tags: true, name"),
    ],
)
def test_the_version_changes_with_everything_that_decides(old: str, new: str) -> None:
    assert old in FIRST
    assert rules_of(FIRST.replace(old, new)).version not in (rules_of(FIRST).version, rules_of().version)


def test_the_order_of_rules_decides_and_their_reasons_do_not() -> None:
    second = FIRST.replace("name: x", "name: z")
    assert rules_of(FIRST, second).version != rules_of(second, FIRST).version
    assert rules_of(FIRST.replace("{name", "{reason: moved, name")).version == rules_of(FIRST).version


@pytest.mark.parametrize(
    ("rule", "path", "message"),
    [
        ("{name: x, when: {RegionID: eu}, set: {team: x}}", "when.RegionID", "did you mean 'RegionId'"),
        ("{name: x, when: {BilledCost: '1'}, set: {team: x}}", "when.BilledCost", "decimal"),
        ("{name: x, when: {SubAccountId: 0123}, set: {team: x}}", "when.SubAccountId", "in quotes"),
        (
            "{name: x, when: {RegionId: {regex: '('}}, set: {team: x}}",
            "when.RegionId.regex",
            "not a regular expression",
        ),
        (
            r"{name: x, when: {RegionId: {regex: '(?=a)b'}}, set: {team: x}}",
            "when.RegionId.regex",
            "look-around, back references",
        ),
        (r"{name: x, when: {RegionId: {regex: '(a)\1'}}, set: {team: x}}", "when.RegionId.regex", "ends in time"),
        ("{name: x, when: {RegionId: {glob: a}}, set: {team: x}}", "when.RegionId", "regex"),
        ("{name: x, when: {RegionId: []}, set: {team: x}}", "when.RegionId", "empty list"),
        ("{name: x, when: {source: bil}, set: {team: x}}", "when.source", "allowed: bill"),
        ("{name: x, when: {}, set: {team: x}}", "", "no condition"),
        ("{name: x, when: {RegionId: eu}, set: {tribe: x}}", "set.tribe", "allowed: department, team"),
        ("{name: x, when: {RegionId: eu}, set: {}}", "set", "at least one"),
        ("{name: x, when: {RegionId: eu}, set: {team: x}, frm: 2026-01-01}", "frm", "from"),
        (
            "{name: x, when: {RegionId: eu}, set: {team: x}, from: 2026-01-02, until: 2026-01-02}",
            "",
            "until is exclusive",
        ),
    ],
)
def test_a_mistake_in_a_rule_is_told_with_its_place(rule: str, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules_of(rule)
    [mistake] = caught.value.mistakes
    assert mistake.path == "attribution_rules[0]" + (f".{path}" if path else "")
    assert re.search(re.escape(message), mistake.message), mistake.message


def test_two_rules_of_one_name_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="names are unique"):
        rules_of(FIRST, FIRST)


class Ruled:
    """The estate of three clouds and three days, attributed with and without rules."""

    days = tuple(date(2026, 9, d) for d in (1, 2, 3))

    def __init__(self, root: Path) -> None:
        self.estate: Estate = small_estate(root, self.days[0], self.days[-1], 3000)
        self.plain = Platform(settings_for(root, self.days[0]))
        rules = [
            f"{{name: accounts_of_{d}, when: {{SubAccountName: '{d}-*'}}, set: {{department: {d}}}}}"
            for d in DEPARTMENTS
        ]
        rules.append("{name: sandboxes, when: {SubAccountName: [sandbox]}, set: {department: platform, team: sandbox}}")
        self.ruled = Platform(settings_for(root, self.days[0], rules_yaml(*rules)))
        for source in self.plain.settings.sources:
            land_source(self.plain.lake, self.plain.settings.engine, source, self.plain.settings.first_day)
            compose_days(self.plain.lake, self.plain.settings.engine, source, self.days)

    def untagged(self, p: Platform) -> dict[str, float]:
        """Source -> percent of positive cost without department, by the gate's own figures of the last day."""
        build_facts(p.lake, p.settings.engine, p.rules, p.source_names, self.days)
        verdicts = judge_facts(p, p.keys(self.days))
        assert all(v.passed for v in verdicts if v.gate == CONSERVED)
        build_rollup(p.lake, p.warehouse, p.rules, p.settings, self.days)
        assert all(v.passed for v in judge_rollup(p, self.days))
        return {n: float(figure) for v in verdicts[-1:] for n, figure in v.figures.items() if "department" in n}

    def asked(self, p: Platform) -> Coverage:
        """What owners are suggested for, of departments."""
        resources = read_resources(p.lake, p.settings.engine, p.rules, p.source_names, self.days)
        assert resources is not None
        return suggest(resources, ["department"]).coverage[0]

    def rows(self, query: str) -> list[tuple[object, ...]]:
        p = self.plain
        with duckdb.connect() as connection:
            connection.register("owners", self.estate.owners())
            facts = facts_relation(p.lake.day_files("facts", p.source_names, self.days))
            return connection.execute(query.format(facts=facts)).fetchall()


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Ruled:
    return Ruled(tmp_path_factory.mktemp("ruled"))


@pytest.mark.long
def test_on_the_estate_rules_attribute_rightly_and_conserve_rows_and_money(ruled: Ruled) -> None:
    totals = "SELECT source, count(*), sum(BilledCost), sum(EffectiveCost) FROM {facts} GROUP BY 1 ORDER BY 1"
    before, total_before = ruled.untagged(ruled.plain), ruled.rows(totals)
    after = ruled.untagged(ruled.ruled)
    assert ruled.rows(totals) == total_before
    assert total_before == [(s, *figures) for s, figures in sorted(ruled.estate.totals().items())]
    assert before.keys() == after.keys()
    assert all(after[name] <= before[name] for name in before)
    assert sum(after.values()) < sum(before.values()), "the gate sees what the rules attributed"
    [(given, right)] = ruled.rows(
        "SELECT count(*), count(*) FILTER (f.department = o.department) FROM {facts} f"
        " JOIN owners o USING (source, ResourceId) WHERE department_key LIKE 'rule:accounts_of_%'"
    )
    assert given == right > 20, "rights as the estate knows them"
    [(by_rules,)] = ruled.rows(
        "SELECT count(DISTINCT (source, ResourceId)) FROM {facts}"
        " WHERE department_key LIKE 'rule:%' AND ResourceId IS NOT NULL AND ChargeCategory = 'Usage'"
    )
    with_rules = ruled.asked(ruled.ruled)
    [(by_tags,)] = ruled.rows("SELECT count(*) FROM {facts} WHERE department_key NOT LIKE 'rule:%'")
    ruled.untagged(ruled.plain)
    assert ruled.rows("SELECT count(*) FROM {facts} WHERE department IS NOT NULL") == [(by_tags,)]
    without = ruled.asked(ruled.plain)
    assert with_rules.untagged == without.untagged - by_rules, "owners are not asked for what a rule attributed"
    assert with_rules.tagged == without.tagged, "and learn nothing from it"


def test_a_preview_tells_what_would_move_and_writes_nothing(make_site: MakeSite) -> None:
    rows = [
        focus_row(SubAccountName="shop-1", Tags="", EffectiveCost="3", BilledCost="4"),
        focus_row(SubAccountName="shop-2", Tags="", EffectiveCost="5", BilledCost="5", BillingCurrency="EUR"),
        focus_row(SubAccountName="shop-1", Tags='{"team": "core", "dept": "ops"}'),
        focus_row(SubAccountName="other", Tags='{"team": "core", "dept": "ops"}', EffectiveCost="7"),
    ]
    site = make_site(extra="")
    owners_of(site, *rows)
    candidate = Site(
        site.folder,
        extra=rules_yaml(
            "{name: shops, when: {SubAccountName: shop-*}, set: {team: shop, department: retail}}",
            "{name: core_is_gone, when: {SubAccountName: other}, set: {team: base}, overrides_tags: true}",
            "{name: typo, when: {SubAccountName: shp-*}, set: {team: shop}}",
            "{name: too_late, when: {SubAccountName: shop-*}, set: {team: late}}",
            "{name: later, when: {SubAccountName: shop-*}, set: {team: late}, overrides_tags: true, from: 2026-09-02}",
        ),
    ).platform
    before = {file: file.read_bytes() for file in sorted((site.folder / "lake").rglob("*")) if file.is_file()}
    found = preview(
        candidate.lake, candidate.settings.engine, candidate.rules, ["bill"], [date(2026, 9, 1), date(2026, 9, 2)]
    )
    assert {file: file.read_bytes() for file in sorted((site.folder / "lake").rglob("*")) if file.is_file()} == before
    assert found.days == (date(2026, 9, 1),)
    assert found.without_facts == (date(2026, 9, 2),)
    assert [tuple(row) for row in found.moves.itertuples(index=False)] == [
        ("rule:shops", "department", None, "retail", "EUR", 5, 5, 1),
        ("rule:shops", "team", None, "shop", "EUR", 5, 5, 1),
        ("rule:core_is_gone", "team", "core", "base", "USD", 7, Decimal("1.5"), 1),
        ("rule:shops", "department", None, "retail", "USD", 3, 4, 1),
        ("rule:shops", "team", None, "shop", "USD", 3, 4, 1),
    ]
    of_rules = {(row.rule, row.currency): tuple(row)[2:] for row in found.rules.itertuples(index=False)}
    assert of_rules["shops", "USD"] == (3, 1, 3, 1, "")
    assert of_rules["typo", ""][-1] == "matches no row"
    assert of_rules["too_late", ""][-1].startswith("gives nothing")
    assert of_rules["later", ""][-1] == "matches no row"

    candidate_site = Site(
        site.folder, extra=rules_yaml("{name: shops, when: {SubAccountName: shop-*}, set: {team: shop}}")
    )
    candidate_site.facts(DAY)
    p = candidate_site.platform
    assert preview(p.lake, p.settings.engine, p.rules, ["bill"], [date(2026, 9, 1)]).moves.empty
    back = preview(p.lake, p.settings.engine, site.platform.rules, ["bill"], [date(2026, 9, 1)])
    assert [tuple(row)[:4] for row in back.moves.itertuples(index=False)] == [
        (None, "team", "shop", None),
        (None, "team", "shop", None),
    ]


def test_the_audit_says_which_version_gave_which_value(make_site: MakeSite) -> None:
    days = ("2026-09-01", "2026-09-02")
    site = make_site(extra="")
    owners_of(site, *(focus_row(day, ResourceId="i-1", Tags="") for day in days), days=days)
    ruled = Site(site.folder, extra=rules_yaml("{name: x, when: {ResourceId: i-1}, set: {team: x}}"))
    ruled.facts("2026-09-02")
    p = ruled.platform
    files = [(file, facts_rules(file)) for file in p.lake.day_files("facts", ["bill"], map(date.fromisoformat, days))]
    old, new = (version for _, version in files)
    found = audit(p.lake, p.settings.engine, ["team"], files).frame()
    by_version = {row.rules_version: tuple(row)[1:] for row in found.itertuples(index=False)}
    assert by_version == {
        old: ("team", None, "nothing", None, "USD", Decimal("1.25"), 1),
        new: ("team", "x", "rule", "rule:x", "USD", Decimal("1.25"), 1),
    }
    table = versions_table(p.lake, {("bill", date.fromisoformat(d)): v for d, (_, v) in zip(days, files)}).frame()
    assert [(row.rules_version, row.days, row.changed) for row in table.itertuples()] == [
        (old, 1, "the first that was written down"),
        (new, 1, "rule x added"),
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_statements_of_rules_are_rendered_for_other_engines(dialect: str) -> None:
    rules = rules_of(FIRST, "{name: y, when: {tags: {a: b}}, set: {department: d}, overrides_tags: true}")
    of_day = rules.of_day("bill", date(2026, 9, 1))
    for statement in (combinations_query(of_day, "raw"), facts_query(rules, "raw", "attribution", of_day)):
        assert sqlglot.parse_one(rendered(statement, dialect), read=dialect)


@pytest.mark.long
def test_dagster_calls_facts_out_of_date_when_rules_or_accepted_owners_changed(make_site: MakeSite) -> None:
    site = make_site(extra="")
    site.put_csv("a.csv", focus_row(ResourceId="i-1", Tags=""))
    day = date.fromisoformat(DAY)
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(site.platform.settings, instance)
        run = graph.run(day)
        assert run.success, run.failure()
        assert stale_causes(graph, day) == []

        accepted = accept(site, decided("i-1", "shop"))
        look = next(s for s in graph.defs.sensors or () if s.name == "watch_accepted_owners")
        assert isinstance(look, dg.SensorDefinition)
        seen = tick(look, graph)
        assert seen is not None
        instance.report_runless_asset_event(seen)
        assert stale_causes(graph, day) == ["has a new dependency data version"], "without loading definitions anew"
        assert days_to_run(accepted.platform, instance, day, day + timedelta(days=1)) == [day]
        later = Graph(site.platform.settings, instance)
        assert later.run(day, None, [FACTS]).success
        assert stale_causes(later, day) == stale_causes(graph, day) == []
        assert site.value(DAY, "team_key", layer="facts") == "owner:ada 2026-10-05"
        assert tick(look, graph) is None

        ruled = Graph(
            Site(site.folder, extra=rules_yaml("{name: x, when: {ResourceId: i-1}, set: {team: x}}")).platform.settings,
            instance,
        )
        assert stale_causes(ruled, day) == ["has a new code version"]
        assert ruled.run(day, None, [FACTS]).success
        assert stale_causes(ruled, day) == []
        assert site.value(DAY, "team_key", layer="facts") == "rule:x"


def tick(sensor: dg.SensorDefinition, graph: Graph) -> dg.AssetMaterialization | None:
    """What the sensor reports now."""
    context = dg.build_sensor_context(graph.instance, resources={"platform": graph.platform})
    found = sensor.evaluate_tick(context).asset_events
    assert len(found) < 2
    assert all(isinstance(event, dg.AssetMaterialization) for event in found)
    return found[0] if found else None  # type: ignore[return-value]


def stale_causes(graph: Graph, day: date) -> list[str]:
    resolver = CachingStaleStatusResolver(
        graph.instance, graph.defs.get_repository_def().asset_graph, LoadingContextForTest(graph.instance)
    )
    return [cause.reason for cause in resolver.get_stale_causes(dg.AssetKey(FACTS), day.isoformat())]


@pytest.mark.long
def test_the_command_line_previews_candidates_and_tells_versions(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(extra="")
    owners_of(site, focus_row(SubAccountName="shop-1", Tags="", EffectiveCost="3"))
    config = tmp_path / "finops.yaml"
    config.write_text(BASE)
    candidate = tmp_path / "candidate.yaml"

    def told(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["rules", *arguments, "--config", str(config)])
        assert result.exit_code == code, result.output
        return " ".join((result.stdout if code == 0 else result.stderr).split())

    assert "nothing: the facts are what these rules give" in told("preview")
    candidate.write_text(rules_yaml("{name: shops, when: {SubAccountName: shop-*}, set: {team: shop}}"))
    assert "rule:shops team (nobody) shop USD 3.00 1.50 1" in told("preview", "--file", str(candidate))
    assert told("preview", "--file", str(candidate), "--format", "csv").startswith("by,dimension,from,to,currency")
    assert "is empty" in told("preview", "--from", "2026-09-02", "--to", "2026-09-02", code=1)
    candidate.write_text(BASE + rules_yaml("{name: shops, when: {SubAccountName: shop-*}, set: {team: store}}"))
    assert "(nobody) store" in told("preview", "--file", str(candidate))
    candidate.write_text(rules_yaml("{name: shops, when: {SubAccount: shop-*}, set: {squad: shop}}"))
    wrong = told("preview", "--file", str(candidate), code=1)
    assert "line 2" in wrong
    assert "attribution_rules[0].when.SubAccount" in wrong
    assert "attribution_rules[0].set.squad" in wrong
    candidate.write_text("dimensions: {}\n")
    assert "holds something else; allowed: attribution_rules" in told("preview", "--file", str(candidate), code=1)
    assert f"in force: {rules_of().version}" in told("versions")
    assert "the first that was written down" in told("versions")
    assert "nothing" in told("audit", "-d", "team")
    assert "allowed: team, department" in told("audit", "-d", "squad", code=1)
