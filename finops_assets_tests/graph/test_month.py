"""A month of deliveries as providers make them, watched by the sensors: after each step the totals are the truth,
the days that ran are exactly the days that changed, and the ledger tells the story."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from finops_assets.demo import Estate, EstateSpec, Incident
from finops_assets.demo.plan import Delivery
from finops_assets.graph.days_to_run import days_to_run
from finops_assets.graph.run_range import QUIET
from finops_assets.storage.ledger import Ledger, ledger_table
from finops_assets_tests.running import SOURCES, Graph, persistent_instance, settings_for
from finops_assets_tests.shared import made_once

FIRST, LAST = date(2026, 9, 20), date(2026, 10, 6)


def days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def days_of(request: dg.RunRequest) -> list[date]:
    first, last = (request.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
    return days(date.fromisoformat(first), date.fromisoformat(last))


@dataclass
class Watched:
    """A platform whose sensors are ticked by hand until they ask for nothing more."""

    graph: Graph
    estate: Estate
    asked: list[str] = field(default_factory=list)
    second: Estate | None = None
    manifests_before: dict[Path, bytes] = field(default_factory=dict)
    held_back: dict[Path, bytes] = field(default_factory=dict)

    @property
    def payer2(self) -> Estate:
        """The second AWS payer."""
        assert self.second is not None
        return self.second

    def deliver(self, generation: int, through: date | None = None) -> None:
        """September again, from the three clouds and the second payer."""
        for source in SOURCES:
            self.estate.deliver(source, "2026-09", through=through, generation=generation)
        self.payer2.deliver("aws", "2026-09", through=through, generation=generation, create_new=True)

    def manifests(self) -> list[Path]:
        return [p for root in (self.estate.root, self.payer2.root) for p in root.rglob("*anifest.json")]

    def hold_manifests_back(self) -> None:
        """Take away the manifests that are new, and put those back that they replaced."""
        self.held_back = {p: c for p in self.manifests() if (c := p.read_bytes()) != self.manifests_before.get(p)}
        assert self.held_back
        for path in self.held_back:
            if path in self.manifests_before:
                path.write_bytes(self.manifests_before[path])
                # Older than the data, by more than the minute that is forgiven.
                os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 3600))
            else:
                path.unlink()

    def settle(self, *sources: str) -> dict[str, list[date]]:
        """Tick the sensors and run what they ask for; returns the days that ran by source."""
        ran: dict[str, list[date]] = {s: [] for s in sources}
        for _ in range(6):
            requests = [r for s in sources for r in self.tick(s)] or self.tick_days()
            for request in requests:
                self.asked.append(str(request.run_key))
                self.graph.perform(request)
                for asset in request.asset_selection or ():
                    # The other sources' days are long over, too: where one of them is missing it is judged and held.
                    if asset.path[0] == "raw" and asset.path[1] in ran:
                        ran[asset.path[1]] += days_of(request)
            if not requests:
                return ran
        raise AssertionError(f"the sensors do not come to rest: {self.asked[-6:]}")

    def tick(self, source: str) -> list[dg.RunRequest]:
        return self.graph.asked(f"watch_{source}")

    def tick_days(self) -> list[dg.RunRequest]:
        """The days that are asked for; reports are not, here."""
        return [r for r in self.graph.asked("follow") if r.job_name == "daily"]

    def check_totals(self) -> None:
        """The rollup equals the estate's truth for every day, currency and team, to the last digit."""
        connection = duckdb.connect()
        truths = [estate.truth() for estate in (self.estate, self.second) if estate is not None]
        connection.register("truth", pa.concat_tables(truths))
        expected = connection.execute(
            "SELECT charge_date, coalesce(team, '__untagged__'), BillingCurrency, sum(billed_cost), sum(effective_cost),"
            " sum(row_count) FROM truth GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        with self.graph.platform.warehouse.reading() as warehouse:
            found = warehouse.execute(
                "SELECT charge_date, team, BillingCurrency, sum(billed_cost), sum(effective_cost), sum(row_count)"
                " FROM daily_cost_by_team GROUP BY ALL ORDER BY ALL"
            ).fetchall()
        assert found == expected

    def states(self, source: str, scope: str) -> list[str]:
        return [g.state for g in Ledger(self.graph.platform.lake, source).generations(scope)]


@contextmanager
def watched_in(root: Path) -> Iterator[Watched]:
    estate = Estate(EstateSpec(FIRST, LAST, 1_200), root / "estate")
    with persistent_instance(root / "dagster") as instance:
        yield Watched(Graph(settings_for(root, FIRST, "release: whole_day\n"), instance), estate)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with watched_in(tmp_path) as watched:
        yield watched


@pytest.fixture
def settled(tmp_path: Path) -> Iterator[Watched]:
    """The month until the 22nd was delivered once by all, and what the sensors asked for was run."""
    shutil.copytree(made_once("month-settled", _settled), tmp_path, dirs_exist_ok=True)
    with watched_in(tmp_path) as watched:
        watched.estate._latest.update(
            {(s, "2026-09"): Delivery(s, "2026-09", date(2026, 9, 22), 1, ()) for s in SOURCES}
        )
        yield watched


def _settled(root: Path) -> None:
    with watched_in(root) as watched:
        deliver_first(watched)


def deliver_first(watched: Watched) -> None:
    for source in SOURCES:
        watched.estate.deliver(source, "2026-09", through=date(2026, 9, 22))
    watched.settle(*SOURCES)


ALL = (*SOURCES, "payer2")
RETAGGED = date(2026, 9, 21)
INVOICED = {"aws", "payer2"}
LENIENT = "{warn_above: 100, block_above: 100}"


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Watched]:
    """Three clouds that write over their last delivery, and a second AWS payer whose export is create-new."""
    spec = EstateSpec(FIRST, LAST, 1_200, incidents=(Incident("aws", RETAGGED, "untagged"),))
    second = Estate(EstateSpec(FIRST, LAST, 1_200, seed=11), tmp_path / "second")
    settings = settings_for(tmp_path, FIRST, f"  sources: {{aws: {{department: {LENIENT}, team: {LENIENT}}}}}\n")
    payer2 = settings.source("aws").model_copy(update={"name": "payer2", "uri": str(tmp_path / "second" / "aws")})
    with persistent_instance(tmp_path / "dagster") as instance:
        graph = Graph(settings.model_copy(update={"sources": (*settings.sources, payer2)}), instance)
        yield Watched(graph, Estate(spec, tmp_path / "estate"), second=second)


