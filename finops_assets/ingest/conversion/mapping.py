"""The mappings as data: one TOML file a dialect in `mappings/`, read and checked here.

A file holds

    title, authority   what it converts, and where the rules come from
    layout             the source layout whose files it converts; a dialect of FOCUS has none
    needs              source columns without which the files are not of this layout; `A|B` is either
    any, absent        a dialect of FOCUS: it is spoken where one of `any` is there and none of `absent`
    [named]            SQL to be used below as {@name}
    [columns.<Name>]   a FOCUS column: sql, kind (filled, derived or impossible), note
    [exceptions]       rules of FOCUS (`finops conformance`) that a converted bill may break, and why
    [kept]             x_ columns: originals under one name, however the source spells them

In SQL `{lineItem/UnblendedCost}` is a source column as text, found whatever its case and separators:
`line_item_unblended_cost` is the same column, and so is a field of a struct or a key of a map. `{A|B}` is the first of
the two that has a value. A column that the files lack is NULL, so that `coalesce` goes on to the next
alternative. An expression that is one column alone keeps that column's type.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from finops_assets.base.sql import literal
from finops_assets.focus.specification import columns
from finops_assets.ingest.vendors.shipped import mapping_file
from finops_assets.settings.own_mapping import read_mapping
from finops_assets.settings.sources import Layout, Source

Kind = Literal["filled", "derived", "impossible"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class FocusColumn:
    """How one FOCUS column comes about. `kind`: taken over, computed, or not to be had from this bill."""

    name: str
    kind: Kind
    sql: str | None
    note: str = ""


@dataclass(frozen=True)
class Dialect:
    """One mapping file."""

    name: str
    title: str
    authority: str
    columns: Mapping[str, FocusColumn]
    layout: Layout | None = None
    needs: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    exceptions: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    @property
    def impossible(self) -> tuple[str, ...]:
        """The FOCUS columns that are not to be had from this bill."""
        return tuple(column.name for column in self.columns.values() if column.kind == "impossible")

    @property
    def native(self) -> bool:
        """A provider's own bill; else a dialect of FOCUS, whose other columns pass as they are."""
        return self.layout is not None


@cache
def dialects() -> dict[str, Dialect]:
    """Every mapping by its name.

    Raises:
        ValueError: a mapping file is not as the module's text says.
    """
    folder = files("finops_assets.ingest.conversion") / "mappings"
    found = {}
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            name = file.name.removesuffix(".toml")
            found[name] = _dialect(name, tomllib.loads(file.read_text(encoding="utf-8")))
    return found


def native_layouts() -> dict[str, Dialect]:
    """Layout -> the mapping of its files."""
    return {dialect.layout: dialect for dialect in dialects().values() if dialect.layout}


# What a bill of another vendor hardly ever says, and FOCUS asks for; SQL over what its mapping gives.
_USUAL = {
    "ChargePeriodEnd": ("later({@ChargePeriodStart}, INTERVAL 1 DAY)", "a day"),
    "BillingPeriodStart": ("month_start({@ChargePeriodStart})", "the month of the charge"),
    "BillingPeriodEnd": ("later(month_start({@ChargePeriodStart}), INTERVAL 1 MONTH)", "the month of the charge"),
    "EffectiveCost": ("{@BilledCost}", "as BilledCost"),
    "ListCost": ("{@BilledCost}", "as BilledCost"),
    "ContractedCost": ("{@BilledCost}", "as BilledCost"),
    "ChargeCategory": ("'Usage'", ""),
    "ChargeFrequency": ("'Usage-Based'", ""),
    "ServiceCategory": ("'Other'", ""),
}


_EVERY_VERSION = {
    "CAU-Columns-PREFIX": "a mapping gives the columns of every version of FOCUS, ProviderName among them"
}


def mapping_of(source: Source) -> Dialect | None:
    """The mapping of a source that is no FOCUS: of its layout, or the one that its user wrote."""
    file = mapping_file(source)
    return native_layouts().get(source.layout) if file is None else own_dialect(source, file)


def own_dialect(source: Source, file: Path) -> Dialect:
    """A user's mapping, with what nobody needs to write: names of the vendor, a day's end, the month, cost as billed.

    Raises:
        ValueError: see `read_mapping`.
    """
    own = read_mapping(file)
    vendor = literal(source.provider or own.title)
    usual = {
        **_USUAL,
        **dict.fromkeys(
            ("ProviderName", "PublisherName", "InvoiceIssuerName", "BillingAccountId", "ServiceName"),
            (vendor, "the vendor"),
        ),
    }
    given = {name: FocusColumn(name, "derived", sql) for name, sql in own.columns.items() if name in columns()}
    filled = {name: FocusColumn(name, "derived", sql, note) for name, (sql, note) in usual.items()}
    rest = {name: FocusColumn(name, "impossible", None, "not in the mapping") for name in columns()}
    return Dialect(
        name=file.name,
        title=own.title,
        authority=f"{file.name}, of this project",
        columns={**rest, **filled, **given},
        layout=source.layout,
        needs=own.needs,
        named={**{name: own.columns[name] for name in ("ChargePeriodStart", "BilledCost")}, **own.named},
        kept={name: sql for name, sql in own.columns.items() if name not in columns()},
        without=own.left_out,
        exceptions={**_EVERY_VERSION, **own.exceptions},
    )


def _dialect(name: str, body: dict[str, Any]) -> Dialect:
    mapped = {}
    for column, entry in body.pop("columns").items():
        if column not in columns():
            raise ValueError(f"mapping {name}: {column} is no FOCUS column")
        kind, sql = entry.get("kind", "derived"), entry.get("sql")
        if kind not in KINDS or (kind == "impossible") != (sql is None):
            raise ValueError(f"mapping {name}, {column}: kind {kind!r} with sql {sql!r}")
        mapped[column] = FocusColumn(column, kind, sql, entry.get("note", ""))
    needs, spoken, absent = (tuple(body.pop(key, ())) for key in ("needs", "any", "absent"))
    return Dialect(name=name, columns=mapped, needs=needs, any=spoken, absent=absent, **body)


@cache
def service_macros() -> tuple[str, ...]:
    """SQL macros `<provider>_category(x)` and `<provider>_subcategory(x)` from services.csv; NULL for a stranger."""
    with (files("finops_assets.ingest.conversion") / "services.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    macros = []
    for provider in sorted({row["provider"] for row in rows}):
        for what, column in (("category", "ServiceCategory"), ("subcategory", "ServiceSubcategory")):
            whens = " ".join(
                f"WHEN {literal(row['service'].casefold())} THEN {literal(row[column])}"
                for row in rows
                if row["provider"] == provider
            )
            macros.append(f"CREATE OR REPLACE TEMP MACRO {provider}_{what}(x) AS CASE lower(x) {whens} END")
    return tuple(macros)
