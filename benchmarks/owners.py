"""Owner suggestions: precision at coverage on hidden tags, against two baselines; and time and memory at size.

`python -m benchmarks.owners` writes benchmarks/results/owners.json and docs/guides/owners.svg and prints the tables of
docs/guides/owners.md. Nothing is tuned on what is hidden: each round learns anew from what is left.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from benchmarks.child import measure
from benchmarks.owners_baselines import account_majority, naive_bayes
from benchmarks.owners_company import TRUTH, write_company
from benchmarks.owners_picture import picture
from finops_assets.base.period import days_between
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.facts import build_facts
from finops_assets.demo import Estate, EstateSpec
from finops_assets.evaluate.owners.backtest import (
    COVERAGES,
    SPLITS,
    at_threshold,
    calibration_error,
    hidden,
    judged_hidden,
    precision_at,
    reliability,
)
from finops_assets.evaluate.owners.evidence import gather
from finops_assets.evaluate.owners.model import labels_of
from finops_assets.evaluate.owners.resources import Resources, read_resources
from finops_assets.evaluate.owners.suggest import MIN_CONFIDENCE, suggest
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.platform import Platform
from finops_assets.settings.engine import EngineSettings
from finops_assets.settings.load import parse_settings
from finops_assets.storage.lake import Lake
from tools.results import write_results

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT.parent / "shared" / "data" / "focus_sample_1_0.csv"
RESULTS = Path(__file__).parent / "results" / "owners.json"
PICTURE = ROOT / "docs" / "guides" / "owners.svg"
SEEDS = {"sample": 5, "estate": 3, "company": 2}
ESTATE_ROWS = 300_000
COMPANY_RESOURCES = 12_000
SCALE_RESOURCES = 325_000
MADE_RULES = Rules(
    ("team", "department"),
    {"team": ("team",), "department": ("department",)},
    {"team": {}, "department": {}},
    frozenset(),
)

COMMON = "lake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"


def _built(platform: Platform, days: list[date]) -> Resources:
    """From the exports to the resources, by the platform's own path."""
    settings = platform.settings
    for source in settings.sources:
        land_source(platform.lake, settings.engine, source, settings.first_day)
        compose_days(platform.lake, settings.engine, source, days)
    build_facts(platform.lake, settings.engine, platform.rules, platform.source_names, days)
    resources = read_resources(platform.lake, settings.engine, platform.rules, platform.source_names, days)
    assert resources is not None
    return resources


def sample_resources(folder: Path) -> Resources:
    """The official FOCUS 1.0 sample, September 2024."""
    text = (
        f"first_day: 2024-09-01\n{COMMON}"
        f"sources: [{{name: sample, uri: {SAMPLE}, layout: files, known_gaps: [ContractedCost]}}]\n"
        "dimensions:\n  business_unit: {keys: [business_unit]}\n  environment: {keys: [environment, env]}\n"
    )
    platform = Platform(parse_settings(text, folder / "finops.yaml"))
    return _built(platform, days_between(date(2024, 9, 1), date(2024, 10, 1)))


def estate_resources(folder: Path) -> Resources:
    """October of the synthetic estate, three clouds."""
    days = days_between(date(2026, 10, 1), date(2026, 11, 1))
    with Estate(EstateSpec(days[0], days[-1], ESTATE_ROWS), folder / "estate") as estate:
        estate.deliver_all()
        pq.write_table(estate.owners(), folder / TRUTH)
    layouts = {"aws": "aws-data-exports", "azure": "azure-exports", "gcp": "gcs-export"}
    sources = "\n".join(f"  - {{name: {s}, uri: estate/{s}, layout: {layout}}}" for s, layout in layouts.items())
    whole = (ROOT / "finops.yaml").read_text(encoding="utf-8")
    dimensions = whole[whole.index("dimensions:") : whole.index("tag_policy:")]
    text = f"first_day: {days[0]}\n{COMMON}sources:\n{sources}\n{dimensions}"
    return _built(Platform(parse_settings(text, folder / "finops.yaml")), days)


def company_resources(folder: Path, resources: int = COMPANY_RESOURCES) -> Resources:
    """The made company of `benchmarks.owners_company`."""
    lake = Lake(folder / "lake")
    lake.root.mkdir(parents=True, exist_ok=True)
    days = write_company(lake, resources)
    found = read_resources(lake, EngineSettings(), MADE_RULES, ["made"], days)
    assert found is not None
    return found


def _mean(values: list[float]) -> float | None:
    kept = [v for v in values if v == v]
    return round(float(np.mean(kept)), 4) if kept else None


def _figures(rounds: list[pd.DataFrame], calibrated: bool) -> dict[str, Any]:
    result: dict[str, Any] = {
        "hidden": round(float(np.mean([len(r) for r in rounds]))),
        "precision_at": {str(c): _mean([precision_at(r, c) for r in rounds]) for c in COVERAGES},
        "precision_at_money": {str(c): _mean([precision_at(r, c, by_money=True) for r in rounds]) for c in COVERAGES},
    }
    if calibrated:
        curve = reliability(pd.concat(rounds))
        result["reliability"] = [{k: round(v, 4) for k, v in b.items()} for b in curve]
        result["calibration_error"] = round(calibration_error(curve), 4)
        made = [at_threshold(r, MIN_CONFIDENCE) for r in rounds]
        result["at_threshold"] = {name: _mean([m[name] for m in made]) for name in made[0]}
    return result


