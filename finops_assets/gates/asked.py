"""Figures that gates ask of raw days and facts: of this machine's DuckDB, or of the engine that finops.yaml names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

import duckdb

from finops_assets.engines.chosen import engine_on
from finops_assets.facts import facts_relation, raw_relation
from finops_assets.lake import Layer
from finops_assets.platform import Platform


class Asked:
    """Whom the gates ask; `engine` is its name in their verdicts. `connection` is DuckDB's, of this machine."""

    def __init__(self, platform: Platform, connection: duckdb.DuckDBPyConnection) -> None:
        self.platform, self.connection = platform, connection
        run_on = platform.settings.engine.run_on
        self._elsewhere = engine_on(run_on, platform.lake) if run_on else None
        self.engine = self._elsewhere.name if self._elsewhere else f"DuckDB {duckdb.__version__}"

    def rows(self, layer: Layer, days: Iterable[date], query: Callable[[str], str]) -> list[tuple[Any, ...]]:
        """What `query`, SQL for a relation, gives of these days of a layer, of all sources; no days, no rows."""
        lake, sources = self.platform.lake, self.platform.source_names
        if self._elsewhere is None:
            files = lake.day_files(layer, sources, days)
            relation = raw_relation if layer == "raw" else facts_relation
            return self.connection.execute(query(relation(files))).fetchall() if files else []
        from finops_assets.engines.transformation import held_keys, rows_of

        keys = held_keys(lake, layer, sources, days)
        return rows_of(self._elsewhere, layer, keys, query) if keys else []
