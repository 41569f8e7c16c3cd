"""Files as they come: what is listed is read, literally and once; how it is written is found by proof, or refused."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finops_assets.base.errors import FinopsError
from finops_assets.base.sql import literal
from finops_assets.ingest.layouts.layouts import newest_deliveries
from finops_assets.ingest.reading import export_table as reading
from finops_assets.ingest.reading import parts
from finops_assets.ingest.reading.parts import common_type, own_names
from finops_assets.storage.duck import by_source_and_day, file_list, one_file
from finops_assets.storage.ledger import NOT_READ, Generation
from finops_assets.storage.stores.store import LocalStore
from finops_assets_tests.conftest import Row, Site, csv_text, focus_row
from finops_assets_tests.faults.mutations import Mutant, land

pytestmark = pytest.mark.slow  # by its time, not by what it needs

D1, D2 = "2026-09-01", "2026-09-02"


def billed(landed: list[Generation]) -> dict[str, Decimal]:
    """What live deliveries hold by currency."""
    total: dict[str, Decimal] = {}
    for day in (day for g in landed if g.state == "live" for day in g.days.values()):
        for currency, amount in day.billed.items():
            total[currency] = total.get(currency, Decimal(0)) + amount
    return total


def together(folder: Path, **files: bytes) -> list[Generation]:
    """Land files as parts of one delivery, in their order."""
    named = {f"2026-09/{n}.{name.rpartition('_')[2]}": content for n, (name, content) in enumerate(files.items())}
    return land(Mutant("parts", named, {}, together=True), folder)


def parquet(*rows: Row, types: dict[str, pa.DataType] | None = None) -> bytes:
    fields = [pa.field(name, (types or {}).get(name, pa.string())) for name in rows[0]]
    out = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(fields)), out)
    content: bytes = out.getvalue().to_pybytes()
    return content


def said(landed: list[Generation]) -> dict[tuple[str, str], tuple[int, str | None]]:
    """(rule, column) -> rows and example of what was repaired."""
    return {(r.rule, r.column): (r.rows, r.example) for g in landed for r in g.repaired}


# ---- names --------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_a_file_name_is_no_pattern(site: Site, ending: str) -> None:
    names = ["bill [1]", "bill 1", "a*", "ab", "q?", "qx", "{a,b}", "it's", 'a "b"', "two\nlines", "-rf", "\\*", "[!a]"]
    for number, name in enumerate(names):
        # Of another cost each: those of one cost are compared row by row, each with each.
        row = focus_row(D1, BilledCost=str(2**number), EffectiveCost=str(2**number), ResourceId=name)
        if ending == ".parquet":
            site.put_parquet(f"{name}{ending}", row)
        else:
            content = csv_text([row]).encode()
            site.put(f"{name}{ending}", gzip.compress(content) if ending.endswith("gz") else content)
    landed = site.run(D1)
    assert {g.scope: g.state for g in landed} == {f"{name}{ending}": "live" for name in names}
    assert billed(landed) == {"USD": Decimal(2 ** len(names) - 1)}
    found = site.rows(D1, "source_file", "ResourceId")
    assert sorted(found) == sorted((f"{name}{ending}", name) for name in names)


@pytest.mark.parametrize("folder", ["BilledCost=0", "BILLING_PERIOD=2026-05", "BillingCurrency=XXX", "a [b]"])
def test_a_folder_is_no_column(site: Site, folder: str) -> None:
    site.put_csv(f"{folder}/a.csv", focus_row(D1))
    site.put_parquet(f"{folder}/b.parquet", focus_row(D1, ResourceId="b"))
    landed = site.run(D1)
    assert [g.state for g in landed] == ["live", "live"]
    assert billed(landed) == {"USD": Decimal(3)}
    assert {column.casefold() for g in landed for column in g.columns} & {folder.partition("=")[0].casefold()} <= {
        "billedcost",
        "billingcurrency",
    }


def test_the_folder_of_a_project_is_no_column_and_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "team=platform").mkdir()
    site = Site(tmp_path / "team=platform" / "BilledCost=0" / "my [1] project")
    site.put_csv("a.csv", focus_row(D1))
    site.put_parquet("b.parquet", focus_row(D1, ResourceId="b"))
    site.run_all(D1)
    assert site.rows(D1, "team", "BilledCost", layer="facts") == [("core", Decimal("1.5"))] * 2
    site.platform.warehouse.publish(site.platform.lake)
    with duckdb.connect(str(site.platform.warehouse.published), read_only=True) as connection:
        query = "SELECT team, sum(billed_cost), min(charge_date) FROM daily_cost_by_team GROUP BY 1"
        assert connection.execute(query).fetchall() == [("core", Decimal(3), date(2026, 9, 1))]
        query = "SELECT team, sum(BilledCost), min(charge_date), min(source) FROM cloud_cost_facts GROUP BY 1"
        assert connection.execute(query).fetchall() == [("core", Decimal(3), date(2026, 9, 1), "bill")]


def test_a_relation_by_day_opens_only_the_days_that_a_query_reads(tmp_path: Path) -> None:
    files = [tmp_path / f"source={s}" / f"charge_date={day}" / "data.parquet" for s in "ab" for day in (D1, D2)]
    with duckdb.connect() as connection:
        for file in files:
            file.parent.mkdir(parents=True)
            connection.execute(f"COPY (SELECT 1 AS n) TO {literal(str(file))} (FORMAT parquet)")
        for file in files[1:]:
            file.write_bytes(b"PAR1 is all that is left of it PAR1")
        days = by_source_and_day(file_list(files))
        where = f"source = 'a' AND charge_date BETWEEN DATE '{D1}' AND DATE '{D1}'"
        assert connection.execute(f"SELECT n, source FROM {days} WHERE {where}").fetchall() == [(1, "a")]


def test_a_name_that_the_engine_cannot_be_told_is_said() -> None:
    assert one_file("a[1]*?.csv") == "a[[]1][*][?].csv"
    with pytest.raises(FinopsError, match="rename the folder"):
        one_file("back\\slash[1]")


@pytest.mark.parametrize("letter", ["x", "請"])
def test_a_name_of_any_length_has_a_record(site: Site, letter: str) -> None:
    name = letter * (240 // len(letter.encode())) + ".csv"
    site.put_csv(name, focus_row(D1))
    assert [(g.scope, g.state) for g in site.run(D1)] == [(name, "live")]
    assert [g.scope for g in site.generations(name)] == [name]
    assert site.rows(D1, "source_file") == [(name,)]
    assert site.judge(D1)["complete", D1].passed


# ---- endings and links --------------------------------------------------------------------------


def test_endings_are_read_in_any_case(site: Site) -> None:
    site.put("A.CSV", csv_text([focus_row(D1, BilledCost="1")]))
    site.put("b.csv", csv_text([focus_row(D1, BilledCost="2")]))
    site.put("C.Csv.GZ", gzip.compress(csv_text([focus_row(D1, BilledCost="4")]).encode()))
    site.put("D.Parquet", parquet(focus_row(D1, BilledCost="8")))
    assert billed(site.run(D1)) == {"USD": Decimal(15)}


def test_what_looks_like_data_and_is_not_read_is_told(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1))
    for name in ("b.xlsx", "c.CSV.ZIP", "d.json", "metadata_1.json", "README.txt", "notes.md"):
        site.put(name, b"x")
    assert [g.scope for g in site.land()] == ["a.csv"]
    assert site.platform.lake.read_record("bill", NOT_READ) == {"files": ["b.xlsx", "c.CSV.ZIP", "d.json"]}
    for name in ("a.csv", "b.xlsx", "d.json"):
        (site.exports / name).unlink()
    [waits] = newest_deliveries(site.source)[1]
    assert waits.problems == ("c.CSV.ZIP cannot be read; files that end in .parquet, .csv, .csv.gz can",)


def test_a_linked_folder_is_followed_and_nothing_is_read_twice(site: Site, tmp_path: Path) -> None:
    site.put_csv("a.csv", focus_row(D1, BilledCost="1"))
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "c.csv").write_text(csv_text([focus_row(D1, BilledCost="2")]))
    (elsewhere / "single.csv").write_text(csv_text([focus_row(D1, BilledCost="4")]))
    (site.exports / "linked").symlink_to(elsewhere / "deep")
    (site.exports / "linked again").symlink_to(elsewhere / "deep")
    (site.exports / "one.csv").symlink_to(elsewhere / "single.csv")
    (site.exports / "latest.csv").symlink_to(site.exports / "a.csv")
    (site.exports / "loop").symlink_to(site.exports)
    (elsewhere / "deep" / "up").symlink_to(tmp_path)
    landed = site.run(D1)
    read = {g.scope for g in landed}
    assert {"a.csv", "one.csv"} <= read
    assert not {"latest.csv"} & read
    assert billed(landed) == {"USD": Decimal(7)}


@pytest.mark.parametrize("uri", ["exports/latest.csv", "exports/lat*.csv", "exports/now/*.csv", "exports/n*/*.csv"])
def test_a_link_that_the_uri_names_is_read_whatever_lies_beside_it(make_site: Callable[..., Site], uri: str) -> None:
    site = make_site(uri=uri)
    site.put_csv("v1/2026-09.csv", focus_row(D1, BilledCost="2"))
    (site.exports / "latest.csv").symlink_to("v1/2026-09.csv")
    (site.exports / "now").symlink_to("v1")
    assert billed(site.run(D1)) == {"USD": Decimal(2)}


def test_a_link_that_gives_data_the_ending_it_lacks_is_read(site: Site) -> None:
    site.put("blobs/17", csv_text([focus_row(D1, BilledCost="2")]))
    (site.exports / "bill.csv").symlink_to("blobs/17")
    assert billed(site.run(D1)) == {"USD": Decimal(2)}


def test_what_a_program_is_writing_is_no_bill_and_a_name_with_something_behind_is_told(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1, BilledCost="1"))
    for folder in ("_temporary/0", "_delta_log", "__MACOSX", ".tmp"):
        site.put_csv(f"x/{folder}/b.csv", focus_row(D1, BilledCost="2"))
    for name in ("bill.csv ", "part-00000", "c.pq"):
        site.put(name, b"x")
    assert billed(site.land()) == {"USD": Decimal(1)}
    assert site.platform.lake.read_record("bill", NOT_READ) == {"files": ["bill.csv ", "c.pq", "part-00000"]}


@pytest.mark.parametrize(
    ("kind", "log"),
    [("Delta", "_delta_log/00000000000000000000.json"), ("Iceberg", "metadata/00001-0b5e.metadata.json")],
)
@pytest.mark.parametrize("pattern", ["", "**/*.parquet", "focus/**/*.parquet"])
def test_a_table_whose_log_says_which_files_count_is_not_read_as_files(
    make_site: Callable[..., Site], kind: str, log: str, pattern: str
) -> None:
    site = make_site(uri=f"exports/{pattern}" if pattern else "exports")
    site.put("focus/part-0.parquet", parquet(focus_row(D1, BilledCost="1")))
    site.put("focus/day=1/part-1.parquet", parquet(focus_row(D1, BilledCost="2")))
    site.put(f"focus/{log}", b"{}")
    if not pattern.startswith("focus"):
        site.put("beside.parquet", parquet(focus_row(D1, BilledCost="4", ResourceId="beside")))
    landed = {g.scope: g for g in site.land()}
    scope, name = (f"{kind} table", "this folder") if "focus" in pattern else ("focus", "focus")
    assert landed.pop(scope).state == "waiting"
    assert {scope: g.state for scope, g in landed.items()} == ({} if "focus" in pattern else {"beside.parquet": "live"})
    [waits] = [d for d in newest_deliveries(site.source)[1] if d.problems]
    assert f"{name} is a table of {kind}: its log says which of its files count" in waits.problems[0]
    assert site.platform.lake.read_record("bill", NOT_READ) is None


@pytest.mark.parametrize(("pattern", "read"), [("*.csv", 7), ("*.CSV", 7), ("b.csv", 1), ("B.CSV", 2), ("[ab].csv", 1)])
def test_a_glob_names_endings_in_any_case_and_a_name_is_that_name(
    make_site: Callable[..., Site], pattern: str, read: int
) -> None:
    site = make_site(uri=f"exports/{pattern}")
    for name, cost in (("b.csv", "1"), ("B.CSV", "2"), ("C.csv", "4"), ("d.CSV.GZ", "8")):
        site.put(name, csv_text([focus_row(D1, BilledCost=cost)]))
    assert billed(site.land()) == {"USD": Decimal(read)}


def test_a_link_that_leads_nowhere_is_a_problem_of_that_file_alone(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1))
    (site.exports / "b.csv").symlink_to("gone/b.csv")
    (site.exports / "c").symlink_to("gone")
    landed = {g.scope: g for g in site.land()}
    assert {scope: g.state for scope, g in landed.items()} == {"a.csv": "live", "b.csv": "waiting"}
    assert landed["b.csv"].reason == (
        "b.csv is a link to gone/b.csv, which cannot be opened (No such file or directory); restore it or remove the link"
    )


def test_only_files_are_listed_and_a_name_that_is_no_text_is_said(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1))
    os.mkfifo(site.exports / "waits.csv")
    Path(os.fsdecode(os.fsencode(site.exports) + b"/b\xff.csv")).write_text(csv_text([focus_row(D1)]))
    landed = {g.scope: g for g in site.land()}
    assert {scope: g.state for scope, g in landed.items()} == {"a.csv": "live", "b\\xff.csv": "waiting"}
    assert "no UTF-8; rename it" in (landed["b\\xff.csv"].reason or "")


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inside").mkdir()
    scandir = os.scandir

    def denied(path: Any) -> Any:
        if str(path).rstrip("/").endswith("inside"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError):
        LocalStore(tmp_path).list()


# ---- parts of one delivery ----------------------------------------------------------------------

FINE = Decimal("0.223456789012345678")


def test_a_double_beside_a_decimal_loses_nothing(tmp_path: Path) -> None:
    [landed] = together(
        tmp_path,
        a_parquet=parquet(focus_row(D1, BilledCost=100.0), types={"BilledCost": pa.float64()}),
        b_parquet=parquet(focus_row(D1, BilledCost=FINE), types={"BilledCost": pa.decimal128(38, 18)}),
        c_csv=csv_text([focus_row(D1, BilledCost="0.000000000000000001")]).encode(),
    )
    assert landed.state == "live"
    assert billed([landed]) == {"USD": 100 + FINE + Decimal("1e-18")}


@pytest.mark.parametrize(
    ("kinds", "common"),
    [
        (("DOUBLE", "DECIMAL(38,18)"), "VARCHAR"),
        (("DECIMAL(9,2)", "DECIMAL(20,10)"), "DECIMAL(20,10)"),
        (("DECIMAL(38,0)", "DECIMAL(38,18)"), "VARCHAR"),
        (("BIGINT", "DECIMAL(20,6)"), "DECIMAL(25,6)"),
        (("BIGINT", "DOUBLE"), "VARCHAR"),
        (("TIMESTAMP WITH TIME ZONE", "DATE"), "TIMESTAMP"),
        (("TIMESTAMP", "VARCHAR"), "VARCHAR"),
        (("MAP(VARCHAR, VARCHAR)", "VARCHAR"), "VARCHAR"),
        (('"NULL"', "DOUBLE"), "DOUBLE"),
        (("DOUBLE", "TIMESTAMP"), None),
        (("BOOLEAN", "BIGINT"), None),
    ],
)
def test_the_type_that_holds_all(kinds: tuple[str, ...], common: str | None) -> None:
    assert common_type(kinds) == common


def test_parts_that_write_times_and_tags_in_their_own_ways_are_one(tmp_path: Path) -> None:
    moment = pa.scalar(f"{D1} 10:00:00").cast(pa.timestamp("us")).as_py()
    times = {name: moment for name in focus_row() if name.endswith(("PeriodStart", "PeriodEnd"))}
    types: dict[str, pa.DataType] = {name: pa.timestamp("us", "UTC") for name in times}
    types["Tags"] = pa.map_(pa.string(), pa.string())
    [landed] = together(
        tmp_path,
        a_parquet=parquet(focus_row(D1, **times, Tags=[("team", "core")]), types=types),
        b_parquet=parquet(focus_row(D1)),
    )
    assert landed.state == "live"
    assert landed.rows == 2
    assert landed.repairs == {"null_spelling ChargeClass": 2}


def test_a_part_that_writes_names_in_other_letters_loses_no_value(tmp_path: Path) -> None:
    row = focus_row(D1, ResourceId="vm-1", BilledCost="1", x_Team="a")
    for n, letters in enumerate((str.lower, lambda name: name.lower() if name in ("ResourceId", "x_Team") else name)):
        other = {
            letters(name): value for name, value in focus_row(D1, ResourceId="vm-2", BilledCost="2", x_Team="b").items()
        }
        for names in ("a_csv b_csv", "a_parquet b_parquet", "a_csv b_parquet"):
            content = {"csv": lambda r: csv_text([r]).encode(), "parquet": parquet}
            files = {name: content[name[2:]](r) for name, r in zip(names.split(), (row, other), strict=True)}
            folder = tmp_path / f"{n} {names}"
            assert billed(together(folder, **files)) == {"USD": Decimal(3)}
            [raw] = (f for f in folder.rglob("*.parquet") if f.parent.name == f"charge_date={D1}")
            with duckdb.connect() as connection:
                found = connection.execute(f"SELECT ResourceId, x_team, ServiceName FROM '{raw}' ORDER BY 1").fetchall()
            assert found == [("vm-1", "a", row["ServiceName"]), ("vm-2", "b", row["ServiceName"])], names


def test_types_that_nothing_proves_equal_are_refused_by_column_file_and_type(tmp_path: Path) -> None:
    moment = pa.scalar(f"{D1} 10:00:00").cast(pa.timestamp("us")).as_py()
    [landed] = together(
        tmp_path,
        a_parquet=parquet(focus_row(D1, x_Order=1.5), types={"x_Order": pa.float64()}),
        b_parquet=parquet(focus_row(D1, x_Order=moment), types={"x_Order": pa.timestamp("us")}),
    )
    assert landed.state == "refused"
    for word in ("'x_Order'", "DOUBLE in 2026-09/0.parquet", "TIMESTAMP in 2026-09/1.parquet"):
        assert word in (landed.reason or "")
    # A column that holds nothing says nothing of its type. (The same charge in both would be told as a copy.)
    [landed] = together(
        tmp_path / "again",
        a_parquet=parquet(focus_row(D1, x_Order=None), types={"x_Order": pa.float64()}),
        b_parquet=parquet(focus_row(D1, BilledCost="2", x_Order=moment), types={"x_Order": pa.timestamp("us")}),
    )
    assert landed.state == "live"


def test_slices_of_one_day_are_put_together_without_loss(site: Site) -> None:
    fine = Decimal("12345678901234567890.123456789012345678")
    site.put_parquet("a.parquet", focus_row(D1, x_Rate=fine), types={"x_Rate": pa.decimal128(38, 18)})
    site.put_parquet("b.parquet", focus_row(D1, ResourceId="b", x_Rate=0.1), types={"x_Rate": pa.float64()})
    site.run(D1)
    assert site.rows(D1, "x_Rate") == [(str(fine),), ("0.1",)]


# ---- columns whose names are ours ---------------------------------------------------------------

OURS = ("source_file", "source_row", "filename", "file_row_number", "repairs", "tag_set_id", "source", "charge_date")


@pytest.mark.parametrize("put", [Site.put_csv, Site.put_parquet], ids=["csv", "parquet"])
@pytest.mark.parametrize("value", ["theirs", None])
def test_a_column_of_theirs_keeps_its_values_beside_ours(
    site: Site, put: Callable[..., Path], value: str | None
) -> None:
    name = "a.csv" if put is Site.put_csv else "a.parquet"
    put(site, name, focus_row(D1, **dict.fromkeys((*OURS, "found_BilledCost", "X_filename"), value)))
    [landed] = site.run(D1)
    assert landed.state == "live"
    site.facts(D1)
    kept = [f"x_{each}" for each in OURS if each != "filename"]
    assert site.rows(D1, "source_file", "source_row", *kept, "x_x_filename", "X_filename") == [
        (name, 1, *[value] * (len(OURS) + 1))
    ]


def test_names_are_made_distinct_without_loss() -> None:
    assert own_names("s", "d", "f", ["a", "A", "", "x_A", " b ", "\ufeffc"]) == [
        "a",
        "x_x_A",
        "column2",
        "x_A",
        "b",
        "c",
    ]


def test_names_that_differ_only_in_case_or_are_none_stay_columns_of_parquet(site: Site) -> None:
    row = focus_row(D1)
    table = pa.table([pa.array([value]) for value in row.values()], names=list(row))
    for name in ("Env", "env", "", "q\"u'ote", "two\nlines"):
        table = table.append_column(pa.field(name, pa.string()), [[f"value of {name}"]])
    site.exports.mkdir()
    pq.write_table(table, site.exports / "a.parquet")
    [landed] = site.run(D1)
    assert landed.state == "live", landed.reason
    place = f"column{len(row) + 2}"
    assert site.rows(D1, "Env", "x_env", place, '"q""u\'ote"', '"two\nlines"') == [
        ("value of Env", "value of env", "value of ", "value of q\"u'ote", "value of two\nlines")
    ]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_column_of_focus_twice_and_a_name_without_end_are_refused(site: Site, ending: str) -> None:
    write = site.put_csv if ending == "csv" else site.put_parquet
    write(f"a.{ending}", focus_row(D1, billedcost="7"))
    write(f"b.{ending}", focus_row(D1, **{"n" * 2_000_000: "7"}))
    landed = {g.scope: g for g in site.land()}
    assert "has the column 'billedcost' twice" in (landed[f"a.{ending}"].reason or "")
    assert "2,000,000 characters: 'nnnn" in (landed[f"b.{ending}"].reason or "")


# ---- how a CSV is written -----------------------------------------------------------------------


def text_of(rows: list[Row], delimiter: str = ",", comma: bool = False) -> str:
    lines = [list(rows[0]), *([str(v) for v in row.values()] for row in rows)]
    if comma:
        lines = [[v.replace(".", ",") if v.replace(".", "").isdigit() else v for v in line] for line in lines]
    return "".join(delimiter.join(f'"{v}"' if '"' not in v else v for v in line) + "\r\n" for line in lines)


PLAIN = [
    focus_row(D1, Tags="", BilledCost="1234.50", ResourceId=""),
    focus_row(D1, Tags="", BilledCost="0.25", ResourceId="größer"),
]
# What is written -> what is told of it.
WRITTEN: dict[str, tuple[bytes, dict[tuple[str, str], tuple[int, str | None]]]] = {
    "semicolon": (text_of(PLAIN, ";").encode(), {("delimiter", ""): (2, "semicolon")}),
    "tab": (text_of(PLAIN, "\t").encode(), {("delimiter", ""): (2, "tab")}),
    "pipe": (text_of(PLAIN, "|").encode(), {("delimiter", ""): (2, "pipe")}),
    "utf-16": (text_of(PLAIN).encode("utf-16"), {("encoding", ""): (2, "utf-16-le")}),
    "utf-16-be": (b"\xfe\xff" + text_of(PLAIN).encode("utf-16-be"), {("encoding", ""): (2, "utf-16-be")}),
    "utf-16 unmarked, tab": (
        text_of(PLAIN, "\t").encode("utf-16-le"),
        {("encoding", ""): (2, "utf-16-le"), ("delimiter", ""): (2, "tab")},
    ),
    "windows-1252": (text_of(PLAIN).encode("windows-1252"), {("encoding", ""): (2, "windows-1252")}),
    "two marks": (("\ufeff\ufeff" + text_of(PLAIN)).encode(), {("byte_order_mark", ""): (1, None)}),
    "a mark before the first row": (
        text_of(PLAIN).replace('\r\n"', '\r\n\ufeff"', 1).encode("utf-8-sig"),
        {("byte_order_mark", ""): (1, None)},
    ),
    "lines that end in two ways": (text_of(PLAIN).replace("\r\n", "\n", 1).encode(), {("line_ends", ""): (1, None)}),
    "lines of spaces": (f"{text_of(PLAIN)}\r\n  \r\n".encode(), {("line_ends", ""): (1, None)}),
    "lines that end in two ways, windows-1252": (
        text_of(PLAIN).replace("\r\n", "\n", 1).encode("windows-1252"),
        {("line_ends", ""): (1, None), ("encoding", ""): (2, "windows-1252")},
    ),
    "lines above the header": (
        b"Usage extract,\r\n\r\n" + text_of(PLAIN).encode(),
        {("preamble", ""): (2, "Usage extract,")},
    ),
    "a spreadsheet's first line": (
        b"sep=;\r\n" + text_of(PLAIN, ";").encode(),
        {("preamble", ""): (1, "sep=;"), ("delimiter", ""): (2, "semicolon")},
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("how", WRITTEN)
def test_a_csv_says_how_it_is_written(site: Site, how: str, packed: bool) -> None:
    content, repaired = WRITTEN[how]
    site.put("a.csv.gz" if packed else "a.csv", gzip.compress(content) if packed else content)
    [landed] = site.run(D1)
    assert landed.state == "live", landed.reason
    assert billed([landed]) == {"USD": Decimal("1234.75")}
    assert said([landed]) == repaired
    assert [r for (r,) in site.rows(D1, "ResourceId")] == [None, "größer"]
    assert not any("\ufeff" in str(value) for row in site.rows(D1, "*") for value in row)


@pytest.mark.parametrize("uneven", [False, True])
def test_quotes_behind_a_backslash_are_read_as_spark_writes_them(site: Site, uneven: bool) -> None:
    """Also where the text before the quote ends in backslashes of its own, and beside ones that mean nothing."""
    rows = [
        focus_row(D1, BilledCost="1", Tags='{"team": "core"}', ChargeDescription="C:\\disks"),
        focus_row(D1, BilledCost="2", Tags='{"team": "say \\"core\\""}', ChargeDescription="plain"),
        focus_row(D1, BilledCost="4", Tags="", ChargeDescription="ends in a backslash\\"),
    ]

    def field(text: str) -> str:
        # Backslashes are doubled where a quote follows, a field's own or the closing one.
        doubled = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ("\\" + m[2] if m[2] else ""), text)
        return f'"{doubled}"'

    lines = [",".join(rows[0]), *(",".join(field(str(v)) for v in row.values()) for row in rows)]
    content = "".join(f"{line}\n" for line in lines)
    site.put("a.csv", content.replace("\n", "\r\n", 2) if uneven else content)
    [landed] = site.run(D1)
    assert landed.state == "live", landed.reason
    assert billed([landed]) == {"USD": Decimal(7)}
    assert said([landed])["escape", ""] == (3, None)
    told = [row["ChargeDescription"] for row in rows]
    assert [text for (text,) in site.rows(D1, "ChargeDescription")] == told
    site.facts(D1)
    assert [team for (team,) in site.rows(D1, "team", layer="facts")] == ["core", 'say "core"', None]
    # A row that lacks a field is refused, with what the engine says of the file as it is.
    site.put("b.csv", content.replace('","Cloud"', '"', 1))
    assert {g.scope: g.state for g in site.land()}["b.csv"] == "refused"


def test_what_stands_within_quotes_keeps_its_line_ends(site: Site) -> None:
    rows = [row | {"ChargeDescription": "one\r\ntwo\n \nthree"} for row in PLAIN]
    site.put("a.csv", text_of(rows).replace("\r\n", "\n", 1))
    [landed] = site.run(D1)
    assert billed([landed]) == {"USD": Decimal("1234.75")}
    assert said([landed]) == {("line_ends", ""): (1, None)}
    assert {text for (text,) in site.rows(D1, "ChargeDescription")} == {"one\r\ntwo\n \nthree"}
    site.put("a.csv", text_of(PLAIN).replace("\r\n", "\n", 1) + '"1","2"\n')
    [again] = site.land()
    assert again.state == "refused"
    assert "is not a readable CSV" in (again.reason or "")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (gzip.compress(text_of(PLAIN).encode()), "its content is gzip: it should end in .csv.gz"),
        (b"PAR1\x00\x00", "its content is Parquet: it should end in .parquet"),
        (b"PK\x03\x04\x00", "its content is a ZIP archive or a spreadsheet"),
    ],
)
def test_what_is_no_csv_by_its_content_is_called_by_its_name(site: Site, content: bytes, told: str) -> None:
    site.put("a.csv", content)
    [landed] = site.land()
    assert landed.state == "refused"
    assert told in (landed.reason or "")


def test_nanoseconds_with_a_zone_are_times_and_nan_is_no_number(site: Site) -> None:
    """As pandas writes them. Where a file's least and largest value are small, the engine takes NaN for small, too."""
    rows = [focus_row(D1, BilledCost=1.5, x_note=1.0), focus_row(D1, BilledCost=float("nan"), x_note=float("nan"))]
    table = pa.Table.from_pylist(rows)
    for name in ("ChargePeriodStart", "ChargePeriodEnd"):
        at = pa.array([datetime.fromisoformat(row[name]) for row in rows], pa.timestamp("us", "UTC"))
        place = table.column_names.index(name)
        table = table.set_column(place, name, at.cast(pa.timestamp("ns", "America/New_York")))
    site.exports.mkdir()
    pq.write_table(table, site.exports / "a.parquet")
    [landed] = site.run(D1)
    assert landed.state == "live", landed.reason
    assert site.rows(D1, "BilledCost", "strftime(ChargePeriodStart, '%H:%M')") == [
        (Decimal("1.5"), "10:00"), (None, "10:00"),
    ]  # fmt: skip
    assert said([landed])["not_a_number", "BilledCost"] == (1, "nan")
    assert not site.judge(D1)["conforms", D1].passed


