"""A file is replaced at once or not at all, and nothing is left beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from finops_assets.base.files import replacing


def test_takes_the_place_of_the_file_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    for text in ("first", "second"):
        with replacing(path) as temporary:
            temporary.write_text(text)
            assert temporary.parent == path.parent
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("first")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("half\ud800", encoding="utf-8")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_what_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(FileExistsError), replacing(tmp_path / "folder" / "report.html"):
        pytest.fail("there is nowhere to write")
