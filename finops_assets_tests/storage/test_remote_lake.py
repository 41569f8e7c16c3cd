"""A lake on S3, Azure Blob Storage and Google Cloud Storage, against real servers on loopback; each host is a folder."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pydantic import ValidationError

from finops_assets.base.errors import LakeError
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.facts import FactsDay, build_facts
from finops_assets.demo import Estate
from finops_assets.evaluate.clusters import cluster_nodes
from finops_assets.ingest.landing import land_source, unknown_deliveries
from finops_assets.ingest.raw_days import RawDay, changed_days, compose_days
from finops_assets.ingest.tag_register import REGISTER_SCHEMA, enter_tag_sets
from finops_assets.ingest.usage.landing import land_usage
from finops_assets.judge.gates.facts import judge_facts
from finops_assets.judge.gates.raw import judge_raw
from finops_assets.platform import Platform
from finops_assets.settings.lake import LakeStore
from finops_assets.settings.load import parse_settings
from finops_assets.settings.sources import Source
from finops_assets.storage import remote_lake as lake_store
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.lake import Lake, LakeChanged
from finops_assets.storage.ledger import Generation, Ledger, ledger_table, now
from finops_assets.storage.remote_lake import RemoteLake
from finops_assets.storage.stores import s3 as s3_store
from finops_assets.storage.stores.store import ANY, FileChanged, StoredFile, StoreError
from finops_assets_tests.clusters import AWS_NODE, allocation, answer, idle
from finops_assets_tests.conftest import csv_text, focus_row
from finops_assets_tests.emulators import (  # noqa: F401
    Place,
    _need,
    azure_endpoint,
    free_port,
    make_place,
    s3_endpoint,
    server,
)
from finops_assets_tests.running import SOURCES, Graph, persistent_instance, settings_for, small_estate

FIRST, LAST = date(2026, 9, 30), date(2026, 10, 1)
DAYS = [FIRST, LAST]
DAY = date(2026, 9, 1)

# The emulator as it is takes no notice of conditions; the check is put before its handler, the rest is its own.
CONDITIONAL_EMULATOR = """
import threading
from http import HTTPStatus
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

real, lock = objects.insert, threading.Lock()

def insert(request, response, storage, *args, **kwargs):
    with lock:
        if "ifGenerationMatch" in request.query:
            body = request.data if isinstance(request.data, dict) else {}
            name = request.query.get("name", [None])[0] or body.get("name") or body["meta"]["name"]
            try:
                there = storage.get_file_obj(request.params["bucket_name"], name)["generation"]
            except NotFound:
                there = "0"
            if there != request.query["ifGenerationMatch"][0]:
                response.status = HTTPStatus.PRECONDITION_FAILED
                return None
        return real(request, response, storage, *args, **kwargs)

objects.insert = insert
from gcp_storage_emulator.__main__ import main
main()
"""


@pytest.fixture(scope="session")
def gcs_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """gcp-storage-emulator that honours ifGenerationMatch, as Google does."""
    _need("gcp_storage_emulator", "gcp-storage-emulator")
    port = free_port()
    program = tmp_path_factory.mktemp("gcs") / "emulator.py"
    program.write_text(CONDITIONAL_EMULATOR, encoding="utf-8")
    command = [sys.executable, str(program), "start", "--host=127.0.0.1", f"--port={port}", "--in-memory"]
    with server(command, port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(params=["s3", "azure", "gcs"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty bucket of each kind in turn."""
    return make_place(request, request.param, tmp_path, monkeypatch)


