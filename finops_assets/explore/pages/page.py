"""What a page hands to its template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finops_assets.explore.address import View
from finops_assets.explore.asking import Question
from finops_assets.explore.charts import Spec
from finops_assets.explore.listing import Listing


@dataclass(frozen=True)
class Chart:
    """A chart with the words that stand for it where it cannot be seen."""

    title: str
    spec: Spec
    says: str


@dataclass(frozen=True)
class Page:
    """`parts` are for the page's own template, besides charts and listings by their names."""

    listings: Sequence[Listing] = ()
    charts: Mapping[str, Chart] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def listing(self, name: str) -> Listing | None:
        return next((each for each in self.listings if each.name == name), None)


Make = Callable[[Question], Page]


def address(page: str, view: View) -> str:
    """Where a view of a page is."""
    return f"/{page}?{view.query}"
