"""The layouts by name. A new one is a module with `deliveries(store)` and a line here."""

from __future__ import annotations

from collections.abc import Iterable
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
        deliveries = _one_per_scope(found)
        try:
            sectors = recency_sectors(store)
        except ValueError as error:
            return store, [replace(d, problems=(*d.problems, str(error))) for d in deliveries]
    except OSError as error:
        raise FinopsError(f"source {source.name!r}: {without_secrets(source.uri)} cannot be listed: {error}") from error
    return store, [replace(d, sectors=sectors) for d in deliveries]


def _one_per_scope(found: Iterable[Delivery]) -> list[Delivery]:
    """One delivery for each scope. Two would replace each other in turn, and one's cost would be lost in silence."""
    by_scope: dict[str, list[Delivery]] = {}
    for delivery in found:
        by_scope.setdefault(delivery.scope, []).append(delivery)
    result = []
    for _, same in sorted(by_scope.items()):
        problems = tuple(problem for delivery in same for problem in delivery.problems)
        readable = [delivery for delivery in same if delivery.manifest and delivery.generation != "unreadable"]
        if len(readable) > 1:
            manifests = ", ".join(str(delivery.manifest) for delivery in readable)
            problems += (
                f"{len(readable)} exports give billing period {same[0].scope} ({manifests});"
                " make each export a source of its own, with a uri that ends at its folder",
            )
        result.append(replace(same[-1], problems=problems))
    return result
