"""What an anomaly is of, and which of the settings are for it. What only reads anomalies needs no matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from finops_assets.settings.anomalies import Anomalies, AnomalyLimits

Kind = Literal["spike", "shift"]
CAUSES: Mapping[str, str] = {
    "restated data": "the days were reported otherwise before and restated",
    "one-off purchase": "ChargeCategory Purchase, or a part of a longer charge",
    "credit, tax or correction": "ChargeCategory Credit, Tax or Adjustment, ChargeClass Correction, or a negative cost",
    "commitment unused": "CommitmentDiscountStatus Unused",
    "commitment expired": "usage that a commitment covered before is not covered now",
    "owner changed": "resources that were another team's before, or are another's now",
    "new resource": "resources without any cost in the four weeks before",
    "resource gone": "resources without any cost now",
    "price": "the same quantities cost more, or less",
    "quantity": "more, or less, of the same at the same price",
    "unclear": "none of these explains half of it",
}


@dataclass(frozen=True)
class Key:
    """What a series is of: a team's cost of a service category, or a resource's; in one currency."""

    department: str
    team: str
    ServiceCategory: str
    currency: str
    source: str | None = None
    ResourceId: str | None = None
    others: tuple[tuple[str, str], ...] = ()
    """The dimensions of `anomalies.by`, each with its value."""

    @property
    def owner(self) -> str:
        """department/team, then other dimensions."""
        return ", ".join([f"{self.department}/{self.team}", *(f"{d}={value}" for d, value in self.others)])

    @property
    def name(self) -> str:
        what = f"{self.source} {self.ResourceId}" if self.ResourceId else self.ServiceCategory
        return f"{self.owner}, {what}, {self.currency}"


def override_of(key: Key, settings: Anomalies) -> AnomalyLimits | None:
    """The limits that finops.yaml has for such a series alone, if it has any: the first that are for it."""
    return next((override for override in settings.overrides if _holds(override, key)), None)


def _holds(override: AnomalyLimits, key: Key) -> bool:
    asked = (
        (override.department, key.department),
        (override.team, key.team),
        (override.service, key.ServiceCategory),
        (override.resource, key.ResourceId),
    )
    others = dict(key.others)
    return all(wanted is None or wanted == found for wanted, found in asked) and all(
        others.get(dimension) == value for dimension, value in override.others.items()
    )
