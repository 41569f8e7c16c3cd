"""Processes that are killed: KILL, TERM and INT at seeded points of every stage, also half way through a restatement."""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from finops_assets_tests.faults.bill import Bill, Figures, truth_of
from finops_assets_tests.faults.project import (
    HUNG_SECONDS,
    Done,
    Fault,
    Process,
    Project,
    agreeing,
    compared,
    told,
)
from finops_assets_tests.faults.table import Row

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENDED_BY = {
    # By the signal itself, or by the code that shells give it; one that was interrupted and tidied up has 130.
    signal.SIGKILL: (-9, 137),
    signal.SIGTERM: (-15, 143, 130),
    signal.SIGINT: (-2, 130),
}
ALLOWED_RATIO = 1.5
POLL_SECONDS = 0.01
GIVE_UP_SECONDS = 60.0
"""After this long without an end a process that was told to end is one that does not."""


@dataclass
class Traces:
    """What files tell of how far a process has come."""

    project: Project
    since: int = field(default_factory=time.time_ns)

    def reached(self, stage: str) -> bool:
        """Has a stage left its first trace?"""
        folder = self.project.folder
        match stage:
            case "start" | "publish" | "prune":
                return True
            case "landing":
                return any(folder.glob("lake/.work/*")) or self._newer("lake/ledger/*/scopes/*.json")
            case "composing":
                return self._newer("lake/ledger/*/scopes/*.json")
            case "facts":
                return any(folder.glob("lake/facts/*/*/.tmp-*")) or self._newer("lake/facts/*/*/data.parquet")
            case "restatement":
                return self._newer("lake/facts/*/*/data.parquet")
            case "rollup":
                return (folder / "warehouse.duckdb.wal").is_file() or self._newer("warehouse.duckdb")
            case "evaluation":
                return len(self._new(".dagster/history/runs/*-*.db")) > 1
            case "publishing":
                return any(folder.glob(".tmp-*published*")) or self._newer("published.duckdb")
        raise ValueError(stage)

    def _newer(self, pattern: str) -> bool:
        return any(self._changed(path) for path in self.project.folder.glob(pattern))

    def _new(self, pattern: str) -> list[Path]:
        return [path for path in self.project.folder.glob(pattern) if self._changed(path)]

    def _changed(self, path: Path) -> bool:
        try:
            return path.stat().st_mtime_ns > self.since
        except FileNotFoundError:
            return False


STAGES = ("start", "landing", "composing", "facts", "restatement", "rollup", "evaluation", "publishing")
WHOLE = ("publish", "prune")
"""Commands that are struck at any point of their life."""


