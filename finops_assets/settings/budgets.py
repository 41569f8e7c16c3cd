"""budgets: where they are."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finops_assets.settings.section import FilePath, Section


class BudgetFile(Section):
    """Where the budgets are, and for how long one that goes to and fro over a limit is one alert. docs/guides/budgets.md"""

    file: FilePath
    suppress_days: Annotated[int, Field(ge=1)] = 7
