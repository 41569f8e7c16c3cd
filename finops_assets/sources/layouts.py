"""The layouts by name. A new one is a module with `deliveries(store)` and a line here."""

from __future__ import annotations

from dataclasses import replace

from finops_assets.errors import FinopsError
from finops_assets.settings import Source, without_secrets
from finops_assets.sources import aws_data_exports, azure_exports, gcs_export, plain_files
from finops_assets.sources.delivery import Delivery
from finops_assets.sources.recency import recency_sectors
from finops_assets.sources.store import Store, open_store

# Mandatory columns that a provider's own documentation says may be empty or absent in its export.
KNOWN_GAPS: dict[str, tuple[str, ...]] = {
    "aws-data-exports": ("InvoiceIssuerName", "PublisherName", "PricingUnit"),
    "gcs-export": ("BillingAccountName", "ServiceCategory", "InvoiceIssuerName"),
}


def newest_deliveries(source: Source) -> tuple[Store, list[Delivery]]:
    """The newest delivery of every scope of a source, and the store that its files lie in.

    Raises:
        FinopsError: if the source's place cannot be listed.
    """
    try:
        store, pattern = open_store(source.uri)
    except ValueError as error:
        raise FinopsError(f"source {source.name!r}: uri {without_secrets(source.uri)}: {error}") from error
    match source.layout:
        case "aws-data-exports":
            found = aws_data_exports.deliveries(store)
        case "azure-exports":
            found = azure_exports.deliveries(store)
        case "gcs-export":
            found = gcs_export.deliveries(store)
        case "files":
            found = plain_files.deliveries(store, pattern)
    try:
        deliveries = sorted(found, key=lambda d: d.scope)
        sectors = recency_sectors(store)
    except OSError as error:
        raise FinopsError(f"source {source.name!r}: {without_secrets(source.uri)} cannot be listed: {error}") from error
    except ValueError as error:
        return store, [replace(d, problems=(*d.problems, str(error))) for d in deliveries]
    return store, [replace(d, sectors=sectors) for d in deliveries]
