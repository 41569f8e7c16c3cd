"""S3, and what speaks its protocol: a store by botocore, which boto3 stands on, with the credentials of its ordinary chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

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

READ_ATTEMPTS = 3
LARGEST_AT_ONCE = 1 << 30
PART, MOST_PARTS = 64 << 20, 10_000
"""Of an object in parts; a part that is lost on the way is sent again by itself."""


_WRITING = ("PutObject", "DeleteObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")


@cache
def _descriptions() -> Any:
    """botocore's descriptions of services, each read once in a process."""
    return sdk("botocore.loaders", "aws").create_loader()


class S3Store(ObjectStore):
    """Objects below a prefix of a bucket."""

    page_size = 1000

    def __init__(self, bucket: str, prefix: str, endpoint_url: str | None = None) -> None:
        super().__init__()
        self.bucket = bucket
        self.prefix = prefix
        sessions, config = sdk("botocore.session", "aws"), sdk("botocore.config", "aws")
        self._errors = sdk("botocore.exceptions", "aws")
        self._transport = sdk("urllib3.exceptions", "aws")
        with self._explaining():
            # A session of its own: one for all is not safe across threads and keeps the first credentials. What S3 can do
            # is the same for all, and to read it takes most of the time.
            own = sessions.get_session()
            own.register_component("data_loader", _descriptions())
            self._client: Any = own.create_client(
                "s3", endpoint_url=endpoint_url, config=config.Config(retries={"max_attempts": 4, "mode": "standard"})
            )

    def list(self, prefix: str = "", suffix: str = "") -> list[StoredFile]:
        """Every object below the root whose key starts and ends so, sorted. A request for each 1,000."""
        return sorted(
            (f for page in self._pages(prefix) for f in self._files(page) if f.key.endswith(suffix)),
            key=lambda f: f.key,
        )

    def level(self, prefix: str = "") -> Level:
        """The folders and objects directly below a prefix."""
        folders: set[str] = set()
        files: dict[str, StoredFile] = {}
        for page in self._pages(prefix, Delimiter="/"):
            found = (item["Prefix"][len(self.prefix) :] for item in page.get("CommonPrefixes", ()))
            folders |= {key for key in found if not hidden(key.rstrip("/"))}
            files |= {f.key: f for f in self._files(page)}
        return Level(tuple(sorted(folders)), tuple(files[key] for key in sorted(files)))

    def stat(self, key: str) -> StoredFile | None:
        self.requests += 1
        try:
            with self._explaining():
                head = self._client.head_object(Bucket=self.bucket, Key=self.prefix + key)
        except FileNotFoundError:
            return None
        return StoredFile(key, head["ContentLength"], head["ETag"].strip('"'), head["LastModified"])

    def read(self, key: str, first: int | None = None) -> bytes:
        """An object's bytes, or only its first ones."""
        self.requests += 1
        wanted = {} if first is None else {"Range": f"bytes=0-{first - 1}"}
        try:
            with self._explaining():
                found = self._client.get_object(Bucket=self.bucket, Key=self.prefix + key, **wanted)
                return bytes(found["Body"].read())
        except EmptyRange:
            return b""

    def put(self, key: str, file: Path, over: str | None = ANY) -> StoredFile:
        """Write an object; a large one counts when its last part has come (S3 takes 5 GB in one request, 5 TB in parts)."""
        condition = {} if over == ANY else {"IfNoneMatch": "*"} if over is None else {"IfMatch": f'"{over}"'}
        size = file.stat().st_size
        put = self._put_in_parts if size > LARGEST_AT_ONCE else self._put_at_once
        with self._explaining(StoredFile(key, size, str(over))), file.open("rb") as body:
            etag = put(key, body, size, condition)
        return StoredFile(key, size, etag.strip('"'))

    def _put_at_once(self, key: str, body: BinaryIO, size: int, condition: Mapping[str, str]) -> str:
        self.requests += 1
        found = self._client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=body, **condition)
        return str(found["ETag"])

    def _put_in_parts(self, key: str, body: BinaryIO, size: int, condition: Mapping[str, str]) -> str:
        """The condition is asked when the parts are put together: until then nobody sees any of them."""
        target = {"Bucket": self.bucket, "Key": self.prefix + key}
        target["UploadId"] = self._client.create_multipart_upload(**target)["UploadId"]
        part_bytes = max(PART, -(-size // MOST_PARTS))
        parts: list[dict[str, Any]] = []
        try:
            while part := body.read(part_bytes):
                number = len(parts) + 1
                sent = self._client.upload_part(**target, PartNumber=number, Body=part)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            # Some S3-compatible servers ask for no condition here.
            if over := condition.get("IfMatch"):
                there = self.stat(key)
                if there is None or f'"{there.etag}"' != over:
                    raise FileChanged(key, "another etag")
            whole = self._client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            # What was sent would be paid for until somebody found it.
            with suppress(Exception):
                self._client.abort_multipart_upload(**target)
            raise
        finally:
            self.requests += len(parts) + 2
        return str(whole["ETag"])

    def delete(self, key: str) -> None:
        self.requests += 1
        with self._explaining():
            self._client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def _fetch(self, file: StoredFile, path: Path) -> None:
        for attempt in range(READ_ATTEMPTS):
            try:
                with self._explaining(file):
                    found = self._client.get_object(
                        Bucket=self.bucket, Key=self.prefix + file.key, IfMatch=f'"{file.etag}"'
                    )
                    # Some S3-compatible servers take no notice of If-Match.
                    if found["ETag"].strip('"') != file.etag:
                        raise FileChanged(file.key, f"etag {file.etag} was listed, {found['ETag']} came")
                    with path.open("wb") as target:
                        for chunk in found["Body"].iter_chunks(CHUNK):
                            target.write(chunk)
                    return
            except _Interrupted:
                # botocore repeats requests by itself, but not a body that breaks off.
                if attempt + 1 == READ_ATTEMPTS:
                    raise

    def _pages(self, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
        paginator = self._client.get_paginator("list_objects_v2")
        with self._explaining():
            for page in paginator.paginate(
                Bucket=self.bucket,
                Prefix=self.prefix + prefix,
                PaginationConfig={"PageSize": self.page_size},
                **more,
            ):
                self.requests += 1
                yield page

    def _files(self, page: dict[str, Any]) -> Iterator[StoredFile]:
        for item in page.get("Contents", ()):
            key = item["Key"][len(self.prefix) :]
            if not hidden(key):
                yield StoredFile(key, item["Size"], item["ETag"].strip('"'), item["LastModified"])

    @contextmanager
    def _explaining(self, file: StoredFile | None = None) -> Iterator[None]:
        """botocore's errors as ours: what is wrong with which bucket and what to do. Never with credentials."""
        where = f"s3://{self.bucket}/{self.prefix}"
        try:
            yield
        except self._errors.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if code == "NoSuchBucket":
                raise StoreRefused(f"{where}: there is no bucket {self.bucket!r}; check `uri`") from error
            if code == "InvalidRange":
                raise EmptyRange from error
            if file is not None and (status in (404, 409, 412) or code in ("PreconditionFailed", "NoSuchKey")):
                raise FileChanged(file.key, "it is gone" if status == 404 else "another etag") from error
            if status == 404:
                raise FileNotFoundError(f"{where}: not found") from error
            if status in (401, 403):
                writing = error.operation_name in _WRITING
                actions = "s3:GetObject, s3:PutObject and s3:DeleteObject" if writing else "s3:GetObject"
                raise StoreRefused(
                    f"{where}: access denied ({code}) to {error.operation_name}; the identity needs s3:ListBucket on"
                    f" arn:aws:s3:::{self.bucket} and {actions} on arn:aws:s3:::{self.bucket}/{self.prefix}*,"
                    " and kms:Decrypt if the bucket has its own key"
                ) from error
            raise StoreError(f"{where}: {error.operation_name} failed: {code or status}") from error
        except (self._errors.NoCredentialsError, self._errors.PartialCredentialsError) as error:
            raise StoreRefused(
                f"{where}: no AWS credentials were found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and"
                " AWS_SECRET_ACCESS_KEY, or run where a role is attached"
            ) from error
        except (
            self._errors.ReadTimeoutError,
            self._errors.ResponseStreamingError,
            self._errors.IncompleteReadError,
            self._transport.HTTPError,
        ) as error:
            raise _Interrupted(f"{where}: the connection broke off while reading ({type(error).__name__})") from error
        except self._errors.BotoCoreError as error:
            raise StoreError(f"{where}: cannot be reached: {error}; check the network and `endpoint_url`") from error


class _Interrupted(StoreError):
    """A body that broke off; it is asked for again."""
