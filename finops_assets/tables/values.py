"""Values as a declared table has them: typed by its columns, never by the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from finops_assets.focus.money import SCALE
from finops_assets.tables.declarations import COUNT, DAY, FLAG, MONEY, NUMBER, TEXT, TIME, Column, Table, column

ARROW = {
    TEXT: pa.string(), MONEY: pa.decimal128(38, SCALE), NUMBER: pa.float64(), COUNT: pa.int64(), FLAG: pa.bool_(),
    DAY: pa.date32(), TIME: pa.timestamp("us"),
}  # fmt: skip


def exact_frame(
    connection: duckdb.DuckDBPyConnection, query: str, bound: Mapping[str, object] | None = None
) -> pd.DataFrame:
    """The rows of a query for people; by Arrow, so that amounts stay decimals."""
    rows: pd.DataFrame = connection.sql(query, params=bound).to_arrow_table().to_pandas()
    return rows


def arrow_schema(declared: Table, names: Iterable[str] | None = None) -> pa.Schema:
    """The columns of a table as Arrow has them, or some of them in their order."""
    wanted = declared.columns if names is None else [declared.column(name) for name in names]
    return _schema(wanted)


def _schema(columns: Iterable[Column]) -> pa.Schema:
    return pa.schema([pa.field(c.name, ARROW[c.kind], metadata={"description": c.comment}) for c in columns])


def typed(rows: pd.DataFrame, declared: Table | None = None) -> pa.Table:
    """Rows with the types of a declared table, or of the columns' names; what is not known is null.

    Raises:
        LookupError: the table is not declared so.
        TypeError: a value is not what the column is declared to be.
    """
    if declared is None:
        columns = [column(str(name)) for name in rows.columns]
    else:
        columns = list(declared.columns)
        found, wanted = [str(name) for name in rows.columns], [c.name for c in columns]
        if sorted(found) != sorted(wanted) and len(found) + len(rows):
            raise LookupError(
                f"{declared.shown_name} has the columns {', '.join(found)}; finops_assets/tables/declarations.py declares"
                f" {', '.join(wanted)}"
            )
    schema = _schema(columns)
    if not len(rows):
        return schema.empty_table()
    return pa.table([_array(rows[c.name], c) for c in columns], schema=schema)


def _array(values: pd.Series[Any], declared: Column) -> pa.Array:
    made = _MAKE[declared.kind]
    try:
        return pa.array([None if _unknown(v) else made(v) for v in values.tolist()], ARROW[declared.kind])
    except (TypeError, ValueError, ArithmeticError, pa.ArrowException) as error:
        raise TypeError(f"column {declared.name} is declared {declared.kind}: {error}") from error


def _unknown(value: object) -> bool:
    """None, NaN, NaT and their like."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _money(value: object) -> Decimal:
    if isinstance(value, Decimal):
        if int(value.as_tuple().exponent) >= -SCALE:
            return value
        with localcontext(Context(prec=100)):
            return value.quantize(Decimal(1).scaleb(-SCALE), ROUND_HALF_EVEN)
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    raise TypeError(f"found {value!r}, no decimal")


def _count(value: object) -> int:
    if isinstance(value, bool) or int(value) != value:  # type: ignore[call-overload]
        raise TypeError(f"found {value!r}, no whole number")
    return int(value)  # type: ignore[call-overload,no-any-return]


def _day(value: object) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value)
    if isinstance(value, datetime):
        if (value.hour, value.minute, value.second, value.microsecond) != (0, 0, 0, 0):
            raise TypeError(f"found {value}, no day")
        return value.date()
    if isinstance(value, date):
        return value
    raise TypeError(f"found {value!r}, no day")


def _time(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"found {value!r}, no time")
    at = value.to_pydatetime(warn=False) if isinstance(value, pd.Timestamp) else value
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at


def _text(value: object) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        raise TypeError(f"found {value!r}, no text")
    return str(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"found {value!r}, neither true nor false")
    return bool(value)


_MAKE: Mapping[str, Callable[[Any], object]] = {
    TEXT: _text, MONEY: _money, NUMBER: float, COUNT: _count, FLAG: _flag, DAY: _day, TIME: _time,
}  # fmt: skip
