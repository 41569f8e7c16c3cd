"""Shared fixtures: a platform over one small source whose export files a test writes itself."""

from __future__ import annotations

import csv
import gc
import io
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from finops_assets.base.sql import literal
from finops_assets.cost.attribution.rules import Rules
from finops_assets.cost.daily_tables import build_rollup
from finops_assets.cost.facts import FactsDay, build_facts
from finops_assets.graph.run_range import heed_signals
from finops_assets.ingest.landing import land_source
from finops_assets.ingest.raw_days import RawDay, compose_days
from finops_assets.judge.gates.raw import judge_raw
from finops_assets.judge.gates.verdict import Verdict
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets.settings.sources import Source
from finops_assets.storage import duck
from finops_assets.storage.ledger import Generation, Ledger
from finops_assets_tests import instances, shared

# Where CI starts this in the background, each step of each run would wait for its log's `tail`.
heed_signals()

# As the command line has it.
gc.set_threshold(50_000, 20, 20)

# It changes how often sensors look, for the daemons of tests alone.
collect_ignore = ["impatient.py"]

Row = dict[str, Any]


MEMORY = Path("/dev/shm")
"""Where files of tests need no disk: a run of the graph commits a thousand times to Dagster's history."""
ROOM_BYTES = 6 << 30


def _in_memory() -> str | None:
    """The folder for temporary files, or None for the system's: where there is no such memory, or too little of it."""
    return str(MEMORY) if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES else None


def pytest_configure(config: pytest.Config) -> None:
    """`tmp_path` lies in memory, unless --basetemp says otherwise, and goes with the run; so does what is shared."""
    if hasattr(config, "workerinput"):
        return
    memory = _in_memory()
    if config.option.basetemp is None and memory:
        config.option.basetemp = tempfile.mkdtemp(prefix="finops-pytest-", dir=memory)
        config.add_cleanup(partial(shutil.rmtree, config.option.basetemp, ignore_errors=True))
    os.environ[shared.FOLDER] = tempfile.mkdtemp(prefix="finops-shared-", dir=memory)
    config.add_cleanup(partial(shutil.rmtree, os.environ[shared.FOLDER], ignore_errors=True))


SLOW = (
    "Graph", "small_estate", "Estate", "persistent_instance", "dagster_dev", "subprocess", "s3_endpoint", "postgres_server",
)  # fmt: skip
"""What a module imports that runs the graph, starts a process or a server, or makes an estate of bills."""
_IS_SLOW = re.compile(
    rf"^(?:from|import|    )\b.*\b(?:{'|'.join(SLOW)})\b|^pytestmark = pytest\.mark\.slow", re.MULTILINE
)


@cache
def is_slow(file: Path) -> bool:
    """Modules with such things are slow: `make test-fast` leaves them out."""
    return bool(_IS_SLOW.search(file.read_text(encoding="utf-8")))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What is left out is not even imported: that takes each process longer than its tests."""
    without = "not slow" in config.option.markexpr
    return (without and collection_path.name.startswith("test_") and is_slow(collection_path)) or None


BEGIN_WITH = (
    "graph/test_ui.py", "faults/test_cut.py", "graph/test_month.py", "graph/test_daemon.py", "graph/test_postgres.py",
    "graph/test_follow.py", "base/test_waiting.py", "cli/test_cli.py", "graph/test_gates_in_runs.py", "graph/test_graph.py",
    "explore/test_access.py", "graph/test_mutations.py", "storage/test_remote_lake.py", "evaluate/test_focus_export.py",
    "judge/test_warehouse_behind.py", "ingest/test_bad_input.py",
)  # fmt: skip
"""What takes longest, much of it waiting for daemons: begun last, each would be one worker's while the others have ended."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {Path(__file__).parent / name: n for n, name in enumerate(BEGIN_WITH)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
    for item in items:
        if is_slow(item.path) and item.path.name.startswith("test_"):
            item.add_marker("slow")