@pytest.mark.long
def test_a_month_of_deliveries(four: Watched) -> None:
    september = date(2026, 9, 30)
    # The month to date, from all three clouds and the second payer.
    four.deliver(1, through=date(2026, 9, 22))
    # AWS says by its files' times alone when it delivered: now, after the month's end, so its later days cost nothing.
    assert four.settle(*ALL) == {s: days(FIRST, september if s in INVOICED else date(2026, 9, 22)) for s in ALL}
    four.check_totals()
    assert all(four.tick(s) == [] for s in ALL)

    # The daily refresh delivers the whole month again with one day more: one day runs.
    for generation, day in ((2, 23), (3, 24)):
        four.deliver(generation, through=date(2026, 9, day))
        assert four.settle(*ALL) == {s: [date(2026, 9, day)] for s in ALL}
        four.check_totals()

    # The manifests come later than the data: until then nothing runs, and what stood stands.
    before = four.graph.rollup()
    with manifests_come_late(four):
        four.deliver(4, through=date(2026, 9, 25))
        four.hold_manifests_back()
        assert four.settle(*ALL) == {s: [] for s in ALL}
        assert four.graph.rollup() == before
    assert four.settle(*ALL) == {s: [date(2026, 9, 25)] for s in ALL}
    four.check_totals()

    # Old rows get their tags in mid-month: their cost stays, their teams change, one day of one source runs.
    four.estate = Estate(replace(four.estate.spec, incidents=()), four.estate.root)
    four.deliver(5, through=date(2026, 9, 25))
    assert four.settle(*ALL) == {"aws": [RETAGGED], "azure": [], "gcp": [], "payer2": []}
    four.check_totals()

    # The month is closed: with the invoice every row gets its number, so every day has changed.
    four.deliver(6)
    assert four.settle(*ALL) == {s: days(FIRST if s in INVOICED else date(2026, 9, 26), september) for s in ALL}
    four.check_totals()
    # A day of each AWS export is restated: of the one that writes over its last delivery, of the one that does not.
    restated = date(2026, 9, 22)
    four.estate.deliver("aws", "2026-09", generation=7, restate={restated: Decimal("1.25")})
    assert four.settle(*ALL) == {"aws": [restated], "azure": [], "gcp": [], "payer2": []}
    four.check_totals()
    four.payer2.deliver("aws", "2026-09", generation=7, create_new=True, restate={FIRST: Decimal("0.5")})
    assert four.settle(*ALL) == {"aws": [], "azure": [], "gcp": [], "payer2": [FIRST]}
    four.check_totals()
    runs = {p.parent.name for p in (four.payer2.root / "aws").rglob("*.parquet") if "BILLING_PERIOD=2026-09" in str(p)}
    assert len(runs) == 7, "every create-new delivery still lies there"

    # Corrections of September come with October's bill.
    four.estate.deliver("aws", "2026-10", generation=1)
    [ran] = four.settle("aws").values()
    assert [d for d in ran if d > september] == days(date(2026, 10, 1), date(2026, 10, 31))
    corrected = [d for d in ran if d <= september]
    assert corrected, "a correction from October's bill lands on a day of September"
    with duckdb.connect() as connection:
        files = four.graph.platform.lake.day_files("raw", ["aws"], corrected)
        found = connection.execute(
            "SELECT count(DISTINCT charge_date) FROM read_parquet(?, hive_partitioning = true, union_by_name = true)"
            " WHERE ChargeClass = 'Correction'",
            [[str(f) for f in files]],
        ).fetchone()
    assert found == (len(corrected),)
    for source in ("azure", "gcp"):
        four.estate.deliver(source, "2026-10", generation=1)
    four.payer2.deliver("aws", "2026-10", create_new=True)
    four.settle("azure", "gcp", "payer2")
    four.check_totals()
    for source in ("aws", "payer2"):
        assert [s for s in four.states(source, "2026-09") if s != "waiting"] == ["superseded"] * 6 + ["live"]
    assert len(set(four.asked)) == len(four.asked)


