"""The charge rows as each source writes them: column names, types, time and tag encodings."""

from __future__ import annotations

from datetime import datetime

from finops_assets.demo.catalog import CURRENCY
from finops_assets.demo.model import resource_table
from finops_assets.demo.plan import Delivery
from finops_assets.demo.rows import MOVED, rows_sql
from finops_assets.demo.spec import EstateSpec, period_end, period_start

FOCUS_1_0_COLUMNS: tuple[str, ...] = (
    "AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency",
    "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription",
    "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "CommitmentDiscountCategory",
    "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountStatus", "CommitmentDiscountType",
    "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice", "EffectiveCost",
    "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory", "PricingQuantity", "PricingUnit",
    "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType",
    "ServiceCategory", "ServiceName", "SkuId", "SkuPriceId", "SubAccountId", "SubAccountName", "Tags",
)  # fmt: skip

FOCUS_1_2_COLUMNS: tuple[str, ...] = tuple(
    sorted(
        (
            *FOCUS_1_0_COLUMNS, "BillingAccountType", "CapacityReservationId", "CapacityReservationStatus",
            "CommitmentDiscountQuantity", "CommitmentDiscountUnit", "InvoiceId", "PricingCurrency",
            "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost",
            "PricingCurrencyListUnitPrice",
            "ServiceSubcategory", "SkuMeter", "SkuPriceDetails", "SubAccountType",
        )
    )
)  # fmt: skip

_STATUS_COLUMNS = ("x_DatasetCompletionStatus", "x_DatasetLastUpdated")

COLUMNS: dict[str, tuple[str, ...]] = {
    "aws": (*FOCUS_1_2_COLUMNS, "x_Discounts", "x_Operation", "x_ServiceCode", *_STATUS_COLUMNS),
    "azure": (*FOCUS_1_0_COLUMNS, *_STATUS_COLUMNS),
    "gcp": (*FOCUS_1_0_COLUMNS, "x_CostType", "x_ExportTime", *_STATUS_COLUMNS),
}

_BILLING_ACCOUNT = {
    "aws": ("999900001111", "estate-payer", "Management account"),
    "azure": (
        "/providers/microsoft.billing/billingaccounts/4711000/billingprofiles/main",
        "Estate Main",
        "Billing profile",
    ),
    "gcp": ("01AAAA-02BBBB-03CCCC", "estate-billing", "Billing account"),
}
_PROVIDER = {
    "aws": ("AWS", "Amazon Web Services, Inc."),
    "azure": ("Microsoft", "Microsoft"),
    "gcp": ("Google Cloud", "Google Cloud"),
}
_COMMITMENT = {
    "aws": ("Spend", "Savings Plan"),
    "azure": ("Usage", "Reservation"),
    "gcp": ("Usage", "Committed use"),
}
_EMPTY_TAGS = {
    "aws": "MAP {}::MAP(VARCHAR, VARCHAR)",
    "azure": "'{}'",
    "gcp": "[]::STRUCT(key VARCHAR, value VARCHAR)[]",
}


def _money(source: str, units: str) -> str:
    if source == "aws":
        # Both operands are whole and below 2**53 (or a multiple of a power of two), so the quotient is the
        # double nearest to the decimal, and its shortest print is that decimal.
        return f"CAST({units} AS DOUBLE) / 1e10"
    if source == "azure":
        return f"CAST({units} AS DECIMAL(19,0)) * CAST('0.0000000001' AS DECIMAL(11,10))"
    return f"CAST(({units}) // 10 AS DECIMAL(28,0)) * CAST('0.000000001' AS DECIMAL(10,9))"


def _quantity(source: str, quantity: str) -> str:
    return f"CAST({quantity} AS {'DOUBLE' if source == 'aws' else 'DECIMAL(38,9)'})"


def _time(source: str, timestamp: str) -> str:
    if source == "aws":
        return f"CAST({timestamp} AS TIMESTAMP_MS)"
    if source == "azure":
        return f"strftime({timestamp}, '%Y-%m-%dT%H:%MZ')"
    return f"CAST({timestamp} AS TIMESTAMPTZ)"


def _literal_time(source: str, moment: datetime) -> str:
    if source == "azure":
        return f"'{moment:%Y-%m-%dT%H:%MZ}'"
    return _time(source, f"TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S}'")