BRINGS = {
    "zurite": "Azurite (make emulators)",
    "make test-engines": "other engines (make test-engines)",
    "Java": "Java 17 (apt install openjdk-17-jre-headless)",
    "chromium": "a browser (apt install chromium chromium-driver)",
    "ostgres": "PostgreSQL (apt install postgresql)",
    **dict.fromkeys(
        ("examples are not", "sample is not", "bills are not"), "real bills in ../shared, not part of this project"
    ),
}
"""What a reason to skip speaks of -> what is missing, and the command that brings it."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was not tested on this machine, in one line, with what brings it."""
    told = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    lacking = Counter(next((what for word, what in BRINGS.items() if word in reason), "") for reason in told)
    lacking.pop("", None)
    if lacking:
        parts = (f"{count} for lack of {what}" for what, count in lacking.most_common())
        terminalreporter.write_line(f"skipped: {', '.join(parts)}")


@pytest.fixture(scope="session", autouse=True)
def temporary_files() -> Iterator[Path]:
    """One folder for the temporary files of this process and of those that it starts, gone when it ends.

    Short, because sockets lie in it.
    """
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="finops-tests-", dir=_in_memory(), ignore_cleanup_errors=True) as folder,
    ):
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        # PostgreSQL does not run as root: where that is who runs the tests, another user must pass through.
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="session", autouse=True)
def history_made_once() -> Iterator[None]:
    """For each run Dagster reads its 89 migrations, to make a file of empty tables: here they are read once, and the first
    such file is copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", _migrations)
        patch.setattr(SqliteEventLogStorage, "_initdb", _make_tables)
        yield


@pytest.fixture(scope="session", autouse=True)
def engine_made_once() -> Iterator[None]:
    """DuckDB makes its catalog of functions anew for each instance: connections of the pipeline in memory share some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duck, "duckdb", instances.Engine())
        yield


_read_migrations, _really_make_tables = ScriptDirectory.from_config, SqliteEventLogStorage._initdb
_migrations = lru_cache(_read_migrations)
"""A configuration of alembic is an object of which Dagster keeps one for each of its three histories."""
_empty_tables: list[bytes] = []


def _make_tables(storage: SqliteEventLogStorage, engine: sqlalchemy.Engine, for_index_shard: bool = False) -> None:
    file = Path(str(engine.url.database))
    fresh = not file.exists()
    if fresh and _empty_tables:
        # In place at once: nobody opens half of it.
        copy = file.with_name(f"{file.name}.{os.getpid()}")
        copy.write_bytes(_empty_tables[0])
        try:
            os.link(copy, file)
        except FileExistsError:
            pass
        else:
            return
        finally:
            copy.unlink()
    _really_make_tables(storage, engine, for_index_shard)
    if fresh and not Path(f"{file}-wal").exists():
        _empty_tables[:] = [file.read_bytes()]


