"""finops reconcile: does the cost agree with an invoice, with the native bill, with another source of the same cost?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pandas as pd
import typer
from rich.table import Table

from finops_assets.base.errors import FinopsError
from finops_assets.base.period import days_between
from finops_assets.base.text import money
from finops_assets.cli.common import (
    ConfigOption,
    Format,
    FormatOption,
    OutputOption,
    cell,
    err,
    explained,
    heading,
    out,
    say,
    write_table,
)
from finops_assets.judge.reconciliation.invoice import FINE, Reconciliation, reconcile_invoices
from finops_assets.judge.reconciliation.invoice_file import read_invoices
from finops_assets.judge.reconciliation.overlap import compare_bills, compare_sources
from finops_assets.judge.reconciliation.rows import known_source
from finops_assets.judge.reconciliation.same_cost import BASES, Basis, Comparison
from finops_assets.judge.reconciliation.tolerance import Tolerance
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets.settings.sources import Layout, Source

reconcile_app = typer.Typer(
    no_args_is_help=True,
    help="Does the cost agree with an invoice, a native bill, another source? Exit code 1 where it does not.",
)

AmountOption = Annotated[str | None, typer.Option("--tolerance-amount", help="Allowed difference, in the currency")]
PercentOption = Annotated[
    str | None, typer.Option("--tolerance-percent", help="Allowed difference in percent; with an amount the larger")
]
PeriodOption = Annotated[str | None, typer.Option(help="One billing period, YYYY-MM")]
BasisOption = Annotated[Literal["both", "billed", "effective"], typer.Option(help="Which cost is judged")]
RowsOption = Annotated[int, typer.Option(help="How many rows are shown", min=0)]
SHOWN_CELLS, SHOWN_PARTS = 20, 5
NAME = ("period", "InvoiceId", "BillingCurrency")
HEADINGS = {
    "unit": "day",
    "BillingCurrency": "currency",
    "InvoiceIssuerName": "issuer",
    "row_count": "rows",
    "billed_difference": "difference",
    "effective_difference": "difference",
    "cells_differing": "cells",
    "billed_a": "billed a",
    "effective_a": "effective a",
}
ROUNDED = {"billed_a", "effective_a"}


@reconcile_app.command("invoice")
def reconcile_invoice(
    file: Annotated[Path, typer.Argument(help="CSV, or FOCUS 1.4 InvoiceDetail as CSV or Parquet")],
    source: Annotated[list[str] | None, typer.Option(help="Only this source's cost; may be repeated")] = None,
    period: PeriodOption = None,
    tolerance_amount: AmountOption = None,
    tolerance_percent: PercentOption = None,
    part: Annotated[
        Literal["invoices", "parts", "reasons", "rows"], typer.Option(help="Which table csv, json and parquet give")
    ] = "invoices",
    rows: RowsOption = 5,
    format: FormatOption = "table",
    output: OutputOption = None,
    config: ConfigOption = None,
) -> None:
    """Sums BilledCost by billing period, issuer, invoice and currency, and explains what differs from the invoices.

    Allowed is what FOCUS 1.4 allows: the larger of 100 subunits and sqrt(rows) x half a subunit.
    """
    with explained():
        platform = Platform(load_settings(config))
        names = [known_source(platform.settings, name) for name in source or []]
        limits = _tolerance(tolerance_amount, tolerance_percent)
        found = reconcile_invoices(platform, read_invoices(file, _period(period)), names, limits, rows)
        for note in found.notes:
            _note(note)
        if format != "table":
            write_table(getattr(found, part), format, output)
        else:
            _show(found.invoices)
            for invoice in found.invoices[~found.invoices["status"].isin(FINE)].to_dict("records"):
                _explain(found, invoice)
    if not found.reconciles:
        raise typer.Exit(1)


@reconcile_app.command("sources")
def reconcile_sources(
    a: Annotated[str, typer.Argument(help="A source of finops.yaml")],
    b: Annotated[str, typer.Argument(help="Another source of the same cost, such as its shadow")],
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC day")],
    end: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The day after the last")],
    basis: BasisOption = "both",
    tolerance_amount: AmountOption = None,
    tolerance_percent: PercentOption = None,
    part: Annotated[
        Literal["days", "cells", "kinds", "rows"], typer.Option(help="Which table csv, json and parquet give")
    ] = "days",
    rows: RowsOption = 20,
    format: FormatOption = "table",
    output: OutputOption = None,
    config: ConfigOption = None,
) -> None:
    """Two sources of the same cost, day by day, by service and account: how many days agree, and what does not.

    Allowed is half a subunit of the currency (0.005 USD), for a day as a whole and for each service and account.
    """
    with explained():
        platform = Platform(load_settings(config))
        days = days_between(first.date(), end.date())
        if not days:
            raise FinopsError(f"the range {first.date()} to {end.date()} is empty; --to is exclusive")
        a, b = _two(platform, a, b)
        limits = _tolerance(tolerance_amount, tolerance_percent)
        found = compare_sources(platform, a, b, days, bases=_bases(basis), tolerance=limits, most_rows=rows)
        _tell(found, "units" if part == "days" else part, "days", format, output)
    if not found.reconciles:
        raise typer.Exit(1)


@reconcile_app.command("native")
def reconcile_native(
    source: Annotated[str, typer.Argument(help="A source of finops.yaml")],
    native: Annotated[
        str, typer.Argument(help="The native bill: a source of finops.yaml, or a file or place with --layout")
    ],
    layout: Annotated[str | None, typer.Option(help="The layout of a native bill that is no source")] = None,
    period: PeriodOption = None,
    by: Annotated[
        str, typer.Option(help="What is compared, comma-separated")
    ] = "ServiceName,SubAccountId,ChargeCategory",
    basis: BasisOption = "both",
    tolerance_amount: AmountOption = None,
    tolerance_percent: PercentOption = None,
    part: Annotated[
        Literal["periods", "cells", "kinds", "rows"], typer.Option(help="Which table csv, json and parquet give")
    ] = "periods",
    rows: RowsOption = 20,
    format: FormatOption = "table",
    output: OutputOption = None,
    config: ConfigOption = None,
) -> None:
    """A source against the provider's native bill of the same billing periods, by service, account and category."""
    with explained():
        platform = Platform(load_settings(config))
        other: str | Source
        if layout is None:
            source, other = _two(platform, source, native)
        else:
            source, other = known_source(platform.settings, source), _place(native, layout)
        wanted = _period(period)
        found = compare_bills(
            platform,
            source,
            other,
            [wanted] if wanted else [],
            grain=_grain(by),
            bases=_bases(basis),
            tolerance=_tolerance(tolerance_amount, tolerance_percent),
            most_rows=rows,
        )
        _tell(found, "units" if part == "periods" else part, "billing periods", format, output)
    if not found.reconciles:
        raise typer.Exit(1)


