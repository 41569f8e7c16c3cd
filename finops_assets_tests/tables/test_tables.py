"""What is declared of a table is what it is: in the warehouse, in its copy, in files, whatever the data."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finops_assets.base.sql import identifier
from finops_assets.cli.common import write_table
from finops_assets.cost import rollup
from finops_assets.storage.lake import Lake
from finops_assets.storage.warehouse import Warehouse
from finops_assets.tables import ddl, declarations, values
from finops_assets.tables.rows import Rows

SCHEMA = "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"


def warehouse_at(root: Path) -> Warehouse:
    return Warehouse(root / "w.duckdb", root / "p.duckdb")


def test_every_column_says_what_it_means() -> None:
    for each in [*declarations.TABLES.values(), declarations.facts_table(["team"])]:
        assert each.meaning.endswith("."), each.name
        assert len({c.name for c in each.columns}) == len(each.columns), each.name
        assert values.arrow_records([], each).num_columns == len(each.columns)
        for column in each.columns:
            assert column.meaning, f"{each.name}.{column.name}"


def test_the_rollup_is_declared_as_it_is_grouped() -> None:
    own = ("cost_center", "team", "order")
    names = [c.name for c in declarations.table(rollup.ROLLUP_TABLE, dimensions=own).columns]
    assert names[:9] == [
        "charge_date", "provider", "department", "team", "environment", "cost_center", "order", "ServiceCategory",
        "BillingCurrency",
    ]  # fmt: skip
    assert tuple(names[:9]) == declarations.key(own)
    declared = declarations.table("untagged_by_provider", "reports", own)
    assert [c.name for c in declared.columns if "order" in c.name] == [
        "untagged_order", "untagged_order_percent", "untagged_order_percent_before",
    ]  # fmt: skip
    assert all(declared.column(c.name) == c for c in declared.columns if "order" in c.name), (
        "as files of reports have it"
    )


def test_a_table_with_dimensions_of_its_own_is_created_filled_and_told_of() -> None:
    with duckdb.connect() as connection:
        ddl.create(connection, rollup.ROLLUP_TABLE, dimensions=["order"])
        assert ddl.dimensions_of(connection) == ("department", "team", "environment", "order")
        ddl.create(connection, rollup.ROLLUP_TABLE, dimensions=["group", "order"])
        assert set(ddl.dimensions_of(connection)) == {"department", "team", "environment", "order", "group"}


@pytest.mark.parametrize("name", [key for key, t in declarations.TABLES.items() if not t.view])
def test_an_empty_table_has_its_columns(name: tuple[str, str]) -> None:
    with duckdb.connect() as connection:
        declared = ddl.create(connection, name[1], name[0])
        ddl.replace_all(connection, declared, values.arrow(Rows((), ()), declared))
        found = connection.execute(f"DESCRIBE {declared.full_name}").fetchall()
        assert [(row[0], row[1]) for row in found] == [(c.name, c.kind.replace(" ", "")) for c in declared.columns]
        for c in declared.columns:
            if c.kind in (declarations.DAY, declarations.TIME):
                connection.execute(f"SELECT date_trunc('month', {identifier(c.name)}) FROM {declared.full_name}")


def test_types_do_not_follow_the_values() -> None:
    names = [
        "team",
        "currency",
        "effective_cost",
        "change_percent",
        "row_count",
        "charge_date",
        "restated_at",
        "sparse",
    ]
    rows: list[list[Any]] = [
        ["a", "EUR", Decimal("9.99"), 1.0, 3, date(2026, 9, 1), datetime(2026, 9, 1, 3, tzinfo=UTC), True],
        [None, "EUR", Decimal("1E+9"), float("nan"), pd.NA, pd.NaT, pd.NaT, None],
        ["b", "EUR", Decimal("0.12345678901234567850"), None, 4.0, pd.Timestamp("2026-09-02"), None, False],
    ]
    whole = values.arrow(Rows.of(pd.DataFrame(rows, columns=names, dtype="object")))
    for part in (rows[:1], rows[1:2], rows[2:], []):
        assert values.arrow(Rows.of(pd.DataFrame(part, columns=names, dtype="object"))).schema == whole.schema
    assert [str(t) for t in whole.schema.types] == [
        "string", "string", "decimal128(38, 18)", "double", "int64", "date32[day]", "timestamp[us]", "bool",
    ]  # fmt: skip
    assert whole.to_pylist()[1] == dict.fromkeys(names) | {"currency": "EUR", "effective_cost": Decimal("1E+9")}
    assert whole["effective_cost"].to_pylist()[2] == Decimal("0.123456789012345678")
    assert whole["restated_at"].to_pylist()[0] == datetime(2026, 9, 1, 3)  # noqa: DTZ001  # the table is UTC


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("effective_cost", 1.5),
        ("row_count", 1.5),
        ("team", 3),
        ("sparse", 1),
        ("charge_date", datetime(2026, 9, 1, 3, tzinfo=UTC)),
    ],
)
def test_a_value_of_another_kind_is_no_value(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"column {name} is declared"):
        values.typed(Rows([name], [[value]]))


def test_rows_are_those_of_a_query_and_of_a_data_frame() -> None:
    with duckdb.connect() as connection:
        found = Rows.asked(
            connection,
            "FROM (VALUES ('a', 1.5::DECIMAL(38, 18), DATE '2026-09-01', 1), ('b', NULL, NULL, NULL)) t(team, cost, day, row_count)"
            " WHERE team <> $other",
            {"other": "c"},
        )
    assert [*found] == [
        {"team": "a", "cost": Decimal("1.5"), "day": date(2026, 9, 1), "row_count": 1},
        {"team": "b", "cost": None, "day": None, "row_count": None},
    ]
    assert [*Rows.of(found.frame())] == [*found]
    assert [
        *Rows.of(pd.DataFrame({"n": [1, 2], "share": [0.5, None], "at": [pd.Timestamp("2026-09-01"), pd.NaT]}))
    ] == [
        {"n": 1, "share": 0.5, "at": datetime(2026, 9, 1)},  # noqa: DTZ001  # as it is written
        {"n": 2, "share": pytest.approx(float("nan"), nan_ok=True), "at": None},
    ]
    assert found.where(lambda row: row["row_count"] is None)["team"] == ["b"]
    assert [*found.with_column("team", "xy").with_column("more", [1, 2]).only(["more", "team"])] == [
        {"more": 1, "team": "x"}, {"more": 2, "team": "y"},
    ]  # fmt: skip
    with pytest.raises(ValueError, match="not in"):
        found["nobody"]


def test_what_nobody_declared_is_not_written(tmp_path: Path) -> None:
    with warehouse_at(tmp_path).writing() as connection, pytest.raises(LookupError, match="declare it there"):
        Warehouse.replace_days(warehouse_at(tmp_path), connection, "mine", [], "SELECT 1 AS n")
    declared = declarations.table("cost_by_team", "reports")
    with pytest.raises(LookupError, match="declares department, team"):
        values.typed(Rows(["squad"], [["a"]]), declared)


def test_files_of_one_report_can_be_read_together(tmp_path: Path) -> None:
    """Decimals of other digits, an unknown, and no row at all."""
    columns = ["team", "currency", "effective_cost", "change_percent"]
    reports: list[list[list[Any]]] = [
        [["a", "EUR", Decimal("12.50"), None]],
        [["b", "EUR", Decimal("1234567.123456789"), 2.5]],
        [],
    ]
    files = [tmp_path / f"{n}.parquet" for n in range(3)]
    for file, rows in zip(files, reports):
        write_table(Rows(columns, rows), "parquet", file)
    assert len({pq.read_schema(file) for file in files}) == 1
    assert pa.concat_tables([pq.read_table(file) for file in files]).num_rows == 2
    listed = ", ".join(f"'{file}'" for file in files)
    assert duckdb.sql(f"SELECT sum(effective_cost) FROM read_parquet([{listed}])").fetchall() == [
        (Decimal("1234579.623456789"),)
    ]
    assert len(pd.concat([pd.read_parquet(file) for file in files])) == 2


def test_json_and_csv_say_what_is_unknown_by_nothing(tmp_path: Path) -> None:
    file = tmp_path / "out"
    rows = Rows(
        ["team", "effective_cost", "change_percent", "charge_date", "restated_at"],
        [
            ["=1+1", Decimal("1E-18"), float("nan"), date(2026, 9, 1), None],
            [None, None, 1.5, None, datetime(2026, 9, 1, 3, tzinfo=UTC)],
        ],
    )
    write_table(rows, "json", file)
    assert json.loads(file.read_text(encoding="utf-8"))["rows"] == [
        {"team": "=1+1", "effective_cost": "0.000000000000000001", "change_percent": None, "charge_date": "2026-09-01",
         "restated_at": None},
        {"team": None, "effective_cost": None, "change_percent": 1.5, "charge_date": None,
         "restated_at": "2026-09-01T03:00:00Z"},
    ]  # fmt: skip
    write_table(rows, "csv", file)
    assert file.read_text(encoding="utf-8").splitlines() == [
        "team,effective_cost,change_percent,charge_date,restated_at",
        "'=1+1,0.000000000000000001,,2026-09-01,",
        ",,1.5,,2026-09-01 03:00:00",
    ]


def test_a_warehouse_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    """Types made up from the data, a column that was added since, a table that is no more."""
    warehouse = warehouse_at(tmp_path)
    with warehouse.writing() as connection:
        connection.execute("CREATE SCHEMA reports")
        connection.execute("CREATE TABLE facts_footers (path VARCHAR)")
        connection.execute(
            "CREATE TABLE rolled_up_facts AS SELECT DATE '2026-09-01' AS charge_date, 'a' AS source, 's' AS stamp"
        )
        connection.execute(
            "CREATE TABLE reports.committed_cost AS SELECT DATE '2026-09-01' AS month, NULL AS department, 'a' AS team,"
            " 'EUR' AS currency, 9.99::DECIMAL(3, 2) AS committed_cost"
        )
        connection.execute(
            "CREATE TABLE tag_coverage AS SELECT TIMESTAMP_NS '2026-08-31' AS week, 1::DECIMAL(1, 0) AS outside_cost"
        )
        connection.execute("CREATE TABLE sparse_groups (charge_date DATE, resources INTEGER)")
        warehouse.replace_days(
            connection, "sparse_groups", [], "SELECT DATE '2026-09-01' AS charge_date, 1 AS resources"
        )
        assert connection.execute(
            "SELECT charge_date, department, resources, sparse FROM sparse_groups"
        ).fetchall() == [(date(2026, 9, 1), None, 1, None)]
    warehouse.publish(Lake(tmp_path / "lake"))
    with duckdb.connect(str(warehouse.published), read_only=True) as connection:
        found = connection.execute(SCHEMA).fetchall()
        assert {name for name, *_ in found} == {"committed_cost", "tag_coverage", "sparse_groups"}
        kinds = {f"{t}.{c}": kind for t, c, kind, _ in found}
        assert kinds["committed_cost.committed_cost"] == "DECIMAL(38,18)"
        assert kinds["committed_cost.department"] == "VARCHAR"
        assert (kinds["tag_coverage.week"], kinds["tag_coverage.outside_cost"]) == ("DATE", "DECIMAL(38,18)")
        assert connection.execute("SELECT week, outside_cost FROM tag_coverage").fetchall() == [(date(2026, 8, 31), 1)]
        # What it all means stands in the copy itself.
        assert all(comment for *_, comment in found)
        assert connection.execute("SELECT count(*) FROM duckdb_tables() WHERE comment IS NULL").fetchall() == [(0,)]
