"""Money as DECIMAL(38, 18), from whatever the file holds, without a binary fraction on the way."""

from __future__ import annotations

DECIMAL = "DECIMAL(38, 18)"
SCALE = 18

# Above 18 places only an exact tie needs care: DuckDB rounds ties away from zero, finance to even.
_TIE_TO_KEEP = rf"^[+-]?\d*\.\d{{{SCALE - 1}}}[02468]50*$"
_KEPT = rf"^[+-]?\d*\.\d{{{SCALE}}}"
_TOO_FINE = rf"^[+-]?\d*\.\d{{{SCALE}}}\d*[1-9]\d*$"


def decimal_from_text(text: str) -> str:
    """SQL: text -> DECIMAL(38, 18), NULL if it is no number or too large; ties beyond 18 places to even."""
    return (
        f"CASE WHEN {_long(text)} AND regexp_matches({_plain(text)}, '{_TIE_TO_KEEP}')"
        f" THEN TRY_CAST(regexp_extract({_plain(text)}, '{_KEPT}') AS {DECIMAL})"
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
    return f"({_long(text)} AND regexp_matches({_plain(text)}, '{_TOO_FINE}'))"


def _long(text: str) -> str:
    """SQL: can this text have more than 18 decimal places at all? Cheap, because almost none can."""
    return f"(length({text}) - instr({text}, '.') > {SCALE} OR contains({text}, 'e') OR contains({text}, 'E'))"


def _plain(text: str) -> str:
    """SQL: a number as text without outer space, and without exponent if it is below 10; else as it is.

    With an exponent, a number of 10 or more has more than 18 places only with 20 significant digits.
    """
    return (
        f"CASE WHEN contains({text}, 'e') OR contains({text}, 'E')"
        f" THEN CAST(TRY_CAST({text} AS DECIMAL(38, 37)) AS VARCHAR) ELSE trim({text}) END"
    )
