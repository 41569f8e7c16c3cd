"""The conformance report: every kind of rule with a good and a bad row, files as written, sources, JUnit, the asset."""

from __future__ import annotations

import gzip
import json
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from finops_assets.base.errors import FinopsError
from finops_assets.cli.program import app
from finops_assets.focus.specification import VERSIONS, columns
from finops_assets.graph.assets.conformance import CONFORMANCE
from finops_assets.judge.conformance.judge import Finding
from finops_assets.judge.conformance.report import (
    breaks,
    judge_files,
    judge_source,
    keep_judged,
    kept_findings,
    over_days,
    summary,
    write_junit,
)
from finops_assets.judge.conformance.rules import rules_of
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.ledger import DayTotals, Generation, Ledger
from finops_assets_tests.conftest import Row, Site, csv_text, focus_row
from finops_assets_tests.places import SHARED
from finops_assets_tests.running import Graph, settings_for, small_estate


def full_row(day: str = "2026-09-01", **changes: Any) -> Row:
    """A row that keeps every rule of FOCUS 1.0, what is recommended included."""
    return focus_row(day, **({"AvailabilityZone": ""} | changes))


DATA = SHARED / "data"
SAMPLE = DATA / "focus_sample_1_0.csv"
EXAMPLES = DATA / "spec_examples"

COMMITTED = {
    "CommitmentDiscountId": "sp-1",
    "CommitmentDiscountCategory": "Spend",
    "CommitmentDiscountType": "Savings Plan",
    "CommitmentDiscountStatus": "Used",
}
PRICED = {"ListUnitPrice": "2", "ContractedUnitPrice": "1.5"}
SPLIT = {"AllocatedMethodId": "by-cpu", "AllocatedResourceId": "pod-1"}


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., dict[str, Finding]]:
    """Judge rows, given as one CSV file; rule id -> finding."""

    def judge(*rows: Row, version: str | None = None) -> dict[str, Finding]:
        folder = tmp_path / f"judged{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "bill.csv").write_text(csv_text(rows), encoding="utf-8")
        return judged_file(folder / "bill.csv", version)

    return judge


def judged_file(file: Path, version: str | None = None) -> dict[str, Finding]:
    scratch = file.parent / f"scratch-{file.name}"
    scratch.mkdir()
    return {f.rule.id: f for f in judge_files([str(file)], EngineSettings(), scratch, version)}


