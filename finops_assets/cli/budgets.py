"""finops budgets: what is planned, what is spent and expected of it, and which budgets no longer fit."""

from __future__ import annotations

from datetime import date, timedelta

import duckdb
import typer

from finops_assets.base.errors import FinopsError
from finops_assets.base.sql import identifier
from finops_assets.cli.common import (
    ConfigOption,
    FormatOption,
    OutputOption,
    explained,
    made_of,
    out,
    published,
    say,
    write_table,
)
from finops_assets.cost.rollup import ROLLUP_TABLE
from finops_assets.evaluate.budgets.evaluate import BUDGET_EVALUATIONS, evaluations, most_serious_first, unknown_owner
from finops_assets.evaluate.budgets.plan import Budget, label_of, read_budgets
from finops_assets.evaluate.budgets.review import months_compared, review
from finops_assets.evaluate.budgets.versions import CHANGES, changes
from finops_assets.evaluate.comparison import reported_within
from finops_assets.evaluate.reports import can_group_by
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets.storage.warehouse import Warehouse

budgets_app = typer.Typer(
    no_args_is_help=True, help="Budgets of departments, teams and other dimensions: docs/guides/budgets.md"
)
SHOWN = [
    "budget",
    "period_start",
    "amount",
    "spent",
    "days_missing",
    "forecast",
    "low95",
    "high95",
    "severity",
    "chance",
]
NOT_YET = "no budget was evaluated yet; set `budgets` in finops.yaml and run days (`finops run FROM TO`)"


@budgets_app.command("status")
def budgets_status(format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None) -> None:
    """What is spent and expected of every budget, the most serious first; as of the last evaluation."""
    with explained(), published(config) as connection:
        if not Warehouse.has(connection, BUDGET_EVALUATIONS):
            raise FinopsError(NOT_YET)
        table = evaluations(connection)
        periods = [*zip(table["period_start"], table["through"])]
        begun, through = (
            min((first for first, _ in periods), default=date.max),
            max((t for _, t in periods), default=date.min),
        )
        about = made_of(connection, reported_within(connection, begun, through + timedelta(days=1)))
        if format != "table":
            write_table(table, format, output, about)
            return
        if not len(table):
            raise FinopsError("no budget is for a period that runs; see `finops budgets check`")
        table = most_serious_first(table)
        out.print(f"up to {table['through'][0]}, budgets of version {table['budgets_version'][0]}", style="dim")
        write_table(table.where(lambda row: row["problem"] is None).only(SHOWN), format, output)
        for row in table.where(lambda row: row["problem"] is not None):
            say("warning", f"{row['budget']}: {row['problem']}")
        gaps = max(table["days_missing"])
        if gaps:
            say("note", f"up to {gaps} days are held or late; they are expected as usual, not as 0")


@budgets_app.command("check")
def budgets_check(config: ConfigOption = None) -> None:
    """Reads the file: every mistake with its line and value, and owners or currencies that nothing is billed to."""
    with explained():
        settings = load_settings(config)
        if settings.budgets is None:
            raise FinopsError("finops.yaml names no file of budgets; add `budgets: budgets.csv`")
        rules = Platform(settings).rules
        found = read_budgets(settings.budgets.file, rules.values, rules.dimensions)
        out.print(f"{settings.budgets.file}: {len(found)} budgets, no mistake")
        if not settings.published.is_file():
            out.print("Nothing is published yet: owners and currencies are not compared with what is billed.")
            return
        with published(config) as connection:
            if not Warehouse.has(connection, ROLLUP_TABLE):
                return
            billed = {kind: _billed(connection, kind) for kind in {tuple(budget.conditions) for budget in found}}
        for budget in found:
            if text := _unbilled(budget, billed[tuple(budget.conditions)]):
                say("warning", f"line {budget.line}: {text}")


_Billed = set[tuple[tuple[str, ...], str]]


def _billed(connection: duckdb.DuckDBPyConnection, columns: tuple[str, ...]) -> _Billed:
    """The names that these columns of the rollup have together, each with a currency."""
    if not set(columns) <= {*can_group_by(connection)}:
        return set()
    names = "".join(f"{identifier(c)}, " for c in columns)
    rows = connection.execute(f"SELECT DISTINCT {names}BillingCurrency FROM {ROLLUP_TABLE}").fetchall()
    return {(row[:-1], row[-1]) for row in rows if None not in row}


def _unbilled(budget: Budget, billed: _Billed) -> str | None:
    own = tuple(budget.conditions.values())
    return None if (own, budget.currency) in billed else unknown_owner(budget, billed)


@budgets_app.command("history")
def budgets_history(format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None) -> None:
    """What was changed when: the versions of the budgets, the newest first."""
    with explained(), published(config) as connection:
        if not Warehouse.has(connection, CHANGES):
            raise FinopsError(NOT_YET)
        write_table(changes(connection), format, output)


@budgets_app.command("review")
def budgets_review(format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None) -> None:
    """The budgets that no longer fit what their owners spend, with an amount to talk about. For each quarter."""
    with explained(), published(config) as connection:
        if not Warehouse.has(connection, CHANGES):
            raise FinopsError(NOT_YET)
        table = review(connection)
        if not len(table) and format == "table":
            months = ", ".join(label_of(month) for month in months_compared(connection)) or "none is whole"
            out.print(f"No budget is listed. Compared with these months (two are needed at least): {months}.")
            return
        write_table(table, format, output)
