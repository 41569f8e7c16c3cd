"""Native bills and dialects of FOCUS by columns: converted, their cost conserved, landed like any other source."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finops_assets.focus.specification import columns
from finops_assets.focus.tags import canonical_tags
from finops_assets.ingest.conversion import arithmetic
from finops_assets.ingest.conversion.azure import SetsDiffer
from finops_assets.ingest.conversion.convert import converted, spoken_dialect
from finops_assets.ingest.conversion.coverage import with_coverage
from finops_assets.ingest.conversion.mapping import Dialect, dialects, native_layouts
from finops_assets.ingest.conversion.source_columns import SourceColumns
from finops_assets.ingest.inspect import inspect
from finops_assets.ingest.layouts.azure_exports import ACTUAL, AMORTIZED
from finops_assets.ingest.layouts.layouts import known_manifests, newest_deliveries
from finops_assets.ingest.reading.export_table import open_export
from finops_assets.ingest.reading.relation import ExportTable
from finops_assets.ingest.reading.spelling import ASSUMED, SLASHED
from finops_assets.judge.conformance.report import judge_source
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import connect
from finops_assets_tests.conftest import Site, csv_text, focus_row
from finops_assets_tests.places import PROJECT, SHARED

pytestmark = pytest.mark.slow  # by its time, not by what it needs

NATIVE = SHARED / "data" / "native"
DOCUMENT = PROJECT / "docs" / "guides" / "native-bills.md"
Row = dict[str, Any]


@dataclass(frozen=True)
class Bill:
    """A converted export, to ask SQL of."""

    connection: duckdb.DuckDBPyConnection
    export: ExportTable
    source: SourceColumns

    def all(self, *select: str, where: str = "true") -> list[tuple[Any, ...]]:
        sql = f"SELECT {', '.join(select)} FROM ({self.export.sql}) WHERE {where} ORDER BY source_file, source_row"
        return self.connection.execute(sql).fetchall()

    def one(self, *select: str, where: str = "true") -> tuple[Any, ...]:
        [row] = self.all(*select, where=where)
        return row

    def total(self, column: str, where: str = "true") -> Decimal:
        [(amount,)] = self.connection.execute(
            f"SELECT coalesce(sum(CAST({column} AS DECIMAL(38, 18))), 0) FROM ({self.export.sql}) WHERE {where}"
        ).fetchall()
        return Decimal(amount).normalize()

    def tags(self, where: str = "true") -> dict[str, Any]:
        [(text,)] = self.all("CAST(to_json(Tags) AS VARCHAR)", where=where)
        return canonical_tags(text).tags or {}


@contextmanager
def bill(folder: Path, name: str, *files: Path, datasets: Mapping[str, str] | None = None) -> Iterator[Bill]:
    """The files of a folder converted by the mapping of that name."""
    staging = folder / ".staging"
    staging.mkdir(exist_ok=True)
    with connect(EngineSettings(), staging / "spill") as connection:
        keys = [file.relative_to(folder).as_posix() for file in files]
        export = open_export(connection, "bill", "scope", folder, keys, staging)
        source = SourceColumns(connection, export)
        yield Bill(connection, converted(connection, export, dialects()[name], datasets), source)


def csv_file(folder: Path, name: str, *rows: Row) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(csv_text(rows))
    return file


# ---- the mappings --------------------------------------------------------------------------------


def test_every_native_mapping_says_of_every_focus_column_how_it_comes_about() -> None:
    # What belongs to split costs, contracts and other data sets is in no bill of a provider.
    elsewhere = {c for c in columns() if c.startswith(("Allocated", "Contract")) and not c.startswith("Contracted")}
    elsewhere |= {"InvoiceDetailId", "CommitmentProgramEligibilityDetails"}
    assert set(native_layouts()) == {"aws-cur", "azure-actual-amortized", "gcp-detailed", "oci-cost-report"}
    for dialect in native_layouts().values():
        assert set(dialect.columns) == set(columns()) - elsewhere, dialect.name


def test_the_table_in_the_documentation_is_that_of_the_mappings() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_coverage(text) == text, (
        f"run: python -m finops_assets.ingest.conversion.coverage {DOCUMENT.relative_to(PROJECT)}"
    )


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        (["0.1", "0.2"], "0.3"),
        ([None, "1"], "1"),
        ([], None),
        (["1e-26", "1"], "1.00000000000000000000000001"),
        (["1", "free"], "free"),
    ],
)
def test_sums_are_exact_and_a_text_that_is_no_number_stays_to_be_seen(amounts: list[Any], expected: Any) -> None:
    assert arithmetic.total(amounts) == expected


def test_products_are_rounded_at_18_places_and_never_divided_by_zero() -> None:
    assert arithmetic.scaled("1", "1", "3") == "0.333333333333333333"
    assert arithmetic.scaled("2", "0.4", None) == "0.8"
    assert arithmetic.scaled("2", "0.4", "0") == "0"
    assert arithmetic.difference("1", None) == "1"
    assert arithmetic.difference(None, "0.25") == "-0.25"


# ---- AWS -----------------------------------------------------------------------------------------

PLAN = "arn:aws:savingsplans::1:savingsplan/p"
RI = "arn:aws:ec2:eu-west-1:1:reserved-instances/r"


def cur_row(kind: str, cost: str, **changes: str) -> Row:
    return {
        "identity/LineItemId": "id",
        "bill/InvoiceId": "7",
        "bill/InvoicingEntity": "Amazon Web Services EMEA SARL",
        "bill/BillingEntity": "AWS",
        "bill/PayerAccountId": "1",
        "bill/BillingPeriodStartDate": "2026-09-01T00:00:00.000Z",
        "bill/BillingPeriodEndDate": "2026-10-01T00:00:00.000Z",
        "lineItem/UsageAccountId": "2",
        "lineItem/LineItemType": kind,
        "lineItem/UsageStartDate": "2026-09-01T05:00:00.000Z",
        "lineItem/UsageEndDate": "2026-09-01T06:00:00.000Z",
        "lineItem/ProductCode": "AmazonEC2",
        "lineItem/UsageType": "BoxUsage:m5.large",
        "lineItem/UsageAmount": "1.0",
        "lineItem/CurrencyCode": "USD",
        "lineItem/UnblendedRate": "0.1",
        "lineItem/UnblendedCost": cost,
        "lineItem/LegalEntity": "Amazon Web Services EMEA SARL",
        "lineItem/TaxType": "",
        "product/ProductName": "Amazon Elastic Compute Cloud",
        "product/region": "eu-west-1",
        "product/sku": "SKU",
        "pricing/RateCode": "SKU.RATE",
        "pricing/publicOnDemandCost": "0.12",
        "pricing/publicOnDemandRate": "0.12",
        "pricing/term": "OnDemand",
        "pricing/unit": "Hrs",
        "reservation/ReservationARN": "",
        "reservation/EffectiveCost": "",
        "reservation/UnusedAmortizedUpfrontFeeForBillingPeriod": "",
        "reservation/UnusedRecurringFee": "",
        "savingsPlan/SavingsPlanARN": "",
        "savingsPlan/SavingsPlanEffectiveCost": "",
        "savingsPlan/TotalCommitmentToDate": "",
        "savingsPlan/UsedCommitment": "",
        "resourceTags/aws:createdBy": "",
        "resourceTags/user:team": "",
    } | changes


def cur_month() -> list[Row]:
    """A month with everything that a line item can be."""
    plan = {"savingsPlan/SavingsPlanARN": PLAN}
    ri = {"reservation/ReservationARN": RI}
    fee_end = {
        "lineItem/UsageStartDate": "2026-09-01T00:00:00.000Z",
        "lineItem/UsageEndDate": "2026-09-30T23:59:59.000Z",
    }
    return [
        cur_row("Usage", "0.1", **{"resourceTags/user:team": "core", "resourceTags/aws:createdBy": "Root"}),
        cur_row("SavingsPlanCoveredUsage", "0.1", **plan, **{"savingsPlan/SavingsPlanEffectiveCost": "0.07"}),
        cur_row("SavingsPlanNegation", "-0.1", **plan),
        cur_row(
            "SavingsPlanRecurringFee", "0.09", **plan, **fee_end,
            **{"savingsPlan/TotalCommitmentToDate": "0.09", "savingsPlan/UsedCommitment": "0.07"},
        ),
        cur_row("SavingsPlanUpfrontFee", "50", **plan, **{"lineItem/UsageType": ""}),
        cur_row("DiscountedUsage", "0.0", **ri, **{"reservation/EffectiveCost": "0.05"}),
        cur_row(
            "RIFee", "3.0", **ri, **fee_end,
            **{"reservation/UnusedAmortizedUpfrontFeeForBillingPeriod": "0.4", "reservation/UnusedRecurringFee": "0.6"},
        ),
        cur_row("Fee", "100", **ri),
        cur_row("Fee", "20"),
        cur_row("Credit", "-5"),
        cur_row("Refund", "-0.3"),
        cur_row("Tax", "1.9", **{"lineItem/TaxType": "VAT", "lineItem/UsageType": ""}, **fee_end),
        cur_row("EdpDiscount", "-0.01"),
        cur_row("BundledDiscount", "-0.02"),
        cur_row("SomethingNew", "0.5"),
    ]  # fmt: skip


def test_cur_line_items_become_charges(tmp_path: Path) -> None:
    expected = [
        # line item, category, billed, effective, class, status, pricing
        ("Usage", "Usage", "0.1", "0.1", None, None, "Standard"),
        ("SavingsPlanCoveredUsage", "Usage", "0", "0.07", None, "Used", "Committed"),
        ("SavingsPlanNegation", "Usage", "0", "0", None, None, "Committed"),
        ("SavingsPlanRecurringFee", "Purchase", "0.09", "0.02", None, "Unused", "Standard"),
        ("SavingsPlanUpfrontFee", "Purchase", "50", "0", None, None, "Standard"),
        ("DiscountedUsage", "Usage", "0.0", "0.05", None, "Used", "Committed"),
        ("RIFee", "Purchase", "3.0", "1.0", None, "Unused", "Standard"),
        ("Fee", "Purchase", "100", "0", None, None, "Standard"),
        ("Fee", "Purchase", "20", "20", None, None, "Standard"),
        ("Credit", "Credit", "-5", "-5", None, None, None),
        ("Refund", "Usage", "-0.3", "-0.3", "Correction", None, "Standard"),
        ("Tax", "Tax", "1.9", "1.9", None, None, None),
        ("EdpDiscount", "Usage", "-0.01", "-0.01", None, None, "Standard"),
        ("BundledDiscount", "Usage", "-0.02", "-0.02", None, None, "Standard"),
        ("SomethingNew", "Adjustment", "0.5", "0.5", None, None, None),
    ]
    with bill(tmp_path, "aws-cur", csv_file(tmp_path, "cur.csv", *cur_month())) as cur:
        found = cur.all(
            "x_LineItemType", "ChargeCategory", "BilledCost", "EffectiveCost", "ChargeClass",
            "CommitmentDiscountStatus", "PricingCategory",
        )  # fmt: skip
        assert found == expected
        assert cur.total("BilledCost") == cur.total("x_UnblendedCost")
        assert cur.tags("source_row = 1") == {"user:team": "core", "aws:createdBy": "Root"}
        assert cur.tags("source_row = 2") == {}
        commitments = cur.all(
            "CommitmentDiscountId", "CommitmentDiscountCategory", "CommitmentDiscountType",
            where="CommitmentDiscountId IS NOT NULL",
        )  # fmt: skip
        assert set(commitments) == {(PLAN, "Spend", "Savings Plan"), (RI, "Usage", "Reserved Instance")}
        assert cur.one("ChargePeriodEnd", where="x_LineItemType = 'RIFee'") == ("2026-10-01 00:00:00",)


@pytest.mark.long
def test_cur_what_negation_leaves_over_stays_billed_and_is_said(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="aws-cur")
    rows = [
        cur_row("SavingsPlanCoveredUsage", "0.1000000004", **{"savingsPlan/SavingsPlanEffectiveCost": "0.07"}),
        cur_row("SavingsPlanCoveredUsage", "0.2", **{"savingsPlan/SavingsPlanEffectiveCost": "0.14"}),
        cur_row("SavingsPlanNegation", "-0.3000000001"),
        cur_row("SavingsPlanNegation", "0"),
    ]
    site.put_csv("cur.csv", *rows)
    site.run("2026-09-01")
    billed = [amount for (amount,) in site.rows("2026-09-01", "BilledCost")]
    assert billed == [0, 0, Decimal("3E-10"), 0]
    [(text,)] = [row for row in site.rows("2026-09-01", "repairs") if row[0]]
    assert json.loads(text) == [{"rule": "savings_plan_rest", "column": "BilledCost", "found": "0.000000000300000000"}]


def covered(cost: str, plan: str, hour: str = "00", **more: str) -> Row:
    """An hour of usage that a savings plan covers, at its price on demand."""
    at = {"lineItem/UsageStartDate": f"2026-09-01T{hour}:00:00Z", "savingsPlan/SavingsPlanARN": plan}
    return cur_row("SavingsPlanCoveredUsage", cost, **{"savingsPlan/SavingsPlanEffectiveCost": "1"}, **at, **more)


@pytest.mark.long
def test_cur_covered_usage_that_nothing_negates_keeps_what_it_says_and_is_told(make_site: Callable[..., Site]) -> None:
    """A report that was filtered of its negations: nothing is moved from row to row."""
    site = make_site(layout="aws-cur")
    whole = {"savingsPlan/SavingsPlanARN": "arn:whole", "lineItem/UsageStartDate": "2026-09-01T00:00:00Z"}
    rows = [
        covered("3.5133", "arn:filtered", "00"),
        covered("3.5133", "arn:filtered", "01"),
        covered("2.004", "arn:whole", "00"),
        cur_row("SavingsPlanNegation", "-2", **whole),
    ]
    site.put_csv("cur.csv", *rows)
    [landed] = site.run("2026-09-01")
    price = Decimal("3.5133")
    assert [amount for (amount,) in site.rows("2026-09-01", "BilledCost")] == [price, price, 0, Decimal("0.004")]
    assert [amount for (amount,) in site.rows("2026-09-01", "EffectiveCost")] == [1, 1, 1, 0]
    said = [(r.rule, r.rows, r.example) for r in landed.repaired if r.rule.startswith("savings_plan")]
    assert sorted(said) == [
        ("savings_plan_rest", 1, "0.004000000000000000"),
        ("savings_plan_without_negation", 2, "3.5133"),
    ]


@pytest.mark.long
def test_cur_a_negation_that_names_no_plan_is_of_its_currency(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="aws-cur")
    site.put_csv(
        "cur.csv",
        covered("3", "arn:a"),
        covered("2", "arn:b"),
        cur_row("SavingsPlanNegation", "-5", **{"savingsPlan/SavingsPlanARN": ""}),
    )
    [landed] = site.run("2026-09-01")
    assert [amount for (amount,) in site.rows("2026-09-01", "BilledCost")] == [0, 0, 0]
    assert not [r for r in landed.repaired if r.rule.startswith("savings_plan")]


def test_cur_tag_columns_that_differ_in_case_are_two_tags(tmp_path: Path) -> None:
    row = cur_row("Usage", "7") | {"resourceTags/user:team": "", "resourceTags/user:department": "retail"}
    with bill(tmp_path, "aws-cur", csv_file(tmp_path, "cur.csv", row | {"resourceTags/user:Team": "carts"})) as cur:
        assert cur.tags() == {"user:Team": "carts", "user:department": "retail"}


def test_cur_net_cost_counts_where_the_report_has_it(tmp_path: Path) -> None:
    net = "lineItem/NetUnblendedCost"
    rows = [
        cur_row("Usage", "0.1", **{net: "0.09"}),
        cur_row("EdpDiscount", "-0.01", **{net: ""}),
        cur_row("Tax", "0.5", **{net: ""}),
    ]
    with bill(tmp_path, "aws-cur", csv_file(tmp_path, "cur.csv", *rows)) as cur:
        assert cur.all("BilledCost") == [("0.09",), ("0",), ("0.5",)]
        assert [note.rule for note in cur.export.notes] == ["discount_in_net_cost"]


def cur2_table() -> pa.Table:
    """CUR 2.0 as Data Exports write it: snake case, doubles, times in milliseconds, maps."""
    when = datetime(2026, 9, 1, 5, tzinfo=UTC)
    tags = pa.map_(pa.string(), pa.string())
    return pa.table(
        {
            "bill_payer_account_id": ["1", "1"],
            "bill_payer_account_name": ["Acme", "Acme"],
            "bill_billing_period_start_date": pa.array([datetime(2026, 9, 1, tzinfo=UTC)] * 2, pa.timestamp("ms")),
            "bill_billing_period_end_date": pa.array([datetime(2026, 10, 1, tzinfo=UTC)] * 2, pa.timestamp("ms")),
            "line_item_line_item_type": ["Usage", "SavingsPlanCoveredUsage"],
            "line_item_usage_start_date": pa.array([when, when], pa.timestamp("ms")),
            "line_item_usage_end_date": pa.array([when.replace(hour=6)] * 2, pa.timestamp("ms")),
            "line_item_unblended_cost": [0.1, 0.3],
            "line_item_currency_code": ["EUR", "EUR"],
            "line_item_product_code": ["AmazonS3", "AmazonEC2"],
            "savings_plan_savings_plan_a_r_n": [None, PLAN],
            "savings_plan_savings_plan_effective_cost": [None, 0.2],
            "product": pa.array([[("region", "eu-west-1"), ("product_name", "Amazon S3")], None], tags),
            "resource_tags": pa.array([[("user_team", "core"), ("aws_created_by", "x")], []], tags),
        }
    )


def test_cur_2_in_parquet_with_maps(tmp_path: Path) -> None:
    pq.write_table(cur2_table(), tmp_path / "cur2.parquet")
    with bill(tmp_path, "aws-cur", tmp_path / "cur2.parquet") as cur:
        assert cur.tags("source_row = 1") == {"user:team": "core", "aws:created_by": "x"}
        assert cur.tags("source_row = 2") == {}
        found = cur.all("BillingAccountName", "ServiceName", "RegionId", "CommitmentDiscountId", "EffectiveCost")
        assert found == [
            ("Acme", "Amazon S3", "eu-west-1", None, "0.1"),
            ("Acme", "AmazonEC2", None, PLAN, "0.2"),
        ]
        # Without a negation the on-demand price of covered usage is not lost.
        assert cur.total("BilledCost") == Decimal("0.4")


def test_cur_2_in_csv_has_its_maps_as_json(tmp_path: Path) -> None:
    row = {
        "line_item_line_item_type": "Usage",
        "line_item_usage_start_date": "2026-09-01T05:00:00.000Z",
        "line_item_unblended_cost": "0.1",
        "product": '{"region": "eu-west-1", "product_name": "Amazon S3"}',
        "tags": '{"resourceTags/team": "core", "accountTag/team": "other"}',
    }
    with bill(tmp_path, "aws-cur", csv_file(tmp_path, "cur2.csv", row)) as cur:
        assert cur.one("ServiceName", "RegionId", "ChargePeriodEnd") == (
            "Amazon S3",
            "eu-west-1",
            "2026-09-01 06:00:00",
        )
        assert cur.tags() == {"team": "core", "accountTag/team": "other"}
    rows = [row, row | {"tags": "team=core"}]
    with bill(tmp_path, "aws-cur", csv_file(tmp_path, "cur2.csv", *rows)) as cur:
        [note] = cur.export.notes
        assert cur.all('"note 0"') == [(None,), ("team=core",)]
        assert (note.rule, note.column) == ("not_a_tag_set", "Tags")


@pytest.mark.long
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted({row["lineItem/LineItemType"] for row in cur_month()})),
            st.decimals(min_value=-1000, max_value=1000, places=10),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_cur_billed_cost_is_the_reports_cost_whatever_the_line_items(
    tmp_path: Path, items: list[tuple[str, Decimal]]
) -> None:
    rows = [cur_row(kind, f"{cost:f}") for kind, cost in items]
    with bill(tmp_path, "aws-cur", csv_file(tmp_path, "cur.csv", *rows)) as cur:
        assert cur.total("BilledCost") == sum(cost for _, cost in items)
        assert len(cur.all("1")) == len(items)


# ---- Azure ---------------------------------------------------------------------------------------


def azure_row(charge: str, cost: str, model: str = "OnDemand", **changes: str) -> Row:
    return {
        "BillingAccountId": "77",
        "BillingAccountName": "Acme",
        "BillingProfileId": "77",
        "BillingProfileName": "Acme",
        "BillingPeriodStartDate": "09/01/2026",
        "BillingPeriodEndDate": "09/30/2026",
        "SubscriptionId": "sub",
        "SubscriptionName": "Sub",
        "Date": "09/30/2026",
        "ProductName": "D2 v3",
        "MeterCategory": "Virtual Machines",
        "MeterId": "m",
        "MeterName": "D2",
        "UnitOfMeasure": "100 Hours",
        "Quantity": "24",
        "EffectivePrice": "0.1",
        "CostInBillingCurrency": cost,
        "UnitPrice": "10",
        "PayGPrice": "12",
        "BillingCurrencyCode": "EUR",
        "ChargeType": charge,
        "PricingModel": model,
        "Frequency": "UsageBased",
        "PublisherType": "Azure",
        "ConsumedService": "Microsoft.Compute",
        "PartNumber": "AAA-1",
        "ResourceId": "/subscriptions/sub/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm",
        "ResourceLocation": "West Europe",
        "Tags": '"team": "core","env": "prod"',
        "benefitId": "" if model == "OnDemand" else f"/benefits/{model}",
        "benefitName": "",
    } | changes


def azure_sets() -> tuple[list[Row], list[Row]]:
    """(actual, amortised) of one month: on-demand, a reservation that is partly unused, a savings plan, a refund, tax."""
    other = [
        azure_row("Usage", "2.4"),
        azure_row("Tax", "0.24"),
        azure_row("RoundingAdjustment", "-0.000000000000000001"),
    ]
    actual = [
        *other,
        azure_row("Usage", "0", "Reservation"),
        azure_row("Usage", "0", "SavingsPlan"),
        azure_row("Purchase", "30", "Reservation", Frequency="Recurring", ResourceId=""),
        azure_row("Refund", "-4", "Reservation", Frequency="OneTime", ResourceId=""),
        azure_row("Purchase", "7", "SavingsPlan", Frequency="Recurring", ResourceId=""),
    ]
    amortized = [
        *other,
        azure_row("Usage", "0.9", "Reservation"),
        azure_row("UnusedReservation", "0.1", "Reservation", ResourceId=""),
        azure_row("Usage", "0.2", "SavingsPlan"),
        azure_row("UnusedSavingsPlan", "0.03", "SavingsPlan", ResourceId=""),
    ]
    return actual, amortized


def test_azure_two_sets_are_one_without_counting_twice(tmp_path: Path) -> None:
    actual, amortized = azure_sets()
    files = csv_file(tmp_path, "a.csv", *actual), csv_file(tmp_path, "b.csv", *amortized)
    with bill(tmp_path, "azure-actual-amortized", *files, datasets={"a.csv": ACTUAL, "b.csv": AMORTIZED}) as azure:
        rows = azure.all(
            "x_ChargeType", "ChargeCategory", "BilledCost", "EffectiveCost", "ChargeClass", "CommitmentDiscountStatus",
            "CommitmentDiscountType",
        )  # fmt: skip
        assert rows == [
            ("Usage", "Usage", "2.4", "2.4", None, None, None),
            ("Tax", "Tax", "0.24", "0.24", None, None, None),
            ("RoundingAdjustment", "Adjustment", "-0.000000000000000001", "-0.000000000000000001", None, None, None),
            ("Purchase", "Purchase", "30", "0", None, None, "Reservation"),
            ("Refund", "Purchase", "-4", "0", "Correction", None, "Reservation"),
            ("Purchase", "Purchase", "7", "0", None, None, "Savings Plan"),
            ("Usage", "Usage", "0", "0.9", None, "Used", "Reservation"),
            ("UnusedReservation", "Usage", "0", "0.1", None, "Unused", "Reservation"),
            ("Usage", "Usage", "0", "0.2", None, "Used", "Savings Plan"),
            ("UnusedSavingsPlan", "Usage", "0", "0.03", None, "Unused", "Savings Plan"),
        ]
        cost = "CostInBillingCurrency"
        assert azure.total("BilledCost") == sum(Decimal(row[cost]) for row in actual)
        assert azure.total("EffectiveCost") == sum(Decimal(row[cost]) for row in amortized)
        assert azure.export.left_out == 5
        assert {(r.file, r.rule, r.rows) for r in azure.export.counted} == {
            ("a.csv", "held_by_the_other_set", 2),
            ("b.csv", "held_by_the_other_set", 3),
        }
        first = azure.one(
            "ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodStart", "BillingPeriodEnd", "ListCost", "ContractedCost",
            "PricingQuantity", "RegionId", "ResourceType", where="source_file = 'a.csv' AND source_row = 1",
        )  # fmt: skip
        assert first == (
            "2026-09-30 00:00:00", "2026-10-01 00:00:00", "2026-09-01 00:00:00", "2026-10-01 00:00:00", "2.88", "2.4",
            "0.24", "westeurope", "microsoft.compute/virtualmachines",
        )  # fmt: skip
        unused = azure.one("ResourceId", where="x_ChargeType = 'UnusedReservation'")
        assert unused == ("/benefits/Reservation",)


def test_azure_sets_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    actual, amortized = azure_sets()
    sets = {"a.csv": ACTUAL, "b.csv": AMORTIZED}
    later = [azure_row("Usage", "1"), *amortized]
    files = csv_file(tmp_path, "a.csv", *actual), csv_file(tmp_path, "b.csv", *later)
    with pytest.raises(SetsDiffer, match=r"holds 2\.6399\S+ EUR in 3 rows and AmortizedCost 3\.6399\S+ EUR in 4"):
        bill(tmp_path, "azure-actual-amortized", *files, datasets=sets).__enter__()
    # Two amortised sets, one of them called actual.
    files = csv_file(tmp_path, "a.csv", *amortized), csv_file(tmp_path, "b.csv", *amortized)
    with pytest.raises(SetsDiffer, match="ActualCost holds 4 rows of usage under a commitment with cost"):
        bill(tmp_path, "azure-actual-amortized", *files, datasets=sets).__enter__()


def test_azure_one_set_alone_loses_no_cost(tmp_path: Path) -> None:
    actual, amortized = azure_sets()
    with bill(tmp_path, "azure-actual-amortized", csv_file(tmp_path, "a.csv", *actual)) as alone:
        assert (
            alone.total("EffectiveCost")
            == alone.total("BilledCost")
            == sum(Decimal(row["CostInBillingCurrency"]) for row in actual)
        )
        assert [(r.rule, r.column, r.rows) for r in alone.export.counted] == [("no_amortized_set", "EffectiveCost", 3)]
    with bill(tmp_path, "azure-actual-amortized", csv_file(tmp_path, "b.csv", *amortized)) as alone:
        assert alone.total("EffectiveCost") == sum(Decimal(row["CostInBillingCurrency"]) for row in amortized)


def test_azure_headers_of_a_customer_agreement_in_another_case(tmp_path: Path) -> None:
    row = azure_row("Usage", "2.4", Date="2026-09-30")
    renamed = {"BillingCurrencyCode": "billingCurrency", "ProductName": "product", "SubscriptionId": "subscriptionid"}
    row = {renamed.get(key, key[0].lower() + key[1:]): value for key, value in row.items()}
    row |= {
        "billingProfileId": "profile",
        "invoiceId": "G1",
        "paygCostInBillingCurrency": "3",
        "costInPricingCurrency": "2",
    }
    with bill(tmp_path, "azure-actual-amortized", csv_file(tmp_path, "a.csv", row)) as azure:
        found = azure.one(
            "BillingAccountId", "BillingAccountType", "BillingCurrency", "InvoiceId", "ListCost", "SubAccountId",
            "ChargePeriodStart", "PricingCurrencyEffectiveCost",
        )  # fmt: skip
        assert found == ("profile", "Billing profile", "EUR", "G1", "3", "sub", "2026-09-30 00:00:00", "2")


def put_run(site: Site, kind: str, run: str, rows: list[Row], submitted: str = "2026-10-06T03:00:00Z") -> None:
    folder = f"{kind}/20260901-20260930/{run}"
    site.put_csv(f"{folder}/part_0.csv", *rows)
    body = {
        "dataRowCount": len(rows),
        "exportConfig": {"type": kind, "resourceId": "/x/providers/Microsoft.CostManagement/exports/" + kind},
        "runInfo": {"runId": run, "submittedTime": submitted, "startDate": "2026-09-01T00:00:00"},
        "blobs": [{"blobName": f"root/{folder}/part_0.csv"}],
    }
    site.put(f"{folder}/manifest.json", json.dumps(body))


@pytest.mark.long
def test_azure_a_period_waits_for_both_runs_and_a_new_run_replaces_it(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="azure-actual-amortized")
    actual, amortized = azure_sets()
    put_run(site, ACTUAL, "r1", actual)
    [waiting] = site.land()
    assert waiting.state == "waiting"
    assert "AmortizedCost of 2026-09 is not there, only ActualCost" in str(waiting.reason)
    put_run(site, AMORTIZED, "r1", amortized)
    [landed] = site.run("2026-09-30")
    assert (landed.state, landed.rows) == ("live", len(actual) + len(amortized) - 5), landed.reason
    _, deliveries = newest_deliveries(site.source)
    known = known_manifests(deliveries)
    assert len(known) == 2
    _, again = newest_deliveries(site.source, known)
    assert [(d.unchanged, d.generation) for d in again] == [(True, landed.generation)]
    assert known_manifests(again) == known
    # A new run of one set is read with the other, which has not changed.
    put_run(site, AMORTIZED, "r2", amortized, "2026-10-06T05:00:00Z")
    _, again = newest_deliveries(site.source, known)
    assert [(d.unchanged, d.generation, d.problems) for d in again] == [(False, "r1+r2", ())]


def test_azure_the_other_set_of_the_night_is_waited_for_but_not_for_ever(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="azure-actual-amortized")
    actual, amortized = azure_sets()
    put_run(site, ACTUAL, "r2", actual, "2026-09-07T03:00:00Z")
    put_run(site, AMORTIZED, "r1", amortized, "2026-09-06T03:00:00Z")
    soon, late = datetime(2026, 9, 7, 4, tzinfo=UTC), datetime(2026, 9, 7, 12, tzinfo=UTC)
    _, [delivery] = newest_deliveries(site.source, now=soon)
    assert "its new run is waited for" in delivery.problems[0]
    assert newest_deliveries(site.source, now=late)[1][0].problems == ()


def test_azure_files_without_manifest_are_told_apart_by_their_names(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="azure-actual-amortized", extra="")
    actual, amortized = azure_sets()
    site.put_csv("2026-09/actual.csv", *actual)
    site.put_csv("2026-09/Amortized.csv", *amortized)
    source = site.source.model_copy(update={"period_pattern": r"(?P<year>\d{4})-(?P<month>\d{2})"})
    _, [delivery] = newest_deliveries(source)
    assert dict(delivery.datasets) == {"2026-09/actual.csv": ACTUAL, "2026-09/Amortized.csv": AMORTIZED}


# ---- Google --------------------------------------------------------------------------------------


def tag_list(*tags: tuple[str, str]) -> list[Row]:
    return [{"key": key, "value": value} for key, value in tags]


PAIRS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))
RESOURCE_TAGS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string()), ("inherited", pa.bool_())]))


def gcp_schema(money: pa.DataType) -> pa.Schema:
    credit = pa.struct([(n, pa.string()) for n in ("name", "full_name", "id", "type")] + [("amount", money)])
    return pa.schema(
        [
            ("billing_account_id", pa.string()),
            ("service", pa.struct([("id", pa.string()), ("description", pa.string())])),
            ("sku", pa.struct([("id", pa.string()), ("description", pa.string())])),
            ("usage_start_time", pa.timestamp("us", "UTC")),
            ("usage_end_time", pa.timestamp("us", "UTC")),
            ("project", pa.struct([("id", pa.string()), ("name", pa.string()), ("labels", PAIRS)])),
            ("labels", PAIRS),
            ("system_labels", PAIRS),
            ("tags", RESOURCE_TAGS),
            ("location", pa.struct([("region", pa.string()), ("zone", pa.string())])),
            ("cost", money),
            ("currency", pa.string()),
            ("credits", pa.list_(credit)),
            ("invoice", pa.struct([("month", pa.string())])),
            ("cost_type", pa.string()),
            ("adjustment_info", pa.struct([("id", pa.string()), ("type", pa.string())])),
            ("usage", pa.struct([("amount", pa.float64()), ("unit", pa.string())])),
        ]
    )


def gcp_row(cost: Any, *credits: Row, **changes: Any) -> Row:
    return {
        "billing_account_id": "01-A",
        "service": {"id": "6F81", "description": "Compute Engine"},
        "sku": {"id": "S1", "description": "N2 Core"},
        "usage_start_time": datetime(2026, 10, 1, 5, tzinfo=UTC),
        "usage_end_time": datetime(2026, 10, 1, 6, tzinfo=UTC),
        "project": {"id": "shop", "name": "Shop", "labels": tag_list(("team", "by-project"), ("dept", "by-project"))},
        "labels": tag_list(("team", "by-label"), ("env", "by-label")),
        "system_labels": tag_list(("team", "by-system"), ("cores", "2")),
        "tags": [
            {"key": "env", "value": "own", "inherited": False},
            {"key": "env", "value": "inherited", "inherited": True},
        ],
        "location": {"region": "europe-west1", "zone": "europe-west1-b"},
        "cost": cost,
        "currency": "EUR",
        "credits": list(credits),
        "invoice": {"month": "202609"},
        "cost_type": "regular",
        "adjustment_info": None,
        "usage": {"amount": 3600.0, "unit": "seconds"},
    } | changes


def credit(amount: Any, kind: str = "PROMOTION") -> Row:
    return {"name": "n", "full_name": "Full name", "id": "c-1", "type": kind, "amount": amount}


@pytest.mark.parametrize("money", [pa.float64(), pa.decimal128(38, 9)])
def test_google_nested_parquet_with_credits_and_labels(tmp_path: Path, money: pa.DataType) -> None:
    def m(text: str) -> Any:
        return float(text) if money == pa.float64() else Decimal(text)

    rows = [
        gcp_row(m("0.3"), credit(m("-0.1")), credit(m("-0.2"))),
        gcp_row(m("0.000000001"), credit(m("-0.5"), "COMMITTED_USAGE_DISCOUNT")),
        gcp_row(m("1.1"), cost_type="tax", labels=None, system_labels=None, tags=[], project=None),
        gcp_row(m("-0.000001"), cost_type="rounding_error"),
        gcp_row(m("2"), adjustment_info={"id": "a", "type": "CORRECTION"}),
        gcp_row(m("9"), sku={"id": "S2", "description": "Commitment v1: Cpu in Belgium for 1 Year"}),
    ]
    pq.write_table(pa.Table.from_pylist(rows, gcp_schema(money)), tmp_path / "g.parquet")
    with bill(tmp_path, "gcp-detailed", tmp_path / "g.parquet") as google:
        found = google.all(
            "ChargeCategory", "CAST(BilledCost AS DECIMAL(38, 18))", "ChargeClass", "CommitmentDiscountStatus"
        )
        assert found == [
            ("Usage", Decimal("0"), None, None),
            ("Usage", Decimal("-0.499999999"), None, "Used"),
            ("Tax", Decimal("1.1"), None, None),
            ("Adjustment", Decimal("-0.000001"), None, None),
            ("Usage", Decimal("2"), "Correction", None),
            ("Purchase", Decimal("9"), None, None),
        ]
        assert (
            google.total("EffectiveCost")
            == google.total("BilledCost")
            == Decimal("11.600000000 ") - Decimal("1E-6") + Decimal("1E-9")
        )
        assert google.tags("source_row = 1") == {"team": "by-label", "dept": "by-project", "env": "own", "cores": "2"}
        assert google.tags("source_row = 3") == {}
        # The invoice's month, in Google's time, not the day's.
        period = google.one("BillingPeriodStart", "BillingPeriodEnd", where="source_row = 1")
        assert period == ("2026-09-01 07:00:00+00", "2026-10-01 07:00:00+00")
        place = google.one("SubAccountId", "RegionId", "AvailabilityZone", "ServiceCategory", where="source_row = 1")
        assert place == ("shop", "europe-west1", "europe-west1-b", "Compute")


@pytest.mark.long
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.decimals(-1000, 1000, places=9), st.lists(st.decimals(-1000, 1000, places=9), max_size=4)),
        min_size=1,
        max_size=8,
    )
)
def test_google_cost_with_all_its_credits_is_conserved(
    tmp_path: Path, items: list[tuple[Decimal, list[Decimal]]]
) -> None:
    rows = [gcp_row(cost, *(credit(amount) for amount in amounts)) for cost, amounts in items]
    pq.write_table(pa.Table.from_pylist(rows, gcp_schema(pa.decimal128(38, 9))), tmp_path / "g.parquet")
    with bill(tmp_path, "gcp-detailed", tmp_path / "g.parquet") as google:
        assert google.total("BilledCost") == sum(cost + sum(amounts) for cost, amounts in items)


def test_google_in_a_flat_csv(tmp_path: Path) -> None:
    row = {
        "billing_account_id": "01-A",
        "service_description": "BigQuery",
        "usage_start_time": "2026-10-01 05:00:00 UTC",
        "usage_end_time": "2026-10-01 06:00:00 UTC",
        "project.id": "shop",
        "labels": '[{"key": "team", "value": "core"}]',
        "cost": "0.3",
        "currency": "EUR",
        "credits": '[{"name": "n", "amount": -0.1}, {"name": "n", "amount": -0.05}]',
        "invoice.month": "202610",
    }
    rows = [row, row | {"credits": ""}, row | {"credits": "-0.1"}]
    with bill(tmp_path, "gcp-detailed", csv_file(tmp_path, "g.csv", *rows)) as google:
        assert google.all("BilledCost") == [("0.15",), ("0.3",), ("0.3",)]
        # What cannot be read is not a credit of nothing: the gate holds the day.
        assert [note.rule for note in google.export.notes] == ["not_a_tag_set", "not_a_credit_list"]
        assert google.all('"note 1"') == [(None,), (None,), ("-0.1",)]
        assert google.tags("source_row = 1") == {"team": "core"}
        assert google.one("ServiceCategory", "SubAccountId", where="source_row = 1") == ("Databases", "shop")


def test_google_is_landed_from_run_folders(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="gcp-detailed")
    folder = site.exports / "billing_period=2026-09" / "run=1"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([gcp_row(0.3, credit(-0.1))], gcp_schema(pa.float64())), folder / "0.parquet")
    site.put("billing_period=2026-09/run=1/manifest-0.json", '{"exported_at": "2026-10-02T00:00:00Z", "row_count": 1}')
    site.run_all("2026-10-01")
    [(billed, team, scope)] = site.rows(
        "2026-10-01", "BilledCost", "team", "CAST(BillingPeriodStart AS VARCHAR)", layer="facts"
    )
    assert (billed, team, scope) == (Decimal("0.2"), "by-label", "2026-09-01 07:00:00")


# ---- Oracle --------------------------------------------------------------------------------------


def oci_row(cost: str, **changes: str) -> Row:
    return {
        "lineItem/referenceNo": "r1",
        "lineItem/tenantId": "ocid1.tenancy.1",
        "lineItem/intervalUsageStart": "2026-09-01T05:00Z",
        "lineItem/intervalUsageEnd": "2026-09-01T06:00Z",
        "product/service": "COMPUTE",
        "product/compartmentId": "ocid1.compartment.1",
        "product/compartmentName": "shop",
        "product/region": "eu-frankfurt-1",
        "product/resourceId": "ocid1.instance.1",
        "usage/billedQuantity": "1",
        "cost/productSku": "B1",
        "cost/unitPrice": cost.lstrip("-"),
        "cost/myCost": cost,
        "cost/currencyCode": "USD",
        "cost/skuUnitDescription": "OCPU per hour",
        "lineItem/isCorrection": "false",
        "lineItem/backreferenceNo": "",
        "tags/Finance.Team": "core",
        "tags/env": "",
    } | changes


def test_oci_cost_reports_beside_the_focus_ones(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="oci-cost-report")
    site.put("FOCUS Reports/2026/09/02/1.csv", csv_text([focus_row("2026-09-01")]))
    site.put("reports/usage-csv/1.csv", "a\n1\n")
    wrong = {"lineItem/isCorrection": "true", "lineItem/backreferenceNo": "r1"}
    site.put_csv("reports/cost-csv/0001.csv", oci_row("0.5"), oci_row("-0.000000000000000001", **wrong))
    [landed] = site.run("2026-09-01")
    assert (landed.scope, landed.state, landed.rows) == ("reports/cost-csv/0001.csv", "live", 2), landed.reason
    rows = site.rows("2026-09-01", "BilledCost", "ChargeClass", "x_BackReferenceNumber", "Tags")
    assert rows == [
        (Decimal("0.5"), None, None, '{"Finance.Team":"core"}'),
        (Decimal("-1E-18"), "Correction", "r1", '{"Finance.Team":"core"}'),
    ]
    assert site.judge("2026-09-01")["conforms", "2026-09-01"].passed


# ---- what every converter keeps to ---------------------------------------------------------------

SAMPLES: dict[str, Callable[[], list[Row]]] = {
    "aws-cur": cur_month,
    "azure-actual-amortized": lambda: [*azure_sets()[0], azure_row("UnusedReservation", "1", "Reservation"), azure_row("Odd", "1", "Odd")],
    "oci-cost-report": lambda: [oci_row("1"), oci_row("1", **{"product/service": "SOMETHING_NEW"})],
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("layout", [*SAMPLES, "gcp-detailed"])
def test_closed_lists_hold_only_allowed_values_and_every_broken_rule_is_listed(
    make_site: Callable[..., Site], layout: str
) -> None:
    site = make_site(layout=layout)
    day = {"azure-actual-amortized": "2026-09-30", "gcp-detailed": "2026-10-01"}.get(layout, "2026-09-01")
    if layout == "gcp-detailed":
        site.exports.mkdir()
        rows = [gcp_row(1.0, credit(-1.0, "FEE_UTILIZATION_OFFSET")), gcp_row(1.0, cost_type="odd", project=None)]
        pq.write_table(pa.Table.from_pylist(rows, gcp_schema(pa.float64())), site.exports / "g.parquet")
    else:
        site.put_csv("bill.csv", *SAMPLES[layout]())
    [landed] = site.run(day)
    assert landed.state == "live", landed.reason
    findings = [f for f in judge_source(site.platform, site.source, landed.days) if f.rule.severity == "error"]
    broken = {f.rule.id: f.examples for f in findings if f.state == "failed"}
    assert broken == {}, "what the mapping lists is a known gap"
    listed = native_layouts()[layout].exceptions
    reasons = {f.reason for f in findings if f.state == "known_gap" and "is a known gap of" not in f.reason}
    assert reasons <= set(listed.values())
    if layout == "aws-cur":
        assert reasons
    for column in columns().values():
        if column.allowed:
            found = {value for (value,) in site.rows(day, column.name)} - {None}
            assert found <= set(column.allowed), column.name
    verdict = site.judge(day)["conforms", day]
    assert verdict.passed, verdict.message


@pytest.mark.long
@pytest.mark.parametrize("layout", sorted(native_layouts()))
def test_a_bill_with_no_more_columns_than_it_needs_is_read(make_site: Callable[..., Site], layout: str) -> None:
    known = {"lineItem/LineItemType": "Usage", "ChargeType": "Usage", "invoice.month": "202609"}
    needed = [name.partition("|")[0] for name in native_layouts()[layout].needs]
    times = {n: "2026-09-01 00:00:00" for n in needed if n.casefold().endswith(("date", "time", "start"))}
    site = make_site(layout=layout)
    site.put_csv("bill.csv", {name: (known | times).get(name, "0.5") for name in needed})
    [landed] = site.run("2026-09-01")
    assert (landed.state, landed.rows) == ("live", 1), landed.reason
    assert site.rows("2026-09-01", "BilledCost", "EffectiveCost", "Tags") == [(Decimal("0.5"), Decimal("0.5"), None)]


def test_columns_of_another_bill_are_refused_with_the_layout_to_choose(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="files")
    site.put_csv("cur.csv", cur_row("Usage", "1"))
    [refused] = site.land()
    assert "set layout: aws-cur on the source" in str(refused.reason)


@pytest.mark.parametrize(
    ("layout", "row", "said"),
    [
        ("aws-cur", focus_row(), "FOCUS already, not AWS Cost and Usage Report"),
        ("aws-cur", azure_row("Usage", "1"), "set layout: azure-actual-amortized"),
        ("oci-cost-report", {"a": "1"}, "it has no column cost/myCost, lineItem/intervalUsageStart"),
    ],
)
def test_a_native_layout_refuses_what_is_not_of_it(
    make_site: Callable[..., Site], layout: str, row: Row, said: str
) -> None:
    site = make_site(layout=layout)
    site.put_csv("bill.csv", row)
    [refused] = site.land()
    assert refused.state == "refused"
    assert said in str(refused.reason)


@pytest.mark.long
def test_what_is_no_number_or_too_fine_is_found_as_in_any_export(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="azure-actual-amortized")
    site.put_csv("a.csv", azure_row("Usage", "0.12345678901234567850"), azure_row("Usage", "free"))
    site.run("2026-09-30")
    [(billed, repairs), (none, other)] = site.rows("2026-09-30", "BilledCost", "repairs")
    assert (billed, none) == (Decimal("0.123456789012345678"), None)
    assert {"rule": "rounded", "column": "BilledCost", "found": "0.12345678901234567850"} in json.loads(repairs)
    assert {"rule": "not_a_number", "column": "BilledCost", "found": "free"} in json.loads(other)


def azure_days(*written: str, period: tuple[str, str] = ("01/09/2026", "30/09/2026")) -> list[Row]:
    starts, ends = period
    return [
        azure_row("Usage", "1", Date=day, BillingPeriodStartDate=starts, BillingPeriodEndDate=ends) for day in written
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    ("rows", "days", "rule"),
    [
        (azure_days("01/09/2026", "02/09/2026", "14/09/2026"), ["2026-09-01", "2026-09-02", "2026-09-14"], SLASHED),
        (azure_days("01/09/2026", "02/09/2026"), ["2026-09-01", "2026-09-02"], SLASHED),
        (
            azure_days("09/01/2026", "09/14/2026", period=("09/01/2026", "09/30/2026")),
            ["2026-09-01", "2026-09-14"],
            None,
        ),
        (azure_days("02/09/2026", period=("", "")), ["2026-02-09"], ASSUMED),
    ],
    ids=["proved by a day", "proved by the period", "as documented", "not proved"],
)
def test_azure_dates_are_read_by_the_file_s_own_proof(
    make_site: Callable[..., Site], rows: list[Row], days: list[str], rule: str | None
) -> None:
    """Another file of the other order beside it changes nothing."""
    site = make_site(layout="azure-actual-amortized", first_day="2025-01-01")
    site.put_csv("a.csv", *rows)
    site.put_csv("b.csv", *azure_days("12/31/2025", period=("12/01/2025", "12/31/2025")))
    landed = {g.scope: g for g in site.land()}
    assert sorted(day.isoformat() for day in landed["a.csv"].days) == days
    assert [day.isoformat() for day in landed["b.csv"].days] == ["2025-12-31"]
    dates = [r.rule for r in landed["a.csv"].repaired if r.rule in (SLASHED, ASSUMED)]
    assert dates == ([rule] if rule else [])
    if rule == SLASHED:
        site.compose(days[0])
        assert site.value(days[0], "BillingPeriodStart").date() == date(2026, 9, 1)
        assert site.value(days[0], "BillingPeriodEnd").date() == date(2026, 10, 1)


def test_azure_dates_that_contradict_each_other_are_not_read(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="azure-actual-amortized")
    site.put_csv("a.csv", *azure_days("14/09/2026", "09/15/2026"))
    [refused] = site.land()
    assert refused.state == "refused"
    assert "no readable ChargePeriodStart" in (refused.reason or "")


# ---- layouts -------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("prefix", ["", "deep/"])
@pytest.mark.parametrize(
    "key", ["acme/20260901-20261001/as-1/acme-1.csv", "acme/acme/year=2026/month=9/acme-00001.csv"]
)
def test_legacy_reports_are_read_by_the_newest_manifest(make_site: Callable[..., Site], prefix: str, key: str) -> None:
    site = make_site(layout="aws-cur")
    site.put_csv(f"{prefix}{key}", cur_row("Usage", "1"))
    manifest = {
        "assemblyId": "as-1",
        "billingPeriod": {"start": "20260901T000000.000Z"},
        "columns": [{"category": "lineItem", "name": "UsageStartDate"}],
        "reportKeys": [f"bucket-prefix/{key}"],
    }
    site.put(f"{prefix}acme/20260901-20261001/acme-Manifest.json", json.dumps(manifest))
    site.put(f"{prefix}acme/20260901-20261001/as-0/acme-Manifest.json", "{}")
    [landed] = site.run("2026-09-01")
    assert (landed.scope, landed.generation, landed.state, landed.rows) == ("2026-09", "as-1", "live", 1), landed.reason
    manifest["reportKeys"] = [f"bucket-prefix/{key}", f"bucket-prefix/{key}.gone.csv"]
    site.put(f"{prefix}acme/20260901-20261001/acme-Manifest.json", json.dumps(manifest))
    [waiting] = site.land()
    assert waiting.state == "waiting"


@pytest.mark.long
def test_legacy_data_before_its_manifest_waits_and_then_counts_once(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="aws-cur")
    for assembly, cost in (("v1", "9.99"), ("v2", "1.10")):
        site.put_csv(f"acme/20260901-20261001/{assembly}/acme-1.csv", cur_row("Usage", cost))
        body = {
            "assemblyId": assembly,
            "reportKeys": [f"acme/20260901-20261001/{assembly}/acme-1.csv"],
            "columns": [{"name": "UsageStartDate"}],
        }
        # A copy beside the files names them too; the one that counts lies above.
        site.put(f"acme/20260901-20261001/{assembly}/acme-Manifest.json", json.dumps(body))
    [waits] = site.run("2026-09-01")
    assert (waits.scope, waits.state) == ("2026-09", "waiting")
    assert "acme/20260901-20261001/ has no manifest directly in it" in (waits.reason or "")
    site.put("acme/20260901-20261001/acme-Manifest.json", json.dumps(body))
    [landed] = site.run("2026-09-01")
    assert (landed.state, landed.generation) == ("live", "v2")
    assert [cost for (cost,) in site.rows("2026-09-01", "BilledCost")] == [Decimal("1.10")]


def test_azure_parts_before_their_manifest_wait(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="azure-actual-amortized")
    site.put_csv("exp/20260901-20260930/guid/part_0_0001.csv", *azure_sets()[0])
    [waits] = site.land()
    assert waits.state == "waiting"
    assert "part_0_0001.csv is a part of an export whose manifest.json is not there" in (waits.reason or "")


@pytest.mark.long
def test_files_that_were_taken_one_by_one_are_replaced_by_the_period_that_holds_them(
    make_site: Callable[..., Site],
) -> None:
    """Data that lies where no manifest was looked for, until one names it."""
    site = make_site(layout="aws-cur")
    key = "acme/acme/year=2026/month=9/acme-00001.csv"
    site.put_csv(key, cur_row("Usage", "1.10"))
    [alone] = site.run("2026-09-01")
    assert (alone.scope, alone.state) == (key, "live")
    body = {"assemblyId": "1", "columns": [{"name": "UsageStartDate"}], "reportKeys": [key]}
    site.put("acme/20260901-20261001/acme-Manifest.json", json.dumps(body))
    [period] = site.run("2026-09-01")
    assert (period.scope, period.state) == ("2026-09", "live"), period.reason
    assert [cost for (cost,) in site.rows("2026-09-01", "BilledCost")] == [Decimal("1.10")]
    assert [g.state for g in site.generations(key)] == ["superseded"]


def put_data_export(site: Site, table: pa.Table) -> None:
    folder = site.exports / "data" / "BILLING_PERIOD=2026-09"
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "cur-00001.parquet")
    body = {
        "executionId": "e1",
        "columns": [{"name": name} for name in table.column_names],
        "dataFiles": ["s3://b/x/data/BILLING_PERIOD=2026-09/cur-00001.parquet"],
    }
    site.put("metadata/BILLING_PERIOD=2026-09/cur-Manifest.json", json.dumps(body))


@pytest.mark.long
def test_cur_2_by_its_data_export_and_the_focus_layout_says_what_to_set(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="aws-cur")
    put_data_export(site, cur2_table())
    site.run_all("2026-09-01")
    assert [team for (team,) in site.rows("2026-09-01", "team", layer="facts")] == ["core", None]
    _, [delivery] = newest_deliveries(site.source.model_copy(update={"layout": "aws-data-exports"}))
    assert "set layout: aws-cur" in delivery.problems[0]
    assert "set layout: aws-cur" in inspect(str(site.exports)).yaml.replace("layout:", "set layout:")


def test_inspect_knows_native_bills_by_their_columns(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.put_csv("bill.csv", *azure_sets()[0])
    found = inspect(str(site.exports))
    assert found.layout == "azure-actual-amortized"
    assert found.sample is not None
    assert (found.sample.provider, found.sample.missing) == ("Microsoft", ())


# ---- dialects of FOCUS ---------------------------------------------------------------------------


def test_the_names_of_the_preview_are_read_and_counted(make_site: Callable[..., Site]) -> None:
    site = make_site(layout="oci-focus")
    row = focus_row(PricingCategory="On-Demand", ChargeSubCategory="Used Commitment", Region="eu-frankfurt-1")
    old = {
        "ProviderName": "Provider",
        "PublisherName": "Publisher",
        "InvoiceIssuerName": "InvoiceIssuer",
        "PricingQuantity": "UsageQuantity",
        "PricingUnit": "UsageUnit",
    }
    row = {old.get(name, name): value for name, value in row.items() if name != "ContractedCost"}
    site.put_csv("FOCUS Reports/2026/09/02/1.csv", row)
    [landed] = site.run("2026-09-01")
    assert landed.focus_version == "1.0"
    got = site.rows(
        "2026-09-01", "ProviderName", "PublisherName", "InvoiceIssuerName", "RegionId", "ConsumedQuantity",
        "ConsumedUnit", "PricingCategory", "CommitmentDiscountStatus", "Region",
    )  # fmt: skip
    assert got == [("Cloud", "Cloud", "Cloud", "eu-frankfurt-1", 1, "Hours", "Standard", "Used", "eu-frankfurt-1")]
    assert any("focus-1.0-preview RegionId" in str(each) or _says(each, "RegionId") for each in _repairs(landed))


def _repairs(landed: Any) -> list[Any]:
    repairs = landed.repairs
    return list(repairs.items()) if isinstance(repairs, Mapping) else list(repairs)


def _says(repair: Any, column: str) -> bool:
    return getattr(repair, "rule", "") == "dialect focus-1.0-preview" and repair.column == column


def focus_export_row(**changes: Any) -> Row:
    return {k: v for k, v in focus_row().items() if k != "Tags"} | changes


def test_googles_focus_export_has_its_tags_from_labels_in_their_order(make_site: Callable[..., Site]) -> None:
    site = make_site()
    key_value = pa.list_(pa.struct([("Key", pa.string()), ("Value", pa.string())]))
    own = pa.list_(pa.struct([("Key", pa.string()), ("Value", pa.string()), ("x_Inherited", pa.bool_())]))
    site.put_parquet(
        "a.parquet",
        focus_export_row(
            x_Labels=[{"Key": "team", "Value": "label"}, {"Key": "squad", "Value": "label"}],
            x_ProjectLabels=[{"Key": "team", "Value": "project"}, {"Key": "dept", "Value": "project"}],
            x_Tags=[
                {"Key": "squad", "Value": "tag", "x_Inherited": False},
                {"Key": "squad", "Value": "folder", "x_Inherited": True},
            ],
        ),
        types={"x_Labels": key_value, "x_ProjectLabels": key_value, "x_Tags": own},
    )
    site.run("2026-09-01")
    assert json.loads(site.value("2026-09-01", "Tags")) == {"team": "label", "squad": "tag", "dept": "project"}


def test_the_same_as_texts_and_what_is_no_list_is_found(make_site: Callable[..., Site]) -> None:
    site = make_site()
    labels = '[{"Key": "team", "Value": "label \\"Key\\": x"}]'
    site.put_csv(
        "a.csv",
        focus_export_row(x_Labels=labels, x_ProjectLabels='{"team": "p", "dept": "p"}'),
        focus_export_row(x_Labels="team=core", x_ProjectLabels=""),
    )
    site.run("2026-09-01")
    (good, none), (bad, repairs) = site.rows("2026-09-01", "Tags", "repairs")
    assert json.loads(good) == {"team": 'label "Key": x', "dept": "p"}
    assert (none, bad) == (None, None)
    assert json.loads(repairs) == [{"rule": "not_a_tag_set", "column": "Tags", "found": "team=core"}]


def test_googles_view_repeats_keys_and_ends_the_period_on_its_last_day(make_site: Callable[..., Site]) -> None:
    site = make_site()
    item = pa.list_(pa.struct([(n, pa.string()) for n in ("key", "value", "x_type")] + [("x_inherited", pa.bool_())]))

    def tag(key: str, value: str, kind: str, inherited: bool = False) -> Row:
        return {"key": key, "value": value, "x_type": kind, "x_inherited": inherited}

    tags = [
        tag("team", "own", "tag"), tag("team", "folder", "tag", True), tag("team", "label", "label"),
        tag("squad", "label", "label"), tag("squad", "project", "project_label"), tag("squad", "system", "system_label"),
    ]  # fmt: skip
    row = focus_row(Tags=tags, BillingPeriodStart="2026-09-01T07:00:00Z", BillingPeriodEnd="2026-09-30T07:00:00Z")
    site.put_parquet("a.parquet", row, types={"Tags": item})
    site.run("2026-09-01")
    assert json.loads(site.value("2026-09-01", "Tags")) == {"team": "own", "squad": "label"}
    assert site.value("2026-09-01", "CAST(BillingPeriodEnd AS VARCHAR)") == "2026-10-01 07:00:00"


def test_an_export_that_speaks_no_dialect_is_left_alone(tmp_path: Path) -> None:
    csv_file(tmp_path, "a.csv", focus_row(x_Labels="kept"))
    with connect(EngineSettings(), tmp_path / "spill") as connection:
        export = open_export(connection, "bill", "scope", tmp_path, ["a.csv"], tmp_path)
        assert spoken_dialect(SourceColumns(connection, export)) is None


# ---- real bills ----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.skipif(not NATIVE.is_dir(), reason="the native bills are not here")
@pytest.mark.parametrize(
    ("file", "layout", "rows", "total", "currency"),
    [
        ("aws_cur_sample.csv", "aws-cur", 1281, "1.68230869740", "USD"),
        ("azure_ea_sample.csv", "azure-actual-amortized", 27, "1.26136926505726", "CAD"),
        ("oci_cost_report_sample.csv", "oci-cost-report", 506, "2.523589325400648027", "USD"),
    ],
)
def test_real_bills_are_exact_to_the_rollup(
    make_site: Callable[..., Site], file: str, layout: str, rows: int, total: str, currency: str
) -> None:
    site = make_site(layout=layout, first_day="2023-01-01")
    site.put("bill.csv", (NATIVE / file).read_bytes())
    [landed] = site.land()
    assert (landed.state, landed.rows) == ("live", rows), landed.reason
    days = sorted(day.isoformat() for day in landed.days)
    site.run_all(*days)
    verdicts = [v for (gate, _), v in site.judge(*days).items() if gate == "conforms"]
    assert [v.message for v in verdicts if not v.passed] == []
    with site.platform.warehouse.reading() as connection:
        found = connection.execute(
            "SELECT BillingCurrency, sum(billed_cost), sum(row_count) FROM daily_cost_by_team GROUP BY 1"
        ).fetchall()
    assert found == [(currency, Decimal(total), rows)]


def test_a_mapping_that_contradicts_itself_is_named() -> None:
    from finops_assets.ingest.conversion.mapping import _dialect

    with pytest.raises(ValueError, match="BilledCosts is no FOCUS column"):
        _dialect("x", {"title": "", "authority": "", "columns": {"BilledCosts": {"sql": "1"}}})
    with pytest.raises(ValueError, match="kind 'impossible' with sql '1'"):
        _dialect("x", {"title": "", "authority": "", "columns": {"BilledCost": {"sql": "1", "kind": "impossible"}}})
    assert isinstance(dialects()["aws-cur"], Dialect)
