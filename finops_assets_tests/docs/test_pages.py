"""What the pages say can be done: commands exist, blocks are valid, links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
import typer
import yaml

from finops_assets.base.sql import identifier
from finops_assets.cli.program import app
from finops_assets.definitions import build_definitions
from finops_assets.settings.attribution import RulesAlone
from finops_assets.settings.load import parse_settings
from finops_assets.settings.model import Settings
from finops_assets.settings.yaml_file import Loader
from finops_assets.tables import ddl, declarations
from finops_assets_tests.docs.pages import FILES, Block, blocks, command_lines, name_of, prose, spans
from finops_assets_tests.places import PROJECT

BESIDE = {
    "first_day": "first_day: 2026-09-01",
    "lake": "lake: lake",
    "warehouse": "warehouse: warehouse.duckdb",
    "published": "published: published.duckdb",
    "sources": """
sources:
  - {name: aws, uri: exports/aws, layout: aws-data-exports}
  - {name: azure, uri: exports/azure, layout: azure-exports}
  - {name: gcp, uri: exports/gcp, layout: gcs-export}
""",
    "dimensions": """
dimensions:
  department: {keys: [department]}
  team: {keys: [team]}
  environment: {keys: [environment]}
  cost_center: {keys: [cost_center]}
""",
}
"""What a fragment of finops.yaml needs beside it, where it has none of its own."""


def whole(fragment: str) -> str:
    """A fragment of finops.yaml as a file that can be read. Entries of a list are sources."""
    if re.match(r"\s*- name:", fragment):
        fragment = f"sources:\n{fragment}"
    named = yaml.load(fragment, Loader=Loader)
    return "\n".join([fragment, *(text for section, text in BESIDE.items() if section not in named)])


def minimal() -> Settings:
    return parse_settings("\n".join(BESIDE.values()), PROJECT / "finops.yaml")


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_a_block_of_yaml_is_valid(block: Block, tmp_path: Path) -> None:
    written = yaml.load(block.text, Loader=Loader)
    match written:
        case {"kind": "Kustomization"}:
            pass  # finops_assets_tests/deploy/test_deploy.py builds it
        case {"ops": _}:
            job = build_definitions(minimal()).resolve_job_def("owners")
            assert dg.validate_run_config(job, written)
        case {"rules": rules}:
            named = [{"name": f"rule_{place}", **rule} for place, rule in enumerate(rules)]
            assert RulesAlone.model_validate({"attribution_rules": named})
        case _:
            texts = [whole(block.text)]
            # Each file that the page shows.
            for place, mapping in enumerate(b for b in blocks("toml") if b.page == block.page):
                shown = tmp_path / f"shown{place}.toml"
                shown.write_text(mapping.text, encoding="utf-8")
                texts.append(re.sub(r"mapping: [\w./]+", f"mapping: {shown}", texts[0]))
            for text in texts[1:] or texts:
                assert parse_settings(text, PROJECT / "finops.yaml")


def test_a_mistake_in_a_block_would_be_found() -> None:
    with pytest.raises(Exception, match="memory_limt"):
        parse_settings(whole("engine: {memory_limt: 2 GB}"), PROJECT / "finops.yaml")


def resolved(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the words that follow."""
    command, rest = typer.main.get_command(app), words
    while (below := getattr(command, "commands", None)) and rest and rest[0] in below:
        command, rest = below[rest[0]], rest[1:]
    return command, rest


def ours(words: list[str]) -> list[str] | None:
    return words[1:] if words[0] in ("finops", ".venv/bin/finops") else None


def test_every_command_line_of_the_blocks_is_understood() -> None:
    tried = 0
    for place, words in command_lines():
        arguments = ours(words)
        if arguments is not None:
            command, rest = resolved(arguments)
            try:
                command.make_context("finops", list(rest))
            except Exception as error:
                raise AssertionError(f"{place}: {' '.join(words)}: {error!r}") from error
            tried += 1
    assert tried > 80


def test_every_command_that_is_named_in_a_sentence_is_there() -> None:
    tried = 0
    for file in FILES:
        for span in spans(file):
            words = span.split()
            if words[0] != "finops" or len(words) == 1 or words[1].isupper() or "…" in words:
                continue
            command, rest = resolved(words[1:])
            options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
            unknown = [word for word in rest if word.startswith("-") and word.split("=")[0] not in options]
            group = hasattr(command, "commands") and not command.invoke_without_command
            wrong = group and rest and not rest[0].startswith(("-", "…"))
            assert not unknown, f"{name_of(file)}: `{span}`"
            assert not wrong, f"{name_of(file)}: `{span}`"
            tried += 1
    assert tried > 100


def test_every_target_of_make_and_every_module_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = [(place, words) for place, words in command_lines()]
    named += [(name_of(file), span.split()) for file in FILES for span in spans(file)]
    for place, words in named:
        if words[0] == "make" and len(words) > 1:
            assert words[1] in targets, f"{place}: {' '.join(words)}"
        if "-m" in words and words[0].endswith("python"):
            module = words[words.index("-m") + 1]
            if module != "pytest" and "…" not in module:
                assert importlib.util.find_spec(module), f"{place}: {' '.join(words)}"
            files = [word for word in words if word.startswith("finops_assets_tests/") and "<" not in word]
            assert all((PROJECT / word).exists() for word in files), f"{place}: {' '.join(words)}"


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_a_block_of_json_is_valid(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_what_a_block_of_python_imports_of_ours_is_there(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("finops_assets"):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, each.name) for each in node.names), ast.unparse(node)


@pytest.mark.parametrize("block", [b for b in blocks("sql") if "/providers/" not in b.page], ids=str)
def test_a_block_of_sql_fits_the_tables(block: Block) -> None:
    with duckdb.connect() as connection:
        for schema, name in declarations.TABLES:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)}")
            ddl.create(connection, name, schema)
        connection.execute(block.text)


def anchors(file: Path) -> set[str]:
    """What the headings of a page are called in an address, as GitHub and mkdocs do it."""
    headings = re.findall(r"^#+ (.*)$", prose(file), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_every_link_leads_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(file)):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = (file.parent / path).resolve() if path else file
        assert found.exists(), target
        assert found.is_relative_to(PROJECT), target
        if anchor:
            assert anchor in anchors(found), target


def sources_of(folders: Iterable[str]) -> list[Path]:
    kinds = (".py", ".yaml", ".yml", ".toml", ".jinja", ".json")
    return [f for folder in folders for f in (PROJECT / folder).rglob("*") if f.suffix in kinds and f.is_file()]


def test_every_page_that_the_code_names_is_there() -> None:
    files = [PROJECT / name for name in ("Makefile", "pyproject.toml", "finops.yaml", "dagster.yaml")]
    files += sources_of(("finops_assets", "finops_assets_tests", "benchmarks", "deploy", "tools"))
    named = [
        (name_of(file), page)
        for file in files
        for page in re.findall(r"\bdocs/[\w/-]+\.(?:md|svg|png)\b", file.read_text(encoding="utf-8"))
    ]
    assert len(named) > 50
    assert [(file, page) for file, page in named if not (PROJECT / page).is_file()] == []


def test_every_file_that_a_page_names_is_there() -> None:
    path = re.compile(r"((?:finops_assets|finops_assets_tests|benchmarks|deploy|tools|docs)/[\w./-]*[\w/])(?::.*)?")
    for file in FILES:
        for span in spans(file):
            if found := path.fullmatch(span):
                assert (PROJECT / found[1]).exists(), f"{name_of(file)}: {span}"


def test_the_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_text(encoding="utf-8").splitlines()) < 100
