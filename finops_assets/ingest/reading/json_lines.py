"""JSON lines as a part: an object a row, staged as Parquet with all columns as text, numbers with the digits they have."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.base.errors import DeliveryRefused
from finops_assets.ingest.reading.parts import DIGITS, ROWS_AT_ONCE, Part, judged, own_names
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW


def open_json_lines(
    _: duckdb.DuckDBPyConnection, source: str, scope: str, path: Path, key: str, number: int, staging: Path
) -> Part:
    """A file of JSON lines, compressed or not. A key that a row lacks is null there.

    Raises:
        DeliveryUnread: this machine cannot read it.
        DeliveryRefused: a line is no JSON object, or the file is cut off.
    """
    target = staging / f"{number:0{DIGITS}}.staged.parquet"
    try:
        # Read twice: what a row has may stand in the last alone.
        found = list(dict.fromkeys(name for row in _rows(source, scope, path, key) for name in row))
        names = own_names(source, scope, key, found)
        fields = [*(pa.field(name, pa.string()) for name in names), pa.field(SOURCE_FILE, pa.string())]
        schema = pa.schema([*fields, pa.field(SOURCE_ROW, pa.int64())])
        count = 0
        with pq.ParquetWriter(target, schema, compression="snappy") as writer:
            for rows in _batches(_rows(source, scope, path, key)):
                values = [[_text(row.get(name)) for row in rows] for name in found]
                places = list(range(count + 1, count + len(rows) + 1))
                writer.write_batch(
                    pa.record_batch([*map(_strings, values), _strings([key] * len(rows)), places], schema)
                )
                count += len(rows)
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        content = f"is not readable to its end ({error}); have it delivered again"
        raise judged(error, source, scope, content, key) from error
    return Part(key, number, target, dict.fromkeys(names, "VARCHAR"), count, staged=True)


def _rows(source: str, scope: str, path: Path, key: str) -> Iterator[dict[str, Any]]:
    opened = gzip.open if key.lower().endswith(".gz") else open
    with opened(path, "rb") as lines:
        for place, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                # As text: a float would have other digits than the file.
                row = json.loads(line, parse_float=str, parse_int=str)
            except (ValueError, RecursionError) as error:
                raise DeliveryRefused(source, scope, f"line {place} is no JSON ({error})", file=key) from error
            if not isinstance(row, dict):
                raise DeliveryRefused(source, scope, f"line {place} is no JSON object: {str(row)[:80]!r}", file=key)
            yield row


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _strings(values: list[str | None]) -> pa.Array:
    return pa.array(values, pa.string())
