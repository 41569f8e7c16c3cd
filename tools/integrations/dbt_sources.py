"""integrations/dbt/models/sources.yml: the published tables as sources of dbt, as finops_assets/tables declares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import yaml

from finops_assets.cost.coverage import State
from finops_assets.tables.declarations import ALL, DIMENSIONS, Column, Table, key

FILE = Path(__file__).parents[2] / "integrations" / "dbt" / "models" / "sources.yml"
HEAD = "# Written by `python -m tools.integrations` (part of `make docs`) from finops_assets/tables/declarations.py.\n"
_OTHERS = f" Dimensions of finops.yaml other than {', '.join(DIMENSIONS)} are columns, too."


def sources() -> str:
    """The file as it has to be. Tests are on what is there wherever a day was built: the rollup and coverage."""
    written = {
        "version": 2,
        "sources": [
            _source(
                "finops",
                "The published copy of finops_assets: cost by day, and what is made of it.",
                "{{ var('finops_schema') }}",
                [_table(t, t.name) for t in _published("main")],
            ),
            _source(
                "finops_reports",
                "The reports of the published copy, as they were made when it was published.",
                "{{ var('finops_reports_schema') }}",
                [_table(t, f"{{{{ var('finops_reports_prefix') }}}}{t.name}") for t in _published("reports")],
            ),
        ],
    }
    return HEAD + yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=120)


def _published(schema: str) -> list[Table]:
    return [t for t in ALL if t.published and t.schema == schema]


def _source(name: str, meaning: str, schema: str, tables: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "description": meaning,
        "database": "{{ var('finops_database') }}",
        "schema": schema,
        "meta": {"dagster": {"asset_key": ["published_warehouse"]}},
        "tables": tables,
    }


def _table(declared: Table, called: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": declared.name,
        "identifier": called,
        "description": declared.meaning + (_OTHERS if declared.by_dimensions else ""),
        "columns": [_column(declared, c) for c in declared.columns],
    }
    if called == declared.name:
        del result["identifier"]
    match declared.name:
        case "daily_cost_by_team":
            measures = [c.name for c in declared.columns if c.name not in key()]
            result["data_tests"] = [{"finops_unique_but_for": {"arguments": {"measures": measures}}}]
        case "coverage":
            facts = [c.name for c in declared.columns if c.name not in ("charge_date", "source")]
            result["data_tests"] = [{"finops_unique_but_for": {"arguments": {"measures": facts}}}]
    return result


def _column(declared: Table, column: Column) -> dict[str, Any]:
    result: dict[str, Any] = {"name": column.name, "data_type": column.kind.lower(), "description": column.comment}
    if column.name != column.name.lower():
        result["quote"] = True
    match declared.name, column.name:
        case "daily_cost_by_team", name if name in (*key(), "billed_cost", "effective_cost"):
            result["data_tests"] = ["not_null"]
        case "coverage", "charge_date" | "source" | "since":
            result["data_tests"] = ["not_null"]
        case "coverage", "state":
            result["data_tests"] = ["not_null", {"accepted_values": {"arguments": {"values": list(get_args(State))}}}]
        case "coverage", "shown":
            values = ["current", "previous", "nothing"]
            result["data_tests"] = [{"accepted_values": {"arguments": {"values": values}}}]
    return result
