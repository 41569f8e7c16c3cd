"""The warehouse and its published copy: readers never stop the pipeline, the pipeline never stops readers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finops_assets.base.errors import WaitedTooLong
from finops_assets.storage.lake import Lake
from finops_assets.storage.published_facts import PublishedFacts
from finops_assets.storage.warehouse import ROLLED_UP, Warehouse, facts_folder, kept_open
from finops_assets.tables import ddl
from finops_assets.tables.declarations import Table

T = "sparse_groups"
DAY, OTHER = date(2026, 9, 1), date(2026, 9, 2)
HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def warehouse_at(root: Path) -> Warehouse:
    warehouse = Warehouse(root / "warehouse.duckdb", root / "published.duckdb")
    with warehouse.writing() as connection, warehouse.transaction(connection):
        warehouse.replace_days(connection, T, [DAY], f"SELECT DATE '{DAY}' AS charge_date, 1 AS resources")
    return warehouse


def rows(warehouse: Warehouse) -> list[tuple[object, ...]]:
    with warehouse.reading() as connection:
        return connection.execute(f"SELECT charge_date, resources FROM {T} ORDER BY ALL").fetchall()


def hold(path: Path) -> subprocess.Popen[str]:
    """Another process that has the file open until its standard input closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def let_go(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=20)


