"""Hostile deliveries from a seed: names, folders and columns that mean something to somebody, dialects, damaged bytes.

Each says what it holds, by construction or as readers that are not the platform's (Python's csv and decimal, pyarrow)
read it. A delivery must land with exactly that, or be refused with a sentence; `fault` says what is wrong with what
became of one.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets.ingest.landing import land_source
from finops_assets.platform import Platform
from finops_assets.settings.load import parse_settings
from finops_assets.storage.ledger import Generation
from finops_assets_tests.conftest import Row, csv_text, focus_row

Sums = dict[str, Decimal]
MONEY = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
_PLAIN = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NO_VALUE = ("", "null", "n/a", "not applicable")


@dataclass(frozen=True)
class Truth:
    """What a file holds: rows, and billed cost by currency. `odd`: some of it is not written as FOCUS says."""

    rows: int
    billed: Sums
    odd: bool = False


@dataclass(frozen=True)
class Mutant:
    """A delivery: what was done to it, its files, and what each holds (None: no independent reader can read it)."""

    name: str
    files: dict[str, bytes]
    truths: dict[str, Truth | None]
    must_land: bool = True
    """Nothing is damaged: refusing it would be wrong."""
    together: bool = False
    """All files are one delivery (period_pattern)."""

    def settings(self) -> str:
        """A finops.yaml whose one source is this delivery, in `exports`."""
        # A pattern that every name here matches: one scope.
        period = ", period_pattern: '(?P<year>2026)-(?P<month>09)'" if self.together else ""
        return (
            "first_day: 2020-01-01\nlake: lake\nwarehouse: w.duckdb\npublished: p.duckdb\n"
            f"sources: [{{name: bill, uri: exports, layout: files{period}}}]\n"
            "dimensions:\n  team: {keys: [team]}\n"
        )

    def write(self, folder: Path) -> None:
        """Put its files below a folder, as a source's place."""
        for name, content in self.files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def mutants(seed: int, count: int) -> Iterator[Mutant]:
    """So many deliveries from a seed; the same for the same seed, on every machine."""
    return (mutant(seed, number) for number in range(count))


def mutant(seed: int, number: int) -> Mutant:
    """One of them."""
    kind, make = _KINDS[number % len(_KINDS)]
    made = make(Random(f"{seed} {number}"))
    return Mutant(f"{seed}.{number} {kind}: {made.name}", made.files, made.truths, made.must_land, made.together)


def land(mutant: Mutant, folder: Path) -> list[Generation]:
    """Write a delivery below an empty folder and land it there."""
    mutant.write(folder / "exports")
    platform = Platform(parse_settings(mutant.settings(), folder / "finops.yaml"))
    settings = platform.settings
    return land_source(platform.lake, settings.engine, settings.source("bill"), settings.first_day)


def fault(mutant: Mutant, landed: Sequence[Generation]) -> str | None:
    """What is wrong with what became of a delivery; None if it landed exactly, or was refused with a sentence."""
    known = {key for generation in landed for key, _, _ in generation.files}
    if missing := sorted(set(mutant.files) - known):
        return f"{missing} is neither landed nor refused"
    for generation in landed:
        keys = [key for key, _, _ in generation.files]
        if generation.state != "live":
            reason = generation.reason or ""
            if not any(key in reason for key in keys) and "do not fit together" not in reason:
                return f"{keys} is {generation.state} without the file's name: {reason!r}"
            if len(reason) < 40 or "Traceback" in reason or "INTERNAL" in reason:
                return f"{keys} is {generation.state} without a sentence: {reason!r}"
            if mutant.must_land:
                return f"{keys} is {generation.state}: {reason}"
            continue
        truths = [mutant.truths[key] for key in keys]
        if None in truths:
            if not {"BilledCost", "BillingCurrency"} <= {*generation.columns}:
                continue  # its name is what was damaged, and the gate `conforms` holds every day of it
            return f"{keys} has landed with {generation.rows} rows, and no other reader can read it"
        rows = sum(truth.rows for truth in truths if truth)
        if generation.rows != rows:
            return f"{keys} has landed with {generation.rows} rows instead of {rows}"
        wanted = _sum(truth.billed for truth in truths if truth)
        found = _sum(day.billed for day in generation.days.values())
        odd = any(truth.odd for truth in truths if truth)
        if {c: v for c, v in found.items() if v} != {c: v for c, v in wanted.items() if v} and not (
            odd and generation.repairs
        ):
            return f"{keys} has landed with {found} instead of {wanted} (repairs: {generation.repairs})"
    return None


