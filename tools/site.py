"""mkdocs: what lies beside docs/ and is linked from there comes into the site, and tables are read as GitHub reads them."""

from __future__ import annotations

import os.path
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
BESIDE = (
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "deploy/postgres/dagster.yaml",
    "deploy/kustomization.yaml",
    "deploy/kubernetes/dagster.yaml",
    "deploy/ecs/dagster.yaml",
    "deploy/ecs/run-task.json",
)


def on_files(files: Files, config: Any) -> Files:
    for name in BESIDE:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    here = page.file.src_uri
    stands = here if here in BESIDE else f"docs/{here}"

    def as_in_site(link: re.Match[str]) -> str:
        path, mark, anchor = link[1].partition("#")
        if not path or "://" in path:
            return link[0]
        meant = os.path.normpath(os.path.join(os.path.dirname(stands), path)).removeprefix("docs/")
        return f"]({os.path.relpath(meant, os.path.dirname(here) or '.')}{mark}{anchor})"

    markdown = re.sub(r"\]\(([^)\s]+)\)", as_in_site, markdown)
    return "\n".join(_code_in_table(line) if line.startswith("|") else line for line in markdown.split("\n"))


def _code_in_table(line: str) -> str:
    """GitHub wants `a\\|b` in a table's code, Python-Markdown shows the backslash."""
    return re.sub(r"`[^`]*`", lambda code: code[0].replace(r"\|", "|"), line)
