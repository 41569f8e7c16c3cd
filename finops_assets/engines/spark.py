"""Apache Spark: facts as the lake's own files, one of a (day, source), each put in its place by the lake.

The lake must lie on a path that driver and workers share.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import reduce
from typing import Any, Literal

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from finops_assets.attribution.rules import Rules
from finops_assets.engines.transformation import ATTRIBUTION, FACTS, RAW, Key
from finops_assets.errors import LakeError
from finops_assets.lake import Lake
from finops_assets.sources.reading import SOURCE_FILE, SOURCE_ROW, all_columns

SETTINGS = {
    # An overflow is an error, not a NULL.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    # Never trade places behind the point for places before it.
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    # The lake's TIMESTAMP has no zone, here as there.
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.parquet.compression.codec": "zstd",
}


class Spark:
    """An `Engine` on a Spark session of the caller's, local or on a cluster."""

    dialect = "spark"

    def __init__(self, session: SparkSession, lake: Lake) -> None:
        self.session, self.lake = session, lake
        for name, value in SETTINGS.items():
            session.conf.set(name, value)

    def table(self, query: str) -> pa.Table:
        """What a rendered statement gives."""
        return self.session.sql(query).toArrow()

    def put_attribution(self, resolved: pa.Table) -> None:
        """From Arrow: by way of pandas a missing value became the text 'NaN', and nothing was untagged."""
        frame: Any = self.session.createDataFrame(resolved)
        frame.createOrReplaceTempView(ATTRIBUTION)

    def show_raw(self, keys: Iterable[Key]) -> None:
        """A view over the days' files, each read by its own columns."""
        columns = [*(c.name for c in all_columns()), "tag_set_id", SOURCE_FILE, SOURCE_ROW]
        self._day_files("raw", keys, columns).createOrReplaceTempView(RAW)

    def show_facts(self, keys: Iterable[Key]) -> str:
        """A view over the days' files."""
        self._day_files("facts", keys, ["*"]).createOrReplaceTempView(FACTS)
        return FACTS

    def replace_facts(self, key: Key, rules: Rules, query: str) -> None:
        """One task writes the day's file beside the lake's, the lake puts it in its place: one rename, no folder.

        The file carries no stamp of what it was built from: DuckDB's build takes such a day for stale and builds it anew.
        """
        with self.lake.workspace() as workspace:
            folder = workspace / "facts"
            self.session.sql(query).coalesce(1).write.parquet(str(folder))
            parts = sorted(folder.glob("part-*.parquet"))
            if len(parts) != 1:
                raise LakeError(
                    f"source {key[0]}, {key[1]}: Spark left {len(parts)} files in {folder}, expected 1;"
                    " see that driver and workers share the lake's path"
                )
            with self.lake.replacing(self.lake.day_file("facts", *key)) as temporary:
                os.replace(parts[0], temporary)

    def _day_files(self, layer: Literal["raw", "facts"], keys: Iterable[Key], columns: list[str]) -> DataFrame:
        days = [
            self.session.read.parquet(str(self.lake.day_file(layer, source, day)))
            .select(*columns)
            .withColumns({"source": F.lit(source), "charge_date": F.lit(day)})
            for source, day in keys
        ]
        return reduce(DataFrame.unionByName, days)