def _sum(parts: Iterable[Mapping[str, Decimal]]) -> Sums:
    total: Sums = {}
    for part in parts:
        for currency, amount in part.items():
            total[currency] = total.get(currency, Decimal(0)) + amount
    return total


# ---- rows and independent readers ---------------------------------------------------------------


def _rows(random: Random, least: int = 1) -> list[Row]:
    return [
        focus_row(
            f"2026-09-{random.randint(1, 28):02}",
            BilledCost=_amount(random),
            BillingCurrency=random.choice(["EUR", "USD"]),
            ChargeDescription=random.choice(["hours", 'a "quoted" text', "a, comma", "two\nlines", "Größe", ""]),
        )
        for _ in range(random.randint(least, 6))
    ]


def _amount(random: Random) -> str:
    places = random.choice([0, 2, 6, 18])
    sign = random.choice(["", "", "", "-"])
    return f"{sign}{random.randint(0, 10 ** random.choice([1, 4, 9]))}" + (
        f".{random.randrange(10**places):0{places}}" if places else ""
    )


def _truth(rows: Iterable[Row]) -> Truth:
    billed: Sums = {}
    count, odd = 0, False
    for row in rows:
        count += 1
        text = str(row.get("BilledCost") or "").strip()
        currency = str(row.get("BillingCurrency") or "")
        if currency.strip().lower() in _NO_VALUE:
            currency = ""
        odd = odd or currency not in ("EUR", "USD")
        if text.lower() in _NO_VALUE:
            continue
        if _PLAIN.fullmatch(text) is None:
            odd = True
            continue
        value = Decimal(text)
        # Finer or larger than the lake's decimals.
        fits = value.as_tuple().exponent in range(-18, 20) and value.adjusted() < 20
        odd = odd or not fits or text != row["BilledCost"]
        if not fits:
            continue
        billed[currency] = billed.get(currency, Decimal(0)) + value
    return Truth(count, billed, odd)


def read_csv(content: bytes) -> Truth | None:
    """A CSV file (UTF-8, else Windows-1252; commas) as Python reads it; None if it cannot."""
    try:
        text = content.decode("utf-8-sig")
    except ValueError:
        text = content.decode("windows-1252", "replace")
    try:
        [header, *found] = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (ValueError, csv.Error):
        return None
    names = [name.strip("\ufeff ") for name in header]
    by_folded = {name.casefold(): name for name in names}
    if len(by_folded) < len(names) or any(len(row) != len(names) for row in found):
        return None
    whole = [dict(zip(names, row)) for row in found]
    told = [
        {key: row.get(by_folded.get(key.casefold(), "")) for key in ("BilledCost", "BillingCurrency")} for row in whole
    ]
    # A row without any value is no charge.
    return _truth(t for t, row in zip(told, whole) if any(v.strip().lower() not in _NO_VALUE for v in row.values()))


def read_parquet(content: bytes) -> Truth | None:
    """A Parquet file as pyarrow reads it; None if it cannot."""
    try:
        table = pq.read_table(io.BytesIO(content), page_checksum_verification=True)
        table.validate(full=True)
        rows = table.select(["BilledCost", "BillingCurrency"]).to_pylist()
    except Exception:  # whatever it says: it cannot
        return None

    def plain(value: Any) -> str:
        if isinstance(value, float):
            # The shortest decimal that reads back to a double.
            return format(Decimal(repr(value)), "f")
        return "" if value is None else str(value)

    return _truth({key: plain(value) for key, value in row.items()} for row in rows)


# ---- what is done -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Made:
    name: str
    files: dict[str, bytes]
    truths: dict[str, Truth | None]
    must_land: bool = True
    together: bool = False


def _csv(rows: Sequence[Row]) -> bytes:
    return csv_text(rows).encode()


def _parquet(rows: Sequence[Row], types: dict[str, pa.DataType] | None = None, **options: Any) -> bytes:
    fields = [pa.field(name, (types or {}).get(name, pa.string())) for name in rows[0]]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(fields)), out, **options)
    return out.getvalue()


