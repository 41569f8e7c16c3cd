"""The command line: the same functions as the assets, for people at a terminal. A module a command group."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from finops_assets.cli.alerts import alerts_app
from finops_assets.cli.anomalies import anomalies_app
from finops_assets.cli.budgets import budgets_app
from finops_assets.cli.common import HELD_CODE, WAITED
from finops_assets.cli.config import config_app
from finops_assets.cli.conformance import conformance
from finops_assets.cli.deliveries import deliveries_app
from finops_assets.cli.export import export_app
from finops_assets.cli.forecast import forecast
from finops_assets.cli.health import health
from finops_assets.cli.owners import owners_app
from finops_assets.cli.rates import rates_app
from finops_assets.cli.reconcile import reconcile_app
from finops_assets.cli.repairs import repairs
from finops_assets.cli.report import report_app
from finops_assets.cli.restatements import restatements
from finops_assets.cli.rules import rules_app
from finops_assets.cli.run import backfill, demo, prune, publish, run
from finops_assets.cli.sources import sources_app
from finops_assets.cli.status import status
from finops_assets.cli.tags import tags_app

EXIT_CODES = {
    0: "fine",
    1: "an error, or what was checked is not right",
    2: "the command is not understood",
    HELD_CODE: "done, but some days are held by a gate",
    WAITED: "what it waits for did not come free in time",
}

app = typer.Typer(
    no_args_is_help=True,
    help="FOCUS billing exports to gated, exact cost by team.",
    epilog=f"Exit codes: {'; '.join(f'{number} {meaning}' for number, meaning in EXIT_CODES.items())}.",
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"finops_assets {version('finops_assets')}")
        raise typer.Exit


@app.callback()
def finops(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit")
    ] = False,
) -> None:
    """FOCUS billing exports to gated, exact cost by team."""


app.command()(demo)
app.command()(run)
app.command()(backfill)
app.command()(publish)
app.command()(status)
app.command()(prune)
app.command()(restatements)
app.command()(repairs)
app.command()(conformance)
app.command()(forecast)
app.command()(health)
app.add_typer(deliveries_app, name="deliveries")
app.add_typer(report_app, name="report")
app.add_typer(reconcile_app, name="reconcile")
app.add_typer(export_app, name="export")
app.add_typer(rates_app, name="rates")
app.add_typer(config_app, name="config")
app.add_typer(alerts_app, name="alerts")
app.add_typer(budgets_app, name="budgets")
app.add_typer(owners_app, name="owners")
app.add_typer(anomalies_app, name="anomalies")
app.add_typer(rules_app, name="rules")
app.add_typer(tags_app, name="tags")
app.add_typer(sources_app, name="sources")
