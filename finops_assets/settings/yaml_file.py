"""YAML with line numbers, in which dates and times stay text and no key stands twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import yaml


class Loader(yaml.SafeLoader):
    """YAML in which dates and times stay text.

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


def dotted(loc: tuple[str | int, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(file)"


def line_of(lines: Mapping[tuple[str | int, ...], int], loc: tuple[str | int, ...]) -> int | None:
    while loc and loc not in lines:
        loc = loc[:-1]
    return lines.get(loc)


def lines_of(node: yaml.Node | None, loc: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*loc, key.value), key.start_mark.line + 1
            yield from lines_of(value, (*loc, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield (*loc, i), value.start_mark.line + 1
            yield from lines_of(value, (*loc, i))


def duplicate_keys(node: yaml.Node | None, loc: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """YAML lets the last of two equal keys win in silence; here that is a mistake."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield (*loc, key.value), f"the key {key.value!r} stands twice; keep one"
            seen.add(key.value)
            yield from duplicate_keys(value, (*loc, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from duplicate_keys(value, (*loc, i))
