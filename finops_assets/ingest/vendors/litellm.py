"""LiteLLM, a gateway of one's own: spend and tokens by day, model and key (GET /user/daily/activity).

By LiteLLM's reference and source: sums by UTC day of its spend log, without prompts or answers, which the log itself may hold; a page
is some of the rows that are summed, so that a day may lie on two. Amounts are JSON numbers in US dollars, at the prices of the
gateway's own list: an estimate of what the vendors bill. Spend by direction of tokens is not told. Not tried against the service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from finops_assets.ingest.vendors.vendor import Endpoint, Parameters, Row, UnlikeReference, VendorApi, text

ROWS_A_PAGE = "1000"
_TOKENS = (
    "total_tokens", "prompt_tokens", "completion_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
)  # fmt: skip
_COUNTED = (*_TOKENS, "api_requests")
_OF_A_KEY = ("key_alias", "team_id", "user_id")
_ROUNDING = Decimal("1E-9")
"""By so much sums of JSON numbers may differ, of one."""
_BY_KEY = "results.breakdown.models.*.api_key_breakdown.*"


def _asked(first: date, end: date) -> Parameters:
    last = end - timedelta(1)
    return [("start_date", str(first)), ("end_date", str(last)), ("page_size", ROWS_A_PAGE)]


def _following(answer: Mapping[str, Any]) -> Parameters | None:
    where = answer["metadata"]
    return [("page", str(int(where["page"]) + 1))] if where["has_more"] else None


def _rows(answer: Mapping[str, Any]) -> Iterator[Row]:
    for day in answer["results"]:
        listed = Decimal(0)
        for model, of_model in day["breakdown"]["models"].items():
            for key, used in of_model["api_key_breakdown"].items():
                metrics, known = used["metrics"], used.get("metadata") or {}
                listed += Decimal(metrics["spend"])
                yield {
                    "date": day["date"], "amount": text(metrics["spend"]), "currency": "USD", "model": model, "api_key": key,
                    **{name: text(known.get(name)) for name in _OF_A_KEY},
                    **{name: text(metrics.get(name) or 0) for name in _COUNTED},
                }  # fmt: skip
        spend = Decimal(day["metrics"]["spend"])
        rest = spend - listed
        if abs(rest) > _ROUNDING * max(spend, Decimal(1)):
            if rest < 0:
                raise UnlikeReference(f"models of {day['date']} have {listed} USD, and the day {spend}")
            # What is of no model, such as a call of a tool; and of a model without a key.
            yield {"date": day["date"], "amount": text(rest), "currency": "USD"}


LITELLM = VendorApi(
    name="litellm",
    url="",
    headers=lambda key: {"authorization": f"Bearer {key}"},
    costs=Endpoint(
        path="/user/daily/activity",
        asked=_asked,
        following=_following,
        rows=_rows,
        columns=("date", "amount", "currency", "model", "api_key", *_OF_A_KEY, *_COUNTED),
        kept=(
            "results.date", "results.metrics.spend",
            *(f"{_BY_KEY}.metrics.{name}" for name in ("spend", *_COUNTED)),
            *(f"{_BY_KEY}.metadata.{name}" for name in _OF_A_KEY),
            "metadata.page", "metadata.has_more",
        ),
        listed="results",
        added=("amount", *_COUNTED),
    ),
)  # fmt: skip
