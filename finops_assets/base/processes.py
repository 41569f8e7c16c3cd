"""Which process does a piece of work, and whether it is still there: by process table here, not at all elsewhere.

A process id alone proves nothing: it is given again. So a process is known by the boot of its kernel, its table of
processes (a container has its own), its id there and the moment it started.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

State = Literal["alive", "gone", "elsewhere"]

PROC = Path("/proc")
ROOT_TABLE = "pid:[4026531836]"
"""The table of processes of a kernel itself, as Linux names it (PROC_PID_INIT_INO): no container's."""
OURS = ("finops", "dagster", "dagster-daemon", "dagster-webserver")
ENDED = ("Z", "X")
"""States of a process that has ended and that nobody has collected yet (proc(5))."""


@dataclass(frozen=True)
class Process:
    """A process of some machine, told apart from every other one that ever was."""

    host: str
    machine: str
    """An id of the machine that survives a reboot; empty where there is none to rely on, as in a container."""
    boot: str
    """An id of the kernel's boot; empty where the system tells none."""
    table: str
    """The table of processes that `pid` belongs to; empty where the system has only one."""
    pid: int
    started: str
    """When it started, as the system says it."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Process:
    """The process that asks."""
    return _asking(os.getpid())


def state(process: Process) -> State:
    """Is it still at work? `elsewhere`: that is not seen from here, as of another machine or container."""
    me = this_process()
    same_machine = (process.host, process.machine) == (me.host, me.machine)
    if (process.boot, process.table) == (me.boot, me.table) and (me.boot or same_machine):
        started = _started(process.pid)
        if started is None:
            return "gone"
        if started and process.started:
            return "alive" if started == process.started else "gone"
        return "elsewhere"  # there is one of this number, of which the system tells no more
    if same_machine and me.machine and me.boot and process.boot != me.boot:
        return "gone"
    return "elsewhere"


def name_of(pid: int) -> str | None:
    """What a process of this machine is called; None where that is not to be learnt."""
    try:
        return (PROC / str(pid) / "comm").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def account_name() -> str | None:
    """Whose account this process runs in; None where the machine does not know, as in a container without users."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None


def is_ours(pid: int) -> bool:
    """Is it a process of this platform: a command of `finops`, or one that Dagster started?"""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(Path(os.fsdecode(word)).name in OURS for word in words)


def holding_open(path: Path) -> list[int]:
    """The other processes of this machine that have a file open, as far as this one may look."""
    found = []
    for entry in PROC.glob("[0-9]*"):
        try:
            if int(entry.name) != os.getpid() and any(_is(link, path) for link in (entry / "fd").iterdir()):
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def _is(link: Path, path: Path) -> bool:
    try:
        return link.samefile(path)
    except OSError:
        return False


@cache
def _asking(pid: int) -> Process:
    return Process(socket.gethostname(), _machine(), _boot(), _table(), pid, _started(pid) or "")


# A fork is another process, whose number may be one that its parent's parent had.
os.register_at_fork(after_in_child=_asking.cache_clear)


def _started(pid: int) -> str | None:
    """When a process of this table started; empty: it is there, but not to be looked at.

    None: there is none, or only what is left of one that ended.
    """
    try:
        # The name may hold spaces and brackets; behind it come the state and, 19 fields on, the start.
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in ENDED else fields[19]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass  # another user's, which a system may hide (proc(5), hidepid)
    return "" if PROC.is_dir() else _started_by_ps(pid)


def _started_by_ps(pid: int) -> str:
    """As above, where there is no /proc, as on macOS."""
    try:
        told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return told.stdout.strip()


@cache
def _boot() -> str:
    return _text(PROC / "sys/kernel/random/boot_id")


@cache
def _table() -> str:
    try:
        return os.readlink(PROC / "self/ns/pid")
    except OSError:
        return ""


@cache
def _machine() -> str:
    # An image gives all of its containers one id.
    return _text(Path("/etc/machine-id")) if _table() == ROOT_TABLE else ""


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
