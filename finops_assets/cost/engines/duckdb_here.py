"""This machine's DuckDB: the rows of a raw file are copied, not carried through the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.base.errors import LakeError
from finops_assets.base.interrupts import stopped_by_signals
from finops_assets.base.parquet_join import join_columns
from finops_assets.base.sql import literal
from finops_assets.cost.attribution.combinations import RULED, combinations_query, ruled_table
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.attribution.tag_sets import TagTexts
from finops_assets.cost.engines.engine import Query
from finops_assets.cost.facts_query import KEPT, dimensions_of_row, joined
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.day_files import facts_relation, put_day, raw_relation
from finops_assets.storage.duck import connect, one_file
from finops_assets.storage.lake import Key, Lake, Layer

ARROW_ROWS = 122_880


class DuckDBHere:
    """An `Engine`: DuckDB in this process, within the bounds of finops.yaml."""

    name = f"DuckDB {duckdb.__version__}"
    rows_at_once = 5_000_000
    """Exact distinct counts are held in memory: a long range is summed a few million facts at a time."""

    def __init__(self, lake: Lake, bounds: EngineSettings) -> None:
        self.lake, self.bounds = lake, bounds

    def attribute(self, rules: Rules, resolved: pa.Table, stamps: Mapping[Key, str], layer: Layer = "raw") -> None:
        """Two days at a time."""
        with self.lake.workspace() as workspace, connect(self.bounds, workspace / "spill") as connection:
            connection.execute("SET preserve_insertion_order = true")
            _load(connection, resolved)
            texts = TagTexts(self.lake)

            def build(key: Key) -> None:
                with stopped_by_signals(connection.cursor()) as cursor:
                    _build_day(cursor, self.lake, rules, texts, layer, *key, stamps[key])

            # Small days are bound by latency, not by the processor: two at a time fill it.
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(build, stamps))

    def rows(
        self, layer: Layer, keys: Iterable[Key], query: Query, here: duckdb.DuckDBPyConnection
    ) -> list[tuple[Any, ...]]:
        files = self.lake.fetch(self.lake.day_file(layer, *key) for key in keys)
        relation = raw_relation if layer == "raw" else facts_relation
        return here.execute(query(relation(files))).fetchall() if files else []

    @contextmanager
    def away(self, keys: Iterable[Key]) -> Iterator[None]:
        yield None


def _load(connection: duckdb.DuckDBPyConnection, resolved: pa.Table) -> None:
    connection.register("resolved_arrow", resolved)
    connection.execute("CREATE OR REPLACE TABLE attribution AS SELECT * FROM resolved_arrow")
    connection.unregister("resolved_arrow")


def _build_day(
    cursor: duckdb.DuckDBPyConnection,
    lake: Lake,
    rules: Rules,
    texts: TagTexts,
    layer: Layer,
    source: str,
    day: date,
    stamp: str,
) -> None:
    raw_file = lake.day_file(layer, source, day)
    raw = f"read_parquet({literal(one_file(raw_file))}, hive_partitioning = false, file_row_number = true)"
    of_day = rules.of_day(source, day)
    if of_day:
        met = cursor.sql(combinations_query(of_day, raw)).to_arrow_table()
        cursor.register("ruled_arrow", ruled_table(of_day, met, texts.of(source)))
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE {RULED} AS SELECT * FROM ruled_arrow")
        cursor.unregister("ruled_arrow")
    # Rows are not carried through the engine: it says what stands beside each, in the order in which they lie.
    query = (
        f"SELECT r.file_row_number, {dimensions_of_row(rules, of_day)} {joined(raw, 'attribution', of_day)} ORDER BY 1"
    )
    with lake.workspace() as workspace:
        beside = workspace / "dimensions.parquet"
        _write_dimensions(cursor.sql(query).to_arrow_reader(ARROW_ROWS), pq.read_metadata(raw_file), beside)
        put_day(
            lake,
            (source, day),
            lambda file: join_columns(raw_file, KEPT, beside, file, {"finops_stamp": stamp}),
        )


def _write_dimensions(batches: pa.RecordBatchReader, raw: pq.FileMetaData, target: Path) -> None:
    """The dimensions of a raw file's rows, in its row groups. The first column says which row each is of."""
    schema = pa.schema(list(batches.schema)[1:])
    waiting, seen = schema.empty_table(), 0
    with pq.ParquetWriter(target, schema, compression="zstd", store_schema=False) as writer:
        for rows in (raw.row_group(n).num_rows for n in range(raw.num_row_groups)):
            while waiting.num_rows < rows:
                batch = batches.read_next_batch()
                if not np.array_equal(batch.column(0), np.arange(seen, seen + batch.num_rows)):
                    raise LakeError(f"{target.name}: the engine gave rows in another order than the raw file's")
                seen += batch.num_rows
                waiting = pa.concat_tables([waiting, pa.table(batch).select(schema.names)])
            writer.write_table(waiting.slice(0, rows), row_group_size=max(rows, 1))
            waiting = waiting.slice(rows)
