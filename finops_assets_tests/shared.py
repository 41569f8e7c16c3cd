"""States that take long to make and that several files of tests look at: each is made once in a run of the tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

FOLDER = "FINOPS_TESTS_SHARED"
"""The variable that names their folder to all processes of a run: it goes with the run, so none is of older code.

Without it, as where no test runs, each process has one of its own."""


@cache
def _shared() -> Path:
    return Path(os.environ.get(FOLDER) or tempfile.mkdtemp(prefix="finops-shared-"))


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` filled, in whichever process asked first: to be read or copied, never to be changed."""
    folder = _shared() / name
    done = folder.with_name(f"{name}.done")
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
