"""Which signal told this process to end, whoever handles it: Dagster has handlers of its own during a run.

The engine answers a signal in the middle of a query with an error of its own, which is no failure of the query, and often
only when the query has come to its end by itself: minutes, where a provider's month is read. So it is stopped from here.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar
from weakref import ref


class Stoppable(Protocol):
    """What works for long in one call, and ends it with an error when another thread says so: the engine's connections."""

    def interrupt(self) -> None:
        """End the call that is under way, if one is."""


PATIENCE_SECONDS = 0.5
"""So long a query may go on after a signal before it is stopped."""

Working = TypeVar("Working", bound=Stoppable)
_arrived: list[int] = []
_pipe: list[int] = []
_working: list[ref[Stoppable]] = []
"""No set of weak references: what it runs when one goes is where a signal's exception would be lost."""
_lock = threading.RLock()


def stopped_by_signals(connection: Working) -> Working:
    """The connection, whose query ends when SIGINT or SIGTERM arrives while they are noted; for as long as it lives."""
    with _lock:
        _working[:] = [*(known for known in _working if known() is not None), ref(connection)]
    return connection


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
    watching = threading.Thread(target=_watch, args=(reading,), name="signals", daemon=True)
    watching.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        _pipe.remove(reading)
        os.close(writing)  # the watcher sees the end
        watching.join()
        os.close(reading)


def interrupted_by() -> int | None:
    """The number of the first signal that told this process to end; None if none did, or nobody notes them."""
    for reading in _pipe:
        with suppress(BlockingIOError):
            _take(reading)
    return _arrived[0] if _pipe and _arrived else None


def end_if_interrupted() -> None:
    """To be asked before an error becomes a verdict that stays: one that came of the signal to end says nothing of the input.

    Raises:
        KeyboardInterrupt: this process was told to end.
    """
    if interrupted_by() is not None:
        raise KeyboardInterrupt


def _watch(reading: int) -> None:
    ended = False
    while not ended:
        select.select([reading], [], [])
        # Whoever asked meanwhile may have taken it.
        with suppress(BlockingIOError):
            ended = not _take(reading)
        if _arrived and not ended:
            # Where the engine heeds it by itself, the signal's handler has had its turn before the error.
            time.sleep(PATIENCE_SECONDS)
            with _lock:
                at_work = [known() for known in _working]
            for connection in at_work:
                if connection is not None:
                    with suppress(Exception):  # it is closed by now
                        connection.interrupt()


def _take(reading: int) -> bytes:
    """What has arrived; nothing at the end."""
    with _lock:
        came = os.read(reading, 64)
        _arrived.extend(number for number in came if number in (signal.SIGINT, signal.SIGTERM))
    return came
