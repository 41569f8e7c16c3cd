"""finops.yaml -> typed settings. Every mistake is reported at once, with its place in the file."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from finops_assets.base.errors import ConfigError, Mistake
from finops_assets.base.patterns import checked
from finops_assets.base.uris import Place, bucket_place, place_of
from finops_assets.base.waiting import PATIENCE_MINUTES
from finops_assets.focus.normal import normal_key, normal_value
from finops_assets.focus.specification import canonical_name, columns

CONFIG_ENV = "FINOPS_CONFIG"
DEFAULT_CONFIG = "finops.yaml"

Layout = Literal[
    "aws-data-exports", "azure-exports", "gcs-export", "oci-focus", "files",
    "aws-cur", "azure-actual-amortized", "gcp-detailed", "oci-cost-report",
]  # fmt: skip
Cadence = Literal["daily", "weekdays", "monthly", "irregular"]
"""On which days a source charges: every day, from Monday to Friday, on one day a month, on any."""
Percent = Annotated[float, Field(ge=0, le=100)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
UtcTime = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
"""A time of day in UTC, "HH:MM"."""
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable. Secrets are named in finops.yaml, never written there."""
Severity = Literal["INFO", "WARNING", "CRITICAL"]


def _without_credentials(url: str) -> str:
    if without_secrets(url) != url:
        raise ValueError(
            "holds credentials; take them out: they come from the provider's own chain (environment, role)"
        )
    return url


Endpoint = Annotated[str, AfterValidator(_without_credentials)]
"""The address of a server. It stands in errors and logs."""
RUN_ON = r"^(local(\[(\d+|\*)\])?|spark://[^\s,:/]+:\d+(,[^\s,:/]+:\d+)*|yarn|k8s://\S+)$"
"""Engines that the work can be run on, docs/engines.md."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """One billing export. A new provider is a new entry here, not new code."""

    name: Name
    uri: str
    layout: Layout
    provider: str | None = None
    required: bool = True
    shadow_of: Name | None = None
    """The source whose cost this one holds a second time: landed, judged without blocking, compared with it by
    `finops reconcile`, and never part of facts or rollup."""
    known_gaps: tuple[str, ...] = ()
    """Mandatory FOCUS columns that this provider is known to leave out or empty: reported, not blocking."""
    endpoint_url: Endpoint | None = None
    """Of a store that speaks a cloud's protocol but is not that cloud's own, or of an emulator."""
    quiet_minutes: Annotated[int, Field(ge=0)] = 0
    """Layouts without a manifest: what was written less than this many minutes ago waits."""
    period_pattern: str | None = None
    """Layout files: a regular expression with the groups year, month and, if wanted, day of a file's period."""
    cadence: Cadence | None = None
    """On which days a charge is due; None: learnt from its history. docs/gates.md"""
    deadline: UtcTime | None = None
    """By when yesterday must have been delivered; None: as `night.deadline` says."""
    department: str | None = None
    """Whose bill the whole source is: alerts about it carry the name. Costs are attributed by their tags alone."""

    @model_validator(mode="before")
    @classmethod
    def _a_shadow_holds_no_day(cls, raw: Any) -> Any:
        return {"required": False, **raw} if isinstance(raw, dict) and raw.get("shadow_of") is not None else raw

    @field_validator("period_pattern")
    @classmethod
    def _names_a_period(cls, pattern: str | None) -> str | None:
        groups = {"year", "month"} if pattern is None else set(re.compile(checked(pattern)).groupindex)
        if not {"year", "month"} <= groups:
            raise ValueError(r"needs the groups year and month, such as (?P<year>\d{4})-(?P<month>\d{2})")
        return pattern


class Dimension(_Strict):
    """Tag keys that may carry a dimension, first usable one wins, and how values are unified."""

    keys: tuple[str, ...] = Field(min_length=1)
    values: Mapping[str, str] = Field(default_factory=dict)


class Threshold(_Strict):
    """Shares of positive effective cost without the dimension, in percent."""

    warn_above: Percent
    block_above: Percent


class TagTarget(_Strict):
    """What is to be reached: less than this share of positive effective cost without a required dimension, in percent."""

    untagged_below: Percent
    by: date


SMALL_DAY: Mapping[str, Decimal] = {
    **dict.fromkeys(("CZK", "DKK", "MXN", "NOK", "SEK", "TRY", "ZAR"), Decimal(10)),
    **dict.fromkeys(("INR", "JPY", "PHP", "RUB", "TWD", "THB"), Decimal(100)),
    **dict.fromkeys(("ARS", "CLP", "HUF", "KRW", "NGN"), Decimal(1000)),
    **dict.fromkeys(("COP", "IDR", "VND"), Decimal(10_000)),
}
"""About what one dollar is, where that is far from one of the currency: reports print two digits, and no budget has less."""


