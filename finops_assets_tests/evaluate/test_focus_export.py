"""finops export focus: conformant FOCUS 1.2 and 1.4, equal to the facts, and readable as a source again."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from finops_assets.base.errors import FinopsError
from finops_assets.cli.program import app
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.facts import build_facts
from finops_assets.demo import Incident
from finops_assets.evaluate import focus_export
from finops_assets.evaluate.focus_export import COSTS, FocusExport, export_focus
from finops_assets.focus.specification import columns
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.layouts.delivery import incomplete_sectors
from finops_assets.ingest.layouts.layouts import newest_deliveries
from finops_assets.ingest.raw_days import compose_days
from finops_assets.judge.conformance.report import breaks, judge_files
from finops_assets.platform import Platform
from finops_assets.settings.engine import EngineSettings
from finops_assets.settings.load import parse_settings
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.ledger import Ledger
from finops_assets_tests.conftest import Site, focus_row
from finops_assets_tests.places import PROJECT
from finops_assets_tests.running import DIMENSIONS, LAYOUTS, PROVIDERS, SOURCES, settings_for, small_estate

pytestmark = pytest.mark.slow  # by its time, not by what it needs

# Over a month's end: corrections and commitments of both.
FIRST, HELD, LAST = date(2026, 9, 28), date(2026, 9, 30), date(2026, 10, 3)
DAYS = [date.fromordinal(n) for n in range(FIRST.toordinal(), LAST.toordinal() + 1)]
SHIPPED = PROJECT
REASON = {HELD: ["raw/gcp:complete failed"]}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """The estate's facts."""
    root = tmp_path_factory.mktemp("estate")
    small_estate(root, FIRST, LAST, rows=3_000)
    platform = Platform(settings_for(root, FIRST))
    build(platform, DAYS)
    return platform


def build(platform: Platform, days: list[date]) -> None:
    settings = platform.settings
    for source in settings.sources:
        land_source(platform.lake, settings.engine, source, settings.first_day)
        compose_days(platform.lake, settings.engine, source, days)
    build_facts(platform.lake, settings.engine, platform.rules, platform.source_names, days)


@pytest.fixture(scope="module", params=["1.2", "1.4"])
def exported(
    request: pytest.FixtureRequest, platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, FocusExport]:
    target = tmp_path_factory.mktemp("export") / "focus"
    return target, export_focus(platform, DAYS, target, request.param, held=REASON)


def totals(relation: str) -> list[tuple[Any, ...]]:
    sums = ", ".join(f"sum({name})" for name in COSTS)
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        return connection.execute(
            f"SELECT CAST(ChargePeriodStart AS DATE), BillingCurrency, count(*), {sums} FROM {relation} GROUP BY ALL ORDER BY ALL"
        ).fetchall()


def facts_of(platform: Platform, days: list[date]) -> str:
    return facts_relation(platform.lake.day_files("facts", platform.source_names, days))


FREE = [day for day in DAYS if day != HELD]


def test_it_holds_what_the_facts_hold(platform: Platform, exported: tuple[Path, FocusExport]) -> None:
    target, export = exported
    assert sorted(export.rows) == FREE
    assert dict(export.held) == REASON
    assert totals(f"read_parquet('{target}/*.parquet')") == totals(facts_of(platform, FREE))
    manifest = json.loads((target / focus_export.MANIFEST).read_text(encoding="utf-8"))
    assert manifest["rows"] == sum(export.rows.values())
    by_currency: dict[str, Decimal] = {}
    for _, currency, _, _, effective, *_ in totals(facts_of(platform, FREE)):
        by_currency[currency] = by_currency.get(currency, Decimal(0)) + effective
    assert {c: Decimal(costs["EffectiveCost"]) for c, costs in manifest["costs"].items()} == by_currency
    assert manifest["held"] == {HELD.isoformat(): REASON[HELD]}
    assert not list(target.rglob(".tmp-*"))


