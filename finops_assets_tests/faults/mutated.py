"""One export that something is wrong with, made from a seed and a number: content, encodings, names, manifests.

Each case is a folder. What an independent reader makes of it is told beside; None where it cannot tell.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets_tests.faults.bill import FIRST, charge, csv_text

Sums = dict[date, tuple[int, Decimal, Decimal]]
"""Rows, billed and effective cost by UTC charge day."""
DAYS = (FIRST, FIRST.replace(day=2))
PLAIN = re.compile(r"\s*[+-]?\d+(\.\d+)?\s*\Z")


@dataclass(frozen=True)
class Case:
    """What was done, and what an independent reader finds; `readable` is None where it cannot tell."""

    what: str
    sums: Sums | None


def rows_of(chance: random.Random) -> list[dict[str, str]]:
    """About forty rows of two days."""
    return [charge(day, "one", number, chance) for day in DAYS for number in range(20)]


def sums_of(rows: list[dict[str, str]]) -> Sums | None:
    """The sums, or None where a value is none that anybody reads alike."""
    found: Sums = {}
    for row in rows:
        try:
            day = date.fromisoformat(row["ChargePeriodStart"][:10])
            amounts = [row["BilledCost"], row["EffectiveCost"]]
        except (KeyError, TypeError, ValueError):
            return None
        if not all(isinstance(a, str) and PLAIN.match(a) for a in amounts):
            return None
        count, billed, effective = found.get(day, (0, Decimal(0), Decimal(0)))
        found[day] = (count + 1, billed + Decimal(amounts[0].strip()), effective + Decimal(amounts[1].strip()))
    return found


def read_csv(content: bytes) -> Sums | None:
    """What Python's own reader makes of a CSV; None where it is not one without doubt."""
    try:
        text = content.decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader)
        rows = [row for row in reader if row]
    except (UnicodeDecodeError, csv.Error, StopIteration):
        return None
    if "\x00" in text or len(set(header)) != len(header) or any(len(row) != len(header) for row in rows):
        return None
    return sums_of([dict(zip(header, row)) for row in rows])


# ---- content ----


def mutate_csv(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """A CSV with one to three things done to it."""
    done = []
    for _ in range(chance.randint(1, 3)):
        name, function = chance.choice(CSV_MUTATIONS)
        done.append(name)
        content = function(content, chance)
    return " + ".join(done), content


def _lines(change: Callable[[list[bytes], random.Random], None]) -> Callable[[bytes, random.Random], bytes]:
    def apply(content: bytes, chance: random.Random) -> bytes:
        lines = content.split(b"\n")
        change(lines, chance)
        return b"\n".join(lines)

    return apply


def _cell(value: Callable[[random.Random], bytes]) -> Callable[[bytes, random.Random], bytes]:
    """Replace one cell of one line, counted by its commas."""

    def change(lines: list[bytes], chance: random.Random) -> None:
        at = chance.randrange(len(lines))
        cells = lines[at].split(b",")
        cells[chance.randrange(len(cells))] = value(chance)
        lines[at] = b",".join(cells)

    return _lines(change)


def _insert(text: bytes) -> Callable[[bytes, random.Random], bytes]:
    def apply(content: bytes, chance: random.Random) -> bytes:
        at = chance.randrange(len(content) + 1)
        return content[:at] + text + content[at:]

    return apply


def _flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content or b" ")
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _recoded(encoding: str) -> Callable[[bytes, random.Random], bytes]:
    return lambda content, _: content.decode("utf-8", "replace").encode(encoding, "replace")


def _header(names: bytes) -> Callable[[bytes, random.Random], bytes]:
    """Rename a column."""

    def change(lines: list[bytes], chance: random.Random) -> None:
        cells = lines[0].split(b",")
        cells[chance.randrange(len(cells))] = names
        lines[0] = b",".join(cells)

    return _lines(change)


