"""What an export is once it is opened: one relation in SQL, and what was noted of its files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from finops_assets.focus.specification import canonical_name
from finops_assets.storage.repair import Repair

SOURCE_FILE, SOURCE_ROW = "source_file", "source_row"
"""Where a row stood as it was delivered: the columns of every raw row that say so."""


ROW = "finops_row"
"""A row's place in its file, from 0, where one file is read by itself."""


@dataclass(frozen=True)
class Note:
    """Something to say in a row's `repairs` besides what reading its columns finds.

    `found` is SQL over the export's rows (alias e) for what was found, NULL in a row of which there is nothing to say.
    """

    rule: str
    column: str
    found: str


@dataclass(frozen=True)
class PlainFile:
    """A Parquet file whose rows are an export's as they stand there."""

    path: Path
    key: str | None
    """The file as it was delivered; None: one of ours, in which each row has its source_file and source_row."""


@dataclass(frozen=True)
class ExportTable:
    """Export files as one SQL relation: `sql` selects all columns as written, plus source_file and source_row."""

    sql: str
    types: dict[str, str]
    counted: tuple[Repair, ...] = ()
    """What opening repaired (words for no value, rows without any), and what conversion to FOCUS did."""
    notes: tuple[Note, ...] = ()
    """What conversion to FOCUS has to say of single rows."""
    left_out: int = 0
    """Rows that conversion left out because another set of the same delivery holds their cost."""
    files: tuple[PlainFile, ...] = ()
    """The files that `sql` puts together, for another reader than the engine; none where it does more than that."""

    @cached_property
    def focus_columns(self) -> dict[str, str]:
        """FOCUS name -> the column as written."""
        return {focus: name for name in self.types if (focus := canonical_name(name))}

    @cached_property
    def other_columns(self) -> list[str]:
        """What is not FOCUS: x_ columns and whatever else the provider adds. Kept as it is."""
        return [n for n in self.types if canonical_name(n) is None and n not in (SOURCE_FILE, SOURCE_ROW)]
