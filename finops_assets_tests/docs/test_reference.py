"""The pages of docs/reference are what the code says, and figures what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finops_assets.cli.exit_codes import EXIT_CODES
from finops_assets_tests.faults.table import as_markdown
from finops_assets_tests.places import PROJECT
from tools.figures.fill import BLOCKS, filled, names, pages
from tools.reference import settings
from tools.reference.commands import commands
from tools.reference.pages import FOLDER, PAGES
from tools.results import commit, read_results, write_results


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_would_write(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "run: make docs"


def test_every_setting_says_what_it_means() -> None:
    assert settings.without_meaning() == []


def test_every_command_and_option_says_what_it_does() -> None:
    found = list(commands())
    assert len(found) > 60
    assert [name for name, each in found if not each.help] == []
    assert [
        (name, p.opts) for name, each in found for p in each.params if p.param_type_name == "option" and not p.help
    ] == []


def test_the_exit_codes_are_in_the_program_s_help() -> None:
    program = next(each for name, each in commands() if name == "finops")
    assert all(f"{number} {meaning}" in program.epilog for number, meaning in EXIT_CODES.items())


@pytest.mark.parametrize("page", list(pages()), ids=lambda page: page.name)
def test_the_figures_of_a_page_are_those_of_the_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert filled(text) == text, "run: make figures"


def test_every_block_of_figures_is_in_a_page() -> None:
    assert sorted(name for page in pages() for name in names(page.read_text(encoding="utf-8"))) == sorted(BLOCKS)


def test_the_table_of_faults_is_that_of_the_results() -> None:
    page = PROJECT / "docs" / "reference" / "reliability.md"
    assert as_markdown(read_results("faults")["rows"]) in page.read_text(encoding="utf-8")


def test_a_result_names_the_commit_that_it_was_measured_at(tmp_path: Path) -> None:
    write_results(tmp_path / "new.json", {"commit": "of before", "rows": 1})
    written = json.loads((tmp_path / "new.json").read_text(encoding="utf-8"))
    assert written == {"commit": commit(), "rows": 1}
