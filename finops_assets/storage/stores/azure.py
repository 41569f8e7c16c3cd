"""Azure Blob Storage: a store on azure-storage-blob, with the connection string or an identity of this process."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from finops_assets.storage.stores.store import (
    ANY,
    EmptyRange,
    FileChanged,
    Level,
    ObjectStore,
    StoredFile,
    StoreError,
    StoreRefused,
    hidden,
    sdk,
)

TOO_MANY = 429


class AzureStore(ObjectStore):
    """Blobs below a prefix of a container.

    The account is that of `account_url`, else of $AZURE_STORAGE_CONNECTION_STRING, else $AZURE_STORAGE_ACCOUNT.
    """

    page_size = 5000
    """The most that Azure gives at once."""

    def __init__(self, container: str, prefix: str, account_url: str | None = None) -> None:
        super().__init__()
        self.container = container
        self.prefix = prefix
        blob = sdk("azure.storage.blob", "azure")
        core = sdk("azure.core", "azure")
        self._errors, self._unmodified = sdk("azure.core.exceptions", "azure"), core.MatchConditions.IfNotModified
        with self._explaining():
            self._client: Any = _container_client(blob, container, account_url)

    def list(self, prefix: str = "", suffix: str = "") -> list[StoredFile]:
        """Every blob below the root whose key starts and ends so, sorted. A request for each 5,000."""
        found = []
        with self._explaining():
            for page in self._client.list_blobs(
                name_starts_with=self.prefix + prefix, results_per_page=self.page_size
            ).by_page():
                self.requests += 1
                found += [f for blob in page if (f := self._stored(blob)).key.endswith(suffix) and not hidden(f.key)]
        return sorted(found, key=lambda f: f.key)

    def level(self, prefix: str = "") -> Level:
        """The folders and blobs directly below a prefix."""
        folders, files = set(), {}
        with self._explaining():
            for page in self._client.walk_blobs(
                name_starts_with=self.prefix + prefix, delimiter="/", results_per_page=self.page_size
            ).by_page():
                self.requests += 1
                for item in page:
                    key = item.name[len(self.prefix) :]
                    if hidden(key.rstrip("/")):
                        continue
                    if key.endswith("/"):
                        folders.add(key)
                    else:
                        files[key] = self._stored(item)
        # With a hierarchical namespace a folder is listed as a blob beside its prefix, too.
        kept = (files[key] for key in sorted(files) if f"{key}/" not in folders)
        return Level(tuple(sorted(folders)), tuple(kept))

    def stat(self, key: str) -> StoredFile | None:
        self.requests += 1
        try:
            with self._explaining():
                found = self._client.get_blob_client(self.prefix + key).get_blob_properties()
        except FileNotFoundError:
            return None
        return StoredFile(key, int(found.size), found.etag.strip('"'), found.last_modified)

    def read(self, key: str, first: int | None = None) -> bytes:
        """A blob's bytes, or only its first ones."""
        self.requests += 1
        wanted = {} if first is None else {"offset": 0, "length": first}
        try:
            with self._explaining():
                blob = self._client.get_blob_client(self.prefix + key)
                return bytes(blob.download_blob(decompress=False, **wanted).readall())
        except EmptyRange:
            return b""

    def put(self, key: str, file: Path, over: str | None = ANY) -> StoredFile:
        """Write a blob; large ones come in blocks, which count when the last is committed."""
        self.requests += 1
        size = file.stat().st_size
        condition: dict[str, Any] = {"overwrite": over is not None}
        if over is not None and over != ANY:
            condition |= {"etag": f'"{over}"', "match_condition": self._unmodified}
        with self._explaining(StoredFile(key, size, str(over)), writing=True), file.open("rb") as body:
            found = self._client.get_blob_client(self.prefix + key).upload_blob(body, length=size, **condition)
        return StoredFile(key, size, str(found["etag"]).strip('"'))

    def delete(self, key: str) -> None:
        self.requests += 1
        with suppress(FileNotFoundError), self._explaining(writing=True):
            self._client.get_blob_client(self.prefix + key).delete_blob()

    def _fetch(self, file: StoredFile, path: Path) -> None:
        with self._explaining(file), path.open("wb") as target:
            blob = self._client.get_blob_client(self.prefix + file.key)
            # A blob with a content encoding must come as it was listed, not unpacked.
            stream = blob.download_blob(etag=f'"{file.etag}"', match_condition=self._unmodified, decompress=False)
            stream.readinto(target)

    def _stored(self, blob: Any) -> StoredFile:
        return StoredFile(blob.name[len(self.prefix) :], int(blob.size), str(blob.etag).strip('"'), blob.last_modified)

    @contextmanager
    def _explaining(self, file: StoredFile | None = None, writing: bool = False) -> Iterator[None]:
        """The client's errors as ours: what is wrong with which container and what to do. Never with credentials."""
        where = f"container {self.container}, folder {self.prefix or '/'}"
        try:
            yield
        except (self._errors.ResourceModifiedError, self._errors.ResourceExistsError) as error:
            raise FileChanged(file.key if file else where, "another etag") from error
        except self._errors.ResourceNotFoundError as error:
            if _code(error) == "ContainerNotFound":
                raise StoreRefused(f"{where}: there is no such container; check `uri`") from error
            if file is not None:
                raise FileChanged(file.key, "it is gone") from error
            raise FileNotFoundError(f"{where}: not found") from error
        except self._errors.ClientAuthenticationError as error:
            raise StoreRefused(
                f"{where}: no Azure credentials, or they are not accepted; run `az login`, attach a managed identity, or"
                " set AZURE_STORAGE_CONNECTION_STRING"
            ) from error
        except self._errors.HttpResponseError as error:
            if error.status_code == 416:
                raise EmptyRange from error
            if error.status_code == 403:
                role = "Contributor" if writing else "Reader"
                raise StoreRefused(
                    f"{where}: access denied ({_code(error)}); the identity needs the role Storage Blob Data {role}"
                    " on the container, and the storage account's firewall must admit this network"
                ) from error
            raise StoreError(f"{where}: failed with {_code(error)}") from error
        except self._errors.AzureError as error:
            kind = type(error).__name__
            raise StoreError(f"{where}: cannot be reached ({kind}); check the network and `endpoint_url`") from error


