"""The files of a (source, day): as relations, and what each says that it was built from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from finops_assets.storage.duck import by_source_and_day, file_list
from finops_assets.storage.lake import Key, Lake, Layer, source_and_day

SPARK_COLUMNS = b"org.apache.spark.sql.parquet.row.metadata"


def judged_layer(lake: Lake, key: Key) -> Layer:
    """Where the facts of a (source, day) lie that its gates judge: those that wait, else those that passed before."""
    return "unreleased" if lake.holds(lake.day_file("unreleased", *key)) else "facts"


def facts_rules(file: Path) -> str | None:
    """The version of the rules that a facts file was attributed with."""
    stamp = stamp_of(file)
    return stamp.partition(" ")[0] if stamp else None


def stamp_of(file: Path) -> str | None:
    """What a facts file says that it was built from: see `facts_stamp`."""
    import pyarrow.parquet as pq  # a report reads no files of days

    told: dict[bytes, bytes] = pq.read_metadata(file).metadata or {}
    if stamp := told.get(b"finops_stamp"):
        return stamp.decode()
    # Spark writes no keys of ours, but what it is told with a column: the stamps of all days that it wrote together.
    columns = json.loads(told.get(SPARK_COLUMNS, b"{}")).get("fields", [])
    stamps = next((found for c in columns if (found := c.get("metadata", {}).get("finops_stamps"))), None)
    source, day = source_and_day(file)
    by_day: dict[str, str] = json.loads(stamps or "{}")
    return by_day.get(f"{source} {day}")


def facts_relation(files: list[Path], of_any_rules: bool = False) -> str:
    """SQL: facts files as one relation with source and charge_date from their folders.

    `of_any_rules`: they may have been attributed under rules with other dimensions; it then has all of them.
    """
    return by_source_and_day(file_list(files), union_by_name=of_any_rules)


def raw_relation(files: list[Path]) -> str:
    """SQL: raw files as one relation with source and charge_date from their folders."""
    return by_source_and_day(file_list(files), union_by_name=True)


def put_day(lake: Lake, key: Key, write: Callable[[Path], object]) -> None:
    """Put what `write` writes to a path where a (source, day)'s facts wait for their gates; it must carry the stamp."""
    with lake.replacing(lake.day_file("unreleased", *key)) as temporary:
        write(temporary)