@pytest.fixture
def s3(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty bucket of S3, for what does not depend on the store."""
    return make_place(request, "s3", tmp_path, monkeypatch)


def lake_at(place: Place) -> LakeStore:
    return LakeStore(uri=f"{place.uri}/finops/lake", endpoint_url=place.endpoint_url)


@dataclass(frozen=True)
class Host:
    """A machine with a state folder of its own; export and lake are shared. The source is `bill`, a file a scope."""

    state: Path
    place: Place
    extra: str = ""

    @property
    def exports(self) -> Path:
        return self.state.parent / "exports"

    @cached_property
    def platform(self) -> Platform:
        lake = lake_at(self.place)
        text = (
            f"first_day: 2026-01-01\nlake: {{uri: '{lake.uri}', endpoint_url: {lake.endpoint_url or 'null'}}}\n"
            f"warehouse: w.duckdb\npublished: p.duckdb\nsources: [{{name: bill, uri: {self.exports}, layout: files}}]\n"
            f"dimensions:\n  team: {{keys: [team]}}\n{self.extra}"
        )
        return Platform(parse_settings(text, self.state / "finops.yaml"))

    @property
    def lake(self) -> RemoteLake:
        found = self.platform.lake
        assert isinstance(found, RemoteLake)
        return found

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.lake, "bill")

    @property
    def source(self) -> Source:
        return self.platform.settings.source("bill")

    def put(self, name: str, *days: date, **changes: Any) -> None:
        self.exports.mkdir(parents=True, exist_ok=True)
        text = csv_text([focus_row(day.isoformat(), **changes) for day in days])
        temporary = self.exports / f".{name}"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.exports / name)

    def land(self, lake: Lake | None = None) -> list[Generation]:
        p = self.platform
        return land_source(lake or p.lake, p.settings.engine, self.source, p.settings.first_day)

    def compose(self, *days: date, lake: Lake | None = None) -> list[RawDay]:
        return compose_days(lake or self.lake, self.platform.settings.engine, self.source, days)

    def facts(self, *days: date, lake: Lake | None = None) -> list[FactsDay]:
        p = self.platform
        return build_facts(lake or p.lake, p.settings.engine, p.rules, ["bill"], days)

    def run(self, *days: date) -> None:
        """From export to rollup."""
        self.land()
        self.compose(*days)
        self.facts(*days)
        p = self.platform
        build_rollup(p.lake, p.warehouse, p.rules, p.settings, days)

    def costs(self, layer: str, *days: date) -> list[Decimal]:
        """BilledCost of the rows of these days, as this host reads them."""
        files = self.lake.day_files("facts" if layer == "facts" else "raw", ["bill"], days)
        if not files:
            return []
        with duckdb.connect() as connection:
            query = f"SELECT BilledCost FROM {facts_relation(files)} ORDER BY charge_date, BilledCost"
            return [cost for (cost,) in connection.execute(query).fetchall()]

    def objects(self, prefix: str) -> list[str]:
        return [f.key for f in self.lake.store.list(prefix)]


@pytest.fixture
def hosts(place: Place, tmp_path: Path) -> tuple[Host, Host]:
    """Two machines on one lake, on each store in turn."""
    return Host(tmp_path / "a", place), Host(tmp_path / "b", place)


@pytest.fixture
def two(s3: Place, tmp_path: Path) -> tuple[Host, Host]:
    """Two machines on one lake on S3."""
    return Host(tmp_path / "a", s3), Host(tmp_path / "b", s3)


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with small_estate(tmp_path_factory.mktemp("lake-store"), FIRST, LAST) as made:
        yield made


def cloud_platform(state: Path, estate: Estate, lake: LakeStore | Path) -> Platform:
    """A host on the estate's three clouds."""
    settings = settings_for(state, estate.spec.first_day)
    sources = tuple(s.model_copy(update={"uri": str(estate.root / s.name)}) for s in settings.sources)
    return Platform(settings.model_copy(update={"lake": lake, "sources": sources}))


def build(platform: Platform) -> None:
    """Every day of the estate, from delivery to rollup."""
    settings = platform.settings
    for source in settings.sources:
        land_source(platform.lake, settings.engine, source, settings.first_day)
        compose_days(platform.lake, settings.engine, source, DAYS)
    build_facts(platform.lake, settings.engine, platform.rules, platform.source_names, DAYS)
    build_rollup(platform.lake, platform.warehouse, platform.rules, settings, DAYS)


def rolled(platform: Platform) -> list[Any]:
    with platform.warehouse.reading() as connection:
        return connection.execute("SELECT * FROM daily_cost_by_team ORDER BY ALL").fetchall()


def facts_seen(platform: Platform) -> list[Any]:
    """The facts as people see them, in the published copy."""
    platform.warehouse.publish(platform.lake)
    with duckdb.connect(str(platform.settings.published), read_only=True) as connection:
        query = "SELECT source, charge_date, count(*), sum(BilledCost), sum(EffectiveCost) FROM cloud_cost_facts"
        return connection.execute(f"{query} GROUP BY ALL ORDER BY ALL").fetchall()


@pytest.fixture(scope="module")
def local(estate: Estate, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Any]]:
    """Rollup and facts of the estate with a local lake."""
    state = tmp_path_factory.mktemp("local")
    platform = cloud_platform(state, estate, state / "lake")
    build(platform)
    figures = rolled(platform), facts_seen(platform)
    assert all(figures)
    return figures