def test_decimals_wider_than_the_engine_knows_lose_no_digit(site: Site) -> None:
    wide = pa.decimal256(60, 20)
    amounts = [Decimal("12345678901234567890.12345678901234567800"), Decimal("-0.1"), None]
    rows = [focus_row(D1, BilledCost=amount, x_wide=amount) for amount in amounts]
    site.put("a.parquet", parquet(*rows, types={"BilledCost": wide, "x_wide": wide}))
    site.run(D1)
    assert site.rows(D1, "BilledCost", "source_row") == [(amounts[0], 1), (amounts[1], 2), (None, 3)]
    assert Decimal(site.rows(D1, "x_wide")[0][0]) == amounts[0]


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_an_encoding_that_one_reader_lacks_is_no_damage(site: Site, encoding: str) -> None:
    table = pq.read_table(pa.BufferReader(parquet(focus_row(D1), focus_row(D1, ServiceName="Queue"))))
    out = pa.BufferOutputStream()
    pq.write_table(table, out, use_dictionary=False, column_encoding=dict.fromkeys(table.column_names, encoding))
    site.put("a.parquet", out.getvalue().to_pybytes())
    site.run(D1)
    assert [name for (name,) in site.rows(D1, "ServiceName")][1] == "Queue"


def test_a_mark_before_a_later_row_is_no_part_of_it(site: Site) -> None:
    # As files that were put behind each other have it; the engine would keep the quotes behind it, too.
    [header, first, second, _] = text_of(PLAIN).split("\r\n")
    many = "".join(f"{first}\n" for _ in range(70))
    site.put("a.csv", f"{header}\n{many}\ufeff{second}\n")
    [landed] = site.run(D1)
    assert said([landed]) == {("byte_order_mark", ""): (1, None)}
    assert billed([landed]) == {"USD": 70 * Decimal("1234.50") + Decimal("0.25")}


