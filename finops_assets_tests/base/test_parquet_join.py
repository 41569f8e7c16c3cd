"""Files joined from column chunks: read back by two readers, equal to what their rows say."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finops_assets.base.parquet_join import join_columns


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """45,000 rows in row groups of 2,048, written by DuckDB: texts, decimals, times, a map, a column without values."""
    file = tmp_path / "raw.parquet"
    duckdb.sql(
        f"""
        COPY (
            SELECT CAST(n / 7 AS DECIMAL(38, 18)) AS BilledCost, 'i-' || n AS ResourceId,
                CASE WHEN n % 3 > 0 THEN 'Compute' END AS ServiceCategory, MAP {{'a': n % 5}} AS x_map,
                TIMESTAMP '2026-10-01' + n * INTERVAL 1 SECOND AS ChargePeriodStart, CAST(NULL AS VARCHAR) AS SkuId,
                n AS source_row
            FROM range(45_000) t(n)
        ) TO '{file}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 2048, KV_METADATA {{was: 'raw'}})
        """
    )
    return file


def _beside(raw: Path, target: Path, rows_less: int = 0) -> Path:
    teams = pa.schema([("team", pa.string()), ("team_key", pa.string())])
    metadata = pq.read_metadata(raw)
    with pq.ParquetWriter(target, teams, compression="snappy", store_schema=False) as writer:
        at = 0
        for number in range(metadata.num_row_groups):
            rows = range(at, at := at + metadata.row_group(number).num_rows - rows_less)
            values = [None if n % 4 == 0 else f"team-{n % 11}" for n in rows]
            writer.write_table(pa.table([values, [v and "Team" for v in values]], schema=teams))
    return target


KEPT = ("BilledCost", "ResourceId", "ServiceCategory", "ChargePeriodStart", "SkuId", "source_row")


def test_rows_are_those_of_both_files_for_two_readers(raw: Path, tmp_path: Path) -> None:
    beside, target = _beside(raw, tmp_path / "beside.parquet"), tmp_path / "joined.parquet"
    join_columns(raw, KEPT, beside, target, {"finops_stamp": "a ü"})

    kept = pq.read_table(raw, columns=list(KEPT))
    expected = kept.append_column("team", pq.read_table(beside)["team"])
    found = pq.read_table(target)
    assert found.select(expected.column_names).equals(expected)
    assert found.column_names == [*KEPT, "team", "team_key"]
    assert pq.read_metadata(target).metadata == {b"finops_stamp": "a ü".encode()}

    sums = f"SELECT count(*), sum(BilledCost), count(SkuId), count(team), max(ChargePeriodStart) FROM '{target}'"
    total = sum((v.as_py() for v in kept["BilledCost"]), Decimal(0))
    assert duckdb.sql(sums).fetchall()[0][:4] == (45_000, total, 0, 33_750)
    # Statistics moved with their chunks: they let a reader skip, so they must be of the right rows.
    for n in (0, 30_000, 44_999):
        [(team, key)] = duckdb.sql(f"SELECT team, team_key FROM '{target}' WHERE source_row = {n}").fetchall()
        assert (team, key) == ((None, None) if n % 4 == 0 else (f"team-{n % 11}", "Team"))
    last = pq.ParquetFile(target).metadata.row_group(20).column(0)
    assert last.statistics.max == pq.ParquetFile(raw).metadata.row_group(20).column(0).statistics.max
    assert last.data_page_offset != pq.ParquetFile(raw).metadata.row_group(20).column(0).data_page_offset


def test_what_is_left_behind_is_not_in_the_file(raw: Path, tmp_path: Path) -> None:
    target = tmp_path / "joined.parquet"
    join_columns(raw, ["source_row"], _beside(raw, tmp_path / "beside.parquet"), target)
    assert target.stat().st_size < raw.stat().st_size / 3


def test_a_file_without_rows_stays_one(tmp_path: Path) -> None:
    raw = tmp_path / "raw.parquet"
    duckdb.sql(f"COPY (SELECT 1 AS BilledCost, 'x' AS SkuId WHERE false) TO '{raw}' (FORMAT parquet)")
    beside = _beside(raw, tmp_path / "beside.parquet")
    join_columns(raw, ["SkuId"], beside, tmp_path / "joined.parquet")
    assert duckdb.sql(f"SELECT * FROM '{tmp_path / 'joined.parquet'}'").columns == ["SkuId", "team", "team_key"]


def test_what_does_not_fit_together_is_refused(raw: Path, tmp_path: Path) -> None:
    shorter = _beside(raw, tmp_path / "shorter.parquet", rows_less=1)
    with pytest.raises(ValueError, match="same row groups"):
        join_columns(raw, KEPT, shorter, tmp_path / "joined.parquet")
    with pytest.raises(ValueError, match="no column Tags"):
        join_columns(raw, ["Tags"], shorter, tmp_path / "joined.parquet")
