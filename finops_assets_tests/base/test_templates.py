"""Compiled templates are kept beside the program's own compiled modules."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from jinja2 import Environment, FileSystemLoader

from finops_assets.base.templates import KeptTemplates


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    (tmp_path / "page.jinja").write_text("{{ 1 + one }}", encoding="utf-8")
    (tmp_path / "render.py").write_text("", encoding="utf-8")
    return tmp_path


def page(folder: Path) -> str:
    """What a process that has just begun makes of the template."""
    made = Environment(loader=FileSystemLoader(folder), bytecode_cache=KeptTemplates(folder), autoescape=True)
    return made.get_template("page.jinja").render(one=1)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    compiled: list[object] = []
    own = jinja2.Environment.compile

    def compile_template(self: Environment, *given: object, **named: object) -> object:
        compiled.append(given)
        return own(self, *given, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(jinja2.Environment, "compile", compile_template)
    return compiled


def test_a_template_is_compiled_once_until_it_or_what_renders_it_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = counted(monkeypatch)
    assert [page(folder), page(folder), len(compiled)] == ["2", "2", 1]
    (folder / "page.jinja").write_text("{{ 2 + one }}", encoding="utf-8")
    assert [page(folder), len(compiled)] == ["3", 2]
    (folder / "render.py").write_text("# other filters", encoding="utf-8")
    assert [page(folder), len(compiled)] == ["3", 3]


def test_where_it_cannot_be_kept_or_what_is_kept_is_damaged_it_is_compiled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert page(folder) == "2"
    [kept] = (folder / "__pycache__").iterdir()
    kept.write_bytes(kept.read_bytes()[:40])
    compiled = counted(monkeypatch)
    assert [page(folder), len(compiled)] == ["2", 1]
    kept.unlink()
    (folder / "__pycache__").rmdir()
    (folder / "__pycache__").write_bytes(b"no folder")
    assert [page(folder), len(compiled)] == ["2", 2]
