"""Metadata that a person wants to see beside an asset."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import dagster as dg
import numpy as np
import pandas as pd

from finops_assets.base.text import markdown, money, one_line
from finops_assets.cost.attribution.rules import Rules
from finops_assets.evaluate.page.charts import picture_of_bars
from finops_assets.focus.specification import columns
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW
from finops_assets.storage.ledger import Generation
from finops_assets.tables.declarations import COUNT, MONEY, NUMBER, Table, column, grouped

FILES_SHOWN, ROWS_SHOWN = 20, 30


def cost_by_currency(costs: Mapping[str, Decimal]) -> str:
    """Exact amounts, one currency after the other, the largest first; never a sum."""
    return (
        ", ".join(f"{money(v)} {c}" for c, v in sorted(costs.items(), key=lambda item: (-item[1], item[0]))) or "none"
    )


def cost_figures(effective: Mapping[str, Decimal]) -> dict[str, float]:
    """Effective cost as a number by currency: the UI plots numbers of metadata over the days."""
    return {f"effective cost, {currency}": float(amount) for currency, amount in sorted(effective.items())}


def shown(rows: pd.DataFrame, most: int = ROWS_SHOWN) -> dg.MarkdownMetadataValue:
    """A table for the UI: of each currency as many rows, its first ones; text as it is written; amounts and shares with two
    digits. What is left out is told beneath."""
    part = rows
    if len(rows) > most:
        currency = next((name for name in ("currency", "BillingCurrency") if name in rows.columns), None)
        several = rows[currency].nunique() if currency else 1
        part = rows.groupby(currency, sort=False).head(max(1, most // several)) if several > 1 else rows.head(most)
    names = [str(name) for name in rows.columns]
    right = [
        pd.api.types.is_numeric_dtype(rows[n]) or column(str(n)).kind in (MONEY, NUMBER, COUNT) for n in rows.columns
    ]
    lines = [
        f"| {' | '.join(markdown(name) for name in names)} |",
        f"|{'|'.join('---:' if number else '---' for number in right)}|",
        *(f"| {' | '.join(map(_shown, row))} |" for row in part.itertuples(index=False, name=None)),
    ]
    if len(part) < len(rows):
        lines += ["", f"and {len(rows) - len(part):,} more of {len(rows):,} rows"]
    return dg.MetadataValue.md("\n".join(lines))


def _shown(value: object) -> str:
    match value:
        case bool() | np.bool_():
            return "yes" if value else "no"
        case None:
            return ""
        case Decimal() | float():
            return "" if value != value else f"{value:,.2f}"
        case int() | np.integer():
            return f"{value:,}"
        case datetime():
            return "" if pd.isna(value) else f"{value:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
        case _:
            return "" if value is pd.NaT or value is pd.NA else markdown(str(value))


def file_list(generations: Iterable[Generation]) -> dg.MarkdownMetadataValue:
    """The deliveries and files that a day was read from."""
    files = [(g.scope, g.generation, name, size) for g in generations for name, size, _ in g.files]
    return shown(pd.DataFrame(files, columns=["scope", "generation", "file", "bytes"]), FILES_SHOWN)


def repair_counts(generations: Iterable[Generation]) -> str:
    """What was repaired in whole deliveries: rows by rule and column."""
    total: dict[str, int] = {}
    for generation in generations:
        for name, rows in generation.repairs.items():
            total[name] = total.get(name, 0) + rows
    return ", ".join(f"{name}: {rows:,}" for name, rows in sorted(total.items())) or "none"


def schema_of(table: Table) -> dg.TableSchema:
    """A declared table as Dagster shows it."""
    return dg.TableSchema(
        columns=[dg.TableColumn(c.name, c.kind, description=markdown(c.comment, 400)) for c in table.columns]
    )


def facts_lineage(rules: Rules, sources: Sequence[dg.AssetKey]) -> dg.TableColumnLineage:
    """Which raw columns each facts column comes from."""

    def of(*names: str) -> list[dg.TableColumnDep]:
        return [dg.TableColumnDep(asset_key=key, column_name=name) for key in sources for name in names]

    same = [*columns(), "tag_set_id", SOURCE_FILE, SOURCE_ROW]
    deps = {name: of(name) for name in same}
    deps["charge_date"] = of("ChargePeriodStart")
    read: dict[str, dict[str, None]] = {d: dict.fromkeys(("AllocatedTags", "Tags")) for d in rules.dimensions}
    for rule in rules.row_rules:
        for dimension in rule.sets:
            read[dimension] |= dict.fromkeys(rule.columns)
    for owner in rules.owners:
        for dimension in owner.gives:
            read[dimension]["ResourceId"] = None
    for dimension in rules.dimensions:
        deps[dimension] = deps[f"{dimension}_key"] = of(*read[dimension])
    return dg.TableColumnLineage(deps_by_column=deps)


def rollup_lineage(facts: dg.AssetKey, dimensions: Iterable[str]) -> dg.TableColumnLineage:
    """Which facts columns each rollup column comes from."""
    sources = {
        "charge_date": ["charge_date"],
        "provider": ["ProviderName", "ServiceProviderName", "HostProviderName", "InvoiceIssuerName", "source"],
        **{d: [d] for d in grouped(dimensions)},
        "ServiceCategory": ["ServiceCategory"],
        "BillingCurrency": ["BillingCurrency"],
        "billed_cost": ["BilledCost"],
        "effective_cost": ["EffectiveCost", "BilledCost"],
        "positive_effective_cost": ["EffectiveCost", "BilledCost"],
        "list_cost": ["ListCost", "ChargeCategory", "BilledCost", "EffectiveCost"],
        "contracted_cost": ["ContractedCost", "ChargeCategory", "BilledCost", "EffectiveCost"],
        "resource_count": ["ResourceId"],
        "row_count": ["source_row"],
        "untagged_rows": ["department", "team"],
        "committed_rows": ["CommitmentDiscountId"],
    }
    return dg.TableColumnLineage(
        deps_by_column={
            name: [dg.TableColumnDep(asset_key=facts, column_name=c) for c in deps] for name, deps in sources.items()
        }
    )


def bar_chart(title: str, bars: Sequence[tuple[str, float]], unit: str) -> dg.MarkdownMetadataValue:
    """A small picture: one bar per label, longest first as given, as an image that needs no other file."""
    drawn = [(one_line(name, 36), value, f"{value:,.0f} {one_line(unit, 36)}") for name, value in bars]
    image = base64.b64encode(picture_of_bars(title, drawn).encode()).decode()
    return dg.MetadataValue.md(f"![{markdown(title)}](data:image/svg+xml;base64,{image})")
