"""Metadata that a person wants to see beside an asset."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import dagster as dg

from finops_assets.attribution.rules import Rules
from finops_assets.focus.specification import columns
from finops_assets.gates.verdict import money
from finops_assets.ledger import Generation
from finops_assets.sources.reading import SOURCE_FILE, SOURCE_ROW
from finops_assets.tables import Table

FILES_SHOWN = 20


def cost_by_currency(costs: Mapping[str, Decimal]) -> str:
    """Exact amounts, one currency after the other; never a sum."""
    return ", ".join(f"{money(v)} {c}" for c, v in sorted(costs.items())) or "none"


def file_list(generations: Iterable[Generation]) -> dg.MarkdownMetadataValue:
    """The deliveries and files that a day was read from."""
    lines = ["| scope | generation | file | bytes |", "|---|---|---|---|"]
    files = [(g.scope, g.generation, name, size) for g in generations for name, size, _ in g.files]
    lines += [f"| {scope} | {gen} | {name} | {size:,} |" for scope, gen, name, size in files[:FILES_SHOWN]]
    if len(files) > FILES_SHOWN:
        lines.append(f"| | | and {len(files) - FILES_SHOWN} more | |")
    return dg.MetadataValue.md("\n".join(lines))


def repair_counts(generations: Iterable[Generation]) -> str:
    """What was repaired in whole deliveries: rows by rule and column."""
    total: dict[str, int] = {}
    for generation in generations:
        for name, rows in generation.repairs.items():
            total[name] = total.get(name, 0) + rows
    return ", ".join(f"{name}: {rows:,}" for name, rows in sorted(total.items())) or "none"


def schema_of(table: Table) -> dg.TableSchema:
    """A declared table as Dagster shows it."""
    return dg.TableSchema(columns=[dg.TableColumn(c.name, c.kind, description=c.comment) for c in table.columns])


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


def rollup_lineage(facts: dg.AssetKey) -> dg.TableColumnLineage:
    """Which facts columns each rollup column comes from."""
    sources = {
        "charge_date": ["charge_date"],
        "provider": ["ProviderName", "ServiceProviderName", "HostProviderName", "InvoiceIssuerName", "source"],
        "department": ["department"],
        "team": ["team"],
        "environment": ["environment"],
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
    width, row, label = 640, 22, 230
    longest = max((abs(v) for _, v in bars), default=0) or 1.0
    shapes = []
    for i, (name, value) in enumerate(bars):
        y = 34 + i * row
        length = (width - label - 110) * abs(value) / longest
        shapes.append(
            f'<text x="{label - 8}" y="{y + 13}" text-anchor="end">{_escape(name[:36])}</text>'
            f'<rect x="{label}" y="{y + 2}" width="{length:.1f}" height="{row - 8}" rx="2" fill="#4f6bed"/>'
            f'<text x="{label + length + 6:.1f}" y="{y + 13}">{value:,.0f} {_escape(unit)}</text>'
        )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{44 + row * len(bars)}"'
        f' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="8" y="20" font-weight="bold">{_escape(title)}</text>{"".join(shapes)}</svg>'
    )
    return dg.MetadataValue.md(f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
