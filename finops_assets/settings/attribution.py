"""dimensions, attribution_rules and sparse_groups: to whom a charge belongs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from finops_assets.base.patterns import checked
from finops_assets.settings.section import Name, Section


class Dimension(Section):
    """Tag keys that may carry a dimension, first usable one wins, and how values are unified."""

    keys: tuple[str, ...] = Field(min_length=1)
    """Tag keys in order; case, a prefix `user:` and punctuation are ignored."""
    values: Mapping[str, str] = Field(default_factory=dict)
    """Value as met -> the value that it becomes."""


class Condition(Section):
    """What a value must be like: a glob or a list of them, of which one must match, or a regular expression."""

    any_of: tuple[str, ...] = ()
    regex: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _written(cls, raw: Any) -> Any:
        if isinstance(raw, str | list):
            listed = [raw] if isinstance(raw, str) else raw
            for value in listed:
                if not isinstance(value, str):
                    raise ValueError(
                        f"{value!r} is no text; write it in quotes (a number without them loses its leading zeros)"
                    )
            if not listed:
                raise ValueError("is an empty list, which nothing matches")
            return {"any_of": listed}
        if isinstance(raw, dict) and set(raw) == {"regex"}:
            return raw
        raise ValueError("allowed: a text with * and ? (in quotes if it is a number), a list of them, or {regex: …}")

    @field_validator("regex")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return None if pattern is None else checked(pattern)


class When(Section):
    """All conditions of a rule. In the file the columns stand beside `source` and `tags`."""

    source: Condition | None = None
    """The source's name in finops.yaml."""
    tags: Mapping[str, Condition] = Field(default_factory=dict)
    """Tag key -> condition. Keys match as those of dimensions do."""
    columns: Mapping[str, Condition] = Field(default_factory=dict)
    """Text column of FOCUS -> condition."""

    @model_validator(mode="before")
    @classmethod
    def _columns_apart(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        named = {key: raw[key] for key in ("source", "tags") if key in raw}
        return {**named, "columns": {key: value for key, value in raw.items() if key not in named}}


class AttributionRule(Section):
    """A rule beyond tags: rows of this kind have these dimensions. docs/guides/rules.md"""

    name: Name
    """Stands in the facts beside what it gave, as rule:<name>."""
    when: When
    """All of it must hold."""
    set: Mapping[Name, str] = Field(min_length=1)
    """Dimension -> the value that it gives."""
    valid_from: date | None = Field(default=None, alias="from")
    """The first UTC charge day that it holds for."""
    until: date | None = None
    """The first UTC charge day that it holds for no more."""
    overrides_tags: bool = False
    """true: it comes before the tags; else it fills what they leave empty."""
    reason: str = ""
    """For people; it decides nothing."""

    @model_validator(mode="after")
    def _holds_somewhere(self) -> AttributionRule:
        if self.valid_from and self.until and self.until <= self.valid_from:
            raise ValueError(f"until {self.until} is not after from {self.valid_from}; until is exclusive")
        if not (self.when.columns or self.when.tags or self.when.source):
            raise ValueError("has no condition, and would take everything; name a column, tags or source under when")
        return self


class SparseGroups(Section):
    """When a department and team has too few resources to be a cost center. docs/guides/governance.md"""

    min_resources: Annotated[int, Field(ge=1)] = 5
    """Distinct resources of the trailing days; with fewer the team is shown as __sparse__."""
    days: Annotated[int, Field(ge=1, le=366)] = 30
    """How many trailing days are counted, the day itself included."""
    overrides: Mapping[Annotated[str, Field(pattern=r"^[^/]+/.+$")], Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict
    )
    """department/team -> the resources that are enough for it; 0: it is always a cost center."""


class RulesAlone(Section):
    attribution_rules: tuple[AttributionRule, ...]
