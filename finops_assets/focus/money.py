"""Money as DECIMAL(38, 18), from whatever the file holds, without a binary fraction on the way."""

from __future__ import annotations

DECIMAL = "DECIMAL(38, 18)"
SCALE = 18

# Above 18 places only an exact tie needs care: DuckDB rounds ties away from zero, finance to even.
_TIE = rf"^[+-]?\d*\.\d{{{SCALE}}}50*$"
_EVEN_LAST_DIGIT = rf"^[+-]?\d*\.\d{{{SCALE - 1}}}[02468]"
_KEPT = rf"^[+-]?\d*\.\d{{{SCALE}}}"
_TOO_FINE = rf"^[+-]?\d*\.\d{{{SCALE}}}\d*[1-9]\d*$"
_EXPONENT = r"^([+-]?)(\d*)\.?(\d*)[eE]([+-]?\d{1,3})$"


def plain(text: str) -> str:
    """SQL: a number as text without outer space and without exponent; anything else as it is."""
    sign, whole, fraction, exponent = (f"regexp_extract({text}, '{_EXPONENT}', {group})" for group in (1, 2, 3, 4))
    digits, point = f"({whole} || {fraction})", f"(length({whole}) + CAST({exponent} AS INTEGER))"
    return (
        f"CASE WHEN NOT (contains({text}, 'e') OR contains({text}, 'E')) THEN trim({text})"
        f" WHEN NOT regexp_matches({text}, '{_EXPONENT}') THEN {text}"
        f" WHEN {point} <= 0 THEN {sign} || '0.' || repeat('0', -{point}) || {digits}"
        f" WHEN {point} >= length({digits}) THEN {sign} || {digits} || repeat('0', {point} - length({digits}))"
        f" ELSE {sign} || substr({digits}, 1, {point}) || '.' || substr({digits}, {point} + 1) END"
    )


def decimal_from_text(text: str) -> str:
    """SQL: text -> DECIMAL(38, 18), NULL if it is no number or too large; ties beyond 18 places to even."""
    number = plain(text)
    return (
        f"CASE WHEN {_long(text)} AND regexp_matches({number}, '{_TIE}')"
        f" AND regexp_matches({number}, '{_EVEN_LAST_DIGIT}')"
        f" THEN TRY_CAST(regexp_extract({number}, '{_KEPT}') AS {DECIMAL})"
        f" WHEN {_long(text)} THEN TRY_CAST({number} AS {DECIMAL})"
        f" ELSE TRY_CAST({text} AS {DECIMAL}) END"
    )


def decimal_from_double(value: str) -> str:
    """SQL: double -> the shortest decimal that reads back to it, as DECIMAL(38, 18).

    A decimal of at most 15 significant digits that reads back to a double is the only such one, so
    when rounding to 9 places gives the same double and fits 15 digits, that is the shortest decimal.
    Everything else goes through text, where DuckDB prints the shortest form; that is 8 times slower.
    """
    return (
        f"CASE WHEN abs({value}) < 1e6 AND round({value} * 1e9) / 1e9 = {value}"
        f" THEN CAST(CAST(CAST(CAST(round({value} * 1e9) AS BIGINT) AS DECIMAL(19, 0))"
        f" * CAST(0.000000001 AS DECIMAL(9, 9)) AS DECIMAL(28, 9)) AS {DECIMAL})"
        # 17 digits reach beyond 18 places only below 0.01.
        f" WHEN abs({value}) < 1e-2 THEN {decimal_from_text(f'CAST({value} AS VARCHAR)')}"
        f" ELSE TRY_CAST(CAST({value} AS VARCHAR) AS {DECIMAL}) END"
    )


def too_fine(text: str) -> str:
    """SQL: does this number have more than 18 decimal places, so that it was rounded?"""
    return f"({_long(text)} AND regexp_matches({plain(text)}, '{_TOO_FINE}'))"


def _long(text: str) -> str:
    """SQL: can this text have more than 18 decimal places at all? Cheap, because almost none can."""
    return f"(length({text}) - instr({text}, '.') > {SCALE} OR contains({text}, 'e') OR contains({text}, 'E'))"
