"""Waste: precision and recall of the findings on an estate with planted waste, by certainty and by kind.

`python -m benchmarks.waste` writes benchmarks/results/waste.json; `make figures` puts the tables into docs/guides/waste.md. The bills go
the platform's own way: landed, attributed, and looked at as every night. The rules were not chosen on these seeds.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.waste_estate import DAYS, FIRST, PROVIDERS, Planted, plant
from finops_assets.cost.facts import build_facts
from finops_assets.evaluate.waste.find import read_waste
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from tools.results import write_results

RESULTS = Path(__file__).parent / "results" / "waste.json"
SEEDS, EACH = (71, 72, 73), 12
CERTAINTIES = ("high", "medium", "low")


def found_in(planted: Planted, folder: Path, held: Mapping[str, Iterable[date]] | None = None) -> pd.DataFrame:
    """The findings of an estate's bills; of `held` days the sources' facts count as not known."""
    text = f"first_day: {FIRST}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\ndimensions: {{team: {{keys: [team]}}}}\nsources:\n" + "".join(
        f"  - {{name: {source}, provider: {provider}, uri: {source}, layout: files}}\n" for source, provider in PROVIDERS.items()
    )  # fmt: skip
    platform = Platform(parse_settings(text, folder / "finops.yaml"))
    settings, days = platform.settings, [FIRST + timedelta(days=n) for n in range(DAYS)]
    for source in settings.sources:
        place = folder / source.name
        place.mkdir(parents=True)
        rows = planted.rows[source.name]
        pq.write_table(
            pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in rows[0]])), place / "all.parquet"
        )
        land_source(platform.lake, settings.engine, source, settings.first_day)
        compose_days(platform.lake, settings.engine, source, days)
    build_facts(platform.lake, settings.engine, platform.rules, platform.source_names, days)
    known = {(source, day) for source in PROVIDERS for day in days if day not in set((held or {}).get(source, ()))}
    return read_waste(platform.lake, settings.engine, settings.providers, known).frame()


def judged(planted: Planted, found: pd.DataFrame) -> list[dict[str, Any]]:
    """Every resource: what it is, and as what it was found. Right is a finding of the kind that was planted."""
    of = {(row["source"], row["ResourceId"]): row for row in found.to_dict("records")}
    assert set(of) <= {(r.source, r.id) for r in planted.resources}
    return [
        {
            "case": r.case, "waste": r.waste, "shown": r.shown, "kind": (f := of.get((r.source, r.id), {})).get("kind", ""),
            "certainty": f.get("certainty", ""), "a_month": float(f.get("cost_a_month", 0)),
        }
        for r in planted.resources
    ]  # fmt: skip


def figures(resources: Iterable[Mapping[str, Any]], shown_alone: bool = False) -> dict[str, Any]:
    """Precision of what was found, recall of what was planted; `money_right`: of the money of the findings, what was waste."""
    resources = list(resources)
    found = [r for r in resources if r["kind"]]
    right = [r for r in found if r["kind"] == r["waste"]]
    planted = [r for r in resources if r["waste"] and (r["shown"] or not shown_alone)]
    return {
        "found": len(found), "right": len(right), "planted": len(planted),
        "precision": round(len(right) / len(found), 4) if found else None,
        "recall": round(sum(r["kind"] == r["waste"] for r in planted) / len(planted), 4) if planted else None,
        "money_right": round(sum(r["a_month"] for r in right) / sum(r["a_month"] for r in found), 4) if found else None,
    }  # fmt: skip


def measured(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """All figures of the results."""
    kinds = sorted({r["waste"] for r in resources if r["waste"]})
    return {
        "resources": len(resources),
        "all": figures(resources),
        "what_a_bill_can_show": figures(resources, shown_alone=True),
        "by_certainty": {c: figures(r for r in resources if r["certainty"] == c) for c in CERTAINTIES},
        "by_kind": {
            kind: figures((r for r in resources if kind in (r["waste"], r["kind"])), shown_alone=True) for kind in kinds
        },
        "wrongly_found": count(r["case"] for r in resources if r["kind"] and r["kind"] != r["waste"]),
        "not_found": count(r["case"] for r in resources if r["waste"] and r["kind"] != r["waste"]),
    }


def count(names: Iterable[str]) -> dict[str, int]:
    listed = list(names)
    return {name: listed.count(name) for name in sorted(set(listed))}


def main() -> None:
    resources = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory(dir=os.environ.get("FINOPS_BENCH")) as folder:
            planted = plant(seed, EACH)
            resources += judged(planted, found_in(planted, Path(folder)))
    results = measured(resources)
    print(json.dumps(results, indent=1))
    write_results(RESULTS, results)


if __name__ == "__main__":
    main()