CSV_MUTATIONS: list[tuple[str, Callable[[bytes, random.Random], bytes]]] = [
    ("cut", lambda c, r: c[: r.randrange(len(c) + 1)]),
    ("cut at the front", lambda c, r: c[r.randrange(len(c) + 1) :]),
    ("bytes flipped", _flip),
    ("a line lost", _lines(lambda ls, r: ls.__delitem__(r.randrange(len(ls))))),
    ("a line twice", _lines(lambda ls, r: ls.insert(r.randrange(len(ls)), r.choice(ls)))),
    ("an empty line", _lines(lambda ls, r: ls.insert(r.randrange(len(ls)), b""))),
    ("lines shuffled", _lines(lambda ls, r: r.shuffle(ls))),
    ("the header again", _lines(lambda ls, r: ls.insert(r.randrange(len(ls)), ls[0]))),
    ("a comma more", _insert(b",")),
    ("a quote", _insert(b'"')),
    ("a quote and a line", _insert(b'"\n')),
    ("a NUL", _insert(b"\x00")),
    ("not UTF-8", _insert(b"\xff\xfe")),
    ("a mark in the middle", _insert(b"\xef\xbb\xbf")),
    ("a mark", lambda c, _: b"\xef\xbb\xbf" + c),
    ("two marks", lambda c, _: b"\xef\xbb\xbf\xef\xbb\xbf" + c),
    ("carriage returns", lambda c, _: c.replace(b"\n", b"\r\n")),
    ("carriage returns alone", lambda c, _: c.replace(b"\n", b"\r")),
    ("semicolons", lambda c, _: c.replace(b",", b";")),
    ("UTF-16", _recoded("utf-16")),
    ("Latin-1", _recoded("latin-1")),
    ("money of another form", _cell(lambda r: r.choice([b"1e400", b"NaN", b"inf", b"-0", b"1_000", b"0x10", b"1e3", b"--1"]))),
    ("money too long", _cell(lambda r: b"9" * r.choice([21, 39, 400]))),
    ("digits too many", _cell(lambda r: b"0." + b"1" * r.choice([19, 40]))),
    ("a formula", _cell(lambda r: b"=1+1")),
    ("an empty cell", _cell(lambda r: b"")),
    ("a date out of range", _cell(lambda r: r.choice([b"0000-00-00", b"9999-12-31T23:59:60Z", b"2026-02-30", b"1e9"]))),
    ("a long cell", _cell(lambda r: b"x" * 300_000)),
    ("deep tags", _cell(lambda r: b'"' + b'{""a"":' * 500 + b'"')),
    ("a reserved column", _header(b"source_file")),
    ("another reserved column", _header(b"file_row_number")),
    ("filename as a column", _header(b"filename")),
    ("a column of no name", _header(b"")),
    ("a column twice", _header(b"Tags")),
    ("a quoted name", _header(b'"a""; DROP TABLE x; --"')),
    ("empty", lambda *_: b""),
    ("only a header", lambda c, _: c.split(b"\n")[0]),
]  # fmt: skip