def others_can_open(path: Path) -> bool:
    tried = [sys.executable, "-c", HOLD, str(path)]
    ended = subprocess.run(tried, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0 or "Conflicting lock" in ended.stderr, ended.stderr
    return ended.returncode == 0


def test_a_run_keeps_open_what_it_has_opened_until_it_lets_go(tmp_path: Path) -> None:
    warehouse = warehouse_at(tmp_path)
    with kept_open() as close:
        assert others_can_open(warehouse.path), "it was not opened yet"
        assert rows(warehouse) == [(DAY, 1)]
        assert not others_can_open(warehouse.path)
        close()
        assert others_can_open(warehouse.path)
        assert rows(Warehouse(warehouse.path, warehouse.published)) == [(DAY, 1)]
        assert not others_can_open(warehouse.path)
    assert others_can_open(warehouse.path)


def test_a_copy_that_fails_leaves_a_warehouse_that_is_kept_open_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, lake = warehouse_at(tmp_path), Lake(tmp_path / "lake")

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with kept_open():
        with monkeypatch.context() as patched:
            patched.setattr(ddl, "comment", fails)
            with pytest.raises(OSError, match="no space"):
                warehouse.publish(lake)
        assert not warehouse.published.exists()
        assert rows(warehouse) == [(DAY, 1)]
        warehouse.publish(lake)
    assert warehouse.is_published()


def schema_of(copy: Path) -> list[tuple[object, ...]]:
    """Every table, view and column of a copy, with what is said of it."""
    with duckdb.connect(str(copy), read_only=True) as connection:
        return connection.execute(
            "SELECT table_name, sql, comment FROM duckdb_tables() UNION ALL"
            " SELECT view_name, sql, comment FROM duckdb_views() WHERE NOT internal UNION ALL"
            " SELECT table_name, column_name || ' ' || data_type, comment FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
        ).fetchall()


def test_a_copy_takes_its_empty_tables_from_the_one_before_unless_they_would_be_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, lake = warehouse_at(tmp_path), Lake(tmp_path / "lake")
    with warehouse.writing() as connection:
        connection.execute(f"CREATE VIEW daily_cost_by_cost_center AS SELECT charge_date, resources FROM {T}")
    made: list[str] = []
    comment = ddl.comment

    def noted(connection: duckdb.DuckDBPyConnection, declared: Table, database: str) -> None:
        made.append(declared.name)
        comment(connection, declared, database)

    monkeypatch.setattr(ddl, "comment", noted)
    warehouse.publish(lake)
    assert made == [T, "daily_cost_by_cost_center"]
    first = schema_of(warehouse.published)
    assert any(row[1] == "resources BIGINT" and row[2] for row in first)
    made.clear()
    with warehouse.writing() as connection:
        connection.execute(f"INSERT INTO {T} BY NAME SELECT DATE '{OTHER}' AS charge_date, 7 AS resources")
    warehouse.publish(lake)
    assert not made
    assert schema_of(warehouse.published) == first
    with duckdb.connect(str(warehouse.published), read_only=True) as connection:
        assert connection.execute(f"SELECT resources FROM {T} ORDER BY ALL").fetchall() == [(1,), (7,)]
    with duckdb.connect(str(warehouse.published)) as connection:
        connection.execute(f"ALTER TABLE {T} DROP COLUMN resources")
    warehouse.publish(lake)
    assert len(made) == 2, "somebody had a hand in it"
    assert schema_of(warehouse.published) == first
    made.clear()
    with warehouse.writing() as connection:
        connection.execute(f"CREATE OR REPLACE VIEW daily_cost_by_cost_center AS SELECT charge_date FROM {T}")
    warehouse.publish(lake)
    assert len(made) == 2
    warehouse.published.write_bytes(b"no database")
    warehouse.publish(lake)
    assert len(made) == 4


def test_days_are_replaced_as_a_whole(tmp_path: Path) -> None:
    warehouse = warehouse_at(tmp_path)
    with warehouse.writing() as connection:
        query = f"SELECT DATE '{OTHER}' AS charge_date, n AS resources FROM (VALUES (2), (3)) v(n)"
        warehouse.replace_days(connection, T, [OTHER], query)
        warehouse.replace_days(connection, T, [DAY], None)
    assert rows(warehouse) == [(OTHER, 2), (OTHER, 3)]


def test_a_failed_replacement_leaves_the_day_as_it_was(tmp_path: Path) -> None:
    warehouse = warehouse_at(tmp_path)
    with warehouse.writing() as connection, pytest.raises(duckdb.Error), warehouse.transaction(connection):
        warehouse.replace_days(connection, T, [DAY], f"SELECT DATE '{DAY}' AS charge_date, 'x' AS resources")
    assert rows(warehouse) == [(DAY, 1)]


def test_a_second_writer_waits_its_turn(tmp_path: Path) -> None:
    warehouse = warehouse_at(tmp_path)
    other = hold(warehouse.path)
    release = threading.Timer(0.3, let_go, [other])
    release.start()
    assert rows(warehouse) == [(DAY, 1)]
    release.join()


def test_a_writer_that_waits_too_long_says_who_reads_what(tmp_path: Path) -> None:
    warehouse_at(tmp_path)
    warehouse = Warehouse(tmp_path / "warehouse.duckdb", tmp_path / "published.duckdb", wait_minutes=0)
    other = hold(warehouse.path)
    with pytest.raises(WaitedTooLong, match=r"published\.duckdb"):
        rows(warehouse)
    let_go(other)


def test_a_reader_may_hold_the_published_copy_for_ever(tmp_path: Path) -> None:
    warehouse, lake = warehouse_at(tmp_path), Lake(tmp_path / "lake")
    warehouse.publish(lake)
    reader = hold(warehouse.published)
    with duckdb.connect(str(tmp_path / "own.duckdb")):
        warehouse.publish(lake)
    with warehouse.writing() as connection:
        warehouse.replace_days(connection, T, [DAY], f"SELECT DATE '{DAY}' AS charge_date, 7 AS resources")
    warehouse.publish(lake)
    let_go(reader)
    with duckdb.connect(str(warehouse.published), read_only=True) as connection:
        assert connection.execute(f"SELECT resources FROM {T}").fetchall() == [(7,)]
    assert not list(tmp_path.glob(".tmp-*"))


def test_the_published_copy_is_in_the_storage_of_duckdb_1(tmp_path: Path) -> None:
    """The storage version stands in the file's header: 64 is that of DuckDB 0.9 to 1.1, which all later ones read."""
    warehouse = warehouse_at(tmp_path)
    warehouse.publish(Lake(tmp_path / "lake"))
    header = warehouse.published.read_bytes()[8:20]
    assert header[:4] == b"DUCK"
    assert int.from_bytes(header[4:12], "little") == 64


def facts_of(lake: Lake, day: date, stamp: str, columns: str) -> Path:
    """A facts file of the source aws, as `build_facts` puts one in place."""
    file = lake.day_file("facts", "aws", day)
    with lake.replacing(file) as temporary:
        key = f"KV_METADATA {{finops_stamp: '{stamp}'}}"
        duckdb.sql(f"COPY (SELECT {columns}) TO '{temporary}' (FORMAT parquet, {key})")
    return file


def rolled_up(warehouse: Warehouse, day: date, stamp: str, cost: int) -> None:
    """The rollup of a day, built from the facts of this stamp."""
    with warehouse.writing() as connection, warehouse.transaction(connection):
        rollup = f"SELECT DATE '{day}' AS charge_date, {cost} AS effective_cost"
        warehouse.replace_days(connection, "daily_cost_by_team", [day], rollup)
        built = f"SELECT DATE '{day}' AS charge_date, 'aws' AS source, '{stamp}' AS stamp"
        warehouse.replace_days(connection, ROLLED_UP, [day], built)


def asked(warehouse: Warehouse, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(warehouse.published), read_only=True) as connection:
        return connection.execute(query).fetchall()


BOTH = "SELECT (SELECT sum(effective_cost) FROM daily_cost_by_team), (SELECT sum(EffectiveCost) FROM cloud_cost_facts)"


def test_the_view_over_facts_opens_what_it_reads_and_shows_every_column(tmp_path: Path) -> None:
    warehouse, lake = Warehouse(tmp_path / "w.duckdb", tmp_path / "p.duckdb"), Lake(tmp_path / "lake")
    first, second, third = (date(2026, 9, n) for n in (1, 2, 3))

    def put(day: date, stamp: str, columns: str) -> None:
        facts_of(lake, day, stamp, columns)
        rolled_up(warehouse, day, stamp, 0)

    def published(query: str) -> list[tuple[object, ...]]:
        warehouse.publish(lake)
        assert warehouse.is_published()
        return asked(warehouse, query)

    text = "SELECT sql FROM duckdb_views() WHERE view_name = 'cloud_cost_facts'"
    put(first, "a", "1 AS EffectiveCost, 'ios' AS team")
    put(second, "b", "2 AS EffectiveCost, 'web' AS team")
    assert "union_by_name" not in str(published(text)[0][0])
    plan = asked(
        warehouse, f"EXPLAIN ANALYZE SELECT sum(EffectiveCost) FROM cloud_cost_facts WHERE charge_date = '{second}'"
    )
    assert "Total Files Read: 1 " in str(plan)
    # A day attributed under rules with another dimension.
    put(third, "c", "4 AS EffectiveCost, 'web' AS team, 'emea' AS region")
    everything = "SELECT sum(EffectiveCost), count(team), count(region) FROM cloud_cost_facts"
    assert published(everything) == [(7, 3, 1)]
    # The other days follow, or go.
    put(first, "d", "1 AS EffectiveCost, 'ios' AS team, 'apac' AS region")
    lake.remove(lake.day_file("facts", "aws", second))
    assert published(everything) == [(5, 2, 2)]
    assert "union_by_name" not in str(published(text)[0][0])


def test_a_published_copy_is_of_one_moment_whatever_the_lake_becomes(tmp_path: Path) -> None:
    warehouse, lake = Warehouse(tmp_path / "w.duckdb", tmp_path / "p.duckdb"), Lake(tmp_path / "lake")
    facts_of(lake, DAY, "a", "1 AS EffectiveCost")
    rolled_up(warehouse, DAY, "a", 1)
    warehouse.publish(lake)
    # Facts are built anew, of this day and of one more, and the run is killed before the rollup.
    facts_of(lake, DAY, "b", "2 AS EffectiveCost")
    facts_of(lake, OTHER, "c", "40 AS EffectiveCost")
    assert asked(warehouse, BOTH) == [(1, 1)]
    # Published again, or a gate holds the day: what was published of it stands, what never was is missing.
    warehouse.publish(lake)
    assert asked(warehouse, BOTH) == [(1, 1)]
    # The rollup is killed after it has been written, before publishing.
    rolled_up(warehouse, DAY, "b", 2)
    assert asked(warehouse, BOTH) == [(1, 1)]
    warehouse.publish(lake)
    assert asked(warehouse, BOTH) == [(2, 2)]


def test_days_rolled_up_before_that_was_recorded_are_published_as_they_lie(tmp_path: Path) -> None:
    warehouse, lake = Warehouse(tmp_path / "w.duckdb", tmp_path / "p.duckdb"), Lake(tmp_path / "lake")
    for day, cost in ((DAY, 1), (OTHER, 2)):
        facts_of(lake, day, f"{day}", f"{cost} AS EffectiveCost")
        with warehouse.writing() as connection:
            rollup = f"SELECT DATE '{day}' AS charge_date, {cost} AS effective_cost"
            warehouse.replace_days(connection, "daily_cost_by_team", [day], rollup)
    warehouse.publish(lake)
    assert asked(warehouse, BOTH) == [(3, 3)]
    rolled_up(warehouse, OTHER, "held by now", 2)
    facts_of(lake, DAY, "x", "5 AS EffectiveCost")
    warehouse.publish(lake)
    assert asked(warehouse, "SELECT charge_date, EffectiveCost FROM cloud_cost_facts") == [(DAY, 5)]


@pytest.mark.long
def test_a_kill_at_any_point_of_publishing_leaves_the_old_or_the_new_copy(tmp_path: Path) -> None:
    """A child process ends without a word at its n-th link or rename, for every n that there is."""
    warehouse, lake = Warehouse(tmp_path / "w.duckdb", tmp_path / "p.duckdb"), Lake(tmp_path / "lake")
    seen, cost, points = set(), 1, 0
    facts_of(lake, DAY, "1", "1 AS EffectiveCost")
    rolled_up(warehouse, DAY, "1", 1)
    warehouse.publish(lake)
    for point in range(1, 100):
        before, cost = cost, cost + 1
        facts_of(lake, DAY, str(cost), f"{cost} AS EffectiveCost")
        rolled_up(warehouse, DAY, str(cost), cost)
        ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(point)], check=False, timeout=60)
        assert ended.returncode in (0, 9)
        [(rollup, facts)] = asked(warehouse, BOTH)
        assert rollup == facts
        assert rollup in (before, cost)
        seen.add(rollup == cost)
        # The next one is whole whatever was left.
        warehouse.publish(lake)
        assert asked(warehouse, BOTH) == [(cost, cost)]
        points = point
        if ended.returncode == 0:
            break
    assert seen == {True, False}
    assert 4 < points < 99


