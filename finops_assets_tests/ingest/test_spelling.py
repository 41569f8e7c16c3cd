"""Numbers, times and words however a bill writes them: read exactly, counted, and never guessed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from finops_assets.cli.program import app
from finops_assets.focus.money import decimal_from_text, drift, largest_drift, plain_number, register, shows_point
from finops_assets.focus.participants import provider_before, same_company
from finops_assets.focus.specification import columns
from finops_assets.focus.times import time_from_text
from finops_assets.ingest.landing import CANONICAL_FORM, unknown_deliveries
from finops_assets.ingest.layouts.metadata import Schema, stated_version, version_of
from finops_assets.ingest.reading.export_table import open_export
from finops_assets.ingest.reading.spelling import _letters, how_written
from finops_assets.ingest.repairs import condensed, counts, repairs_table
from finops_assets.settings.load import parse_settings
from finops_assets.storage.ledger import Generation, Ledger
from finops_assets.storage.repair import Repair
from finops_assets_tests.conftest import Site, csv_text, focus_row
from finops_assets_tests.places import SHARED
from finops_assets_tests.running import Graph

D1, D2 = "2026-09-01", "2026-09-02"
EXAMPLES = SHARED / "data" / "spec_examples"
examples = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        register(connection)
        connection.execute("SET threads = 1")
        connection.execute("SET timezone = 'UTC'")
        yield connection


def ask(engine: duckdb.DuckDBPyConnection, sql: str, text: str | None) -> Any:
    """An SQL expression over one text `v`."""
    [(value,)] = engine.execute(f"SELECT {sql} FROM (SELECT CAST(? AS VARCHAR) AS v)", [text]).fetchall()
    return value


def repairs(site: Site, day: str) -> list[Any]:
    return [json.loads(text) if text else None for (text,) in site.rows(day, "repairs")]


def failed(site: Site, *days: str) -> set[tuple[str, str]]:
    return {key for key, verdict in site.judge(*days).items() if not verdict.passed}


# ---- numbers --------------------------------------------------------------------------------------

amounts = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places), st.integers(-(10**14), 10**14), st.integers(0, 18)
)


def written(amount: Decimal, point: str, grouped: bool, sign: str, accounting: bool, spaces: str) -> str:
    """An amount as a person would write it."""
    whole, _, fraction = f"{abs(amount):f}".partition(".")
    if grouped:
        whole = f"{int(whole):,}".replace(",", "." if point == "," else ",")
    body = whole + (f"{point}{fraction}" if fraction else "")
    signed = f"€{body}" if sign == "before" else f"{body} $" if sign == "behind" else body
    if amount < 0:
        signed = f"({signed})" if accounting else f"-{signed}"
    return f"{spaces}{signed}{spaces}"


@pytest.mark.long
@examples
@given(
    st.lists(amounts, min_size=1, max_size=8),
    st.sampled_from([".", ","]),
    st.booleans(),
    st.sampled_from(["", "before", "behind"]),
    st.booleans(),
    st.sampled_from(["", " ", "\u00a0"]),
)
def test_a_number_written_for_people_is_read_to_the_last_digit(
    engine: duckdb.DuckDBPyConnection,
    values: list[Decimal],
    point: str,
    grouped: bool,
    sign: str,
    accounting: bool,
    spaces: str,
) -> None:
    for amount in values:
        text = written(amount, point, grouped, sign, accounting, spaces)
        assert ask(engine, decimal_from_text(f"({plain_number('v', repr(point))})"), text) == amount, text


@examples
@given(st.lists(amounts, min_size=1, max_size=8), st.sampled_from([".", ","]), st.booleans())
def test_a_number_never_proves_the_other_point(
    engine: duckdb.DuckDBPyConnection, values: list[Decimal], point: str, grouped: bool
) -> None:
    other: Any = "," if point == "." else "."
    for amount in values:
        text = written(amount, point, grouped, "", False, "")
        assert not ask(engine, shows_point("v", other), text), text


@pytest.mark.parametrize(
    ("text", "pointed", "comma"),
    [
        ("$50,000.00 ", "50000", None),
        ("(1,234.50)", "-1234.5", None),
        ("$-5", "-5", "-5"),
        ("- $5", "-5", "-5"),
        ("1.234,50 €", None, "1234.5"),
        ("\u22125", "-5", "-5"),
        ("1,23,456", None, None),
        ("(5", None, None),
        ("-(5)", None, None),
        ("--5", None, None),
        ("5 USD", None, None),
        ("1 234", None, None),
        ("$", None, None),
        ("", None, None),
        ("1,234", "1234", "1.234"),
        ("1e-7", "0.0000001", None),
    ],
)
def test_numbers_as_bills_write_them(
    engine: duckdb.DuckDBPyConnection, text: str, pointed: str | None, comma: str | None
) -> None:
    for point, expected in (("'.'", pointed), ("','", comma)):
        found = ask(engine, decimal_from_text(f"({plain_number('v', point)})"), text)
        assert found == (None if expected is None else Decimal(expected))


def test_amounts_with_signs_and_groups_are_read_and_said_in_their_rows(site: Site) -> None:
    site.put_csv(
        "a.csv",
        focus_row(D1, BilledCost="$50,000.00 ", EffectiveCost="(1,234.50)", ListCost="+7", ContractedCost=" 1.5"),
        focus_row(D1, BilledCost="1,234"),
    )
    [generation] = site.run(D1)
    assert site.rows(D1, "BilledCost", "EffectiveCost", "ListCost", "ContractedCost") == [
        (Decimal(50000), Decimal("-1234.5"), Decimal(7), Decimal("1.5")),
        (Decimal(1234), Decimal("1.25"), Decimal(2), Decimal("1.5")),
    ]
    first, second = repairs(site, D1)
    assert {(r["column"], r["rule"], r["found"]) for r in first} == {
        ("BilledCost", "number_spelling", "$50,000.00 "),
        ("EffectiveCost", "number_spelling", "(1,234.50)"),
        ("ListCost", "number_spelling", "+7"),
        ("ContractedCost", "number_spelling", " 1.5"),
    }
    assert second == [{"rule": "number_spelling", "column": "BilledCost", "found": "1,234"}]
    assert generation.repairs["number_spelling BilledCost"] == 2
    assert failed(site, D1) == set()


def test_a_comma_that_could_be_either_is_not_read(site: Site) -> None:
    """1,234 is a thousand here and little more than one there; nothing else in the file tells."""
    whole = dict.fromkeys(("EffectiveCost", "ListCost", "ContractedCost", "PricingQuantity"), "2")
    site.put_csv("a.csv", focus_row(D1, BilledCost="1,234", **whole), focus_row(D1, BilledCost="5", **whole))
    site.run(D1)
    assert site.rows(D1, "BilledCost") == [(None,), (Decimal(5),)]
    assert repairs(site, D1)[0] == [{"rule": "not_a_number", "column": "BilledCost", "found": "1,234"}]
    assert failed(site, D1) == {("conforms", D1)}


def test_a_file_that_proves_a_decimal_comma_is_read_with_it_also_where_a_column_looks_plain(site: Site) -> None:
    site.put_csv(
        "a.csv",
        focus_row(D1, BilledCost="1.234,50", EffectiveCost="0,25", ListCost="1.234", ContractedCost="12"),
    )
    # Its neighbour writes as the specification says.
    site.put_csv("b.csv", focus_row(D1, ListCost="1.234"))
    site.run(D1)
    assert site.rows(D1, "BilledCost", "ListCost") == [
        (Decimal("1234.5"), Decimal(1234)),
        (Decimal("1.5"), Decimal("1.234")),
    ]
    assert "ListCost" in {r["column"] for r in repairs(site, D1)[0]}


def test_a_file_with_both_points_is_read_where_there_is_no_comma_alone(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1, BilledCost="0,25", EffectiveCost="1.5"))
    site.run(D1)
    assert site.rows(D1, "BilledCost", "EffectiveCost") == [(None, Decimal("1.5"))]
    assert failed(site, D1) == {("conforms", D1)}


def test_numbers_with_signs_in_parquet_texts(site: Site) -> None:
    site.put_parquet("a.parquet", focus_row(D1, BilledCost="$1,000.50", ResourceId=" n/a "))
    site.run(D1)
    assert site.rows(D1, "BilledCost", "ResourceId") == [(Decimal("1000.5"), None)]


@examples
@given(st.decimals(-1000, 1000, places=24, allow_nan=False))
def test_the_drift_of_rounding_is_exact_and_within_its_bound(engine: duckdb.DuckDBPyConnection, value: Decimal) -> None:
    text = f"{value:f}"
    kept = ask(engine, decimal_from_text("v"), text)
    moved = abs(value - kept)
    assert Decimal(drift(text) or "nan") == moved
    assert ask(engine, largest_drift("v"), text) == moved
    assert ask(engine, largest_drift("v"), f"{value:e}") == moved
    assert moved <= Decimal("0.5e-18")


# ---- times ----------------------------------------------------------------------------------------

moments = st.datetimes(datetime.fromisoformat("2000-01-01"), datetime.fromisoformat("2099-12-31")).map(
    lambda t: t.replace(microsecond=0)
)
zones = st.integers(-14 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))


@examples
@given(
    moments, zones, st.sampled_from("T "), st.booleans(), st.sampled_from(["Z", "z", ""]), st.sampled_from(["", " "])
)
def test_an_iso_time_is_read_in_utc_however_it_is_spelled(
    engine: duckdb.DuckDBPyConnection,
    moment: datetime,
    zone: timezone,
    between: str,
    seconds: bool,
    ending: str,
    spaces: str,
) -> None:
    moment = moment if seconds else moment.replace(second=0)
    shown = moment.isoformat(between, "seconds" if seconds else "minutes")
    short = shown[:11] + shown[12:] if shown[11] == "0" else shown
    there = moment.replace(tzinfo=UTC).astimezone(zone)
    offset = there.replace(tzinfo=None).isoformat(between, "seconds") + f"{there:%z}"
    for text in (shown + ending, short + ending, offset, f"{offset[:-2]}:{offset[-2:]}"):
        assert ask(engine, time_from_text("v"), f"{spaces}{text}{spaces}") == moment, text
    assert ask(engine, time_from_text("v"), f"{moment:%Y-%m-%d}") == moment.replace(hour=0, minute=0, second=0)
    assert ask(engine, time_from_text("v"), f"{moment:%Y-%m-%d %H:%M:%S} UTC") == moment


@examples
@given(moments, st.sampled_from(["MDY", "DMY"]), st.booleans(), st.booleans(), st.sampled_from(["24", "12", "none"]))
def test_a_slashed_date_is_read_by_its_order(
    engine: duckdb.DuckDBPyConnection, moment: datetime, order: str, padded: bool, short_year: bool, clock: str
) -> None:
    first, second = (moment.month, moment.day) if order == "MDY" else (moment.day, moment.month)
    numbers = f"{first:02}/{second:02}" if padded else f"{first}/{second}"
    text = f"{numbers}/{moment:%y}" if short_year else f"{numbers}/{moment:%Y}"
    if clock == "24":
        text += f" {moment.hour}:{moment:%M:%S}"
    elif clock == "12":
        text += f" {moment.hour % 12 or 12}:{moment:%M:%S} {moment:%p}"
    else:
        moment = moment.replace(hour=0, minute=0, second=0)
    assert ask(engine, time_from_text("v", f"'{order}'"), text) == moment, text
    assert ask(engine, time_from_text("v"), text) is None


@pytest.mark.parametrize(
    "text",
    [
        "13/13/26",
        "4/31/26",
        "2/29/26",
        "4/1/126",
        "1/2/3",
        "1/2",
        "2026-02-30",
        "2023-02-01T30:00:00Z",
        "now",
        "epoch",
        "2026-09-01T23:00:00ZZ",
        "2026-09-01 13:00:00 PM",
        "9/1/26 25:00",
    ],
)
def test_what_is_no_time_is_none_in_either_order(engine: duckdb.DuckDBPyConnection, text: str) -> None:
    assert ask(engine, time_from_text("v", "'MDY'"), text) is None
    assert ask(engine, time_from_text("v", "'DMY'"), text) is None


def slashed(*periods: str, **changes: Any) -> list[dict[str, Any]]:
    """Rows whose charge period begins on these slashed days; billing periods are as specified."""
    return [focus_row(ChargePeriodStart=start, **changes) for start in periods]


def days_of(site: Site) -> list[str]:
    return sorted(str(day) for g in Ledger(site.platform.lake, "bill").all_live() for day in g.days)


def test_a_day_above_twelve_proves_the_order_of_the_column(site: Site) -> None:
    site.put_csv("us.csv", *slashed("9/2/26", "9/13/2026 23:00"))
    site.put_csv("eu.csv", *slashed("2/9/26", "14/09/2026", ResourceId="eu"))
    generations = site.run(D2)
    assert days_of(site) == ["2026-09-02", "2026-09-02", "2026-09-13", "2026-09-14"]
    assert [g.repairs["slashed_date ChargePeriodStart"] for g in generations] == [2, 2]
    assert {r["found"] for row in repairs(site, D2) for r in row} == {"9/2/26", "2/9/26"}


def test_a_billing_period_proves_the_order_of_the_whole_file(site: Site) -> None:
    """Twelve days into a month no day is above twelve, and September would be read as dates from January on."""
    period = {"BillingPeriodStart": "01/09/2026", "BillingPeriodEnd": "01/10/2026"}
    site.put_csv("a.csv", *slashed("02/09/2026", "03/09/2026", ChargePeriodEnd="04/09/2026", **period))
    [generation] = site.run(D2)
    assert days_of(site) == ["2026-09-02", "2026-09-03"]
    assert site.value(D2, "BillingPeriodStart") == datetime.fromisoformat("2026-09-01")
    assert not any(name.startswith("date_order_assumed") for name in generation.repairs)


def test_an_order_that_nothing_proves_is_assumed_and_said(site: Site) -> None:
    site.put_csv("a.csv", *slashed("9/2/26", "9/2/26"), *slashed("9/9/26"))
    [generation] = site.run(D2)
    assert days_of(site) == ["2026-09-02", "2026-09-09"]
    assert repairs(site, D2)[0] == [{"rule": "date_order_assumed", "column": "ChargePeriodStart", "found": "9/2/26"}]
    assert generation.repairs["date_order_assumed ChargePeriodStart"] == 3


def test_days_that_are_the_same_in_either_order_are_not_assumed(site: Site) -> None:
    site.put_csv("a.csv", *slashed("9/9/26"))
    [generation] = site.run("2026-09-09")
    assert generation.repairs["slashed_date ChargePeriodStart"] == 1


def test_dates_that_contradict_each_other_are_refused_with_the_reason(site: Site) -> None:
    site.put_csv("a.csv", *slashed("9/13/26", "14/9/26", "9/2/26"))
    [generation] = site.run(D2)
    assert generation.state == "refused"
    assert "3 rows have no readable ChargePeriodStart" in (generation.reason or "")
    assert "both a first and a second number above 12" in (generation.reason or "")


def test_the_order_is_decided_for_each_file_of_a_delivery(engine: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    (tmp_path / "us.csv").write_text(csv_text(slashed("9/13/26")))
    (tmp_path / "eu.csv").write_text(csv_text(slashed("13/9/26", BilledCost="0,5")))
    (tmp_path / "iso.csv").write_text(csv_text(slashed("2026-09-13")))
    (tmp_path / "staged").mkdir()
    keys = ["us.csv", "eu.csv", "iso.csv"]
    found = how_written(engine, open_export(engine, "bill", "s", tmp_path, keys, tmp_path / "staged"))
    assert found.orders == {"ChargePeriodStart": {"us.csv": "MDY", "eu.csv": "DMY"}}
    assert found.points["us.csv"] == "."
    assert [(r.file, r.rule, r.column, r.rows) for r in found.counted] == [
        ("iso.csv", "time_spelling", "ChargePeriodStart", 1)
    ]


def test_other_spellings_of_a_time_are_counted_by_file_and_leave_the_rows_clean(site: Site) -> None:
    site.put_csv("a.csv", focus_row(ChargePeriodStart="2026-09-01 23:00:00"), focus_row(ChargePeriodStart="2026-09-01"))
    [generation] = site.run(D1)
    assert repairs(site, D1) == [None, None]
    assert generation.repaired == (Repair("a.csv", "time_spelling", "ChargePeriodStart", 2, "2026-09-01 23:00:00", 1),)


# ---- words for nothing, rows of nothing, closed lists -----------------------------------------------


@pytest.mark.parametrize("write", ["put_csv", "put_parquet"])
def test_words_for_no_value_are_none_in_any_case_and_counted_by_file(site: Site, write: str) -> None:
    words = ["NULL", " null ", "Null", "n/a", "N/A", "Not Applicable", " NOT APPLICABLE", "   "]
    rows = [focus_row(D1, ResourceId=w, ContractedUnitPrice=w, Tags=w, ChargeClass=w, x_Own=w) for w in words]
    getattr(site, write)(f"a.{write.removeprefix('put_')}", *rows, focus_row(D1, ResourceId="N/A-1", x_Own="null-1"))
    [generation] = site.run(D1)
    found = site.rows(D1, "ResourceId", "ContractedUnitPrice", "Tags", "ChargeClass", "x_Own", "repairs")
    assert found[:-1] == [(None,) * 6] * len(words)
    assert found[-1][0] == "N/A-1"
    assert found[-1][4] == "null-1"
    assert generation.repairs["null_spelling ResourceId"] == len(words)
    assert failed(site, D1) == set()


def test_a_column_without_statistics_is_looked_into(site: Site) -> None:
    file = site.exports / "a.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([focus_row(D1, ResourceId="n/a")]), file, write_statistics=False)
    site.run(D1)
    assert site.value(D1, "ResourceId") is None


def test_rows_without_any_value_are_set_aside_and_counted(site: Site) -> None:
    rows = [focus_row(D1), focus_row(D1)]
    empty = "," * (len(rows[0]) - 1) + "\n"
    spaced = ",".join([" "] * len(rows[0])) + "\n"
    header, first, second = csv_text(rows).splitlines(keepends=True)
    site.put("a.csv", "\ufeff" + header + first + empty + second + spaced + empty)
    [generation] = site.run(D1)
    assert (generation.state, generation.rows) == ("live", 2)
    assert site.rows(D1, "source_row") == [(1,), (3,)]
    [aside] = [r for r in generation.repaired if r.rule == "empty_row"]
    assert (aside.file, aside.rows, aside.first_row) == ("a.csv", 3, 2)
    assert failed(site, D1) == set()


def test_a_row_with_any_value_is_not_empty_and_needs_its_day(site: Site) -> None:
    header, first = csv_text([focus_row(D1)]).splitlines(keepends=True)
    site.put("a.csv", header + first + "5" + "," * (len(focus_row(D1)) - 1) + "\n")
    [generation] = site.run(D1)
    assert generation.state == "refused"
    assert "1 rows have no readable ChargePeriodStart (first at row 2" in (generation.reason or "")


def test_names_that_a_closed_list_had_before_are_renamed_and_said(site: Site) -> None:
    changes = {"PricingCategory": "On-Demand", "ServiceCategory": "Database", "ChargeFrequency": "usage based"}
    site.put_csv("a.csv", focus_row(D1, **changes), focus_row(D1, PricingCategory="Commitment-Based"))
    site.run(D1)
    assert site.rows(D1, "PricingCategory", "ServiceCategory", "ChargeFrequency") == [
        ("Standard", "Databases", "Usage-Based"),
        ("Committed", "Compute", "Usage-Based"),
    ]
    first, second = repairs(site, D1)
    assert {(r["rule"], r["column"], r["found"]) for r in first} == {
        ("closed_value_renamed", "PricingCategory", "On-Demand"),
        ("closed_value_renamed", "ServiceCategory", "Database"),
        ("closed_value_spelling", "ChargeFrequency", "usage based"),
    }
    assert second == [{"rule": "closed_value_renamed", "column": "PricingCategory", "found": "Commitment-Based"}]
    assert failed(site, D1) == set()


def test_no_two_values_of_a_closed_list_have_the_same_letters() -> None:
    for column in columns().values():
        assert len({_letters(value) for value in column.allowed}) == len(column.allowed), column.name


# ---- participants and versions ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("AWS", "Amazon Web Services, Inc.", True),
        ("AWS", "Amazon Web Services EMEA SARL", True),
        ("Microsoft", "Azure", True),
        ("Google Cloud", "Google LLC", True),
        ("Oracle", "OCI", True),
        ("Snowflake", "Snowflake Inc.", True),
        ("Snowflake", "SNOWFLAKE, Inc", True),
        ("AWS", "Red Hat", False),
        ("AWS", "AWSome Tools", False),
        ("Microsoft", "Oracle", False),
    ],
)
def test_a_company_goes_by_several_names(engine: duckdb.DuckDBPyConnection, one: str, other: str, same: bool) -> None:
    assert ask(engine, same_company(f"'{one}'", "v"), other) is same


@pytest.mark.parametrize(
    ("service", "host", "issuer", "source", "provider"),
    [
        ("Amazon Web Services", "AWS", "Amazon Web Services, Inc.", "bill", "AWS"),
        ("Datadog", "AWS", "Amazon Web Services, Inc.", "bill", "AWS"),
        ("Datadog", None, "Amazon Web Services EMEA SARL", "bill", "AWS"),
        ("Datadog", "Microsoft", "AWS", "bill", "AWS"),
        ("Datadog", "AWS", "Datadog, Inc.", "bill", "Datadog"),
        ("Datadog", "AWS", "Datadog, Inc.", "AWS", "AWS"),
        ("Datadog", "AWS", "A Reseller", "Datadog", "Datadog"),
        ("AWS", "AWS", "A Reseller", "bill", "AWS"),
        ("AWS", None, None, "bill", "AWS"),
        (None, None, "AWS", "bill", None),
    ],
)
def test_a_row_of_1_4_names_the_provider_that_it_named_before(
    engine: duckdb.DuckDBPyConnection,
    service: str | None,
    host: str | None,
    issuer: str | None,
    source: str,
    provider: str | None,
) -> None:
    [(found,)] = engine.execute(
        f"SELECT {provider_before('source')} FROM (SELECT ?::VARCHAR AS ServiceProviderName,"
        " ?::VARCHAR AS HostProviderName, ?::VARCHAR AS InvoiceIssuerName, ? AS source)",
        [service, host, issuer, source],
    ).fetchall()
    assert found == provider


PARTICIPANTS = ("ProviderName", "PublisherName", "ServiceProviderName", "HostProviderName", "InvoiceIssuerName")


def test_participants_are_filled_from_an_older_version_and_what_it_said_stays(site: Site) -> None:
    aws = {"ProviderName": "AWS", "InvoiceIssuerName": "Amazon Web Services, Inc."}
    site.put_csv(
        "a.csv",
        focus_row(D1, **aws, PublisherName="Amazon Web Services, Inc."),
        focus_row(D1, **aws, PublisherName="Red Hat"),
        focus_row(D1, **aws, PublisherName="AWS", ChargeCategory="Tax"),
        focus_row(D1, **aws, PublisherName=""),
    )
    [generation] = site.run(D1)
    issuer = "Amazon Web Services, Inc."
    assert site.rows(D1, *PARTICIPANTS) == [
        ("AWS", "Amazon Web Services, Inc.", "AWS", "AWS", issuer),
        ("AWS", "Red Hat", "Red Hat", "AWS", issuer),
        ("AWS", "AWS", "AWS", None, issuer),
        ("AWS", None, "AWS", "AWS", issuer),
    ]
    assert generation.repairs == {}  # older is not broken


def test_a_participant_that_the_data_set_should_have_named_is_filled_and_said(site: Site) -> None:
    named = {"ServiceProviderName": "Vendor", "HostProviderName": ""}
    site.put_csv("a.csv", focus_row(D1, **named), focus_row(D1, **named | {"ServiceProviderName": ""}))
    [generation] = site.run(D1)
    assert site.rows(D1, *PARTICIPANTS[2:4]) == [("Vendor", None), ("Cloud", None)]
    assert repairs(site, D1) == [
        None,
        [{"rule": "participant_filled", "column": "ServiceProviderName", "found": None}],
    ]
    assert generation.repairs == {"participant_filled ServiceProviderName": 1}


def test_months_of_1_0_and_1_3_and_1_4_stand_side_by_side_under_one_provider(site: Site) -> None:
    cloud = {"InvoiceIssuerName": "Amazon Web Services, Inc."}
    old = focus_row("2026-06-01", ProviderName="AWS", PublisherName="AWS", **cloud)
    saas_old = focus_row("2026-06-01", ProviderName="AWS", PublisherName="Datadog", BilledCost="3", **cloud)
    site.put_csv("06.csv", old, saas_old)
    both = {"ServiceProviderName": "AWS", "HostProviderName": "AWS"}
    saas = {"ServiceProviderName": "Datadog", "HostProviderName": "AWS"}
    site.put_csv(
        "07.csv",
        old | focus_row("2026-07-01", ProviderName="AWS", PublisherName="AWS", **cloud) | both,
        saas_old | focus_row("2026-07-01", ProviderName="AWS", PublisherName="Datadog", BilledCost="3", **cloud) | saas,
    )
    newest = [focus_row("2026-08-01", **cloud) | both, focus_row("2026-08-01", BilledCost="3", **cloud) | saas]
    for row in newest:
        del row["ProviderName"], row["PublisherName"]
        row |= {"InvoiceDetailId": "1", "PricingCurrency": "USD", "BillingAccountType": "t", "InvoiceId": "i"}
    newest[0]["ServiceProviderName"] = "Amazon Web Services"
    site.put_csv("08.csv", *newest)
    days = ("2026-06-01", "2026-07-01", "2026-08-01")
    site.run_all(*days)
    assert [site.generations(f"{m}.csv")[-1].focus_version for m in ("06", "07", "08")] == ["1.0", "1.3", "1.4"]
    with site.platform.warehouse.reading() as connection:
        found = connection.execute(
            "SELECT charge_date::VARCHAR, provider, billed_cost, row_count FROM daily_cost_by_team ORDER BY 1"
        ).fetchall()
    assert found == [(day, "AWS", Decimal("4.5"), 2) for day in days]
    assert [site.rows(day, "ServiceProviderName")[1] for day in days] == [("Datadog",)] * 3
    assert site.rows(days[2], "ProviderName", layer="facts") == [(None,), (None,)]


@pytest.mark.parametrize(
    ("stated", "version"),
    [
        ("1.0r2", "1.0"),
        ("1.2-preview", "1.2"),
        ("v1.3", "1.3"),
        ("1.4.0", "1.4"),
        (1.2, "1.2"),
        ("1.5", None),
        ("0.5", None),
        ("", None),
        (None, None),
    ],
)
def test_a_version_is_what_the_providers_text_begins_with(stated: object, version: str | None) -> None:
    assert version_of(stated) == version


def test_a_schema_that_names_columns_speaks_for_data_of_exactly_these() -> None:
    old = Schema("1.0", "2026-01-01", frozenset({"a", "b"}))
    new = Schema("1.3", "2026-06-01", frozenset({"a", "c"}))
    assert stated_version([old, new], ["A", "B", "source_file"]) == "1.0"
    assert stated_version([old, new], ["A", "C"]) == "1.3"
    assert stated_version([old, new], ["A"]) is None
    assert stated_version([Schema("1.2", "", frozenset())], ["A"]) == "1.2"
    assert stated_version([Schema("1.2", "", frozenset()), Schema("1.3", "", frozenset())], ["A"]) is None
    assert stated_version([new, Schema("1.4", "2026-07-01", frozenset({"a", "c"}))], ["A", "C"]) == "1.4"


@pytest.mark.parametrize(
    ("name", "content", "version"),
    [
        ("schema-1.json", {"SchemaId": "1", "FocusVersion": "1.1", "CreationDate": "2026-01-01T0:00:00z"}, "1.1"),
        ("metadata.json", {"DataGenerator": "x", "Schema": [{"SchemaId": "1", "FocusVersion": "1.2"}]}, "1.2"),
        ("focus_metadata_1.json", [{"Focus_Version": "1.2-preview"}], "1.2"),
        ("metadata.json", {"somebody": "else's"}, "1.0"),
        ("metadata.json", "not an object", "1.0"),
        ("schema.json", {"FocusVersion": "9.9"}, "1.0"),
    ],
)
def test_the_version_of_a_side_file_counts_over_what_the_columns_show(
    site: Site, name: str, content: Any, version: str
) -> None:
    site.put(name, json.dumps(content))
    site.put_csv("a.csv", focus_row(D1))
    [generation] = site.run(D1)
    assert generation.focus_version == version


# ---- what was repaired, shown -----------------------------------------------------------------------


def test_a_lake_of_an_older_form_is_landed_again_once(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1))
    refused = site.put_csv("b.csv", focus_row(ChargePeriodStart="some day"))
    site.run(D1)
    ledger = Ledger(site.platform.lake, "bill")
    assert unknown_deliveries(site.platform.lake, site.source, site.platform.settings.first_day) == []
    for scope in ("a.csv", refused.name):
        body = site.platform.lake.read_record("bill", "scopes", scope)
        assert body is not None
        for entry in body["generations"]:
            assert entry.pop("form") == CANONICAL_FORM
            del entry["repaired"]
        site.platform.lake.write_record(body, "bill", "scopes", scope)
    wanted = unknown_deliveries(site.platform.lake, site.source, site.platform.settings.first_day)
    assert [d.scope for d in wanted] == ["a.csv", "b.csv"]
    site.run(D1)
    assert unknown_deliveries(site.platform.lake, site.source, site.platform.settings.first_day) == []
    latest = ledger.live("a.csv")
    assert latest is not None
    assert latest.form == CANONICAL_FORM
    assert site.rows(D1, "BilledCost") == [(Decimal("1.5"),)]


def test_of_a_lake_of_the_last_form_only_what_had_no_readable_tag_set_is_landed_again(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1))
    site.put_csv("b.csv", focus_row(D2, Tags="team=core"))
    site.run(D1)
    for scope in ("a.csv", "b.csv"):
        body = site.platform.lake.read_record("bill", "scopes", scope)
        assert body is not None
        for entry in body["generations"]:
            entry["form"] = 4
        site.platform.lake.write_record(body, "bill", "scopes", scope)
    wanted = unknown_deliveries(site.platform.lake, site.source, site.platform.settings.first_day)
    assert [d.scope for d in wanted] == ["b.csv"]
    site.run(D1)
    assert unknown_deliveries(site.platform.lake, site.source, site.platform.settings.first_day) == []


def test_repairs_are_a_table_by_file_rule_and_column(site: Site) -> None:
    site.put_csv(
        "a.csv",
        focus_row(D1, BilledCost="0.1234567890123456785", ResourceId="N/A"),
        focus_row(D1, BilledCost="0.12345678901234567891"),
        focus_row(D1, BilledCost="1.5"),
    )
    site.put_csv("b.csv", focus_row(D2, ListCost="five"))
    site.run(D1, D2)
    table = repairs_table(site.platform.lake, ["bill"]).frame()
    rounded, words, number = table.to_dict("records")
    assert (rounded["file"], rounded["rule"], rounded["column"], rounded["rows"]) == (
        "a.csv",
        "rounded",
        "BilledCost",
        2,
    )
    assert (rounded["example"], rounded["first_row"]) == ("0.1234567890123456785", 1)
    assert rounded["largest_drift"] == Decimal("5e-19")
    assert rounded["drift_bound"] == Decimal("1e-18")
    assert (words["rule"], words["column"], words["example"]) == ("null_spelling", "ResourceId", "N/A")
    assert (number["scope"], number["rule"], number["example"]) == ("b.csv", "not_a_number", "five")
    only = repairs_table(site.platform.lake, ["bill"], first=date(2026, 9, 2)).frame()
    assert list(only["scope"]) == ["b.csv"]
    assert list(repairs_table(site.platform.lake, ["bill"], scope="a.csv").frame()["rule"]) == [
        "rounded",
        "null_spelling",
    ]


def test_details_go_with_the_generation_and_its_counts_stay(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1, BilledCost="$5.00"))
    site.run(D1)
    site.put_csv("a.csv", focus_row(D1, BilledCost="$6.00"), focus_row(D1, BilledCost="$6.50"))
    site.run(D1)
    before, after = site.generations("a.csv")
    assert (before.state, before.repaired, before.repairs) == ("superseded", (), {"number_spelling BilledCost": 1})
    assert [(r.rows, r.example) for r in after.repaired] == [(2, "$6.00")]
    assert Generation.from_json(after.as_json()) == after


def test_a_delivery_of_very_many_files_is_told_by_rule_and_column() -> None:
    many = [Repair(f"{n}.csv", "rounded", c, 2, "x", 1, Decimal(n)) for n in range(300) for c in ("A", "B")]
    short = condensed(many)
    assert [(r.file, r.column, r.rows, r.largest_drift) for r in short] == [
        ("0.csv and 299 more", "A", 600, Decimal(299)),
        ("0.csv and 299 more", "B", 600, Decimal(299)),
    ]
    assert counts(short) == counts(many)
    assert condensed(many[:500]) == tuple(many[:500])


def test_the_command_and_the_asset_show_the_same(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1, BilledCost="$5.00", EffectiveCost="0.1234567890123456785"))
    site.run(D1)
    config = site.folder / "finops.yaml"
    config.write_text(
        "first_day: 2026-01-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        "sources: [{name: bill, uri: exports, layout: files}]\ndimensions:\n  team: {keys: [team]}\n"
    )
    shown = CliRunner().invoke(app, ["repairs", "bill", "-c", str(config)])
    assert shown.exit_code == 0
    assert "number_spelling" in shown.output
    assert "$5.00" in shown.output
    assert "5.00E-19" in shown.output
    wrong = CliRunner().invoke(app, ["repairs", "bull", "-c", str(config)])
    assert wrong.exit_code == 1
    empty = CliRunner().invoke(app, ["repairs", "--from", "2026-10-01", "-c", str(config)])
    assert "Nothing was repaired" in empty.output
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(parse_settings(config.read_text(), config), instance)
        result = dg.materialize(
            [a for a in graph.defs.assets or () if isinstance(a, dg.AssetsDefinition)],
            selection=dg.AssetSelection.assets(dg.AssetKey(["reports", "repairs"])),
            resources=graph.defs.resources,
            instance=instance,
        )
        assert result.success
        with graph.platform.warehouse.reading() as connection:
            rows = connection.execute('SELECT rule, "column", rows FROM reports.repairs ORDER BY ALL').fetchall()
    assert rows == [("number_spelling", "BilledCost", 1), ("rounded", "EffectiveCost", 1)]


# ---- the specification's own examples, through the whole path ----------------------------------------


@pytest.mark.long
@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the specification's examples are not here")
def test_the_examples_of_the_specification_land_with_their_exact_totals(site: Site) -> None:
    expected: dict[str, tuple[int, Decimal, Decimal]] = {}
    for file in sorted(EXAMPLES.rglob("*.csv")):
        name = file.name
        site.put(name, file.read_bytes())
        with file.open(encoding="utf-8-sig", newline="") as text:
            rows = [r for r in csv.DictReader(text) if any(r.values())]
        expected[name] = (
            len(rows),
            sum((money(r["BilledCost"]) for r in rows), Decimal(0)),
            sum((money(r["EffectiveCost"]) for r in rows), Decimal(0)),
        )
    platform = Site(site.folder, first_day="2020-01-01")
    # Scenarios of the specification go on with each other's charges: a person says that all of them count.
    while refused := [g for g in platform.run() if g.state == "refused"]:
        for generation in refused:
            assert "holds the same charges as" in (generation.reason or "")
            platform.accept(generation.scope)
    live = list(Ledger(platform.platform.lake, "bill").all_live())
    days = sorted({day.isoformat() for g in live for day in g.days})
    assert {g.scope: total_of(g) for g in live} == expected
    assert expected["virtual_currency_pricing_model_a1.csv"] == (1, Decimal(200_000), Decimal(0))
    assert expected["simple_saas_agreements_a2.csv"] == (1, Decimal(50_000), Decimal(50_000))
    platform.run_all(*days)
    with platform.platform.warehouse.reading() as connection:
        total = connection.execute(
            "SELECT sum(row_count), sum(billed_cost), sum(effective_cost) FROM daily_cost_by_team"
        ).fetchone()
    assert total == tuple(sum(column) for column in zip(*expected.values()))
    assumed = repairs_table(platform.platform.lake, ["bill"]).frame().query("rule == 'date_order_assumed'")
    assert assumed.empty


def total_of(generation: Generation) -> tuple[int, Decimal, Decimal]:
    days = generation.days.values()
    return (
        generation.rows,
        sum((amount for day in days for amount in day.billed.values()), Decimal(0)),
        sum((amount for day in days for amount in day.effective.values()), Decimal(0)),
    )


def money(text: str) -> Decimal:
    return Decimal(text.strip().lstrip("$").replace(",", ""))