@pytest.mark.long
def test_it_keeps_to_the_version_that_it_names(exported: tuple[Path, FocusExport], tmp_path: Path) -> None:
    target, export = exported
    findings = judge_files([str(target)], EngineSettings(), tmp_path, export.version)
    assert breaks(findings) == []
    # Azure's and Google's deliveries are FOCUS 1.0: what later versions ask for, they have not.
    assert export.custom == (
        "BillingAccountType", "CommitmentDiscountQuantity", "ServiceSubcategory", "SubAccountType",
    )  # fmt: skip
    assert export.gaps == {}
    [schema] = (json.loads(f.read_text()) for f in target.glob("metadata/schema-*.json"))
    with duckdb.connect() as connection:
        described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet('{target}/*.parquet')").fetchall()
    types = {name: kind for name, kind, *_ in described}
    assert schema["FocusVersion"] == export.version
    assert [d["ColumnName"] for d in schema["ColumnDefinition"]] == list(types)
    focus = {name for name in types if not name.startswith("x_")}
    assert focus == {c.name for c in columns().values() if export.version in c.level} - set(export.custom)
    assert {types[c.name] for c in columns().values() if c.type == "decimal" and c.name in focus} == {"DECIMAL(38,18)"}
    assert {types[c.name] for c in columns().values() if c.type == "datetime"} == {"TIMESTAMP WITH TIME ZONE"}
    assert {"x_Department", "x_DepartmentTagKey", "x_CostCenter", "x_CostCenterTagKey", "x_Source"} <= types.keys()
    assert ("x_ProviderName" in types) == (export.version == "1.4")
    assert ("x_ServiceProviderName" in types) == (export.version == "1.2")


def test_a_single_source_keeps_all_its_columns(platform: Platform, tmp_path: Path) -> None:
    export = export_focus(platform, DAYS[:2], tmp_path / "aws", "1.4", ["aws"])
    assert export.custom == ()
    (tmp_path / "scratch").mkdir()
    findings = judge_files([str(tmp_path / "aws")], EngineSettings(), tmp_path / "scratch")
    assert {f.rule.version for f in findings} == {"1.4"}
    assert breaks(findings, "warning") == []


@pytest.mark.long
def test_it_is_read_back_as_a_source(platform: Platform, exported: tuple[Path, FocusExport], tmp_path: Path) -> None:
    target, export = exported
    text = (
        f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        f"sources: [{{name: back, uri: {target}, layout: files}}]\n{DIMENSIONS}"
    )
    back = Platform(parse_settings(text, tmp_path / "finops.yaml"))
    build(back, FREE)
    assert totals(facts_of(back, FREE)) == totals(facts_of(platform, FREE))
    dimensions = "SELECT department, team, environment, cost_center, team_key, count(*), sum(EffectiveCost)"
    with duckdb.connect() as connection:
        ours, theirs = (
            connection.execute(f"{dimensions} FROM {facts_of(p, FREE)} GROUP BY ALL ORDER BY ALL").fetchall()
            for p in (platform, back)
        )
    assert ours == theirs
    # The metadata beside the files say the version, and call the held day incomplete and no other.
    assert {g.focus_version for g in Ledger(back.lake, "back").all_live()} == {export.version}
    _, deliveries = newest_deliveries(back.settings.sources[0])
    sectors = deliveries[0].sectors
    assert [day for day in DAYS if incomplete_sectors(sectors, day)] == [HELD]


def test_an_export_goes_on_and_keeps_the_last_good_day(platform: Platform, tmp_path: Path) -> None:
    target = tmp_path / "focus"
    export_focus(platform, DAYS[:2], target, "1.2")
    before = (target / "cost-and-usage-2026-09-29.parquet").read_bytes()
    export = export_focus(platform, DAYS[1:4], target, "1.2", held={DAYS[1]: ["held"]})
    assert sorted(export.rows) == DAYS[2:4]
    assert (target / "cost-and-usage-2026-09-29.parquet").read_bytes() == before
    manifest = json.loads((target / focus_export.MANIFEST).read_text(encoding="utf-8"))
    assert [d["day"] for d in manifest["days"]] == [str(day) for day in DAYS[:4]]
    assert list(manifest["held"]) == ["2026-09-29"]
    [recency] = (json.loads(f.read_text()) for f in target.glob("metadata/recency-*.json"))
    assert [s["TimeSectorComplete"] for s in recency["TimeSectors"]] == [True, False, True, True]
    export_focus(platform, [DAYS[1]], target, "1.2")
    assert json.loads((target / focus_export.MANIFEST).read_text(encoding="utf-8"))["held"] == {}


