"""The rules of one FOCUS version: those that follow from focus/columns.csv, and those of rules.toml."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from finops_assets.base.errors import FinopsError
from finops_assets.focus.specification import VERSIONS, Column, columns

Kind = Literal["columns", "presence", "nullability", "placeholder", "type", "format", "values", "relation"]
Severity = Literal["error", "warning"]

ENDINGS: Mapping[str, Kind] = {"TYPE": "type", "FORMAT": "format", "VALUES": "values"}
"""The end of a column rule's id, as rules.toml uses it for repairs -> its kind."""

_ARTICLES = {"string": "text", "decimal": "a number", "datetime": "a date and time", "json": "a JSON object"}


@dataclass(frozen=True)
class Rule:
    """One rule of one FOCUS version. `columns` must be in the data set for it to be judged.

    `when` and `must` are SQL over canonical columns: a row is judged where `when` is true, and breaks the rule where
    `must` is false. Rules without `must` are judged from how the values were written.
    """

    id: str
    version: str
    kind: Kind
    columns: tuple[str, ...]
    severity: Severity
    says: str
    reference: str
    when: str = "true"
    must: str = ""

    @property
    def column(self) -> str:
        """The column that the rule is about; '' where it is about all."""
        return self.columns[0] if self.columns else ""


@cache
def rules_of(version: str) -> tuple[Rule, ...]:
    """Every rule of a FOCUS version, by column in the specification's order, data set rules first.

    Raises:
        FinopsError: the version is none of 1.0 to 1.4.
    """
    if version not in VERSIONS:
        raise FinopsError(f"found FOCUS version {version!r}; allowed: {', '.join(VERSIONS)}")
    derived = [rule for column in columns().values() if version in column.level for rule in _derived(column, version)]
    written = list(_written(version))
    order = {name: i for i, name in enumerate(columns())}
    return tuple(sorted([*written, *derived], key=lambda r: (order.get(r.column, -1), _KIND_ORDER.index(r.kind), r.id)))


_KIND_ORDER = ("columns", "presence", "nullability", "placeholder", "type", "format", "values", "relation")


def _derived(column: Column, version: str) -> Iterator[Rule]:
    """What a cell of columns.csv means: its level, whether null is allowed, its type and closed list."""
    name, level = column.name, column.level[version]
    where = (name,)
    if level.startswith("M"):
        yield Rule(f"CAU-{name}-PRESENT", version, "presence", where, "error", f"{name} must be in the data set", name)
    elif level.startswith("R"):
        text = f"{name} should be in the data set"
        yield Rule(f"CAU-{name}-PRESENT", version, "presence", where, "warning", text, name)
    if not column.nullable(version):
        yield Rule(f"CAU-{name}-NULL", version, "nullability", where, "error", f"{name} must not be null", name)
    text = f"{name} must be null where it has no value, not empty text or a word such as NULL or N/A"
    yield Rule(f"CAU-{name}-PLACEHOLDER", version, "placeholder", where, "error", text, "NullHandling")
    text = f"{name} must be {_ARTICLES[column.type]}"
    yield Rule(f"CAU-{name}-TYPE", version, "type", where, "error", text, name)
    if column.type in _data()["format"]:
        entry = _data()["format"][column.type]
        flat = entry.get("says_flat", "") if name in entry.get("flat", ()) else ""
        text = entry["says"].format(column=name, flat=flat)
        yield Rule(f"CAU-{name}-FORMAT", version, "format", where, "error", text, entry["reference"])
    if column.allowed:
        listed = "one of its allowed values" if len(column.allowed) > 20 else " or ".join(column.allowed)
        yield Rule(f"CAU-{name}-VALUES", version, "values", where, "error", f"{name} must be {listed}", name)


def _written(version: str) -> Iterator[Rule]:
    for entry in _data()["rule"]:
        if version not in _versions(entry):
            continue
        for column in entry.get("each", [""]):
            named = columns().get(column)
            if named is not None and version not in named.level:
                continue
            kind: Kind = entry.get("kind", "relation")
            over = entry.get("columns", ["{column}"] if column else [])

            def fill(text: str, column: str = column) -> str:
                return text.replace("{column}", column)

            yield Rule(
                id=fill(entry["id"]),
                version=version,
                kind=kind,
                columns=tuple(fill(c) for c in over),
                severity=entry.get("severity", "error"),
                says=fill(entry["says"]),
                reference=fill(entry["reference"]),
                when=fill(entry.get("when", "true")),
                must=fill(entry.get("must", "")),
            )


def _versions(entry: Mapping[str, Any]) -> list[str]:
    wanted: list[str] = []
    for text in entry.get("versions", ["1.0+"]):
        first = VERSIONS.index(text.rstrip("+"))
        wanted += VERSIONS[first:] if text.endswith("+") else [text]
    return wanted


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((files("finops_assets.judge.conformance") / "rules.toml").read_text(encoding="utf-8"))


def pattern(column: Column) -> str | None:
    """The regular expression of how text of a column's type is to be written, if there is one."""
    found: str | None = _data()["format"].get(column.type, {}).get("pattern")
    return found


def flat_json() -> tuple[str, ...]:
    """The columns whose JSON is an object of plain values."""
    return tuple(_data()["format"]["json"]["flat"])


def repaired_kind(repair: str) -> Kind | None:
    """The kind of rule that a value broke which landing had to repair so; None where it broke none."""
    ending = _data()["repairs"].get(repair, "FORMAT")
    return ENDINGS.get(ending)


def near_macro() -> str:
    """SQL: near(cost, price, quantity), whether a cost is the product, within the tolerance of rules.toml."""
    tolerance = _data()["tolerance"]
    return f"""
        CREATE OR REPLACE TEMP MACRO near(cost, price, quantity) AS (
            abs(CAST(cost AS DOUBLE) - CAST(price AS DOUBLE) * CAST(quantity AS DOUBLE))
            <= {tolerance["absolute"]} + {tolerance["relative"]} * abs(CAST(cost AS DOUBLE))
        )
    """


@cache
def rules_version() -> str:
    """A hash of all rules: what was judged under others is judged again."""
    return hashlib.sha256(repr([rules_of(v) for v in VERSIONS]).encode()).hexdigest()[:12]
