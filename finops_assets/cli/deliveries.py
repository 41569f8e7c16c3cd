"""finops deliveries: the ledger, accepting what was refused, taking out what must not count."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from finops_assets.base.errors import FinopsError
from finops_assets.base.text import command, visible
from finops_assets.base.uris import DATA_SUFFIXES
from finops_assets.cli.common import ConfigOption, FormatOption, OutputOption, explained, out, write_table
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets.storage.ledger import NOT_READ, Ledger, ledger_table, now

STATES = ("waiting", "complete", "superseded", "refused", "withdrawn", "final")
SHOWN_ID = 13
"""Characters of a generation in the table."""
deliveries_app = typer.Typer(help="What was delivered: source, period, generation, state, days changed.")


@deliveries_app.callback(invoke_without_command=True)
def deliveries(
    context: typer.Context,
    source: Annotated[str | None, typer.Option(help="One source only")] = None,
    state: Annotated[str | None, typer.Option(help=", ".join(STATES))] = None,
    format: FormatOption = "table",
    output: OutputOption = None,
    config: ConfigOption = None,
) -> None:
    """List the ledger: source, period, generation, state, rows and how many days it changed.

    Verified: by a manifest, in which the provider says which files belong to the delivery. Without one nobody did;
    that nothing is missing is then for the gates to notice.
    """
    if context.invoked_subcommand is not None:
        return
    with explained():
        platform = Platform(load_settings(config))
        names = [source] if source else platform.landed_names
        if source and source not in platform.landed_names:
            raise FinopsError(f"found source {source!r}; allowed: {', '.join(platform.landed_names)}")
        if state and state not in STATES:
            raise FinopsError(f"found state {state!r}; allowed: {', '.join(STATES)}")
        table = ledger_table(platform.lake, names, first_day=platform.settings.first_day)
        if state:
            table = table.where(lambda row: row["state"] == state)
        if format == "table":
            # Whole in the other formats: a provider's id would push the columns that matter out of the terminal.
            ids = [g if len(g) <= SHOWN_ID else f"{g[: SHOWN_ID - 1]}…" for g in table["generation"]]
            verified = ["yes" if verified else "no" for verified in table["verified"]]
            shown = table.without("delivered_at", "bytes", "files", "repairs", "reason")
            write_table(shown.with_column("generation", ids).with_column("verified", verified), "table", None)
            for row in table:
                if row["reason"]:
                    line = visible(f"  {row['source']} {row['scope']} {row['state']}: {row['reason']}")
                    out.print(line, highlight=False, soft_wrap=True)
            for name in names:
                for key in (platform.lake.read_record(name, NOT_READ) or {"files": []})["files"]:
                    told = f"  {name} {key} is not read: files that end in {', '.join(DATA_SUFFIXES)} are"
                    out.print(visible(told), highlight=False, soft_wrap=True)
            return
        write_table(table, format, output)


@deliveries_app.command("accept")
def accept(source: str, scope: str, config: ConfigOption = None) -> None:
    """Accept a delivery that was refused: the next landing takes it whatever it lost, or though another holds the same.

    A scope that was withdrawn counts again.
    """
    with explained():
        ledger = _ledger(source, config)
        scope = _scope(ledger, scope)
        try:
            entry = ledger.accept(scope)
        except ValueError as error:
            raise FinopsError(str(error)) from error
        when = "it counts again" if entry.state == "live" else "it is landed at the next run or tick"
        out.print(
            f"Accepted {source} {visible(scope)} generation {entry.generation}: {when}.",
            highlight=False,
            soft_wrap=True,
        )


@deliveries_app.command("withdraw")
def withdraw(source: str, scopes: list[str], config: ConfigOption = None) -> None:
    """Take scopes out: what was landed of them no longer counts, and they are not landed again until accepted."""
    with explained():
        ledger = _ledger(source, config)
        for scope in [_scope(ledger, shown) for shown in scopes]:
            try:
                entry = ledger.withdraw(scope, f"withdrawn by a person on {now():%Y-%m-%d}")
            except ValueError as error:
                raise FinopsError(str(error)) from error
            changed = f" {min(entry.days)} to {max(entry.days)} change at the next run or tick." if entry.landed else ""
            back = command("deliveries accept", source, scope)
            out.print(
                f"Withdrew {source} {visible(scope)}: it does not count.{changed} To take it back: {back}",
                highlight=False,
                soft_wrap=True,
            )


def _scope(ledger: Ledger, shown: str) -> str:
    """The scope that is meant by what `finops deliveries` shows of it: whole, or in a narrow terminal its end.

    Raises:
        FinopsError: there is none, or there are several.
    """
    scopes = ledger.scopes()
    meant = [s for s in scopes if shown in (s, visible(s))]
    if not meant and shown.startswith("…"):
        meant = [s for s in scopes if visible(s).endswith(shown[1:])]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise FinopsError(f"{shown!r} can be {', '.join(map(repr, meant))}; give the whole name")
    close = difflib.get_close_matches(shown, scopes, n=5, cutoff=0.5) or scopes[-5:]
    known = f"; it has {', '.join(map(repr, close))}" if close else " yet"
    more = f" and {len(scopes) - len(close)} more, see: {command('deliveries --source', ledger.source)}"
    raise FinopsError(
        f"source {ledger.source} has no delivery {shown!r}{known}{more if len(scopes) > len(close) else ''}"
    )


def _ledger(source: str, config: ConfigOption) -> Ledger:
    platform = Platform(load_settings(config))
    if source not in platform.landed_names:
        raise FinopsError(f"found source {source!r}; allowed: {', '.join(platform.landed_names)}")
    return Ledger(platform.lake, source)
