"""plausibility, conforms and acknowledged: what is taken, and what a person has looked at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from pydantic import Field

from finops_assets.settings.section import Percent, Section


class Plausibility(Section):
    """How far a restated day may fall below the version that it replaces, in percent."""

    max_row_fall: Percent = 50
    """Of rows."""
    max_cost_fall: Percent = 50
    """Of effective cost, in any currency."""


class Conforms(Section):
    """From which share of a day's positive effective cost on, in percent, a column without a proper value holds the day.

    docs/guides/gates.md has the shares that hold where nothing is given.
    """

    hold_above: Mapping[str, Percent] = Field(default_factory=dict)
    """FOCUS column -> share, for all sources."""
    sources: Mapping[str, Mapping[str, Percent]] = Field(default_factory=dict)
    """Source -> column -> share."""


class Acknowledgement(Section):
    """A fall in rows or cost that a person has looked at and accepts."""

    source: str
    """Whose day it is."""
    day: date
    """The UTC charge day."""
    reason: str = Field(min_length=1)
    """Why the fall is right; it stands in the verdict."""
