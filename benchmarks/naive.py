"""The way a first version would do it: the whole export in pandas, a function per row, a DuckDB table.

It is written with care, not as a straw man: one pass over a row's tags, the same rules, no copies beyond
those that `assign` makes.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd

from benchmarks.platform import configuration, export_files
from finops_assets.focus.normal import normal_key, normal_value

MISSING = {"environment": "__unknown__", "ServiceCategory": "Other"}


def load(folder: str) -> dict[str, int | float]:
    """What the rollup sums to."""
    return totals(rollup(folder))


def rollup(folder: str, name: str = "naive") -> pd.DataFrame:
    """Read, attribute row by row, store, group."""
    settings = configuration()
    names = list(settings.dimensions)
    aliases = [[normal_key(k) for k in settings.dimensions[d].keys] for d in names]
    values = [{normal_value(k): normal_value(v) for k, v in settings.dimensions[d].values.items()} for d in names]
    placeholders = {normal_value(p) for p in settings.placeholders} | {""}

    def owners(tags: list[tuple[str, str | None]] | None) -> list[str | None]:
        usable: dict[str, str] = {}
        for key, value in sorted(tags or ()):
            text = normal_value(value) if value is not None else ""
            if text not in placeholders:
                usable.setdefault(normal_key(key), text)
        found = []
        for keys, unified in zip(aliases, values):
            value = next((usable[k] for k in keys if k in usable), None)
            found.append(None if value is None else unified.get(value, value))
        return found

    base = Path(folder)
    frame = pd.concat([pd.read_parquet(file) for file in export_files(base)], ignore_index=True)
    owned = pd.DataFrame(frame["Tags"].apply(owners).tolist(), columns=names, index=frame.index)
    frame = frame.assign(**{name: owned[name] for name in names}, charge_date=frame["ChargePeriodStart"].dt.date)
    target = base / name / "warehouse.duckdb"
    target.parent.mkdir(parents=True)
    with duckdb.connect(str(target)) as connection:
        connection.execute("CREATE TABLE cloud_cost_facts AS SELECT * FROM frame")
    key = ["charge_date", "ProviderName", *names, "ServiceCategory", "BillingCurrency"]
    filled = frame[[*key, "BilledCost", "EffectiveCost", "ResourceId", "CommitmentDiscountId"]].assign(
        untagged=frame["department"].isna() | frame["team"].isna()
    )
    filled = filled.fillna(dict.fromkeys(names, "__untagged__") | MISSING)
    return filled.groupby(key, sort=False).agg(
        billed_cost=("BilledCost", "sum"),
        effective_cost=("EffectiveCost", "sum"),
        resource_count=("ResourceId", "nunique"),
        row_count=("BilledCost", "size"),
        untagged_rows=("untagged", "sum"),
        committed_rows=("CommitmentDiscountId", "count"),
    )


def totals(grouped: pd.DataFrame) -> dict[str, int | float]:
    """What a rollup sums to."""
    return {
        "rows": int(grouped["row_count"].sum()),
        "billed": float(grouped["billed_cost"].sum()),
        "effective": float(grouped["effective_cost"].sum()),
        "untagged_rows": int(grouped["untagged_rows"].sum()),
        "resources": int(grouped["resource_count"].sum()),
        "groups": len(grouped),
    }
