"""finops owners: suggestions for what nobody tagged, and what people decide about them."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finops_assets.base.errors import FinopsError
from finops_assets.base.processes import account_name
from finops_assets.base.text import command
from finops_assets.cli.common import (
    ConfigOption,
    FormatOption,
    OutputOption,
    explained,
    heading,
    out,
    published,
    say,
    show,
    write_table,
    write_text,
)
from finops_assets.cli.exit_codes import HELD_CODE
from finops_assets.cli.working import working
from finops_assets.cost.attribution.owner_decisions import (
    Decision,
    OwnerDecisions,
    Verdict,
    acceptance,
    accepted_rules,
    decide,
    export_table,
    read_decided,
    resource_meant,
    rules_yaml,
    undecided,
)
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets.settings.model import Settings
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.rows import Rows
from finops_assets.tables.spreadsheet import csv_cell

if TYPE_CHECKING:
    import pandas as pd

owners_app = typer.Typer(no_args_is_help=True, help="Owner suggestions for untagged resources, and decisions on them.")
TABLE = "owner_suggestions"
SHOWN = 20

DimensionOption = Annotated[str | None, typer.Option("--dimension", "-d", help="Only this one, as team")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who decides (default: you, by the name of your account)")]
NoteOption = Annotated[str, typer.Option("--note", help="Why; kept with the decision")]
ValueOption = Annotated[str | None, typer.Option("--value", help="Another value than the suggested one")]
FromDayOption = Annotated[
    datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC day that it holds for (default: all)")
]
SourceArgument = Annotated[str, typer.Argument(help="The source, as in finops.yaml")]
ResourceArgument = Annotated[str, typer.Argument(metavar="RESOURCE", help="The ResourceId or the name, as shown")]


@owners_app.command("suggest")
def owners_suggest(
    dimension: DimensionOption = None,
    format: FormatOption = "table",
    output: OutputOption = None,
    config: ConfigOption = None,
) -> None:
    """Suggest anew through Dagster and show what nobody has decided on. Exits with 3 if the newest days are held."""
    with explained():
        settings = load_settings(config)
        errors, waits = _run_owners(settings)
        if errors or waits:
            say("error" if errors else "held", str((*errors, waits)[0]))
            raise typer.Exit(1 if errors else HELD_CODE)
        table = _open_suggestions(settings, config, dimension)
        if format != "table":
            write_table(Rows.of(table), format, output)
            return
        first = table[table["rank"] == 1]
        for row in first.head(SHOWN).itertuples():
            _show(row, table)
        out.print(f"{len(first)} suggestions without a decision; `finops owners review` goes through them.")


@owners_app.command("review")
def owners_review(dimension: DimensionOption = None, by: ByOption = None, config: ConfigOption = None) -> None:
    """Go through the suggestions, the costliest first: accept, reject, give another value, skip or quit."""
    with explained():
        settings = load_settings(config)
        table = _open_suggestions(settings, config, dimension)
        first = table[table["rank"] == 1]
        store, taken = OwnerDecisions.beside(settings.warehouse), 0
        for number, row in enumerate(first.itertuples(), start=1):
            heading(f"{number} of {len(first)}", style="dim")
            _show(row, table)
            answer = typer.prompt("accept, reject, other value, skip, quit [a/r/o/s/q]", default="s").strip().lower()
            if answer.startswith("q"):
                break
            if answer[:1] not in ("a", "r", "o"):
                continue
            verdict: Verdict = "rejected" if answer[0] == "r" else "accepted"
            value = typer.prompt("value") if answer[0] == "o" else None
            about = (str(row.source), str(row.ResourceId), str(row.dimension))
            taken += len(
                store.enter(
                    [
                        decide(
                            table,
                            tuple(settings.dimensions),
                            about,
                            verdict,
                            datetime.now(UTC),
                            value,
                            by or account_name(),
                        )
                    ]
                )
            )
        out.print(f"{taken} decisions kept.")


@owners_app.command("accept")
def owners_accept(
    source: SourceArgument,
    resource: ResourceArgument,
    dimension: Annotated[str, typer.Option("--dimension", "-d", help="What it is the owner by, as team")],
    value: ValueOption = None,
    by: ByOption = None,
    valid_from: FromDayOption = None,
    note: NoteOption = "",
    config: ConfigOption = None,
) -> None:
    """Accept the suggested owner of a resource, or name another one; it becomes a rule."""
    _decide(config, (source, resource, dimension), "accepted", value, by, valid_from, note)


@owners_app.command("reject")
def owners_reject(
    source: SourceArgument,
    resource: ResourceArgument,
    dimension: Annotated[str, typer.Option("--dimension", "-d", help="What it is the owner by, as team")],
    value: Annotated[
        str | None, typer.Option("--value", help="The value that is wrong (default: the suggested)")
    ] = None,
    by: ByOption = None,
    note: NoteOption = "",
    config: ConfigOption = None,
) -> None:
    """Reject a suggested owner, or take back an accepted one; it is not suggested again for this resource."""
    _decide(config, (source, resource, dimension), "rejected", value, by, None, note)


@owners_app.command("export")
def owners_export(
    file: Annotated[Path, typer.Argument(help="CSV for a person to fill")],
    dimension: DimensionOption = None,
    config: ConfigOption = None,
) -> None:
    """Write the undecided suggestions as CSV: fill `decision` with accept or reject, correct `value` where needed."""
    with explained():
        table = export_table(_open_suggestions(load_settings(config), config, dimension))
        try:
            # The mark lets spreadsheets see that it is UTF-8.
            table.map(csv_cell).to_csv(file, index=False, encoding="utf-8-sig")
        except OSError as error:
            raise FinopsError(f"{file}: cannot be written: {error.strerror}") from error
    out.print(
        f"{len(table)} suggestions in {file}; fill `decision`, then `{command('owners import', str(file))}`.",
        highlight=False,
    )


@owners_app.command("import")
def owners_import(
    file: Annotated[Path, typer.Argument(help="A CSV of `finops owners export`, filled")],
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Take over the decisions of a filled CSV; all of them, or none if one is wrong. Twice does no harm."""
    with explained():
        settings = load_settings(config)
        decided, left = read_decided(
            file,
            tuple(settings.dimensions),
            [s.name for s in settings.sources],
            datetime.now(UTC),
            by or account_name(),
        )
        new = OwnerDecisions.beside(settings.warehouse).enter(decided)
    out.print(f"{len(new)} decisions kept, {len(decided) - len(new)} stood already, {left} rows are undecided.")


