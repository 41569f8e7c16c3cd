"""The command line: the same functions as the assets, for people at a terminal."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

import duckdb
import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from finops_assets.errors import FinopsError
from finops_assets.reports import SERVICES_BY, TEAMS_BY, Period, cost_by, latest_days, latest_month, untagged_by
from finops_assets.rollup import GROUPED
from finops_assets.settings import config_path, load_settings

app = typer.Typer(no_args_is_help=True, help="FOCUS billing exports to gated, exact cost by team.")
report_app = typer.Typer(no_args_is_help=True, help="The three answers. Ends are exclusive, days are UTC.")
config_app = typer.Typer(no_args_is_help=True, help="The configuration, finops.yaml.")
app.add_typer(report_app, name="report")
app.add_typer(config_app, name="config")

# A pipe has no width of its own; tables need about this much.
out = Console(width=None if sys.stdout.isatty() else 130)
err = Console(stderr=True)

Format = Literal["table", "csv", "json", "parquet"]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="finops.yaml (default: $FINOPS_CONFIG or ./finops.yaml)")]
FromOption = Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC day")]
ToOption = Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="The day after the last")]
FormatOption = Annotated[Format, typer.Option("--format", "-f", help="parquet and csv go to standard output or --output")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output")]

HELD = 3
"""Exit code: everything ran, some days are held back by a gate."""


@contextmanager
def _explained() -> Iterator[None]:
    """Errors made on purpose are for people: their text, no traceback, exit code 1."""
    try:
        yield
    except FinopsError as error:
        err.print(f"[bold red]error[/] {error}", highlight=False)
        raise typer.Exit(1) from error


@config_app.command("check")
def config_check(config: ConfigOption = None) -> None:
    """Read finops.yaml and report every mistake, with its place, what was found and what is allowed."""
    with _explained():
        settings = load_settings(config)
        out.print(
            f"{config_path(config)}: fine. {len(settings.sources)} sources, dimensions"
            f" {', '.join(settings.dimensions)}, from {settings.first_day}.",
            highlight=False,
        )


@app.command()
def run(
    first: Annotated[datetime, typer.Argument(metavar="FROM", formats=["%Y-%m-%d"])],
    end: Annotated[datetime, typer.Argument(metavar="TO", formats=["%Y-%m-%d"])],
    config: ConfigOption = None,
) -> None:
    """Materialise raw, facts, rollup and reports for the days FROM up to but not including TO.

    Exits with 0 if every day was built, 3 if some are held back by a gate, 1 on an error.
    """
    with _explained():
        if _run_days(config, first.date(), end.date()):
            raise typer.Exit(HELD)


@app.command()
def demo(config: ConfigOption = None) -> None:
    """A synthetic three-cloud estate through the whole graph for its last 62 days, and the three answers."""
    from finops_assets.demo import demo_days, write_estate

    with _explained():
        settings = load_settings(config)
        started = time.monotonic()
        with out.status("writing three clouds' exports"):
            new = write_estate(Path(settings.source("aws").uri).parent)
        out.print("The synthetic estate is written." if new else "The synthetic estate stands as it was written.")
        first, end = demo_days()
        held = _run_days(config, first, end, only_changed=True)
        month = Period(date(2026, 10, 1), date(2026, 11, 1))
        with _published(config) as connection:
            _title("What did each team spend in October 2026?", month)
            _print(cost_by(connection, month, TEAMS_BY), limit=12)
            days = latest_days(connection)
            if days:
                _title("Who is untagged, by provider, over 30 days?", days)
                _print(untagged_by(connection, days))
            _title("What did each service category cost in October 2026?", month)
            _print(cost_by(connection, month, SERVICES_BY), limit=12)
        if held:
            out.print(
                f"{held} days are held back by their gates: two bad days belong to the demonstration."
                " Their last good version, if any, stands."
            )
        out.print(f"Done in {time.monotonic() - started:.0f} s. `make ui` opens Dagster on this state.")


def _run_days(config: Path | None, first: date, end: date, only_changed: bool = False) -> int:
    """Run the range with progress; returns how many days are held. Exits with 1 on errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from finops_assets.definitions import build_definitions
        from finops_assets.engine import days_between
        from finops_assets.platform import Platform
        from finops_assets.runs import DAYS_PER_RUN, built_days, consecutive, days_to_run, open_instance, publish, run_range

        settings = load_settings(config)
        _check_range(first, end, settings.first_day)
        platform = Platform(settings)
        defs = build_definitions(settings)
        with open_instance() as instance:
            days = days_to_run(platform, instance, first, end) if only_changed else days_between(first, end)
            if not days and settings.published.is_file():
                out.print(f"Nothing has changed for {Period(first, end)}: nothing to run.")
                return len(set(days_between(first, end)) - built_days(instance))
            runs = len(list(consecutive(days, DAYS_PER_RUN)))
            steps = runs * (2 * len(settings.sources) + 1) + 4
            with Progress(
                SpinnerColumn(), TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(),
                TimeElapsedColumn(), console=err,
            ) as progress:
                task = progress.add_task(f"{len(days)} days", total=steps)

                def told(step: str) -> None:
                    progress.update(task, advance=1, description=step)

                outcome = run_range(defs, instance, days, told)
                errors = outcome.errors + (publish(defs, instance, told) if outcome.built else [])
                progress.update(task, completed=steps, description="done")
    out.print(f"{len(outcome.built)} days built, {len(outcome.held)} held back.")
    for day, reasons in sorted(outcome.held.items()):
        out.print(f"  [yellow]held[/] {day}: {reasons[0]}", highlight=False, soft_wrap=True)
    for text in errors:
        err.print(f"[bold red]error[/] {text}", highlight=False)
    if errors:
        raise typer.Exit(1)
    return len(outcome.held)


