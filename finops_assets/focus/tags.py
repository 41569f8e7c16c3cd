"""Tag sets in one canonical form, whatever the provider's encoding was."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

TagValue = str | int | float | bool | None


Tags = tuple[Mapping[str, TagValue], Mapping[str, TagValue]]
"""AllocatedTags, which come first, and Tags."""

NO_TAGS = frozenset({"", "-", "--", "none", "null", "n/a", "na", "nan", "nil"})
"""How bills write, quoted or not, in any case, that a row has no tags."""


@dataclass(frozen=True)
class CanonicalTags:
    """A tag set as the lake holds it. `tags` is None for no tags; `problem` says why a text is not a tag set."""

    tags: dict[str, TagValue] | None
    duplicates: int = 0
    problem: str | None = None
    nested: int = 0
    """Values that were objects or lists; each is kept as its JSON text."""

    @property
    def json(self) -> str | None:
        return None if self.tags is None else canonical_json(self.tags)


# Made once: json.loads and json.dumps make a new one for each set.
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def canonical_json(tags: dict[str, TagValue]) -> str:
    """A JSON object with sorted keys and no spaces."""
    texts: dict[str, Any] = tags
    try:
        # Text by text, as nearly all are: an encoder of objects is made anew for each of them.
        pairs = [f"{encode_basestring(k)}:{encode_basestring(v)}" for k, v in sorted(texts.items())]
        return "{" + ",".join(pairs) + "}"
    except TypeError:  # a value that is no text
        return _CANONICAL.encode(tags)


def canonical_tags(text: str | None) -> CanonicalTags:
    """Parse one tag set.

    Takes a JSON object (FOCUS 1.0 and later, Tags), the same without its braces (Azure's native
    exports), and a JSON list of {key, value} objects (Google). Of a key that stands twice the last
    value counts, and the repetition is counted. An empty object is no tags, and so is what `NO_TAGS` lists.
    A value that is an object or a list, which FOCUS forbids, stays as its JSON text: the other keys count.
    """
    text = (text or "").strip()
    if not text.startswith("{") and text.strip("\"' ").casefold() in NO_TAGS:
        return CanonicalTags(None)
    if text.startswith('"'):
        text = "{" + text + "}"
    try:
        parsed = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        return CanonicalTags(None, problem=f"is not JSON: {error}")
    if parsed is None:
        return CanonicalTags(None)
    repeated = 0
    if isinstance(parsed, list):
        entries: dict[str, Any] = {}
        for item in parsed:
            folded = {k.casefold(): v for k, v in item.items()} if isinstance(item, dict) else {}
            if "key" not in folded:
                return CanonicalTags(None, problem="is a list whose items are not {key, value} objects")
            repeated += item.repeated + (str(folded["key"]) in entries)
            entries[str(folded["key"])] = folded.get("value")
        parsed = entries
    elif isinstance(parsed, _Object):
        repeated = parsed.repeated
    if not isinstance(parsed, dict):
        return CanonicalTags(None, problem=f"is JSON, but {type(parsed).__name__}, not an object of keys and values")
    nested = {k: _CANONICAL.encode(v) for k, v in parsed.items() if isinstance(v, (dict, list))}
    parsed = {**parsed, **nested}
    if not text.isascii() or "\\u" in text:
        parsed = {_whole(k): _whole(v) for k, v in parsed.items()}
    return CanonicalTags(parsed or None, repeated, nested=len(nested))


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text} is too large")
    return value


class _Object(dict[str, Any]):
    """A JSON object, in which the last of equal keys counts."""

    repeated: int


def _object(items: list[tuple[str, Any]]) -> _Object:
    read = _Object(items)
    read.repeated = len(items) - len(read)
    return read


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite)


def _whole(value: Any) -> Any:
    """Text without half of a surrogate pair, which a cut-off emoji leaves behind and no file can hold."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def tag_set_id(tags: str | None, allocated_tags: str | None) -> str:
    """The id of a canonical tag set: 128 bits of SHA-256 over both parts, as 32 hex digits."""
    # As json.dumps writes a list of both.
    pair = ", ".join(["null" if part is None else encode_basestring_ascii(part) for part in (allocated_tags, tags)])
    digest = hashlib.sha256(f"[{pair}]".encode())
    return digest.hexdigest()[:32]
