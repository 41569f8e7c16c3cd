"""Scratch files and folders, named by the process that writes them: what one that is gone has left can be removed.

    .tmp-<process>-<number>-<name>   beside the file whose place it is to take
    <process>-<number>               a folder of scratch

A process is `<pid>.<start>.<where>`: where is a mark of host, boot and table of processes. What was left elsewhere, or
before a reboot, is removed when it is a day old.
"""

from __future__ import annotations

import itertools
import re
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from functools import cache
from glob import escape
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, unquote

from finops_assets.base.processes import Process, state, this_process

HELD_ELSEWHERE_SECONDS = 86_400.0
PREFIX = ".tmp-"
_NAME = re.compile(rf"({re.escape(PREFIX)})?(?P<pid>\d+)\.(?P<started>[^-]*)\.(?P<where>[0-9a-f]{{6}})-\d+(-|$)")
_numbers = itertools.count()


def scratch_name() -> str:
    """A name that this process gives once."""
    me = this_process()
    return f"{me.pid}.{quote(me.started, safe='').replace('-', '%2D')}.{_where(me)}-{next(_numbers)}"


def beside(target: Path) -> Path:
    """A name beside a file for what is to take its place. What gone processes left of the same file goes."""
    drop_abandoned(target.parent, f"{PREFIX}*-{escape(target.name)}*")
    return _beside(target)


def beside_many(target: Path) -> Path:
    """As `beside`, in a folder that is ours, where thousands are written: it is tidied up once a process."""
    _tidied(target.parent)
    return _beside(target)


def _beside(target: Path) -> Path:
    return target.with_name(f"{PREFIX}{scratch_name()}-{target.name}")


def drop_abandoned(folder: Path, pattern: str = "*") -> None:
    """Remove what processes that are gone have left directly below a folder."""
    for path in folder.glob(pattern):
        if _is_abandoned(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                # Somebody else may tidy up at the same time, or may not be allowed to here.
                with suppress(OSError):
                    path.unlink(missing_ok=True)


@cache
def _tidied(folder: Path) -> None:
    drop_abandoned(folder, f"{PREFIX}*")


def _where(process: Process) -> str:
    told = "\n".join((process.host, process.machine, process.boot, process.table))
    return sha256(told.encode()).hexdigest()[:6]


def _is_abandoned(path: Path) -> bool:
    named, me = _NAME.match(path.name), this_process()
    if named and named["where"] == _where(me):
        owner = replace(me, pid=int(named["pid"]), started=unquote(named["started"]))
        return state(owner) == "gone"
    try:
        return time.time() - path.lstat().st_mtime > HELD_ELSEWHERE_SECONDS
    except OSError:
        return False
