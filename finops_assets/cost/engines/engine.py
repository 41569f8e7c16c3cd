"""What does the work on facts: builds them, and answers statements about days of the lake. DuckDB is the first of them.

Statements are written in DuckDB's dialect. Landing, raw days, tag sets and the warehouse are this machine's always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from finops_assets.cost.attribution.rules import Rules
from finops_assets.storage.lake import Key, Layer

Query = Callable[[str], str]
"""SQL, in DuckDB's dialect, for a relation of days of the lake with source and charge_date."""


Asked = Callable[[Query], pa.Table]
"""Who answers queries about the facts of some days."""


class Engine(Protocol):
    """One engine with one lake."""

    @property
    def name(self) -> str:
        """What ran, for checks and messages."""

    @property
    def rows_at_once(self) -> int:
        """Of how many facts it is best asked at a time."""

    def attribute(self, rules: Rules, resolved: pa.Table, stamps: Mapping[Key, str], layer: Layer = "raw") -> None:
        """Build the facts of these days of a layer, each whole or not at all, and let them wait for their gates.

        `resolved`: what the rules give each tag set. A stamp says what a day's facts are built from
        (`facts.facts_stamp`) and stays with them.
        """

    def rows(
        self, layer: Layer, keys: Iterable[Key], query: Query, here: duckdb.DuckDBPyConnection
    ) -> list[tuple[Any, ...]]:
        """What a query gives of those of these days that the lake holds; no days, no rows. `here`: DuckDB of this machine."""

    def away(self, keys: Iterable[Key]) -> AbstractContextManager[Asked | None]:
        """A context: who answers statements about these facts elsewhere, or None where the warehouse reads them itself."""
