"""daily_cost_converted: the rollup in the reporting currency. Built in the rollup's own step, as docs/guides/gates.md tells."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import date

import dagster as dg
import pandas as pd

from finops_assets.cost.currency.conversion import CONVERTED_COST, DayRates, convert_days
from finops_assets.cost.currency.rates import MAX_AGE_DAYS
from finops_assets.cost.rollup import rollup_totals
from finops_assets.graph.assets.describe import shown
from finops_assets.graph.keys import CONVERTED
from finops_assets.judge.gates import currency as gates
from finops_assets.judge.gates.verdict import Verdict
from finops_assets.platform import Platform
from finops_assets.settings.currency import Currency
from finops_assets.settings.model import Settings


def code_version(currency: Currency) -> str:
    """What decides the figures besides the rollup and the rates, which are data."""
    return f"{currency.reporting} per {currency.per}"


def converted_spec(
    settings: Settings, currency: Currency, rollup: dg.AssetKey, days: dg.PartitionsDefinition[str]
) -> dg.AssetSpec:
    """The asset, where a reporting currency is configured."""
    newest = "the newest up to the day" if currency.per == "day" else "the newest before its month began"
    return dg.AssetSpec(
        CONVERTED,
        deps=[rollup],
        skippable=True,
        partitions_def=days,
        group_name="rollup",
        owners=[settings.owner],
        kinds={"duckdb"},
        code_version=code_version(currency),
        description=(
            f"The rollup in {currency.reporting}, with the original amounts and, on every row, the rate ({newest}, at"
            f" most {MAX_AGE_DAYS} days older), its date and its source. A day without a rate is held here only."
        ),
        metadata={"dagster/table_name": CONVERTED_COST, "rates": str(currency.rates), "per": currency.per},
    )


def converted_check_specs(days: dg.PartitionsDefinition[str]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(gate, asset=CONVERTED, description=text, blocking=True, partitions_def=days)
        for gate, text in gates.GATES.items()
    ]


def materialize_converted(
    context: dg.AssetExecutionContext, platform: Platform, currency: Currency, days: Iterable[date], build: bool
) -> list[Verdict]:
    """Convert the days that have their rates and return the verdicts on all; without `build` only judge them."""
    rates = gates.rates_of(platform, currency, sorted(days))
    whole = {day: found for day, found in rates.items() if not found.missing}
    if build and whole:
        convert_days(platform.warehouse, currency, whole, platform.rules.dimensions)
        totals = rollup_totals(platform.warehouse, whole)
        for day, found in whole.items():
            context.log_event(
                dg.AssetMaterialization(
                    CONVERTED,
                    partition=day.isoformat(),
                    metadata={"rates": _rates_table(found)},
                    tags={
                        "dagster/code_version": code_version(currency),
                        "dagster/data_version": _version(currency, totals.get(day, {}), found),
                    },
                )
            )
    return [*gates.judge_rates(currency, rates), *gates.judge_converted(platform, whole)]


def _version(currency: Currency, totals: Mapping[str, object], found: DayRates) -> str:
    """A hash of what the day's figures follow from: the rollup's totals and the rates."""
    rates = sorted((o, c.exact, c.day, c.source) for o, c in found.conversions.items())
    return hashlib.sha256(repr((currency.reporting, sorted(totals.items()), rates)).encode()).hexdigest()[:16]


def _rates_table(found: DayRates) -> dg.MarkdownMetadataValue:
    rows = [(o, c.exact, c.day, c.source) for o, c in sorted(found.conversions.items())]
    return shown(pd.DataFrame(rows, columns=["currency", "rate_exact", "published", "source"]))
