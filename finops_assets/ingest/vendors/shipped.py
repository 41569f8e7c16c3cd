"""The mappings of the vendors' costs, which lie beside their modules."""

from __future__ import annotations

from pathlib import Path

from finops_assets.settings.fetch import Vendor
from finops_assets.settings.sources import Source

PERIOD = r"(?P<year>\d{4})-(?P<month>\d{2})\.csv$"
"""How the files of fetched months are called."""


def shipped_mapping(vendor: Vendor) -> Path:
    """The mapping of a vendor's costs, in the form of a user's own."""
    return Path(__file__).with_name(f"{vendor}.toml")


def mapping_file(source: Source) -> Path | None:
    """Where the mapping of a source's files is: its user's, or that of the vendor whose costs are fetched."""
    return shipped_mapping(source.fetch.vendor) if source.fetch else source.mapping
