"""What a killed process leaves in the lake and beside the published copy goes with the next; what is written stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from finops_assets.base.scratch import beside, drop_abandoned, scratch_name
from finops_assets.storage.lake import Lake

LEAVES = """
import os, sys
from pathlib import Path
from finops_assets.storage.lake import Lake
lake = Lake(Path(sys.argv[1]))
with lake.workspace() as workspace, lake.replacing(lake.record("s", "one")) as temporary:
    (workspace / "big").write_text("x")
    temporary.write_text("{}")
    print(workspace, temporary, flush=True)
    sys.stdin.read()
    os._exit(9)
"""


AtWork = tuple[subprocess.Popen[str], Path, Path]


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[AtWork]:
    """A process in the middle of its work on a lake, its workspace and its temporary file."""
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVES, str(tmp_path / "lake")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    workspace, temporary = map(Path, process.stdout.readline().split())
    yield process, workspace, temporary
    process.kill()
    process.communicate()


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(at_work: AtWork, tmp_path: Path) -> None:
    process, workspace, temporary = at_work
    lake = Lake(tmp_path / "lake")
    drop_abandoned(workspace.parent)
    drop_abandoned(temporary.parent, ".tmp-*")
    assert (workspace / "big").exists()
    assert temporary.exists()
    process.kill()
    process.wait()
    with lake.workspace() as own:
        assert [*own.parent.iterdir()] == [own]
    lake.write_record({}, "s", "two")
    assert [path.name for path in temporary.parent.iterdir()] == ["two.json"]


def test_scratch_of_another_host_goes_a_day_later_and_strange_files_stay(tmp_path: Path) -> None:
    elsewhere, old, strange = (
        tmp_path / name for name in (".tmp-1.2.abcdef-0-f.duckdb", ".tmp-x-f.duckdb.wal", ".tmp-y-other.duckdb")
    )
    for file in (elsewhere, old, strange):
        file.touch()
    os.utime(old, (0, 0))
    os.utime(strange, (0, 0))
    named = beside(tmp_path / "f.duckdb")
    assert (elsewhere.exists(), old.exists(), strange.exists()) == (True, False, True)
    assert named.name.endswith("-f.duckdb")
    assert scratch_name() != scratch_name()
