"""A small published copy with its reports, for what reads it with other tools: two currencies, a day of a source held."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from finops_assets.graph.assets.report_tables import IO_MANAGER, ReportTables
from finops_assets.graph.assets.reports import report_assets
from finops_assets.platform import Platform
from finops_assets_tests.explore.served import published_copy, published_platform
from finops_assets_tests.shared import made_once


def published_with_reports(folder: Path) -> Platform:
    """The platform of the explorer's tests with the tables of its reports."""
    return published_copy(made_once("reported", _reported), folder)


def _reported(folder: Path) -> None:
    platform = published_platform(folder)
    settings = platform.settings
    *reports, _ = report_assets(settings.owner, dimensions=settings.dimensions)
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"platform": platform, IO_MANAGER: ReportTables(database=str(settings.warehouse))}
        assert dg.materialize(reports, instance=instance, resources=resources).success