KILLED = """
import os, sys
from pathlib import Path
from finops_assets.storage.lake import Lake
from finops_assets.storage.published_facts import PublishedFacts
from finops_assets.storage.warehouse import ROLLED_UP, Warehouse, facts_folder
root, left = Path(sys.argv[1]), int(sys.argv[2])

def counted(real):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os._exit(9)
        return real(*args, **kwargs)
    return call

for name in ("link", "replace", "utime"):
    setattr(os, name, counted(getattr(os, name)))
Warehouse(root / "w.duckdb", root / "p.duckdb").publish(Lake(root / "lake"))
"""


def test_what_a_reader_may_still_hold_stays_for_a_day(tmp_path: Path) -> None:
    warehouse, lake = Warehouse(tmp_path / "w.duckdb", tmp_path / "p.duckdb"), Lake(tmp_path / "lake")
    facts, pinned = PublishedFacts(facts_folder(warehouse.published)), []
    start = datetime(2026, 9, 3, 12, tzinfo=UTC)
    for hour, stamp in enumerate("abc"):
        facts_of(lake, DAY, stamp, "1 AS EffectiveCost")
        files = facts.pin(lake, {("aws", DAY): stamp}, [])
        pinned += files
        note = facts.enter(files, start + timedelta(hours=hour))
        facts.let_go(note, start + timedelta(hours=hour))
    assert [file.is_file() for file in pinned] == [True, True, True]
    # "a" was replaced at 13:00, "b" at 14:00; nothing replaced "c".
    for now, there in (("04 12:59", [True] * 3), ("04 13:01", [False, True, True]), ("09 12:00", [False, False, True])):
        same = facts.enter(files, moment := datetime.strptime(f"2026-09-{now} +0000", "%Y-%m-%d %H:%M %z"))
        assert same == note
        facts.let_go(note, moment)
        assert [file.is_file() for file in pinned] == there
    assert len(list(facts.folder.rglob("*.json"))) == 1


