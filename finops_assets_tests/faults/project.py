"""A project folder of its own, the product's processes in it, and what a stranger reads of its state."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import duckdb

from finops_assets_tests.faults.bill import FIRST, UNTAGGED, Bill, Figures, of_day

SHIPPED = Path(__file__).parents[2]
HUNG_SECONDS = 120.0
"""A process that works for so long on so few rows stands still."""
LOOK_SECONDS = 0.25
BINARIES = Path(sys.executable).parent
OPEN_ENDS = ("STARTED", "STARTING", "QUEUED", "NOT_STARTED", "CANCELING", "MANAGED")


@dataclass
class Done:
    """A process that has ended, or was ended because it hung (`code` is None)."""

    code: int | None
    seconds: float
    cpu: float
    said: str


@dataclass
class Process:
    """One command of the product, in a session of its own."""

    popen: subprocess.Popen[bytes]
    log: Path
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    cpu: float = 0.0
    queued: float = 0.0
    """Seconds in which it wanted to work and others had the processors."""
    _delays: dict[str, float] = field(default_factory=dict)
    _looked: float = 0.0

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        if self.popen.returncode is None:
            pid, status, usage = os.wait4(self.popen.pid, os.WNOHANG)
            if pid:
                self.popen.returncode = os.waitstatus_to_exitcode(status)
                self.cpu, self.ended = usage.ru_utime + usage.ru_stime, time.monotonic()
            elif time.monotonic() - self._looked > LOOK_SECONDS:
                self._looked = time.monotonic()
                self._count_queued()
        return self.popen.returncode

    @property
    def seconds(self) -> float:
        """How long it has been, or was, at work: what it waited for the processors of a busy machine is no time of its own."""
        lasted = (self.ended or time.monotonic()) - self.started
        return max(self.cpu, lasted - min(self.queued, lasted))

    def _count_queued(self) -> None:
        """Add what the thread that waited longest for a processor waited since the last look."""
        now: dict[str, float] = {}
        for file in Path(f"/proc/{self.popen.pid}/task").glob("*/schedstat"):
            with suppress(OSError, ValueError, IndexError):
                now[file.parent.name] = int(file.read_text().split()[1]) / 1e9
        self.queued += max((delay - self._delays.get(thread, 0.0) for thread, delay in now.items()), default=0.0)
        self._delays = now

    def signal(self, number: int) -> None:
        """As the system does it: INT goes to all in the terminal, TERM and KILL to the one process."""
        with suppress(ProcessLookupError):
            if number == signal.SIGINT:
                os.killpg(self.popen.pid, number)
            else:
                os.kill(self.popen.pid, number)

    def done(self, within: float = HUNG_SECONDS) -> Done:
        """Wait for its end; what hangs is ended by force. What it left running is ended, too."""
        while self.poll() is None and self.seconds < within:
            time.sleep(0.02)
        code = self.poll()
        self.end_all()
        while self.poll() is None:
            time.sleep(0.02)
        assert self.ended is not None
        said = self.log.read_text(encoding="utf-8", errors="replace")
        return Done(code, self.seconds, self.cpu, said)

    def end_all(self) -> None:
        """End every process of its session."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)


