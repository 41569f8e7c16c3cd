"""finops.yaml -> typed settings. Every mistake is reported at once, with its place in the file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from finops_assets.base.waiting import PATIENCE_MINUTES
from finops_assets.settings.access import Access, Explore
from finops_assets.settings.alerts import Alerts, Night
from finops_assets.settings.anomalies import Anomalies
from finops_assets.settings.attribution import AttributionRule, Dimension, SparseGroups
from finops_assets.settings.budgets import BudgetFile
from finops_assets.settings.clusters import Clusters
from finops_assets.settings.currency import Currency
from finops_assets.settings.digests import Digest
from finops_assets.settings.engine import EngineSettings
from finops_assets.settings.gates import Acknowledgement, Conforms, Plausibility
from finops_assets.settings.lake import LakePlace
from finops_assets.settings.section import FilePath, Name, Section, file_form
from finops_assets.settings.shared_cost import SharedCosts
from finops_assets.settings.sources import Source
from finops_assets.settings.tag_policy import TagPolicy
from finops_assets.settings.unit_costs import UnitCosts, UnitMetrics


class Settings(Section):
    """The whole of finops.yaml. Relative paths are relative to the file's folder."""

    # A default is made without its section's validator: to build those of all sections takes longer than most reports.

    first_day: date
    """The first UTC charge day of the platform. Rows of days before it are landed and are in no figure."""
    lake: LakePlace
    """Where raw days, facts and the ledger of deliveries lie: a folder, or the URI of a store."""
    warehouse: FilePath
    """The DuckDB file that the pipeline alone writes."""
    published: FilePath
    """The DuckDB file for people and BI tools, replaced at once whenever something is published."""
    sources: tuple[Source, ...] = Field(min_length=1)
    clusters: Clusters = ()
    """What ran on the nodes of Kubernetes clusters: their charges are split by it. docs/guides/clusters.md"""
    dimensions: Mapping[Name, Dimension] = Field(min_length=1)
    placeholders: tuple[str, ...] = ("none", "null", "n/a", "unknown")
    """Tag values that name nobody, besides those that are empty."""
    tag_policy: TagPolicy = TagPolicy.model_construct()
    attribution_rules: tuple[AttributionRule, ...] = ()
    """In order; of each dimension the first that matches counts."""
    sparse_groups: SparseGroups = SparseGroups.model_construct()
    plausibility: Plausibility = Plausibility.model_construct()
    conforms: Conforms = Conforms.model_construct()
    acknowledged: tuple[Acknowledgement, ...] = ()
    engine: EngineSettings = EngineSettings.model_construct()
    release: Literal["by_source", "whole_day"] = "by_source"
    """What a gate holds: that source's part of the day, or the whole day until all required sources have passed."""
    owner: Annotated[str, Field(pattern=r"^(team:[\w-]+|[^@\s]+@[^@\s]+)$")] = "team:finops"
    """Shown on every asset in Dagster."""
    night: Night = Night.model_construct()
    keep_runs_days: Annotated[int, Field(ge=7)] = 180
    """Runs in Dagster's history that are older, and superseded by later ones, are deleted."""
    wait_minutes: Annotated[float, Field(ge=0, le=1440)] = PATIENCE_MINUTES
    """How long somebody waits for the warehouse, a pool's slot or another run over the same days before giving up."""
    alerts: Alerts = Alerts.model_construct()
    currency: Currency | None = None
    budgets: Annotated[BudgetFile, BeforeValidator(file_form)] | None = None
    shared_cost: SharedCosts = ()
    """In order: a later rule may split what an earlier one gave."""
    anomalies: Anomalies = Anomalies.model_construct()
    unit_metrics: Annotated[UnitMetrics, BeforeValidator(file_form)] | None = None
    """How much of what there was, by day: orders, customers, requests."""
    unit_costs: UnitCosts = ()
    """Which cost is set against which of these quantities."""
    explore: Explore = Explore.model_construct()
    access: Access = Field(default_factory=dict)
    """Which group sees whose cost."""
    digests: tuple[Digest, ...] = ()
    """Who gets the month's page of his own cost, and when."""

    @property
    def counted(self) -> tuple[Source, ...]:
        """The sources whose cost is in facts and rollup: all but the shadows."""
        return tuple(source for source in self.sources if source.shadow_of is None)

    @property
    def shadows(self) -> tuple[Source, ...]:
        """The sources that are only there to be compared with another."""
        return tuple(source for source in self.sources if source.shadow_of is not None)

    @property
    def providers(self) -> dict[str, str]:
        """The provider of each source, for rows that do not name theirs."""
        return {source.name: source.provider for source in self.counted if source.provider}

    def source(self, name: str) -> Source:
        """The source of that name; KeyError names the known ones."""
        for source in self.sources:
            if source.name == name:
                return source
        raise KeyError(f"no source {name!r}; known: {', '.join(s.name for s in self.sources)}")

    def deadline(self, source: Source) -> str:
        """By when ("HH:MM", UTC) the source must have delivered the day before."""
        return source.deadline or self.night.deadline
