"""Bad input: it is named so that a person can act on it, and nothing good beside it is lost."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finops_assets.base.errors import DeliveryRefused, FinopsError, LakeError
from finops_assets.cost.rollup import rollup_totals
from finops_assets.ingest.slices import FLUSH_ROWS, write_days
from finops_assets.judge.gates.facts import judge_facts
from finops_assets.judge.gates.rollup import judge_rollup
from finops_assets.judge.gates.verdict import Verdict
from finops_assets.platform import Platform
from finops_assets.settings.engine import EngineSettings
from finops_assets.settings.load import parse_settings
from finops_assets.storage.duck import connect
from finops_assets.storage.ledger import Generation
from finops_assets.storage.stores.store import LocalStore, StoredFile
from finops_assets_tests.conftest import Site, _dates, csv_text, focus_row

pytestmark = pytest.mark.slow  # by its time, not by what it needs

D1, D2, D3 = "2026-09-01", "2026-09-02", "2026-09-03"
AT_23 = datetime.fromisoformat(f"{D1} 23:00:00")
MakeSite = Callable[..., Site]


def rewrite(file: Path, content: bytes) -> None:
    """Write a file again so that it is seen as changed, however coarse the clock of the file system is."""
    before = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))


def failed(verdicts: dict[tuple[str, str], Verdict]) -> set[tuple[str, str]]:
    return {key for key, verdict in verdicts.items() if not verdict.passed}


def repairs(site: Site, day: str) -> list[Any]:
    """What was repaired, row by row."""
    return [json.loads(text) if text else None for (text,) in site.rows(day, "repairs")]


# ---- a delivery that cannot be read -------------------------------------------------------------


def parquet_bytes(site: Site, *days: str) -> bytes:
    file = site.put_parquet(
        "scratch.parquet", *(focus_row(day, ChargeDescription=f"{day} {n}") for day in days for n in range(400))
    )
    content = file.read_bytes()
    file.unlink()
    return content


def broken_page(content: bytes) -> bytes:
    """Valid to look at (header, footer), broken inside: bytes in the middle are turned around."""
    middle = len(content) // 4
    return content[:middle] + bytes(b ^ 0xFF for b in content[middle : middle + 400]) + content[middle + 400 :]


def another_figure() -> bytes:
    """One byte of a figure is another one: the engine reads it, and only the page's check sum tells."""
    out = io.BytesIO()
    rows = [dict(focus_row(D1, BilledCost=f"7{n:03}.25", ResourceId=f"r{n}")) for n in range(50)]
    table = pa.Table.from_pylist(rows)
    pq.write_table(
        table, out, write_page_checksum=True, compression="none", use_dictionary=False, write_statistics=False
    )
    content = out.getvalue()
    assert content.count(b"7007.25") == 1
    return content.replace(b"7007.25", b"9007.25")


GOOD_CSV = csv_text([focus_row(D1), focus_row(D1)])
CANNOT_BE_READ = {
    "zero bytes in the header": (
        "bad.csv",
        lambda site: GOOD_CSV.encode().replace(b"Name,Tags\n", b"N\0\0\0\0Tags\n", 1),
        "its header is damaged: zero bytes in",
    ),
    "not Parquet": ("bad.parquet", lambda site: b"this is no Parquet file", "not Parquet"),
    "an empty Parquet": ("bad.parquet", lambda site: b"", "not Parquet"),
    "a cut-off Parquet": ("bad.parquet", lambda site: parquet_bytes(site, D1)[:-200], "not Parquet"),
    "a Parquet broken inside": ("bad.parquet", lambda site: broken_page(parquet_bytes(site, D1)), "cannot be read"),
    "a Parquet with another figure": ("bad.parquet", lambda site: another_figure(), "cannot be read by another reader"),
    "a cut-off gzip": (
        "bad.csv.gz",
        lambda site: gzip.compress(csv_text([focus_row(D1, ResourceId=str(n)) for n in range(300)]).encode())[:-60],
        "not a readable CSV",
    ),
    "not gzip": ("bad.csv.gz", lambda site: GOOD_CSV.encode(), "not a readable CSV"),
    "a row with too many fields": (
        "bad.csv",
        lambda site: (GOOD_CSV + "1," * 40 + "1\n").encode(),
        "not a readable CSV",
    ),
    "a row with too few fields": ("bad.csv", lambda site: (GOOD_CSV + "1,2\n").encode(), "not a readable CSV"),
    "an unterminated quote": ("bad.csv", lambda site: (GOOD_CSV[:-3] + "\n").encode(), "not a readable CSV"),
    "an empty CSV": ("bad.csv", lambda site: b"", "not a readable CSV"),
    "bytes that are no text": (
        "bad.csv",
        lambda site: GOOD_CSV.encode().replace(b"hours", b"\xff\xfe\x80"),
        "not a readable CSV",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("what", CANNOT_BE_READ)
def test_a_delivery_that_cannot_be_read_is_refused_and_what_was_landed_stays(site: Site, what: str) -> None:
    name, content, reason = CANNOT_BE_READ[what]
    write = site.put_parquet if name.endswith(".parquet") else site.put_csv
    bad = write(name, focus_row(D1, BilledCost="7"))
    if name.endswith(".gz"):
        bad.write_bytes(gzip.compress(bad.read_bytes()))
    site.put_csv("other.csv", focus_row(D2))
    site.run(D1, D2)
    before = site.file("raw", D1).read_bytes()

    rewrite(bad, content(site))
    landed = {g.scope: g for g in site.run(D1, D2)}

    assert landed["other.csv"].state == "live"
    assert landed[name].state == "refused"
    text = landed[name].reason or ""
    assert reason in text
    assert "'bill'" in text
    assert name in text
    assert "have it delivered again" in text
    assert "opened" not in text, "a place of ours helps nobody"
    assert [g.state for g in site.generations(name)] == ["live", "refused"]
    assert site.file("raw", D1).read_bytes() == before
    verdicts = site.judge(D1, D2)
    assert failed(verdicts) == {("complete", D1)}
    assert verdicts["complete", D1].holds
    assert "refused" in verdicts["complete", D1].message
    assert reason in verdicts["complete", D1].message
    assert verdicts["complete", D1].next_step


def test_a_refused_delivery_that_is_mended_is_landed_and_holds_nothing_back(site: Site) -> None:
    bad = site.put("a.csv", GOOD_CSV + "1,2\n")
    assert site.run(D1)[0].state == "refused"
    rewrite(bad, GOOD_CSV.encode())
    assert site.run(D1)[0].state == "live"
    assert failed(site.judge(D1)) == set()


def test_a_broken_file_that_is_taken_away_holds_nothing_back(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1))
    bad = site.put("b.csv", GOOD_CSV + "1,2\n")
    site.run(D1)
    assert failed(site.judge(D1)) == {("complete", D1)}
    bad.unlink()
    site.run(D1)
    assert failed(site.judge(D1)) == set()


def test_a_landed_file_that_is_taken_away_keeps_what_it_gave(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1))
    gone = site.put_csv("b.csv", focus_row(D1, BilledCost="9"))
    site.run(D1)
    gone.unlink()
    site.run(D1)
    assert sorted(site.rows(D1, "BilledCost")) == [(Decimal("1.5"),), (Decimal(9),)]


def test_a_broken_row_is_named_with_its_line_and_text(site: Site) -> None:
    site.put("a.csv", GOOD_CSV + "broken,row\n")
    reason = site.run(D1)[0].reason or ""
    assert "line: 4" in reason.lower() or "line 4" in reason.lower()
    assert "broken,row" in reason


# ---- columns and values -------------------------------------------------------------------------


def without(row: dict[str, Any], column: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != column}