# rule, version, what both rows have, the good row, the bad row
RELATIONS: list[tuple[str, str, Row, Row, Row]] = [
    ("CAU-BillingCurrency-FORMAT", "1.0", {}, {}, {"BillingCurrency": "US dollar"}),
    ("CAU-BillingPeriodEnd-AFTER-START", "1.0", {}, {}, {"BillingPeriodEnd": "2026-08-01T00:00:00Z"}),
    ("CAU-BillingPeriodEnd-EXCLUSIVE", "1.0", {}, {}, {"BillingPeriodEnd": "2026-09-30T00:00:00Z"}),
    ("CAU-ChargePeriodEnd-AFTER-START", "1.0", {}, {}, {"ChargePeriodEnd": "2026-09-01T10:00:00Z"}),
    ("CAU-ListCost-PRODUCT", "1.0", PRICED, {"ListCost": "2.0000000001"}, {"ListCost": "2.01"}),
    ("CAU-ListCost-PRODUCT", "1.3", PRICED, {"ListCost": "2"}, {"ListCost": "3", "ChargeClass": "Correction"}),
    ("CAU-ContractedCost-PRODUCT", "1.0", PRICED, {}, {"ContractedCost": "1.6"}),
    (
        "CAU-EffectiveCost-COVERING-PURCHASE", "1.0", COMMITTED | {"ChargeCategory": "Purchase"},
        {"EffectiveCost": "0"}, {"EffectiveCost": "1"},
    ),
    ("CAU-EffectiveCost-UNRELATED", "1.4", {"ChargeCategory": "Tax"}, {"EffectiveCost": "1.5"}, {"EffectiveCost": "1"}),
    ("CAU-EffectiveCost-UNCOVERED", "1.4", {}, {"EffectiveCost": "1.50"}, {"EffectiveCost": "1.25"}),
    (
        "CAU-BilledCost-UNUSED", "1.0", COMMITTED | {"CommitmentDiscountStatus": "Unused"},
        {"BilledCost": "0"}, {"BilledCost": "1"},
    ),
    (
        "CAU-ResourceId-UNUSED", "1.0", COMMITTED | {"CommitmentDiscountStatus": "Unused"},
        {"ResourceId": "SP-1"}, {"ResourceId": "vm"},
    ),
    (
        "CAU-CommitmentDiscountStatus-CATEGORY", "1.0", COMMITTED | {"CommitmentDiscountStatus": "Unused"},
        {}, {"ChargeCategory": "Purchase"},
    ),
    ("CAU-ListUnitPrice-NEGATIVE", "1.0", {}, {"ListUnitPrice": "0"}, {"ListUnitPrice": "-2"}),
    ("CAU-SkuId-TAX", "1.0", {"ChargeCategory": "Tax"}, {"SkuId": ""}, {"SkuId": "s"}),
    ("CAU-SkuId-CHARGED", "1.0", {}, {"SkuId": "s"}, {"SkuId": ""}),
    ("CAU-PricingUnit-WITH-QUANTITY", "1.0", {}, {}, {"PricingUnit": ""}),
    ("CAU-PricingCategory-COMMITTED", "1.0", COMMITTED, {"PricingCategory": "Committed"}, {"PricingCategory": "Standard"}),
    ("CAU-ChargeFrequency-PURCHASE", "1.0", {"ChargeCategory": "Purchase"}, {"ChargeFrequency": "One-Time"}, {}),
    ("CAU-CommitmentDiscountType-WITH-COMMITMENT", "1.0", COMMITTED, {}, {"CommitmentDiscountType": ""}),
    ("CAU-CommitmentDiscountName-WITHOUT-COMMITMENT", "1.0", {"CommitmentDiscountId": ""}, {"CommitmentDiscountName": ""},
     {"CommitmentDiscountName": "mine"}),
    ("CAU-CommitmentDiscountStatus-USAGE", "1.0", COMMITTED, {}, {"CommitmentDiscountStatus": ""}),
    ("CAU-CommitmentDiscountQuantity-CHARGED", "1.1", COMMITTED, {"CommitmentDiscountQuantity": "1"},
     {"CommitmentDiscountQuantity": ""}),
    ("CAU-CommitmentDiscountUnit-WITH-QUANTITY", "1.1", {"CommitmentDiscountQuantity": "1"},
     {"CommitmentDiscountUnit": "Hours"}, {"CommitmentDiscountUnit": ""}),
    ("CAU-CapacityReservationStatus-WITHOUT-ID", "1.1", {"CapacityReservationId": ""}, {"CapacityReservationStatus": ""},
     {"CapacityReservationStatus": "Used"}),
    ("CAU-CapacityReservationStatus-USAGE", "1.1", {"CapacityReservationId": "c"}, {"CapacityReservationStatus": "Used"},
     {"CapacityReservationStatus": ""}),
    ("CAU-ConsumedQuantity-NOT-CONSUMED", "1.0", {"ChargeCategory": "Credit"}, {"ConsumedQuantity": ""},
     {"ConsumedQuantity": "1"}),
    ("CAU-ConsumedQuantity-USAGE", "1.0", {}, {"ConsumedQuantity": "1"}, {"ConsumedQuantity": ""}),
    ("CAU-ConsumedUnit-WITH-QUANTITY", "1.0", {"ConsumedQuantity": "1"}, {"ConsumedUnit": "Hours"}, {"ConsumedUnit": ""}),
    ("CAU-RegionName-WITH-ID", "1.0", {"RegionId": "eu"}, {"RegionName": "Europe"}, {"RegionName": ""}),
    ("CAU-ResourceName-WITHOUT-ID", "1.0", {"ResourceId": ""}, {"ResourceName": ""}, {"ResourceName": "vm"}),
    ("CAU-ResourceType-WITH-ID", "1.0", {"ResourceId": "r"}, {"ResourceType": "VM"}, {"ResourceType": ""}),
    ("CAU-SkuMeter-WITHOUT-ID", "1.1", {"SkuId": ""}, {"SkuMeter": ""}, {"SkuMeter": "m"}),
    ("CAU-SkuPriceDetails-WITHOUT-ID", "1.1", {"SkuPriceId": ""}, {"SkuPriceDetails": ""}, {"SkuPriceDetails": "{}"}),
    ("CAU-SubAccountName-WITHOUT-ID", "1.0", {"SubAccountId": ""}, {"SubAccountName": ""}, {"SubAccountName": "dev"}),
    ("CAU-SubAccountType-WITH-ID", "1.2", {"SubAccountId": "1"}, {"SubAccountType": "Account"}, {"SubAccountType": ""}),
    ("CAU-AllocatedTags-WITHOUT-METHOD", "1.3", {"AllocatedTags": '{"team":"a"}'}, SPLIT, {"AllocatedMethodId": ""}),
]  # fmt: skip