@pytest.mark.long
def test_a_lake_on_a_store_gives_the_figures_of_a_local_one_and_a_second_host_reads_them(
    estate: Estate, local: tuple[list[Any], list[Any]], tmp_path: Path, place: Place
) -> None:
    first = cloud_platform(tmp_path / "one", estate, lake_at(place))
    build(first)
    assert (rolled(first), facts_seen(first)) == local
    for verdict in [
        *judge_facts(first, first.keys(DAYS)),
        *(v for s in first.settings.sources for v in judge_raw(first, s, DAYS)),
    ]:
        assert verdict.passed or not verdict.blocking, verdict.message

    second = cloud_platform(tmp_path / "two", estate, lake_at(place))
    assert ledger_table(second.lake, SOURCES).frame().equals(ledger_table(first.lake, SOURCES).frame())
    for source in second.settings.sources:
        assert unknown_deliveries(second.lake, source, FIRST) == []
        assert changed_days(second.lake, source, FIRST, date(2026, 10, 2)) == []
        assert second.lake.days("raw", source.name) == first.lake.days("raw", source.name)
        assert not any(day.changed for day in compose_days(second.lake, second.settings.engine, source, DAYS))
    written = {f.key: f for f in store_of(first).list()}
    built = build_facts(second.lake, second.settings.engine, second.rules, second.source_names, DAYS)
    assert len(built) == 6
    assert not any(day.written for day in built)
    build_rollup(second.lake, second.warehouse, second.rules, second.settings, DAYS)
    assert rolled(second) == local[0]
    assert {f.key: f for f in store_of(second).list()} == written
    shutil.rmtree(second.lake.root)
    assert facts_seen(second) == local[1]


def store_of(platform: Platform) -> Any:
    lake = platform.lake
    assert isinstance(lake, RemoteLake)
    return lake.store


@pytest.mark.long
def test_what_one_host_restates_the_other_sees_and_never_its_own_old_copy(hosts: tuple[Host, Host]) -> None:
    a, b = hosts
    a.put("bill.csv", DAY, BilledCost="1.5")
    a.run(DAY)
    b.run(DAY)
    assert b.costs("raw", DAY) == b.costs("facts", DAY) == [Decimal("1.5")]
    old = b.lake.root / "landing"
    assert not any(old.rglob("*.parquet"))  # b had nothing to compose
    held = b.lake  # looked at before; its listing is that of then
    held.day_files("facts", ["bill"], [DAY])

    a.put("bill.csv", DAY, DAY, BilledCost="7")
    a.run(DAY)
    assert b.costs("raw", DAY) == b.costs("facts", DAY) == [Decimal(7)] * 2
    assert [g.state for g in b.ledger.generations("bill.csv")] == ["superseded", "live"]
    assert changed_days(b.lake, b.source, DAY, DAY + timedelta(days=1)) == []
    assert not b.facts(DAY)[0].written
    # The superseded slices are gone from the store.
    [scope] = {key.split("/")[2] for key in a.objects("landing/")}
    assert len({key.split("/")[3] for key in a.objects("landing/")}) == 1, scope


def test_of_two_hosts_that_write_one_record_one_wins_and_nothing_is_lost(hosts: tuple[Host, Host]) -> None:
    a, b = hosts
    seen_by_b = b.ledger
    assert seen_by_b.scopes() == []
    a.ledger.enter(entry("first"))
    with pytest.raises(
        LakeChanged, match=r"another process changed ledger/bill/scopes/x\.json meanwhile.*[Rr]un again"
    ):
        seen_by_b.enter(entry("second"))
    assert [g.generation for g in a.ledger.generations("x")] == ["first"]
    seen_by_b, seen_by_a = b.ledger, a.ledger
    assert [g.generation for g in seen_by_b.generations("x")] == ["first"]
    assert len(seen_by_a.generations("x")) == 1
    seen_by_b.enter(entry("second"))
    with pytest.raises(LakeChanged):
        seen_by_a.enter(entry("third"))
    with pytest.raises(LakeChanged):
        seen_by_a.lake.remove(seen_by_a.lake.record("bill", "scopes", "x"))
    assert [g.generation for g in a.ledger.generations("x")] == ["first", "second"]
    assert [g.generation for g in b.ledger.generations("x")] == ["first", "second"]


