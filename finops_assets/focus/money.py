"""Money as DECIMAL(38, 18), from whatever the file holds, without a binary fraction on the way.

Nearly every number is cast by the engine. What a cast would get wrong, more than 18 decimal places, goes
through Python's decimal module: functions that `register` gives to a connection.

A number may be written for people: `$50,000.00 `, `(1,234.50)`, `1.234,50 €`. Which of comma and point is the decimal
one is never guessed from one value: `plain_number` is told.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Literal

import duckdb
from duckdb.func import SPECIAL

DECIMAL = "DECIMAL(38, 18)"
SCALE = 18
Point = Literal[".", ","]
LARGEST_DRIFT = Decimal("0.5e-18")
"""What rounding can move one value by."""

# A number as FOCUS wants it (NumericFormat): digits, a point, an exponent; no sign but the minus.
_PLAIN = r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_SIGN = "([ \u00a0]*[$\u20ac\u00a3\u00a5][ \u00a0]*)?"  # dollar, euro, pound, yen
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


def drift(text: str | None) -> str | None:
    """How far rounding moves a number, as a text of 36 places, the last rounded up; None if it is no number."""
    value = _number(text)
    if value is None:
        return None
    moved = abs(_EXACT.subtract(value, value.quantize(_GRAIN, ROUND_HALF_EVEN, _EXACT)))
    return format(moved.quantize(Decimal("1e-36"), ROUND_CEILING, _EXACT), "f")


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
    connection.create_function("finops_drift", drift, ["VARCHAR"], "VARCHAR", null_handling=SPECIAL)


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


def odd_double(value: str, finely: bool = False) -> str:
    """SQL: does this double need more than `decimal_from_plain_double`, with the same `finely`?"""
    plain = f"({plain_double(value)} OR {plain_double(value, 12)})" if finely else plain_double(value)
    return f"({value} IS NOT NULL AND (isnan({value}) OR NOT {plain}))"


def decimal_from_plain_double(value: str, finely: bool = False) -> str:
    """SQL: a double of at most 15 digits and 9 places, `finely` 12, as DECIMAL(38, 18): exact, and read at once."""
    if not finely:
        return _scaled(value, 9)
    return f"CASE WHEN {plain_double(value)} THEN {_scaled(value, 9)} ELSE {_scaled(value, 12)} END"


def decimal_from_double(value: str) -> str:
    """SQL: double -> the shortest decimal that reads back to it, as DECIMAL(38, 18).

    Plain doubles are scaled as integers; the rest goes through text, where DuckDB prints the shortest
    form, which is 8 times slower.
    """
    return (
        # The engine may take a comparison for granted by the file's least and largest value, which know nothing of NaN.
        f"CASE WHEN isnan({value}) THEN NULL WHEN {plain_double(value)} THEN {_scaled(value, 9)}"
        f" WHEN {plain_double(value, 12)} THEN {_scaled(value, 12)}"
        f" ELSE {decimal_from_text(f'CAST({value} AS VARCHAR)')} END"
    )


def was_too_fine(text: str) -> str:
    """SQL: was this number rounded when it became a DECIMAL(38, 18)?"""
    # The engine looks at both sides of an AND; what a CASE does not ask for costs nothing.
    return f"CASE WHEN {_may_be_fine(text)} THEN finops_too_fine({text}) ELSE false END"


def largest_drift(text: str) -> str:
    """SQL: the largest distance by which rounding moved any of these numbers, as DECIMAL(38, 36)."""
    tail = f"TRY_CAST('0.' || substr({text}, instr({text}, '.') + {SCALE + 1}, {SCALE}) AS DECIMAL(19, {SCALE}))"
    moved = f"least({tail}, 1 - {tail})"
    grain = f"CAST(0.{'0' * (SCALE - 1)}1 AS DECIMAL({SCALE}, {SCALE}))"
    digits = f"regexp_full_match({text}, ' *-?[0-9]*[.][0-9]+')"
    return (
        f"max(CASE WHEN {digits} THEN CAST({moved} AS DECIMAL(19, {SCALE})) * {grain}"
        f" ELSE CAST(finops_drift({text}) AS DECIMAL(38, 36)) END)"
    )


def is_plain(text: str) -> str:
    """SQL: is this text a number as the specification writes it?"""
    return f"regexp_full_match({text}, '{_PLAIN}')"


def plain_number(text: str, point: str) -> str:
    """SQL: a number written for people -> the same as a plain number's text; NULL if it is none.

    Spaces around it, a currency sign before or behind it, one sign or accountants' parentheses, digits in groups of
    three. `point` is SQL of its decimal point: '.' or ','. NULL: unknown, then a number with a comma is not read.
    """
    trimmed = f"replace(trim({text}, ' \t\u00a0\u202f'), '\u2212', '-')"

    def read(point: Point, group: Point | None) -> str:
        whole = rf"(\d+|\d{{1,3}}([{group}]\d{{3}})+)" if group else r"\d+"
        body = rf"({whole}([{point}]\d*)?|[{point}]\d+)"
        forms = rf"[+-]?{_SIGN}{body}{_SIGN}|{_SIGN}[+-]?{body}|\({_SIGN}{body}{_SIGN}\)"
        digits = f"replace(regexp_replace({trimmed}, '[^0-9{point}]', '', 'g'), '{point}', '.')"
        minus = f"CASE WHEN contains({trimmed}, '-') OR starts_with({trimmed}, '(') THEN '-' ELSE '' END"
        return f"CASE WHEN regexp_full_match({trimmed}, '{forms}') THEN {minus} || {digits} END"

    return (
        f"CASE WHEN {point} = ',' THEN {read(',', '.')}"
        f" WHEN {is_plain(f'trim({text})')} THEN trim({text})"
        f" WHEN {point} = '.' THEN {read('.', ',')} ELSE {read('.', None)} END"
    )


def shows_point(text: str, point: Point) -> str:
    """SQL: does this number prove which character is its decimal point?

    A point does that is followed by other than three digits, or that stands behind groups; one with three digits
    behind it alone, as in 1,234, could be either.
    """
    p, o = ("[.]", ",") if point == "." else (",", "[.]")
    proofs = rf"{p}(\d{{0,2}}|\d{{4,}})\D*$|{p}\d+[eE]|{o}\d{{3}}{p}|{o}\d{{3}}{o}\d{{3}}|^\D*0{p}\d"
    return f"regexp_matches({text}, '{proofs}')"


def divided(amount: Decimal, by: Decimal, places: int = SCALE, per: int = 1) -> Decimal:
    """What `per` of `by` have of an amount, at so many decimal places, ties to even.

    >>> divided(Decimal(2), Decimal(3)), divided(Decimal(5), Decimal(2), 0), divided(Decimal(3), Decimal(2_000), 2, 1_000_000)
    (Decimal('0.666666666666666667'), Decimal('2'), Decimal('1500.00'))
    """
    return _EXACT.divide(_EXACT.multiply(amount, per), by).quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN, _EXACT)


def percent(part: Decimal, whole: Decimal) -> float:
    """part of whole in percent; NaN where the whole is not positive."""
    return float(part / whole * 100) if whole > 0 else float("nan")


_UNITS = f"CAST(1{'0' * SCALE} AS DECIMAL({SCALE + 1}, 0))"
_UNIT = f"CAST(0.{'0' * (SCALE - 1)}1 AS DECIMAL({SCALE}, {SCALE}))"


def in_units(amount: str) -> str:
    """SQL: an amount in units of its last place, as an integer. Exact for every DECIMAL(38, 18)."""
    whole = f"trunc({amount})"
    return f"(CAST({whole} AS HUGEINT) * CAST({_UNITS} AS HUGEINT) + CAST(({amount} - {whole}) * {_UNITS} AS HUGEINT))"


def of_units(units: str) -> str:
    """SQL: the amount of so many units."""
    return f"CAST(CAST({units} AS DECIMAL(38, 0)) * {_UNIT} AS {DECIMAL})"