def test_a_missing_tags_column_is_said(site: Site) -> None:
    site.put_csv("a.csv", without(focus_row(D1), "Tags"))
    site.put_csv("b.csv", focus_row(D2))
    site.run(D1, D2)
    verdicts = site.judge(D1, D2)
    assert failed(verdicts) == set()
    told = "delivery a.csv has neither Tags nor AllocatedTags: its rows are untagged"
    assert told in verdicts["conforms", D1].message
    assert "Tags" not in verdicts["conforms", D2].message


@pytest.mark.long
@pytest.mark.parametrize("column", ["ChargeCategory", "BillingCurrency"])
def test_a_missing_mandatory_column_is_said(site: Site, column: str) -> None:
    site.put_csv("a.csv", without(focus_row(D1), column))
    site.put_csv("b.csv", focus_row(D2))
    site.run_all(D1, D2)
    verdicts = site.judge(D1, D2)
    assert failed(verdicts) == {("conforms", D1)}
    assert (
        f"column {column} is mandatory in FOCUS 1.0 and missing in delivery a.csv" in verdicts["conforms", D1].message
    )
    assert all(v.passed for v in judge_rollup(site.platform, _dates([D1, D2])))


def test_a_known_gap_is_reported_and_does_not_fail(make_site: MakeSite) -> None:
    site = make_site()
    source = site.source.model_copy(update={"known_gaps": ("PricingUnit",)})
    changed = site.platform.settings.model_copy(update={"sources": (source,)})
    site.__dict__["platform"] = replace(site.platform, settings=changed)
    site.put_csv("a.csv", without(focus_row(D1), "PricingUnit"))
    site.run(D1)
    verdict = site.judge(D1)["conforms", D1]
    assert verdict.passed
    assert "PricingUnit" in str(verdict.figures["known_gaps"])


def test_a_mandatory_null_is_said_on_its_day_alone(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1), focus_row(D2, BilledCost=""), focus_row(D2), focus_row(D3, ServiceName=""))
    site.run(D1, D2, D3)
    verdicts = site.judge(D1, D2, D3)
    assert failed(verdicts) == {("conforms", D2), ("conforms", D3)}
    assert verdicts["conforms", D2].message == "BilledCost is null in 1 row"
    told = "ServiceName is null in 1 row, 1.25 USD, 100.0 % of the day's positive cost (limit 50 %)"
    assert verdicts["conforms", D3].message == told
    assert "conforms: sources: bill: ServiceName" in verdicts["conforms", D3].next_step


def test_a_name_that_is_missing_on_little_money_is_named_with_it(make_site: MakeSite) -> None:
    rows = [focus_row(D1, ServiceName=""), focus_row(D1, EffectiveCost="3.75"), focus_row(D1, EffectiveCost="-9")]
    told = "named: ServiceName is null in 1 row, 1.25 USD, 25.0 % of the day's positive cost"
    site = make_site()
    site.put_csv("a.csv", *rows)
    site.run(D1)
    verdict = site.judge(D1)["conforms", D1]
    assert verdict.passed
    assert verdict.message == f"conforms to FOCUS 1.0; {told}"
    assert verdict.figures["ServiceName USD %"] == 25.0


@pytest.mark.parametrize("name", ["BillingAccountId", "ProviderName", "PublisherName"])
def test_names_that_no_sum_needs_are_named_with_their_money_and_hold_nothing(site: Site, name: str) -> None:
    site.put_csv("a.csv", without(focus_row(D1), name))
    site.put_csv("b.csv", focus_row(D2, **{name: ""}))
    site.run_all(D1, D2)
    verdicts = site.judge(D1, D2)
    assert failed(verdicts) == set()
    money = "null in 1 row, 1.25 USD, 100.0 % of the day's positive cost"
    absent = f"column {name} is mandatory in FOCUS 1.0 and missing in delivery a.csv: {money}"
    assert verdicts["conforms", D1].message == f"conforms to FOCUS 1.0; named: {absent}"
    assert verdicts["conforms", D2].message == f"conforms to FOCUS 1.0; named: {name} is {money}"
    with site.platform.warehouse.reading() as connection:
        cost = connection.execute("SELECT provider, sum(effective_cost) FROM daily_cost_by_team GROUP BY 1").fetchall()
    assert cost == [("bill" if name == "ProviderName" else "Cloud", Decimal("2.5"))]


def test_a_service_category_of_ones_own_is_a_group_and_holds_nothing(make_site: MakeSite) -> None:
    site = make_site()
    site.put_csv("a.csv", focus_row(D1, ServiceCategory="Observability"))
    site.run_all(D1)
    verdict = site.judge(D1)["conforms", D1]
    assert verdict.passed
    assert "'Observability'; allowed: " in verdict.message
    with site.platform.warehouse.reading() as connection:
        assert connection.execute("SELECT ServiceCategory FROM daily_cost_by_team").fetchall() == [("Observability",)]


def test_a_day_of_little_money_is_not_held_for_a_share_of_it(make_site: MakeSite) -> None:
    site = make_site(extra="tag_policy: {small_day: {EUR: 2}}")
    site.put_csv("a.csv", focus_row(D1, ServiceName="", EffectiveCost="0.9"))
    site.put_csv("b.csv", focus_row(D2, ServiceName="", BillingCurrency="EUR"))
    site.put_csv("c.csv", focus_row(D3, ServiceName=""))
    site.run(D1, D2, D3)
    verdicts = site.judge(D1, D2, D3)
    assert failed(verdicts) == {("conforms", D3)}
    assert "named: ServiceName is null in 1 row, 0.90 USD, 100.0 %" in verdicts["conforms", D1].message


def test_the_share_that_holds_is_given_by_column_and_source(make_site: MakeSite) -> None:
    site = make_site(extra="conforms: {hold_above: {ServiceName: 10}, sources: {bill: {PublisherName: 20}}}")
    site.put_csv("a.csv", focus_row(D1, ServiceName=""), focus_row(D1, EffectiveCost="3.75"))
    site.put_csv("b.csv", focus_row(D2, PublisherName=""), focus_row(D2, EffectiveCost="3.75"))
    site.put_csv("c.csv", focus_row(D3, InvoiceIssuerName=""))
    site.run(D1, D2, D3)
    verdicts = site.judge(D1, D2, D3)
    assert failed(verdicts) == {("conforms", D1), ("conforms", D2)}
    assert "(limit 10 %)" in verdicts["conforms", D1].message
    assert "(limit 20 %)" in verdicts["conforms", D2].message


def test_what_is_known_of_one_version_is_no_excuse_of_another(site: Site) -> None:
    oracle = {"ProviderName": "Oracle", "ContractedCost": ""}
    later = {"ServiceSubcategory": "Virtual Machines", "InvoiceId": "7", "PricingCurrency": "USD"}
    site.put_csv("a.csv", focus_row(D1, **oracle))
    site.put_csv("b.csv", focus_row(D2, **oracle, **later))
    site.run(D1, D2)
    verdicts = site.judge(D1, D2)
    assert {d: str(verdicts["conforms", d].figures["focus_version"]) for d in (D1, D2)} == {D1: "1.0", D2: "1.2"}
    assert failed(site.judge(D1)) == set()
    assert failed(site.judge(D2)) == {("conforms", D2)}


def test_what_azure_leaves_out_is_known(make_site: MakeSite) -> None:
    azure = {"ProviderName": "Microsoft", "ChargeCategory": "Purchase"}
    site = make_site()
    site.put_csv("a.csv", focus_row(D1, ServiceName="", PublisherName="", **azure))
    site.put_csv("b.csv", focus_row(D2, ServiceName="", ProviderName="Cloud", ChargeCategory="Purchase"))
    site.run(D1, D2)
    verdicts = site.judge(D1, D2)
    assert failed(verdicts) == {("conforms", D2)}
    assert verdicts["conforms", D1].message == "conforms to FOCUS 1.0"
    assert "ServiceName is null in 1 row" in str(verdicts["conforms", D1].figures["known_gaps"])


