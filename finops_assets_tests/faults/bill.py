"""A small bill that is restated again and again, and the truth about it, read back from its files without the product.

Two sources of one month each: a CSV and a Parquet file that are written anew as a whole. What a version holds follows
from the seed alone.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FIRST = date(2026, 9, 1)
TEAMS = ("core", "web", "data", "")
UNTAGGED = "__untagged__"
SOURCES = {"one": "bill-2026-09.csv", "two": "bill-2026-09.parquet"}

Key = tuple[date, str, str]
"""UTC charge day, team, billing currency."""
Figure = tuple[int, Decimal, Decimal]
"""Rows, billed cost, effective cost."""
Figures = dict[Key, Figure]


@dataclass(frozen=True)
class Bill:
    """The bill of `days` days from FIRST, about `rows` rows a day and source."""

    seed: int
    days: int = 4
    rows: int = 40

    @property
    def end(self) -> date:
        """The day after the last."""
        return FIRST + timedelta(days=self.days)

    def deliver(self, folder: Path, version: int) -> None:
        """Write both files of a version, each at once: beside its place, then over it."""
        for source, name in SOURCES.items():
            rows = [*self._rows(source, version)]
            target = folder / source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = target.with_name(f".{name}.new")
            if name.endswith(".csv"):
                beside.write_text(csv_text(rows), encoding="utf-8")
            else:
                pq.write_table(pa.Table.from_pylist(rows), beside)
            beside.replace(target)

    def _rows(self, source: str, version: int) -> Iterator[dict[str, str]]:
        for day in range(self.days):
            # Each version restates about half of the days, and always at least one.
            touched = [v for v in range(2, version + 1) if self._restates(source, day, v)]
            revision = touched[-1] if touched else 1
            chance = random.Random(f"{self.seed} {source} {day} {revision}")
            for number in range(self.rows + chance.randrange(self.rows // 4)):
                yield charge(FIRST + timedelta(days=day), source, number, chance)

    def _restates(self, source: str, day: int, version: int) -> bool:
        return day == version % self.days or random.Random(f"{self.seed} {source} {day} of {version}").random() < 0.4


def charge(day: date, source: str, number: int, chance: random.Random) -> dict[str, str]:
    """A conforming FOCUS row of that day."""
    team = chance.choice(TEAMS)
    billed = Decimal(chance.randrange(10**9, 2 * 10**9)) / 10**8
    effective = Decimal(chance.randrange(10**9, 2 * 10**9)) / 10**9
    return {
        "BilledCost": f"{billed:f}",
        "EffectiveCost": f"{effective:f}",
        "ListCost": f"{billed:f}",
        "ContractedCost": f"{billed:f}",
        "BillingCurrency": "EUR" if source == "two" and number % 5 == 0 else "USD",
        "BillingAccountId": f"account-{source}",
        "BillingAccountName": f"Account {source}",
        "BillingPeriodStart": f"{day:%Y-%m}-01T00:00:00Z",
        "BillingPeriodEnd": f"{(day.replace(day=1) + timedelta(days=32)):%Y-%m}-01T00:00:00Z",
        "ChargePeriodStart": f"{day}T10:00:00Z",
        "ChargePeriodEnd": f"{day}T11:00:00Z",
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargeDescription": f"hours of {source} {number}",
        "ChargeFrequency": "Usage-Based",
        "InvoiceIssuerName": "Cloud",
        "ProviderName": "Cloud",
        "PublisherName": "Cloud",
        "PricingQuantity": "1",
        "PricingUnit": "Hours",
        "ResourceId": f"{source}-{number}",
        "ServiceCategory": "Compute",
        "ServiceName": "Machines",
        "Tags": json.dumps({"team": team} if team else {"owner": "nobody"}),
    }


def csv_text(rows: Iterable[Mapping[str, str]]) -> str:
    """Rows as CSV with a header."""
    out, listed = io.StringIO(), [*rows]
    writer = csv.DictWriter(out, [*listed[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return out.getvalue()


def truth_of(folder: Path, sources: Iterable[str] = tuple(SOURCES)) -> Figures:
    """What the delivered files of sources say, by day, team and currency."""
    found: Figures = {}
    for source in sources:
        file = folder / source / SOURCES[source]
        if file.suffix == ".csv":
            with file.open(encoding="utf-8", newline="") as opened:
                rows = [*csv.DictReader(opened)]
        else:
            rows = pq.ParquetFile(file).read().to_pylist()
        add(found, rows)
    return found


def add(figures: Figures, rows: Iterable[Mapping[str, str]]) -> None:
    """Add rows to figures."""
    for row in rows:
        team = json.loads(row["Tags"]).get("team") or UNTAGGED
        key = (date.fromisoformat(row["ChargePeriodStart"][:10]), team, row["BillingCurrency"])
        count, billed, effective = figures.get(key, (0, Decimal(0), Decimal(0)))
        figures[key] = (count + 1, billed + Decimal(row["BilledCost"]), effective + Decimal(row["EffectiveCost"]))


def together(*parts: Figures) -> Figures:
    """The sum of several sources' figures."""
    total: Figures = {}
    for key, figure in (item for part in parts for item in part.items()):
        count, billed, effective = total.get(key, (0, Decimal(0), Decimal(0)))
        total[key] = (count + figure[0], billed + figure[1], effective + figure[2])
    return total


def of_day(figures: Figures, day: date) -> Figures:
    """The figures of one day."""
    return {key: figure for key, figure in figures.items() if key[0] == day}
