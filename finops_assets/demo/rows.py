"""The charge rows as one SQL relation, free of any source's dialect.

Columns: kind, charge_date, charge_start, charge_end (TIMESTAMP, UTC, end exclusive), rid, commitment (rid of
the commitment that covers or is the charge), quantity, list_price, contracted_price, billed, effective (units
of 1e-10 of the billing currency), bits (the row's randomness), untagged, incomplete, and of what is planted meter,
unit and reservation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import duckdb
import pyarrow as pa

from finops_assets.demo.model import MONEY_GRAIN, PRICE_GRAIN, resource_table, source_size
from finops_assets.demo.plan import Charge, DayPlan
from finops_assets.demo.spec import EstateSpec

ROWS_PER_CHUNK = 1_000_000

_TEXTS = ("meter", "unit", "reservation")

# Where a resource's tags, or its owner, changed in mid-month. ``r``: the resource, ``c``: the row.
MOVED = "r.moves_on IS NOT NULL AND c.charge_date >= r.moves_on"


def chunks(days: Sequence[DayPlan], size: int = ROWS_PER_CHUNK) -> list[list[DayPlan]]:
    """``days`` in runs of at most ``size`` rows; a day is never split."""
    result: list[list[DayPlan]] = []
    rows = 0
    for day in days:
        if not result or rows + day.rows > size:
            result.append([])
            rows = 0
        result[-1].append(day)
        rows += day.rows
    return result


def load_plan(con: duckdb.DuckDBPyConnection, days: Iterable[DayPlan], charges: Iterable[Charge]) -> None:
    """Put the planned days and single charges where ``rows_sql`` reads them."""
    days, charges = list(days), list(charges)
    con.register(
        "planned_days_view",
        pa.table(
            {
                "charge_date": pa.array([d.day for d in days], pa.date32()),
                "rows": pa.array([d.rows for d in days], pa.int64()),
                "first": pa.array([d.first for d in days], pa.int64()),
                "factor": pa.array([d.factor for d in days], pa.decimal128(12, 6)),
                "untagged": pa.array([d.untagged for d in days], pa.bool_()),
                "incomplete": pa.array([d.incomplete for d in days], pa.bool_()),
            }
        ),
    )
    con.execute("CREATE OR REPLACE TEMP TABLE planned_days AS SELECT * FROM planned_days_view")
    con.unregister("planned_days_view")
    integers = ("resource", "commitment", "quantity", "list_price", "contracted_price", "billed", "effective")
    con.register(
        "single_charges_view",
        pa.table(
            {
                "kind": pa.array([c.kind for c in charges], pa.string()),
                "charge_date": pa.array([c.day for c in charges], pa.date32()),
                "charge_end": pa.array([c.end for c in charges], pa.date32()),
                "untagged": pa.array([c.untagged for c in charges], pa.bool_()),
                **{name: pa.array([getattr(c, name) for c in charges], pa.string()) for name in _TEXTS},
                **{name: pa.array([getattr(c, name) for c in charges], pa.int64()) for name in integers},
            }
        ),
    )
    con.execute("CREATE OR REPLACE TEMP TABLE single_charges AS SELECT * FROM single_charges_view")
    con.unregister("single_charges_view")


def rows_sql(spec: EstateSpec, source: str) -> str:
    """The rows of the loaded plan: each day's usage rows first, in order, then the single charges."""
    size = source_size(spec, source)
    price, money = PRICE_GRAIN[source], MONEY_GRAIN[source]

    def restate(column: str) -> str:
        # The restated price, not the restated cost: cost = price x quantity then holds on the row as well.
        # Exact for factors of two decimals, else to the nearest grain.
        rounded = f"CAST(round(CAST({column} // {money} AS DECIMAL(26,0)) * factor, 0) AS BIGINT) * {money}"
        return f"CASE WHEN factor = 1 THEN {column} ELSE {rounded} END"

    if source == "aws":
        start = "charge_date::TIMESTAMP + to_hours(draw(bits, 12, 24))"
        end = "charge_date::TIMESTAMP + to_hours(1 + draw(bits, 12, 24))"
    else:
        start = "charge_date::TIMESTAMP"
        end = "(charge_date + 1)::TIMESTAMP"
    return f"""
SELECT kind, charge_date, {start} AS charge_start, {end} AS charge_end, rid, commitment, quantity,
  {restate("list_price")} AS list_price, {restate("contracted_price")} AS contracted_price,
  CASE WHEN commitment IS NULL THEN quantity * ({restate("contracted_price")}) ELSE 0 END AS billed,
  quantity * (CASE WHEN commitment IS NULL THEN {restate("contracted_price")}
    ELSE {restate("covered_price")} END) AS effective,
  bits, untagged, incomplete, {", ".join(f"CAST(NULL AS VARCHAR) AS {name}" for name in _TEXTS)}
FROM (
  SELECT *, contracted_price + contracted_price // {4 * money} * {money} AS list_price,
    contracted_price * 18 // (25 * {price}) * {price} AS covered_price
  FROM (
    SELECT d.*, r.rid,
      CASE WHEN is_refund THEN 'refund' ELSE 'usage' END AS kind,
      CASE WHEN draw(bits, 28, 10) < 6 AND NOT is_refund THEN r.commitment END AS commitment,
      CASE WHEN is_refund THEN -pieces ELSE pieces END AS quantity,
      greatest(1, r.row_cost * (700 + draw(bits, 0, 601)) // 1000 // pieces // {price}) * {price}
        AS contracted_price
    FROM (
      SELECT *, 1 + draw(bits, 20, 24) AS pieces, draw(bits, 36, 250) = 7 AS is_refund,
        incomplete_day AND k % 3 = 1 AS incomplete
      FROM (
        SELECT charge_date, factor, untagged, incomplete_day, k, (first + k) % {size.resources} AS picked,
          hash(first + k, '{spec.seed}:{source}:rows') AS bits
        FROM (
          SELECT charge_date, first, factor, untagged, incomplete AS incomplete_day,
            unnest(range(rows)) AS k
          FROM planned_days
        )
      )
    ) AS d
    JOIN {resource_table(source)} AS r ON r.rid = d.picked
  )
)
UNION ALL
SELECT kind, charge_date, charge_date::TIMESTAMP, charge_end::TIMESTAMP, resource, commitment, quantity,
  list_price, contracted_price, billed, effective,
  hash(kind, charge_date, resource, billed, effective, '{spec.seed}:{source}:charges'), untagged, false, {", ".join(_TEXTS)}
FROM single_charges"""
