"""README, docs/ and the pages beside it: their code blocks, commands and links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finops_assets_tests.places import PROJECT

FILES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^(`{3,})(\w*)[^\n]*\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(file: Path) -> str:
    return file.relative_to(PROJECT).as_posix()


def blocks(*languages: str) -> list[Block]:
    """Every block of these languages; "" is a block that names none."""
    return [
        Block(name_of(file), text.count("\n", 0, found.start()) + 2, found[2], found[3])
        for file in FILES
        for text in [file.read_text(encoding="utf-8")]
        for found in _FENCE.finditer(text)
        if found[2] in languages
    ]


def prose(file: Path) -> str:
    """The page without its blocks."""
    return _FENCE.sub("", file.read_text(encoding="utf-8"))


def spans(file: Path) -> list[str]:
    """What stands as code in a line."""
    return _SPAN.findall(prose(file))


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every command of the blocks, in words: all lines of `sh`, of others those behind a `$`."""
    for block in blocks("sh", "console", ""):
        text = re.sub(r"\\\n\s*", " ", re.sub(r"<<(\w+)\n.*?^\1$", "", block.text, flags=re.MULTILINE | re.DOTALL))
        for line in text.split("\n"):
            if block.language == "sh" or line.startswith("$ "):
                for words in _words(line.removeprefix("$ ")):
                    yield str(block), words


def _words(line: str) -> Iterator[list[str]]:
    """The words of each command of a line, without what is piped or redirected."""
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:  # a quotation that goes on in the next line: no command of ours has one
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if set(word) <= set(";&|<>()"):
            if command:
                yield command
            command = []
        else:
            command.append(word)
