"""ClickHouse: facts as a MergeTree table partitioned by day and source, replaced by partition.

On the engine inside this process (a session of chDB), or on a server by its client (`Server`). A server must see the
lake's files under the paths used here, below its `user_files_path`.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.cost.attribution.rules import Rules
from finops_assets.ingest.reading.export_table import all_columns
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.storage.lake import Key, Lake, Layer

SETTINGS = {
    # Without it what finds no tag set gets '' from a column that is not declared Nullable: untagged rows count as
    # tagged, and nothing fails. The table made here declares them so; one that somebody else made may not.
    "join_use_nulls": "1",
    # Without it `coalesce(team, …) AS team` stands for the column `team` in all of the statement: no row is untagged.
    "prefer_column_name_to_alias": "1",
    "schema_inference_make_columns_nullable": "1",
    "count_distinct_implementation": "uniqExact",
    "decimal_check_overflow": "1",
    "session_timezone": "UTC",
}
_TYPES = {"decimal": "Nullable(Decimal(38, 18))", "datetime": "Nullable(DateTime64(6, 'UTC'))"}
_TEXT = "Nullable(String)"
FACTS = "facts"
"""The table."""


class Server:
    """A server, by clickhouse-connect's client, in the place of a session of chDB."""

    def __init__(self, client: Any) -> None:
        self.client = client
        # With every request: what SET says is gone with the session, which a server drops after a minute of silence.
        for name, value in SETTINGS.items():
            client.set_client_setting(name, value)

    def query(self, statement: str, form: str = "") -> pa.Table | None:
        """Run a statement; as "ArrowTable" its answer."""
        if form:
            found: pa.Table = self.client.query_arrow(statement)
            return found
        self.client.command(statement)
        return None

    def insert(self, relation: str, table: pa.Table) -> None:
        """Add rows to a table."""
        self.client.insert_arrow(relation, table)


class ClickHouse:
    """An `Engine` on a `Server`, or on a session of chDB, which then has the settings of `SETTINGS`."""

    dialect = "clickhouse"

    def __init__(self, session: Any, lake: Lake) -> None:
        self.session, self.lake = session, lake
        if not isinstance(session, Server):
            for name, value in SETTINGS.items():
                self.query(f"SET {name} = {_text(value)}")

    @property
    def name(self) -> str:
        """Its version."""
        [version] = self.table("SELECT version() AS v")["v"].to_pylist()
        return f"ClickHouse {version}"

    @property
    def at_once(self) -> int:
        """A partition each: more than 100 in one insert are refused (max_partitions_per_insert_block)."""
        return 100

    def query(self, statement: str) -> None:
        """Run a statement whose answer nobody needs."""
        self.session.query(statement)

    def table(self, query: str) -> pa.Table:
        """What a rendered statement gives."""
        return self.session.query(query, "ArrowTable")

    def put(self, table: pa.Table) -> str:
        """In this process by way of a file, which is how the engine takes the most there."""
        columns = ", ".join(f"{_name(c)} {_TEXT}" for c in table.column_names)
        names = ", ".join(map(_name, table.column_names))
        relation = f"given_{uuid.uuid4().hex}"
        self.query(f"CREATE TABLE {relation} ({columns}) ENGINE = MergeTree ORDER BY tuple()")
        if isinstance(self.session, Server):
            self.session.insert(relation, table)
            return relation
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "given.parquet"
            pq.write_table(table, file)
            self.query(f"INSERT INTO {relation} ({names}) SELECT {names} FROM {_file(file)}")
        return relation

    def show(self, layer: Layer, keys: list[Key]) -> str:
        """A view over raw days' files, or over the partitions of facts."""
        relation = f"shown_{uuid.uuid4().hex}"
        if layer == "facts":
            wanted = ", ".join(f"(toDate('{day}'), {_text(source)})" for source, day in keys)
            self.query(f"CREATE VIEW {relation} AS SELECT * FROM {FACTS} WHERE (charge_date, source) IN ({wanted})")
            return relation
        names = ", ".join(_name(c.name) for c in all_columns())
        days = [
            f"SELECT {names}, tag_set_id, {SOURCE_FILE}, {SOURCE_ROW}, {_text(source)} AS source,"
            f" toDate('{day}') AS charge_date FROM {_file(self.lake.day_file('raw', source, day))}"
            for source, day in keys
        ]
        self.query(f"CREATE VIEW {relation} AS {' UNION ALL '.join(days)}")
        return relation

    def forget(self, relation: str) -> None:
        """Drop the table or view."""
        self.query(f"DROP TABLE {relation}")

    def replace_facts(self, stamps: Mapping[Key, str], rules: Rules, query: str) -> None:
        """The days are built in a table beside the facts, whose partitions then take the place of the old ones.

        The stamps are not kept: nothing asks this engine yet what it holds.
        """
        columns = _facts_columns(rules)
        names = ", ".join(map(_name, [*columns, "source", "charge_date"]))
        declared = ", ".join(f"{_name(c)} {kind}" for c, kind in columns.items())
        self.query(
            f"CREATE TABLE IF NOT EXISTS {FACTS} ({declared}, source String, charge_date Date)"
            " ENGINE = MergeTree PARTITION BY (charge_date, source) ORDER BY tuple()"
        )
        added = ", ".join(f"ADD COLUMN IF NOT EXISTS {_name(c)} {kind}" for c, kind in columns.items())
        self.query(f"ALTER TABLE {FACTS} {added}")  # dimensions may have come since
        stage = f"{FACTS}_{uuid.uuid4().hex}"
        self.query(f"CREATE TABLE {stage} AS {FACTS}")
        try:
            self.query(f"INSERT INTO {stage} ({names}) SELECT {names} FROM ({query})")
            built = self.table(f"SELECT DISTINCT source, charge_date FROM {stage}")
            filled = set(zip(built["source"].to_pylist(), built["charge_date"].to_pylist()))
            for source, day in stamps:
                partition = f"PARTITION (toDate('{day}'), {_text(source)})"
                if (source, day) in filled:
                    self.query(f"ALTER TABLE {FACTS} REPLACE {partition} FROM {stage}")
                else:
                    self.query(f"ALTER TABLE {FACTS} DROP {partition}")  # nothing cannot take something's place
        finally:
            self.query(f"DROP TABLE {stage}")


def _facts_columns(rules: Rules) -> dict[str, str]:
    focus = {column.name: _TYPES.get(column.type, _TEXT) for column in all_columns()}
    dimensions = {name: _TEXT for d in rules.dimensions for name in (d, f"{d}_key")}
    return focus | dimensions | {"tag_set_id": _TEXT, SOURCE_FILE: _TEXT, SOURCE_ROW: "Nullable(Int64)"}


def _file(path: Path) -> str:
    return f"file({_text(str(path))}, Parquet)"


def _name(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