def gz(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Packed, and mostly wrongly."""
    packed = gzip.compress(content, mtime=0)
    kind = chance.choice(["well", "cut", "flipped", "garbage after", "two members", "twice", "not packed", "a bomb"])
    match kind:
        case "cut":
            packed = packed[: chance.randrange(len(packed))]
        case "flipped":
            packed = _flip(packed, chance)
        case "garbage after":
            packed += chance.randbytes(20)
        case "two members":
            half = len(content) // 2
            packed = gzip.compress(content[:half], mtime=0) + gzip.compress(content[half:], mtime=0)
        case "twice":
            packed = gzip.compress(packed, mtime=0)
        case "not packed":
            packed = content
        case "a bomb":
            packed = gzip.compress(content + b"," * 50_000_000, mtime=0)
    return f"packed: {kind}", packed


def unpacked(packed: bytes) -> bytes | None:
    """What Python unpacks; None where it does not, or something is left."""
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error):
        return None


def parquet(rows: list[dict[str, str]], chance: random.Random, file: Path) -> tuple[str, Sums | None]:
    """A Parquet file with something done to its schema, its rows or its bytes."""
    table = pa.Table.from_pylist(rows)
    kind = chance.choice(
        ["decimals", "doubles", "float32", "binary", "dictionary", "a reserved column", "columns shuffled", "no rows",
         "a column missing", "a column twice", "a struct", "times", "cut", "flipped", "footer", "empty", "a CSV", "nulls"]
    )  # fmt: skip
    sums: Sums | None = sums_of(rows)
    at = table.column_names.index("BilledCost")
    match kind:
        case "decimals":
            table = table.set_column(at, "BilledCost", table["BilledCost"].cast(pa.decimal128(38, 18)))
        case "doubles" | "float32":
            type_ = pa.float64() if kind == "doubles" else pa.float32()
            table = table.set_column(at, "BilledCost", table["BilledCost"].cast(type_))
            sums = None  # binary fractions: what counts is their shortest text, which is ours to say
        case "binary":
            table = table.cast(pa.schema([(n, pa.binary()) for n in table.column_names]))
        case "dictionary":
            table = table.set_column(at, "BilledCost", table["BilledCost"].dictionary_encode())
        case "a reserved column":
            name = chance.choice(["source_file", "source_row", "filename", "file_row_number", "charge_date", "repairs"])
            table = table.append_column(name, pa.array([chance.choice([None, "x"])] * len(table), pa.string()))
        case "columns shuffled":
            names = [*table.column_names]
            chance.shuffle(names)
            table = table.select(names)
        case "no rows":
            table, sums = table.slice(0, 0), {}
        case "a column missing":
            table = table.drop_columns([chance.choice(table.column_names)])
            sums = sums if {"BilledCost", "EffectiveCost", "ChargePeriodStart"} <= {*table.column_names} else None
        case "a column twice":
            table = table.append_column("billedcost", table["BilledCost"])
        case "a struct":
            table = table.set_column(at, "BilledCost", pa.array([{"a": 1}] * len(table)))
            sums = None
        case "times":
            place = table.column_names.index("ChargePeriodStart")
            texts = [v.as_py().removesuffix("Z") for v in table["ChargePeriodStart"]]
            table = table.set_column(place, "ChargePeriodStart", pa.array(texts).cast(pa.timestamp("ns")))
        case "nulls":
            table = table.set_column(at, "BilledCost", pa.array([None] * len(table), pa.string()))
            sums = None
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    content = file.read_bytes()
    match kind:
        case "cut":
            content, sums = content[: chance.randrange(len(content))], None
        case "flipped":
            content, sums = _flip(content, chance), None
        case "footer":
            tail = chance.randint(1, 300)
            content, sums = content[:-tail] + _flip(content[-tail:], chance), None
        case "empty":
            content, sums = b"", None
        case "a CSV":
            content, sums = csv_text(rows).encode(), None
    file.write_bytes(content)
    return f"Parquet: {kind}", sums


# ---- names ----

NAMES = [
    "bill [1]", "bill*", "bill?", "a=b", "BilledCost=0", "it's", 'quo"te', "100%41", "ünïcode-✓", "new\nline", "-rf", " lead",
    "trail ", "..b", "$(id)", "`id`", "{a,b}", "a;b", "a\\b", "&amp;<b>", "\u202egpj", "x" * 200, "#1", "a,b", "[/red]", "con",
]  # fmt: skip
FOLDERS = [
    "BilledCost=0",
    "ChargePeriodStart=2020-01-01",
    "BILLING_PERIOD=2026-09",
    "a[b]",
    "*",
    "source=two",
    "year=x",
    "it's",
]


def hostile_name(chance: random.Random) -> str:
    """A file in a folder, both of which the system allows and nobody expects."""
    folder = f"{chance.choice(FOLDERS)}/" if chance.random() < 0.5 else ""
    return f"{folder}{chance.choice(NAMES)}.{chance.choice(['csv', 'csv.gz', 'parquet'])}"


def plain_case(folder: Path, seed: int, number: int) -> Case:
    """One file, or two, below a folder of the layout `files`."""
    chance = random.Random(f"{seed} file {number}")
    rows = rows_of(chance)
    content = csv_text(rows).encode()
    folder.mkdir(parents=True)
    kind = number % 4
    if kind == 0:
        what, content = mutate_csv(content, chance)
        (folder / "bill.csv").write_bytes(content)
        return Case(f"CSV: {what}", read_csv(content))
    if kind == 1:
        what = ""
        if chance.random() < 0.3:
            what, content = mutate_csv(content, chance)
        told, packed = gz(content, chance)
        (folder / "bill.csv.gz").write_bytes(packed)
        clear = unpacked(packed)
        return Case(f"{told} {what}", None if clear is None else read_csv(clear))
    if kind == 2:
        what, sums = parquet(rows, chance, folder / "bill.parquet")
        return Case(what, sums)
    name = hostile_name(chance)
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    # A neighbour that a pattern would take for it, with days of its own.
    other = [charge(FIRST.replace(day=3), "one", n, chance) for n in range(20)]
    (folder / "bill 1.csv").write_text(csv_text(other), encoding="utf-8")
    return Case(f"name {name!r}", sums_of(rows + other))


# ---- manifests ----

csv.field_size_limit(1 << 30)
OUTSIDE = "outside-of-the-source"
"""The account of the rows that lie beside the source's place, and must never come in."""


def outside(folder: Path) -> tuple[Path, Path]:
    """A CSV and a Parquet file beside the source's place, which manifests point at."""
    rows = [charge(DAYS[0], "one", n, random.Random(n)) | {"BillingAccountId": OUTSIDE} for n in range(5)]
    folder.mkdir(parents=True, exist_ok=True)
    text, packed = folder / "outside.csv", folder / "outside.parquet"
    text.write_text(csv_text(rows), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), packed)
    return text, packed


