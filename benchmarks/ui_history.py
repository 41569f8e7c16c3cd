"""The UI over three years of days and twenty sources: size of the history, and how long its pages' queries take.

`python -m benchmarks.ui_history`. The history is Dagster's own, written through its API: each day of each source
materialised and judged once. Then the real webserver is asked what its pages ask. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.table import Table

from benchmarks.attribution import describe_machine
from finops_assets.definitions import build_definitions
from finops_assets.graph.run_range import open_instance
from finops_assets.settings.load import load_settings
from tools.results import write_results

RESULTS = Path(__file__).parent / "results" / "ui_history.json"
REPEATS = 5
QUERIES = {
    "lineage: all assets with their partitions' counts": """
        { assetNodes { assetKey { path } groupName dependencyKeys { path } hasAssetChecks
          partitionStats { numPartitions numMaterialized numFailed } } }""",
    "overview: the newest materialisation of all assets": """
        { assetNodes { assetKey { path } assetMaterializations(limit: 1) { runId timestamp partition } } }""",
    "one asset: every partition's status": """
        { assetNodeOrError(assetKey: {path: ["cloud_cost_facts"]}) { ... on AssetNode { assetPartitionStatuses {
          ... on TimePartitionStatuses { ranges { startKey endKey status } } } } } }""",
    "one asset: its newest 100 events": """
        { assetNodeOrError(assetKey: {path: ["raw", "source_01"]}) { ... on AssetNode {
          assetMaterializations(limit: 100) { runId partition timestamp metadataEntries { label } } } } }""",
    "one asset: checks": """
        { assetNodeOrError(assetKey: {path: ["raw", "source_01"]}) { ... on AssetNode { assetChecksOrError {
          ... on AssetChecks { checks { name blocking executionForLatestMaterialization { status } } } } } } }""",
}


def project_at(folder: Path, years: int, sources: int) -> None:
    """A project's files: as many file sources, their first day so many years ago."""
    shipped = Path(__file__).parents[1]
    for name in ("dagster.yaml", "workspace.yaml"):
        (folder / name).write_text((shipped / name).read_text(encoding="utf-8"), encoding="utf-8")
    first = datetime.now(UTC).date() - timedelta(days=365 * years)
    listed = "".join(f"  - {{name: source_{n:02}, uri: bills/{n}, layout: files}}\n" for n in range(1, sources + 1))
    (folder / "finops.yaml").write_text(
        f"first_day: {first}\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\nsources:\n{listed}"
        "dimensions:\n  department: {keys: [department]}\n  team: {keys: [team]}\n",
        encoding="utf-8",
    )


def fill(instance: dg.DagsterInstance, definitions: dg.Definitions) -> dict[str, int]:
    """Report every partition of every partitioned asset as materialised, and each of its checks as passed."""
    graph = definitions.resolve_asset_graph()
    counts = {"materialisations": 0, "evaluations": 0}
    for key in graph.materializable_asset_keys:
        days = graph.get(key).partitions_def
        if days is None:
            continue
        checks = [c.name for c in graph.asset_check_keys if c.asset_key == key]
        for day in days.get_partition_keys():
            instance.report_runless_asset_event(
                dg.AssetMaterialization(key, partition=day, metadata={"rows": 20_000, "EffectiveCost": "123.45 USD"})
            )
            for check in checks:
                instance.report_runless_asset_event(
                    dg.AssetCheckEvaluation(asset_key=key, check_name=check, passed=True, partition=day)
                )
            counts["materialisations"] += 1
            counts["evaluations"] += len(checks)
    return counts


def serve_and_ask(folder: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of each query on a real webserver: the first, and the median of those that follow."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    binary = Path(sys.executable).parent / "dagster-webserver"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"} | {"DAGSTER_HOME": str(folder)}
    with (folder / "web.log").open("w") as log:
        process = subprocess.Popen(
            [str(binary), "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml"],
            cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _wait(port)
            found = {}
            for name, query in QUERIES.items():
                took = [_ask(port, query) for _ in range(1 + REPEATS)]
                found[name] = {"first_ms": took[0], "median_ms": statistics.median(took[1:])}
            return found
        finally:
            process.terminate()
            process.wait(30)


def _wait(port: int) -> None:
    for _ in range(300):
        try:
            _ask(port, "{ version }")
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(1)
    raise RuntimeError("the webserver did not come up; see web.log")


def _ask(port: int, query: str) -> float:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )
    start = time.perf_counter()
    with urllib.request.urlopen(request, timeout=120) as answer:
        told: dict[str, Any] = json.load(answer)
    if told.get("errors"):
        raise RuntimeError(f"{query}: {told['errors']}")
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Fill, ask, print, write."""
    parser = argparse.ArgumentParser(prog="benchmarks.ui_history", description=__doc__)
    parser.add_argument("--years", type=int, default=3)
    parser.add_argument("--sources", type=int, default=20)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    console = Console(width=max(110, Console().width))
    with tempfile.TemporaryDirectory(prefix="finops-bench-") as name:
        folder = Path(name)
        project_at(folder, options.years, options.sources)
        os.chdir(folder)
        os.environ.pop("DAGSTER_HOME", None)
        start = time.perf_counter()
        with console.status("filling the history"), open_instance() as instance:
            counts = fill(instance, build_definitions(load_settings(folder / "finops.yaml")))
        filled = time.perf_counter() - start
        size = sum(f.stat().st_size for f in (folder / ".dagster").rglob("*") if f.is_file()) / 1e6
        answers = serve_and_ask(folder)
    found = {
        "machine": describe_machine(),
        "years": options.years,
        "sources": options.sources,
        **counts,
        "history_mb": size,
        "filled_s": filled,
        "queries": answers,
    }
    table = Table("query", "first, ms", "then, ms", title=f"{counts}, {size:,.0f} MB")
    for name, took in answers.items():
        table.add_row(name, f"{took['first_ms']:,.0f}", f"{took['median_ms']:,.0f}")
    console.print(table)
    write_results(options.output, found)


if __name__ == "__main__":
    main()