_NAMES = (
    "bill [1]", "bill 1", "a*b", "a?b", "{a,b}", "it's", 'a "b"', "two\nlines", "-rf", "tab\there", "~", "$HOME",
    "[[]", "[!a]", "back\\slash", "back\\[1]", "%20", "ü ñ 漢", "\u202etxt", "a;b", "<b>", "a|b", "'; DROP TABLE x; --",
    "**", "]", "CON", "x" * 200, "\u200b", "a=b", "2026-09", "[bold]", "#", "a..b", " leading", "trailing ",
)  # fmt: skip
_FOLDERS = (
    "", "", "BilledCost=0/", "BillingCurrency=XXX/", "BILLING_PERIOD=2026-05/", "ChargePeriodStart=2020-01-01/",
    "[ab]/", "a b/", "source=other/charge_date=2020-01-01/", "x/y/z/", "\\*/", "filename=1/", "Tags={}/", "{1,2}/",
)  # fmt: skip
_ENDINGS = (".csv", ".CSV", ".csv.gz", ".Csv.GZ", ".parquet", ".PARQUET")


def _content(rows: Sequence[Row], name: str) -> bytes:
    if name.lower().endswith(".parquet"):
        return _parquet(rows)
    return gzip.compress(_csv(rows), mtime=0) if name.lower().endswith(".gz") else _csv(rows)


def _hostile_names(random: Random) -> _Made:
    files: dict[str, bytes] = {}
    truths: dict[str, Truth | None] = {}
    folder = random.choice(_FOLDERS)
    for name in random.sample(_NAMES, 3):
        rows = _rows(random)
        key = f"{folder}{name}{random.choice(_ENDINGS)}"
        files[key], truths[key] = _content(rows, key), _truth(rows)
    return _Made(", ".join(map(repr, files)), files, truths)


_COLUMNS = (
    "source_file", "source_row", "filename", "file_row_number", "repairs", "tag_set_id", "source", "charge_date",
    "Source_File", "found_BilledCost", "note_0", "bad_tags", "file_index", 'a "b"', "it's", "two\nlines", " ", "a;b",
    "; DROP TABLE x", "x_a", "X_A", "select", "e", "column3", "k0", "place", "ü", "<b>", "[bold]", "n" * 3000, "rowid",
    "c0", "billedcost_1", "finops_path", "part", "row", "n", "v", "x_filename", "\u202e",
)  # fmt: skip


def _hostile_columns(random: Random) -> _Made:
    wanted = random.sample(_COLUMNS, random.randint(1, 5))
    rows = [row | {name: random.choice(["", "text", "1", "NULL"]) for name in wanted} for row in _rows(random)]
    key = random.choice(["a.csv", "a.parquet"])
    return _Made(f"{key} with {wanted}", {key: _content(rows, key)}, {key: _truth(rows)})


def _dialect(random: Random) -> _Made:
    """A CSV that is not as FOCUS says and proves how it is: encoding, delimiter, marks, lines above the header."""
    rows = [
        row | {"BilledCost": f"{random.randint(1, 9999)}.{random.randint(10, 99)}", "ChargeDescription": "Größe"}
        for row in _rows(random)
    ]
    delimiter = random.choice([",", ";", "\t", "|"])
    comma = delimiter == ";" and random.random() < 0.5
    out = io.StringIO()
    written = [r | {m: str(r[m]).replace(".", ",") for m in MONEY} if comma else r for r in rows]
    all_quoted = random.choice([False, True])
    ending = random.choice(["\n", "\r\n"])
    writer = csv.DictWriter(
        out, list(rows[0]), delimiter=delimiter, lineterminator=ending,
        quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL,
    )  # fmt: skip
    writer.writeheader()
    writer.writerows(written)
    above = random.choice(["", "", "", f"Usage extract{ending}{ending}", f"sep={delimiter}{ending}"])
    marks = random.choice(["", "\ufeff", "\ufeff\ufeff"])
    encoding = random.choice(["utf-8", "utf-8", "utf-16-le", "utf-16-be", "windows-1252"])
    if encoding.startswith("utf-16"):
        marks = "\ufeff"
    elif encoding == "windows-1252":
        marks = ""
    content = (marks + above + out.getvalue() + random.choice(["", "", ending])).encode(encoding)
    key = "a.csv"
    if random.random() < 0.3:
        key = "a.csv.gz"
        half = len(content) // 2
        # A gzip file may have several members.
        content = gzip.compress(content[:half], mtime=0) + gzip.compress(content[half:], mtime=0)
    name = f"{encoding}, {delimiter!r}, decimal comma {comma}, above {above!r}, {len(marks)} marks, {key}"
    return _Made(name, {key: content}, {key: _truth(rows)})


