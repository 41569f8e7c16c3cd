"""Tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table. Cells are Markdown; a `|` in them is escaped, and what looks like HTML is text."""
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |".replace("|  |", "| |") for row in rows]
    return lines


def _cell(text: str) -> str:
    return plain(text.replace("|", r"\|").replace("\n", " "))


def plain(text: str) -> str:
    """Text in which nothing but code and links is Markdown: names as __untagged__ become code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"\b(__\w+__)\b", r"`\1`", part.replace("<", "&lt;")) for part in parts
    )


def linked(text: str) -> str:
    """The text with pages of docs/ as links, seen from docs/reference."""
    return re.sub(r"docs/((?:start|guides|reference|decisions)/([\w/-]+)\.md)", r"[\2](../\1)", plain(text))


def code(text: str) -> str:
    return f"`{text}`"
