"""Files that are replaced at once: who reads one sees the old or the new, never a part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finops_assets.base.scratch import beside


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and is removed in any case.

    The folder is made if there is none.

    Raises:
        OSError: no space, no permission, or the folder cannot be made; what was there is as it was.
    """
    temporary = beside(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
