"""A plain DuckDB script: one Parquet file of facts, one table of the rollup; a billing period is its unit."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

from benchmarks.peers.answers import ASKED_TEAMS, ASKED_TOTALS, tell
from benchmarks.peers.rules_in_sql import attributed, rollup
from benchmarks.platform import export_files
from finops_assets.base.sql import literal
from finops_assets.storage.duck import file_list

# Its author has looked at the bill: no amount of it has more places.
MONEY = "DECIMAL(38, 9)"


def main(folder: str) -> None:
    target = Path(folder) / "peer_duckdb_script"
    target.mkdir(parents=True)
    with duckdb.connect(target / "warehouse.duckdb") as connection:
        connection.execute("SET preserve_insertion_order = false")
        facts = literal(str(target / "facts.parquet"))
        export = f"read_parquet({file_list(export_files(Path(folder)))})"
        connection.execute(f"COPY ({attributed(export)}) TO {facts} (FORMAT parquet, COMPRESSION zstd)")
        connection.execute(f"CREATE TABLE rollup AS {rollup(f'read_parquet({facts})', MONEY)}")
        [totals] = connection.execute(ASKED_TOTALS.format(rollup="rollup")).fetchall()
        tell(totals, connection.execute(ASKED_TEAMS.format(rollup="rollup")).fetchall())


if __name__ == "__main__":
    main(sys.argv[1])
