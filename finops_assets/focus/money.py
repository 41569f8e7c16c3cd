"""Money as DECIMAL(38, 18), from whatever the file holds, without a binary fraction on the way."""

from __future__ import annotations

DECIMAL = "DECIMAL(38, 18)"
SCALE = 18

# Above 18 places only an exact tie needs care: DuckDB rounds ties away from zero, finance to even.
_TIE = rf"^[+-]?\d*\.\d{{{SCALE}}}50*$"
_EVEN_LAST_DIGIT = rf"^[+-]?\d*\.\d{{{SCALE - 1}}}[02468]"
_KEPT = rf"^[+-]?\d*\.\d{{{SCALE}}}"
# Any number with more than 18 places: plain, or with an exponent small enough to need them.
_TOO_FINE = rf"^[+-]?\d*\.\d{{{SCALE}}}\d*[1-9]\d*$"


def decimal_from_text(text: str) -> str:
    """SQL: text -> DECIMAL(38, 18), NULL if it is no number or too large; ties beyond 18 places to even."""
    return (
        f"CASE WHEN length({text}) > {SCALE} AND regexp_matches({text}, '{_TIE}')"
        f" AND regexp_matches({text}, '{_EVEN_LAST_DIGIT}')"
        f" THEN TRY_CAST(regexp_extract({text}, '{_KEPT}') AS {DECIMAL})"
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
        f" ELSE TRY_CAST(CAST({value} AS VARCHAR) AS {DECIMAL}) END"
    )


def too_fine(text: str) -> str:
    """SQL: does this number have more than 18 decimal places, so that it was rounded?"""
    return f"(length({text}) > {SCALE} AND regexp_matches({text}, '{_TOO_FINE}'))"
