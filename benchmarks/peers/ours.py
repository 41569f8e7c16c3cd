"""Delivered Parquet to rollup with every gate, as the asset graph does it."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import ours
from benchmarks.peers.answers import ASKED_TEAMS, ASKED_TOTALS, tell
from benchmarks.platform import platform_at
from finops_assets.cost.rollup import ROLLUP_TABLE


def main(folder: str) -> None:
    ours.everything(folder, "peer_ours")
    with platform_at(Path(folder), "peer_ours").warehouse.reading() as connection:
        [totals] = connection.execute(ASKED_TOTALS.format(rollup=ROLLUP_TABLE)).fetchall()
        tell(totals, connection.execute(ASKED_TEAMS.format(rollup=ROLLUP_TABLE)).fetchall())


if __name__ == "__main__":
    main(sys.argv[1])
