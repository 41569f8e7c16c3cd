"""Where the page lies, and how it comes there."""

from __future__ import annotations

from pathlib import Path

from finops_assets.base.errors import FinopsError
from finops_assets.base.files import replacing
from finops_assets.base.period import Period
from finops_assets.evaluate.page.gather import MonthFigures
from finops_assets.evaluate.page.render import render_html


def page_path(published: Path, month: Period) -> Path:
    """The page of a month beside the published copy, where people look: report-2026-10.html."""
    return published.with_name(f"report-{month.first:%Y-%m}.html")


def write_page(figures: MonthFigures, path: Path) -> Path:
    """Write the page at once: who has it open keeps the old one.

    Raises:
        FinopsError: the file cannot be written there.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(render_html(figures), encoding="utf-8")
    except OSError as error:
        raise FinopsError(
            f"{path}: the page cannot be written: {error}; choose another --output, or make room"
        ) from error
    return path