def _code(error: Any) -> object:
    """What the service calls an error; a body that broke off has neither code nor status."""
    return getattr(error, "error_code", None) or error.status_code or type(error).__name__


def _container_client(blob: Any, container: str, account_url: str | None) -> Any:
    connection = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    account = os.environ.get("AZURE_STORAGE_ACCOUNT")
    repeated = _repeated(blob)
    if connection:
        try:
            client = blob.ContainerClient.from_connection_string(connection, container, retry_policy=repeated)
        except ValueError as error:
            # The SDK's own message may hold a part of the string.
            raise StoreRefused("AZURE_STORAGE_CONNECTION_STRING is not a connection string; copy it again") from error
        # A string for one account says nothing about another one.
        if account_url is None or _account(account_url) == _account(client.url):
            return client
    if account_url is None and account is None:
        raise StoreRefused(
            f"container {container}: the storage account is not known; write the uri as"
            f" https://<account>.blob.core.windows.net/{container}/..., or set AZURE_STORAGE_ACCOUNT"
        )
    url = account_url or f"https://{account}.blob.core.windows.net"
    identity = sdk("azure.identity", "azure")
    credential = identity.DefaultAzureCredential()
    return blob.ContainerClient(url, container, credential=credential, retry_policy=repeated)


def _repeated(blob: Any) -> Any:
    """Asks again after 3, 5 and 9 seconds, each with jitter: the client's own 15 or more stand for every answer that is lost.

    "Too many requests" (429) is repeated, too: gateways and firewalls answer it, and the client takes it for an end.
    """

    class Repeated(blob.ExponentialRetry):  # type: ignore[misc]
        def send(self, request: Any) -> Any:
            body, count = request.http_request.body, 0
            start = body.tell() if hasattr(body, "seek") else None
            while True:
                response = super().send(request)
                if response.http_response.status_code != TOO_MANY or count == self.status_retries:
                    return response
                count += 1
                self.sleep({"count": count}, request.context.transport)
                if start is not None:
                    body.seek(start)

    return Repeated(initial_backoff=1, increment_base=2, retry_total=5, random_jitter_range=1)


def _account(url: str) -> str:
    """Scheme, host and, for an emulator, the account in the path."""
    found = re.match(r"(https?://[^/]+)(/devstoreaccount1)?", url)
    return "".join(part or "" for part in found.groups()) if found else url
