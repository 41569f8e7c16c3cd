"""Figures that gates ask of raw days and facts: of this machine's DuckDB, or of the engine that finops.yaml names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any

import duckdb

from finops_assets.cost.engines.choose import engine_on
from finops_assets.platform import Platform
from finops_assets.storage.day_files import facts_relation, judged_layer, raw_relation
from finops_assets.storage.lake import Key, Layer


class Asked:
    """Whom the gates ask; `engine` is its name in their verdicts. `connection` is DuckDB's, of this machine."""

    def __init__(self, platform: Platform, connection: duckdb.DuckDBPyConnection) -> None:
        self.platform, self.connection = platform, connection
        run_on = platform.settings.engine.run_on
        self._elsewhere = engine_on(run_on, platform.lake) if run_on else None
        self.engine = self._elsewhere.name if self._elsewhere else f"DuckDB {duckdb.__version__}"

    def rows(self, layer: Layer, days: Iterable[date], query: Callable[[str], str]) -> list[tuple[Any, ...]]:
        """What `query`, SQL for a relation, gives of these days of a layer, of all sources; no days, no rows."""
        wanted = sorted(days)
        return self.of_keys(layer, [(s, day) for s in self.platform.source_names for day in wanted], query)

    def of_keys(self, layer: Layer, keys: Iterable[Key], query: Callable[[str], str]) -> list[tuple[Any, ...]]:
        """The same of each (source, day) that the layer holds."""
        lake = self.platform.lake
        if self._elsewhere is None:
            files = lake.fetch(lake.day_file(layer, *key) for key in keys)
            relation = raw_relation if layer == "raw" else facts_relation
            return self.connection.execute(query(relation(files))).fetchall() if files else []
        from finops_assets.cost.engines.transformation import rows_of

        held = [key for key in keys if lake.holds(lake.day_file(layer, *key))]
        return rows_of(self._elsewhere, layer, held, query) if held else []

    def to_judge(self, keys: Sequence[Key], query: Callable[[str], str]) -> list[tuple[Any, ...]]:
        """The same of facts: of a (source, day) those that wait for their gates, else those that passed them before."""
        layers: dict[Layer, list[Key]] = {}
        for key in keys:
            layers.setdefault(judged_layer(self.platform.lake, key), []).append(key)
        return [row for layer, of_layer in layers.items() for row in self.of_keys(layer, of_layer, query)]
