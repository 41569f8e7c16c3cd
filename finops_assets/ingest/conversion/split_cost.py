"""AWS split cost allocation in a Cost and Usage Report: what a container used of its instance, taken off the instance.

Source of the rules: AWS, "Understanding split cost allocation data" and the dictionary of split line items. Beside an
instance's rows the report has rows of the pods and tasks on it, which cost nothing themselves: SplitCost is what they
used, UnusedCost their part of what nobody used, of the amortised cost of the instance in that hour. Here they get that,
with their own tags, and the instance's rows lose exactly as much: the sum of every cost column is the report's. Of what
was billed, of list and contracted cost goes the same part as of the effective cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from finops_assets.focus.money import DECIMAL, decimal_from_text
from finops_assets.ingest.conversion.source_columns import SourceColumns
from finops_assets.ingest.reading.relation import SOURCE_FILE, SOURCE_ROW, ExportTable, Note

PARENT = "splitLineItem/ParentResourceId"
COSTS = ("EffectiveCost", "BilledCost", "ListCost", "ContractedCost")
# The rows of an instance that are its hours; traffic and credits have its id, too, and are not split.
_INSTANCE_HOURS = "(Box|Spot|Dedicated|HostBox|Host|Heavy|Medium|Light)Usage"
# AWS rounds the parts; what they may come to beyond the whole.
_BEYOND = "0.01"


@dataclass(frozen=True)
class Split:
    """The cost columns of a report with split costs, the table that they need beside its rows, and what is said."""

    join: str
    columns: Mapping[str, str]
    notes: tuple[Note, ...]


def split_costs(
    connection: duckdb.DuckDBPyConnection, export: ExportTable, source: SourceColumns, select: Mapping[str, str]
) -> Split | None:
    """`select`: SQL of the FOCUS columns without the split. None where the report has none."""
    if not source.has(PARENT):
        return None
    parent = source.text(PARENT)
    [(pods,)] = connection.execute(f"SELECT count({parent}) FROM ({export.sql}) e").fetchall()
    if not pods:
        return None
    connection.execute(f"CREATE OR REPLACE TEMP TABLE split_costs AS {_moved(export, source, select, parent)}")
    columns = {
        name: f"CASE WHEN s.file IS NULL THEN {select[name]}"
        f" ELSE plus(CASE WHEN s.contained THEN coalesce({select[name]}, '0') ELSE {select[name]} END, s.{name}) END"
        for name in COSTS
    }
    notes = (
        Note("split_cost_taken_off", "EffectiveCost", "CASE WHEN NOT s.contained THEN s.EffectiveCost END"),
        Note("split_cost_without_instance", "EffectiveCost", "CASE WHEN s.contained THEN s.left_out END"),
    )
    join = f" LEFT JOIN split_costs s ON s.file = e.{SOURCE_FILE} AND s.row = e.{SOURCE_ROW}"
    return Split(join, columns, notes)


def _moved(export: ExportTable, source: SourceColumns, select: Mapping[str, str], parent: str) -> str:
    """SQL: of every container's row what it gets, of every instance's row what it loses, as text by cost column.

    Columns: file, row, contained (is it a container's?), a column a cost, left_out (what a container's row could not
    get, as no row of its instance has that hour, or less cost than its parts come to).
    """
    hour, currency = source.text("lineItem/UsageStartDate"), source.text("lineItem/CurrencyCode")
    net = [source.text(f"splitLineItem/Net{part}Cost") for part in ("Split", "Unused")]
    gross = [source.text(f"splitLineItem/{part}Cost") for part in ("Split", "Unused")]
    used, unused = (decimal_from_text(f"coalesce({n}, {g})") for n, g in zip(net, gross))
    others = COSTS[1:]
    costs = ", ".join(f"coalesce({decimal_from_text(select[name])}, 0) AS {name}" for name in COSTS)
    key = "instance, hour, currency"
    sums = ", ".join(f"sum({name}) AS {name}" for name in COSTS)

    def part(name: str) -> str:
        return f"amounts_scaled(CAST(i.{name} AS VARCHAR), CAST(c.amount AS VARCHAR), CAST(i.EffectiveCost AS VARCHAR))"

    gets = ", ".join(f"CAST(CASE WHEN fits THEN {part(name)} ELSE '0' END AS {DECIMAL}) AS {name}" for name in others)

    # Of several rows of an instance each loses its part; the first takes what rounding leaves.
    def loses(name: str) -> str:
        share = (
            f"CASE WHEN i.{name} = 0 OR nth > 1 AND r.{name} = 0 THEN 0 ELSE CAST(amounts_scaled("
            f"CAST(g.{name} AS VARCHAR), CAST(r.{name} AS VARCHAR), CAST(i.{name} AS VARCHAR)) AS {DECIMAL}) END"
        )
        return f"{share} AS {name}"

    lost = ", ".join(
        f"CAST(-CASE WHEN nth = 1 THEN total_{name} - (sum({name}) OVER (PARTITION BY {key}) - {name})"
        f" ELSE {name} END AS VARCHAR) AS {name}"
        for name in COSTS
    )
    return f"""
        WITH rows AS (
            SELECT e.{SOURCE_FILE} AS file, e.{SOURCE_ROW} AS row, {hour} AS hour, {currency} AS currency,
                {parent} IS NOT NULL AS contained,
                coalesce({parent}, {source.text("lineItem/ResourceId")}) AS instance,
                {source.text("lineItem/UsageType")} AS usage_type,
                coalesce({used}, 0) + coalesce({unused}, 0) AS amount, {costs}
            FROM ({export.sql}) e
        ),
        pods AS (SELECT * FROM rows WHERE contained),
        instance_rows AS (
            SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY file, row) AS nth FROM rows
            WHERE NOT contained AND regexp_matches(usage_type, '{_INSTANCE_HOURS}')
                AND instance IN (SELECT instance FROM pods)
        ),
        wholes AS (SELECT {key}, {sums} FROM instance_rows GROUP BY {key}),
        parts AS (SELECT {key}, sum(amount) AS amount FROM pods GROUP BY {key}),
        fitting AS (
            SELECT w.*, w.EffectiveCost > 0 AND p.amount <= w.EffectiveCost + {_BEYOND} AS fits
            FROM wholes w JOIN parts p USING ({key})
        ),
        given AS (
            SELECT c.file, c.row, c.instance, c.hour, c.currency, coalesce(fits, false) AS fits, c.amount,
                CAST(CASE WHEN fits THEN c.amount ELSE 0 END AS {DECIMAL}) AS EffectiveCost, {gets}
            FROM pods c LEFT JOIN fitting i USING ({key})
        ),
        gone AS (SELECT {key}, {sums} FROM given WHERE fits GROUP BY {key}),
        shares AS (
            SELECT r.file, r.row, r.nth, r.instance, r.hour, r.currency, {", ".join(map(loses, COSTS))},
                {", ".join(f"g.{name} AS total_{name}" for name in COSTS)}
            FROM instance_rows r JOIN gone g USING ({key}) JOIN wholes i USING ({key})
        )
        SELECT file, row, true AS contained, {", ".join(f"CAST({name} AS VARCHAR) AS {name}" for name in COSTS)},
            CASE WHEN NOT fits AND amount <> 0 THEN CAST(amount AS VARCHAR) END AS left_out
        FROM given
        UNION ALL SELECT file, row, false, {lost}, NULL FROM shares
    """