# rule, version, the bad row; the good row is focus_row
VALUES: list[tuple[str, str, Row]] = [
    ("CAU-BilledCost-NULL", "1.0", {"BilledCost": ""}),
    ("CAU-BillingAccountName-PLACEHOLDER", "1.0", {"BillingAccountName": "N/A"}),
    ("CAU-BilledCost-TYPE", "1.0", {"BilledCost": "much"}),
    ("CAU-ChargePeriodEnd-TYPE", "1.0", {"ChargePeriodEnd": "soon"}),
    ("CAU-BilledCost-FORMAT", "1.0", {"BilledCost": "+1.5"}),
    ("CAU-BilledCost-FORMAT", "1.0", {"BilledCost": "$1.50"}),
    ("CAU-ChargePeriodStart-FORMAT", "1.0", {"ChargePeriodStart": "2026-09-01 10:00:00"}),
    ("CAU-ChargePeriodStart-FORMAT", "1.0", {"ChargePeriodStart": "2026-09-01T10:00Z"}),
    ("CAU-Tags-FORMAT", "1.0", {"Tags": "{team: core}"}),
    ("CAU-Tags-FORMAT", "1.0", {"Tags": '["core"]'}),
    ("CAU-Tags-FORMAT", "1.0", {"Tags": '{"a": {"b": 1}}'}),
    ("CAU-Tags-FORMAT", "1.0", {"Tags": '{"a": 1, "a": 2}'}),
    ("CAU-ChargeCategory-VALUES", "1.0", {"ChargeCategory": "usage"}),
    ("CAU-ChargeClass-VALUES", "1.0", {"ChargeClass": "Refund"}),
    ("CAU-ServiceCategory-VALUES", "1.0", {"ServiceCategory": "Database"}),
]


CASES = [
    *(
        (rule, version, full_row(**(both | good)), full_row(**(both | bad)))
        for rule, version, both, good, bad in RELATIONS
    ),
    *((rule, version, full_row(), full_row(**bad)) for rule, version, bad in VALUES),
]


@pytest.fixture(scope="module")
def broken_rows(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], set[int]]:
    """(rule, version) -> the rows that break it, of a file for each version: a case's good row, then its bad one."""
    result: dict[tuple[str, str], set[int]] = {}
    for version in VERSIONS:
        rows = [row for _, of, good, bad in CASES if of == version for row in (good, bad)]
        names = dict.fromkeys(name for row in rows for name in row)
        folder = tmp_path_factory.mktemp(f"focus{version}")
        file = folder / "bill.csv"
        file.write_text(csv_text([{name: row.get(name, "") for name in names} for row in rows]), encoding="utf-8")
        for finding in judge_files([str(file)], EngineSettings(), folder, version, examples=len(rows)):
            result[finding.rule.id, version] = {example.row for example in finding.examples}
    return result


@pytest.mark.parametrize("case", CASES, ids=[f"{rule} {version}" for rule, version, *_ in CASES])
def test_the_bad_row_breaks_the_rule_and_the_good_one_keeps_it(
    broken_rows: dict[tuple[str, str], set[int]], case: tuple[str, str, Row, Row]
) -> None:
    rule, version, *_ = case
    bad = 2 * ([c for c in CASES if c[1] == version].index(case) + 1)
    assert bad in broken_rows[rule, version]
    assert bad - 1 not in broken_rows[rule, version]


