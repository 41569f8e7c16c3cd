"""Waiting that says for what and for whom, after two seconds and every thirty, and that has an end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from finops_assets.base.errors import WaitedTooLong

FIRST_WORD_SECONDS = 2.0
NEXT_WORD_SECONDS = 30.0
PATIENCE_MINUTES = 15.0


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# One for the process, not for a thread: a process executes one run at a time, with threads of its own.
_tell: list[Callable[[str], None]] = [_to_stderr]


def tell(text: str) -> None:
    """Say a line to whoever runs this: a terminal, and the log of the run that is under way, if there is one."""
    _tell[-1](text)


def teller() -> Callable[[str], None]:
    """Where lines are said now."""
    return _tell[-1]


@contextmanager
def telling(to: Callable[[str], None]) -> Iterator[None]:
    """Within the block lines are said there."""
    _tell.append(to)
    try:
        yield
    finally:
        _tell.remove(to)


class Wait:
    """One wait for one thing."""

    def __init__(self, patience_seconds: float) -> None:
        self._began = time.monotonic()
        self._patience = patience_seconds
        self._next_word = FIRST_WORD_SECONDS

    def goes_on(self, why: Callable[[], str], quiet: bool = False) -> None:
        """To be called again and again while it lasts; `why` tells for what and for whom, e.g. "the lock: process 7 has it".

        `quiet` keeps a word back while there is nobody to name.

        Raises:
            WaitedTooLong: it has lasted longer than the patience.
        """
        waited = time.monotonic() - self._began
        if waited >= self._patience:
            raise WaitedTooLong(f"waited {_minutes(waited)} in vain for {why()}")
        if waited >= self._next_word and not quiet:
            self._next_word = waited + NEXT_WORD_SECONDS
            _tell_once_in_a_while(f"waiting for {why()}")


_said: dict[str, float] = {}
"""When which line was said: of many steps that wait for the same one speaks."""


def _tell_once_in_a_while(line: str) -> None:
    now = time.monotonic()
    if now - _said.get(line, -NEXT_WORD_SECONDS) >= NEXT_WORD_SECONDS:
        _said[line] = now
        tell(line)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
