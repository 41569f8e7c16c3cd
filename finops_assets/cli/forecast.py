"""finops forecast: what a period will have cost at its end."""

from __future__ import annotations

from typing import Annotated

import typer

from finops_assets.base.errors import FinopsError
from finops_assets.base.period import Period
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
from finops_assets.evaluate.forecast.period import forecasts, kinds_of_series, period_of
from finops_assets.storage.warehouse import Warehouse

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
        if table.empty:
            raise FinopsError("nothing was reported: no day had passed its gates")
        [(begin,)] = connection.execute(f"SELECT min(charge_date) FROM {ROLLUP_TABLE}").fetchall()
        shown = Period(table["period_start"].iloc[0], table["period_end"].iloc[0])
        if shown.end <= begin:
            raise FinopsError(f"--period: found {period}, which ends before {begin}, the first day that was reported")
        amounts = [float(v) if v is not None else float("-inf") for v in table["forecast"]]
        spent = table.groupby("currency")["actual_to_date"].sum()
        order = sorted(
            zip([-spent[c] for c in table["currency"]], table["currency"], [-a for a in amounts], range(len(table)))
        )
        table = table.iloc[[place for *_, place in order]]
        about = made_of(connection, reported_within(connection, shown.first, shown.end), "accrued")
        if format != "table":
            write_table(table, format, output, about)
            return
        first = table.iloc[0]
        out.print(f"{first['period_start']} up to {first['period_end']}, exclusive; accrued cost", style="dim")
        made = table[table["refused"].isna()]
        if len(made):
            write_table(made[SHOWN], format, output)
        for row in table[table["refused"].notna()].itertuples():
            say("refused", f"{row.key}, {row.currency}: {row.refused}")
        if shown.first < begin:
            say(
                "note",
                f"{(begin - shown.first).days} days of the period, before {begin}, were never reported: they are not in"
                " it",
            )
        gaps = int(table["days_missing"].max())
        if gaps:
            say("note", f"up to {gaps} days of the period are held or late; they are expected, not 0")
