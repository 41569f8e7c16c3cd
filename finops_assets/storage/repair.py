"""What was repaired in a delivered file, as the ledger keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from finops_assets.focus.money import LARGEST_DRIFT


@dataclass(frozen=True)
class Repair:
    """What one rule did to a column of a file: in how many rows, what the first of them said."""

    file: str
    rule: str
    column: str
    rows: int
    example: str | None = None
    first_row: int | None = None
    largest_drift: Decimal | None = None
    """Of the rule `rounded`: the furthest that any one value was moved."""

    @property
    def drift_bound(self) -> Decimal | None:
        """Of the rule `rounded`: further than this the sum of the column cannot have moved."""
        return None if self.largest_drift is None else self.rows * LARGEST_DRIFT

    def as_json(self) -> list[Any]:
        drift = None if self.largest_drift is None else str(self.largest_drift)
        return [self.file, self.rule, self.column, self.rows, self.example, self.first_row, drift]

    @classmethod
    def from_json(cls, body: Sequence[Any]) -> Repair:
        file, rule, column, rows, example, first_row, drift = body
        return cls(file, rule, column, rows, example, first_row, None if drift is None else Decimal(drift))
