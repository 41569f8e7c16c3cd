"""Everything at once on one project: two runs, a backfill, the daemon with its sensors, publish, owners, prune, a reader."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb

from finops_assets_tests.emulators import free_port
from finops_assets_tests.faults.bill import SOURCES, Bill, Figures, truth_of
from finops_assets_tests.faults.bill import together as sum_of
from finops_assets_tests.faults.project import (
    BINARIES,
    HUNG_SECONDS,
    Fault,
    Process,
    Project,
    agreeing,
    compared,
    figures_of,
    told,
)
from finops_assets_tests.faults.table import Row

CODES = (0, 1, 3, 4)
SETTLE_SECONDS = 300.0
QUESTIONS, ONES_ASKED = 10_000, 15
ONE_TEAM = (
    "SELECT sum(billed_cost), sum(effective_cost) FROM daily_cost_by_team"
    " WHERE charge_date = ? AND team = ? AND BillingCurrency = ?"
)

Truths = dict[str, list[Figures]]
"""By source what its delivered files said, version by version."""
Published = tuple[Figures, Figures]
"""The published rollup and the published facts."""


def together(
    scratch: Path, seed: int, minutes: float, say: Callable[[str], None] = print, daemon: bool = True
) -> list[Row]:
    """For so many minutes; one row of commands, one of the reader's questions."""
    commands, reader = Row("commands, daemon and sensors at once"), Row("questions meanwhile")
    project = Project(scratch / "together", Bill(seed), extra="night: {watch_seconds: 5}\n")
    project.make()
    truths: Truths = {source: [] for source in SOURCES}
    version = 1
    project.bill.deliver(project.exports, version)
    _remember(truths, project.exports)
    clean = project.finops("run", *project.range, within=2 * HUNG_SECONDS)
    commands.add("the first run", told(clean, (0,)))
    stop = threading.Event()
    deadline = time.monotonic() + minutes * 60
    whole = (
        ("run", *project.range),
        ("run", *project.range),
        ("backfill", *project.range),
        ("publish",),
        ("owners", "accept", "one", "one-1", "-d", "team", "--value", "core", "--from", "2026-10-01"),
        ("prune", "--keep-days", "0"),
    )

    def command(arguments: tuple[str, ...], number: int) -> None:
        chance = random.Random(f"{seed} {arguments} {number}")
        while not stop.is_set() and time.monotonic() < deadline:
            # Waiting is documented to end after 15 minutes with code 4.
            done = project.finops(*arguments, within=SETTLE_SECONDS)
            codes = (0, 1, 2, 3, 4) if arguments[0] == "owners" else (0, 3, 4)
            commands.add(" ".join(arguments), told(done, codes))
            stop.wait(chance.uniform(0, 3))

    def ask() -> None:
        right: Published | None = None
        chance = random.Random(f"{seed} questions")
        while not stop.is_set() and reader.tried < QUESTIONS:
            answers, right = asked(project, truths, right, chance)
            for faults in answers:
                reader.add("a question", faults)
            stop.wait(0.02)

    threads = [threading.Thread(target=command, args=(a, n), daemon=True) for n, a in enumerate(whole)]
    threads.append(threading.Thread(target=ask, daemon=True))
    background = _daemon(project) if daemon else None
    try:
        for thread in threads:
            thread.start()
        while time.monotonic() < deadline:
            time.sleep(min(20, max(0.0, deadline - time.monotonic())))
            if time.monotonic() < deadline - 30:
                version += 1
                # Known before it is there: a reader may see it at once.
                beside = scratch / "beside"
                project.bill.deliver(beside, version)
                _remember(truths, beside)
                project.bill.deliver(project.exports, version)
                say(f"version {version} delivered; {commands.tried} commands, {reader.tried:,} questions so far")
        for thread in threads[:-1]:
            thread.join(SETTLE_SECONDS)
        stop.set()
        threads[-1].join(30)
    finally:
        stop.set()
        if background:
            os.killpg(background.popen.pid, signal.SIGINT)
            ended = background.done(background.seconds + 60)
            if ended.code is None:
                commands.add("the daemon", [Fault("hung", "the daemon did not end within a minute of SIGINT")])
    if daemon:
        _work_off(project)
    last = project.finops("backfill", *project.range)
    faults = told(last, (0,))
    truth = truth_of(project.exports)
    days = sorted({key[0] for key in truth})
    rollup, facts = project.figures()
    faults += compared(rollup, [truth], days, "at the end, rollup of") + compared(
        facts, [truth], days, "at the end, facts of"
    )
    faults += [Fault("left", what) for what in (*project.left_slots(), *project.left_files())]
    commands.add("the last backfill", faults, last.seconds, last.seconds / clean.seconds)
    for row in (commands, reader):
        say(f"{row.name}: {row.tried:,} tried, {len(row.faults)} found")
        for trial, fault in row.faults[:20]:
            say(f"    {fault.kind}: {trial}: {fault.what}")
    return [commands, reader]


def _remember(truths: Truths, folder: Path) -> None:
    for source, known in truths.items():
        known.append(truth_of(folder, [source]))


def _work_off(project: Project) -> None:
    """A daemon again, for what the one before had put into its queue when it was ended."""
    again = _daemon(project)
    deadline, quiet = time.monotonic() + SETTLE_SECONDS, 0
    while quiet < 5 and time.monotonic() < deadline:
        time.sleep(1)
        quiet = 0 if project.left_slots() else quiet + 1
    os.killpg(again.popen.pid, signal.SIGINT)
    again.done(again.seconds + 60)


def asked(
    project: Project, truths: Truths, right: Published | None, chance: random.Random
) -> tuple[list[list[Fault]], Published | None]:
    """Open the published copy and ask it for everything, then for single days and teams; the faults of each answer.

    Each source's day is a whole truth of it, and rollup and facts agree. A run may land one source before a restatement and
    the other one after it, so any two truths may stand together. While the copy is open its answers stay what they were.
    `right` are figures that were found to be so; returned with the faults are those that are now.
    """
    known = {source: [*each] for source, each in truths.items()}
    try:
        with closing(duckdb.connect(str(project.published), read_only=True)) as connection:
            rollup, facts = figures_of(connection)
            answers = [
                (key, connection.execute(ONE_TEAM, list(key)).fetchall())
                for key in chance.choices(list(rollup), k=ONES_ASKED if rollup else 0)
            ]
    except duckdb.Error as error:
        return [[Fault("unclear", f"the published copy cannot be read: {error}")]], right
    told = [[] if found == [rollup[key][1:]] else [Fault("silent", f"{key}: {found}")] for key, found in answers]
    if (rollup, facts) == right:
        return [[], *told], right
    days = sorted({key[0] for each in known.values() for key in each[0]})
    allowed = [sum_of(*pair) for pair in itertools.product(*known.values())]
    faults = compared(rollup, allowed, days, "published rollup of") + agreeing(rollup, facts, days)
    return [faults, *told], None if faults else (rollup, facts)


def _daemon(project: Project) -> Process:
    command = [str(BINARIES / "dagster"), "dev", "-h", "127.0.0.1", "-p", str(free_port())]
    return project.start_program(command)
