"""finops forecast: what a period will have cost at its end."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import typer

from finops_assets.base.errors import FinopsError
from finops_assets.base.period import Period, period_of
from finops_assets.cli.common import (
    ConfigOption,
    FormatOption,
    OutputOption,
    explained,
    made_of,
    not_built,
    out,
    published,
    say,
    write_table,
)
from finops_assets.cost.accrual import REPORTED_ACCRUALS
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.comparison import reported_within
from finops_assets.evaluate.forecast.period import forecasts, kinds_of_series
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.rows import Rows

SHOWN = [
    "key",
    "currency",
    "actual_to_date",
    "forecast",
    "low80",
    "high80",
    "low95",
    "high95",
    "days_missing",
    "history_days",
]


def forecast(
    by: Annotated[
        str, typer.Option(help="Which series: total, department, team, service, provider or another dimension")
    ] = "total",
    period: Annotated[
        str | None, typer.Option(help="2026-11, 2026-Q4 or 2026 (default: the month of the day after the newest)")
    ] = None,
    format: FormatOption = "table",
    output: OutputOption = None,
    config: ConfigOption = None,
) -> None:
    """What will the period have cost at its end? With 80 % and 95 % intervals; accrued cost, per currency."""
    with explained(), published(config) as connection:
        if not Warehouse.has(connection, REPORTED_ACCRUALS):
            raise FinopsError("no day was built yet (`finops run FROM TO`)")
        known = kinds_of_series(connection)
        if by not in known:
            allowed = f"found {by}; allowed: {', '.join(known)}"
            raise FinopsError(f"--by: {not_built(config, [by]) or allowed}")
        try:
            table = forecasts(connection, period_of(period) if period else None, [by])
        except ValueError as error:
            raise FinopsError(f"--period: {error}") from error
        if not len(table):
            raise FinopsError("nothing was reported: no day had passed its gates")
        [(begin,)] = connection.execute(f"SELECT min(charge_date) FROM {ROLLUP_TABLE}").fetchall()
        shown = Period(table["period_start"][0], table["period_end"][0])
        if shown.end <= begin:
            raise FinopsError(f"--period: found {period}, which ends before {begin}, the first day that was reported")
        spent: dict[str, Decimal] = {}
        for currency, to_date in zip(table["currency"], table["actual_to_date"]):
            spent[currency] = spent.get(currency, Decimal(0)) + to_date
        amounts = [float(v) if v is not None else float("-inf") for v in table["forecast"]]
        order = sorted(
            zip([-spent[c] for c in table["currency"]], table["currency"], [-a for a in amounts], range(len(table)))
        )
        table = Rows(table.columns, [table.values[place] for *_, place in order])
        about = made_of(connection, reported_within(connection, shown.first, shown.end), "accrued")
        if format != "table":
            write_table(table, format, output, about)
            return
        out.print(f"{shown.first} up to {shown.end}, exclusive; accrued cost", style="dim")
        made = table.where(lambda row: row["refused"] is None)
        if len(made):
            write_table(made.only(SHOWN), format, output)
        for row in table.where(lambda row: row["refused"] is not None):
            say("refused", f"{row['key']}, {row['currency']}: {row['refused']}")
        if shown.first < begin:
            say(
                "note",
                f"{(begin - shown.first).days} days of the period, before {begin}, were never reported: they are not in"
                " it",
            )
        gaps = max(table["days_missing"])
        if gaps:
            say("note", f"up to {gaps} days of the period are held or late; they are expected, not 0")