def mutate_manifest(place: Path, chance: random.Random, beside: tuple[Path, Path]) -> str:
    """Change one manifest below a place, or a file that it names into a link."""
    manifests = sorted(p for p in place.rglob("*.json"))
    manifest = chance.choice(manifests)
    text = manifest.read_text(encoding="utf-8")
    target = chance.choice(beside)
    relative = "../" * chance.randint(1, 8) + "/".join(target.parts[-2:])
    kind = chance.choice(
        ["place"] * 6 + ["link", "folder link", "cut", "flipped", "types", "deep", "empty", "huge number", "twice"]
    )
    match kind:
        case "place":
            where = chance.choice(
                [relative, str(target), f"file://{target}", f"s3://other/{target}", f"https://127.0.0.1:1/{target.name}",
                 f"s3://estate/{relative}", f"gs://other{target}", f"..\\..\\{target.name}", f"%2e%2e/{target.name}",
                 f"a/../../{relative}", f"\\\\host\\share\\{target.name}", f"./{relative}", "/etc/passwd", "~/x.csv", "*", "**/*"]
            )  # fmt: skip
            named = re.findall(r'"([^"]+\.(?:csv|parquet|csv\.gz))"', text)
            if not named:
                return f"{manifest.name}: names no file"
            manifest.write_text(text.replace(json.dumps(chance.choice(named)), json.dumps(where)), encoding="utf-8")
            return f"{manifest.name} names {where!r}".replace(str(target.parent), "…")
        case "link":
            data = chance.choice(sorted(p for p in place.rglob("*") if p.suffix in (".csv", ".parquet", ".gz")))
            data.unlink()
            data.symlink_to(target)
            return f"{data.name} is a link to outside"
        case "folder link":
            (place / "linked").symlink_to(target.parent, target_is_directory=True)
            return "a folder is a link to outside"
        case "cut":
            manifest.write_text(text[: chance.randrange(len(text))], encoding="utf-8")
        case "flipped":
            manifest.write_bytes(_flip(text.encode(), chance))
        case "types":
            values = list(re.finditer(r'(?<=: )("[^"]*"|\d+)', text))
            if values:
                found = chance.choice(values)
                other = chance.choice(["null", "[]", "{}", "-1", '"x"', "1e999", "true", '{"a": [1]}'])
                manifest.write_text(text[: found.start()] + other + text[found.end() :], encoding="utf-8")
        case "deep":
            manifest.write_text("[" * 100_000, encoding="utf-8")
        case "empty":
            manifest.write_text(chance.choice(["", "null", "[]", "{}", '"x"', "0"]), encoding="utf-8")
        case "huge number":
            manifest.write_text(re.sub(r"(?<=: )\d+", "9" * 5_000, text, count=1), encoding="utf-8")
        case "twice":
            manifest.write_text(
                re.sub(r'("[^"]+\.(?:csv|parquet|csv\.gz)")', r"\1, \1", text, count=1), encoding="utf-8"
            )
    return f"{manifest.name}: {kind}"
