"""Answers of one copy, remembered: nothing in it changes, so the same question has the same answer."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import date
from typing import Any

import duckdb

MOST_CELLS = 2_000_000
"""Values that are kept of all answers together; the answers that were not asked for longest go first."""
Rows = list[tuple[Any, ...]]


class Answer:
    """The rows of a statement, as a connection gives them."""

    def __init__(self, rows: Rows, description: Sequence[Any]) -> None:
        self.rows = rows
        self.description = description
        self._next = 0

    def fetchall(self) -> Rows:
        rows, self._next = self.rows[self._next :], len(self.rows)
        return rows

    def fetchone(self) -> tuple[Any, ...] | None:
        if self._next == len(self.rows):
            return None
        self._next += 1
        return self.rows[self._next - 1]


class Memory:
    """The answers that one copy gave."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str], tuple[Rows, Sequence[Any]]] = OrderedDict()
        self._cells = 0
        self._lock = threading.Lock()

    def find(self, key: tuple[str, str]) -> Answer | None:
        with self._lock:
            found = self._answers.get(key)
            if found is None:
                return None
            self._answers.move_to_end(key)
            return Answer(*found)

    def keep(self, key: tuple[str, str], rows: Rows, description: Sequence[Any]) -> Answer:
        with self._lock:
            if key not in self._answers:
                self._answers[key] = (rows, description)
                self._cells += _cells(rows)
            while self._cells > MOST_CELLS:
                _, (gone, _) = self._answers.popitem(last=False)
                self._cells -= _cells(gone)
        return Answer(rows, description)


class Remembering:
    """A connection to a copy that asks each statement once, and adds up once what several of a page's statements ask of."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, memory: Memory) -> None:
        self.connection = connection
        self.memory = memory
        self._summed: dict[str, tuple[str, date, date]] = {}
        """Relation -> the temporary table that has its days; of this connection alone."""

    def sum_once(self, relation: str, first: date, end: date) -> None:
        """Of a relation that statements to come ask for days from `first` to before `end`."""
        self._summed.setdefault(relation, ("", first, end))

    def _made(self, query: str) -> str:
        """The statement on what is added up already."""
        for relation, (made, first, end) in self._summed.items():
            if relation in query and not query.lstrip().startswith("DESCRIBE"):
                if not made:
                    made = f"summed_{sum(bool(other) for other, _, _ in self._summed.values())}"
                    self.connection.execute(
                        f"CREATE TEMP TABLE {made} AS SELECT * FROM {relation} r WHERE r.charge_date >= ? AND r.charge_date < ?",
                        [first, end],
                    )
                    self._summed[relation] = (made, first, end)
                query = query.replace(relation, made)
        return query

    def execute(self, query: str, values: Any = None) -> Answer:
        key = (query, repr(values))
        found = self.memory.find(key)
        if found is not None:
            return found
        made = self._made(query)
        asked = self.connection.execute(made, values) if values is not None else self.connection.execute(made)
        return self.memory.keep(key, asked.fetchall(), list(asked.description or ()))

    def table(self, name: str) -> duckdb.DuckDBPyRelation:
        """A table or view by its name, which is not asked for rows."""
        return self.connection.table(name)

    def sql(self, query: str, params: Any = None) -> duckdb.DuckDBPyRelation:
        """For a table by Arrow, in which amounts stay decimals."""
        return self.connection.sql(query, params=params)


def _cells(rows: Rows) -> int:
    return 8 + len(rows) * (len(rows[0]) if rows else 0)