def accuracy(name: str, folder: str) -> dict[str, Any]:
    """Every split of every dimension of one data set."""
    makers = {"sample": sample_resources, "estate": estate_resources, "company": company_resources}
    resources = makers[name](Path(folder))
    evidence = gather(resources)
    result: dict[str, Any] = {"resources": len(resources), "dimensions": {}}
    for dimension in resources.dimensions:
        labels = labels_of(evidence, dimension)
        splits: dict[str, Any] = {}
        for split in SPLITS:
            ours: dict[bool, list[pd.DataFrame]] = {True: [], False: []}
            majority, bayes = [], []
            for seed in range(SEEDS[name]):
                hide = hidden(resources, labels, split, seed)
                if not hide.any():
                    continue
                for bare in ours:
                    ours[bare].append(judged_hidden(evidence, dimension, labels, hide, bare))
                majority.append(account_majority(resources, labels, hide))
                bayes.append(naive_bayes(resources, labels, hide))
            if not majority:
                continue
            splits[split] = {
                "ours, all tags hidden": _figures(ours[True], calibrated=True),
                "ours, other tags kept": _figures(ours[False], calibrated=True),
                "account majority": _figures(majority, calibrated=False),
                "naive Bayes": _figures(bayes, calibrated=False),
            }
        result["dimensions"][dimension] = {
            "tagged": int((labels.of >= 0).sum()),
            "values": len(labels.values),
            "splits": splits,
        }
    truth = {"estate": Path(folder) / TRUTH, "company": Path(folder) / "lake" / TRUTH}.get(name)
    if truth is not None:
        result["truly untagged"] = _truly_untagged(resources, truth)
    return result


def _truly_untagged(resources: Resources, truth: Path) -> dict[str, Any]:
    """Suggestions for the resources that nobody tagged, against their true owners."""
    owners = pd.read_parquet(truth).set_index("ResourceId")
    made = suggest(resources, ("team", "department"))
    result = {}
    for covered in made.coverage:
        table = made.table[(made.table["dimension"] == covered.dimension) & (made.table["rank"] == 1)]
        right = owners.loc[table["ResourceId"], covered.dimension].to_numpy() == table["value"].to_numpy()
        result[covered.dimension] = {
            "untagged": covered.untagged,
            "coverage": round(covered.suggested / covered.untagged, 4),
            "precision": round(float(right.mean()), 4) if len(right) else None,
            "expected": round(covered.expected_precision, 4) if len(right) else None,
        }
    return result


def prepare_scale(folder: str) -> int:
    """Write the facts of the measured size."""
    lake = Lake(Path(folder))
    return len(write_company(lake, SCALE_RESOURCES))


def scale(folder: str) -> dict[str, Any]:
    """Read the resources from the facts and suggest team and department for all untagged ones."""
    lake = Lake(Path(folder))
    resources = read_resources(lake, EngineSettings(), MADE_RULES, ["made"], lake.days("facts", "made"))
    assert resources is not None
    made = suggest(resources, ("team", "department"))
    return {
        "resources": len(resources),
        "untagged": made.coverage[0].untagged,
        "suggested": {c.dimension: c.suggested for c in made.coverage},
    }


def main() -> None:
    results: dict[str, Any] = {"min_confidence": MIN_CONFIDENCE, "seeds": SEEDS, "data": {}}
    with tempfile.TemporaryDirectory(dir=os.environ.get("FINOPS_BENCH")) as scratch:
        names = ["sample", "estate", "company"] if SAMPLE.is_file() else ["estate", "company"]
        for name in names:
            folder = Path(scratch) / name
            folder.mkdir()
            measured = measure("owners:accuracy", name, str(folder))
            results["data"][name] = measured.result
            _print(name, measured.result)
        folder = Path(scratch) / "scale"
        folder.mkdir()
        measure("owners:prepare_scale", str(folder))
        measured = measure("owners:scale", str(folder))
        results["scale"] = {
            **measured.result,
            "wall_seconds": round(measured.wall, 1),
            "cpu_seconds": round(measured.cpu, 1),
            "peak_mb": round(measured.rss_mb),
        }
    print(json.dumps(results["scale"], indent=1))
    write_results(RESULTS, results)
    PICTURE.write_text(picture(results), encoding="utf-8")


def _print(name: str, result: dict[str, Any]) -> None:
    print(f"\n{name}: {result['resources']} resources")
    print(
        "| dimension | hidden | method | " + " | ".join(f"{c:.0%}" for c in COVERAGES) + " | money 30% | money 100% |"
    )
    print("|---" * (len(COVERAGES) + 5) + "|")
    for dimension, of_dimension in result["dimensions"].items():
        for split, methods in of_dimension["splits"].items():
            for method, figures in methods.items():
                cells = [_cell(figures["precision_at"][str(c)]) for c in COVERAGES]
                money = [_cell(figures["precision_at_money"][str(c)]) for c in (0.3, 1.0)]
                print(f"| {dimension} | {split} | {method} | {' | '.join([*cells, *money])} |")
                if "at_threshold" in figures:
                    print(
                        f"    {figures['at_threshold']} calibration error {figures['calibration_error']}",
                        file=sys.stderr,
                    )
    if "truly untagged" in result:
        print(json.dumps(result["truly untagged"]))


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
