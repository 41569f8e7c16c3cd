"""From a source's URI to its store. Imports no provider's package before one is asked for."""

from __future__ import annotations

from finops_assets.base.uris import bucket_place, local_place
from finops_assets.storage.stores.store import LocalStore, Store


def open_store(uri: str, endpoint_url: str | None = None) -> tuple[Store, str]:
    """The store of a source's URI, and the glob below it where the URI names one ('' for the whole folder).

    Nothing is asked of the place yet.

    Raises:
        ValueError: for a URI that cannot be understood or a scheme that is not supported.
        StoreError: the provider's package is not installed or finds no credentials.
    """
    scheme, _, rest = uri.partition("://")
    if not rest or scheme == "file":
        return _open_local(rest or uri)
    place = bucket_place(uri)
    match scheme:
        case "s3":
            from finops_assets.storage.stores.s3 import S3Store

            return S3Store(place.bucket, place.prefix, endpoint_url), place.pattern
        case "gs":
            from finops_assets.storage.stores.gcs import GCSStore

            return GCSStore(place.bucket, place.prefix, endpoint_url), place.pattern
        case _:
            from finops_assets.storage.stores.azure import AzureStore

            return AzureStore(place.bucket, place.prefix, endpoint_url or place.account_url), place.pattern


def _open_local(path: str) -> tuple[Store, str]:
    root, pattern = local_place(path)
    return LocalStore(root, pattern), pattern
