"""finops.yaml, read and checked: every mistake at once, with its path and line."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from pydantic import ValidationError

from finops_assets.base.errors import ConfigError, Mistake
from finops_assets.settings.attribution import AttributionRule, RulesAlone
from finops_assets.settings.explain import explained, place_of_error
from finops_assets.settings.mistakes import cross_mistakes, list_of, rule_mistakes
from finops_assets.settings.model import Settings
from finops_assets.settings.yaml_file import dotted, line_of, read_document

CONFIG_ENV = "FINOPS_CONFIG"
DEFAULT_CONFIG = "finops.yaml"
_WHICH = f"run this in the project's folder, or name the file with --config or ${CONFIG_ENV}"


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
        raise ConfigError(str(file), [Mistake("(file)", f"cannot be read: {error.strerror}; {_WHICH}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(file), [Mistake("(file)", f"is not UTF-8 text: {error}")]) from error
    return parse_settings(text, file)


def load_candidate(path: Path, settings: Settings) -> Settings:
    """The settings with other attribution rules, to see what they would do: of a whole finops.yaml, or of a file that
    holds `attribution_rules` alone.

    Raises:
        ConfigError: with every mistake found, its path and line in the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = read_document(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(str(path), [Mistake("(file)", f"cannot be read as YAML: {error}")]) from error
    raw = document.content
    if isinstance(raw, dict) and "sources" in raw:
        whole = parse_settings(text, path.absolute())
        decides = {name: getattr(whole, name) for name in ("dimensions", "placeholders", "attribution_rules")}
        return settings.model_copy(update=decides)
    if not isinstance(raw, dict) or set(raw) != {"attribution_rules"}:
        allowed = "attribution_rules: and a list, or a whole finops.yaml"
        raise ConfigError(str(path), [Mistake("(file)", f"holds something else; allowed: {allowed}")])
    found = list(document.twice)
    rules: tuple[AttributionRule, ...] = ()
    try:
        rules = RulesAlone.model_validate(raw).attribution_rules
    except ValidationError as error:
        found += [(place_of_error(e), explained(e)) for e in error.errors()]
    listed = list_of(raw["attribution_rules"])
    found += rule_mistakes(listed, set(settings.dimensions), {s.name for s in settings.sources})
    if found:
        raise ConfigError(str(path), [Mistake(dotted(loc), text, line_of(document.lines, loc)) for loc, text in found])
    return settings.model_copy(update={"attribution_rules": rules})


def parse_settings(text: str, file: Path) -> Settings:
    """Settings from YAML text; `file` gives the name in messages and the base of relative paths."""
    try:
        document = read_document(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(
            str(file), [Mistake("(file)", f"is not YAML: {problem}", mark.line + 1 if mark else None)]
        ) from error
    raw = document.content
    if not isinstance(raw, dict):
        what = "is empty" if raw is None else f"must be a mapping, found {type(raw).__name__}"
        raise ConfigError(str(file), [Mistake("(file)", f"{what}; the project's finops.yaml shows each setting")])
    found = list(document.twice)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(raw, context={"folder": file.parent})
    except ValidationError as error:
        # A list that is only too short because its entries are wrong is not empty: the entries say what is wrong.
        real = (e for e in error.errors() if not (e["type"] == "too_short" and e["input"]))
        found += [(place_of_error(e), explained(e)) for e in real]
    found += cross_mistakes(raw, file.parent)
    if found or settings is None:
        raise ConfigError(str(file), [Mistake(dotted(loc), text, line_of(document.lines, loc)) for loc, text in found])
    return settings