def _check_range(first: date, end: date, first_day: date) -> None:
    today = datetime.now(UTC).date()
    if not first < end:
        raise FinopsError(f"the range {first} to {end} is empty; TO is exclusive, so it must come after FROM")
    if first < first_day or end > today:
        raise FinopsError(
            f"found {first} to {end}; allowed: from first_day {first_day} (finops.yaml) to {today} (today, exclusive:"
            " a UTC day can be run when it is over)"
        )


@contextmanager
def _published(config: Path | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """The published copy, read only."""
    path = load_settings(config).published
    if not path.is_file():
        raise FinopsError(f"{path} is not there yet; run days first (`finops run FROM TO`, `make demo` or the UI)")
    connection = duckdb.connect(str(path), read_only=True)
    try:
        connection.execute("SET timezone = 'UTC'")
        yield connection
    finally:
        connection.close()


def _period(connection: duckdb.DuckDBPyConnection, first: datetime | None, end: datetime | None, days: bool = False) -> Period:
    latest = latest_days(connection) if days else latest_month(connection)
    if latest is None:
        raise FinopsError("the rollup is empty: no day has passed its gates yet")
    period = Period(first.date() if first else latest.first, end.date() if end else latest.end)
    if period.end <= period.first:
        raise FinopsError(f"the range {period.first} to {period.end} is empty; --to is exclusive")
    return period


@report_app.command("teams")
def report_teams(
    first: FromOption = None, end: ToOption = None, by: Annotated[str, typer.Option(help="Columns, comma-separated")] = ",".join(TEAMS_BY),
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """What did each team spend? By default the latest month, against the same days of the month before."""
    _report_cost(config, first, end, by, format, output)


@report_app.command("services")
def report_services(
    first: FromOption = None, end: ToOption = None, by: Annotated[str, typer.Option(help="Columns, comma-separated")] = ",".join(SERVICES_BY),
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """What did each service category cost?"""
    _report_cost(config, first, end, by, format, output)


@report_app.command("untagged")
def report_untagged(
    first: FromOption = None, end: ToOption = None, by: Annotated[str, typer.Option(help="Columns, comma-separated")] = "provider",
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Which share of positive effective cost has no owner? By default the last 30 days."""
    with _explained(), _published(config) as connection:
        period = _period(connection, first, end, days=True)
        _emit(_checked(lambda: untagged_by(connection, period, _columns(by))), period, format, output)


def _report_cost(
    config: Path | None, first: datetime | None, end: datetime | None, by: str, format: Format, output: Path | None
) -> None:
    with _explained(), _published(config) as connection:
        period = _period(connection, first, end)
        _emit(_checked(lambda: cost_by(connection, period, _columns(by))), period, format, output)


def _columns(by: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in by.split(",") if part.strip())


def _checked(make: "object") -> pd.DataFrame:
    try:
        return make()  # type: ignore[operator, no-any-return]
    except ValueError as error:
        raise FinopsError(f"--by: {error}") from error


def _emit(table: pd.DataFrame, period: Period, format: Format, output: Path | None) -> None:
    if format == "table":
        _title("", period)
        _print(table)
        return
    target = output or sys.stdout.buffer
    match format:
        case "csv":
            table.to_csv(target, index=False)
        case "json":
            text = table.to_json(orient="records", date_format="iso", default_handler=str, indent=1) + "\n"
            if output:
                output.write_text(text, encoding="utf-8")
            else:
                sys.stdout.write(text)
        case "parquet":
            table.to_parquet(target, index=False)


def _title(text: str, period: Period) -> None:
    if text:
        out.print(f"\n[bold]{text}[/]")
    out.print(f"{period}, beside {period.before}; percentages are over positive effective cost", style="dim", highlight=False)


HEADINGS = {
    "BillingCurrency": "currency",
    "effective_cost": "effective",
    "billed_cost": "billed",
    "effective_cost_before": "before",
    "change_percent": "change %",
    "share_percent": "share %",
    "row_count": "rows",
    "positive_effective_cost": "positive effective",
    **{f"untagged_{d}_percent": f"no {d} %" for d in GROUPED},
    **{f"untagged_{d}_percent_before": "before %" for d in GROUPED},
}


def _print(table: pd.DataFrame, limit: int | None = None) -> None:
    """A table for the eye: short headings, two decimals; amounts behind a percentage only in the other formats."""
    table = table.drop(columns=[f"untagged_{d}" for d in GROUPED], errors="ignore")
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in table.columns:
        numeric = len(table) and isinstance(table[name].iloc[0], Decimal | float | int | np.number)
        shown.add_column(HEADINGS.get(name, str(name)), justify="right" if numeric else "left", no_wrap=True)
    for row in table.head(limit or len(table)).itertuples(index=False):
        shown.add_row(*(_cell(value) for value in row))
    out.print(shown)
    if limit and len(table) > limit:
        out.print(f"… and {len(table) - limit} more: finops report --help", style="dim")


def _cell(value: object) -> str:
    match value:
        case Decimal():
            return f"{value:,.2f}"
        case float():
            return "" if value != value else f"{value:,.1f}"
        case _:
            return str(value)


if __name__ == "__main__":
    app()
