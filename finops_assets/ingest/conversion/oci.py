"""Oracle Cloud's own cost report: its tag columns."""

from __future__ import annotations

from finops_assets.ingest.conversion.named_sql import NamedSql
from finops_assets.ingest.conversion.source_columns import SourceColumns
from finops_assets.ingest.conversion.tags import from_columns

_TAGS = "tags/"


def given(source: SourceColumns) -> NamedSql:
    columns = source.starting_with(_TAGS)
    tags = from_columns((name[len(_TAGS) :], column) for name, column in columns)
    return NamedSql({"tags": tags}, consumed=frozenset(column for _, column in columns))
