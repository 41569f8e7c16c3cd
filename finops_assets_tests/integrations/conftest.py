"""What the tests of other people's tools share: a published copy, made once for a file of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from finops_assets_tests.published import published_with_reports

# Of the environments of dlt and Superset: nothing of them can be imported here.
collect_ignore = ["dlt_load.py", "superset_config.py", "superset_look.py"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published copy of a platform with two currencies, and a day of a source that a gate holds."""
    return published_with_reports(tmp_path_factory.mktemp("published")).settings.published
