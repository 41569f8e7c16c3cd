"""engine: what does the work, and within which bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finops_assets.settings.section import Section, Size

RUN_ON = (
    r"^(local(\[(\d+|\*)\])?|spark://[^\s,:/]+:\d+(,[^\s,:/]+:\d+)*|yarn|k8s://\S+"
    r"|clickhouse://([^\s:/@]+@)?[^\s:/@]+:\d+/\w+(\?secure=true)?"
    r"|bigquery://[a-z][a-z0-9.:-]*/\w+|snowflake://[\w-]+/[\w.$]+)$"
)
"""Engines that the work can be run on, docs/guides/engines.md. None has a password in it."""
Kind = Literal["duckdb", "spark", "clickhouse", "bigquery", "snowflake"]
_WORDS = {"spark": "Spark", "clickhouse": "ClickHouse", "bigquery": "BigQuery", "snowflake": "Snowflake"}


class EngineSettings(Section):
    """Bounds for the query engine; memory is the engine's own budget, the process needs some more."""

    memory_limit: Size = "800MB"
    """Beyond it the engine spills to the disk."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """None: all cores."""
    run_on: Annotated[str, Field(pattern=RUN_ON)] | None = None
    """Where facts, rollup and the figures of their gates are made: the master of a Spark, a database of ClickHouse, a dataset of BigQuery, a connection and a stage of Snowflake; None: this machine's DuckDB."""
    maximum_bytes_billed: Size = "200GB"
    """Of BigQuery: a statement that would bill more is refused before it costs anything."""

    @property
    def place(self) -> str:
        """Where that is, in words."""
        return f"{_WORDS[self.kind]} on {self.run_on}" if self.run_on else "DuckDB on this machine"

    @property
    def kind(self) -> Kind:
        """What it is, in a word."""
        return kind_of(self.run_on) if self.run_on else "duckdb"


def kind_of(run_on: str) -> Kind:
    """Which engine a place is of.

    >>> kind_of("clickhouse://clickhouse:8123/finops"), kind_of("local[2]")
    ('clickhouse', 'spark')
    """
    others: tuple[Kind, ...] = ("clickhouse", "bigquery", "snowflake")
    return next((kind for kind in others if run_on.startswith(f"{kind}://")), "spark")
