"""Which pages there are, and who writes each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from finops_assets.tables.reference import documented
from tools.reference import alerts, assets, commands, exit_codes, settings

FOLDER = Path(__file__).parents[2] / "docs" / "reference"

PAGES: Mapping[str, Callable[[], str]] = {
    "commands.md": commands.page,
    "settings.md": settings.page,
    "assets.md": assets.page,
    "tables.md": documented,
    "alerts.md": alerts.page,
    "exit-codes.md": exit_codes.page,
}
