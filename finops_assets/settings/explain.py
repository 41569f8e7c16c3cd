"""What is wrong with a setting, for whoever wrote it."""

from __future__ import annotations

from typing import Any

from pydantic import (
    BaseModel,
)

from finops_assets.base.secrets import without_secrets
from finops_assets.settings.alerts import CHANNEL_KINDS, Alerts, Night
from finops_assets.settings.anomalies import Anomalies, AnomalyLimits
from finops_assets.settings.attribution import AttributionRule, Dimension, SparseGroups
from finops_assets.settings.budgets import BudgetFile
from finops_assets.settings.currency import Currency
from finops_assets.settings.engine import RUN_ON, Engine
from finops_assets.settings.gates import Acknowledgement, Conforms, Plausibility
from finops_assets.settings.lake import LakeStore
from finops_assets.settings.mistakes import meant
from finops_assets.settings.model import Settings
from finops_assets.settings.shared_cost import SharedCost, SharedMetric, SharedWhat
from finops_assets.settings.sources import Source
from finops_assets.settings.tag_policy import TagPolicy, TagTarget, Threshold


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
        return f"found {value!r}; allowed: {ALLOWED.get(context['pattern'], 'text like ' + context['pattern'])}"
    if kind == "value_error" and not isinstance(value, str | int | float):
        return str(context["error"])
    # A whole section is not shown: it says nothing, and may hold what should not be shown.
    shown = repr(value) if isinstance(value, bool | int | float) else type(value).__name__
    shown = repr(without_secrets(value)) if isinstance(value, str) else shown
    return f"found {shown}; {error['msg'][0].lower()}{error['msg'][1:]}"


ALLOWED = {
    RUN_ON: "a Spark master, as spark://host:7077, local[2], yarn or k8s://https://host:443; without it DuckDB here does the work",
    r"^[A-Z]{3}$": "a currency's three capital letters, as EUR",
    r"^[a-z][a-z0-9_]*$": "lower-case letters, digits and _, beginning with a letter, as aws_prod",
    r"^[^/]+/.+$": "department/team",
    r"^\d+(\.\d+)?\s?(MB|GB)$": "a size as 800MB or 2GB",
    r"^(team:[\w-]+|[^@\s]+@[^@\s]+)$": "team:name or an e-mail address",
    r"^\s*\S+\s+\S+\s+\S+\s+\S+\s+\S+\s*$": 'a cron of five fields, as "0,30 5-7 * * *"',
    r"^([01]\d|2[0-3]):[0-5]\d$": 'a UTC time as "08:00"',
}


def _fields_at(loc: tuple[str | int, ...]) -> list[str]:
    """The settings allowed at a place in the file."""
    named: dict[str, type[BaseModel]] = {
        "lake": LakeStore,
        "sources": Source,
        "dimensions": Dimension,
        "tag_policy": TagPolicy,
        "attribution_rules": AttributionRule,
        "thresholds": Threshold,
        "target": TagTarget,
        "sparse_groups": SparseGroups,
        "plausibility": Plausibility,
        "conforms": Conforms,
        "acknowledged": Acknowledgement,
        "engine": Engine,
        "night": Night,
        "alerts": Alerts,
        "currency": Currency,
        "budgets": BudgetFile,
        "shared_cost": SharedCost,
        "cost": SharedWhat,
        "metric": SharedMetric,
        "anomalies": Anomalies,
        "overrides": AnomalyLimits,
    }
    if loc[:2] == ("alerts", "channels") and len(loc) > 3:
        return list(CHANNEL_KINDS[str(loc[3])].model_fields)
    if loc[:2] == ("tag_policy", "sources"):
        return list(Threshold.model_fields)
    model: type[BaseModel] = Settings
    for part in loc:
        model = named.get(str(part), model)
    return [field.alias or name for name, field in model.model_fields.items()]