@dataclass
class Worker:
    """One project that is restated, struck and mended again and again."""

    project: Project
    version: int = 1
    clean: dict[str, float] = field(default_factory=dict)
    """Command -> seconds of a clean run."""
    lasting: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds until the next one."""

    @property
    def snapshot(self) -> Path:
        """Where the project stands as it was prepared."""
        return self.project.folder.with_name(f"{self.project.folder.name}-prepared")

    def prepare(self) -> None:
        """Build the first version, then a restated one while the stages are timed, then the other commands."""
        if (self.snapshot / "clean.json").is_file():
            self.begin_anew()
            return
        self.project.make()
        self.deliver()
        done = self.project.finops("run", *self.project.range, within=2 * HUNG_SECONDS)
        if done.code != 0:
            raise RuntimeError(f"a clean run ended with {done.code}: {done.said}")
        self.deliver()
        traces = Traces(self.project)
        process = self.project.start("run", *self.project.range)
        at: dict[str, float] = {}
        while process.poll() is None and process.seconds < HUNG_SECONDS:
            for stage in STAGES:
                if stage not in at and traces.reached(stage):
                    at[stage] = time.monotonic()
            time.sleep(POLL_SECONDS)
        done = process.done()
        if done.code != 0 or (missing := set(STAGES) - at.keys()):
            raise RuntimeError(f"a clean run ended with {done.code} and left no trace of {missing}: {done.said}")
        ends = [*(at[stage] for stage in STAGES[1:]), process.ended or 0.0]
        self.lasting = {stage: max(0.1, end - at[stage]) for stage, end in zip(STAGES, ends)}
        # Both are one stage, of which the first moments are the restatement's.
        self.lasting["facts"] = max(self.lasting["facts"], self.lasting["restatement"])
        self.clean["run"] = done.seconds
        for command in ("backfill", *WHOLE):
            if command == "backfill":
                self.deliver()
            self.clean[command] = self.run(command).seconds
        shutil.copytree(self.project.folder, self.snapshot)
        told = {"clean": self.clean, "lasting": self.lasting, "version": self.version}
        (self.snapshot / "clean.json").write_text(json.dumps(told), encoding="utf-8")

    def begin_anew(self) -> None:
        """Back to what was prepared: what is wrong now would be counted again at each later point."""
        shutil.rmtree(self.project.folder, ignore_errors=True)
        # With their times: those of the warehouse and its copy are compared.
        shutil.copytree(self.snapshot, self.project.folder)
        told = json.loads((self.snapshot / "clean.json").read_text(encoding="utf-8"))
        self.clean, self.lasting, self.version = told["clean"], told["lasting"], told["version"]

    def deliver(self) -> None:
        """Deliver the next version."""
        self.project.bill.deliver(self.project.exports, self.version)
        self.version += 1

    def run(self, command: str) -> Done:
        """A command to its end."""
        return self.project.finops(*self.arguments(command))

    def arguments(self, command: str) -> tuple[str, ...]:
        match command:
            case "prune":
                return ("prune", "--keep-days", "0")
            case "publish":
                return ("publish",)
        return (command, *self.project.range)

    def trial(self, command: str, stage: str, number: signal.Signals, chance: random.Random, row: Row) -> None:
        """Restate, strike, look at what is published, run again, and look at everything."""
        before = truth_of(self.project.exports)
        if command not in WHOLE:
            self.deliver()
        after = truth_of(self.project.exports)
        lasting = self.clean[command] if command in WHOLE else self.lasting[stage]
        delay = chance.uniform(0, lasting)
        trial = (
            f"{number.name} in {stage} of {command}, {delay:.2f} s after its first trace, version {self.version - 1}"
        )
        process, struck = self.strike(command, stage, number, delay)
        done = process.done(process_limit(process))
        faults: list[Fault] = []
        if struck:
            faults += told(done, (*ENDED_BY[number], 0))
        else:
            row.count("ended before")
        rollup, facts = self.project.figures()
        days = sorted({key[0] for key in after})
        faults += compared(rollup, [before, after], days, f"after {trial}, rollup of")
        faults += agreeing(rollup, facts, days)
        again = chance.choice(("run", "backfill"))
        recovered = self.run(again)
        ratio = recovered.seconds / self.clean[again]
        faults += told(recovered, (0,))
        faults += self.exact(after, days, f"after {again}, which followed")
        faults += [Fault("left", what) for what in self.project.left_slots()]
        faults += [Fault("left", what) for what in self.project.left_files()]
        if ratio > ALLOWED_RATIO:
            row.count(f"recoveries over {ALLOWED_RATIO} times a clean run")
        row.add(trial, faults, recovered.seconds, ratio)

    def strike(self, command: str, stage: str, number: signal.Signals, delay: float) -> tuple[Process, bool]:
        """Start a command and signal it so long after a stage's first trace; False if it ended before."""
        traces = Traces(self.project)
        process = self.project.start(*self.arguments(command))
        while not traces.reached(stage):
            if process.poll() is not None or process.seconds > HUNG_SECONDS:
                return process, False
            time.sleep(POLL_SECONDS)
        due = time.monotonic() + delay
        while time.monotonic() < due:
            if process.poll() is not None:
                return process, False
            time.sleep(POLL_SECONDS)
        process.signal(number)
        return process, True

    def exact(self, truth: Figures, days: list[date], what: str) -> list[Fault]:
        """Is everything that is published the truth?"""
        rollup, facts = self.project.figures()
        return compared(rollup, [truth], days, f"{what}, rollup of") + compared(
            facts, [truth], days, f"{what}, facts of"
        )


