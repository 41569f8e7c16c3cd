"""A machine that lacks something: space on a disk at each stage, permissions, open files, memory."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from finops_assets_tests.faults.bill import SOURCES, Bill, Figures, together, truth_of
from finops_assets_tests.faults.kills import Traces
from finops_assets_tests.faults.project import HUNG_SECONDS, Done, Fault, Project, agreeing, compared, told
from finops_assets_tests.faults.table import Row

CODES = (0, 1, 3, 4)
"""Exit codes that `finops run` documents: built, an error, days held, waited in vain."""
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24
FILLED_AT = ("start", "landing", "composing", "facts", "rollup", "evaluation", "publishing")


def starved(scratch: Path, seed: int, say: Callable[[str], None] = print, few: bool = False) -> list[Row]:
    """All of it; a row for each kind. `few`: one trial of each, for a test."""
    rows = []
    for kind in (permissions, limits, no_space):
        row = kind(scratch, seed, few)
        say(
            f"{row.name}: {row.tried} tried, {len(row.faults)} found{f', skipped: {row.skipped}' if row.skipped else ''}"
        )
        for trial, fault in row.faults:
            say(f"    {fault.kind}: {trial}: {fault.what}")
        rows.append(row)
    return rows


def built(project: Project) -> Project:
    """A project whose first version is built and whose second is delivered."""
    project.make()
    project.bill.deliver(project.exports, 1)
    done = project.finops("run", *project.range, within=2 * HUNG_SECONDS)
    if done.code != 0:
        raise RuntimeError(f"a clean run ended with {done.code}: {done.said}")
    return project


def judged(
    project: Project,
    row: Row,
    trial: str,
    hindered: Done,
    before: Figures,
    must_say: tuple[str, ...],
    mixed: Sequence[Figures] = (),
) -> None:
    """What a hindered run left, and the next run, unhindered: `must_say` are words of which one must be said.

    `mixed` are right meanwhile, too: one source as it was, because it cannot be read, and the others as they are.
    """
    after = truth_of(project.exports)
    days = sorted({key[0] for key in after})
    faults = told(hindered, CODES)
    if hindered.code == 1 and not any(word in hindered.said.lower() for word in must_say):
        faults.append(Fault("unclear", f"none of {must_say} is said: {hindered.said[-600:]!r}"))
    rollup, facts = project.figures()
    faults += compared(rollup, [before, after, *mixed], days, "meanwhile, rollup of") + agreeing(rollup, facts, days)
    if hindered.code == 0:
        faults += compared(rollup, [after], days, "after exit code 0, rollup of")
    mended = project.finops("backfill", *project.range)
    faults += told(mended, (0,))
    rollup, facts = project.figures()
    faults += compared(rollup, [after], days, "at the end, rollup of")
    faults += compared(facts, [after], days, "at the end, facts of")
    faults += [Fault("left", what) for what in (*project.left_slots(), *project.left_files())]
    row.add(trial, faults, mended.seconds)


# ---- permissions ----


def without_override() -> Callable[[], None]:
    """For `preexec_fn`: a superuser to whom permissions apply as to anybody."""
    libc = ctypes.CDLL(None, use_errno=True)

    def drop() -> None:
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)

    return drop


def permissions(scratch: Path, seed: int, few: bool = False) -> Row:
    """Folders and files that cannot be read or written."""
    row = Row("read-only and unreadable folders and files")
    project = built(Project(scratch / "permissions", Bill(seed, days=2)))
    places = [
        ("an unreadable file", "exports/one/bill-2026-09.csv", 0o000),
        ("an unreadable folder", "exports/two", 0o000),
        ("a read-only lake", "lake", 0o555),
        ("a read-only folder of facts", "lake/facts/source=one", 0o555),
        ("an unreadable ledger", "lake/ledger/one", 0o000),
        ("a warehouse that cannot be written", "warehouse.duckdb", 0o444),
        ("an unreadable warehouse", "warehouse.duckdb", 0o000),
        ("a read-only project folder", ".", 0o555),
        ("a history that cannot be written", ".dagster", 0o555),
    ]
    for version, (what, place, mode) in enumerate(places[:1] if few else places, start=2):
        before = truth_of(project.exports)
        of_source = {source: truth_of(project.exports, [source]) for source in SOURCES}
        project.bill.deliver(project.exports, version)
        mixed = [
            together(of_source[source], truth_of(project.exports, SOURCES.keys() - {source}))
            for source in SOURCES
            if place.startswith(f"exports/{source}")
        ]
        target = project.folder / place
        kept = target.stat().st_mode
        # Read before the permission goes: the truth does not change by it.
        target.chmod(mode)
        try:
            hindered = project.start("run", *project.range, preexec=without_override()).done()
        finally:
            target.chmod(kept)
        judged(project, row, what, hindered, before, ("permission", "read-only", "readonly", "cannot be"), mixed)
    return row


# ---- limits ----


def limits(scratch: Path, seed: int, few: bool = False) -> Row:
    """Few open files, little memory."""
    row = Row("64 open files, little memory")
    project = built(Project(scratch / "limits", Bill(seed + 1, days=2)))
    cases: list[tuple[str, int, int, str]] = [
        ("64 open files", resource.RLIMIT_NOFILE, 64, ""),
        ("32 open files", resource.RLIMIT_NOFILE, 32, ""),
        ("files of 64 KB at the most", resource.RLIMIT_FSIZE, 64 << 10, ""),
        ("1.2 GB of address space", resource.RLIMIT_AS, 1_200 << 20, ""),
        ("600 MB of address space", resource.RLIMIT_AS, 600 << 20, ""),
        ("an engine's budget of 20 MB", 0, 0, "20MB"),
        ("an engine's budget of 1 MB", 0, 0, "1MB"),
    ]
    for version, (what, limit, most, budget) in enumerate(cases[:1] if few else cases, start=2):
        before = truth_of(project.exports)
        project.bill.deliver(project.exports, version)

        def bounded(limit: int = limit, most: int = most) -> None:
            if most:
                resource.setrlimit(limit, (most, most))

        file = project.folder / "finops.yaml"
        text = file.read_text(encoding="utf-8")
        if budget:
            file.write_text(text.replace("memory_limit: 400MB", f"memory_limit: {budget}"), encoding="utf-8")
        hindered = project.start("run", *project.range, preexec=bounded).done()
        file.write_text(text, encoding="utf-8")
        words = ("open files", "memory", "space", "file too large", "disk", "thread", "resource")
        judged(project, row, what, hindered, before, words)
    return row


# ---- no space ----


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own in memory.

    Raises:
        PermissionError: disks cannot be mounted here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PermissionError(f"a disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def no_space(scratch: Path, seed: int, few: bool = False) -> Row:
    """A disk that is full when a stage begins, or some bytes later."""
    row = Row("no space at each stage")
    if sys.platform != "linux" or not shutil.which("mount"):
        row.skipped = "no mount here"
        return row
    try:
        with small_disk(scratch / "disk", "400m") as disk:
            _fill(disk, row, seed, few)
    except PermissionError as error:
        row.skipped = str(error)
    return row


def _fill(disk: Path, row: Row, seed: int, few: bool) -> None:
    project = built(Project(disk / "project", Bill(seed + 2, days=2)))
    ballast = disk / "ballast"
    version = 2
    for stage in ("facts",) if few else FILLED_AT:
        for left in (0,) if few else (0, 100_000, 1_000_000):
            before = truth_of(project.exports)
            project.bill.deliver(project.exports, version)
            chance = random.Random(f"{seed} {stage} {left}")
            traces = Traces(project)
            process = project.start("run", *project.range, logs=disk.parent / "disk-logs")
            while process.poll() is None and not traces.reached(stage) and time.monotonic() < process.started + 60:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.2))
            _fill_up(ballast, left)
            hindered = process.done()
            ballast.unlink(missing_ok=True)
            words = ("space", "full", "disk", "i/o")
            judged(project, row, f"{left} bytes left when {stage} begins", hindered, before, words)
            version += 1


def _fill_up(ballast: Path, left: int) -> None:
    """Take all space of a disk but so many bytes."""
    free = shutil.disk_usage(ballast.parent).free - left
    with suppress(OSError), ballast.open("wb") as file:
        while free > 0:
            free -= os.write(file.fileno(), b"\0" * min(free, 1 << 20))
