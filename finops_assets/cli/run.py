"""finops run and finops demo: the graph for a range of days, with progress."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from finops_assets.base.errors import FinopsError
from finops_assets.base.period import Period, in_a_row
from finops_assets.base.waiting import tell
from finops_assets.cli.common import ConfigOption, explained, named_days, out, published, say, show, title
from finops_assets.cli.exit_codes import HELD_CODE
from finops_assets.cli.working import working
from finops_assets.cost.restatements import TakenOut, taken_out, taken_out_told
from finops_assets.evaluate.comparison import compare, latest_days
from finops_assets.evaluate.page.file import page_path
from finops_assets.evaluate.reports import SERVICES_BY, TEAMS_BY, cost_by, untagged_by
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets.settings.model import Settings

FromDay = Annotated[datetime, typer.Argument(metavar="FROM", formats=["%Y-%m-%d"])]
ToDay = Annotated[datetime, typer.Argument(metavar="TO", formats=["%Y-%m-%d"])]

HELD_SHOWN = 5


def run(first: FromDay, end: ToDay, config: ConfigOption = None) -> None:
    """Materialise raw, facts, rollup and reports for the days FROM up to but not including TO.

    Evaluations, reports and the published copy stand where nothing that they are made from has changed; `finops publish`
    makes them anew all the same.

    Exits with 0 if every day was built, 3 if some are held back by a gate, 1 on an error, 4 if somebody else had what it
    needs for longer than wait_minutes (finops.yaml), 130 or 143 if it was interrupted (SIGINT, SIGTERM).
    """
    with explained():
        if _run_days(config, first.date(), end.date()):
            raise typer.Exit(HELD_CODE)


def backfill(first: FromDay, end: ToDay, config: ConfigOption = None) -> None:
    """As run, but only the days that are not what a run would make of them, and those that a gate holds.

    A backfill cut short goes on here; held days are judged again, by the limits and rules that are in force now.

    Exits with 0 if every day was built, 3 if some are held back by a gate, 1 on an error, 4 if somebody else had what it
    needs for longer than wait_minutes (finops.yaml), 130 or 143 if it was interrupted (SIGINT, SIGTERM).
    """
    with explained():
        if _run_days(config, first.date(), end.date(), only_changed=True, judge_held=True):
            raise typer.Exit(HELD_CODE)


def publish(
    to: Annotated[
        str | None,
        typer.Option(
            metavar="postgresql://USER@HOST/DATABASE",
            help="Make nothing anew, but bring a copy in PostgreSQL to what is published; the password is PGPASSWORD's or ~/.pgpass's",
        ),
    ] = None,
    schema: Annotated[str, typer.Option(help="With --to: the schema there, which is this copy's alone")] = "finops",
    config: ConfigOption = None,
) -> None:
    """Make evaluations, reports and the published copy anew from the days that are built.

    For what changed besides the bills: budgets, rules of shared cost, quantities, policy. With --to nothing is made anew:
    a PostgreSQL database gets what is published, all but single charges, in one transaction.

    Exits with 0 if all is published, 1 on an error, 4 if somebody else had what it needs for longer than wait_minutes
    (finops.yaml), 130 or 143 if it was interrupted (SIGINT, SIGTERM).
    """
    with explained(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from finops_assets.definitions import build_definitions
        from finops_assets.graph.run_range import open_instance
        from finops_assets.graph.run_range import publish as publish_days

        settings = load_settings(config)
        if to is not None:
            _copy_to(to, schema, settings, config)
            return
        again = "Go on with: finops publish"
        with working(again) as terminal, open_instance() as instance, terminal.status("reports"):
            errors, warned = publish_days(build_definitions(settings), instance, Platform(settings))
        _warn(warned)
        if errors:
            raise FinopsError("\n".join(errors))
        out.print(f"Published: {settings.published}", soft_wrap=True, highlight=False)


def _copy_to(address: str, schema: str, settings: Settings, config: Path | None) -> None:
    from finops_assets.storage.postgres_copy import bring_up_to_date

    with working("Go on with the same command") as terminal, terminal.status("copying"):
        replaced = bring_up_to_date(
            settings.published, partial(published, config), address, schema, settings.wait_minutes
        )
    for each in replaced:
        days = f"{each.days} days, " if each.days else ""
        out.print(f"  {each.table}: {days}{each.rows} rows", soft_wrap=True, highlight=False)
    out.print(
        f"Schema {schema} is what is published: {len(replaced)} tables were brought up to date."
        if replaced
        else f"Schema {schema} is what is published already.",
        soft_wrap=True,
        highlight=False,
    )


def demo(config: ConfigOption = None) -> None:
    """A synthetic three-cloud estate through the whole graph for its last 62 days, and the three answers."""
    from finops_assets.demo.story import demo_days, write_estate

    with explained():
        settings = load_settings(config)
        started = time.monotonic()
        with out.status("writing three clouds' exports"):
            new = write_estate(Path(settings.source("aws").uri).parent)
        out.print("The synthetic estate is written." if new else "The synthetic estate stands as it was written.")
        first, end = demo_days()
        held = _run_days(config, first, end, only_changed=True)
        month = Period(date(2026, 10, 1), date(2026, 11, 1))
        with published(config) as connection:
            title("What did each team spend in October 2026?", compare(connection, month))
            show(cost_by(connection, month, TEAMS_BY), limit=12)
            days = latest_days(connection)
            if days:
                title("Who is untagged, by provider, over 30 days?", compare(connection, days))
                show(untagged_by(connection, days))
            title("What did each service category cost in October 2026?", compare(connection, month))
            show(cost_by(connection, month, SERVICES_BY), limit=12)
        if held:
            out.print(
                f"On {held} days gates hold a source: two bad ones belong to the demonstration, the others of those days"
                " flow. `finops status` tells of both.",
                soft_wrap=True,
            )
        out.print(f"The month on one page: {page_path(settings.published, month)}", soft_wrap=True)
        out.print(f"Done in {time.monotonic() - started:.0f} s. `make ui` opens Dagster on this state.")


def _run_days(config: Path | None, first: date, end: date, only_changed: bool = False, judge_held: bool = False) -> int:
    """Run the range with progress; returns how many days are held. Exits with 1 on errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from finops_assets.base.period import consecutive, days_between
        from finops_assets.definitions import build_definitions
        from finops_assets.graph.days_to_run import days_to_run, held_or_awaited
        from finops_assets.graph.run_range import DAYS_PER_RUN, open_instance, publish, run_range, steps_of, warned_of
        from finops_assets.graph.standing import standing_run
        from finops_assets.graph.turns import wait_for_others

        settings = load_settings(config)
        _check_range(first, end, settings.first_day)
        platform = Platform(settings)
        again = f"Go on with: finops backfill {first} {end}"
        with working(again) as terminal, open_instance() as instance:
            defs = build_definitions(settings)
            wait_for_others(instance, days_between(first, end), settings.wait_minutes * 60)
            before = _taken_out(platform)
            days = days_to_run(platform, instance, first, end) if only_changed else days_between(first, end)
            if judge_held:
                days = sorted({*days, *held_or_awaited(platform, instance, first, end)})
            if not days and (platform.warehouse.is_published() or standing_run(defs, instance, platform)):
                held = held_or_awaited(platform, instance, first, end, awaited=False)
                out.print(f"Nothing has changed for {Period(first, end)}: nothing to run.")
                if held:
                    named = ", ".join(map(str, held))
                    out.print(
                        f"Held back, in whole or in part, since they ran last: {named}. `finops status` says why."
                    )
                return len(held)
            runs = len(list(consecutive(days, DAYS_PER_RUN)))
            steps = runs * steps_of(defs, "daily") + steps_of(defs, "publish")
            with Progress(
                SpinnerColumn(),
                TextColumn("{task.description:32}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=terminal,
            ) as progress:
                task = progress.add_task(f"{len(days)} days", total=steps)

                def told(step: str) -> None:
                    progress.update(task, advance=1, description=step)

                outcome = run_range(defs, instance, days, told)
                stands = standing_run(defs, instance, platform) if outcome.built or not days else None
                failed: list[str] = []
                warned = warned_of(instance, stands) if stands else []
                if not stands and (outcome.built or not days):
                    failed, warned = publish(defs, instance, platform, told)
                errors = outcome.errors + failed
                progress.update(task, completed=steps, description="done")
    converted = len(set(outcome.held) & set(outcome.built))
    also = f"; of {converted} more the converted figures only" if converted else ""
    partly = f", {len(outcome.without)} of them without a source that is held" if outcome.without else ""
    waiting = f", {len(outcome.awaited)} awaited" if outcome.awaited else ""
    out.print(
        f"{len(outcome.built)} days built{partly}, {len(outcome.held) - converted} held back{waiting}{also}.",
        soft_wrap=True,
    )
    held_days = outcome.held | outcome.without
    if days and not outcome.built:
        out.print("No day was built, so reports and the published copy did not run; they stand as they were.")
    if stands:
        out.print("Nothing has changed that evaluations, reports and the published copy are made from: they stand.")
    for days_alike in _alike(outcome.awaited)[:HELD_SHOWN]:
        say("awaited", f"{named_days(days_alike)}: {'; '.join(outcome.awaited[days_alike[0]])}", out, "  ")
    spans = _alike(held_days)
    for days_alike in spans[:HELD_SHOWN]:
        for reason in held_days[days_alike[0]]:
            say("held", f"{named_days(days_alike)}: {reason}", out, "  ")
    rest_held = [day for span in spans[HELD_SHOWN:] for day in span]
    if rest_held:
        gates = sorted({reason.partition(":")[0] for day in rest_held for reason in held_days[day]})
        say(
            "held",
            f"{len(rest_held)} more days, {rest_held[0]} to {rest_held[-1]}, by {', '.join(gates)}: `finops run` with one"
            " of them tells why",
            out,
            "  ",
        )
    for name, said in sorted(outcome.warned.items()):
        days_text = f"{said[0][0]}" + (f" and {len(said) - 1} more days" if len(said) > 1 else "")
        say("warning", f"{name}, {days_text}: {said[0][1]}", out, "  ")
    if before:
        _warn(taken_out_told(before, _taken_out(platform)))
    _warn(warned)
    for text in errors:
        say("error", text)
    if errors:
        raise typer.Exit(1)
    return len(held_days)


def _alike(told: Mapping[date, Sequence[str]]) -> list[list[date]]:
    """Days in a row that stand still for the same reasons, but for the day's own name in them."""
    unnamed = ((day, [reason.replace(day.isoformat(), "") for reason in told[day]]) for day in sorted(told))
    return [days for days, _ in in_a_row(unnamed)]


def _taken_out(platform: Platform) -> TakenOut:
    with platform.warehouse.reading() as connection:
        return taken_out(connection, platform.source_names)


def _warn(checks: Iterable[str]) -> None:
    for said in checks:
        say("warning", said, out, "  ")


def _check_range(first: date, end: date, first_day: date) -> None:
    today = datetime.now(UTC).date()
    if not first < end:
        raise FinopsError(f"the range {first} to {end} is empty; TO is exclusive, so it must come after FROM")
    if first < first_day or end > today:
        raise FinopsError(
            f"found {first} to {end}; allowed: from first_day {first_day} (finops.yaml) to {today} (today, exclusive:"
            " a UTC day can be run when it is over)"
        )


def prune(
    keep_days: Annotated[int | None, typer.Option(min=0, help="Days (default: keep_runs_days of finops.yaml)")] = None,
    config: ConfigOption = None,
) -> None:
    """Delete runs from Dagster's history that are old and superseded; the daemon does the same once a day."""
    with explained(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from finops_assets.definitions import build_definitions
        from finops_assets.graph.dead_runs import end_dead_runs
        from finops_assets.graph.retention import prune as prune_runs
        from finops_assets.graph.run_range import open_instance

        settings = load_settings(config)
        before = datetime.now(UTC) - timedelta(days=settings.keep_runs_days if keep_days is None else keep_days)
        with working("") as terminal, open_instance() as instance, terminal.status("history"):
            for line in end_dead_runs(instance):
                tell(line)
            checks = build_definitions(settings).resolve_asset_graph().asset_check_keys
            done = prune_runs(instance, checks, before)
        out.print(
            f"{done.deleted} runs of before {before:%Y-%m-%d} deleted; {done.kept} kept, because they hold the newest"
            " word on a day or a table."
        )
