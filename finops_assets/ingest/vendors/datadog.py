"""Datadog: what a month cost, by organisation, product and kind of charge (GET /api/v2/usage/historical_cost).

By Datadog's API reference, Usage Metering: a month is told by the 16th of the next one, as JSON numbers in US dollars; a product has
its kinds of charge and, of kind `total`, their sum. Not tried against the service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from finops_assets.ingest.vendors.vendor import Endpoint, Parameters, Row, VendorApi, text

TOTAL = "total"
_OF_AN_ORGANISATION = {
    "public_id": "organization_id",
    "org_name": "organization",
    "account_public_id": "account_id",
    "account_name": "account",
    "region": "region",
}
"""Datadog's name of a value, and that of its column."""


def _asked(first: date, end: date) -> Parameters:
    # A month is told whole or not at all.
    return [("view", "sub-org"), ("start_month", f"{first:%Y-%m}"), ("end_month", f"{first:%Y-%m}")]


def _rows(answer: Mapping[str, Any]) -> Iterator[Row]:
    for told in answer["data"]:
        of = told["attributes"]
        charges = [charge for charge in of["charges"] if charge["charge_type"] != TOTAL]
        apart = {charge["product_name"] for charge in charges}
        charges += [charge for charge in of["charges"] if charge["product_name"] not in apart]
        for charge in charges:
            yield {
                "date": str(of["date"])[:10], "amount": text(charge["cost"]), "currency": "USD",
                "product": text(charge["product_name"]), "charge_type": text(charge["charge_type"]),
                **{column: text(of.get(name)) for name, column in _OF_AN_ORGANISATION.items()},
            }  # fmt: skip


DATADOG = VendorApi(
    name="datadog",
    url="https://api.datadoghq.com",
    headers=lambda key, application_key: {"dd-api-key": key, "dd-application-key": application_key},
    costs=Endpoint(
        path="/api/v2/usage/historical_cost",
        asked=_asked,
        rows=_rows,
        columns=("date", "amount", "currency", "product", "charge_type", *_OF_AN_ORGANISATION.values()),
        kept=tuple(
            f"data.attributes.{name}"
            for name in (
                *("date", *_OF_AN_ORGANISATION),
                *(f"charges.{of}" for of in ("cost", "product_name", "charge_type")),
            )
        ),
    ),
)
