"""finops mcp: an assistant asks the published copy."""

from __future__ import annotations

from typing import Annotated

import typer

from finops_assets.base.errors import FinopsError, install
from finops_assets.cli.common import ConfigOption, explained
from finops_assets.cost.reach import ALL, group_reach
from finops_assets.explore.answers import Answers
from finops_assets.explore.newest_copy import NewestCopy
from finops_assets.settings.load import load_settings


def mcp(
    group: Annotated[str | None, typer.Option(help="Only what this group of `access` sees; by default all")] = None,
    config: ConfigOption = None,
) -> None:
    """The published copy's questions for an assistant, by the Model Context Protocol on standard input and output."""
    with explained():
        settings = load_settings(config)
        reach = group_reach(settings.access, group) if group else ALL
        try:
            from finops_assets.explore.assistants import server
        except ModuleNotFoundError as error:
            raise FinopsError(f"this needs {error.name}, which is not installed: {install('mcp')}") from error
        server(Answers(settings, NewestCopy(settings, reach))).run("stdio")
