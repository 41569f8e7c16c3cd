"""docs/architecture.md says what the code is."""

from __future__ import annotations

import re

from finops_assets_tests.places import PROJECT
from tools.architecture import PACKAGE, PAGE, layers, with_picture


def test_the_picture_is_made_from_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_picture(text) == text, "run: python -m tools.architecture"


def test_every_room_is_told_of_and_every_file_that_a_walk_passes_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for room in (room for layer in layers() for room in layer):
        assert re.search(rf"^\| `{room}(/|\.py)`", text, re.MULTILINE), room
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (PROJECT / PACKAGE / name).is_file()] == []
