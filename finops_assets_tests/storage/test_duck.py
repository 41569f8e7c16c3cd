"""What the query engine needs of this machine."""

from __future__ import annotations

import resource
from pathlib import Path

import duckdb
import pytest

from finops_assets.base.errors import FinopsError
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage import duck
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


def test_within_lending_an_engine_is_opened_once_and_nobody_sees_what_another_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds, opened = EngineSettings(memory_limit="200 MB"), []
    connect = duck.connect

    def noted(engine: EngineSettings, spill: Path) -> duckdb.DuckDBPyConnection:
        opened.append(connect(engine, spill))
        return opened[-1]

    monkeypatch.setattr(duck, "connect", noted)

    def asked(spill: str) -> tuple[object, ...]:
        with duck.lent(bounds, tmp_path / spill) as connection:
            connection.execute("CREATE TEMP TABLE own AS SELECT 1.5 AS x")
            connection.execute("CREATE TEMP VIEW seen AS FROM own")
            [answer] = connection.execute(
                "SELECT current_setting('TimeZone'), current_setting('temp_directory'), finops_rounded('0.0000000000000000025')"
            ).fetchall()
            return tuple(answer)

    assert asked("a") == asked("a")
    assert len(opened) == 2, "nothing is kept outside"
    with duck.lending():
        for spill in ("a", "b", "c"):
            assert asked(spill) == ("UTC", str(tmp_path / spill), "2E-18")
        assert len(opened) == 3
        with duck.lent(bounds, tmp_path), duck.lent(bounds, tmp_path / "within") as another:
            assert another.execute("SELECT current_setting('temp_directory')").fetchall() == [
                (str(tmp_path / "within"),)
            ]
        assert len(opened) == 4, "one that somebody has is not lent to another"
        with pytest.raises(duckdb.CatalogException), duck.lent(bounds, tmp_path) as connection:
            connection.execute("FROM nowhere")
        asked("d")
        assert len(opened) == 5, "after an error none is lent again"
        with duck.lent(bounds, tmp_path / "spilled") as connection:
            connection.execute("SET memory_limit = '60 MB'")
            connection.execute("CREATE TEMP TABLE large AS SELECT range AS a, hash(range) AS b FROM range(10_000_000)")
            connection.execute("SET memory_limit = '200 MB'")
        assert asked("e")[1] == str(tmp_path / "e")
    for each in opened:
        with pytest.raises(duckdb.Error, match="closed"):
            each.execute("SELECT 1")
