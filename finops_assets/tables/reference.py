"""docs/reference/tables.md, made from what is declared."""

from __future__ import annotations

from collections.abc import Sequence

from finops_assets.tables.declarations import ALL, DIMENSIONS, TEXT, Table, facts_table, of_dimension_beside


def reference(tables: Sequence[Table]) -> str:
    """docs/reference/tables.md: every published table with its columns."""
    lines = [
        "# Tables of the published copy",
        "",
        "Made from finops_assets/tables/declarations.py by `python -m finops_assets.tables.reference` (part of `make docs`). The same",
        "stands in the copy as comments: `SELECT table_name, comment FROM duckdb_tables()`, and of columns in `duckdb_columns()`.",
        "Tables of features that are not configured are not there. An empty table has all its columns. Days and times are",
        "UTC, ends are exclusive, what is not known is null.",
        "",
    ]
    for each in tables:
        lines += [f"## {each.shown_name}", "", each.meaning + (" A view." if each.view else ""), ""]
        lines += ["| column | type | unit | |", "|---|---|---|---|"]
        for c in each.columns:
            lines.append(
                f"| `{c.name}` | {c.kind} | {c.unit} | {c.meaning.replace('|', chr(92) + '|').replace('<', '&lt;')} |"
            )
            if DIMENSIONS[-1] in c.name:
                other = of_dimension_beside(c, "<dimension>")
                meaning = other.meaning.replace("<dimension>", "its value" if c.kind == TEXT else "it")
                lines.append(f"| `{other.name}` | {c.kind} | {c.unit} | of each other one of finops.yaml: {meaning} |")
        lines.append("")
    return "\n".join(lines)


def documented() -> str:
    """docs/reference/tables.md as it has to be; of the facts with the dimensions of the rollup."""
    return reference([*(t for t in ALL if t.published), facts_table(DIMENSIONS)])


if __name__ == "__main__":
    print(documented(), end="")
