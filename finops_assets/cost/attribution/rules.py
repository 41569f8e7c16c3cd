"""The attribution rules: one plain function from a tag set to its dimensions, and which rules on rows go with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Any

from finops_assets.cost.attribution.row_rules import DimensionValue, Matcher, OwnerRule, RowRule, RulesOfDay
from finops_assets.focus.normal import normal_key, normal_value
from finops_assets.focus.tags import TagValue
from finops_assets.settings.attribution import AttributionRule, Condition
from finops_assets.settings.clusters import Cluster
from finops_assets.settings.model import Settings

__all__ = ["Rules", "TagValue", "resolve"]

# Part of the rules' version: a change of the algorithm below re-attributes history, as one of finops.yaml does.
ALGORITHM = 1


@dataclass(frozen=True)
class Rules:
    """What decides attribution, in the form in which it is applied."""

    dimensions: tuple[str, ...]
    aliases: Mapping[str, tuple[str, ...]]
    values: Mapping[str, Mapping[str, str]]
    placeholders: frozenset[str]
    row_rules: tuple[RowRule, ...] = ()
    owners: tuple[OwnerRule, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    """By whose usage charges of nodes are split before anything is attributed."""
    _of_day: dict[object, RulesOfDay] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_settings(cls, settings: Settings, owners: Iterable[OwnerRule] = ()) -> Rules:
        """The rules of finops.yaml; `owners` are the accepted ones, of which unknown dimensions are left out."""
        rules = cls(
            dimensions=tuple(settings.dimensions),
            aliases={d: tuple(normal_key(k) for k in body.keys) for d, body in settings.dimensions.items()},
            values={
                d: {normal_value(v): normal_value(to) for v, to in body.values.items()}
                for d, body in settings.dimensions.items()
            },
            placeholders=frozenset(normal_value(p) for p in settings.placeholders) | {""},
            clusters=settings.clusters,
        )
        return replace(
            rules,
            row_rules=tuple(rules._row_rule(rule) for rule in settings.attribution_rules),
            owners=tuple(rules._known_owner(owner) for owner in owners),
        )

    def _row_rule(self, rule: AttributionRule) -> RowRule:
        return RowRule(
            rule.name,
            {d: self._unified(d, value) for d, value in rule.set.items()},
            {column: _matcher(condition) for column, condition in rule.when.columns.items()},
            # Tag values are compared as dimensions carry them, trimmed and lower case.
            {normal_key(key): _matcher(condition, tag=True) for key, condition in rule.when.tags.items()},
            _matcher(rule.when.source) if rule.when.source else None,
            rule.valid_from,
            rule.until,
            rule.overrides_tags,
        )

    def _known_owner(self, owner: OwnerRule) -> OwnerRule:
        known = {
            d: DimensionValue(self._unified(d, g.value), g.key) for d, g in owner.gives.items() if d in self.dimensions
        }
        return replace(owner, gives=known)

    def _unified(self, dimension: str, value: str) -> str:
        normal = normal_value(value)
        return self.values[dimension].get(normal, normal)

    @cached_property
    def known(self) -> frozenset[str]:
        """Every alias of every dimension."""
        return frozenset(alias for aliases in self.aliases.values() for alias in aliases)

    @cached_property
    def tags_version(self) -> str:
        """A hash of everything that decides what a tag set gives."""
        decides = [
            ALGORITHM,
            [[d, self.aliases[d], sorted(self.values[d].items())] for d in self.dimensions],
            sorted(self.placeholders),
        ]
        return _hash(decides)

    @cached_property
    def version(self) -> str:
        """A hash of everything that decides, so that a change of rules is a change of version."""
        if not self.row_rules and not self.owners and not self.clusters:
            return self.tags_version
        return _hash([self.tags_version, *self.described(), *self.described_clusters()])

    @cached_property
    def configured_version(self) -> str:
        """The version of finops.yaml's rules alone, whatever owners were accepted."""
        if not self.row_rules and not self.clusters:
            return self.tags_version
        return _hash([self.tags_version, self.described()[0], *self.described_clusters()])

    @cached_property
    def owners_version(self) -> str | None:
        """A hash of the accepted owners; None without any."""
        return _hash(self.described()[1]) if self.owners else None

    def described(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The rules on rows, and the accepted owners, as JSON: whatever decides, and nothing else."""
        rules = [
            {
                "name": rule.name,
                "source": _plain(rule.source),
                "columns": {column: _plain(m) for column, m in sorted(rule.columns.items())},
                "tags": {key: _plain(m) for key, m in sorted(rule.tags.items())},
                "set": dict(sorted(rule.sets.items())),
                "from": str(rule.first) if rule.first else None,
                "until": str(rule.until) if rule.until else None,
                "overrides_tags": rule.overrides_tags,
            }
            for rule in self.row_rules
        ]
        owners = [
            {
                "source": owner.source,
                "ResourceId": owner.ResourceId,
                "from": str(owner.first) if owner.first else None,
                "gives": {d: [given.value, given.key] for d, given in sorted(owner.gives.items())},
            }
            for owner in self.owners
        ]
        return rules, owners

    def described_clusters(self) -> list[list[str]]:
        """How charges of nodes are split, as JSON; which files say so is told by the stamp of each day."""
        return [[cluster.name, cluster.idle] for cluster in self.clusters]

    def of_day(self, source: str, day: date) -> RulesOfDay:
        """The rules on rows that may apply to a source's rows of a day."""
        rules = tuple(i for i, rule in enumerate(self.row_rules) if rule.applies(source, day))
        owners = tuple(
            i
            for i, owner in enumerate(self.owners)
            if owner.source == source and (owner.first is None or owner.first <= day)
        )
        # Days under the same rules share what was found out about values.
        key = (rules, owners)
        found = self._of_day.get(key)
        if found is None:
            found = RulesOfDay((self.row_rules[i] for i in rules), (self.owners[i] for i in owners))
            self._of_day[key] = found
        return found


def _matcher(condition: Condition, tag: bool = False) -> Matcher:
    globs = tuple(normal_value(glob) for glob in condition.any_of) if tag else condition.any_of
    return Matcher(globs, condition.regex)


def _plain(matcher: Matcher | None) -> object:
    if matcher is None:
        return None
    return {"regex": matcher.regex} if matcher.regex is not None else sorted(matcher.globs)


def _hash(decides: object) -> str:
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]


def resolve(
    rules: Rules, tags: Mapping[str, TagValue], allocated_tags: Mapping[str, TagValue] | None = None
) -> dict[str, DimensionValue | None]:
    """Every dimension of a tag set, with its reason; None where no tag gives it.

    The first alias in the configured order with a usable value wins. `allocated_tags` (FOCUS 1.3,
    AllocatedTags: the tags of the workload that a split cost belongs to) come before `tags`. Where
    several spellings of one alias stand in a set, the first usable one in the keys' order wins.
    """
    by_key = [_usable(rules, tag_set) for tag_set in (allocated_tags or {}, tags)]
    result: dict[str, DimensionValue | None] = {}
    for dimension in rules.dimensions:
        found = next(
            (usable[alias] for usable in by_key for alias in rules.aliases[dimension] if alias in usable),
            None,
        )
        if found is not None:
            found = DimensionValue(rules.values[dimension].get(found.value, found.value), found.key)
        result[dimension] = found
    return result


def _usable(rules: Rules, tags: Mapping[str, TagValue]) -> dict[str, DimensionValue]:
    """Normalised alias -> its value, without empty and placeholder values."""
    usable: dict[str, DimensionValue] = {}
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
            usable[alias] = DimensionValue(text, key)
    return usable
