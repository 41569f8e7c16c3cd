"""docs/reference/exit-codes.md: with what a command ends."""

from __future__ import annotations

import re
import signal

from finops_assets.cli.exit_codes import EXIT_CODES
from tools.reference.commands import commands
from tools.reference.markdown import code, table

SENTENCE = re.compile(r"[^.?\n]*\bExits? (?:with|code)\b(?:[^.]|\.(?=\w))*\.?")


def page() -> str:
    lines = ["# Exit codes", "", "Made from finops_assets/cli by `make docs`.", ""]
    of_signals = ", ".join(str(128 + number) for number in (signal.SIGINT, signal.SIGTERM))
    every = [*((str(number), meaning) for number, meaning in EXIT_CODES.items())]
    lines += table(
        ["code", "meaning"], [*every, (of_signals, "it was interrupted: 128 and the signal (SIGINT, SIGTERM)")]
    )
    lines += ["", "What single commands say of theirs:", ""]
    told = [(code(name), said) for name, each in commands() if (said := _said(each.help or ""))]
    return "\n".join([*lines, *table(["command", ""], told), ""])


def _said(help: str) -> str:
    return " ".join(" ".join(found.split()) for found in SENTENCE.findall(help))