@owners_app.command("rules")
def owners_rules(output: OutputOption = None, config: ConfigOption = None) -> None:
    """The accepted owners as attribution rules, in YAML."""
    with explained():
        rules = accepted_rules(OwnerDecisions.beside(load_settings(config).warehouse).all())
        text = rules_yaml(rules)
        write_text(text, output)
    if output:
        out.print(f"{len(rules)} rules in {output}.")


@owners_app.command("acceptance")
def owners_acceptance(format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None) -> None:
    """How often suggestions were right, by week and dimension, beside the confidence that was promised."""
    with explained():
        write_table(acceptance(OwnerDecisions.beside(load_settings(config).warehouse).all()), format, output)


@owners_app.command("backtest")
def owners_backtest(dimension: DimensionOption = None, config: ConfigOption = None) -> None:
    """How good suggestions are on your own bills: known tags are hidden, suggested, and compared. Changes nothing."""
    with explained(), working("nothing was written; start it again"):
        from finops_assets.evaluate.owners.backtest import backtest
        from finops_assets.evaluate.owners.evidence import gather
        from finops_assets.evaluate.owners.resources import WINDOW_DAYS, read_resources
        from finops_assets.evaluate.owners.suggest import MIN_CONFIDENCE

        platform = Platform(load_settings(config))
        days = sorted({day for source in platform.source_names for day in platform.lake.days("facts", source)})
        settings = platform.settings
        newest = [day for day in days if day > days[-1] - timedelta(days=WINDOW_DAYS)]
        resources = read_resources(platform.lake, settings.engine, platform.rules, platform.source_names, newest)
        if resources is None:
            raise FinopsError(f"the lake has no facts yet; run `{command('backfill')}` first")
        wanted = [d for d in settings.dimensions if dimension in (None, d)]
        if not wanted:
            raise FinopsError(f"found dimension {dimension!r}; allowed: {', '.join(settings.dimensions)}")
        table = backtest(gather(resources), wanted, MIN_CONFIDENCE)
        if table.empty:
            raise FinopsError("no resource has a tag of these dimensions, so there is nothing to hide and compare")
        out.print(f"Suggestions of a confidence of at least {MIN_CONFIDENCE:.0%}, {newest[0]} to {newest[-1]}:")
        show(Rows.of(table.round(3)))


