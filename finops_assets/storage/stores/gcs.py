"""Google Cloud Storage: a store on Dagster's resource for it, with application default credentials."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from finops_assets.storage.stores.store import (
    ANY,
    CHUNK,
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

FIELDS = "items(name,size,generation,crc32c,updated),prefixes,nextPageToken"


class GCSStore(ObjectStore):
    """Objects below a prefix of a bucket. The etag is the object's generation and checksum."""

    page_size = 1000

    def __init__(self, bucket: str, prefix: str, endpoint_url: str | None = None) -> None:
        super().__init__()
        self.bucket = bucket
        self.prefix = prefix
        self._errors, self._auth = sdk("google.api_core.exceptions", "gcp"), sdk("google.auth.exceptions", "gcp")
        self._transport = sdk("requests.exceptions", "gcp")
        self._crc32c = sdk("google_crc32c", "gcp")
        with self._explaining():
            self._client: Any = _client(endpoint_url)
        self._bucket: Any = self._client.bucket(bucket)

    def list(self, prefix: str = "", suffix: str = "") -> list[StoredFile]:
        """Every object below the root whose key starts and ends so, sorted. A request for each 1,000."""
        found = (f for page, _ in self._pages(prefix) for f in self._files(page) if f.key.endswith(suffix))
        return sorted(found, key=lambda f: f.key)

    def level(self, prefix: str = "") -> Level:
        """The folders and objects directly below a prefix."""
        folders: set[str] = set()
        files: dict[str, StoredFile] = {}
        for page, prefixes in self._pages(prefix, delimiter="/"):
            found = (name[len(self.prefix) :] for name in prefixes)
            folders |= {key for key in found if not hidden(key.rstrip("/"))}
            files |= {f.key: f for f in self._files(page)}
        return Level(tuple(sorted(folders)), tuple(files[key] for key in sorted(files)))

    def stat(self, key: str) -> StoredFile | None:
        self.requests += 1
        with self._explaining():
            blob = self._bucket.get_blob(self.prefix + key)
        return None if blob is None else self._stored(blob)

    def read(self, key: str, first: int | None = None) -> bytes:
        """An object's bytes, or only its first ones."""
        self.requests += 1
        end = None if first is None else first - 1
        try:
            with self._explaining():
                return bytes(self._bucket.blob(self.prefix + key).download_as_bytes(end=end, raw_download=True))
        except EmptyRange:
            return b""

    def put(self, key: str, file: Path, over: str | None = ANY) -> StoredFile:
        """Write an object; a large one counts when its last part has come."""
        self.requests += 1
        blob = self._bucket.blob(self.prefix + key)
        # Generation 0 is that of an object which is not there.
        generation = None if over == ANY else int((over or "0").partition("-")[0])
        with self._explaining(writing=True):
            blob.upload_from_filename(
                str(file),
                content_type="application/octet-stream",
                if_generation_match=generation,
                checksum="crc32c",
            )
        return self._stored(blob)

    def delete(self, key: str) -> None:
        self.requests += 1
        with suppress(FileNotFoundError), self._explaining(writing=True):
            self._bucket.blob(self.prefix + key).delete()

    def _fetch(self, file: StoredFile, path: Path) -> None:
        generation, _, checksum = file.etag.partition("-")
        blob = self._bucket.blob(self.prefix + file.key)
        with self._explaining(file), path.open("wb") as target:
            # Raw: an object stored with a content encoding must come as it was listed.
            blob.download_to_file(target, if_generation_match=int(generation), raw_download=True)
        # Emulators take no notice of the condition.
        if checksum and self._checksum(path) != checksum:
            raise FileChanged(file.key, f"checksum {checksum} was listed")

    def _checksum(self, path: Path) -> str:
        checksum = self._crc32c.Checksum()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                checksum.update(chunk)
        return base64.b64encode(checksum.digest()).decode()

    def _pages(self, prefix: str, delimiter: str | None = None) -> Iterator[tuple[Any, set[str]]]:
        with self._explaining():
            listing = self._client.list_blobs(
                self.bucket,
                prefix=self.prefix + prefix,
                delimiter=delimiter,
                page_size=self.page_size,
                fields=FIELDS,
            )
            for page in listing.pages:
                self.requests += 1
                yield page, listing.prefixes

    def _files(self, page: Any) -> Iterator[StoredFile]:
        for blob in page:
            if not hidden(blob.name[len(self.prefix) :]):
                yield self._stored(blob)

    def _stored(self, blob: Any) -> StoredFile:
        key = blob.name[len(self.prefix) :]
        return StoredFile(key, int(blob.size), f"{blob.generation}-{blob.crc32c or ''}", blob.updated)

    @contextmanager
    def _explaining(self, file: StoredFile | None = None, writing: bool = False) -> Iterator[None]:
        """The client's errors as ours: what is wrong with which bucket and what to do. Never with credentials."""
        where = f"gs://{self.bucket}/{self.prefix}"
        try:
            yield
        except self._errors.PreconditionFailed as error:
            raise FileChanged(file.key if file else where, "another generation") from error
        except self._errors.RequestRangeNotSatisfiable as error:
            raise EmptyRange from error
        except self._errors.NotFound as error:
            if file is not None:
                raise FileChanged(file.key, "it is gone") from error
            if "/o/" in str(error):
                raise FileNotFoundError(f"{where}: not found") from error
            raise StoreRefused(f"{where}: there is no bucket {self.bucket!r}; check `uri`") from error
        except (self._errors.Forbidden, self._errors.Unauthorized) as error:
            role, rights = ("User", "list, get, create and delete") if writing else ("Viewer", "list and get")
            raise StoreRefused(
                f"{where}: access denied; the identity needs roles/storage.object{role}"
                f" (storage.objects: {rights}) on bucket {self.bucket}"
            ) from error
        except self._auth.DefaultCredentialsError as error:
            raise StoreRefused(
                f"{where}: no Google credentials were found; set GOOGLE_APPLICATION_CREDENTIALS, run"
                " `gcloud auth application-default login`, or run where a service account is attached"
            ) from error
        except (self._errors.GoogleAPIError, self._auth.GoogleAuthError, self._transport.RequestException) as error:
            kind = type(error).__name__
            raise StoreError(f"{where}: cannot be reached ({kind}); check the network and `endpoint_url`") from error


def _client(endpoint_url: str | None) -> Any:
    """Reading an object needs no project; an identity may have none."""
    options: dict[str, Any] = {"client_options": {"api_endpoint": endpoint_url}} if endpoint_url else {}
    if endpoint_url and endpoint_url.startswith("http://"):
        # An emulator: a token must not travel unencrypted.
        options["credentials"] = sdk("google.auth.credentials", "gcp").AnonymousCredentials()
    return sdk("google.cloud.storage", "gcp").Client(project=None, **options)
