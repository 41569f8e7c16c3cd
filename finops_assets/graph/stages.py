"""The assets of a configuration, stage by stage, in the order of the lineage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg

from finops_assets.graph.assets.accepted_owners import accepted_spec
from finops_assets.graph.assets.allocation import allocation_assets
from finops_assets.graph.assets.anomalies import anomaly_assets
from finops_assets.graph.assets.budgets import budget_assets
from finops_assets.graph.assets.commitment_use import commitment_use_asset
from finops_assets.graph.assets.conformance import conformance_asset
from finops_assets.graph.assets.daily import daily_assets
from finops_assets.graph.assets.deliveries import deliveries_asset, ledger_asset, repairs_asset
from finops_assets.graph.assets.forecast import forecast_asset
from finops_assets.graph.assets.governance import governance_assets
from finops_assets.graph.assets.health import health_asset
from finops_assets.graph.assets.owners import owner_assets
from finops_assets.graph.assets.page import page_asset
from finops_assets.graph.assets.raw import raw_asset
from finops_assets.graph.assets.reports import report_assets
from finops_assets.graph.assets.sparse import sparse_asset
from finops_assets.graph.assets.tokens import tokens_asset
from finops_assets.graph.assets.unit_costs import unit_cost_assets
from finops_assets.graph.assets.usage import cluster_nodes_asset, usage_asset
from finops_assets.graph.assets.waste import waste_asset
from finops_assets.graph.keys import CONVERTED
from finops_assets.platform import Platform


@dataclass(frozen=True)
class Stages:
    """What is there, from the deliveries to the published file."""

    deliveries: list[dg.AssetsDefinition]
    usage: list[dg.AssetsDefinition]
    ledger: dg.AssetsDefinition
    raw: list[dg.AssetsDefinition]
    accepted_owners: dg.AssetSpec
    daily: dg.AssetsDefinition
    evaluation: list[dg.AssetsDefinition]
    reports: list[dg.AssetsDefinition]
    correlation: list[dg.AssetsDefinition]

    @property
    def assets(self) -> list[dg.AssetsDefinition | dg.AssetSpec]:
        """All of them."""
        given: list[dg.AssetsDefinition | dg.AssetSpec] = [
            *self.deliveries,
            *self.usage,
            self.ledger,
            *self.raw,
            self.accepted_owners,
        ]
        return [*given, self.daily, *self.reports, *self.evaluation, *self.correlation]

    @property
    def followers(self) -> list[dg.AssetKey]:
        """What is made anew when days have changed."""
        return _keys((self.ledger, *self.evaluation, *self.reports, *self.correlation))


def stages_of(platform: Platform, days: dg.PartitionsDefinition[str]) -> Stages:
    """The stages of a platform's configuration."""
    settings = platform.settings
    budgets = budget_assets(settings.budgets, settings.owner) if settings.budgets else []
    anomalies, health = anomaly_assets(settings.owner), health_asset(settings.owner)
    governance = [governance_assets(settings.owner), sparse_asset(settings)]
    shared = allocation_assets(settings) if settings.shared_cost else []
    forecast, units = forecast_asset(settings.owner), unit_cost_assets(settings)
    rates = [commitment_use_asset(settings.owner), waste_asset(settings.owner), tokens_asset(settings.owner)]
    nodes = [cluster_nodes_asset(settings)] if settings.clusters else []
    published_after = [
        *([CONVERTED] if settings.currency else []),
        *_keys((*budgets, *anomalies, *governance, *shared, *units, *nodes, *rates, health)),
    ]
    return Stages(
        deliveries=[deliveries_asset(source, settings.owner) for source in settings.sources],
        usage=[usage_asset(cluster, settings.owner) for cluster in settings.clusters],
        ledger=ledger_asset(settings),
        raw=[raw_asset(source, days, settings.owner) for source in settings.sources],
        accepted_owners=accepted_spec(settings.owner),
        daily=daily_assets(platform, days),
        evaluation=[forecast, *budgets, *anomalies, *governance, *shared, *units, *rates],
        reports=[
            *report_assets(settings.owner, published_after, tuple(settings.dimensions)),
            *nodes,
            conformance_asset(settings),
            repairs_asset(settings),
            health,
            # The page is of the evaluations, but not of the split of shared cost.
            page_asset(settings.owner, _keys((forecast, *budgets, *anomalies, governance[0], *units))),
        ],
        correlation=owner_assets(platform),
    )


def _keys(made: Iterable[dg.AssetsDefinition]) -> list[dg.AssetKey]:
    return [key for each in made for key in each.keys]
