"""The platform as one value: settings, and what follows from them. What assets and the command line share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

from finops_assets.cost.attribution.owner_decisions import OwnerDecisions, accepted_rules
from finops_assets.cost.attribution.row_rules import OWNER, DimensionValue, OwnerRule
from finops_assets.cost.attribution.rules import Rules
from finops_assets.settings.model import Settings
from finops_assets.storage.lake import Key, Lake
from finops_assets.storage.remote_lake import open_lake
from finops_assets.storage.warehouse import Warehouse


@dataclass(frozen=True)
class Platform:
    """Everything that work needs to know, made from settings alone."""

    settings: Settings
    file: Path | None = None
    """The finops.yaml that they were read from; None: they are not looked at again."""

    @property
    def lake(self) -> Lake:
        """The lake as it is now. One is for one piece of work: what other machines write meanwhile the next one sees."""
        return self._lake.anew()

    @cached_property
    def _lake(self) -> Lake:
        return open_lake(self.settings.lake, state=self.settings.warehouse.parent)

    @cached_property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.warehouse, self.settings.published, self.settings.wait_minutes)

    @cached_property
    def rules(self) -> Rules:
        """The rules of finops.yaml and the accepted owners, as they stand when first asked."""
        return Rules.from_settings(self.settings, accepted_owners(self.settings))

    @property
    def source_names(self) -> list[str]:
        """The sources whose cost is in facts and rollup."""
        return [source.name for source in self.settings.counted]

    def keys(self, days: Iterable[date]) -> list[Key]:
        """Every (source, day) of these days whose cost is in facts and rollup."""
        return [(source, day) for day in days for source in self.source_names]

    @property
    def shadow_names(self) -> list[str]:
        """The sources that are only there to be compared with another."""
        return [source.name for source in self.settings.shadows]

    @property
    def landed_names(self) -> list[str]:
        """Every source that is landed, whether its cost counts or not."""
        return [source.name for source in self.settings.sources]


def accepted_owners(settings: Settings) -> list[OwnerRule]:
    """What people accepted of the owners suggested, as rules of the lowest rank."""
    return [
        OwnerRule(
            rule.source,
            rule.ResourceId,
            {d: DimensionValue(value, f"{OWNER}{rule.given_by[d]}") for d, value in rule.dimensions.items()},
            rule.valid_from,
        )
        for rule in accepted_rules(OwnerDecisions.beside(settings.warehouse).all())
    ]
