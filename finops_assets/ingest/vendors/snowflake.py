"""Snowflake: usage in currency by day, account and service (SNOWFLAKE.ORGANIZATION_USAGE.USAGE_IN_CURRENCY_DAILY).

By Snowflake's references of the view and of the SQL API: amounts are NUMBER(38, 2) in the currency of the contract, up to 72 hours
late, and change until the month is closed; those who buy from a reseller do not see them. Not tried against the service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from finops_assets.ingest.vendors.statements import snowflake_rows
from finops_assets.ingest.vendors.vendor import Endpoint, Row, VendorApi, text

_SELECTED = {
    "date": "TO_CHAR(USAGE_DATE, 'YYYY-MM-DD')",
    "organization": "ORGANIZATION_NAME",
    "contract": "CONTRACT_NUMBER",
    "account_name": "ACCOUNT_NAME",
    "account": "ACCOUNT_LOCATOR",
    "region": "REGION",
    "edition": "SERVICE_LEVEL",
    "service_type": "SERVICE_TYPE",
    "rating_type": "RATING_TYPE",
    "billing_type": "BILLING_TYPE",
    "balance_source": "BALANCE_SOURCE",
    "is_adjustment": "CAST(IS_ADJUSTMENT AS VARCHAR)",
    "currency": "CURRENCY",
    "quantity": "CAST(USAGE AS VARCHAR)",
    "amount": "CAST(USAGE_IN_CURRENCY AS VARCHAR)",
}
COLUMNS = tuple(_SELECTED)
SQL = f"""SELECT {", ".join(_SELECTED.values())}
FROM SNOWFLAKE.ORGANIZATION_USAGE.USAGE_IN_CURRENCY_DAILY
WHERE USAGE_DATE >= TO_DATE(?) AND USAGE_DATE < TO_DATE(?)"""


def _rows(answer: Mapping[str, Any]) -> Iterator[Row]:
    for used in answer["data"]:
        yield {name: text(used[name]) for name in COLUMNS}


SNOWFLAKE = VendorApi(
    name="snowflake",
    url="",
    headers=lambda key: {
        "authorization": f"Bearer {key}",
        "x-snowflake-authorization-token-type": "PROGRAMMATIC_ACCESS_TOKEN",
        "accept": "application/json",
    },
    costs=Endpoint(
        path="/api/v2/statements",
        steps=partial(snowflake_rows, SQL, COLUMNS),
        rows=_rows,
        columns=COLUMNS,
        kept=tuple(f"data.{name}" for name in COLUMNS),
    ),
)
