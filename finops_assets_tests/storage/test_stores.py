"""Every store keeps one contract, against real servers on loopback."""

from __future__ import annotations

import errno
import importlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from finops_assets.base.errors import FinopsError
from finops_assets.demo import Estate
from finops_assets.graph.assets.deliveries import deliveries_asset, tried_once
from finops_assets.graph.failures import why_step_failed
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.layouts.layouts import newest_deliveries
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets.settings.model import Settings
from finops_assets.settings.sources import Source
from finops_assets.storage.ledger import Generation
from finops_assets.storage.stores import store as store_module
from finops_assets.storage.stores.open import open_store
from finops_assets.storage.stores.store import FileChanged, LocalStore, StoredFile, StoreError, WritableStore
from finops_assets_tests.emulators import (  # noqa: F401
    Place,
    azure_endpoint,
    gcs_endpoint,
    make_place,
    place,
    s3_endpoint,
)
from finops_assets_tests.running import LAYOUTS, SOURCES, settings_for, small_estate

FILES = {
    "a.csv": b"one",
    "data/x=1/part 1.csv": b"two two",
    "data/x=1/part+2%20.csv": b"three",
    "data/x=10/a.csv": b"",
    "metadata/Manifest.json": b"{}",
    "ünï/ß.csv": b"four",
}


@pytest.fixture
def filled(place: Place) -> Place:  # noqa: F811
    for key, content in FILES.items():
        place.put(key, content)
    place.put(".hidden/a.csv", b"not listed")
    place.put("data/.tmp-1.csv", b"not listed")
    return place


def test_a_listing_names_every_file_in_order_with_its_size(filled: Place) -> None:
    found = filled.open().list()
    assert [f.key for f in found] == sorted(FILES)
    assert {f.key: f.size for f in found} == {key: len(content) for key, content in FILES.items()}
    assert all(f.etag for f in found)
    now = datetime.now(UTC)
    assert all(f.modified and abs(now - f.modified) < timedelta(minutes=5) for f in found)


def test_a_listing_is_by_beginning_and_end(filled: Place) -> None:
    store = filled.open()
    assert [f.key for f in store.list("data/x=1")] == [
        "data/x=1/part 1.csv",
        "data/x=1/part+2%20.csv",
        "data/x=10/a.csv",
    ]
    assert [f.key for f in store.list("data/x=1/")] == ["data/x=1/part 1.csv", "data/x=1/part+2%20.csv"]
    assert [f.key for f in store.list(suffix=".json")] == ["metadata/Manifest.json"]
    assert store.list("nothing/") == []


def test_a_level_is_its_folders_and_its_files(filled: Place) -> None:
    store = filled.open()
    level = store.level()
    assert level.folders == ("data/", "metadata/", "ünï/")
    assert [f.key for f in level.files] == ["a.csv"]
    assert store.level("data/").folders == ("data/x=1/", "data/x=10/")
    assert store.level("nothing/") == store_module.Level((), ())


def test_a_folder_is_a_root_of_its_own(filled: Place) -> None:
    store = filled.open("data/x=1")
    assert [f.key for f in store.list()] == ["part 1.csv", "part+2%20.csv"]
    assert store.read("part 1.csv") == b"two two"


def test_what_is_listed_is_what_is_found_one_by_one(filled: Place) -> None:
    store = filled.open()
    assert [store.stat(f.key) for f in store.list()] == store.list()
    assert store.stat("data/none.csv") is None
    assert store.stat("a.csv/none.csv") is None


def test_a_file_is_read_whole_or_its_beginning(filled: Place) -> None:
    store = filled.open()
    assert {key: store.read(key) for key in FILES} == FILES
    assert store.read("data/x=1/part 1.csv", 3) == b"two"
    assert store.read("a.csv", 1000) == b"one"
    assert store.read("data/x=10/a.csv", 3) == b""
    with pytest.raises(FileNotFoundError):
        store.read("none.json")