def test_every_written_rule_has_its_good_and_bad_row() -> None:
    entries = tomllib.loads((files("finops_assets.judge.conformance") / "rules.toml").read_text(encoding="utf-8"))[
        "rule"
    ]
    written = {e["id"] for e in entries if e.get("kind") != "columns"}
    tested = {rule for rule, *_ in RELATIONS}
    covered = {i for i in written if any(i.replace("{column}", c) in tested for c in ["", *columns()])}
    assert written - covered == set()


def test_ids_are_unique_and_each_rule_names_its_place() -> None:
    for version in VERSIONS:
        ids = [rule.id for rule in rules_of(version)]
        assert len(ids) == len(set(ids))
        assert all(rule.says and rule.reference and rule.id.startswith("CAU-") for rule in rules_of(version))
        assert all(name in columns() for rule in rules_of(version) for name in rule.columns)
    with pytest.raises(FinopsError, match=r"found FOCUS version '2.0'; allowed: 1.0, 1.1, 1.2, 1.3, 1.4"):
        rules_of("2.0")


def test_a_conforming_file_keeps_every_rule(judge: Callable[..., dict[str, Finding]]) -> None:
    found = judge(full_row(), full_row("2026-09-02"))
    assert breaks(found.values(), "warning") == []
    assert "CAU-ChargeClass-VALUES" in found
    assert found["CAU-BilledCost-NULL"].judged == 2


def test_columns_of_the_data_set(judge: Callable[..., dict[str, Finding]]) -> None:
    row = full_row(Id="7", Skuid="s", x_own="1", HostProviderName="Cloud", ServiceProviderName="Cloud")
    del row["ChargeDescription"], row["ChargeFrequency"]
    found = judge(row, version="1.3")
    examples = {i: [e.value for e in f.examples] for i, f in found.items() if f.rule.kind in ("columns", "presence")}
    assert examples["CAU-Columns-SPELLING"] == ["Skuid"]
    assert examples["CAU-Columns-PREFIX"] == ["Id"]
    assert found["CAU-ChargeDescription-PRESENT"].state == "failed"
    assert (found["CAU-ChargeFrequency-PRESENT"].state, found["CAU-ChargeFrequency-PRESENT"].rule.severity) == (
        "failed",
        "warning",
    )
    assert found["CAU-ProviderName-DEPRECATED"].rule.severity == "warning"
    assert found["CAU-ChargeDescription-TYPE"].reason == "ChargeDescription is not in the data set"
    assert "ProviderName" in [e.value for e in judge(row, version="1.4")["CAU-Columns-PREFIX"].examples]


def test_rules_differ_by_version(judge: Callable[..., dict[str, Finding]]) -> None:
    tax = full_row(ChargeCategory="Tax", BilledCost="2", EffectiveCost="1", PricingQuantity="", PricingUnit="")
    assert "CAU-EffectiveCost-UNRELATED" not in judge(tax, version="1.3")
    found = judge(tax, version="1.4")["CAU-EffectiveCost-UNRELATED"]
    assert (found.state, found.rule.severity) == ("failed", "warning")
    correction = full_row(ChargeClass="Correction", ListUnitPrice="1", ListCost="9")
    assert judge(correction, version="1.2")["CAU-ListCost-PRODUCT"].state == "passed"
    assert judge(correction, version="1.3")["CAU-ListCost-PRODUCT"].state == "failed"


def test_types_of_parquet(tmp_path: Path) -> None:
    row = full_row() | {
        "BillingAccountId": 4711,
        "BilledCost": 1.5,
        "ChargePeriodEnd": date(2026, 9, 2),
        "ChargeClass": "",
    }
    types: dict[str, Any] = {"BillingAccountId": pa.int64(), "BilledCost": pa.float64(), "ChargePeriodEnd": pa.date32()}
    types["Tags"] = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))
    row["Tags"] = [{"key": "team", "value": "core"}]
    schema = pa.schema([pa.field(name, types.get(name, pa.string())) for name in row])
    pq.write_table(pa.Table.from_pylist([row], schema=schema), tmp_path / "bill.parquet")
    found = judged_file(tmp_path / "bill.parquet")
    broken = {f.rule.id for f in breaks(found.values())}
    assert broken == {
        "CAU-BillingAccountId-TYPE",
        "CAU-ChargePeriodEnd-TYPE",
        "CAU-AvailabilityZone-PLACEHOLDER",
        "CAU-ChargeClass-PLACEHOLDER",
        "CAU-Tags-TYPE",
    }


