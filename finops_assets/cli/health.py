"""finops health: the five figures on one page."""

from __future__ import annotations

from finops_assets.base.errors import FinopsError
from finops_assets.cli.common import ConfigOption, FormatOption, OutputOption, explained, out, published, write_table
from finops_assets.evaluate.health.figures import FIGURES, HEALTH_TABLE, page
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables.rows import Rows


def health(format: FormatOption = "table", output: OutputOption = None, config: ConfigOption = None) -> None:
    """Is the platform well? Five figures, the last four weeks beside the four before, a bar a week.

    The other formats have a row a figure and week.
    """
    with explained(), published(config) as connection:
        if not Warehouse.has(connection, HEALTH_TABLE):
            raise FinopsError(
                "the report is not there yet; it is made with the others, after the rollup (`finops run`)"
            )
        table = Rows.asked(connection, f"FROM reports.{HEALTH_TABLE}")
        if format != "table":
            write_table(table, format, output)
            return
        shown = page(table)
        headings = {"now": "now %", "before": "before %", "weeks": "8 weeks"}
        write_table(Rows([headings.get(name, name) for name in shown.columns], shown.values), format, output)
        for figure, text in FIGURES.items():
            out.print(f"{figure}: {text}", style="dim", highlight=False)