def test_a_day_that_lacks_a_source_is_written_and_called_not_complete_until_it_is_whole(
    platform: Platform, tmp_path: Path
) -> None:
    target, lacking = tmp_path / "focus", {DAYS[1]: ["gcp not in it: incomplete"]}
    export = export_focus(platform, DAYS[:3], target, "1.2", parts=lacking)
    assert (sorted(export.rows), dict(export.parts)) == (DAYS[:3], lacking)

    def told() -> tuple[list[bool], list[str]]:
        [recency] = (json.loads(f.read_text()) for f in target.glob("metadata/recency-*.json"))
        manifest = json.loads((target / focus_export.MANIFEST).read_text(encoding="utf-8"))
        return [s["TimeSectorComplete"] for s in recency["TimeSectors"]], list(manifest["not_whole"])

    assert told() == ([True, False, True], [str(DAYS[1])])
    export_focus(platform, DAYS[2:4], target, "1.2")
    assert told() == ([True, False, True, True], [str(DAYS[1])])
    export_focus(platform, [DAYS[1]], target, "1.2")
    assert told() == ([True, True, True, True], [])


def test_another_kind_of_export_needs_a_folder_of_its_own(platform: Platform, tmp_path: Path) -> None:
    export_focus(platform, DAYS[:1], tmp_path / "focus", "1.2", ["aws"])
    for version, sources in (("1.4", ["aws"]), ("1.2", ["aws", "gcp"])):
        with pytest.raises(FinopsError, match=r"holds an export of FOCUS 1.2 of aws, .*folder of its own"):
            export_focus(platform, DAYS[:1], tmp_path / "focus", version, sources)  # type: ignore[arg-type]


def test_a_file_that_is_not_what_the_facts_are_is_never_put_in_place(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = focus_export._selected
    monkeypatch.setattr(
        focus_export,
        "_selected",
        lambda *given: whole(*given) | {"BilledCost": "CAST(round(BilledCost, 17) AS DECIMAL(38, 18)) + 1e-18"},
    )
    with pytest.raises(FinopsError, match=r"export of 2026-09-28: the file holds .* BilledCost .*nothing was replaced"):
        export_focus(platform, DAYS[:1], tmp_path / "focus", "1.2")
    assert not list((tmp_path / "focus").rglob("*.parquet"))


def test_allocated_columns_only_on_charges_that_were_split(site: Site, tmp_path: Path) -> None:
    split = {"ServiceProviderName": "Cloud", "HostProviderName": "Cloud", "AllocatedTags": '{"team":"pod"}'}
    site.put_csv(
        "bill.csv",
        focus_row(**split, AllocatedMethodId="by-cpu", AllocatedResourceId="pod-1"),
        focus_row(**split, AllocatedMethodId="", AllocatedResourceId="pod-2"),
    )
    site.run("2026-09-01")
    site.facts("2026-09-01")
    day = date(2026, 9, 1)
    export_focus(site.platform, [day], tmp_path / "new", "1.4")
    export_focus(site.platform, [day], tmp_path / "old", "1.2")
    with duckdb.connect() as connection:
        new = connection.execute(
            "SELECT AllocatedMethodId, AllocatedTags, x_AllocatedTags, AllocatedResourceId, x_AllocatedResourceId, x_Team"
            f" FROM read_parquet('{tmp_path}/new/*.parquet') ORDER BY ALL"
        ).fetchall()
        old = connection.execute(
            f"SELECT x_AllocatedTags FROM read_parquet('{tmp_path}/old/*.parquet') ORDER BY ALL"
        ).fetchall()
    assert new == [
        ("by-cpu", '{"team":"pod"}', None, "pod-1", None, "pod"),
        (None, None, '{"team":"pod"}', None, "pod-2", "pod"),
    ]
    assert old == [('{"team":"pod"}',)] * 2


def test_what_the_provider_left_out_is_told(site: Site, tmp_path: Path) -> None:
    site.put_csv("bill.csv", focus_row(InvoiceIssuerName=""), focus_row())
    site.run("2026-09-01")
    site.facts("2026-09-01")
    day = date(2026, 9, 1)
    export = export_focus(site.platform, [day, date(2026, 9, 2)], tmp_path / "out", "1.4")
    assert export.gaps == {"InvoiceIssuerName": 1}
    assert export.missing == (date(2026, 9, 2),)
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT DISTINCT ServiceProviderName, PricingCurrency, PricingCurrencyEffectiveCost"
            f" FROM read_parquet('{tmp_path}/out/*.parquet')"
        ).fetchall()
    assert found == [("Cloud", "USD", Decimal("1.25"))]


