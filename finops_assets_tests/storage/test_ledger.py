"""The ledger's records keep their form: what an earlier version wrote is read, and written again, byte for byte."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from finops_assets.storage.lake import Lake
from finops_assets.storage.ledger import DayTotals, Generation, Ledger
from finops_assets.storage.repair import Repair

SCOPE = "BILLING_PERIOD=2026-10"
RECORD = Path(__file__).parent / "data" / "scope_record.json"
"""As versions before pydantic wrote it."""

LEAST = Generation(SCOPE, "2026-11-01T03-00", "superseded", datetime(2026, 11, 1, tzinfo=UTC))
FULL = Generation(
    scope=SCOPE,
    generation="2026-11-02T03-00",
    state="refused",
    seen_at=datetime(2026, 11, 2, 8, 30, tzinfo=UTC),
    delivered_at=datetime(2026, 11, 2, 5, 0, 0, 250, tzinfo=timezone(timedelta(hours=2))),
    manifest="2026-10/manifest.json",
    # A name whose bytes are no UTF-8.
    files=(("2026-10/a.csv", 12, "e1"), ("2026-10/ü\udcff.csv", 0, "")),
    reason="fewer rows",
    rows=3,
    focus_version="1.2",
    columns=("BilledCost", "x_Note"),
    repairs={"rounded BilledCost": 2},
    sectors=(("2026-10-01T00:00:00+00:00", "2026-10-02T00:00:00+00:00", True),),
    days={
        date(2026, 10, 2): DayTotals(
            2, {"EUR": Decimal("1E+3")}, {"EUR": Decimal("-0.10"), "USD": Decimal("0E-18")}, "f2"
        ),
        date(2026, 10, 1): DayTotals(1, {}, {}, "f1"),
    },
    changed=(date(2026, 10, 2),),
    verified=False,
    repaired=(
        Repair("2026-10/a.csv", "rounded", "BilledCost", 2, "0.1", 7, Decimal("1E-19")),
        Repair("", "byte order mark", "", 1),
    ),
    form=12,
    periods=((date(2026, 10, 1), date(2026, 11, 1)),),
    month_long=True,
    beside={"BILLING_PERIOD=2026-10-copy": "g abc"},
    empty=True,
)


def test_a_record_is_written_as_ever(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for generation in (LEAST, FULL):
        Ledger(lake, "aws").enter(generation)
    assert lake.record("aws", "scopes", SCOPE).read_bytes() == RECORD.read_bytes()


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    record = lake.record("aws", "scopes", SCOPE)
    record.parent.mkdir(parents=True)
    record.write_bytes(RECORD.read_bytes())
    found = Ledger(lake, "aws").generations(SCOPE)
    assert found == [LEAST, FULL]
    assert str(found[1].days[date(2026, 10, 2)].effective["EUR"]) == "-0.10"


def test_an_entry_of_a_version_that_knew_less_is_read() -> None:
    later = ("verified", "repaired", "form", "periods", "month_long", "beside", "empty")
    body = {name: value for name, value in LEAST.as_json().items() if name not in later}
    assert Generation.from_json(body) == LEAST