def test_tags_that_are_no_tag_set_are_kept_and_named(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1), focus_row(D2, Tags="team=core", BilledCost="3"), focus_row(D2))
    site.run(D1, D2)
    assert site.rows(D2, "BilledCost", "Tags") == [(Decimal(3), None), (Decimal("1.5"), '{"team":"core"}')]
    assert repairs(site, D2) == [[{"rule": "not_a_tag_set", "column": "Tags", "found": "team=core"}], None]
    verdicts = site.judge(D1, D2)
    assert failed(verdicts) == set()
    message = verdicts["conforms", D2].message
    assert "Tags is not a tag set in 1 row, e.g. 'team=core' in file a.csv, row 2" in message


def test_a_list_as_the_value_of_one_tag_takes_no_other_tag_away(site: Site) -> None:
    written = '{"team": "core", "owners": ["x"]}'
    site.put_csv("a.csv", focus_row(D1, AllocatedTags=""), focus_row(D1, Tags=written, AllocatedTags='{"a": {"b": 1}}'))
    site.run(D1)
    kept = '{"owners":"[\\"x\\"]","team":"core"}'
    assert site.rows(D1, "Tags", "AllocatedTags") == [('{"team":"core"}', None), (kept, '{"a":"{\\"b\\":1}"}')]
    told = [
        {"rule": "nested_tag_value", "column": "Tags", "found": written},
        {"rule": "nested_tag_value", "column": "AllocatedTags", "found": '{"a": {"b": 1}}'},
    ]
    assert repairs(site, D1) == [None, told]
    verdicts = site.judge(D1)
    assert failed(verdicts) == set()


def test_money_that_is_no_number_is_kept_and_fails_its_day_alone(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1), focus_row(D2), focus_row(D2, ListCost="five"))
    site.run(D1, D2)
    assert site.rows(D2, "ListCost") == [(Decimal(2),), (None,)]
    assert repairs(site, D2) == [None, [{"rule": "not_a_number", "column": "ListCost", "found": "five"}]]
    verdicts = site.judge(D1, D2)
    assert failed(verdicts) == {("conforms", D2)}
    assert verdicts["conforms", D2].message == "ListCost is not a number in 1 row, e.g. 'five' in file a.csv, row 3"
    assert "known_gaps" not in verdicts["conforms", D2].next_step


def test_what_is_null_and_what_cannot_be_read_are_counted_apart(site: Site) -> None:
    site.put_csv("a.csv", *(focus_row(D1, ListCost=text) for text in ("1", "", "", "five")))
    site.run(D1)
    message = site.judge(D1)["conforms", D1].message
    assert message == "ListCost is null in 2 rows; ListCost is not a number in 1 row, e.g. 'five' in file a.csv, row 4"


@pytest.mark.parametrize(
    ("column", "taken"),
    [("BilledCost", False), ("BillingCurrency", False), ("EffectiveCost", True), ("ListCost", True)],
)
def test_a_known_gap_is_advised_where_the_sums_stand_without_the_column_and_then_releases_the_day(
    site: Site, column: str, taken: bool
) -> None:
    site.put_csv("a.csv", focus_row(D1), focus_row(D1, **{column: ""}))
    site.run(D1)
    verdict = site.judge(D1)["conforms", D1]
    assert not verdict.passed
    assert ("known_gaps of source bill" in verdict.next_step) == taken
    if taken:
        source = site.source.model_copy(update={"known_gaps": (column,)})
        changed = site.platform.settings.model_copy(update={"sources": (source,)})
        site.__dict__["platform"] = replace(site.platform, settings=changed)
        assert site.judge(D1)["conforms", D1].passed


def test_a_file_without_rows_is_told_to_a_day_that_is_missing_and_its_month_by_its_name_releases_it(
    make_site: MakeSite,
) -> None:
    site = make_site()
    site.put_csv("bill-2026-08.csv", *(focus_row(f"2026-08-{day}") for day in range(12, 32)))
    site.put("bill-2026-09.csv", csv_text([focus_row(D1)]).splitlines()[0] + "\n")
    site.put_csv("bill-2026-10.csv", *(focus_row(f"2026-10-{day}") for day in range(10, 32)))
    site.run(D1)
    held = site.judge(D1)["complete", D1]
    assert not held.passed
    assert "bill-2026-09.csv holds no rows" in held.next_step
    assert "period_pattern takes it for that month's bill" in held.next_step
    pattern = r"(?P<year>\d{4})-(?P<month>\d{2})"
    settings = site.platform.settings
    source = site.source.model_copy(update={"period_pattern": pattern})
    changed = settings.model_copy(update={"sources": (source,)})
    site.__dict__["platform"] = replace(site.platform, settings=changed)
    site.run(D1)
    assert site.judge(D1)["complete", D1].message.startswith("costs nothing: ")


def test_what_has_no_tags_is_advised_by_what_releases_it(make_site: MakeSite) -> None:
    site = make_site(extra="tag_policy: {required: [team]}\n")
    site.put_csv("a.csv", focus_row(D1, Tags="", BilledCost="9", EffectiveCost="9"))
    site.run(D1)
    site.facts(D1)
    held = next(v for v in judge_facts(site.platform, [("bill", _dates([D1])[0])]) if not v.passed and v.blocking)
    advice = (
        "attribution_rules; where that share is right, give the source a higher block_above under tag_policy: sources"
    )
    assert advice in held.next_step
    assert "source bill:" in held.message, "which source"
    limits = "{bill: {team: {warn_above: 100, block_above: 100}}}"
    rules = "[{name: all, when: {source: bill}, set: {team: core}}]"
    for extra in (f"tag_policy: {{required: [team], sources: {limits}}}\n", f"attribution_rules: {rules}\n"):
        settings = parse_settings(make_site(extra=extra).text, site.folder / "finops.yaml")
        site.__dict__["platform"] = Platform(settings)
        site.facts(D1)
        assert all(v.passed for v in judge_facts(site.platform, [("bill", _dates([D1])[0])]))


def test_finer_money_is_rounded_half_to_even_and_kept_as_written(site: Site) -> None:
    written = {
        "0.12345678901234567812345678": "0.123456789012345678",
        "0.1234567890123456785": "0.123456789012345678",
        "0.1234567890123456775": "0.123456789012345678",
        "-0.1234567890123456785": "-0.123456789012345678",
        "1E-20": "0",
        "2.5e-18": "0.000000000000000002",
    }
    site.put_csv("a.csv", *(focus_row(D1, BilledCost=text) for text in written))
    [generation] = site.run(D1)
    assert site.rows(D1, "BilledCost") == [(Decimal(kept),) for kept in written.values()]
    assert repairs(site, D1) == [[{"rule": "rounded", "column": "BilledCost", "found": text}] for text in written]
    assert generation.repairs == {"rounded BilledCost": len(written)}
    assert failed(site.judge(D1)) == set()


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "found", "kept", "rule"),
    [
        (pa.float64(), 0.1, "0.1", None),
        (pa.float64(), 1e-7, "0.0000001", None),
        (pa.float64(), 123456.123456789, "123456.123456789", None),
        (pa.float64(), 1e-20, "0", "rounded"),
        (pa.float64(), 0.0012345678901234567, "0.001234567890123457", "rounded"),
        (pa.float64(), float("nan"), None, "not_a_number"),
        (pa.float64(), float("inf"), None, "not_a_number"),
        (pa.float64(), 1e30, None, "not_a_number"),
        (pa.float32(), 0.1, "0.1", None),
        (pa.int64(), 7, "7", None),
        (pa.uint8(), 7, "7", None),
        (pa.bool_(), True, None, "not_a_number"),
        (pa.string(), "1e20", None, "not_a_number"),
        (pa.string(), "100000000000000000000.0000000000000000001", None, "not_a_number"),
        (pa.decimal128(38, 2), Decimal("1234567890123456789012345678901234.56"), None, "not_a_number"),
        (pa.decimal128(38, 26), Decimal("1.0000000000000000025"), "1.000000000000000002", "rounded"),
        (pa.decimal128(38, 26), Decimal("1.25"), "1.25", None),
    ],
)
def test_money_of_every_type_in_parquet(
    site: Site, kind: pa.DataType, found: Any, kept: str | None, rule: str | None
) -> None:
    site.put_parquet("a.parquet", focus_row(D1, ContractedUnitPrice=found), types={"ContractedUnitPrice": kind})
    site.run(D1)
    assert site.value(D1, "ContractedUnitPrice") == (Decimal(kept) if kept else None)
    [found_repairs] = repairs(site, D1)
    assert [r["rule"] for r in found_repairs or []] == ([rule] if rule else [])
    # No figure stands on a unit price: it is named, and nothing is held.
    verdict = site.judge(D1)["conforms", D1]
    assert verdict.passed
    assert ("ContractedUnitPrice is not a number in 1 row" in verdict.message) == (rule == "not_a_number")


