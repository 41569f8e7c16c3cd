"""Compiled templates, kept where Python keeps its own compiled modules: to compile one takes longer than most pages."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError

from jinja2 import BytecodeCache
from jinja2.bccache import Bucket

from finops_assets.base.content import version_of
from finops_assets.base.files import replacing


class KeptTemplates(BytecodeCache):
    """The compiled templates of a folder of the program. Where nobody may write there, each process compiles its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "__pycache__"
        # What the environment is made of decides, too, and stands in the modules.
        told = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(folder.glob("*.py"))]
        self._of = f"{sys.implementation.cache_tag}-{version_of(version('jinja2'), told)}"

    def load_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError, EOFError, UnpicklingError), self._file(bucket).open("rb") as kept:
            bucket.load_bytecode(kept)

    def dump_bytecode(self, bucket: Bucket) -> None:
        if not sys.dont_write_bytecode:
            with suppress(OSError), replacing(self._file(bucket)) as temporary:
                temporary.write_bytes(bucket.bytecode_to_string())

    def _file(self, bucket: Bucket) -> Path:
        return self._folder / f"{bucket.key}.{self._of}.jinjac"
