"""Object stores on loopback: real servers that speak the protocols of S3, Azure Blob Storage and Google.

Each starts once in a session, on a free port, and is stopped at the end. What is not installed is skipped,
with the reason.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from finops_assets.storage.stores.open import open_store
from finops_assets.storage.stores.store import Store

AZURITE_FOLDER = Path(os.environ.get("AZURITE_FOLDER", Path.home() / ".cache" / "finops_assets" / "azurite"))
# The account and key that Microsoft publishes for its emulator.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
READY_SECONDS = 30


@dataclass
class Place:
    """A place for export files that a test may write: a bucket of its own, or a folder."""

    kind: str
    uri: str
    put: Callable[[str, bytes], None]
    delete: Callable[[str], None]
    endpoint_url: str | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def open(self, below: str = "") -> Store:
        """The store of the place, or of a folder in it."""
        store, _ = open_store(f"{self.uri}/{below}".rstrip("/"), self.endpoint_url)
        return store

    def put_folder(self, folder: Path) -> None:
        """Upload all files below a folder, in an order in which manifests come last."""
        files = [p for p in folder.rglob("*") if p.is_file()]
        for path in sorted(files, key=lambda p: (p.name.endswith("anifest.json"), p)):
            self.put(path.relative_to(folder).as_posix(), path.read_bytes())


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Unavailable(Exception):
    """A server cannot be started here, and why."""


@contextmanager
def server(command: list[str], port: int, **environment: str) -> Iterator[None]:
    """A server process for as long as the block lasts; ready when it answers whatever it answers."""
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"{Path(command[0]).name} did not start (exit code {process.poll()})")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True


@contextmanager
def s3_server() -> Iterator[str]:
    """moto's S3."""
    _need("moto.server", "moto[server]")
    _need("boto3", "boto3")
    port = free_port()
    program = shutil.which("moto_server", path=str(Path(sys.executable).parent)) or "moto_server"
    with server([program, "-H", "127.0.0.1", "-p", str(port)], port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def azure_server(folder: Path) -> Iterator[str]:
    """Azurite, Microsoft's emulator: `npm install --prefix ~/.cache/finops_assets/azurite azurite`."""
    _need("azure.storage.blob", "azure-storage-blob")
    program = AZURITE_FOLDER / "node_modules" / ".bin" / "azurite-blob"
    if not program.is_file() or shutil.which("node") is None:
        raise Unavailable(f"{program} is not there; run: npm install --prefix {AZURITE_FOLDER} azurite")
    port = free_port()
    command = [str(program), "--silent", "--skipApiVersionCheck", "--blobPort", str(port), "--disableTelemetry"]
    with server([*command, "--location", str(folder)], port):
        yield f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"


@contextmanager
def gcs_server() -> Iterator[str]:
    """gcp-storage-emulator. It knows neither pages nor preconditions; the rest is Google's JSON API."""
    _need("gcp_storage_emulator", "gcp-storage-emulator")
    with warnings.catch_warnings():
        # It recommends a package for gRPC, which the store does not use.
        warnings.simplefilter("ignore", ImportWarning)
        _need("google.cloud.storage", "google-cloud-storage")
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1", f"--port={port}"]
    with server([*command, "--in-memory"], port):
        yield f"http://127.0.0.1:{port}"


def _need(module: str, package: str) -> None:
    try:
        found = find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise Unavailable(f"the package {package} is not installed")


@contextmanager
def _or_skip(starting: AbstractContextManager[str]) -> Iterator[str]:
    """A server for tests, which are skipped with the reason where it cannot be started."""
    with ExitStack() as stack:
        try:
            endpoint = stack.enter_context(starting)
        except Unavailable as reason:
            pytest.skip(str(reason))
        yield endpoint


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with _or_skip(s3_server()) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def azure_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _or_skip(azure_server(tmp_path_factory.mktemp("azurite"))) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def gcs_endpoint() -> Iterator[str]:
    with _or_skip(gcs_server()) as endpoint:
        yield endpoint


def local_place(folder: Path) -> Place:
    def put(key: str, content: bytes) -> None:
        file = folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        # A file of its own, as an object store makes one: the etag changes whatever the clock's resolution.
        temporary = file.with_name(f".{file.name}.partial")
        temporary.write_bytes(content)
        temporary.replace(file)

    folder.mkdir(parents=True, exist_ok=True)
    return Place("local", str(folder), put, lambda key: (folder / key).unlink())


def s3_place(endpoint: str) -> Place:
    import boto3

    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    client: Any = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    bucket = f"finops-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    return Place(
        "s3",
        f"s3://{bucket}",
        lambda key, content: client.put_object(Bucket=bucket, Key=key, Body=content) and None,
        lambda key: client.delete_object(Bucket=bucket, Key=key) and None,
        endpoint,
        environment,
    )


def azure_place(endpoint: str) -> Place:
    from azure.storage.blob import BlobServiceClient

    connection = (
        f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};BlobEndpoint={endpoint};"
    )
    name = f"finops-{uuid.uuid4().hex[:12]}"
    container = BlobServiceClient.from_connection_string(connection).create_container(name)

    def put(key: str, content: bytes) -> None:
        container.upload_blob(key, content, overwrite=True)

    return Place(
        "azure",
        f"az://{name}",
        put,
        lambda key: container.delete_blob(key),
        None,
        {"AZURE_STORAGE_CONNECTION_STRING": connection},
    )


def gcs_place(endpoint: str) -> Place:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(
        project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": endpoint}
    )
    bucket = client.create_bucket(f"finops-{uuid.uuid4().hex[:12]}")
    return Place(
        "gcs",
        f"gs://{bucket.name}",
        lambda key, content: bucket.blob(key).upload_from_string(content),
        lambda key: bucket.blob(key).delete(),
        endpoint,
    )


@pytest.fixture(params=["local", "s3", "azure", "gcs"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty place of each kind in turn."""
    return make_place(request, request.param, tmp_path / "place", monkeypatch)


def make_place(request: pytest.FixtureRequest, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty place; its credentials are in the environment, where the providers' own packages look."""
    for name in ("AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)
    match kind:
        case "local":
            made = local_place(folder)
        case "s3":
            made = s3_place(request.getfixturevalue("s3_endpoint"))
        case "azure":
            made = azure_place(request.getfixturevalue("azure_endpoint"))
        case _:
            made = gcs_place(request.getfixturevalue("gcs_endpoint"))
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made
