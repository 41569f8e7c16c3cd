"""A delivery's rows in the lake's form, split: one folder of Parquet a charge day."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb

from finops_assets.base.sql import identifier, literal
from finops_assets.ingest.reading.export_table import all_columns, map_column, repairs_json
from finops_assets.ingest.reading.participants import with_participants
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW, ExportTable
from finops_assets.ingest.reading.spelling import AS_SPECIFIED, Spelling
from finops_assets.storage.duck import threads

# Splitting a month buffers up to this many rows for each of its days, over all threads; then a row group is
# written. Memory is what limits it: a row takes 1 to 2 KB, as text from a CSV more; then it is tried with half as many.
FLUSH_ROWS, LEAST_FLUSH_ROWS = 10_000, 600
# Level 3, the default, makes files 4 % smaller and costs 9 % more (docs/reference/performance.md).
COMPRESSION = "COMPRESSION zstd, COMPRESSION_LEVEL 1"


def canonical_rows(
    export: ExportTable, tag_join: str, written: Spelling = AS_SPECIFIED, marketplace: str = "false"
) -> str:
    """SQL: an export's rows in the lake's form. Every row in gives exactly one row out.

    `written` tells how the files write what is not as FOCUS says, `marketplace` is SQL (over the rows, alias e) of a
    charge that the publisher sells through the provider.

    The inner query reads: canonical columns, and beside each what was found where it may need repair.
    The outer one says what was repaired.
    """
    columns = {}
    for column in all_columns():
        if column.name not in ("Tags", "AllocatedTags"):
            name = export.focus_columns.get(column.name)
            columns[column.name] = map_column(column, name, export.types[name] if name else "", written)
    mapped = [*(columns | with_participants(columns, export.focus_columns, marketplace)).values()]
    found = [f"{m.found} AS {m.found_name}" for m in mapped if m.found]
    bad_tags = [
        ("not_a_tag_set", "Tags", "bad_tags IS NOT NULL", "bad_tags"),
        ("not_a_tag_set", "AllocatedTags", "bad_allocated_tags IS NOT NULL", "bad_allocated_tags"),
    ]
    bad_tags += [(n.rule, n.column, f"note_{i} IS NOT NULL", f"note_{i}") for i, n in enumerate(export.notes)]
    notes = "".join(f"CAST({note.found} AS VARCHAR) AS note_{i}, " for i, note in enumerate(export.notes))
    others = [f"e.{identifier(name)}" for name in export.other_columns]
    kept = [*(m.name for m in mapped), "Tags", "AllocatedTags", "tag_set_id", SOURCE_FILE, SOURCE_ROW]
    return f"""
        SELECT {", ".join(kept)},
            {repairs_json(mapped, bad_tags)} AS repairs,
            {"".join(f"{identifier(name)}, " for name in export.other_columns)}
            CAST(ChargePeriodStart AS DATE) AS charge_date
        FROM (
            SELECT {", ".join(f"{m.sql} AS {m.name}" for m in mapped)},
                {"".join(f"{f}, " for f in found)}
                {"".join(f"{o}, " for o in others)}
                {notes}
                t."Tags" AS Tags, t."AllocatedTags" AS AllocatedTags, t.tag_set_id, t.bad_tags, t.bad_allocated_tags,
                e.{SOURCE_FILE}, CAST(e.{SOURCE_ROW} AS BIGINT) AS {SOURCE_ROW}
            FROM ({export.sql}) e LEFT JOIN met_tags t ON {tag_join}
        )
    """


def write_days(connection: duckdb.DuckDBPyConnection, rows: str, folder: Path) -> None:
    """One Parquet file a charge day, within the engine's memory."""
    flush = FLUSH_ROWS // threads(connection)
    while True:
        folder.mkdir()
        connection.execute("SET partitioned_write_flush_threshold = ?", [flush])
        try:
            connection.execute(
                f"COPY ({rows}) TO {literal(str(folder))}"
                f" (FORMAT parquet, {COMPRESSION}, WRITE_BLOOM_FILTER false, PARTITION_BY (charge_date))"
            )
        except duckdb.OutOfMemoryException:
            flush //= 2
            if flush < LEAST_FLUSH_ROWS:
                raise
            shutil.rmtree(folder)
        else:
            return
