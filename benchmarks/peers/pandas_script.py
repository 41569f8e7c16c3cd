"""The pandas way: a function a row (benchmarks.naive)."""

from __future__ import annotations

import sys

from benchmarks.naive import rollup, totals
from benchmarks.peers.answers import TOTALS, tell


def main(folder: str) -> None:
    grouped = rollup(folder, "peer_pandas_script")
    summed = totals(grouped)
    by = ["team", "ServiceCategory", "BillingCurrency"]
    teams = grouped.groupby(by)[["billed_cost", "effective_cost"]].sum().reset_index()
    tell([summed[name] for name in TOTALS], teams.itertuples(index=False))


if __name__ == "__main__":
    main(sys.argv[1])
