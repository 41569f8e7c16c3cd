"""A polars script: distinct sets of tags by a Python function, facts as one Parquet file. In the peers' environment."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.peers.answers import TOTALS, tell

# The author has looked at the bill: no amount of it has more places.
MONEY = pl.Decimal(38, 9)
SEPARATORS = re.compile(r"[\s\-_.]+")


def owners(rules: dict[str, Any], tags: dict[str, str | None] | None) -> list[str | None]:
    """The dimensions of a set of tags."""
    usable: dict[str, str] = {}
    for key, written in sorted((tags or {}).items()):
        value = (written or "").strip().lower()
        if value not in rules["placeholders"]:
            usable.setdefault(SEPARATORS.sub("", key.strip().casefold().removeprefix("user:")), value)
    found = []
    for aliases, values in rules["dimensions"].values():
        value_found = next((usable[alias] for alias in aliases if alias in usable), None)
        found.append(None if value_found is None else values.get(value_found, value_found))
    return found


def main(folder: str) -> None:
    base = Path(folder)
    told = json.loads((base / "peers.json").read_text())
    rules, names = told["rules"], list(told["rules"]["dimensions"])
    target = base / "peer_polars_script"
    target.mkdir()
    export = pl.scan_parquet(told["files"])
    export = export.with_columns(tags_hash=pl.col("Tags").hash())
    sets = export.select("tags_hash", "Tags").unique("tags_hash").collect(engine="streaming")
    resolved = [owners(rules, tags) for tags in sets["Tags"].to_list()]
    dimensions = pl.DataFrame(resolved, schema=dict.fromkeys(names, pl.String), orient="row")
    facts = (
        export.join(dimensions.with_columns(sets["tags_hash"]).lazy(), on="tags_hash", how="left", nulls_equal=True)
        .drop("tags_hash")
        .with_columns(charge_date=pl.col("ChargePeriodStart").dt.date())
    )
    facts.sink_parquet(target / "facts.parquet", compression="zstd", compression_level=1)
    rollup = (
        pl.scan_parquet(target / "facts.parquet")
        .with_columns(
            *(pl.col(name).fill_null(told["filled"].get(name, "__untagged__")) for name in names),
            pl.col("ServiceCategory").fill_null("Other"),
            untagged=pl.col("department").is_null() | pl.col("team").is_null(),
        )
        .group_by("charge_date", "ProviderName", *names, "ServiceCategory", "BillingCurrency")
        .agg(
            billed_cost=pl.col("BilledCost").cast(MONEY).sum(),
            effective_cost=pl.col("EffectiveCost").cast(MONEY).sum(),
            resource_count=pl.col("ResourceId").drop_nulls().n_unique(),
            row_count=pl.len(),
            untagged_rows=pl.col("untagged").sum(),
        )
        .collect(engine="streaming")
    )
    rollup.write_parquet(target / "rollup.parquet")
    totals = {
        "rows": rollup["row_count"].sum(),
        "untagged_rows": rollup["untagged_rows"].sum(),
        "resources": rollup["resource_count"].sum(),
        "groups": len(rollup),
        "billed": rollup["billed_cost"].sum(),
        "effective": rollup["effective_cost"].sum(),
    }
    by = ["team", "ServiceCategory", "BillingCurrency"]
    teams = rollup.group_by(by).agg(pl.col("billed_cost", "effective_cost").sum()).sort(by)
    tell([totals[name] for name in TOTALS], teams.rows())


if __name__ == "__main__":
    main(sys.argv[1])
