"""budgets: where they are."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finops_assets.settings.section import FilePath, Section


class BudgetFile(Section):
    """Where the budgets are, and for how long one that goes to and fro over a limit is one alert. docs/guides/budgets.md"""

    file: FilePath
    """CSV or YAML."""
    suppress_days: Annotated[int, Field(ge=1)] = 7
    """A budget is as serious as it was at worst in so many nights."""