def test_a_decimal_comma_between_semicolons(site: Site) -> None:
    site.put("a.csv", text_of([focus_row(D1, Tags="", BilledCost="1234.50")], ";", comma=True))
    [landed] = site.run(D1)
    assert billed([landed]) == {"USD": Decimal("1234.50")}
    assert ("delimiter", "") in said([landed])
    assert ("number_spelling", "BilledCost") in said([landed])


REFUSED = {
    "damaged UTF-8": (text_of(PLAIN).encode().replace("ö".encode(), b"\xc3"), "no text of one encoding"),
    "three bytes in a row": (
        text_of(PLAIN).encode().replace(b"hours", b"h\xcf\xf0\xe8rs"),
        "export as UTF-8, or convert the file",
    ),
    "a sign in a word": (
        text_of(PLAIN[:1]).encode().replace(b"hours", b"zg\xb3osz"),
        "the sign '\u00b3' is in a word",
    ),
    "two delimiters": (b"BilledCost,ListCost,x;EffectiveCost;ContractedCost\n1,2,3\n", "by comma or by semicolon"),
    "another number of fields": (text_of(PLAIN, ";").encode() + b'"1";"2"\r\n', "Expected Number of Columns"),
    "a check sum": (b"", "CRC"),
    "packed content": (b"", "Invalid"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused_with_what_was_seen(site: Site, what: str) -> None:
    content, seen = REFUSED[what]
    name = "a.csv"
    if not content:
        # The engine unpacks a wrong check sum without a word.
        packed = bytearray(gzip.compress(text_of(PLAIN).encode()))
        packed[-6 if what == "a check sum" else 10] ^= 7
        name, content = "a.csv.gz", bytes(packed)
    site.put(name, content)
    [landed] = site.land()
    assert landed.state == "refused"
    assert "is not a readable CSV" in (landed.reason or "")
    assert any(part in (landed.reason or "") for part in seen.split("|")), landed.reason


def test_a_gzip_file_of_several_members_is_read_to_its_end(site: Site) -> None:
    content = text_of(PLAIN).encode()
    site.put("a.csv.gz", gzip.compress(content[:100]) + gzip.compress(content[100:]))
    assert billed(site.land()) == {"USD": Decimal("1234.75")}


# ---- values -------------------------------------------------------------------------------------


def test_binary_columns_are_text_if_they_are_utf8_and_refused_by_name_if_not(site: Site) -> None:
    row = focus_row(D1, BillingAccountName="Café Ü")
    binary = {name: pa.binary() for name in row}
    site.put_parquet("a.parquet", {name: str(value).encode() for name, value in row.items()}, types=binary)
    bad = {name: str(value).encode() for name, value in row.items()} | {"ServiceName": b"\xff\xfe"}
    site.put_parquet("b.parquet", bad, types=binary)
    landed = {g.scope: g for g in site.run(D1)}
    assert landed["a.parquet"].state == "live"
    site.facts(D1)
    assert site.rows(D1, "BillingAccountName", "team", layer="facts") == [("Café Ü", "core")]
    assert ("binary_text", "BilledCost") in said([landed["a.parquet"]])
    assert landed["b.parquet"].state == "refused"
    assert "column 'ServiceName' is binary (BYTE_ARRAY without a logical type)" in (landed["b.parquet"].reason or "")


def test_a_thousand_with_an_underscore_is_no_number(site: Site) -> None:
    site.put_csv("a.csv", focus_row(D1, BilledCost="1_000"))
    [landed] = site.run(D1)
    assert site.value(D1, "BilledCost") is None
    assert landed.repairs == {"not_a_number BilledCost": 1}


def test_a_currency_is_a_currency_in_any_case(site: Site) -> None:
    site.put_csv(
        "a.csv",
        focus_row(D1, BillingCurrency="EUR", PricingCurrency="Tok"),
        focus_row(D1, BillingCurrency="eur ", PricingCurrency="eur"),
    )
    [landed] = site.run(D1)
    assert billed([landed]) == {"EUR": Decimal(3)}
    assert landed.repairs == {
        "closed_value_spelling BillingCurrency": 1,
        "closed_value_spelling PricingCurrency": 1,
    }
    assert [v for (v,) in site.rows(D1, "PricingCurrency")] == ["Tok", "EUR"]


# ---- this machine, and counts -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_an_error_of_this_machine_is_no_verdict(site: Site, name: str) -> None:
    site.put_csv("b.csv", focus_row(D1))
    # The kernel answers whoever reads the beginning of it with EIO.
    (site.exports / name).symlink_to("/proc/self/mem")
    landed = {g.scope: g for g in site.land()}
    assert {scope: g.state for scope, g in landed.items()} == {name: "waiting", "b.csv": "live"}
    reason = landed[name].reason or ""
    assert "cannot be read on this machine: Input/output error" in reason
    assert "delivered again" not in reason


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_file_that_may_not_be_read_is_read_once_it_may(
    site: Site, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site.put_csv if name.endswith("csv") else site.put_parquet)(name, focus_row(D1))
    opened = Path.open
    with monkeypatch.context() as patched:
        # What the system says to anybody but root.
        def denied(path: Path, *args: Any, **named: Any) -> Any:
            if path == site.exports / name:
                raise PermissionError(13, "Permission denied", name)
            return opened(path, *args, **named)

        patched.setattr(Path, "open", denied)
        [landed] = site.land()
    assert landed.state == "waiting"
    assert "cannot be read on this machine: Permission denied" in (landed.reason or "")
    assert [g.state for g in site.land()] == ["live"]


@pytest.mark.parametrize("message", ["Too many open files", "Stale file handle"])
def test_what_the_engine_says_of_this_machine_is_no_verdict_either(message: str) -> None:
    error = duckdb.IOException(f'IO Error: Cannot open file "/lake/opened/0000000.parquet": {message}')
    told = parts.judged(error, "bill", "2026-09", "is not Parquet", "a.parquet")
    assert type(told).__name__ == "DeliveryUnread"
    assert message in str(told)
    content = parts.judged(duckdb.InvalidInputException("no magic bytes"), "bill", "s", "is not Parquet", "a.parquet")
    assert type(content).__name__ == "DeliveryRefused"


@pytest.mark.parametrize(("opener", "name"), [("open_csv", "a.csv"), ("open_parquet", "a.parquet")])
def test_rows_that_are_read_are_those_that_the_file_holds(
    site: Site, opener: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site.put_csv if name.endswith("csv") else site.put_parquet)(name, focus_row(D1), focus_row(D1))
    opened = getattr(reading, opener)

    def one_more(*args: Any) -> Any:
        part = opened(*args)
        return replace(part, rows=part.rows + 1)

    monkeypatch.setattr(reading, opener, one_more)
    [landed] = site.land()
    assert landed.state == "refused"
    assert "2 rows were read, the file holds 3" in (landed.reason or "")


def test_a_header_that_is_no_utf8_above_lines_that_are_not_rows_is_no_traceback(site: Site) -> None:
    text = csv_text([focus_row(D1, ChargeDescription="two\nlines")]).encode()
    site.put("a.csv", text.replace(b"PricingUnit", b"Pricing\xd6>j\x9dUnit"))
    [landed] = site.land()
    assert landed.rows == 1 or landed.reason


def test_another_reader_counts_where_lines_are_not_rows(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put_csv("a.csv", focus_row(D1, ChargeDescription="two\nlines"), focus_row(D1))
    assert [g.rows for g in site.land()] == [2]
    site.put_csv("b.csv", focus_row(D1, ChargeDescription="two\nlines"), focus_row(D1, BilledCost="7"))
    monkeypatch.setattr(parts, "count_rows", lambda *_: 3)
    [refused] = [g for g in site.land() if g.scope == "b.csv"]
    assert "the engine reads 2 rows, another reader 3" in (refused.reason or "")
