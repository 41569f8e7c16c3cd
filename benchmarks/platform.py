"""The platform that is measured: the repository's finops.yaml with one AWS source, below a scratch folder."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from finops_assets.base.period import days_between
from finops_assets.demo import Estate, EstateSpec
from finops_assets.platform import Platform
from finops_assets.settings.load import load_settings
from finops_assets.settings.model import Settings
from finops_assets.settings.sources import Source

PERIOD, FIRST_DAY, END = "2026-10", date(2026, 10, 1), date(2026, 11, 1)
DAYS = days_between(FIRST_DAY, END)
AWS_SHARE = 0.4


def configuration() -> Settings:
    """The repository's own configuration: its dimensions, aliases and engine."""
    return load_settings(Path(__file__).parent.parent / "finops.yaml")


def platform_at(folder: Path, name: str = "ours", extra_alias: str | None = None) -> Platform:
    """A platform with its state in `folder/name` and its export in `folder/estate`; an extra alias changes the rules."""
    settings = configuration()
    dimensions = dict(settings.dimensions)
    if extra_alias is not None:
        department = dimensions["department"]
        dimensions["department"] = department.model_copy(update={"keys": (*department.keys, extra_alias)})
    aws = Source(name="aws", uri=str(folder / "estate" / "aws"), layout="aws-data-exports", provider="AWS")
    return Platform(
        settings.model_copy(
            update={
                "first_day": FIRST_DAY,
                "lake": folder / name / "lake",
                "warehouse": folder / name / "warehouse.duckdb",
                "published": folder / name / "published.duckdb",
                "sources": (aws,),
                "dimensions": dimensions,
            }
        )
    )


def deliver(folder: str, rows: str) -> dict[str, int | str]:
    """Write the export, one billing period of about so many rows; returns its true totals."""
    spec = EstateSpec(FIRST_DAY, DAYS[-1], round(int(rows) / AWS_SHARE))
    with Estate(spec, Path(folder) / "estate") as estate:
        estate.deliver("aws", PERIOD)
        count, billed, effective = estate.totals()["aws"]
    return {"rows": count, "billed": str(billed), "effective": str(effective)}


def export_files(folder: Path) -> list[Path]:
    """The data files of the export."""
    return sorted((folder / "estate" / "aws").rglob("*.parquet"))
