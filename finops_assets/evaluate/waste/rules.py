"""The rules by which waste is found: data, each with where its knowledge comes from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Certainty = Literal["high", "medium", "low"]
ALL_OF_IT, NOBODY_KNOWS = "all", "unknown"


@dataclass(frozen=True)
class Charges:
    """Which charges: patterns that must all be found; an empty one is found in everything."""

    text: str = ""
    """In SkuMeter and ChargeDescription."""
    service: str = ""
    unit: str = ""
    name: str = ""
    """Of the resource; its group is the name of the machine that the resource belongs to."""


@dataclass(frozen=True)
class Rule:
    """One rule; without `use` the charges say it by themselves."""

    name: str
    kind: str
    stays: Charges
    least_days: int
    """Days with the source's cost that must have gone by since the use ended, or the charges began."""
    certainty: Certainty
    saves: str
    """What would be saved: all of it; unknown; else a pattern of the cheaper class, whose price the bill may show."""
    why: str
    source: str
    provider: str = ""
    use: Charges | None = None
    attached: bool = False
    """Is `use` that of another resource, whose name `stays.name` takes out of this one's?"""
    without_use: bool = False
    """Is it told of, too, where no use was seen at all?"""


@cache
def rules() -> tuple[Rule, ...]:
    """All of them, in the order of the file."""
    text = files(__package__).joinpath("rules.toml").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = tomllib.loads(text)["rule"]
    return tuple(_rule(entry) for entry in entries)


def _rule(entry: dict[str, Any]) -> Rule:
    fields: dict[str, Any] = {name: Charges(**v) if isinstance(v, dict) else v for name, v in entry.items()}
    return Rule(**fields)
