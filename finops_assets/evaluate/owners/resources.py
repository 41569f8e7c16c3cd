"""The resources of the latest days, from the facts: what is known of each, and whose each is where its tags say so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from finops_assets.base.sql import identifier, literal
from finops_assets.cost.attribution.row_rules import RULE
from finops_assets.cost.attribution.rules import Rules
from finops_assets.focus.measures import EFFECTIVE, POSITIVE
from finops_assets.focus.money import DECIMAL
from finops_assets.settings.engine import EngineSettings
from finops_assets.storage.day_files import facts_relation
from finops_assets.storage.duck import connect
from finops_assets.storage.lake import Lake

WINDOW_DAYS = 30
DAYS_AT_ONCE = 2

DESCRIBED = {
    "account": "coalesce(SubAccountId, BillingAccountId)",
    "account_name": "coalesce(SubAccountName, BillingAccountName)",
    "name": "ResourceName",
    "type": "ResourceType",
    "service": "ServiceName",
    "region": "RegionId",
    "sku": "SkuId",
}
"""What describes a resource, and the FOCUS columns that tell it."""


@dataclass(frozen=True)
class Resources:
    """Resources with usage in some days; row i of every part is the same resource.

    `table`: source, ResourceId, the columns of DESCRIBED, tags (canonical JSON or None), first_seen,
    last_seen (UTC days), BillingCurrency and effective_cost (Decimal, positive effective cost in the currency
    with most of it), currencies (how many there are), and a column for each of `dimensions`: its value, None
    where no tag gave it on any day. `daily`: effective cost by resource and day, for its shape only.
    `aliases`: the normalised tag keys that carry each dimension. `ruled`: dimension -> which resources a rule of
    finops.yaml attributes on their last day: nobody is asked about them, and nothing is learned from them, as they
    would only teach the rule.
    """

    table: pd.DataFrame
    daily: npt.NDArray[np.float32]
    days: tuple[date, ...]
    aliases: Mapping[str, frozenset[str]]
    ruled: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def dimensions(self) -> tuple[str, ...]:
        return tuple(self.aliases)

    def __len__(self) -> int:
        return len(self.table)


def read_resources(
    lake: Lake, engine: EngineSettings, rules: Rules, sources: Sequence[str], days: Iterable[date]
) -> Resources | None:
    """The resources with usage on these days (UTC); None where the lake has no facts for any of them.

    A resource is what a source calls by one ResourceId. The newest value of a dimension counts: who moved
    belongs to the new owner. Commitments are no resources here: their unused part bills under their own id.
    """
    wanted = sorted(days)
    files = lake.day_files("facts", sources, wanted)
    if not files:
        return None
    # The newest first: what is greatest by its day is then met first, and the engine keeps every text that it replaces.
    files.reverse()
    with lake.workspace() as workspace, connect(engine, workspace / "spill") as connection:
        return _read(connection, facts_relation(files), rules, tuple(wanted))


def _read(connection: duckdb.DuckDBPyConnection, facts: str, rules: Rules, days: tuple[date, ...]) -> Resources:
    usage = (
        f"{facts} WHERE ResourceId IS NOT NULL AND ChargeCategory = 'Usage'"
        " AND ResourceId IS DISTINCT FROM CommitmentDiscountId"
    )
    # The day before the value makes the greatest text the newest; what is equal to the day is decided by the text.
    newest = {"tags": "CASE WHEN Tags <> '{}' THEN Tags END"} | {d: identifier(d) for d in rules.dimensions}
    by_rule = {d: f"starts_with({identifier(f'{d}_key')}, {literal(RULE)})" for d in _ruled(rules)}
    newest |= {d: f"CASE WHEN {is_ruled} IS NOT TRUE THEN {identifier(d)} END" for d, is_ruled in by_rule.items()}
    ruled = "".join(
        f", max(CASE WHEN {is_ruled} THEN charge_date END) AS {identifier(f'{d}_ruled')}"
        for d, is_ruled in by_rule.items()
    )
    # Three groupings instead of one: all texts of all resources at once would not fit the engine's memory.
    parts = {
        "described": f"""
            SELECT source, ResourceId, {", ".join(f"max({column}) AS {name}" for name, column in DESCRIBED.items())}
            FROM {usage} GROUP BY ALL""",
        "attributed": f"""
            SELECT source, ResourceId, min(charge_date) AS first_seen, max(charge_date) AS last_seen,
                {", ".join(f"max(CAST(charge_date AS VARCHAR) || {c}) AS {identifier(n)}" for n, c in newest.items())}{ruled}
            FROM {usage} GROUP BY ALL""",
        "priced": f"""
            SELECT source, ResourceId, coalesce(BillingCurrency, '') AS BillingCurrency,
                CAST(sum({POSITIVE}) AS {DECIMAL}) AS effective_cost
            FROM {usage} GROUP BY ALL""",
    }
    for name, query in parts.items():
        connection.execute(f"CREATE TEMP TABLE {name} AS {query}")
    connection.execute(
        f"""
        CREATE TEMP TABLE resource AS
        SELECT row_number() OVER (ORDER BY source, ResourceId) - 1 AS resource, d.*,
            {", ".join(f"substr(a.{identifier(n)}, 11) AS {identifier(n)}" for n in newest)},
            {"".join(f"a.{identifier(f'{d}_ruled')} IS NOT DISTINCT FROM a.last_seen AS {identifier(f'{d}_ruled')}, " for d in by_rule)}
            a.first_seen, a.last_seen, p.BillingCurrency, p.effective_cost, p.currencies
        FROM described d JOIN attributed a USING (source, ResourceId) JOIN (
            SELECT source, ResourceId, max_by(BillingCurrency, (effective_cost, BillingCurrency)) AS BillingCurrency,
                max(effective_cost) AS effective_cost, CAST(count(*) AS INTEGER) AS currencies
            FROM priced GROUP BY ALL
        ) p USING (source, ResourceId)
        """
    )
    for name in parts:
        connection.execute(f"DROP TABLE {name}")
    table: pa.Table = connection.sql("SELECT * EXCLUDE (resource) FROM resource ORDER BY resource").to_arrow_table()
    daily = np.zeros((table.num_rows, len(days)), dtype=np.float32)
    position = {day: number for number, day in enumerate(days)}
    for start in range(0, len(days), DAYS_AT_ONCE):
        # A group for each resource and day of a month would not fit the engine's memory in a large estate.
        cost = connection.execute(
            f"""
            SELECT resource, charge_date, CAST(sum(cost) AS FLOAT) AS cost
            FROM (
                SELECT source, ResourceId, charge_date, {EFFECTIVE} AS cost
                FROM {usage} AND charge_date BETWEEN $first AND $last
            ) JOIN resource USING (source, ResourceId) GROUP BY ALL
            """,
            {"first": days[start], "last": days[min(start + DAYS_AT_ONCE, len(days)) - 1]},
        ).fetchnumpy()
        number = pd.Series(cost["charge_date"]).dt.date.map(position) if len(cost["cost"]) else []
        daily[cost["resource"], np.asarray(number, dtype=np.int64)] = cost["cost"]
    aliases = {d: frozenset(rules.aliases[d]) for d in rules.dimensions}
    frame = table.to_pandas()
    are_ruled = {d: frame.pop(f"{d}_ruled").to_numpy(dtype=np.bool_) for d in by_rule}
    return Resources(frame, daily, days, aliases, are_ruled)


def _ruled(rules: Rules) -> list[str]:
    """The dimensions that rules of finops.yaml may give."""
    return [d for d in rules.dimensions if any(d in rule.sets for rule in rules.row_rules)]
