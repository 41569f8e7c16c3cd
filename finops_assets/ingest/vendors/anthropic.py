"""Anthropic: costs by day, workspace and what was used (GET /v1/organizations/cost_report), and the tokens that they were for
(GET /v1/organizations/usage_report/messages).

By Anthropic's Admin API reference: buckets of a day; `amount` is a decimal text in hundredths of the currency; costs of
the Priority Tier are not in it, its tokens are in the usage. A row without a workspace is of the default one. Not tried against the
service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from finops_assets.ingest.vendors.vendor import (
    CACHE_WRITE,
    CACHED,
    INPUT,
    OUTPUT,
    Endpoint,
    Parameters,
    Row,
    VendorApi,
    page_after,
    text,
)

VERSION = "2023-06-01"
DAYS_A_PAGE = "31"
OF_COST = (
    "currency", "workspace_id", "description", "cost_type", "model", "token_type", "service_tier", "context_window",
    "inference_geo",
)  # fmt: skip
_WRITTEN = "cache_creation"
DIRECTIONS = {
    "uncached_input_tokens": INPUT,
    "cache_read_input_tokens": CACHED,
    "output_tokens": OUTPUT,
    f"{_WRITTEN}.ephemeral_5m_input_tokens": f"{CACHE_WRITE}, 5 minutes",
    f"{_WRITTEN}.ephemeral_1h_input_tokens": f"{CACHE_WRITE}, 1 hour",
}
"""By the type of tokens that a cost names."""
_SHARED = ("workspace_id", "model", "service_tier", "context_window")
SHARED_BY = ("api_key_id",)
OF_TOKENS = ("date", *_SHARED, "direction")


def _asked(first: date, end: date, *by: str) -> Parameters:
    grouped = [("group_by[]", name) for name in by]
    return [
        ("starting_at", f"{first}T00:00:00Z"), ("ending_at", f"{end}T00:00:00Z"), ("bucket_width", "1d"),
        ("limit", DAYS_A_PAGE), *grouped,
    ]  # fmt: skip


def _results(answer: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for bucket in answer["data"]:
        for result in bucket["results"]:
            yield str(bucket["starting_at"])[:10], result


def _costs(answer: Mapping[str, Any]) -> Iterator[Row]:
    for day, cost in _results(answer):
        row = {name: text(cost.get(name)) for name in OF_COST}
        direction = DIRECTIONS.get(row["token_type"] or "")
        yield {"date": day, "amount": text(cost["amount"]), **row, "direction": direction}


def _usage(answer: Mapping[str, Any]) -> Iterator[Row]:
    for day, used in _results(answer):
        written = used.get(_WRITTEN) or {}
        for name, direction in DIRECTIONS.items():
            of, _, short = name.rpartition(".")
            tokens = written.get(short) if of else used[name]
            yield {
                "date": day, **{name: text(used.get(name)) for name in (*_SHARED, *SHARED_BY)}, "direction": direction,
                "tokens": str(int(tokens or 0)),
            }  # fmt: skip


def _kept(*of_a_result: str) -> tuple[str, ...]:
    return ("data.starting_at", "data.ending_at", *(f"data.results.{name}" for name in of_a_result), "has_more")


ANTHROPIC = VendorApi(
    name="anthropic",
    url="https://api.anthropic.com",
    headers=lambda key: {"x-api-key": key, "anthropic-version": VERSION},
    costs=Endpoint(
        path="/v1/organizations/cost_report",
        asked=lambda first, end: _asked(first, end, "workspace_id", "description"),
        following=page_after,
        rows=_costs,
        columns=("date", "amount", *OF_COST, "direction"),
        kept=_kept("amount", *OF_COST),
    ),
    usage=Endpoint(
        path="/v1/organizations/usage_report/messages",
        asked=lambda first, end: _asked(first, end, *_SHARED, *SHARED_BY),
        following=page_after,
        rows=_usage,
        columns=(*OF_TOKENS, *SHARED_BY, "tokens"),
        kept=_kept(*_SHARED, *SHARED_BY, *DIRECTIONS),
    ),
    of_tokens=OF_TOKENS,
    shared_by=SHARED_BY,
)
