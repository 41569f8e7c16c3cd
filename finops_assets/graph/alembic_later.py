"""Dagster's storage without Alembic, until it migrates a database.

Dagster imports Alembic, and with it Mako, Pygments and three dialects, for what a history that is there never needs: that is
a fifteenth of the time in which a run's modules are loaded.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

STORAGE = "dagster._core.storage.sql"
_IMPORTED = (
    "alembic", "alembic.command", "alembic.config", "alembic.runtime", "alembic.runtime.environment",
    "alembic.runtime.migration", "alembic.script",
)  # fmt: skip


def load_storage() -> None:
    """Import Dagster's module of SQL, whose names of Alembic's are imported when they are used; nobody else gets those."""
    if STORAGE in sys.modules or "alembic" in sys.modules:
        return
    sys.modules.update({name: _StandIn(name) for name in _IMPORTED})
    try:
        import_module(STORAGE)
    finally:
        for name in _IMPORTED:
            del sys.modules[name]


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> _WhenUsed:
        if name.startswith("__"):
            raise AttributeError(name)
        return _WhenUsed(self.__name__, name)


class _WhenUsed:
    """A function or class of a module, which is imported when it is called or asked for something."""

    def __init__(self, module: str, name: str) -> None:
        self._at = module, name

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._real()(*given, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def _real(self) -> Any:
        module, name = self._at
        return getattr(import_module(module), name)
