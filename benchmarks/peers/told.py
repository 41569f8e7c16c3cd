"""What the peers are told, in a file: where the export lies, the rules, and dbt's models."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb

from benchmarks.peers.rules_in_sql import FILLED, attributed, rollup
from benchmarks.platform import configuration, export_files
from finops_assets.base.sql import identifier
from finops_assets.focus.normal import normal_key, normal_value
from finops_assets.storage.duck import file_list


def tell_peers(folder: str) -> None:
    """Write `peers.json` below the folder."""
    settings, files = configuration(), export_files(Path(folder))
    with duckdb.connect() as connection:
        described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({file_list(files)})").fetchall()
    nested = [name for name, kind, *_ in described if kind.startswith(("MAP(", "STRUCT(")) or kind.endswith("[]")]
    own = "SELECT * REPLACE (CAST(CAST(Tags AS JSON) AS MAP(VARCHAR, VARCHAR)) AS Tags) FROM raw.export"
    told = {
        "files": [str(file) for file in files],
        "as_json": ", ".join(f"CAST(to_json({identifier(n)}) AS VARCHAR) AS {identifier(n)}" for n in nested),
        "filled": FILLED,
        "rules": {
            "placeholders": sorted({"", *map(normal_value, settings.placeholders)}),
            "dimensions": {
                name: (
                    [normal_key(key) for key in dimension.keys],
                    {normal_value(k): normal_value(v) for k, v in dimension.values.items()},
                )
                for name, dimension in settings.dimensions.items()
            },
        },
        "models": {"facts": attributed(f"({own})"), "rollup": rollup("{{ ref('facts') }}", "DECIMAL(38, 9)")},
    }
    (Path(folder) / "peers.json").write_text(json.dumps(told))
