"""Sums and products of amounts as text, exact, for the few rows whose cost is computed from others.

An amount stays text until `map_column` reads it: there it is rounded, once and counted. A text that is no number
comes back as it is, so that the same reading reports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

import duckdb
from duckdb.func import SPECIAL

from finops_assets.focus.money import SCALE

_EXACT = Context(prec=400)
_GRAIN = Decimal(1).scaleb(-SCALE)


def total(amounts: Sequence[str | None] | None) -> str | None:
    """The sum of what is there; None of nothing. A text that is no number is the answer itself."""
    result: Decimal | None = None
    for text in amounts or ():
        if text is None:
            continue
        value = _number(text)
        if value is None:
            return text
        result = value if result is None else _EXACT.add(result, value)
    return None if result is None else format(result, "f")


def difference(amount: str | None, less: str | None) -> str | None:
    """`amount` - `less`; what is missing is 0, unless both are."""
    if less is None:
        return amount
    value = _number(less)
    return less if value is None else total([amount, format(_EXACT.minus(value), "f")])


def scaled(amount: str | None, factor: str | None, divisor: str | None) -> str | None:
    """`amount` x `factor` / `divisor` at 18 places, half to even; a missing divisor is 1."""
    if amount is None or factor is None:
        return None
    numbers = [_number(text) for text in (amount, factor, divisor or "1")]
    for text, value in zip((amount, factor, divisor or "1"), numbers):
        if value is None or (text == divisor and not value):
            return text
    a, b, c = (n for n in numbers if n is not None)
    return format(_EXACT.divide(_EXACT.multiply(a, b), c).quantize(_GRAIN, ROUND_HALF_EVEN, _EXACT).normalize(), "f")


def _number(text: str) -> Decimal | None:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() and "_" not in text and abs(value.adjusted()) < 100 else None


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a connection what the mappings' SQL calls besides the engine's own functions."""
    connection.create_function("amounts_total", total, ["VARCHAR[]"], "VARCHAR", null_handling=SPECIAL)
    connection.create_function(
        "amounts_difference", difference, ["VARCHAR", "VARCHAR"], "VARCHAR", null_handling=SPECIAL
    )
    connection.create_function(
        "amounts_scaled", scaled, ["VARCHAR", "VARCHAR", "VARCHAR"], "VARCHAR", null_handling=SPECIAL
    )
    for macro in MACROS:
        connection.execute(f"CREATE OR REPLACE TEMP MACRO {macro}")


MACROS = (
    # Exact, and without a call for the rows that have nothing to add.
    "plus(a, b) AS CASE WHEN b IS NULL THEN a WHEN a IS NULL THEN b ELSE amounts_total([a, b]) END",
    "minus(a, b) AS CASE WHEN b IS NULL THEN a ELSE amounts_difference(a, b) END",
    "is_zero(a) AS coalesce(TRY_CAST(a AS DOUBLE), 0) = 0",
    # A date of Azure is 9/30/2023, 30/9/2023 where the file proves it, or an ISO date; what is neither, or of no known
    # order, stays, to be found unreadable.
    "a_date(x, day_first) AS coalesce(CAST(CASE WHEN day_first THEN try_strptime(x, '%d/%m/%Y')"
    " WHEN NOT day_first THEN try_strptime(x, '%m/%d/%Y') END AS VARCHAR),"
    " CAST(CAST(CAST(TRY_CAST(x AS TIMESTAMPTZ) AS TIMESTAMP) AS DATE) AS TIMESTAMP)::VARCHAR, x)",
    "later(x, step) AS coalesce(CAST(TRY_CAST(x AS TIMESTAMP) + step AS VARCHAR), x)",
    # AWS writes the end of some fees as the last second of a month.
    "exclusive_end(x) AS CASE WHEN x LIKE '%23:59:59%'"
    " THEN coalesce(CAST(CAST(TRY_CAST(x AS TIMESTAMPTZ) AS TIMESTAMP) + INTERVAL 1 SECOND AS VARCHAR), x) ELSE x END",
    "month_start(x) AS CAST(date_trunc('month', CAST(TRY_CAST(x AS TIMESTAMPTZ) AS TIMESTAMP)) AS VARCHAR)",
)
