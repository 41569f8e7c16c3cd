"""A command that works for a while: what it says meanwhile, and how it ends when it is told to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import typer
from rich.console import Console

from finops_assets.base.interrupts import interrupted_by, noting_interrupts
from finops_assets.base.waiting import telling
from finops_assets.cli.common import LiteralConsole


@contextmanager
def working(next_step: str) -> Iterator[Console]:
    """The terminal (standard error) for progress. Whatever waits meanwhile says so there; SIGINT and SIGTERM end the block.

    Then the exit code is 128 and the signal, as shells have it; `next_step` tells the person what to do to go on.
    """
    with _terminal() as console, noting_interrupts():
        try:
            with telling(lambda text: console.print(text, highlight=False, soft_wrap=True)):
                yield console
        except typer.Exit:
            raise
        except (KeyboardInterrupt, Exception) as error:
            number = _told_to_end()
            if number is None:
                if not isinstance(error, KeyboardInterrupt):
                    raise
                console.print("The run was ended from outside, in the UI or as dead. What was built stands.")
                raise typer.Exit(1) from None
            console.print(
                f"Interrupted: what was under way is ended and holds nothing. What was built stands. {next_step}",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
            raise typer.Exit(128 + number) from None


def _told_to_end() -> int | None:
    """The signal, if one arrived. The engine's error can be here before what the signal's handler has to raise: it is raised here."""
    with suppress(KeyboardInterrupt):
        interrupted_by()
    return interrupted_by()


@contextmanager
def _terminal() -> Iterator[Console]:
    """Standard error as it is now: during a run Dagster sends the process's own into the run's log."""
    try:
        own = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # in memory, as in tests
        yield LiteralConsole(stderr=True)
        return
    with os.fdopen(own, "w", encoding="utf-8", errors="replace") as stream:
        yield LiteralConsole(file=stream)
