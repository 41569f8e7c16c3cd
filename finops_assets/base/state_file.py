"""A small SQLite file beside the warehouse, for what people decide and what was told: opened for each use.

Not in the warehouse, because a night's run may hold that for minutes, and people and Dagster's daemon write meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from finops_assets.base.errors import FinopsError

LOCK_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Form:
    """What such a file holds. `what` names it in errors, `advice` says what to do when it cannot be used."""

    what: str
    schema: str
    """CREATE … IF NOT EXISTS statements of the newest version."""
    advice: str
    error: type[FinopsError]
    version: int = 1
    upgrades: Mapping[int, str] = field(default_factory=dict)
    """Version of an older file -> what it needs before the schema."""


@contextmanager
def opened(path: Path, form: Form) -> Iterator[sqlite3.Connection]:
    """The file, made or brought up to date where it has to be. Rows come with their columns' names.

    Raises:
        FinopsError: `form.error`; no space, no permission, damaged, or written by a newer version.
    """
    try:
        with suppress(FileExistsError):
            path.parent.mkdir(parents=True)
        connection = sqlite3.connect(path, timeout=LOCK_PATIENCE_SECONDS, isolation_level=None)
    except (sqlite3.Error, OSError) as error:
        raise form.error(f"{form.what} {path}: cannot be opened: {error}; {form.advice}") from error
    with closing(connection):
        connection.row_factory = sqlite3.Row
        try:
            version = _version(connection)
            if version > form.version:
                raise form.error(
                    f"{form.what} {path}: found version {version}, allowed: up to {form.version};"
                    " a newer finops_assets has written it: update this one"
                )
            if version < form.version:
                _bring_up_to_date(connection, form)
            yield connection
        except sqlite3.Error as error:
            raise form.error(f"{form.what} {path}: {error}; {form.advice}") from error


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _bring_up_to_date(connection: sqlite3.Connection, form: Form) -> None:
    with writing(connection):
        # Again, now that no other process can do it meanwhile. A new file has version 0 and needs no upgrade.
        found = _version(connection)
        for version in range(found, form.version):
            if found and version in form.upgrades:
                connection.execute(form.upgrades[version])
        for statement in form.schema.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {form.version}")