@pytest.mark.long
@pytest.mark.parametrize("release", ["whole_day", "by_source"])
def test_the_command_leaves_what_is_held_out_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    first, bad, last = date(2026, 9, 1), date(2026, 9, 2), date(2026, 9, 3)
    small_estate(tmp_path, first, last, incidents=[Incident("gcp", bad, "untagged")])
    sources = "".join(
        f"  - {{name: {s}, provider: {PROVIDERS[s]}, uri: estate/{s}, layout: {LAYOUTS[s]}}}\n" for s in SOURCES
    )
    (tmp_path / "finops.yaml").write_text(
        f"first_day: {first}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nrelease: {release}\nsources:\n"
        f"{sources}{DIMENSIONS}",
        encoding="utf-8",
    )
    (tmp_path / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    run = CliRunner().invoke
    assert run(app, ["run", "2026-09-01", "2026-09-04"]).exit_code == 3
    span = ["--from", "2026-09-01", "--to", "2026-09-04"]
    result = run(app, ["export", "focus", *span, "--version", "1.4", "out"])
    assert result.exit_code == 3, result.output
    files = {p.name for p in Path("out").glob("*.parquet")}
    if release == "whole_day":
        assert "FOCUS 1.4: 2 days" in result.output
        assert "held 2026-09-02:" in result.output
        assert files == {"cost-and-usage-2026-09-01.parquet", "cost-and-usage-2026-09-03.parquet"}
    else:
        assert "FOCUS 1.4: 3 days" in result.output
        assert "held 2026-09-02, gcp not in it: cloud_cost_facts:untagged_within_threshold failed" in result.output
        assert len(files) == 3
        with duckdb.connect() as connection:
            [(providers,)] = connection.execute(
                "SELECT count(DISTINCT ServiceProviderName) FROM read_parquet('out/cost-and-usage-2026-09-02.parquet')"
            ).fetchall()
        assert providers == 2
    free = run(app, ["export", "focus", "--from", "2026-09-01", "--to", "2026-09-02", "--source", "aws", "one"])
    assert free.exit_code == 0, free.output
    wrong = run(app, ["export", "focus", *span, "--source", "ibm", "out"])
    assert wrong.exit_code == 1
    assert "found ibm; allowed: aws, azure, gcp" in " ".join(wrong.output.split())


def test_rules_of_another_day_do_not_change_what_is_exported(site: Site, tmp_path: Path) -> None:
    """The export holds the dimensions that the facts hold, not those that the rules would give now."""
    site.put_csv("bill.csv", focus_row())
    site.run("2026-09-01")
    site.facts("2026-09-01", rules=Rules.from_settings(site.platform.settings))
    export_focus(site.platform, [date(2026, 9, 1)], tmp_path / "out", "1.2")
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT x_Team, x_TeamTagKey, x_Department FROM read_parquet('{tmp_path}/out/*.parquet')"
        ).fetchall()
    assert found == [("core", "team", None)]
