"""Text put into SQL: names and values, quoted."""

from __future__ import annotations


def identifier(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted SQL string, for the places (COPY targets, table functions in views) that take no bound value."""
    return "'" + text.replace("'", "''") + "'"
