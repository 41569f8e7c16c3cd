"""What every command shares: the consoles, options, explained errors, and how a table leaves the program."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import duckdb
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from finops_assets.base.errors import FinopsError, WaitedTooLong
from finops_assets.base.period import Period
from finops_assets.base.text import json_text, visible
from finops_assets.cli.exit_codes import WAITED
from finops_assets.cost.restatements import REPORTED_COST
from finops_assets.evaluate.comparison import Comparison, compare, everything
from finops_assets.settings.load import load_settings
from finops_assets.storage.published_copy import open_copy
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.envelope import NOTHING_SAID, About, envelope
from finops_assets.tables.rows import Row, Rows
from finops_assets.tables.spreadsheet import csv_text


class LiteralConsole(Console):
    """A console on which text is text: no brackets or colons in it are markup, and nothing in it acts on the terminal.

    Names, tags and messages of others go through it. What has a style is `say`, `heading` or a rich Text.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)


# A file or a pipe has no width: nothing of a table is cut there.
out = LiteralConsole(width=None if sys.stdout.isatty() else 1_000)
err = LiteralConsole(stderr=True)

"""Exit code: everything ran, and a gate holds something."""

STYLES = {
    **dict.fromkeys(("error", "failed"), "bold red"), "problem": "red", "gap": "cyan", "-": "dim",
    **dict.fromkeys(("sent", "ok", "kept"), "green"),
}  # fmt: skip


def say(label: str, text: str, to: Console = err, indent: str = "", width: int = 0, style: str = "") -> None:
    """A line that begins with what it is, a word in its colour, `width` wide; then text as it was written."""
    gap = " " * max(width - len(label), 1)
    line = Text.assemble(indent, (visible(label), style or STYLES.get(label, "yellow")), gap, visible(text))
    to.print(line, highlight=False, soft_wrap=True)


def named_days(days: Sequence[date]) -> str:
    """Days in a row, by the first and the last."""
    return str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"


def heading(text: str, more: str = "", style: str = "bold") -> None:
    """A line of its own in bold, and what follows it in the same line."""
    out.print(Text.assemble("\n", (visible(text), style), visible(more)), highlight=False, soft_wrap=True)


Format = Literal["table", "csv", "json", "parquet"]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="finops.yaml (default: $FINOPS_CONFIG or ./finops.yaml)")
]
FromOption = Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC day")]
ToOption = Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="The day after the last")]
FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="parquet and csv go to standard output or --output")
]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output")]


@contextmanager
def explained() -> Iterator[None]:
    """Errors made on purpose are for people: their text, no traceback, exit code 1; 4 where it waited in vain."""
    try:
        yield
    except FinopsError as error:
        say("error", str(error))
        raise typer.Exit(WAITED if isinstance(error, WaitedTooLong) else 1) from error
    except BrokenPipeError:
        raise  # whoever reads has enough; click ends in silence
    except OSError as error:
        say("error", f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
        raise typer.Exit(1) from error
    except Exception as error:
        told = _lack_of_this_machine(error)
        if told is None:
            raise
        say("error", told)
        raise typer.Exit(1) from error


def _lack_of_this_machine(error: BaseException) -> str | None:
    """What this machine lacks, where an error says so that nobody made on purpose."""
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException):
        said = str(error).strip().partition("\n")[0]
        return (
            f"there is too little memory{f' ({said})' if said else ''}; give this process more, or lower"
            " `engine: memory_limit` and `threads` in finops.yaml. What was built stands"
        )
    # Only where it is loaded can it have been raised.
    database = sys.modules.get("sqlalchemy.exc")
    if database is not None and isinstance(error, database.DBAPIError):
        return (
            f"Dagster's history cannot be read or written ({error.orig}); check space, permissions and limits of the"
            " place that `storage:` in dagster.yaml names. What was built stands"
        )
    return None


_ANEW = "if it is damaged, move it away; `finops publish` makes it anew from the warehouse"


@contextmanager
def published(config: Path | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """The published copy, read only."""
    path = load_settings(config).published
    if not path.is_file():
        raise FinopsError(f"{path} is not there yet; run days first (`finops run FROM TO`, `make demo` or the UI)")
    try:
        copy = open_copy(path)
    except duckdb.Error as error:
        raise FinopsError(f"published copy {path} cannot be opened ({error}); {_ANEW}") from error
    try:
        with copy.told():
            yield copy.connection
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.IOException) as error:
        said = str(error).partition("\n")[0]
        raise FinopsError(f"published copy {path} is not whole, or another version's ({said}); {_ANEW}") from error
    finally:
        copy.connection.close()