def _expressions(spec: EstateSpec, delivery: Delivery, delivered_at: datetime) -> dict[str, str]:
    """Column name to SQL, over ``c`` (the rows), ``r`` (their resources) and ``m`` (the commitments)."""
    source = delivery.source
    account_id, account_name, account_type = _BILLING_ACCOUNT[source]
    provider, issuer = _PROVIDER[source]
    commitment_category, commitment_type = _COMMITMENT[source]
    start = datetime.combine(period_start(delivery.period), datetime.min.time())
    end = datetime.combine(period_end(delivery.period), datetime.min.time())
    priced = "c.kind NOT IN ('tax', 'credit')"
    sku = (
        "upper(left(md5(coalesce(c.meter, r.service_name)), 10)) || '-'"
        " || CASE WHEN c.meter IS NULL THEN draw(c.bits, 44, 4) ELSE 0 END"
    )
    unit = "coalesce(c.unit, r.unit)"
    closed = delivered_at >= end
    return {
        "AvailabilityZone": (
            "CASE WHEN r.service_category = 'Compute' AND NOT r.is_commitment "
            "THEN r.region_id || '-' || chr(CAST(97 + r.rid % 3 AS INTEGER)) END"
        ),
        "BilledCost": _money(source, "c.billed"),
        "BillingAccountId": f"'{account_id}'",
        "BillingAccountName": f"'{account_name}'",
        "BillingAccountType": f"'{account_type}'",
        "BillingCurrency": f"'{CURRENCY[source]}'",
        "BillingPeriodStart": _literal_time(source, start),
        "BillingPeriodEnd": _literal_time(source, end),
        "CapacityReservationId": "CASE WHEN c.reservation IS NOT NULL THEN r.resource_id END",
        "CapacityReservationStatus": "c.reservation",
        "ChargeCategory": (
            "CASE c.kind WHEN 'purchase' THEN 'Purchase' WHEN 'tax' THEN 'Tax' "
            "WHEN 'credit' THEN 'Credit' ELSE 'Usage' END"
        ),
        "ChargeClass": "CASE WHEN c.kind = 'correction' THEN 'Correction' END",
        "ChargeDescription": "coalesce(c.meter, r.service_name || ' ' || c.kind)",
        "ChargeFrequency": (
            "CASE c.kind WHEN 'purchase' THEN 'Recurring' WHEN 'tax' THEN 'Recurring' "
            "WHEN 'credit' THEN 'One-Time' ELSE 'Usage-Based' END"
        ),
        "ChargePeriodStart": _time(source, "c.charge_start"),
        "ChargePeriodEnd": _time(source, "c.charge_end"),
        "CommitmentDiscountCategory": f"CASE WHEN c.commitment IS NOT NULL THEN '{commitment_category}' END",
        "CommitmentDiscountId": "m.resource_id",
        "CommitmentDiscountName": "m.resource_name",
        "CommitmentDiscountQuantity": (
            f"CASE WHEN c.commitment IS NOT NULL THEN {_quantity(source, 'c.quantity')} END"
        ),
        "CommitmentDiscountStatus": (
            "CASE WHEN c.commitment IS NOT NULL AND c.kind = 'usage' THEN 'Used' "
            "WHEN c.kind = 'unused' THEN 'Unused' END"
        ),
        "CommitmentDiscountType": f"CASE WHEN c.commitment IS NOT NULL THEN '{commitment_type}' END",
        "CommitmentDiscountUnit": f"CASE WHEN c.commitment IS NOT NULL THEN {unit} END",
        "ConsumedQuantity": (
            f"CASE WHEN c.kind IN ('usage', 'refund', 'correction') THEN {_quantity(source, 'c.quantity')} END"
        ),
        "ConsumedUnit": f"CASE WHEN c.kind IN ('usage', 'refund', 'correction') THEN {unit} END",
        "ContractedCost": _money(source, "c.contracted_price * c.quantity"),
        "ContractedUnitPrice": f"CASE WHEN {priced} THEN {_money(source, 'c.contracted_price')} END",
        "EffectiveCost": _money(source, "c.effective"),
        "InvoiceId": f"'INV-{delivery.period}-{source}'" if closed else "CAST(NULL AS VARCHAR)",
        "InvoiceIssuerName": f"'{issuer}'",
        "ListCost": _money(source, "c.list_price * c.quantity"),
        "ListUnitPrice": f"CASE WHEN {priced} THEN {_money(source, 'c.list_price')} END",
        "PricingCategory": (
            f"CASE WHEN NOT ({priced}) THEN NULL WHEN c.kind <> 'purchase' "
            "AND c.commitment IS NOT NULL THEN 'Committed' "
            "WHEN c.kind = 'usage' AND draw(c.bits, 50, 20) = 0 THEN 'Dynamic' ELSE 'Standard' END"
        ),
        "PricingCurrency": f"'{CURRENCY[source]}'",
        "PricingCurrencyContractedUnitPrice": (f"CASE WHEN {priced} THEN {_money(source, 'c.contracted_price')} END"),
        "PricingCurrencyEffectiveCost": _money(source, "c.effective"),
        "PricingCurrencyListUnitPrice": f"CASE WHEN {priced} THEN {_money(source, 'c.list_price')} END",
        "PricingQuantity": f"CASE WHEN {priced} THEN {_quantity(source, 'c.quantity')} END",
        "PricingUnit": f"CASE WHEN {priced} THEN {unit} END",
        "ProviderName": f"'{provider}'",
        "PublisherName": f"'{provider}'",
        "RegionId": "r.region_id",
        "RegionName": "r.region_name",
        "ResourceId": "r.resource_id",
        "ResourceName": "r.resource_name",
        "ResourceType": "r.resource_type",
        "ServiceCategory": "r.service_category",
        "ServiceName": "r.service_name",
        "ServiceSubcategory": "r.service_subcategory",
        "SkuId": f"CASE WHEN {priced} THEN {sku} END",
        "SkuMeter": f"CASE WHEN {priced} THEN coalesce(c.meter, r.unit || ' meter ' || draw(c.bits, 44, 4)) END",
        "SkuPriceDetails": (
            "CASE WHEN r.service_subcategory = 'Virtual Machines' "
            "AND NOT r.is_commitment THEN MAP {'CoreCount': CAST(2 + 2 * (r.rid % 8) AS VARCHAR), "
            "'OperatingSystem': 'Linux'} END"
        ),
        "SkuPriceId": f"CASE WHEN {priced} THEN {sku} || '.P1' END",
        "SubAccountId": "r.account_id",
        "SubAccountName": "r.account_name",
        "SubAccountType": "'Linked account'",
        "Tags": (
            "CASE WHEN c.untagged THEN NULL WHEN r.bare AND NOT r.is_line_item "
            f"AND r.rid % 8 = 3 THEN {_EMPTY_TAGS[source]} WHEN {MOVED} THEN r.tags_later ELSE r.tags END"
        ),
        "x_CostType": ("CASE c.kind WHEN 'tax' THEN 'tax' WHEN 'correction' THEN 'adjustment' ELSE 'regular' END"),
        "x_DatasetCompletionStatus": "CASE WHEN c.incomplete THEN 'Incomplete' ELSE 'Complete' END",
        "x_DatasetLastUpdated": _literal_time(source, delivered_at),
        "x_Discounts": (
            "CASE WHEN draw(c.bits, 52, 10) = 0 AND c.kind = 'usage' "
            "THEN MAP {'PrivateRateDiscount': CAST((c.contracted_price - c.list_price) * c.quantity AS "
            "DOUBLE) / 1e10} END"
        ),
        "x_ExportTime": _literal_time(source, delivered_at),
        "x_Operation": (
            f"CASE WHEN {priced} THEN ['RunInstances', 'GetObject', 'PutObject', 'Invoke'][1 + draw(c.bits, 44, 4)] END"
        ),
        "x_ServiceCode": "replace(r.service_name, ' ', '')",
    }


def select_sql(spec: EstateSpec, delivery: Delivery, delivered_at: datetime) -> str:
    """The rows of the loaded plan in the source's own columns and types."""
    source = delivery.source
    expressions = _expressions(spec, delivery, delivered_at)
    columns = ",\n  ".join(f'{expressions[name]} AS "{name}"' for name in COLUMNS[source])
    resources = resource_table(source)
    return f"""
SELECT {columns}
FROM ({rows_sql(spec, source)}) AS c
JOIN {resources} AS r ON r.rid = c.rid
LEFT JOIN (SELECT rid, resource_id, resource_name FROM {resources} WHERE is_commitment) AS m
  ON m.rid = c.commitment"""