def test_several_files_are_one_data_set(tmp_path: Path) -> None:
    for name, cost in (("a.csv", "1"), ("sub/b.csv.gz", "")):
        file = tmp_path / "bills" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        text = csv_text([full_row(BilledCost=cost)]).encode()
        if name.endswith(".gz"):
            import gzip

            text = gzip.compress(text)
        file.write_bytes(text)
    (tmp_path / "scratch").mkdir()
    [null] = [
        f
        for f in judge_files([str(tmp_path / "bills")], EngineSettings(), tmp_path / "scratch")
        if f.rule.id == "CAU-BilledCost-NULL"
    ]
    assert (null.judged, null.failing, str(null.examples[0])) == (2, 1, "null (sub/b.csv.gz, row 1)")


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the FOCUS sample is not there")
def test_the_official_sample_is_not_what_it_samples(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    found = {f.rule.id: f for f in judge_files([str(SAMPLE)], EngineSettings(), tmp_path / "scratch")}
    failing = {rule: f.failing for rule, f in found.items() if f.state == "failed"}
    assert {f.rule.version for f in found.values()} == {"1.0"}
    assert failing["CAU-ChargeFrequency-VALUES"] == 7
    assert "'Usage-based'" in str(found["CAU-ChargeFrequency-VALUES"].examples[0])
    assert failing["CAU-ContractedUnitPrice-NEGATIVE"] == 1
    assert failing["CAU-ChargePeriodStart-FORMAT"] == 1000
    assert failing["CAU-ChargeClass-PLACEHOLDER"] == 1000
    assert failing["CAU-Tags-PLACEHOLDER"] == 289
    assert failing["CAU-ContractedCost-NULL"] == 7
    assert failing["CAU-RegionName-WITH-ID"] == 9
    assert failing["CAU-Columns-PREFIX"] == 1
    assert not {"CAU-BilledCost-NULL", "CAU-BilledCost-TYPE", "CAU-Tags-FORMAT"} & failing.keys()


@pytest.mark.long
@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the specification's examples are not there")
def test_the_specifications_own_examples_are_judged_whatever_they_hold(tmp_path: Path) -> None:
    traps: dict[str, int] = {}
    for folder in ("saas_examples", "commitment_discount_scenarios"):
        (tmp_path / folder).mkdir()
        for finding in breaks(judge_files([str(EXAMPLES / folder)], EngineSettings(), tmp_path / folder)):
            traps[finding.rule.id] = traps.get(finding.rule.id, 0) + finding.failing
    assert traps["CAU-BilledCost-FORMAT"] > 0  # $50,000.00
    assert traps["CAU-ChargePeriodStart-FORMAT"] > 0  # M/D/YY
    assert traps["CAU-ServiceCategory-VALUES"] > 0  # Database
    assert any(rule.endswith("-PLACEHOLDER") for rule in traps)  # the word null


def test_a_source_is_judged_by_day_with_its_known_gaps(make_site: Callable[..., Site]) -> None:
    site = make_site()
    bad = full_row("2026-09-02", BilledCost="much", ChargeFrequency="usage-based", InvoiceIssuerName="", Tags="{oops")
    site.put_csv("bill.csv", full_row(), bad, full_row("2026-09-02"))
    site.run("2026-09-01", "2026-09-02")
    days = [date(2026, 9, 1), date(2026, 9, 2), date(2026, 9, 3)]
    source = site.source.model_copy(update={"known_gaps": ("InvoiceIssuerName",)})
    findings = judge_source(site.platform, source, days)
    assert {f.day for f in findings} == set(days[:2])
    assert breaks([f for f in findings if f.day == days[0]], "warning") == []
    second = {f.rule.id: f for f in findings if f.day == days[1]}
    broken = {i: (f.failing, f.judged, str(f.examples[0])) for i, f in second.items() if f.state == "failed"}
    assert broken == {
        "CAU-BilledCost-TYPE": (1, 2, "'much' (bill.csv, row 2)"),
        "CAU-ChargeFrequency-VALUES": (1, 2, "'usage-based' (bill.csv, row 2)"),
        "CAU-Tags-FORMAT": (1, 2, "'{oops' (bill.csv, row 2)"),
    }
    assert second["CAU-InvoiceIssuerName-NULL"].state == "known_gap"
    assert second["CAU-BilledCost-NULL"].state == "passed"
    assert second["CAU-BillingAccountName-PLACEHOLDER"].state == "not_judged"
    merged = {f.rule.id: f for f in over_days(findings)}
    assert (merged["CAU-BilledCost-TYPE"].failing, merged["CAU-BilledCost-TYPE"].judged) == (1, 3)
    assert "3 errors, 0 warnings, 1 known gaps" in summary(findings)


def test_each_version_of_a_source_is_judged_by_its_own_rules(site: Site) -> None:
    site.put_csv("a.csv", full_row())
    new = full_row(
        ServiceProviderName="Cloud", HostProviderName="Cloud", InvoiceDetailId="", ResourceId="another", BilledCost="7"
    )
    for name in ("ProviderName", "PublisherName"):
        del new[name]
    site.put_csv("b.csv", new)
    site.run("2026-09-01")
    findings = judge_source(site.platform, site.source, [date(2026, 9, 1)])
    counts = {(f.rule.version, f.judged) for f in findings if f.rule.id == "CAU-BilledCost-NULL"}
    assert counts == {("1.0", 1), ("1.4", 1)}


def test_a_day_is_judged_once_until_its_rows_change(site: Site) -> None:
    site.put_csv("bill.csv", full_row(ChargeFrequency="Often"), full_row("2026-09-02"))
    site.run("2026-09-01", "2026-09-02")
    days = [date(2026, 9, 1), date(2026, 9, 2)]
    assert keep_judged(site.platform, site.source, days) == days
    assert keep_judged(site.platform, site.source, days) == []
    table = kept_findings(site.platform.lake, "bill")
    assert list(table["charge_date"]) == [date(2026, 9, 2), date(2026, 9, 1)]
    assert list(table["state"]) == ["passed", "failed"]
    assert table["rule_id"].iloc[1] == "CAU-ChargeFrequency-VALUES"
    site.put_csv("bill.csv", full_row(), full_row("2026-09-02"))
    site.run("2026-09-01", "2026-09-02")
    assert keep_judged(site.platform, site.source, days) == [date(2026, 9, 1)]
    assert set(kept_findings(site.platform.lake, "bill")["state"]) == {"passed"}


def test_junit_says_failed_skipped_and_why(judge: Callable[..., dict[str, Finding]], tmp_path: Path) -> None:
    found = list(judge(full_row(), full_row(BilledCost="", ServiceName="a\x01b", ChargeCategory="b\x01d")).values())
    write_junit(found, "bill", tmp_path / "out" / "junit.xml")
    root = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
    assert int(root.attrib["tests"]) == len(found) == len(root.findall("testsuite/testcase"))
    failures = {case.attrib["name"]: case for case in root.iter("testcase") if case.find("failure") is not None}
    assert int(root.attrib["failures"]) == len(failures)
    message = failures["CAU-BilledCost-NULL (1.0)"].find("failure")
    assert message is not None
    assert message.attrib["message"].startswith("1 of 2: BilledCost must not be null (FOCUS 1.0")
    skipped = [
        case.find("skipped") for case in root.iter("testcase") if case.attrib["name"].startswith("CAU-SkuId-TYPE")
    ]
    assert [s.attrib["message"] for s in skipped if s is not None] == ["SkuId is not in the data set"]


def test_the_command_judges_a_file_without_finops_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FINOPS_CONFIG", raising=False)
    Path("good.csv").write_text(csv_text([full_row()]), encoding="utf-8")
    Path("bad.csv").write_text(
        csv_text([full_row(BilledCost="", BillingPeriodEnd="2026-09-30T00:00:00Z")]), encoding="utf-8"
    )
    run = CliRunner().invoke
    good = run(app, ["conformance", "good.csv"])
    assert (good.exit_code, good.output.strip().startswith("FOCUS 1.0:")) == (0, True), good.output
    bad = run(app, ["conformance", "bad.csv", "--junit", "j.xml"])
    assert bad.exit_code == 1
    assert "CAU-BilledCost-NULL (1.0)  1 of 1 rows" in bad.output
    assert "warning CAU-BillingPeriodEnd-EXCLUSIVE" in bad.output
    assert Path("j.xml").is_file()
    rows = json.loads(run(app, ["conformance", "bad.csv", "-f", "json", "--fail-on", "never"]).stdout)["rows"]
    assert {r["state"] for r in rows} == {"failed", "passed", "not_judged"}
    for arguments, says in (
        (["conformance", "none.csv"], "none.csv"),
        (["conformance", "bad.csv", "--version", "3.0"], "allowed: 1.0, 1.1, 1.2, 1.3, 1.4"),
        (["conformance", "bad.csv", "--from", "2026-09-01"], "a file is judged whole"),
    ):
        result = run(app, arguments)
        assert result.exit_code == 1
        assert says in " ".join(result.output.split())
        assert "Traceback" not in result.output


def test_what_cannot_be_judged_is_told_by_the_name_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FINOPS_CONFIG", raising=False)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 cut")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n")[:-9])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    run = CliRunner().invoke
    for arguments, said in {
        ("bad.parquet",): "error bad.parquet: is not Parquet, or is cut off",
        ("cut.csv.gz", "bad.parquet"): "is not",
        ("other.csv",): "error other.csv: no FOCUS column among a, b\n",
        ("nosuch.csv",): f"error nosuch.csv: it does not exist; {tmp_path} has no 'nosuch.csv'",
        ("none/*.csv",): f"error none/*.csv: it does not exist; {tmp_path} has no 'none'",
        ("nosuch",): "error nosuch: it does not exist",
    }.items():
        result = run(app, ["conformance", *arguments])
        assert result.exit_code == 1
        assert said in result.stderr
        assert tempfile.gettempdir() not in result.stderr.replace(str(tmp_path), "")
    (tmp_path / "finops.yaml").write_text(
        "first_day: 2026-10-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        "sources: [{name: aws, uri: exports, layout: files}]\ndimensions: {team: {keys: [team]}}\n"
    )
    said = run(app, ["conformance", "nosuch"]).stderr
    assert "'nosuch' is no source of finops.yaml (allowed: aws), and no file or folder here" in said


