"""What is kept of a vendor's answer: the fields that its module names, and nothing else.

An answer may hold what was asked of a model, what the model said, a key. Nobody knows in which field it will stand, so that a field
is kept because it is known, never cut because it is. What a key looks like is taken out of the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from finops_assets.base.secrets import without_keys

ANY = "*"
"""In a path: whatever a field is called; of a table by model or key."""
_WORD = re.compile(r"[a-z]+(_[a-z]+)*|[0-9]{3,6}")
"""What a vendor calls an error: no sentence, no key."""
_Tree = Mapping[str, Any]


def read_json(text: str) -> Any:
    """JSON whose numbers keep their digits.

    Raises:
        ValueError: it is none.
    """
    return json.loads(text, parse_float=Decimal, parse_constant=_no_number)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def kept_of(answer: Any, paths: tuple[str, ...], keys: tuple[str, ...]) -> Any:
    """An answer with the fields of `paths` alone. A path names fields from outside in; lists have no place in it.

    >>> kept_of({"data": [{"day": 1, "prompt": "x"}], "a": {"gpt": {"n": 2, "m": 3}}}, ("data.day", "a.*.n"), ())
    {'data': [{'day': 1}], 'a': {'gpt': {'n': 2}}}
    >>> kept_of({"item": {"prompt": "x"}, "more": [1]}, ("item", "more.x"), ())
    {'item': None, 'more': [None]}
    """

    def kept(value: Any, tree: _Tree) -> Any:
        if isinstance(value, list):
            return [kept(one, tree) for one in value]
        if isinstance(value, dict) != bool(tree):
            return None
        if isinstance(value, dict):
            known = {name: tree.get(name, tree.get(ANY)) for name in value}
            return {_shown(name, keys): kept(value[name], of) for name, of in known.items() if of is not None}
        return _shown(value, keys) if isinstance(value, str) else value

    return kept(answer, _tree(paths))


@cache
def _tree(paths: tuple[str, ...]) -> _Tree:
    tree: dict[str, Any] = {}
    for path in paths:
        below = tree
        for name in path.split("."):
            below = below.setdefault(name, {})
    return tree


def _shown(text: str, keys: tuple[str, ...]) -> str:
    for key in keys:
        text = text.replace(key, "***")
    return without_keys(text)


def as_json(value: Any) -> str:
    """
    >>> as_json(read_json('{"a": [1.10, 1e-7, null, "é"]}'))
    '{"a":[1.10,1E-7,null,"é"]}'
    """
    if isinstance(value, dict):
        return "{" + ",".join(f"{_text(name)}:{as_json(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(as_json(one) for one in value) + "]"
    return str(value) if isinstance(value, Decimal) else _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def error_word(text: str) -> str:
    """What a vendor calls an error, if it is a word of its own; its sentence may quote what was asked, and the key.

    >>> error_word('{"error": {"message": "Incorrect key sk-x", "type": "invalid_request_error", "code": null}}')
    ' (invalid_request_error)'
    >>> error_word('{"error": "tell me"}'), error_word("<html>")
    ('', '')
    """
    try:
        said = json.loads(text)
    except ValueError:
        return ""
    inner = said.get("error") if isinstance(said, dict) else None
    places = [place for place in (inner, said) if isinstance(place, dict)]
    names = ("code", "type", "error_code", "error")
    words = [place.get(name) for place in places for name in names]
    word = next((w for w in words if isinstance(w, str) and len(w) <= 60 and _WORD.fullmatch(w.lower())), None)
    return f" ({word})" if word else ""
