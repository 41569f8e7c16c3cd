"""The stack of many teams: dlt loads the Parquet into DuckDB, dbt attributes and rolls up. In the peers' environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import dlt
import duckdb
import pyarrow as pa
from dbt.cli.main import dbtRunner

from benchmarks.peers.answers import ASKED_TEAMS, ASKED_TOTALS, tell

PROJECT = """
name: peer
version: "1.0"
profile: peer
model-paths: [models]
flags: {send_anonymous_usage_stats: false}
models: {peer: {+materialized: table}}
"""
PROFILE = """
peer: {target: here, outputs: {here: {type: duckdb, path: '%s', schema: main, threads: 2}}}
"""
BATCH_ROWS = 100_000


def main(folder: str) -> None:
    base = Path(folder)
    told = json.loads((base / "peers.json").read_text())
    target = base / "peer_dlt_and_dbt"
    target.mkdir()
    os.environ |= {
        "DLT_DATA_DIR": str(target / "dlt"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "SCHEMA__NAMING": "direct",
    }
    warehouse = target / "warehouse.duckdb"

    def export() -> Iterator[pa.Table]:
        # dlt knows no type for a map: nested columns come as JSON, as from most connectors.
        for file in told["files"]:
            with duckdb.connect() as connection:
                relation = connection.sql(f"SELECT * REPLACE ({told['as_json']}) FROM read_parquet(?)", params=[file])
                for batch in relation.to_arrow_reader(BATCH_ROWS):
                    yield pa.Table.from_batches([batch])

    pipeline = dlt.pipeline(
        "peer",
        destination=dlt.destinations.duckdb(str(warehouse)),
        dataset_name="raw",
        pipelines_dir=str(target / "pipelines"),
    )
    pipeline.run(export(), table_name="export", write_disposition="replace", loader_file_format="parquet")
    project = target / "project"
    (project / "models").mkdir(parents=True)
    (project / "dbt_project.yml").write_text(PROJECT)
    (project / "profiles.yml").write_text(PROFILE % warehouse)
    for name, sql in told["models"].items():
        (project / "models" / f"{name}.sql").write_text(sql)
    done = dbtRunner().invoke(["build", "--quiet", "--project-dir", str(project), "--profiles-dir", str(project)])
    if not done.success:
        raise SystemExit(f"dbt: {done.exception or done.result}")
    with duckdb.connect(str(warehouse)) as connection:
        [totals] = connection.execute(ASKED_TOTALS.format(rollup="rollup")).fetchall()
        tell(totals, connection.execute(ASKED_TEAMS.format(rollup="rollup")).fetchall())


if __name__ == "__main__":
    main(sys.argv[1])
