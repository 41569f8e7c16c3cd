"""Exports whose manifest is wrong or points elsewhere, made from a seed and a number."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from finops_assets_tests.faults.bill import FIRST, charge, csv_text

OUTSIDE = "outside-of-the-source"
"""The account of the rows that lie beside the source's place, and must never come in."""


def outside(folder: Path) -> tuple[Path, Path]:
    """A CSV and a Parquet file beside the source's place, which manifests point at."""
    rows = [charge(FIRST, "one", n, random.Random(n)) | {"BillingAccountId": OUTSIDE} for n in range(5)]
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


def _flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content or b" ")
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)
