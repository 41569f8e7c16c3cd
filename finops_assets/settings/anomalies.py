"""anomalies: which are told of, and to whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from finops_assets.settings.section import OneOrMore, Section, others_apart


class AnomalyLimits(Section):
    """Other limits for some series: every condition that is given must hold; the first entry that does counts."""

    department: str | None = None
    """Of which department."""
    team: str | None = None
    """Of which team."""
    service: str | None = None
    """A ServiceCategory."""
    resource: str | None = None
    """A ResourceId: for the series of that resource alone."""
    sigma: Annotated[float, Field(gt=0)] | None = None
    """None: as for all."""
    min_amount: Annotated[float, Field(ge=0)] | None = None
    """None: as for all."""
    min_percent: Annotated[float, Field(ge=0)] | None = None
    """None: as for all."""
    others: Mapping[str, str] = Field(default_factory=dict)
    """The dimensions of `by`. In the file they stand beside these."""

    @model_validator(mode="before")
    @classmethod
    def _others_apart(cls, raw: Any) -> Any:
        return others_apart(raw, cls.model_fields)

    @model_validator(mode="after")
    def _says_of_what(self) -> AnomalyLimits:
        if (self.department, self.team, self.service, self.resource) == (None,) * 4 and not self.others:
            raise ValueError(
                "says of nothing what it holds for; give department, team, service, resource or a dimension of anomalies.by"
            )
        return self


class Anomalies(Section):
    """When a day is an anomaly: it must exceed all three limits. docs/guides/anomalies.md"""

    sigma: Annotated[float, Field(gt=0)] = 2.5
    """Standard deviations of the series' usual surprise."""
    min_amount: Annotated[float, Field(ge=0)] = 10
    """Deviation of a day, in the currency that was billed."""
    min_percent: Annotated[float, Field(ge=0)] = 25
    """Deviation of a day, in percent of what was expected."""
    resource_floor: Annotated[float, Field(gt=0)] = 100
    """A resource that costs so much on a day of the last week is a series of its own."""
    by: OneOrMore = ()
    """Dimensions of finops.yaml besides department and team that series are told apart by."""
    overrides: tuple[AnomalyLimits, ...] = ()
    """Limits for some series."""
