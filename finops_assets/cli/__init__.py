"""The command line: the same functions as the assets, for people at a terminal. A module a command group."""

from __future__ import annotations

import gc
import os
import signal


def main() -> None:
    """`finops`. Interrupted while its modules are loaded it ends at once and in silence: nothing has begun."""
    # Modules, definitions and events stay until the end: to look through them again and again is a tenth of a run. The first
    # look is after all that a command imports.
    gc.set_threshold(500_000, 20, 20)
    gc.callbacks.append(_looked)
    # Looks for plugins in whatever is installed, which is an eighth of a report's time.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:  # a script's background job ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from finops_assets.cli.program import app

    signal.signal(signal.SIGINT, interrupted)
    app()


def _looked(phase: str, _: dict[str, int]) -> None:
    if phase == "stop":
        gc.callbacks.remove(_looked)
        gc.set_threshold(50_000, 20, 20)