def entry(generation: str) -> Generation:
    return Generation("x", generation, "live", now())


def test_hosts_that_write_at_the_same_moment(two: tuple[Host, Host]) -> None:
    """Eight entries from eight threads: as many stand in the ledger as were not told to run again."""
    for host in two:
        assert host.ledger.scopes() == []
    two[0].ledger.enter(entry("0"))
    lost: list[str] = []

    def enter(host: Host, name: str) -> None:
        try:
            host.ledger.enter(entry(name))
        except LakeChanged:
            lost.append(name)

    threads = [threading.Thread(target=enter, args=(two[n % 2], f"{n}")) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {str(n) for n in range(9)} - set(lost)
    assert {g.generation for g in two[0].ledger.generations("x")} == expected
    assert len(expected) > 1


def test_a_host_that_saw_an_older_ledger_never_replaces_what_a_newer_one_made(two: tuple[Host, Host]) -> None:
    a, b = two
    a.put("bill.csv", DAY)
    a.land()
    a.compose(DAY)
    seen_by_b = b.lake
    for layer in ("raw", "facts"):
        seen_by_b.holds(seen_by_b.day_file("raw" if layer == "raw" else "facts", "bill", DAY))
    Ledger(seen_by_b, "bill").scopes()
    a.put("bill.csv", DAY, BilledCost="9")
    a.run(DAY)
    with pytest.raises(LakeChanged), seen_by_b.replacing(seen_by_b.day_file("raw", "bill", DAY)) as temporary:
        temporary.write_bytes(b"old")
    with pytest.raises(LakeError):
        b.facts(DAY, lake=seen_by_b)
    assert a.costs("facts", DAY) == b.costs("facts", DAY) == [Decimal(9)]
    assert not list(b.lake.root.rglob(".tmp-*"))


def test_two_hosts_that_build_the_same_day_agree(two: tuple[Host, Host]) -> None:
    a, b = two
    a.put("bill.csv", DAY)
    a.land()
    seen_by_b = b.lake
    assert not seen_by_b.holds(seen_by_b.day_file("raw", "bill", DAY))
    Ledger(seen_by_b, "bill").scopes()
    a.compose(DAY)
    b.compose(DAY, lake=seen_by_b)  # the same bytes, and the same record: as good as written
    seen_by_b = b.lake
    assert not seen_by_b.holds(seen_by_b.day_file("facts", "bill", DAY))
    a.facts(DAY)
    assert [day.written for day in b.facts(DAY, lake=seen_by_b)] == [True]
    assert b.costs("facts", DAY) == [Decimal("1.5")]


def test_tag_sets_that_two_hosts_meet_are_all_kept(two: tuple[Host, Host]) -> None:
    a, b = two
    seen_by_b = b.lake
    assert not seen_by_b.holds(seen_by_b.root / "tag_sets" / "source=bill" / "register.parquet")
    assert enter_tag_sets(a.lake, "bill", met("1")) == 1
    with pytest.raises(LakeChanged):
        enter_tag_sets(seen_by_b, "bill", met("2"))
    assert enter_tag_sets(b.lake, "bill", met("2")) == 1
    assert enter_tag_sets(a.lake, "bill", pa.concat_tables([met("1"), met("2")])) == 0


def met(ident: str) -> pa.Table:
    return pa.table({"tag_set_id": [ident], "Tags": ["{}"], "AllocatedTags": [None]}, schema=REGISTER_SCHEMA)


class Killed(BaseException):
    """The process is no more."""


@pytest.mark.long
def test_a_host_killed_between_upload_and_ledger_leaves_the_last_good_state(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = hosts
    a.put("bill.csv", DAY, BilledCost="1.5")
    a.run(DAY)
    a.put("bill.csv", DAY, BilledCost="2.5")

    def killed(self: Ledger, generation: Generation) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "enter", killed)
        with pytest.raises(Killed):
            a.land()
    assert len(a.objects("landing/")) == 2  # uploaded, not entered
    assert len(b.ledger.generations("bill.csv")) == 1
    assert changed_days(b.lake, b.source, DAY, DAY + timedelta(days=1)) == []
    assert not b.compose(DAY)[0].changed
    assert b.costs("raw", DAY) == b.costs("facts", DAY) == [Decimal("1.5")]

    # What was left behind by a delivery that never came again goes with the next one, once no landing can be at it.
    a.put("bill.csv", DAY, BilledCost="3.5")
    monkeypatch.setattr(lake_store, "ABANDONED_AFTER", timedelta(seconds=-60))
    b.run(DAY)
    assert len(b.objects("landing/")) == 1
    assert a.costs("facts", DAY) == [Decimal("3.5")]


@pytest.mark.long
def test_a_host_killed_between_a_day_and_its_record_is_asked_for_the_day_again(
    two: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    a.put("bill.csv", DAY, BilledCost="1.5")
    a.run(DAY)
    a.put("bill.csv", DAY, BilledCost="2.5")
    a.land()

    def killed(self: Lake, *args: Any, **named: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "write_record", killed)
        with pytest.raises(Killed):
            a.compose(DAY)
    assert changed_days(b.lake, b.source, DAY, DAY + timedelta(days=1)) == [DAY]
    b.run(DAY)
    assert changed_days(a.lake, a.source, DAY, DAY + timedelta(days=1)) == []
    assert a.costs("facts", DAY) == [Decimal("2.5")]


def test_a_generation_that_is_being_landed_is_not_taken_for_an_abandoned_one(two: tuple[Host, Host]) -> None:
    a, b = two
    a.put("bill.csv", DAY)
    b.land()
    other = a.lake.slices("bill", "bill.csv", "other") / "charge_date=2026-09-01" / "data_0.parquet"
    with a.lake.replacing(other) as temporary:
        temporary.write_bytes(b"x")
    a.put("bill.csv", DAY, BilledCost="2")
    b.land()
    assert a.lake.holds(other)


def test_an_answer_that_got_lost_is_not_a_conflict(two: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = two
    assert a.ledger.scopes() == []
    a.lake.write_record({}, "bill", "days", "2026-01-01")
    lake = a.lake
    real = type(lake.store).put

    def put(self: Any, key: str, file: Path, over: str | None = ANY) -> StoredFile:
        real(self, key, file, over)
        raise FileChanged(key)  # as when the client asks again and finds its own object

    ledger = Ledger(lake, "bill")
    ledger.scopes()
    with monkeypatch.context() as patch:
        patch.setattr(type(lake.store), "put", put)
        ledger.enter(entry("first"))
    ledger.enter(entry("second"))
    assert [g.generation for g in b.ledger.generations("x")] == ["first", "second"]


def test_a_store_that_ignores_conditions_is_refused(s3: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path / "a", s3)
    store: Any = type(host.lake.store)
    real = store.put
    monkeypatch.setattr(store, "put", lambda self, key, file, over=ANY: real(self, key, file))
    with pytest.raises(LakeError, match=r"takes no notice of If-Match.*use a store or version that does"):
        host.ledger.enter(entry("first"))


def test_a_look_at_which_nothing_is_new_costs_a_listing_of_the_ledger(two: tuple[Host, Host]) -> None:
    a, b = two
    a.put("bill.csv", DAY, DAY + timedelta(days=1))
    a.run(DAY, DAY + timedelta(days=1))
    for host in two:
        unknown_deliveries(host.lake, host.source, DAY)
    before = b.lake.store.requests
    unknown_deliveries(b.lake, b.source, DAY)
    assert b.lake.store.requests - before == 1
    changed_days(b.lake, b.source, DAY, DAY + timedelta(days=1))
    assert b.lake.store.requests - before == 2
    b.costs("facts", DAY)
    assert b.lake.store.requests - before == 4  # a listing, and the one day that was asked for
    b.costs("facts", DAY)
    assert b.lake.store.requests - before == 5
    assert len([*(b.lake.root / "facts").rglob("*.parquet")]) == 1


def test_a_working_copy_may_be_deleted_or_damaged(two: tuple[Host, Host]) -> None:
    a, _ = two
    a.put("bill.csv", DAY)
    a.run(DAY)
    shutil.rmtree(a.lake.root)
    assert a.costs("facts", DAY) == [Decimal("1.5")]
    assert a.ledger.scopes() == ["bill.csv"]
    a.lake.day_file("facts", "bill", DAY).write_bytes(b"cut short")
    a.lake.record("bill", "scopes", "bill.csv").unlink()
    assert a.costs("facts", DAY) == [Decimal("1.5")]
    assert len(a.ledger.generations("bill.csv")) == 1
    (a.lake.root / lake_store.COPIES).write_bytes(b"no database" * 100)
    with pytest.raises(LakeError, match=r"the working copy .* cannot be used .*delete the folder"):
        a.ledger.scopes()


def test_a_working_copy_keeps_to_its_limit_and_what_went_is_fetched_when_it_is_asked_for(
    s3: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path / "a", s3)
    days = [DAY + timedelta(days=n) for n in range(4)]
    for day in days:
        host.put(f"{day}.csv", day)
    host.run(*days)
    before = host.costs("facts", *days)
    small = RemoteLake(host.lake.uri, host.lake.store, host.lake.root, limit=1)

    def copies(layer: str) -> list[str]:
        return sorted(p.parent.name for p in (small.root / layer).rglob("*.parquet"))

    held = copies("raw")
    assert len(held) == 4
    with small.workspace():
        assert copies("raw") == held  # all of it was asked for just now
    # Hours later, one day of it is read.
    hours = timedelta(hours=3)
    monkeypatch.setattr(lake_store, "datetime", later(hours))
    [asked] = small.anew().day_files("raw", ["bill"], days[1:2])
    with small.anew().workspace():
        assert copies("raw") == [asked.parent.name]
        assert copies("landing") == []
        assert len(copies("facts")) == 4  # the published copy's are the same files
        assert asked.is_file()
    again = small.anew().day_files("raw", ["bill"], days)
    assert len(again) == 4
    assert all(file.is_file() for file in again)
    assert host.costs("facts", *days) == before
    assert len(host.objects("raw/")) == 4
    # A limit that holds all of it takes nothing.
    monkeypatch.setattr(lake_store, "datetime", later(3 * hours))
    with RemoteLake(small.uri, small.store, small.root, limit=10**9).workspace():
        assert copies("raw") == held


def later(by: timedelta) -> type[datetime]:
    """`datetime` of a clock that is so much later."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Later:
            return super().now(tz) + by

    return Later


def test_a_working_copy_of_an_earlier_version_is_used_on(s3: Place, tmp_path: Path) -> None:
    host = Host(tmp_path / "a", s3)
    host.put("bill.csv", DAY)
    host.run(DAY)
    with closing(sqlite3.connect(host.lake.root / lake_store.COPIES)) as database:
        database.execute("ALTER TABLE copies DROP COLUMN used")
        database.commit()
    limited = RemoteLake(host.lake.uri, host.lake.store, host.lake.root, limit=1)
    with limited.workspace():
        assert not any((limited.root / "raw").rglob("*.parquet"))  # nobody knows that anything of it is in use
    assert host.costs("raw", DAY) == [Decimal("1.5")]


def test_the_limit_of_a_working_copy_is_a_setting(tmp_path: Path) -> None:
    lake = {"uri": "s3://bucket/lake", "endpoint_url": "http://127.0.0.1:9", "working_copy_limit": "1.5 GB"}
    found = lake_store.open_lake(LakeStore.model_validate(lake), tmp_path)
    assert isinstance(found, RemoteLake)
    assert found.limit == found.anew().limit == 1_500_000_000
    with pytest.raises(ValidationError, match="working_copy_limit"):
        LakeStore.model_validate(lake | {"working_copy_limit": "1.5 G"})


@pytest.mark.parametrize("over", ["nothing", "what is there", "whatever"])
def test_an_object_above_what_one_request_takes_goes_in_parts_on_the_same_conditions(
    s3: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over: str
) -> None:
    monkeypatch.setattr(s3_store, "LARGEST_AT_ONCE", 6 << 20)
    monkeypatch.setattr(s3_store, "PART", 5 << 20)
    store = Host(tmp_path / "a", s3).lake.store
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * (45 << 10))  # 11.25 MiB
    first = store.put("k", file, None)
    assert first.etag.endswith("-3")  # parts
    assert store.read("k") == file.read_bytes()
    assert store.stat("k") == first
    changed = file.read_bytes()[::-1]
    file.write_bytes(changed)
    if over == "nothing":
        with pytest.raises(FileChanged):
            store.put("k", file, None)
        assert store.stat("k") == first
    else:
        second = store.put("k", file, first.etag if over == "what is there" else ANY)
        assert store.read("k") == changed
        with pytest.raises(FileChanged):
            store.put("k", file, first.etag)
        assert store.stat("k") == second
    assert not store._client.list_multipart_uploads(Bucket=store.bucket).get("Uploads")  # type: ignore[attr-defined]


def test_a_slower_process_of_the_same_machine_does_not_put_an_old_copy_over_a_new_one(tmp_path: Path) -> None:
    copies = lake_store._Copies(tmp_path)
    versions = [tmp_path / f"version {n}" for n in range(3)]
    for file in versions:
        file.write_text(file.name)
    assert copies.place("raw/x", "1", versions[1], before=None)
    assert not copies.place("raw/x", "0", versions[0], before=None)
    assert (tmp_path / "raw/x").read_text() == "version 1"
    held = copies.of(["raw/x"])["raw/x"]
    assert copies.is_here(StoredFile("raw/x", 9, "1"), held)
    assert copies.place("raw/x", "2", versions[2], held)
    copies.drop("raw/x", held)
    assert (tmp_path / "raw/x").read_text() == "version 2"


def test_a_day_of_a_very_long_delivery_is_one_object(s3: Place, tmp_path: Path) -> None:
    host = Host(tmp_path / "a", s3)
    folder = tmp_path / "made" / "charge_date=2026-09-01"
    folder.mkdir(parents=True)
    for n in range(2):
        duckdb.sql(f"SELECT {n} AS n, 'x' AS t").write_parquet(str(folder / f"data_{n}.parquet"))
    target = host.lake.slices("bill", "s", "g")
    host.lake.adopt(folder.parent, target)
    assert host.objects("landing/") == [
        "landing/source=bill/scope=s/generation=g/charge_date=2026-09-01/data_0.parquet"
    ]
    [file] = host.lake.files(target / "charge_date=2026-09-01", "*.parquet")
    assert sorted(duckdb.read_parquet(str(file)).fetchall()) == [(0, "x"), (1, "x")]


# ---- a store that cannot be used -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["s3", "azure", "gcs"])
def test_a_bucket_that_is_not_there_is_said(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    made = make_place(request, kind, tmp_path, monkeypatch)
    gone = replace(made, uri=f"{made.uri.partition('://')[0]}://no-such-bucket-1")
    with pytest.raises(LakeError, match=r"no-such-bucket-1.*check `uri`"):
        Host(tmp_path / "a", gone).ledger.scopes()


@contextmanager
def answering(method: str, status: int, body: str) -> Iterator[str]:
    """A server that lists nothing, and answers one method so."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            text = (body if self.command == method else "<ListBucketResult/>").encode()
            self.send_response(status if self.command == method else 200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PUT = do_DELETE = answer

        def log_message(self, *args: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


DENIED = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"


def test_an_identity_that_may_not_write_is_told_what_it_needs(s3: Place, tmp_path: Path) -> None:
    with answering("PUT", 403, DENIED) as endpoint:
        host = Host(tmp_path / "a", replace(s3, endpoint_url=endpoint))
        with pytest.raises(LakeError, match=r"access denied .* to PutObject; .*s3:PutObject and s3:DeleteObject on"):
            host.ledger.enter(entry("first"))
    with answering("GET", 403, DENIED) as endpoint:
        host = Host(tmp_path / "b", replace(s3, endpoint_url=endpoint))
        with pytest.raises(LakeError, match=r"access denied .* to ListObjectsV2; the identity needs s3:ListBucket"):
            host.ledger.scopes()


def test_a_store_that_does_not_answer_is_said(s3: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    host = Host(tmp_path / "a", replace(s3, endpoint_url="http://127.0.0.1:9"))
    host.put("bill.csv", DAY)
    with pytest.raises(LakeError, match=r"lake: s3://.*: cannot be reached.*check the network and `endpoint_url`"):
        host.land()


def test_a_wrong_key_is_said(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_place(request, "azure", tmp_path, monkeypatch)
    string = made.environment["AZURE_STORAGE_CONNECTION_STRING"]
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", string.replace("AccountKey=E", "AccountKey=F"))
    with pytest.raises(
        LakeError, match=r"no Azure credentials, or they are not accepted; run `az login`|access denied"
    ):
        Host(tmp_path / "a", made).ledger.scopes()


def test_no_account_or_no_package_is_said_with_the_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
    with pytest.raises(LakeError, match=r"lake az://c/lake: .*the storage account is not known"):
        lake_store.open_lake(LakeStore(uri="az://c/lake"), tmp_path)


# ---- the graph -------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_graph_runs_on_it_and_another_hosts_sensors_ask_for_nothing(s3: Place, tmp_path: Path) -> None:
    # Near the month's end: each of its days that costs nothing is judged, too.
    first_day, last_day = date(2026, 9, 27), date(2026, 9, 28)
    estate, graphs = small_estate(tmp_path, first_day, last_day), []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with persistent_instance(tmp_path / "history 1") as first, persistent_instance(tmp_path / "history 2") as second:
        for name, instance in (("one", first), ("two", second)):
            graphs.append(Graph(cloud_platform(tmp_path / name, estate, lake_at(s3)).settings, instance))
        ran = graphs[0].run(first_day, last_day)
        assert ran.success, ran.failure()
        # What is left are the days of the months that cost nothing, as they were delivered after their end.
        for request in graphs[0].asked("follow"):
            assert request.job_name == "daily"
            assert graphs[0].perform(request).success
        graphs[0].publish("reports/cost_by_team")
        for source in SOURCES:
            assert not graphs[1].asked(f"watch_{source}")
        assert [r for r in graphs[1].asked("follow") if r.job_name == "daily"] == []
        # Its warehouse is its own: a run there builds the rollup from the facts that are there.
        before = {f.key: f for f in store_of(graphs[0].platform).list("facts/")}
        assert graphs[1].run(first_day, last_day).success
        assert {f.key: f for f in store_of(graphs[0].platform).list("facts/")} == before
        assert graphs[0].rollup() == graphs[1].rollup()


# ---- the stores' own contract ----------------------------------------------------------------------


def test_a_store_writes_only_over_what_it_is_told_to(place: Place, tmp_path: Path) -> None:
    store: Any = place.open("lake")
    file = tmp_path / "file"

    def put(content: bytes, over: str | None = ANY) -> StoredFile:
        file.write_bytes(content)
        stored: StoredFile = store.put("a b/x=1/ü%20.parquet", file, over)
        return stored

    first = put(b"one", None)
    assert store.list() == [first] == [store.stat(first.key)]
    second = put(b"two", first.etag)
    for over in (None, first.etag):
        with pytest.raises(FileChanged):
            put(b"three", over)
    assert store.list() == [second]
    with store.local_root([second], tmp_path) as root:
        assert (root / second.key).read_bytes() == b"two"
    third = put(b"three")
    store.delete(third.key)
    store.delete(third.key)
    assert store.list() == []
    with pytest.raises(FileChanged):
        put(b"four", third.etag)


@pytest.mark.parametrize("size", [0, 9 << 20])
def test_files_of_any_size_are_written_whole(place: Place, tmp_path: Path, size: int) -> None:
    store: Any = place.open()
    file = tmp_path / "file"
    file.write_bytes(b"x" * size)
    put = store.put("large", file, None)
    assert put == store.stat("large")
    assert len(store.read("large")) == size
    with pytest.raises((StoreError, FileChanged)):
        store.put("large", file, None)


def test_usage_of_a_cluster_that_one_machine_landed_splits_the_bill_on_the_other(s3: Place, tmp_path: Path) -> None:
    clusters = f"clusters: [{{name: k8s, uri: {tmp_path / 'usage'}, layout: opencost}}]\n"
    one, other = (Host(tmp_path / name, s3, clusters) for name in ("a", "b"))
    one.put("bill.csv", FIRST, ResourceId=AWS_NODE)
    (tmp_path / "usage").mkdir()
    day = FIRST.isoformat()
    (tmp_path / "usage" / "day.json").write_text(answer(allocation("web-1", 3, day=day), idle(1, day=day)))

    def landed(host: Host) -> list[date]:
        p = host.platform
        return land_usage(p.lake, p.settings.engine, p.settings.clusters[0], p.settings.first_day)

    assert landed(one) == [FIRST]
    assert landed(other) == []
    other.run(FIRST)
    assert one.costs("facts", FIRST) == [Decimal("0.375"), Decimal("1.125")]
    # Nothing that is only there while facts are made comes into the store.
    assert other.objects("split/") == []
    assert [v.passed for v in judge_facts(one.platform, [("bill", FIRST)]) if v.gate == "conserved"] == [True]
    table = cluster_nodes(one.lake, one.platform.settings.engine, ["bill"]).frame()
    assert list(table["state"]) == ["split"]
