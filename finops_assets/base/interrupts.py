"""Which signal told this process to end, whoever handles it: Dagster has handlers of its own during a run.

The engine, for one, answers a signal in the middle of a query with an error of its own, which is no failure of the query.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_arrived: list[int] = []
_pipe: list[int] = []


@contextmanager
def noting_interrupts() -> Iterator[None]:
    """Within it `interrupted_by` knows of SIGINT and SIGTERM, which the main thread gets; in another, or within another, it is nothing."""
    if _pipe or threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    former = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    _arrived.clear()
    _pipe.append(reading)
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        _pipe.remove(reading)
        os.close(reading)
        os.close(writing)


def interrupted_by() -> int | None:
    """The number of the first signal that told this process to end; None if none did, or nobody notes them."""
    for reading in _pipe:
        with suppress(BlockingIOError):
            _arrived.extend(n for n in os.read(reading, 64) if n in (signal.SIGINT, signal.SIGTERM))
    return _arrived[0] if _pipe and _arrived else None


def end_if_interrupted() -> None:
    """To be asked before an error becomes a verdict that stays: one that came of the signal to end says nothing of the input.

    Raises:
        KeyboardInterrupt: this process was told to end.
    """
    if interrupted_by() is not None:
        raise KeyboardInterrupt
