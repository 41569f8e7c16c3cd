"""OpenAI: costs by day, project and line item (GET /v1/organization/costs).

By OpenAI's API reference, Administration, Costs: buckets of a day, `amount.value` a JSON number in `amount.currency`. Usage by
model is another endpoint whose rows name no cost; it is not asked. Not tried against the service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

from finops_assets.ingest.vendors.vendor import Parameters, VendorApi, text

DAYS_A_PAGE = "31"


def _moment(day: date) -> str:
    return str(int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()))


def _asked(first: date, end: date) -> Parameters:
    return [
        ("start_time", _moment(first)), ("end_time", _moment(end)), ("bucket_width", "1d"), ("limit", DAYS_A_PAGE),
        ("group_by", "project_id"), ("group_by", "line_item"),
    ]  # fmt: skip


def _following(answer: Mapping[str, Any]) -> Parameters | None:
    return [("page", str(answer["next_page"]))] if answer.get("has_more") else None


def _rows(answer: Mapping[str, Any]) -> Iterator[Mapping[str, str | None]]:
    for bucket in answer["data"]:
        day = datetime.fromtimestamp(int(bucket["start_time"]), UTC).date()
        for cost in bucket["results"]:
            yield {
                "date": day.isoformat(),
                "amount": text(cost["amount"]["value"]),
                "currency": str(cost["amount"]["currency"]).upper(),
                "line_item": text(cost.get("line_item")),
                "project_id": text(cost.get("project_id")),
                "organization_id": text(cost.get("organization_id")),
                "quantity": text(cost.get("quantity")),
            }


OPENAI = VendorApi(
    name="openai",
    url="https://api.openai.com",
    path="/v1/organization/costs",
    headers=lambda key: {"authorization": f"Bearer {key}"},
    asked=_asked,
    following=_following,
    rows=_rows,
    columns=("date", "amount", "currency", "line_item", "project_id", "organization_id", "quantity"),
)
