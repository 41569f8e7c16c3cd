"""unit_metrics and unit_costs: how much of what there was, and which cost it is set against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from finops_assets.settings.section import FileOrTable, Name, Section
from finops_assets.settings.shared_cost import SharedWhat


class UnitMetrics(FileOrTable):
    """Quantities by day: date, metric, quantity, and any dimensions of finops.yaml. docs/guides/unit-costs.md"""


class UnitCost(Section):
    """What one of something costs. docs/guides/unit-costs.md"""

    name: Name
    """Stands in every row of it."""
    metric: Annotated[str, Field(min_length=1)]
    """Which quantity, as unit_metrics calls it."""
    cost: SharedWhat | None = None
    """Which cost: all conditions hold; none: all of it."""
    most: Mapping[Annotated[str, Field(pattern=r"^[A-Z]{3}$")], Annotated[Decimal, Field(gt=0)]] = Field(
        default_factory=dict
    )
    """Currency -> what one may cost: a month of which one costs more is told."""

    @model_validator(mode="after")
    def _of_the_rollup(self) -> UnitCost:
        if self.cost and self.cost.commitments:
            raise ValueError("cost: commitments is no condition of a unit cost; name a department, team, provider, …")
        return self


def _apart(costs: Sequence[UnitCost]) -> Sequence[UnitCost]:
    names = [cost.name for cost in costs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the name {', '.join(twice)} stands twice")
    return costs


UnitCosts = Annotated[tuple[UnitCost, ...], AfterValidator(_apart)]