class TagPolicy(_Strict):
    """What tags should be. docs/governance.md"""

    required: tuple[str, ...] = ()
    canonical: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Dimension -> the values that it should have; a dimension that is not named may have any."""
    organisation: Path | None = None
    """A CSV of departments, teams, cost centers (a column a dimension) and each department's champion."""
    champions: Mapping[str, str] = Field(default_factory=dict)
    """Department -> who answers for its tags; before those of the file."""
    target: TagTarget | None = None
    thresholds: Mapping[str, Threshold] = Field(default_factory=dict)
    sources: Mapping[str, Mapping[str, Threshold]] = Field(default_factory=dict)
    small_day: Mapping[Annotated[str, Field(pattern=r"^[A-Z]{3}$")], Annotated[Decimal, Field(ge=0)]] = Field(
        default_factory=dict
    )
    """Currency -> positive effective cost; a source's day below it warns of what is untagged, and is not held for it."""

    def small(self, currency: str) -> Decimal:
        """Below which positive effective cost of its day a source is never held for what is untagged."""
        return self.small_day.get(currency, SMALL_DAY.get(currency, Decimal(1)))

    def threshold(self, source: str, dimension: str) -> Threshold:
        """The threshold in force: the source's own, else the dimension's, else warn 20 / block 50."""
        own = self.sources.get(source, {}).get(dimension)
        return own or self.thresholds.get(dimension) or Threshold(warn_above=20, block_above=50)


class Condition(_Strict):
    """What a value must be like: a glob or a list of them, of which one must match, or a regular expression."""

    any_of: tuple[str, ...] = ()
    regex: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _written(cls, raw: Any) -> Any:
        if isinstance(raw, str | list):
            listed = [raw] if isinstance(raw, str) else raw
            for value in listed:
                if not isinstance(value, str):
                    raise ValueError(
                        f"{value!r} is no text; write it in quotes (a number without them loses its leading zeros)"
                    )
            if not listed:
                raise ValueError("is an empty list, which nothing matches")
            return {"any_of": listed}
        if isinstance(raw, dict) and set(raw) == {"regex"}:
            return raw
        raise ValueError("allowed: a text with * and ? (in quotes if it is a number), a list of them, or {regex: …}")

    @field_validator("regex")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return None if pattern is None else checked(pattern)


class When(_Strict):
    """All conditions of a rule. In the file the columns stand beside `source` and `tags`."""

    source: Condition | None = None
    tags: Mapping[str, Condition] = Field(default_factory=dict)
    columns: Mapping[str, Condition] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _columns_apart(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        named = {key: raw[key] for key in ("source", "tags") if key in raw}
        return {**named, "columns": {key: value for key, value in raw.items() if key not in named}}


class AttributionRule(_Strict):
    """A rule beyond tags: rows of this kind have these dimensions. docs/rules.md"""

    name: Name
    when: When
    set: Mapping[Name, str] = Field(min_length=1)
    valid_from: date | None = Field(default=None, alias="from")
    """The first UTC charge day that it holds for."""
    until: date | None = None
    """The first UTC charge day that it holds for no more."""
    overrides_tags: bool = False
    """true: it comes before the tags; else it fills what they leave empty."""
    reason: str = ""

    @model_validator(mode="after")
    def _holds_somewhere(self) -> AttributionRule:
        if self.valid_from and self.until and self.until <= self.valid_from:
            raise ValueError(f"until {self.until} is not after from {self.valid_from}; until is exclusive")
        if not (self.when.columns or self.when.tags or self.when.source):
            raise ValueError("has no condition, and would take everything; name a column, tags or source under when")
        return self


class SparseGroups(_Strict):
    """When a department and team has too few resources to be a cost center. docs/governance.md"""

    min_resources: Annotated[int, Field(ge=1)] = 5
    """Distinct resources of the trailing days; with fewer the team is shown as __sparse__."""
    days: Annotated[int, Field(ge=1, le=366)] = 30
    overrides: Mapping[Annotated[str, Field(pattern=r"^[^/]+/.+$")], Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict
    )
    """department/team -> the resources that are enough for it; 0: it is always a cost center."""


class _RulesAlone(_Strict):
    attribution_rules: tuple[AttributionRule, ...]


class Plausibility(_Strict):
    """How far a restated day may fall below the version that it replaces, in percent."""

    max_row_fall: Percent = 50
    max_cost_fall: Percent = 50


class Conforms(_Strict):
    """From which share of a day's positive effective cost on, in percent, a column without a proper value holds the day.

    docs/gates.md has the shares that hold where nothing is given.
    """

    hold_above: Mapping[str, Percent] = Field(default_factory=dict)
    """FOCUS column -> share, for all sources."""
    sources: Mapping[str, Mapping[str, Percent]] = Field(default_factory=dict)
    """Source -> column -> share."""


class Acknowledgement(_Strict):
    """A fall in rows or cost that a person has looked at and accepts."""

    source: str
    day: date
    reason: str = Field(min_length=1)


class Engine(_Strict):
    """Bounds for the query engine; memory is the engine's own budget, the process needs some more."""

    memory_limit: Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s?(MB|GB)$")] = "800MB"
    threads: Annotated[int, Field(ge=1)] | None = None
    run_on: Annotated[str, Field(pattern=RUN_ON)] | None = None
    """Where facts, rollup and the figures of their gates are made: the master of a Spark; None: this machine's DuckDB."""

    @property
    def place(self) -> str:
        """Where that is, in words."""
        return f"Spark on {self.run_on}" if self.run_on else "DuckDB on this machine"


class Currency(_Strict):
    """The reporting currency. Without it every figure stays in the currency that it was billed in."""

    reporting: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    rates: Path
    """A CSV of dated rates, see docs/money.md."""
    per: Literal["day", "month"] = "day"
    """day: the newest rate up to the day; month: the newest before the month began, for all of its days."""


Cron = Annotated[str, Field(pattern=r"^\s*\S+\s+\S+\s+\S+\s+\S+\s+\S+\s*$")]


class Night(_Strict):
    """What is expected of the night."""

    deadline: UtcTime = "08:00"
    """By when each source must have delivered the UTC day before; later it is called late."""
    export_check: Cron = "0,30 5-7 * * *"
    """Cron (UTC) of the export check: every source is looked at and what is new is landed."""
    last_check: Cron = "0 8 * * *"
    """Cron (UTC) of the night's last export check."""
    watch_seconds: Annotated[int, Field(ge=5)] = 120
    """How often each source's sensor lists manifests, at the most."""


MailAddress = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]


