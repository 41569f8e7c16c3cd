"""shared_cost: what is split, how, among whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from finops_assets.settings.section import FileOrTable, Name, OneOrMore, Section, file_form, others_apart

SplitMethod = Literal["even", "fixed", "proportional", "metric", "benefit"]
SplitPercent = Annotated[Decimal, Field(gt=0, le=100)]


class SharedWhat(Section):
    """Which cost a rule splits: all conditions hold. The names are the rollup's, such as __untagged__."""

    department: OneOrMore = ()
    """Names as the rollup has them."""
    team: OneOrMore = ()
    """Likewise."""
    environment: OneOrMore = ()
    """Likewise."""
    provider: OneOrMore = ()
    """Likewise."""
    ServiceCategory: OneOrMore = ()
    """Likewise."""
    commitments: Literal["unused", "purchase"] | None = None
    """Only what commitment discounts cost: their unused part, or their purchases."""
    others: Mapping[str, OneOrMore] = Field(default_factory=dict)
    """The other dimensions of finops.yaml. In the file they stand beside these."""

    @model_validator(mode="before")
    @classmethod
    def _others_apart(cls, raw: Any) -> Any:
        return others_apart(raw, cls.model_fields)

    @property
    def conditions(self) -> Mapping[str, tuple[str, ...]]:
        """Column of the rollup -> the names of which one must be there."""
        own = {c: getattr(self, c) for c in ("department", "team", "environment", "provider", "ServiceCategory")}
        return {column: names for column, names in {**own, **self.others}.items() if names}

    @model_validator(mode="after")
    def _something(self) -> SharedWhat:
        if not self.model_fields_set:
            raise ValueError("has no condition, and would split everything; name a department, team, …")
        return self


class SharedMetric(FileOrTable):
    """Quantities by day and team: a CSV with date, department, team, quantity, or a table of the warehouse with these."""


class SharedCost(Section):
    """A rule that gives cost of one or of nobody to the teams that bear it. docs/guides/allocation.md"""

    name: Name
    """Stands in every row that the rule made."""
    cost: SharedWhat
    """What is split."""
    method: SplitMethod
    """In which shares: alike, by percent, by direct spend, by quantity, by use of the same commitment."""
    to: OneOrMore = ()
    """department/team, or department/* for its teams with cost on the day; none: all teams with cost on the day."""
    percent: Mapping[str, SplitPercent] = Field(default_factory=dict)
    """Method fixed: department/team -> its share. What is left of 100 stays."""
    metric: Annotated[SharedMetric, BeforeValidator(file_form)] | None = None
    """Method metric: the quantities."""

    @model_validator(mode="after")
    def _fits_its_method(self) -> SharedCost:
        for given, name, method in ((self.percent, "percent", "fixed"), (self.metric, "metric", "metric")):
            if bool(given) != (self.method == method):
                raise ValueError(f"method {method} needs {name}, and no other method has it")
        if self.method == "benefit" and self.cost.commitments is None:
            raise ValueError("method benefit splits what commitments cost; say cost: {commitments: unused} or purchase")
        if self.to and self.method in ("fixed", "benefit"):
            raise ValueError(f"method {self.method} names its teams itself; leave out to")
        if sum(self.percent.values()) > 100:
            raise ValueError(f"percent sums to {sum(self.percent.values())}, more than 100")
        wrong = [to for to in (*self.to, *self.percent) if not re.fullmatch(r"[^/]+/[^/]+", to)]
        if wrong or any(name.endswith("/*") for name in self.percent):
            raise ValueError(f"found {', '.join(wrong or self.percent)}; teams are written department/team")
        return self

    @property
    def chained(self) -> bool:
        """Is all cost of an owner split, so also what earlier rules gave to it?"""
        return not self.cost.others and self.cost.model_fields_set <= {"department", "team", "others"}

    @property
    def named(self) -> tuple[str, ...]:
        """The teams that are named one by one."""
        return (*(to for to in self.to if not to.endswith("/*")), *self.percent)

    def splits(self, department: str, team: str) -> bool:
        """Is this the cost of an owner that the rule splits?"""
        return (not self.cost.department or department in self.cost.department) and (
            not self.cost.team or team in self.cost.team
        )


def _untangle(rules: tuple[SharedCost, ...], later: SharedCost, earlier: SharedCost) -> str:
    """What to do about a rule that gives to one whose cost is split already: another order, unless there is none."""
    reached, path = [earlier], {earlier.name: earlier.name}
    for rule in reached:
        for other in rules:
            if other.chained and other.name not in path and any(other.splits(*t.split("/", 1)) for t in rule.named):
                path[other.name] = f"{path[rule.name]} -> {other.name}"
                reached.append(other)
    if later.name in path:
        return f"they go round in a cycle ({path[later.name]} -> {earlier.name}): let one of them give to others"
    return f"put {later.name} before {earlier.name}"


def _in_order(rules: tuple[SharedCost, ...]) -> tuple[SharedCost, ...]:
    for place, rule in enumerate(rules):
        if rule.name in [other.name for other in rules[:place]]:
            raise ValueError(f"the name {rule.name!r} stands twice; names are unique")
        for team in rule.named:
            owner = (team.split("/")[0], team.split("/")[1])
            earlier = next((r for r in rules[: place + 1] if r.chained and r.splits(*owner)), None)
            if earlier is rule:
                raise ValueError(f"rule {rule.name} gives to {team}, whose cost it splits; what is not given stays")
            if earlier is not None:
                raise ValueError(
                    f"rule {rule.name} gives to {team}, whose cost the earlier rule {earlier.name} has split;"
                    f" {_untangle(rules, rule, earlier)}"
                )
    return rules


SharedCosts = Annotated[tuple[SharedCost, ...], AfterValidator(_in_order)]
