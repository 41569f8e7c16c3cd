"""How a CSV file is written: its encoding, delimiter and header, found by proof. Nothing of it is guessed.

Clean is UTF-8, commas, a header in the first line. What else can be proven is read, and counted as a repair; what
cannot is refused with what was seen. docs/reference/dialects.md says what proves what.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from isal import igzip, isal_zlib

from finops_assets.focus.specification import canonical_name

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
MARK = "\ufeff"
WINDOWS = "windows-1252"
HEAD = 4 << 20
"""The header must end within so many bytes."""
_CHUNK = 1 << 20
_NOT_WHOLE: tuple[type[Exception], ...] = (gzip.BadGzipFile, EOFError, isal_zlib.error)  # type: ignore[assignment]
_LOOKED_AT = 60
# Longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_OTHER_CONTENT = {
    b"\x1f\x8b": "gzip: it should end in .csv.gz, and be packed once",
    b"PAR1": "Parquet: it should end in .parquet",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet: unpack it, or save it as CSV",
}
csv.field_size_limit(16 << 20)


class NotCsv(Exception):
    """What is wrong with the content of a CSV file, in words."""


class NotUtf8(NotCsv):
    """Its bytes are no UTF-8; they may be text of another encoding."""


@dataclass(frozen=True)
class Seen:
    """A plain text file, looked through once: its first bytes, its size, and its lines (an unended last one counts)."""

    head: bytes
    size: int
    lines: int


@dataclass(frozen=True)
class CsvForm:
    """How a file is written. `names` are its header's fields as they stand there."""

    encoding: str
    delimiter: str
    names: tuple[str, ...]
    before: tuple[str, ...] = ()
    """The lines above the header."""
    marked: bool = False
    """Byte order marks stand where none belong: before the first row, or twice before the header."""
    uneven: bool = False
    """Its lines are to be made even: they end in two ways, or some have spaces alone."""
    escaped: bool = False
    """A quote within a field stands behind a backslash, as Spark and MySQL write it, and is to be doubled."""

    @property
    def plain(self) -> bool:
        """Can the engine read the file as it is, once it is told the delimiter?"""
        return self.encoding == "utf-8" and not self.before and not (self.marked or self.uneven or self.escaped)


def look(file: Path) -> Seen:
    """Count a file's lines.

    Raises:
        OSError: this machine cannot read it.
    """
    with file.open("rb") as source:
        return _counted(iter(lambda: source.read(_CHUNK), b""))


def unpack(file: Path, target: Path) -> Seen:
    """Unpack a gzip file, all of its members, holding it against its check sums, which the engine does not look at.

    Raises:
        OSError: this machine cannot read it, or not write the target.
        NotCsv: it is not gzip, cut off, or not what its check sums say.
    """
    with igzip.open(file, "rb") as source, target.open("wb") as unpacked:  # type: ignore[no-untyped-call]

        def chunks() -> Iterator[bytes]:
            while True:
                try:
                    chunk = source.read(_CHUNK)
                except _NOT_WHOLE as error:
                    raise NotCsv(str(error)) from error
                if not chunk:
                    return
                unpacked.write(chunk)
                yield chunk

        return _counted(chunks())


def _counted(chunks: Iterator[bytes]) -> Seen:
    head, size, feeds, returns, last = b"", 0, 0, 0, b""
    for chunk in chunks:
        if len(head) < HEAD:
            head += chunk[: HEAD - len(head)]
        size += len(chunk)
        feeds += chunk.count(b"\n")
        returns += chunk.count(b"\r") if not feeds else 0
        last = chunk[-1:]
    return Seen(head, size, (feeds or returns) + (last not in (b"\n", b"\r", b"")))


def form_of(seen: Seen) -> CsvForm:
    """How a file is written, as its first lines prove it.

    Raises:
        NotCsv: it has no header, or could be read in two ways.
    """
    for magic, what in _OTHER_CONTENT.items():
        if seen.head.startswith(magic):
            raise NotCsv(f"its content is {what}")
    encoding = _encoding(seen.head)
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    text = decoder.decode(seen.head, final=seen.size <= len(seen.head))
    unmarked = text.lstrip(MARK)
    records = {d: list(_records(unmarked, d, whole=seen.size <= len(seen.head))) for d in DELIMITERS}
    if not records[","]:
        raise NotCsv("it has no header" if not seen.size else f"its header does not end within {HEAD >> 20} MB")
    delimiter, at = _header(records)
    names, line = records[delimiter][at]
    if damaged := next((name for name in names if "\0" in name), None):
        raise NotCsv(f"its header is damaged: zero bytes in {damaged[:80]!r}")
    below = records[delimiter][at + 1 : at + 2]
    marks = len(text) - len(unmarked)
    return CsvForm(
        encoding,
        delimiter,
        tuple(names),
        tuple(unmarked.splitlines()[:line]),
        # The engine takes one mark of UTF-8 from the beginning by itself.
        marked=marks > 1 or any(fields[0].startswith(MARK) for fields, _ in below) or names[0].startswith(MARK),
    )


