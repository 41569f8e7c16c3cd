"""The lake: hive-partitioned Parquet and small JSON records. The only place that puts files into it.

    landing/source=<s>/scope=<p>/generation=<g>/charge_date=<d>/…   the live slices of each delivery
    raw/source=<s>/charge_date=<d>/data.parquet                     a day of a source: union of its slices
    split/source=<s>/charge_date=<d>/data.parquet                   the same, nodes' charges split, while facts are made
    nodes/source=<s>/charge_date=<d>/data.parquet                   which nodes of clusters were found in a day, which not
    unreleased/source=<s>/charge_date=<d>/data.parquet              the same rows, attributed, until the gates pass them
    facts/source=<s>/charge_date=<d>/data.parquet                   attributed rows that have passed their gates
    ledger/<s>/…json                                                what was delivered, what a day holds
    usage/name=<n>/file=<f>/charge_date=<d>/data.parquet            what ran on clusters, as delivered
    tag_sets/…parquet                                               every distinct tag set, and its attribution

A file is written beside its place and renamed over it: a reader never sees half a day, two writers
never block each other, a killed process leaves the last good day and scratch that nobody reads, which the next one removes.

A lake on an object store (`remote_lake.RemoteLake`) has the same paths below a working copy on this machine.
So whoever reads asks first: `holds` whether there is such a file, `fetch` or `files` to have it here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import duckdb

from finops_assets.base.errors import LakeError
from finops_assets.base.scratch import beside_many, drop_abandoned, scratch_name

Layer = Literal["raw", "split", "unreleased", "facts", "nodes"]
Key = tuple[str, date]
"""(source, day)"""
DATA = "data.parquet"
# A record is written beside its place under ".tmp-", a process and a number of some 32 characters, and a dash.
LONGEST_NAME = 255 - len(".tmp--.json") - 32
CUT, NAMED = "!", "record_name"
"""In the file name of a record whose own name is too long, and where the record then holds it."""


class LakeChanged(LakeError):
    """Another process wrote what this one had read and was about to replace; nothing was replaced."""


def source_and_day(day_file: Path) -> Key:
    """Whose file this is, (source, day): what `Lake.day_file` was asked for."""
    source, day = (folder.name.partition("=")[2] for folder in (day_file.parent.parent, day_file.parent))
    return source, date.fromisoformat(day)


class Lake:
    """Paths, atomic replacement and records below one root folder."""

    setting = "lake:"
    """The setting that moves the root to another disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """What the lake is called in messages."""
        return str(self.root)

    def anew(self) -> Lake:
        """The lake as it is now, for one piece of work."""
        return self

    def holds(self, file: Path) -> bool:
        """Is there such a file? It need not be on this machine yet."""
        return file.is_file()

    def fetch(self, files: Iterable[Path]) -> list[Path]:
        """Those of the files that there are, ready to be opened, in their order."""
        return [file for file in files if file.is_file()]

    def files(self, folder: Path, pattern: str) -> list[Path]:
        """The files below a folder that match a glob, ready to be opened, sorted."""
        return self.fetch(self._names(folder, pattern))

    def day_file(self, layer: Layer, source: str, day: date) -> Path:
        """The one file of a (day, source)."""
        return self.root / layer / f"source={source}" / f"charge_date={day.isoformat()}" / DATA

    def day_files(self, layer: Layer, sources: Iterable[str], days: Iterable[date]) -> list[Path]:
        """The files of these days that exist, by source and day."""
        wanted = sorted(days)
        return self.fetch(self.day_file(layer, source, day) for source in sources for day in wanted)

    def days(self, layer: Layer, source: str) -> list[date]:
        """The days that a layer holds for a source."""
        found = self._names(self.root / layer / f"source={source}", f"charge_date=*/{DATA}")
        return sorted(source_and_day(path)[1] for path in found)

    def slices(self, source: str, scope: str, generation: str) -> Path:
        """The folder of one generation's slices."""
        return self.root / "landing" / f"source={source}" / f"scope={_safe(scope)}" / f"generation={_safe(generation)}"

    def record(self, *parts: str) -> Path:
        """Where a JSON record lies."""
        *folders, name = (_safe(p) for p in parts)
        return self.root.joinpath("ledger", *folders, f"{name}.json")

    def read_record(self, *parts: str) -> dict[str, Any] | None:
        """A JSON record, or None where there is none."""
        file = self.record(*parts)
        with self.explaining(file):
            try:
                return dict(json.loads(self._read(file)))
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise LakeError(
                    f"lake {self.name}: the record {file.relative_to(self.root)} is damaged ({error});"
                    " restore it from a backup, or delete it: the deliveries that it names are then read again"
                ) from error

    def write_record(self, body: dict[str, Any], *parts: str, blind: bool = False) -> None:
        """Write a JSON record at once or not at all; `blind` as in `replacing`."""
        if CUT in self.record(*parts).stem:
            body = body | {NAMED: parts[-1]}
        with self.replacing(self.record(*parts), blind) as temporary:
            temporary.write_text(json.dumps(body, indent=1, sort_keys=True), encoding="utf-8")

    def records(self, *parts: str) -> list[str]:
        """The names of the records in a folder."""
        folder = self.root.joinpath("ledger", *(_safe(p) for p in parts))
        files = [p for p in self._names(folder, "*.json") if not p.name.startswith(".")]
        return sorted(json.loads(self._read(p))[NAMED] if CUT in p.stem else unquote(p.stem) for p in files)

    @contextmanager
    def replacing(self, target: Path, blind: bool = False) -> Iterator[Path]:
        """A temporary path beside `target` that takes its place when the block ends well.

        On a lake that several machines write it only replaces what this one saw; a `blind` one replaces whatever
        is there.

        Raises:
            LakeError: no space, no permission, or the lake's folder is not there to be made.
            LakeChanged: another machine wrote it meanwhile.
        """
        temporary = beside_many(target)
        with self.explaining(target):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                yield temporary
                if temporary.is_file():
                    _flush(temporary)
                self._put(temporary, target, blind)
            finally:
                _remove(temporary)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A scratch folder on the lake's own disk, removed at the end."""
        scratch = self.root / ".work"
        folder = scratch / scratch_name()
        with self.explaining(folder):
            drop_abandoned(scratch)
            try:
                folder.mkdir(parents=True)
                yield folder
            finally:
                _remove(folder)

    def adopt(self, folder: Path, target: Path) -> None:
        """Move a finished folder into the lake, replacing one of the same name."""
        with self.explaining(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove(target)
            os.replace(folder, target)

    def drop_abandoned(self, kept: Path) -> None:
        """Remove generations beside a live one that a killed process left in a store, where nobody sees them."""

    def move(self, file: Path, target: Path) -> None:
        """Put a finished file of the lake in the place of another, at once or not at all.

        Raises:
            LakeError: as `replacing`.
            LakeChanged: another machine wrote the target meanwhile; the file stays where it was.
        """
        with self.explaining(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._put(file, target, False)

    def link(self, source: Path, target: Path) -> None:
        """Give a finished file a second name in the lake; its bytes are shared, not written again."""
        with self.replacing(target) as temporary:
            link_or_copy(source, temporary)

    def remove(self, path: Path) -> None:
        """Remove a file or folder of the lake if it is there."""
        with self.explaining(path):
            _remove(path)

    @contextmanager
    def explaining(self, path: Path) -> Iterator[None]:
        """Turn the operating system's and the engine's complaints about storage into ours."""
        try:
            yield
        except OSError as error:
            raise LakeError(self._advice(error.errno, path, str(error))) from error
        except duckdb.IOException as error:
            known = {"No space left": errno.ENOSPC, "Permission denied": errno.EACCES, "Read-only": errno.EROFS}
            number = next((n for text, n in known.items() if text in str(error)), None)
            raise LakeError(self._advice(number, path, str(error))) from error

    def _advice(self, number: int | None, path: Path, text: str) -> str:
        setting = f"`{self.setting}` in finops.yaml"
        what = {
            errno.ENOSPC: f"no space left; nothing was replaced. Free space or move {setting}, then run the days again",
            errno.EACCES: "no permission to write; check the owner of the folder",
            errno.EROFS: "the file system is read-only",
            errno.ENOTDIR: f"a part of the path is a file, not a folder; check {setting}",
            errno.ENOENT: f"the folder is gone; check {setting} and that its disk is mounted",
        }.get(number or 0, "cannot be written")
        return f"lake {self.root}: {what} (at {path.name}: {text})"

    def _names(self, folder: Path, pattern: str) -> list[Path]:
        return sorted(folder.glob(pattern))

    def _read(self, file: Path) -> str:
        return file.read_text(encoding="utf-8")

    def _put(self, temporary: Path, target: Path, blind: bool) -> None:
        os.replace(temporary, target)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file; its content and time of change under another name where the disk has no such links."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        shutil.copy2(source, target)
        _flush(target)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _safe(part: str) -> str:
    """A scope or generation as a file name: readable, reversible unless it is long, without separators or '='."""
    name = quote(part, safe=" +,-_@") if part not in {".", ".."} else part.replace(".", "%2E")
    # A file system ends at 255 bytes, and a letter outside of ASCII takes six to twelve here.
    return name if len(name) <= LONGEST_NAME else f"{name[:140]}{CUT}{hashlib.sha256(part.encode()).hexdigest()[:24]}"
