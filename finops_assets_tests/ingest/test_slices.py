"""The two ways of splitting a delivery by day give the same rows, in the same types."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finops_assets.ingest import slices
from finops_assets.ingest.landing import slice_folder
from finops_assets.storage.ledger import Ledger
from finops_assets_tests.conftest import Site, csv_text, focus_row

pytestmark = pytest.mark.slow

Write = Callable[[Site], None]
DAYS = [f"2026-09-{day:02}" for day in range(1, 8)]
BY_MONTH = 'files, period_pattern: "(?P<year>\\\\d{4})-(?P<month>\\\\d{2})"'
TAGS = ['{"team": "core"}', '{"team": "web", "env": "prod"}', "", "[not tags", '{"squad": "core-team"}']


def charges(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Rows of some days in no order, with what reading repairs, sets null, and keeps."""
    chance = random.Random(seed)
    return [
        focus_row(
            chance.choice(DAYS),
            BilledCost=chance.choice(["0.1", "1e-7", "0.1234567890123456789", "7"]),
            ChargeFrequency=chance.choice(["Usage-Based", "usage-based"]),
            ResourceId=f"vm-{n}",
            RegionId=chance.choice(["eu", "us"]),
            x_Note=chance.choice(["a", "ü", "long " * 20]),
            Tags=chance.choice(TAGS),
        )
        for n in range(count)
    ]


def in_types(rows: list[dict[str, Any]], first: int) -> pa.Table:
    """The same charges as a provider writes them: doubles, times, maps, texts that are empty, columns without a value."""
    columns: dict[str, Any] = {name: [row[name] or None for row in rows] for name in rows[0] if name != "Tags"}
    for name in [n for n in columns if n.endswith("Cost") or n == "PricingQuantity"]:
        columns[name] = pa.array([float(v) if v else None for v in columns[name]], pa.float64())
    for unit, name in (("ms", "ChargePeriodStart"), ("ns", "ChargePeriodEnd"), ("us", "BillingPeriodStart")):
        times = [dt.datetime.fromisoformat(v).replace(tzinfo=None) for v in columns[name]]
        columns[name] = pa.array(times, pa.timestamp(unit))
    tags = [None if n % 3 == 0 else [("team", f"t{n % 4}"), ("env", "prod")] for n in range(first, first + len(rows))]
    columns["Tags"] = pa.array(tags, pa.map_(pa.string(), pa.string()))
    columns["x_Parts"] = pa.array([{"a": n, "b": None} for n in range(len(rows))])
    columns["x_Seen"] = pa.array([dt.datetime(2026, 9, 9, tzinfo=dt.UTC)] * len(rows), pa.timestamp("us", "UTC"))
    columns["x_Count"] = pa.array(list(range(len(rows))), pa.int64())
    columns["CommitmentDiscountId"] = pa.nulls(len(rows), pa.string())
    return pa.table(columns)


def as_parquet(site: Site) -> None:
    rows = charges(60)
    for number, part in enumerate((rows[:40], rows[40:])):
        file = site.put(f"2026-09/part-{number}.parquet", b"")
        pq.write_table(in_types(part, number), file, row_group_size=11)


def of_other_columns(site: Site) -> None:
    rows = charges(30)
    first, second = in_types(rows[:20], 0), in_types(rows[20:], 5)
    site.put("2026-09/a.parquet", b"")
    pq.write_table(first.drop_columns(["RegionId", "x_Note"]), site.exports / "2026-09/a.parquet")
    pq.write_table(second.drop_columns(["x_Count"]), site.exports / "2026-09/b.parquet")


def of_other_types(site: Site) -> None:
    """Times in other units are one type to the engine, and two to the other reader."""
    first, second = in_types(charges(20), 0), in_types(charges(20, seed=8), 5)
    place = second.schema.get_field_index("x_Seen")
    site.put("2026-09/a.parquet", b"")
    pq.write_table(first, site.exports / "2026-09/a.parquet")
    seen = second["x_Seen"].cast(pa.timestamp("ms", "UTC"))
    pq.write_table(second.set_column(place, "x_Seen", seen), site.exports / "2026-09/b.parquet")


def as_csv(site: Site) -> None:
    site.put("2026-09/bill.csv", csv_text(charges(50)))


def with_empty_texts(site: Site) -> None:
    """Texts that are empty between others, as the statistics of the file do not show."""
    rows = [row | {"RegionName": "" if n % 2 else "Europe", "x_Note": ""} for n, row in enumerate(charges(40))]
    site.put_parquet("2026-09/bill.parquet", *rows)


def of_an_older_dialect(site: Site) -> None:
    """A dialect of Google's, which is converted first."""
    rows = [row | {"x_Labels": '[{"key": "team", "value": "core"}]'} for row in charges(20)]
    rows = [{name: value for name, value in row.items() if name != "Tags"} for row in rows]
    site.put("2026-09/bill.csv", csv_text(rows))


