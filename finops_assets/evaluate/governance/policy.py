"""The tag policy in the form in which it is applied: required dimensions, canonical values, champions, target."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz import fuzz, process

from finops_assets.base.errors import FinopsError
from finops_assets.focus.normal import normal_value
from finops_assets.settings.model import Settings
from finops_assets.settings.tag_policy import TagTarget

CHAMPION = "champion"
DEPARTMENT = "department"
RECENT_DAYS = 30
"""All but coverage by week is of so many days."""
NEAR = 70.0
"""Of 100: below this likeness no canonical value is called near."""


class PolicyError(FinopsError):
    """The organisation's file cannot be read or contradicts itself."""


@dataclass(frozen=True)
class Policy:
    """What tags should be. Values are as dimensions carry them; a dimension without canonical values may have any."""

    required: tuple[str, ...]
    canonical: Mapping[str, frozenset[str]]
    champions: Mapping[str, str]
    """Department -> who answers for its tags."""
    target: TagTarget | None

    def champion(self, department: str | None) -> str:
        """Who answers for a department's tags; empty where nobody is named."""
        return self.champions.get(department or "", "")

    def nearest(self, dimension: str, value: str) -> tuple[str | None, float]:
        """The canonical value most like this one, and how like (0 to 100); none below NEAR.

        Numbers are no spelling: cc-1300 is not near cc-1000.
        """
        like = {c: _words(c) for c in sorted(self.canonical.get(dimension, ())) if _digits(c) == _digits(value)}
        found = process.extractOne(_words(value), like, scorer=fuzz.token_sort_ratio)
        return (str(found[2]), float(found[1])) if found and found[1] >= NEAR else (None, 0.0)


def _words(value: str) -> str:
    """A value without what separates its words: data-platform and data_platform are as like as can be."""
    return "".join(c if c.isalnum() else " " for c in value)


def _digits(value: str) -> str:
    return "".join(c for c in value if c.isdigit())


def read_policy(settings: Settings) -> Policy:
    """The policy of finops.yaml, with the values and champions of the organisation's file.

    Raises:
        PolicyError: the file cannot be read, has a column that is no dimension, or names two champions of a department.
    """
    given = settings.tag_policy
    canonical = {d: {_unified(settings, d, v) for v in values} for d, values in given.canonical.items()}
    champions = {_unified(settings, DEPARTMENT, d): c for d, c in given.champions.items()}
    if given.organisation:
        listed, named = _read_organisation(given.organisation, settings)
        for dimension, values in listed.items():
            canonical.setdefault(dimension, set()).update(values)
        champions = named | champions
    return Policy(
        tuple(d for d in given.required if d in settings.dimensions),
        {d: frozenset(values) for d, values in canonical.items()},
        champions,
        given.target,
    )


def _unified(settings: Settings, dimension: str, value: str) -> str:
    normal = normal_value(value)
    body = settings.dimensions.get(dimension)
    spelled = {normal_value(v): normal_value(to) for v, to in body.values.items()} if body else {}
    return spelled.get(normal, normal)


def _read_organisation(file: Path, settings: Settings) -> tuple[dict[str, set[str]], dict[str, str]]:
    """Dimension -> values, and department -> champion, of a CSV: a column a dimension, and `champion`."""
    allowed: Collection[str] = (*settings.dimensions, CHAMPION)
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            names = [(name or "").strip() for name in reader.fieldnames or []]
            unknown = [name for name in names if name not in allowed]
            if unknown or not names:
                found = f"found the columns {', '.join(unknown)}" if names else "is empty"
                raise PolicyError(f"organisation {file}: {found}; allowed: {', '.join(allowed)}")
            rows = [
                (reader.line_num, {n: (v or "").strip() for n, v in zip(names, row.values()) if isinstance(v, str)})
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PolicyError(f"organisation {file} (tag_policy.organisation): cannot be read as CSV: {error}") from error
    values: dict[str, set[str]] = {name: set() for name in names if name != CHAMPION}
    champions: dict[str, str] = {}
    for line, row in rows:
        for dimension, found_values in values.items():
            if row.get(dimension):
                found_values.add(_unified(settings, dimension, row[dimension]))
        champion, department = row.get(CHAMPION), row.get(DEPARTMENT)
        if not champion:
            continue
        if not department:
            raise PolicyError(f"organisation {file}, line {line}: champion {champion!r} without a department")
        normal = _unified(settings, DEPARTMENT, department)
        if champions.setdefault(normal, champion) != champion:
            raise PolicyError(
                f"organisation {file}, line {line}: found champion {champion!r} of {normal}, which has"
                f" {champions[normal]!r} already; a department has one"
            )
    return values, champions