_MONEY_TYPES: tuple[tuple[str, pa.DataType], ...] = (
    ("text", pa.string()), ("large text", pa.large_string()), ("decimal 38,18", pa.decimal128(38, 18)),
    ("decimal 20,6", pa.decimal128(20, 6)), ("double", pa.float64()), ("int64", pa.int64()), ("int32", pa.int32()),
    ("binary", pa.binary()), ("decimal 9,2", pa.decimal128(9, 2)), ("null", pa.null()),
)  # fmt: skip
_TIME_TYPES: tuple[pa.DataType, ...] = (
    pa.string(), pa.timestamp("us"), pa.timestamp("ms"), pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.date32(),
)  # fmt: skip
_TAG_TYPES: tuple[pa.DataType, ...] = (pa.string(), pa.map_(pa.string(), pa.string()), pa.binary())


def _typed(random: Random) -> tuple[str, bytes, Truth]:
    """A Parquet file whose columns have types of its own, and what it holds."""
    said, kind = random.choice(_MONEY_TYPES)
    times, tags = random.choice(_TIME_TYPES), random.choice(_TAG_TYPES)
    rows: list[Row] = []
    for row in _rows(random):
        day = row["ChargePeriodStart"][:10]
        amount = Decimal(random.randint(-(10**6), 10**6)) / random.choice([1, 1] if "int" in said else [1, 100])
        row["BilledCost"] = None if said == "null" else _of_type(kind, amount)
        if kind == pa.decimal128(38, 18):
            row["BilledCost"] = Decimal(f"{random.randint(0, 10**9)}.{random.randrange(10**18):018}")
        for name in [n for n in row if n.endswith(("PeriodStart", "PeriodEnd"))]:
            row[name] = _time_of_type(times, f"{day} 10:00:00" if name.startswith("Charge") else row[name][:10])
        row["Tags"] = [("team", "core")] if pa.types.is_map(tags) else _of_type(tags, '{"team": "core"}')
        rows.append(row)
    types = {"BilledCost": kind, "Tags": tags} | {
        name: times for name in rows[0] if name.endswith(("PeriodStart", "PeriodEnd"))
    }
    options: dict[str, Any] = {
        "compression": random.choice(["none", "snappy", "gzip", "zstd"]),
        "row_group_size": random.choice([1, 2, 1000]),
        "use_dictionary": random.random() < 0.5,
        "data_page_version": random.choice(["1.0", "2.0"]),
    }
    truth = _truth(row | {"BilledCost": _plain(row["BilledCost"])} for row in rows)
    return f"{said}, {times}, {tags}, {options}", _parquet(rows, types, **options), truth


def _of_type(kind: pa.DataType, value: Any) -> Any:
    if pa.types.is_floating(kind):
        return float(value)
    if pa.types.is_integer(kind):
        return int(value)
    if pa.types.is_binary(kind):
        return str(value).encode()
    return value if pa.types.is_decimal(kind) else str(value)


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else "" if value is None else str(value)


def _time_of_type(kind: pa.DataType, text: str) -> Any:
    if pa.types.is_string(kind):
        return f"{text[:10]}T10:00:00Z"
    return pa.scalar(text[:10]).cast(pa.date32()).as_py() if pa.types.is_date32(kind) else _moment(kind, text)


def _moment(kind: pa.DataType, text: str) -> Any:
    return pa.scalar(text.replace("T", " ").rstrip("Z")).cast(pa.timestamp("us")).as_py()


def _types(random: Random) -> _Made:
    name, content, truth = _typed(random)
    return _Made(name, {"a.parquet": content}, {"a.parquet": truth})


