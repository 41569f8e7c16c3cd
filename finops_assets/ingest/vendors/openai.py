"""OpenAI: costs by day, project, API key and line item (GET /v1/organization/costs), and the tokens that they were for
(GET /v1/organization/usage/completions).

By OpenAI's API reference, Administration: buckets of a day; of costs `amount.value` is a JSON number in `amount.currency`; of usage
`input_tokens` has the cached ones in it, and those written to the cache, where they are told. A line item of tokens is read as "MODEL, DIRECTION", as OpenAI's cost page spells it; the
reference names no form. What is not for tokens of completions has the quantity and unit that its cost tells. Not tried against the service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

from finops_assets.ingest.vendors.vendor import (
    CACHE_WRITE,
    CACHED,
    INPUT,
    OUTPUT,
    Endpoint,
    Parameters,
    Row,
    UnlikeReference,
    VendorApi,
    page_after,
    text,
)

DAYS_A_PAGE = "31"
DIRECTIONS = {
    "input": INPUT, "cached input": CACHED, "input cached": CACHED, "cache write": CACHE_WRITE, "input cache write": CACHE_WRITE,
    "output": OUTPUT,
}  # fmt: skip
"""By how a line item ends."""
OF_TOKENS = ("date", "project_id", "api_key_id", "model", "direction")
SHARED_BY = ("user_id",)
_AS_TOLD = ("line_item", "project_id", "api_key_id", "organization_id", "quantity", "quantity_unit")
_OF_A_COST = ("amount.value", "amount.currency", *_AS_TOLD)
_COUNTS = ("input_tokens", "input_cached_tokens", "input_cache_write_tokens", "input_uncached_tokens", "output_tokens")
_OF_A_USE = ("project_id", "api_key_id", "user_id", "model", *_COUNTS)


def _moment(day: date) -> str:
    return str(int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()))


def _asked(first: date, end: date, *by: str) -> Parameters:
    grouped = [("group_by", name) for name in ("project_id", "api_key_id", *by)]
    return [("start_time", _moment(first)), ("end_time", _moment(end)), ("bucket_width", "1d"), ("limit", DAYS_A_PAGE), *grouped]  # fmt: skip


def _results(answer: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for bucket in answer["data"]:
        day = datetime.fromtimestamp(int(bucket["start_time"]), UTC).date()
        for result in bucket["results"]:
            yield day.isoformat(), result


def _costs(answer: Mapping[str, Any]) -> Iterator[Row]:
    for day, cost in _results(answer):
        item = text(cost.get("line_item"))
        model, _, named = (item or "").rpartition(", ")
        direction = named.replace("_", " ").removesuffix(" tokens")
        of_tokens = bool(model) and direction in DIRECTIONS
        yield {
            "date": day,
            "amount": text(cost["amount"]["value"]),
            "currency": str(cost["amount"]["currency"]).upper(),
            **{name: text(cost.get(name)) for name in _AS_TOLD},
            "model": model if of_tokens else None,
            "direction": DIRECTIONS[direction] if of_tokens else None,
        }


def _usage(answer: Mapping[str, Any]) -> Iterator[Row]:
    for day, used in _results(answer):
        cached, written = (int(used.get(name) or 0) for name in ("input_cached_tokens", "input_cache_write_tokens"))
        given, told = int(used["input_tokens"]), used.get("input_uncached_tokens")
        uncached = given - cached - written if told is None else int(told)
        if uncached < 0:
            raise UnlikeReference(f"{cached + written} cached input tokens of {given} input tokens on {day}")
        counted = {INPUT: uncached, CACHED: cached, OUTPUT: int(used["output_tokens"])}
        if written:
            counted[CACHE_WRITE] = written
        for direction, tokens in counted.items():
            yield {
                "date": day, **{name: text(used.get(name)) for name in ("project_id", "api_key_id", "user_id", "model")},
                "direction": direction, "tokens": str(tokens),
            }  # fmt: skip


def _kept(of_a_result: tuple[str, ...]) -> tuple[str, ...]:
    return ("data.start_time", "data.end_time", *(f"data.results.{name}" for name in of_a_result), "has_more")


OPENAI = VendorApi(
    name="openai",
    url="https://api.openai.com",
    headers=lambda key: {"authorization": f"Bearer {key}"},
    costs=Endpoint(
        path="/v1/organization/costs",
        asked=lambda first, end: _asked(first, end, "line_item"),
        following=page_after,
        rows=_costs,
        columns=("date", "amount", "currency", *_AS_TOLD, "model", "direction"),
        kept=_kept(_OF_A_COST),
    ),
    usage=Endpoint(
        path="/v1/organization/usage/completions",
        asked=lambda first, end: _asked(first, end, "user_id", "model"),
        following=page_after,
        rows=_usage,
        columns=(*OF_TOKENS, *SHARED_BY, "tokens"),
        kept=_kept(_OF_A_USE),
    ),
    of_tokens=OF_TOKENS,
    shared_by=SHARED_BY,
)  # fmt: skip