def test_files_are_opened_below_one_local_folder(filled: Place, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    store = filled.open()
    with store.local_root(store.list(), scratch) as root:
        assert {key: (root / key).read_bytes() for key in FILES} == FILES
        assert store.pins == (scratch in root.parents)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("after", ["overwritten", "overwritten with as many bytes", "deleted"])
def test_a_file_that_is_not_the_listed_one_is_never_given(filled: Place, tmp_path: Path, after: str) -> None:
    store = filled.open()
    if not store.pins:
        pytest.skip("a local file is looked at again after it was read")
    listed = store.list("data/x=1/")
    if after == "deleted":
        filled.delete(listed[0].key)
    else:
        filled.put(listed[0].key, b"TWO TWO" if after.endswith("bytes") else b"and more than there was")
    with pytest.raises(FileChanged, match="changed while being read") as caught, store.local_root(listed, tmp_path):
        pass
    assert caught.value.key == listed[0].key
    assert not list(tmp_path.glob("export-*"))


def test_an_etag_changes_whenever_a_file_is_written(filled: Place) -> None:
    store = filled.open()
    before = store.stat("a.csv")
    filled.put("a.csv", b"two")
    assert store.stat("a.csv") != before
    assert before is not None
    assert before.size == 3


def test_pages_are_put_together(filled: Place) -> None:
    whole = filled.open()
    if filled.kind in ("local", "gcs"):
        pytest.skip("a local folder has no pages, and the emulator of Google gives one")
    paged: Any = filled.open()
    paged.page_size = 2
    assert paged.list() == whole.list()
    assert paged.level() == whole.level()
    assert paged.requests > whole.requests


def test_a_listing_costs_one_request_and_no_request_for_each_file(filled: Place) -> None:
    if filled.kind == "local":
        pytest.skip("a local folder costs no requests")
    store = filled.open()
    assert store.requests == 0
    store.list()
    assert store.requests == 1


def test_a_place_that_is_not_there_is_said(place: Place, tmp_path: Path) -> None:  # noqa: F811
    if place.kind == "local":
        assert LocalStore(tmp_path / "none").list() == []
        return
    store, _ = open_store("://".join([place.uri.partition("://")[0], "no-such-bucket-1/exports"]), place.endpoint_url)
    with pytest.raises(StoreError, match="no-such-bucket-1"):
        store.list()


def test_a_key_that_leads_out_of_the_folder_is_not_fetched(filled: Place, tmp_path: Path) -> None:
    store = filled.open()
    if not store.pins:
        pytest.skip("nothing is copied")
    with pytest.raises(StoreError, match="outside"), store.local_root([StoredFile("../a.csv", 1, "x")], tmp_path):
        pass


@pytest.mark.parametrize(
    ("kind", "variable"), [("s3", "AWS_ENDPOINT_URL"), ("s3", "AWS_ENDPOINT_URL_S3"), ("gcs", "STORAGE_EMULATOR_HOST")]
)
def test_the_packages_own_variables_name_the_endpoint(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str, variable: str
) -> None:
    made = make_place(request, kind, tmp_path, monkeypatch)
    made.put("a.csv", b"one")
    monkeypatch.setenv(variable, str(made.endpoint_url))
    store, _ = open_store(made.uri)
    assert [f.key for f in store.list()] == ["a.csv"]
    assert store.read("a.csv") == b"one"


@pytest.mark.long
def test_no_providers_package_is_imported_until_its_store_is_opened() -> None:
    program = (
        "import sys, finops_assets.definitions, finops_assets.storage.stores.s3, finops_assets.storage.stores.gcs,"
        " finops_assets.alerts.channels\n"
        "print([m for m in ('boto3', 'dagster_aws', 'dagster_gcp', 'google.cloud', 'azure') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_connection_string_of_another_account_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        "DefaultEndpointsProtocol=https;AccountName=one;AccountKey=aHVzaA==;EndpointSuffix=core.windows.net",
    )
    mine: Any = open_store("https://one.blob.core.windows.net/exports/focus")[0]
    assert type(mine._client.credential).__name__ == "SharedKeyCredentialPolicy"
    other: Any = open_store("https://two.blob.core.windows.net/exports/focus")[0]
    assert type(other._client.credential).__name__ == "DefaultAzureCredential"
    assert other._client.url == "https://two.blob.core.windows.net/exports"


def test_an_unknown_storage_account_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
    with pytest.raises(StoreError, match="the storage account is not known; write the uri as"):
        open_store("az://exports/focus")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=hush")
    with pytest.raises(StoreError, match="is not a connection string") as caught:
        open_store("az://exports/focus")
    assert "hush" not in str(caught.value)


# ---- URIs and errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "prefix", "pattern"),
    [
        ("s3://bucket", "", ""),
        ("s3://bucket/", "", ""),
        ("s3://bucket/a/b c", "a/b c/", ""),
        ("s3://bucket/a/b/", "a/b/", ""),
        ("s3://bucket/a/*.csv", "a/", "*.csv"),
        ("s3://bucket/a/**/x-*.parquet", "a/", "**/x-*.parquet"),
        ("s3://bucket/a/one.csv.gz", "a/", "one.csv.gz"),
    ],
)
def test_a_uri_is_bucket_prefix_and_glob(monkeypatch: pytest.MonkeyPatch, uri: str, prefix: str, pattern: str) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    opened: Any = open_store(uri)
    assert (opened[0].bucket, opened[0].prefix, opened[1]) == ("bucket", prefix, pattern)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("ftp://host/bills", "allowed: a local path, file://, s3://"),
        ("s3:///folder", "names no bucket"),
        ("https://acc.blob.core.windows.net/c/folder?sv=1&sig=SECRET", "a SAS token does not belong"),
        ("https://example.com/c/folder", "found https://"),
    ],
)
def test_a_uri_that_cannot_be_used_is_said_without_its_secrets(uri: str, said: str) -> None:
    source = Source(name="bill", uri=uri, layout="files")
    with pytest.raises(FinopsError, match=said) as caught:
        newest_deliveries(source)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(("uri", "extra"), [("s3://b/a", "aws"), ("az://b/a", "azure"), ("gs://b/a", "gcp")])
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, uri: str, extra: str
) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(FinopsError, match=rf"source 'bill': .*uv pip install -e '\.\[{extra}\]'"):
        newest_deliveries(Source(name="bill", uri=uri, layout="files"))


