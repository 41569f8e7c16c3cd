"""Figures that gates ask of raw days and facts: of this machine's DuckDB, or of the engine that finops.yaml names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import duckdb

from finops_assets.cost.engines.choose import engine_of
from finops_assets.cost.engines.engine import Query
from finops_assets.platform import Platform
from finops_assets.storage.day_files import judged_layer
from finops_assets.storage.lake import Key, Layer


class Figures:
    """What gates ask; `engine` names in their verdicts who answered. `connection` is DuckDB's, of this machine."""

    def __init__(self, platform: Platform, connection: duckdb.DuckDBPyConnection) -> None:
        self.platform, self.connection = platform, connection
        self._engine = engine_of(platform.settings.engine, platform.lake)
        self.engine = self._engine.name

    def rows(self, layer: Layer, days: Iterable[date], query: Query) -> list[tuple[Any, ...]]:
        """What `query`, SQL for a relation, gives of these days of a layer, of all sources; no days, no rows."""
        wanted = sorted(days)
        return self.of_keys(layer, [(s, day) for s in self.platform.source_names for day in wanted], query)

    def of_keys(self, layer: Layer, keys: Iterable[Key], query: Query) -> list[tuple[Any, ...]]:
        """The same of each (source, day) that the layer holds."""
        return self._engine.rows(layer, keys, query, self.connection)

    def to_judge(self, keys: Sequence[Key], query: Query) -> list[tuple[Any, ...]]:
        """The same of facts: of a (source, day) those that wait for their gates, else those that passed them before."""
        layers: dict[Layer, list[Key]] = {}
        for key in keys:
            layers.setdefault(judged_layer(self.platform.lake, key), []).append(key)
        return [row for layer, of_layer in layers.items() for row in self.of_keys(layer, of_layer, query)]