def _parts(random: Random) -> _Made:
    """Files of one delivery that do not agree on the types of their columns."""
    files: dict[str, bytes] = {}
    truths: dict[str, Truth | None] = {}
    said = []
    for number in range(random.randint(2, 3)):
        if random.random() < 0.25:
            rows = _rows(random)
            key = f"2026-09/part {number}.csv"
            files[key], truths[key] = _csv(rows), _truth(rows)
            said.append("csv")
            continue
        name, content, truth = _typed(random)
        key = f"2026-09/part [{number}].parquet"
        files[key], truths[key] = content, truth
        said.append(name.partition("{")[0])
    return _Made(" beside ".join(said), files, truths, together=True)


def _damage(random: Random, content: bytes) -> tuple[str, bytes]:
    """A blow or more at random places."""
    said = []
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        at = random.randrange(max(len(content), 1))
        blow = random.choice(["flip", "cut", "insert", "drop", "repeat", "zero", "text", "digit", "digit", "digit"])
        said.append(f"{blow} at {at}")
        match blow:
            case "flip":
                content = (
                    content[:at] + bytes([content[at] ^ (1 << random.randrange(8))]) + content[at + 1 :]
                    if content
                    else b""
                )
            case "cut":
                content = content[:at]
            case "insert":
                content = content[:at] + random.randbytes(random.randint(1, 9)) + content[at:]
            case "drop":
                content = content[:at] + content[at + random.randint(1, 40) :]
            case "repeat":
                content = content[:at] + content[at : at + random.randint(1, 200)] + content[at:]
            case "zero":
                content = content[:at] + bytes(random.randint(1, 16)) + content[at + 16 :]
            case "digit":
                # The first figure from here on is another one.
                content = content[:at] + re.sub(rb"\d", b"%d" % random.randrange(10), content[at:], count=1)
            case "text":
                marks = [
                    b'"',
                    b",",
                    b"\n",
                    b"\r",
                    b"\r\n",
                    b";",
                    b"\xef\xbb\xbf",
                    b"_",
                    b" ",
                    b"NULL",
                    b"-",
                    b"e5",
                    b"\\",
                ]
                content = content[:at] + random.choice(marks) + content[at:]
    return ", ".join(said), content


def _damaged_csv(random: Random) -> _Made:
    name, content = _damage(random, _csv(_rows(random)))
    return _Made(name, {"a.csv": content}, {"a.csv": read_csv(content)}, must_land=False)


def _damaged_gzip(random: Random) -> _Made:
    name, content = _damage(random, gzip.compress(_csv(_rows(random, 4)), mtime=0))
    truth: Truth | None
    try:
        truth = read_csv(gzip.decompress(content))
    except (OSError, EOFError, zlib.error):
        truth = None
    return _Made(name, {"a.csv.gz": content}, {"a.csv.gz": truth}, must_land=False)


def _damaged_parquet(random: Random) -> _Made:
    # With check sums for pages, so that a flipped bit is a fault that can be known.
    rows = _rows(random)
    name, content = _damage(random, _parquet(rows, write_page_checksum=True, store_schema=False))
    return _Made(name, {"a.parquet": content}, {"a.parquet": read_parquet(content)}, must_land=False)


def _spelled(random: Random) -> _Made:
    """Money in spellings of which some are read and some are not, none in silence."""
    spellings = [
        "1_000",
        "1e3",
        "1E-7",
        "+5",
        " 7 ",
        "5.",
        ".5",
        "1,000",
        "inf",
        "nan",
        "0x10",
        "1e400",
        "5 USD",
        "(3)",
    ]
    rows = _rows(random, 2)
    rows[0]["BilledCost"] = random.choice(spellings)
    rows[1]["BillingCurrency"] = random.choice(["eur", "Usd", "EUR "])
    return _Made(
        f"{rows[0]['BilledCost']!r}, {rows[1]['BillingCurrency']!r}", {"a.csv": _csv(rows)}, {"a.csv": _truth(rows)}
    )


_KINDS: tuple[tuple[str, Callable[[Random], _Made]], ...] = (
    ("names", _hostile_names),
    ("columns", _hostile_columns),
    ("dialect", _dialect),
    ("types", _types),
    ("parts", _parts),
    ("damaged csv", _damaged_csv),
    ("damaged gzip", _damaged_gzip),
    ("damaged parquet", _damaged_parquet),
    ("spelled", _spelled),
)