def test_missing_credentials_are_said(
    s3_endpoint: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    store, _ = open_store("s3://bucket/a", s3_endpoint)
    with pytest.raises(StoreError, match="no AWS credentials were found; set AWS_PROFILE"):
        store.list()


def test_an_endpoint_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store: Any = open_store("s3://bucket/a", "http://127.0.0.1:9")[0]
    with pytest.raises(StoreError, match=r"s3://bucket/a/: cannot be reached.*endpoint_url") as caught:
        store.list()
    assert "hush" not in str(caught.value)


# ---- landing --------------------------------------------------------------------------------------

FIRST, LAST = date(2026, 9, 30), date(2026, 10, 1)


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with small_estate(tmp_path_factory.mktemp("stores"), FIRST, LAST) as made:
        yield made


def landed(root: Path, sources: dict[str, Source]) -> dict[str, list[Generation]]:
    platform = Platform(settings_for(root, date(2026, 9, 1)))
    return {
        name: land_source(platform.lake, platform.settings.engine, source, platform.settings.first_day)
        for name, source in sources.items()
    }


def told(generations: dict[str, list[Generation]]) -> dict[str, Any]:
    """What was landed, without what differs from place to place: etags and times."""
    return {
        name: [(g.scope, g.generation, g.state, g.reason, g.rows, g.days, g.columns, g.repairs) for g in each]
        for name, each in generations.items()
    }


@pytest.mark.long
@pytest.mark.parametrize("kind", ["s3", "azure", "gcs"])
def test_landing_from_a_store_is_landing_from_a_local_folder(
    estate: Estate, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    made = make_place(request, kind, tmp_path, monkeypatch)
    made.put_folder(estate.root)
    local = {n: Source(name=n, uri=str(estate.root / n), layout=LAYOUTS[n]) for n in SOURCES}
    far = {n: Source(name=n, uri=f"{made.uri}/{n}", layout=LAYOUTS[n], endpoint_url=made.endpoint_url) for n in SOURCES}
    expected = told(landed(tmp_path / "near", local))
    assert {g[2] for each in expected.values() for g in each} == {"live"}
    assert told(landed(tmp_path / "far", far)) == expected
    assert not list((tmp_path / "far").rglob("export-*"))


def test_a_delivery_that_changes_while_it_is_read_is_listed_and_read_again(
    estate: Estate, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_place(request, "s3", tmp_path, monkeypatch)
    shutil.copytree(estate.root / "aws", tmp_path / "copy")
    made.put_folder(tmp_path / "copy")
    source = Source(name="aws", uri=made.uri, layout="aws-data-exports", endpoint_url=made.endpoint_url)
    store, deliveries = newest_deliveries(source)
    changing = deliveries[0].files[0].key
    real = type(store).local_root
    seen: list[str] = []

    def first_listed_before_a_refresh(self: Any, files: Any, scratch: Any = None) -> Any:
        if not seen:
            seen.append(changing)
            # The etag of S3 is the content's: the next refresh differs in what was listed of it.
            files = [StoredFile(f.key, f.size, "another") if f.key == changing else f for f in files]
        return real(self, files, scratch)

    monkeypatch.setattr(type(store), "local_root", first_listed_before_a_refresh)
    generations = landed(tmp_path / "lake", {"aws": source})["aws"]
    assert seen == [changing]
    assert {g.state for g in generations} == {"live"}


def test_an_answer_of_azure_that_breaks_off_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    exceptions = pytest.importorskip("azure.core.exceptions")
    account = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YWJj;BlobEndpoint=http://127.0.0.1:1/a;"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", account)
    store, _ = open_store("az://bills/aws")
    # The client raises it without a code and without an answer.
    broken = exceptions.IncompleteReadError("8 read, total bytes 9")
    monkeypatch.setattr(store._client, "list_blobs", lambda **_: (_ for _ in ()).throw(broken))  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match=r"container bills.*failed with IncompleteReadError"):
        store.list()


def test_azure_is_asked_again_when_it_says_too_many_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = pytest.importorskip("azure.core.pipeline.transport").HttpTransport
    slept: list[float] = []
    monkeypatch.setattr(transport, "sleep", lambda self, seconds: slept.append(seconds))
    bodies: list[bytes] = []

    class Busy(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(429 if len(bodies) < 3 or bodies[-1] == b"never" else 201)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        account = f"AccountName=a;AccountKey=YWJj;BlobEndpoint=http://127.0.0.1:{server.server_port}/a;"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"DefaultEndpointsProtocol=http;{account}")
        store, _ = open_store("az://bills/lake")
        file = tmp_path / "a"
        file.write_bytes(b"content")
        assert isinstance(store, WritableStore)
        assert store.put("a", file) == StoredFile("a", 7, "1")
        # Each time the whole body, after pauses that grow.
        assert bodies == [b"content"] * 3
        assert len(slept) == 2
        assert all(2 <= first <= 4 <= second for first, second in [slept])
        file.write_bytes(b"never")
        with pytest.raises(StoreError, match="container bills, folder lake/: failed with"):
            store.put("a", file)
        assert len(bodies) == 3 + 4
        server.shutdown()


def test_who_is_refused_is_told_so_and_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Closed(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with ThreadingHTTPServer(("127.0.0.1", 0), Closed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = settings_of(f"s3://bills/aws', endpoint_url: 'http://127.0.0.1:{server.server_port}")
        asset = deliveries_asset(settings.sources[0], "team:data")
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [asset], instance=instance, resources={"platform": Platform(settings)}, raise_on_error=False
            )
            retries = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
        server.shutdown()
    [failed] = result.get_step_failure_events()
    assert "s3://bills/aws/: access denied (AccessDenied) to ListObjectsV2" in (
        why_step_failed(failed.step_failure_data) or ""
    )
    assert retries == []
    assert len(asked) == 1


def test_a_folder_that_may_not_be_read_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    settings = settings_of(str(tmp_path))
    monkeypatch.setattr("finops_assets.storage.stores.store.os.scandir", denied)
    with pytest.raises(dg.Failure, match=r"cannot be listed: .*Permission denied") as failed, tried_once():
        land_source(Platform(settings).lake, settings.engine, settings.sources[0], settings.first_day)
    assert failed.value.allow_retries is False


def settings_of(uri: str) -> Settings:
    """One source there; nothing else is asked for."""
    return parse_settings(
        "first_day: 2026-01-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
        f"sources: [{{name: bill, layout: files, uri: '{uri}'}}]\ndimensions: {{team: {{keys: [team]}}}}\n",
        Path("finops.yaml").absolute(),
    )
