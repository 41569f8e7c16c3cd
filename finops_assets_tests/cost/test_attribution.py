"""From a tag set to dimensions, each with its reason; and when history is attributed anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from finops_assets.cost.attribution.row_rules import DimensionValue
from finops_assets.cost.attribution.rules import Rules, TagValue, resolve
from finops_assets.focus.normal import normal_key, normal_value
from finops_assets.settings.load import parse_settings
from finops_assets_tests.conftest import Site, focus_row

BASE = """
first_day: 2026-01-01
lake: lake
warehouse: w.duckdb
published: p.duckdb
sources: [{name: bill, uri: exports, layout: files}]
"""
DIMENSIONS = """
dimensions:
  team: {keys: [team, squad, owner-team], values: {Core Team: core}}
  environment: {keys: [environment, env], values: {production: prod, prd: prod}}
"""


def rules_of(dimensions: str = DIMENSIONS, base: str = BASE) -> Rules:
    return Rules.from_settings(parse_settings(base + dimensions, Path("/conf/finops.yaml")))


def given_by(tags: dict[str, TagValue], allocated: dict[str, TagValue] | None = None) -> tuple[str | None, str | None]:
    """(value, key as written) of the dimension team."""
    found = resolve(rules_of(), tags, allocated)["team"]
    return (found.value, found.key) if found else (None, None)


@pytest.mark.parametrize(
    "key", ["cost_center", "Cost-Center", " costcenter ", "user:cost.center", "USER:Cost Center", "cost__center"]
)
def test_a_key_matches_whatever_its_case_space_prefix_and_separators(key: str) -> None:
    assert normal_key(key) == "costcenter"


@pytest.mark.parametrize(
    ("key", "normal"), [("aws:team", "aws:team"), ("-_. ", ""), ("ms/team", "ms/team"), ("ÉQUIPE", "équipe")]
)
def test_a_key_keeps_what_tells_it_apart(key: str, normal: str) -> None:
    assert normal_key(key) == normal


def test_a_value_is_trimmed_and_lower_cased_but_keeps_its_separators() -> None:
    assert normal_value("  Data-Platform Team ") == "data-platform team"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"team": "a", "squad": "b"}, ("a", "team")),
        ({"squad": "b", "Owner_Team": "c"}, ("b", "squad")),
        ({"Owner.Team": "c"}, ("c", "Owner.Team")),
        ({"user:Team": "a"}, ("a", "user:Team")),
        ({"team": "", "squad": "b"}, ("b", "squad")),
        ({"team": " N/A ", "squad": "b"}, ("b", "squad")),
        ({"team": "NULL"}, (None, None)),
        ({"team": "unknown", "squad": "none", "owner-team": "  "}, (None, None)),
        ({"team": None, "squad": "b"}, ("b", "squad")),
        ({"team": True, "squad": "b"}, ("b", "squad")),
        ({"team": False}, (None, None)),
        ({"team": 42}, ("42", "team")),
        ({"team": 4.5}, ("4.5", "team")),
        ({"team": "CORE team"}, ("core", "team")),
        ({"Team": "a", "team": "b"}, ("a", "Team")),
        ({"Team": "n/a", "team": "b"}, ("b", "team")),
        ({"teams": "a"}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_the_first_alias_with_a_usable_value_wins(
    tags: dict[str, TagValue], expected: tuple[str | None, str | None]
) -> None:
    assert given_by(tags) == expected


@pytest.mark.parametrize(
    ("tags", "allocated", "expected"),
    [
        ({"team": "node"}, {"team": "pod"}, ("pod", "team")),
        ({"team": "node"}, {"squad": "pod"}, ("pod", "squad")),
        ({"team": "node"}, {"team": "none"}, ("node", "team")),
        ({"team": "node"}, {"app": "shop"}, ("node", "team")),
        ({}, {"team": "pod"}, ("pod", "team")),
    ],
)
def test_allocated_tags_come_before_tags(
    tags: dict[str, TagValue], allocated: dict[str, TagValue], expected: tuple[str, str]
) -> None:
    assert given_by(tags, allocated) == expected


def test_every_dimension_is_resolved_on_its_own() -> None:
    assert resolve(rules_of(), {"ENV": "Production", "squad": "Web"}) == {
        "team": DimensionValue("web", "squad"),
        "environment": DimensionValue("prod", "ENV"),
    }


def test_the_order_of_a_tag_set_does_not_decide() -> None:
    tags: dict[str, TagValue] = {"TEAM": "a", "Team": "b", "team": "c"}
    assert given_by(tags) == given_by(dict(reversed(tags.items())))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("team, squad", "squad, team"),
        ("team, squad", "team, squad, crew"),
        ("Core Team: core", "Core Team: kernel"),
        ("Core Team: core", "Core Teams: core"),
        ("environment:", "stage:"),
        ("env]", "stage]"),
    ],
)
def test_the_version_changes_with_everything_that_decides(old: str, new: str) -> None:
    assert rules_of(DIMENSIONS.replace(old, new)).version != rules_of().version


def test_the_version_changes_with_the_placeholders() -> None:
    assert rules_of(DIMENSIONS + "placeholders: [tbd]\n").version != rules_of().version


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lake: lake", "lake: elsewhere"),
        ("name: bill, uri: exports", "name: bill, provider: Cloud, uri: exports"),
        ("first_day: 2026-01-01", "first_day: 2025-01-01"),
        ("keys: [team, squad", "keys: [Team, ' squad '"),
        ("values: {Core Team: core}", "values: {'CORE TEAM ': Core}"),
        ("{production: prod, prd: prod}", "{prd: prod, production: prod}"),
    ],
)
def test_the_version_does_not_change_with_what_decides_nothing(old: str, new: str) -> None:
    text = BASE + DIMENSIONS
    assert old in text
    assert rules_of("", text.replace(old, new)).version == rules_of().version


def test_a_policy_change_is_no_change_of_rules() -> None:
    policy = "tag_policy: {required: [team], thresholds: {team: {warn_above: 1, block_above: 2}}}\n"
    assert rules_of(DIMENSIONS + policy).version == rules_of().version


def test_a_late_change_of_rules_attributes_history_anew_without_the_export(site: Site) -> None:
    site.put_csv(
        "a.csv",
        focus_row(Tags='{"crew": "red"}', BilledCost="1"),
        focus_row(Tags='{"team": "blue"}', BilledCost="2"),
        focus_row(Tags="", BilledCost="4"),
    )
    site.run("2026-09-01")
    site.facts("2026-09-01")
    assert site.rows("2026-09-01", "team", "team_key", layer="facts") == [(None, None), ("blue", "team"), (None, None)]
    raw = site.file("raw", "2026-09-01").read_bytes()

    shutil.rmtree(site.exports)
    shutil.rmtree(site.folder / "lake" / "landing")
    later = Site(site.folder, extra="placeholders: [blue]\n")
    settings = later.platform.settings
    team = settings.dimensions["team"].model_copy(update={"keys": ("crew", "team")})
    changed = Rules.from_settings(settings.model_copy(update={"dimensions": {**settings.dimensions, "team": team}}))
    later.facts("2026-09-01", rules=changed)

    assert site.rows("2026-09-01", "team", "team_key", "BilledCost", layer="facts") == [
        ("red", "crew", 1),
        (None, None, 2),
        (None, None, 4),
    ]
    assert site.file("raw", "2026-09-01").read_bytes() == raw


def test_facts_are_written_again_only_when_raw_or_rules_changed(site: Site) -> None:
    site.put_csv("a.csv", focus_row("2026-09-01"), focus_row("2026-09-02"))
    site.run("2026-09-01", "2026-09-02")
    days = ("2026-09-01", "2026-09-02")
    assert [day.written for day in site.facts(*days)] == [True, True]
    assert [day.written for day in site.facts(*days)] == [False, False]
    site.put_csv("b.csv", focus_row("2026-09-02", ResourceId="another", BilledCost="7"))
    site.run(*days)
    assert [day.written for day in site.facts(*days)] == [False, True]


def test_a_tag_set_of_both_columns_reaches_the_facts(site: Site) -> None:
    site.put_csv(
        "a.csv",
        focus_row(Tags='{"team": "node"}', AllocatedTags='{"squad": "pod"}'),
        focus_row(Tags='{"team": "node"}', AllocatedTags=""),
        focus_row(Tags="", AllocatedTags='{"team": "node"}'),
    )
    site.run("2026-09-01")
    site.facts("2026-09-01")
    assert site.rows("2026-09-01", "team", "team_key", layer="facts") == [
        ("pod", "squad"),
        ("node", "team"),
        ("node", "team"),
    ]


def test_a_cut_off_emoji_in_a_tag_reaches_the_facts_and_loses_no_row(site: Site) -> None:
    site.put_csv("a.csv", focus_row(Tags='{"team": "core\\ud83d"}'))
    site.run("2026-09-01")
    site.facts("2026-09-01")
    assert site.rows("2026-09-01", "team", layer="facts") == [("core\ufffd",)]
