"""Decisions on owner suggestions: kept once, by command line, CSV and run config; rules; acceptance rate; the stage's rule."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from finops_assets.cli.program import app
from finops_assets.cost.attribution.owner_decisions import (
    Decision,
    DecisionError,
    OwnerDecisions,
    acceptance,
    accepted_rules,
    decide,
    export_table,
    read_decided,
    rules_yaml,
    settled,
)
from finops_assets.demo import Incident
from finops_assets.evaluate.owners.suggest import SUGGESTION_COLUMNS
from finops_assets.graph.assets.owners import owners_wait, typed
from finops_assets.graph.run_range import QUIET
from finops_assets_tests.conftest import Site, focus_row
from finops_assets_tests.running import Graph, settings_for, small_estate

NOW = datetime(2026, 10, 21, 9, tzinfo=UTC)  # a Wednesday
DIMENSIONS = ("team", "department")
DIMENSIONS_YAML = "dimensions:\n  team: {keys: [team]}\n  department: {keys: [dept]}\n"


def suggestions() -> pd.DataFrame:
    def row(resource: str, dimension: str, rank: int, value: str, confidence: float, evidence: str) -> dict[str, Any]:
        filled = dict.fromkeys(SUGGESTION_COLUMNS, None)
        return filled | {
            "source": "aws",
            "ResourceId": resource,
            "dimension": dimension,
            "rank": rank,
            "value": value,
            "confidence": confidence,
            "evidence": evidence,
            "name": f"name of {resource}",
            "account_name": "main",
            "BillingCurrency": "USD",
            "effective_cost": Decimal("12.50"),
        }

    why = "9 of 10 tagged resources in account main with the name token `checkout` belong to payments"
    return pd.DataFrame(
        [
            row("i-1", "team", 1, "payments", 0.93, why),
            row("i-1", "team", 2, "ads", 0.04, ""),
            row("i-1", "department", 1, "shop", 0.97, "why"),
            row("i-2", "team", 1, "ads", 0.8, 'says "so", it does'),
        ]
    )


def decision(resource: str = "i-1", verdict: Any = "accepted", now: datetime = NOW, **changes: Any) -> Decision:
    dimension = changes.pop("dimension", "team")
    return decide(suggestions(), DIMENSIONS, ("aws", resource, dimension), verdict, now, **changes)


@pytest.fixture
def store(tmp_path: Path) -> OwnerDecisions:
    return OwnerDecisions.beside(tmp_path / "w.duckdb")


def test_a_decision_keeps_who_when_evidence_and_confidence(store: OwnerDecisions) -> None:
    given = decision(by="ada", note="asked them", valid_from=date(2026, 10, 1))
    assert store.enter([given]) == [given]
    assert store.all() == [given]
    assert (given.suggested, given.confidence, given.decided_by) == ("payments", 0.93, "ada")
    assert "9 of 10" in given.evidence


def test_the_same_decision_is_kept_once_and_a_later_one_takes_its_place(store: OwnerDecisions) -> None:
    assert len(store.enter([decision(), decision()])) == 1
    assert store.enter([decision(now=NOW.replace(day=22))]) == []
    store.enter([decision(verdict="rejected")])
    assert accepted_rules(store.all()) == []
    assert settled(store.all()).rejected[("aws", "i-1", "team")] == {"payments"}
    store.enter([decision(value="Ads ")])
    [rule] = accepted_rules(store.all())
    assert rule.dimensions == {"team": "ads"}
    assert len(store.all()) == 3


def test_accepted_dimensions_of_a_resource_become_one_rule() -> None:
    rules = accepted_rules([decision(by="ada"), decision(dimension="department"), decision("i-2", "rejected")])
    assert [(r.source, r.ResourceId, dict(r.dimensions), r.valid_from) for r in rules] == [
        ("aws", "i-1", {"department": "shop", "team": "payments"}, None)
    ]
    written = yaml.safe_load(rules_yaml(rules))
    [one] = written["rules"]
    assert one["when"] == {"source": "aws", "ResourceId": "i-1"}
    assert one["set"] == {"department": "shop", "team": "payments"}
    assert "by ada on 2026-10-21; suggested with confidence 0.93: 9 of 10" in one["reason"]
    assert "from" not in one
    later = accepted_rules([decision(valid_from=date(2026, 10, 1))])
    assert yaml.safe_load(rules_yaml(later))["rules"][0]["from"] == date(2026, 10, 1)


def test_a_value_is_needed_where_nothing_is_suggested() -> None:
    with pytest.raises(DecisionError, match="i-9, team: nothing is suggested for it now, so a value is needed"):
        decision("i-9")
    with pytest.raises(DecisionError, match="found dimension 'owner'; allowed: team, department"):
        decision(dimension="owner")
    assert decision("i-9", value="ops").suggested is None


def test_the_acceptance_rate_is_by_week_and_dimension() -> None:
    later = NOW.replace(day=28)
    table = acceptance(
        [
            decision(),
            decision("i-2", "rejected"),
            decision(dimension="department", value="data"),  # found, but not what was suggested
            decision("i-9", value="ops"),  # nothing was suggested
            decision("i-2", now=later),
        ]
    )
    assert [(str(w), d, n, a, r) for w, d, n, a, r, _ in table.values] == [
        ("2026-10-19", "department", 1, 0, 0.0),
        ("2026-10-19", "team", 2, 1, 0.5),
        ("2026-10-26", "team", 1, 1, 1.0),
    ]
    assert [round(mean, 3) for mean in table["mean_confidence"]] == [0.97, 0.865, 0.8]
    assert not len(acceptance([]))


def filled(file: Path, decisions: dict[tuple[str, str], dict[str, str]]) -> None:
    """Fill an exported CSV as a person does."""
    with file.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        row.update(decisions.get((row["ResourceId"], row["dimension"]), {}))
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_decisions_come_back_from_a_csv(tmp_path: Path, store: OwnerDecisions) -> None:
    file = tmp_path / "owners.csv"
    exported = export_table(suggestions())
    assert exported["also_possible"].tolist() == ["ads (0.04)", "", ""]
    exported.to_csv(file, index=False, encoding="utf-8-sig")
    filled(
        file,
        {
            ("i-1", "team"): {"decision": " Accept", "note": "sure"},
            ("i-1", "department"): {"decision": "yes", "value": "Data"},
            ("i-2", "team"): {"decision": "reject"},
        },
    )
    decisions, left = read_decided(file, DIMENSIONS, ["aws"], NOW, "ada")
    assert left == 0
    assert [(d.about, d.verdict, d.value, d.suggested) for d in decisions] == [
        (("aws", "i-1", "team"), "accepted", "payments", "payments"),
        (("aws", "i-1", "department"), "accepted", "data", "shop"),
        (("aws", "i-2", "team"), "rejected", "ads", "ads"),
    ]
    assert decisions[2].evidence == 'says "so", it does'
    assert (decisions[0].confidence, decisions[0].note) == (0.93, "sure")
    assert len(store.enter(decisions)) == 3
    assert store.enter(read_decided(file, DIMENSIONS, ["aws"], NOW, "ada")[0]) == []


def test_a_wrong_csv_is_refused_whole_with_every_mistake(tmp_path: Path) -> None:
    file = tmp_path / "owners.csv"
    export_table(suggestions()).to_csv(file, index=False)
    filled(
        file,
        {
            ("i-1", "team"): {"decision": "maybe"},
            ("i-1", "department"): {"decision": "accept", "source": "aw"},
            ("i-2", "team"): {"decision": "accept", "value": ""},
        },
    )
    with pytest.raises(DecisionError) as caught:
        read_decided(file, DIMENSIONS, ["aws"], NOW)
    text = str(caught.value)
    assert "line 2: decision is 'maybe'; allowed: accept, reject, or empty" in text
    assert "line 3: source is 'aw'; allowed: aws" in text
    assert "line 4: value and ResourceId must not be empty" in text
    file.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DecisionError, match="the columns decision, source, ResourceId, dimension, value are missing"):
        read_decided(file, DIMENSIONS, ["aws"], NOW)


class Project:
    """A folder with finops.yaml and a published copy that holds the suggestions."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "finops.yaml").write_text(
            "first_day: 2026-10-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
            f"sources: [{{name: aws, uri: exports, layout: files}}]\n{DIMENSIONS_YAML}",
            encoding="utf-8",
        )
        with duckdb.connect(str(root / "p.duckdb")) as connection:
            connection.register("made", typed(suggestions()))
            connection.execute("CREATE TABLE owner_suggestions AS FROM made")

    @property
    def decisions(self) -> list[Decision]:
        return OwnerDecisions.beside(self.root / "w.duckdb").all()

    def run(self, *arguments: str, answers: str | None = None) -> Any:
        return CliRunner().invoke(
            app, ["owners", *arguments, "-c", str(self.root / "finops.yaml")], input=answers, env={"COLUMNS": "200"}
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_command_line_accepts_and_rejects(project: Project) -> None:
    done = project.run("accept", "aws", "i-1", "-d", "team", "--by", "ada", "--from", "2026-10-01")
    assert done.exit_code == 0, done.output
    assert "accepted team payments of i-1" in done.output
    assert "was accepted already" in project.run("accept", "aws", "i-1", "-d", "team", "--from", "2026-10-01").output
    assert project.run("reject", "aws", "i-2", "-d", "team", "--note", "no").exit_code == 0
    first, second = project.decisions
    assert (first.verdict, first.value, first.decided_by, first.valid_from) == (
        "accepted",
        "payments",
        "ada",
        date(2026, 10, 1),
    )
    assert (second.verdict, second.value, second.note) == ("rejected", "ads", "no")
    assert "found source 'gone'; allowed: aws" in project.run("accept", "gone", "i-1", "-d", "team").stderr
    rules = project.run("rules")
    assert yaml.safe_load(rules.stdout)["rules"][0]["set"] == {"team": "payments"}
    assert "0.50" in project.run("acceptance").output or "0.5" in project.run("acceptance").output


def test_what_is_shown_of_a_resource_is_understood(project: Project) -> None:
    for shown in ("name of i-1", "NAME OF I-1", "name of i-1 i-1"):
        done = project.run("accept", "aws", shown, "-d", "team")
        assert done.exit_code == 0, done.output
        assert "payments of i-1" in done.output
    assert [d.ResourceId for d in project.decisions] == ["i-1"]
    assert project.run("reject", "aws", "name of i-2", "-d", "team").exit_code == 0
    assert project.decisions[-1].ResourceId == "i-2"


def test_a_name_that_several_resources_have_is_asked_back_with_their_ids(project: Project) -> None:
    with duckdb.connect(str(project.root / "p.duckdb")) as connection:
        connection.execute("UPDATE owner_suggestions SET name = 'web [/blue]'")
    done = project.run("accept", "aws", "web [/blue]", "-d", "team")
    assert done.exit_code == 1
    assert "2 resources of aws are called 'web [/blue]'; give the id:\n  i-1 (main)\n  i-2 (main)" in done.stderr
    assert project.decisions == []


def test_a_decision_about_what_was_never_suggested_says_so(project: Project) -> None:
    done = project.run("accept", "aws", "nmae of i-1", "-d", "team", "--value", "ops")
    assert done.exit_code == 0
    assert "nothing was ever suggested for nmae of i-1" in done.stderr
    assert "nothing is suggested for it now" in project.run("accept", "aws", "nmae", "-d", "team").stderr
    known = project.run("accept", "aws", "i-2", "-d", "team", "--value", "ops")
    assert "never" not in known.stderr


def test_a_review_goes_through_what_is_open_the_costliest_first(project: Project) -> None:
    done = project.run("review", "--by", "ada", answers="a\no\ndata\nq\n")
    assert done.exit_code == 0, done.output
    assert "9 of 10 tagged resources in account main" in done.output
    assert "or: ads (4%)" in done.output
    assert "2 decisions kept" in done.output
    assert [(d.dimension, d.verdict, d.value) for d in project.decisions] == [
        ("team", "accepted", "payments"),
        ("department", "accepted", "data"),
    ]
    assert "1 of 1" in project.run("review", answers="s\n").output


def test_the_command_line_round_trip_by_csv(project: Project) -> None:
    file = project.root / "out.csv"
    assert "3 suggestions in" in project.run("export", str(file)).output
    filled(file, {("i-1", "team"): {"decision": "accept"}})
    assert "1 decisions kept, 0 stood already, 2 rows are undecided" in project.run("import", str(file)).output
    assert "0 decisions kept, 1 stood already" in project.run("import", str(file)).output
    assert "2 suggestions in" in project.run("export", str(file)).output


def test_before_anything_was_suggested_that_is_said(project: Project) -> None:
    with duckdb.connect(str(project.root / "p.duckdb")) as connection:
        connection.execute("DROP TABLE owner_suggestions")
    done = project.run("review")
    assert done.exit_code == 1
    assert "no owners were suggested yet; run `finops owners suggest`" in done.stderr


FIRST, LAST = date(2026, 9, 1), date(2026, 9, 3)


def correlate(graph: Graph, config: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:
    ops = {"owner_decisions": {"config": config}} if config else {}
    return graph.defs.resolve_job_def("owners").execute_in_process(
        instance=graph.instance, run_config=QUIET | {"ops": ops}, raise_on_error=False
    )


def waits(result: dg.ExecuteInProcessResult) -> str:
    """Why suggestions were not made anew: a condition, no failure."""
    assert result.success
    return str(result.asset_materializations_for_node("owner_suggestions")[0].metadata["not made anew"].value)


@pytest.mark.long
def test_the_stage_says_why_it_does_not_run_and_runs_when_the_day_is_healed(tmp_path: Path) -> None:
    small_estate(tmp_path, FIRST, LAST, incidents=[Incident("gcp", LAST, "incomplete")])
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(settings_for(tmp_path, FIRST), instance)
        assert "no day has been built yet" in owners_wait(graph.platform)
        graph.run(FIRST, LAST)
        held = waits(correlate(graph))
        assert "the newest of the rollup is held back by a gate" in held
        # What the gates after it say follows from it.
        assert f"\ngcp {LAST}: raw/gcp:complete failed" in held
        assert held.count("\n") == 1
        with graph.platform.warehouse.reading() as connection:
            assert connection.execute("SELECT count(*) FROM owner_suggestions").fetchone() == (0,)

        shutil.rmtree(tmp_path / "estate")
        small_estate(tmp_path, FIRST, LAST)
        # The raw day is right, but nothing was rolled up since.
        graph.run(LAST, assets=[["raw", "aws"], ["raw", "azure"], ["raw", "gcp"]])
        assert "raw/gcp is newer than the rollup: its run failed or is not over" in waits(correlate(graph))
        graph.run(LAST)

        taken = {"source": "aws", "resource_id": "r", "dimension": "team", "verdict": "accepted", "value": "Ops"}
        done = correlate(graph, {"decided_by": "ada", "decisions": [taken]})
        assert done.success
        with graph.platform.warehouse.reading() as connection:
            columns = [name for name, *_ in connection.execute("DESCRIBE owner_suggestions").fetchall()]
            kept = connection.execute("SELECT source, ResourceId, value, decided_by FROM owner_decisions").fetchall()
            assert connection.execute("SELECT count(*) FROM owner_acceptance").fetchone() == (0,)
        assert columns == list(SUGGESTION_COLUMNS)
        assert kept == [("aws", "r", "ops", "ada")]
        metadata = done.asset_materializations_for_node("owner_suggestions")[0].metadata
        assert metadata["days"].value == f"{FIRST} to {LAST}"
        assert "untagged resources" in metadata["team"].value
        assert "not made anew" not in metadata
        # A decision stands once, whoever runs it again.
        assert correlate(graph, {"decisions": [taken]}).success
        assert len(OwnerDecisions.beside(graph.settings.warehouse).all()) == 1


def test_the_backtest_hides_known_tags_of_the_bills_at_hand(site: Site) -> None:
    """Names tell the team of most; a suggestion for a hidden one is counted as right or wrong."""
    rows = [
        focus_row(ResourceId=f"{team}-{n}", ResourceName=f"{team}-{n}", Tags=json.dumps({"team": team}))
        for team in ("core", "web", "ads")
        for n in range(60)
    ]
    site.put_csv("a.csv", *rows)
    site.run_all("2026-09-01")
    config = site.folder / "finops.yaml"
    config.write_text(site.text)
    told = CliRunner().invoke(app, ["owners", "backtest", "-c", str(config)], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    [random] = [line.split() for line in told.stdout.splitlines() if "at random" in line]
    coverage, precision = (float(cell) for cell in random[-5:-3])
    assert coverage > 0.9
    assert precision == 1
    assert "department" not in told.stdout, "nobody tagged it: there is nothing to hide"
    refused = CliRunner().invoke(app, ["owners", "backtest", "-d", "squad", "-c", str(config)])
    assert refused.exit_code == 1
