"""DuckDB in memory, made once for many connections: an instance makes its catalog of functions anew, which takes as long as
what most tests ask of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb

_OWN = "of_connection"
_SETTINGS = (
    "threads",
    "memory_limit",
    "temp_directory",
    "preserve_insertion_order",
    "partitioned_write_flush_threshold",
)
"""What a connection sets for its whole instance."""
_free: list[_Instance] = []


class _Instance:
    """An instance, and the functions that it has been given."""

    def __init__(self) -> None:
        self.base = duckdb.connect()
        self.functions: dict[str, Callable[..., Any]] = {}


class Leased:
    """A connection with an instance to itself and a database in memory of its own, which both go back when it is closed."""

    def __init__(self) -> None:
        self._instance = _free.pop() if _free else _Instance()
        self._open = True
        self._instance.base.execute(f"ATTACH ':memory:' AS {_OWN}")
        self._connection = self._used()

    def _used(self) -> duckdb.DuckDBPyConnection:
        connection = self._instance.base.cursor()
        connection.execute(f"USE {_OWN}")
        return connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        return self._used()

    def create_function(self, name: str, function: Callable[..., Any], *of: Any, **how: Any) -> None:
        """A function of that name stays with the instance; another one in its place is refused, as by the engine."""
        if self._instance.functions.get(name) is not function:
            self._connection.create_function(name, function, *of, **how)
            self._instance.functions[name] = function

    def __enter__(self) -> Leased:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()
        if not self._open:
            return
        self._open = False
        base = self._instance.base
        try:
            base.execute(f"DETACH {_OWN}")
            for setting in _SETTINGS:
                base.execute(f"RESET {setting}")
        except duckdb.Error:
            return  # a cursor of it still works, or it has written to its folder for what does not fit: it is not used again
        _free.append(self._instance)


class Engine:
    """The module `duckdb`, whose connections in memory are leased."""

    def __getattr__(self, name: str) -> Any:
        return getattr(duckdb, name)

    def connect(self) -> Leased:
        return Leased()
