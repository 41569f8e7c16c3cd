"""Regular expressions that people write into finops.yaml, matched in time linear in the text, whatever they are (RE2).

Python's own engine tries every way to match: `(a+)+$` on forty characters would not end in a lifetime.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import duckdb


def checked(pattern: str) -> str:
    """The pattern, if it can be used.

    Raises:
        ValueError: it is no regular expression, or one that cannot be matched in linear time.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is not a regular expression ({error})") from error
    try:
        found_in(pattern, [""])
    except ValueError as error:
        raise ValueError(
            f"is not a regular expression that ends in time whatever the text ({str(error).rpartition(': ')[2]});"
            r" look-around, back references, possessive repeats and repeats over 1,000 are not allowed; \Z is written $"
        ) from error
    return pattern


def found_in(pattern: str, texts: Sequence[str]) -> list[bool]:
    """Is it found in each of the texts?"""
    # What reads a finops.yaml without patterns need not load them.
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pc.MatchSubstringOptions(pattern)
    return [
        bool(b) for b in pc.call_function("match_substring_regex", [pa.array(texts, pa.string())], wanted).to_pylist()
    ]


def groups_in(pattern: str, texts: Sequence[str], names: Sequence[str]) -> list[dict[str, str] | None]:
    """Of each text what these groups of the pattern caught, those that it names; None where it is not found."""
    numbers = {name: number for name, number in re.compile(pattern).groupindex.items() if name in names}
    caught = "".join(f", regexp_extract(t, $pattern, {number})" for number in numbers.values())
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT regexp_matches(t, $pattern){caught} FROM unnest($texts) WITH ORDINALITY AS u(t, n) ORDER BY n",
            {"pattern": pattern, "texts": list(texts)},
        ).fetchall()
    return [dict(zip(numbers, row[1:])) if row[0] else None for row in rows]
