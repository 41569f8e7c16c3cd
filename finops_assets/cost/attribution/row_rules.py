"""Attribution by more than tags: ordered rules on a row's FOCUS columns, and owners that people accepted.

Rules are asked once for each distinct combination of the columns that they read, never row by row. What they say is
kept apart from what the tags say: values that come before the tags (`overrides_tags`) and values that fill what the
tags left empty. Whoever writes facts joins both, see `facts.facts_query`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from fnmatch import translate
from functools import cached_property

from finops_assets.base.patterns import found_in
from finops_assets.focus.normal import normal_key, normal_value
from finops_assets.focus.tags import Tags, TagValue

RULE, OWNER = "rule:", "owner:"
"""How a dimension's `_key` begins where no tag gave it. Tag keys of providers begin with neither."""


@dataclass(frozen=True)
class DimensionValue:
    """A dimension's value and what gave it: the tag key as written, `rule:<name>`, or `owner:<who and when>`."""

    value: str
    key: str


@dataclass(frozen=True)
class Matcher:
    """What a value must be like: any of some globs, or a regular expression found in it.

    In a glob * stands for any text, ? for one character, and case does not count. The empty glob is a value that is
    missing; nothing else matches a missing one.
    """

    globs: tuple[str, ...] = ()
    regex: str | None = None

    @cached_property
    def _globs(self) -> re.Pattern[str]:
        # In a glob of ours a bracket is a bracket. What `translate` makes does not try again what it has passed.
        translated = (translate(glob.replace("[", "[[]")) for glob in self.globs if glob)
        return re.compile(rf"\A(?i:{'|'.join(translated) or '(?!)'})")

    def matches(self, value: str) -> bool:
        """Does a value match? A missing one is the empty text."""
        return self.each([value])[0]

    def each(self, values: Sequence[str]) -> list[bool]:
        """Does each of the values match?"""
        if self.regex is not None:
            return [bool(value) and found for value, found in zip(values, found_in(self.regex, values))]
        return [bool(self._globs.match(value)) if value else "" in self.globs for value in values]


@dataclass(frozen=True)
class RowRule:
    """One rule: all its conditions must hold. `first` and `until` are UTC charge days, `until` exclusive.

    `columns`: FOCUS column -> matcher; `tags`: normalised tag key -> matcher; `sets`: dimension -> value.
    """

    name: str
    sets: Mapping[str, str]
    columns: Mapping[str, Matcher] = field(default_factory=dict)
    tags: Mapping[str, Matcher] = field(default_factory=dict)
    source: Matcher | None = None
    first: date | None = None
    until: date | None = None
    overrides_tags: bool = False

    def applies(self, source: str, day: date) -> bool:
        """May it say something of this source's rows of this day?"""
        return (
            (self.source is None or self.source.matches(source))
            and (self.first is None or self.first <= day)
            and (self.until is None or day < self.until)
        )


@dataclass(frozen=True)
class OwnerRule:
    """An owner that a person accepted: this resource has these dimensions, from a day on. It fills what is left empty."""

    source: str
    ResourceId: str
    gives: Mapping[str, DimensionValue]
    first: date | None = None


@dataclass(frozen=True)
class RuleValues:
    """What rules say of one combination: dimension -> value, before and after the tags."""

    over: Mapping[str, DimensionValue]
    fill: Mapping[str, DimensionValue]


NOTHING = RuleValues({}, {})


class RulesOfDay:
    """The rules that may apply to one source's rows of one day, ready to be asked."""

    def __init__(self, rules: Iterable[RowRule], owners: Iterable[OwnerRule]) -> None:
        self.rules = tuple(rules)
        self._owners: dict[str, dict[str, DimensionValue]] = {}
        for owner in owners:
            self._owners.setdefault(owner.ResourceId, {}).update(owner.gives)
        read = dict.fromkeys(column for rule in self.rules for column in rule.columns)
        if self._owners:
            read["ResourceId"] = None
        self.columns = tuple(read)
        """The FOCUS columns that they read."""
        self.reads_tags = any(rule.tags for rule in self.rules)
        given = [d for rule in self.rules for d in rule.sets] + [d for gives in self._owners.values() for d in gives]
        self.dimensions = tuple(dict.fromkeys(given))
        """The dimensions that they may give."""
        self._all = (1 << len(self.rules)) - 1
        self._masks: dict[tuple[int, str], int] = {}
        self._said: dict[int, RuleValues] = {}

    def __bool__(self) -> bool:
        return bool(self.rules or self._owners)

    def matching(self, values: tuple[str, ...], tags: Tags | None = None) -> list[RowRule]:
        """The rules whose conditions all hold, in their order; `values` by `columns`, a missing one is the empty text."""
        mask = self._mask(values, tags)
        return [rule for i, rule in enumerate(self.rules) if mask >> i & 1]

    def say(self, values: tuple[str, ...], tags: Tags | None = None) -> RuleValues:
        """What they say of a combination. Of each dimension the first rule that matches counts, owners last."""
        mask = self._mask(values, tags)
        said = self._said.get(mask)
        if said is None:
            said = self._said[mask] = self._first_of(mask)
        owned = self._owners.get(values[self.columns.index("ResourceId")]) if self._owners else None
        return RuleValues(said.over, {**owned, **said.fill}) if owned else said

    def _mask(self, values: tuple[str, ...], tags: Tags | None) -> int:
        """A bit for each rule that matches."""
        mask = self._all
        for position, value in enumerate(values):
            found = self._masks.get((position, value))
            if found is None:
                self.meet(position, [value])
                found = self._masks[position, value]
            mask &= found
        if self.reads_tags and mask:
            mask &= self._of_tags(tags or ({}, {}))
        return mask

    def meet(self, position: int, values: Iterable[str]) -> None:
        """Ask for values of one of the columns at once: a regular expression takes many in the time of a few."""
        column, distinct = self.columns[position], list(dict.fromkeys(values))
        masks = [0] * len(distinct)
        for i, rule in enumerate(self.rules):
            holds = rule.columns[column].each(distinct) if column in rule.columns else [True] * len(distinct)
            masks = [mask | bool(held) << i for mask, held in zip(masks, holds)]
        self._masks |= {(position, value): mask for value, mask in zip(distinct, masks)}

    def _of_tags(self, tags: Tags) -> int:
        texts: dict[str, str] = {}
        for tag_set in tags:
            for key in sorted(tag_set):
                text = tag_text(tag_set[key])
                if text and not texts.get(normal_key(key)):
                    texts[normal_key(key)] = text
        return sum(
            1 << i
            for i, rule in enumerate(self.rules)
            if all(matcher.matches(texts.get(key, "")) for key, matcher in rule.tags.items())
        )

    def _first_of(self, mask: int) -> RuleValues:
        over: dict[str, DimensionValue] = {}
        fill: dict[str, DimensionValue] = {}
        for i, rule in enumerate(self.rules):
            if mask >> i & 1:
                for dimension, value in rule.sets.items():
                    (over if rule.overrides_tags else fill).setdefault(
                        dimension, DimensionValue(value, f"{RULE}{rule.name}")
                    )
        return RuleValues(over, fill) if over or fill else NOTHING


def tag_text(value: TagValue) -> str:
    """A tag's value as rules see it; a tag without a value is delivered as true (FOCUS 1.2, Tags).

    >>> tag_text("  Shop "), tag_text(True), tag_text(None)
    ('shop', 'true', '')
    """
    if value is None:
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else normal_value(str(value))
