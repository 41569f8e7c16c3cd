"""The demonstration: a synthetic three-cloud estate with two bad days, a resource that runs away and waste, through the whole graph."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from finops_assets.demo import Estate, EstateSpec, Incident
from finops_assets.demo.waste import PLANTED

FIRST_DAY, LAST_DAY = date(2026, 8, 1), date(2026, 10, 31)
ROWS = 60_000
DAYS = 62

INCIDENTS = (
    Incident("azure", date(2026, 10, 14), "untagged"),
    Incident("gcp", date(2026, 10, 31), "incomplete"),
    *(Incident("aws", date(2026, 10, day), "surge") for day in (27, 28, 29)),
)


def demo_days() -> tuple[date, date]:
    """The days that the demonstration materialises: the estate's last 62; the end is exclusive."""
    return LAST_DAY - timedelta(days=DAYS - 1), LAST_DAY + timedelta(days=1)


def demo_estate(root: Path) -> Estate:
    """The estate below `root`, not yet written."""
    return Estate(EstateSpec(FIRST_DAY, LAST_DAY, ROWS, incidents=INCIDENTS, waste=True), root)


def write_estate(root: Path) -> bool:
    """Write the estate unless it stands there already; says whether it was written."""
    marker = root / ".complete"
    wanted = f"{FIRST_DAY} {LAST_DAY} {ROWS} {INCIDENTS} {PLANTED}"
    if marker.is_file() and marker.read_text(encoding="utf-8") == wanted:
        return False
    with demo_estate(root) as estate:
        estate.deliver_all()
    marker.write_text(wanted, encoding="utf-8")
    return True
