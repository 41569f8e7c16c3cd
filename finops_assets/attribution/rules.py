"""The attribution rules: one plain function from a tag set to its dimensions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from finops_assets.attribution.normal import normal_key, normal_value
from finops_assets.settings import Settings

TagValue = str | int | float | bool | None

# Part of the rules' version: a change of the algorithm below re-attributes history, as one of finops.yaml does.
ALGORITHM = 1


@dataclass(frozen=True)
class Given:
    """A dimension's value and the tag key, as written in the bill, that gave it."""

    value: str
    key: str


@dataclass(frozen=True)
class Rules:
    """What decides attribution, in the form in which it is applied."""

    dimensions: tuple[str, ...]
    aliases: Mapping[str, tuple[str, ...]]
    values: Mapping[str, Mapping[str, str]]
    placeholders: frozenset[str]

    @classmethod
    def from_settings(cls, settings: Settings) -> Rules:
        return cls(
            dimensions=tuple(settings.dimensions),
            aliases={d: tuple(normal_key(k) for k in body.keys) for d, body in settings.dimensions.items()},
            values={
                d: {normal_value(v): normal_value(to) for v, to in body.values.items()}
                for d, body in settings.dimensions.items()
            },
            placeholders=frozenset(normal_value(p) for p in settings.placeholders) | {""},
        )

    @cached_property
    def known(self) -> frozenset[str]:
        """Every alias of every dimension."""
        return frozenset(alias for aliases in self.aliases.values() for alias in aliases)

    @property
    def version(self) -> str:
        """A hash of everything that decides, so that a change of rules is a change of version."""
        decides = [
            ALGORITHM,
            [[d, self.aliases[d], sorted(self.values[d].items())] for d in self.dimensions],
            sorted(self.placeholders),
        ]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]


def resolve(
    rules: Rules, tags: Mapping[str, TagValue], allocated_tags: Mapping[str, TagValue] | None = None
) -> dict[str, Given | None]:
    """Every dimension of a tag set, with its reason; None where no tag gives it.

    The first alias in the configured order with a usable value wins. `allocated_tags` (FOCUS 1.3,
    AllocatedTags: the tags of the workload that a split cost belongs to) come before `tags`. Where
    several spellings of one alias stand in a set, the first usable one in the keys' order wins.
    """
    by_key = [_usable(rules, tag_set) for tag_set in (allocated_tags or {}, tags)]
    result: dict[str, Given | None] = {}
    for dimension in rules.dimensions:
        found = next(
            (usable[alias] for usable in by_key for alias in rules.aliases[dimension] if alias in usable),
            None,
        )
        if found is not None:
            found = Given(rules.values[dimension].get(found.value, found.value), found.key)
        result[dimension] = found
    return result


def _usable(rules: Rules, tags: Mapping[str, TagValue]) -> dict[str, Given]:
    """Normalised alias -> its value, without empty and placeholder values."""
    usable: dict[str, Given] = {}
    for key in sorted(tags):
        alias = normal_key(key)
        if alias not in rules.known or alias in usable:
            continue
        value = tags[key]
        # A tag without a value is delivered as true (FOCUS 1.2, Tags): it names nobody.
        if value is None or isinstance(value, bool):
            continue
        text = normal_value(str(value))
        if text not in rules.placeholders:
            usable[alias] = Given(text, key)
    return usable