def not_built(config: Path | None, refused: Iterable[str]) -> str:
    """What to do where names were refused that finops.yaml has as dimensions, and the published copy not yet; else empty."""
    names = sorted(set(refused) & set(load_settings(config).dimensions))
    if not names:
        return ""
    return f"finops.yaml has {', '.join(names)}, but no day was built with it: run days (`finops backfill FROM TO`)"


def emit(table: Rows, compared: Comparison, format: Format, output: Path | None, basis: str | None = None) -> None:
    """A report with the period it is of, and what it is compared with. `basis`: which cost, where it is one."""
    if format == "table":
        title("", compared)
    write_table(table, format, output, About(compared.period, basis, coverage=compared.coverage))


def made_of(connection: duckdb.DuckDBPyConnection, period: Period | None = None, basis: str | None = None) -> About:
    """What an answer on a period (by default on all days) is made of, for its JSON; says on standard error what it lacks.

    So every answer names a source that is held or awaited, whatever its format.
    """
    if not Warehouse.has(connection, REPORTED_COST):
        return NOTHING_SAID  # a copy in which no day was rolled up
    period = period or everything(connection)
    if period is None:
        return NOTHING_SAID
    compared = compare(connection, period)
    for text in compared.notes_of_period:
        say("note", text)
    return About(period, basis, coverage=compared.coverage | {"notes": compared.notes_of_period})


def write_text(text: str, output: Path | None) -> None:
    """Text to a file or, as it is, to standard output.

    Raises:
        FinopsError: the file cannot be written.
    """
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FinopsError(f"{output}: cannot be written: {error.strerror}") from error


def write_table(table: Rows, format: Format, output: Path | None, about: About = NOTHING_SAID) -> None:
    """A table in a format, to a file or standard output; JSON says what it is about, too.

    In every format but the table for the eye amounts are exact, columns have the types that `tables` declares whatever
    the values are, and what is not known is null (empty in CSV).
    """
    if format == "table":
        show(table)
        return
    with nullcontext(sys.stdout.buffer) if output is None else output.open("wb") as target:
        match format:
            case "csv":
                target.write(csv_text(table).encode())
            case "json":
                told = json.dumps(envelope(table, about), indent=1, ensure_ascii=False, allow_nan=False)
                target.write(f"{json_text(told)}\n".encode())
            case "parquet":
                import pyarrow.parquet as pq  # takes half as long to load as a report takes

                from finops_assets.tables.values import arrow

                pq.write_table(arrow(table), target, compression="zstd")


def title(text: str, compared: Comparison) -> None:
    """The period, the one beside it, and over how many days."""
    if text:
        heading(text)
    period = compared.period
    out.print(
        f"{period}, beside {period.before}: {compared}; percentages are over positive effective cost",
        style="dim", highlight=False, soft_wrap=True,
    )  # fmt: skip


HEADINGS = {
    "BillingCurrency": "currency",
    "effective_cost": "effective",
    "billed_cost": "billed",
    "effective_cost_before": "before",
    **{f"{basis}_cost_compared": "compared" for basis in ("effective", "billed", "accrued")},
    "days_before": "days before",
    "days_missing": "days missing",
    "change_percent": "change %",
    "share_percent": "share %",
    "row_count": "rows",
    "restated_at": "restated (UTC)",
    "charge_date": "day",
    "effective_cost_after": "after",
    "billed_moved": "billed moved",
    "rows_moved": "rows moved",
    "seen_at": "seen (UTC)",
    "days_changed": "days changed",
    "positive_effective_cost": "positive effective",
    "billed_cost_before": "before",
    "accrued_cost": "accrued",
    "accrued_cost_before": "before",
    "apportioned_cost": "apportioned",
    "committed_cost": "committed",
    "CommitmentDiscountId": "commitment",
    "purchase_billed_cost": "purchased",
    "used_cost": "used",
    "unused_cost": "unused",
    "utilisation_percent": "used %",
    "eligible_cost": "eligible",
    "coverage_percent": "covered %",
    "rate_percent": "rate %",
    "cost_a_month": "a month",
    "token_type": "type",
    "effective_per_million": "effective a million",
    "billed_per_million": "billed a million",
    "cost_without_tokens": "without tokens",
    "could_save": "could save",
    "one_more": "one more",
    "one_more_saved": "it saved",
    "one_more_wasted": "it wasted",
    "CommitmentDiscountType": "kind",
    "first_day": "first day",
    "last_day": "last day",
    "focus_version": "FOCUS",
    "first_row": "first row",
    "largest_drift": "largest drift",
    "drift_bound": "drift bound",
    "term_held": "term held",
    "billing_period": "billing period",
    "list_cost": "list",
    "contracted_cost": "contracted",
    "saved_percent": "saved %",
    "without_prices": "without prices",
}
UNTAGGED_PERCENT = re.compile(r"untagged_(.+)_percent(_before)?")