class _AnyChannel(_Strict):
    """What every channel has: its name in the history, and which alerts it wants. An empty filter wants all."""

    name: Name | None = None
    min_severity: Severity = "WARNING"
    sources: tuple[str, ...] = ()
    departments: tuple[str, ...] = ()


class SnsChannel(_AnyChannel):
    """A topic of Amazon SNS; credentials come as boto3 finds them."""

    kind: Literal["sns"]
    topic_arn: Annotated[str, Field(pattern=r"^arn:[^:]+:sns:[^:]*:[^:]*:.+$")]
    region: str | None = None
    endpoint_url: Endpoint | None = None


class SlackChannel(_AnyChannel):
    """An incoming webhook of Slack. Its address is a secret."""

    kind: Literal["slack"]
    webhook_env: EnvName


class WebhookChannel(_AnyChannel):
    """An HTTP address that takes the JSON of docs/alerts.md."""

    kind: Literal["webhook"]
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    url_env: EnvName | None = None
    headers_env: Mapping[str, EnvName] = Field(default_factory=dict)
    """Header -> the environment variable that holds its value."""


class SmtpChannel(_AnyChannel):
    """Mail."""

    kind: Literal["smtp"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    sender: MailAddress
    to: tuple[MailAddress, ...] = Field(min_length=1)
    username_env: EnvName | None = None
    password_env: EnvName | None = None
    starttls: bool = True


Channel = Annotated[SnsChannel | SlackChannel | WebhookChannel | SmtpChannel, Field(discriminator="kind")]
CHANNEL_KINDS: Mapping[str, type[_AnyChannel]] = {
    "sns": SnsChannel,
    "slack": SlackChannel,
    "webhook": WebhookChannel,
    "smtp": SmtpChannel,
}


class Alerts(_Strict):
    """Who is told of what. Without channels alerts are only kept in `alert_history`."""

    channels: tuple[Channel, ...] = ()
    re_alert_hours: Annotated[float, Field(gt=0)] | None = 24
    """An alert that is still open is sent again after this long; null: never."""
    waiting_hours: Annotated[float, Field(gt=0)] = 6
    """How long a delivery may wait for its missing files before it is a warning."""
    ui: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """The address of Dagster's UI, for links."""


def _budgets_form(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


class BudgetFile(_Strict):
    """Where the budgets are, and for how long one that goes to and fro over a limit is one alert. docs/budgets.md"""

    file: Path
    suppress_days: Annotated[int, Field(ge=1)] = 7


class AnomalyLimits(_Strict):
    """Other limits for some series: every condition that is given must hold; the first entry that does counts."""

    department: str | None = None
    team: str | None = None
    service: str | None = None
    """A ServiceCategory."""
    resource: str | None = None
    """A ResourceId: for the series of that resource alone."""
    sigma: Annotated[float, Field(gt=0)] | None = None
    min_amount: Annotated[float, Field(ge=0)] | None = None
    min_percent: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _says_of_what(self) -> AnomalyLimits:
        if (self.department, self.team, self.service, self.resource) == (None,) * 4:
            raise ValueError("says of nothing what it holds for; give department, team, service or resource")
        return self


class Anomalies(_Strict):
    """When a day is an anomaly: it must exceed all three limits. docs/anomalies.md"""

    sigma: Annotated[float, Field(gt=0)] = 2.5
    """Standard deviations of the series' usual surprise."""
    min_amount: Annotated[float, Field(ge=0)] = 10
    """Deviation of a day, in the currency that was billed."""
    min_percent: Annotated[float, Field(ge=0)] = 25
    """Deviation of a day, in percent of what was expected."""
    resource_floor: Annotated[float, Field(gt=0)] = 100
    """A resource that costs so much on a day of the last week is a series of its own."""
    overrides: tuple[AnomalyLimits, ...] = ()


SplitMethod = Literal["even", "fixed", "proportional", "metric", "benefit"]
SplitPercent = Annotated[Decimal, Field(gt=0, le=100)]


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


OneOrMore = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]


class SharedWhat(_Strict):
    """Which cost a rule splits: all conditions hold. The names are the rollup's, such as __untagged__."""

    department: OneOrMore = ()
    team: OneOrMore = ()
    environment: OneOrMore = ()
    provider: OneOrMore = ()
    ServiceCategory: OneOrMore = ()
    commitments: Literal["unused", "purchase"] | None = None
    """Only what commitment discounts cost: their unused part, or their purchases."""
    others: Mapping[str, OneOrMore] = Field(default_factory=dict)
    """The other dimensions of finops.yaml. In the file they stand beside these."""

    @model_validator(mode="before")
    @classmethod
    def _others_apart(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or "others" in raw:
            return raw
        own = {key: value for key, value in raw.items() if key in cls.model_fields}
        others = {str(key): value for key, value in raw.items() if key not in own}
        return {**own, "others": others} if others else own

    @property
    def conditions(self) -> Mapping[str, tuple[str, ...]]:
        """Column of the rollup -> the names of which one must be there."""
        own = {c: getattr(self, c) for c in ("department", "team", "environment", "provider", "ServiceCategory")}
        return {column: names for column, names in {**own, **self.others}.items() if names}

    @model_validator(mode="after")
    def _something(self) -> SharedWhat:
        if not self.model_fields_set:
            raise ValueError("has no condition, and would split everything; name a department, team, …")
        return self


def _metric_form(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


class SharedMetric(_Strict):
    """Quantities by day and team: a CSV with date, department, team, quantity, or a table of the warehouse with these."""

    file: Path | None = None
    table: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)?$")] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> SharedMetric:
        if (self.file is None) == (self.table is None):
            raise ValueError("needs a file or a table, not both")
        return self


class SharedCost(_Strict):
    """A rule that gives cost of one or of nobody to the teams that bear it. docs/allocation.md"""

    name: Name
    cost: SharedWhat
    method: SplitMethod
    to: OneOrMore = ()
    """department/team, or department/* for its teams with cost on the day; none: all teams with cost on the day."""
    percent: Mapping[str, SplitPercent] = Field(default_factory=dict)
    """Method fixed: department/team -> its share. What is left of 100 stays."""
    metric: Annotated[SharedMetric, BeforeValidator(_metric_form)] | None = None

    @model_validator(mode="after")
    def _fits_its_method(self) -> SharedCost:
        for given, name, method in ((self.percent, "percent", "fixed"), (self.metric, "metric", "metric")):
            if bool(given) != (self.method == method):
                raise ValueError(f"method {method} needs {name}, and no other method has it")
        if self.method == "benefit" and self.cost.commitments is None:
            raise ValueError("method benefit splits what commitments cost; say cost: {commitments: unused} or purchase")
        if self.to and self.method in ("fixed", "benefit"):
            raise ValueError(f"method {self.method} names its teams itself; leave out to")
        if sum(self.percent.values()) > 100:
            raise ValueError(f"percent sums to {sum(self.percent.values())}, more than 100")
        wrong = [to for to in (*self.to, *self.percent) if not re.fullmatch(r"[^/]+/[^/]+", to)]
        if wrong or any(name.endswith("/*") for name in self.percent):
            raise ValueError(f"found {', '.join(wrong or self.percent)}; teams are written department/team")
        return self

    @property
    def chained(self) -> bool:
        """Is all cost of an owner split, so also what earlier rules gave to it?"""
        return not self.cost.others and self.cost.model_fields_set <= {"department", "team", "others"}

    @property
    def named(self) -> tuple[str, ...]:
        """The teams that are named one by one."""
        return (*(to for to in self.to if not to.endswith("/*")), *self.percent)

    def splits(self, department: str, team: str) -> bool:
        """Is this the cost of an owner that the rule splits?"""
        return (not self.cost.department or department in self.cost.department) and (
            not self.cost.team or team in self.cost.team
        )


class LakeStore(_Strict):
    """A lake on an object store. Credentials come from the provider's own chain, as those of sources."""

    uri: str
    endpoint_url: Endpoint | None = None
    """Of a store that speaks a cloud's protocol but is not that cloud's own, or of an emulator."""

    @field_validator("uri")
    @classmethod
    def _names_a_folder(cls, uri: str) -> str:
        if "://" not in uri:
            raise ValueError("a local folder is written without uri, as lake: data/lake")
        if _SECRET.search(uri):
            raise ValueError(
                "it has credentials in it; take them out: they come from the provider's own chain (environment,"
                " profile, role)"
            )
        if bucket_place(uri).pattern:
            raise ValueError("it must name a folder, without * and without a file's name")
        return uri.rstrip("/")


def _lake_form(value: object) -> object:
    if isinstance(value, str) and "://" in value:
        return value.removeprefix("file://") if value.startswith("file://") else {"uri": value}
    return value


LakePlace = Annotated[
    Annotated[Path, Tag("path")] | Annotated[LakeStore, Tag("store")],
    Discriminator(lambda value: "store" if isinstance(value, dict | LakeStore) else "path"),
    BeforeValidator(_lake_form),
]
"""A local folder, the URI of a store, or that URI with what else is needed to reach it."""


class Settings(_Strict):
    """The whole of finops.yaml. Relative paths are relative to the file's folder."""

    first_day: date
    lake: LakePlace
    warehouse: Path
    published: Path
    sources: tuple[Source, ...] = Field(min_length=1)
    dimensions: Mapping[Name, Dimension] = Field(min_length=1)
    placeholders: tuple[str, ...] = ("none", "null", "n/a", "unknown")
    tag_policy: TagPolicy = TagPolicy()
    attribution_rules: tuple[AttributionRule, ...] = ()
    """In order; of each dimension the first that matches counts."""
    sparse_groups: SparseGroups = SparseGroups()
    plausibility: Plausibility = Plausibility()
    conforms: Conforms = Conforms()
    acknowledged: tuple[Acknowledgement, ...] = ()
    engine: Engine = Engine()
    release: Literal["by_source", "whole_day"] = "by_source"
    """What a gate holds: that source's part of the day, or the whole day until all required sources have passed."""
    owner: Annotated[str, Field(pattern=r"^(team:[\w-]+|[^@\s]+@[^@\s]+)$")] = "team:finops"
    night: Night = Night()
    keep_runs_days: Annotated[int, Field(ge=7)] = 180
    """Runs in Dagster's history that are older, and superseded by later ones, are deleted."""
    wait_minutes: Annotated[float, Field(ge=0, le=1440)] = PATIENCE_MINUTES
    """How long somebody waits for the warehouse, a pool's slot or another run over the same days before giving up."""
    alerts: Alerts = Alerts()
    currency: Currency | None = None
    budgets: Annotated[BudgetFile, BeforeValidator(_budgets_form)] | None = None
    shared_cost: tuple[SharedCost, ...] = ()
    """In order: a later rule may split what an earlier one gave."""

    @field_validator("shared_cost")
    @classmethod
    def _in_order(cls, rules: tuple[SharedCost, ...]) -> tuple[SharedCost, ...]:
        for place, rule in enumerate(rules):
            if rule.name in [other.name for other in rules[:place]]:
                raise ValueError(f"the name {rule.name!r} stands twice; names are unique")
            for team in rule.named:
                owner = (team.split("/")[0], team.split("/")[1])
                earlier = next((r for r in rules[: place + 1] if r.chained and r.splits(*owner)), None)
                if earlier is rule:
                    raise ValueError(f"rule {rule.name} gives to {team}, whose cost it splits; what is not given stays")
                if earlier is not None:
                    raise ValueError(
                        f"rule {rule.name} gives to {team}, whose cost the earlier rule {earlier.name} has split;"
                        f" {_untangle(rules, rule, earlier)}"
                    )
        return rules

    anomalies: Anomalies = Anomalies()

    @property
    def counted(self) -> tuple[Source, ...]:
        """The sources whose cost is in facts and rollup: all but the shadows."""
        return tuple(source for source in self.sources if source.shadow_of is None)

    @property
    def shadows(self) -> tuple[Source, ...]:
        """The sources that are only there to be compared with another."""
        return tuple(source for source in self.sources if source.shadow_of is not None)

    def source(self, name: str) -> Source:
        """The source of that name; KeyError names the known ones."""
        for source in self.sources:
            if source.name == name:
                return source
        raise KeyError(f"no source {name!r}; known: {', '.join(s.name for s in self.sources)}")

    def deadline(self, source: Source) -> str:
        """By when ("HH:MM", UTC) the source must have delivered the day before."""
        return source.deadline or self.night.deadline


def _untangle(rules: tuple[SharedCost, ...], later: SharedCost, earlier: SharedCost) -> str:
    """What to do about a rule that gives to one whose cost is split already: another order, unless there is none."""
    reached, path = [earlier], {earlier.name: earlier.name}
    for rule in reached:
        for other in rules:
            if other.chained and other.name not in path and any(other.splits(*t.split("/", 1)) for t in rule.named):
                path[other.name] = f"{path[rule.name]} -> {other.name}"
                reached.append(other)
    if later.name in path:
        return f"they go round in a cycle ({path[later.name]} -> {earlier.name}): let one of them give to others"
    return f"put {later.name} before {earlier.name}"


class _Loader(yaml.SafeLoader):
    """YAML in which dates and times stay text.

    YAML's own dates end in a bare ValueError where they do not exist, and its 10:30 is the number 630.
    """


_CLOCK = r"(?![0-9_]+:)"
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile(_CLOCK + pattern.pattern, pattern.flags))
        for tag, pattern in resolvers
        if tag != "tag:yaml.org,2002:timestamp"
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


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
        raw = yaml.load(text, Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(str(path), [Mistake("(file)", f"cannot be read as YAML: {error}")]) from error
    if isinstance(raw, dict) and "sources" in raw:
        whole = parse_settings(text, path.absolute())
        decides = {name: getattr(whole, name) for name in ("dimensions", "placeholders", "attribution_rules")}
        return settings.model_copy(update=decides)
    if not isinstance(raw, dict) or set(raw) != {"attribution_rules"}:
        allowed = "attribution_rules: and a list, or a whole finops.yaml"
        raise ConfigError(str(path), [Mistake("(file)", f"holds something else; allowed: {allowed}")])
    node = yaml.compose(text, Loader=_Loader)
    found = list(_duplicate_keys(node, ()))
    rules: tuple[AttributionRule, ...] = ()
    try:
        rules = _RulesAlone.model_validate(raw).attribution_rules
    except ValidationError as error:
        found += [(_place(e), _explain(e)) for e in error.errors()]
    listed = _list(raw["attribution_rules"])
    found += _rule_mistakes(listed, set(settings.dimensions), {s.name for s in settings.sources})
    if found:
        lines = dict(_lines(node, ()))
        raise ConfigError(str(path), [Mistake(_dotted(loc), text, _line(lines, loc)) for loc, text in found])
    return settings.model_copy(update={"attribution_rules": rules})


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
        what = "is empty" if raw is None else f"must be a mapping, found {type(raw).__name__}"
        raise ConfigError(str(file), [Mistake("(file)", f"{what}; the project's finops.yaml shows each setting")])
    lines = dict(_lines(node, ()))
    found: list[tuple[tuple[str | int, ...], str]] = list(_duplicate_keys(node, ()))
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        # A list that is only too short because its entries are wrong is not empty: the entries say what is wrong.
        real = (e for e in error.errors() if not (e["type"] == "too_short" and e["input"]))
        found += [(_place(e), _explain(e)) for e in real]
    found += _cross_mistakes(raw, file.parent)
    if found or settings is None:
        raise ConfigError(str(file), [Mistake(_dotted(loc), text, _line(lines, loc)) for loc, text in found])
    base = file.parent
    policy_file = settings.tag_policy.organisation
    return settings.model_copy(
        update={
            "lake": _resolve(base, settings.lake) if isinstance(settings.lake, Path) else settings.lake,
            "warehouse": _resolve(base, settings.warehouse),
            "published": _resolve(base, settings.published),
            "currency": settings.currency
            and settings.currency.model_copy(update={"rates": _resolve(base, settings.currency.rates)}),
            "shared_cost": tuple(
                rule.model_copy(update={"metric": rule.metric.model_copy(update={"file": _resolve(base, given)})})
                if rule.metric and (given := rule.metric.file)
                else rule
                for rule in settings.shared_cost
            ),
            "budgets": settings.budgets
            and settings.budgets.model_copy(update={"file": _resolve(base, settings.budgets.file)}),
            "tag_policy": settings.tag_policy.model_copy(
                update={"organisation": policy_file and _resolve(base, policy_file)}
            ),
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


def _duplicate_keys(node: yaml.Node | None, loc: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
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


def _place(error: Any) -> tuple[str | int, ...]:
    """Where a mistake stands in the file; pydantic puts the channel's kind into the path, where no key is."""
    loc = tuple(error["loc"])
    if loc[0] == "lake":
        return (*loc[:1], *loc[2:])
    if loc[:2] == ("alerts", "channels") and len(loc) > 3:
        return (*loc[:3], *loc[4:])
    if loc[0] == "attribution_rules" and loc[2:4] == ("when", "columns"):
        return (*loc[:3], *loc[4:])
    return (*loc, "kind") if error["type"] == "union_tag_invalid" else loc


def _explain(error: Any) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "union_tag_not_found":
        return f"has no kind; allowed: {', '.join(sorted(CHANNEL_KINDS))}"
    if kind == "union_tag_invalid":
        return f"found {context['tag']!r}; allowed: {', '.join(sorted(CHANNEL_KINDS))}"
    if kind == "missing":
        return "is missing and has no default"
    if kind == "extra_forbidden":
        known = _fields_at(error["loc"][:-1])
        hint = _meant(error["loc"][-1], known)
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


def _cross_mistakes(raw: Mapping[str, Any], base: Path) -> list[tuple[tuple[str | int, ...], str]]:
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
    found += _shadow_mistakes(sources)
    for i, entry in sources:
        uri = entry.get("uri")
        if isinstance(uri, str) and without_secrets(uri) != uri:
            found.append(
                (
                    ("sources", i, "uri"),
                    f"found {without_secrets(uri)!r} with credentials in it; take them out: they come from the"
                    " provider's own chain (environment, profile, role)",
                )
            )
        gaps = entry.get("known_gaps")
        for j, gap in enumerate(gaps if isinstance(gaps, list) else []):
            if canonical_name(str(gap)) != gap:
                hint = _meant(gap, columns())
                found.append((("sources", i, "known_gaps", j), f"found {gap!r}, which is no FOCUS column{hint}"))
    found += _place_mistakes(raw, sources, base)
    dimensions = _mapping(raw.get("dimensions"))
    found += _alias_mistakes(dimensions)
    found += _policy_mistakes(_mapping(raw.get("tag_policy")), {str(d) for d in dimensions}, set(names))
    found += _shared_mistakes(_list(raw.get("shared_cost")), {str(d) for d in dimensions})
    found += _rule_mistakes(_list(raw.get("attribution_rules")), {str(d) for d in dimensions}, set(names))
    for i, item in enumerate(_list(raw.get("acknowledged"))):
        if isinstance(item, dict) and str(item.get("source")) not in names:
            found.append(
                (("acknowledged", i, "source"), f"found {item.get('source')!r}; allowed: {', '.join(sorted(names))}")
            )
    found += _conforms_mistakes(_mapping(raw.get("conforms")), set(names))
    found += _channel_mistakes(_list(_mapping(raw.get("alerts")).get("channels")), set(names))
    return found


def _place_mistakes(
    raw: Mapping[str, Any], sources: list[tuple[int, dict[str, Any]]], base: Path
) -> list[tuple[tuple[str | int, ...], str]]:
    """URIs that cannot be understood, sources that read each other's files, and our own files among theirs."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    places: list[tuple[str, Any, Place]] = []
    ours = [(name, place) for name in ("lake", "warehouse", "published") if (place := _own_place(raw, name, base))]
    for i, (name, place) in enumerate(ours):
        for other, taken in ours[:i]:
            if place == taken:
                found.append(((name,), f"found {raw[name]!r}, as {other} has; each needs a path of its own"))
    for i, source in sources:
        uri, layout, name = source.get("uri"), source.get("layout"), str(source.get("name"))
        if not isinstance(uri, str):
            continue
        loc, shown = ("sources", i, "uri"), without_secrets(uri)
        try:
            place = place_of(uri, base)
        except ValueError as error:
            found.append((loc, str(error)))
            continue
        for own, at in ours:
            below = at.parts[len(place.parts) :]
            if layout == "files" and not place.pattern and place.holds(at) and not any(p[0] == "." for p in below):
                found.append(
                    (loc, f"found {shown!r}, below which {own} lies: it would be read as a bill; move one of them")
                )
        if source.get("shadow_of") is not None:
            continue  # it is not counted at all
        for other, its_layout, taken in places:
            if place == taken:
                said = f"which source {other!r} has, too"
            elif taken.holds(place) and its_layout in ("files", layout):
                said = f"which lies within that of source {other!r}"
            elif place.holds(taken) and layout in ("files", its_layout):
                said = f"within which that of source {other!r} lies"
            else:
                continue
            found.append((loc, f"found {shown!r} for source {name!r}, {said}; one cost would be counted twice"))
        places.append((name, layout, place))
    return found


def _own_place(raw: Mapping[str, Any], name: str, base: Path) -> Place | None:
    """Where lake, warehouse or published copy lie, if it is understood; what is wrong with it is said elsewhere."""
    value = raw.get(name)
    uri = value.get("uri") if isinstance(value, dict) else value
    try:
        return place_of(uri, base) if isinstance(uri, str) and without_secrets(uri) == uri else None
    except ValueError:
        return None


def _shadow_mistakes(sources: list[tuple[int, dict[str, Any]]]) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    counted = sorted(str(s.get("name")) for _, s in sources if s.get("shadow_of") is None)
    for i, source in sources:
        other = source.get("shadow_of")
        if other is None:
            continue
        if str(other) not in counted:
            allowed = ", ".join(counted) or "(a source without shadow_of, of which there is none)"
            found.append((("sources", i, "shadow_of"), f"found {other!r}; allowed: {allowed}"))
        if source.get("required") is True:
            found.append(
                (("sources", i, "required"), "found True, but a source with shadow_of holds no day; leave it out")
            )
    return found


def _channel_mistakes(channels: list[Any], sources: set[str]) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    names: dict[str, int] = {}
    for i, channel in enumerate(channels):
        if not isinstance(channel, dict):
            continue
        loc = ("alerts", "channels", i)
        name = str(channel.get("name") or channel.get("kind"))
        if name in names:
            found.append(
                (
                    (*loc, "name"),
                    f"found {name!r} again (first at alerts.channels[{names[name]}]); names are unique, and a channel"
                    " without one is called as its kind",
                )
            )
        names.setdefault(name, i)
        for j, source in enumerate(_list(channel.get("sources"))):
            if str(source) not in sources:
                found.append(((*loc, "sources", j), f"found {source!r}; allowed: {', '.join(sorted(sources))}"))
        if channel.get("kind") == "webhook" and (channel.get("url") is None) == (channel.get("url_env") is None):
            found.append((loc, "needs exactly one of url and url_env"))
        if channel.get("kind") == "smtp" and (channel.get("username_env") is None) != (
            channel.get("password_env") is None
        ):
            found.append((loc, "needs username_env and password_env together, or neither"))
    return found


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


RESERVED = {"source", "charge_date", "provider", "tag_set_id", "repairs", "source_file", "source_row"} | {
    name.casefold() for name in columns()
}


def _columns_beside_dimensions() -> set[str]:
    """What the tables that have a column for each dimension call their other columns."""
    from finops_assets.tables.declarations import DIMENSIONS, TABLES  # not for every command: it brings pandas

    return {c.name.casefold() for t in TABLES.values() if t.by_dimensions for c in t.columns} - {*DIMENSIONS}


def _alias_mistakes(dimensions: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    owner: dict[str, tuple[str, str]] = {}
    taken = _columns_beside_dimensions() if dimensions else set()
    for dimension, body in dimensions.items():
        if str(dimension) in RESERVED or f"{dimension}".endswith("_key"):
            found.append((("dimensions", dimension), f"the name {dimension!r} is taken by a column of the facts"))
        elif str(dimension) in taken:
            found.append(
                (("dimensions", dimension), f"the name {dimension!r} is taken by a column of the rollup's tables")
            )
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
    for dimension in _mapping(policy.get("canonical")):
        check(("tag_policy", "canonical", dimension), dimension)
    for dimension, body in _mapping(policy.get("thresholds")).items():
        check(("tag_policy", "thresholds", dimension), dimension, body)
    for source, bodies in _mapping(policy.get("sources")).items():
        if source not in sources:
            found.append(
                (("tag_policy", "sources", source), f"found {source!r}; allowed: {', '.join(sorted(sources))}")
            )
        for dimension, body in _mapping(bodies).items():
            check(("tag_policy", "sources", source, dimension), dimension, body)
    return found


def _meant(found: object, known: Iterable[str]) -> str:
    """The name that was probably meant, as the end of a sentence; empty where none is alike."""
    close = difflib.get_close_matches(str(found), [*known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _conforms_mistakes(raw: Mapping[str, Any], sources: set[str]) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    shares: list[tuple[tuple[str | int, ...], Mapping[str, Any]]] = [
        (("conforms", "hold_above"), _mapping(raw.get("hold_above")))
    ]
    for source, body in _mapping(raw.get("sources")).items():
        if source not in sources:
            found.append((("conforms", "sources", source), f"found {source!r}; allowed: {', '.join(sorted(sources))}"))
        shares.append((("conforms", "sources", source), _mapping(body)))
    for loc, body in shares:
        for column in body:
            if canonical_name(str(column)) != column:
                hint = _meant(column, columns())
                found.append(((*loc, column), f"found {column!r}, which is no FOCUS column{hint}"))
            elif column in DECIDE_FIGURES:
                found.append(((*loc, column), f"found {column!r}, without which no figure is known: it always holds"))
    return found


DECIDE_FIGURES = frozenset(
    [
        "BilledCost",
        "EffectiveCost",
        "ListCost",
        "ContractedCost",
        "BillingCurrency",
        "BillingPeriodStart",
        "BillingPeriodEnd",
        "ChargePeriodStart",
        "ChargePeriodEnd",
    ]
)
"""The columns without which money, its currency or its time is not known."""


def _shared_mistakes(rules: list[Any], dimensions: set[str]) -> list[tuple[tuple[str | int, ...], str]]:
    known = {*SharedWhat.model_fields, *dimensions} - {"others"}
    found: list[tuple[tuple[str | int, ...], str]] = []
    for i, rule in enumerate(rules):
        for name in _mapping(_mapping(rule).get("cost")):
            if str(name) not in known:
                hint = _meant(name, sorted(known))
                said = f"is not a known setting{hint} (allowed: {', '.join(sorted(known))})"
                found.append((("shared_cost", i, "cost", name), said))
    return found


def _rule_mistakes(
    rules: list[Any], dimensions: set[str], sources: set[str]
) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    names: dict[str, int] = {}
    for i, rule in enumerate(rules):
        if not isinstance(rule, dict):
            continue
        loc = ("attribution_rules", i)
        name = str(rule.get("name"))
        if name in names:
            first = f"attribution_rules[{names[name]}]"
            found.append(((*loc, "name"), f"found {name!r} again (first at {first}); names are unique"))
        names.setdefault(name, i)
        for dimension in _mapping(rule.get("set")):
            if str(dimension) not in dimensions:
                found.append(
                    ((*loc, "set", dimension), f"found {dimension!r}; allowed: {', '.join(sorted(dimensions))}")
                )
        when = _mapping(rule.get("when"))
        for column in when:
            if column in ("source", "tags"):
                continue
            known = columns().get(str(column))
            if known is None:
                hint = _meant(column, columns())
                found.append(
                    ((*loc, "when", column), f"found {column!r}, which is no FOCUS column, source or tags{hint}")
                )
            elif known.type != "string":
                found.append(
                    (
                        (*loc, "when", column),
                        f"found {column!r}, whose values are no texts ({known.type}); rules read texts",
                    )
                )
        source = when.get("source")
        if isinstance(source, str) and not set(source) & {"*", "?"} and source not in sources:
            found.append(((*loc, "when", "source"), f"found {source!r}; allowed: {', '.join(sorted(sources))}"))
    return found


_SECRET = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY = re.compile(r"(?<=://)([^\s?'\"<>]*)\?[^\s'\"<>]*(?<![.,;:)])", re.IGNORECASE)
_NAMED = re.compile(
    r"\b(AccountKey|SharedAccessKey|SharedAccessSignature|sig|X-Amz-Signature|X-Amz-Security-Token|X-Goog-Signature)="
    r"[^\s;&'\"<>]+|\b(Authorization: *(?:Basic|Bearer)|Bearer) +[^\s'\"<>]{8,}",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """A URI, or a text with URIs in it, as it may be shown: user and password removed, the query of an address, which may
    be a token, and the keys of connection strings.

    >>> without_secrets("https://acme.blob.core.windows.net/c?sv=1&sig=abc: denied")
    'https://acme.blob.core.windows.net/c: denied'
    >>> without_secrets("AccountName=acme;AccountKey=abc==;EndpointSuffix=x")
    'AccountName=acme;AccountKey=***;EndpointSuffix=x'
    """

    def named(found: re.Match[str]) -> str:
        return f"{found[1]}=***" if found[1] else f"{found[2]} ***"

    return _NAMED.sub(named, _QUERY.sub(r"\1", _SECRET.sub("", text)))