def _tell(found: Comparison, part: str, units: str, format: Format, output: Path | None) -> None:
    summary = f"{len(found.validated)} of {len(found.verdicts)} {units} validated"
    if format != "table":
        write_table(getattr(found, part), format, output)
        err.print(summary, highlight=False)
        return
    out.print(f"a = {found.a}, b = {found.b}; a difference is b less a", style="dim", highlight=False)
    seen = [f"{basis}_{which}" for basis in BASES for which in ("a", "difference") if f"{basis}_a" in found.units]
    days = found.units.copy()
    # The differences stand beside it.
    differ = set(days.loc[days["cells_differing"] > 0, "unit"])
    days["verdict"] = ["differs" if unit in differ else text for unit, text in zip(days["unit"], days["verdict"])]
    _show(days[["unit", "BillingCurrency", "rows_a", "rows_b", *seen, "cells_differing", "verdict"]])
    if len(found.cells):
        heading("Where they differ")
        _show(
            found.cells.drop(columns=["allowed", *(f"{basis}_b" for basis in BASES)], errors="ignore").head(SHOWN_CELLS)
        )
        if len(found.cells) > SHOWN_CELLS:
            out.print(f"… and {len(found.cells) - SHOWN_CELLS} more: --part cells --format csv", style="dim")
    if len(found.kinds):
        heading("Rows without an equal one", f", paired by {', '.join(found.key) or 'place and cost alone'}")
        _show(found.kinds)
        out.print()
        for row in found.rows.to_dict("records"):
            amounts = ", ".join(
                f"{basis} {_text(row[f'{basis}_a']) or 'none'} → {_text(row[f'{basis}_b']) or 'none'}"
                for basis in BASES
                if f"{basis}_a" in row
            )
            places = " → ".join(text for side in "ab" if (text := _text(row[f"from_{side}"])))
            _line(f"{row['kind']}: {amounts}", row, ("unit", "BillingCurrency"), places)
    heading(summary, style="bold green" if found.reconciles else "bold red")


