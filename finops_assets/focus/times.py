"""Times as bills write them -> UTC TIMESTAMP, in SQL.

FOCUS 1.0 to 1.4 (DateTimeFormat) has one form, `YYYY-MM-DDTHH:mm:ssZ`. In the field there are a space for the T, no
seconds, no zone (which is UTC), an hour of one digit, another zone, a date alone, and day, month and year with slashes.
"""

from __future__ import annotations

from typing import Literal

Order = Literal["MDY", "DMY"]

_ISO = r"^\d{4}[-/]\d{1,2}[-/]\d{1,2}"
_SLASHED = r"^(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})(\D.*)?$"


def as_specified(text: str) -> str:
    """SQL: is this text in the form of the specification?"""
    return f"(length({text}) = 20 AND {text} LIKE '____-__-__T__:__:__Z')"


def is_slashed(text: str) -> str:
    """SQL: is this text a date of three numbers with slashes, the year last?"""
    return f"regexp_matches(trim({text}), '{_SLASHED}')"


def slashed_part(text: str, number: int) -> str:
    """SQL: the first (1) or second (2) number of a slashed date."""
    return f"TRY_CAST(regexp_extract(trim({text}), '{_SLASHED}', {number}) AS TINYINT)"


def time_from_text(text: str, order: str | None = None) -> str:
    """SQL: text -> TIMESTAMP in UTC, NULL if it is no time.

    `order` is SQL of the order of slashed dates ('MDY' or 'DMY'; NULL: unknown, they are not read). A year of two digits
    is in this century.
    """
    # Usual shapes are cast as they are, a zone of UTC cut off. Everything else may carry a zone, which a cast to
    # TIMESTAMP would drop: it goes through TIMESTAMPTZ, with patterns that cost 1.5 µs a value.
    usual = (
        f"substr({text}, 5, 1) = '-' AND (length({text}) = 19 AND substr({text}, 17, 1) = ':'"
        f" OR length({text}) >= 20 AND {text} LIKE '%Z')"
    )
    others = "".join(
        f" WHEN {text} LIKE '{shape}' AND TRY_CAST({plain} AS TIMESTAMP) IS NOT NULL THEN TRY_CAST({plain} AS TIMESTAMP)"
        for shape, plain in (
            ("____-__-_____:__Z", f"left({text}, 16) || ':00'"),
            ("____-__-__", text),
            ("____-__-__ __:__:__ UTC", f"left({text}, 19)"),
        )
    )
    iso = f"replace(trim({text}), 'z', 'Z')"
    slashed = ""
    if order is not None:
        slashed = f" WHEN {is_slashed(text)} THEN {_zoned(_year_first(text, order))}"
    # "infinity", "epoch" and years that no calendar has are texts that the engine reads, too.
    return (
        f"CASE WHEN {usual} THEN TRY_CAST({text} AS TIMESTAMP){others}"
        f" WHEN regexp_matches({iso}, '{_ISO}(\\D|$)') THEN {_zoned(iso)}{slashed} END"
    )


def _year_first(text: str, order: str) -> str:
    """SQL: a slashed date as year, month and day."""
    whole = f"regexp_replace(trim({text}), '^(\\d+/\\d+/)(\\d\\d)(\\D|$)', '\\1' || '20' || '\\2\\3')"
    return (
        f"CASE {order} WHEN 'MDY' THEN regexp_replace({whole}, '{_SLASHED}', '\\3-\\1-\\2\\4')"
        f" WHEN 'DMY' THEN regexp_replace({whole}, '{_SLASHED}', '\\3-\\2-\\1\\4') END"
    )


def _zoned(iso: str) -> str:
    """SQL: a text that begins with year, month and day, as UTC."""
    hours = f"regexp_replace({iso}, '^(\\S{{8,10}})[T ]+(\\d):', '\\1 0\\2:')"
    seconds = f"regexp_replace({hours}, '^(\\S{{8,10}}[T ]+\\d{{2}}:\\d{{2}})\\s*(Z|[+-][0-9:]+)?$', '\\1:00\\2')"
    halves = "['%Y-%m-%d %I:%M:%S %p', '%Y-%m-%d %I:%M %p', '%Y-%m-%d %I:%M:%S%p', '%Y-%m-%d %I:%M%p']"
    return (
        f"CASE WHEN regexp_matches({iso}, '[AaPp][Mm]$') THEN try_strptime(replace({hours}, '/', '-'), {halves})"
        f" ELSE CAST(TRY_CAST({seconds} AS TIMESTAMPTZ) AS TIMESTAMP) END"
    )