@dataclass
class Project:
    """A folder with finops.yaml, dagster.yaml, the export and all state of the product."""

    folder: Path
    bill: Bill
    extra: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    """More of a source's entry in finops.yaml: `uri: …`, or whatever the place needs."""
    lake: str = "lake"
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def exports(self) -> Path:
        return self.folder / "exports"

    @property
    def published(self) -> Path:
        return self.folder / "published.duckdb"

    @property
    def range(self) -> tuple[str, str]:
        """FROM and TO of the whole bill."""
        return FIRST.isoformat(), self.bill.end.isoformat()

    def make(self) -> None:
        """Write the configuration into an empty folder."""
        self.folder.mkdir(parents=True)
        shutil.copyfile(SHIPPED / "dagster.yaml", self.folder / "dagster.yaml")
        (self.folder / "workspace.yaml").write_text("load_from:\n  - python_module: finops_assets.definitions\n")
        self.configure()

    def configure(self, extra: str = "") -> None:
        """Write finops.yaml."""
        entries = "".join(
            f"  - {{name: {name}, layout: files, {self.sources.get(name) or f'uri: exports/{name}'}}}\n"
            for name in ("one", "two")
        )
        (self.folder / "finops.yaml").write_text(
            f"first_day: {FIRST}\nlake: {self.lake}\nwarehouse: warehouse.duckdb\npublished: published.duckdb\n"
            f"sources:\n{entries}dimensions:\n  team: {{keys: [team]}}\ntag_policy: {{required: []}}\n"
            f"engine: {{memory_limit: 400MB, threads: 1}}\n{self.extra}{extra}",
            encoding="utf-8",
        )

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        preexec: Callable[[], None] | None = None,
        logs: Path | None = None,
    ) -> Process:
        """Start `finops ARGUMENTS`."""
        return self.start_program([str(BINARIES / "finops"), *arguments], environment, preexec, logs)

    def start_program(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        preexec: Callable[[], None] | None = None,
        logs: Path | None = None,
    ) -> Process:
        """Start a program in the project's folder; what it says goes to a file in `logs`."""
        kept = {
            k: v
            for k, v in os.environ.items()
            if k not in ("DAGSTER_HOME", "FINOPS_CONFIG", "PYTHONWARNINGS", "PYTEST_CURRENT_TEST")
        }
        kept["PATH"] = f"{BINARIES}{os.pathsep}{kept['PATH']}"
        logs = logs or self.folder.parent / f"{self.folder.name}-logs"
        logs.mkdir(exist_ok=True)
        log = logs / f"{time.monotonic_ns()}.log"
        with log.open("wb") as opened:
            popen = subprocess.Popen(
                command,
                cwd=self.folder,
                env=kept | dict(self.environment) | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=opened,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=preexec,
            )
        return Process(popen, log)

    def finops(
        self, *arguments: str, within: float = HUNG_SECONDS, environment: Mapping[str, str] | None = None
    ) -> Done:
        """Run a command to its end."""
        return self.start(*arguments, environment=environment).done(within)

    # ---- what is published, read by DuckDB alone ----

    def figures(self) -> tuple[Figures, Figures]:
        """The published rollup and the published facts, summed by day, team and currency; empty before there are any."""
        if not self.published.is_file():
            return {}, {}
        with closing(duckdb.connect(str(self.published), read_only=True)) as connection:
            return figures_of(connection)

    # ---- what is left behind ----

    def left_slots(self) -> list[str]:
        """Claimed slots and unfinished runs in Dagster's history; to be asked when nothing runs."""
        found = []
        for file in sorted((self.folder / ".dagster").rglob("*.db")):
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=20)) as database:
                tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                if "concurrency_slots" in tables:
                    claimed = database.execute(
                        "SELECT concurrency_key, run_id, step_key FROM concurrency_slots WHERE run_id IS NOT NULL"
                    )
                    found += [f"slot of {key} held by run {run} step {step}" for key, run, step in claimed]
                if "runs" in tables:
                    marks = ", ".join("?" for _ in OPEN_ENDS)
                    runs = database.execute(f"SELECT run_id, status FROM runs WHERE status IN ({marks})", OPEN_ENDS)
                    found += [f"run {run} is {status}" for run, status in runs]
        return found

    def left_files(self) -> list[str]:
        """Temporary files and scratch folders that nobody works on any more; to be asked when nothing runs."""
        found = []
        for path in self.folder.rglob("*"):
            if path.name.startswith(".tmp-") or path.parent.name == ".work" or path.name.endswith(".duckdb.wal"):
                found.append(path.relative_to(self.folder).as_posix())
        return sorted(found)


def figures_of(connection: duckdb.DuckDBPyConnection) -> tuple[Figures, Figures]:
    """Rollup and facts of an open copy, summed by day, team and currency."""
    tables = {name for (name,) in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()}
    queries = {
        "daily_cost_by_team": "team, BillingCurrency, sum(row_count), sum(billed_cost), sum(effective_cost)",
        "cloud_cost_facts": f"coalesce(team, '{UNTAGGED}'), BillingCurrency, count(*), sum(BilledCost), sum(EffectiveCost)",
    }
    rollup, facts = (
        {
            (day, team, currency): (int(rows), billed, effective)
            for day, team, currency, rows, billed, effective in connection.execute(
                f"SELECT charge_date, {columns} FROM {table} GROUP BY 1, 2, 3"
            ).fetchall()
        }
        if table in tables
        else {}
        for table, columns in queries.items()
    )
    return rollup, facts


@dataclass(frozen=True)
class Fault:
    """What a trial found: `kind` is a column of the table."""

    kind: str
    what: str


def compared(figures: Figures, allowed: Sequence[Figures], days: Iterable[date], name: str) -> list[Fault]:
    """A fault for each day whose figures are none of the allowed whole truths of that day."""
    faults = []
    for day in days:
        found, wanted = of_day(figures, day), [of_day(each, day) for each in allowed]
        if found in wanted:
            continue
        rows = sum(f[0] for f in found.values())
        counts = [sum(f[0] for f in each.values()) for each in wanted]
        kind = "lost" if rows < min(counts) else "doubled" if rows > max(counts) else "silent"
        amount = sum(f[2] for f in found.values())
        truths = " or ".join(str(sum(f[2] for f in each.values())) for each in wanted)
        faults.append(Fault(kind, f"{name} {day}: {rows} rows, effective {amount}; true are {counts} rows, {truths}"))
    return faults


def agreeing(rollup: Figures, facts: Figures, days: Iterable[date]) -> list[Fault]:
    """A fault for each day on which the published rollup and the published facts differ."""
    return [
        Fault("silent", f"{day}: rollup and facts of one published copy differ")
        for day in days
        if of_day(rollup, day) != of_day(facts, day)
    ]


TRACES = ("Traceback (most recent call last)", "terminate called", "Unhandled exception", "Segmentation fault")


def told(done: Done, codes: Iterable[int]) -> list[Fault]:
    """Faults of how a process ended: it hung, by a code that is not documented, or with a traceback."""
    if done.code is None:
        return [Fault("hung", f"no end after {done.seconds:.0f} s; it said: {done.said[-300:]!r}")]
    faults = []
    if done.code not in set(codes):
        faults.append(Fault("unclear", f"exit code {done.code}; it said: {done.said[-500:]!r}"))
    for trace in TRACES:
        if trace in done.said:
            faults.append(Fault("unclear", f"{trace!r} in what it said: {done.said[-700:]!r}"))
    return faults
