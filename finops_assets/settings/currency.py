"""currency: the currency of the reports."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finops_assets.settings.section import FilePath, Section


class Currency(Section):
    """The reporting currency. Without it every figure stays in the currency that it was billed in."""

    reporting: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    """The currency that figures are converted to."""
    rates: FilePath
    """A CSV of dated rates, see docs/guides/money.md."""
    per: Literal["day", "month"] = "day"
    """day: the newest rate up to the day; month: the newest before the month began, for all of its days."""