def _encoding(head: bytes) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if not head.startswith(codecs.BOM_UTF8) and b"\x00" in head:
        # Text of UTF-16 without a mark: every other byte of its ASCII is zero.
        start = head[: min(len(head), 400) // 2 * 2]
        for encoding, zeros, others in (("utf-16-le", start[1::2], start[::2]), ("utf-16-be", start[::2], start[1::2])):
            if zeros and not any(zeros) and all(others):
                return encoding
    return "utf-8"


def _records(text: str, delimiter: str, whole: bool) -> Iterator[tuple[list[str], int]]:
    """The first records that are not empty, with the number of lines above each."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    line, held = 0, None
    try:
        for number, fields in enumerate(reader):
            if held is not None:
                yield held
            held = (fields, line) if fields else None
            line = reader.line_num
            if number >= _LOOKED_AT:
                break
    except csv.Error as error:
        if held is None:
            raise NotCsv(str(error)) from error
    # The last one may be cut off where the looking ended.
    if held is not None and (whole or line > held[1] + 1 or text.endswith(("\n", "\r"))):
        yield held


def _header(records: dict[str, list[tuple[list[str], int]]]) -> tuple[str, int]:
    """The delimiter, and which record is the header."""
    scored = [(_known(fields), -n, d) for d, found in records.items() for n, (fields, _) in enumerate(found)]
    for candidates in ([s for s in scored if s[1] == 0], scored):
        most = max(known for known, _, _ in candidates)
        if most >= 2:
            best = [(d, -n) for known, n, d in candidates if known == most]
            first = min(n for _, n in best)
            winners = [d for d, n in best if n == first]
            if len(winners) > 1:
                raise NotCsv(
                    f"its header {_shown(records[winners[0]][first][0])} could be separated by"
                    f" {' or by '.join(DELIMITERS[d] for d in winners)}"
                )
            return winners[0], first
    # No names of FOCUS: a native bill, whose header is as wide as what follows it.
    wide: list[tuple[int, str, int]] = []
    for delimiter, found in records.items():
        widths = [len(fields) for fields, _ in found]
        for n, width in enumerate(widths):
            alike = n + 1 == len(widths) or widths[n + 1] == width
            if width > 1 and alike and (n == 0 or _names(found[n][0])):
                wide.append((n, delimiter, width))
                break
    if not wide:
        return ",", 0
    first = min(n for n, _, _ in wide)
    there = {d: width for n, d, width in wide if n == first}
    if "," in there:
        return ",", first
    widest = [d for d, width in there.items() if width == max(there.values())]
    if len(widest) > 1:
        raise NotCsv(f"its fields could be separated by {' or by '.join(DELIMITERS[d] for d in widest)}")
    return widest[0], first


def _known(fields: Sequence[str]) -> int:
    return len({name for field in fields if (name := canonical_name(field.strip(f"{MARK} ")))})


def _names(fields: Sequence[str]) -> bool:
    """Could these all be names of columns?"""
    return len({f.casefold() for f in fields}) == len(fields) and all(f.strip()[:1].isalpha() for f in fields)


def _shown(fields: Sequence[str]) -> str:
    text = ", ".join(fields)
    return repr(text if len(text) < 80 else f"{text[:77]}...")


@dataclass
class Rewritten:
    """A file as it was written again: looked through, and how many of its lines were changed by what."""

    seen: Seen
    marks: int = 0
    """Lines that bore a byte order mark in vain."""
    evened: int = 0
    """Lines that ended otherwise than most, or had spaces alone and are left out."""
    escaped: int = 0
    """Lines with a quote behind a backslash."""


_BEFORE_A_QUOTE = re.compile(r'(\\+)"')


def _quote_doubled(found: re.Match[str]) -> str:
    """Backslashes and a quote: each pair of them is one, and one that is left over belongs to the quote."""
    pairs, odd = divmod(len(found[1]), 2)
    return "\\" * pairs + '"' * (1 + odd)


def rewrite(file: Path, form: CsvForm, target: Path) -> Rewritten:
    """Write a file again as UTF-8, from its header on, without marks, its lines even where the form says that they are not.

    Raises:
        OSError: this machine cannot read it, or not write the target.
        NotCsv: its bytes are not text of that encoding.
    """
    marks = blank = feeds = returns = escaped = 0

    def lines() -> Iterator[bytes]:
        nonlocal marks, blank, feeds, returns, escaped
        within = False
        with file.open("r", encoding=form.encoding, newline="") as source:
            try:
                for number, line in enumerate(source):
                    if number < len(form.before):
                        continue
                    bare = line.lstrip(MARK)
                    marks += len(line) - len(bare) > (number == 0)
                    if form.escaped:
                        bare, changed = _BEFORE_A_QUOTE.subn(_quote_doubled, bare)
                        escaped += changed > 0
                    if form.uneven:
                        # What stands within quotes is a value, line ends and all.
                        nothing = not within and not bare.strip()
                        within ^= bare.count('"') % 2 == 1
                        if not within and not bare.endswith("\r"):
                            returns += bare.endswith("\r\n")
                            feeds += bare.endswith("\n") and not bare.endswith("\r\n")
                            blank += nothing and bare.strip("\r\n") != ""
                            bare = "" if nothing else bare.rstrip("\r\n") + "\n"
                    yield bare.encode()
            except UnicodeError as error:
                wrong = NotUtf8 if form.encoding == "utf-8" else NotCsv
                raise wrong(f"it is no {form.encoding} text: {error}") from error

    with target.open("wb") as written:

        def kept() -> Iterator[bytes]:
            for line in lines():
                written.write(line)
                yield line

        seen = _counted(kept())
    return Rewritten(seen, marks, blank + min(feeds, returns), escaped)


_OTHER_PAGES = (
    "other code pages (1250, 1251, Latin-2) cannot be told apart by proof: export as UTF-8, or convert the file,"
    " `iconv -f CP1250 -t UTF-8` where it is of Central Europe"
)
_NOT_ASCII = re.compile(rb"[\x80-\xff]+")
_UTF8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_UNDEFINED = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
# What stands between two letters in Western text besides letters: quotes, dashes, a middle dot, a space, a hyphen.
_WITHIN_WORDS = "\u2018\u2019\u2013\u2014\u00b7\u00a0\u00ad\u00b4"


def require_windows_1252(file: Path) -> None:
    """A file that is no UTF-8 is Windows-1252 (Latin-1 is a part of it) if nothing in it speaks against that.

    Against it speak: a character of UTF-8, a byte that the code page lacks, three such bytes in a row (words of
    Western languages have one or two; of Cyrillic or Greek ones, all), and a sign within a word, which other code
    pages have as a letter.

    Raises:
        OSError: this machine cannot read it.
        NotCsv: something does.
    """
    with file.open("rb") as source:
        for number, line in enumerate(source, 1):
            for found in _NOT_ASCII.finditer(line):
                run = found.group()
                at = f"{run[:8]!r} in line {number}"
                if _UTF8.search(run):
                    # Of UTF-8 all or nothing: what is left over is damage.
                    if not _all_utf8(run):
                        raise NotCsv(f"its bytes are no text of one encoding: {at}")
                    raise NotCsv(f"some of it is UTF-8 and some is not: {at} is")
                if _UNDEFINED.search(run) or len(run) > 2:
                    raise NotCsv(f"its bytes are neither UTF-8 nor Windows-1252: {at}; {_OTHER_PAGES}")
                before, after = line[found.start() - 1 : found.start()], line[found.end() : found.end() + 1]
                signs = [c for c in run.decode(WINDOWS) if not c.isalpha() and c not in _WITHIN_WORDS]
                if signs and before.isalpha() and after.isalpha():
                    raise NotCsv(
                        f"its bytes are no UTF-8, and in Windows-1252 the sign {signs[0]!r} is in a word: {at};"
                        f" {_OTHER_PAGES}"
                    )


def _all_utf8(run: bytes) -> bool:
    try:
        run.decode()
    except UnicodeDecodeError:
        return False
    return True


def count_rows(file: Path, delimiter: str) -> int:
    """The rows below the header of a UTF-8 file, as Python's own reader counts them; lines without anything are none."""
    # A header may hold what is no UTF-8; it is a line all the same.
    with file.open("r", encoding="utf-8", errors="replace", newline="") as source:
        return sum(1 for fields in csv.reader(source, delimiter=delimiter) if fields) - 1
