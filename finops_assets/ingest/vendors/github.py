"""GitHub: usage of an organisation by day, product, SKU and repository (GET /organizations/{org}/settings/billing/usage).

By GitHub's REST reference, Enhanced billing: one answer a month, amounts JSON numbers in US dollars. Seats (Copilot, licences) are told
by day in user-months, so that they are accrued as GitHub does it. Usage that belongs to a cost center of an enterprise is not in it. Not
tried against the service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from finops_assets.ingest.vendors.vendor import Endpoint, Parameters, Row, VendorApi, text

VERSION = "2022-11-28"
_NAMES = {
    "product": "product",
    "sku": "sku",
    "quantity": "quantity",
    "unitType": "unit_type",
    "pricePerUnit": "price_per_unit",
    "grossAmount": "gross_amount",
    "discountAmount": "discount_amount",
    "organizationName": "organization",
    "repositoryName": "repository",
}
"""GitHub's name of a value, and that of its column."""


def _asked(first: date, end: date) -> Parameters:
    # A month is asked for whole: a day alone would be a question each.
    return [("year", str(first.year)), ("month", str(first.month))]


def _rows(answer: Mapping[str, Any]) -> Iterator[Row]:
    for item in answer["usageItems"]:
        yield {
            "date": str(item["date"])[:10], "amount": text(item["netAmount"]), "currency": "USD",
            **{column: text(item.get(name)) for name, column in _NAMES.items()},
        }  # fmt: skip


GITHUB = VendorApi(
    name="github",
    url="https://api.github.com",
    headers=lambda key: {
        "authorization": f"Bearer {key}",
        "accept": "application/vnd.github+json",
        "x-github-api-version": VERSION,
    },
    costs=Endpoint(
        path="/organizations/{account}/settings/billing/usage",
        asked=_asked,
        following=lambda _: None,
        rows=_rows,
        columns=("date", "amount", "currency", *_NAMES.values()),
        kept=tuple(f"usageItems.{name}" for name in ("date", "netAmount", *_NAMES)),
        listed="usageItems",
    ),
)
