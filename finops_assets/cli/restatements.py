"""finops restatements: what moved since it was reported."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from finops_assets.cli.common import ConfigOption, FormatOption, OutputOption, explained, published, write_table
from finops_assets.cost.restatements import restatements as moved


def restatements(
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Restated on this UTC day or later")
    ] = None,
    format: FormatOption = "table",
    output: OutputOption = None,
    config: ConfigOption = None,
) -> None:
    """Per day, source, team and currency: what was reported, what replaced it when, and how it moved."""
    with explained(), published(config) as connection:
        write_table(moved(connection, since.date() if since else None), format, output)
