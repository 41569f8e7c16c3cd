"""tag_policy: how much cost may be without an owner."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from finops_assets.settings.section import FilePath, Percent, Section


class Threshold(Section):
    """Shares of positive effective cost without the dimension, in percent."""

    warn_above: Percent
    """The check untagged_below_warning warns."""
    block_above: Percent
    """The check untagged_within_threshold holds the source's day."""


class TagTarget(Section):
    """What is to be reached: less than this share of positive effective cost without a required dimension, in percent."""

    untagged_below: Percent
    """Of each required dimension."""
    by: date
    """The day from which a target that is not reached is an alert."""


SMALL_DAY: Mapping[str, Decimal] = {
    **dict.fromkeys(("CZK", "DKK", "MXN", "NOK", "SEK", "TRY", "ZAR"), Decimal(10)),
    **dict.fromkeys(("INR", "JPY", "PHP", "RUB", "TWD", "THB"), Decimal(100)),
    **dict.fromkeys(("ARS", "CLP", "HUF", "KRW", "NGN"), Decimal(1000)),
    **dict.fromkeys(("COP", "IDR", "VND"), Decimal(10_000)),
}
"""About what one dollar is, where that is far from one of the currency: reports print two digits, and no budget has less."""


class TagPolicy(Section):
    """What tags should be. docs/guides/governance.md"""

    required: tuple[str, ...] = ()
    """Dimensions without which cost counts as untagged."""
    canonical: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Dimension -> the values that it should have; a dimension that is not named may have any."""
    organisation: FilePath | None = None
    """A CSV of departments, teams, cost centers (a column a dimension) and each department's champion."""
    champions: Mapping[str, str] = Field(default_factory=dict)
    """Department -> who answers for its tags; before those of the file."""
    target: TagTarget | None = None
    thresholds: Mapping[str, Threshold] = Field(default_factory=dict)
    """Dimension -> its thresholds; without them it warns above 20 and blocks above 50."""
    sources: Mapping[str, Mapping[str, Threshold]] = Field(default_factory=dict)
    """Source -> dimension -> thresholds of its own."""
    small_day: Mapping[Annotated[str, Field(pattern=r"^[A-Z]{3}$")], Annotated[Decimal, Field(ge=0)]] = Field(
        default_factory=dict
    )
    """Currency -> positive effective cost; a source's day below it is not held for what is untagged, or lacks a name."""

    def small(self, currency: str) -> Decimal:
        """Below which positive effective cost of its day a source is never held for a share of it."""
        return self.small_day.get(currency, SMALL_DAY.get(currency, Decimal(1)))

    def threshold(self, source: str, dimension: str) -> Threshold:
        """The threshold in force: the source's own, else the dimension's, else warn 20 / block 50."""
        own = self.sources.get(source, {}).get(dimension)
        return own or self.thresholds.get(dimension) or Threshold(warn_above=20, block_above=50)