LEAST_TEXT, MOST_TEXT = 8, 1_000


def _heading(name: str) -> str:
    if found := UNTAGGED_PERCENT.fullmatch(name):
        return "before %" if found[2] else f"no {found[1]} %"
    return HEADINGS.get(name, name)


def show(table: Rows, limit: int | None = None) -> None:
    """A table for the eye: short headings, two decimals, six of one unit's cost; amounts behind a percentage only in the other
    formats.

    At most `limit` rows, the first of each currency alike, if it has several.
    """
    table = table.without(
        *(f"untagged_{found[1]}" for name in table.columns if (found := UNTAGGED_PERCENT.fullmatch(name)))
    )
    for name in [name for name in table.columns if name.endswith("_compared")]:
        whole = table[name.removesuffix("_compared")]
        # Where all that was spent is compared, that it is says the title.
        if all(like is None or like == cost for like, cost in zip(table[name], whole)):
            table = table.without(name)
    rows_in_all = len(table)
    if limit:
        table = _first(table, limit)
    places = [6 if name.endswith("_per_unit") else 0 if name == "tokens" else 2 for name in table.columns]
    rows = [[cell(value, p) for value, p in zip(row, places)] for row in table.values]
    headings = [visible(_heading(name)) for name in table.columns]
    firsts = [next((value for value in table[name] if value is not None), None) for name in table.columns]
    fixed = [len(table) > 0 and not isinstance(value, str) for value in firsts]
    widths = _fitting([max(map(len, each)) for each in zip(headings, *rows)], fixed, out.width)
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for value, shown_as, width in zip(firsts, headings, widths):
        numeric = isinstance(value, Decimal | float | int) and not isinstance(value, bool)
        shown.add_column(shown_as, justify="right" if numeric else "left", no_wrap=True, min_width=width)
    for row in rows:
        shown.add_row(*(text if len(text) <= width else f"…{text[1 - width :]}" for text, width in zip(row, widths)))
    out.print(shown)
    if len(table) < rows_in_all:
        out.print(f"… and {rows_in_all - len(table)} more: finops report --help", style="dim")


def _first(table: Rows, limit: int) -> Rows:
    """At most so many rows, the first of each currency alike, if it has several."""
    if "currency" not in table.columns:
        return Rows(table.columns, table.values[:limit])
    left = dict.fromkeys(table["currency"], max(1, limit // max(1, len(set(table["currency"])))))

    def counted(row: Row) -> bool:
        left[row["currency"]] -= 1
        return left[row["currency"]] >= 0

    return table.where(counted)


def _fitting(widths: list[int], fixed: list[bool], width: int) -> list[int]:
    """Column widths that a line holds, if it can: long texts give way, whose ends tell more; figures never do."""
    widths = list(widths)
    while sum(widths) + 2 * (len(widths) - 1) > width:
        longest = max((w for w, f in zip(widths, fixed) if not f), default=0)
        if longest <= LEAST_TEXT:
            break
        widths[next(i for i, w in enumerate(widths) if w == longest and not fixed[i])] -= 1
    return widths


def cell(value: object, places: int = 2) -> str:
    match value:
        case Decimal():
            return f"{value:,.{places}f}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case None:
            return ""
        case float():
            return "" if value != value else f"{value:,.1f}"
        case _:
            # In one line, whatever stands in a tag.
            return visible(str(value)[:MOST_TEXT]).replace("\n", "↵").replace("\t", " ")