@contextmanager
def manifests_come_late(four: Watched) -> Iterator[None]:
    """What is delivered within the block lies there without its manifests until the block ends."""
    four.manifests_before = {p: p.read_bytes() for p in four.manifests()}
    yield
    for path, content in four.held_back.items():
        path.write_bytes(content)


@pytest.mark.long
def test_create_new_next_to_overwrite_changes_nothing(settled: Watched) -> None:
    for source in SOURCES:
        settled.estate.deliver(source, "2026-09", through=date(2026, 9, 22), generation=2, create_new=True)
    assert settled.settle(*SOURCES) == {s: [] for s in SOURCES}
    assert settled.states("aws", "2026-09") == ["superseded", "live"]
    settled.check_totals()


@pytest.mark.long
def test_a_vanished_file_waits_and_the_last_good_delivery_stands(settled: Watched, tmp_path: Path) -> None:
    before = settled.graph.rollup()
    settled.estate.deliver("gcp", "2026-09", through=date(2026, 9, 23), generation=2)
    newest = max((tmp_path / "estate" / "gcp").rglob("shard-*.parquet"), key=lambda p: p.parent.name)
    content = newest.read_bytes()
    newest.unlink()
    assert settled.settle("gcp") == {"gcp": []}
    assert settled.states("gcp", "2026-09") == ["live", "waiting"]
    reason = Ledger(settled.graph.platform.lake, "gcp").latest("2026-09")
    assert reason is not None
    assert newest.name in (reason.reason or "")
    assert settled.graph.rollup() == before
    # A day run meanwhile is held; it is asked for again once nothing waits any more, though its rows are the same.
    held = settled.graph.run(date(2026, 9, 22))
    assert not held.success
    newest.write_bytes(content)
    assert settled.settle("gcp") == {"gcp": [date(2026, 9, 22), date(2026, 9, 23)]}
    assert settled.states("gcp", "2026-09") == ["superseded", "live"]


@pytest.mark.long
def test_a_backfill_runs_what_the_sensors_would_ask_for(watched: Watched, tmp_path: Path) -> None:
    # Not on a copy: to the ledger a copied file is another.
    deliver_first(watched)
    platform, instance, end = watched.graph.platform, watched.graph.instance, date(2026, 10, 1)
    # The days to come were run with AWS, which has none of them by its files' times, and wait for the others.
    assert days_to_run(platform, instance, FIRST, end) == []
    watched.estate.deliver("gcp", "2026-09", through=date(2026, 9, 22), generation=2)
    newest = max((tmp_path / "estate" / "gcp").rglob("shard-*.parquet"), key=lambda p: p.parent.name)
    content = newest.read_bytes()
    newest.unlink()
    assert not watched.graph.run(date(2026, 9, 21)).success, "held by the delivery that waits"
    newest.write_bytes(content)
    [land] = watched.tick("gcp")
    assert land.job_name == "land_gcp"
    watched.graph.defs.resolve_job_def("land_gcp").execute_in_process(instance=instance, run_config=QUIET)
    [asked] = watched.tick_days()
    assert asked.tags["dagster/asset_partition_range_start"] == asked.tags["dagster/asset_partition_range_end"]
    assert days_to_run(platform, instance, FIRST, date(2026, 9, 23)) == [date(2026, 9, 21)]


