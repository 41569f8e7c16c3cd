"""Errors for the person at 3 a.m.: what is wrong, where, the value seen, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any


def install(extra: str) -> str:
    """The command that installs an extra. No package index has this project: whoever took its name there is not us."""
    return f".venv/bin/uv pip install -e '.[{extra}]' in the project's folder (without make: pip install '.[{extra}]')"


class FinopsError(Exception):
    """Base of every error that this package raises on purpose."""


@dataclass(frozen=True)
class Mistake:
    """One mistake in finops.yaml: where it stands, what was found, what is allowed."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}, {self.path}" if self.line else self.path
        return f"{where}: {self.message}"


class ConfigError(FinopsError):
    """finops.yaml cannot be used; carries every mistake, not only the first."""

    def __init__(self, file: str, mistakes: Sequence[Mistake]) -> None:
        self.file = file
        self.mistakes = tuple(mistakes)
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__("\n".join([f"{file}: {count}", *(f"  - {m}" for m in mistakes)]))


class DeliveryRefused(FinopsError):
    """A delivery cannot be landed as it is. Nothing of it was kept, nothing before it was touched."""

    def __init__(self, source: str, scope: str, reason: str, *, file: str | None = None) -> None:
        self.source = source
        self.scope = scope
        self.reason = reason
        self.file = file
        where = f", file {file}" if file else ""
        super().__init__(f"source {source!r}, delivery {scope}{where}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        """It may come from another process."""
        return partial(type(self), file=self.file), (self.source, self.scope, self.reason)


class DeliveryChanged(DeliveryRefused):
    """A delivery's files were replaced while they were read. It waits, and is read again next time."""


class DeliveryUnread(DeliveryRefused):
    """This machine could not read a delivery's file: permission, I/O, too many open files. It says nothing of the file.

    The delivery waits, and is read again next time.
    """


class LakeError(FinopsError):
    """The lake cannot be read or written: path missing, no permission, no space left."""


class WarehouseError(FinopsError):
    """The warehouse file cannot be opened or written."""


class WaitedTooLong(FinopsError):
    """What is needed was held by somebody else for longer than `wait_minutes` of finops.yaml. Nothing is left behind."""


class RatesError(FinopsError):
    """A table of exchange rates cannot be used: its place, line, what was found, what is allowed."""


class TagSetCollision(FinopsError):
    """Two different tag sets hashed to one id. Practically impossible at 128 bits; never ignored."""