def test_where_no_link_is_possible_the_facts_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    warehouse, lake = Warehouse(tmp_path / "w.duckdb", tmp_path / "p.duckdb"), Lake(tmp_path / "lake")
    file = facts_of(lake, DAY, "a", "1 AS EffectiveCost")
    rolled_up(warehouse, DAY, "a", 1)
    warehouse.publish(lake)
    file.write_bytes(b"")
    assert asked(warehouse, BOTH) == [(1, 1)]


@pytest.mark.parametrize("folder", ["bills [2026]*", "it's"])
def test_the_facts_are_found_whatever_the_folders_above_are_called(tmp_path: Path, folder: str) -> None:
    root = tmp_path / folder
    warehouse, lake = Warehouse(root / "w.duckdb", root / "p.duckdb"), Lake(root / "lake")
    with lake.replacing(lake.day_file("facts", "aws", DAY)) as temporary:
        held = pa.table({"EffectiveCost": [1], "team": ["web"]}).replace_schema_metadata({"finops_stamp": "a"})
        pq.write_table(held, temporary)
    rolled_up(warehouse, DAY, "a", 1)
    warehouse.publish(lake)
    assert asked(warehouse, "SELECT EffectiveCost, team, source, charge_date FROM cloud_cost_facts") == [
        (1, "web", "aws", DAY)
    ]


def test_what_a_killed_process_left_goes_a_day_later(tmp_path: Path) -> None:
    warehouse, lake = warehouse_at(tmp_path), Lake(tmp_path / "lake")
    left, fresh = (tmp_path / f".tmp-{n}-published.duckdb" for n in "ab")
    other = tmp_path / ".tmp-c-else.duckdb"
    for file in (left, fresh, other):
        file.touch()
    for file in (left, other):
        os.utime(file, (0, 0))
    warehouse.publish(lake)
    assert (left.exists(), fresh.exists(), other.exists()) == (False, True, True)
