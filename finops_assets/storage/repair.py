"""What was repaired in a delivered file, as the ledger keeps it."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from finops_assets.focus.money import LARGEST_DRIFT


class Repair(NamedTuple):
    """What one rule did to a column of a file: in how many rows, what the first of them said. A list in the records."""

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
