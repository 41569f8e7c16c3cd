"""docs/reference/settings.md: every setting of finops.yaml, as its models declare it."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from finops_assets.settings.attribution import Condition, When
from finops_assets.settings.engine import RUN_ON
from finops_assets.settings.explain import ALLOWED
from finops_assets.settings.model import Settings
from finops_assets.settings.section import Section
from finops_assets.settings.shared_cost import SharedWhat
from tools.reference.markdown import code, linked, table

Model = type[BaseModel]

# What is written otherwise than it is kept.
WRITTEN_AS: Mapping[tuple[Model, str], str] = {(When, "columns"): "<column>", (SharedWhat, "others"): "<dimension>"}
CONDITION = "text with `*` and `?`, a list of such, or `{regex: …}`"
SHORT: Mapping[str, str] = {
    **ALLOWED,
    r"^[a-z][a-z0-9_]*$": "name as `aws_prod`",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "name of an environment variable",
    r"^https?://": "http(s) address",
    r"^[^@\s]+@[^@\s]+$": "e-mail address",
    r"^arn:[^:]+:sns:[^:]*:[^:]*:.+$": "ARN of a topic",
    r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)?$": "table, or schema.table",
    RUN_ON: "`spark://host:7077`, `local[2]`, `yarn`, `k8s://https://host:443`, `clickhouse://user@host:port/database`,"
    " `bigquery://project/dataset`, `snowflake://connection/stage`",
}


def page() -> str:
    places = _places()
    lines = [
        "# Settings: finops.yaml",
        "",
        "Made from finops_assets/settings by `make docs`. `finops config check` reports every mistake in the file at once. `[]` is",
        "an entry of a list, `<…>` a name of your own. What has no default has to be given where its section stands.",
    ]
    for model, place in places.items():
        lines += [
            "",
            f"## {place if model is Settings else code(place)}",
            "",
            linked(inspect.cleandoc(model.__doc__ or "")),
            "",
        ]
        rows = (
            [
                code(WRITTEN_AS.get((model, name)) or _name(name, field)),
                _type(model, name, field, places),
                _default(field),
                _meaning(model, name),
            ]
            for name, field in model.model_fields.items()
        )
        lines += table(["setting", "type", "default", "meaning"], rows)
    return "\n".join([*lines, ""])


def _places() -> dict[Model, str]:
    """Each section's model and where in the file it stands first, in the order of the file."""
    found: dict[Model, str] = {}

    def enter(model: Model, place: str) -> None:
        if model not in found and model is not Condition:
            found[model] = place or "The file"
            for name, field in model.model_fields.items():
                for inner, where in _models(field.annotation, f"{place}.{_name(name, field)}".lstrip(".")):
                    enter(inner, where)

    enter(Settings, "")
    return found


def _models(kind: Any, place: str) -> Iterator[tuple[Model, str]]:
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Section):
        named = kind.model_fields.get("kind")
        yield kind, f"{place} of kind {get_args(named.annotation)[0]}" if named else place
    elif origin is tuple:
        yield from _models(inner[0], f"{place}[]")
    elif origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        yield from _models(inner[1], f"{place}.<name>")
    elif origin is not Literal:
        for each in inner if origin is not Annotated else inner[:1]:
            yield from _models(each, place)


def _type(model: Model, name: str, field: FieldInfo, places: Mapping[Model, str]) -> str:
    kind: Any = field.annotation
    said = words(get_args(kind)[1] if (model, name) in WRITTEN_AS else kind, field.metadata, places)
    return said.removesuffix(" or null") if field.default is None else said


def _name(name: str, field: FieldInfo) -> str:
    return field.alias or name


def words(kind: Any, notes: Iterable[Any], places: Mapping[Model, str]) -> str:
    """What may be written for a value, in words."""
    notes = [*_flat(notes)]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return words(inner[0], [*notes, *inner[1:]], places)
    if _validated(notes, "file_form"):
        others = [each for each in notes if getattr(getattr(each, "func", None), "__name__", "") != "file_form"]
        return f"path, or {words(kind, others, places)}"
    if _validated(notes, "one_or_more"):
        return "text, or a list of texts"
    if origin in (Union, UnionType):
        given = [words(each, notes, places) for each in inner if each is not NoneType]
        return " or ".join([*given, *(["null"] if NoneType in inner else [])])
    if origin is Literal:
        return ", ".join(map(code, inner))
    if origin is tuple:
        return f"list of {words(inner[0], (), places)}"
    if origin is not None and issubclass(origin, Mapping):
        return f"mapping: {words(inner[0], (), places)} → {words(inner[1], (), places)}"
    if issubclass(kind, Section):
        return (
            CONDITION if kind is Condition else f"[{code(places[kind].rpartition('.')[2])}](#{_anchor(places[kind])})"
        )
    if kind is str:
        pattern = next((each.pattern for each in notes if getattr(each, "pattern", None)), None)
        return "text" if pattern is None else SHORT.get(pattern, f"text like {code(pattern)}")
    return {bool: "`true`, `false`", date: "`YYYY-MM-DD`", Path: "path"}.get(kind) or _number(kind, notes)


def _flat(notes: Iterable[Any]) -> Iterator[Any]:
    for each in notes:
        if isinstance(each, FieldInfo):
            yield from each.metadata
        else:
            yield each


def _validated(notes: Iterable[Any], by: str) -> bool:
    return any(getattr(getattr(each, "func", None), "__name__", "") == by for each in notes)


def _number(kind: type, notes: Iterable[Any]) -> str:
    what = {int: "whole number", float: "number", Decimal: "number"}[kind]
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [f"{sign} {getattr(each, name)}" for each in notes for name, sign in signs.items() if hasattr(each, name)]
    return f"{what} {', '.join(bounds)}".strip()


def _anchor(heading: str) -> str:
    """As GitHub and mkdocs make it of a heading."""
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " _-")
    return kept.replace(" ", "-")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "needed"
    if value is None or isinstance(value, BaseModel) or (value != 0 and not value):
        return ""
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(", ".join(value)) if isinstance(value, tuple) else code(str(value))


def _meaning(model: Model, name: str) -> str:
    """What the text below a field says; else what its section, or the kind of its value, says of itself."""
    told = next((said[name] for each in model.__mro__ if name in (said := _docstrings(each))), "")
    if not told and name == "kind":
        told = "Which kind of channel it is."
    if not told:
        own = [inner for inner, _ in _models(model.model_fields[name].annotation, "")]
        told = inspect.cleandoc(own[0].__doc__ or "").partition("\n\n")[0] if len(own) == 1 else ""
    return linked(re.sub(r"^None:", "Left out:", " ".join(told.split())).replace("None:", "left out:"))


@cache
def _docstrings(model: type) -> Mapping[str, str]:
    """The texts that stand below a class's fields."""
    if not issubclass(model, Section):
        return {}
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:]):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[field.target.id] = below.value.value
    return found


def without_meaning() -> list[str]:
    """Settings that say nothing of themselves."""
    return [
        f"{model.__name__}.{name}" for model in _places() for name in model.model_fields if not _meaning(model, name)
    ]
