"""Of all files of the repository: in which of them examples in docstrings are looked for."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from _pytest.doctest import DoctestModule


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Examples are in docstrings of the package: to import all of it and look through it takes each process seconds."""
    collectors = yield
    if "finops_assets_tests" not in file_path.parts and ">>>" in file_path.read_text(encoding="utf-8"):
        return collectors
    return [collector for collector in collectors if not isinstance(collector, DoctestModule)]
