"""What the query engine needs of this machine."""

from __future__ import annotations

import resource

import pytest

from finops_assets.base.errors import FinopsError
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.duck import require_address_space


@pytest.mark.parametrize(
    ("budget", "limit", "needs"),
    [("800 MB", 2 << 30, "2.4 GB"), ("1.5GB", 3 * 10**9, "3.1 GB"), ("800MB", 3 << 30, ""), ("8GB", -1, "")],
)
def test_too_little_address_space_is_told_before_libraries_crash(
    monkeypatch: pytest.MonkeyPatch, budget: str, limit: int, needs: str
) -> None:
    monkeypatch.setattr(resource, "getrlimit", {resource.RLIMIT_AS: (limit, limit)}.get)
    engine = EngineSettings(memory_limit=budget)
    if not needs:
        require_address_space(engine)
        return
    with pytest.raises(FinopsError, match=f"{limit / 1e9:.1f} GB of address space, and needs {needs}"):
        require_address_space(engine)
