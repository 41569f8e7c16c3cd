"""What a mapping's SQL cannot say for itself: named SQL that depends on the file, and what was found on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from finops_assets.ingest.reading.relation import Note
from finops_assets.storage.repair import Repair


@dataclass(frozen=True)
class NamedSql:
    """Named SQL for a mapping, which rows to take, and what there is to say of single rows or of the whole.

    `left_out` rows are not taken because another set of the same delivery holds their cost.
    """

    named: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None
    join: str = ""
    """What stands beside the rows, and leaves each of them once."""
    left_out: int = 0
    counted: tuple[Repair, ...] = ()
    notes: tuple[Note, ...] = ()
    consumed: frozenset[str] = frozenset()
    """Columns as written whose whole content is in what is given."""
