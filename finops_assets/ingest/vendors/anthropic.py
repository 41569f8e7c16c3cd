"""Anthropic: costs by day, workspace and what was used (GET /v1/organizations/cost_report).

By Anthropic's Admin API reference, Cost report: buckets of a day, `amount` a decimal text in hundredths of the currency; costs of
the Priority Tier are not in it. A row without a workspace is of the default one. Not tried against the service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from finops_assets.ingest.vendors.vendor import Parameters, VendorApi, text

VERSION = "2023-06-01"
DAYS_A_PAGE = "31"
OF_COST = (
    "currency", "workspace_id", "description", "cost_type", "model", "token_type", "service_tier", "context_window",
    "inference_geo",
)  # fmt: skip


def _asked(first: date, end: date) -> Parameters:
    return [
        ("starting_at", f"{first}T00:00:00Z"), ("ending_at", f"{end}T00:00:00Z"), ("bucket_width", "1d"),
        ("limit", DAYS_A_PAGE), ("group_by[]", "workspace_id"), ("group_by[]", "description"),
    ]  # fmt: skip


def _following(answer: Mapping[str, Any]) -> Parameters | None:
    return [("page", str(answer["next_page"]))] if answer.get("has_more") else None


def _rows(answer: Mapping[str, Any]) -> Iterator[Mapping[str, str | None]]:
    for bucket in answer["data"]:
        day = str(bucket["starting_at"])[:10]
        for cost in bucket["results"]:
            yield {"date": day, "amount": text(cost["amount"]), **{name: text(cost.get(name)) for name in OF_COST}}


ANTHROPIC = VendorApi(
    name="anthropic",
    url="https://api.anthropic.com",
    path="/v1/organizations/cost_report",
    headers=lambda key: {"x-api-key": key, "anthropic-version": VERSION},
    asked=_asked,
    following=_following,
    rows=_rows,
    columns=("date", "amount", *OF_COST),
)
