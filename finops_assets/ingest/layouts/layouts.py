"""The layouts by name. A new one is a module with `deliveries(store)` and a line here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from finops_assets.base.errors import FinopsError
from finops_assets.base.secrets import without_secrets
from finops_assets.ingest.layouts import aws_data_exports, azure_exports, dlt, gcs_export, native_bills, oci_focus
from finops_assets.ingest.layouts.delivery import Delivery
from finops_assets.ingest.layouts.listing import Known, ListedStore
from finops_assets.ingest.layouts.metadata import stated_schemas
from finops_assets.ingest.layouts.recency import recency_sectors
from finops_assets.ingest.vendors.shipped import PERIOD, mapping_file
from finops_assets.settings.sources import Source
from finops_assets.storage.stores.open import open_store
from finops_assets.storage.stores.store import Store, StoreError


def newest_deliveries(
    source: Source, known: Known | None = None, now: datetime | None = None
) -> tuple[Store, list[Delivery]]:
    """The newest delivery of every scope of a source, and the store that its files lie in.

    With `known` (see `known_manifests`) a manifest that has not changed is not read again and its files are
    not looked at: such a delivery comes back as `unchanged`. `now` is the time that quiet time counts to.

    Raises:
        FinopsError: if the source's place cannot be listed.
    """
    shown = without_secrets(source.uri)
    try:
        store, pattern = open_store(source.uri, source.endpoint_url)
    except ValueError as error:
        raise FinopsError(f"source {source.name!r}: uri {shown}: {error}") from error
    except StoreError as error:
        raise FinopsError(f"source {source.name!r}: {error}") from error
    look = ListedStore(store, known)
    try:
        deliveries = _one_per_scope(_one_export(_deliveries(source, look, pattern, now)))
        try:
            sectors, schemas = recency_sectors(look), stated_schemas(look)
        except ValueError as error:
            return store, [replace(d, problems=(*d.problems, str(error))) for d in deliveries]
    except OSError as error:
        raise FinopsError(f"source {source.name!r}: {shown} cannot be listed: {error}") from error
    except StoreError as error:
        raise FinopsError(f"source {source.name!r}: {error}") from error
    return store, [_as_mapped(source, replace(d, sectors=sectors, schemas=schemas)) for d in deliveries]


def _as_mapped(source: Source, delivery: Delivery) -> Delivery:
    """With another mapping the same files are another delivery: their rows come out different."""
    file = mapping_file(source)
    if file is None or not file.is_file():
        return delivery
    mark = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return replace(delivery, generation=f"{delivery.generation}-{mark}")


def known_manifests(deliveries: Iterable[Delivery]) -> dict[str, tuple[str, str, str]]:
    """What to hand to the next look as `known`: of every delivery without problems its manifest, as plain JSON."""
    known: dict[str, tuple[str, str, str]] = {}
    for delivery in deliveries:
        # What waits may be complete by the next look without any change of its manifest.
        if delivery.problems or not delivery.manifest or not delivery.manifest_etag:
            continue
        known[delivery.manifest] = delivery.manifest_etag, delivery.generation, delivery.scope
        known |= {key: (etag, "", "") for key, etag in delivery.superseded}
        known |= azure_exports.companions_known(delivery)
    return known


def _deliveries(source: Source, store: ListedStore, pattern: str, now: datetime | None) -> Iterator[Delivery]:
    period = PERIOD if source.fetch else source.period_pattern
    plain = native_bills.Files(pattern, source.quiet_minutes, period, now)
    match source.layout:
        case "aws-data-exports":
            return aws_data_exports.deliveries(store, now)
        case "azure-exports":
            return azure_exports.deliveries(store)
        case "gcs-export":
            return gcs_export.deliveries(store, source.quiet_minutes, now)
        case "oci-focus":
            return oci_focus.deliveries(store, source.quiet_minutes, now)
        case "dlt":
            return dlt.deliveries(store, source.table)
        case "aws-cur":
            return iter(native_bills.aws_cur(store, plain))
        case "azure-actual-amortized":
            return iter(native_bills.azure_actual_amortized(store, plain))
        case "gcp-detailed":
            return iter(native_bills.gcp_detailed(store, plain))
        case "oci-cost-report":
            return iter(native_bills.oci_cost_report(store, plain))
        case "files":
            return plain.below(store)


def _one_export(found: Iterable[Delivery]) -> list[Delivery]:
    """Two exports below one place: their costs may be the same, and each would replace the other's."""
    deliveries = list(found)
    where: dict[str, str] = {}
    for delivery in deliveries:
        if delivery.export is not None:
            where.setdefault(delivery.export, delivery.manifest or delivery.scope)
    if len(where) < 2:
        return deliveries
    problem = (
        f"{len(where)} exports lie below the uri ({'; '.join(f'{export}: {key}' for export, key in where.items())});"
        " make each export a source of its own, with a uri that ends at its folder"
    )
    return [replace(d, problems=(*d.problems, problem), unchanged=False) for d in deliveries]


def _one_per_scope(found: Iterable[Delivery]) -> list[Delivery]:
    """One delivery for each scope. Two would replace each other in turn, and one's cost would be lost in silence."""
    by_scope: dict[str, list[Delivery]] = {}
    for delivery in found:
        by_scope.setdefault(delivery.scope, []).append(delivery)
    result = []
    for _, same in sorted(by_scope.items()):
        problems = tuple(dict.fromkeys(problem for delivery in same for problem in delivery.problems))
        readable = [delivery for delivery in same if delivery.manifest and delivery.generation != "unreadable"]
        if len(readable) > 1 and len({delivery.export for delivery in readable}) == 1:
            manifests = ", ".join(str(delivery.manifest) for delivery in readable)
            problems += (
                f"{len(readable)} exports give billing period {same[0].scope} ({manifests});"
                " make each export a source of its own, with a uri that ends at its folder",
            )
        result.append(replace(same[-1], problems=problems))
    return result
