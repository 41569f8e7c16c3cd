"""finops status: what is built, awaited and held, on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta

import typer

from finops_assets.base.period import in_a_row
from finops_assets.cli.common import (
    ConfigOption,
    FormatOption,
    OutputOption,
    explained,
    named_days,
    out,
    say,
    write_table,
)
from finops_assets.cli.exit_codes import HELD_CODE
from finops_assets.cost.coverage import AWAITED, BUILT, HELD, PREVIOUS, Coverage, coverage_of
from finops_assets.cost.restatements import taken_out, taken_out_told
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets.tables.rows import Rows

REASONS_SHOWN = 12


def status(format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None) -> None:
    """Where does every source stand: newest day built, days awaited and since when, days held and why?

    Of a source that finops.yaml has no more it says what still stands. The other formats have a row a day and source that
    is not built. Exits with 3 if a day of a source is held.
    """
    with explained():
        settings = load_settings(config)
        platform = Platform(settings)
        with platform.warehouse.reading() as connection:
            everything = coverage_of(connection)
            gone = taken_out(connection, platform.source_names)
        found = [c for c in everything if c.source in platform.source_names]
        others = [c for c in everything if c.source not in (*platform.source_names, *gone)]
        if format == "table":
            write_table(_overview(platform.source_names, found), format, output)
            _tell(found)
        else:
            write_table(_rows(found), format, output)
        for said in [*taken_out_told(gone, gone), *_left_over(others)]:
            say("warning", said)
    if any(c.state == HELD for c in found):
        raise typer.Exit(HELD_CODE)


def _overview(sources: Iterable[str], found: list[Coverage]) -> Rows:
    """A row a source."""
    rows = []
    for source in sources:
        of_source = [c for c in found if c.source == source]
        built = [c.day for c in of_source if c.state == BUILT]
        lacks = {state: [c for c in of_source if c.state == state] for state in (AWAITED, HELD)}
        rows.append(
            (
                source, str(max(built)) if built else "none", len(built), *map(len, lacks.values()),
                *map(_since, lacks.values()),
            )
        )  # fmt: skip
    shown = ("source", "newest day built", "days built", "days awaited", "days held", "awaited since", "held since")
    return Rows(shown, rows)


def _since(days: list[Coverage]) -> str:
    return f"{min(c.since for c in days):%Y-%m-%d %H:%M} UTC" if days else "-"


def _tell(found: list[Coverage]) -> None:
    """Why, and what to do: days in a row with one reason are one line."""
    lines = list(_spans(c for c in found if c.state != BUILT))
    for state, days, source, reason, shown in lines[:REASONS_SHOWN]:
        say(state, f"{source} {days}: {reason}{shown}", out)
    if len(lines) > REASONS_SHOWN:
        out.print(f"… and {len(lines) - REASONS_SHOWN} more: finops status --format csv")
    if not found:
        out.print("No day was run yet: finops run FROM TO, or let the sensors do it.")
    elif not lines:
        out.print("Every day that was run is built, with all sources.")


def _spans(found: Iterable[Coverage]) -> Iterator[tuple[str, str, str, str, str]]:
    ordered = sorted(found, key=lambda c: (c.state != HELD, c.source, c.day))
    for days, (state, source, reason, shown) in in_a_row(
        (c.day, (c.state, c.source, c.reason, c.shown)) for c in ordered
    ):
        said = " (its last good version is in the figures)" if shown == PREVIOUS else ""
        yield state, named_days(days), source, reason, said


def _left_over(gone: Iterable[Coverage]) -> Iterator[str]:
    """Of sources without cost that finops.yaml has no more: the days that are still noted as held or awaited."""
    days: dict[str, list[date]] = {}
    for c in gone:
        if c.state != BUILT:
            days.setdefault(c.source, []).append(c.day)
    for source, of_source in sorted(days.items()):
        first, end = min(of_source), max(of_source) + timedelta(days=1)
        yield (
            f"source {source} is not in finops.yaml any more: it still counts as not built on"
            f" {'1 day' if len(of_source) == 1 else f'{len(of_source)} days'}. Put it back, or let it leave all days: finops run {first} {end}"
        )


def _rows(found: list[Coverage]) -> Rows:
    return Rows(
        ["charge_date", "source", "state", "since", "reason", "shown"],
        [(c.day, c.source, c.state, c.since, c.reason, c.shown) for c in found if c.state != BUILT],
    )
