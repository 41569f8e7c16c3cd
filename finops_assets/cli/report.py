"""finops report: the three answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import duckdb
import pandas as pd
import typer

from finops_assets.cli.common import (
    ConfigOption,
    Format,
    FormatOption,
    FromOption,
    OutputOption,
    ToOption,
    emit,
    err,
    explained,
    published,
)
from finops_assets.errors import FinopsError
from finops_assets.reports import (
    SERVICES_BY,
    TEAMS_BY,
    Period,
    cost_by,
    latest_days,
    latest_month,
    missing_days,
    untagged_by,
)
from finops_assets.restatements import as_of_relation
from finops_assets.rollup import TABLE

report_app = typer.Typer(no_args_is_help=True, help="The three answers. Ends are exclusive, days are UTC.")


AsOfOption = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="As it was reported at the end of this UTC day")
]


def _rollup(as_of: datetime | None) -> str:
    return as_of_relation(as_of.date()) if as_of else TABLE


def _period(
    connection: duckdb.DuckDBPyConnection, rollup: str, first: datetime | None, end: datetime | None, days: bool = False
) -> Period:
    latest = latest_days(connection, rollup=rollup) if days else latest_month(connection, rollup)
    if latest is None:
        raise FinopsError("nothing was reported: no day had passed its gates")
    period = Period(first.date() if first else latest.first, end.date() if end else latest.end)
    if period.end <= period.first:
        raise FinopsError(f"the range {period.first} to {period.end} is empty; --to is exclusive")
    return period


@report_app.command("teams")
def report_teams(
    first: FromOption = None, end: ToOption = None, by: Annotated[str, typer.Option(help="Columns, comma-separated")] = ",".join(TEAMS_BY),
    format: FormatOption = "table", output: OutputOption = None, as_of: AsOfOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """What did each team spend? By default the latest month, against the same days of the month before."""
    _report_cost(config, first, end, by, format, output, as_of)


@report_app.command("services")
def report_services(
    first: FromOption = None, end: ToOption = None, by: Annotated[str, typer.Option(help="Columns, comma-separated")] = ",".join(SERVICES_BY),
    format: FormatOption = "table", output: OutputOption = None, as_of: AsOfOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """What did each service category cost?"""
    _report_cost(config, first, end, by, format, output, as_of)


@report_app.command("untagged")
def report_untagged(
    first: FromOption = None, end: ToOption = None, by: Annotated[str, typer.Option(help="Columns, comma-separated")] = "provider",
    format: FormatOption = "table", output: OutputOption = None, as_of: AsOfOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Which share of positive effective cost has no owner? By default the last 30 days."""
    with explained(), published(config) as connection:
        rollup = _rollup(as_of)
        period = _period(connection, rollup, first, end, days=True)
        _say_gaps(connection, period, rollup)
        emit(_checked(lambda: untagged_by(connection, period, _columns(by), rollup)), period, format, output)


def _report_cost(
    config: Path | None,
    first: datetime | None,
    end: datetime | None,
    by: str,
    format: Format,
    output: Path | None,
    as_of: datetime | None,
) -> None:
    with explained(), published(config) as connection:
        rollup = _rollup(as_of)
        period = _period(connection, rollup, first, end)
        _say_gaps(connection, period, rollup)
        emit(_checked(lambda: cost_by(connection, period, _columns(by), rollup)), period, format, output)


def _say_gaps(connection: duckdb.DuckDBPyConnection, period: Period, rollup: str) -> None:
    """On standard error, so that no format is disturbed: which days the figures do not hold."""
    for name, span in (("this period", period), ("the period before", period.before)):
        gaps = missing_days(connection, span, rollup)
        if gaps:
            shown = ", ".join(map(str, gaps[:6])) + (", …" if len(gaps) > 6 else "")
            days = (span.end - span.first).days
            err.print(
                f"[yellow]note[/] {len(gaps)} of {days} days of {name} have no figures (held by a gate, or not run):"
                f" {shown}",
                highlight=False,
            )


def _columns(by: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in by.split(",") if part.strip())


def _checked(make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    try:
        return make()
    except ValueError as error:
        raise FinopsError(f"--by: {error}") from error
