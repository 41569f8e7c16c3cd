"""finops rules: attribution rules before they are in force, and which version of them gave which value."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from finops_assets.base.errors import FinopsError
from finops_assets.base.period import days_between
from finops_assets.cli.common import (
    ConfigOption,
    FormatOption,
    FromOption,
    OutputOption,
    ToOption,
    explained,
    heading,
    out,
    say,
    write_table,
)
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.attribution.versions import audit, versions_table
from finops_assets.platform import Platform, accepted_owners
from finops_assets.settings.load import load_candidate, load_settings
from finops_assets.storage.day_files import facts_rules
from finops_assets.storage.lake import Lake
from finops_assets.tables.rows import Rows

rules_app = typer.Typer(no_args_is_help=True, help="Attribution rules: a dry run, their versions, and what gave what.")
PREVIEW_DAYS = 30


@rules_app.command("preview")
def rules_preview(
    first: FromOption = None, end: ToOption = None,
    file: Annotated[Path | None, typer.Option("--file", help="Candidate rules: `attribution_rules:` alone, or a finops.yaml")] = None,
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """What would move if the facts were attributed anew: by rule, from owner to owner. Writes nothing.

    By default the rules of finops.yaml and the accepted owners, over the last 30 days that have facts.
    """
    from finops_assets.evaluate.rules_preview import preview  # not for every command: it attributes facts

    with explained():
        settings = load_settings(config)
        platform, lake = Platform(settings), Platform(settings).lake
        chosen = load_candidate(file, settings) if file else settings
        newest = max((days[-1] for s in platform.source_names if (days := lake.days("facts", s))), default=None)
        if newest is None:
            raise FinopsError("there are no facts yet, so nothing could move; run days first (`finops run FROM TO`)")
        last = end.date() if end else newest + timedelta(days=1)
        begin = first.date() if first else last - timedelta(days=PREVIEW_DAYS)
        if last <= begin:
            raise FinopsError(f"the range {begin} to {last} is empty; --to is exclusive")
        rules = Rules.from_settings(chosen, accepted_owners(settings))
        found = preview(lake, settings.engine, rules, platform.source_names, days_between(begin, last))
        if not found.days:
            raise FinopsError(f"no day from {begin} to before {last} has facts")
        if found.without_facts and (first or end):
            missing = ", ".join(map(str, found.without_facts[:6])) + (", …" if len(found.without_facts) > 6 else "")
            say("note", f"no facts, so nothing that could move: {missing}")
        if format != "table":
            write_table(Rows.of(found.moves), format, output)
            return
        out.print(
            f"{len(found.days)} days, {found.days[0]} to {found.days[-1]}; nothing is written",
            style="dim",
            highlight=False,
        )
        heading("What would move")
        if found.moves.empty:
            out.print("nothing: the facts are what these rules give")
        else:
            moves = found.moves.fillna({"by": "(nothing)", "from": "(nobody)", "to": "(nobody)"})
            write_table(Rows.of(moves), format, output)
        if rules.row_rules:
            heading("What each rule gives")
            write_table(Rows.of(found.rules), format, output)


@rules_app.command("versions")
def rules_versions(format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None) -> None:
    """Every version of the rules that facts were attributed with, what changed in it, and which days carry it now."""
    with explained():
        platform = Platform(load_settings(config))
        lake = platform.lake
        carried: dict[tuple[str, date], str | None] = {}
        for source in platform.source_names:
            days = lake.days("facts", source)
            carried |= {(source, day): version for day, (_, version) in zip(days, _facts(lake, source, days))}
        table = versions_table(lake, carried)
        write_table(table, format, output)
        if format == "table":
            out.print(f"in force: {platform.rules.version}", style="dim", highlight=False)


@rules_app.command("audit")
def rules_audit(
    first: FromOption = None, end: ToOption = None,
    dimension: Annotated[str | None, typer.Option("--dimension", "-d", help="Only this one, as team")] = None,
    format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Which version of the rules gave which value, by tag key, rule or accepted owner, with rows and cost."""
    with explained():
        settings = load_settings(config)
        platform, lake = Platform(settings), Platform(settings).lake
        if dimension is not None and dimension not in settings.dimensions:
            raise FinopsError(f"found {dimension!r}; allowed: {', '.join(settings.dimensions)}")
        files: list[tuple[Path, str | None]] = []
        for source in platform.source_names:
            days = [
                day
                for day in lake.days("facts", source)
                if (first is None or day >= first.date()) and (end is None or day < end.date())
            ]
            files += _facts(lake, source, days)
        if not files:
            raise FinopsError("there are no facts of these days")
        dimensions = [dimension] if dimension else list(settings.dimensions)
        write_table(audit(lake, settings.engine, dimensions, files), format, output)


def _facts(lake: Lake, source: str, days: list[date]) -> list[tuple[Path, str | None]]:
    """The facts files of these days, each with the version of the rules that it carries."""
    return [(file, facts_rules(file)) for file in lake.day_files("facts", [source], days)]