def test_a_closed_value_in_another_spelling_is_repaired_and_counted(site: Site) -> None:
    site.put_csv(
        "a.csv",
        focus_row(D1, ChargeFrequency="Usage-based"),
        focus_row(D1, ChargeCategory=" usage ", ServiceCategory="ai and machine learning"),
        focus_row(D1),
    )
    [generation] = site.run(D1)
    assert site.rows(D1, "ChargeFrequency", "ChargeCategory", "ServiceCategory") == [
        ("Usage-Based", "Usage", "Compute"),
        ("Usage-Based", "Usage", "AI and Machine Learning"),
        ("Usage-Based", "Usage", "Compute"),
    ]
    assert generation.repairs == {
        "closed_value_spelling ChargeFrequency": 1,
        "closed_value_spelling ChargeCategory": 1,
        "closed_value_spelling ServiceCategory": 1,
    }
    rule = "closed_value_spelling"
    assert repairs(site, D1) == [
        [{"rule": rule, "column": "ChargeFrequency", "found": "Usage-based"}],
        [
            {"rule": rule, "column": "ChargeCategory", "found": " usage "},
            {"rule": rule, "column": "ServiceCategory", "found": "ai and machine learning"},
        ],
        None,
    ]
    assert failed(site.judge(D1)) == set()


def test_a_value_outside_its_closed_list_is_kept_and_named(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1, ChargeCategory="Gift"), focus_row(D2))
    site.run(D1, D2)
    assert site.value(D1, "ChargeCategory") == "Gift"
    verdicts = site.judge(D1, D2)
    assert failed(verdicts) == {("conforms", D1)}
    assert "'Gift'; allowed: Usage, Purchase" in verdicts["conforms", D1].message


def test_every_spelling_of_null_is_null(site: Site) -> None:
    spellings = ("NULL", "null", "", "N/A")
    site.put_csv("a.csv", *(focus_row(D1, ResourceId=n, ContractedUnitPrice=n, Tags=n) for n in spellings))
    site.run(D1)
    assert site.rows(D1, "ResourceId", "ContractedUnitPrice", "Tags", "repairs") == [(None, None, None, None)] * 4
    assert failed(site.judge(D1)) == set()


def test_an_empty_text_in_parquet_is_null(site: Site) -> None:
    site.put_parquet(
        "a.parquet", focus_row(D1, ResourceId="", ContractedUnitPrice="", CommitmentDiscountId="", Tags="")
    )
    site.run(D1)
    assert site.rows(D1, "ResourceId", "ContractedUnitPrice", "CommitmentDiscountId", "Tags") == [(None,) * 4]
    assert failed(site.judge(D1)) == set()


def test_a_time_is_read_in_utc_however_it_is_written(site: Site) -> None:
    written = (
        "2026-09-01 23:00:00",
        "2026-09-01T23:00:00Z",
        "2026-09-01T23:00:00.000Z",
        "2026-09-01T23:00:00z",
        " 2026-09-01T23:00:00Z ",
        "2026-09-01T23:00Z",
        "2026-09-01T23:00",
        "2026-09-02T01:00:00+02:00",
        "2026-09-02T01:00+02:00",
        "2026-09-01 16:00:00-0700",
        "2026-09-02 01:00:00 Europe/Berlin",
    )
    site.put_csv("a.csv", *(focus_row(ChargePeriodStart=text) for text in (*written, "2026-09-01")))
    site.run(D1)
    *found, date_alone = site.rows(D1, "ChargePeriodStart")
    assert dict(zip(written, found)) == dict.fromkeys(written, (AT_23,))
    assert date_alone == (AT_23.replace(hour=0),)
    assert repairs(site, D1) == [None] * 12


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.timestamp("us", tz="UTC"), datetime(2026, 9, 1, 23, tzinfo=UTC)),
        (pa.timestamp("ms", tz="America/Los_Angeles"), datetime(2026, 9, 2, 1, tzinfo=timezone(timedelta(hours=2)))),
        (pa.timestamp("ms"), AT_23),
        (pa.timestamp("ns"), AT_23),
        (pa.timestamp("s"), AT_23),
    ],
)
def test_a_parquet_time_of_every_type_is_read_in_utc(site: Site, kind: pa.DataType, value: datetime) -> None:
    site.put_parquet("a.parquet", focus_row(ChargePeriodStart=value), types={"ChargePeriodStart": kind})
    site.run(D1)
    assert site.value(D1, "ChargePeriodStart") == AT_23


@pytest.mark.parametrize(
    "written", ["yesterday", "", "9/31/2026", "2026-13-01T00:00:00Z", "infinity", "290000-01-01T00:00:00Z"]
)
def test_an_unreadable_charge_period_refuses_the_whole_delivery(site: Site, written: str) -> None:
    site.put_csv("a.csv", focus_row(D1), focus_row(D1, ChargePeriodStart=written))
    [generation] = site.run(D1)
    assert generation.state == "refused"
    reason = generation.reason or ""
    assert "a.csv" in reason
    assert "1 rows have no readable ChargePeriodStart" in reason
    assert f"row 2, found {written!r}" in reason or (not written and "row 2, found None" in reason)
    assert site.rows(D1, "*") == []


def test_a_number_as_charge_period_is_refused_not_a_crash(site: Site) -> None:
    site.put_parquet("a.parquet", focus_row(ChargePeriodStart=1788220800), types={"ChargePeriodStart": pa.int64()})
    [generation] = site.run(D1)
    assert generation.state == "refused"
    assert "found '1788220800'" in (generation.reason or "")


def test_a_file_that_is_no_focus_data_set_is_refused_with_its_columns(site: Site) -> None:
    site.put("a.csv", "lineItem/UsageStartDate,cost\n2026-09-01,1\n")
    [generation] = site.run(D1)
    assert generation.state == "refused"
    assert "has no column ChargePeriodStart" in (generation.reason or "")
    assert "lineItem/UsageStartDate" in (generation.reason or "")


def test_another_unreadable_time_is_kept_as_written_and_named(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1, ChargePeriodEnd="soon"))
    site.run(D1)
    assert repairs(site, D1) == [[{"rule": "not_a_time", "column": "ChargePeriodEnd", "found": "soon"}]]
    assert "ChargePeriodEnd is not a time in 1 row, e.g. 'soon'" in site.judge(D1)["conforms", D1].message


def test_a_byte_order_mark_before_the_header_is_no_part_of_the_first_column(site: Site) -> None:
    site.put("a.csv", b"\xef\xbb\xbf" + GOOD_CSV.encode())
    site.run(D1)
    assert site.rows(D1, "BilledCost") == [(Decimal("1.5"),)] * 2
    assert failed(site.judge(D1)) == set()


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_quotes_commas_and_line_breaks_within_fields_are_content(site: Site, ending: str) -> None:
    text = 'say "hi", or\nnot'
    site.put(
        "a.csv", csv_text([focus_row(D1, ChargeDescription=text)]).replace("\n", ending).replace(f"or{ending}", "or\n")
    )
    site.run(D1)
    assert site.value(D1, "ChargeDescription") == text


