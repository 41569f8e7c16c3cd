"""An answer: columns and rows of plain values.

A command that prints one needs no more. Data frames and Arrow take longer to load than most answers to be found, so
they are loaded by `frame` and `values.arrow`, where somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from finops_assets.tables.declarations import COUNT, NUMBER, TIME, column

if TYPE_CHECKING:
    import pandas as pd

_TYPES = {NUMBER: "float64", COUNT: "int64", TIME: "datetime64[us]"}
Row = dict[str, Any]
"""The values of a row by their columns."""


@dataclass(frozen=True)
class Rows:
    """What is not known is None; of a share that cannot be told it may be NaN."""

    columns: Sequence[str]
    values: Sequence[Sequence[Any]]

    @classmethod
    def asked(
        cls, connection: duckdb.DuckDBPyConnection, query: str, bound: Mapping[str, object] | None = None
    ) -> Rows:
        """The rows of a query."""
        found = connection.execute(query, bound or {})
        return cls([name for name, *_ in found.description or ()], found.fetchall())

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Rows:
        """The rows of a data frame."""
        import numpy as np
        import pandas as pd

        def plain(value: Any) -> Any:
            if value is pd.NA or value is pd.NaT:
                return None
            if isinstance(value, pd.Timestamp):
                return value.to_pydatetime(warn=False)
            return value.item() if isinstance(value, np.generic) else value

        # By column: a row of a frame has one type for all of its numbers.
        columns = [[plain(value) for value in frame[name].tolist()] for name in frame.columns]
        return cls([str(name) for name in frame.columns], list(zip(*columns)))

    def frame(self) -> pd.DataFrame:
        """The rows as a data frame, for whoever works with them; amounts stay decimals."""
        import pandas as pd

        kinds = {name: column(name).kind for name in self.columns}
        if len(self):
            # What is not known would make numbers with a point of counts.
            types = {name: "Int64" for name, kind in kinds.items() if kind == COUNT and None in self[name]}
        else:
            types = {name: _TYPES.get(kind, "object") for name, kind in kinds.items()}
        return pd.DataFrame(self.values, columns=list(self.columns)).astype(types)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Row]:
        return (dict(zip(self.columns, row)) for row in self.values)

    def __getitem__(self, column: str) -> list[Any]:
        """The values of a column.

        Raises:
            ValueError: there is none of that name.
        """
        place = self.columns.index(column)
        return [row[place] for row in self.values]

    def only(self, columns: Iterable[str]) -> Rows:
        """These columns, in this order."""
        wanted = list(columns)
        places = [self.columns.index(name) for name in wanted]
        return Rows(wanted, [tuple(row[place] for place in places) for row in self.values])

    def without(self, *columns: str) -> Rows:
        """The other columns."""
        return self.only(name for name in self.columns if name not in columns)

    def where(self, kept: Callable[[Row], bool]) -> Rows:
        """The rows that are to be kept."""
        return Rows(self.columns, [values for values, row in zip(self.values, self) if kept(row)])

    def with_column(self, name: str, values: Iterable[Any]) -> Rows:
        """With other values in a column, which is the last one if it was not there."""
        made = list(values)
        if name not in self.columns:
            return Rows([*self.columns, name], [(*row, value) for row, value in zip(self.values, made)])
        place = self.columns.index(name)
        return Rows(self.columns, [(*row[:place], value, *row[place + 1 :]) for row, value in zip(self.values, made)])
