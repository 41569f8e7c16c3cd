"""reports/month_page: the newest month on one HTML page that a person wants to read."""

from collections.abc import Sequence

import dagster as dg

from finops_assets.evaluate.comparison import NoFigures
from finops_assets.evaluate.page.file import page_path, write_page
from finops_assets.evaluate.page.gather import gather, open_months
from finops_assets.evaluate.page.render import render_markdown
from finops_assets.graph.assets.follow import note_inputs
from finops_assets.graph.assets.report_tables import POOL
from finops_assets.graph.keys import ROLLUP
from finops_assets.platform import Platform

PAGE = "month_page"


def page_asset(owner: str, evaluated: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    """The HTML file beside the published copy, after the rollup and what is made of it."""

    @dg.asset(
        key=["reports", PAGE],
        deps=[ROLLUP, *evaluated],
        group_name="reports",
        kinds={"html"},
        owners=[owner],
        pool=POOL,
        description=(
            "The newest month on one page, a file that asks for no other: spend by team and service against budget and"
            " the month before, forecast, untagged trend, anomalies with causes, restatements, tag debt by owner."
            " `finops report html` writes that of any month. docs/guides/report.md"
        ),
    )
    def month_page(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult[None]:
        note_inputs(context)
        with platform.warehouse.reading() as connection:
            try:
                made = [gather(connection, month) for month in open_months(connection)]
            except NoFigures as error:
                raise dg.Failure(str(error), allow_retries=False) from error
        paths = [write_page(figures, page_path(platform.settings.published, figures.month)) for figures in made]
        newest = made[0]
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(str(paths[0])),
                "page": dg.MetadataValue.md(render_markdown(newest)),
                "period": str(newest.period),
                "days without figures": ", ".join(map(str, newest.gaps)) or "none",
                "files": ", ".join(path.name for path in paths),
                "bytes": paths[0].stat().st_size,
            }
        )

    return month_page