def test_rows_are_numbered_as_they_stand_in_the_file(site: Site) -> None:
    site.put_csv("a.csv", *(focus_row(D1 if n % 2 else D2, ResourceId=str(n)) for n in range(1, 9)))
    site.run(D1, D2)
    assert site.rows(D1, "ResourceId", "source_file", "source_row") == [(str(n), "a.csv", n) for n in (1, 3, 5, 7)]


def test_columns_of_the_provider_are_kept_also_under_names_that_are_ours(site: Site) -> None:
    own = {"x_Team": "a", "source": "b", "charge_date": "c", "Repairs": "d", "tag_set_id": "e"}
    site.put_csv("a.csv", focus_row(D1, **own))
    assert site.run(D1)[0].state == "live"
    assert site.rows(D1, "x_Team", "x_source", "x_charge_date", "x_Repairs", "x_tag_set_id") == [tuple("abcde")]
    assert failed(site.judge(D1)) == set()


def test_column_names_match_whatever_their_case(site: Site) -> None:
    site.put_csv("a.csv", {name.upper(): value for name, value in focus_row(D1).items()})
    site.run(D1)
    assert failed(site.judge(D1)) == set()
    assert site.value(D1, "BilledCost") == Decimal("1.5")


def test_a_day_of_a_map_here_and_json_text_there_is_one_day(site: Site) -> None:
    kind = pa.map_(pa.string(), pa.float64())
    site.put_parquet("a.parquet", focus_row(D1, x_Discounts=[("edp", 0.5)]), types={"x_Discounts": kind})
    site.put_csv("b.csv", focus_row(D1, ResourceId="vm-2", x_Discounts='{"edp": 0.25}'))
    site.run(D1)
    assert site.rows(D1, "x_Discounts") == [('{"edp":0.5}',), ('{"edp": 0.25}',)]
    assert failed(site.judge(D1)) == set()


# ---- money and currencies -----------------------------------------------------------------------


def test_currencies_are_never_added(site: Site) -> None:
    site.put_csv(
        "a.csv",
        focus_row(D1, BilledCost="1", EffectiveCost="1"),
        focus_row(D1, BilledCost="10", EffectiveCost="10", BillingCurrency="EUR"),
        focus_row(D1, BilledCost="2", EffectiveCost="3"),
    )
    site.run_all(D1)
    [day] = _dates([D1])
    assert rollup_totals(site.platform.warehouse, [day]) == {day: {"USD": (2, 3, 4), "EUR": (1, 10, 10)}}
    assert failed(site.judge(D1)) == set()
    conserved = [
        v
        for v in [*judge_facts(site.platform, site.platform.keys([day])), *judge_rollup(site.platform, [day])]
        if v.gate == "conserved"
    ]
    assert [v.passed for v in conserved] == [True, True]


# ---- deliveries without rows, or without files ----------------------------------------------------


def test_a_day_of_no_delivery_is_missing_after_its_deadline(site: Site) -> None:
    site.put_csv("2026-09-01.csv", focus_row(D1))
    site.put_csv("2026-09-03.csv", focus_row("2026-09-03"))
    site.run(D1, D2)
    verdicts = site.judge(D1, D2)
    assert failed(verdicts) == {("complete", D2)}
    assert "no rows in any of 2 deliveries" in verdicts["complete", D2].message
    assert "cadence: " in verdicts["complete", D2].next_step
    assert verdicts["complete", D2].holds
    assert not verdicts["complete", D2].awaited
    assert site.rows(D2, "*") == []


def test_a_day_within_a_closed_bill_costs_nothing(site: Site) -> None:
    site.put_csv("sept.csv", focus_row(D1), focus_row("2026-09-03"))
    site.run(D1, D2, "2026-09-20")
    verdicts = site.judge(D1, D2, "2026-09-20")
    assert failed(verdicts) == set()
    assert "costs nothing: delivery sept.csv holds later charges, of 2026-09-03" in verdicts["complete", D2].message
    assert "after its period's end" in verdicts["complete", "2026-09-20"].message


@pytest.mark.parametrize("exists", [True, False])
def test_a_source_without_any_delivery_is_not_complete(site: Site, exists: bool) -> None:
    if exists:
        site.exports.mkdir()
    assert site.run(D1) == []
    verdict = site.judge(D1)["complete", D1]
    assert verdict.holds
    assert "nothing was ever delivered at" in verdict.message


def test_a_file_with_a_header_alone_is_a_delivery_without_rows(site: Site) -> None:
    site.put("a.csv", GOOD_CSV.splitlines()[0] + "\n")
    [generation] = site.run(D1)
    assert (generation.state, generation.rows) == ("live", 0)
    assert failed(site.judge(D1)) == {("complete", D1)}


def test_a_source_that_is_not_required_advises_and_does_not_hold(make_site: MakeSite) -> None:
    site = make_site(required=False)
    site.put("a.csv", "x\n1\n")
    site.run(D1)
    verdicts = site.judge(D1)
    assert ("complete", D1) in failed(verdicts)
    assert not any(verdict.holds for verdict in verdicts.values())


# ---- files that change while they are read --------------------------------------------------------


