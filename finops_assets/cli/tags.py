"""finops tags: how far tags are from the policy, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from finops_assets.base.errors import FinopsError
from finops_assets.cli.common import (
    ConfigOption,
    FormatOption,
    OutputOption,
    err,
    explained,
    made_of,
    out,
    published,
    write_table,
    write_text,
)
from finops_assets.evaluate.comparison import recent_days
from finops_assets.evaluate.governance.policy import RECENT_DAYS
from finops_assets.settings.load import load_settings
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.envelope import About
from finops_assets.tables.rows import Rows

tags_app = typer.Typer(no_args_is_help=True, help="Tag governance: coverage, values and keys, and who owes what.")

Scope = Literal["all", "provider", "account", "department"]
FIGURES = ["week", "name", "dimension", "currency", "positive_effective_cost", "without_cost", "without_percent",
           "outside_cost", "target_percent", "meets_target"]  # fmt: skip


@tags_app.command("coverage")
def tags_coverage(
    by: Annotated[Scope, typer.Option(help="In total, or by what")] = "all",
    weeks: Annotated[int, typer.Option(min=1, help="The newest weeks")] = 4,
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Cost without each required dimension by week (its Monday), against the target."""
    with explained():
        table, about = _table(config, "tag_coverage")
        table = table.where(lambda row: row["scope"] == by)
        newest = sorted(set(table["week"]))[-weeks:]
        table = table.where(lambda row: row["week"] in newest)
        write_table(table.only(FIGURES) if format == "table" else table, format, output, about)


@tags_app.command("values")
def tags_values(format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None) -> None:
    """Values that are none of the canonical ones, with the nearest canonical one and the money on them."""
    with explained():
        table, about = _table(config, "tag_values_outside_canon")
        write_table(table.without("given_by") if format == "table" else table, format, output, about)


@tags_app.command("keys")
def tags_keys(format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None) -> None:
    """Tag keys that carry no dimension, with the money on them and the dimension whose values they seem to hold."""
    with explained():
        table, about = _table(config, "tag_keys_unmapped")
        write_table(table, format, output, about)


@tags_app.command("debt")
def tags_debt(
    champion: Annotated[str | None, typer.Option(help="Only what this person answers for")] = None,
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Cost without a required dimension, or with a value outside the canon, by who answers for it."""
    with explained():
        table, about = _table(config, "tag_debt")
        if champion is not None:
            known = sorted(set(table["champion"]) - {""})
            if champion not in known:
                raise FinopsError(
                    f"found champion {champion!r}; those who owe something: {', '.join(known) or 'nobody'}"
                )
            table = table.where(lambda row: row["champion"] == champion)
        write_table(table, format, output, about)


@tags_app.command("suggest-aliases")
def tags_suggest_aliases(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output")] = None,
    config: ConfigOption = None,
) -> None:
    """The YAML to put into finops.yaml for keys that would attribute cost if they were aliases. Read it before you do."""
    from finops_assets.evaluate.governance.tags import aliases_yaml  # not for every command: it works with data frames

    with explained():
        text = aliases_yaml(load_settings(config), _table(config, "tag_keys_unmapped")[0].frame())
        if not text:
            err.print("no tag key would attribute any cost: `finops tags keys` shows those that there are", style="dim")
            return
        write_text(text, output)
    if output:
        out.print(f"written to {output}")


def _table(config: Path | None, name: str) -> tuple[Rows, About]:
    """A table of the published copy, and what it is made of."""
    with published(config) as connection:
        if not Warehouse.has(connection, name):
            raise FinopsError(f"there is no {name} yet; materialise it in Dagster, or run days (`finops run FROM TO`)")
        return Rows.asked(connection, f"FROM {name}"), made_of(connection, recent_days(connection, RECENT_DAYS))