def _decide(
    config: Path | None,
    about: tuple[str, str, str],
    verdict: Verdict,
    value: str | None,
    by: str | None,
    valid_from: datetime | None,
    note: str,
) -> None:
    with explained():
        settings = load_settings(config)
        if about[0] not in {s.name for s in settings.sources}:
            raise FinopsError(f"found source {about[0]!r}; allowed: {', '.join(s.name for s in settings.sources)}")
        suggestions = _suggestions(config)
        source, shown, dimension = about
        resource = resource_meant(suggestions, source, shown)
        store = OwnerDecisions.beside(settings.warehouse)
        known = {*suggestions["ResourceId"], *(d.ResourceId for d in store.all())}
        decision: Decision = decide(
            suggestions,
            tuple(settings.dimensions),
            (source, resource, dimension),
            verdict,
            datetime.now(UTC),
            value,
            by or account_name(),
            valid_from.date() if valid_from else None,
            note,
        )
        new = store.enter([decision])
        if resource not in known:
            say(
                "note",
                f"nothing was ever suggested for {resource}; the decision holds for a ResourceId that is exactly this",
            )
    what = f"{decision.dimension} {decision.value} of {decision.ResourceId}"
    if new and verdict == "accepted":
        what += "; `finops backfill` attributes the days that are there anew"
    told = f"{verdict} {what}" if new else f"{what} was {verdict} already"
    out.print(told, highlight=False, soft_wrap=True)


def _suggestions(config: Path | None) -> pd.DataFrame:
    with published(config) as connection:
        if not Warehouse.has(connection, TABLE):
            raise FinopsError("no owners were suggested yet; run `finops owners suggest`")
        return Rows.asked(connection, f"FROM {TABLE}").frame()


def _open_suggestions(settings: Settings, config: Path | None, dimension: str | None) -> pd.DataFrame:
    """What nobody has decided on, also since it was published."""
    if dimension is not None and dimension not in settings.dimensions:
        raise FinopsError(f"found dimension {dimension!r}; allowed: {', '.join(settings.dimensions)}")
    table = undecided(_suggestions(config), OwnerDecisions.beside(settings.warehouse).all())
    return table[table["dimension"] == dimension] if dimension else table


def _show(row: object, table: pd.DataFrame) -> None:
    """One suggestion: what, whose, how sure, how much it costs, and why."""
    source, resource, dimension = (str(getattr(row, n)) for n in ("source", "ResourceId", "dimension"))
    name, account, currency = (getattr(row, n) for n in ("name", "account_name", "BillingCurrency"))
    cost, confidence = float(getattr(row, "effective_cost")), float(getattr(row, "confidence"))  # noqa: B009
    say(
        f"{dimension} {getattr(row, 'value')}",  # noqa: B009
        f"({min(confidence, 0.99):.0%})  {name or ''} {resource}",
        out,
        style="bold",
    )
    out.print(
        f"  {source}, {account}, {cost:,.2f} {currency} in 30 days",
        style="dim",
        highlight=False,
    )
    for sentence in str(getattr(row, "evidence")).split("; "):  # noqa: B009
        out.print(f"  - {sentence}", highlight=False, soft_wrap=True)
    mine = (table["source"] == source) & (table["ResourceId"] == resource) & (table["dimension"] == dimension)
    others = table[mine & (table["rank"] > 1)]
    if len(others):
        listed = ", ".join(f"{o.value} ({float(str(o.confidence)):.0%})" for o in others.itertuples())
        out.print(f"  or: {listed}", style="dim", highlight=False, soft_wrap=True)


def _run_owners(settings: Settings) -> tuple[list[str], str]:
    """Run the job `owners` into the history that the UI shows; returns what went wrong, and what it waits for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from finops_assets.definitions import build_definitions
        from finops_assets.graph.assets.owners import owners_wait
        from finops_assets.graph.run_range import open_instance, run_owners
        from finops_assets.platform import Platform

        with working("Run it again.") as terminal, open_instance() as instance, terminal.status("suggesting owners"):
            if reason := owners_wait(Platform(settings)):
                return [], reason
            return run_owners(build_definitions(settings), instance), ""
