"""The pages of docs/reference are what the code says."""

from __future__ import annotations

import pytest

from finops_assets.cli import EXIT_CODES
from tools.reference import settings
from tools.reference.commands import commands
from tools.reference.pages import FOLDER, PAGES


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
