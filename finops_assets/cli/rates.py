"""finops rates: the exchange rates of the reporting currency."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from finops_assets.base.errors import FinopsError
from finops_assets.cli.common import ConfigOption, explained, out
from finops_assets.cost.currency.ecb import import_ecb
from finops_assets.cost.currency.rates import MAX_AGE_DAYS
from finops_assets.settings.load import load_settings

rates_app = typer.Typer(no_args_is_help=True, help="Exchange rates of the reporting currency.")


@rates_app.command("import-ecb")
def rates_import_ecb(
    file: Annotated[Path, typer.Argument(help="eurofxref-hist.csv of the European Central Bank, unpacked")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The rate table (default: currency.rates of finops.yaml)")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Enter the ECB's rates into the rate table; rates of other sources in it stay.

    Rates that are too old to be in force on any day of the platform are left out.
    """
    with explained():
        settings = load_settings(config)
        target = output or (settings.currency.rates if settings.currency else None)
        if target is None:
            raise FinopsError("finops.yaml has no currency section; add it (docs/guides/money.md), or give --output")
        since = settings.first_day.replace(day=1) - timedelta(days=MAX_AGE_DAYS + 1)
        done = import_ecb(file, target, since)
        days = done.table.by_day
        out.print(
            f"{target.name}: {done.rates:,} rates of {file.name} since {since}: {done.added:,} new, {done.changed:,} changed."
            + (f" The table now reaches from {min(days)} to {max(days)}." if days else ""),
            highlight=False,
            soft_wrap=True,
        )
