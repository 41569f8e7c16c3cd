"""A large delivery is landed by several machines, here processes that share a disk: as by one, also where a part is done twice."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from finops_assets.base.spread import Found, Part
from finops_assets.ingest import slices
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.storage.day_files import raw_relation
from finops_assets.storage.ledger import Generation
from finops_assets_tests.conftest import Site, csv_text
from finops_assets_tests.ingest.test_slices import BY_MONTH, DAYS, charges, in_types

pytestmark = pytest.mark.slow


@dataclass
class Processes:
    """A `Spread`. Of each part the first machine is lost when it is done, and another does it again."""

    pool: ProcessPoolExecutor
    least_bytes: int = 0
    asked: list[str] = field(default_factory=list)

    def __call__(self, work: Callable[[Part], Found], parts: Sequence[Part]) -> list[Found]:
        self.asked.append(getattr(work, "func", work).__name__)
        list(self.pool.map(work, parts))
        return list(self.pool.map(work, parts))


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield Processes(pool)


def parquet(site: Site) -> None:
    rows = charges(90)
    for number in range(3):
        file = site.put(f"2026-09/part-{number}.parquet", b"")
        pq.write_table(in_types(rows[30 * number : 30 * number + 30], number), file, row_group_size=11)


def csv(site: Site) -> None:
    rows = charges(60)
    site.put("2026-09/a.csv", csv_text(rows[:25]))
    site.put("2026-09/b.csv", csv_text(rows[25:]))


def one_csv(site: Site) -> None:
    site.put("2026-09/a.csv", csv_text(charges(20)))


def landed(folder: Path, write: Callable[[Site], None], spread: Processes | None) -> tuple[Generation, list[Any], Any]:
    """The ledger's entry, the raw days, and their rows with their types."""
    site = Site(folder, layout=BY_MONTH)
    write(site)
    p = site.platform
    [entry] = land_source(p.lake, p.settings.engine, site.source, p.settings.first_day, spread=spread)
    assert entry.state == "live", entry.reason
    days = [date.fromisoformat(day) for day in DAYS]
    composed = compose_days(p.lake, p.settings.engine, site.source, days, spread=spread)
    assert list((p.lake.root / ".work").iterdir()) == [], "nothing is left of what was done twice"
    relation = raw_relation(p.lake.day_files("raw", ["bill"], days))
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        types = [column[:2] for column in connection.execute(f"DESCRIBE FROM {relation}").fetchall()]
        rows = connection.execute(f"FROM {relation} ORDER BY source_file, source_row").fetchall()
    return entry, [(day.day, day.totals) for day in composed], (types, rows)


@pytest.mark.parametrize("write", [parquet, csv])
def test_several_machines_land_what_one_lands(
    write: Callable[[Site], None], tmp_path: Path, processes: Processes
) -> None:
    processes.asked.clear()
    ours, days, content = landed(tmp_path / "spread", write, processes)
    assert processes.asked == ["elsewhere", "_of_file_elsewhere", "_days_of_one_file", "_one_day", "_union_elsewhere"]
    theirs, other_days, other_content = landed(tmp_path / "here", write, None)
    assert days == other_days
    assert content == other_content
    assert len(content[1]) == ours.rows == theirs.rows
    assert (ours.days, ours.columns, ours.repairs) == (theirs.days, theirs.columns, theirs.repairs)
    assert [(r.file, r.rule, r.column, r.rows) for r in ours.repaired] == [
        (r.file, r.rule, r.column, r.rows) for r in theirs.repaired
    ]


def test_what_cannot_be_carried_is_written_here(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "_has_types_of_lake", lambda *_: False)
    _, days, content = landed(tmp_path / "spread", parquet, processes)
    monkeypatch.undo()
    _, other_days, other_content = landed(tmp_path / "here", parquet, None)
    assert (days, content) == (other_days, other_content)


def test_what_is_wrong_with_a_file_is_said_as_it_is_here(tmp_path: Path, processes: Processes) -> None:
    def broken(site: Site) -> None:
        parquet(site)
        file = site.exports / "2026-09/part-1.parquet"
        file.write_bytes(file.read_bytes()[:-200])

    said = []
    for name, spread in (("spread", processes), ("here", None)):
        site = Site(tmp_path / name, layout=BY_MONTH)
        broken(site)
        p = site.platform
        [entry] = land_source(p.lake, p.settings.engine, site.source, p.settings.first_day, spread=spread)
        assert entry.state == "refused"
        said.append(entry.reason)
    assert said[0] == said[1]
    assert "part-1.parquet" in str(said[0])


def test_what_is_small_or_of_one_file_stays_here(tmp_path: Path, processes: Processes) -> None:
    processes.asked.clear()
    one = Processes(processes.pool, least_bytes=64 << 20)
    landed(tmp_path / "small", parquet, one)
    assert one.asked == []
    landed(tmp_path / "one", one_csv, processes)
    assert processes.asked == []
