"""Values as a declared table has them: typed by its columns, never by the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import TYPE_CHECKING, Any

from finops_assets.focus.money import SCALE
from finops_assets.tables.declarations import COUNT, DAY, FLAG, MONEY, NUMBER, TEXT, TIME, Column, Table, column
from finops_assets.tables.rows import Rows

if TYPE_CHECKING:
    import pyarrow as pa


def _schema(columns: Iterable[Column]) -> pa.Schema:
    import pyarrow as pa

    kinds = {
        TEXT: pa.string(), MONEY: pa.decimal128(38, SCALE), NUMBER: pa.float64(), COUNT: pa.int64(), FLAG: pa.bool_(),
        DAY: pa.date32(), TIME: pa.timestamp("us"),
    }  # fmt: skip
    return pa.schema([pa.field(c.name, kinds[c.kind], metadata={"description": c.comment}) for c in columns])


def arrow(rows: Rows, declared: Table | None = None) -> pa.Table:
    """What `typed` says, as Arrow has it."""
    import pyarrow as pa

    made = typed(rows, declared)
    columns = [column(name) for name in made.columns] if declared is None else declared.columns
    return pa.table([made[c.name] for c in columns], schema=_schema(columns))


def arrow_records(records: Sequence[Mapping[str, object]], declared: Table) -> pa.Table:
    """Records of a declared table, or of those of its columns that the first of them has, as Arrow has them."""
    import pyarrow as pa

    columns = [c for c in declared.columns if not records or c.name in records[0]]
    return pa.Table.from_pylist(list(records), schema=_schema(columns))


def typed(rows: Rows, declared: Table | None = None) -> Rows:
    """Rows with values as the columns of a declared table, or those of these names, have them; what is not known is None.

    Raises:
        LookupError: the table is not declared so.
        TypeError: a value is not what the column is declared to be.
    """
    if declared is None:
        columns = [column(name) for name in rows.columns]
    else:
        columns = list(declared.columns)
        found, wanted = list(rows.columns), [c.name for c in columns]
        if sorted(found) != sorted(wanted) and len(found) + len(rows):
            raise LookupError(
                f"{declared.shown_name} has the columns {', '.join(found)}; finops_assets/tables/declarations.py declares"
                f" {', '.join(wanted)}"
            )
    names = [c.name for c in columns]
    return Rows(names, list(zip(*(_as_declared(rows[c.name], c) for c in columns))) if len(rows) else [])


def _as_declared(values: Sequence[Any], declared: Column) -> list[Any]:
    made = _MAKE[declared.kind]
    try:
        return [None if v is None or (isinstance(v, float) and v != v) else made(v) for v in values]
    except (TypeError, ValueError, ArithmeticError) as error:
        raise TypeError(f"column {declared.name} is declared {declared.kind}: {error}") from error


_PLACE = Decimal(1).scaleb(-SCALE)
_EXACT = Context(prec=100)
MOST_DIGITS = 38


def _money(value: object) -> Decimal:
    if not isinstance(value, Decimal | int) or isinstance(value, bool):
        raise TypeError(f"found {value!r}, no decimal")
    with localcontext(_EXACT):
        made = Decimal(value).quantize(_PLACE, ROUND_HALF_EVEN)
    if made.adjusted() >= MOST_DIGITS - SCALE:
        raise ValueError(f"found {value}, which has more than {MOST_DIGITS - SCALE} digits before the point")
    return made


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
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


def _text(value: object) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        raise TypeError(f"found {value!r}, no text")
    return str(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"found {value!r}, neither true nor false")
    return value


_MAKE: Mapping[str, Callable[[Any], object]] = {
    TEXT: _text, MONEY: _money, NUMBER: float, COUNT: _count, FLAG: _flag, DAY: _day, TIME: _time,
}  # fmt: skip
