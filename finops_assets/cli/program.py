"""The program `finops` and its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from finops_assets.cli.commands import Commands
from finops_assets.cli.exit_codes import EXIT_CODES

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="FOCUS billing exports to gated, exact cost by team.",
    epilog=f"Exit codes: {'; '.join(f'{number} {meaning}' for number, meaning in EXIT_CODES.items())}.",
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"finops_assets {version('finops_assets')}")
        raise typer.Exit


@app.callback()
def finops(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit")
    ] = False,
) -> None:
    """FOCUS billing exports to gated, exact cost by team."""
