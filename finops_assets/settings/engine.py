"""engine: what does the work, and within which bounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finops_assets.settings.section import Section, Size

RUN_ON = r"^(local(\[(\d+|\*)\])?|spark://[^\s,:/]+:\d+(,[^\s,:/]+:\d+)*|yarn|k8s://\S+)$"
"""Engines that the work can be run on, docs/guides/engines.md."""


class EngineSettings(Section):
    """Bounds for the query engine; memory is the engine's own budget, the process needs some more."""

    memory_limit: Size = "800MB"
    """Beyond it the engine spills to the disk."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """None: all cores."""
    run_on: Annotated[str, Field(pattern=RUN_ON)] | None = None
    """Where facts, rollup and the figures of their gates are made: the master of a Spark; None: this machine's DuckDB."""

    @property
    def place(self) -> str:
        """Where that is, in words."""
        return f"Spark on {self.run_on}" if self.run_on else "DuckDB on this machine"

    @property
    def kind(self) -> str:
        """What it is, in a word."""
        return "spark" if self.run_on else "duckdb"