def conformance_checks(instance: dg.DagsterInstance) -> list[dg.AssetCheckEvaluation]:
    """What was ever said of the asset's checks."""
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    events = (
        r.event_log_entry.get_dagster_event().asset_check_evaluation_data
        for run in instance.get_runs()
        for r in instance.get_records_for_run(run.run_id, of_type=kind).records
    )
    return [e for e in events if e.asset_key == CONFORMANCE]


@pytest.mark.long
def test_the_estate_keeps_to_focus_and_the_asset_says_so(tmp_path: Path) -> None:
    first, last = date(2026, 9, 1), date(2026, 9, 3)
    small_estate(tmp_path, first, last)
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(settings_for(tmp_path, first), instance)
        assert graph.run(first, last).success
        graph.publish("reports/conformance")
        assert {(c.check_name, c.passed, c.severity) for c in conformance_checks(instance)} == {
            (f"{s}_keeps_to_focus", True, dg.AssetCheckSeverity.WARN) for s in ("aws", "azure", "gcp")
        }
        with duckdb.connect(str(graph.settings.published), read_only=True) as connection:
            held = connection.execute(
                "SELECT source, count(*), min(state), max(state), min(judged) FROM reports.conformance GROUP BY 1 ORDER BY 1"
            ).fetchall()
        late = {date(2062, 9, 1): DayTotals(1, {"EUR": Decimal("2.5")}, {"EUR": Decimal("2.5")}, "f")}
        far = Generation("late", "1", "live", datetime.now(UTC), files=(("late.csv", 1, "e"),), rows=1, days=late)
        Ledger(graph.platform.lake, "gcp").enter(far)
        graph.publish("reports/conformance")
        failed = [c for c in conformance_checks(instance) if not c.passed]
    assert [(s, n, low, high) for s, n, low, high, _ in held] == [
        (s, 3, "passed", "passed") for s in ("aws", "azure", "gcp")
    ]
    assert [c.check_name for c in failed] == ["gcp_keeps_to_focus"]
    assert "1 row of 2062-09-01 (2.5 EUR) lies after today: in no figure until then" in str(failed[0].description)
    assert all(judged > 90 for *_, judged in held)
