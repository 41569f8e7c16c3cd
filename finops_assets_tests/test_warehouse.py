"""The warehouse and its published copy: readers never stop the pipeline, the pipeline never stops readers."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import date
from pathlib import Path

import duckdb
import pytest

from finops_assets import warehouse as module
from finops_assets.errors import WarehouseError
from finops_assets.lake import Lake
from finops_assets.warehouse import Warehouse

DAY, OTHER = date(2026, 9, 1), date(2026, 9, 2)
HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def warehouse_at(root: Path) -> Warehouse:
    warehouse = Warehouse(root / "warehouse.duckdb", root / "published.duckdb")
    with warehouse.writing() as connection, warehouse.transaction(connection):
        warehouse.replace_days(connection, "t", [DAY], f"SELECT DATE '{DAY}' AS charge_date, 1 AS n")
    return warehouse


def rows(warehouse: Warehouse) -> list[tuple[object, ...]]:
    with warehouse.reading() as connection:
        return connection.execute("SELECT charge_date, n FROM t ORDER BY ALL").fetchall()


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


def test_days_are_replaced_as_a_whole(tmp_path: Path) -> None:
    warehouse = warehouse_at(tmp_path)
    with warehouse.writing() as connection:
        query = f"SELECT DATE '{OTHER}' AS charge_date, n FROM (VALUES (2), (3)) v(n)"
        warehouse.replace_days(connection, "t", [OTHER], query)
        warehouse.replace_days(connection, "t", [DAY], None)
    assert rows(warehouse) == [(OTHER, 2), (OTHER, 3)]


def test_a_failed_replacement_leaves_the_day_as_it_was(tmp_path: Path) -> None:
    warehouse = warehouse_at(tmp_path)
    with warehouse.writing() as connection, pytest.raises(duckdb.Error), warehouse.transaction(connection):
        warehouse.replace_days(connection, "t", [DAY], f"SELECT DATE '{DAY}' AS charge_date, 'x' AS n")
    assert rows(warehouse) == [(DAY, 1)]


def test_a_second_writer_waits_its_turn(tmp_path: Path) -> None:
    warehouse = warehouse_at(tmp_path)
    other = hold(warehouse.path)
    release = threading.Timer(0.3, let_go, [other])
    release.start()
    assert rows(warehouse) == [(DAY, 1)]
    release.join()


def test_a_writer_that_waits_too_long_says_who_reads_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse = warehouse_at(tmp_path)
    monkeypatch.setattr(module, "LOCK_PATIENCE_SECONDS", 0.0)
    other = hold(warehouse.path)
    with pytest.raises(WarehouseError, match=r"people read .*published\.duckdb"):
        rows(warehouse)
    let_go(other)


def test_a_reader_may_hold_the_published_copy_for_ever(tmp_path: Path) -> None:
    warehouse, lake = warehouse_at(tmp_path), Lake(tmp_path / "lake")
    warehouse.publish(lake)
    reader = hold(warehouse.published)
    with duckdb.connect(str(tmp_path / "own.duckdb")):
        warehouse.publish(lake)
    with warehouse.writing() as connection:
        warehouse.replace_days(connection, "t", [DAY], f"SELECT DATE '{DAY}' AS charge_date, 7 AS n")
    warehouse.publish(lake)
    let_go(reader)
    with duckdb.connect(str(warehouse.published), read_only=True) as connection:
        assert connection.execute("SELECT n FROM t").fetchall() == [(7,)]
    assert not list(tmp_path.glob(".tmp-*"))


def test_the_published_copy_is_in_the_storage_of_duckdb_1(tmp_path: Path) -> None:
    """The storage version stands in the file's header: 64 is that of DuckDB 0.9 to 1.1, which all later ones read."""
    warehouse = warehouse_at(tmp_path)
    warehouse.publish(Lake(tmp_path / "lake"))
    header = warehouse.published.read_bytes()[8:20]
    assert header[:4] == b"DUCK"
    assert int.from_bytes(header[4:12], "little") == 64


def test_the_view_over_facts_opens_what_it_reads_and_shows_every_column(tmp_path: Path) -> None:
    warehouse, lake = Warehouse(tmp_path / "w.duckdb", tmp_path / "p.duckdb"), Lake(tmp_path / "lake")

    def put(day: str, columns: str) -> Path:
        file = lake.day_file("facts", "aws", date.fromisoformat(day))
        file.parent.mkdir(parents=True, exist_ok=True)
        duckdb.sql(f"COPY (SELECT {columns}) TO '{file}' (FORMAT parquet)")
        return file

    def published(query: str) -> list[tuple[object, ...]]:
        warehouse.publish(lake)
        assert warehouse.is_published()
        with duckdb.connect(str(warehouse.published), read_only=True) as connection:
            return connection.execute(query).fetchall()

    text = "SELECT sql FROM duckdb_views() WHERE view_name = 'cloud_cost_facts'"
    put("2026-09-01", "1 AS EffectiveCost, 'ios' AS team")
    second = put("2026-09-02", "2 AS EffectiveCost, 'web' AS team")
    assert "union_by_name" not in str(published(text)[0][0])
    # A day attributed under rules with another dimension.
    put("2026-09-03", "4 AS EffectiveCost, 'web' AS team, 'emea' AS region")
    everything = "SELECT sum(EffectiveCost), count(team), count(region) FROM cloud_cost_facts"
    assert published(everything) == [(7, 3, 1)]
    # The other days follow: the footers of changed files are read anew.
    put("2026-09-01", "1 AS EffectiveCost, 'ios' AS team, 'apac' AS region")
    second.unlink()
    assert published(everything) == [(5, 2, 2)]
    assert "union_by_name" not in str(published(text)[0][0])
    assert published("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'facts_footers'") == [(0,)]
