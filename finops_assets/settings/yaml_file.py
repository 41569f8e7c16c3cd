"""YAML with line numbers, in which dates and times stay text and no key stands twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

Place = tuple[str | int, ...]


class Loader(yaml.CSafeLoader):
    """YAML in which dates and times stay text, parsed by libyaml, which takes a sixth of what Python does.

    YAML's own dates end in a bare ValueError where they do not exist, and its 10:30 is the number 630.
    """


_CLOCK = r"(?![0-9_]+:)"
Loader.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile(_CLOCK + pattern.pattern, pattern.flags))
        for tag, pattern in resolvers
        if tag != "tag:yaml.org,2002:timestamp"
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Document:
    """A YAML text, read once: what it holds, the line of each place, and the keys that stand twice."""

    content: Any
    lines: Mapping[Place, int]
    twice: list[tuple[Place, str]]


def read_document(text: str) -> Document:
    """Raises yaml.YAMLError where the text is none."""
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        # Before it is constructed: that puts the keys which a mapping takes over from another among its own.
        lines, twice = dict(_lines_of(node, ())), list(_duplicate_keys(node, ()))
        return Document(None if node is None else loader.construct_document(node), lines, twice)
    finally:
        loader.dispose()


def dotted(loc: Place) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(file)"


def line_of(lines: Mapping[Place, int], loc: Place) -> int | None:
    while loc and loc not in lines:
        loc = loc[:-1]
    return lines.get(loc)


def _lines_of(node: yaml.Node | None, loc: Place) -> Iterator[tuple[Place, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in _named(node):
            yield (*loc, key.value), key.start_mark.line + 1
            yield from _lines_of(value, (*loc, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield (*loc, i), value.start_mark.line + 1
            yield from _lines_of(value, (*loc, i))


def _duplicate_keys(node: yaml.Node | None, loc: Place) -> Iterator[tuple[Place, str]]:
    """YAML lets the last of two equal keys win in silence; here that is a mistake."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in _named(node):
            if key.value in seen:
                yield (*loc, key.value), f"the key {key.value!r} stands twice; keep one"
            seen.add(key.value)
            yield from _duplicate_keys(value, (*loc, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _duplicate_keys(value, (*loc, i))


def _named(node: yaml.MappingNode) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """Its entries whose key is a word; others are refused where they are constructed."""
    return ((key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))
