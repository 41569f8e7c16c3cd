"""FOCUS 1.0 to 1.4, CostAndUsage: which columns each version has, their types and closed lists.

`columns.csv` holds one row per column: type (string, decimal, datetime, json), the closed list if it
has one, and a cell per version: M mandatory, C conditional, R recommended, with ? where null is allowed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

VERSIONS = ("1.0", "1.1", "1.2", "1.3", "1.4")

ColumnType = Literal["string", "decimal", "datetime", "json"]


@dataclass(frozen=True)
class Column:
    """One FOCUS column over all versions."""

    name: str
    type: ColumnType
    allowed: tuple[str, ...]
    level: dict[str, str]

    def mandatory(self, version: str) -> bool:
        return self.level.get(version, "").startswith("M")

    def nullable(self, version: str) -> bool:
        return self.level.get(version, "?").endswith("?")


@cache
def columns() -> dict[str, Column]:
    """Every CostAndUsage column of any version by its name: the superset that the lake holds."""
    with (files("finops_assets.focus") / "columns.csv").open(encoding="utf-8") as file:
        return {
            row["column"]: Column(
                name=row["column"],
                type=row["type"],  # type: ignore[arg-type]
                allowed=tuple(v for v in row["allowed_values"].split("|") if v),
                level={version: row[version] for version in VERSIONS if row[version]},
            )
            for row in csv.DictReader(file)
        }


@cache
def _folded() -> dict[str, str]:
    return {name.casefold(): name for name in columns()}


@cache
def former_values() -> dict[tuple[str, str], str]:
    """(column, letters and digits of a value that its closed list had before) -> the value that it has become."""
    with (files("finops_assets.focus") / "former_values.csv").open(encoding="utf-8") as file:
        return {
            (row["column"], "".join(ch for ch in row["former"].casefold() if ch.isalnum())): row["value"]
            for row in csv.DictReader(file)
        }


def canonical_name(name: str) -> str | None:
    """The specification's spelling of a column name, whatever its case; None if it is not a FOCUS column."""
    return _folded().get(name.strip().casefold())


def detect_version(names: Iterable[str]) -> str:
    """The FOCUS version that a set of columns speaks.

    The newest version that introduced a column present. 1.4 added two conditional columns only and
    removed ProviderName and PublisherName, so a file with 1.3 columns and neither of those is 1.4.
    """
    present = {c for c in map(canonical_name, names) if c}
    newest = max(
        (min(VERSIONS.index(v) for v in columns()[name].level) for name in present),
        default=0,
    )
    if VERSIONS[newest] == "1.3" and not present & {"ProviderName", "PublisherName"}:
        return "1.4"
    return VERSIONS[newest]


def mandatory_columns(version: str) -> list[Column]:
    """The columns that every file of that version must have."""
    return [column for column in columns().values() if column.mandatory(version)]
