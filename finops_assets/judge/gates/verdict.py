"""A verdict: what a gate found on one day, in words and figures that a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

Figure = int | float | str | Decimal


@dataclass(frozen=True)
class OfSource:
    """What a gate over all sources found wrong with one of them."""

    source: str
    message: str
    blocking: bool = True


@dataclass(frozen=True)
class Verdict:
    """One gate, one asset, one day. A verdict that does not block is advice."""

    gate: str
    day: date
    passed: bool
    message: str
    blocking: bool = True
    source: str | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    next_step: str = ""
    engine: str = ""
    """What made the figures of facts; empty where they come from elsewhere."""
    of_sources: tuple[OfSource, ...] = ()
    """The message by source, where a gate over all sources can tell whose fault it is."""
    awaited: bool = False
    """The source's day is not due yet: it did not pass, so it is not built, and nothing is wrong."""

    @property
    def holds(self) -> bool:
        """Does this verdict hold the day back?"""
        return self.blocking and not self.passed

    @property
    def held_sources(self) -> dict[str, str]:
        """Whose part of the day it holds back, where it can tell, and what it says of each."""
        return {part.source: part.message for part in self.of_sources if part.blocking} if self.holds else {}
