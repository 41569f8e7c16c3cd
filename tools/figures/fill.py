"""Between `<!-- figures: NAME -->` and `<!-- end of figures -->` of a page stands what the block of that name says."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tools.figures import evaluation, platform
from tools.results import ROOT, read_results

BLOCKS: Mapping[str, Callable[[], list[str]]] = {**platform.BLOCKS, **evaluation.BLOCKS}
"""Name -> lines of Markdown. A name begins with that of the result."""
_BLOCK = re.compile(r"<!-- figures: (?P<name>[\w.]+) -->\n.*?<!-- end of figures -->", re.DOTALL)


def pages() -> Iterator[Path]:
    """The pages that have such blocks."""
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        if _BLOCK.search(page.read_text(encoding="utf-8")):
            yield page


def names(text: str) -> list[str]:
    """The blocks of a page."""
    return [found["name"] for found in _BLOCK.finditer(text)]


def filled(text: str) -> str:
    """A page with its figures as the results have them.

    Raises:
        KeyError: there is no block of such a name.
    """
    return _BLOCK.sub(lambda found: block(found["name"]), text)


def block(name: str) -> str:
    lines = BLOCKS[name]()
    commit = read_results(name.partition(".")[0]).get("commit")
    if commit and any(line.startswith("|") for line in lines):
        lines = [*lines, "", f"Measured at {commit[:12]}."]
    lines = [line if line.startswith("|") else _wrapped(line) for line in lines]
    return "\n".join([f"<!-- figures: {name} -->", "", *lines, "", "<!-- end of figures -->"])


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 120, break_long_words=False, break_on_hyphens=False)