CHAIN = (
    ("landing", signal.SIGKILL),
    ("facts", signal.SIGINT),
    ("rollup", signal.SIGKILL),
    ("publishing", signal.SIGTERM),
)


def chain(scratch: Path, seed: int) -> Row:
    """A few kills one after another, each of a run that finds what the one before left, and one recovery at the end."""
    row = Row("kills one after another")
    worker = Worker(Project(scratch / "chain", Bill(seed, days=2)))
    project = worker.project
    project.make()
    worker.deliver()
    row.add("a clean run", told(worker.run("run"), (0,)))
    allowed = [truth_of(project.exports)]
    chance = random.Random(f"{seed} chain")
    for stage, number in CHAIN:
        worker.deliver()
        allowed.append(truth_of(project.exports))
        process, struck = worker.strike("run", stage, number, chance.uniform(0, 0.2))
        done = process.done(process_limit(process))
        trial = f"{number.name} in {stage}"
        faults = told(done, (*ENDED_BY[number], 0))
        if not struck and done.code != 0:
            faults.append(Fault("unclear", f"{stage} was never reached: {done.said[-300:]!r}"))
        rollup, facts = project.figures()
        days = sorted({key[0] for key in allowed[0]})
        row.add(trial, faults + compared(rollup, allowed, days, "rollup of") + agreeing(rollup, facts, days))
    recovered = worker.run("backfill")
    faults = told(recovered, (0,)) + worker.exact(allowed[-1], days, "at the end")
    faults += [Fault("left", what) for what in (*project.left_slots(), *project.left_files())]
    row.add("backfill", faults, recovered.seconds)
    return row


def process_limit(process: Process) -> float:
    """Seconds of its life by which a process that was told to end must have ended."""
    return process.seconds + GIVE_UP_SECONDS


def plan(points: int) -> list[tuple[str, str, signal.Signals]]:
    """Command, stage and signal of each point: every stage by every signal before any of them again."""
    stages = [*STAGES, *WHOLE]
    planned = []
    for i in range(points):
        stage, number = stages[i // len(SIGNALS) % len(stages)], SIGNALS[i % len(SIGNALS)]
        turn = i // (len(SIGNALS) * len(stages))
        command = stage if stage in WHOLE else ("run", "backfill")[(turn + i) % 2]
        planned.append((command, stage, number))
    return planned


def kills(
    scratch: Path,
    seed: int,
    points: int,
    workers: int = 1,
    say: Callable[[str], None] = print,
    only: str = "",
    until: float = math.inf,
) -> list[Row]:
    """Strike at so many points, or as many as fit until a moment of the monotonic clock; a row for each signal.

    `only` is a stage.
    """
    rows = {number: Row(f"{number.name} of a process") for number in SIGNALS}
    numbered = [(i, p) for i, p in enumerate(plan(points)) if not only or p[1] == only]
    shares = [numbered[w::workers] for w in range(workers)]

    def work(w: int) -> None:
        worker = Worker(Project(scratch / f"kills-{w}", Bill(seed + w)))
        worker.prepare()
        clean = ", ".join(f"{command} {seconds:.1f} s" for command, seconds in worker.clean.items())
        say(f"worker {w}, clean: {clean}")
        for i, (command, stage, number) in shares[w]:
            if time.monotonic() > until:
                return
            row, found = rows[number], len(rows[number].faults)
            try:
                worker.trial(command, stage, number, random.Random(f"{seed} {i}"), row)
            except Exception as error:
                row.add(f"{number.name} in {stage} of {command}", [Fault("unclear", f"harness: {error!r}")])
            say(f"kill {i + 1} of {points}: {number.name} {stage} {command}")
            for trial, fault in row.faults[found:]:
                say(f"    {fault.kind}: {trial}: {fault.what}")
            if any(fault.kind != "left" for _, fault in row.faults[found:]):
                worker.begin_anew()

    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(work, w) for w in range(workers)]:
            future.result()
    return list(rows.values())
