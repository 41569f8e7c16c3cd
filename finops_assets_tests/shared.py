"""States that take long to make and that several files of tests look at: each is made once in a run of the tests."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

FOLDER = "FINOPS_TESTS_SHARED"
"""The variable that names their folder to all processes of a run: it goes with the run, so none is of older code."""


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` filled, in whichever process asked first: to be read or copied, never to be changed."""
    folder = Path(os.environ[FOLDER]) / name
    done = folder.with_name(f"{name}.done")
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
