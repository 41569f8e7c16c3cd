"""finops.yaml -> typed settings. Every mistake is reported at once, with its place in the file."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finops_assets.attribution.normal import normal_key, normal_value
from finops_assets.errors import ConfigError, Mistake
from finops_assets.focus.specification import columns

CONFIG_ENV = "FINOPS_CONFIG"
DEFAULT_CONFIG = "finops.yaml"

Layout = Literal["aws-data-exports", "azure-exports", "gcs-export", "files"]
Percent = Annotated[float, Field(ge=0, le=100)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """One billing export. A new provider is a new entry here, not new code."""

    name: Name
    uri: str
    layout: Layout
    provider: str | None = None
    required: bool = True
    known_gaps: tuple[str, ...] = ()
    """Mandatory FOCUS columns that this provider is known to leave out or empty: reported, not blocking."""


class Dimension(_Strict):
    """Tag keys that may carry a dimension, first usable one wins, and how values are unified."""

    keys: tuple[str, ...] = Field(min_length=1)
    values: Mapping[str, str] = Field(default_factory=dict)


class Threshold(_Strict):
    """Shares of positive effective cost without the dimension, in percent."""

    warn_above: Percent
    block_above: Percent


class TagPolicy(_Strict):
    required: tuple[str, ...] = ()
    thresholds: Mapping[str, Threshold] = Field(default_factory=dict)
    sources: Mapping[str, Mapping[str, Threshold]] = Field(default_factory=dict)

    def threshold(self, source: str, dimension: str) -> Threshold:
        """The threshold in force: the source's own, else the dimension's, else warn 20 / block 50."""
        own = self.sources.get(source, {}).get(dimension)
        return own or self.thresholds.get(dimension) or Threshold(warn_above=20, block_above=50)


class Plausibility(_Strict):
    """How far a restated day may fall below the version that it replaces, in percent."""

    max_row_fall: Percent = 50
    max_cost_fall: Percent = 50


class Acknowledgement(_Strict):
    """A fall in rows or cost that a person has looked at and accepts."""

    source: str
    day: date
    reason: str = Field(min_length=1)


class Engine(_Strict):
    """Bounds for the query engine; memory is the engine's own budget, the process needs some more."""

    memory_limit: Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s?(MB|GB)$")] = "800MB"
    threads: Annotated[int, Field(ge=1)] | None = None


class Settings(_Strict):
    """The whole of finops.yaml. Relative paths are relative to the file's folder."""

    first_day: date
    lake: Path
    warehouse: Path
    published: Path
    sources: tuple[Source, ...] = Field(min_length=1)
    dimensions: Mapping[Name, Dimension] = Field(min_length=1)
    placeholders: tuple[str, ...] = ("none", "null", "n/a", "unknown")
    tag_policy: TagPolicy = TagPolicy()
    plausibility: Plausibility = Plausibility()
    acknowledged: tuple[Acknowledgement, ...] = ()
    engine: Engine = Engine()
    owner: str = "team:finops"

    def source(self, name: str) -> Source:
        """The source of that name; KeyError names the known ones."""
        for source in self.sources:
            if source.name == name:
                return source
        raise KeyError(f"no source {name!r}; known: {', '.join(s.name for s in self.sources)}")


