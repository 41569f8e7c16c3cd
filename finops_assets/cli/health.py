"""finops health: the five figures on one page."""

from __future__ import annotations

import pandas as pd

from finops_assets.base.errors import FinopsError
from finops_assets.cli.common import ConfigOption, FormatOption, OutputOption, explained, out, published, write_table
from finops_assets.evaluate.health.figures import FIGURES, HEALTH_TABLE, page
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.values import exact_frame


def health(format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None) -> None:
    """Is the platform well? Five figures, the last four weeks beside the four before, a bar a week.

    The other formats have a row a figure and week.
    """
    with explained(), published(config) as connection:
        if not Warehouse.has(connection, HEALTH_TABLE):
            raise FinopsError(
                "the report is not there yet; it is made with the others, after the rollup (`finops run`)"
            )
        table = exact_frame(connection, f"FROM reports.{HEALTH_TABLE}")
        table["week"] = pd.to_datetime(table["week"])
        if format != "table":
            write_table(table, format, output)
            return
        shown = page(table)
        shown = shown.rename(columns={"now": "now %", "before": "before %", "weeks": "8 weeks"})
        write_table(shown, format, output)
        for figure, text in FIGURES.items():
            out.print(f"{figure}: {text}", style="dim", highlight=False)
