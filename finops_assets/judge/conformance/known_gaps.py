"""What providers are known to leave out: known_gaps.toml, what a native bill cannot give, and known_gaps of finops.yaml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from finops_assets.base.sql import literal
from finops_assets.focus.participants import company
from finops_assets.ingest.conversion.mapping import native_layouts, own_dialect
from finops_assets.ingest.vendors.shipped import mapping_file
from finops_assets.settings.sources import Source


@dataclass(frozen=True)
class KnownGap:
    """A provider leaves these columns out. A gap is of sources of its `layouts`, and of rows of its `providers`."""

    columns: tuple[str, ...]
    source: str
    """Where it is known from."""
    layouts: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    when: str = ""


@cache
def known_gaps() -> tuple[KnownGap, ...]:
    """The gaps that ship with the product."""
    text = (files("finops_assets.judge.conformance") / "known_gaps.toml").read_text(encoding="utf-8")
    shipped = [
        KnownGap(
            tuple(entry["columns"]),
            entry["source"],
            tuple(entry.get("layouts", ())),
            tuple(entry.get("providers", ())),
            tuple(entry.get("versions", ())),
            entry.get("when", ""),
        )
        for entry in tomllib.loads(text)["gap"]
    ]
    return (
        *shipped,
        *(KnownGap(d.impossible, f"mapping of {layout}", (layout,)) for layout, d in native_layouts().items()),
    )


def gap_condition(source: Source, column: str, versions: Iterable[str]) -> str:
    """SQL over a source's canonical rows: is it known that this column is not given on this row?"""
    if column in source.known_gaps:
        return "true"
    conditions = []
    for gap in known_gaps():
        if column not in gap.columns or (gap.versions and not {*gap.versions} & {*versions}):
            continue
        whose = "true" if source.layout in gap.layouts else ""
        if not whose and gap.providers:
            names = ", ".join(literal(name) for name in gap.providers)
            whose = f"{company('coalesce(ProviderName, ServiceProviderName, HostProviderName)')} IN ({names})"
        if whose:
            conditions.append(f"({whose}{f' AND ({gap.when})' if gap.when else ''})")
    if column in _not_mapped(source):
        return "true"
    return f"coalesce({' OR '.join(conditions)}, false)" if conditions else "false"


def absent_columns(source: Source, versions: Iterable[str]) -> set[str]:
    """The columns that a source of this kind is known to leave out as a whole."""
    given = {*versions}
    return {*source.known_gaps, *_not_mapped(source)} | {
        column
        for gap in known_gaps()
        if source.layout in gap.layouts and not gap.when and (not gap.versions or {*gap.versions} & given)
        for column in gap.columns
    }


def _not_mapped(source: Source) -> tuple[str, ...]:
    """What a mapping that is the source's own gives no value for."""
    file = mapping_file(source)
    return own_dialect(source, file).impossible if file else ()