class _Loader(yaml.SafeLoader):
    """YAML in which a date stays text: YAML's own dates end in a bare ValueError where they do not exist."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def config_path(path: str | os.PathLike[str] | None = None) -> Path:
    """The configuration in force: the argument, else $FINOPS_CONFIG, else ./finops.yaml."""
    return Path(path or os.environ.get(CONFIG_ENV) or DEFAULT_CONFIG).absolute()


def load_settings(path: str | os.PathLike[str] | None = None) -> Settings:
    """Read and check finops.yaml.

    Raises:
        ConfigError: with every mistake found, its path and line in the file.
    """
    file = config_path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(file), [Mistake("(file)", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(file), [Mistake("(file)", f"is not UTF-8 text: {error}")]) from error
    return parse_settings(text, file)


def parse_settings(text: str, file: Path) -> Settings:
    """Settings from YAML text; `file` gives the name in messages and the base of relative paths."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        raw = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(
            str(file), [Mistake("(file)", f"is not YAML: {problem}", mark.line + 1 if mark else None)]
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError(str(file), [Mistake("(file)", f"must be a mapping, found {type(raw).__name__}")])
    lines = dict(_lines(node, ()))
    found: list[tuple[tuple[str | int, ...], str]] = list(_duplicate_keys(node, ()))
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        found += [(tuple(e["loc"]), _explain(e)) for e in error.errors()]
    found += _cross_mistakes(raw)
    if found or settings is None:
        raise ConfigError(str(file), [Mistake(_dotted(loc), text, _line(lines, loc)) for loc, text in found])
    base = file.parent
    return settings.model_copy(
        update={
            "lake": _resolve(base, settings.lake),
            "warehouse": _resolve(base, settings.warehouse),
            "published": _resolve(base, settings.published),
            "sources": tuple(s.model_copy(update={"uri": _resolve_uri(base, s.uri)}) for s in settings.sources),
        }
    )


def _resolve(base: Path, path: Path) -> Path:
    return path if path.is_absolute() else base / path


def _resolve_uri(base: Path, uri: str) -> str:
    return uri if "://" in uri or os.path.isabs(uri) else str(base / uri)


