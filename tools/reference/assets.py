"""docs/reference/assets.md: assets, checks, sensors, schedules and jobs, as Dagster is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finops_assets.definitions import build_definitions
from finops_assets.judge.gates.shadow import GATE as AGREES
from finops_assets.settings.load import parse_settings
from tools.reference.markdown import code, linked, table

EVERYTHING = """
first_day: 2026-09-01
lake: lake
warehouse: warehouse.duckdb
published: finops.duckdb
sources:
  - {name: aws, provider: AWS, uri: exports, layout: aws-data-exports}
  - {name: aws_old, provider: AWS, uri: old, layout: files, shadow_of: aws}
dimensions:
  department: {keys: [department]}
  team: {keys: [team]}
  environment: {keys: [environment]}
tag_policy: {required: [department, team], target: {untagged_below: 10, by: 2026-12-31}}
budgets: budgets.csv
currency: {reporting: EUR, rates: rates.csv}
shared_cost:
  - {name: untagged, cost: {team: __untagged__}, method: proportional}
"""
"""A configuration in which everything is there."""
SHADOW = "aws_old"


def page() -> str:
    definitions = build_definitions(parse_settings(EVERYTHING, Path("finops.yaml")))
    repository = definitions.get_repository_def()
    graph = definitions.resolve_asset_graph()
    lines = [
        "# Assets and checks",
        "",
        "Made from the definitions by `make docs`, for a finops.yaml with one source `aws`, budgets, currency and shared cost;",
        "without the latter their assets are not there. Of a shadow, `aws_old`, only what it has besides. Dagster's UI shows",
        "the same.",
        "",
        "## Assets",
        "",
    ]
    specs = sorted(
        definitions.resolve_all_asset_specs(), key=lambda each: (_rank(each.group_name), each.key.to_user_string())
    )
    lines += table(
        ["asset", "group", "by day", "what it is"],
        (
            [
                code(s.key.to_user_string()),
                str(s.group_name),
                "yes" if s.partitions_def else "",
                linked(s.description or ""),
            ]
            for s in specs
            if not _of_shadow(s.key.path[-1])
        ),
    )
    lines += [
        "",
        "## Checks",
        "",
        "A check that blocks holds the day, or with `required: false` warns; the others warn alone.",
        "",
    ]
    checks = [graph.get_check_spec(key) for key in graph.asset_check_keys]
    rank = {spec.key: place for place, spec in enumerate(specs)}
    lines += table(
        ["check", "blocks", "passes when"],
        (
            [code(f"{c.asset_key.to_user_string()}:{c.name}"), "yes" if c.blocking else "", linked(c.description or "")]
            for c in sorted(checks, key=lambda each: (rank[each.asset_key], each.name))
            if c.name == AGREES or not (_of_shadow(c.asset_key.path[-1]) or _of_shadow(c.name))
        ),
    )
    sensors = [(s.name, _every(s), s.description or "") for s in repository.sensor_defs]
    schedules = [(s.name, code(str(s.cron_schedule)), s.description or "") for s in repository.schedule_defs]
    lines += [
        "",
        "## Sensors and schedules",
        "",
        "All are on by default while Dagster's daemon runs. Times are UTC.",
        "",
    ]
    lines += table(
        ["name", "when", ""],
        ([code(name), when, linked(said)] for name, when, said in sensors + schedules if not _of_shadow(name)),
    )
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__") and not _of_shadow(job.name)]
    lines += ["", "## Jobs", ""]
    lines += table(["job", ""], ([code(job.name), linked(job.description or "")] for job in jobs))
    return "\n".join([*lines, ""])


GROUPS = ("deliveries", "raw", "facts", "rollup", "evaluation", "reports")
"""In the order in which data goes through them."""


def _rank(group: str | None) -> int:
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


def _of_shadow(name: str) -> bool:
    return SHADOW in name


def _every(sensor: Any) -> str:
    return f"every {sensor.minimum_interval_seconds} s"