def changing(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The file looks changed after each of the first `times` readings."""
    real = LocalStore.stat
    seen = 0

    def stat(self: LocalStore, key: str) -> StoredFile | None:
        nonlocal seen
        seen += 1
        found = real(self, key)
        return replace(found, etag=f"changed {seen}") if found and seen <= times else found

    monkeypatch.setattr(LocalStore, "stat", stat)


def test_a_file_that_changed_while_it_was_read_is_read_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put_csv("a.csv", focus_row(D1))
    changing(monkeypatch, times=1)
    [generation] = site.run(D1)
    assert (generation.state, generation.rows) == ("live", 1)
    [again] = site.run(D1)
    assert again == generation


def test_a_file_that_changes_all_the_time_waits_and_landed_when_it_rests(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put_csv("a.csv", focus_row(D1))
    with monkeypatch.context() as patch:
        changing(patch, times=1000)
        [generation] = site.run(D1)
    assert generation.state == "waiting"
    assert "a.csv" in (generation.reason or "")
    assert "changed while it was being read" in (generation.reason or "")
    assert site.run(D1)[0].state == "live"


def test_a_file_that_vanishes_while_it_is_read_waits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    file = site.put_csv("a.csv", focus_row(D1))
    real = LocalStore.stat

    def vanish(self: LocalStore, key: str) -> StoredFile | None:
        file.unlink(missing_ok=True)
        return real(self, key)

    monkeypatch.setattr(LocalStore, "stat", vanish)
    [generation] = site.run(D1)
    assert generation.state == "waiting"
    assert "no longer listed" in (generation.reason or "")


# ---- the lake's disk --------------------------------------------------------------------------------


def test_a_lake_below_a_file_is_said_with_advice(make_site: MakeSite, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("a file")
    site = make_site(lake="plain/lake")
    site.put_csv("a.csv", focus_row(D1))
    with pytest.raises(LakeError, match="check `lake:` in finops"):
        site.run(D1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_lake_without_permission_is_said_with_advice(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1))
    lake = site.folder / "lake"
    lake.mkdir(mode=0o555)
    with pytest.raises(LakeError, match="no permission"):
        site.run(D1)


@pytest.mark.long
@pytest.mark.parametrize(
    ("call", "number", "advice"),
    [
        ("replace", errno.ENOSPC, "no space left; nothing was replaced"),
        ("fsync", errno.EROFS, "read-only"),
        ("mkdir", errno.EACCES, "no permission"),
    ],
)
def test_a_disk_that_refuses_leaves_the_last_good_day(
    site: Site, monkeypatch: pytest.MonkeyPatch, call: str, number: int, advice: str
) -> None:
    file = site.put_csv("a.csv", focus_row(D1))
    site.run(D1)
    before = site.file("raw", D1).read_bytes()
    rewrite(file, csv_text([focus_row(D1), focus_row(D1)]).encode())

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(LakeError, match=advice):
            site.run(D1)
    assert site.file("raw", D1).read_bytes() == before
    assert not list((site.folder / "lake").rglob(".tmp-*"))
    assert not list((site.folder / "lake" / ".work").glob("*"))
    site.run(D1)
    assert len(site.rows(D1, "*")) == 2


def test_a_damaged_record_is_named(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1))
    site.run(D1)
    record = site.platform.lake.record("bill", "scopes", "a.csv")
    record.write_text("")
    with pytest.raises(LakeError, match=r"ledger/bill/scopes/a\.csv\.json is damaged"):
        site.run(D1)


# ---- manifests ----------------------------------------------------------------------------------------


def put_azure(site: Site, manifest: dict[str, Any] | None = None, name: str = "run", **changes: Any) -> Path:
    """A run of an Azure export: one file and its manifest; `changes` replaces parts of the manifest."""
    file = site.put_csv(f"{name}/part_0.csv", focus_row(D1), focus_row(D2))
    body = {
        "exportConfig": {"type": "FocusCost", "dataVersion": "1.0"},
        "runInfo": {"runId": name, "submittedTime": "2026-09-03T00:00:00Z", "startDate": "2026-09-01T00:00:00"},
        "dataRowCount": 2,
        "blobs": [{"blobName": f"export/{name}/part_0.csv", "byteCount": file.stat().st_size}],
    }
    return site.put(f"{name}/manifest.json", json.dumps((manifest if manifest is not None else body) | changes))


def test_an_azure_run_is_landed_by_its_manifest(make_site: MakeSite) -> None:
    site = make_site(layout="azure-exports")
    put_azure(site)
    [generation] = site.run(D1, D2)
    assert (generation.scope, generation.state, generation.rows) == ("2026-09", "live", 2)
    assert failed(site.judge(D1, D2)) == set()


@pytest.mark.parametrize(
    ("changes", "state", "said"),
    [
        (
            {"blobs": [{"blobName": "run/part_9.csv", "byteCount": 5}]},
            "waiting",
            "file run/part_9.csv is named in the manifest but is not there",
        ),
        ({"blobs": [{"blobName": "run/part_0.csv", "byteCount": 5}]}, "waiting", "bytes, the manifest says 5"),
        ({"dataRowCount": 3}, "refused", "has 2 rows, the manifest says 3"),
        ({"blobs": []}, "refused", "lists no files"),
        ({"exportConfig": {"type": "ActualCost"}}, "waiting", "create an export of type FocusCost"),
    ],
)
def test_a_delivery_that_is_not_as_its_manifest_says_holds_its_month(
    make_site: MakeSite, changes: dict[str, Any], state: str, said: str
) -> None:
    site = make_site(layout="azure-exports")
    put_azure(site, **changes)
    [generation] = site.run(D1, "2026-10-01")
    assert generation.state == state
    assert said in (generation.reason or "")
    verdict = site.judge(D1)["complete", D1]
    assert said in verdict.message
    assert f"delivery 2026-09 is {state}" in verdict.message
    assert "is " + state not in site.judge("2026-10-01")["complete", "2026-10-01"].message


MANIFESTS = {
    "azure-exports": "run/manifest.json",
    "aws-data-exports": "metadata/BILLING_PERIOD=2026-09/bill-Manifest.json",
    "gcs-export": "billing_period=2026-09/run=1/manifest.json",
}


@pytest.mark.parametrize(
    ("layout", "content"),
    [
        *((layout, content) for layout in MANIFESTS for content in ("{", "[]", "{}")),
        ("azure-exports", '{"runInfo": null}'),
        ("azure-exports", '{"runInfo": {"startDate": "1 September"}}'),
        ("azure-exports", '{"runInfo": {"startDate": "2026-09-01"}, "blobs": [{}]}'),
        ("azure-exports", '{"runInfo": {"startDate": "2026-09-01"}, "blobs": [{"blobName": "a", "byteCount": "x"}]}'),
        ("azure-exports", '{"runInfo": {"startDate": "2026-09-01"}, "blobs": 5}'),
        ("azure-exports", '{"runInfo": {"startDate": "2026-09-01"}, "dataRowCount": "many"}'),
        ("azure-exports", '{"runInfo": {"startDate": "2026-09-01"}, "exportConfig": "none"}'),
        ("aws-data-exports", '{"dataFiles": 5}'),
        ("aws-data-exports", '{"dataFiles": ["elsewhere/a.parquet"]}'),
        ("aws-data-exports", '{"dataFiles": null, "reportKeys": null}'),
        ("gcs-export", '{"files": 5}'),
        ("gcs-export", '{"files": ["a"]}'),
        ("gcs-export", '{"files": [{"name": "a", "size": "many"}]}'),
        ("gcs-export", '{"files": [], "row_count": "many"}'),
    ],
)
def test_a_manifest_that_is_none_waits_and_is_named(make_site: MakeSite, layout: str, content: str) -> None:
    site, path = make_site(layout=layout), MANIFESTS[layout]
    site.put(path, content)
    [generation] = site.run(D1)
    assert generation.state == "waiting"
    assert path in (generation.reason or "")
    assert path in site.judge(D1)["complete", D1].message


def test_a_broken_manifest_that_is_mended_holds_nothing_back(make_site: MakeSite) -> None:
    site = make_site(layout="azure-exports")
    site.put("run/manifest.json", "{")
    site.run(D1)
    put_azure(site)
    site.run(D1)
    assert failed(site.judge(D1)) == set()


def test_a_newer_run_that_is_withdrawn_leaves_the_one_before_it(make_site: MakeSite) -> None:
    site = make_site(layout="azure-exports")
    put_azure(site)
    site.run(D1)
    newer = put_azure(
        site,
        name="newer",
        runInfo={"runId": "b", "submittedTime": "2026-09-04T00:00:00Z", "startDate": "2026-09-01T00:00:00"},
        dataRowCount=99,
    )
    site.run(D1)
    assert failed(site.judge(D1)) == {("complete", D1)}
    newer.unlink()
    site.run(D1)
    assert failed(site.judge(D1)) == set()


def test_an_export_of_another_dataset_beside_ours_is_not_ours(make_site: MakeSite) -> None:
    site = make_site(layout="azure-exports")
    put_azure(site)
    put_azure(
        site,
        name="actual",
        exportConfig={"type": "ActualCost"},
        runInfo={"runId": "b", "submittedTime": "2026-09-04T00:00:00Z", "startDate": "2026-09-01T00:00:00"},
    )
    assert [g.state for g in site.run(D1)] == ["live"]


def put_aws(site: Site, export: str = "", file: str = "a.csv", period: str = "2026-09", *rows: dict[str, Any]) -> None:
    site.put_csv(f"{export}data/BILLING_PERIOD={period}/{file}", *(rows or (focus_row(D1),)))
    manifest = {
        "executionId": f"{export}{file}",
        "dataFiles": [f"s3://bucket/{export}data/BILLING_PERIOD={period}/{file}"],
    }
    site.put(f"{export}metadata/BILLING_PERIOD={period}/bill-Manifest.json", json.dumps(manifest))


def test_two_exports_of_one_period_below_one_source_are_said_not_swapped(make_site: MakeSite) -> None:
    site = make_site(layout="aws-data-exports")
    put_aws(site, "first/")
    put_aws(site, "second/")
    [generation] = site.run(D1)
    assert generation.state == "waiting"
    for said in ("2 exports", "first/metadata", "second/metadata", "a source of its own"):
        assert said in (generation.reason or "")


def test_a_file_that_an_older_delivery_left_behind_is_not_read(make_site: MakeSite) -> None:
    site = make_site(layout="aws-data-exports")
    put_aws(site)
    site.put_csv("data/BILLING_PERIOD=2026-09/old.csv", focus_row(D1))
    site.run(D1)
    assert len(site.rows(D1, "*")) == 1


# ---- what the provider calls complete -------------------------------------------------------------------


def test_any_row_that_says_incomplete_counts(site: Site) -> None:
    rows = [focus_row(day, x_DatasetCompletionStatus="Complete") for day in (D1, D1, D2, D2)]
    rows[3]["x_DatasetCompletionStatus"] = "Incomplete"
    site.put_csv("a.csv", *rows)
    site.run(D1, D2)
    verdicts = site.judge(D1, D2)
    assert failed(verdicts) == {("complete", D2)}
    assert "1 of 2 rows have x_DatasetCompletionStatus 'Incomplete'" in verdicts["complete", D2].message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (({"a": 1}, "Complete"), ("{'a': 1}", None)),
        ((True, 2), ("true", "2")),
        ((Decimal("1.5"), Decimal("1")), ("1.5", "1")),
    ],
)
def test_a_column_of_the_providers_may_have_another_type_every_day(
    site: Site, values: tuple[object, object], said: tuple[str | None, str | None]
) -> None:
    # The completion flag is the one column of a provider's own that is read over several days at once.
    for day, value in zip((D1, D2), values):
        row = {name: pa.array([each]) for name, each in focus_row(day).items()}
        odd = pa.array([value])
        # A struct and a text, a boolean and a number, DECIMAL(2, 1) and (1, 0): the engine unites none of them without loss.
        table = pa.table(row | {"x_DatasetCompletionStatus": odd, "x_other": odd})
        file = site.exports / f"{day}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file)
    site.run(D1, D2)
    verdicts = site.judge(D1, D2)
    for day, found in zip((D1, D2), said):
        message = verdicts["complete", day].message
        assert verdicts["complete", day].passed == (found is None), message
        assert found is None or f"x_DatasetCompletionStatus {found!r}, not 'Complete'" in message


def recency(*sectors: tuple[str, str, bool]) -> str:
    return json.dumps(
        {
            "DatasetInstanceId": "1",
            "TimeSectors": [
                {"TimeSectorStart": start, "TimeSectorEnd": end, "TimeSectorComplete": complete}
                for start, end, complete in sectors
            ],
        }
    )


def test_recency_metadata_says_which_days_are_complete_and_is_read_anew(site: Site) -> None:
    site.put_csv("a.csv", *(focus_row(day) for day in (D1, D2, D3)))
    sectors = [
        ("2026-09-01T0:00:00z", "2026-09-02T00:00:00Z", True),
        ("2026-09-02T00:00:00Z", "2026-09-03T00:00:00Z", False),
    ]
    site.put("metadata/recency-1.json", recency(*sectors))
    site.run(D1, D2, D3)
    verdicts = site.judge(D1, D2, D3)
    assert failed(verdicts) == {("complete", D2)}
    assert "2026-09-02 00:00 to 2026-09-03 00:00 not complete" in verdicts["complete", D2].message

    site.put("metadata/recency-1.json", recency(sectors[0], (*sectors[1][:2], True)))
    site.run(D1, D2, D3)
    assert failed(site.judge(D1, D2, D3)) == set()


@pytest.mark.long
@pytest.mark.parametrize(
    "content",
    [
        "{",
        "5",
        "[1]",
        "{}",
        '{"TimeSectors": null}',
        '{"TimeSectors": [5]}',
        '{"TimeSectors": [{"TimeSectorStart": "2025-01-291T00:00:00Z", "TimeSectorEnd": "", "TimeSectorComplete": true}]}',
        '{"Recency": "none"}',
    ],
)
def test_a_broken_recency_file_is_a_visible_problem_and_not_a_crash(site: Site, content: str) -> None:
    site.put_csv("a.csv", focus_row(D1))
    site.run(D1)
    site.put("recency-1.json", content)
    site.run(D1)
    verdicts = site.judge(D1)
    assert failed(verdicts) == {("complete", D1)}
    assert "recency-1.json" in verdicts["complete", D1].message
    assert len(site.rows(D1, "*")) == 1


def test_a_place_that_is_no_local_path_is_said_without_its_password(site: Site) -> None:
    source = site.source.model_copy(update={"uri": "ftp://user:secret@host/bills"})
    settings = site.platform.settings.model_copy(update={"sources": (source,)})
    site.__dict__["platform"] = replace(site.platform, settings=settings)
    with pytest.raises(FinopsError, match="ftp://host/bills") as caught:
        site.land()
    assert "secret" not in str(caught.value)
    assert not isinstance(caught.value, DeliveryRefused)


# ---- days and generations ----------------------------------------------------------------------------------


def test_running_a_day_twice_changes_nothing(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1), focus_row(D2))
    site.put_csv("b.csv", focus_row(D2, ResourceId="vm-2"))
    site.run_all(D1, D2)
    lake = site.folder / "lake"
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in lake.rglob("*") if path.is_file()}
    landed = site.run(D1, D2)
    assert [day.changed for day in site.compose(D1, D2)] == [False, False]
    assert [day.written for day in site.facts(D1, D2)] == [False, False]
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in lake.rglob("*") if path.is_file()} == before
    assert [g.state for g in landed] == ["live", "live"]


def test_two_billing_periods_feed_one_day(make_site: MakeSite) -> None:
    site = make_site(layout="aws-data-exports")
    day = "2026-09-30"
    put_aws(site, "", "a.csv", "2026-09", focus_row(day, BilledCost="5"))
    put_aws(
        site, "", "b.csv", "2026-10", focus_row(day, BilledCost="-2", ChargeClass="Correction"), focus_row("2026-10-01")
    )
    site.run(day, "2026-10-01")
    assert [cost for (cost,) in site.rows(day, "BilledCost")] == [5, -2]
    put_aws(site, "", "c.csv", "2026-10", focus_row("2026-10-01"))
    site.run(day, "2026-10-01")
    assert len(site.rows(day, "BilledCost")) == 2
    site.accept("2026-10")
    site.run(day, "2026-10-01")
    assert site.value(day, "BilledCost") == 5


def test_a_restated_delivery_takes_its_rows_out_of_the_days_that_vanished(site: Site) -> None:
    file = site.put_csv("a.csv", focus_row(D1), focus_row(D2))
    site.put_csv("b.csv", focus_row(D2, BilledCost="8"))
    site.run_all(D1, D2)
    rewrite(file, csv_text([focus_row(D1)]).encode())
    [refused, _] = site.run(D1, D2)
    assert refused.state == "refused"
    assert "1 days that the last delivery held are gone: 2026-09-02" in (refused.reason or "")
    assert "finops deliveries accept bill a.csv" in (refused.reason or "")
    assert len(site.rows(D2, "BilledCost")) == 2
    site.accept("a.csv")
    site.run_all(D1, D2)
    assert site.value(D2, "BilledCost") == 8
    assert site.value(D2, "BilledCost", layer="facts") == 8
    states = [g.state for g in site.generations("a.csv")]
    assert states == ["superseded", "live"]
    landing = site.folder / "lake" / "landing" / "source=bill" / "scope=a.csv"
    assert len(list(landing.iterdir())) == 1


def test_equal_rows_are_all_kept(site: Site) -> None:
    site.put_csv("a.csv", *[focus_row(D1)] * 5)
    site.put_csv("b.csv", *[focus_row(D1, ResourceId="vm-2")] * 2)
    site.run(D1)
    assert len(site.rows(D1, "*")) == 7


def test_a_billing_period_before_the_first_day_is_left_alone(make_site: MakeSite) -> None:
    site = make_site(layout="aws-data-exports", first_day="2026-09-15")
    put_aws(site, "", "a.csv", "2026-08", focus_row("2026-08-31"))
    put_aws(site, "", "b.csv", "2026-09", focus_row(D1))
    assert [g.scope for g in site.land()] == ["2026-09"]


# ---- plausible -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cost", "said"), [("10", "rows fell 75.0 %, from 4 to 1"), ("1", "effective cost fell")])
def test_a_fall_beyond_the_limit_is_said_until_it_is_acknowledged(make_site: MakeSite, cost: str, said: str) -> None:
    site = make_site()
    rows = [focus_row(D1, EffectiveCost="10") for _ in range(4)]
    # The whole delivery falls little: one day of it falls far.
    rest = [focus_row(D2, EffectiveCost="100") for _ in range(9)]
    file = site.put_csv("a.csv", *rows, *rest)
    site.run_all(D1, D2)
    left = [focus_row(D1, EffectiveCost=cost)] * (1 if cost == "10" else 4)
    rewrite(file, csv_text([*left, *rest]).encode())
    site.run(D1, D2)
    verdicts = site.judge(D1, D2)
    assert failed(verdicts) == {("plausible", D1)}
    assert said in verdicts["plausible", D1].message
    assert "acknowledged in finops.yaml" in verdicts["plausible", D1].next_step

    accepting = make_site(extra=f"acknowledged: [{{source: bill, day: {D1}, reason: refund seen}}]\n")
    verdict = accepting.judge(D1)["plausible", D1]
    assert verdict.passed
    assert "acknowledged (refund seen)" in verdict.message
    assert said in verdict.message


def test_a_fall_that_was_accepted_with_its_delivery_is_not_asked_about_again(site: Site) -> None:
    of_a = [focus_row(D1, EffectiveCost="10"), *[focus_row(D2, EffectiveCost="10")] * 3]
    of_b = [focus_row(D2, EffectiveCost="1", ResourceId=f"b-{n}") for n in range(10)]
    a, b = site.put_csv("a.csv", *of_a), site.put_csv("b.csv", *of_b)
    site.run_all(D1, D2)
    rewrite(a, csv_text(of_a[:1]).encode())
    [refused, _] = site.run(D1, D2)
    assert refused.state == "refused"
    site.accept("a.csv")
    site.run(D1, D2)
    verdict = site.judge(D1, D2)["plausible", D2]
    assert verdict.passed
    assert verdict.message == "no fall beyond the limit but of 3 rows that an accepted delivery no longer holds"
    # What another file loses at the same time nobody has looked at.
    moved = [focus_row(D1, EffectiveCost="1", ResourceId=f"b-{n}") for n in range(9)]
    rewrite(b, csv_text([*moved, of_b[9]]).encode())
    site.run(D1, D2)
    verdict = site.judge(D1, D2)["plausible", D2]
    assert not verdict.passed
    assert "rows fell 92.3 %, from 13 to 1" in verdict.message
    # Nor what falls once the facts are without what was accepted.
    rewrite(b, csv_text([moved[0], *of_b]).encode())
    site.run(D1, D2)
    site.facts(D1, D2)
    rewrite(b, csv_text([*moved[:6], *of_b[6:]]).encode())
    site.run(D1, D2)
    assert "rows fell 60.0 %, from 10 to 4" in site.judge(D1, D2)["plausible", D2].message


def test_a_fall_within_the_limit_and_a_first_version_are_plausible(site: Site) -> None:
    file = site.put_csv("a.csv", *[focus_row(D1)] * 4)
    site.run(D1)
    assert "nothing to compare with" in site.judge(D1)["plausible", D1].message
    site.facts(D1)
    rewrite(file, csv_text([focus_row(D1)] * 2).encode())
    site.run(D1)
    assert site.judge(D1)["plausible", D1].passed


# ---- conservation -----------------------------------------------------------------------------------------------

amounts = st.decimals(-(10**9), 10**9, places=12, allow_nan=False).map(lambda d: f"{d:f}")
bills = st.lists(
    st.fixed_dictionaries(
        {
            "day": st.sampled_from([D1, D2, D3]),
            "BilledCost": amounts,
            "EffectiveCost": amounts,
            "BillingCurrency": st.sampled_from(["USD", "EUR", ""]),
            "Tags": st.sampled_from(["", '{"team": "a"}', '{"Team": "B", "dept": "x"}', "broken", "{}"]),
            "ChargeDescription": st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=5),
        }
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.long
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(bill=bills, parquet=st.booleans(), cut=st.integers(0, 12))
def test_rows_and_money_are_conserved_from_export_to_rollup(
    tmp_path_factory: pytest.TempPathFactory, bill: list[dict[str, Any]], parquet: bool, cut: int
) -> None:
    site = Site(tmp_path_factory.mktemp("site"))
    rows = [focus_row(entry["day"], **without(entry, "day")) for entry in bill]
    write = site.put_parquet if parquet else site.put_csv
    for name, part in (("a", rows[:cut]), ("b", rows[cut:])):
        if part:
            write(f"{name}.{'parquet' if parquet else 'csv'}", *part)
    days = (D1, D2, D3)
    site.run_all(*days)

    expected: dict[Any, dict[str, tuple[int, Decimal, Decimal]]] = {}
    for entry in bill:
        [day] = _dates([entry["day"]])
        by_currency = expected.setdefault(day, {})
        count, billed, effective = by_currency.get(entry["BillingCurrency"], (0, Decimal(0), Decimal(0)))
        by_currency[entry["BillingCurrency"]] = (
            count + 1,
            billed + Decimal(entry["BilledCost"]),
            effective + Decimal(entry["EffectiveCost"]),
        )
    assert rollup_totals(site.platform.warehouse, _dates(days)) == expected
    for layer in ("raw", "facts"):
        found = [row for day in days for row in site.rows(day, "BilledCost", "EffectiveCost", layer=layer)]
        assert sorted(found) == sorted((Decimal(e["BilledCost"]), Decimal(e["EffectiveCost"])) for e in bill)
    gates = [*judge_facts(site.platform, site.platform.keys(_dates(days))), *judge_rollup(site.platform, _dates(days))]
    assert [v for v in gates if v.gate in ("conserved", "unique_key") and not v.passed] == []


def test_a_ledger_entry_reads_back_as_it_was_written(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1, ChargeFrequency="recurring"))
    [generation] = site.land()
    assert Generation.from_json(generation.as_json()) == generation
    assert site.generations("a.csv") == [generation]


def test_days_that_do_not_fit_the_engines_memory_are_written_in_smaller_groups(tmp_path: Path) -> None:
    rows = (
        "SELECT n, repeat('cost ' || n, 200) AS text, DATE '2026-10-01' + CAST(n % 31 AS INTEGER) AS charge_date"
        " FROM range(120_000) t(n)"
    )
    days = tmp_path / "days"
    with connect(EngineSettings(memory_limit="60 MB", threads=2), tmp_path / "spill") as connection:
        write_days(connection, rows, days)
        [(flush,)] = connection.execute("SELECT current_setting('partitioned_write_flush_threshold')").fetchall()
    assert int(flush) < FLUSH_ROWS // 2, "more than one attempt was needed"
    counted = duckdb.sql(f"SELECT count(*), count(DISTINCT n), count(DISTINCT charge_date) FROM '{days}/*/*.parquet'")
    assert counted.fetchall() == [(120_000, 120_000, 31)]


@pytest.mark.parametrize(
    ("policy", "cost", "held"), [("", "0.99", False), ("", "1.00", True), ("small_day: {USD: 5}", "4", False)]
)
def test_what_is_untagged_of_little_money_warns_and_holds_nothing(
    make_site: MakeSite, policy: str, cost: str, held: bool
) -> None:
    site = make_site(extra=f"tag_policy:\n  required: [team]\n  {policy}\n")
    site.put_csv("a.csv", focus_row(D1, Tags="", EffectiveCost=cost))
    site.run(D1)
    site.facts(D1)
    verdicts = {v.gate: v for v in judge_facts(site.platform, [("bill", day) for day in _dates([D1])])}
    assert verdicts["untagged_within_threshold"].holds == held
    assert not verdicts["untagged_below_warning"].passed
    assert ("too little to hold the day" in verdicts["untagged_below_warning"].message) != held