def focus_row(day: str = "2026-09-01", **changes: Any) -> Row:
    """A conforming FOCUS 1.0 row of that day; `changes` replaces or adds columns."""
    return {
        "BilledCost": "1.5",
        "EffectiveCost": "1.25",
        "ListCost": "2",
        "ContractedCost": "1.5",
        "BillingCurrency": "USD",
        "BillingAccountId": "1",
        "BillingAccountName": "main",
        "BillingPeriodStart": f"{day[:7]}-01T00:00:00Z",
        "BillingPeriodEnd": f"{day[:7]}-28T00:00:00Z",
        "ChargePeriodStart": f"{day}T10:00:00Z",
        "ChargePeriodEnd": f"{day}T11:00:00Z",
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargeDescription": "hours",
        "ChargeFrequency": "Usage-Based",
        "InvoiceIssuerName": "Cloud",
        "ProviderName": "Cloud",
        "PublisherName": "Cloud",
        "PricingQuantity": "1",
        "PricingUnit": "Hours",
        "ServiceCategory": "Compute",
        "ServiceName": "Machines",
        "Tags": '{"team": "core"}',
    } | changes


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@dataclass(frozen=True)
class Site:
    """A platform with the one source `bill`, whose export lies in `exports`."""

    folder: Path
    layout: str = "files"
    required: bool = True
    extra: str = ""
    first_day: str = "2026-01-01"
    lake: str = "lake"
    uri: str = "exports"

    @property
    def exports(self) -> Path:
        return self.folder / "exports"

    @property
    def text(self) -> str:
        """finops.yaml."""
        return (
            f"first_day: {self.first_day}\nlake: {self.lake}\nwarehouse: w.duckdb\npublished: p.duckdb\n"
            f"sources: [{{name: bill, uri: '{self.uri}', layout: {self.layout}, required: {str(self.required).lower()}}}]\n"
            "dimensions:\n  team: {keys: [team, squad], values: {core-team: core}}\n  department: {keys: [dept]}\n"
            f"{self.extra}"
        )

    @cached_property
    def platform(self) -> Platform:
        return Platform(parse_settings(self.text, self.folder / "finops.yaml"))

    @property
    def source(self) -> Source:
        return self.platform.settings.source("bill")

    def put(self, name: str, content: str | bytes) -> Path:
        """Write an export file."""
        file = self.exports / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def put_csv(self, name: str, *rows: Mapping[str, Any]) -> Path:
        return self.put(name, csv_text(rows))

    def put_parquet(self, name: str, *rows: Mapping[str, Any], types: Mapping[str, pa.DataType] | None = None) -> Path:
        """Write rows as Parquet: text columns, but those in `types`."""
        fields = [pa.field(column, (types or {}).get(column, pa.string())) for column in rows[0]]
        file = self.exports / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(fields)), file)
        return file

    def land(self) -> list[Generation]:
        p = self.platform
        return land_source(p.lake, p.settings.engine, self.source, p.settings.first_day)

    def compose(self, *days: str) -> list[RawDay]:
        return compose_days(self.platform.lake, self.platform.settings.engine, self.source, _dates(days))

    def run(self, *days: str) -> list[Generation]:
        """Land the source and compose these raw days."""
        landed = self.land()
        self.compose(*days)
        return landed

    def run_all(self, *days: str) -> None:
        """From export to rollup."""
        self.run(*days)
        self.facts(*days)
        p = self.platform
        build_rollup(p.lake, p.warehouse, p.rules, p.settings, _dates(days))

    def facts(self, *days: str, rules: Rules | None = None) -> list[FactsDay]:
        p = self.platform
        return build_facts(p.lake, p.settings.engine, rules or p.rules, p.source_names, _dates(days))

    def judge(self, *days: str) -> dict[tuple[str, str], Verdict]:
        """(gate, day) -> the verdict on the raw day."""
        return {(v.gate, v.day.isoformat()): v for v in judge_raw(self.platform, self.source, _dates(days))}

    def accept(self, scope: str) -> None:
        Ledger(self.platform.lake, "bill").accept(scope)

    def generations(self, scope: str) -> list[Generation]:
        return Ledger(self.platform.lake, "bill").generations(scope)

    def file(self, layer: str, day: str) -> Path:
        return self.platform.lake.day_file("raw" if layer == "raw" else "facts", "bill", date.fromisoformat(day))

    def rows(self, day: str, *columns: str, layer: str = "raw") -> list[tuple[Any, ...]]:
        """These columns of a day, in the order of the export's rows."""
        relation = f"read_parquet({literal(str(self.file(layer, day)))}, hive_partitioning = false)"
        query = f"SELECT {', '.join(columns)} FROM {relation} ORDER BY source_file, source_row"
        return duckdb.execute(query).fetchall()

    def value(self, day: str, column: str, layer: str = "raw") -> Any:
        """A column of a day's one row."""
        [(value,)] = self.rows(day, column, layer=layer)
        return value


def _dates(days: Iterable[str]) -> list[date]:
    return [date.fromisoformat(day) for day in days]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose source has the layout `files`."""
    return Site(tmp_path)


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., Site]:
    """A site with other settings: layout, required, extra YAML."""
    return lambda **settings: Site(tmp_path, **settings)
