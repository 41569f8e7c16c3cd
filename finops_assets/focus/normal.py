"""How tag keys and values are compared. The written form is kept; these are for matching only."""

from __future__ import annotations

import re
from functools import lru_cache

_SEPARATORS = re.compile(r"[\s\-_.]+")
_USER_PREFIX = "user:"


@lru_cache(65_536)
def normal_key(key: str) -> str:
    """A tag key without case, outer space, `user:` prefix, and the separators space - _ and dot.

    >>> normal_key(" user:Cost-Center ")
    'costcenter'
    """
    key = key.strip().casefold()
    key = key.removeprefix(_USER_PREFIX)
    return _SEPARATORS.sub("", key)


def normal_value(value: str) -> str:
    """A tag value as dimensions carry it: trimmed, lower case.

    >>> normal_value("  Platform ")
    'platform'
    """
    return value.strip().lower()
