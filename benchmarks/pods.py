"""The steps of `benchmarks.clusters`, each on the state that the step before left."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import duckdb

# DuckDB imports it when a table is first registered; here, so that it counts as start-up, not as work.
import pandas  # noqa: F401
import pyarrow.parquet as pq

from finops_assets.base.sql import identifier, literal
from finops_assets.cost.facts import build_facts
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import compose_days
from finops_assets.ingest.usage.landing import land_usage
from finops_assets.platform import Platform
from finops_assets_tests.clusters import CLUSTERS
from finops_assets_tests.conftest import Site, focus_row

DAY = date(2026, 9, 1)
ROWS_A_NODE, PODS_A_NODE = 10, 50


def deliver(folder: str, parts: str, pods: str) -> dict[str, int]:
    """The bill of nodes and what ran on them; without pods a bill of as many rows as there are parts."""
    base, count = Path(folder), int(parts)
    rows = count if pods == "no" else count // PODS_A_NODE
    nodes = count // (ROWS_A_NODE * PODS_A_NODE)
    amounts = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "ConsumedQuantity", "PricingQuantity")
    amount = "CAST(CAST(1 + (n * 7919) % 100003 / 1000.0 AS DECIMAL(18, 6)) AS VARCHAR)"
    # A node's rows have its tags.
    tags = f'\'{{"team": "t\' || (n % {nodes}) % 40 || \'", "dept": "d\' || (n % {nodes}) % 7 || \'"}}\''
    given = {
        **{name: literal(str(value)) for name, value in focus_row(str(DAY), ConsumedUnit="Hours").items()},
        **dict.fromkeys(amounts, amount),
        "ResourceId": f"'i-' || lpad(to_hex(CAST(n % {nodes} + 1 AS BIGINT)), 17, '0')",
        "ResourceName": "''",
        "ChargeDescription": "'usage of kind ' || (n % 25)",
        "Tags": tags,
    }
    listed = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in given.items())
    (base / "exports").mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT {listed} FROM range({rows}) numbers(n)) TO {literal(str(base / 'exports' / 'bill.csv'))} (HEADER)"
        )
        if pods != "no":
            (base / "usage").mkdir()
            connection.execute(
                f"""
                COPY (
                    SELECT 'shop' AS cluster, 'node-' || node AS node,
                        'aws:///eu-west-1a/i-' || lpad(to_hex(CAST(node + 1 AS BIGINT)), 17, '0') AS "providerID",
                        'ns-' || (pod * 31 + node) % 60 AS namespace, 'deployment' AS "controllerKind",
                        'app-' || (pod * 7 + node) % 400 AS controller, 'app-' || (pod * 7 + node) % 400 || '-' || node || '-' || pod AS pod,
                        '{DAY}T00:00:00Z' AS "start", '{DAY}T00:00:00Z'::TIMESTAMPTZ + INTERVAL 1 DAY AS "end", 1440 AS minutes,
                        1 AS "cpuCores", 24 AS "cpuCoreHours", 0.1 + (pod * node) % 97 / 100.0 AS "cpuCost", 0.05 AS "ramCost"
                    FROM range({nodes}) n(node), range({PODS_A_NODE}) p(pod)
                ) TO {literal(str(base / "usage" / "day.csv"))} (HEADER)
                """
            )
    return {"bill_rows": rows, "nodes": nodes, "pods": 0 if pods == "no" else nodes * PODS_A_NODE}


def usage(folder: str) -> None:
    """What ran, landed."""
    platform = _platform(folder)
    [cluster] = platform.settings.clusters
    if land_usage(platform.lake, platform.settings.engine, cluster, DAY, print) != [DAY]:
        raise RuntimeError("usage was not landed")


def raw(folder: str) -> None:
    """The bill, landed and composed."""
    platform = _platform(folder)
    [source] = platform.settings.sources
    for generation in land_source(platform.lake, platform.settings.engine, source, DAY):
        if generation.state != "live":
            raise RuntimeError(generation.reason)
    compose_days(platform.lake, platform.settings.engine, source, [DAY])


def facts(folder: str) -> dict[str, Any]:
    """Facts of the day, its nodes split."""
    platform = _platform(folder)
    build_facts(platform.lake, platform.settings.engine, platform.rules, platform.source_names, [DAY])
    file = platform.lake.day_file("facts", "bill", DAY)
    return {"facts": pq.read_metadata(file).num_rows, "bytes": file.stat().st_size}


def _platform(folder: str) -> Platform:
    has_pods = (Path(folder) / "usage").is_dir()
    return Platform(Site(Path(folder), extra=CLUSTERS if has_pods else "", first_day=str(DAY)).platform.settings)