CASES: Mapping[str, tuple[Write, bool]] = {
    "Parquet, in many row groups, days in no order": (as_parquet, True),
    "files with other columns": (of_other_columns, True),
    "files with a column in other types": (of_other_types, True),
    "CSV": (as_csv, True),
    "empty texts": (with_empty_texts, False),
    "a dialect": (of_an_older_dialect, True),
}


def landed(folder: Path, write: Write) -> tuple[dict[str, Any], Path]:
    """What the ledger says of a delivery's days, and where its slices lie."""
    site = Site(folder, extra="", layout=BY_MONTH)
    write(site)
    [entry] = site.land()
    assert entry.state == "live", entry.reason
    [live] = Ledger(site.platform.lake, "bill").all_live()
    place = slice_folder(site.platform.lake, "bill", live)
    return {"days": live.days, "repairs": live.repairs, "rows": live.rows}, place


def content(folder: Path) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Every row of the slices, and their columns with types."""
    relation = f"read_parquet('{folder}/*/*.parquet', hive_partitioning = false, union_by_name = true)"
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        types = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        rows = connection.execute(f"SELECT * FROM {relation} ORDER BY source_file, source_row").fetchall()
    return rows, [column[:2] for column in types]


@pytest.mark.parametrize("case", CASES)
def test_both_ways_give_the_same_rows(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, by_chunks = CASES[case]
    monkeypatch.setattr(slices, "CHUNK_ROWS", 7)
    monkeypatch.setattr(slices, "BUFFERED_ROWS", 15)
    ways: list[str] = []
    whole = slices.write_days

    def by_engine(*args: Any) -> None:
        ways.append("engine")
        whole(*args)

    monkeypatch.setattr(slices, "write_days", by_engine)
    ours, folder = landed(tmp_path / "ours", write)
    assert ways == ([] if by_chunks else ["engine"])
    monkeypatch.setattr(slices, "_by_chunks", lambda *_: False)
    theirs, other = landed(tmp_path / "theirs", write)
    assert ways[-1:] == ["engine"]
    assert ours == theirs
    (rows, types), (expected, expected_types) = content(folder), content(other)
    assert types == expected_types
    assert rows == expected
    assert len(rows) == ours["rows"]
    assert {len(list(day.iterdir())) for day in folder.iterdir()} == {1}, "a day of several files is written once more"
    assert any(rule.startswith("dialect") for rule in map(str, ours["repairs"])) == (case == "a dialect")


def test_more_days_than_files_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "CHUNK_ROWS", 7)
    monkeypatch.setattr(slices, "BUFFERED_ROWS", 15)
    opened: list[Any] = []
    most_open: list[int] = []

    make = pq.ParquetWriter

    def counted(*args: Any, **kwargs: Any) -> Any:
        opened.append(make(*args, **kwargs))
        most_open.append(sum(writer.is_open for writer in opened))
        return opened[-1]

    monkeypatch.setattr(pq, "ParquetWriter", counted)
    monkeypatch.setattr(slices, "threads", lambda _: 1)
    monkeypatch.setattr(slices, "OPEN_DAYS", 2)
    ours, folder = landed(tmp_path / "ours", as_parquet)
    assert max(most_open) == 3, "two that stay, and the one that is written"
    monkeypatch.setattr(slices, "OPEN_DAYS", 100)
    theirs, other = landed(tmp_path / "theirs", as_parquet)
    assert ours == theirs
    assert content(folder) == content(other)


def test_a_dictionary_keeps_what_stands_in_rows() -> None:
    whole = pa.array(["a", None, "c", "b", "c"]).dictionary_encode()
    part = slices._of_what_it_needs(whole.slice(1, 2))
    assert part.to_pylist() == [None, "c"]
    assert "b" not in part.dictionary.to_pylist()
    assert slices._of_what_it_needs(whole.slice(0, 0)).to_pylist() == []


def test_a_day_that_goes_on_is_one_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "CHUNK_ROWS", 7)
    monkeypatch.setattr(slices, "BUFFERED_ROWS", 15)
    rows = [focus_row(day, ResourceId=f"vm-{day}-{n}") for day in DAYS for n in range(6)]

    def in_order(site: Site) -> None:
        site.put_parquet("2026-09/bill.parquet", *rows)

    _, folder = landed(tmp_path, in_order)
    assert [pq.read_metadata(file).num_row_groups for file in sorted(folder.glob("*/*"))] == [1] * len(DAYS)


def test_a_day_has_no_other_day_s_texts(tmp_path: Path) -> None:
    rows = [focus_row(DAYS[n % len(DAYS)], ResourceId=f"vm-{n}") for n in range(210)]

    def mixed(site: Site) -> None:
        site.put_parquet("2026-09/bill.parquet", *rows)

    _, folder = landed(tmp_path, mixed)
    for file in folder.glob("*/*"):
        [column] = pq.read_table(file, columns=["ResourceId"], read_dictionary=["ResourceId"])["ResourceId"].chunks
        assert len(column.dictionary) == len(column) == 30
