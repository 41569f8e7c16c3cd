"""Oracle Cloud's own cost report: its tag columns."""

from __future__ import annotations

from finops_assets.conversion.given import Given
from finops_assets.conversion.source_columns import SourceColumns
from finops_assets.conversion.tags import from_columns

_TAGS = "tags/"


def given(source: SourceColumns) -> Given:
    columns = source.starting_with(_TAGS)
    return Given({"tags": from_columns((n[len(_TAGS) :], n) for n in columns)}, consumed=frozenset(columns))
