"""What is wrong with a setting, for whoever wrote it."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel

from finops_assets.base.secrets import without_secrets
from finops_assets.settings.alerts import CHANNEL_KINDS
from finops_assets.settings.engine import RUN_ON
from finops_assets.settings.mistakes import meant
from finops_assets.settings.model import Settings


def place_of_error(error: Any) -> tuple[str | int, ...]:
    """Where a mistake stands in the file; pydantic puts the channel's kind into the path, where no key is."""
    loc = tuple(error["loc"])
    if loc[0] == "lake":
        return (*loc[:1], *loc[2:])
    if loc[:2] == ("alerts", "channels") and len(loc) > 3:
        return (*loc[:3], *loc[4:])
    if loc[0] == "attribution_rules" and loc[2:4] == ("when", "columns"):
        return (*loc[:3], *loc[4:])
    return (*loc, "kind") if error["type"] == "union_tag_invalid" else loc


def explained(error: Any) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "union_tag_not_found":
        return f"has no kind; allowed: {', '.join(sorted(CHANNEL_KINDS))}"
    if kind == "union_tag_invalid":
        return f"found {context['tag']!r}; allowed: {', '.join(sorted(CHANNEL_KINDS))}"
    if kind == "missing":
        return "is missing and has no default"
    if kind == "extra_forbidden":
        known = _fields_at(error["loc"][:-1])
        hint = meant(error["loc"][-1], known)
        return f"is not a known setting{hint} (allowed: {', '.join(sorted(known))})"
    if kind == "too_short":
        return "is empty; at least one entry is needed"
    if kind == "literal_error":
        return f"found {value!r}; allowed: {context['expected']}"
    if kind == "string_pattern_mismatch" and any(str(part).endswith("_env") for part in error["loc"]):
        # Whoever pastes the secret itself here must not find it in a log.
        return "must be the name of an environment variable, such as FINOPS_SLACK_URL; what was found is not shown"
    if kind == "string_pattern_mismatch":
        return f"found {without_secrets(value)!r}; allowed: {ALLOWED.get(context['pattern'], 'text like ' + context['pattern'])}"
    if kind == "value_error" and not isinstance(value, str | int | float):
        return str(context["error"])
    # A whole section is not shown: it says nothing, and may hold what should not be shown.
    shown = repr(value) if isinstance(value, bool | int | float) else type(value).__name__
    shown = repr(without_secrets(value)) if isinstance(value, str) else shown
    told = error["msg"].removeprefix("Value error, ")
    return f"found {shown}; {told[0].lower()}{told[1:]}"


ALLOWED = {
    RUN_ON: "a Spark master, as spark://host:7077, local[2], yarn or k8s://https://host:443; clickhouse://user@host:port/database;"
    " bigquery://project/dataset; snowflake://connection/stage; passwords stand elsewhere; without it DuckDB here does the work",
    r"^[A-Z]{3}$": "a currency's three capital letters, as EUR",
    r"^[a-z][a-z0-9_]*$": "lower-case letters, digits and _, beginning with a letter, as aws_prod",
    r"^[^/]+/.+$": "department/team",
    r"^\d+(\.\d+)?\s?(MB|GB)$": "a size as 800MB or 2GB",
    r"^(team:[\w-]+|[^@\s]+@[^@\s]+)$": "team:name or an e-mail address",
    r"^\s*\S+\s+\S+\s+\S+\s+\S+\s+\S+\s*$": 'a cron of five fields, as "0,30 5-7 * * *"',
    r"^([01]\d|2[0-3]):[0-5]\d$": 'a UTC time as "08:00"',
}


def _fields_at(loc: tuple[str | int, ...]) -> list[str]:
    """The settings allowed at a place in the file, as the sections' models declare them."""
    models: list[type[BaseModel]] = [Settings]
    for part in loc:
        inner = [f.annotation for m in models for name, f in m.model_fields.items() if part in (name, f.alias)]
        if inner:
            models = [model for annotation in inner for model in _models_in(annotation)]
        elif part in CHANNEL_KINDS:
            models = [CHANNEL_KINDS[str(part)]]
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field's type speaks of: itself, or the entries of its list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for each in get_args(annotation) for model in _models_in(each)]