def _dotted(loc: tuple[str | int, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(file)"


def _line(lines: Mapping[tuple[str | int, ...], int], loc: tuple[str | int, ...]) -> int | None:
    while loc and loc not in lines:
        loc = loc[:-1]
    return lines.get(loc)


def _lines(node: yaml.Node | None, loc: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*loc, key.value), key.start_mark.line + 1
            yield from _lines(value, (*loc, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield (*loc, i), value.start_mark.line + 1
            yield from _lines(value, (*loc, i))


def _duplicate_keys(
    node: yaml.Node | None, loc: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """YAML lets the last of two equal keys win in silence; here that is a mistake."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield (*loc, key.value), f"the key {key.value!r} stands twice; keep one"
            seen.add(key.value)
            yield from _duplicate_keys(value, (*loc, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _duplicate_keys(value, (*loc, i))


def _explain(error: Any) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return "is missing and has no default"
    if kind == "extra_forbidden":
        known = _fields_at(error["loc"][:-1])
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"is not a known setting{hint} (allowed: {', '.join(sorted(known))})"
    if kind == "literal_error":
        return f"found {value!r}; allowed: {context['expected']}"
    if kind == "string_pattern_mismatch":
        return f"found {value!r}; allowed: text like {context['pattern']}"
    return f"found {value!r}; {error['msg'][0].lower()}{error['msg'][1:]}"


def _fields_at(loc: tuple[str | int, ...]) -> list[str]:
    """The settings allowed at a place in the file."""
    named: dict[str, type[BaseModel]] = {
        "sources": Source,
        "dimensions": Dimension,
        "tag_policy": TagPolicy,
        "thresholds": Threshold,
        "plausibility": Plausibility,
        "acknowledged": Acknowledgement,
        "engine": Engine,
    }
    if loc[:2] == ("tag_policy", "sources"):
        return list(Threshold.model_fields)
    model: type[BaseModel] = Settings
    for part in loc:
        model = named.get(str(part), model)
    return list(model.model_fields)


def _cross_mistakes(raw: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """Mistakes between settings; tolerant of raw input so that they show beside the simple ones."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    sources = [(i, s) for i, s in enumerate(_list(raw.get("sources"))) if isinstance(s, dict)]
    names: dict[str, int] = {}
    for i, source in sources:
        name = str(source.get("name"))
        if name in names:
            found.append(
                (("sources", i, "name"), f"found {name!r} again (first at sources[{names[name]}]); names are unique")
            )
        names.setdefault(name, i)
    uris: dict[str, int] = {}
    for i, source in sources:
        uri = str(source.get("uri")).rstrip("/")
        if uri in uris:
            found.append(
                (("sources", i, "uri"), f"found {uri!r}, as sources[{uris[uri]}] has; one cost would be counted twice")
            )
        uris.setdefault(uri, i)
    dimensions = _mapping(raw.get("dimensions"))
    found += _alias_mistakes(dimensions)
    found += _policy_mistakes(_mapping(raw.get("tag_policy")), {str(d) for d in dimensions}, set(names))
    for i, item in enumerate(_list(raw.get("acknowledged"))):
        if isinstance(item, dict) and str(item.get("source")) not in names:
            found.append(
                (("acknowledged", i, "source"), f"found {item.get('source')!r}; allowed: {', '.join(sorted(names))}")
            )
    return found


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


RESERVED = {"source", "charge_date", "provider", "tag_set_id", "repairs", "source_file", "source_row"} | {
    name.casefold() for name in columns()
}


def _alias_mistakes(dimensions: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    owner: dict[str, tuple[str, str]] = {}
    for dimension, body in dimensions.items():
        if str(dimension) in RESERVED or f"{dimension}".endswith("_key"):
            found.append((("dimensions", dimension), f"the name {dimension!r} is taken by a column of the facts"))
        if not isinstance(body, dict):
            continue
        for i, key in enumerate(_list(body.get("keys"))):
            normal = normal_key(str(key))
            loc = ("dimensions", str(dimension), "keys", i)
            if not normal:
                found.append((loc, f"found {key!r}, which has no letter or digit"))
            elif normal in owner:
                other, spelled = owner[normal]
                found.append(
                    (
                        loc,
                        f"found {key!r}, which matches {spelled!r} of dimension {other!r} (case, user: and"
                        " punctuation are ignored); a key belongs to one dimension",
                    )
                )
            owner.setdefault(normal, (str(dimension), str(key)))
        targets: dict[str, str] = {}
        for value, target in _mapping(body.get("values")).items():
            normal = normal_value(str(value))
            if targets.setdefault(normal, str(target)) != str(target):
                found.append(
                    (
                        ("dimensions", str(dimension), "values", value),
                        f"found {value!r} -> {target!r}, but {normal!r} already becomes {targets[normal]!r}",
                    )
                )
    return found


def _policy_mistakes(
    policy: Mapping[str, Any], dimensions: set[str], sources: set[str]
) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    allowed = ", ".join(sorted(dimensions)) or "(no dimensions are configured)"

    def check(loc: tuple[str | int, ...], dimension: object, body: object = None) -> None:
        if str(dimension) not in dimensions:
            found.append((loc, f"found {dimension!r}; allowed: {allowed}"))
        if isinstance(body, dict):
            warn, block = body.get("warn_above"), body.get("block_above")
            if isinstance(warn, (int, float)) and isinstance(block, (int, float)) and warn > block:
                found.append((loc, f"found warn_above {warn} over block_above {block}; warn must not exceed block"))

    for i, dimension in enumerate(_list(policy.get("required"))):
        check(("tag_policy", "required", i), dimension)
    for dimension, body in _mapping(policy.get("thresholds")).items():
        check(("tag_policy", "thresholds", dimension), dimension, body)
    for source, bodies in _mapping(policy.get("sources")).items():
        if source not in sources:
            found.append((("tag_policy", "sources", source), f"found {source!r}; allowed: {', '.join(sorted(sources))}"))
        for dimension, body in _mapping(bodies).items():
            check(("tag_policy", "sources", source, dimension), dimension, body)
    return found


_SECRET = re.compile(r"(?<=://)[^/@\s]+@")


def without_secrets(uri: str) -> str:
    """A URI as it may be shown: user and password removed."""
    return _SECRET.sub("", uri)
