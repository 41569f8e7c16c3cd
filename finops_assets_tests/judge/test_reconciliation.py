"""Invoices, native bills and second sources against the lake: every class of difference, with exact figures."""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from finops_assets.base.errors import FinopsError
from finops_assets.base.period import days_between
from finops_assets.cli.program import app
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.judge.reconciliation.invoice import (
    DIFFERS,
    MATCHED,
    NOT_IN_DATA,
    NOT_INVOICED,
    NOT_ON_INVOICE,
    Reconciliation,
    reconcile_invoices,
)
from finops_assets.judge.reconciliation.invoice_file import read_invoices
from finops_assets.judge.reconciliation.overlap import compare_bills, compare_sources
from finops_assets.judge.reconciliation.same_cost import AGREES, Comparison
from finops_assets.judge.reconciliation.tolerance import Tolerance, invoice_default
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets.settings.sources import Source
from finops_assets_tests.conftest import Row, csv_text, focus_row

pytestmark = pytest.mark.slow  # by its time, not by what it needs

D = Decimal


@dataclass
class Books:
    """A platform with the source `a`, its shadow `b`, and whatever a test delivers to them."""

    folder: Path
    sources: dict[str, str] = field(default_factory=lambda: {"a": "", "b": ", shadow_of: a"})

    @cached_property
    def platform(self) -> Platform:
        entries = "".join(
            f"  - {{name: {name}, uri: {name}, layout: files{more}}}\n" for name, more in self.sources.items()
        )
        text = (
            f"first_day: 2026-09-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nsources:\n{entries}"
            "dimensions:\n  team: {keys: [team]}\n  department: {keys: [dept]}\n"
        )
        file = self.folder / "finops.yaml"
        file.write_text(text)
        return Platform(parse_settings(text, file))

    def deliver(self, source: str, *rows: Row, name: str = "bill.csv") -> None:
        """Write a delivery, land it, and compose the raw days of 1 September to 3 October."""
        file = self.folder / source / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(csv_text(rows))
        p = self.platform
        landed = land_source(p.lake, p.settings.engine, p.settings.source(source), p.settings.first_day)
        assert [g.reason for g in landed if g.state != "live"] == []
        days = days_between(date(2026, 9, 1), date(2026, 10, 4))
        compose_days(p.lake, p.settings.engine, p.settings.source(source), days)

    def invoices(
        self, text: str, *sources: str, period: str | None = None, tolerance: Tolerance | None = None
    ) -> Reconciliation:
        file = self.folder / "invoices.csv"
        file.write_text(text)
        return reconcile_invoices(self.platform, read_invoices(file, period), sources, tolerance)

    def compare(self, first: str = "2026-09-01", end: str = "2026-09-02", **options: Any) -> Comparison:
        days = days_between(date.fromisoformat(first), date.fromisoformat(end))
        return compare_sources(self.platform, "a", "b", days, **options)

    def finops(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and what was printed."""
        _ = self.platform
        result = CliRunner().invoke(app, [*arguments, "--config", str(self.folder / "finops.yaml")])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def charge(day: str = "2026-09-01", invoice: str = "INV-1", billed: str = "10", **changes: Any) -> Row:
    """A row on an invoice, of one resource; its billing period is the month of `day` unless `changes` says otherwise."""
    year, month = int(day[:4]), int(day[5:7])
    return (
        focus_row(day)
        | {
            "BilledCost": billed,
            "EffectiveCost": billed,
            "BillingPeriodEnd": f"{year + month // 12}-{month % 12 + 1:02}-01T00:00:00Z",
            "InvoiceId": invoice,
            "SubAccountId": "prod",
            "ResourceId": "vm-1",
            "SkuId": "s-1",
        }
        | changes
    )


def without(row: Row, *columns: str) -> Row:
    return {name: value for name, value in row.items() if name not in columns}


def statuses(found: Reconciliation) -> dict[str | None, str]:
    return {row["InvoiceId"]: row["status"] for row in found.invoices.to_dict("records")}


def figures(found: Reconciliation, invoice: str) -> tuple[Decimal, Decimal, Decimal, Decimal, int]:
    """Invoiced, billed, difference, allowed, rows."""
    [row] = [r for r in found.invoices.to_dict("records") if r["InvoiceId"] == invoice]
    return row["invoiced"], row["billed"], row["difference"], row["allowed"], row["row_count"]


def reasons(found: Reconciliation) -> dict[str, tuple[int, Decimal, Decimal, bool]]:
    """Reason -> rows, amount, what is left, whether that explains the difference."""
    return {
        r["reason"]: (r["row_count"], r["amount"], r["left"], r["explains"]) for r in found.reasons.to_dict("records")
    }


def parts(found: Reconciliation, dimension: str) -> dict[str, tuple[Decimal | None, Decimal, Decimal | None, int]]:
    """Value -> invoiced, billed, difference, rows."""
    return {
        p["value"]: (p["invoiced"], p["billed"], p["difference"], p["row_count"])
        for p in found.parts.to_dict("records")
        if p["dimension"] == dimension
    }


HEADER = "InvoiceIssuerName,InvoiceId,period,currency,amount\n"


def test_the_tolerance_is_that_of_focus_1_4() -> None:
    assert invoice_default("USD", 40_000) == D("1")  # 100 subunits; the root comes to as much
    assert invoice_default("USD", 160_000) == D("2")
    assert invoice_default("JPY", 1) == D("100")
    assert invoice_default("KWD", 1) == D("0.1")


def test_an_invoice_matches_within_the_tolerance_and_not_one_digit_beyond(books: Books) -> None:
    third = "0.333333333333333333"
    books.deliver("a", *(charge(billed=third) for _ in range(3)), charge(invoice="INV-2", billed="7"))
    found = books.invoices(
        HEADER + "Cloud,INV-1,2026-09,USD,1.999999999999999999\nCloud,INV-2,2026-09,USD,5.999999999999999999\n"
    )
    assert figures(found, "INV-1") == (D("1.999999999999999999"), D("0.999999999999999999"), D("-1"), D("1.00"), 3)
    assert figures(found, "INV-2") == (D("5.999999999999999999"), D("7"), D("1.000000000000000001"), D("1.00"), 1)
    assert statuses(found) == {"INV-1": MATCHED, "INV-2": DIFFERS}
    assert not found.reconciles


def test_a_tolerance_of_ones_own(books: Books) -> None:
    books.deliver("a", charge(billed="100"))
    invoice = HEADER + "Cloud,INV-1,2026-09,USD,103\n"
    assert statuses(books.invoices(invoice)) == {"INV-1": DIFFERS}
    assert statuses(books.invoices(invoice, tolerance=Tolerance(amount=D("3")))) == {"INV-1": MATCHED}
    assert statuses(books.invoices(invoice, tolerance=Tolerance(amount=D("2.99")))) == {"INV-1": DIFFERS}
    assert statuses(books.invoices(invoice, tolerance=Tolerance(percent=D("3")))) == {"INV-1": MATCHED}
    assert statuses(books.invoices(invoice, tolerance=Tolerance(D("0"), D("3")))) == {"INV-1": MATCHED}


def test_missing_on_either_side_and_not_invoiced_yet_are_told_apart(books: Books) -> None:
    books.deliver("a", charge(), charge(invoice="INV-9", billed="4"), charge(invoice="", billed="2.5"))
    found = books.invoices(HEADER + "Cloud,INV-1,2026-09,USD,10\nCloud,INV-2,2026-09,USD,2.5\n")
    assert statuses(found) == {"INV-1": MATCHED, "INV-2": NOT_IN_DATA, "INV-9": NOT_ON_INVOICE, None: NOT_INVOICED}
    assert figures(found, "INV-2") == (D("2.5"), D(0), D("-2.5"), D("1.00"), 0)
    assert figures(found, "INV-9")[:3] == (D(0), D("4"), D("4"))
    # Just so much is billed and on no invoice yet: it may be this one.
    assert reasons(found) == {"not invoiced yet": (1, D("-2.5"), D("0"), True)}


def test_what_is_not_invoiced_yet_does_not_fail(books: Books) -> None:
    books.deliver("a", charge(), charge(invoice="", billed="2.5"))
    assert books.invoices(HEADER + "Cloud,INV-1,2026-09,USD,10\n").reconciles


def test_rounding_of_every_row_explains_a_difference(books: Books) -> None:
    books.deliver("a", *(charge(billed="0.014", ChargeDescription=f"row {n}") for n in range(400)))
    found = books.invoices(HEADER + "Cloud,INV-1,2026-09,USD,4.00\n")
    assert figures(found, "INV-1") == (D("4.00"), D("5.6"), D("1.6"), D("1.00"), 400)
    assert reasons(found) == {"the invoice rounds each row": (400, D("1.6"), D("0"), True)}


def test_a_correction_of_another_period_explains_a_difference(books: Books) -> None:
    books.deliver(
        "a",
        charge("2026-10-01", invoice="INV-10", billed="20"),
        charge("2026-10-02", invoice="INV-10", billed="3", ChargePeriodStart="2026-09-28T00:00:00Z"),
        charge(
            "2026-10-01",
            invoice="INV-10",
            billed="-5",
            ChargeClass="Correction",
            ChargePeriodStart="2026-09-29T00:00:00Z",
            ResourceId="vm-7",
        ),
    )
    found = books.invoices(HEADER + "Cloud,INV-10,2026-10,USD,23\n")
    assert figures(found, "INV-10")[:3] == (D("23"), D("18"), D("-5"))
    assert reasons(found) == {
        "corrections": (1, D("-5"), D("0"), True),
        "outside the billing period": (1, D("3"), D("-8"), False),
    }
    listed = found.rows[found.rows["reason"] == "corrections"].to_dict("records")
    assert [(r["ResourceId"], r["BilledCost"], r["found_in"]) for r in listed] == [("vm-7", D("-5"), "bill.csv, row 3")]
    assert found.rows[found.rows["reason"] == "one row of the difference"]["ResourceId"].to_list() == ["vm-7"]


def test_a_correction_booked_in_a_later_period_under_the_same_invoice_is_found(books: Books) -> None:
    books.deliver("a", charge(), charge("2026-10-01", billed="6", ChargeClass="Correction"))
    found = books.invoices(HEADER + "Cloud,INV-1,2026-09,USD,16\n")
    assert figures(found, "INV-1")[:3] == (D("16"), D("10"), D("-6"))
    assert reasons(found) == {"this InvoiceId under another period or issuer": (1, D("-6"), D("0"), True)}


def test_an_account_that_is_missing_on_one_side_explains_a_difference(books: Books) -> None:
    books.deliver("a", charge(), charge(billed="4", SubAccountId="dev"), charge(billed="1", SubAccountId="lab"))
    found = books.invoices(
        "issuer,invoice,period,currency,amount,account,category\n"
        "Cloud,INV-1,2026-09,USD,10,prod,Usage\nCloud,INV-1,2026-09,USD,4,dev,Usage\n"
        "Cloud,INV-1,2026-09,USD,7,sandbox,Usage\nCloud,INV-1,2026-09,USD,0.9,lab,Tax\n"
    )
    assert figures(found, "INV-1")[:3] == (D("21.9"), D("15"), D("-6.9"))
    assert parts(found, "SubAccountId") == {
        "sandbox": (D("7"), D(0), D("-7"), 0),
        "lab": (D("0.9"), D("1"), D("0.1"), 1),
        "dev": (D("4"), D("4"), D("0"), 1),
        "prod": (D("10"), D("10"), D("0"), 1),
    }
    assert parts(found, "ServiceName") == {"Machines": (None, D("15"), None, 3)}  # the file says nothing of services
    assert reasons(found) == {
        "SubAccountId sandbox is in the invoice only": (0, D("-7"), D("0.1"), True),
        "ChargeCategory Tax is in the invoice only": (0, D("-0.9"), D("-6.0"), False),
    }


def test_tax_that_the_invoice_states_elsewhere_explains_a_difference(books: Books) -> None:
    books.deliver("a", charge(billed="90"), charge(billed="7.551", ChargeCategory="Tax"), charge(billed="-7.4"))
    found = books.invoices(HEADER + "Cloud,INV-1,2026-09,USD,82.60\n")
    assert reasons(found)["all of ChargeCategory Tax is in the data only"] == (1, D("7.551"), D("0.000"), True)


def test_repeated_rows_explain_a_difference(books: Books) -> None:
    books.deliver("a", charge(), charge(), charge(billed="3", ResourceId="vm-2"), charge())
    found = books.invoices(HEADER + "Cloud,INV-1,2026-09,USD,13\n")
    assert figures(found, "INV-1")[:3] == (D("13"), D("33"), D("20"))
    assert reasons(found) == {"repeated rows": (2, D("20"), D("0"), True)}
    listed = found.rows[found.rows["reason"] == "repeated rows"]
    assert listed["found_in"].to_list() == ["bill.csv, row 2", "bill.csv, row 4"]


def test_currencies_are_never_added(books: Books) -> None:
    books.deliver("a", charge(), charge(billed="7", BillingCurrency="EUR"))
    both = books.invoices(HEADER + "Cloud,INV-1,2026-09,USD,10\nCloud,INV-1,2026-09,EUR,7\n")
    assert [(r["BillingCurrency"], r["billed"], r["status"]) for r in both.invoices.to_dict("records")] == [
        ("EUR", D("7"), MATCHED),
        ("USD", D("10"), MATCHED),
    ]
    one = books.invoices(HEADER + "Cloud,INV-1,2026-09,USD,17\n")
    assert [(r["BillingCurrency"], r["difference"], r["status"]) for r in one.invoices.to_dict("records")] == [
        ("EUR", D("7"), NOT_ON_INVOICE),
        ("USD", D("-7"), DIFFERS),
    ]
    # Seven euros are not the seven dollars that are missing.
    assert not one.reasons["explains"].any()


def test_the_same_invoice_in_another_currency_is_told_in_that_currency(books: Books) -> None:
    books.deliver("a", charge(billed="7", BillingCurrency="EUR", BillingPeriodStart="2026-08-01T00:00:00Z"), charge())
    found = books.invoices(HEADER + "Cloud,INV-1,2026-09,USD,17\n")
    [other] = found.reasons.to_dict("records")
    assert other["reason"] == "this InvoiceId in another currency: 7 EUR"
    assert (other["BillingCurrency"], other["amount"], other["explains"]) == ("USD", None, False)


def test_a_source_that_names_no_invoices_is_compared_by_period(books: Books) -> None:
    books.deliver("a", without(charge(), "InvoiceId"), without(charge("2026-09-02", billed="5"), "InvoiceId"))
    found = books.invoices(HEADER + "Cloud,INV-1,2026-09,USD,9\nCloud,INV-2,2026-09,USD,6\n")
    assert figures(found, "INV-1, INV-2") == (D("15"), D("15"), D("0"), D("1.00"), 2)
    assert found.reconciles


def test_charges_of_days_before_the_platform_count_too(books: Books) -> None:
    """They are in no raw day, since the platform begins in September; yet the invoice holds them."""
    books.deliver("a", charge(), charge(billed="2", ChargePeriodStart="2026-08-20T00:00:00Z"))
    assert figures(books.invoices(HEADER + "Cloud,INV-1,2026-09,USD,12\n"), "INV-1")[:3] == (D("12"), D("12"), D("0"))


def test_a_shadow_is_not_billed_twice_but_can_be_asked_for(books: Books) -> None:
    books.deliver("a", charge())
    books.deliver("b", charge(billed="9.5"))
    invoice = HEADER + "Cloud,INV-1,2026-09,USD,10\n"
    assert figures(books.invoices(invoice), "INV-1")[1] == D("10")
    assert figures(books.invoices(invoice, "b"), "INV-1")[1] == D("9.5")


def test_issuers_that_the_file_does_not_name_are_left_out_and_said(books: Books) -> None:
    books.deliver("a", charge(), charge(invoice="S-1", InvoiceIssuerName="Shop"), charge(InvoiceIssuerName=""))
    found = books.invoices(HEADER + "cloud ,INV-1,2026-09,USD,20\nCloud,INV-0,2026-08,USD,1\n", period="2026-09")
    assert statuses(found) == {"INV-1": MATCHED}  # with the row whose issuer the export left out
    assert found.notes == (
        "1 rows of issuer Shop are not judged: the file has no invoice of it",
        "1 lines of the file are of other periods",
    )


DETAIL = {
    "InvoiceId": "INV-1",
    "InvoiceIssuerName": "Cloud",
    "BillingPeriodStart": "2026-09-01T00:00:00Z",
    "BillingPeriodEnd": "2026-10-01T00:00:00Z",
    "BillingCurrency": "USD",
    "ChargeCategory": "Usage",
    "InvoiceIssueStatus": "Issued",
    "InvoiceDetailId": "1",
    "BilledCost": "10",
    "InvoiceDetailGrain": json.dumps({"SubAccountId": "prod", "ServiceName": "Machines"}),
}
DETAILS = [
    DETAIL,
    {**DETAIL, "BilledCost": "5", "InvoiceDetailGrain": json.dumps({"SubAccountId": "dev"})},
    {**DETAIL, "InvoiceId": "INV-0", "BilledCost": "99", "InvoiceIssueStatus": "Voided"},
]


def write_csv(file: Path) -> None:
    file.write_text("\ufeff" + csv_text(DETAILS), encoding="utf-8")


def write_parquet(file: Path) -> None:
    typed = [{**row, "BilledCost": D(row["BilledCost"])} for row in DETAILS]
    pq.write_table(pa.Table.from_pylist(typed), file)


@pytest.mark.parametrize(("name", "write"), [("detail.csv", write_csv), ("detail.parquet", write_parquet)])
def test_the_invoice_detail_data_set_of_focus_1_4_is_read(
    books: Books, name: str, write: Callable[[Path], None]
) -> None:
    books.deliver("a", charge(), charge(billed="3", SubAccountId="dev"))
    write(books.folder / name)
    found = reconcile_invoices(books.platform, read_invoices(books.folder / name))
    assert figures(found, "INV-1")[:3] == (D("15"), D("13"), D("-2"))
    assert parts(found, "SubAccountId") == {
        "dev": (D("5"), D("3"), D("-2"), 1),
        "prod": (D("10"), D("10"), D("0"), 1),
    }
    assert parts(found, "ServiceName") == {
        "": (D("5"), D(0), D("-5"), 0),
        "Machines": (D("10"), D("13"), D("3"), 2),
    }
    assert found.notes == ("1 lines of voided invoices are not counted",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no rows"),
        ("InvoiceId,amount\nI,1\n", r"lacks the column BillingPeriodStart \(or period\), BillingCurrency"),
        (HEADER + "Cloud,I,2026-09,USD,\"1,234.56\"\n", r"row 2: BilledCost is '1,234.56'; write a plain number"),
        (HEADER + "Cloud,I,2026-09,USD,1\nCloud,I,09/2026,USD,1\n", "row 3: the billing period is '09/2026'"),
        (HEADER + "Cloud,I,2026-13,USD,1\n", "row 2: the billing period is '2026-13'"),
        (HEADER + "Cloud,,2026-09,USD,1\n", "row 2: InvoiceId is empty"),
        (HEADER + "Cloud,I,2026-09,USD,NaN\n", "row 2: BilledCost is 'NaN'"),
        (
            HEADER.replace("amount", "amount,InvoiceDetailGrain") + "Cloud,I,2026-09,USD,1,prod\n",
            "row 2: InvoiceDetailGrain is 'prod', which is no JSON object",
        ),
    ],
)  # fmt: skip
def test_mistakes_in_an_invoice_file_are_named_with_their_row(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "invoices.csv"
    file.write_text(text)
    with pytest.raises(FinopsError, match=said):
        read_invoices(file)


def test_a_file_without_periods_is_of_the_period_that_is_given(books: Books) -> None:
    books.deliver("a", charge())
    assert statuses(books.invoices("invoice,currency,amount\nINV-1,usd,10\n", period="2026-09")) == {"INV-1": MATCHED}


# Two sources of the same cost.


def verdicts(found: Comparison) -> dict[str, str]:
    return {str(unit): verdict for unit, verdict in found.verdicts.items()}


def kinds(found: Comparison) -> dict[tuple[str, str], tuple[int, Decimal, Decimal]]:
    """(kind, currency) -> rows, billed and effective difference."""
    return {
        (k["kind"], k["BillingCurrency"]): (k["row_count"], k["billed_difference"], k["effective_difference"])
        for k in found.kinds.to_dict("records")
    }


HOURS = [charge(ChargePeriodStart=f"2026-09-01T{hour:02}:00:00Z", billed="1.1") for hour in range(6)]


def test_two_sources_agree_whatever_the_order_files_and_last_digits_of_their_rows(books: Books) -> None:
    books.deliver("a", *HOURS)
    rows = [{**row, "x_Run": "7", "BilledCost": "1.1000000000000001"} for row in reversed(HOURS)]
    books.deliver("b", *rows[:2], name="1.csv")
    books.deliver("b", *rows[2:], name="2.csv")
    found = books.compare()
    assert found.reconciles
    assert verdicts(found) == {"2026-09-01": AGREES}
    [day] = found.units.to_dict("records")
    assert (day["rows_a"], day["rows_b"], day["billed_difference"]) == (6, 6, D("6E-16"))
    assert (len(found.cells), len(found.kinds), len(found.rows)) == (0, 0, 0)


def test_every_kind_of_difference_is_found_with_its_exact_amount(books: Books) -> None:
    books.deliver(
        "a",
        *HOURS,
        charge(ResourceId="vm-2", billed="7"),
        charge(ResourceId="vm-3", billed="8"),
        charge(ResourceId="vm-4", billed="9", SubAccountId="lab"),
        charge(ResourceId="vm-5", billed="2"),
        charge(ResourceId="vm-6", billed="3"),
        charge(ResourceId="vm-8", billed="6"),
    )
    books.deliver(
        "b",
        *HOURS,
        HOURS[0],
        charge(ResourceId="vm-2", billed="7", SubAccountId="dev"),
        charge(ResourceId="vm-3", billed="8.5"),
        charge(ResourceId="vm-5", billed="2", ChargePeriodStart="2026-09-01T12:00:00Z"),
        charge(ResourceId="vm-6", billed="3", ServiceName="Disks"),
        charge(ResourceId="vm-7", billed="-4", ChargeClass="Correction"),
        charge(ResourceId="vm-8", billed="6", BillingCurrency="EUR"),
    )
    found = books.compare()
    assert kinds(found) == {
        ("repeated in b", "USD"): (1, D("1.1"), D("1.1")),
        ("other account", "USD"): (2, D("0"), D("0")),
        ("other amount", "USD"): (2, D("0.5"), D("0.5")),
        ("only in a", "USD"): (1, D("-9"), D("-9")),
        ("other time", "USD"): (2, D("0"), D("0")),
        ("other service", "USD"): (2, D("0"), D("0")),
        ("correction only in b", "USD"): (1, D("-4"), D("-4")),
        ("other currency", "USD"): (1, D("-6"), D("-6")),
        ("other currency", "EUR"): (1, D("6"), D("6")),
    }
    assert verdicts(found) == {
        "2026-09-01": "billed +6 EUR, effective +6 EUR, billed -17.4 USD, effective -17.4 USD, 5 cells differ"
    }
    cells = {
        (c["SubAccountId"], c["ServiceName"], c["BillingCurrency"]): c["billed_difference"]
        for c in found.cells.to_dict("records")
    }
    assert cells == {
        ("lab", "Machines", "USD"): D("-9"),
        ("prod", "Machines", "USD"): D("-18.4"),
        ("dev", "Machines", "USD"): D("7"),
        ("prod", "Machines", "EUR"): D("6"),
        ("prod", "Disks", "USD"): D("3"),
    }
    first = found.rows.iloc[0]
    assert (first["kind"], first["ResourceId"], first["billed_a"], first["from_a"]) == (
        "only in a", "vm-4", D("9"), "bill.csv, row 9",
    )  # fmt: skip
    moved = found.rows[found.rows["kind"] == "other account"].iloc[0]
    assert (moved["SubAccountId"], moved["from_a"], moved["from_b"]) == ("prod", "bill.csv, row 7", "bill.csv, row 8")
    assert "dev" in moved["in_b"]


def test_what_one_service_gains_another_one_cannot_lose_unseen(books: Books) -> None:
    books.deliver("a", charge(), charge(ServiceName="Disks", ResourceId="d-1"))
    books.deliver("b", charge(billed="12"), charge(ServiceName="Disks", ResourceId="d-1", billed="8"))
    found = books.compare()
    assert verdicts(found) == {"2026-09-01": "2 cells differ"}
    assert found.units["billed_difference"].to_list() == [D("0")]


def test_billed_and_effective_are_judged_apart(books: Books) -> None:
    books.deliver("a", charge(billed="10", EffectiveCost="4"))
    books.deliver("b", charge(billed="4", EffectiveCost="10"))
    assert verdicts(books.compare()) == {"2026-09-01": "billed -6 USD, effective +6 USD, 1 cell differs"}
    books.deliver("b", charge(billed="10", EffectiveCost="5"))
    assert verdicts(books.compare()) == {"2026-09-01": "effective +1 USD, 1 cell differs"}
    assert books.compare(bases=("billed",)).reconciles
    assert "effective_difference" not in books.compare(bases=("billed",)).units


def test_a_day_that_one_lacks_does_not_agree_and_one_that_costs_nothing_does(books: Books) -> None:
    books.deliver("a", charge(), charge("2026-09-03"))
    books.deliver("b", charge())
    books.platform.lake.remove(books.platform.lake.day_file("raw", "b", date(2026, 9, 2)))
    found = books.compare(end="2026-09-05")
    assert verdicts(found) == {
        "2026-09-01": AGREES,
        "2026-09-02": "no raw day of b: run the day",
        "2026-09-03": "billed -10 USD, effective -10 USD, 1 cell differs",
        "2026-09-04": AGREES,  # both know it, and it costs nothing
    }
    assert found.validated == [date(2026, 9, 1), date(2026, 9, 4)]
    assert found.units["unit"].to_list() == [date(2026, 9, day) for day in (1, 2, 3, 4)]


def test_the_tolerance_of_two_sources_is_half_a_subunit(books: Books) -> None:
    books.deliver("a", charge(billed="1"))
    books.deliver("b", charge(billed="1.005"))
    assert books.compare().reconciles
    books.deliver("b", charge(billed="1.005000000000000001"))
    assert not books.compare().reconciles
    assert books.compare(tolerance=Tolerance(percent=D("1"))).reconciles
    assert books.compare(tolerance=Tolerance(amount=D("0.006"))).reconciles


def test_rows_are_paired_by_what_both_sides_fill_alike(books: Books) -> None:
    """A description in other words must not make every row look like one that is only here or only there."""
    books.deliver("a", *(charge(ResourceId=f"vm-{n}", billed=str(n)) for n in range(1, 5)))
    changed = [charge(ResourceId=f"vm-{n}", billed=str(n), ChargeDescription="Stunden", SkuId="") for n in range(1, 5)]
    books.deliver("b", *changed[:3], {**changed[3], "BilledCost": "5"})
    found = books.compare()
    assert found.key == ("ResourceId", "ChargePeriodStart", "ChargeCategory")
    assert kinds(found) == {("other amount", "USD"): (2, D("1"), D("0"))}


def test_the_kinds_add_up_to_the_difference_exactly(books: Books) -> None:
    chance = random.Random(7)

    def some(count: int) -> list[Row]:
        return [
            charge(
                chance.choice(["2026-09-01", "2026-09-02"]),
                billed=f"{chance.randint(-900, 900)}.{chance.randint(0, 10**18 - 1):018}",
                EffectiveCost=f"{chance.randint(0, 9)}.{chance.randint(0, 10**18 - 1):018}",
                ResourceId=f"vm-{chance.randint(1, 12)}",
                SubAccountId=chance.choice(["prod", "dev", ""]),
                ServiceName=chance.choice(["Machines", "Disks"]),
                BillingCurrency=chance.choice(["USD", "EUR"]),
            )
            for _ in range(count)
        ]

    shared = some(60)
    books.deliver("a", *shared, *some(20))
    books.deliver("b", *shared[10:], *shared[:5], *shared[40:45], *some(15))
    found = books.compare(end="2026-09-03")
    for currency in ("USD", "EUR"):
        for basis in ("billed", "effective"):
            of_units = found.units.loc[found.units["BillingCurrency"] == currency, f"{basis}_difference"]
            of_kinds = found.kinds.loc[found.kinds["BillingCurrency"] == currency, f"{basis}_difference"]
            assert sum(of_units) == sum(of_kinds) != 0


# A provider's native bill.


def test_a_native_bill_may_book_a_charge_on_another_day_of_its_billing_period(books: Books) -> None:
    books.deliver("a", charge(), charge("2026-09-30", billed="1.9", ChargeCategory="Tax", ResourceId=""))
    books.deliver(
        "b",
        charge("2026-09-05", BillingPeriodStart="2026-09-01T07:00:00Z"),
        # No raw day holds this one: the platform begins in September.
        charge(billed="1.9", ChargeCategory="Tax", ResourceId="", ChargePeriodStart="2026-08-31T00:00:00Z"),
    )
    assert compare_bills(books.platform, "a", "b").verdicts == {"2026-09": AGREES}


def test_a_native_bill_is_compared_by_period_service_account_and_category(books: Books) -> None:
    books.deliver("a", charge(), charge(billed="1.9", ChargeCategory="Tax"))
    books.deliver("b", charge(), charge(billed="1.9", ChargeCategory="Credit"), charge("2026-10-01"))
    found = compare_bills(books.platform, "a", "b")
    assert found.verdicts == {
        "2026-09": "2 cells differ",
        "2026-10": "billed +10 USD, effective +10 USD, 1 cell differs",
    }
    by_account = compare_bills(books.platform, "a", "b", ["2026-09"], grain=["SubAccountId"])
    assert by_account.verdicts == {"2026-09": AGREES}


def test_a_native_bill_that_is_no_source_is_read_from_its_files(books: Books) -> None:
    books.deliver("a", charge())
    (books.folder / "native.csv").write_text(csv_text([charge(billed="11")]))
    native = Source(name="native", uri=str(books.folder / "native.csv"), layout="files")
    found = compare_bills(books.platform, "a", native)
    assert found.verdicts == {"2026-09": "billed +1 USD, effective +1 USD, 1 cell differs"}
    assert kinds(found) == {("other amount", "USD"): (2, D("1"), D("1"))}
    (books.folder / "native.csv").write_text("ChargePeriodStart\nsoon\n")
    with pytest.raises(FinopsError, match=r"native.csv.*no readable ChargePeriodStart"):
        compare_bills(books.platform, "a", native)


def cur(cost: str, **changes: str) -> Row:
    """A line item of AWS' Cost and Usage Report, of the same charge as `focus_of_cur`."""
    return {
        "bill/InvoiceId": "INV-1",
        "bill/PayerAccountId": "1",
        "bill/BillingPeriodStartDate": "2026-09-01T00:00:00Z",
        "bill/BillingPeriodEndDate": "2026-10-01T00:00:00Z",
        "lineItem/UsageAccountId": "prod",
        "lineItem/LineItemType": "Usage",
        "lineItem/UsageStartDate": "2026-09-01T10:00:00Z",
        "lineItem/UsageEndDate": "2026-09-01T11:00:00Z",
        "lineItem/ProductCode": "AmazonEC2",
        "lineItem/ResourceId": "vm-1",
        "lineItem/CurrencyCode": "USD",
        "lineItem/UnblendedCost": cost,
        "product/ProductName": "Machines",
    } | changes


@pytest.mark.long
def test_a_cost_and_usage_report_is_compared_with_the_focus_export(books: Books) -> None:
    books.deliver("a", charge(billed="10.1"), charge(billed="1.9", ChargeCategory="Tax", ResourceId=""))
    tax = cur("1.9", **{"lineItem/LineItemType": "Tax", "lineItem/ResourceId": ""})
    native = Source(name="native", uri=str(books.folder / "cur.csv"), layout="aws-cur")
    (books.folder / "cur.csv").write_text(csv_text([cur("10.1"), tax]))
    assert compare_bills(books.platform, "a", native).verdicts == {"2026-09": AGREES}
    (books.folder / "cur.csv").write_text(csv_text([cur("10.1"), cur("4", **{"lineItem/ResourceId": "vm-2"}), tax]))
    found = compare_bills(books.platform, "a", native)
    assert found.verdicts == {"2026-09": "billed +4 USD, effective +4 USD, 1 cell differs"}
    assert kinds(found) == {("only in b", "USD"): (1, D("4"), D("4"))}
    [cell] = found.cells.to_dict("records")
    assert (cell["ServiceName"], cell["SubAccountId"], cell["ChargeCategory"]) == ("Machines", "prod", "Usage")
    code, text = books.finops("reconcile", "native", "a", str(books.folder / "cur.csv"), "--layout", "aws-cur")
    assert (code, "0 of 1 billing periods validated" in text, "vm-2" in text) == (1, True, True)


# The command line.


def test_finops_reconcile_invoice(books: Books) -> None:
    books.deliver("a", charge(), charge(billed="3", SubAccountId="dev"))
    good, bad = books.folder / "good.csv", books.folder / "bad.csv"
    good.write_text(HEADER + "Cloud,INV-1,2026-09,USD,13\n")
    bad.write_text(HEADER + "Cloud,INV-1,2026-09,USD,10\n")
    code, text = books.finops("reconcile", "invoice", str(good))
    assert (code, MATCHED in text) == (0, True)
    code, text = books.finops("reconcile", "invoice", str(bad))
    assert code == 1
    assert re.search(r"Cloud +INV-1 +USD +10 +13 +3 +1 +2 +differs", text)
    assert re.search(r"dev +3 +1", text)
    assert re.search(r"all of SubAccountId dev is in the data only +1 +3 +0 +yes", text)
    assert "one row of the difference" in text
    assert books.finops("reconcile", "invoice", str(bad), "--tolerance-amount", "3")[0] == 0
    code, text = books.finops("reconcile", "invoice", str(bad), "--part", "parts", "--format", "json")
    assert code == 1
    assert {p["value"]: p["billed"] for p in json.loads(text)["rows"] if p["dimension"] == "SubAccountId"} == {
        "prod": "10.000000000000000000",
        "dev": "3.000000000000000000",
    }


def test_finops_reconcile_sources(books: Books) -> None:
    books.deliver("a", charge(), charge("2026-09-02"), charge("2026-09-03"))
    books.deliver("b", charge(), charge("2026-09-02", billed="10.000000000000000007"), charge("2026-09-03", billed="9"))
    between = ("--from", "2026-09-01", "--to")
    code, text = books.finops("reconcile", "sources", "a", "b", *between, "2026-09-03")
    assert (code, "2 of 2 days validated" in text) == (0, True)
    code, text = books.finops("reconcile", "sources", "a", "b", *between, "2026-09-04")
    assert (code, "2 of 3 days validated" in text) == (1, True)
    output = books.folder / "out.csv"
    code, text = books.finops(
        "reconcile", "sources", "a", "b", *between, "2026-09-04", "--format", "csv", "--output", str(output)
    )
    assert (code, "2 of 3 days validated" in text) == (1, True)
    rows = list(csv.DictReader(io.StringIO(output.read_text())))
    assert [(r["unit"], D(r["billed_difference"]), r["verdict"]) for r in rows] == [
        ("2026-09-01", D("0"), AGREES),
        ("2026-09-02", D("7E-18"), AGREES),
        ("2026-09-03", D("-1"), "billed -1 USD, effective -1 USD, 1 cell differs"),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("sources a c --from 2026-09-01 --to 2026-09-02", "no source 'c'; known: a, b"),
        ("sources a a --from 2026-09-01 --to 2026-09-02", "a is compared with itself"),
        ("sources a b --from 2026-09-02 --to 2026-09-02", "is empty; --to is exclusive"),
        ("sources a b --from 2026-09-01 --to 2026-09-02 --tolerance-amount -1", "--tolerance-amount: found '-1'"),
        ("invoice nowhere.csv", "nowhere.csv: cannot be read as an invoice file"),
        ("invoice nowhere.csv --period September", "--period: found 'September'"),
        ("native a bill.csv --layout cur", "--layout: found 'cur'; allowed: aws-data-exports"),
        ("native a b --by Team", "--by: found Team; allowed: ServiceName, SubAccountId, ChargeCategory"),
        ("native a b", "b holds no billing period; land it first"),
    ],
)
def test_mistakes_on_the_command_line_are_explained(books: Books, arguments: str, said: str) -> None:
    code, text = books.finops("reconcile", *arguments.split())
    assert code == 1
    assert said in " ".join(text.split())
