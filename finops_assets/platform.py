"""The platform as one value: settings, and what follows from them. What assets and the command line share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from finops_assets.attribution.rules import Rules
from finops_assets.lake import Lake
from finops_assets.settings import Settings
from finops_assets.warehouse import Warehouse


@dataclass(frozen=True)
class Platform:
    """Everything that work needs to know, made from settings alone."""

    settings: Settings

    @cached_property
    def lake(self) -> Lake:
        return Lake(self.settings.lake)

    @cached_property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.warehouse, self.settings.published)

    @cached_property
    def rules(self) -> Rules:
        return Rules.from_settings(self.settings)

    @property
    def source_names(self) -> list[str]:
        return [source.name for source in self.settings.sources]