def _explain(found: Reconciliation, invoice: Mapping[Hashable, Any]) -> None:
    """What is known of an invoice that does not match."""

    def its(table: pd.DataFrame) -> pd.DataFrame:
        records = [r for r in table.to_dict("records") if all(_text(r[k]) == _text(invoice[k]) for k in NAME)]
        return pd.DataFrame(records, columns=table.columns)

    name = ", ".join(_text(invoice[k]) or "no InvoiceId" for k in ("InvoiceId", "period", "BillingCurrency"))
    heading(name, f": {invoice['status']}")
    parts = its(found.parts)
    for dimension, of in parts.groupby("dimension", sort=False):
        # Where the file says what was invoiced, what is equal on both sides is not worth a line.
        telling = of[[difference is None or difference != 0 for difference in of["difference"]]]
        _show(telling.drop(columns=[*NAME, "dimension"]).rename(columns={"value": dimension}).head(SHOWN_PARTS))
        if len(telling) > SHOWN_PARTS:
            out.print(f"… and {len(telling) - SHOWN_PARTS} more: --part parts --format csv", style="dim")
    reasons = its(found.reasons)
    if len(reasons):
        heading("What could explain it")
        _show(reasons.drop(columns=[*NAME]))
    for reason, of in its(found.rows).groupby("reason", sort=False):
        heading(str(reason))
        for row in of.to_dict("records"):
            _line(f"{money(row['BilledCost'])} {row['BillingCurrency']}", row, (), row["found_in"])


NUMBERS = (Decimal, int, np.integer)


def _show(table: pd.DataFrame) -> None:
    """A table for the eye whose differences keep every digit; other amounts have two places."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    filled = [name for name in table.columns if any(_text(value) for value in table[name])]
    for name in filled:
        right = any(isinstance(value, NUMBERS) and not isinstance(value, bool) for value in table[name])
        title = HEADINGS.get(name, str(name).replace("_", " "))
        shown.add_column(title, justify="right" if right else "left", no_wrap=True)
    for row in table[filled].to_dict("records"):
        cells = (cell(v) if isinstance(v, Decimal) and k in ROUNDED else _text(v) for k, v in row.items())
        shown.add_row(*cells)
    if len(table):
        out.print(shown)


WHAT = (
    "SubAccountId", "ServiceName", "ChargeCategory", "ChargeClass", "ResourceId", "SkuId", "ChargeDescription",
    "ChargePeriodStart",
)  # fmt: skip


def _line(amounts: str, row: Mapping[Hashable, Any], first: Sequence[str], place: str) -> None:
    """A row on a line: ids are too long for columns."""
    what = ", ".join(text for column in (*first, *WHAT) if (text := _text(row.get(column))))
    in_b = f" → {row['in_b']}" if _text(row.get("in_b")) else ""
    out.print(f"  {amounts}  {what}{in_b}  ({place})", highlight=False, soft_wrap=True)


def _text(value: object) -> str:
    match value:
        case Decimal():
            return money(value)
        case bool():
            return "yes" if value else "no"
        case datetime():
            return "" if pd.isna(value) else f"{value:%Y-%m-%d %H:%M}"
        case None:
            return ""
        case float() if value != value:
            return ""
        case _:
            return str(value)


def _note(text: str) -> None:
    say("note", text)


def _two(platform: Platform, a: str, b: str) -> tuple[str, str]:
    a, b = known_source(platform.settings, a), known_source(platform.settings, b)
    if a == b:
        raise FinopsError(f"{a} is compared with itself; name another source of the same cost")
    return a, b


def _place(uri: str, layout: str) -> Source:
    if layout not in get_args(Layout):
        raise FinopsError(f"--layout: found {layout!r}; allowed: {', '.join(get_args(Layout))}")
    return Source(name="native", uri=uri, layout=layout)  # type: ignore[arg-type]  # it was just looked up


def _grain(by: str) -> tuple[str, ...]:
    allowed = ("ServiceName", "SubAccountId", "ChargeCategory")
    wanted = tuple(part.strip() for part in by.split(",") if part.strip())
    if unknown := [part for part in wanted if part not in allowed]:
        raise FinopsError(f"--by: found {', '.join(unknown)}; allowed: {', '.join(allowed)}")
    return wanted


def _bases(basis: str) -> tuple[Basis, ...]:
    return tuple(name for name in BASES if basis in (name, "both"))


def _tolerance(amount: str | None, percent: str | None) -> Tolerance:
    def number(option: str, text: str | None) -> Decimal | None:
        if text is None:
            return None
        try:
            value = Decimal(text)
        except ArithmeticError:
            value = Decimal(-1)
        if not value.is_finite() or value < 0:
            raise FinopsError(f"{option}: found {text!r}; write a number that is not negative, as 0.5")
        return value

    return Tolerance(number("--tolerance-amount", amount), number("--tolerance-percent", percent))


def _period(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return f"{date.fromisoformat(f'{text}-01'):%Y-%m}"
    except ValueError as error:
        raise FinopsError(f"--period: found {text!r}; write a month as 2026-09") from error
