"""finops export: facts for other tools."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from finops_assets.base.errors import FinopsError
from finops_assets.base.period import days_between
from finops_assets.cli.common import ConfigOption, explained, out, published, say
from finops_assets.cli.exit_codes import HELD_CODE
from finops_assets.cost.coverage import AWAITED, BUILT, HELD, PREVIOUS, Coverage, coverage_of
from finops_assets.cost.reach import group_reach, hand_out
from finops_assets.evaluate.focus_export import ExportVersion, FocusExport, export_focus
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings

export_app = typer.Typer(no_args_is_help=True, help="Facts and tables, for other tools and for one group alone.")
SHOWN = 6


@export_app.command("focus")
def export_focus_command(
    target: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="A folder; an export of the same kind goes on")],
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC charge day")],
    end: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The day after the last")],
    version: Annotated[ExportVersion, typer.Option(help="FOCUS version to write")] = "1.2",
    source: Annotated[list[str] | None, typer.Option(help="Only this source; may be repeated")] = None,
    config: ConfigOption = None,
) -> None:
    """Write the facts as FOCUS Parquet, a file a charge day, with the dimensions as x_ columns.

    It holds what the rollup holds. Days of which that is nothing are not exported and are named, and so are days that
    lack a source: the recency metadata calls them not complete. Exits with 0 if every day was written whole, 3 if some
    are held or have no facts, 1 on an error.
    """
    with explained():
        settings = load_settings(config)
        platform = Platform(settings)
        unknown = [name for name in source or () if name not in platform.source_names]
        if unknown:
            raise FinopsError(f"--source: found {', '.join(unknown)}; allowed: {', '.join(platform.source_names)}")
        days = days_between(first.date(), end.date())
        if not days:
            raise FinopsError(f"the range {first.date()} to {end.date()} is empty; --to is exclusive")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from finops_assets.graph.days_to_run import held_by_gates
            from finops_assets.graph.run_range import open_instance

            # In the settings' order, so that the same choice is the same export.
            chosen = [name for name in platform.source_names if not source or name in source]
            with platform.warehouse.reading() as connection:
                covered = [c for c in coverage_of(connection, days[0], end.date()) if c.source in chosen]
            there = {c.day for c in covered if c.state == BUILT or c.shown == PREVIOUS}
            told = {c.day for c in covered}
            # Of an earlier version, which did not note it; of a day that was never run nothing is held.
            unsaid = [day for day in days if day not in told and platform.lake.day_files("raw", chosen, [day])]
            with open_instance() as instance:
                held = held_by_gates(platform, instance, unsaid)
            held |= {day: [c.reason for c in covered if c.day == day] for day in sorted(told - there)}
            awaited = {day for day in told - there if all(c.state == AWAITED for c in covered if c.day == day)}
            parts = [c for c in covered if c.day in there and c.state != BUILT]
        of_parts: dict[date, list[str]] = {}
        for c in parts:
            of_parts.setdefault(c.day, []).append(f"{_what(c)}: {c.reason}")
        export = export_focus(platform, days, target, version, chosen, held, of_parts)
        _tell(export, target, awaited)
        for c in parts[:SHOWN]:
            say(c.state, f"{c.day}, {_what(c)}: {c.reason}", out, "  ")
        if len(parts) > SHOWN:
            out.print(f"  … and {len(parts) - SHOWN} more sources of days", highlight=False)
    if export.held or export.missing or parts:
        raise typer.Exit(HELD_CODE)


@export_app.command("group")
def export_group(
    group: Annotated[str, typer.Argument(help="A group of `access` in finops.yaml")],
    target: Annotated[
        Path, typer.Argument(metavar="FILE", help="The DuckDB file to write; one that is there is replaced")
    ],
    config: ConfigOption = None,
) -> None:
    """Write what one group sees of the published copy as a DuckDB file of its own: for its BI tool, and nothing beside it."""
    with explained():
        settings = load_settings(config)
        reach = group_reach(settings.access, group)
        with published(config):
            pass  # it is there, and can be opened
        if target.absolute() in (settings.published.absolute(), settings.warehouse.absolute()):
            raise FinopsError(f"{target} is the platform's own file; give another name")
        hand_out(settings.published, reach, settings.dimensions, target.absolute())
        out.print(f"{target} holds what {group} sees: {reach.told()}.", highlight=False, soft_wrap=True)


def _what(c: Coverage) -> str:
    return f"{c.source} {'as its last good version' if c.shown == PREVIOUS else 'not in it'}"


def _tell(export: FocusExport, target: Path, awaited: Collection[date]) -> None:
    rows = sum(export.rows.values())
    out.print(
        f"FOCUS {export.version}: {len(export.rows)} days, {rows:,} rows in {target}; rows and costs equal the facts'.",
        highlight=False,
        soft_wrap=True,
    )
    for day, reasons in list(export.held.items())[:SHOWN]:
        say(AWAITED if day in awaited else HELD, f"{day}: {reasons[0]}", out, "  ")
    if len(export.held) > SHOWN:
        out.print(f"  … and {len(export.held) - SHOWN} more held or awaited days", highlight=False)
    if export.missing:
        shown = ", ".join(map(str, export.missing[:SHOWN])) + (", …" if len(export.missing) > SHOWN else "")
        say("no facts", f"of {len(export.missing)} days: {shown}", out, "  ")
    if export.custom:
        out.print(
            f"  as x_ columns, because a source has them not: {', '.join(export.custom)}",
            highlight=False,
            soft_wrap=True,
        )
    for name, count in export.gaps.items():
        say(
            "note",
            f"{name} must not be null in FOCUS {export.version} and is in {count:,} rows: the provider gave none",
        )
