"""The coverage table of docs/guides/native-bills.md, from the mappings: each FOCUS column, provider by provider.

python -m finops_assets.ingest.conversion.coverage docs/guides/native-bills.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from finops_assets.focus.specification import columns
from finops_assets.ingest.conversion.mapping import Dialect, dialects, native_layouts

BEGIN, END = (
    "<!-- coverage: written by python -m finops_assets.ingest.conversion.coverage -->",
    "<!-- end of coverage -->",
)
_SIGNS = {"filled": "filled", "derived": "derived", "impossible": "–"}


def coverage() -> str:
    """Markdown: a table of all columns and layouts, then each layout's notes, then the dialects of FOCUS."""
    native = native_layouts()
    lines = [f"| FOCUS column | {' | '.join(f'`{layout}`' for layout in native)} |", "|---" * (len(native) + 1) + "|"]
    for name in columns():
        if any(name in dialect.columns for dialect in native.values()):
            cells = (_SIGNS[d.columns[name].kind] if name in d.columns else "–" for d in native.values())
            lines.append(f"| {name} | {' | '.join(cells)} |")
    nowhere = [name for name in columns() if not any(name in d.columns for d in native.values())]
    lines += ["", f"In no native bill, and left out: {', '.join(nowhere)}."]
    for dialect in [*native.values(), *(d for d in dialects().values() if not d.native)]:
        lines += ["", *_notes(dialect)]
    return "\n".join(lines)


def _notes(dialect: Dialect) -> list[str]:
    heading = f"`{dialect.layout}`: {dialect.title}" if dialect.layout else dialect.title
    lines = [f"### {heading}", "", f"By: {dialect.authority}."]
    if not dialect.native:
        lines += ["", f"Gives {', '.join(dialect.columns)}; every other column is read as it is."]
    noted = [f"- **{c.name}**: {c.note}." for c in dialect.columns.values() if c.note]
    lines += ["", *noted] if noted else []
    broken = [f"- `{rule}`: {why}." for rule, why in dialect.exceptions.items()]
    return (
        [*lines, "", "Rules of FOCUS that `finops conformance` may find broken, and why:", "", *broken]
        if broken
        else lines
    )


def with_coverage(text: str) -> str:
    """A document with the table between its two marks written anew.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the marks {BEGIN} and {END} are not both there")
    return f"{before}{BEGIN}\n\n{coverage()}\n\n{END}{after}"


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(with_coverage(document.read_text(encoding="utf-8")), encoding="utf-8")
