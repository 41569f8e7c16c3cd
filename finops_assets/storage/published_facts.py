"""The facts of the published copy: files beside it that never change, linked from the lake.

    finops.duckdb.facts/source=<s>/charge_date=<d>/<stamp>-<columns>.parquet   each version of a day, once
    finops.duckdb.facts/copies/<when>-<id>.json                                which files a copy names

The lake's files are replaced by rename, so a second name for one keeps what was published whatever is built
afterwards. Where a link is impossible (another disk) the file is copied. What no copy of the last day names goes.
"""

from __future__ import annotations

import itertools
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from finops_assets.base.files import replacing
from finops_assets.storage.day_files import stamp_of
from finops_assets.storage.lake import Key, Lake, link_or_copy, source_and_day

READERS_HOLD = timedelta(days=1)
"""How long after a copy was replaced the facts stay that it names: whoever opened it may still be reading."""
COPIES = "copies"
_TIME = "%Y%m%dT%H%M%S%f"


@dataclass(frozen=True)
class PublishedFacts:
    """The folder of one published copy."""

    folder: Path

    def pin(self, lake: Lake, built: Mapping[Key, str | None], as_they_are: Iterable[date]) -> list[Path]:
        """The files of every (source, day) of the lake's facts that the rollup is built from, by source and day.

        `built`: the stamp of the facts that the rollup has of a (source, day). Where the lake has others by now, because
        a gate holds them or a run was killed, the file that was published before stands; without one the day is
        missing. Days in `as_they_are` were rolled up before that was recorded and are taken as the lake has them.
        """
        unrecorded = set(as_they_are)
        pinned = self._pinned()
        result = []
        for file in lake.files(lake.root / "facts", "*/*/data.parquet"):
            key = source_and_day(file)
            stamp = built.get(key)
            if stamp is not None:
                found = pinned.get(key, {}).get(_short(stamp)) or self._link(file, stamp)
            elif key in built or key[1] in unrecorded:
                found = self._link(file, None)
            else:
                found = None
            if found:
                result.append(found)
        return result

    def enter(self, files: list[Path], now: datetime) -> Path:
        """Note which files the copy names that is about to be put in place; returns the note."""
        names = [file.relative_to(self.folder).as_posix() for file in files]
        notes = self._notes()
        if notes and json.loads(notes[-1].read_text(encoding="utf-8")) == names:
            return notes[-1]
        note = self.folder / COPIES / f"{now:{_TIME}}-{uuid.uuid4().hex[:8]}.json"
        with replacing(note) as temporary:
            temporary.write_text(json.dumps(names, indent=0), encoding="utf-8")
        return note

    def let_go(self, current: Path, now: datetime) -> None:
        """Remove what only copies name that were replaced more than a day ago, and what a killed process left then."""
        notes, old = self._notes(), now - READERS_HOLD
        gone = [n for n, after in itertools.pairwise(notes) if n != current and _time_of(after) < old]
        kept: set[str] = set()
        for note in notes:
            if note not in gone:
                kept.update(json.loads(note.read_text(encoding="utf-8")))
        for folder, _, names in os.walk(self.folder):
            for file in (Path(folder, name) for name in names):
                if file.name.startswith(".tmp-"):
                    superfluous = datetime.fromtimestamp(file.lstat().st_ctime, UTC) < old
                else:
                    name = file.relative_to(self.folder).as_posix()
                    superfluous = bool(gone) and file.suffix == ".parquet" and name not in kept
                if superfluous:
                    file.unlink(missing_ok=True)
        # Last: until then the next call does again what this one did not reach.
        for note in gone:
            note.unlink(missing_ok=True)

    def _notes(self) -> list[Path]:
        return sorted((self.folder / COPIES).glob("[0-9]*.json"))

    def _pinned(self) -> dict[Key, dict[str, Path]]:
        """What is here, by (source, day) and the short stamp."""
        found: dict[Key, dict[str, Path]] = {}
        for file in _parquet_below(self.folder):
            found.setdefault(source_and_day(file), {})[file.stem.partition("-")[0]] = file
        return found

    def _link(self, file: Path, stamp: str | None) -> Path | None:
        """A second name for a facts file, if it is of this stamp; without one it is named after size and time."""
        folder = self.folder / file.parent.parent.name / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".tmp-{uuid.uuid4().hex}"
        try:
            link_or_copy(file, temporary)
            # Of the link, not of the lake's name: another process may replace that at any moment.
            if stamp is None:
                about = temporary.stat()
                name = _short(f"{about.st_mtime_ns} {about.st_size}")
            elif stamp_of(temporary) == stamp:
                name = _short(stamp)
            else:
                return None
            target = folder / f"{name}-{columns_mark(temporary)}.parquet"
            os.replace(temporary, target)
        except FileNotFoundError:
            return None  # removed from the lake meanwhile
        finally:
            # Renaming over another name of the same file leaves both.
            temporary.unlink(missing_ok=True)
        return target


def columns_mark(file: Path) -> str:
    """Names and types of a file's columns, in short: files with the same mark are one relation without further ado."""
    import pyarrow.parquet as pq  # only where facts are published

    return _short("; ".join(sorted(f"{c.name} {c.type}" for c in pq.read_schema(file))))


def same_columns(files: Iterable[Path]) -> bool:
    """Do all of these pinned files have the same columns? Told by their names, without opening one."""
    return len({file.stem.partition("-")[2] for file in files}) <= 1


def _parquet_below(folder: Path) -> Iterator[Path]:
    for below, _, names in os.walk(folder):
        yield from (Path(below, name) for name in names if name.endswith(".parquet") and not name.startswith("."))


def _time_of(note: Path) -> datetime:
    return datetime.strptime(note.name.partition("-")[0], _TIME).replace(tzinfo=UTC)


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]