@pytest.mark.long
def test_a_delivery_that_lost_days_is_refused_until_it_is_accepted(watched: Watched) -> None:
    for source in SOURCES:
        watched.estate.deliver(source, "2026-09", through=date(2026, 9, 24))
    watched.settle(*SOURCES)
    watched.estate.deliver("azure", "2026-09", through=date(2026, 9, 22), generation=2)
    assert watched.settle("azure") == {"azure": []}
    ledger = Ledger(watched.graph.platform.lake, "azure")
    latest = ledger.latest("2026-09")
    assert latest is not None
    assert latest.state == "refused"
    assert "2 days that the last delivery held are gone" in (latest.reason or "")
    ledger.accept("2026-09")
    assert watched.settle("azure") == {"azure": [date(2026, 9, 23), date(2026, 9, 24)]}
    table = ledger_table(watched.graph.platform.lake, ["azure"], at=datetime(2026, 10, 1, tzinfo=UTC)).frame()
    assert list(table["state"]) == ["complete", "superseded"]
    assert list(table["days_changed"]) == [2, 5]


def test_a_landing_that_failed_is_asked_for_again_later(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    from finops_assets.graph.assets import deliveries

    watched.estate.deliver("aws", "2026-09", through=date(2026, 9, 21))
    [request] = watched.tick("aws")

    asset = watched.graph.defs.resolve_assets_def(deliveries.deliveries_key("aws"))
    policy = asset.op.retry_policy
    assert policy is not None
    assert (policy.max_retries, policy.backoff) == (3, dg.Backoff.EXPONENTIAL)

    def broken(*_: object) -> list[object]:
        # After its last retry; the waits between retries are Dagster's.
        raise dg.Failure("the network is down", allow_retries=False)

    job = watched.graph.defs.resolve_job_def("land_aws")
    with monkeypatch.context() as patch:
        patch.setattr(deliveries, "land_source", broken)
        failed = job.execute_in_process(
            instance=watched.graph.instance, tags=request.tags, run_config=QUIET, raise_on_error=False
        )
    assert not failed.success
    assert watched.tick("aws") == []
    from finops_assets.graph.sensors import deliveries as sensor

    monkeypatch.setattr(sensor, "FIRST_WAIT", timedelta(0))
    [again] = watched.tick("aws")
    assert again.run_key == str(request.run_key).replace("attempt 1", "attempt 2")


@pytest.mark.long
def test_what_moved_since_it_was_reported(settled: Watched) -> None:
    from finops_assets.base.period import Period
    from finops_assets.cost.restatements import REPORTED_COST, as_of_relation, restatements
    from finops_assets.evaluate.reports import cost_by

    period, day = Period(date(2026, 9, 20), date(2026, 9, 23)), date(2026, 9, 21)
    warehouse = settled.graph.platform.warehouse
    with warehouse.writing() as connection:
        before = cost_by(connection, period, ("team",)).frame()
        connection.execute(f"UPDATE {REPORTED_COST} SET reported_from = TIMESTAMP '2026-09-25 04:00:00'")
        assert restatements(connection).frame().empty
    settled.estate.deliver("aws", "2026-09", through=date(2026, 9, 22), generation=2, restate={day: Decimal("2")})
    assert settled.settle("aws") == {"aws": [day]}
    with warehouse.reading() as connection:
        moved = restatements(connection).frame()
        now = cost_by(connection, period, ("team",)).frame()
        then = cost_by(connection, period, ("team",), as_of_relation(date(2026, 9, 25))).frame()
        early = cost_by(connection, period, ("team",), as_of_relation(date(2026, 9, 24))).frame()
    columns = ["team", "currency", "effective_cost", "billed_cost", "share_percent", "row_count"]
    assert then[columns].equals(before[columns])
    assert early.empty
    assert set(moved["charge_date"]) == {day}
    assert set(moved["source"]) == {"aws"}
    difference = sum(now["effective_cost"], Decimal(0)) - sum(then["effective_cost"], Decimal(0))
    assert sum(moved["moved"], Decimal(0)) == difference != 0
