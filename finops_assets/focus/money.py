"""Money as DECIMAL(38, 18), from whatever the file holds, without a binary fraction on the way.

Nearly every number is cast by the engine. What a cast would get wrong, more than 18 decimal places, goes
through Python's decimal module: two functions that `register` gives to a connection.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

import duckdb
from duckdb.func import SPECIAL

DECIMAL = "DECIMAL(38, 18)"
SCALE = 18
_GRAIN = Decimal(1).scaleb(-SCALE)
_EXACT = Context(prec=400)
_LARGEST = Decimal(10) ** (38 - SCALE)


def rounded(text: str | None) -> str | None:
    """A number's text at 18 decimal places, ties to even; None if it is no finite number of 20 whole digits.

    >>> rounded("0.0000000000000000025")
    '2E-18'
    """
    value = _number(text)
    if value is None:
        return None
    result = value.quantize(_GRAIN, ROUND_HALF_EVEN, _EXACT)
    return str(result) if abs(result) < _LARGEST else None


def too_fine(text: str | None) -> bool:
    """Has this number more than 18 decimal places that are not zero, so that landing it rounds it?"""
    value = _number(text)
    return value is not None and abs(value) < _LARGEST and value.quantize(_GRAIN, ROUND_HALF_EVEN, _EXACT) != value


def _number(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    # An exponent beyond any amount of money would only cost time.
    return value if value.is_finite() and "_" not in text and value.adjusted() < 200 else None


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a connection the functions that the SQL below calls."""
    # Without SPECIAL the engine forbids a function to answer NULL, which is what a text that is no number gets.
    connection.create_function("finops_rounded", rounded, ["VARCHAR"], "VARCHAR", null_handling=SPECIAL)
    connection.create_function("finops_too_fine", too_fine, ["VARCHAR"], "BOOLEAN", null_handling=SPECIAL)


def _may_be_fine(text: str) -> str:
    """SQL: can this text have more than 18 decimal places at all? Cheap, because almost none can."""
    return f"(length({text}) - instr({text}, '.') > {SCALE} OR contains({text}, 'e') OR contains({text}, 'E'))"


def decimal_from_text(text: str) -> str:
    """SQL: text -> DECIMAL(38, 18), NULL if it is no number or too large; beyond 18 places to even."""
    return f"TRY_CAST(CASE WHEN {_may_be_fine(text)} THEN finops_rounded({text}) ELSE {text} END AS {DECIMAL})"


def plain_double(value: str, places: int = 9) -> str:
    """SQL: is this double a decimal of at most 15 digits and so many places? Then that is its shortest decimal.

    A decimal of at most 15 significant digits that reads back to a double is the only such one.
    """
    return f"(abs({value}) < 1e{15 - places} AND round({value} * 1e{places}) / 1e{places} = {value})"


def _scaled(value: str, places: int) -> str:
    """SQL: a plain double by integer arithmetic. The types give the product 18 places: nothing is cast again."""
    whole = f"CAST(CAST(round({value} * 1e{places}) AS BIGINT) AS DECIMAL(19, 0))"
    grain = f"CAST(0.{'0' * (places - 1)}1 AS DECIMAL(18, 18))"
    return f"CAST({whole} * {grain} AS {DECIMAL})"


def decimal_from_double(value: str) -> str:
    """SQL: double -> the shortest decimal that reads back to it, as DECIMAL(38, 18).

    Plain doubles are scaled as integers; the rest goes through text, where DuckDB prints the shortest
    form, which is 8 times slower.
    """
    return (
        f"CASE WHEN {plain_double(value)} THEN {_scaled(value, 9)}"
        f" WHEN {plain_double(value, 12)} THEN {_scaled(value, 12)}"
        f" ELSE {decimal_from_text(f'CAST({value} AS VARCHAR)')} END"
    )


def was_too_fine(text: str) -> str:
    """SQL: was this number rounded when it became a DECIMAL(38, 18)?"""
    return f"({_may_be_fine(text)} AND finops_too_fine({text}))"
