"""finops repairs: what was repaired in the bills on the way in."""

from __future__ import annotations

from typing import Annotated

import typer

from finops_assets.base.errors import FinopsError
from finops_assets.cli.common import (
    ConfigOption,
    FormatOption,
    FromOption,
    OutputOption,
    ToOption,
    explained,
    out,
    write_table,
)
from finops_assets.ingest.repairs import repairs_table
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings

DRIFT = ("largest_drift", "drift_bound")


def repairs(
    source: Annotated[str | None, typer.Argument(help="One source only")] = None,
    scope: Annotated[str | None, typer.Option(help="One delivery: a billing period, or a file")] = None,
    first: FromOption = None,
    end: ToOption = None,
    format: FormatOption = "table",
    output: OutputOption = None,
    config: ConfigOption = None,
) -> None:
    """Per delivery, file, rule and column: rows, the first value as written, and how far rounding moved it.

    With --from and --to: the deliveries that hold any of these days.
    """
    with explained():
        platform = Platform(load_settings(config))
        if source and source not in platform.landed_names:
            raise FinopsError(f"found source {source!r}; allowed: {', '.join(platform.landed_names)}")
        names = [source] if source else platform.landed_names
        table = repairs_table(platform.lake, names, scope, first.date() if first else None, end.date() if end else None)
        if format != "table":
            write_table(table, format, output)
        elif not len(table):
            out.print("Nothing was repaired.")
        else:
            # Of a delivery of one file the file says nothing more.
            told = table["file"] == table["scope"]
            shown = table.without("generation", *(("file",) if told else ()), *DRIFT)
            if any(value is not None for name in DRIFT for value in table[name]):
                for name in DRIFT:
                    shown = shown.with_column(name, (None if v is None else f"{v:.2E}" for v in table[name]))
            write_table(shown, "table", None)
