"""Databricks: usage by day, workspace, SKU and what used it (system.billing.usage), at list prices (system.billing.list_prices).

By Databricks' references of both tables and of the Statement Execution API. Usage that was corrected has a row that takes it back
and one that stands for it, which are added up here. Amounts are quantity by price, multiplied here, as the engine rounds such
products: what is used, at list prices, before what a contract takes off. Not tried against the service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, localcontext
from functools import partial
from typing import Any

from finops_assets.ingest.vendors.statements import databricks_rows
from finops_assets.ingest.vendors.vendor import DIGITS, Endpoint, Row, VendorApi, text

_SELECTED = {
    "date": "CAST(u.usage_date AS STRING)",
    "account_id": "u.account_id",
    "workspace_id": "u.workspace_id",
    "sku_name": "u.sku_name",
    "cloud": "u.cloud",
    "unit": "u.usage_unit",
    "product": "u.billing_origin_product",
    "custom_tags": "to_json(u.custom_tags)",
    "cluster_id": "u.usage_metadata.cluster_id",
    "warehouse_id": "u.usage_metadata.warehouse_id",
    "job_id": "u.usage_metadata.job_id",
    "endpoint_name": "u.usage_metadata.endpoint_name",
    "run_as": "u.identity_metadata.run_as",
    "currency": "p.currency_code",
    "price": "CAST(p.pricing.effective_list.default AS STRING)",
    "quantity": "CAST(sum(u.usage_quantity) AS STRING)",
}
COLUMNS = tuple(_SELECTED)
SQL = f"""SELECT {", ".join(f"{sql} AS {name}" for name, sql in _SELECTED.items())}
FROM system.billing.usage u
LEFT JOIN system.billing.list_prices p ON p.sku_name = u.sku_name AND p.cloud = u.cloud AND p.usage_unit = u.usage_unit
    AND p.currency_code = 'USD' AND u.usage_end_time >= p.price_start_time
    AND (p.price_end_time IS NULL OR u.usage_end_time < p.price_end_time)
WHERE u.usage_date >= :first AND u.usage_date < :end
GROUP BY ALL"""


def _rows(answer: Mapping[str, Any]) -> Iterator[Row]:
    for used in answer["data"]:
        row = {name: text(used[name]) for name in COLUMNS}
        quantity, price = row["quantity"], row["price"]
        with localcontext(prec=DIGITS):
            # Without a price it costs nobody knows what, and not nothing.
            amount = None if price is None else format((Decimal(quantity or 0) * Decimal(price)).normalize(), "f")
        if Decimal(quantity or 0) != 0:
            yield {**row, "amount": amount}


DATABRICKS = VendorApi(
    name="databricks",
    url="",
    headers=lambda key: {"authorization": f"Bearer {key}"},
    costs=Endpoint(
        path="/api/2.0/sql/statements",
        steps=partial(databricks_rows, SQL, COLUMNS),
        rows=_rows,
        columns=("date", "amount", *COLUMNS[1:]),
        kept=tuple(f"data.{name}" for name in COLUMNS),
        may_lack_price=True,
    ),
)
